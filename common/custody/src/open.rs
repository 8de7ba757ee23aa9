//! Opening a sum, as a receiver: unseal the custodians' answers, subtract the summed key, check every remainder.

use crate::custodian::{answer_context, terms};
use crate::error::CustodyError;
use crate::identity::ReceiverKey;
use crate::key_sum::{KeySum, encoding_digest};
use galen_core::{Digest, PartyId};
use galen_rns::basis::Composer;
use galen_rns::poly::{Coeff, Poly};
use galen_rns::ring::Ring;
use galen_sums::blob::{BlobReader, Subject};
use galen_sums::{Certificate, ContributionSet, Round, SealedStatement, SumPlan, check_answer};
use std::io::Read;
use zeroize::Zeroizing;

/// An opened sum. Debug prints neither the sums nor the opening secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Opened {
    /// The sums of the fixed-point values, exact.
    pub values: Vec<i64>,
    /// The largest remainder that was seen; the plan's noise bound is its limit.
    pub max_noise: u64,
    /// The sum of the squares of all remainders, filling included.
    pub noise_squares: u128,
    /// Hash of the round record and the total key sum. Every receiver has the same, whichever custodians answered for which
    /// pieces and whenever it opens the round. It has the entropy of the one-round keys: the coordinator lacks every piece, and
    /// with up to t-1 custodians it still lacks one. So what is published about the sums (their digest, say) can be made
    /// unguessable by hashing this into it. It must not leave the receivers itself.
    pub opening_secret: Digest,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opened({} values)", self.values.len())
    }
}

impl Opened {
    /// Root of the mean square of the remainders. Of C contributors it is close to `4.6 sqrt(C)`.
    pub fn noise_rms(&self, plan: &SumPlan) -> f64 {
        let coefficients = f64::from(plan.blocks()) * f64::from(plan.degree);
        (self.noise_squares as f64 / coefficients).sqrt()
    }
}

/// Opens the answers that were sealed to `me`, and adds them.
///
/// # Errors
/// [`CustodyError::Pieces`] unless they cover every piece exactly once; [`CustodyError::Answer`], which names the
/// custodian; [`CustodyError::Carried`] for a sealed text that is not the one signed; those of [`galen_sums::check_answer`].
pub fn open_answers(
    round: &Round,
    certificate: &Certificate,
    set: &ContributionSet,
    me: &PartyId,
    key: &ReceiverKey,
    answers: &[SealedStatement],
) -> Result<KeySum, CustodyError> {
    certificate.check_set(round, set)?;
    let mut covered = vec![0usize; round.roster().pieces().len()];
    let mut headers = Vec::with_capacity(answers.len());
    for given in answers {
        let answer = check_answer(round, certificate, &given.said)?;
        for &piece in &answer.pieces {
            if let Some(times) = covered.get_mut(piece as usize) {
                *times += 1;
            }
        }
        headers.push((answer, &given.texts));
    }
    if let Some((piece, &times)) = (0..).zip(&covered).find(|(_, times)| **times != 1) {
        return Err(CustodyError::Pieces { piece, times });
    }

    let degree = round.plan().degree as usize;
    let mut total = KeySum::zero(degree);
    for (answer, texts) in headers {
        let bad = |what| CustodyError::Answer {
            custodian: answer.custodian.clone(),
            what,
        };
        let context = answer_context(certificate.endorsement(), &answer.custodian, &answer.pieces, me);
        let carried = || CustodyError::Carried {
            custodian: answer.custodian.clone(),
        };
        let sealed = answer.sealed.own(me, texts).ok_or_else(carried)?;
        let encoding = key
            .pair()
            .open(&context, sealed)
            .ok_or_else(|| bad("does not open"))?;
        if encoding_digest(round.digest(), &encoding) != answer.key_sum {
            return Err(bad("is not the polynomial that it signed"));
        }
        let part = KeySum::decode(degree, terms(set, &answer.pieces), &encoding)
            .ok_or_else(|| bad("is not a short polynomial"))?;
        total.add(&part);
    }
    Ok(total)
}

/// Opens the certified sum blob with the summed key, a block at a time.
///
/// # Errors
/// [`galen_sums::SumsError::Blob`] for a blob that does not conform or is not the certified one;
/// [`CustodyError::Remainder`] if any remainder is above the plan's noise bound, any sum is beyond what its
/// contributors can add up to, or the filling of the last block is not zero. No values are returned then.
pub fn open_sum(
    round: &Round,
    certificate: &Certificate,
    set: &ContributionSet,
    key: &KeySum,
    sum: impl Read,
) -> Result<Opened, CustodyError> {
    certificate.check_set(round, set)?;
    let of_sum = |error| CustodyError::blob("the sum", error);
    let plan = round.plan();
    let opening_secret = key.opening_secret(round.digest());
    let key = key.transformed(round)?;
    let mut reader = BlobReader::new(round, &Subject::Sum(set.digest()), sum).map_err(of_sum)?;
    let rounding = Rounding::new(round.ring(), plan.delta)?;
    let contributors = set.len() as u64;
    let mut bounds = plan.bounds();
    let mut opened = Opened {
        values: Vec::with_capacity(plan.values() as usize),
        max_noise: 0,
        noise_squares: 0,
        opening_secret,
    };
    let (mut bad, mut first_bad) = (0u64, None);
    let mut block = Poly::<Coeff>::zero(round.ring());
    for index in 0..plan.blocks() {
        reader.read_block(&mut block).map_err(of_sum)?;
        let mut mask = round.common_polynomial(index);
        mask.mul_assign(&key)?;
        // Whoever has this product and a_j has the summed key.
        let mask = Zeroizing::new(mask.into_coeff());
        block.sub_assign(&mask)?;
        for coefficient in 0..plan.degree as usize {
            let (value, noise) = rounding.split(&block, coefficient)?;
            // Beyond the last value the block was filled up with zeros.
            let bound = bounds.next();
            let fits = value.unsigned_abs() <= largest_sum(bound, contributors) && noise <= plan.noise_bound;
            match (fits, bound) {
                (false, _) => {
                    bad += 1;
                    first_bad.get_or_insert(index);
                }
                (true, Some(_)) => opened.values.push(value),
                (true, None) => {}
            }
            opened.max_noise = opened.max_noise.max(noise);
            opened.noise_squares += u128::from(noise) * u128::from(noise);
        }
    }
    // First of all the digest: a blob that was damaged on its way is not the contributors' fault.
    reader
        .finish_with(&certificate.endorsement().sum)
        .map_err(of_sum)?;
    match first_bad {
        Some(block) => Err(CustodyError::Remainder { bad, block }),
        None => Ok(opened),
    }
}

/// Splits a centred coefficient into the multiple of delta and the remainder.
struct Rounding {
    composer: Composer,
    shift: u32,
}

impl Rounding {
    fn new(ring: &Ring, delta: u64) -> Result<Self, CustodyError> {
        Ok(Self {
            composer: Composer::new(ring.moduli())?,
            shift: delta.trailing_zeros(),
        })
    }

    /// The rounded value and the absolute remainder.
    fn split(&self, block: &Poly<Coeff>, at: usize) -> Result<(i64, u64), CustodyError> {
        let degree = block.ring().degree();
        let data = block.data();
        let centred = match data.get(at + degree) {
            Some(&second) => self.composer.compose_centered(&[data[at], second])?,
            None => self.composer.compose_centered(&[data[at]])?,
        };
        let half = 1i128 << self.shift >> 1;
        let value = (centred + half) >> self.shift;
        let noise = (centred - (value << self.shift)).unsigned_abs() as u64;
        // Out of range values are refused by their size, which saturation keeps.
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        Ok((value, noise))
    }
}

/// The largest sum that values up to `bound` can have; zero for filling.
fn largest_sum(bound: Option<u64>, contributors: u64) -> u64 {
    bound.map_or(0, |bound| bound.saturating_mul(contributors))
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_rns::poly::Poly;
    use galen_rns::primes::ntt_primes;
    use galen_sums::{PlanInputs, ValueRange};
    use proptest::prelude::*;

    fn plan(contributors: u32, max_abs: u64) -> SumPlan {
        let inputs = PlanInputs {
            contributors,
            ranges: vec![ValueRange {
                count: 100,
                max_abs,
                fraction_bits: 0,
            }],
            study_coefficients: 1 << 24,
            custodians: 9,
            threshold: 5,
        };
        SumPlan::new(&inputs).unwrap()
    }

    /// What a receiver reads where the summed plaintext is `delta * value + noise`.
    fn split(primes: &[u64], delta: u64, value: i64, noise: i64) -> (i64, u64) {
        let ring = Ring::new(4096, primes).unwrap();
        let mut block = Poly::<Coeff>::zero(&ring);
        let exact = i128::from(delta) * i128::from(value) + i128::from(noise);
        for (index, modulus) in ring.moduli().iter().enumerate() {
            block.residues_mut(index)[7] = modulus.reduce_i128(exact);
        }
        Rounding::new(&ring, delta).unwrap().split(&block, 7).unwrap()
    }

    /// Primes with one bit less in all.
    fn shorter(plan: &SumPlan) -> Vec<u64> {
        let bits = plan.bits_per_value() - 1;
        if plan.primes.len() == 1 {
            return ntt_primes(4096, bits, 1, &[]).unwrap();
        }
        let high = ntt_primes(4096, bits.div_ceil(2), 1, &[]).unwrap();
        let low = ntt_primes(4096, bits / 2, 1, &high).unwrap();
        [high, low].concat()
    }

    #[test]
    fn the_plan_is_exact_at_its_limits_and_one_bit_less_is_not() {
        for (contributors, max_abs) in [
            (4, 1 << 26),
            (1000, (1 << 38) - 1),
            (3, ((1 << 62) - 1) / 3),
            (7, 1 << 20),
        ] {
            let plan = plan(contributors, max_abs);
            let (largest, noise) = (i64::from(contributors) * max_abs as i64, plan.noise_bound as i64);
            for value in [largest, -largest, largest - 1, 0] {
                for noise in [noise, -noise, 0] {
                    let read = split(&plan.primes, plan.delta, value, noise);
                    assert_eq!(read, (value, noise.unsigned_abs()));
                }
            }
            // A modulus short by a bit wraps around: either the value is another one or the remainder is not small.
            let shorter = shorter(&plan);
            for (value, noise) in [(largest, noise), (-largest, -noise)] {
                assert_ne!(split(&shorter, plan.delta, value, noise).0, value);
            }
            // So do values whose bound was understated by a bit, in the plan's own modulus.
            assert_ne!(split(&plan.primes, plan.delta, 2 * largest, noise).0, 2 * largest);
            // And noise that was understated until it fills delta is read as another value.
            let tight = (plan.noise_bound + 1).next_power_of_two();
            assert_ne!(split(&plan.primes, tight, 0, noise).0, 0);
        }
    }

    proptest! {
        #[test]
        fn splitting_inverts_scaling(contributors in 1u32..2000, bits in 0u32..45, at: i64, noise: i64) {
            let plan = plan(contributors, 1 << bits);
            let largest = i64::from(contributors) << bits;
            let (value, noise) = (at % (largest + 1), noise % (plan.noise_bound as i64 + 1));
            prop_assert_eq!(split(&plan.primes, plan.delta, value, noise), (value, noise.unsigned_abs()));
        }
    }
}
