//! How each step is carried out: fetch, verify and compute on a blocking thread, persist, then send.

mod audit;
mod custody;
mod opening;

use self::opening::Contributions;
use crate::contribute::values::{Sources, values};
use crate::error::PartyError;
use crate::link::Link;
use crate::party::{End, Party, Shared};
use crate::sealed::{OpenedSum, State};
use crate::status::Training;
use crate::steps::Step;
use galen_core::study::Purpose;
use galen_core::{Code, Digest, PartyId, faults};
use galen_models::{Course, Personal};
use galen_net::NetError;
use galen_net::protocol::{BlobKind, Statement};
use galen_sums::statement::{RELEASE, Release};
use galen_sums::{Authored, Round, RoundId};
use serde::Serialize;
use std::sync::Arc;

/// Runs work that blocks or computes for long.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PartyError> + Send + 'static,
) -> Result<T, PartyError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(PartyError::internal(error)),
    }
}

impl Party {
    /// Carries out a step; tells if the daemon's work has ended.
    pub(crate) async fn perform(&mut self, link: &Link, step: &Step) -> Result<Option<End>, PartyError> {
        match step {
            Step::Close { completed, reason } => {
                match self.follow_audit(link, None).await {
                    // Nobody waits for a coordinator that has nothing more to say.
                    Err(error) if error.is_transient() => {
                        tracing::warn!(%error, "the end of the audit log is not here");
                    }
                    followed => followed?,
                }
                self.shared.custodian.leave()?;
                if *completed {
                    return Ok(Some(End::Completed(reason.clone())));
                }
                return Err(PartyError::Closed(reason.clone()));
            }
            Step::Apply { id, sum, result } => self.apply(link, *id, *sum, *result).await?,
            Step::Erase { before } => self.erase(*before).await?,
            Step::Announce(id) => self.announce(link, *id).await?,
            Step::Contribute(id) => self.contribute(link, *id).await?,
            Step::Introduce(_) => self.introduce(link).await?,
            Step::Vouch { custodian, nonce } => self.vouch(link, custodian, nonce).await?,
            Step::TakeConfirmations(_) => self.take_confirmations(link).await?,
            Step::Forget(_) => self.forget(link).await?,
            Step::Check { id, sum } => self.check_set(link, *id, *sum).await?,
            Step::Endorse { id, sum } => self.endorse(link, *id, *sum).await?,
            Step::Abandon(id) => self.abandon(link, *id).await?,
            Step::CheckKeys { id, .. } => self.check_keys(link, *id).await?,
            Step::Fingerprint { id, set, sum } => self.fingerprint(link, *id, *set, *sum).await?,
            Step::Judge { id, sum, .. } => self.judge(link, *id, *sum).await?,
            Step::Answer { id, pieces } => self.answer(link, *id, pieces).await?,
            Step::Open { id, sum, .. } => self.open_sum(link, *id, *sum).await?,
            Step::Release => self.release(link).await?,
        }
        Ok(None)
    }

    /// The verified record of an attempt.
    async fn round(&mut self, link: &Link, id: RoundId) -> Result<Arc<Round>, PartyError> {
        let known = self.round.as_ref().filter(|round| round.id() == id);
        let round = match known {
            Some(round) => Arc::clone(round),
            None => {
                let record = link.record(id).await?;
                let (shared, signed) = (Arc::clone(&self.shared), record.clone());
                let round = Arc::new(blocking(move || shared.rounds.open(id, &signed)).await?);
                self.follow_audit(link, Some((&round, &record))).await?;
                self.round = Some(Arc::clone(&round));
                round
            }
        };
        self.state.derived.agrees_with(&round)?;
        Ok(round)
    }

    async fn contribute(&mut self, link: &Link, id: RoundId) -> Result<(), PartyError> {
        let round = self.round(link, id).await?;
        let (shared, state) = (Arc::clone(&self.shared), Arc::clone(&self.state));
        if round.record().base != state.derived.digest() {
            return Err(PartyError::Untrue(format!(
                "{id} is not the round that follows the state derived here"
            )));
        }
        let parcel = blocking(move || shared.contributor.parcel(&round, || compute(&shared, &state))).await?;
        self.shared.board.update(|status| status.training = None);
        link.put(
            parcel.digest,
            parcel.ciphertext,
            BlobKind::Contribution,
            |_, _| {},
        )
        .await?;
        link.post(Statement::Contribution(parcel.header.statement))
            .await?;
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.contributor.accepted(id)).await?;
        tracing::info!(%id, "contribution sent");
        Ok(())
    }

    async fn apply(
        &mut self,
        link: &Link,
        id: RoundId,
        sum: Digest,
        published: Digest,
    ) -> Result<(), PartyError> {
        // What was published stands in the log by now, whether this party took part or not.
        self.follow_audit(link, None).await?;
        let opening = match self.pending.take() {
            Some((known, opening)) if known == id && opening.sum.sum == sum => opening,
            _ => self.opening(link, id, sum, Contributions::Gone).await?.1?,
        };
        if opening.sum.result != published {
            return Err(PartyError::Mismatch {
                round: id.round,
                published,
                derived: opening.sum.result,
            });
        }
        let security = match &self.state.security {
            Some(known) if known.log2_q >= opening.security.log2_q => known.clone(),
            _ => opening.security,
        };
        let personal = self.personal(id.round, &opening.sum)?;
        let state = State {
            study: self.shared.study.digest(),
            derived: opening.derived,
            security: Some(security),
            personal,
        };
        let state = Arc::new(state);
        let (shared, next) = (Arc::clone(&self.shared), Arc::clone(&state));
        let (noise, bound) = (opening.sum.max_noise, opening.sum.noise_bound);
        blocking(move || {
            if opening.sum.contributors.contains(&shared.identity.name) {
                shared.contributor.opened(id)?;
            }
            shared.sealed.put_sum(&opening.sum)?;
            shared.sealed.put_state(&next)?;
            faults::reach("party.round.applied");
            Ok(())
        })
        .await?;
        tracing::info!(%id, state = %state.derived.digest().short(), noise, bound, "round opened and taken in");
        self.state = state;
        Ok(())
    }

    /// What this hospital keeps to itself after a round. What it trained counts if its contribution is in the opened sum, as for the model.
    fn personal(&self, round: u32, sum: &OpenedSum) -> Result<Option<Personal>, PartyError> {
        let shared = &self.shared;
        let before = self.state.personal.as_ref();
        if sum.purpose != Purpose::Training || !shared.part.contributor {
            return Ok(before.cloned());
        }
        let course = Course::of(shared.study.study()).map_err(PartyError::internal)?;
        let trained = if course.sharing().is_whole() || !sum.contributors.contains(&shared.identity.name) {
            None
        } else {
            shared.sealed.private(&shared.study.digest(), round)?
        };
        Ok(course.personal(round.saturating_sub(1), before, trained))
    }

    async fn erase(&self, before: RoundId) -> Result<(), PartyError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let erased = shared.vault.erase_before(before)?;
            shared.custodian.erased(&erased)?;
            shared.contributor.erased_before(before)?;
            faults::reach("party.round.erased");
            Ok(())
        })
        .await
    }

    async fn release(&self, link: &Link) -> Result<(), PartyError> {
        let (shared, state) = (Arc::clone(&self.shared), Arc::clone(&self.state));
        let released = move || {
            state
                .derived
                .released(shared.study.study())
                .map_err(PartyError::internal)
        };
        let bytes = blocking(released).await?;
        let model = Digest::of(&bytes);
        link.put(model, Arc::from(bytes), BlobKind::Model, |_, _| {})
            .await?;
        link.post(Statement::Release(
            self.sign(RELEASE, &Release { model })?.statement,
        ))
        .await?;
        faults::reach("party.model.released");
        tracing::info!(model = %model.short(), "model released to the coordinator, as the study says");
        Ok(())
    }

    fn sign<T: Serialize>(&self, domain: &str, statement: &T) -> Result<Authored, PartyError> {
        let (identity, study) = (&self.shared.identity, self.shared.study.digest());
        let name: &PartyId = &identity.name;
        Authored::sign(&identity.signing, name, domain, &study, statement).map_err(PartyError::internal)
    }
}

fn compute(shared: &Shared, state: &State) -> Result<Vec<i64>, PartyError> {
    let missing = || PartyError::Internal("a contributor without patients".into());
    let sources = Sources {
        study: shared.study.study(),
        party: &shared.identity.name,
        patients: shared.patients.as_ref().ok_or_else(missing)?,
        derived: &state.derived,
        personal: state.personal.as_ref(),
        device: &shared.device,
    };
    let mut progress = |now: galen_training::Progress| {
        tracing::debug!(
            epoch = now.epoch,
            epochs = now.epochs,
            loss = now.loss,
            "training"
        );
        let training = Training {
            epoch: now.epoch,
            epochs: now.epochs,
            loss: now.loss,
        };
        shared.board.update(|status| status.training = Some(training));
    };
    let computed = values(sources, &mut progress).map_err(PartyError::internal)?;
    if let Some(private) = computed.private {
        // Before the values are kept: then whoever finds those finds these too, and until then both are computed again, with the same bits.
        let round = state.derived.applied();
        shared
            .sealed
            .put_private(&shared.study.digest(), round, private)?;
        faults::reach("party.private.kept");
    }
    Ok(computed.values)
}

/// Whether a transfer ended in bytes that are not the blob.
fn is_spoilt(error: &PartyError) -> bool {
    let PartyError::Net(NetError::Sink(refusal)) = error else {
        return false;
    };
    matches!(
        refusal.code,
        Code::BlobMismatch | Code::BlobTooLarge | Code::NotConforming
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_core::Refusal;

    /// Bytes that are not the sum are discarded and fetched anew; what is merely missing is added to what has come.
    #[test]
    fn only_wrong_bytes_are_spoilt() {
        for &code in Code::ALL {
            let spoilt = matches!(
                code,
                Code::BlobMismatch | Code::BlobTooLarge | Code::NotConforming
            );
            let sink = NetError::Sink(Refusal::new(code, ""));
            assert_eq!(is_spoilt(&sink.into()), spoilt, "{code:?}");
            let refused = NetError::Refused(Refusal::new(code, ""));
            assert!(!is_spoilt(&refused.into()), "{code:?}");
        }
    }
}
