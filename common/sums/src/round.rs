//! A round whose record has been verified: what every later step starts from.

use crate::abandon::check_abandonment;
use crate::authored::{ONE_ROUND_KEY, ROUND_RECORD};
use crate::error::{SetFault, SumsError};
use crate::incarnation::check_confirmations;
use crate::pieces::Assignment;
use crate::plan::{PlanInputs, SumPlan};
use crate::record::{Earlier, OneRoundKey, RoundId, RoundRecord};
use crate::roster::Roster;
use galen_core::{Digest, PartyId, Signed};
use galen_rns::poly::{Coeff, Eval, Poly};
use galen_rns::ring::Ring;
use galen_rns::sampling::uniform;
use galen_rns::xof::Xof;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Which custodian answers for which pieces.
pub type Assignments = BTreeMap<PartyId, Vec<u32>>;

/// A verified round record, with the roster and ring that belong to it.
#[derive(Clone, Debug)]
pub struct Round {
    roster: Arc<Roster>,
    record: RoundRecord,
    digest: Digest,
    custodians: BTreeMap<PartyId, [u8; 32]>,
    keys: BTreeMap<PartyId, OneRoundKey>,
    ring: Arc<Ring>,
}

impl Round {
    /// Verifies a record: the coordinator's signature, the study, the plan against inputs that the caller derived from
    /// the study, the custodians' keys and incarnations, and what became of earlier attempts. The caller compares round, purpose
    /// and base model with what it expects.
    ///
    /// # Errors
    /// What does not hold. A record needs the agreement g of custodians, a holder of every piece among them, g-1 others'
    /// word for the incarnation of each, and the end of every earlier attempt.
    pub fn open(roster: &Arc<Roster>, signed: &Signed, expected: &PlanInputs) -> Result<Self, SumsError> {
        let record: RoundRecord = signed
            .open(ROUND_RECORD, roster.study(), roster.coordinator())
            .map_err(|source| SumsError::Signature {
                author: "coordinator".into(),
                source,
            })?;
        if record.study != *roster.study() {
            return Err(SumsError::Study {
                found: record.study,
                expected: *roster.study(),
            });
        }
        record.plan.check(expected)?;
        let keys = custodian_keys(roster, &record)?;
        check_confirmations(roster, &keys, &record.confirmations)?;
        check_earlier(roster, &record)?;
        let custodians = keys.iter().map(|(name, key)| (name.clone(), key.key)).collect();
        let ring = Ring::new(record.plan.degree as usize, &record.plan.primes)?;
        let digest = record.digest()?;
        Ok(Self {
            roster: Arc::clone(roster),
            record,
            digest,
            custodians,
            keys,
            ring,
        })
    }

    /// The record.
    pub fn record(&self) -> &RoundRecord {
        &self.record
    }

    /// Its digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Round and attempt.
    pub fn id(&self) -> RoundId {
        self.record.round
    }

    /// Parameters of the sum.
    pub fn plan(&self) -> &SumPlan {
        &self.record.plan
    }

    /// The study's members.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The one-round keys of this round's custodians.
    pub fn custodians(&self) -> &BTreeMap<PartyId, [u8; 32]> {
        &self.custodians
    }

    /// The custodians' statements of these keys, with the incarnations under which they were given out.
    pub fn keys(&self) -> &BTreeMap<PartyId, OneRoundKey> {
        &self.keys
    }

    /// The ring of the ciphertexts.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// The pieces that a custodian holds.
    pub fn held_by(&self, custodian: &PartyId) -> &[u32] {
        let index = self.roster.custodian_index(custodian);
        index.map_or(&[], |index| self.roster.pieces().held_by(index))
    }

    /// Divides all pieces among the available custodians of this round; `None` if they do not hold all pieces.
    pub fn assign(&self, available: &BTreeSet<PartyId>) -> Option<Assignments> {
        let usable = available
            .iter()
            .filter(|party| self.custodians.contains_key(*party));
        let numbers = usable
            .filter_map(|party| self.roster.custodian_index(party))
            .collect();
        Some(self.named(self.roster.pieces().assign(&numbers)?))
    }

    fn named(&self, assignments: Vec<Assignment>) -> Assignments {
        let named = assignments.into_iter().filter_map(|assignment| {
            let name = self.roster.custodians().get(assignment.custodian)?;
            Some((name.clone(), assignment.pieces))
        });
        named.collect()
    }

    /// The common polynomial `a_j` of block j: uniform, and the same for everyone. It is expanded as coefficients, so
    /// that it does not depend on the order in which a transform lists its values.
    pub fn common_polynomial(&self, block: u32) -> Poly<Eval> {
        common_coefficients(&self.digest, block, &self.ring).into_eval()
    }
}

/// The coefficients of `a_j` for a record's digest.
pub fn common_coefficients(record: &Digest, block: u32, ring: &Arc<Ring>) -> Poly<Coeff> {
    let mut polynomial = Poly::<Coeff>::zero(ring);
    for (index, modulus) in ring.moduli().iter().enumerate() {
        let domain: [&[u8]; 3] = [
            b"galen sums common polynomial v1",
            &block.to_le_bytes(),
            &modulus.value().to_le_bytes(),
        ];
        uniform(
            modulus,
            &mut Xof::new(&record.0, &domain),
            polynomial.residues_mut(index),
        );
    }
    polynomial
}

fn check_earlier(roster: &Roster, record: &RoundRecord) -> Result<(), SumsError> {
    let id = record.round;
    if record.earlier.len() != id.attempt as usize {
        return Err(SumsError::Earlier(id));
    }
    for (attempt, earlier) in (0..).zip(&record.earlier) {
        match earlier {
            Earlier::Abandoned(statements) => {
                check_abandonment(roster, RoundId { attempt, ..id }, statements)?;
            }
            Earlier::Standing(members) => {
                if let Some(stranger) = members.iter().find(|name| !roster.is_contributor(name)) {
                    return Err(SetFault::Stranger(stranger.clone()).into());
                }
            }
        }
    }
    Ok(())
}

fn custodian_keys(
    roster: &Roster,
    record: &RoundRecord,
) -> Result<BTreeMap<PartyId, OneRoundKey>, SumsError> {
    let mut keys = BTreeMap::new();
    for authored in &record.custodians {
        let author = &authored.author;
        if roster.custodian_index(author).is_none() {
            return Err(SumsError::Role {
                party: author.clone(),
                role: "custodian",
            });
        }
        let key: OneRoundKey = authored.open(roster, ONE_ROUND_KEY)?;
        if key.round != record.round || key.custodian != *author {
            return Err(SumsError::Record {
                author: author.clone(),
            });
        }
        if keys.insert(author.clone(), key).is_some() {
            return Err(SumsError::Custodians("one of them occurs twice"));
        }
    }
    let distinct: BTreeSet<&[u8; 32]> = keys.values().map(|key| &key.key).collect();
    if distinct.len() != keys.len() {
        return Err(SumsError::Custodians("two of them share a key"));
    }
    if keys.len() < roster.agreement() {
        return Err(SumsError::Custodians("fewer than the agreement asks for"));
    }
    let numbers: BTreeSet<usize> = keys
        .keys()
        .filter_map(|party| roster.custodian_index(party))
        .collect();
    let pieces = roster.pieces();
    let uncovered = |piece: u32| {
        pieces
            .holders(piece)
            .iter()
            .all(|holder| !numbers.contains(holder))
    };
    if (0..pieces.len() as u32).any(uncovered) {
        return Err(SumsError::Custodians("some piece has no holder among them"));
    }
    Ok(keys)
}
