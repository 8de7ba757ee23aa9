//! The canonical embedding: values in slots to real coefficients and back.
//!
//! In the cyclotomic ring slot k is the complex value at `zeta^(5^k)`, `zeta = exp(i pi / N)`, for k below N/2, as in
//! Cheon, Kim, Kim and Song (ePrint 2016/421).
//!
//! In the conjugate-invariant ring slot k is the real value `a_0 + sum of 2 a_i cos(i 5^k pi / (2N))`, that of
//! `a_0 + sum of a_i (X^i + X^-i)` at `exp(i pi 5^k / (2N))`, for k below N (Kim and Song, ePrint 2018/952). As an element
//! of the cyclotomic ring of twice the degree it has the coefficients `a_i` and `-a_(2N-i)`, so it goes through
//! the complex transform of that ring, which has as many slots.
//!
//! Only additions, multiplications, divisions and square roots of IEEE-754 doubles are used, which round the same
//! everywhere, so that an encoding has the same bytes on every platform.

mod fft;

use fft::SpecialFft;
use galen_rns::ring::RingKind;
use zeroize::Zeroizing;

/// The `count` roots of unity `exp(2 pi i k / count)`, `count` a power of two from 4, as real and imaginary parts.
///
/// By bisection of arcs from the four exact ones: a new point is the normalised sum of its neighbours, which
/// averages their errors instead of adding them up, so that all are within a few units of the last place.
fn roots_of_unity(count: usize) -> Vec<(f64, f64)> {
    let mut roots = vec![(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)];
    while roots.len() < count {
        let mut finer = Vec::with_capacity(2 * roots.len());
        for (k, &root) in roots.iter().enumerate() {
            let next: (f64, f64) = roots[(k + 1) % roots.len()];
            let sum: (f64, f64) = (root.0 + next.0, root.1 + next.1);
            let norm = (sum.0 * sum.0 + sum.1 * sum.1).sqrt();
            finer.push(root);
            finer.push((sum.0 / norm, sum.1 / norm));
        }
        roots = finer;
    }
    roots
}

/// Tables of the embedding for one ring.
#[derive(Debug)]
pub(crate) struct Embedding {
    kind: RingKind,
    slots: usize,
    fft: SpecialFft,
}

impl Embedding {
    /// For a ring of this kind and degree, a power of two of at least 4.
    pub(crate) fn new(kind: RingKind, degree: usize) -> Self {
        let slots = kind.slots(degree);
        Self {
            kind,
            slots,
            fft: SpecialFft::new(slots, &roots_of_unity(4 * slots)),
        }
    }

    /// Writes the N coefficients whose value at slot k is `re[k] + i im[k]`, for each of the slots. `re` and `im` are
    /// overwritten; in the conjugate-invariant ring `im` is to be zero.
    pub(crate) fn coefficients(&self, re: &mut [f64], im: &mut [f64], out: &mut [f64]) {
        let (out_re, out_im) = out.split_at_mut(self.slots);
        self.fft
            .coefficients(re, im, 1.0 / self.slots as f64, out_re, out_im);
    }

    /// Writes the values at the slots of the polynomial with these N coefficients.
    pub(crate) fn evaluations(&self, coefficients: &[f64], re: &mut [f64], im: &mut [f64]) {
        let (in_re, in_im) = coefficients.split_at(self.slots);
        if self.kind == RingKind::Cyclotomic {
            self.fft.evaluations(in_re, in_im, re, im);
            return;
        }
        // Coefficients N to 2N of the element as one of the ring of twice the degree.
        let mut upper = Zeroizing::new(vec![0.0; self.slots]);
        let mirrored = in_re[1..].iter().rev();
        upper[1..].iter_mut().zip(mirrored).for_each(|(x, &a)| *x = -a);
        self.fft.evaluations(in_re, &upper, re, im);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::f64::consts::{PI, TAU};

    #[test]
    fn roots_are_accurate() {
        let count = 1 << 17;
        for (k, root) in roots_of_unity(count).iter().enumerate() {
            let (sin, cos) = (TAU * k as f64 / count as f64).sin_cos();
            // The reference angle is itself rounded, by up to 5e-16.
            assert!(
                (root.0 - cos).abs() < 1e-15 && (root.1 - sin).abs() < 1e-15,
                "{k}"
            );
        }
    }

    fn numbers(count: usize) -> Vec<f64> {
        (0..count).map(|i| ((i * i + 3) % 17) as f64 - 8.0).collect()
    }

    fn check_back(embedding: &Embedding, coefficients: &[f64], mut re: Vec<f64>, mut im: Vec<f64>) {
        let mut back = vec![0.0; coefficients.len()];
        embedding.coefficients(&mut re, &mut im, &mut back);
        for (a, b) in back.iter().zip(coefficients) {
            assert!((a - b).abs() < 1e-11, "{a} {b}");
        }
    }

    #[test]
    fn evaluation_is_at_the_powers_of_five() {
        for degree in [4usize, 8, 64, 256, 1024] {
            let coefficients = numbers(degree);
            let embedding = Embedding::new(RingKind::Cyclotomic, degree);
            let (mut slots_re, mut slots_im) = (vec![0.0; degree / 2], vec![0.0; degree / 2]);
            embedding.evaluations(&coefficients, &mut slots_re, &mut slots_im);
            let mut exponent = 1usize;
            for k in 0..degree / 2 {
                let (mut re, mut im) = (0.0, 0.0);
                for (i, c) in coefficients.iter().enumerate() {
                    let angle = PI * ((i * exponent) % (2 * degree)) as f64 / degree as f64;
                    re += c * angle.cos();
                    im += c * angle.sin();
                }
                assert!(
                    (slots_re[k] - re).abs() < 1e-9 && (slots_im[k] - im).abs() < 1e-9,
                    "slot {k} of {degree}"
                );
                exponent = exponent * 5 % (2 * degree);
            }
            check_back(&embedding, &coefficients, slots_re, slots_im);
        }
    }

    #[test]
    fn real_slots_are_cosine_sums() {
        for degree in [4usize, 16, 64, 256, 1024] {
            let coefficients = numbers(degree);
            let embedding = Embedding::new(RingKind::ConjugateInvariant, degree);
            let (mut slots, mut rest) = (vec![0.0; degree], vec![0.0; degree]);
            embedding.evaluations(&coefficients, &mut slots, &mut rest);
            assert!(rest.iter().all(|x| x.abs() < 1e-9));
            let mut exponent = 1usize;
            for (k, slot) in slots.iter().enumerate() {
                let cosines = coefficients.iter().enumerate().skip(1).map(|(i, a)| {
                    let angle = PI * ((i * exponent) % (4 * degree)) as f64 / (2 * degree) as f64;
                    2.0 * a * angle.cos()
                });
                let expected = coefficients[0] + cosines.sum::<f64>();
                assert!((slot - expected).abs() < 1e-9, "slot {k} of {degree}");
                exponent = exponent * 5 % (4 * degree);
            }
            check_back(&embedding, &coefficients, slots, vec![0.0; degree]);
        }
    }
}
