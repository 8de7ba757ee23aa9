//! Fingerprints: whether the sum that the coordinator serves is the sum of the contributions in the set.
//!
//! Once the record, the set S and the sum D are fixed, there is the challenge `H(record, S, D)`. A blob with coefficients `c_(j,k)`
//! modulo each prime q of the plan (block j, coefficient k) then has the fingerprint
//!
//! ```text
//! F[q][r] = sum over j and k of rho_(q,r)(j, k) * c_(j,k)  mod q,    r < R(q) = ceil(128 / floor(log2 q)),
//! ```
//!
//! with coefficients rho uniform modulo q, expanded from the challenge and independent for every prime, repetition, block and
//! coefficient. It is linear, so the fingerprints of the contributions add up to that of their sum. Each contributor of S that is
//! online signs the fingerprint of the ciphertexts that it sent; receivers compute that of the sum that they fetched, and of the
//! contributions of members that are gone, and add up.
//!
//! **What a wrong sum passes with.** Let D differ from the sum of the contributions, in some coefficient modulo some prime q. For
//! each r, `sum rho_(q,r) d` over the differences d is uniform modulo q, since rho is uniform at a place where d is not zero and
//! q is prime. So it is zero for all r with probability `q^-R(q)`, which is at most `2^-128`: R is such that `R floor(log2 q) >= 128`.
//! The coordinator chooses D, hence the challenge, and can try as many as it hashes: t tries pass with probability at most
//! `t 2^-128`, with the hash and the XOF taken as random functions. Three repetitions do for primes between 2^43 and 2^50.
//!
//! **What it does not say.** It binds the coordinator to what the members of S signed. A member that signs another fingerprint than
//! that of its ciphertexts makes an honest coordinator look guilty; [`check_sum`] tells the two apart once the receiver has fetched
//! that member's ciphertexts, whose digest the member signed before, and computed their fingerprint itself.
//!
//! A fingerprint reveals nothing that the ciphertexts do not, and those are public.

use crate::authored::{Authored, FINGERPRINT};
use crate::blob::{BlobReader, Subject};
use crate::contribution::ContributionHeader;
use crate::error::{BlobError, FingerprintFault, SetFault, SumsError};
use crate::round::Round;
use crate::set::{ContributionSet, Endorsement};
use galen_core::{Digest, PartyId, SigningKey, Transcript};
use galen_rns::kernel;
use galen_rns::modulus::Modulus;
use galen_rns::poly::{Coeff, Poly};
use galen_rns::sampling::uniform;
use galen_rns::xof::Xof;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

/// A wrong sum passes with probability below 2 to the minus this, for each try.
pub const SOUNDNESS_BITS: u32 = 128;

/// `R(q)`: how many independent combinations modulo a prime are taken.
pub fn repetitions(modulus: &Modulus) -> u32 {
    // The bits of a number are one more than the floor of its log2. Primes are above 2.
    SOUNDNESS_BITS.div_ceil(modulus.bits() - 1)
}

/// What the coefficients of a fingerprint are expanded from. It exists once the sum is fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    fixed: Endorsement,
    seed: Digest,
}

impl Challenge {
    /// The challenge for a record, set and sum.
    pub fn new(fixed: &Endorsement) -> Self {
        let seed = Transcript::new("galen sums fingerprint challenge v1")
            .field(&fixed.record.0)
            .field(&fixed.set.0)
            .field(&fixed.sum.0)
            .digest();
        Self {
            fixed: fixed.clone(),
            seed,
        }
    }

    /// The record, set and sum that it is for.
    pub fn fixed(&self) -> &Endorsement {
        &self.fixed
    }

    fn check(&self, round: &Round) -> Result<(), SumsError> {
        if self.fixed.record == *round.digest() {
            Ok(())
        } else {
            Err(SetFault::NotCertified.into())
        }
    }

    /// The coefficients rho of one block. Each block has a stream of its own, so that the order does not matter.
    fn coefficients(&self, modulus: &Modulus, repetition: u32, block: u32, out: &mut [u64]) {
        let domain: [&[u8]; 4] = [
            b"galen sums fingerprint coefficients v1",
            &modulus.value().to_le_bytes(),
            &repetition.to_le_bytes(),
            &block.to_le_bytes(),
        ];
        uniform(modulus, &mut Xof::new(&self.seed.0, &domain), out);
    }
}

/// The fingerprint of a blob under a challenge: for each prime in the order of the plan, its repetitions in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    values: Vec<u64>,
}

impl Fingerprint {
    /// That of a blob of zeros, to add to.
    pub fn zero(round: &Round) -> Self {
        Self {
            values: moduli(round).map(|_| 0).collect(),
        }
    }

    /// Adds another one of the same round and challenge.
    ///
    /// # Errors
    /// [`SumsError::Rns`] for a fingerprint that is not of the round's form; those of checked statements are.
    pub fn add(&mut self, round: &Round, other: &Self) -> Result<(), SumsError> {
        if !self.conforms(round) || !other.conforms(round) {
            return Err(galen_rns::RnsError::RingMismatch.into());
        }
        for ((sum, value), modulus) in self.values.iter_mut().zip(&other.values).zip(moduli(round)) {
            *sum = modulus.add(*sum, *value);
        }
        Ok(())
    }

    /// One residue for each prime and repetition.
    fn conforms(&self, round: &Round) -> bool {
        let below = |(value, modulus): (&u64, &Modulus)| *value < modulus.value();
        self.values.len() == moduli(round).count() && self.values.iter().zip(moduli(round)).all(below)
    }
}

/// The modulus of each value of a fingerprint.
fn moduli(round: &Round) -> impl Iterator<Item = &Modulus> {
    let of_prime = |modulus| std::iter::repeat_n(modulus, repetitions(modulus) as usize);
    round.ring().moduli().iter().flat_map(of_prime)
}

/// Computes a fingerprint from blocks as they pass, in any order, each once. For whoever reads a blob for another purpose too;
/// otherwise there are [`of_contribution`] and [`of_sum`].
pub struct Fingerprinter<'r> {
    round: &'r Round,
    challenge: &'r Challenge,
    /// The products so far, not yet added up over the coefficients: one row for each value of the fingerprint.
    rows: Vec<Vec<u64>>,
    coefficients: Vec<u64>,
}

impl<'r> Fingerprinter<'r> {
    /// The fingerprint of no block yet.
    ///
    /// # Errors
    /// [`SetFault::NotCertified`] for a challenge of another round.
    pub fn new(round: &'r Round, challenge: &'r Challenge) -> Result<Self, SumsError> {
        challenge.check(round)?;
        let degree = round.ring().degree();
        Ok(Self {
            round,
            challenge,
            rows: moduli(round).map(|_| vec![0; degree]).collect(),
            coefficients: vec![0; degree],
        })
    }

    /// Adds a block.
    ///
    /// # Errors
    /// [`SumsError::Rns`] for a block of another ring.
    pub fn absorb(&mut self, block: u32, polynomial: &Poly<Coeff>) -> Result<(), SumsError> {
        if polynomial.ring() != self.round.ring() {
            return Err(galen_rns::RnsError::RingMismatch.into());
        }
        let mut rows = self.rows.iter_mut();
        for (index, modulus) in self.round.ring().moduli().iter().enumerate() {
            let residues = polynomial.residues(index);
            for (repetition, row) in (0..repetitions(modulus)).zip(&mut rows) {
                combine(
                    self.challenge,
                    modulus,
                    repetition,
                    block,
                    residues,
                    &mut self.coefficients,
                    row,
                );
            }
        }
        Ok(())
    }

    /// The fingerprint of the blocks that were added.
    pub fn finish(self) -> Fingerprint {
        let total =
            |(row, modulus): (&Vec<u64>, &Modulus)| row.iter().fold(0, |sum, &value| modulus.add(sum, value));
        Fingerprint {
            values: self.rows.iter().zip(moduli(self.round)).map(total).collect(),
        }
    }
}

/// Adds `rho * c` to `row`, coefficient by coefficient.
fn combine(
    challenge: &Challenge,
    modulus: &Modulus,
    repetition: u32,
    block: u32,
    residues: &[u64],
    coefficients: &mut [u64],
    row: &mut [u64],
) {
    challenge.coefficients(modulus, repetition, block, coefficients);
    kernel::mul_add_assign(modulus, row, coefficients, residues);
}

/// The fingerprint of a contribution whose header was checked, from its blob, a block at a time.
///
/// # Errors
/// [`SumsError::Blob`] for a blob that does not conform or is not the one that the header names; [`SetFault::NotCertified`]
/// for a challenge of another round.
pub fn of_contribution(
    round: &Round,
    challenge: &Challenge,
    header: &ContributionHeader,
    blob: impl Read,
) -> Result<Fingerprint, SumsError> {
    let subject = Subject::Contribution(header.contributor.clone());
    of_blob(round, challenge, &subject, &header.ciphertext, blob)
        .map_err(|error| error.in_blob(&header.contributor))
}

/// The fingerprint of the sum that the challenge was made for, from its blob, a block at a time.
///
/// # Errors
/// Those of [`of_contribution`].
pub fn of_sum(round: &Round, challenge: &Challenge, blob: impl Read) -> Result<Fingerprint, SumsError> {
    let fixed = challenge.fixed();
    of_blob(round, challenge, &Subject::Sum(fixed.set), &fixed.sum, blob)
        .map_err(|error| error.in_blob("the sum"))
}

/// Either kind of failure: of the blob, whose name the caller knows, or another one.
enum Failure {
    Blob(BlobError),
    Sums(SumsError),
}

impl Failure {
    fn in_blob(self, whose: impl std::fmt::Display) -> SumsError {
        match self {
            Self::Blob(error) => SumsError::blob(whose, error),
            Self::Sums(error) => error,
        }
    }
}

impl From<BlobError> for Failure {
    fn from(error: BlobError) -> Self {
        Self::Blob(error)
    }
}

impl From<SumsError> for Failure {
    fn from(error: SumsError) -> Self {
        Self::Sums(error)
    }
}

fn of_blob(
    round: &Round,
    challenge: &Challenge,
    subject: &Subject,
    announced: &Digest,
    blob: impl Read,
) -> Result<Fingerprint, Failure> {
    let mut fingerprinter = Fingerprinter::new(round, challenge)?;
    let mut reader = BlobReader::new(round, subject, blob)?;
    let mut block = Poly::zero(round.ring());
    for index in 0..round.plan().blocks() {
        reader.read_block(&mut block)?;
        fingerprinter.absorb(index, &block)?;
    }
    reader.finish_with(announced)?;
    Ok(fingerprinter.finish())
}

/// A contributor's word on the fingerprint of its own contribution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FingerprintStatement {
    /// Digest of the round record.
    pub record: Digest,
    /// Digest of the set.
    pub set: Digest,
    /// Digest of the sum blob.
    pub sum: Digest,
    /// Whose contribution it is.
    pub contributor: PartyId,
    /// Its fingerprint.
    pub values: Fingerprint,
}

impl FingerprintStatement {
    /// Signs the fingerprint of the contributor's own contribution.
    ///
    /// # Errors
    /// [`SumsError::Signature`] if it cannot be encoded.
    pub fn sign(
        round: &Round,
        challenge: &Challenge,
        contributor: &PartyId,
        key: &SigningKey,
        fingerprint: &Fingerprint,
    ) -> Result<Authored, SumsError> {
        let fixed = challenge.fixed();
        let statement = Self {
            record: fixed.record,
            set: fixed.set,
            sum: fixed.sum,
            contributor: contributor.clone(),
            values: fingerprint.clone(),
        };
        Authored::sign(key, contributor, FINGERPRINT, round.roster().study(), &statement)
    }
}

/// Checks a contributor's statement: signature, role, challenge and form; returns the fingerprint that it claims.
///
/// # Errors
/// What does not hold, naming the contributor.
pub fn check_fingerprint(
    round: &Round,
    challenge: &Challenge,
    authored: &Authored,
) -> Result<Fingerprint, SumsError> {
    challenge.check(round)?;
    let author = &authored.author;
    if !round.roster().is_contributor(author) {
        return Err(SumsError::Role {
            party: author.clone(),
            role: "contributor",
        });
    }
    let said: FingerprintStatement = authored.open(round.roster(), FINGERPRINT)?;
    let refuse = |what| {
        Err(SumsError::Header {
            kind: "fingerprint",
            author: author.clone(),
            what,
        })
    };
    if said.contributor != *author {
        return refuse("it names another contributor than its signer");
    }
    if said.record != *round.digest() {
        return Err(SumsError::Record {
            author: author.clone(),
        });
    }
    let fixed = challenge.fixed();
    if (said.set, said.sum) != (fixed.set, fixed.sum) {
        return Err(SetFault::NotCertified.into());
    }
    if !said.values.conforms(round) {
        return refuse("it does not have one residue for each prime and repetition");
    }
    Ok(said.values)
}

/// Whether a sum is that of the contributions in its set: the fingerprints of all members must add up to `sum`, which the caller
/// computed from the blob that it fetched ([`of_sum`]).
///
/// A member's fingerprint comes from its statement, or is in `computed`: there the caller puts what it computed itself from a
/// contribution that it fetched ([`of_contribution`]), of members that made no statement, and of every member once the check has failed.
///
/// # Errors
/// [`SumsError::Fingerprint`]: [`FingerprintFault::Missing`] for a member without either, [`FingerprintFault::False`] for a member that
/// signed another fingerprint than the computed one, and [`FingerprintFault::Sum`], which is the coordinator's fault if the
/// members that only made statements are honest, and certainly if every member's fingerprint was computed. Others as in
/// [`check_fingerprint`].
pub fn check_sum(
    round: &Round,
    set: &ContributionSet,
    challenge: &Challenge,
    statements: &[Authored],
    computed: &BTreeMap<PartyId, Fingerprint>,
    sum: &Fingerprint,
) -> Result<(), SumsError> {
    set.check(round)?;
    if challenge.fixed().set != set.digest() {
        return Err(SetFault::NotCertified.into());
    }
    if let Some(stranger) = computed.keys().find(|name| !set.members.contains_key(*name)) {
        return Err(FingerprintFault::Stranger(stranger.clone()).into());
    }
    let mut total = Fingerprint::zero(round);
    let mut said = BTreeSet::new();
    for authored in statements {
        let author = &authored.author;
        let claimed = check_fingerprint(round, challenge, authored)?;
        if !set.members.contains_key(author) {
            return Err(FingerprintFault::Stranger(author.clone()).into());
        }
        if !said.insert(author) {
            return Err(FingerprintFault::Repeated(author.clone()).into());
        }
        match computed.get(author) {
            Some(own) if *own != claimed => return Err(FingerprintFault::False(author.clone()).into()),
            Some(_) => {}
            None => total.add(round, &claimed)?,
        }
    }
    for name in set.members.keys() {
        match computed.get(name) {
            Some(own) => total.add(round, own)?,
            None if said.contains(name) => {}
            None => return Err(FingerprintFault::Missing(name.clone()).into()),
        }
    }
    if total == *sum {
        Ok(())
    } else {
        Err(FingerprintFault::Sum.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_rns::primes::ntt_primes;
    use proptest::prelude::*;

    fn challenge(number: u32) -> Challenge {
        Challenge::new(&Endorsement {
            record: Digest::of(b"record"),
            set: Digest::of(b"set"),
            sum: Digest::of(&number.to_le_bytes()),
        })
    }

    /// One value of the fingerprint of some blocks.
    fn value(challenge: &Challenge, modulus: &Modulus, repetition: u32, blocks: &[Vec<u64>]) -> u64 {
        let width = blocks[0].len();
        let (mut coefficients, mut row) = (vec![0; width], vec![0; width]);
        for (block, residues) in (0..).zip(blocks) {
            combine(
                challenge,
                modulus,
                repetition,
                block,
                residues,
                &mut coefficients,
                &mut row,
            );
        }
        row.iter().fold(0, |sum, &value| modulus.add(sum, value))
    }

    #[test]
    fn enough_repetitions_for_every_prime() {
        for (bits, expected) in [(20, 7), (31, 5), (32, 5), (33, 4), (44, 3), (49, 3), (50, 3)] {
            let modulus = Modulus::new(ntt_primes(4096, bits, 1, &[]).unwrap()[0]).unwrap();
            assert_eq!(repetitions(&modulus), expected, "{bits} bits");
            // 1/q^R <= 2^-128.
            let log2 = (modulus.value() as f64).log2();
            assert!(f64::from(expected) * log2 >= 128.0);
        }
    }

    /// With a small modulus and a single repetition one wrong sum in q passes, as the bound says: what finds the others
    /// is the combination, and what makes the bound small are large primes and repetitions.
    #[test]
    fn one_in_q_slips_through_one_repetition() {
        let modulus = Modulus::new(257).unwrap();
        let honest = vec![vec![5, 0, 256, 17], vec![1, 2, 3, 4]];
        let mut wrong = honest.clone();
        wrong[1][2] = 200;
        wrong[0][1] = 9;
        let tries = 50 * 257;
        let pass = |repetitions: u32| {
            (0..tries)
                .filter(|&number| {
                    let challenge = challenge(number);
                    (0..repetitions).all(|r| {
                        value(&challenge, &modulus, r, &honest) == value(&challenge, &modulus, r, &wrong)
                    })
                })
                .count()
        };
        // 50 are expected, with a standard deviation of 7.
        let passed = pass(1);
        assert!((15..=85).contains(&passed), "{passed}");
        // A second repetition leaves one in 66,049.
        assert!(pass(2) <= 4);
        assert_eq!(pass(4), 0);
    }

    #[test]
    fn coefficients_differ_in_every_respect() {
        let moduli: Vec<Modulus> = ntt_primes(4096, 40, 2, &[])
            .unwrap()
            .into_iter()
            .map(|prime| Modulus::new(prime).unwrap())
            .collect();
        let mut seen = BTreeSet::new();
        for number in 0..2 {
            for modulus in &moduli {
                for repetition in 0..2 {
                    for block in 0..2 {
                        let mut out = [0; 8];
                        challenge(number).coefficients(modulus, repetition, block, &mut out);
                        assert!(out.iter().all(|value| *value < modulus.value()));
                        assert!(out.iter().all(|value| seen.insert(*value)));
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn linear(a in prop::collection::vec(0u64..257, 24), b in prop::collection::vec(0u64..257, 24), number: u32) {
            let modulus = Modulus::new(257).unwrap();
            let blocks = |values: &[u64]| -> Vec<Vec<u64>> { values.chunks(8).map(<[u64]>::to_vec).collect() };
            let sum: Vec<u64> = a.iter().zip(&b).map(|(&a, &b)| modulus.add(a, b)).collect();
            let of = |values: &[u64]| value(&challenge(number), &modulus, 0, &blocks(values));
            prop_assert_eq!(of(&sum), modulus.add(of(&a), of(&b)));
        }
    }
}
