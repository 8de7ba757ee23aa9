//! From one set of primes to another: composition of residues, conversion, and division by some of the primes.

use crate::error::RnsError;
use crate::kernel::{Constant, FRACTION, Kernels, Reciprocal};
use crate::modulus::Modulus;
use crate::poly::{Eval, Poly};
use crate::ring::Ring;
use crate::words::scratch as scratch_words;
use std::sync::Arc;

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

/// Most primes that a [`BasisConverter`] converts from.
pub const MAX_CONVERTED: usize = 15;

/// Coefficients that are converted together: their scaled residues stay in the first-level cache.
const TILE: usize = 512;

/// Words that stay in a second-level cache of 1 MiB while a transform runs.
const CACHED_WORDS: usize = 72 << 10;

/// Rows that are converted together where the scaled residues do not stay in the cache.
const GROUP: usize = 3;

/// Converts coefficients from one basis (product Q) to another without composing them.
///
/// From `x = sum x_i (Q/q_i)^-1 (Q/q_i) - u Q`, with the quotient `u` estimated from the fractions
/// (Halevi, Polyakov, Shoup, ePrint 2018/117, section 2.2, in 60-bit fixed point instead of floats). The result is
/// exactly the centred representative of x, except within `2^-55 Q` of `+-Q/2`, where it may be the other
/// one: always congruent to x modulo Q and at most `Q/2 (1 + 2^-54)` in absolute value. The 15 fractions below `2^60`
/// and the rounding constant fit in 64 bits.
#[derive(Debug)]
pub struct BasisConverter {
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
    fn scale(&self, scaled: &mut [u64], n: usize) {
        let kernels = Kernels::active();
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
        Kernels::active().linear_combination(&p.modulus, &rows, &p.weights, out);
    }

    /// The residues modulo some primes, tile by tile, so that the scaled residues are read once for all of them.
    fn combine_rows(&self, primes: core::ops::Range<usize>, scaled: &[u64], out: &mut [u64]) {
        let n = scaled.len() / (self.from.len() + 1);
        for start in (0..n).step_by(TILE) {
            let end = n.min(start + TILE);
            for (index, out) in primes.clone().zip(out.chunks_exact_mut(n)) {
                self.combine(index, scaled, start, &mut out[start..end]);
            }
        }
    }
}

fn check_length(expected: usize, actual: usize) -> Result<(), RnsError> {
    if expected == actual {
        Ok(())
    } else {
        Err(RnsError::Length { expected, actual })
    }
}

/// Divides by the product P of the last primes of a ring, rounding to the nearest integer, and drops them.
///
/// With one prime dropped this is the rescaling of CKKS, with the special primes the last step of key switching.
#[derive(Debug)]
pub struct ModDown {
    full: Arc<Ring>,
    keep: Arc<Ring>,
    drop: Arc<Ring>,
    converter: BasisConverter,
    /// `P^-1` modulo each kept prime.
    inverses: Vec<Constant>,
}

impl ModDown {
    /// Prepares the division of elements over the primes of `keep` and then those of `drop` (at most 15).
    ///
    /// # Errors
    /// Those of [`Ring::join`] and [`BasisConverter::new`].
    pub fn new(keep: &Arc<Ring>, drop: &Arc<Ring>) -> Result<Self, RnsError> {
        let full = Ring::join(keep, drop)?;
        let converter = BasisConverter::new(drop.moduli(), keep.moduli())?;
        let inverses = keep
            .moduli()
            .iter()
            .map(|m| {
                let p = drop
                    .moduli()
                    .iter()
                    .fold(1, |acc, p| m.mul(acc, m.reduce_u64(p.value())));
                let inverse = m.inv(p).ok_or(RnsError::RepeatedModulus { modulus: m.value() })?;
                Ok(Constant::new(m, inverse))
            })
            .collect::<Result<Vec<_>, RnsError>>()?;
        Ok(Self {
            full,
            keep: Arc::clone(keep),
            drop: Arc::clone(drop),
            converter,
            inverses,
        })
    }

    /// The ring of what is divided.
    #[must_use]
    pub fn full(&self) -> &Arc<Ring> {
        &self.full
    }

    /// The ring of the result.
    #[must_use]
    pub fn keep(&self) -> &Arc<Ring> {
        &self.keep
    }

    /// `round(x / P)`, coefficient by coefficient: off from the exact quotient by at most `1/2 + 2^-54`.
    ///
    /// # Errors
    /// [`RnsError::RingMismatch`] if `x` is not over the full ring.
    pub fn apply_eval(&self, x: &Poly<Eval>) -> Result<Poly<Eval>, RnsError> {
        if !Arc::ptr_eq(x.ring(), &self.full) && **x.ring() != *self.full {
            return Err(RnsError::RingMismatch);
        }
        let mut out = Poly::<Eval>::zero(&self.keep);
        self.apply_eval_into(x.data(), out.data_mut(), &mut Vec::new())?;
        Ok(out)
    }

    /// [`Self::apply_eval`] on residues: `x` holds N for each prime of the full ring, `out` takes N for each kept one.
    /// Nothing is allocated once `scratch` has grown; what it holds before does not matter.
    ///
    /// # Errors
    /// [`RnsError::Length`].
    pub fn apply_eval_into(
        &self,
        x: &[u64],
        out: &mut [u64],
        scratch: &mut Vec<u64>,
    ) -> Result<(), RnsError> {
        self.apply_eval_batch(&[x], &mut [out], scratch)
    }

    /// `out += round(x / P)`; see [`Self::apply_eval_into`].
    ///
    /// # Errors
    /// Those of [`Self::apply_eval_into`].
    pub fn apply_eval_add(&self, x: &[u64], out: &mut [u64], scratch: &mut Vec<u64>) -> Result<(), RnsError> {
        self.apply_eval_add_batch(&[x], &mut [out], scratch)
    }

    /// [`Self::apply_eval_into`] for several elements, prime by prime, so that the tables of a transform are read once
    /// for all of them.
    ///
    /// # Errors
    /// [`RnsError::Length`], also where there are not as many elements as results.
    pub fn apply_eval_batch(
        &self,
        xs: &[&[u64]],
        outs: &mut [&mut [u64]],
        scratch: &mut Vec<u64>,
    ) -> Result<(), RnsError> {
        self.divide(xs, None, outs, scratch, false)
    }

    /// `round(x y / P)` for several x, as [`Self::apply_eval_batch`] of the products, which are made prime by prime and
    /// never leave the cache.
    ///
    /// # Errors
    /// Those of [`Self::apply_eval_batch`].
    pub fn apply_eval_product_batch(
        &self,
        xs: &[&[u64]],
        y: &[u64],
        outs: &mut [&mut [u64]],
        scratch: &mut Vec<u64>,
    ) -> Result<(), RnsError> {
        self.divide(xs, Some(y), outs, scratch, false)
    }

    /// [`Self::apply_eval_add`] for several elements; see [`Self::apply_eval_batch`].
    ///
    /// # Errors
    /// Those of [`Self::apply_eval_batch`].
    pub fn apply_eval_add_batch(
        &self,
        xs: &[&[u64]],
        outs: &mut [&mut [u64]],
        scratch: &mut Vec<u64>,
    ) -> Result<(), RnsError> {
        self.divide(xs, None, outs, scratch, true)
    }

    /// `(out +=) round(x factor / P)`.
    fn divide(
        &self,
        xs: &[&[u64]],
        factor: Option<&[u64]>,
        outs: &mut [&mut [u64]],
        scratch: &mut Vec<u64>,
        add: bool,
    ) -> Result<(), RnsError> {
        let n = self.full.degree();
        let (kept, dropped) = (n * self.keep.moduli().len(), n * self.drop.moduli().len());
        check_length(xs.len(), outs.len())?;
        if let Some(factor) = factor {
            check_length(kept + dropped, factor.len())?;
        }
        for (x, out) in xs.iter().zip(outs.iter()) {
            check_length(kept + dropped, x.len())?;
            check_length(kept, out.len())?;
        }
        // For each element the remainder and the quotients of its conversion; then a group of converted rows, and one
        // of products.
        let prepared = dropped + n;
        let group = if dropped == n || prepared * xs.len() <= CACHED_WORDS {
            1
        } else {
            GROUP.min(self.keep.moduli().len())
        };
        let room = scratch_words(scratch, prepared * xs.len() + (group + 1) * n);
        let (scaled, rows) = room.split_at_mut(prepared * xs.len());
        let (converted, product) = rows.split_at_mut(group * n);
        let kernels = Kernels::active();
        for (x, scaled) in xs.iter().zip(scaled.chunks_exact_mut(prepared)) {
            let (remainder, x) = (&mut scaled[..dropped], &x[kept..]);
            match factor {
                None => remainder.copy_from_slice(x),
                Some(y) => {
                    let factors = x.chunks_exact(n).zip(y[kept..].chunks_exact(n));
                    for ((out, (x, y)), m) in
                        remainder.chunks_exact_mut(n).zip(factors).zip(self.drop.moduli())
                    {
                        kernels.mul_into(m, x, y, out);
                    }
                }
            }
        }
        for (index, row) in (0..dropped).step_by(n).enumerate() {
            for scaled in scaled.chunks_exact_mut(prepared) {
                self.drop.ntt(index).inverse(&mut scaled[row..row + n]);
            }
        }
        for scaled in scaled.chunks_exact_mut(prepared) {
            self.converter.scale(scaled, n);
        }
        for start in (0..self.keep.moduli().len()).step_by(group) {
            let primes = start..self.keep.moduli().len().min(start + group);
            for ((x, out), scaled) in xs.iter().zip(outs.iter_mut()).zip(scaled.chunks_exact(prepared)) {
                let converted = &mut converted[..primes.len() * n];
                self.converter.combine_rows(primes.clone(), scaled, converted);
                for (index, t) in primes.clone().zip(converted.chunks_exact_mut(n)) {
                    self.keep.ntt(index).forward(t);
                    let (m, inverse) = (&self.keep.moduli()[index], &self.inverses[index]);
                    let row = index * n..(index + 1) * n;
                    let (mut x, out) = (&x[row.clone()], &mut out[row.clone()]);
                    if let Some(y) = factor {
                        kernels.mul_into(m, x, &y[row], product);
                        x = &*product;
                    }
                    if add {
                        kernels.sub_mul_constant_add_assign(m, out, x, t, inverse);
                    } else {
                        kernels.sub_mul_constant_into(m, x, t, inverse, out);
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primes::ntt_primes;
    use crate::xof::Xof;
    use num_bigint::BigInt;
    use proptest::prelude::*;

    fn product(moduli: &[Modulus]) -> BigInt {
        moduli.iter().map(|m| BigInt::from(m.value())).product()
    }

    /// The centred integer with the residues at position `j` of flat coefficient data.
    fn compose(moduli: &[Modulus], data: &[u64], j: usize) -> BigInt {
        let n = data.len() / moduli.len();
        let q = product(moduli);
        let mut x = BigInt::ZERO;
        for (i, m) in moduli.iter().enumerate() {
            let cofactor = &q / m.value();
            let inverse = m.inv(residue(&cofactor, m)).unwrap();
            x += &cofactor * m.mul(data[i * n + j], inverse);
        }
        x %= &q;
        if &x * 2 > q { x - q } else { x }
    }

    fn residue(x: &BigInt, m: &Modulus) -> u64 {
        let q = BigInt::from(m.value());
        u64::try_from(((x % &q) + &q) % &q).unwrap()
    }

    fn primes(bits: u32, count: usize, skip: &[u64]) -> Vec<u64> {
        ntt_primes(16, bits, count, skip).unwrap()
    }

    proptest! {
        #[test]
        fn composition_of_two(bits in 10u32..=50, x: i128, count in 1usize..=2) {
            let ring = Ring::new(16, &primes(bits, count, &[])).unwrap();
            let q = i128::try_from(product(ring.moduli())).unwrap();
            let half = (q - 1) / 2;
            let x = x.rem_euclid(q) - half;
            let residues: Vec<u64> = ring.moduli().iter().map(|m| m.reduce_i128(x)).collect();
            prop_assert_eq!(compose_centered(ring.moduli(), &residues), Ok(x));
            for edge in [half, -half, 0, 1, -1] {
                let residues: Vec<u64> = ring.moduli().iter().map(|m| m.reduce_i128(edge)).collect();
                prop_assert_eq!(compose_centered(ring.moduli(), &residues), Ok(edge));
            }
        }

        #[test]
        fn conversion_is_exact(from in 1usize..=6, to in 1usize..=5, bits in 20u32..=50, seed: [u8; 32]) {
            let q = Ring::new(16, &primes(bits, from, &[])).unwrap();
            let skip: Vec<u64> = q.moduli().iter().map(Modulus::value).collect();
            let p = Ring::new(16, &primes(45, to, &skip)).unwrap();
            let x = Poly::<Eval>::uniform(&q, &mut Xof::new(&seed, &[b"conversion"])).into_coeff();
            let mut out = vec![0; 16 * to];
            BasisConverter::new(q.moduli(), p.moduli()).unwrap().convert(x.data(), &mut out).unwrap();
            for j in 0..16 {
                let value = compose(q.moduli(), x.data(), j);
                for (i, m) in p.moduli().iter().enumerate() {
                    prop_assert_eq!(out[16 * i + j], residue(&value, m));
                }
            }
        }

        #[test]
        fn division_rounds(keep in 1usize..=5, drop in 1usize..=4, bits in 20u32..=50, seed: [u8; 32]) {
            let q = Ring::new(16, &primes(bits, keep, &[])).unwrap();
            let skip: Vec<u64> = q.moduli().iter().map(Modulus::value).collect();
            let p = Ring::new(16, &primes(44, drop, &skip)).unwrap();
            let down = ModDown::new(&q, &p).unwrap();
            let x = Poly::<Eval>::uniform(down.full(), &mut Xof::new(&seed, &[b"division"]));
            let y = down.apply_eval(&x).unwrap().into_coeff();
            // A product is divided as it would be apart.
            let factor = Poly::<Eval>::uniform(down.full(), &mut Xof::new(&seed, &[b"factor"]));
            let mut whole = x.clone();
            whole.mul_assign(&factor).unwrap();
            let mut fused = Poly::<Eval>::zero(&q);
            down.apply_eval_product_batch(&[x.data()], factor.data(), &mut [fused.data_mut()], &mut Vec::new()).unwrap();
            prop_assert_eq!(&fused, &down.apply_eval(&whole).unwrap());
            let (x, divisor) = (x.into_coeff(), product(p.moduli()));
            for j in 0..16 {
                let value = compose(down.full().moduli(), x.data(), j);
                // round(value / divisor): floor of (2 value + divisor) / (2 divisor).
                let (numerator, denominator) = (&value * 2 + &divisor, &divisor * 2);
                let remainder = ((&numerator % &denominator) + &denominator) % &denominator;
                let rounded = (numerator - remainder) / denominator;
                for (i, m) in q.moduli().iter().enumerate() {
                    prop_assert_eq!(y.residues(i)[j], residue(&rounded, m));
                }
            }
        }
    }

    #[test]
    fn conversion_near_the_borders_stays_congruent_and_bounded() {
        let q = Ring::new(16, &primes(50, 15, &[])).unwrap();
        let skip: Vec<u64> = q.moduli().iter().map(Modulus::value).collect();
        let p = Ring::new(16, &primes(50, 16, &skip)).unwrap();
        let half = product(q.moduli()) / 2;
        let values: Vec<BigInt> = (-8i64..8).map(|d| &half + d).collect();
        let mut input = vec![0; 16 * 15];
        for (i, m) in q.moduli().iter().enumerate() {
            for (j, value) in values.iter().enumerate() {
                input[16 * i + j] = residue(value, m);
            }
        }
        let mut out = vec![0; 16 * 16];
        BasisConverter::new(q.moduli(), p.moduli())
            .unwrap()
            .convert(&input, &mut out)
            .unwrap();
        for (j, value) in values.iter().enumerate() {
            let converted = compose(p.moduli(), &out, j);
            assert!(((value - &converted) % product(q.moduli())) == BigInt::ZERO);
            let bound = &half + (&half >> 54);
            assert!(converted <= bound && -converted <= bound);
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let q = Ring::new(16, &primes(40, 3, &[])).unwrap();
        assert!(matches!(
            Composer::new(q.moduli()),
            Err(RnsError::ModulusCount { count: 3, .. })
        ));
        assert!(matches!(
            Composer::new(&[]),
            Err(RnsError::ModulusCount { count: 0, .. })
        ));
        let same = [q.moduli()[0]; 2];
        assert!(matches!(
            Composer::new(&same),
            Err(RnsError::RepeatedModulus { .. })
        ));
        assert!(matches!(
            BasisConverter::new(&same, q.moduli()),
            Err(RnsError::RepeatedModulus { .. })
        ));
        let two = Composer::new(&q.moduli()[..2]).unwrap();
        assert_eq!(
            two.compose_centered(&[1]),
            Err(RnsError::Length {
                expected: 2,
                actual: 1
            })
        );
        let m = q.moduli()[1].value();
        assert_eq!(
            two.compose_centered(&[0, m]),
            Err(RnsError::ResidueRange { index: 1, modulus: m })
        );
        let converter = BasisConverter::new(&q.moduli()[..2], &q.moduli()[2..]).unwrap();
        assert!(matches!(
            converter.convert(&[0; 5], &mut [0; 2]),
            Err(RnsError::Length { .. })
        ));
        assert!(matches!(
            converter.convert(&[0; 4], &mut [0; 3]),
            Err(RnsError::Length { .. })
        ));
        let down = ModDown::new(&q.prefix(2).unwrap(), &Ring::new(16, &[m]).unwrap());
        assert!(matches!(down, Err(RnsError::RepeatedModulus { .. })));
        let ok = ModDown::new(&q.prefix(1).unwrap(), &Ring::new(16, &[m]).unwrap()).unwrap();
        assert_eq!(ok.apply_eval(&Poly::zero(&q)), Err(RnsError::RingMismatch));
    }
}
