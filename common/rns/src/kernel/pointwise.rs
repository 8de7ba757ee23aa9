//! Loops in which each result depends on the operands at its own position.

use super::Kernels;
use super::lanes::{Constant, Lanes, Loop, partial};
use super::stream;
use crate::modulus::Modulus;

/// One step of such a loop: `I` operands that are read, `O` that are written and may be read before.
trait Pointwise<const I: usize, const O: usize>: Copy {
    fn apply<L: Lanes>(self, lanes: L, old: [L::Word; O], x: [L::Word; I]) -> [L::Word; O];
}

/// `name(parameter): operands read -> written = |lanes, parameter, written before, read| written`
macro_rules! pointwise {
    ($($name:ident $(($field:ty))?: $i:literal -> $o:literal
        = |$lanes:ident, $parameter:pat_param, $old:pat_param, $x:pat_param| $result:expr;)*) => {$(
        #[derive(Clone, Copy)]
        struct $name $(($field))?;

        impl Pointwise<$i, $o> for $name {
            #[inline(always)]
            fn apply<L: Lanes>(self, $lanes: L, $old: [L::Word; $o], $x: [L::Word; $i]) -> [L::Word; $o] {
                let $parameter = self;
                $result
            }
        }
    )*};
}

pointwise! {
    AddAssign: 1 -> 1 = |l, _, [a], [b]| [l.add(a, b)];
    AddInto: 2 -> 1 = |l, _, _, [a, b]| [l.add(a, b)];
    SubAssign: 1 -> 1 = |l, _, [a], [b]| [l.sub(a, b)];
    SubInto: 2 -> 1 = |l, _, _, [a, b]| [l.sub(a, b)];
    NegAssign: 0 -> 1 = |l, _, [a], []| [l.neg(a)];
    NegInto: 1 -> 1 = |l, _, _, [a]| [l.neg(a)];
    MulAssign: 1 -> 1 = |l, _, [a], [b]| [l.mul(a, b)];
    MulInto: 2 -> 1 = |l, _, _, [a, b]| [l.mul(a, b)];
    MulAddAssign: 2 -> 1 = |l, _, [c], [a, b]| [l.mul_add(a, b, c)];
    AddScalarAssign(u64): 0 -> 1 = |l, AddScalarAssign(w), [a], []| [l.add(a, l.splat(w))];
    MulScalarAssign(Constant): 0 -> 1 = |l, MulScalarAssign(w), [a], []| [l.mul_constant(a, &w)];
    MulScalarInto(Constant): 1 -> 1 = |l, MulScalarInto(w), _, [a]| [l.mul_constant(a, &w)];
    MulScalarAddAssign(Constant): 1 -> 1 = |l, MulScalarAddAssign(w), [c], [a]| [l.add(c, l.mul_constant(a, &w))];
    SubMulScalarAssign(Constant): 1 -> 1
        = |l, SubMulScalarAssign(w), [t], [x]| [l.sub_mul_constant(x, t, &w)];
    SubMulScalarAdd(Constant): 2 -> 1
        = |l, SubMulScalarAdd(w), [c], [x, t]| [l.add(c, l.sub_mul_constant(x, t, &w))];
    SubMulScalarInto(Constant): 2 -> 1
        = |l, SubMulScalarInto(w), _, [x, t]| [l.sub_mul_constant(x, t, &w)];
    Tensor: 4 -> 3 = |l, _, _, [a0, a1, b0, b1]| [l.mul(a0, b0), l.mul_sum(a0, b1, a1, b0), l.mul(a1, b1)];
    ScaledTensor(Constant): 4 -> 3 = |l, ScaledTensor(w), _, [a0, a1, b0, b1]| {
        let (a0, a1, d2) = (l.mul_constant(a0, &w), l.mul_constant(a1, &w), l.mul(a1, b1));
        [l.mul(a0, b0), l.mul_sum(a0, b1, a1, b0), d2]
    };
    ScaledSquareTensor(Constant): 2 -> 3 = |l, ScaledSquareTensor(w), _, [a0, a1]| {
        let scaled = l.mul_constant(a0, &w);
        [l.mul(scaled, a0), l.mul_sum(scaled, a1, scaled, a1), l.mul(a1, a1)]
    };
    SquareTensor: 2 -> 3
        = |l, _, _, [a0, a1]| [l.mul(a0, a0), l.mul_sum(a0, a1, a0, a1), l.mul(a1, a1)];
}

/// With `STREAM` results are written past the caches.
struct Map<'a, P, const I: usize, const O: usize, const STREAM: bool> {
    op: P,
    inputs: [&'a [u64]; I],
    outputs: [&'a mut [u64]; O],
}

impl<P: Pointwise<I, O>, const I: usize, const O: usize, const STREAM: bool> Map<'_, P, I, O, STREAM> {
    /// Positions `from..to`, less than a chunk of them.
    #[inline(always)]
    fn partial<L: Lanes>(&mut self, lanes: L, from: usize, to: usize) {
        let zero = lanes.splat(0);
        let (mut old, mut x) = ([zero; O], [zero; I]);
        for (word, values) in x.iter_mut().zip(&self.inputs) {
            *word = lanes.load(&partial::<L>(&values[from..to]));
        }
        for (word, values) in old.iter_mut().zip(&self.outputs) {
            *word = lanes.load(&partial::<L>(&values[from..to]));
        }
        let results = self.op.apply(lanes, old, x);
        for (word, values) in results.into_iter().zip(&mut self.outputs) {
            values[from..to].copy_from_slice(&lanes.store(word).as_ref()[..to - from]);
        }
    }
}

impl<P: Pointwise<I, O>, const I: usize, const O: usize, const STREAM: bool> Loop
    for Map<'_, P, I, O, STREAM>
{
    #[inline(always)]
    fn run<L: Lanes>(mut self, lanes: L) {
        let mut length = usize::MAX;
        for values in &self.inputs {
            length = length.min(values.len());
        }
        for values in &self.outputs {
            length = length.min(values.len());
        }
        // Large vectors all start at the same distance from a cache line, so aligning the first aligns the others.
        let unaligned = self.outputs[0].as_ptr().align_offset(8 * L::WIDTH);
        let head = if unaligned < L::WIDTH {
            unaligned.min(length)
        } else {
            0
        };
        let count = (length - head) / L::WIDTH;
        let tail = head + count * L::WIDTH;
        if head > 0 {
            self.partial(lanes, 0, head);
        }
        {
            let inputs = self.inputs.map(|values| &L::chunks(&values[head..tail])[..count]);
            let outputs = self
                .outputs
                .each_mut()
                .map(|values| &mut L::chunks_mut(&mut values[head..tail])[..count]);
            let zero = lanes.splat(0);
            for k in 0..count {
                let (mut old, mut x) = ([zero; O], [zero; I]);
                for i in 0..I {
                    x[i] = lanes.load(&inputs[i][k]);
                }
                for o in 0..O {
                    old[o] = lanes.load(&outputs[o][k]);
                }
                let results = self.op.apply(lanes, old, x);
                for o in 0..O {
                    if STREAM {
                        lanes.stream(results[o], &mut outputs[o][k]);
                    } else {
                        outputs[o][k] = lanes.store(results[o]);
                    }
                }
            }
        }
        if STREAM {
            stream::finish();
        }
        if tail < length {
            self.partial(lanes, tail, length);
        }
    }
}

/// Pointwise operations, over the shortest of the slices; what the others have beyond it is left alone.
///
/// Operands are residues of the modulus, in `0..q`, and so are results. Nothing is allocated and nothing branches on
/// a residue.
impl Kernels {
    fn map<P: Pointwise<I, O>, const I: usize, const O: usize>(
        &self,
        modulus: &Modulus,
        op: P,
        inputs: [&[u64]; I],
        outputs: [&mut [u64]; O],
    ) {
        self.run(modulus, Map::<_, I, O, false> { op, inputs, outputs });
    }

    /// Results that belong to `bytes` of them: where these are many, they are written past the caches.
    fn map_into<P: Pointwise<I, 1>, const I: usize>(
        &self,
        modulus: &Modulus,
        op: P,
        inputs: [&[u64]; I],
        out: &mut [u64],
        bytes: usize,
    ) {
        let outputs = [out];
        if bytes < stream::FROM {
            self.run(modulus, Map::<_, I, 1, false> { op, inputs, outputs });
        } else {
            self.run(modulus, Map::<_, I, 1, true> { op, inputs, outputs });
        }
    }

    /// [`Self::add_into`] for one of the vectors of a result that has so many bytes in all.
    pub(crate) fn add_part(
        &self,
        modulus: &Modulus,
        lhs: &[u64],
        rhs: &[u64],
        out: &mut [u64],
        bytes: usize,
    ) {
        self.map_into(modulus, AddInto, [lhs, rhs], out, bytes);
    }

    /// [`Self::sub_into`], likewise.
    pub(crate) fn sub_part(
        &self,
        modulus: &Modulus,
        lhs: &[u64],
        rhs: &[u64],
        out: &mut [u64],
        bytes: usize,
    ) {
        self.map_into(modulus, SubInto, [lhs, rhs], out, bytes);
    }

    /// [`Self::mul_into`], likewise.
    pub(crate) fn mul_part(
        &self,
        modulus: &Modulus,
        lhs: &[u64],
        rhs: &[u64],
        out: &mut [u64],
        bytes: usize,
    ) {
        self.map_into(modulus, MulInto, [lhs, rhs], out, bytes);
    }

    /// `lhs += rhs`.
    pub fn add_assign(&self, modulus: &Modulus, lhs: &mut [u64], rhs: &[u64]) {
        self.map(modulus, AddAssign, [rhs], [lhs]);
    }

    /// `out = lhs + rhs`.
    pub fn add_into(&self, modulus: &Modulus, lhs: &[u64], rhs: &[u64], out: &mut [u64]) {
        self.map(modulus, AddInto, [lhs, rhs], [out]);
    }

    /// `lhs -= rhs`.
    pub fn sub_assign(&self, modulus: &Modulus, lhs: &mut [u64], rhs: &[u64]) {
        self.map(modulus, SubAssign, [rhs], [lhs]);
    }

    /// `out = lhs - rhs`.
    pub fn sub_into(&self, modulus: &Modulus, lhs: &[u64], rhs: &[u64], out: &mut [u64]) {
        self.map(modulus, SubInto, [lhs, rhs], [out]);
    }

    /// `values = -values`.
    pub fn neg_assign(&self, modulus: &Modulus, values: &mut [u64]) {
        self.map(modulus, NegAssign, [], [values]);
    }

    /// `out = -values`.
    pub fn neg_into(&self, modulus: &Modulus, values: &[u64], out: &mut [u64]) {
        self.map(modulus, NegInto, [values], [out]);
    }

    /// `lhs *= rhs`.
    pub fn mul_assign(&self, modulus: &Modulus, lhs: &mut [u64], rhs: &[u64]) {
        self.map(modulus, MulAssign, [rhs], [lhs]);
    }

    /// `out = lhs * rhs`.
    pub fn mul_into(&self, modulus: &Modulus, lhs: &[u64], rhs: &[u64], out: &mut [u64]) {
        self.map(modulus, MulInto, [lhs, rhs], [out]);
    }

    /// `acc += lhs * rhs`.
    pub fn mul_add_assign(&self, modulus: &Modulus, acc: &mut [u64], lhs: &[u64], rhs: &[u64]) {
        self.map(modulus, MulAddAssign, [lhs, rhs], [acc]);
    }

    /// `values += w`.
    pub fn add_scalar_assign(&self, modulus: &Modulus, values: &mut [u64], w: u64) {
        self.map(modulus, AddScalarAssign(w), [], [values]);
    }

    /// `values *= w`.
    pub fn mul_scalar_assign(&self, modulus: &Modulus, values: &mut [u64], w: u64) {
        let w = Constant::new(modulus, w);
        self.map(modulus, MulScalarAssign(w), [], [values]);
    }

    /// `out = values * w`.
    pub fn mul_scalar_into(&self, modulus: &Modulus, values: &[u64], w: u64, out: &mut [u64]) {
        let w = Constant::new(modulus, w);
        self.map(modulus, MulScalarInto(w), [values], [out]);
    }

    /// `acc += values * w`.
    pub fn mul_scalar_add_assign(&self, modulus: &Modulus, acc: &mut [u64], values: &[u64], w: u64) {
        let w = Constant::new(modulus, w);
        self.map(modulus, MulScalarAddAssign(w), [values], [acc]);
    }

    /// `t = (x - t) * w`: the last step of a division, where `w` is the inverse of the divisor.
    pub fn sub_mul_scalar_assign(&self, modulus: &Modulus, t: &mut [u64], x: &[u64], w: u64) {
        let w = Constant::new(modulus, w);
        self.map(modulus, SubMulScalarAssign(w), [x], [t]);
    }

    /// `out = (x - t) * w`.
    pub fn sub_mul_scalar_into(&self, modulus: &Modulus, x: &[u64], t: &[u64], w: u64, out: &mut [u64]) {
        self.sub_mul_constant_into(modulus, x, t, &Constant::new(modulus, w), out);
    }

    pub(crate) fn sub_mul_constant_into(
        &self,
        modulus: &Modulus,
        x: &[u64],
        t: &[u64],
        w: &Constant,
        out: &mut [u64],
    ) {
        self.map(modulus, SubMulScalarInto(*w), [x, t], [out]);
    }

    /// `acc += (x - t) * w`.
    pub fn sub_mul_scalar_add_assign(
        &self,
        modulus: &Modulus,
        acc: &mut [u64],
        x: &[u64],
        t: &[u64],
        w: u64,
    ) {
        self.sub_mul_constant_add_assign(modulus, acc, x, t, &Constant::new(modulus, w));
    }

    pub(crate) fn sub_mul_constant_add_assign(
        &self,
        modulus: &Modulus,
        acc: &mut [u64],
        x: &[u64],
        t: &[u64],
        w: &Constant,
    ) {
        self.map(modulus, SubMulScalarAdd(*w), [x, t], [acc]);
    }

    /// `out = [a0 b0, a0 b1 + a1 b0, a1 b1]`: the product of two ciphertexts of degree 1.
    pub fn tensor(&self, modulus: &Modulus, a: [&[u64]; 2], b: [&[u64]; 2], out: [&mut [u64]; 3]) {
        self.map(modulus, Tensor, [a[0], a[1], b[0], b[1]], out);
    }

    /// `out = [a0^2, 2 a0 a1, a1^2]`.
    pub fn square_tensor(&self, modulus: &Modulus, a: [&[u64]; 2], out: [&mut [u64]; 3]) {
        self.map(modulus, SquareTensor, a, out);
    }

    /// [`Self::tensor`] with the first two results multiplied by `w`: by the special modulus, so that the third can be
    /// relinearised onto them before one division by it.
    pub fn scaled_tensor(
        &self,
        modulus: &Modulus,
        a: [&[u64]; 2],
        b: [&[u64]; 2],
        w: u64,
        out: [&mut [u64]; 3],
    ) {
        let w = Constant::new(modulus, w);
        self.map(modulus, ScaledTensor(w), [a[0], a[1], b[0], b[1]], out);
    }

    /// [`Self::square_tensor`] with the first two results multiplied by `w`; see [`Self::scaled_tensor`].
    pub fn scaled_square_tensor(&self, modulus: &Modulus, a: [&[u64]; 2], w: u64, out: [&mut [u64]; 3]) {
        self.map(modulus, ScaledSquareTensor(Constant::new(modulus, w)), a, out);
    }
}
