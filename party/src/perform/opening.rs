//! The receiver's steps, and the contributor's fingerprint.

use super::{blocking, is_spoilt};
use crate::authentic::{self, Fetched};
use crate::error::PartyError;
use crate::link::Link;
use crate::opening::{Evidence, NotOpened, Opening, Unopened, Verified};
use crate::party::Party;
use crate::sinks::StoreSink;
use galen_core::{Digest, PartyId};
use galen_net::NetError;
use galen_net::protocol::{BlobKind, Item, Statement};
use galen_store::Partial;
use galen_sums::statement::{
    FINGERPRINT_REFUSED, FingerprintRefused, JUDGED, OPENED, OPENING_FAILED, Opened, OpeningFailed,
};
use galen_sums::{ContributionHeader, ContributionSet, Endorsement, Round, RoundId};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Whether contributions can still be fetched: the coordinator deletes them once their sum is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contributions {
    Kept,
    Gone,
}

impl Party {
    /// Fetches what a round's opening needs, verifies it and opens the sum. What goes wrong on this side is an error; what is wrong with
    /// the round is not.
    pub(super) async fn opening(
        &mut self,
        link: &Link,
        id: RoundId,
        sum: Digest,
        contributions: Contributions,
    ) -> Result<(Arc<Round>, Result<Opening, Unopened>), PartyError> {
        let round = self.round(link, id).await?;
        let me = &self.shared.identity.name;
        let evidence = Evidence {
            headers: link.fetch(id, Item::Headers).await?,
            endorsements: link.fetch(id, Item::Endorsements).await?,
            answers: link.fetch_sealed(id, Item::Answers, me).await?,
            fingerprints: link.fetch(id, Item::Fingerprints).await?,
        };
        let verified = {
            let verifying = Arc::clone(&round);
            blocking(move || match Verified::new(&verifying, sum, evidence) {
                Ok(verified) => Ok(Ok(verified)),
                Err(NotOpened::Round(unopened)) => Ok(Err(unopened)),
                Err(NotOpened::Here(error)) => Err(error),
            })
        };
        let verified = match verified.await? {
            Ok(verified) => Arc::new(verified),
            Err(unopened) => return Ok((round, Err(unopened))),
        };
        self.fetch_blob(link, &round, sum, BlobKind::Sum).await?;
        let mut fetched = Fetched::default();
        if contributions == Contributions::Kept {
            let missing = verified.without_fingerprint();
            self.fetch_contributions(link, &round, &verified, missing, &mut fetched)
                .await?;
        }
        let (mut opened, mut liars) = self.open_blob(&round, &verified, &fetched).await?;
        if let Err(unopened) = &opened
            && unopened.is_wrong_sum()
        {
            // Either the coordinator serves another sum, or a member signed another fingerprint than that of what it sent. The contributions
            // themselves tell which.
            if contributions == Contributions::Kept {
                let everybody = verified.members().cloned().collect();
                self.fetch_contributions(link, &round, &verified, everybody, &mut fetched)
                    .await?;
                (opened, liars) = self.open_blob(&round, &verified, &fetched).await?;
            } else {
                // They are deleted. One member's false word must not keep out whoever was away, so nobody's fingerprint counts: the sum is
                // what the other receivers found it to be, who had the contributions and signed what they derived.
                tracing::warn!(%id, %unopened, "fingerprints do not add up, and the contributions are gone");
                let unvouched = Arc::new(verified.without_fingerprints());
                (opened, liars) = self.open_blob(&round, &unvouched, &fetched).await?;
            }
        }
        if let Ok(opening) = &opened
            && !opening.sum.unchecked.is_empty()
        {
            let words = link.fetch(id, Item::Openings).await?;
            authentic::vouched(&round, &words, &opening.derived.digest())?;
        }
        self.complain(link, &round, liars).await?;
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            // What was opened is kept in its own form; what did not open is fetched again.
            for digest in fetched.blobs().chain([sum]) {
                shared.store.blobs().delete(&digest)?;
            }
            Ok(())
        })
        .await?;
        Ok((round, opened))
    }

    async fn fetch_contributions(
        &self,
        link: &Link,
        round: &Round,
        verified: &Verified,
        members: BTreeSet<PartyId>,
        fetched: &mut Fetched,
    ) -> Result<(), PartyError> {
        for member in members {
            if let Some(header) = verified.header(&member).cloned()
                && !fetched.contains(&member)
            {
                self.fetch_blob(link, round, header.ciphertext, BlobKind::Contribution)
                    .await?;
                fetched.add(header);
            }
        }
        Ok(())
    }

    /// Tells the coordinator which members signed other fingerprints than those of their contributions, for the audit log. The sum opens
    /// without their word, so what the coordinator makes of it changes nothing here.
    async fn complain(&self, link: &Link, round: &Round, liars: BTreeSet<PartyId>) -> Result<(), PartyError> {
        for contributor in liars {
            let said = FingerprintRefused {
                record: *round.digest(),
                contributor,
            };
            let statement = self.sign(FINGERPRINT_REFUSED, &said)?.statement;
            match link.post(Statement::FingerprintRefused(statement)).await {
                Err(PartyError::Net(NetError::Refused(refusal))) => {
                    let contributor = &said.contributor;
                    tracing::warn!(%refusal, %contributor, "the coordinator refused the complaint about a fingerprint");
                }
                posted => posted?,
            }
        }
        Ok(())
    }

    /// What the sum opens to, and the members that are found to have signed false fingerprints.
    async fn open_blob(
        &self,
        round: &Arc<Round>,
        verified: &Arc<Verified>,
        fetched: &Fetched,
    ) -> Result<(Result<Opening, Unopened>, BTreeSet<PartyId>), PartyError> {
        let (shared, state) = (Arc::clone(&self.shared), Arc::clone(&self.state));
        let (round, verified, fetched) = (Arc::clone(round), Arc::clone(verified), fetched.clone());
        blocking(move || {
            let blobs = shared.store.blobs();
            let mut liars = BTreeSet::new();
            let mut open = || -> Result<Opening, NotOpened> {
                let sum = verified.sum();
                let unchecked = authentic::check(&round, &verified, blobs, &fetched, &mut liars)?;
                let blob = blobs.open_read(&sum).map_err(PartyError::from)?;
                let study = shared.study.study();
                let mut opening = verified.open(&round, &shared.identity, study, &state.derived, blob)?;
                opening.sum.unchecked = unchecked;
                Ok(opening)
            };
            match open() {
                Ok(opening) => Ok((Ok(opening), liars)),
                Err(NotOpened::Round(unopened)) => Ok((Err(unopened), liars)),
                Err(NotOpened::Here(error)) => {
                    blobs.delete(&verified.sum())?;
                    Err(error)
                }
            }
        })
        .await
    }

    /// Fetches a sum or a contribution into the blob store, unless it is there; goes on where an interrupted transfer stopped.
    async fn fetch_blob(
        &self,
        link: &Link,
        round: &Round,
        digest: Digest,
        kind: BlobKind,
    ) -> Result<(), PartyError> {
        let shared = Arc::clone(&self.shared);
        let len = round.plan().blob_len();
        let writer = blocking(move || {
            let blobs = shared.store.blobs();
            if blobs.info(&digest)?.is_some() {
                return Ok(None);
            }
            let owner = &shared.study.coordinator().name;
            Ok(Some(blobs.begin(&digest, kind as u16, owner)?))
        });
        let Some(writer) = writer.await? else {
            return Ok(());
        };
        match link.get(digest, StoreSink::new(writer, len), |_, _| {}).await {
            // The partial file holds bytes that are not the blob; the next transfer starts anew.
            Err(error) if is_spoilt(&error) => {
                let shared = Arc::clone(&self.shared);
                blocking(move || {
                    let partial = Partial {
                        digest,
                        kind: kind as u16,
                        owner: shared.study.coordinator().name.clone(),
                    };
                    Ok(shared.store.blobs().discard_partial(&partial)?)
                })
                .await?;
                Err(PartyError::Spoilt(format!("a blob of {}: {error}", round.id())))
            }
            fetched => fetched,
        }
    }

    pub(super) async fn open_sum(&mut self, link: &Link, id: RoundId, sum: Digest) -> Result<(), PartyError> {
        let (round, opening) = match self.pending.take() {
            Some((known, opening)) if known == id && opening.sum.sum == sum => {
                (self.round(link, id).await?, Ok(opening))
            }
            _ => self.opening(link, id, sum, Contributions::Kept).await?,
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
                    fault: error.fault(),
                };
                link.post(Statement::OpeningFailed(
                    self.sign(OPENING_FAILED, &said)?.statement,
                ))
                .await
            }
        }
    }

    /// Compares the custodians' key checks with their answers, and says whose were wrong.
    pub(super) async fn judge(&mut self, link: &Link, id: RoundId, sum: Digest) -> Result<(), PartyError> {
        let round = self.round(link, id).await?;
        let me = &self.shared.identity.name;
        let evidence = Evidence {
            headers: link.fetch(id, Item::Headers).await?,
            endorsements: link.fetch(id, Item::Endorsements).await?,
            answers: link.fetch_sealed(id, Item::Answers, me).await?,
            fingerprints: Vec::new(),
        };
        let checks = link.fetch_sealed(id, Item::KeyChecks, me).await?;
        let shared = Arc::clone(&self.shared);
        let said = blocking(move || {
            let verified = Verified::new(&round, sum, evidence)?;
            verified.judge(&round, &shared.identity, &checks)
        })
        .await?;
        link.post(Statement::Judged(self.sign(JUDGED, &said)?.statement))
            .await
    }

    /// Signs the fingerprint of what this party sent, under the challenge of the fixed set and sum.
    pub(super) async fn fingerprint(
        &mut self,
        link: &Link,
        id: RoundId,
        set: Digest,
        sum: Digest,
    ) -> Result<(), PartyError> {
        let round = self.round(link, id).await?;
        let headers = link.fetch(id, Item::Headers).await?;
        let record = *round.digest();
        let shared = Arc::clone(&self.shared);
        let fixed = Endorsement { record, set, sum };
        let statement = blocking(move || {
            let Some(parcel) = shared.contributor.sent(id)? else {
                return Ok(None);
            };
            // A party that came back from an old disk may have drawn a second contribution; the set has the first.
            let shown = ContributionSet::new(&round, &headers).ok();
            let shown = shown.filter(|shown| shown.digest() == set);
            let member = shown.and_then(|shown| shown.members.get(&shared.identity.name).copied());
            if member != Some(parcel.header.digest()) {
                tracing::warn!(%id, "the set has another contribution of this party than the one that is kept here");
                return Ok(None);
            }
            let header: ContributionHeader = parcel
                .header
                .statement
                .read_unverified()
                .map_err(PartyError::internal)?;
            let bytes = &parcel.ciphertext[..];
            authentic::own_fingerprint(&round, &fixed, &shared.identity, &header, bytes).map(Some)
        });
        match statement.await? {
            Some(statement) => link.post(Statement::Fingerprint(statement.statement)).await,
            None => Ok(()),
        }
    }
}
