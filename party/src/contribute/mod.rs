//! Contributing: compute the round's values, encrypt them once, send exactly those bytes.
//!
//! [`values`] computes what a round adds up, [`state`] is the state machine of one contribution, and [`Contributor`] joins
//! them with the store. The values of a round are computed once, and every attempt encrypts them afresh; one attempt's
//! bytes are drawn once, and every resend sends them again, because one key must never cover two updates.

pub mod state;
pub mod values;

use crate::error::PartyError;
use crate::identity::Identity;
use crate::vault::{Item, Vault};
use galen_core::{Digest, faults};
use galen_store::{Repository, Store, Table};
use galen_sums::{Authored, ContributionHeader, Round, RoundId};
use serde::{Deserialize, Serialize};
use state::{Event, State};
use std::sync::Arc;

const CONTRIBUTIONS: Table<Contribution> = Table::new("contributions", *b"CONT", 1);

/// What is known of a contribution when its bytes are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contribution {
    /// Where it stands.
    pub state: State,
    /// The round record it was encrypted for.
    pub record: Digest,
}

/// Bytes to send.
pub struct Parcel {
    /// The signed header.
    pub header: Authored,
    /// Digest of the ciphertexts.
    pub digest: Digest,
    /// The ciphertexts.
    pub ciphertext: Arc<[u8]>,
}

impl std::fmt::Debug for Parcel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Parcel({})", self.digest.short())
    }
}

/// The contributor's side of the rounds. Calls block.
pub struct Contributor {
    identity: Arc<Identity>,
    store: Store,
    vault: Vault,
    contributions: Repository<Contribution>,
}

fn key(id: RoundId) -> Vec<u8> {
    [id.round.to_be_bytes(), id.attempt.to_be_bytes()].concat()
}

fn id_of(key: &[u8]) -> Option<RoundId> {
    let (round, attempt) = key.split_first_chunk::<4>()?;
    Some(RoundId {
        round: u32::from_be_bytes(*round),
        attempt: u32::from_be_bytes(attempt.try_into().ok()?),
    })
}

impl Contributor {
    /// Opens the contributor's records.
    pub fn open(store: &Store, identity: Arc<Identity>) -> Result<Self, PartyError> {
        Ok(Self {
            identity,
            vault: Vault::open(store)?,
            contributions: store.database().repository(&CONTRIBUTIONS)?,
            store: store.clone(),
        })
    }

    /// The contribution to a round: the one drawn before, or a new one over what `compute` gives.
    ///
    /// # Errors
    /// If a contribution was drawn for another record of the same attempt: an honest coordinator makes one record per attempt.
    pub fn parcel(
        &self,
        round: &Round,
        compute: impl FnOnce() -> Result<Vec<i64>, PartyError>,
    ) -> Result<Parcel, PartyError> {
        let id = round.id();
        if let Some(drawn) = self.contributions.get(key(id))? {
            if drawn.record != *round.digest() {
                return Err(PartyError::Untrue(format!(
                    "the coordinator made two records for {id}"
                )));
            }
            if !drawn.state.may_be_sent() {
                return Err(PartyError::Untrue(format!(
                    "the contribution to {id} is {:?} and is asked for again",
                    drawn.state
                )));
            }
            return self.kept(id);
        }
        let values = match self.vault.values(id.round)? {
            Some(values) => values,
            None => {
                let values = zeroize::Zeroizing::new(compute()?);
                self.vault.keep_values(id.round, &values)?;
                values
            }
        };
        let mut ciphertext = Vec::with_capacity(round.plan().blob_len() as usize);
        let (name, signing) = (&self.identity.name, &self.identity.signing);
        let header = galen_custody::contribute::encrypt(round, name, signing, &values, &mut ciphertext)
            .map_err(PartyError::internal)?;
        let mut batch = self.store.database().batch();
        self.vault.put(
            &mut batch,
            id,
            &Item::Header,
            &postcard::to_stdvec(&header).map_err(PartyError::internal)?,
        )?;
        self.vault.put(&mut batch, id, &Item::Ciphertext, &ciphertext)?;
        batch.put(
            &self.contributions,
            key(id),
            &Contribution {
                state: State::Drawn,
                record: *round.digest(),
            },
        )?;
        batch.commit()?;
        faults::reach("party.contribution.drawn");
        self.kept(id)
    }

    /// The contribution to an attempt as it was sent; `None` if there is none or its bytes are erased.
    pub fn sent(&self, id: RoundId) -> Result<Option<Parcel>, PartyError> {
        if self.vault.get(id, &Item::Header)?.is_none() {
            return Ok(None);
        }
        self.kept(id).map(Some)
    }

    fn kept(&self, id: RoundId) -> Result<Parcel, PartyError> {
        let gone = || {
            PartyError::Untrue(format!(
                "the contribution to {id} is asked for after it was erased"
            ))
        };
        let header = self.vault.get(id, &Item::Header)?.ok_or_else(gone)?;
        let header: Authored = postcard::from_bytes(&header).map_err(PartyError::internal)?;
        let said: ContributionHeader = header.statement.read_unverified().map_err(PartyError::internal)?;
        let ciphertext = self.vault.get(id, &Item::Ciphertext)?.ok_or_else(gone)?;
        Ok(Parcel {
            header,
            digest: said.ciphertext,
            ciphertext: Arc::from(ciphertext.as_slice()),
        })
    }

    /// Notes that the coordinator accepted a contribution.
    pub fn accepted(&self, id: RoundId) -> Result<(), PartyError> {
        self.note(id, &[Event::Accepted])?;
        faults::reach("party.contribution.sent");
        Ok(())
    }

    /// Notes that a contribution is part of an opened sum.
    pub fn opened(&self, id: RoundId) -> Result<(), PartyError> {
        if self.contributions.contains(key(id))? {
            self.note(id, &[Event::Opened])
        } else {
            Ok(())
        }
    }

    /// Notes the end of all contributions to attempts before this one, whose bytes the vault has erased.
    pub fn erased_before(&self, before: RoundId) -> Result<(), PartyError> {
        let live: Vec<(RoundId, State)> = self
            .contributions
            .iter()
            .filter_map(|entry| match entry {
                Ok((key, contribution)) => id_of(&key).map(|id| Ok((id, contribution.state))),
                Err(error) => Some(Err(error)),
            })
            .collect::<Result<_, _>>()?;
        for (id, state) in live
            .into_iter()
            .filter(|(id, state)| *id < before && *state != State::Erased)
        {
            let passed: &[Event] = match state {
                State::Drawn | State::Sent => &[Event::Passed, Event::Erased],
                _ => &[Event::Erased],
            };
            self.note(id, passed)?;
        }
        Ok(())
    }

    /// Goes over to a successor of the study: forgets what was drawn for its rounds under the old one, whose bytes the vault has erased.
    pub fn succeed(&self, first_round: u32) -> Result<(), PartyError> {
        let mut batch = self.store.database().batch();
        for stored in self.contributions.keys(&[]) {
            let stored = stored?;
            if id_of(&stored).is_some_and(|id| id.round >= first_round) {
                batch.delete(&self.contributions, stored);
            }
        }
        batch.commit()?;
        self.erased_before(RoundId {
            round: first_round,
            attempt: 0,
        })
    }

    fn note(&self, id: RoundId, events: &[Event]) -> Result<(), PartyError> {
        let stored = self.contributions.get(key(id))?;
        let mut contribution =
            stored.ok_or_else(|| PartyError::Internal(format!("no contribution to {id}")))?;
        for event in events {
            contribution.state = contribution.state.after(*event).map_err(PartyError::internal)?;
        }
        Ok(self.contributions.put(key(id), &contribution)?)
    }

    /// Where the contribution to an attempt stands.
    pub fn state(&self, id: RoundId) -> Result<Option<State>, PartyError> {
        Ok(self
            .contributions
            .get(key(id))?
            .map(|contribution| contribution.state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::federation::Federation;
    use std::cell::Cell;

    const VALUES: [i64; 5] = [3, 4, 7, 1000, -2000];

    #[test]
    fn a_resend_is_identical_and_another_attempt_is_fresh() {
        let mut federation = Federation::new();
        let base = Digest::of(b"base");
        let round = federation.statistics_round(0, base);
        let computed = Cell::new(0);
        let compute = || {
            computed.set(computed.get() + 1);
            Ok(VALUES.to_vec())
        };
        let first = federation.members[0].contributor.parcel(&round, compute).unwrap();
        federation.restart();
        let contributor = &federation.members[0].contributor;
        let again = contributor.parcel(&round, compute).unwrap();
        assert_eq!(
            (&first.header, &first.ciphertext),
            (&again.header, &again.ciphertext)
        );
        contributor.accepted(round.id()).unwrap();
        assert_eq!(
            contributor.parcel(&round, compute).unwrap().ciphertext,
            first.ciphertext
        );
        // The values of a round are computed once; what covers them is new in every attempt.
        let next = federation.statistics_round(1, base);
        let fresh = contributor.parcel(&next, compute).unwrap();
        assert_ne!(fresh.ciphertext, first.ciphertext);
        assert_eq!(computed.get(), 1);
        assert_eq!(Digest::of(&fresh.ciphertext), fresh.digest);
        assert!(!format!("{fresh:?}").contains("ciphertext"));
    }

    #[test]
    fn one_attempt_has_one_record() {
        let federation = Federation::new();
        let round = federation.statistics_round(0, Digest::of(b"base"));
        let other = federation.statistics_round(0, Digest::of(b"other base"));
        let contributor = &federation.members[0].contributor;
        contributor.parcel(&round, || Ok(VALUES.to_vec())).unwrap();
        let error = contributor.parcel(&other, || Ok(VALUES.to_vec())).unwrap_err();
        assert!(error.to_string().contains("two records"), "{error}");
    }

    #[test]
    fn what_is_over_is_erased_and_never_sent_again() {
        let mut federation = Federation::new();
        let base = Digest::of(b"base");
        let rounds: Vec<Round> = (0..3)
            .map(|attempt| federation.statistics_round(attempt, base))
            .collect();
        for round in &rounds {
            federation.members[0]
                .contributor
                .parcel(round, || Ok(VALUES.to_vec()))
                .unwrap();
        }
        federation.members[0].contributor.opened(rounds[1].id()).unwrap();
        // Nothing was contributed to this one; noting that it was opened is no harm.
        federation.members[1].contributor.opened(rounds[1].id()).unwrap();
        let before = RoundId { round: 0, attempt: 2 };
        for _ in 0..2 {
            let member = &federation.members[0];
            member.vault.erase_before(before).unwrap();
            member.contributor.erased_before(before).unwrap();
            federation.restart();
        }
        let contributor = &federation.members[0].contributor;
        // A party that was away may take the sum in when its bytes are long erased.
        contributor.opened(rounds[1].id()).unwrap();
        for (round, state) in rounds.iter().zip([State::Erased, State::Erased, State::Drawn]) {
            assert_eq!(contributor.state(round.id()).unwrap(), Some(state));
            let parcel = contributor.parcel(round, || Err(PartyError::Internal("computed again".into())));
            assert_eq!(parcel.is_ok(), state == State::Drawn, "{}", round.id());
        }
        assert!(
            federation.members[0]
                .vault
                .get(rounds[0].id(), &Item::Ciphertext)
                .unwrap()
                .is_none()
        );
        assert!(
            federation.members[0]
                .vault
                .get(rounds[1].id(), &Item::Header)
                .unwrap()
                .is_none()
        );
    }
}
