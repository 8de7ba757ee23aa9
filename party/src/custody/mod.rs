//! The custodian: keeps pieces of the contributors' one-round keys until a round is opened.
//!
//! For each round attempt it makes a one-round key, checks the proposed set, endorses it or gives the attempt up, and on a certificate
//! sends the key sums that it is asked for. What it said is in its ledger (`galen_custody::ledger`, pure) and in the vault before
//! anybody hears it; asked again, it says the same bytes, and asked for something else, nothing. Whether its disk is as it left it, it
//! learns from its [`anchor`].

pub mod anchor;
mod incarnations;
pub(crate) mod succession;

use crate::error::PartyError;
use crate::identity::Identity;
use crate::vault::{Item, Vault};
use anchor::{Anchor, Anchored};
use galen_core::{Code, Digest, PartyId, SigningKey, StudyDigest, faults};
use galen_custody::CustodyError;
use galen_custody::cross_check;
use galen_custody::custodian::{self, OneRoundSecret, OpenedSeeds};
use galen_custody::ledger::{LedgerError, LedgerState, Vote};
use galen_store::{Batch, Repository, Store, Table};
use galen_sums::statement::{SEEDS_REFUSED, SeedsRefused};
use galen_sums::{
    Authored, Certificate, ContributionSet, Endorsement, Round, RoundId, SealedStatement, check_certificate,
};
pub use incarnations::Standing;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const LEDGER: Table<LedgerState> = Table::new("custody", *b"LEDG", 4);
const LEDGER_KEY: &str = "ledger";

/// What a custodian says of a proposed set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// All seeds fit.
    Checked(Authored),
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
    anchor: Box<dyn Anchor>,
}

impl Custodian {
    /// Opens the custodian's records. Begins a new incarnation unless the anchor shows that the disk is as it was left.
    pub fn open(
        store: &Store,
        study: StudyDigest,
        identity: Arc<Identity>,
        anchor: Box<dyn Anchor>,
    ) -> Result<Self, PartyError> {
        let custodian = Self {
            identity,
            study,
            vault: Vault::open(store)?,
            ledger: store.database().repository(&LEDGER)?,
            store: store.clone(),
            anchor,
        };
        custodian.wake()?;
        Ok(custodian)
    }

    fn ledger(&self) -> Result<LedgerState, PartyError> {
        Ok(self.ledger.get(LEDGER_KEY)?.unwrap_or_default())
    }

    /// Makes a ledger durable, with what else is in the batch, and then anchors it.
    fn commit(&self, mut batch: Batch, ledger: &LedgerState) -> Result<(), PartyError> {
        batch.put(&self.ledger, LEDGER_KEY, ledger)?;
        batch.commit()?;
        self.drop_anchor(ledger)
    }

    fn drop_anchor(&self, ledger: &LedgerState) -> Result<(), PartyError> {
        let Some(nonce) = ledger.incarnation() else {
            return Ok(());
        };
        self.anchor.write(&Anchored {
            nonce: *nonce,
            seq: ledger.seq(),
        })
    }

    /// The study is over: nothing that this custodian remembers outside of its disk is needed any more. Should the daemon be started again
    /// nevertheless, it begins a new incarnation.
    pub fn leave(&self) -> Result<(), PartyError> {
        self.anchor.remove()
    }

    fn change(&self, before: &LedgerState, after: &LedgerState) -> Result<(), PartyError> {
        if before == after {
            return Ok(());
        }
        self.commit(self.store.database().batch(), after)
    }

    /// The one-round key of an attempt: drawn once, the same statement ever after.
    ///
    /// # Errors
    /// If a newer attempt was seen, or the key of this one was erased; [`PartyError::StandsAside`] for a round of which something may
    /// have been forgotten.
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
        self.commit(batch, &ledger)?;
        faults::reach("party.key.announced");
        Ok(statement)
    }

    /// Checks the proposed set; `None` if this custodian has no part in the round.
    ///
    /// # Errors
    /// If the record or the set must not be accepted, or another set or sum was checked in this attempt before.
    pub fn check(
        &self,
        round: &Round,
        headers: &[Authored],
        sum: Digest,
    ) -> Result<Option<Verdict>, PartyError> {
        let id = round.id();
        let name = &self.identity.name;
        if !round.custodians().contains_key(name) {
            return Ok(None);
        }
        if let Some(said) = self.vault.get(id, &Item::Verdict)? {
            let verdict: Verdict = postcard::from_bytes(&said).map_err(PartyError::internal)?;
            return self.same(round, headers, sum, verdict).map(Some);
        }
        let Some(secret) = self.secret(id)? else {
            return Ok(None);
        };
        let before = self.ledger()?;
        before.takes_part(id).map_err(|error| refused(id, error))?;
        let ledger = before.observe(name, round).map_err(|error| refused(id, error))?;
        let mut seeds = Vec::with_capacity(headers.len());
        let mut verdict = None;
        for header in headers {
            match custodian::check_contribution(round, name, &secret, header) {
                Ok(opened) => seeds.push(opened),
                Err(error) if error.code() == Code::BadSeeds => {
                    tracing::warn!(%id, contributor = %header.author, %error, "sealed seeds refused");
                    verdict = Some(self.refuse(round, &header.author)?);
                    break;
                }
                Err(error) => return Err(set_refused(id, error)),
            }
        }
        let verdict = match verdict {
            Some(verdict) => verdict,
            None => {
                let set = ContributionSet::new(round, headers).map_err(|error| set_refused(id, error))?;
                let signing = &self.identity.signing;
                let statement = custodian::report_checked(round, name, signing, &set, &seeds, sum);
                Verdict::Checked(statement.map_err(|error| set_refused(id, error))?)
            }
        };
        let mut batch = self.store.database().batch();
        self.vault
            .put(&mut batch, id, &Item::Verdict, &encode(&verdict)?)?;
        self.commit(batch, &ledger)?;
        faults::reach("party.set.checked");
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
        if let Verdict::Checked(statement) = &verdict {
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
        Ok(Verdict::SeedsRefused {
            contributor: contributor.clone(),
            statement,
        })
    }

    /// Endorses the proposed set, which is checked first if it was not; `None` if this custodian has no part in the round or found
    /// the seeds not to fit.
    ///
    /// # Errors
    /// If the set must not be opened beside others, or another set or sum was endorsed in this attempt before.
    pub fn endorse(
        &self,
        round: &Round,
        headers: &[Authored],
        sum: Digest,
    ) -> Result<Option<Authored>, PartyError> {
        let id = round.id();
        let Some(Verdict::Checked(_)) = self.check(round, headers, sum)? else {
            return Ok(None);
        };
        if let Some(said) = self.vault.get(id, &Item::Endorsement)? {
            return postcard::from_bytes(&said)
                .map(Some)
                .map_err(PartyError::internal);
        }
        let Some(secret) = self.secret(id)? else {
            return Ok(None);
        };
        let set = ContributionSet::new(round, headers).map_err(|error| set_refused(id, error))?;
        let ledger = self
            .ledger()?
            .sign(id, &Vote::of(round, &set, sum))
            .map_err(|error| refused(id, error))?;
        let seeds = self.open_seeds(round, &secret, headers)?;
        let (name, signing) = (&self.identity.name, &self.identity.signing);
        let statement = custodian::endorse(round, name, signing, &ledger, &set, &seeds, sum)
            .map_err(|error| set_refused(id, error))?;
        let mut batch = self.store.database().batch();
        self.vault
            .put(&mut batch, id, &Item::Endorsement, &encode(&statement)?)?;
        self.commit(batch, &ledger)?;
        faults::reach("party.set.signed");
        Ok(Some(statement))
    }

    /// The seeds of a set. They are opened whenever a step needs them and are gone when it ends: kept from one step to the next, they would
    /// lie in memory while the custodian waits for others.
    fn open_seeds(
        &self,
        round: &Round,
        secret: &OneRoundSecret,
        headers: &[Authored],
    ) -> Result<Vec<OpenedSeeds>, PartyError> {
        let open = |header| custodian::check_contribution(round, &self.identity.name, secret, header);
        let opened: Result<_, _> = headers.iter().map(open).collect();
        opened.map_err(|error| set_refused(round.id(), error))
    }

    /// Gives an attempt up; `None` if this custodian is bound to a set of it, or announced no key for it.
    pub fn abandon(&self, round: &Round) -> Result<Option<Authored>, PartyError> {
        let (id, before) = (round.id(), self.ledger()?);
        let seen = before
            .observe(&self.identity.name, round)
            .map_err(|error| refused(id, error))?;
        let ledger = match seen.abandon(id) {
            Ok(ledger) => ledger,
            Err(LedgerError::Conflict { .. } | LedgerError::Unknown(_) | LedgerError::Incarnation(_)) => {
                return Ok(None);
            }
            Err(error) => return Err(refused(id, error)),
        };
        let (name, signing) = (&self.identity.name, &self.identity.signing);
        let statement =
            custodian::abandon(id, name, signing, &ledger, &self.study).map_err(PartyError::internal)?;
        self.change(&before, &ledger)?;
        faults::reach("party.attempt.abandoned");
        Ok(Some(statement))
    }

    /// What an answer or a key check needs: the ledger at answered for the certified set, and the seeds.
    fn certified(
        &self,
        round: &Round,
        headers: &[Authored],
        endorsements: &[Authored],
    ) -> Result<Certified, PartyError> {
        let id = round.id();
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
        let seeds = self.open_seeds(round, &secret, headers)?;
        Ok(Certified {
            certificate,
            ledger,
            set,
            seeds,
        })
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
    ) -> Result<SealedStatement, PartyError> {
        let item = Item::Answer(pieces.to_vec());
        let answer = self.on_certificate(round, headers, endorsements, &item, pieces, custodian::answer)?;
        faults::reach("party.answer.stored");
        Ok(answer)
    }

    /// The word on every piece, once a sum did not open. `answered` are the pieces that this custodian answered for.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub fn check_keys(
        &self,
        round: &Round,
        headers: &[Authored],
        endorsements: &[Authored],
        answered: &[u32],
    ) -> Result<SealedStatement, PartyError> {
        let item = Item::KeyCheck(answered.to_vec());
        let make = cross_check::check_keys;
        self.on_certificate(round, headers, endorsements, &item, answered, make)
    }

    /// What this custodian sends of some pieces on a certificate: made once, the same statement ever after.
    fn on_certificate(
        &self,
        round: &Round,
        headers: &[Authored],
        endorsements: &[Authored],
        item: &Item,
        pieces: &[u32],
        make: OnCertificate,
    ) -> Result<SealedStatement, PartyError> {
        let id = round.id();
        if let Some(said) = self.vault.get(id, item)? {
            return postcard::from_bytes(&said).map_err(PartyError::internal);
        }
        let known = self.certified(round, headers, endorsements)?;
        let statement = make(
            round,
            &self.identity.name,
            &self.identity.signing,
            &known.ledger,
            &known.certificate,
            &known.set,
            &known.seeds,
            pieces,
        )
        .map_err(|error| set_refused(id, error))?;
        let mut batch = self.store.database().batch();
        self.vault.put(&mut batch, id, item, &encode(&statement)?)?;
        self.commit(batch, &known.ledger)?;
        Ok(statement)
    }

    /// The pieces that this custodian answered for in an attempt, ascending.
    pub fn answered(&self, id: RoundId) -> Result<Vec<u32>, PartyError> {
        let mut pieces: Vec<u32> = self.vault.answers(id)?.into_iter().flatten().collect();
        pieces.sort_unstable();
        pieces.dedup();
        Ok(pieces)
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
        self.change(&before, &ledger)
    }
}

/// [`custodian::answer`] or [`cross_check::check_keys`].
type OnCertificate = fn(
    &Round,
    &PartyId,
    &SigningKey,
    &LedgerState,
    &Certificate,
    &ContributionSet,
    &[OpenedSeeds],
    &[u32],
) -> Result<SealedStatement, CustodyError>;

/// What those need.
struct Certified {
    certificate: Certificate,
    ledger: LedgerState,
    set: ContributionSet,
    seeds: Vec<OpenedSeeds>,
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, PartyError> {
    postcard::to_stdvec(value).map_err(PartyError::internal)
}

fn refused(id: RoundId, error: LedgerError) -> PartyError {
    if matches!(
        error,
        LedgerError::Forgotten { .. } | LedgerError::Incarnation(_) | LedgerError::NoIncarnation
    ) {
        return PartyError::StandsAside(error);
    }
    PartyError::Untrue(format!("the custodian's ledger refuses this for {id}: {error}"))
}

fn set_refused(id: RoundId, error: impl std::fmt::Display) -> PartyError {
    PartyError::Untrue(format!("the set proposed for {id} must not be opened: {error}"))
}

#[cfg(test)]
mod tests;
