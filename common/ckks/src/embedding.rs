//! The canonical embedding: real values in slots to real coefficients and back.
//!
//! Slot k is the evaluation at `zeta^(5^k)`, `zeta = exp(i pi / N)`, as in Cheon, Kim, Kim and Song (ePrint
//! 2016/421); the transform is the special FFT of their HEAAN library. Only additions, multiplications, divisions
//! and square roots of IEEE-754 doubles are used, which round the same everywhere, so that an encoding has the
//! same bytes on every platform.

use zeroize::Zeroize;

/// A complex number.
#[derive(Debug, Clone, Copy, PartialEq, Zeroize)]
pub(crate) struct Complex {
    pub(crate) re: f64,
    pub(crate) im: f64,
}

impl Complex {
    pub(crate) const ZERO: Self = Self { re: 0.0, im: 0.0 };

    fn add(self, other: Self) -> Self {
        Self {
            re: self.re + other.re,
            im: self.im + other.im,
        }
    }

    fn sub(self, other: Self) -> Self {
        Self {
            re: self.re - other.re,
            im: self.im - other.im,
        }
    }

    fn mul(self, other: Self) -> Self {
        Self {
            re: self.re * other.re - self.im * other.im,
            im: self.re * other.im + self.im * other.re,
        }
    }

    fn conj(self) -> Self {
        Self {
            re: self.re,
            im: -self.im,
        }
    }
}

/// The `count` roots of unity `exp(2 pi i k / count)`, `count` a power of two from 4.
///
/// By bisection of arcs from the four exact ones: a new point is the normalised sum of its neighbours, which
/// averages their errors instead of adding them up, so that all are within a few units of the last place.
fn roots_of_unity(count: usize) -> Vec<Complex> {
    let mut roots: Vec<Complex> = [(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)]
        .into_iter()
        .map(|(re, im)| Complex { re, im })
        .collect();
    while roots.len() < count {
        let mut finer = Vec::with_capacity(2 * roots.len());
        for (k, &root) in roots.iter().enumerate() {
            let sum = root.add(roots[(k + 1) % roots.len()]);
            let norm = (sum.re * sum.re + sum.im * sum.im).sqrt();
            finer.push(root);
            finer.push(Complex {
                re: sum.re / norm,
                im: sum.im / norm,
            });
        }
        roots = finer;
    }
    roots
}

/// Tables of the embedding for one ring degree.
#[derive(Debug)]
pub(crate) struct Embedding {
    slots: usize,
    /// For half-lengths 1, 2, 4, ...: the factors of one butterfly stage, one after the other.
    stages: Vec<Complex>,
}

impl Embedding {
    /// For ring degree `degree`, a power of two of at least 4.
    pub(crate) fn new(degree: usize) -> Self {
        let order = 2 * degree;
        let roots = roots_of_unity(order);
        let slots = degree / 2;
        let mut stages = Vec::with_capacity(slots);
        let mut half = 1;
        while half < slots {
            // Of the 4 * 2 half-th roots of unity, those at the powers of five.
            let group = 8 * half;
            let mut power = 1;
            for _ in 0..half {
                stages.push(roots[power * (order / group)]);
                power = power * 5 % group;
            }
            half *= 2;
        }
        Self { slots, stages }
    }

    fn bit_reverse(values: &mut [Complex]) {
        let bits = values.len().trailing_zeros();
        for i in 0..values.len() {
            let j = if bits == 0 {
                0
            } else {
                i.reverse_bits() >> (usize::BITS - bits)
            };
            if i < j {
                values.swap(i, j);
            }
        }
    }

    /// The N coefficients whose evaluation at slot k is `values[k]` for each of the N/2 slots.
    pub(crate) fn coefficients(&self, values: &mut [Complex]) -> Vec<f64> {
        debug_assert_eq!(values.len(), self.slots);
        let mut half = self.slots / 2;
        while half >= 1 {
            let factors = &self.stages[half - 1..2 * half - 1];
            for block in values.chunks_exact_mut(2 * half) {
                let (low, high) = block.split_at_mut(half);
                for ((x, y), w) in low.iter_mut().zip(high).zip(factors) {
                    let difference = x.sub(*y);
                    *x = x.add(*y);
                    *y = difference.mul(w.conj());
                }
            }
            half /= 2;
        }
        Self::bit_reverse(values);
        let factor = 1.0 / self.slots as f64;
        values
            .iter()
            .map(|z| z.re * factor)
            .chain(values.iter().map(|z| z.im * factor))
            .collect()
    }

    /// The evaluations at the N/2 slots of a polynomial given by its N coefficients.
    pub(crate) fn evaluations(&self, coefficients: &[f64]) -> Vec<Complex> {
        debug_assert_eq!(coefficients.len(), 2 * self.slots);
        let (re, im) = coefficients.split_at(self.slots);
        let mut values: Vec<Complex> = re.iter().zip(im).map(|(&re, &im)| Complex { re, im }).collect();
        Self::bit_reverse(&mut values);
        let mut half = 1;
        while half < self.slots {
            let factors = &self.stages[half - 1..2 * half - 1];
            for block in values.chunks_exact_mut(2 * half) {
                let (low, high) = block.split_at_mut(half);
                for ((x, y), w) in low.iter_mut().zip(high).zip(factors) {
                    let turned = y.mul(*w);
                    *y = x.sub(turned);
                    *x = x.add(turned);
                }
            }
            half *= 2;
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_accurate() {
        let count = 1 << 17;
        for (k, root) in roots_of_unity(count).iter().enumerate() {
            let (sin, cos) = (core::f64::consts::TAU * k as f64 / count as f64).sin_cos();
            // The reference angle is itself rounded, by up to 5e-16.
            assert!(
                (root.re - cos).abs() < 1e-15 && (root.im - sin).abs() < 1e-15,
                "{k}"
            );
        }
    }

    #[test]
    fn evaluation_is_at_the_powers_of_five() {
        for degree in [4usize, 8, 64] {
            let coefficients: Vec<f64> = (0..degree).map(|i| ((i * i + 3) % 17) as f64 - 8.0).collect();
            let embedding = Embedding::new(degree);
            let slots = embedding.evaluations(&coefficients);
            let mut exponent = 1usize;
            for (k, slot) in slots.iter().enumerate() {
                let (mut re, mut im) = (0.0, 0.0);
                for (i, c) in coefficients.iter().enumerate() {
                    let angle =
                        core::f64::consts::PI * ((i * exponent) % (2 * degree)) as f64 / degree as f64;
                    re += c * angle.cos();
                    im += c * angle.sin();
                }
                assert!(
                    (slot.re - re).abs() < 1e-10 && (slot.im - im).abs() < 1e-10,
                    "slot {k} of {degree}"
                );
                exponent = exponent * 5 % (2 * degree);
            }
            let back = embedding.coefficients(&mut slots.clone());
            for (a, b) in back.iter().zip(&coefficients) {
                assert!((a - b).abs() < 1e-12);
            }
        }
    }
}
