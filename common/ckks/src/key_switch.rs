//! Hybrid key switching: from a product with one secret polynomial to one with another.
//!
//! A [`SwitchingKey`] holds, for each digit j, `(b_j = -a_j s + e_j + P g_j t, a_j)` over QP, where t is what shall be
//! replaced: `s^2` for relinearisation, an image of s for automorphisms. `g_j` is 1 modulo the primes of digit j and 0
//! modulo the others. For a polynomial c with digits `c_j = c mod D_j` (centred, and extended to all of QP), `sum of
//! c_j (b_j, a_j)` is an encryption of `P c t` whose noise is the sum of the `c_j e_j`, and the division by P leaves
//! little of that (Han and Ki, ePrint 2019/688, section 3). Taking digits is separate from the sum, so that one set of
//! digits serves many keys (hoisting: Halevi and Shoup, ePrint 2018/244).

use crate::context::{Context, Switching};
use crate::error::CkksError;
use crate::keys::{SecretKey, error, stream};
use crate::pool::{Buffer, Pool};
use galen_rns::kernel::Kernels;
use galen_rns::poly::{Eval, Poly};
use zeroize::Zeroizing;

/// Most digits at any level: one for each of 33 primes of Q.
pub(crate) const MAX_DIGITS: usize = 33;

/// What a key is for, as it enters the streams that it is expanded from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Purpose {
    /// Of the uniform halves.
    pub(crate) uniform: &'static str,
    /// Of the errors.
    pub(crate) error: &'static str,
    /// Index of the first digit's streams.
    pub(crate) first: u64,
}

/// The purpose of relinearisation keys.
pub(crate) const RELINEARISATION: Purpose = Purpose {
    uniform: "relinearisation key",
    error: "relinearisation error",
    first: 0,
};

/// `(b_j, a_j)` for each digit, over QP.
#[derive(Clone)]
pub(crate) struct SwitchingKey {
    digits: Vec<[Poly<Eval>; 2]>,
}

impl SwitchingKey {
    /// The key that replaces products with `replaced` by ones with `secret`, both over QP. The uniform halves come from
    /// the public `seed`, the errors from the key's own.
    pub(crate) fn generate(
        key: &SecretKey,
        seed: &[u8; 32],
        purpose: Purpose,
        secret: &Poly<Eval>,
        replaced: &Poly<Eval>,
    ) -> Result<Self, CkksError> {
        let context = &key.context;
        let ring = context.key_ring();
        let special = context.preset().special_primes();
        let mut digits = Vec::new();
        for (index, digit) in context.top().switching.digits.iter().enumerate() {
            let at = purpose.first + index as u64;
            let a = Poly::uniform(ring, &mut stream(context, seed, purpose.uniform, at));
            let mut b = a.clone();
            b.mul_assign(secret)?;
            b.neg_assign();
            let mut errors = stream(context, &key.seed, purpose.error, at);
            b.add_assign(&*Zeroizing::new(error(ring, &mut errors)?))?;
            // P g_j: P modulo the primes of the digit, 0 modulo all others, the special ones included.
            let factors: Vec<u64> = ring
                .moduli()
                .iter()
                .enumerate()
                .map(|(i, m)| {
                    if !(digit.start..digit.end).contains(&i) {
                        return 0;
                    }
                    special.iter().fold(1, |p, &q| m.mul(p, m.reduce_u64(q)))
                })
                .collect();
            let mut message = Zeroizing::new(replaced.clone());
            message.mul_scalar_assign(&factors)?;
            b.add_assign(&message)?;
            digits.push([b, a]);
        }
        Ok(Self { digits })
    }

    /// From its stored halves, each over QP.
    pub(crate) fn assemble(context: &Context, seed: &[u8; 32], purpose: Purpose, halves: Vec<Poly<Eval>>) -> Self {
        let digits = halves
            .into_iter()
            .zip(purpose.first..)
            .map(|(b, at)| {
                let mut uniform = stream(context, seed, purpose.uniform, at);
                [b, Poly::uniform(context.key_ring(), &mut uniform)]
            })
            .collect();
        Self { digits }
    }

    /// The halves that are stored.
    pub(crate) fn halves(&self) -> impl Iterator<Item = &Poly<Eval>> {
        self.digits.iter().map(|[b, _]| b)
    }
}

impl Switching {
    /// Primes of Q at this level.
    pub(crate) fn own(&self) -> usize {
        self.special_residues.len()
    }

    /// Words of the digits of one polynomial: those that are not modulo a digit's own primes.
    pub(crate) fn digits_len(&self) -> usize {
        let all = self.ring.moduli().len();
        let rows: usize = self.digits.iter().map(|d| all - (d.end - d.start)).sum();
        rows * self.ring.degree()
    }

    /// Words of a polynomial over QP.
    pub(crate) fn extended_len(&self) -> usize {
        self.ring.moduli().len() * self.ring.degree()
    }

    /// The digits of `part` (transformed, over Q), transformed: of each in turn the residues modulo all primes of QP
    /// that are not its own. `coefficients` takes as many words as `part`, `rows` takes [`Self::digits_len`].
    pub(crate) fn decompose(
        &self,
        part: &[u64],
        coefficients: &mut [u64],
        rows: &mut [u64],
        scratch: &mut Vec<u64>,
    ) -> Result<(), CkksError> {
        let n = self.ring.degree();
        coefficients.copy_from_slice(part);
        for (prime, residues) in coefficients.chunks_exact_mut(n).enumerate() {
            self.ring.ntt(prime).inverse(residues);
        }
        let mut rest = rows;
        for digit in &self.digits {
            let others = self.ring.moduli().len() - (digit.end - digit.start);
            let (out, after) = rest.split_at_mut(others * n);
            rest = after;
            digit
                .converter
                .convert_with(&coefficients[digit.start * n..digit.end * n], out, scratch)?;
            let primes = (0..digit.start).chain(digit.end..self.ring.moduli().len());
            for (residues, prime) in out.chunks_exact_mut(n).zip(primes) {
                self.ring.ntt(prime).forward(residues);
            }
        }
        Ok(())
    }

    /// `sum over digits of digit * (b, a)`, over QP and not yet divided by P: added to `acc` modulo the first `added`
    /// primes, and overwriting it modulo the others. `part` and its digits as [`Self::decompose`] takes and gives them.
    pub(crate) fn inner_products(
        &self,
        key: &SwitchingKey,
        part: &[u64],
        rows: &[u64],
        acc: [&mut [u64]; 2],
        added: usize,
    ) {
        let n = self.ring.degree();
        let (own, all) = (self.own(), self.ring.moduli().len());
        // Residues of the key for this level's primes come first; those of the special primes after all of Q.
        let kernels = Kernels::active();
        let empty: &[u64] = &[];
        let (mut x, mut b, mut a) = ([empty; MAX_DIGITS], [empty; MAX_DIGITS], [empty; MAX_DIGITS]);
        let count = self.digits.len().min(MAX_DIGITS);
        let [acc0, acc1] = acc;
        let sums = acc0.chunks_exact_mut(n).zip(acc1.chunks_exact_mut(n));
        for (prime, (sum0, sum1)) in sums.enumerate() {
            let mut offset = 0;
            for (index, (digit, [kb, ka])) in self.digits.iter().zip(&key.digits).enumerate().take(count) {
                let size = digit.end - digit.start;
                x[index] = if (digit.start..digit.end).contains(&prime) {
                    // Modulo its own primes a digit is what it was before the inverse transform.
                    &part[prime * n..(prime + 1) * n]
                } else {
                    let row = offset + if prime < digit.start { prime } else { prime - size };
                    &rows[row * n..(row + 1) * n]
                };
                offset += all - size;
                let skipped = kb.ring().moduli().len() - all;
                let row = if prime < own { prime } else { prime + skipped };
                b[index] = kb.residues(row);
                a[index] = ka.residues(row);
            }
            let m = &self.ring.moduli()[prime];
            if prime < added {
                kernels.inner_products_add(m, &x[..count], &b[..count], &a[..count], [sum0, sum1]);
            } else {
                kernels.inner_products(m, &x[..count], &b[..count], &a[..count], [sum0, sum1]);
            }
        }
    }
}

/// What one key switching needs.
pub(crate) struct Scratch<'a> {
    /// The two sums over QP.
    pub(crate) sums: [Buffer<'a>; 2],
    coefficients: Buffer<'a>,
    rows: Buffer<'a>,
    /// For conversions, as much as they take.
    pub(crate) words: Buffer<'a>,
}

impl<'a> Scratch<'a> {
    pub(crate) fn new(pool: &'a Pool, switching: &Switching) -> Self {
        let words = switching.extended_len();
        Self {
            sums: [pool.take(words), pool.take(words)],
            coefficients: pool.take(switching.own() * switching.ring.degree()),
            rows: pool.take(switching.digits_len()),
            words: pool.take(0),
        }
    }

    /// For digits that are taken already.
    pub(crate) fn without_digits(pool: &'a Pool, switching: &Switching) -> Self {
        let words = switching.extended_len();
        Self {
            sums: [pool.take(words), pool.take(words)],
            coefficients: pool.take(0),
            rows: pool.take(0),
            words: pool.take(0),
        }
    }

    /// The sums become those of `part`'s digits and the key, on top of what the first `added` primes have there.
    pub(crate) fn switch(
        &mut self,
        switching: &Switching,
        key: &SwitchingKey,
        part: &[u64],
        added: usize,
    ) -> Result<(), CkksError> {
        switching.decompose(part, &mut self.coefficients, &mut self.rows, self.words.as_vec())?;
        let [sum0, sum1] = &mut self.sums;
        switching.inner_products(key, part, &self.rows, [sum0, sum1], added);
        Ok(())
    }
}
