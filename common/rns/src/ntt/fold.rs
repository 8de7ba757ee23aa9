//! From the conjugate-invariant ring to a negacyclic transform of the same length, and back.
//!
//! Let psi be a primitive 4N-th root of unity and `a = a_0 + sum of a_i (X^i + X^-i)`. Its values are those at the
//! `psi^(4j+1)`, one of each pair of inverse roots of `X^2N + 1`. With `iota = psi^-N`, a square root of -1, and
//! `psi^-(N-i) psi^(4j(i-N)) = iota psi^i psi^4ji`,
//!
//! `a(psi^(4j+1)) = sum over i of (a_i + iota a_(N-i)) psi^-i (psi^2)^((2j+1) i)`,
//!
//! taking `a_N = 0`: a negacyclic transform with root psi^2 of `psi^-i (a_i + iota a_(N-i))`.

use crate::kernel::Kernels;
use crate::modulus::Modulus;

/// Factors with which `(a_i, a_(N-i))` becomes `own_i a_i + other_i a_(N-i)`, for i below N with `a_N = 0`.
struct Factors {
    own: Vec<u64>,
    other: Vec<u64>,
}

/// The factors of one degree and prime.
pub(super) struct Fold {
    /// `psi^-i` and `iota psi^-i`.
    forward: Factors,
    /// `psi^i / 2` and `-iota psi^(N-i) / 2` for 0 < i; 1 and nothing for i = 0.
    inverse: Factors,
}

impl Fold {
    /// `root` is the primitive 2N-th root of unity where the negacyclic transform takes its first value. With `psi^2 = root`
    /// the order of values is the same for all primes. Nothing if the prime is not 1 modulo 4N.
    pub(super) fn new(degree: usize, m: &Modulus, root: u64) -> Option<Self> {
        let order = 4 * degree as u64;
        let exponent = (m.value() - 1) / order;
        if exponent * order != m.value() - 1 {
            return None;
        }
        // A power of the exponent has an order that divides 4N, a power of two; it is primitive if its 2N-th power is -1.
        let primitive = (2..m.value())
            .map(|x| m.pow(x, exponent))
            .find(|&x| m.pow(x, order / 2) == m.value() - 1)?;
        // Its powers are all primitive roots; one of those, and its negative, squares to the wanted one.
        let (step, mut psi) = (m.mul(primitive, primitive), primitive);
        let mut tried = 0;
        while m.mul(psi, psi) != root {
            psi = m.mul(psi, step);
            tried += 1;
            if tried == 2 * degree {
                return None;
            }
        }
        let inverse = m.inv(psi)?;
        let half = m.inv(2)?;
        let powers_of = |x: u64| -> Vec<u64> {
            core::iter::successors(Some(1u64), |&p| Some(m.mul(p, x)))
                .take(degree)
                .collect()
        };
        let iota = m.pow(inverse, degree as u64);
        let forward = powers_of(inverse);
        let mut own = powers_of(psi);
        own[1..].iter_mut().for_each(|p| *p = m.mul(*p, half));
        let mirrored = core::iter::once(0).chain(own[1..].iter().rev().copied());
        Some(Self {
            inverse: Factors {
                other: mirrored.map(|p| m.mul(m.neg(iota), p)).collect(),
                own,
            },
            forward: Factors {
                other: forward.iter().map(|&p| m.mul(iota, p)).collect(),
                own: forward,
            },
        })
    }

    pub(super) fn forward(&self, m: &Modulus, values: &mut [u64]) {
        let Factors { own, other } = &self.forward;
        Kernels::active().mirrored_sums(m, values, own, other);
    }

    pub(super) fn inverse(&self, m: &Modulus, values: &mut [u64]) {
        let Factors { own, other } = &self.inverse;
        Kernels::active().mirrored_sums(m, values, own, other);
    }
}

#[cfg(test)]
mod tests {
    use crate::modulus::Modulus;
    use crate::ntt::Ntt;
    use crate::primes::ntt_primes;
    use crate::ring::RingKind;
    use crate::sampling::uniform;
    use crate::xof::Xof;

    /// The 2N coefficients in `Z_q[X]/(X^2N + 1)`, where `X^-i = -X^(2N-i)`.
    fn unfold(m: &Modulus, a: &[u64]) -> Vec<u64> {
        let n = a.len();
        let mut full = vec![0; 2 * n];
        full[..n].copy_from_slice(a);
        for i in 1..n {
            full[2 * n - i] = m.neg(a[i]);
        }
        full
    }

    #[test]
    fn products_are_those_of_the_cyclotomic_ring_of_twice_the_degree() {
        for (degree, bits) in [(16usize, 20), (64, 36), (256, 50)] {
            let m = Modulus::new(ntt_primes(2 * degree, bits, 1, &[]).unwrap()[0]).unwrap();
            let (real, full) = (
                Ntt::of_kind(RingKind::ConjugateInvariant, degree, m).unwrap(),
                Ntt::new(2 * degree, m).unwrap(),
            );
            let mut xof = Xof::new(&[7; 32], &[b"fold"]);
            let (mut a, mut b) = (vec![0; degree], vec![0; degree]);
            uniform(&m, &mut xof, &mut a);
            uniform(&m, &mut xof, &mut b);
            let (mut wide_a, mut wide_b) = (unfold(&m, &a), unfold(&m, &b));
            let mut x = a.clone();
            real.forward(&mut x);
            let mut back = x.clone();
            real.inverse(&mut back);
            assert_eq!(back, a);
            real.forward(&mut b);
            real.mul_assign(&mut x, &b);
            real.inverse(&mut x);
            full.forward(&mut wide_a);
            full.forward(&mut wide_b);
            full.mul_assign(&mut wide_a, &wide_b);
            full.inverse(&mut wide_a);
            assert_eq!(unfold(&m, &x), wide_a);
        }
    }

    #[test]
    fn a_prime_that_is_only_1_modulo_2n_has_no_such_transform() {
        // 97 = 6 * 16 + 1, and 96 is no multiple of 64 = 4 * 16.
        let m = Modulus::new(97).unwrap();
        assert!(Ntt::new(16, m).is_ok());
        assert!(Ntt::of_kind(RingKind::ConjugateInvariant, 16, m).is_err());
    }
}
