//! In which order a transform returns its values.
//!
//! The values of `a` are those at the odd powers of a root `theta`: at `theta^(2k+1)` for k below N in the
//! cyclotomic ring, at `theta^(4k+1)` in the conjugate-invariant one, where inverse points have the same value. Which
//! root theta is, and where the k-th value stands, is found by transforming the simplest element, `X` or `X + X^-1`,
//! whose value at a point tells the point.

use super::Ntt;
use crate::modulus::Modulus;
use crate::ring::RingKind;

/// Where the transform puts the value at each point: at `positions[k]` the one at the k-th odd power of the root whose
/// value comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    positions: Vec<u32>,
}

/// The values of `X` at `theta, theta^3, theta^5, ...`, or those of `X + X^-1` at `theta, theta^5, theta^9, ...`, from
/// the first of them.
fn points(kind: RingKind, m: Modulus, first: u64) -> impl Iterator<Item = u64> {
    // With x_k = theta^k + theta^-k: x_(j+k) = x_j x_k - x_(j-k).
    let square = m.mul(first, first);
    let two = m.reduce_u64(2);
    let (step, before) = match kind {
        RingKind::Cyclotomic => (square, 0),
        RingKind::ConjugateInvariant => {
            let x_2 = m.sub(square, two);
            let x_3 = m.sub(m.mul(first, x_2), first);
            (m.sub(m.mul(x_2, x_2), two), x_3)
        }
    };
    core::iter::successors(Some((first, before)), move |&(now, before)| {
        let next = m.mul(now, step);
        Some(match kind {
            RingKind::Cyclotomic => (next, 0),
            RingKind::ConjugateInvariant => (m.sub(next, before), now),
        })
    })
    .map(|(now, _)| now)
}

/// The transform of `X`, or of `X + X^-1`.
fn probe(ntt: &Ntt) -> Vec<u64> {
    let mut values = vec![0; ntt.degree()];
    values[1] = 1;
    ntt.forward(&mut values);
    values
}

impl Order {
    /// Nothing if the values are not those at the points that they should be at.
    pub(crate) fn find(ntt: &Ntt) -> Option<Self> {
        let values = probe(ntt);
        let mut sorted: Vec<(u64, u32)> = values.iter().copied().zip(0u32..).collect();
        sorted.sort_unstable();
        let positions = points(ntt.kind(), *ntt.modulus(), values[0])
            .take(values.len())
            .map(|point| {
                let at = sorted.binary_search_by_key(&point, |&(value, _)| value).ok()?;
                Some(sorted[at].1)
            })
            .collect::<Option<Vec<u32>>>()?;
        let order = Self { positions };
        // The points differ from one another, so no position occurs twice.
        order.fits(ntt).then_some(order)
    }

    /// Whether another prime's transform of the same kind and degree has the same order.
    pub(crate) fn fits(&self, ntt: &Ntt) -> bool {
        let values = probe(ntt);
        let mut seen = vec![false; values.len()];
        self.positions.len() == values.len()
            && self
                .positions
                .iter()
                .zip(points(ntt.kind(), *ntt.modulus(), values[0]))
                .all(|(&at, point)| {
                    let first_time = !core::mem::replace(&mut seen[at as usize], true);
                    first_time && values[at as usize] == point
                })
    }

    /// `positions()[k]` is where the value at `theta^(2k+1)`, or `theta^(4k+1)`, stands.
    pub(crate) fn positions(&self) -> &[u32] {
        &self.positions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primes::ntt_primes;

    #[test]
    fn every_prime_has_the_same_order_and_every_value_its_point() {
        for kind in [RingKind::Cyclotomic, RingKind::ConjugateInvariant] {
            for degree in [16usize, 256, 4096] {
                let orders: Vec<Order> = [21, 36, 50]
                    .into_iter()
                    .map(|bits| {
                        let prime = ntt_primes(2 * degree, bits, 1, &[]).unwrap()[0];
                        let ntt = Ntt::of_kind(kind, degree, Modulus::new(prime).unwrap()).unwrap();
                        let order = Order::find(&ntt).unwrap();
                        assert!(order.fits(&ntt));
                        let mut swapped = order.clone();
                        swapped.positions.swap(1, degree / 2);
                        assert!(!swapped.fits(&ntt));
                        let mut repeated = order.clone();
                        repeated.positions[3] = repeated.positions[2];
                        assert!(!repeated.fits(&ntt));
                        order
                    })
                    .collect();
                assert_eq!(orders[0], orders[1]);
                assert_eq!(orders[0], orders[2]);
            }
        }
    }

    /// A value at a point, by definition, against where the order says it stands.
    #[test]
    fn values_stand_at_their_points() {
        let degree = 32usize;
        let m = Modulus::new(ntt_primes(2 * degree, 30, 1, &[]).unwrap()[0]).unwrap();
        let coefficients: Vec<u64> = (0..degree as u64).map(|i| m.reduce_u64(i * i * 77 + 5)).collect();
        let power_sum = |point: u64| {
            let sum = coefficients.iter().zip(0u64..);
            sum.fold(0, |sum, (&c, i)| m.add(sum, m.mul(c, m.pow(point, i))))
        };
        let ntt = Ntt::of_kind(RingKind::Cyclotomic, degree, m).unwrap();
        let (mut values, order, theta) = (coefficients.clone(), Order::find(&ntt).unwrap(), probe(&ntt)[0]);
        ntt.forward(&mut values);
        for (k, &at) in order.positions().iter().enumerate() {
            assert_eq!(values[at as usize], power_sum(m.pow(theta, 2 * k as u64 + 1)));
        }

        let ntt = Ntt::of_kind(RingKind::ConjugateInvariant, degree, m).unwrap();
        let (mut values, order, first) = (coefficients.clone(), Order::find(&ntt).unwrap(), probe(&ntt)[0]);
        ntt.forward(&mut values);
        // theta is a root of unity of order 4N with theta + 1/theta = first.
        let root = (2..m.value())
            .map(|x| m.pow(x, (m.value() - 1) / (4 * degree as u64)))
            .find(|&x| m.pow(x, 2 * degree as u64) == m.value() - 1)
            .unwrap();
        let theta = (1..4 * degree as u64)
            .map(|k| m.pow(root, k))
            .find(|&x| m.add(x, m.inv(x).unwrap()) == first)
            .unwrap();
        for (k, &at) in order.positions().iter().enumerate() {
            let point = m.pow(theta, 4 * k as u64 + 1);
            let twice = m.add(power_sum(point), power_sum(m.inv(point).unwrap()));
            // The sum counts the constant term twice.
            assert_eq!(values[at as usize], m.sub(twice, coefficients[0]));
        }
    }
}
