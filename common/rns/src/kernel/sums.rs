//! Sums of products, reduced once.

use super::Kernels;
use super::lanes::{Constant, LAZY_TERMS, Lanes, Loop, Reciprocal, partial};
use super::prefetch::{LINE, prefetch};
use crate::modulus::Modulus;

/// `V` registers of a slice from position `at`; with one register, less of it may be there.
#[inline(always)]
fn load<L: Lanes, const V: usize>(lanes: L, values: &[u64], at: usize, whole: bool) -> [L::Word; V] {
    let mut words = [lanes.splat(0); V];
    if whole {
        let chunks = L::chunks(&values[at..at + V * L::WIDTH]);
        for v in 0..V {
            words[v] = lanes.load(&chunks[v]);
        }
    } else {
        let end = values.len().min(at + L::WIDTH);
        words[0] = lanes.load(&partial::<L>(&values[at..end]));
    }
    words
}

#[inline(always)]
fn store<L: Lanes, const V: usize>(
    lanes: L,
    words: [L::Word; V],
    values: &mut [u64],
    at: usize,
    whole: bool,
) {
    if whole {
        let chunks = L::chunks_mut(&mut values[at..at + V * L::WIDTH]);
        for v in 0..V {
            chunks[v] = lanes.store(words[v]);
        }
    } else {
        let rest = &mut values[at..];
        rest.copy_from_slice(&lanes.store(words[0]).as_ref()[..rest.len()]);
    }
}

/// Words between what is worked on and what is asked for: far enough for memory to answer, near enough to stay in the
/// first-level cache until then.
const AHEAD: usize = 512;

struct WeightedSum<'a> {
    inputs: &'a [&'a [u64]],
    weights: &'a [u64],
    out: &'a mut [u64],
}

impl WeightedSum<'_> {
    #[inline(always)]
    fn block<L: Lanes, const V: usize>(&mut self, lanes: L, at: usize, whole: bool) {
        let mut folded = [lanes.splat(0); V];
        for (terms, weights) in self
            .inputs
            .chunks(LAZY_TERMS)
            .zip(self.weights.chunks(LAZY_TERMS))
        {
            let mut sums = [lanes.sum(lanes.splat(0)); V];
            for v in 0..V {
                sums[v] = lanes.sum(folded[v]);
            }
            for (input, &w) in terms.iter().zip(weights) {
                let w = lanes.factor(lanes.splat(w));
                // An input may be longer than the output; what lies beyond is not part of the sum.
                let input = &input[..self.out.len()];
                let x = load::<L, V>(lanes, input, at, whole);
                for v in 0..V {
                    sums[v] = lanes.accumulate(sums[v], lanes.factor(x[v]), w);
                }
            }
            for v in 0..V {
                folded[v] = lanes.reduce(sums[v], terms.len());
            }
        }
        store(lanes, folded, self.out, at, whole);
    }

    #[inline(always)]
    fn blocks<L: Lanes, const V: usize>(&mut self, lanes: L, mut at: usize) -> usize {
        while at + V * L::WIDTH <= self.out.len() {
            self.block::<L, V>(lanes, at, true);
            at += V * L::WIDTH;
        }
        at
    }
}

impl Loop for WeightedSum<'_> {
    #[inline(always)]
    fn run<L: Lanes>(mut self, lanes: L) {
        let mut at = 0;
        if L::MANY_REGISTERS {
            at = self.blocks::<L, 4>(lanes, at);
        }
        at = self.blocks::<L, 1>(lanes, at);
        if at < self.out.len() {
            self.block::<L, 1>(lanes, at, false);
        }
    }
}

/// `acc_0 = (acc_0) + sum x_d b_d`, `acc_1 = (acc_1) + sum x_d a_d`.
struct InnerProducts<'a> {
    digits: usize,
    x: &'a [&'a [u64]],
    b: &'a [&'a [u64]],
    a: &'a [&'a [u64]],
    out: [&'a mut [u64]; 2],
    accumulate: bool,
}

impl InnerProducts<'_> {
    #[inline(always)]
    fn block<L: Lanes, const V: usize>(&mut self, lanes: L, at: usize, whole: bool) {
        let length = self.out[0].len();
        let zero = lanes.splat(0);
        let (mut first, mut second) = ([zero; V], [zero; V]);
        if self.accumulate {
            first = load::<L, V>(lanes, self.out[0], at, whole);
            second = load::<L, V>(lanes, self.out[1], at, whole);
        }
        let mut from = 0;
        while from < self.digits {
            let to = self.digits.min(from + LAZY_TERMS);
            let mut sums = [[lanes.sum(zero); V]; 2];
            for v in 0..V {
                sums[0][v] = lanes.sum(first[v]);
                sums[1][v] = lanes.sum(second[v]);
            }
            for ((x, b), a) in self.x[from..to]
                .iter()
                .zip(&self.b[from..to])
                .zip(&self.a[from..to])
            {
                if L::MANY_REGISTERS {
                    for line in (0..V * L::WIDTH).step_by(LINE) {
                        prefetch(b, at + AHEAD + line);
                        prefetch(a, at + AHEAD + line);
                    }
                }
                let x = load::<L, V>(lanes, &x[..length], at, whole);
                let b = load::<L, V>(lanes, &b[..length], at, whole);
                let a = load::<L, V>(lanes, &a[..length], at, whole);
                for v in 0..V {
                    let x = lanes.factor(x[v]);
                    sums[0][v] = lanes.accumulate(sums[0][v], x, lanes.factor(b[v]));
                    sums[1][v] = lanes.accumulate(sums[1][v], x, lanes.factor(a[v]));
                }
            }
            for v in 0..V {
                first[v] = lanes.reduce(sums[0][v], to - from);
                second[v] = lanes.reduce(sums[1][v], to - from);
            }
            from = to;
        }
        store(lanes, first, self.out[0], at, whole);
        store(lanes, second, self.out[1], at, whole);
    }

    #[inline(always)]
    fn blocks<L: Lanes, const V: usize>(&mut self, lanes: L, mut at: usize) -> usize {
        while at + V * L::WIDTH <= self.out[0].len() {
            self.block::<L, V>(lanes, at, true);
            at += V * L::WIDTH;
        }
        at
    }
}

impl Loop for InnerProducts<'_> {
    #[inline(always)]
    fn run<L: Lanes>(mut self, lanes: L) {
        let mut at = 0;
        if L::MANY_REGISTERS {
            at = self.blocks::<L, 4>(lanes, at);
        }
        at = self.blocks::<L, 1>(lanes, at);
        if at < self.out[0].len() {
            self.block::<L, 1>(lanes, at, false);
        }
    }
}

/// `y = y w`, and `u += y / q` in fixed point.
struct ScaleWithFraction<'a> {
    w: Constant,
    reciprocal: Reciprocal,
    y: &'a mut [u64],
    u: &'a mut [u64],
    /// Turns `u` into its whole part.
    last: bool,
}

impl ScaleWithFraction<'_> {
    #[inline(always)]
    fn step<L: Lanes>(&self, lanes: L, y: L::Word, u: L::Word) -> (L::Word, L::Word) {
        let y = lanes.mul_constant(y, &self.w);
        let u = lanes.add_fraction(u, y, &self.reciprocal);
        (y, if self.last { lanes.whole(u) } else { u })
    }
}

impl Loop for ScaleWithFraction<'_> {
    #[inline(always)]
    fn run<L: Lanes>(mut self, lanes: L) {
        let length = self.y.len().min(self.u.len());
        let (y, u) = (
            &mut core::mem::take(&mut self.y)[..length],
            &mut core::mem::take(&mut self.u)[..length],
        );
        let body = length - length % L::WIDTH;
        for (y, u) in L::chunks_mut(&mut y[..body])
            .iter_mut()
            .zip(L::chunks_mut(&mut u[..body]))
        {
            let (scaled, sum) = self.step(lanes, lanes.load(y), lanes.load(u));
            (*y, *u) = (lanes.store(scaled), lanes.store(sum));
        }
        if body < length {
            let [rest] = load::<L, 1>(lanes, y, body, false);
            let [sum] = load::<L, 1>(lanes, u, body, false);
            let (scaled, sum) = self.step(lanes, rest, sum);
            store(lanes, [scaled], y, body, false);
            store(lanes, [sum], u, body, false);
        }
    }
}

/// Sums of products. Factors on the left may be any values below `2^50` (residues of another modulus, say).
impl Kernels {
    /// `out[j] = sum over k of weights[k] * inputs[k][j] mod q`.
    ///
    /// `weights` are residues. Missing inputs or weights (the shorter of the two) count as absent; an empty sum is
    /// zero. For several sums of the same inputs see [`WeightMatrix`](super::WeightMatrix).
    ///
    /// # Panics
    /// If an input is shorter than `out`.
    pub fn linear_combination(&self, modulus: &Modulus, inputs: &[&[u64]], weights: &[u64], out: &mut [u64]) {
        let terms = inputs.len().min(weights.len());
        let (inputs, weights) = (&inputs[..terms], &weights[..terms]);
        self.run(modulus, WeightedSum { inputs, weights, out });
    }

    /// `out[0] = sum x[d] b[d]` and `out[1] = sum x[d] a[d]`, in one pass: the core of key switching, modulo one prime.
    ///
    /// Over as many terms as the shortest of `x`, `b` and `a` has, and as many positions as the shorter output.
    ///
    /// # Panics
    /// If one of their slices is shorter than that.
    pub fn inner_products(
        &self,
        modulus: &Modulus,
        x: &[&[u64]],
        b: &[&[u64]],
        a: &[&[u64]],
        out: [&mut [u64]; 2],
    ) {
        self.inner(modulus, [x, b, a], out, false);
    }

    /// `acc[0] += sum x[d] b[d]` and `acc[1] += sum x[d] a[d]`; see [`Self::inner_products`].
    ///
    /// # Panics
    /// Likewise.
    pub fn inner_products_add(
        &self,
        modulus: &Modulus,
        x: &[&[u64]],
        b: &[&[u64]],
        a: &[&[u64]],
        acc: [&mut [u64]; 2],
    ) {
        self.inner(modulus, [x, b, a], acc, true);
    }

    fn inner(&self, modulus: &Modulus, [x, b, a]: [&[&[u64]]; 3], out: [&mut [u64]; 2], accumulate: bool) {
        let [first, second] = out;
        let length = first.len().min(second.len());
        self.run(
            modulus,
            InnerProducts {
                digits: x.len().min(b.len()).min(a.len()),
                x,
                b,
                a,
                out: [&mut first[..length], &mut second[..length]],
                accumulate,
            },
        );
    }

    /// `y *= w` and `u += floor(y 2^60 / q)`, the fraction as [`Reciprocal`] has it; after the `last` of several moduli
    /// `u` becomes its whole part.
    pub(crate) fn scale_with_fraction(
        &self,
        modulus: &Modulus,
        w: &Constant,
        reciprocal: &Reciprocal,
        y: &mut [u64],
        u: &mut [u64],
        last: bool,
    ) {
        self.run(
            modulus,
            ScaleWithFraction {
                w: *w,
                reciprocal: *reciprocal,
                y,
                u,
                last,
            },
        );
    }
}
