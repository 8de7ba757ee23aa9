//! Sums of each value and its mirror image with factors of their own: what turns the conjugate-invariant ring's transform
//! into a negacyclic one (`crate::ntt`).

use super::Kernels;
use super::lanes::{Lanes, Loop};
use crate::modulus::Modulus;

struct Mirrored<'a> {
    low: [&'a [u64]; 2],
    high: [&'a [u64]; 2],
    values: [&'a mut [u64]; 2],
}

#[inline(always)]
fn reversed<C: Copy + AsMut<[u64]>>(mut chunk: C) -> C {
    chunk.as_mut().reverse();
    chunk
}

impl Loop for Mirrored<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self {
            low: [low_own, low_other],
            high: [high_own, high_other],
            values: [low, high],
        } = self;
        let (low_own, low_other) = (L::chunks(low_own), L::chunks(low_other));
        let (high_own, high_other) = (L::chunks(high_own), L::chunks(high_other));
        let (low, high) = (L::chunks_mut(low), L::chunks_mut(high));
        let pairs = low.iter_mut().zip(high.iter_mut().rev());
        let low_factors = low_own.iter().zip(low_other);
        let high_factors = high_own.iter().zip(high_other).rev();
        for (((x, y), (a, b)), (c, d)) in pairs.zip(low_factors).zip(high_factors) {
            let (x_mirrored, y_mirrored) = (lanes.load(&reversed(*x)), lanes.load(&reversed(*y)));
            *x = lanes.store(lanes.mul_sum(lanes.load(x), lanes.load(a), y_mirrored, lanes.load(b)));
            *y = lanes.store(lanes.mul_sum(lanes.load(y), lanes.load(c), x_mirrored, lanes.load(d)));
        }
    }
}

impl Kernels {
    /// `values[i] = own[i] values[i] + other[i] values[n - i]` for 0 < i < n, at once. The first value, which has no
    /// mirror image, stays as it is. All three have n residues, n a multiple of 16.
    pub(crate) fn mirrored_sums(&self, modulus: &Modulus, values: &mut [u64], own: &[u64], other: &[u64]) {
        /// A multiple of the lanes of any backend.
        const WIDTH: usize = 8;
        let n = values.len();
        let count = (n / 2 - 1) / WIDTH * WIDTH;
        let (low, high) = values.split_at_mut(n / 2);
        self.run(
            modulus,
            Mirrored {
                low: [&own[1..=count], &other[1..=count]],
                high: [&own[n - count..], &other[n - count..]],
                values: [&mut low[1..=count], &mut high[n / 2 - count..]],
            },
        );
        for i in count + 1..=n / 2 {
            let (x, y) = (values[i], values[n - i]);
            let sum = |i: usize, x: u64, y: u64| modulus.mul_add(x, own[i], modulus.mul(y, other[i]));
            (values[i], values[n - i]) = (sum(i, x, y), sum(n - i, y, x));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Backend;
    use crate::primes::ntt_primes;
    use crate::sampling::uniform;
    use crate::xof::Xof;

    #[test]
    fn every_backend_agrees_with_the_definition() {
        for (n, bits) in [(16, 20), (32, 36), (64, 50), (1024, 45)] {
            let m = Modulus::new(ntt_primes(n, bits, 1, &[]).unwrap()[0]).unwrap();
            let mut xof = Xof::new(&[3; 32], &[b"mirrored"]);
            let [mut values, own, other] = [(); 3].map(|()| {
                let mut row = vec![0; n];
                uniform(&m, &mut xof, &mut row);
                row
            });
            values[n / 2] = m.value() - 1;
            let mut expected = values.clone();
            for i in 1..n {
                expected[i] = m.mul_add(values[i], own[i], m.mul(values[n - i], other[i]));
            }
            for kernels in Backend::ALL.into_iter().filter_map(|b| Kernels::on(b).ok()) {
                let mut got = values.clone();
                kernels.mirrored_sums(&m, &mut got, &own, &other);
                assert_eq!(got, expected, "{} at {n}", kernels.backend());
            }
        }
    }
}
