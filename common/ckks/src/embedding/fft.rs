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

mod eight;
mod passes;
mod squares;

use eight::WIDTH;
use galen_rns::vectorise::vectorised;
use squares::{ToCoefficients, ToEvaluations};

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
fn reverse_bits(i: usize, count: usize) -> usize {
    match count.trailing_zeros() {
        0 => 0,
        bits => i.reverse_bits() >> (usize::BITS - bits),
    }
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
