//! What a custodian has committed itself to, as a pure state machine.
//!
//! ```text
//! Announced -> Signed(set, sum) -> Answered -> Erased
//!           -> Abandoned ------------------> Erased
//! ```
//!
//! A custodian keeps one [`LedgerState`] per study. Each step takes the state and gives the next one; the daemon makes that
//! durable BEFORE it sends what the step allows, and [`crate::custodian`] signs nothing that the state it is shown does
//! not allow. Repeating a step with the same content changes nothing, so that a daemon that died between the two can
//! go on. Announcing a newer round or attempt ends all older ones: nothing is signed or answered for them any more.
//!
//! Whoever has answered in a round takes part in no later attempt of it. Contributors encrypt the same values in every attempt,
//! so the difference of the sums over two sets would be the sum over the members of only one of them.

use galen_core::Code;
use galen_sums::Endorsement;
use galen_sums::record::RoundId;
use serde::{Deserialize, Serialize};

/// Where a custodian stands in its newest attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Its one-round key is given out.
    Announced,
    /// It has endorsed this set and sum, and endorses no other.
    Signed(Endorsement),
    /// It has given the attempt up, and endorses nothing.
    Abandoned,
    /// It has answered for this set and sum; it may answer for other pieces of the same.
    Answered(Endorsement),
    /// The one-round key is erased: nothing can be opened any more.
    Erased,
}

impl Phase {
    /// The name in logs and status files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::Signed(_) => "signed",
            Self::Abandoned => "abandoned",
            Self::Answered(_) => "answered",
            Self::Erased => "erased",
        }
    }
}

/// The newest attempt that a custodian takes part in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    round: RoundId,
    key: [u8; 32],
    phase: Phase,
}

/// A custodian's commitments in one study. Empty at first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerState {
    newest: Option<Entry>,
    /// The newest attempt that was answered. Rounds only go up, so no older one can come again.
    answered: Option<RoundId>,
}

/// A step that the ledger does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The step is for a round or attempt that a newer one has ended.
    #[error("{asked} is over: the newest is {newest}")]
    Older {
        /// Asked for.
        asked: RoundId,
        /// Newest announced.
        newest: RoundId,
    },
    /// The step is for a round or attempt for which no key was announced.
    #[error("no key was announced for {0}")]
    Unknown(RoundId),
    /// The step is for another attempt of a round in which the custodian has answered.
    #[error("{asked} is refused: the custodian has answered in {answered}, and a round is opened once")]
    RoundAnswered {
        /// Asked for.
        asked: RoundId,
        /// The attempt that it answered in.
        answered: RoundId,
    },
    /// A second, different statement.
    #[error("for {round} the custodian is bound to another {what}")]
    Conflict {
        /// Which attempt.
        round: RoundId,
        /// Key, set or decision.
        what: &'static str,
    },
    /// The phase does not take this step.
    #[error("{round} is {phase}, which does not allow this")]
    Phase {
        /// Which attempt.
        round: RoundId,
        /// Its phase.
        phase: &'static str,
    },
}

impl LedgerError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Older { .. } | Self::Unknown(_) => Code::WrongRound,
            Self::Conflict { .. } | Self::RoundAnswered { .. } => Code::Conflict,
            Self::Phase { .. } => Code::WrongPhase,
        }
    }
}

impl LedgerState {
    /// The newest attempt and where it stands; nothing before the first.
    pub fn newest(&self) -> Option<(RoundId, &Phase)> {
        self.newest.as_ref().map(|entry| (entry.round, &entry.phase))
    }

    /// Gives out the one-round key of an attempt; ends all older attempts.
    ///
    /// # Errors
    /// [`LedgerError::Older`], [`LedgerError::Conflict`] for a second key of the same attempt, or
    /// [`LedgerError::RoundAnswered`] for a later attempt of a round that was answered in.
    pub fn announce(&self, round: RoundId, key: &[u8; 32]) -> Result<Self, LedgerError> {
        match &self.newest {
            Some(entry) if round < entry.round => Err(LedgerError::Older {
                asked: round,
                newest: entry.round,
            }),
            Some(entry) if round == entry.round => match &entry.phase {
                _ if entry.key != *key => Err(LedgerError::Conflict { round, what: "key" }),
                Phase::Erased => Err(refused(entry)),
                _ => Ok(self.clone()),
            },
            _ => match self.answered {
                Some(answered) if answered.round == round.round => Err(LedgerError::RoundAnswered {
                    asked: round,
                    answered,
                }),
                _ => Ok(self.with(Entry {
                    round,
                    key: *key,
                    phase: Phase::Announced,
                })),
            },
        }
    }

    /// Commits to a set and its sum.
    ///
    /// # Errors
    /// [`LedgerError::Conflict`] for another set or sum than before, or after abandoning; [`LedgerError::Phase`] after erasing.
    pub fn sign(&self, round: RoundId, endorsement: &Endorsement) -> Result<Self, LedgerError> {
        let entry = self.entry(round)?;
        match &entry.phase {
            Phase::Announced => Ok(self.at(entry, Phase::Signed(endorsement.clone()))),
            Phase::Signed(bound) | Phase::Answered(bound) if bound == endorsement => Ok(self.clone()),
            Phase::Signed(_) | Phase::Answered(_) => Err(LedgerError::Conflict { round, what: "set" }),
            Phase::Abandoned => Err(LedgerError::Conflict {
                round,
                what: "decision",
            }),
            Phase::Erased => Err(refused(entry)),
        }
    }

    /// Gives the attempt up.
    ///
    /// # Errors
    /// [`LedgerError::Conflict`] once a set is endorsed: at most one of the two is ever signed.
    pub fn abandon(&self, round: RoundId) -> Result<Self, LedgerError> {
        let entry = self.entry(round)?;
        match &entry.phase {
            Phase::Announced => Ok(self.at(entry, Phase::Abandoned)),
            Phase::Abandoned => Ok(self.clone()),
            Phase::Signed(_) | Phase::Answered(_) => Err(LedgerError::Conflict {
                round,
                what: "decision",
            }),
            Phase::Erased => Err(refused(entry)),
        }
    }

    /// Answers for the set that was endorsed. The caller has verified the certificate.
    ///
    /// # Errors
    /// [`LedgerError::Conflict`] for any other set; [`LedgerError::Phase`] if none was endorsed: a custodian that missed the
    /// endorsement checks and endorses the certified set first.
    pub fn answer(&self, round: RoundId, certified: &Endorsement) -> Result<Self, LedgerError> {
        let entry = self.entry(round)?;
        match &entry.phase {
            Phase::Signed(bound) if bound == certified => Ok(Self {
                answered: Some(round),
                ..self.at(entry, Phase::Answered(bound.clone()))
            }),
            Phase::Answered(bound) if bound == certified => Ok(self.clone()),
            Phase::Signed(_) | Phase::Answered(_) => Err(LedgerError::Conflict { round, what: "set" }),
            Phase::Announced | Phase::Abandoned | Phase::Erased => Err(refused(entry)),
        }
    }

    /// Records that the one-round key is erased; possible in every phase. That the attempt was answered stays on record.
    ///
    /// # Errors
    /// Only for an attempt that is not the newest.
    pub fn erase(&self, round: RoundId) -> Result<Self, LedgerError> {
        Ok(self.at(self.entry(round)?, Phase::Erased))
    }

    /// Whether the state allows endorsing exactly this.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn allows_endorsing(&self, round: RoundId, wanted: &Endorsement) -> Result<(), LedgerError> {
        let entry = self.entry(round)?;
        match &entry.phase {
            Phase::Signed(bound) | Phase::Answered(bound) if bound == wanted => Ok(()),
            Phase::Signed(_) | Phase::Answered(_) => Err(LedgerError::Conflict { round, what: "set" }),
            _ => Err(refused(entry)),
        }
    }

    /// Whether the state allows answering exactly this.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn allows_answering(&self, round: RoundId, wanted: &Endorsement) -> Result<(), LedgerError> {
        let entry = self.entry(round)?;
        match &entry.phase {
            Phase::Answered(bound) if bound == wanted => Ok(()),
            Phase::Answered(_) => Err(LedgerError::Conflict { round, what: "set" }),
            _ => Err(refused(entry)),
        }
    }

    /// Whether this key was given out for this attempt and still lives.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn allows_key(&self, round: RoundId, key: &[u8; 32]) -> Result<(), LedgerError> {
        let entry = self.entry(round)?;
        match &entry.phase {
            Phase::Erased => Err(refused(entry)),
            _ if entry.key != *key => Err(LedgerError::Conflict { round, what: "key" }),
            _ => Ok(()),
        }
    }

    fn with(&self, newest: Entry) -> Self {
        Self {
            newest: Some(newest),
            answered: self.answered,
        }
    }

    fn at(&self, entry: &Entry, phase: Phase) -> Self {
        self.with(Entry {
            round: entry.round,
            key: entry.key,
            phase,
        })
    }

    fn entry(&self, round: RoundId) -> Result<&Entry, LedgerError> {
        match &self.newest {
            Some(entry) if entry.round == round => Ok(entry),
            Some(entry) if round < entry.round => Err(LedgerError::Older {
                asked: round,
                newest: entry.round,
            }),
            _ => Err(LedgerError::Unknown(round)),
        }
    }
}

fn refused(entry: &Entry) -> LedgerError {
    LedgerError::Phase {
        round: entry.round,
        phase: entry.phase.name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_core::Digest;

    const FIRST: RoundId = RoundId { round: 3, attempt: 0 };
    const SECOND: RoundId = RoundId { round: 3, attempt: 1 };

    fn endorsement(name: &[u8]) -> Endorsement {
        Endorsement {
            record: Digest::of(b"record"),
            set: Digest::of(name),
            sum: Digest::of(b"sum"),
        }
    }

    fn announced() -> LedgerState {
        LedgerState::default().announce(FIRST, &[1; 32]).unwrap()
    }

    #[test]
    fn the_straight_way_and_its_repetitions() {
        let a = endorsement(b"a");
        let mut state = announced();
        assert_eq!(state.announce(FIRST, &[1; 32]).unwrap(), state);
        for (step, phase) in [
            (LedgerState::sign as fn(&_, _, &_) -> _, "signed"),
            (LedgerState::answer, "answered"),
        ] {
            state = step(&state, FIRST, &a).unwrap();
            assert_eq!(step(&state, FIRST, &a).unwrap(), state);
            assert_eq!(state.newest().unwrap().1.name(), phase);
        }
        state = state.erase(FIRST).unwrap();
        assert_eq!(state.erase(FIRST).unwrap(), state);
        for refused in [
            state.sign(FIRST, &a),
            state.answer(FIRST, &a),
            state.abandon(FIRST),
        ] {
            assert_eq!(refused.unwrap_err().code(), Code::WrongPhase);
        }
        assert_eq!(
            state.announce(FIRST, &[1; 32]).unwrap_err().code(),
            Code::WrongPhase
        );
    }

    #[test]
    fn one_set_per_attempt() {
        let (a, b) = (endorsement(b"a"), endorsement(b"b"));
        let signed = announced().sign(FIRST, &a).unwrap();
        let answered = signed.answer(FIRST, &a).unwrap();
        for state in [&signed, &answered] {
            assert_eq!(state.sign(FIRST, &b).unwrap_err().code(), Code::Conflict);
            assert_eq!(state.answer(FIRST, &b).unwrap_err().code(), Code::Conflict);
            assert_eq!(state.abandon(FIRST).unwrap_err().code(), Code::Conflict);
            assert!(state.allows_endorsing(FIRST, &a).is_ok() && state.allows_endorsing(FIRST, &b).is_err());
        }
        let another_sum = Endorsement {
            sum: Digest::of(b"other"),
            ..a.clone()
        };
        assert_eq!(
            signed.sign(FIRST, &another_sum).unwrap_err().code(),
            Code::Conflict
        );
        assert!(signed.allows_answering(FIRST, &a).is_err());
        assert!(answered.allows_answering(FIRST, &a).is_ok());
        assert!(answered.allows_answering(FIRST, &b).is_err());
        assert_eq!(
            announced().answer(FIRST, &a).unwrap_err().code(),
            Code::WrongPhase
        );
    }

    #[test]
    fn endorsed_or_abandoned_but_not_both() {
        let a = endorsement(b"a");
        let abandoned = announced().abandon(FIRST).unwrap();
        assert_eq!(abandoned.abandon(FIRST).unwrap(), abandoned);
        assert_eq!(abandoned.sign(FIRST, &a).unwrap_err().code(), Code::Conflict);
        assert_eq!(abandoned.answer(FIRST, &a).unwrap_err().code(), Code::WrongPhase);
        assert!(abandoned.allows_endorsing(FIRST, &a).is_err());
    }

    #[test]
    fn a_newer_attempt_ends_the_older_ones() {
        let a = endorsement(b"a");
        let signed = announced().sign(FIRST, &a).unwrap();
        let newer = signed.announce(SECOND, &[2; 32]).unwrap();
        for refused in [
            newer.sign(FIRST, &a),
            newer.answer(FIRST, &a),
            newer.abandon(FIRST),
            newer.announce(FIRST, &[1; 32]),
        ] {
            let refused = refused.unwrap_err();
            assert!(matches!(refused, LedgerError::Older { .. }));
            assert_eq!(refused.code(), Code::WrongRound);
        }
        assert!(newer.allows_key(FIRST, &[1; 32]).is_err());
        assert!(newer.allows_key(SECOND, &[2; 32]).is_ok());
        let next_round = newer
            .announce(RoundId { round: 4, attempt: 0 }, &[3; 32])
            .unwrap();
        assert!(
            next_round
                .announce(RoundId { round: 3, attempt: 9 }, &[4; 32])
                .is_err()
        );
    }

    #[test]
    fn one_key_per_attempt_and_none_for_the_unknown() {
        let state = announced();
        assert_eq!(
            state.announce(FIRST, &[2; 32]).unwrap_err().code(),
            Code::Conflict
        );
        assert_eq!(
            state.sign(SECOND, &endorsement(b"a")).unwrap_err(),
            LedgerError::Unknown(SECOND)
        );
        assert_eq!(
            LedgerState::default().erase(FIRST).unwrap_err(),
            LedgerError::Unknown(FIRST)
        );
    }

    #[test]
    fn who_answered_in_a_round_takes_part_in_no_later_attempt_of_it() {
        let a = endorsement(b"a");
        let signed = announced().sign(FIRST, &a).unwrap();
        let answered = signed.answer(FIRST, &a).unwrap();
        let erased = answered.erase(FIRST).unwrap();
        let stored: LedgerState = postcard::from_bytes(&postcard::to_stdvec(&erased).unwrap()).unwrap();
        for state in [&answered, &erased, &stored] {
            for attempt in [1, 2, u32::MAX] {
                let asked = RoundId { round: 3, attempt };
                let refused = state.announce(asked, &[2; 32]).unwrap_err();
                assert_eq!(
                    refused,
                    LedgerError::RoundAnswered {
                        asked,
                        answered: FIRST
                    }
                );
                assert_eq!(refused.code(), Code::Conflict);
            }
        }
        // The next round is another matter, also its later attempts, and it does not make the round possible again.
        let mut next = erased;
        for attempt in 0..3 {
            next = next.announce(RoundId { round: 4, attempt }, &[3; 32]).unwrap();
            assert!(next.announce(SECOND, &[2; 32]).is_err());
        }
        // Whoever only endorsed may take part again.
        assert!(signed.announce(SECOND, &[2; 32]).is_ok());
        assert!(signed.erase(FIRST).unwrap().announce(SECOND, &[2; 32]).is_ok());
    }
}
