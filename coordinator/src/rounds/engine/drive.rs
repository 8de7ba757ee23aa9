//! Doing what is due: announcing, fixing records, adding, publishing, abandoning, sweeping.

use super::{Engine, EngineError, statement_key};
use crate::rounds::adding;
use crate::rounds::state::{Attempt, Proposal};
use crate::rounds::steps::Step;
use crate::rounds::transition::{Decision, Event};
use galen_core::{Digest, PartyId, faults};
use galen_net::protocol::{AttemptPhase, BlobKind};
use galen_sums::SumPlan;
use galen_sums::authored::Authored;
use galen_sums::record::{RoundId, RoundRecord};
use galen_sums::round::Round;
use galen_sums::set::ContributionSet;
use std::collections::BTreeSet;
use std::sync::Arc;

impl Engine {
    /// Does everything that is due. Called after events and regularly; blocks while a sum is computed.
    pub fn drive(&self) -> Result<(), EngineError> {
        loop {
            let (state, round) = {
                let inner = self.lock();
                (inner.state.clone(), inner.round.clone())
            };
            match self.next_step(&state) {
                Step::Announce { round, attempt, base } => {
                    tracing::info!(round, attempt, "announcing");
                    self.change(|state, now| state.announce(round, attempt, base, now))?;
                    faults::reach("coordinator.round.announced");
                }
                Step::Attempt => {
                    let Some(attempt) = &state.attempt else {
                        return Ok(());
                    };
                    let decision = attempt.decide(&self.rules, &state.excluded, self.clock.now_ms());
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
            Decision::Sum(members) => {
                let proposal = self.sum(round()?, attempt, &members)?;
                tracing::info!(round = id.round, contributors = proposal.set.len(), sum = %proposal.sum.short(), "set closed and added");
                self.change_attempt(id, |attempt, now| attempt.apply(Event::SetFixed(proposal), now))?;
                faults::reach("coordinator.round.proposed");
            }
            Decision::Publish(result) => {
                tracing::info!(round = id.round, state = %result.short(), "published");
                self.change(|state, now| state.publish(result, now))?;
                self.reload_round()?;
                faults::reach("coordinator.round.published");
                self.sweep()?;
            }
            Decision::Abandon(ref reason) => {
                tracing::warn!(round = id.round, attempt = id.attempt, %reason, "attempt abandoned");
                self.change(|state, now| {
                    if let Some(attempt) = &mut state.attempt {
                        attempt.carry_out(&decision, now);
                    }
                    state.note_abandoned(&self.rules);
                })?;
                self.reload_round()?;
                faults::reach("coordinator.round.abandoned");
                self.sweep()?;
            }
            Decision::Fail(reason) => {
                tracing::error!(round = id.round, %reason, "the study cannot go on");
                self.fail(reason)?;
            }
            Decision::Certify(_) | Decision::Reassign(_) | Decision::Open => {
                self.change_attempt(id, |attempt, now| {
                    attempt.carry_out(&decision, now);
                    Ok(())
                })?;
                faults::reach(if decision == Decision::Open {
                    "coordinator.round.opening"
                } else {
                    "coordinator.round.certified"
                });
            }
        }
        Ok(())
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
        let keys = self.collect(id, "key")?;
        let record = RoundRecord {
            study: self.study.digest(),
            purpose,
            round: id,
            plan: SumPlan::new(&inputs)?,
            base: attempt.base,
            custodians: keys
                .into_iter()
                .filter(|key| attempt.keys.contains_key(&key.author))
                .collect(),
            audit_head: None,
        };
        let signed = record.sign(&self.signing)?;
        let round = Arc::new(Round::open(&self.roster, &signed, &inputs)?);
        let authored = Authored {
            author: self.own.clone(),
            statement: signed,
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
            },
            self.clock.now_ms(),
        )?;
        self.commit(
            &mut inner,
            state,
            Some((statement_key(id, "record", &self.own), authored)),
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
        self.change(|state, _| state.close(false, reason))
    }

    /// Deletes contributions that no attempt under way refers to. Runs where none can be arriving: when an attempt has ended, and at
    /// start-up unless contributions are being collected.
    pub(super) fn sweep(&self) -> Result<(), EngineError> {
        let state = self.state();
        let in_use = state
            .attempt
            .as_ref()
            .is_some_and(|a| (AttemptPhase::Collecting..=AttemptPhase::Opening).contains(&a.phase));
        if in_use {
            return Ok(());
        }
        for (digest, info) in self.store.blobs().list()? {
            if info.kind == BlobKind::Contribution as u16 {
                self.store.blobs().delete(&digest)?;
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
