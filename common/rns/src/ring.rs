//! A ring of polynomials modulo Q: its kind, its degree, its primes and their transforms.

use crate::error::RnsError;
use crate::modulus::Modulus;
use crate::ntt::{Ntt, Order, check_degree};
use std::sync::{Arc, OnceLock};

/// Most primes in one ring.
pub const MAX_MODULI: usize = 64;

/// Which polynomials a ring is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RingKind {
    /// `Z_Q[X]/(X^N + 1)`: N/2 complex slots. Primes are 1 modulo 2N.
    #[default]
    Cyclotomic,
    /// The subring of `Z_Q[X]/(X^2N + 1)` that `X -> X^-1` leaves as it is: N real slots for N coefficients, those of
    /// `1` and of `X^i + X^-i` for 0 < i < N (Kim and Song, ePrint 2018/952). Primes are 1 modulo 4N.
    ConjugateInvariant,
}

impl RingKind {
    /// Primes are 1 modulo this multiple of the degree.
    #[must_use]
    pub fn order_factor(self) -> usize {
        match self {
            Self::Cyclotomic => 2,
            Self::ConjugateInvariant => 4,
        }
    }
}

/// A kind, a degree and 1 to 64 distinct primes. Rings derived from one another share transform tables.
#[derive(Debug)]
pub struct Ring {
    kind: RingKind,
    degree: usize,
    moduli: Vec<Modulus>,
    ntts: Vec<Arc<Ntt>>,
    /// The order of transformed values, once somebody has asked for it.
    order: OnceLock<Order>,
}

impl PartialEq for Ring {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.degree == other.degree && self.moduli == other.moduli
    }
}

impl Eq for Ring {}

impl Ring {
    /// The cyclotomic ring of the given degree N (a power of two, 16 to 2^17) and primes (each below 2^50 and 1
    /// modulo 2N).
    ///
    /// # Errors
    /// Whatever is wrong with the degree, a prime, their number, or a prime given twice.
    pub fn new(degree: usize, primes: &[u64]) -> Result<Arc<Self>, RnsError> {
        Self::of_kind(RingKind::Cyclotomic, degree, primes)
    }

    /// [`Self::new`] for either kind; see [`RingKind`] for the primes.
    ///
    /// # Errors
    /// Those of [`Self::new`].
    pub fn of_kind(kind: RingKind, degree: usize, primes: &[u64]) -> Result<Arc<Self>, RnsError> {
        check_degree(degree)?;
        check_count(primes.len())?;
        let ntts = primes
            .iter()
            .map(|&prime| Ok(Arc::new(Ntt::of_kind(kind, degree, Modulus::new(prime)?)?)))
            .collect::<Result<Vec<_>, RnsError>>()?;
        Self::from_ntts(kind, degree, ntts)
    }

    fn from_ntts(kind: RingKind, degree: usize, ntts: Vec<Arc<Ntt>>) -> Result<Arc<Self>, RnsError> {
        check_count(ntts.len())?;
        let moduli: Vec<Modulus> = ntts.iter().map(|ntt| *ntt.modulus()).collect();
        for (i, m) in moduli.iter().enumerate() {
            if moduli[..i].contains(m) {
                return Err(RnsError::RepeatedModulus { modulus: m.value() });
            }
        }
        Ok(Arc::new(Self {
            kind,
            degree,
            moduli,
            ntts,
            order: OnceLock::new(),
        }))
    }

    /// The ring over the first `count` primes.
    ///
    /// # Errors
    /// [`RnsError::ModulusCount`] if `count` is zero or more than there are.
    pub fn prefix(&self, count: usize) -> Result<Arc<Self>, RnsError> {
        let ntts = self.ntts.get(..count).ok_or(RnsError::ModulusCount {
            count,
            min: 1,
            max: self.moduli.len(),
        })?;
        Self::from_ntts(self.kind, self.degree, ntts.to_vec())
    }

    /// The ring over the primes of this range.
    ///
    /// # Errors
    /// [`RnsError::ModulusCount`] if the range is empty or goes beyond them.
    pub fn slice(&self, range: core::ops::Range<usize>) -> Result<Arc<Self>, RnsError> {
        let ntts = self.ntts.get(range.clone()).ok_or(RnsError::ModulusCount {
            count: range.end,
            min: 1,
            max: self.moduli.len(),
        })?;
        Self::from_ntts(self.kind, self.degree, ntts.to_vec())
    }

    /// The ring over the primes of `first`, then those of `second`.
    ///
    /// # Errors
    /// If kinds or degrees differ, a prime occurs in both, or there are too many.
    pub fn join(first: &Self, second: &Self) -> Result<Arc<Self>, RnsError> {
        if (first.kind, first.degree) != (second.kind, second.degree) {
            return Err(RnsError::RingMismatch);
        }
        Self::from_ntts(
            first.kind,
            first.degree,
            first.ntts.iter().chain(&second.ntts).cloned().collect(),
        )
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> RingKind {
        self.kind
    }

    /// The degree N.
    #[must_use]
    pub fn degree(&self) -> usize {
        self.degree
    }

    /// The primes, in order.
    #[must_use]
    pub fn moduli(&self) -> &[Modulus] {
        &self.moduli
    }

    /// The transform modulo the `index`-th prime.
    ///
    /// # Panics
    /// If there is no such prime.
    #[must_use]
    pub fn ntt(&self, index: usize) -> &Ntt {
        &self.ntts[index]
    }

    /// The order of transformed values, the same for every prime.
    pub(crate) fn order(&self) -> Result<&Order, RnsError> {
        if let Some(order) = self.order.get() {
            return Ok(order);
        }
        let refused = |ntt: &Ntt| RnsError::TransformOrder {
            modulus: ntt.modulus().value(),
        };
        let (first, others) = (&self.ntts[0], &self.ntts[1..]);
        let order = Order::find(first).ok_or_else(|| refused(first))?;
        if let Some(other) = others.iter().find(|ntt| !order.fits(ntt)) {
            return Err(refused(other));
        }
        Ok(self.order.get_or_init(|| order))
    }

    /// `log2 Q`, from the exact product, correct to about 2^-50. For display and planning.
    #[must_use]
    pub fn log2_q(&self) -> f64 {
        let product = self.product();
        let bits = bit_length(&product);
        // The top 64 bits decide the fraction: log2 Q = (bits - 64) + log2(top).
        let mut top: u64 = 0;
        for position in 0..64 {
            let bit = bits.checked_sub(1 + position).is_some_and(|at| {
                product
                    .get((at / 64) as usize)
                    .is_some_and(|limb| (limb >> (at % 64)) & 1 == 1)
            });
            top = (top << 1) | u64::from(bit);
        }
        f64::from(bits) - 64.0 + (top as f64).log2()
    }

    /// `ceil(log2 Q)`, exactly: the bits of the product, which is never a power of two.
    #[must_use]
    pub fn modulus_bits(&self) -> u32 {
        bit_length(&self.product())
    }

    fn product(&self) -> Vec<u64> {
        product(self.moduli.iter().map(Modulus::value))
    }
}

/// The bits of a product, exactly.
#[must_use]
pub fn product_bits(factors: &[u64]) -> u32 {
    bit_length(&product(factors.iter().copied()))
}

/// A product as little-endian 64-bit limbs.
fn product(factors: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut limbs = vec![1u64];
    for factor in factors {
        let mut carry = 0u128;
        for limb in &mut limbs {
            let wide = u128::from(*limb) * u128::from(factor) + carry;
            *limb = wide as u64;
            carry = wide >> 64;
        }
        if carry != 0 {
            limbs.push(carry as u64);
        }
    }
    limbs
}

fn bit_length(limbs: &[u64]) -> u32 {
    limbs
        .last()
        .map_or(0, |top| 64 * limbs.len() as u32 - top.leading_zeros())
}

fn check_count(count: usize) -> Result<(), RnsError> {
    if (1..=MAX_MODULI).contains(&count) {
        return Ok(());
    }
    Err(RnsError::ModulusCount {
        count,
        min: 1,
        max: MAX_MODULI,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primes::ntt_primes;
    use num_bigint::BigUint;

    #[test]
    fn bits_of_the_product_are_exact() {
        for (bits, count) in [(20, 1), (36, 3), (45, 7), (50, 20), (50, 64)] {
            let primes = ntt_primes(64, bits, count, &[]).unwrap();
            let ring = Ring::new(64, &primes).unwrap();
            let product: BigUint = primes.iter().map(|&p| BigUint::from(p)).product();
            assert_eq!(u64::from(ring.modulus_bits()), product.bits());
            assert_eq!(ring.modulus_bits(), product_bits(&primes));
            let sum: f64 = primes.iter().map(|&p| (p as f64).log2()).sum();
            assert!((ring.log2_q() - sum).abs() < 1e-9, "{} {sum}", ring.log2_q());
        }
    }

    #[test]
    fn derived_rings() {
        let primes = ntt_primes(64, 30, 4, &[]).unwrap();
        let ring = Ring::new(64, &primes).unwrap();
        let (head, tail) = (ring.prefix(3).unwrap(), Ring::new(64, &primes[3..]).unwrap());
        assert_eq!(Ring::join(&head, &tail).unwrap(), ring);
        assert!(matches!(
            Ring::join(&ring, &tail),
            Err(RnsError::RepeatedModulus { .. })
        ));
        assert!(matches!(
            ring.prefix(0),
            Err(RnsError::ModulusCount { count: 0, .. })
        ));
        assert!(matches!(
            ring.prefix(5),
            Err(RnsError::ModulusCount { count: 5, .. })
        ));
        let other = Ring::new(128, &ntt_primes(128, 30, 1, &[]).unwrap()).unwrap();
        assert!(matches!(Ring::join(&ring, &other), Err(RnsError::RingMismatch)));
    }

    #[test]
    fn refuses_what_is_not_a_ring() {
        let primes = ntt_primes(64, 30, 1, &[]).unwrap();
        assert!(matches!(
            Ring::new(64, &[]),
            Err(RnsError::ModulusCount { count: 0, .. })
        ));
        assert!(matches!(
            Ring::new(64, &[primes[0]; 2]),
            Err(RnsError::RepeatedModulus { .. })
        ));
        assert!(matches!(
            Ring::new(63, &primes),
            Err(RnsError::InvalidDegree { .. })
        ));
        assert!(matches!(
            Ring::new(64, &[1 << 30]),
            Err(RnsError::InvalidModulus { .. })
        ));
        assert!(matches!(
            Ring::new(1 << 16, &[97]),
            Err(RnsError::NoTransform { .. })
        ));
    }
}
