//! The transitions of a round attempt: pure functions of state, event and time.
//!
//! [`Attempt::apply`] takes in what a party sent or a job finished, and [`Attempt::carry_out`] what was decided ([`super::decide`]).

use super::state::{Answered, Assignment, Attempt, Contribution, Failure, Named, Proposal, RoundKey};
use galen_core::{Code, Digest, PartyId, Refusal};
use galen_net::protocol::AttemptPhase as Phase;
use std::collections::{BTreeMap, BTreeSet};

/// Something that happened. Signatures and contents have been verified before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A custodian sent its one-round key.
    RoundKey {
        /// Who.
        custodian: PartyId,
        /// The key.
        key: RoundKey,
    },
    /// The coordinator signed and stored the round record.
    RecordFixed {
        /// Digest of the record.
        record: Digest,
        /// Custodians whose keys stand in it.
        custodians: BTreeSet<PartyId>,
    },
    /// A contribution was received whole and stored.
    Contribution {
        /// Who.
        contributor: PartyId,
        /// Its header and blob.
        contribution: Contribution,
    },
    /// The sum over the closed set was computed and stored.
    SetFixed(Proposal),
    /// A custodian found the proposal's seeds to fit.
    Checked {
        /// Who.
        custodian: PartyId,
        /// Digest of the statement.
        statement: Digest,
    },
    /// A custodian gave the attempt up.
    Abandoned {
        /// Who.
        custodian: PartyId,
        /// Digest of the statement.
        statement: Digest,
    },
    /// A member of the set sent its fingerprint.
    Fingerprint {
        /// Who.
        contributor: PartyId,
        /// Digest of the statement.
        statement: Digest,
    },
    /// A custodian sent its key check.
    KeyCheck {
        /// Who.
        custodian: PartyId,
        /// Digest of the statement.
        statement: Digest,
    },
    /// A receiver judged the key checks.
    Judged {
        /// Who.
        receiver: PartyId,
        /// Whom it names.
        named: Named,
    },
    /// A custodian endorsed the proposal.
    Endorsement {
        /// Who.
        custodian: PartyId,
        /// Digest of the statement.
        statement: Digest,
    },
    /// A custodian found a contributor's seeds not to fit.
    SeedsRefused {
        /// Who says so.
        custodian: PartyId,
        /// Who is named.
        contributor: PartyId,
    },
    /// A custodian sent the key sum of some pieces.
    Answer {
        /// Who.
        custodian: PartyId,
        /// Which pieces it covers.
        pieces: Vec<u32>,
        /// The answer.
        answered: Answered,
    },
    /// A receiver opened the sum.
    Opened {
        /// Who.
        receiver: PartyId,
        /// Digest of the state that it derived.
        result: Digest,
    },
    /// A receiver could not open the sum.
    OpeningFailed {
        /// Who.
        receiver: PartyId,
        /// What it said.
        failure: Failure,
    },
}

/// What the coordinator does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing until something happens.
    Wait,
    /// Sign and store the round record over the keys received, then apply [`Event::RecordFixed`].
    FixRecord,
    /// Add these contributions, then apply [`Event::SetFixed`].
    Sum(BTreeSet<PartyId>),
    /// The seeds fit: ask custodians to endorse.
    Bind,
    /// Ask custodians to give the attempt up, for this reason.
    GiveUp(String),
    /// Ask custodians for key sums.
    Certify(Vec<Assignment>),
    /// Ask other custodians for the pieces of those that stand still; these are all assignments from then on.
    Reassign(Vec<Assignment>),
    /// All pieces are answered: receivers may open.
    Open,
    /// The sum does not open: ask custodians for key checks.
    Dispute,
    /// The key checks are there: ask receivers to judge them.
    Judge,
    /// These custodians answered wrongly; ask others for their pieces. The assignments are all from then on.
    Replace(BTreeSet<PartyId>, Vec<Assignment>),
    /// Neither a certificate of the set nor one of abandonment can be had: collect the round from the same contributors, for this
    /// reason. Whoever endorsed the set endorses the same one again.
    Repeat(String),
    /// Some contributor spoils the sum: collect the round from part of the set, for this reason.
    Recollect(String),
    /// Enough receivers derived this state.
    Publish(Digest),
    /// The attempt is given up by certificate: announce another.
    Abandon(String),
    /// The study cannot go on.
    Fail(String),
}

impl Attempt {
    /// Takes in an event. A repeat of what is already known is accepted and changes nothing.
    ///
    /// # Errors
    /// A refusal for the sender: wrong phase, not asked, or in conflict with what it sent before. The state is then unchanged.
    pub fn apply(&mut self, event: Event, now_ms: u64) -> Result<(), Refusal> {
        match event {
            Event::RoundKey { custodian, key } => {
                let phase = self.phase;
                once(&mut self.keys, custodian, key, || {
                    expect(phase, &[Phase::Announced])
                })?;
            }
            Event::RecordFixed { record, custodians } => {
                expect(self.phase, &[Phase::Announced])?;
                self.custodians = custodians;
                self.record = Some(record);
                self.phase = Phase::Collecting;
            }
            Event::Contribution {
                contributor,
                contribution,
            } => {
                if self
                    .asked
                    .as_ref()
                    .is_some_and(|asked| !asked.contains(&contributor))
                {
                    return Err(Refusal::new(Code::WrongRound, "you are left out of this attempt"));
                }
                let phase = self.phase;
                once(&mut self.contributions, contributor, contribution, || {
                    expect(phase, &[Phase::Collecting])
                })?;
            }
            Event::SetFixed(proposal) => {
                expect(self.phase, &[Phase::Collecting])?;
                self.proposal = Some(proposal);
                self.phase = Phase::Proposed;
            }
            Event::Checked { custodian, statement } => {
                self.expect_custodian(&custodian)?;
                let phase = self.phase;
                once(&mut self.checked, custodian, statement, || {
                    expect(phase, &[Phase::Proposed, Phase::Endorsing])
                })?;
            }
            Event::SeedsRefused {
                custodian,
                contributor,
            } => {
                self.expect_custodian(&custodian)?;
                if !self.is_member(&contributor) {
                    return Err(Refusal::new(
                        Code::WrongRound,
                        "not a contributor of this attempt",
                    ));
                }
                let phase = self.phase;
                once(&mut self.refused, custodian, contributor, || {
                    expect(phase, &[Phase::Proposed, Phase::Endorsing])
                })?;
            }
            Event::Endorsement { custodian, statement } => {
                self.expect_custodian(&custodian)?;
                let phase = self.phase;
                let phases = [Phase::Endorsing, Phase::Abandoning, Phase::Certified];
                once(&mut self.endorsements, custodian, statement, || {
                    expect(phase, &phases)
                })?;
            }
            Event::Abandoned { custodian, statement } => {
                let phase = self.phase;
                once(&mut self.abandons, custodian, statement, || {
                    expect(phase, &[Phase::Abandoning])
                })?;
            }
            Event::Fingerprint {
                contributor,
                statement,
            } => {
                if !self.is_member(&contributor) {
                    return Err(Refusal::new(Code::WrongRound, "you are not in the set"));
                }
                let phase = self.phase;
                once(&mut self.fingerprints, contributor, statement, || {
                    expect(phase, &[Phase::Certified, Phase::Opening])
                })?;
            }
            Event::KeyCheck { custodian, statement } => {
                self.expect_custodian(&custodian)?;
                let phase = self.phase;
                once(&mut self.key_checks, custodian, statement, || {
                    expect(phase, &[Phase::Disputed])
                })?;
            }
            Event::Judged { receiver, named } => {
                let phase = self.phase;
                once(&mut self.judged, receiver, named, || {
                    expect(phase, &[Phase::Judging])
                })?;
            }
            Event::Answer {
                custodian,
                pieces,
                answered,
            } => self.answer(&custodian, &pieces, answered)?,
            Event::Opened { receiver, result } => {
                let phase = self.phase;
                once(&mut self.opened, receiver.clone(), result, || {
                    expect(phase, &[Phase::Opening])
                })?;
                // One word per receiver: whoever opens at a second try has not failed.
                self.failures.remove(&receiver);
            }
            Event::OpeningFailed { receiver, failure } => {
                expect(self.phase, &[Phase::Opening])?;
                if self.opened.contains_key(&receiver) {
                    return Err(Refusal::new(Code::Conflict, "you opened this sum before"));
                }
                // One word per receiver and fault: who keeps changing the wording keeps nobody waiting.
                let known = self.failures.get(&receiver);
                if known.is_some_and(|known| known.fault == failure.fault) {
                    return Ok(());
                }
                self.failures.insert(receiver, failure);
            }
        }
        self.progress_ms = now_ms;
        Ok(())
    }

    fn is_member(&self, contributor: &PartyId) -> bool {
        self.proposal
            .as_ref()
            .is_some_and(|p| p.set.contains(contributor))
    }

    fn expect_custodian(&self, custodian: &PartyId) -> Result<(), Refusal> {
        if self.custodians.contains(custodian) {
            return Ok(());
        }
        Err(Refusal::new(
            Code::WrongRound,
            "your key is not in this attempt's record",
        ))
    }

    fn answer(&mut self, custodian: &PartyId, pieces: &[u32], answered: Answered) -> Result<(), Refusal> {
        let asked = self
            .assignments
            .iter_mut()
            .find(|a| &a.custodian == custodian && a.pieces == pieces);
        let asked =
            asked.ok_or_else(|| Refusal::new(Code::WrongPhase, "these pieces are not asked of you"))?;
        match asked.answer {
            Some(known) if known == answered => Ok(()),
            Some(_) => Err(Refusal::new(
                Code::Conflict,
                "another answer for these pieces is stored",
            )),
            None => {
                expect(self.phase, &[Phase::Certified])?;
                asked.answer = Some(answered);
                Ok(())
            }
        }
    }

    /// Carries out the decisions that are transitions of the attempt itself; others change nothing here.
    pub fn carry_out(&mut self, decision: &Decision, now_ms: u64) {
        match decision {
            Decision::Bind => self.phase = Phase::Endorsing,
            Decision::GiveUp(reason) => {
                self.abandoned = Some(reason.clone());
                self.phase = Phase::Abandoning;
            }
            Decision::Certify(assignments) | Decision::Reassign(assignments) => {
                self.reassigned += u32::from(self.phase == Phase::Certified);
                self.assignments = assignments.clone();
                self.phase = Phase::Certified;
            }
            Decision::Open => self.phase = Phase::Opening,
            Decision::Dispute => {
                self.disputed = true;
                self.phase = Phase::Disputed;
            }
            Decision::Judge => self.phase = Phase::Judging,
            Decision::Replace(liars, assignments) => {
                self.liars.extend(liars.iter().cloned());
                self.assignments = assignments.clone();
                self.failures.clear();
                self.disputed = false;
                self.key_checks.clear();
                self.judged.clear();
                self.phase = Phase::Certified;
            }
            Decision::Publish(_) => self.phase = Phase::Published,
            Decision::Abandon(reason) | Decision::Repeat(reason) | Decision::Recollect(reason) => {
                self.abandoned = Some(reason.clone());
                self.phase = Phase::Abandoned;
            }
            Decision::Wait | Decision::FixRecord | Decision::Sum(_) | Decision::Fail(_) => return,
        }
        self.progress_ms = now_ms;
    }
}

/// Records a party's one statement: new in the right phase, again if identical, never another.
fn once<T: PartialEq>(
    known: &mut BTreeMap<PartyId, T>,
    party: PartyId,
    value: T,
    in_phase: impl FnOnce() -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    match known.get(&party) {
        Some(stored) if *stored == value => Ok(()),
        Some(_) => Err(Refusal::new(
            Code::Conflict,
            "another statement of yours is stored for this attempt",
        )),
        None => {
            in_phase()?;
            known.insert(party, value);
            Ok(())
        }
    }
}

fn expect(phase: Phase, allowed: &[Phase]) -> Result<(), Refusal> {
    if allowed.contains(&phase) {
        Ok(())
    } else {
        Err(Refusal::new(
            Code::WrongPhase,
            format!("the attempt is {phase:?}"),
        ))
    }
}
