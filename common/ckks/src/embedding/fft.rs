//! The special FFT (Cheon, Kim, Kim and Song, ePrint 2016/421): values at the powers of five of a root of unity.
//!
//! With zeta a primitive root of unity of order 4n, n the length, the polynomial `sum of c_i X^i`, i below n, has the values
//! `z_k` at `zeta^(5^k)`, k below n: coefficients and values are both n complex numbers.
//!
//! Complex numbers are kept as separate real and imaginary parts, and butterflies run over eight of them at a time. The last
//! three halvings, where partners are in one group of eight, are joined with the reordering by reversed bits: a square
//! of 8 x 8 numbers, eight runs far apart, is read, turned and written once.
//!
//! Every number is computed by the same additions and multiplications in the same order, whichever path it takes.

use galen_rns::vectorise::{Loop, vectorised};

/// Numbers per group, and per side of a square.
const WIDTH: usize = 8;

type Group = [f64; WIDTH];

/// The factors of the butterflies of one length.
#[derive(Debug)]
pub(super) struct SpecialFft {
    length: usize,
    /// Real parts for half-lengths 1, 2, 4, ...: those of one stage at `half - 1..2 * half - 1`.
    re: Vec<f64>,
    /// Imaginary parts.
    im: Vec<f64>,
}

#[inline(always)]
fn zip(a: &Group, b: &Group, f: impl Fn(f64, f64) -> f64) -> Group {
    let mut out = [0.0; WIDTH];
    for i in 0..WIDTH {
        out[i] = f(a[i], b[i]);
    }
    out
}

/// Eight complex numbers.
#[derive(Clone, Copy)]
struct Complex8 {
    re: Group,
    im: Group,
}

impl Complex8 {
    #[inline(always)]
    fn splat(re: f64, im: f64) -> Self {
        Self {
            re: [re; WIDTH],
            im: [im; WIDTH],
        }
    }

    #[inline(always)]
    fn add(&self, other: &Self) -> Self {
        Self {
            re: zip(&self.re, &other.re, |x, y| x + y),
            im: zip(&self.im, &other.im, |x, y| x + y),
        }
    }

    #[inline(always)]
    fn sub(&self, other: &Self) -> Self {
        Self {
            re: zip(&self.re, &other.re, |x, y| x - y),
            im: zip(&self.im, &other.im, |x, y| x - y),
        }
    }

    #[inline(always)]
    fn mul(&self, w: &Self) -> Self {
        let (a, b) = (
            zip(&self.re, &w.re, |x, y| x * y),
            zip(&self.im, &w.im, |x, y| x * y),
        );
        let (c, d) = (
            zip(&self.re, &w.im, |x, y| x * y),
            zip(&self.im, &w.re, |x, y| x * y),
        );
        Self {
            re: zip(&a, &b, |x, y| x - y),
            im: zip(&c, &d, |x, y| x + y),
        }
    }

    /// By the conjugate of `w`.
    #[inline(always)]
    fn mul_conj(&self, w: &Self) -> Self {
        let (a, b) = (
            zip(&self.re, &w.re, |x, y| x * y),
            zip(&self.im, &w.im, |x, y| x * y),
        );
        let (c, d) = (
            zip(&self.re, &w.im, |x, y| x * y),
            zip(&self.im, &w.re, |x, y| x * y),
        );
        Self {
            re: zip(&a, &b, |x, y| x + y),
            im: zip(&d, &c, |x, y| x - y),
        }
    }

    /// To coefficients: `x + y` and `(x - y) / w`.
    #[inline(always)]
    fn split(x: &mut Self, y: &mut Self, w: &Self) {
        let difference = x.sub(y);
        *x = x.add(y);
        *y = difference.mul_conj(w);
    }

    /// To evaluations: `x + y w` and `x - y w`.
    #[inline(always)]
    fn join(x: &mut Self, y: &mut Self, w: &Self) {
        let turned = y.mul(w);
        *y = x.sub(&turned);
        *x = x.add(&turned);
    }
}

/// Rows to columns.
#[inline(always)]
fn turn(rows: &[Group; WIDTH]) -> [Group; WIDTH] {
    let mut columns = [[0.0; WIDTH]; WIDTH];
    for (i, row) in rows.iter().enumerate() {
        for (column, &x) in columns.iter_mut().zip(row) {
            column[i] = x;
        }
    }
    columns
}

const REVERSED: [usize; WIDTH] = [0, 4, 2, 6, 1, 5, 3, 7];

#[inline(always)]
fn reverse_bits(i: usize, count: usize) -> usize {
    match count.trailing_zeros() {
        0 => 0,
        bits => i.reverse_bits() >> (usize::BITS - bits),
    }
}

/// Two stages at a time, from half-length `half` down, or one where only one is left above the square.
#[inline(always)]
fn passes(length: usize) -> impl DoubleEndedIterator<Item = (usize, bool)> {
    let stages = (length / (2 * WIDTH)).ilog2() as usize + 1;
    let single = (stages % 2 == 1).then_some((length / 2, false));
    let first = length >> (1 + stages % 2);
    single
        .into_iter()
        .chain((0..stages / 2).map(move |i| (first >> (2 * i), true)))
}

/// Numbers that the passes below some length go through together, as many as the first-level cache holds.
const BLOCK: usize = 2048;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Coefficients,
    Evaluations,
}

impl SpecialFft {
    /// `roots` are the roots of unity of order `4 * length`, in order, as real and imaginary parts.
    pub(super) fn new(length: usize, roots: &[(f64, f64)]) -> Self {
        let (mut re, mut im) = (Vec::with_capacity(length), Vec::with_capacity(length));
        let mut half = 1;
        while half < length {
            // Of the 8 half-th roots of unity, those at the powers of five.
            let group = 8 * half;
            let mut power = 1;
            for _ in 0..half {
                let root = roots[power * (roots.len() / group)];
                re.push(root.0);
                im.push(root.1);
                power = power * 5 % group;
            }
            half *= 2;
        }
        Self { length, re, im }
    }

    #[inline(always)]
    fn stage(&self, half: usize) -> (&[f64], &[f64]) {
        let range = half - 1..2 * half - 1;
        (&self.re[range.clone()], &self.im[range])
    }

    #[inline(always)]
    fn factor(&self, half: usize, index: usize) -> Complex8 {
        Complex8::splat(self.re[half - 1 + index], self.im[half - 1 + index])
    }

    /// From values (overwritten) to coefficients, times `factor`. Imaginary parts are not written where `out_im` is empty.
    pub(super) fn coefficients(
        &self,
        re: &mut [f64],
        im: &mut [f64],
        factor: f64,
        out_re: &mut [f64],
        out_im: &mut [f64],
    ) {
        if self.length < WIDTH * WIDTH {
            self.short_coefficients(re, im, factor, out_re, out_im);
            return;
        }
        vectorised(ToCoefficients {
            fft: self,
            re,
            im,
            factor,
            out_re,
            out_im,
        });
    }

    /// From coefficients to values.
    pub(super) fn evaluations(&self, in_re: &[f64], in_im: &[f64], re: &mut [f64], im: &mut [f64]) {
        if self.length < WIDTH * WIDTH {
            self.short_evaluations(in_re, in_im, re, im);
            return;
        }
        vectorised(ToEvaluations {
            fft: self,
            in_re,
            in_im,
            re,
            im,
        });
    }

    /// The definition of the butterflies, for lengths that have no square.
    fn short_coefficients(
        &self,
        re: &mut [f64],
        im: &mut [f64],
        factor: f64,
        out_re: &mut [f64],
        out_im: &mut [f64],
    ) {
        let mut half = self.length / 2;
        while half >= 1 {
            let (wr, wi) = self.stage(half);
            for start in (0..self.length).step_by(2 * half) {
                for j in 0..half {
                    let (x, y) = (start + j, start + j + half);
                    let (dr, di) = (re[x] - re[y], im[x] - im[y]);
                    re[x] += re[y];
                    im[x] += im[y];
                    re[y] = dr * wr[j] + di * wi[j];
                    im[y] = di * wr[j] - dr * wi[j];
                }
            }
            half /= 2;
        }
        for i in 0..self.length {
            let j = reverse_bits(i, self.length);
            out_re[j] = re[i] * factor;
            if let Some(out) = out_im.get_mut(j) {
                *out = im[i] * factor;
            }
        }
    }

    fn short_evaluations(&self, in_re: &[f64], in_im: &[f64], re: &mut [f64], im: &mut [f64]) {
        for i in 0..self.length {
            let j = reverse_bits(i, self.length);
            (re[j], im[j]) = (in_re[i], in_im[i]);
        }
        let mut half = 1;
        while half < self.length {
            let (wr, wi) = self.stage(half);
            for start in (0..self.length).step_by(2 * half) {
                for j in 0..half {
                    let (x, y) = (start + j, start + j + half);
                    let (tr, ti) = (re[y] * wr[j] - im[y] * wi[j], re[y] * wi[j] + im[y] * wr[j]);
                    (re[y], im[y]) = (re[x] - tr, im[x] - ti);
                    re[x] += tr;
                    im[x] += ti;
                }
            }
            half *= 2;
        }
    }

    /// One pass over one block of numbers.
    #[inline(always)]
    fn pass(&self, direction: Direction, (half, two): (usize, bool), re: &mut [f64], im: &mut [f64]) {
        for (re, im) in re.chunks_exact_mut(2 * half).zip(im.chunks_exact_mut(2 * half)) {
            if two {
                self.two_stages(direction, half, re, im);
            } else {
                self.one_stage(direction, half, re, im);
            }
        }
    }

    #[inline(always)]
    fn one_stage(&self, direction: Direction, half: usize, re: &mut [f64], im: &mut [f64]) {
        let (wr, wi) = self.stage(half);
        let (wr, wi) = (wr.as_chunks::<WIDTH>().0, wi.as_chunks::<WIDTH>().0);
        let (xr, yr) = re.split_at_mut(half);
        let (xi, yi) = im.split_at_mut(half);
        let (xr, yr) = (xr.as_chunks_mut::<WIDTH>().0, yr.as_chunks_mut::<WIDTH>().0);
        let (xi, yi) = (xi.as_chunks_mut::<WIDTH>().0, yi.as_chunks_mut::<WIDTH>().0);
        for ((((xr, xi), (yr, yi)), wr), wi) in
            xr.iter_mut().zip(xi).zip(yr.iter_mut().zip(yi)).zip(wr).zip(wi)
        {
            let (mut x, mut y) = (Complex8 { re: *xr, im: *xi }, Complex8 { re: *yr, im: *yi });
            let w = Complex8 { re: *wr, im: *wi };
            match direction {
                Direction::Coefficients => Complex8::split(&mut x, &mut y, &w),
                Direction::Evaluations => Complex8::join(&mut x, &mut y, &w),
            }
            (*xr, *xi, *yr, *yi) = (x.re, x.im, y.re, y.im);
        }
    }

    /// The stages of `half` and of half that.
    #[inline(always)]
    fn two_stages(&self, direction: Direction, half: usize, re: &mut [f64], im: &mut [f64]) {
        let quarter = half / 2;
        let count = quarter / WIDTH;
        let (outer_re, outer_im) = self.stage(half);
        let (inner_re, inner_im) = self.stage(quarter);
        let (or, oi) = (outer_re.as_chunks::<WIDTH>().0, outer_im.as_chunks::<WIDTH>().0);
        let ((or0, or1), (oi0, oi1)) = (or.split_at(count), oi.split_at(count));
        let (ir, ii) = (
            &inner_re.as_chunks::<WIDTH>().0[..count],
            &inner_im.as_chunks::<WIDTH>().0[..count],
        );
        let (or1, oi1) = (&or1[..count], &oi1[..count]);
        let (re, im) = (re.as_chunks_mut::<WIDTH>().0, im.as_chunks_mut::<WIDTH>().0);
        let ((r01, r23), (i01, i23)) = (re.split_at_mut(2 * count), im.split_at_mut(2 * count));
        let ((r0, r1), (r2, r3)) = (r01.split_at_mut(count), r23.split_at_mut(count));
        let ((i0, i1), (i2, i3)) = (i01.split_at_mut(count), i23.split_at_mut(count));
        let (r3, i3) = (&mut r3[..count], &mut i3[..count]);
        for j in 0..count {
            let mut a = Complex8 { re: r0[j], im: i0[j] };
            let mut b = Complex8 { re: r1[j], im: i1[j] };
            let mut c = Complex8 { re: r2[j], im: i2[j] };
            let mut d = Complex8 { re: r3[j], im: i3[j] };
            let inner = Complex8 { re: ir[j], im: ii[j] };
            let outer = [
                Complex8 {
                    re: or0[j],
                    im: oi0[j],
                },
                Complex8 {
                    re: or1[j],
                    im: oi1[j],
                },
            ];
            match direction {
                Direction::Coefficients => {
                    Complex8::split(&mut a, &mut c, &outer[0]);
                    Complex8::split(&mut b, &mut d, &outer[1]);
                    Complex8::split(&mut a, &mut b, &inner);
                    Complex8::split(&mut c, &mut d, &inner);
                }
                Direction::Evaluations => {
                    Complex8::join(&mut a, &mut b, &inner);
                    Complex8::join(&mut c, &mut d, &inner);
                    Complex8::join(&mut a, &mut c, &outer[0]);
                    Complex8::join(&mut b, &mut d, &outer[1]);
                }
            }
            (r0[j], i0[j], r1[j], i1[j]) = (a.re, a.im, b.re, b.im);
            (r2[j], i2[j], r3[j], i3[j]) = (c.re, c.im, d.re, d.im);
        }
    }
}

/// The row of eight that begins at `at`.
#[inline(always)]
fn row(values: &[f64], at: usize) -> Group {
    values[at..].first_chunk().copied().unwrap_or_default()
}

#[inline(always)]
fn put(values: &mut [f64], at: usize, group: Group) {
    values[at..at + WIDTH].copy_from_slice(&group);
}

struct ToCoefficients<'a> {
    fft: &'a SpecialFft,
    re: &'a mut [f64],
    im: &'a mut [f64],
    factor: f64,
    out_re: &'a mut [f64],
    out_im: &'a mut [f64],
}

impl Loop for ToCoefficients<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self {
            fft,
            re,
            im,
            factor,
            out_re,
            out_im,
        } = self;
        let length = fft.length;
        let (re, im) = (&mut re[..length], &mut im[..length]);
        for pass in passes(length).filter(|pass| 2 * pass.0 > BLOCK) {
            fft.pass(Direction::Coefficients, pass, re, im);
        }
        let block = BLOCK.min(length);
        for (re, im) in re.chunks_exact_mut(block).zip(im.chunks_exact_mut(block)) {
            for pass in passes(length).filter(|pass| 2 * pass.0 <= BLOCK) {
                fft.pass(Direction::Coefficients, pass, re, im);
            }
        }
        let run = length / WIDTH;
        let scale = [factor; WIDTH];
        for middle in 0..run / WIDTH {
            let mut rows = [[[0.0; WIDTH]; WIDTH]; 2];
            for lane in 0..WIDTH {
                let at = REVERSED[lane] * run + middle * WIDTH;
                (rows[0][lane], rows[1][lane]) = (row(re, at), row(im, at));
            }
            let (turned_re, turned_im) = (turn(&rows[0]), turn(&rows[1]));
            let mut x: [Complex8; WIDTH] = core::array::from_fn(|i| Complex8 {
                re: turned_re[i],
                im: turned_im[i],
            });
            for half in [4, 2, 1] {
                for start in (0..WIDTH).step_by(2 * half) {
                    for j in start..start + half {
                        let (mut a, mut b) = (x[j], x[j + half]);
                        Complex8::split(&mut a, &mut b, &fft.factor(half, j - start));
                        (x[j], x[j + half]) = (a, b);
                    }
                }
            }
            let to = reverse_bits(middle, run / WIDTH) * WIDTH;
            for (i, x) in x.iter().enumerate() {
                let at = REVERSED[i] * run + to;
                put(out_re, at, zip(&x.re, &scale, |x, y| x * y));
                if !out_im.is_empty() {
                    put(out_im, at, zip(&x.im, &scale, |x, y| x * y));
                }
            }
        }
    }
}

struct ToEvaluations<'a> {
    fft: &'a SpecialFft,
    in_re: &'a [f64],
    in_im: &'a [f64],
    re: &'a mut [f64],
    im: &'a mut [f64],
}

impl Loop for ToEvaluations<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self {
            fft,
            in_re,
            in_im,
            re,
            im,
        } = self;
        let length = fft.length;
        let (re, im) = (&mut re[..length], &mut im[..length]);
        let run = length / WIDTH;
        for middle in 0..run / WIDTH {
            let mut x = [Complex8::splat(0.0, 0.0); WIDTH];
            for (i, x) in x.iter_mut().enumerate() {
                let at = REVERSED[i] * run + middle * WIDTH;
                (x.re, x.im) = (row(in_re, at), row(in_im, at));
            }
            for half in [1, 2, 4] {
                for start in (0..WIDTH).step_by(2 * half) {
                    for j in start..start + half {
                        let (mut a, mut b) = (x[j], x[j + half]);
                        Complex8::join(&mut a, &mut b, &fft.factor(half, j - start));
                        (x[j], x[j + half]) = (a, b);
                    }
                }
            }
            let (turned_re, turned_im) = (turn(&x.map(|x| x.re)), turn(&x.map(|x| x.im)));
            let to = reverse_bits(middle, run / WIDTH) * WIDTH;
            for lane in 0..WIDTH {
                let at = REVERSED[lane] * run + to;
                put(re, at, turned_re[lane]);
                put(im, at, turned_im[lane]);
            }
        }
        let block = BLOCK.min(length);
        for (re, im) in re.chunks_exact_mut(block).zip(im.chunks_exact_mut(block)) {
            for pass in passes(length).rev().filter(|pass| 2 * pass.0 <= BLOCK) {
                fft.pass(Direction::Evaluations, pass, re, im);
            }
        }
        for pass in passes(length).rev().filter(|pass| 2 * pass.0 > BLOCK) {
            fft.pass(Direction::Evaluations, pass, re, im);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::roots_of_unity;

    fn numbers(count: usize, salt: u64) -> Vec<f64> {
        let mut state = salt;
        (0..count)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (state >> 11) as f64 / (1u64 << 40) as f64 - 4096.0
            })
            .collect()
    }

    /// All bits, in both directions and at every length, of the path for short ones.
    #[test]
    fn squares_and_blocks_change_nothing() {
        for log_length in 6..=14 {
            let length = 1usize << log_length;
            let fft = SpecialFft::new(length, &roots_of_unity(4 * length));
            let (re, im) = (numbers(length, 3), numbers(length, 4));
            let (mut a, mut b, mut c) = (
                (re.clone(), im.clone()),
                (re.clone(), im.clone()),
                (re.clone(), im.clone()),
            );
            let (mut out_a, mut out_b) = (
                vec![[0.0; 2].repeat(length / 2); 2],
                vec![[0.0; 2].repeat(length / 2); 2],
            );
            let mut real = vec![0.0; length];
            let factor = 1.0 / length as f64;
            if let [x, y] = &mut out_a[..] {
                fft.coefficients(&mut a.0, &mut a.1, factor, x, y);
            }
            if let [x, y] = &mut out_b[..] {
                fft.short_coefficients(&mut b.0, &mut b.1, factor, x, y);
            }
            fft.coefficients(&mut c.0, &mut c.1, factor, &mut real, &mut []);
            assert_eq!(out_a, out_b, "length {length}");
            assert_eq!(out_a[0], real);
            fft.evaluations(&out_a[0], &out_a[1], &mut a.0, &mut a.1);
            fft.short_evaluations(&out_a[0], &out_a[1], &mut b.0, &mut b.1);
            assert_eq!(a, b, "length {length}");
            for (x, y) in a.0.iter().zip(&re).chain(a.1.iter().zip(&im)) {
                assert!((x - y).abs() < 1e-10);
            }
        }
    }
}
