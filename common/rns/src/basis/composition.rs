//! Composition: the integer with given residues.

use crate::error::RnsError;
use crate::modulus::Modulus;

/// Composes residues modulo one or two primes into the centred integer.
#[derive(Debug, Clone)]
pub struct Composer {
    first: Modulus,
    second: Option<SecondPrime>,
}

#[derive(Debug, Clone)]
struct SecondPrime {
    modulus: Modulus,
    /// The first prime and its inverse modulo the second.
    first_inverse: u64,
}

impl Composer {
    /// For one or two distinct primes; their product is below 2^100.
    ///
    /// # Errors
    /// [`RnsError::ModulusCount`] or [`RnsError::RepeatedModulus`].
    pub fn new(moduli: &[Modulus]) -> Result<Self, RnsError> {
        match *moduli {
            [first] => Ok(Self { first, second: None }),
            [first, modulus] => {
                let repeated = RnsError::RepeatedModulus {
                    modulus: first.value(),
                };
                let first_inverse = modulus.inv(modulus.reduce_u64(first.value())).ok_or(repeated)?;
                Ok(Self {
                    first,
                    second: Some(SecondPrime {
                        modulus,
                        first_inverse,
                    }),
                })
            }
            _ => Err(RnsError::ModulusCount {
                count: moduli.len(),
                min: 1,
                max: 2,
            }),
        }
    }

    /// The integer in `-(Q-1)/2..=(Q-1)/2` with these residues, one per prime. Without branches on them.
    ///
    /// # Errors
    /// [`RnsError::Length`] or [`RnsError::ResidueRange`].
    pub fn compose_centered(&self, residues: &[u64]) -> Result<i128, RnsError> {
        let in_range = |index: usize, x: u64, m: &Modulus| {
            if x < m.value() {
                Ok(x)
            } else {
                Err(RnsError::ResidueRange {
                    index,
                    modulus: m.value(),
                })
            }
        };
        match (&self.second, residues) {
            (None, &[x]) => Ok(i128::from(self.first.center(in_range(0, x, &self.first)?))),
            (
                Some(SecondPrime {
                    modulus,
                    first_inverse,
                }),
                &[x, y],
            ) => {
                let x = in_range(0, x, &self.first)?;
                let y = in_range(1, y, modulus)?;
                let high = modulus.mul(modulus.sub(y, modulus.reduce_u64(x)), *first_inverse);
                let value = i128::from(x) + i128::from(high) * i128::from(self.first.value());
                let product = i128::from(self.first.value()) * i128::from(modulus.value());
                let above_half = ((product >> 1) - value) >> 127;
                Ok(value - (product & above_half))
            }
            (second, _) => Err(RnsError::Length {
                expected: 1 + usize::from(second.is_some()),
                actual: residues.len(),
            }),
        }
    }
}

/// The centred integer with these residues modulo one or two primes; for many of them, keep a [`Composer`].
///
/// # Errors
/// Those of [`Composer::new`] and [`Composer::compose_centered`].
pub fn compose_centered(moduli: &[Modulus], residues: &[u64]) -> Result<i128, RnsError> {
    Composer::new(moduli)?.compose_centered(residues)
}
