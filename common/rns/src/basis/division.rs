//! Division by the product of some of the primes.

use super::conversion::BasisConverter;
use crate::error::{RnsError, check_length};
use crate::kernel::{Constant, Kernels};
use crate::poly::{Eval, Poly};
use crate::ring::Ring;
use crate::words::scratch as scratch_words;
use std::sync::Arc;

/// Words that stay in a second-level cache of 1 MiB while a transform runs.
const CACHED_WORDS: usize = 72 << 10;

/// Rows that are converted together where the scaled residues do not stay in the cache.
const GROUP: usize = 3;

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
