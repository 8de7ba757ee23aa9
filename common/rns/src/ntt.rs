//! The number-theoretic transform of one ring kind and degree modulo one prime.

mod fold;
mod order;

use crate::error::RnsError;
use crate::kernel;
use crate::modulus::Modulus;
use crate::ring::RingKind;
use fold::Fold;
pub(crate) use order::Order;
use tfhe_ntt::prime64::Plan;

/// Smallest ring degree: one full vector register for each half of a butterfly.
pub const MIN_DEGREE: usize = 16;
/// Largest ring degree, that of the largest row in the published security tables.
pub const MAX_DEGREE: usize = 1 << 17;

/// Checks that `degree` is a power of two in [`MIN_DEGREE`]`..=`[`MAX_DEGREE`].
///
/// # Errors
/// [`RnsError::InvalidDegree`] otherwise.
pub fn check_degree(degree: usize) -> Result<(), RnsError> {
    if degree.is_power_of_two() && (MIN_DEGREE..=MAX_DEGREE).contains(&degree) {
        return Ok(());
    }
    Err(RnsError::InvalidDegree {
        degree,
        min: MIN_DEGREE,
        max: MAX_DEGREE,
    })
}

/// A transform that turns products of polynomials into products of residues.
///
/// The order of the transformed values is the (bit-reversed) order of `tfhe-ntt`, the same on every platform. It only
/// matters to code that permutes them, [`crate::automorphism`], which finds it out.
pub struct Ntt {
    modulus: Modulus,
    plan: Plan,
    /// What makes it one of the conjugate-invariant ring.
    fold: Option<Fold>,
}

impl core::fmt::Debug for Ntt {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Ntt")
            .field("degree", &self.degree())
            .field("modulus", &self.modulus)
            .finish()
    }
}

impl Ntt {
    /// Prepares the tables of one degree of the cyclotomic ring and one prime.
    ///
    /// # Errors
    /// [`RnsError::InvalidDegree`], or [`RnsError::NoTransform`] where the prime is not 1 modulo 2N.
    pub fn new(degree: usize, modulus: Modulus) -> Result<Self, RnsError> {
        Self::of_kind(RingKind::Cyclotomic, degree, modulus)
    }

    /// [`Self::new`] for either kind of ring.
    ///
    /// # Errors
    /// [`RnsError::InvalidDegree`], or [`RnsError::NoTransform`] where the prime does not fit; see [`RingKind`].
    pub fn of_kind(kind: RingKind, degree: usize, modulus: Modulus) -> Result<Self, RnsError> {
        check_degree(degree)?;
        let order = (kind.order_factor() * degree) as u64;
        let no_transform = RnsError::NoTransform {
            modulus: modulus.value(),
            order,
        };
        if modulus.value() % order != 1 {
            return Err(no_transform);
        }
        let plan = Plan::try_new(degree, modulus.value()).ok_or(no_transform.clone())?;
        let fold = match kind {
            RingKind::Cyclotomic => None,
            RingKind::ConjugateInvariant => {
                let mut x = vec![0; degree];
                x[1] = 1;
                plan.fwd(&mut x);
                Some(Fold::new(degree, &modulus, x[0]).ok_or(no_transform)?)
            }
        };
        Ok(Self { modulus, plan, fold })
    }

    /// The kind of ring.
    #[must_use]
    pub fn kind(&self) -> RingKind {
        match self.fold {
            None => RingKind::Cyclotomic,
            Some(_) => RingKind::ConjugateInvariant,
        }
    }

    /// The ring degree N.
    #[must_use]
    pub fn degree(&self) -> usize {
        self.plan.ntt_size()
    }

    /// The prime.
    #[must_use]
    pub fn modulus(&self) -> &Modulus {
        &self.modulus
    }

    /// Coefficients (natural order, residues below q) to transformed values, in place.
    ///
    /// # Panics
    /// If `values` has not exactly N elements.
    #[inline]
    pub fn forward(&self, values: &mut [u64]) {
        if let Some(fold) = &self.fold {
            fold.forward(&self.modulus, values);
        }
        self.plan.fwd(values);
    }

    /// The inverse of [`Self::forward`], normalised.
    ///
    /// # Panics
    /// If `values` has not exactly N elements.
    #[inline]
    pub fn inverse(&self, values: &mut [u64]) {
        self.plan.inv(values);
        self.plan.normalize(values);
        if let Some(fold) = &self.fold {
            fold.inverse(&self.modulus, values);
        }
    }

    /// `lhs[j] *= rhs[j]`: the product of two transformed polynomials.
    #[inline]
    pub fn mul_assign(&self, lhs: &mut [u64], rhs: &[u64]) {
        kernel::mul_assign(&self.modulus, lhs, rhs);
    }

    /// `acc[j] += lhs[j] * rhs[j]`.
    #[inline]
    pub fn mul_add_assign(&self, acc: &mut [u64], lhs: &[u64], rhs: &[u64]) {
        kernel::mul_add_assign(&self.modulus, acc, lhs, rhs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primes::ntt_primes;
    use crate::sampling::uniform;
    use crate::xof::Xof;
    use proptest::prelude::*;

    fn schoolbook(m: &Modulus, a: &[u64], b: &[u64]) -> Vec<u64> {
        let n = a.len();
        let mut out = vec![0; n];
        for (i, &x) in a.iter().enumerate() {
            for (j, &y) in b.iter().enumerate() {
                let p = m.mul(x, y);
                let k = (i + j) % n;
                out[k] = if i + j < n {
                    m.add(out[k], p)
                } else {
                    m.sub(out[k], p)
                };
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn products_are_negacyclic(log_degree in 4u32..=8, bits in 18u32..=50, seed: [u8; 32]) {
            let degree = 1 << log_degree;
            let ntt = Ntt::new(degree, Modulus::new(ntt_primes(degree, bits, 1, &[]).unwrap()[0]).unwrap()).unwrap();
            let mut xof = Xof::new(&seed, &[b"ntt test"]);
            let (mut a, mut b) = (vec![0; degree], vec![0; degree]);
            uniform(ntt.modulus(), &mut xof, &mut a);
            uniform(ntt.modulus(), &mut xof, &mut b);
            let expected = schoolbook(ntt.modulus(), &a, &b);
            let mut x = a.clone();
            ntt.forward(&mut x);
            let mut back = x.clone();
            ntt.inverse(&mut back);
            prop_assert_eq!(&back, &a);
            ntt.forward(&mut b);
            prop_assert!(x.iter().chain(&b).all(|&v| v < ntt.modulus().value()));
            let mut sum = x.clone();
            ntt.mul_add_assign(&mut sum, &x, &b);
            ntt.mul_assign(&mut x, &b);
            ntt.inverse(&mut x);
            prop_assert_eq!(&x, &expected);
            ntt.inverse(&mut sum);
            for j in 0..degree {
                prop_assert_eq!(sum[j], ntt.modulus().add(a[j], expected[j]));
            }
        }
    }

    #[test]
    fn extreme_residues_round_trip_at_every_degree() {
        let mut degree = MIN_DEGREE;
        while degree <= MAX_DEGREE {
            for bits in [30, 50] {
                let m = Modulus::new(ntt_primes(degree, bits, 1, &[]).unwrap()[0]).unwrap();
                let ntt = Ntt::new(degree, m).unwrap();
                let input = vec![m.value() - 1; degree];
                let mut x = input.clone();
                ntt.forward(&mut x);
                ntt.inverse(&mut x);
                assert_eq!(x, input);
            }
            degree *= 4;
        }
    }

    #[test]
    fn refuses_unsuitable_parameters() {
        let m = Modulus::new(97).unwrap();
        assert!(matches!(
            Ntt::new(8, m),
            Err(RnsError::InvalidDegree { degree: 8, .. })
        ));
        assert!(matches!(
            Ntt::new(48, m),
            Err(RnsError::InvalidDegree { degree: 48, .. })
        ));
        assert!(matches!(
            Ntt::new(32, m),
            Err(RnsError::NoTransform {
                modulus: 97,
                order: 64
            })
        ));
        assert!(Ntt::new(16, m).is_ok());
    }
}
