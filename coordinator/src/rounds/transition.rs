//! The transitions of a round attempt: pure functions of state, event and time.
//!
//! [`Attempt::apply`] takes in what a party sent or a job finished; [`Attempt::decide`] says what the coordinator does next.
//! Failure is lack of progress: an attempt that moves is never given up, however long it takes.

use super::state::{Assignment, Attempt, Contribution, Proposal, Rules};
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
        /// Digest of the statement.
        statement: Digest,
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
        /// Digest of the statement.
        statement: Digest,
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
        detail: String,
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
    /// Ask custodians for key sums.
    Certify(Vec<Assignment>),
    /// Ask other custodians for the pieces of those that stand still; these are all assignments from then on.
    Reassign(Vec<Assignment>),
    /// All pieces are answered: receivers may open.
    Open,
    /// Enough receivers derived this state.
    Publish(Digest),
    /// Give the attempt up and announce another.
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
            Event::RoundKey { custodian, statement } => {
                let phase = self.phase;
                once(&mut self.keys, custodian, statement, || {
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
            Event::Endorsement { custodian, statement } => {
                if !self.custodians.contains(&custodian) {
                    return Err(Refusal::new(
                        Code::WrongRound,
                        "your key is not in this attempt's record",
                    ));
                }
                let phase = self.phase;
                let phases = [Phase::Proposed, Phase::Certified];
                once(&mut self.endorsements, custodian, statement, || {
                    expect(phase, &phases)
                })?;
            }
            Event::SeedsRefused {
                custodian,
                contributor,
            } => {
                expect(self.phase, &[Phase::Proposed])?;
                let member = self
                    .proposal
                    .as_ref()
                    .is_some_and(|p| p.set.contains(&contributor));
                if !self.custodians.contains(&custodian) || !member {
                    return Err(Refusal::new(
                        Code::WrongRound,
                        "not a custodian or contributor of this attempt",
                    ));
                }
                self.abandoned = Some(format!(
                    "custodian {custodian} found that the seeds of {contributor} do not fit"
                ));
                self.culprit = Some(contributor);
            }
            Event::Answer {
                custodian,
                pieces,
                statement,
            } => self.answer(&custodian, &pieces, statement)?,
            Event::Opened { receiver, result } => {
                let phase = self.phase;
                once(&mut self.opened, receiver.clone(), result, || {
                    expect(phase, &[Phase::Opening])
                })?;
                // One word per receiver: whoever opens at a second try has not failed.
                self.failures.remove(&receiver);
            }
            Event::OpeningFailed { receiver, detail } => {
                expect(self.phase, &[Phase::Opening])?;
                if self.opened.contains_key(&receiver) {
                    return Err(Refusal::new(Code::Conflict, "you opened this sum before"));
                }
                self.failures.insert(receiver, detail);
            }
        }
        self.progress_ms = now_ms;
        Ok(())
    }

    fn answer(&mut self, custodian: &PartyId, pieces: &[u32], statement: Digest) -> Result<(), Refusal> {
        let asked = self
            .assignments
            .iter_mut()
            .find(|a| &a.custodian == custodian && a.pieces == pieces);
        let asked =
            asked.ok_or_else(|| Refusal::new(Code::WrongPhase, "these pieces are not asked of you"))?;
        match asked.answer {
            Some(known) if known == statement => Ok(()),
            Some(_) => Err(Refusal::new(
                Code::Conflict,
                "another answer for these pieces is stored",
            )),
            None => {
                expect(self.phase, &[Phase::Certified])?;
                asked.answer = Some(statement);
                Ok(())
            }
        }
    }

    /// What to do next. `excluded` contributors are not waited for.
    pub fn decide(&self, rules: &Rules, excluded: &BTreeSet<PartyId>, now_ms: u64) -> Decision {
        let stalled = now_ms.saturating_sub(self.progress_ms) >= rules.patience_ms;
        match self.phase {
            Phase::Announced => self.decide_announced(rules, stalled),
            Phase::Collecting => self.decide_collecting(rules, excluded, stalled),
            Phase::Proposed => self.decide_proposed(rules, stalled),
            Phase::Certified => self.decide_certified(rules, stalled),
            Phase::Opening => self.decide_opening(rules),
            Phase::Published | Phase::Abandoned => Decision::Wait,
        }
    }

    fn decide_announced(&self, rules: &Rules, stalled: bool) -> Decision {
        let all = rules.custodians().iter().all(|c| self.keys.contains_key(c));
        let covered = rules.assign(self.keys.keys()).is_some();
        let enough = self.keys.len() >= rules.agreement && covered;
        if all || (stalled && enough) {
            Decision::FixRecord
        } else {
            Decision::Wait
        }
    }

    fn decide_collecting(&self, rules: &Rules, excluded: &BTreeSet<PartyId>, stalled: bool) -> Decision {
        let expected: BTreeSet<_> = rules.contributors.difference(excluded).cloned().collect();
        if expected.len() < rules.min_contributors {
            return Decision::Fail(format!(
                "only {} contributors are left that were not found at fault, {} are needed",
                expected.len(),
                rules.min_contributors
            ));
        }
        let received: BTreeSet<_> = self
            .contributions
            .keys()
            .filter(|c| expected.contains(*c))
            .cloned()
            .collect();
        let quorum = rules.quorum.min(expected.len());
        if received == expected || (stalled && received.len() >= quorum) {
            Decision::Sum(received)
        } else {
            Decision::Wait
        }
    }

    fn decide_proposed(&self, rules: &Rules, stalled: bool) -> Decision {
        if let Some(reason) = &self.abandoned {
            return Decision::Abandon(reason.clone());
        }
        if self.endorsements.len() >= rules.agreement
            && let Some(assignments) = rules.assign(self.endorsements.keys())
        {
            return Decision::Certify(assignments);
        }
        if stalled {
            let (have, need) = (self.endorsements.len(), rules.agreement);
            return Decision::Abandon(format!("{have} custodians endorsed the set, {need} are needed"));
        }
        Decision::Wait
    }

    fn decide_certified(&self, rules: &Rules, stalled: bool) -> Decision {
        let silent: BTreeSet<_> = self
            .assignments
            .iter()
            .filter(|a| a.answer.is_none())
            .map(|a| &a.custodian)
            .collect();
        if silent.is_empty() {
            return Decision::Open;
        }
        if !stalled {
            return Decision::Wait;
        }
        let live = self.endorsements.keys().filter(|c| !silent.contains(c));
        // An attempt is not abandoned any more from here on: a custodian that answered, even if the answer is still on its way, takes part
        // in no other attempt of the round. So where nobody else holds the pieces, the silent are waited for.
        let Some(assigned) = rules.assign(live) else {
            return Decision::Wait;
        };
        let missing: BTreeSet<u32> = self
            .assignments
            .iter()
            .filter(|a| a.answer.is_none())
            .flat_map(|a| a.pieces.iter().copied())
            .collect();
        let mut assignments: Vec<_> = self
            .assignments
            .iter()
            .filter(|a| a.answer.is_some())
            .cloned()
            .collect();
        for mut extra in assigned {
            extra.pieces.retain(|piece| missing.contains(piece));
            if !extra.pieces.is_empty() {
                assignments.push(extra);
            }
        }
        Decision::Reassign(assignments)
    }

    /// An attempt that is open is never given up for another: somebody may have read its sum, and the sum over another set would
    /// then tell the difference.
    fn decide_opening(&self, rules: &Rules) -> Decision {
        let mut votes: BTreeMap<Digest, usize> = BTreeMap::new();
        for result in self.opened.values() {
            *votes.entry(*result).or_default() += 1;
        }
        let best = votes.iter().max_by_key(|(_, count)| **count);
        if let Some((result, count)) = best
            && *count >= rules.min_contributors
        {
            return Decision::Publish(*result);
        }
        let silent = rules
            .contributors
            .len()
            .saturating_sub(self.opened.len() + self.failures.len());
        if best.map_or(0, |(_, count)| *count) + silent >= rules.min_contributors {
            return Decision::Wait;
        }
        match self.failures.iter().next() {
            Some((who, what)) => Decision::Fail(format!(
                "{} of {} receivers could not open the sum of round {}; {who}: {what}",
                self.failures.len(),
                rules.contributors.len(),
                self.round
            )),
            None => Decision::Fail(format!(
                "the receivers derived different states from round {}",
                self.round
            )),
        }
    }

    /// Carries out the decisions that are transitions of the attempt itself; others change nothing here.
    pub fn carry_out(&mut self, decision: &Decision, now_ms: u64) {
        match decision {
            Decision::Certify(assignments) | Decision::Reassign(assignments) => {
                self.assignments = assignments.clone();
                self.phase = Phase::Certified;
            }
            Decision::Open => self.phase = Phase::Opening,
            Decision::Publish(_) => self.phase = Phase::Published,
            Decision::Abandon(reason) => {
                self.abandoned = Some(reason.clone());
                self.phase = Phase::Abandoned;
            }
            Decision::Wait | Decision::FixRecord | Decision::Sum(_) | Decision::Fail(_) => return,
        }
        self.progress_ms = now_ms;
    }

    /// Who is waited for, for people and for the view.
    pub fn awaiting(&self, rules: &Rules, excluded: &BTreeSet<PartyId>) -> Vec<PartyId> {
        let missing = |from: &mut dyn Iterator<Item = &PartyId>, have: &dyn Fn(&PartyId) -> bool| {
            from.filter(|name| !have(name)).cloned().collect()
        };
        match self.phase {
            Phase::Announced => missing(&mut rules.custodians().iter(), &|c| self.keys.contains_key(c)),
            Phase::Collecting => missing(&mut rules.contributors.difference(excluded), &|c| {
                self.contributions.contains_key(c)
            }),
            Phase::Proposed => missing(&mut self.custodians.iter(), &|c| {
                self.endorsements.contains_key(c)
            }),
            Phase::Certified => {
                let silent: BTreeSet<_> = self
                    .assignments
                    .iter()
                    .filter(|a| a.answer.is_none())
                    .map(|a| a.custodian.clone())
                    .collect();
                silent.into_iter().collect()
            }
            Phase::Opening => missing(&mut rules.contributors.iter(), &|c| self.opened.contains_key(c)),
            Phase::Published | Phase::Abandoned => Vec::new(),
        }
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
