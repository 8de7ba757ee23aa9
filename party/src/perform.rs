//! How each step is carried out: fetch, verify and compute on a blocking thread, persist, then send.

use crate::audit::NotTaken;
use crate::contribute::values::{Sources, values};
use crate::custody::Verdict;
use crate::error::PartyError;
use crate::link::Link;
use crate::opening::{Evidence, NotOpened, Opening, Unopened, Verified};
use crate::party::{End, Party, Shared};
use crate::sealed::State;
use crate::sinks::StoreSink;
use crate::status::Training;
use crate::steps::Step;
use galen_core::{Code, Digest, PartyId, Signed, faults};
use galen_net::NetError;
use galen_net::protocol::{BlobKind, Item, Statement};
use galen_sums::statement::{OPENED, OPENING_FAILED, Opened, OpeningFailed, RELEASE, Release};
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
                if *completed {
                    return Ok(Some(End::Completed(reason.clone())));
                }
                return Err(PartyError::Closed(reason.clone()));
            }
            Step::Apply { id, sum, result } => self.apply(link, *id, *sum, *result).await?,
            Step::Erase { before } => self.erase(*before).await?,
            Step::Announce(id) => self.announce(link, *id).await?,
            Step::Contribute(id) => self.contribute(link, *id).await?,
            Step::Endorse { id, sum } => self.endorse(link, *id, *sum).await?,
            Step::Answer { id, pieces } => self.answer(link, *id, pieces).await?,
            Step::Open { id, sum } => self.open_sum(link, *id, *sum).await?,
            Step::Release => self.release(link).await?,
        }
        Ok(None)
    }

    /// Brings the copy of the audit log up to the head in a record, or, without one, as far as the log goes. Nothing is done on a record
    /// before.
    async fn follow_audit(&self, link: &Link, record: Option<(&Round, &Signed)>) -> Result<(), PartyError> {
        let target = record.map(|(round, _)| round.record().audit);
        let id = record.map(|(round, _)| round.id());
        loop {
            let (shared, target) = (Arc::clone(&self.shared), target);
            let missing = blocking(move || {
                let missing = shared.audit.missing(target.as_ref());
                missing.map_err(|source| PartyError::Forked { id, source })
            });
            let lines = match missing.await {
                Ok(None) => return Ok(()),
                Ok(Some(from)) => link.audit(from).await?,
                Err(error) => {
                    self.keep_evidence(&error, record.map(|(_, signed)| signed.clone()), Vec::new())
                        .await?;
                    return Err(error);
                }
            };
            let (shared, given) = (Arc::clone(&self.shared), lines.clone());
            let staged = blocking(move || {
                shared
                    .audit
                    .stage(&given, target.as_ref())
                    .map_err(|error| match error {
                        NotTaken::Forked(source) => PartyError::Forked { id, source },
                        NotTaken::Here(error) => error,
                    })
            });
            if let Err(error) = staged.await {
                self.keep_evidence(&error, record.map(|(_, signed)| signed.clone()), lines)
                    .await?;
                return Err(error);
            }
            if target.is_none() && lines.is_empty() {
                return Ok(());
            }
        }
    }

    async fn keep_evidence(
        &self,
        error: &PartyError,
        record: Option<Signed>,
        lines: Vec<Signed>,
    ) -> Result<(), PartyError> {
        let PartyError::Forked { source, .. } = error else {
            return Ok(());
        };
        let (shared, text) = (Arc::clone(&self.shared), source.to_string());
        blocking(move || shared.audit.keep_evidence(&text, record.as_ref(), &lines)).await
    }

    /// The verified record of an attempt.
    async fn round(&mut self, link: &Link, id: RoundId) -> Result<Arc<Round>, PartyError> {
        if let Some(round) = self.round.as_ref().filter(|round| round.id() == id) {
            return Ok(Arc::clone(round));
        }
        let record = link.record(id).await?;
        let (shared, signed) = (Arc::clone(&self.shared), record.clone());
        let round = Arc::new(blocking(move || shared.rounds.open(id, &signed)).await?);
        self.follow_audit(link, Some((&round, &record))).await?;
        self.round = Some(Arc::clone(&round));
        Ok(round)
    }

    async fn announce(&self, link: &Link, id: RoundId) -> Result<(), PartyError> {
        let shared = Arc::clone(&self.shared);
        let statement = blocking(move || shared.custodian.announce(id)).await?;
        link.post(Statement::RoundKey(statement.statement)).await
    }

    async fn contribute(&mut self, link: &Link, id: RoundId) -> Result<(), PartyError> {
        let round = self.round(link, id).await?;
        let (shared, state) = (Arc::clone(&self.shared), Arc::clone(&self.state));
        if round.record().base != state.derived.digest() {
            return Err(PartyError::Untrue(format!(
                "{id} starts from another state than the one derived here"
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

    async fn endorse(&mut self, link: &Link, id: RoundId, sum: Digest) -> Result<(), PartyError> {
        let round = self.round(link, id).await?;
        if !round.custodians().contains_key(&self.shared.identity.name) {
            return Ok(());
        }
        let headers = link.fetch(id, Item::Headers).await?;
        let shared = Arc::clone(&self.shared);
        match blocking(move || shared.custodian.judge(&round, &headers, sum)).await? {
            None => Ok(()),
            Some(Verdict::Endorsed(statement)) => {
                link.post(Statement::Endorsement(statement.statement)).await
            }
            Some(Verdict::SeedsRefused { statement, .. }) => {
                link.post(Statement::SeedsRefused(statement.statement)).await
            }
        }
    }

    async fn answer(&mut self, link: &Link, id: RoundId, pieces: &[u32]) -> Result<(), PartyError> {
        let round = self.round(link, id).await?;
        let headers = link.fetch(id, Item::Headers).await?;
        let endorsements = link.fetch(id, Item::Endorsements).await?;
        let (shared, pieces) = (Arc::clone(&self.shared), pieces.to_vec());
        let statement =
            blocking(move || shared.custodian.answer(&round, &headers, &endorsements, &pieces)).await?;
        link.post(Statement::Answer(statement.statement)).await?;
        faults::reach("party.answer.sent");
        Ok(())
    }

    /// Fetches what a round's opening needs, verifies it and opens the sum. What goes wrong on this side is an error; what is wrong with
    /// the round is not.
    async fn opening(
        &mut self,
        link: &Link,
        id: RoundId,
        sum: Digest,
    ) -> Result<(Arc<Round>, Result<Opening, Unopened>), PartyError> {
        let round = self.round(link, id).await?;
        let evidence = Evidence {
            headers: link.fetch(id, Item::Headers).await?,
            endorsements: link.fetch(id, Item::Endorsements).await?,
            answers: link.fetch(id, Item::Answers).await?,
        };
        self.fetch_sum(link, &round, sum).await?;
        let (shared, state, verifying) = (
            Arc::clone(&self.shared),
            Arc::clone(&self.state),
            Arc::clone(&round),
        );
        let opening = blocking(move || {
            let blob = shared.store.blobs().open_read(&sum)?;
            let open = || -> Result<Opening, NotOpened> {
                let verified = Verified::new(&verifying, sum, evidence)?;
                verified.open(&shared.identity, shared.study.study(), &state.derived, blob)
            };
            let opening = open();
            // What was opened is kept in its own form; what did not open is fetched again.
            shared.store.blobs().delete(&sum)?;
            match opening {
                Ok(opening) => Ok(Ok(opening)),
                Err(NotOpened::Round(unopened)) => Ok(Err(unopened)),
                Err(NotOpened::Here(error)) => Err(error),
            }
        });
        Ok((round, opening.await?))
    }

    /// Fetches a sum into the blob store, unless it is there; goes on where an interrupted transfer stopped.
    async fn fetch_sum(&self, link: &Link, round: &Round, sum: Digest) -> Result<(), PartyError> {
        let shared = Arc::clone(&self.shared);
        let len = round.plan().blob_len();
        let writer = blocking(move || {
            let blobs = shared.store.blobs();
            if blobs.info(&sum)?.is_some() {
                return Ok(None);
            }
            Ok(Some(blobs.begin(
                &sum,
                BlobKind::Sum as u16,
                &shared.study.coordinator().name,
            )?))
        });
        let Some(writer) = writer.await? else {
            return Ok(());
        };
        match link.get(sum, StoreSink::new(writer, len), |_, _| {}).await {
            // The partial file holds bytes that are not the sum; the next transfer starts anew.
            Err(error) if is_spoilt(&error) => {
                let shared = Arc::clone(&self.shared);
                blocking(move || {
                    Ok(shared
                        .store
                        .blobs()
                        .discard_partial(&sum, &shared.study.coordinator().name)?)
                })
                .await?;
                Err(PartyError::Spoilt(format!("the sum of {}: {error}", round.id())))
            }
            fetched => fetched,
        }
    }

    async fn open_sum(&mut self, link: &Link, id: RoundId, sum: Digest) -> Result<(), PartyError> {
        let (round, opening) = match self.pending.take() {
            Some((known, opening)) if known == id && opening.sum.sum == sum => {
                (self.round(link, id).await?, Ok(opening))
            }
            _ => self.opening(link, id, sum).await?,
        };
        let record = *round.digest();
        match opening {
            Ok(opening) => {
                let said = Opened {
                    record,
                    result: opening.sum.result,
                    max_noise: opening.sum.max_noise,
                };
                self.pending = Some((id, opening));
                link.post(Statement::Opened(self.sign(OPENED, &said)?.statement))
                    .await
            }
            Err(error) => {
                tracing::error!(%error, "opening failed");
                let said = OpeningFailed {
                    record,
                    detail: error.detail(),
                };
                link.post(Statement::OpeningFailed(
                    self.sign(OPENING_FAILED, &said)?.statement,
                ))
                .await
            }
        }
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
            _ => self.opening(link, id, sum).await?.1?,
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
        let state = State {
            study: self.shared.study.digest(),
            derived: opening.derived,
            security: Some(security),
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
    values(sources, &mut progress).map_err(PartyError::internal)
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
