//! The sum of key pieces over a set: what a custodian answers with, and what opens a sum.

use crate::custodian::OpenedSeeds;
use crate::error::CustodyError;
use galen_core::{Digest, Transcript};
use galen_rns::packing::{pack, packed_len, unpack};
use galen_rns::poly::{Coeff, Eval, Poly};
use galen_sums::Round;
use galen_sums::plan::tail_bound;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

const VERSION: u8 = 1;
/// A coefficient of an honest key sum is beyond the width of its encoding with probability below 2 to the minus this,
/// over all coefficients; it then takes a wider encoding.
const TAIL_BITS: u32 = 64;

/// A short polynomial: the sum of pieces over the contributors of a set. Overwritten on drop; Debug prints none of it.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct KeySum {
    coefficients: Vec<i64>,
}

impl KeySum {
    /// Zero, to add to.
    pub(crate) fn zero(degree: usize) -> Self {
        Self {
            coefficients: vec![0; degree],
        }
    }

    /// The sum of these pieces over these contributors.
    ///
    /// # Errors
    /// [`CustodyError::Seeds`] if the seed of a piece is not among them.
    pub(crate) fn of(round: &Round, opened: &[OpenedSeeds], pieces: &[u32]) -> Result<Self, CustodyError> {
        let mut sum = Self::zero(round.plan().degree as usize);
        for seeds in opened {
            if !seeds.seeds().add_to(pieces, &mut sum.coefficients) {
                let contributor = seeds.contributor().clone();
                return Err(CustodyError::Seeds {
                    contributor,
                    what: "do not include an assigned piece",
                });
            }
        }
        Ok(sum)
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, coefficient) in self.coefficients.iter_mut().zip(&other.coefficients) {
            *sum += coefficient;
        }
    }

    /// Whether two sums are the same.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.coefficients == other.coefficients
    }

    /// A digest that only those have who have the whole sum; see [`crate::open::Opened::opening_secret`].
    pub(crate) fn opening_secret(&self, record: &Digest) -> Digest {
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.coefficients.len() * size_of::<i64>()));
        for coefficient in &self.coefficients {
            bytes.extend_from_slice(&coefficient.to_le_bytes());
        }
        Transcript::new("galen opening secret v1")
            .field(&record.0)
            .field(&bytes)
            .digest()
    }

    /// The same, as residues modulo the round's primes.
    pub(crate) fn transformed(&self, round: &Round) -> Result<Zeroizing<Poly<Eval>>, CustodyError> {
        Ok(Zeroizing::new(
            Poly::<Coeff>::from_i64(round.ring(), &self.coefficients)?.into_eval(),
        ))
    }

    /// Version, width, then every coefficient plus half of the width's range. `terms` is the number of seeds in the sum;
    /// the width follows from it, so that the length tells an onlooker nothing about the coefficients (save with
    /// probability `2^-64`).
    pub(crate) fn encode(&self, terms: u64) -> Result<Zeroizing<Vec<u8>>, CustodyError> {
        let largest = self
            .coefficients
            .iter()
            .map(|c| c.unsigned_abs())
            .max()
            .unwrap_or(0);
        let degree_bits = self.coefficients.len().next_power_of_two().trailing_zeros();
        let width = width(tail_bound(terms, TAIL_BITS + degree_bits).max(largest));
        let half = 1i64 << (width - 1);
        let shifted: Zeroizing<Vec<u64>> =
            Zeroizing::new(self.coefficients.iter().map(|c| (c + half) as u64).collect());
        let capacity = 2 + packed_len(shifted.len(), width);
        let mut out = Zeroizing::new(Vec::with_capacity(capacity));
        out.extend_from_slice(&[VERSION, width as u8]);
        pack(&shifted, width, &mut out)?;
        Ok(out)
    }

    /// Splits off the first of several encodings, which tell their lengths; nothing if there is none.
    pub(crate) fn split_encoding(degree: usize, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
        let &bits = bytes.get(1)?;
        bytes.split_at_checked(2 + packed_len(degree, bits.into()))
    }

    /// Reads [`Self::encode`]; nothing if it is not of that form or is larger than `terms` seeds can sum to.
    pub(crate) fn decode(degree: usize, terms: u64, bytes: &[u8]) -> Option<Self> {
        let (&[version, bits], packed) = bytes.split_first_chunk()?;
        let bits = u32::from(bits);
        if version != VERSION || !(1..=width(tail_bound(terms, u32::MAX))).contains(&bits) {
            return None;
        }
        let mut shifted = Zeroizing::new(vec![0u64; degree]);
        unpack(packed, bits, &mut shifted).ok()?;
        let half = 1i64 << (bits - 1);
        Some(Self {
            coefficients: shifted.iter().map(|&c| c as i64 - half).collect(),
        })
    }
}

/// Digest of an encoded key sum.
pub(crate) fn encoding_digest(record: &Digest, encoding: &[u8]) -> Digest {
    Transcript::new("galen sums key sum v1")
        .field(&record.0)
        .field(encoding)
        .digest()
}

/// Bits of a signed number up to `bound` in absolute value, in the offset form used here.
fn width(bound: u64) -> u32 {
    u64::BITS - bound.leading_zeros() + 1
}

impl std::fmt::Debug for KeySum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeySum({} coefficients)", self.coefficients.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEGREE: usize = 4096;

    fn key_sum(largest: i64) -> KeySum {
        KeySum {
            coefficients: (0..DEGREE as i64)
                .map(|i| (i * 31 % (2 * largest + 1)) - largest)
                .collect(),
        }
    }

    #[test]
    fn the_width_follows_from_the_number_of_seeds_not_from_the_coefficients() {
        // 1,000 contributors of 10 pieces: the tail bound is 4.6 sqrt(2 * 10^4 * ln 2 * 77) < 2^13.
        let encodings = [0, 1, 500, 4000].map(|largest| key_sum(largest).encode(10_000).unwrap());
        assert!(
            encodings
                .iter()
                .all(|encoding| encoding.len() == 2 + DEGREE * 14 / 8)
        );
        // What no honest sum reaches takes more, rather than being cut.
        let wider = key_sum(1 << 14).encode(10_000).unwrap();
        assert_eq!(
            KeySum::decode(DEGREE, 10_000, &wider).unwrap().coefficients,
            key_sum(1 << 14).coefficients
        );
    }

    #[test]
    fn malformed_encodings_are_refused() {
        let good = key_sum(100).encode(10).unwrap();
        assert!(KeySum::decode(DEGREE, 10, &good).is_some());
        for length in [0, 1, 2, 3, good.len() - 1] {
            assert!(KeySum::decode(DEGREE, 10, &good[..length]).is_none());
        }
        assert!(KeySum::decode(DEGREE, 10, &[&good[..], &[0]].concat()).is_none());
        assert!(KeySum::decode(DEGREE / 2, 10, &good).is_none());
        for (at, value) in [(0, 2), (1, 0), (1, 1), (1, 65), (1, 255)] {
            let mut bad = good.to_vec();
            bad[at] = value;
            assert!(KeySum::decode(DEGREE, 10, &bad).is_none());
        }
        // Ten seeds sum to at most 270: ten bits. A wider encoding claims what cannot be.
        let wide = key_sum(3000).encode(10_000).unwrap();
        assert!(KeySum::decode(DEGREE, 10, &wide).is_none());
    }

    proptest! {
        #[test]
        fn round_trip(largest in 0i64..1 << 20, terms in 40_000u64..1 << 30) {
            let sum = key_sum(largest);
            let encoding = sum.encode(terms).unwrap();
            prop_assert_eq!(&KeySum::decode(DEGREE, terms, &encoding).unwrap().coefficients, &sum.coefficients);
        }
    }
}
