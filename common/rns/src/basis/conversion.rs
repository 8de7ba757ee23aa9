//! Conversion: the residues modulo some primes, from those modulo others.

use crate::error::{RnsError, check_length};
use crate::kernel::{Constant, FRACTION, Kernels, Reciprocal};
use crate::modulus::Modulus;
use crate::words::scratch as scratch_words;

/// Most primes that a [`BasisConverter`] converts from.
pub const MAX_CONVERTED: usize = 15;

/// Coefficients that are converted together: their scaled residues stay in the first-level cache.
const TILE: usize = 512;

/// Converts coefficients from one basis (product Q) to another without composing them.
///
/// From `x = sum x_i (Q/q_i)^-1 (Q/q_i) - u Q`, with the quotient `u` estimated from the fractions
/// (Halevi, Polyakov, Shoup, ePrint 2018/117, section 2.2, in 60-bit fixed point instead of floats). The result is
/// exactly the centred representative of x, except within `2^-55 Q` of `+-Q/2`, where it may be the other
/// one: always congruent to x modulo Q and at most `Q/2 (1 + 2^-54)` in absolute value. The 15 fractions below `2^60`
/// and the rounding constant fit in 64 bits.
#[derive(Debug)]
pub struct BasisConverter {
    kernels: Kernels,
    from: Vec<FromPrime>,
    to: Vec<ToPrime>,
}

#[derive(Debug)]
struct FromPrime {
    modulus: Modulus,
    /// `(Q/q_i)^-1 mod q_i`.
    cofactor_inverse: Constant,
    /// Of `q_i`, for the fraction.
    reciprocal: Reciprocal,
}

#[derive(Debug)]
struct ToPrime {
    modulus: Modulus,
    /// `Q/q_i mod p` for each i, then `-Q mod p`.
    weights: Vec<u64>,
}

impl BasisConverter {
    /// From the product of `from` (1 to 15 distinct primes) to each of `to`.
    ///
    /// # Errors
    /// [`RnsError::ModulusCount`] or [`RnsError::RepeatedModulus`] (within `from`).
    pub fn new(from: &[Modulus], to: &[Modulus]) -> Result<Self, RnsError> {
        Self::on(Kernels::active(), from, to)
    }

    /// The same on a stated backend.
    ///
    /// # Errors
    /// Those of [`Self::new`].
    pub fn on(kernels: Kernels, from: &[Modulus], to: &[Modulus]) -> Result<Self, RnsError> {
        if !(1..=MAX_CONVERTED).contains(&from.len()) {
            return Err(RnsError::ModulusCount {
                count: from.len(),
                min: 1,
                max: MAX_CONVERTED,
            });
        }
        let cofactor_mod = |skip: usize, m: &Modulus| {
            from.iter()
                .enumerate()
                .filter(|&(i, _)| i != skip)
                .fold(1, |product, (_, q)| m.mul(product, m.reduce_u64(q.value())))
        };
        let sources = from
            .iter()
            .enumerate()
            .map(|(i, modulus)| {
                let cofactor_inverse =
                    modulus
                        .inv(cofactor_mod(i, modulus))
                        .ok_or(RnsError::RepeatedModulus {
                            modulus: modulus.value(),
                        })?;
                Ok(FromPrime {
                    modulus: *modulus,
                    cofactor_inverse: Constant::new(modulus, cofactor_inverse),
                    reciprocal: Reciprocal::new(modulus),
                })
            })
            .collect::<Result<Vec<_>, RnsError>>()?;
        let targets = to
            .iter()
            .map(|m| {
                let mut weights: Vec<u64> = (0..from.len()).map(|i| cofactor_mod(i, m)).collect();
                weights.push(m.neg(cofactor_mod(usize::MAX, m)));
                ToPrime { modulus: *m, weights }
            })
            .collect();
        Ok(Self {
            kernels,
            from: sources,
            to: targets,
        })
    }

    /// Primes converted from.
    #[must_use]
    pub fn sources(&self) -> usize {
        self.from.len()
    }

    /// Primes converted to.
    #[must_use]
    pub fn targets(&self) -> usize {
        self.to.len()
    }

    /// Converts coefficients: `input` holds n residues for each prime converted from, `out` takes n for each prime
    /// converted to.
    ///
    /// # Errors
    /// [`RnsError::Length`] if the two lengths do not fit each other.
    pub fn convert(&self, input: &[u64], out: &mut [u64]) -> Result<(), RnsError> {
        self.convert_with(input, out, &mut Vec::new())
    }

    /// [`Self::convert`] without allocation once `scratch` has grown to at most 8200 words. What it holds before does
    /// not matter; after the call it holds residues of the last coefficients.
    ///
    /// # Errors
    /// Those of [`Self::convert`].
    pub fn convert_with(
        &self,
        input: &[u64],
        out: &mut [u64],
        scratch: &mut Vec<u64>,
    ) -> Result<(), RnsError> {
        let n = input.len() / self.from.len();
        check_length(n * self.from.len(), input.len())?;
        check_length(n * self.to.len(), out.len())?;
        self.convert_tiles(input, out, scratch_words(scratch, self.tile_words(n)));
        Ok(())
    }

    /// Words of scratch memory for n coefficients.
    fn tile_words(&self, n: usize) -> usize {
        (self.from.len() + 1) * n.min(TILE)
    }

    fn convert_tiles(&self, input: &[u64], out: &mut [u64], scratch: &mut [u64]) {
        let n = input.len() / self.from.len();
        let mut start = 0;
        while start < n {
            let width = TILE.min(n - start);
            let scaled = &mut scratch[..(self.from.len() + 1) * width];
            for (row, residues) in scaled.chunks_exact_mut(width).zip(input.chunks_exact(n)) {
                row.copy_from_slice(&residues[start..start + width]);
            }
            self.scale(scaled, width);
            for (index, out) in out.chunks_exact_mut(n).enumerate() {
                self.combine(index, scaled, 0, &mut out[start..start + width]);
            }
            start += width;
        }
    }

    /// The first half of a conversion, for [`Self::convert_row`]: `scaled` takes n words for each prime converted from
    /// and n more.
    ///
    /// # Errors
    /// [`RnsError::Length`] if the two lengths do not fit each other.
    pub fn prepare(&self, input: &[u64], scaled: &mut [u64]) -> Result<(), RnsError> {
        let n = input.len() / self.from.len();
        check_length(n * self.from.len(), input.len())?;
        check_length(n * (self.from.len() + 1), scaled.len())?;
        if n > 0 {
            scaled[..input.len()].copy_from_slice(input);
            self.scale(scaled, n);
        }
        Ok(())
    }

    /// The second half of a conversion, for the `index`-th of the primes converted to: `out` takes its n residues.
    ///
    /// # Errors
    /// [`RnsError::ModulusCount`] if there is no such prime, [`RnsError::Length`] if the lengths do not fit.
    pub fn convert_row(&self, index: usize, scaled: &[u64], out: &mut [u64]) -> Result<(), RnsError> {
        if index >= self.to.len() {
            return Err(RnsError::ModulusCount {
                count: index + 1,
                min: 1,
                max: self.to.len(),
            });
        }
        check_length(out.len() * (self.from.len() + 1), scaled.len())?;
        if !out.is_empty() {
            self.combine(index, scaled, 0, out);
        }
        Ok(())
    }

    /// Rows of residues become the terms of the sum, and the last row the quotient.
    pub(super) fn scale(&self, scaled: &mut [u64], n: usize) {
        let kernels = self.kernels;
        let (terms, quotient) = scaled.split_at_mut(self.from.len() * n);
        quotient.fill(1 << (FRACTION - 1));
        for (index, (p, y)) in self.from.iter().zip(terms.chunks_exact_mut(n)).enumerate() {
            let last = index + 1 == self.from.len();
            kernels.scale_with_fraction(&p.modulus, &p.cofactor_inverse, &p.reciprocal, y, quotient, last);
        }
    }

    /// The residues modulo the `index`-th prime of as many coefficients as `out` takes, from position `start` on.
    fn combine(&self, index: usize, scaled: &[u64], start: usize, out: &mut [u64]) {
        let p = &self.to[index];
        let n = scaled.len() / (self.from.len() + 1);
        let mut rows: [&[u64]; MAX_CONVERTED + 1] = [&[]; MAX_CONVERTED + 1];
        for (slot, row) in rows.iter_mut().zip(scaled.chunks_exact(n)) {
            *slot = &row[start..start + out.len()];
        }
        self.kernels
            .linear_combination(&p.modulus, &rows, &p.weights, out);
    }

    /// The residues modulo some primes, tile by tile, so that the scaled residues are read once for all of them.
    pub(super) fn combine_rows(&self, primes: core::ops::Range<usize>, scaled: &[u64], out: &mut [u64]) {
        let n = scaled.len() / (self.from.len() + 1);
        for start in (0..n).step_by(TILE) {
            let end = n.min(start + TILE);
            for (index, out) in primes.clone().zip(out.chunks_exact_mut(n)) {
                self.combine(index, scaled, start, &mut out[start..end]);
            }
        }
    }
}
