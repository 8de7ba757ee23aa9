//! The custodian's steps.

use super::blocking;
use crate::custody::Verdict;
use crate::error::PartyError;
use crate::link::Link;
use crate::party::Party;
use galen_core::{Digest, PartyId, faults};
use galen_net::protocol::{Item, Statement};
use galen_sums::RoundId;
use std::sync::Arc;

/// Fetches that belong to no attempt name this one.
const NO_ATTEMPT: RoundId = RoundId { round: 0, attempt: 0 };

impl Party {
    pub(super) async fn introduce(&self, link: &Link) -> Result<(), PartyError> {
        let shared = Arc::clone(&self.shared);
        let statement = blocking(move || shared.custodian.incarnation()).await?;
        link.post(Statement::Incarnation(statement.statement)).await
    }

    pub(super) async fn vouch(&self, link: &Link, of: &PartyId, nonce: &Digest) -> Result<(), PartyError> {
        let incarnations = link.fetch(NO_ATTEMPT, Item::Incarnations).await?;
        let (shared, of, nonce) = (Arc::clone(&self.shared), of.clone(), *nonce);
        let word = blocking(move || {
            let roster = shared.rounds.roster();
            shared.custodian.vouch(roster, &incarnations, &of, &nonce)
        });
        match word.await? {
            None => Ok(()),
            Some((word, false)) => link.post(Statement::Confirmation(word.statement)).await,
            Some((word, true)) => link.post(Statement::Stale(word.statement)).await,
        }
    }

    pub(super) async fn take_confirmations(&self, link: &Link) -> Result<(), PartyError> {
        let confirmations = link.fetch(NO_ATTEMPT, Item::Confirmations).await?;
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let roster = shared.rounds.roster();
            shared.custodian.take_confirmations(roster, &confirmations)
        })
        .await
    }

    pub(super) async fn forget(&self, link: &Link) -> Result<(), PartyError> {
        let incarnations = link.fetch(NO_ATTEMPT, Item::Incarnations).await?;
        let proofs = link.fetch(NO_ATTEMPT, Item::Staleness).await?;
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let roster = shared.rounds.roster();
            shared.custodian.forget(roster, &incarnations, &proofs)
        })
        .await
    }

    pub(super) async fn announce(&self, link: &Link, id: RoundId) -> Result<(), PartyError> {
        let shared = Arc::clone(&self.shared);
        let statement = blocking(move || shared.custodian.announce(id)).await?;
        link.post(Statement::RoundKey(statement.statement)).await
    }

    pub(super) async fn check_set(
        &mut self,
        link: &Link,
        id: RoundId,
        sum: Digest,
    ) -> Result<(), PartyError> {
        let round = self.round(link, id).await?;
        if !round.custodians().contains_key(&self.shared.identity.name) {
            return Ok(());
        }
        let headers = link.fetch(id, Item::Headers).await?;
        let shared = Arc::clone(&self.shared);
        match blocking(move || shared.custodian.check(&round, &headers, sum)).await? {
            None => Ok(()),
            Some(Verdict::Checked(statement)) => link.post(Statement::Checked(statement.statement)).await,
            Some(Verdict::SeedsRefused { statement, .. }) => {
                link.post(Statement::SeedsRefused(statement.statement)).await
            }
        }
    }

    pub(super) async fn endorse(&mut self, link: &Link, id: RoundId, sum: Digest) -> Result<(), PartyError> {
        let round = self.round(link, id).await?;
        if !round.custodians().contains_key(&self.shared.identity.name) {
            return Ok(());
        }
        let headers = link.fetch(id, Item::Headers).await?;
        let shared = Arc::clone(&self.shared);
        match blocking(move || shared.custodian.endorse(&round, &headers, sum)).await? {
            None => Ok(()),
            Some(statement) => link.post(Statement::Endorsement(statement.statement)).await,
        }
    }

    pub(super) async fn abandon(&mut self, link: &Link, id: RoundId) -> Result<(), PartyError> {
        let round = self.round(link, id).await?;
        let shared = Arc::clone(&self.shared);
        match blocking(move || shared.custodian.abandon(&round)).await? {
            None => Ok(()),
            Some(statement) => link.post(Statement::Abandoned(statement.statement)).await,
        }
    }

    pub(super) async fn answer(
        &mut self,
        link: &Link,
        id: RoundId,
        pieces: &[u32],
    ) -> Result<(), PartyError> {
        let round = self.round(link, id).await?;
        let headers = link.fetch(id, Item::Headers).await?;
        let endorsements = link.fetch(id, Item::Endorsements).await?;
        let (shared, pieces) = (Arc::clone(&self.shared), pieces.to_vec());
        let statement =
            blocking(move || shared.custodian.answer(&round, &headers, &endorsements, &pieces)).await?;
        link.deliver(statement, Statement::Answer).await?;
        faults::reach("party.answer.sent");
        Ok(())
    }

    /// Sends the word on every piece, with the polynomials of those that this custodian answered for.
    pub(super) async fn check_keys(&mut self, link: &Link, id: RoundId) -> Result<(), PartyError> {
        let round = self.round(link, id).await?;
        let name = self.shared.identity.name.clone();
        if !round.custodians().contains_key(&name) {
            return Ok(());
        }
        let headers = link.fetch(id, Item::Headers).await?;
        let endorsements = link.fetch(id, Item::Endorsements).await?;
        if !endorsements.iter().any(|said| said.author == name) {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let statement = blocking(move || {
            let answered = shared.custodian.answered(id)?;
            shared
                .custodian
                .check_keys(&round, &headers, &endorsements, &answered)
        });
        link.deliver(statement.await?, Statement::KeyCheck).await
    }
}
