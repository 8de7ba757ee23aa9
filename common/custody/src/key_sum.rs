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
