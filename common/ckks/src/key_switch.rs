//! Hybrid key switching: from a product with one secret polynomial to one with another.
//!
//! A [`SwitchingKey`] holds, for each digit j, `(b_j = -a_j s + e_j + P g_j t, a_j)` over QP, where t is what shall be
//! replaced: `s^2` for relinearisation, an image of s for automorphisms. `g_j` is 1 modulo the primes of digit j and 0
//! modulo the others. For a polynomial c with digits `c_j = c mod D_j` (centred, and extended to all of QP), `sum of
//! c_j (b_j, a_j)` is an encryption of `P c t` whose noise is the sum of the `c_j e_j`, and the division by P leaves
//! little of that (Han and Ki, ePrint 2019/688, section 3). Taking digits is separate from the sum, so that one set of
//! digits serves many keys (hoisting: Halevi and Shoup, ePrint 2018/244).

use crate::context::{Context, Digit, Division, Switching};
use crate::error::CkksError;
use crate::keys::{SecretKey, error, stream};
use crate::pool::{Buffer, Pool};
use galen_rns::kernel::Kernels;
use galen_rns::poly::{Eval, Poly};
use zeroize::Zeroizing;

/// Scratch words of a conversion, which takes no more.
const CONVERSION_WORDS: usize = 8192;

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
    pub(crate) fn assemble(
        context: &Context,
        seed: &[u8; 32],
        purpose: Purpose,
        halves: Vec<Poly<Eval>>,
    ) -> Self {
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
        let rows: usize = self.digits.iter().map(|d| all - d.size()).sum();
        rows * self.ring.degree()
    }

    /// The digits of `part` (transformed, over Q), transformed: of each in turn the residues modulo all primes of QP
    /// that are not its own. `rows` takes [`Self::digits_len`] words.
    pub(crate) fn decompose(&self, part: &[u64], rows: &mut [u64], pool: &Pool) -> Result<(), CkksError> {
        let n = self.ring.degree();
        let (mut coefficients, mut words) = (pool.take(part.len()), pool.take(CONVERSION_WORDS));
        self.inverse(part, &mut coefficients);
        let mut rest = rows;
        for digit in &self.digits {
            let (out, after) = rest.split_at_mut((self.ring.moduli().len() - digit.size()) * n);
            rest = after;
            let input = &coefficients[digit.start * n..digit.end * n];
            digit.converter.convert_with(input, out, words.as_vec())?;
            let primes = (0..digit.start).chain(digit.end..self.ring.moduli().len());
            for (residues, prime) in out.chunks_exact_mut(n).zip(primes) {
                self.ring.ntt(prime).forward(residues);
            }
        }
        Ok(())
    }

    fn inverse(&self, part: &[u64], coefficients: &mut [u64]) {
        coefficients.copy_from_slice(part);
        let rows = coefficients.chunks_exact_mut(self.ring.degree());
        for (prime, residues) in rows.enumerate() {
            self.ring.ntt(prime).inverse(residues);
        }
    }

    /// The digits of `part`, to be extended prime by prime.
    pub(crate) fn prepare<'a>(&self, part: &'a [u64], pool: &'a Pool) -> Result<Digits<'a>, CkksError> {
        let n = self.ring.degree();
        let mut coefficients = pool.take(part.len());
        self.inverse(part, &mut coefficients);
        let mut scaled = pool.take((self.own() + self.digits.len()) * n);
        let mut rest = &mut *scaled;
        for digit in &self.digits {
            let (out, after) = rest.split_at_mut((digit.size() + 1) * n);
            rest = after;
            let input = &coefficients[digit.start * n..digit.end * n];
            digit.converter.prepare(input, out)?;
        }
        Ok(Digits {
            part,
            source: Source::Prepared {
                scaled,
                rows: pool.take(self.digits.len() * n),
            },
        })
    }

    /// `sum over digits of digit * (b, a)` modulo one prime of QP, not yet divided by P: added to `sums`, or overwriting
    /// them.
    pub(crate) fn sums(
        &self,
        key: &SwitchingKey,
        digits: &mut Digits<'_>,
        prime: usize,
        sums: [&mut [u64]; 2],
        add: bool,
    ) -> Result<(), CkksError> {
        let n = self.ring.degree();
        let (own, all) = (self.own(), self.ring.moduli().len());
        let count = self.digits.len().min(MAX_DIGITS);
        digits.extend(self, prime)?;
        let empty: &[u64] = &[];
        let (mut x, mut b, mut a) = ([empty; MAX_DIGITS], [empty; MAX_DIGITS], [empty; MAX_DIGITS]);
        let mut offset = 0;
        for (index, (digit, [kb, ka])) in self.digits.iter().zip(&key.digits).enumerate().take(count) {
            x[index] = if digit.has(prime) {
                // Modulo its own primes a digit is what it was before the inverse transform.
                &digits.part[prime * n..(prime + 1) * n]
            } else {
                let (rows, row) = match &digits.source {
                    Source::Prepared { rows, .. } => (&**rows, index),
                    Source::Extended { rows } => (*rows, offset + digit.row(prime)),
                };
                &rows[row * n..(row + 1) * n]
            };
            offset += all - digit.size();
            // Residues of the key for this level's primes come first; those of the special primes after all of Q.
            let skipped = kb.ring().moduli().len() - all;
            let row = if prime < own { prime } else { prime + skipped };
            b[index] = kb.residues(row);
            a[index] = ka.residues(row);
        }
        let (m, kernels) = (&self.ring.moduli()[prime], Kernels::active());
        if add {
            kernels.inner_products_add(m, &x[..count], &b[..count], &a[..count], sums);
        } else {
            kernels.inner_products(m, &x[..count], &b[..count], &a[..count], sums);
        }
        Ok(())
    }

    /// Switches keys and divides, prime by prime, so that everything but the key is read from near caches: `first` may
    /// put what the sums modulo a prime begin with (and then returns true), `last` takes the two quotients modulo a
    /// prime that is kept.
    pub(crate) fn switch(
        &self,
        key: &SwitchingKey,
        digits: &mut Digits<'_>,
        division: &Division,
        pool: &Pool,
        mut first: impl FnMut(usize, [&mut [u64]; 2]) -> bool,
        mut last: impl FnMut(usize, [&[u64]; 2]) -> Result<(), CkksError>,
    ) -> Result<(), CkksError> {
        let n = self.ring.degree();
        let (kept, all) = (division.inverses.len(), self.ring.moduli().len());
        let dropped = all - kept;
        let mut sums = pool.take(2 * n);
        let (sum0, sum1) = sums.split_at_mut(n);
        let mut remainders = pool.take(2 * dropped * n);
        let (remainder0, remainder1) = remainders.split_at_mut(dropped * n);
        let rows = remainder0.chunks_exact_mut(n).zip(remainder1.chunks_exact_mut(n));
        for (prime, (row0, row1)) in (kept..all).zip(rows) {
            let add = first(prime, [&mut *row0, &mut *row1]);
            self.sums(key, digits, prime, [&mut *row0, &mut *row1], add)?;
            self.ring.ntt(prime).inverse(row0);
            self.ring.ntt(prime).inverse(row1);
        }
        let mut scaled = pool.take(2 * (dropped + 1) * n);
        let (scaled0, scaled1) = scaled.split_at_mut((dropped + 1) * n);
        division.converter.prepare(remainder0, scaled0)?;
        division.converter.prepare(remainder1, scaled1)?;
        let mut quotients = pool.take(2 * n);
        let (quotient0, quotient1) = quotients.split_at_mut(n);
        let kernels = Kernels::active();
        for (prime, &inverse) in division.inverses.iter().enumerate() {
            let add = first(prime, [&mut *sum0, &mut *sum1]);
            self.sums(key, digits, prime, [&mut *sum0, &mut *sum1], add)?;
            let m = &self.ring.moduli()[prime];
            for (quotient, sum, scaled) in [
                (&mut *quotient0, &*sum0, &*scaled0),
                (&mut *quotient1, &*sum1, &*scaled1),
            ] {
                division.converter.convert_row(prime, scaled, quotient)?;
                self.ring.ntt(prime).forward(quotient);
                kernels.sub_mul_scalar_assign(m, quotient, sum, inverse);
            }
            last(prime, [&*quotient0, &*quotient1])?;
        }
        Ok(())
    }
}

impl Digit {
    /// Number of its primes.
    fn size(&self) -> usize {
        self.end - self.start
    }

    /// Whether it has this prime.
    fn has(&self, prime: usize) -> bool {
        (self.start..self.end).contains(&prime)
    }

    /// The place of another prime among those that it has not.
    fn row(&self, prime: usize) -> usize {
        if prime < self.start {
            prime
        } else {
            prime - self.size()
        }
    }
}

/// The digits of a polynomial.
pub(crate) struct Digits<'a> {
    part: &'a [u64],
    source: Source<'a>,
}

enum Source<'a> {
    /// Halfway to any other prime, and one row for each digit, modulo the prime that was last asked for.
    Prepared { scaled: Buffer<'a>, rows: Buffer<'a> },
    /// As [`Switching::decompose`] gives them.
    Extended { rows: &'a [u64] },
}

impl<'a> Digits<'a> {
    /// Digits that [`Switching::decompose`] took of `part`.
    pub(crate) fn extended(part: &'a [u64], rows: &'a [u64]) -> Self {
        Self {
            part,
            source: Source::Extended { rows },
        }
    }

    /// Makes sure that the residues modulo a prime are there.
    fn extend(&mut self, switching: &Switching, prime: usize) -> Result<(), CkksError> {
        let Source::Prepared { scaled, rows } = &mut self.source else {
            return Ok(());
        };
        let n = switching.ring.degree();
        let mut rest = &**scaled;
        for (digit, row) in switching.digits.iter().zip(rows.chunks_exact_mut(n)) {
            let (scaled, after) = rest.split_at((digit.size() + 1) * n);
            rest = after;
            if !digit.has(prime) {
                digit.converter.convert_row(digit.row(prime), scaled, row)?;
                switching.ring.ntt(prime).forward(row);
            }
        }
        Ok(())
    }
}
