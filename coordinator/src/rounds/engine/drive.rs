//! Doing what is due: announcing, fixing records, adding, publishing, abandoning, sweeping.

use super::{Engine, EngineError, statement_key};
use crate::rounds::adding::{self, AddingError};
use crate::rounds::audit;
use crate::rounds::state::{Attempt, EarlierAttempt, Proposal};
use crate::rounds::steps::Step;
use crate::rounds::transition::{Decision, Event};
use galen_core::{Digest, PartyId, faults};
use galen_net::protocol::{AttemptPhase, BlobKind};
use galen_sums::SumPlan;
use galen_sums::audit::{AuditEvent, Culprit};
use galen_sums::authored::Authored;
use galen_sums::record::{Earlier, RoundId, RoundRecord};
use galen_sums::round::Round;
use galen_sums::set::ContributionSet;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Engine {
    /// Does everything that is due. Called after events and regularly; blocks while a sum is computed.
    pub fn drive(&self) -> Result<(), EngineError> {
        loop {
            let (state, round) = {
                let mut inner = self.lock();
                self.arrivals.note(&mut inner.state);
                (inner.state.clone(), inner.round.clone())
            };
            match self.next_step(&state) {
                Step::Announce { round, .. } if self.is_held(round) => return Ok(()),
                Step::Announce { round, attempt, base } => {
                    tracing::info!(round, attempt, "announcing");
                    self.change(|state, now| state.announce(round, attempt, base, now))?;
                    faults::reach("coordinator.round.announced");
                }
                Step::Attempt => {
                    let Some(attempt) = &state.attempt else {
                        return Ok(());
                    };
                    let decision =
                        attempt.decide(&self.rules, &state.standing(&self.rules), self.clock.steady_ms());
                    if decision == Decision::Wait {
                        return Ok(());
                    }
                    self.act(attempt, round.as_deref(), decision)?;
                }
                Step::Complete => {
                    self.change(|state, _| {
                        state.close(
                            true,
                            "all rounds are published; the model stays with the contributors",
                        )
                    })?;
                }
                Step::AwaitConsent(_)
                | Step::AwaitCustodians
                | Step::AwaitRelease
                | Step::Serve(_)
                | Step::Serving
                | Step::Closed => return Ok(()),
            }
        }
    }

    fn act(&self, attempt: &Attempt, round: Option<&Round>, decision: Decision) -> Result<(), EngineError> {
        let id = RoundId {
            round: attempt.round,
            attempt: attempt.attempt,
        };
        let round = || round.ok_or(EngineError::Missing("the round record"));
        match decision {
            Decision::Wait => {}
            Decision::FixRecord => {
                self.fix_record(attempt, id)?;
                faults::reach("coordinator.round.collecting");
            }
            Decision::Sum(ref members) => match self.sum(round()?, attempt, members) {
                Ok(proposal) => {
                    let (contributors, sum) = (proposal.set.len(), proposal.sum.short());
                    tracing::info!(round = id.round, contributors, %sum, "set closed and added");
                    self.fix_set(id, proposal)?;
                    faults::reach("coordinator.round.proposed");
                }
                // A stored contribution is damaged. Nothing was given out, so another attempt may collect it again.
                Err(EngineError::Adding(AddingError::Sums(error))) => {
                    let reason = format!("the contributions cannot be added: {error}");
                    self.change_if(&decision, nothing, |state, now| {
                        if let Some(attempt) = &mut state.attempt {
                            attempt.carry_out(&Decision::GiveUp(reason), now.steady_ms);
                        }
                    })?;
                }
                Err(error) => return Err(error),
            },
            Decision::Publish(result) => {
                if self.change_if(&decision, nothing, |state, now| state.publish(result, now))? {
                    tracing::info!(round = id.round, state = %result.short(), "published");
                    self.reload_round()?;
                    faults::reach("coordinator.round.published");
                    self.sweep()?;
                }
            }
            Decision::Abandon(ref reason) => self.abandon(id, &decision, reason)?,
            Decision::Fail(ref reason) => {
                if self.change_if(&decision, nothing, |state, _| state.close(false, reason.clone()))? {
                    tracing::error!(round = id.round, %reason, "the study cannot go on");
                    self.sweep()?;
                }
            }
            Decision::Recollect(_) | Decision::Repeat(_) => self.recollect(&decision)?,
            Decision::Certify(_)
            | Decision::Reassign(_)
            | Decision::Open
            | Decision::Bind
            | Decision::GiveUp(_)
            | Decision::Dispute
            | Decision::Judge
            | Decision::Replace(..) => {
                let events = |attempt: &Attempt| self.told_of(attempt, id, &decision);
                let carried_out = self.change_if(&decision, events, |state, now| {
                    if let Some(attempt) = &mut state.attempt {
                        attempt.carry_out(&decision, now.steady_ms);
                    }
                })?;
                if carried_out {
                    faults::reach(match decision {
                        Decision::Bind => "coordinator.round.endorsing",
                        Decision::GiveUp(_) => "coordinator.round.abandoning",
                        Decision::Open => "coordinator.round.opening",
                        Decision::Dispute => "coordinator.round.disputed",
                        Decision::Judge => "coordinator.round.judging",
                        _ => "coordinator.round.certified",
                    });
                }
            }
        }
        Ok(())
    }

    /// Gives the attempt up, if the decision that leads there still holds.
    fn abandon(&self, id: RoundId, decision: &Decision, reason: &str) -> Result<(), EngineError> {
        tracing::warn!(%reason, "attempt abandoned");
        let events = |_: &Attempt| {
            Ok(vec![AuditEvent::Abandoned {
                id,
                reason: audit::short(reason),
                signatures: self.collect(id, "abandoned")?,
            }])
        };
        let abandoned = self.change_if(decision, events, |state, now| {
            if let Some(attempt) = &mut state.attempt {
                attempt.carry_out(decision, now.steady_ms);
            }
            state.note_abandoned(&self.rules);
        })?;
        if abandoned {
            self.reload_round()?;
            faults::reach("coordinator.round.abandoned");
            self.sweep()?;
        }
        Ok(())
    }

    /// Ends an attempt whose sum may be open and is of no use; its set, or part of it, is asked next.
    fn recollect(&self, decision: &Decision) -> Result<(), EngineError> {
        let ended = self.change_if(decision, nothing, |state, now| {
            if let Some(attempt) = &mut state.attempt {
                attempt.carry_out(decision, now.steady_ms);
            }
            match decision {
                Decision::Repeat(_) => state.note_repeat(&self.rules),
                _ => state.note_unopened(&self.rules),
            }
        })?;
        if ended {
            tracing::warn!(?decision, "the round is collected again");
            self.reload_round()?;
            faults::reach("coordinator.round.repeated");
            self.sweep()?;
        }
        Ok(())
    }

    fn fix_set(&self, id: RoundId, proposal: Proposal) -> Result<(), EngineError> {
        let mut inner = self.lock();
        let mut state = inner.state.clone();
        let attempt = state
            .attempt
            .as_mut()
            .filter(|a| (a.round, a.attempt) == (id.round, id.attempt));
        let attempt = attempt.ok_or(EngineError::Missing("the attempt"))?;
        attempt.apply(Event::SetFixed(proposal), self.clock.steady_ms())?;
        Ok(self.commit(&mut inner, state, None, Vec::new())?)
    }

    /// What the audit log is told of a decision that rests on signed statements.
    fn told_of(
        &self,
        attempt: &Attempt,
        id: RoundId,
        decision: &Decision,
    ) -> Result<Vec<AuditEvent>, EngineError> {
        match (decision, &attempt.proposal) {
            (Decision::Certify(_), Some(proposal)) => {
                let mut endorsements = self.collect(id, "endorsement")?;
                endorsements.retain(|a| attempt.endorsements.contains_key(&a.author));
                Ok(vec![AuditEvent::Certified {
                    id,
                    set: proposal.set_digest,
                    sum: proposal.sum,
                    endorsements,
                }])
            }
            (Decision::Reassign(_), _) => {
                let silent: BTreeSet<&PartyId> = attempt
                    .assignments
                    .iter()
                    .filter(|a| a.answer.is_none())
                    .map(|a| &a.custodian)
                    .collect();
                let named = silent.into_iter().map(|party| AuditEvent::Named {
                    id,
                    party: party.clone(),
                    culprit: Culprit::RefusedAnswer,
                    text: format!(
                        "it stood still for {} s; others are asked",
                        self.rules.patience_ms / 1000
                    ),
                    evidence: Vec::new(),
                });
                Ok(named.collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    fn fix_record(&self, attempt: &Attempt, id: RoundId) -> Result<(), EngineError> {
        let inputs = self
            .schedule
            .inputs(&self.roster, id.round)
            .ok_or(EngineError::Missing("the round's plan"))?;
        let purpose = self
            .schedule
            .purpose(id.round)
            .ok_or(EngineError::Missing("the round's purpose"))?;
        let keys = self.collect(id, "key/")?;
        let (audit, standing, known) = {
            let inner = self.lock();
            let state = &inner.state;
            (inner.audit, state.standing(&self.rules), state.earlier.clone())
        };
        let usable = attempt.usable_keys(&standing);
        let earlier = (0..).zip(known).map(|(attempt, known)| match known {
            EarlierAttempt::Abandoned => {
                let before = RoundId { attempt, ..id };
                Ok(Earlier::Abandoned(self.collect(before, "abandoned")?))
            }
            EarlierAttempt::Standing(set) => Ok(Earlier::Standing(set)),
        });
        let earlier = earlier.collect::<Result<_, EngineError>>()?;
        let mut confirmations = Vec::new();
        for custodian in &usable {
            confirmations.extend(self.confirmations_of(custodian)?);
        }
        let record = RoundRecord {
            study: self.study.digest(),
            purpose,
            round: id,
            plan: SumPlan::new(&inputs)?,
            base: attempt.base,
            custodians: keys
                .into_iter()
                .filter(|key| usable.contains(&key.author))
                .collect(),
            confirmations,
            earlier,
            audit,
        };
        let signed = record.sign(&self.signing)?;
        let round = Arc::new(Round::open(&self.roster, &signed, &inputs)?);
        let authored = Authored {
            author: self.own.clone(),
            statement: signed,
        };
        let event = AuditEvent::Record {
            id,
            purpose,
            record: *round.digest(),
            base: attempt.base,
            standing: standing_sets(round.record()),
        };
        let mut inner = self.lock();
        let mut state = inner.state.clone();
        let current = state
            .attempt
            .as_mut()
            .ok_or(EngineError::Missing("the attempt"))?;
        current.apply(
            Event::RecordFixed {
                record: *round.digest(),
                custodians: round.custodians().keys().cloned().collect(),
            },
            self.clock.steady_ms(),
        )?;
        self.commit(
            &mut inner,
            state,
            Some((statement_key(id, "record", &self.own), authored)),
            vec![event],
        )?;
        inner.round = Some(round);
        Ok(())
    }

    fn sum(
        &self,
        round: &Round,
        attempt: &Attempt,
        members: &BTreeSet<PartyId>,
    ) -> Result<Proposal, EngineError> {
        let id = round.id();
        let headers: Vec<_> = self
            .collect(id, "contribution")?
            .into_iter()
            .filter(|a| members.contains(&a.author))
            .collect();
        let set = ContributionSet::new(round, &headers)?;
        let blob = |name: &PartyId| attempt.contributions.get(name).map(|c| (name.clone(), c.blob));
        let ciphertexts = members
            .iter()
            .map(|name| blob(name).ok_or(EngineError::Missing("a contribution")));
        let sum = adding::add(
            round,
            &set,
            ciphertexts.collect::<Result<_, _>>()?,
            self.store.blobs(),
            &self.own,
        )?;
        Ok(Proposal {
            set: members.iter().cloned().collect(),
            set_digest: set.digest(),
            sum,
        })
    }

    /// Marks the model as served.
    pub fn serve(&self, model: Digest) -> Result<(), EngineError> {
        self.change(|state, _| state.serving = Some(model))?;
        faults::reach("coordinator.model.serving");
        Ok(())
    }

    /// Ends a study that cannot go on.
    pub fn fail(&self, reason: impl Into<String>) -> Result<(), EngineError> {
        self.change(|state, _| state.close(false, reason))?;
        self.sweep()
    }

    /// Deletes what no attempt under way needs: contributions, uploads that did not end, sums that were not published. An upload that
    /// goes on meanwhile is refused when it ends, because nothing is being collected.
    pub(super) fn sweep(&self) -> Result<(), EngineError> {
        let state = self.state();
        let busy = AttemptPhase::Collecting..=AttemptPhase::Abandoning;
        let in_use =
            state.closed.is_none() && state.attempt.as_ref().is_some_and(|a| busy.contains(&a.phase));
        if in_use {
            return Ok(());
        }
        let swept = |kind: u16| {
            let of_rounds = [BlobKind::Contribution, BlobKind::Sum, BlobKind::Sealed];
            of_rounds.iter().any(|own| *own as u16 == kind)
        };
        let blobs = self.store.blobs();
        for (digest, info) in blobs.list()? {
            // Members that were away open the published sums later, from the answers.
            let kept = state.published.iter().any(|published| {
                published.sum == digest || published.answers.iter().any(|answer| answer.sealed == digest)
            });
            if swept(info.kind) && !kept {
                blobs.delete(&digest)?;
            }
        }
        // Queriers upload at any time, and theirs go on.
        for partial in blobs.partials()? {
            if swept(partial.kind) {
                blobs.discard_partial(&partial)?;
            }
        }
        Ok(())
    }

    pub(super) fn reload_round(&self) -> Result<(), EngineError> {
        let mut inner = self.lock();
        inner.round = None;
        let Some(attempt) = inner.state.attempt.as_ref().filter(|a| a.record.is_some()) else {
            return Ok(());
        };
        let id = RoundId {
            round: attempt.round,
            attempt: attempt.attempt,
        };
        let record = self
            .statements
            .get(statement_key(id, "record", &self.own))?
            .ok_or(EngineError::Missing("the round record"))?;
        let inputs = self
            .schedule
            .inputs(&self.roster, id.round)
            .ok_or(EngineError::Missing("the round's plan"))?;
        inner.round = Some(Arc::new(Round::open(&self.roster, &record.statement, &inputs)?));
        Ok(())
    }
}

/// No line beside those that the change itself tells.
fn nothing(_: &Attempt) -> Result<Vec<AuditEvent>, EngineError> {
    Ok(Vec::new())
}

/// For each earlier attempt whose sum may be open, its set.
fn standing_sets(record: &RoundRecord) -> BTreeMap<u32, BTreeSet<PartyId>> {
    let numbered = (0..).zip(&record.earlier);
    let standing = numbered.filter_map(|(attempt, earlier)| match earlier {
        Earlier::Standing(members) => Some((attempt, members.clone())),
        Earlier::Abandoned(_) => None,
    });
    standing.collect()
}
