//! The custodian: keeps pieces of the contributors' one-round keys until a round is opened.
//!
//! For each round attempt it makes a one-round key, judges the proposed set, and on a certificate sends the key sums that it is
//! asked for. What it said is in its ledger (`galen_custody::ledger`, pure) and in the vault before anybody hears it; asked
//! again, it says the same bytes, and asked for something else, nothing.

use crate::error::PartyError;
use crate::identity::Identity;
use crate::vault::{Item, Vault};
use galen_core::{Code, Digest, PartyId, StudyDigest, faults};
use galen_custody::custodian::{self, OneRoundSecret, OpenedSeeds};
use galen_custody::ledger::{LedgerError, LedgerState};
use galen_store::{Repository, Store, Table};
use galen_sums::statement::{SEEDS_REFUSED, SeedsRefused};
use galen_sums::{Authored, ContributionSet, Endorsement, Round, RoundId, check_certificate};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const LEDGER: Table<LedgerState> = Table::new("custody", *b"LEDG", 2);
const LEDGER_KEY: &str = "ledger";

/// What a custodian says of a proposed set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It endorses set and sum.
    Endorsed(Authored),
    /// A contributor's seeds do not fit.
    SeedsRefused {
        /// Who.
        contributor: PartyId,
        /// The signed statement.
        statement: Authored,
    },
}

/// The custodian's side of the rounds. Calls block.
pub struct Custodian {
    identity: Arc<Identity>,
    study: StudyDigest,
    store: Store,
    vault: Vault,
    ledger: Repository<LedgerState>,
}

impl Custodian {
    /// Opens the custodian's records.
    pub fn open(store: &Store, study: StudyDigest, identity: Arc<Identity>) -> Result<Self, PartyError> {
        Ok(Self {
            identity,
            study,
            vault: Vault::open(store)?,
            ledger: store.database().repository(&LEDGER)?,
            store: store.clone(),
        })
    }

    fn ledger(&self) -> Result<LedgerState, PartyError> {
        Ok(self.ledger.get(LEDGER_KEY)?.unwrap_or_default())
    }

    /// The one-round key of an attempt: drawn once, the same statement ever after.
    ///
    /// # Errors
    /// If a newer attempt was seen, or the key of this one was erased; [`PartyError::StandsAside`] if another attempt of the round was
    /// answered for.
    pub fn announce(&self, id: RoundId) -> Result<Authored, PartyError> {
        if let Some(said) = self.vault.get(id, &Item::KeyStatement)? {
            return postcard::from_bytes(&said).map_err(PartyError::internal);
        }
        let secret = OneRoundSecret::generate(id).map_err(PartyError::internal)?;
        let ledger = self
            .ledger()?
            .announce(id, secret.public())
            .map_err(|error| refused(id, error))?;
        let statement = secret
            .statement(&ledger, &self.identity.name, &self.identity.signing, &self.study)
            .map_err(PartyError::internal)?;
        let mut batch = self.store.database().batch();
        self.vault
            .put(&mut batch, id, &Item::OneRoundSecret, &secret.to_bytes())?;
        self.vault
            .put(&mut batch, id, &Item::KeyStatement, &encode(&statement)?)?;
        batch.put(&self.ledger, LEDGER_KEY, &ledger)?;
        batch.commit()?;
        faults::reach("party.key.announced");
        Ok(statement)
    }

    /// Judges the proposed set; `None` if this custodian has no part in the round.
    ///
    /// # Errors
    /// If the set must not be opened, or if another set or sum was endorsed in this attempt before.
    pub fn judge(
        &self,
        round: &Round,
        headers: &[Authored],
        sum: Digest,
    ) -> Result<Option<Verdict>, PartyError> {
        let id = round.id();
        if !round.custodians().contains_key(&self.identity.name) {
            return Ok(None);
        }
        if let Some(said) = self.vault.get(id, &Item::Verdict)? {
            let verdict: Verdict = postcard::from_bytes(&said).map_err(PartyError::internal)?;
            return self.same(round, headers, sum, verdict).map(Some);
        }
        let Some(secret) = self.secret(id)? else {
            return Ok(None);
        };
        let mut seeds = Vec::with_capacity(headers.len());
        for header in headers {
            match custodian::check_contribution(round, &self.identity.name, &secret, header) {
                Ok(opened) => seeds.push(opened),
                Err(error) if error.code() == Code::BadSeeds => {
                    tracing::warn!(%id, contributor = %header.author, %error, "sealed seeds refused");
                    return self.refuse(round, &header.author).map(Some);
                }
                Err(error) => return Err(set_refused(id, error)),
            }
        }
        let set = ContributionSet::new(round, headers).map_err(|error| set_refused(id, error))?;
        let endorsement = Endorsement::of(&set, sum);
        let ledger = self
            .ledger()?
            .sign(id, &endorsement)
            .map_err(|error| refused(id, error))?;
        let (name, signing) = (&self.identity.name, &self.identity.signing);
        let statement = custodian::endorse(round, name, signing, &ledger, &set, &seeds, sum)
            .map_err(|error| set_refused(id, error))?;
        let verdict = Verdict::Endorsed(statement);
        self.keep(id, &verdict, &ledger)?;
        faults::reach("party.set.signed");
        Ok(Some(verdict))
    }

    /// A verdict that was given before stands, and is given again only for the same set and sum.
    fn same(
        &self,
        round: &Round,
        headers: &[Authored],
        sum: Digest,
        verdict: Verdict,
    ) -> Result<Verdict, PartyError> {
        if let Verdict::Endorsed(statement) = &verdict {
            let said: Endorsement = statement
                .statement
                .read_unverified()
                .map_err(PartyError::internal)?;
            let set = ContributionSet::new(round, headers).map_err(|error| set_refused(round.id(), error))?;
            if said != Endorsement::of(&set, sum) {
                let id = round.id();
                return Err(PartyError::Untrue(format!(
                    "the coordinator proposes a second set or sum for {id}"
                )));
            }
        }
        Ok(verdict)
    }

    fn refuse(&self, round: &Round, contributor: &PartyId) -> Result<Verdict, PartyError> {
        let said = SeedsRefused {
            record: *round.digest(),
            contributor: contributor.clone(),
        };
        let (name, signing) = (&self.identity.name, &self.identity.signing);
        let statement =
            Authored::sign(signing, name, SEEDS_REFUSED, &self.study, &said).map_err(PartyError::internal)?;
        let verdict = Verdict::SeedsRefused {
            contributor: contributor.clone(),
            statement,
        };
        // Having refused, it endorses nothing in this attempt.
        let ledger = self
            .ledger()?
            .abandon(round.id())
            .map_err(|error| refused(round.id(), error))?;
        self.keep(round.id(), &verdict, &ledger)?;
        Ok(verdict)
    }

    fn keep(&self, id: RoundId, verdict: &Verdict, ledger: &LedgerState) -> Result<(), PartyError> {
        let mut batch = self.store.database().batch();
        self.vault
            .put(&mut batch, id, &Item::Verdict, &encode(verdict)?)?;
        batch.put(&self.ledger, LEDGER_KEY, ledger)?;
        Ok(batch.commit()?)
    }

    /// The key sum of some pieces, on the certificate of the set and sum that this custodian endorsed.
    ///
    /// # Errors
    /// If the endorsements are no certificate, or it is of another set or sum.
    pub fn answer(
        &self,
        round: &Round,
        headers: &[Authored],
        endorsements: &[Authored],
        pieces: &[u32],
    ) -> Result<Authored, PartyError> {
        let id = round.id();
        let item = Item::Answer(pieces.to_vec());
        if let Some(said) = self.vault.get(id, &item)? {
            return postcard::from_bytes(&said).map_err(PartyError::internal);
        }
        let certificate = check_certificate(round, endorsements)
            .map_err(|error| PartyError::Untrue(format!("no certificate for {id}: {error}")))?;
        let ledger = self
            .ledger()?
            .answer(id, certificate.endorsement())
            .map_err(|error| refused(id, error))?;
        let set = ContributionSet::new(round, headers).map_err(|error| set_refused(id, error))?;
        certificate
            .check_set(round, &set)
            .map_err(|error| set_refused(id, error))?;
        let gone = || PartyError::Untrue(format!("the key for {id} is asked for after it was erased"));
        let secret = self.secret(id)?.ok_or_else(gone)?;
        let name = &self.identity.name;
        let open = |header| custodian::check_contribution(round, name, &secret, header);
        let seeds: Vec<OpenedSeeds> = headers
            .iter()
            .map(open)
            .collect::<Result<_, _>>()
            .map_err(|error| set_refused(id, error))?;
        let statement = custodian::answer(
            round,
            name,
            &self.identity.signing,
            &ledger,
            &certificate,
            &set,
            &seeds,
            pieces,
        )
        .map_err(|error| set_refused(id, error))?;
        let mut batch = self.store.database().batch();
        self.vault.put(&mut batch, id, &item, &encode(&statement)?)?;
        batch.put(&self.ledger, LEDGER_KEY, &ledger)?;
        batch.commit()?;
        faults::reach("party.answer.stored");
        Ok(statement)
    }

    fn secret(&self, id: RoundId) -> Result<Option<OneRoundSecret>, PartyError> {
        let Some(bytes) = self.vault.get(id, &Item::OneRoundSecret)? else {
            return Ok(None);
        };
        OneRoundSecret::from_bytes(&bytes)
            .map(Some)
            .map_err(PartyError::internal)
    }

    /// Notes that the vault erased these attempts.
    pub fn erased(&self, ids: &[RoundId]) -> Result<(), PartyError> {
        let before = self.ledger()?;
        let mut ledger = before.clone();
        for id in ids {
            // Attempts that a newer announcement ended are already erased in the ledger, or were never in it.
            if let Ok(next) = ledger.erase(*id) {
                ledger = next;
            }
        }
        if ledger != before {
            self.ledger.put(LEDGER_KEY, &ledger)?;
        }
        Ok(())
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, PartyError> {
    postcard::to_stdvec(value).map_err(PartyError::internal)
}

fn refused(id: RoundId, error: LedgerError) -> PartyError {
    if matches!(error, LedgerError::RoundAnswered { .. }) {
        return PartyError::StandsAside(error);
    }
    PartyError::Untrue(format!("the custodian's ledger refuses this for {id}: {error}"))
}

fn set_refused(id: RoundId, error: impl std::fmt::Display) -> PartyError {
    PartyError::Untrue(format!("the set proposed for {id} must not be opened: {error}"))
}

#[cfg(test)]
mod tests;
