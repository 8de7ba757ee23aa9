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
//! Three rules reach beyond one attempt:
//!
//! - **Sets of one round** ([`galen_sums::atoms`]). Contributors encrypt the same values in every attempt of a round, so sums over different sets
//!   can be subtracted. The record says of every earlier attempt that it was given up, by certificate, or which set may be open in it; it
//!   must know every set that this custodian endorsed. A further set is endorsed only if all sums that may be open tell, together,
//!   nothing about fewer than `min_contributors` members.
//! - **Quantities.** What does not change between rounds (one purpose over one base) is endorsed in one round of the study only.
//! - **Incarnations** ([`galen_sums::incarnation`]). Every step needs the incarnation under which the attempt's key was given out, and
//!   under a new one nothing is signed for rounds that may have been forgotten.

mod peers;

pub use peers::Vouch;

use galen_core::{Code, Digest, PartyId, Transcript};
use galen_sums::atoms::smallest_atom;
use galen_sums::record::{OneRoundKey, RoundId};
use galen_sums::{Confirmation, ContributionSet, Earlier, Endorsement, Incarnation, Round};
use peers::Peers;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

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
    incarnation: Digest,
    phase: Phase,
}

/// What a custodian is asked to endorse, with what the rules beyond one attempt look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Record, set and sum.
    pub endorsement: Endorsement,
    /// The contributors in the set.
    pub members: BTreeSet<PartyId>,
    /// What is summed: a hash of purpose and base.
    pub quantity: Digest,
    /// What the record says of the earlier attempts: the set that may be open, or nothing if it was given up.
    pub earlier: Vec<Option<BTreeSet<PartyId>>>,
    /// Fewest contributors that anything may be learned of together.
    pub min_contributors: usize,
}

impl Vote {
    /// The vote for a set with its sum.
    pub fn of(round: &Round, set: &ContributionSet, sum: Digest) -> Self {
        Self {
            endorsement: Endorsement::of(set, sum),
            members: set.members.keys().cloned().collect(),
            quantity: quantity(round),
            earlier: round.record().earlier.iter().map(standing).collect(),
            min_contributors: round.roster().min_contributors(),
        }
    }
}

fn standing(earlier: &Earlier) -> Option<BTreeSet<PartyId>> {
    match earlier {
        Earlier::Abandoned(_) => None,
        Earlier::Standing(members) => Some(members.clone()),
    }
}

/// The name of what a round sums: purpose and the state that contributions start from.
fn quantity(round: &Round) -> Digest {
    let record = round.record();
    Transcript::new("galen sums quantity v1")
        .field(record.purpose.name().as_bytes())
        .field(&record.base.0)
        .digest()
}

/// A custodian's commitments in one study. Empty at first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerState {
    /// Grows with every change.
    seq: u64,
    incarnation: Option<Digest>,
    /// The number at which the incarnation began.
    began: u64,
    /// Whether enough others have confirmed the incarnation.
    confirmed: bool,
    newest: Option<Entry>,
    /// Sets endorsed in the round of the newest attempt, by attempt.
    endorsed: BTreeMap<u32, BTreeSet<PartyId>>,
    /// In which round each quantity was endorsed.
    quantities: BTreeMap<Digest, u32>,
    /// The newest attempt of which a verified record was seen.
    recorded: Option<RoundId>,
    /// Up to which attempt something may have been signed and forgotten.
    forgotten: Option<RoundId>,
    /// The newest attempt that was answered.
    answered: Option<RoundId>,
    peers: Peers,
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
    /// The step is for a round about which this ledger may have forgotten what was signed.
    #[error("{asked} is refused: peers know of {until}, which this ledger has forgotten")]
    Forgotten {
        /// Asked for.
        asked: RoundId,
        /// The newest attempt that others know of.
        until: RoundId,
    },
    /// The set together with sets that may be open would single out too few contributors.
    #[error(
        "for {round}: with sets that were endorsed before, the sum would tell about {smallest} contributors, at least {min} must stay together"
    )]
    Subtractable {
        /// Which attempt.
        round: RoundId,
        /// Contributors that the sums together single out.
        smallest: usize,
        /// Fewest allowed.
        min: usize,
    },
    /// A record that does not know of a set that was endorsed in an earlier attempt.
    #[error("{round} hides the set that was endorsed in attempt {attempt}")]
    Hidden {
        /// Which attempt.
        round: RoundId,
        /// The attempt whose set it hides.
        attempt: u32,
    },
    /// The quantity was endorsed in another round.
    #[error("{round} sums what round {before} has summed; a quantity is opened once")]
    Quantity {
        /// Which attempt.
        round: RoundId,
        /// The round of the first endorsement.
        before: u32,
    },
    /// The attempt was opened under another incarnation.
    #[error("{0} was announced under another incarnation of this custodian")]
    Incarnation(RoundId),
    /// A record with an incarnation of another custodian that was replaced.
    #[error("{round} has an incarnation of \"{custodian}\" that was replaced")]
    Retired {
        /// Which attempt.
        round: RoundId,
        /// Whose incarnation.
        custodian: PartyId,
    },
    /// No record of the attempt was seen.
    #[error("no record of {0} was seen, so there is nothing to give up")]
    NoRecord(RoundId),
    /// No incarnation was begun, or too few others confirmed it.
    #[error("the custodian's incarnation is not confirmed by enough others yet")]
    NoIncarnation,
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
            Self::Older { .. } | Self::Unknown(_) | Self::Incarnation(_) => Code::WrongRound,
            Self::Conflict { .. } | Self::Forgotten { .. } | Self::Quantity { .. } => Code::Conflict,
            Self::Subtractable { .. } | Self::Hidden { .. } | Self::Retired { .. } => Code::SetRefused,
            Self::Phase { .. } | Self::NoIncarnation | Self::NoRecord(_) => Code::WrongPhase,
        }
    }
}

impl LedgerState {
    /// The newest attempt and where it stands; nothing before the first.
    pub fn newest(&self) -> Option<(RoundId, &Phase)> {
        self.newest.as_ref().map(|entry| (entry.round, &entry.phase))
    }

    /// Number of changes so far.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The newest attempt that was answered.
    pub fn answered(&self) -> Option<RoundId> {
        self.answered
    }

    /// The ledger under a successor of the study. What binds beyond one round stays: what was answered or may have been forgotten, and
    /// which quantities were endorsed. Attempts are counted anew, and the others' incarnations and keys are those of the old study.
    #[must_use]
    pub fn succeed(&self) -> Self {
        Self {
            seq: self.seq,
            quantities: self.quantities.clone(),
            forgotten: self.forgotten,
            answered: self.answered,
            ..Self::default()
        }
    }

    /// The number at which the current incarnation began: what the disk knew then.
    pub fn began(&self) -> u64 {
        self.began
    }

    /// Whether the attempt is the newest, under the current incarnation, with a key that is not erased.
    ///
    /// # Errors
    /// Why not.
    pub fn takes_part(&self, round: RoundId) -> Result<(), LedgerError> {
        let entry = self.live(round)?;
        match entry.phase {
            Phase::Erased => Err(refused(entry)),
            _ => Ok(()),
        }
    }

    /// The current incarnation.
    pub fn incarnation(&self) -> Option<&Digest> {
        self.incarnation.as_ref()
    }

    /// Starts a new incarnation: nothing is signed any more for rounds that were taken part in before.
    pub fn begin(&self, nonce: Digest) -> Self {
        self.changed(|next| {
            next.incarnation = Some(nonce);
            next.began = next.seq;
            next.confirmed = false;
            next.forgotten = next.forgotten.max(next.newest.as_ref().map(|entry| entry.round));
        })
    }

    /// Takes in the others' confirmations of the current incarnation, each with its author; nothing is signed for rounds that
    /// they may have taken part in together with this custodian. `needed` is [`galen_sums::incarnation::confirmations_needed`].
    ///
    /// # Errors
    /// [`LedgerError::NoIncarnation`] if too few are of this incarnation.
    pub fn confirmed(
        &self,
        by: &BTreeMap<PartyId, Confirmation>,
        needed: usize,
    ) -> Result<Self, LedgerError> {
        let fitting = by.values().filter(|word| Some(word.nonce) == self.incarnation);
        if fitting.clone().count() < needed {
            return Err(LedgerError::NoIncarnation);
        }
        let mut next = self.clone();
        next.confirmed = true;
        next.forgotten = next.forgotten.max(fitting.filter_map(|word| word.newest).max());
        Ok(self.unless_equal(next))
    }

    /// Whether enough others have confirmed the current incarnation.
    pub fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// Takes in that others know a newer key of this custodian than its ledger does: it came back from an old disk. Starts a
    /// new incarnation, whose ledger number is above what they know.
    pub fn forget_until(&self, known: &OneRoundKey, nonce: Digest) -> Self {
        let mut next = self.begin(nonce);
        next.forgotten = next.forgotten.max(Some(known.round));
        next.began = next.began.max(known.seq);
        next.seq = next.seq.max(known.seq.saturating_add(1));
        next
    }

    /// Judges another custodian's incarnation; see [`Vouch`].
    pub fn vouch(&self, said: &Incarnation) -> (Self, Vouch) {
        let mut next = self.clone();
        let newest = next.newest.as_ref().map(|entry| entry.round).max(next.forgotten);
        let vouch = next.peers.vouch(said, newest);
        (self.unless_equal(next), vouch)
    }

    /// The incarnation of each other custodian that this ledger takes for the current one. A ledger that was put back may take former
    /// ones for current, and then refuses records with the newer ones until it has judged these ([`Self::vouch`]).
    pub fn peers(&self) -> BTreeMap<PartyId, Digest> {
        self.peers.current()
    }

    /// Takes note of a verified record and of the others' keys in it.
    ///
    /// # Errors
    /// [`LedgerError::Retired`] for a record with an incarnation that its custodian has replaced.
    pub fn observe(&self, me: &PartyId, round: &Round) -> Result<Self, LedgerError> {
        if let Some(custodian) = self.peers.retired_in(round) {
            return Err(LedgerError::Retired {
                round: round.id(),
                custodian,
            });
        }
        // A record with another key of this custodian than the one that it gave out last: it has forgotten something.
        if let Some(own) = round.keys().get(me)
            && !self.newest.as_ref().is_some_and(|entry| {
                (entry.round, entry.key, entry.incarnation) == (own.round, own.key, own.incarnation)
            })
        {
            return Err(LedgerError::Incarnation(round.id()));
        }
        let mut next = self.clone();
        next.peers.observe(me, round);
        next.recorded = next.recorded.max(Some(round.id()));
        Ok(self.unless_equal(next))
    }

    /// Gives out the one-round key of an attempt; ends all older attempts.
    ///
    /// # Errors
    /// [`LedgerError::Older`], [`LedgerError::Forgotten`], [`LedgerError::NoIncarnation`], or [`LedgerError::Conflict`] for a
    /// second key of the same attempt.
    pub fn announce(&self, round: RoundId, key: &[u8; 32]) -> Result<Self, LedgerError> {
        let incarnation = self.incarnation.filter(|_| self.confirmed);
        let incarnation = incarnation.ok_or(LedgerError::NoIncarnation)?;
        if let Some(until) = self.forgotten.filter(|until| round.round <= until.round) {
            return Err(LedgerError::Forgotten { asked: round, until });
        }
        match &self.newest {
            Some(entry) if round < entry.round => Err(LedgerError::Older {
                asked: round,
                newest: entry.round,
            }),
            Some(entry) if round == entry.round => match &entry.phase {
                Phase::Erased => Err(refused(entry)),
                _ if entry.key == *key => Ok(self.clone()),
                _ => Err(LedgerError::Conflict { round, what: "key" }),
            },
            _ => Ok(self.announced(round, key, incarnation)),
        }
    }

    fn announced(&self, round: RoundId, key: &[u8; 32], incarnation: Digest) -> Self {
        self.changed(|next| {
            if next
                .newest
                .as_ref()
                .is_none_or(|entry| entry.round.round != round.round)
            {
                next.endorsed.clear();
            }
            next.newest = Some(Entry {
                round,
                key: *key,
                incarnation,
                phase: Phase::Announced,
            });
        })
    }

    /// Commits to a set and its sum.
    ///
    /// # Errors
    /// [`LedgerError::Conflict`] for another set or sum than before, or after abandoning; [`LedgerError::Hidden`],
    /// [`LedgerError::Subtractable`] and [`LedgerError::Quantity`] for what other sums of the study forbid;
    /// [`LedgerError::Phase`] after erasing.
    pub fn sign(&self, round: RoundId, vote: &Vote) -> Result<Self, LedgerError> {
        let entry = self.live(round)?;
        match &entry.phase {
            Phase::Announced => {}
            Phase::Signed(bound) | Phase::Answered(bound) if *bound == vote.endorsement => {
                return Ok(self.clone());
            }
            Phase::Signed(_) | Phase::Answered(_) => {
                return Err(LedgerError::Conflict { round, what: "set" });
            }
            Phase::Abandoned => {
                return Err(LedgerError::Conflict {
                    round,
                    what: "decision",
                });
            }
            Phase::Erased => return Err(refused(entry)),
        }
        if let Some(&before) = self
            .quantities
            .get(&vote.quantity)
            .filter(|before| **before != round.round)
        {
            return Err(LedgerError::Quantity { round, before });
        }
        for (attempt, endorsed) in &self.endorsed {
            match vote.earlier.get(*attempt as usize) {
                Some(None) => {}
                Some(Some(standing)) if standing == endorsed => {}
                _ => {
                    return Err(LedgerError::Hidden {
                        round,
                        attempt: *attempt,
                    });
                }
            }
        }
        let standing = vote.earlier.iter().flatten();
        let sets = standing.chain(std::iter::once(&vote.members));
        let smallest = smallest_atom(sets).unwrap_or(0);
        if smallest < vote.min_contributors {
            return Err(LedgerError::Subtractable {
                round,
                smallest,
                min: vote.min_contributors,
            });
        }
        Ok(self.changed(|next| {
            next.endorsed.insert(round.attempt, vote.members.clone());
            next.quantities.insert(vote.quantity, round.round);
            next.enter(Phase::Signed(vote.endorsement.clone()));
        }))
    }

    /// Gives the attempt up. Only an attempt whose record was seen ([`Self::observe`]): by then at least g custodians have given out
    /// their keys for it, so that whoever confirms a later incarnation of this custodian knows of the attempt.
    ///
    /// # Errors
    /// [`LedgerError::Conflict`] once a set is endorsed: at most one of the two is ever signed; [`LedgerError::NoRecord`].
    pub fn abandon(&self, round: RoundId) -> Result<Self, LedgerError> {
        let entry = self.live(round)?;
        match &entry.phase {
            Phase::Announced if self.recorded != Some(round) => Err(LedgerError::NoRecord(round)),
            Phase::Announced => Ok(self.changed(|next| next.enter(Phase::Abandoned))),
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
        let entry = self.live(round)?;
        match &entry.phase {
            Phase::Signed(bound) if bound == certified => Ok(self.changed(|next| {
                next.answered = next.answered.max(Some(round));
                next.enter(Phase::Answered(certified.clone()));
            })),
            Phase::Answered(bound) if bound == certified => Ok(self.clone()),
            Phase::Signed(_) | Phase::Answered(_) => Err(LedgerError::Conflict { round, what: "set" }),
            Phase::Announced | Phase::Abandoned | Phase::Erased => Err(refused(entry)),
        }
    }

    /// Records that the one-round key is erased; possible in every phase and incarnation.
    ///
    /// # Errors
    /// Only for an attempt that is not the newest.
    pub fn erase(&self, round: RoundId) -> Result<Self, LedgerError> {
        match self.entry(round)?.phase {
            Phase::Erased => Ok(self.clone()),
            _ => Ok(self.changed(|next| next.enter(Phase::Erased))),
        }
    }

    /// Whether the state allows endorsing exactly this.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn allows_endorsing(&self, round: RoundId, wanted: &Endorsement) -> Result<(), LedgerError> {
        let entry = self.live(round)?;
        match &entry.phase {
            Phase::Signed(bound) | Phase::Answered(bound) if bound == wanted => Ok(()),
            Phase::Signed(_) | Phase::Answered(_) => Err(LedgerError::Conflict { round, what: "set" }),
            _ => Err(refused(entry)),
        }
    }

    /// Whether the state allows giving up this attempt.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn allows_abandoning(&self, round: RoundId) -> Result<(), LedgerError> {
        let entry = self.live(round)?;
        match &entry.phase {
            Phase::Abandoned => Ok(()),
            _ => Err(refused(entry)),
        }
    }

    /// Whether the state allows answering exactly this.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn allows_answering(&self, round: RoundId, wanted: &Endorsement) -> Result<(), LedgerError> {
        let entry = self.live(round)?;
        match &entry.phase {
            Phase::Answered(bound) if bound == wanted => Ok(()),
            Phase::Answered(_) => Err(LedgerError::Conflict { round, what: "set" }),
            _ => Err(refused(entry)),
        }
    }

    /// Whether this key was given out for this attempt under the current incarnation and still lives.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn allows_key(&self, round: RoundId, key: &[u8; 32]) -> Result<(), LedgerError> {
        let entry = self.live(round)?;
        match &entry.phase {
            Phase::Erased => Err(refused(entry)),
            _ if entry.key != *key => Err(LedgerError::Conflict { round, what: "key" }),
            _ => Ok(()),
        }
    }

    fn changed(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut next = self.clone();
        change(&mut next);
        next.seq = next.seq.saturating_add(1);
        next
    }

    fn unless_equal(&self, next: Self) -> Self {
        if next == *self { next } else { next.changed(|_| {}) }
    }

    fn enter(&mut self, phase: Phase) {
        if let Some(entry) = &mut self.newest {
            entry.phase = phase;
        }
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

    /// The entry of an attempt that was announced under the current incarnation.
    fn live(&self, round: RoundId) -> Result<&Entry, LedgerError> {
        let entry = self.entry(round)?;
        if self.incarnation.as_ref() == Some(&entry.incarnation) {
            Ok(entry)
        } else {
            Err(LedgerError::Incarnation(round))
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
mod tests;
