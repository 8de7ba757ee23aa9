//! The automorphisms `X -> X^g`, which rotate slots.
//!
//! They permute transformed values: the value of `a(X^g)` at a point is that of `a` at its g-th power. On coefficients they
//! permute too, with signs.
//!
//! In bit-reversed order eight values that stand together have exponents that differ by multiples of an eighth of the order
//! of X, and so have their images: the permutation moves whole groups of eight and permutes within them. Where that is so
//! (it is checked, not assumed) a group is one load, one permutation of a register and one store.

use crate::error::RnsError;
use crate::kernel::{Backend, active};
use crate::modulus::Modulus;
use crate::poly::{Eval, Poly};
use crate::ring::{Ring, RingKind};

impl RingKind {
    /// The order of X: 2N, or 4N in the conjugate-invariant ring. Exponents g count modulo it.
    #[must_use]
    pub fn galois_order(self, degree: usize) -> u64 {
        (self.order_factor() * degree) as u64
    }

    /// Number of slots: N/2 complex ones, or N real ones.
    #[must_use]
    pub fn slots(self, degree: usize) -> usize {
        match self {
            Self::Cyclotomic => degree / 2,
            Self::ConjugateInvariant => degree,
        }
    }

    /// The one name of the automorphism `X -> X^g`: g modulo the order of X, and in the conjugate-invariant ring, where g
    /// and -g are the same, the one of the two that is 1 modulo 4.
    ///
    /// # Errors
    /// [`RnsError::GaloisElement`] if g is even.
    pub fn canonical_galois_element(self, degree: usize, g: u64) -> Result<u64, RnsError> {
        let order = self.galois_order(degree);
        let reduced = g % order;
        match self {
            _ if reduced.is_multiple_of(2) => Err(RnsError::GaloisElement { element: g }),
            Self::ConjugateInvariant if reduced % 4 == 3 => Ok(order - reduced),
            _ => Ok(reduced),
        }
    }

    /// The g that rotates the slots by `steps` to the left: slot k of the result is slot `k + steps` of the operand,
    /// counted modulo the number of slots. It is a power of five, as slot k is the value at the `5^k`-th power of a root.
    #[must_use]
    pub fn galois_element_for_rotation(self, degree: usize, steps: i64) -> u64 {
        let steps = steps.rem_euclid(self.slots(degree) as i64);
        let order = u128::from(self.galois_order(degree));
        let (mut result, mut base, mut exponent) = (1u128, 5u128, steps);
        while exponent > 0 {
            if exponent & 1 == 1 {
                result = result * base % order;
            }
            base = base * base % order;
            exponent >>= 1;
        }
        result as u64
    }

    /// The g that conjugates complex slots. Real ones have none.
    #[must_use]
    pub fn galois_element_for_conjugation(self, degree: usize) -> Option<u64> {
        match self {
            Self::Cyclotomic => Some(self.galois_order(degree) - 1),
            Self::ConjugateInvariant => None,
        }
    }
}

/// One automorphism of the rings of one kind and degree, whatever their primes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Automorphism {
    kind: RingKind,
    degree: usize,
    galois_element: u64,
    /// Value j of the result is value `sources[j]` of the operand.
    sources: Vec<u32>,
    /// Whether each eight values of the result come from one eight of the operand.
    grouped: bool,
}

/// Values in a group.
const GROUP: usize = 8;

fn is_grouped(sources: &[u32]) -> bool {
    let group = |source: u32| source / GROUP as u32;
    sources
        .chunks_exact(GROUP)
        .all(|chunk| chunk.iter().all(|&source| group(source) == group(chunk[0])))
}

/// A permutation of one row.
fn permute(sources: &[u32], grouped: bool, backend: Backend, from: &[u64], to: &mut [u64]) {
    #[cfg(target_arch = "x86_64")]
    if grouped
        && backend == Backend::Ifma
        && let Some(simd) = pulp::x86::V4::try_new()
    {
        simd.vectorize(Groups {
            simd,
            sources,
            from,
            to,
        });
        return;
    }
    let _ = (grouped, backend);
    to.iter_mut()
        .zip(sources)
        .for_each(|(x, &source)| *x = from[source as usize]);
}

#[cfg(target_arch = "x86_64")]
struct Groups<'a> {
    simd: pulp::x86::V4,
    sources: &'a [u32],
    from: &'a [u64],
    to: &'a mut [u64],
}

#[cfg(target_arch = "x86_64")]
impl pulp::NullaryFnOnce for Groups<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self {
            simd,
            sources,
            from,
            to,
        } = self;
        let f = simd.avx512f;
        let from = from.as_chunks::<GROUP>().0;
        for (x, sources) in to
            .as_chunks_mut::<GROUP>()
            .0
            .iter_mut()
            .zip(sources.as_chunks::<GROUP>().0)
        {
            let group = from[sources[0] as usize / GROUP];
            // The permutation looks at the low three bits of each index.
            let indices = f._mm512_cvtepu32_epi64(pulp::cast(*sources));
            *x = pulp::cast(f._mm512_permutexvar_epi64(indices, pulp::cast(group)));
        }
    }
}

impl Automorphism {
    /// `X -> X^g` for rings of the kind and degree of `ring`, whose primes' transforms are checked to have one order; give
    /// the ring that has all primes in use.
    ///
    /// # Errors
    /// [`RnsError::GaloisElement`] if g is even, [`RnsError::TransformOrder`].
    pub fn new(ring: &Ring, galois_element: u64) -> Result<Self, RnsError> {
        let (kind, degree) = (ring.kind(), ring.degree());
        let g = kind.canonical_galois_element(degree, galois_element)?;
        let (order, step) = (kind.galois_order(degree), kind.order_factor() as u64);
        let positions = ring.order()?.positions();
        let mut sources = vec![0; degree];
        for (k, &at) in positions.iter().enumerate() {
            // The k-th point is the root to the power of step * k + 1. A canonical g keeps that form.
            let exponent = (step * k as u64 + 1) * g % order;
            sources[at as usize] = positions[((exponent - 1) / step) as usize];
        }
        Ok(Self {
            kind,
            degree,
            galois_element: g,
            grouped: is_grouped(&sources),
            sources,
        })
    }

    /// The canonical g.
    #[must_use]
    pub fn galois_element(&self) -> u64 {
        self.galois_element
    }

    /// The automorphism that undoes this one.
    #[must_use]
    pub fn inverse(&self) -> Self {
        let mut sources = vec![0; self.degree];
        for (j, &source) in self.sources.iter().enumerate() {
            sources[source as usize] = j as u32;
        }
        let order = self.kind.galois_order(self.degree);
        // The group of odd numbers modulo a power of two has an order that divides order / 2.
        let (mut inverse, mut square) = (1u64, self.galois_element);
        let mut exponent = order / 2 - 1;
        while exponent > 0 {
            if exponent & 1 == 1 {
                inverse = inverse * square % order;
            }
            square = square * square % order;
            exponent >>= 1;
        }
        Self {
            galois_element: inverse,
            grouped: is_grouped(&sources),
            sources,
            ..*self
        }
    }

    fn check(&self, input: &[u64], out: &[u64]) -> Result<(), RnsError> {
        let expected = input.len() - input.len() % self.degree;
        if input.len() == expected && out.len() == expected {
            return Ok(());
        }
        Err(RnsError::Length {
            expected,
            actual: if input.len() == expected {
                out.len()
            } else {
                input.len()
            },
        })
    }

    /// Transformed values, N for each of any number of primes, to those of the result.
    ///
    /// # Errors
    /// [`RnsError::Length`] if the lengths differ or are no multiple of N.
    pub fn apply_eval(&self, input: &[u64], out: &mut [u64]) -> Result<(), RnsError> {
        self.check(input, out)?;
        for (from, to) in input
            .chunks_exact(self.degree)
            .zip(out.chunks_exact_mut(self.degree))
        {
            permute(&self.sources, self.grouped, active(), from, to);
        }
        Ok(())
    }

    /// The result of this on a transformed element.
    ///
    /// # Errors
    /// [`RnsError::RingMismatch`] for an element of a ring of another kind or degree.
    pub fn apply(&self, x: &Poly<Eval>) -> Result<Poly<Eval>, RnsError> {
        if (x.ring().kind(), x.ring().degree()) != (self.kind, self.degree) {
            return Err(RnsError::RingMismatch);
        }
        let mut out = Poly::zero(x.ring());
        self.apply_eval(x.data(), out.data_mut())?;
        Ok(out)
    }

    /// Coefficients, N residues for each of `moduli`, to those of the result.
    ///
    /// # Errors
    /// [`RnsError::Length`] if there are not N for each prime.
    pub fn apply_coeff(&self, moduli: &[Modulus], input: &[u64], out: &mut [u64]) -> Result<(), RnsError> {
        let expected = moduli.len() * self.degree;
        if input.len() != expected || out.len() != expected {
            return Err(RnsError::Length {
                expected,
                actual: if input.len() == expected {
                    out.len()
                } else {
                    input.len()
                },
            });
        }
        let n = self.degree as u64;
        for i in 0..n {
            let (target, negated) = self.image(i);
            for (k, m) in moduli.iter().enumerate() {
                let x = input[k * self.degree + i as usize];
                out[k * self.degree + target] = if negated { m.neg(x) } else { x };
            }
        }
        Ok(())
    }

    /// Which basis element the i-th one becomes, and whether it is negated.
    fn image(&self, i: u64) -> (usize, bool) {
        let n = self.degree as u64;
        let exponent = i * self.galois_element % self.kind.galois_order(self.degree);
        match self.kind {
            // X^N = -1.
            RingKind::Cyclotomic => ((exponent % n) as usize, exponent >= n),
            // X^2N = -1, so with B_m = X^m + X^-m: B_(m+2N) = -B_m and B_(2N-m) = -B_m. An odd multiple of an i below N is
            // never N modulo 2N.
            RingKind::ConjugateInvariant => {
                let (half, above) = (exponent % (2 * n), exponent >= 2 * n);
                if half > n {
                    ((2 * n - half) as usize, !above)
                } else {
                    (half as usize, above)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poly::Coeff;
    use crate::primes::ntt_primes;
    use crate::xof::Xof;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn ring(kind: RingKind, degree: usize, count: usize) -> Arc<Ring> {
        Ring::of_kind(kind, degree, &ntt_primes(2 * degree, 40, count, &[]).unwrap()).unwrap()
    }

    fn kinds() -> impl Strategy<Value = RingKind> {
        prop_oneof![Just(RingKind::Cyclotomic), Just(RingKind::ConjugateInvariant)]
    }

    /// `a(X^g)` by definition, in the ring modulo `X^M + 1` with all M coefficients.
    fn substitute(m: &Modulus, full: &[u64], g: u64) -> Vec<u64> {
        let order = 2 * full.len() as u64;
        let mut out = vec![0; full.len()];
        for (i, &x) in full.iter().enumerate() {
            let exponent = i as u64 * g % order;
            let at = exponent as usize % full.len();
            out[at] = m.add(
                out[at],
                if exponent as usize >= full.len() {
                    m.neg(x)
                } else {
                    x
                },
            );
        }
        out
    }

    /// All coefficients of an element: N, or 2N with `X^-i = -X^(2N-i)`.
    fn unfold(kind: RingKind, m: &Modulus, a: &[u64]) -> Vec<u64> {
        let mut full = a.to_vec();
        if kind == RingKind::ConjugateInvariant {
            full.push(0);
            full.extend(a[1..].iter().rev().map(|&x| m.neg(x)));
        }
        full
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn values_and_coefficients_agree_with_the_definition(
            kind in kinds(), log_degree in 4u32..=8, count in 1usize..4, g: u32, seed: [u8; 32]
        ) {
            let (degree, g) = (1usize << log_degree, u64::from(g) | 1);
            let ring = ring(kind, degree, count);
            let phi = Automorphism::new(&ring, g).unwrap();
            let a = Poly::uniform(&ring, &mut Xof::new(&seed, &[b"automorphism"]));
            let (by_values, a) = (phi.apply(&a).unwrap().into_coeff(), a.into_coeff());
            let mut by_coefficients = Poly::<Coeff>::zero(&ring);
            phi.apply_coeff(ring.moduli(), a.data(), by_coefficients.data_mut()).unwrap();
            prop_assert_eq!(&by_values, &by_coefficients);
            for (k, m) in ring.moduli().iter().enumerate() {
                let expected = substitute(m, &unfold(kind, m, a.residues(k)), g);
                prop_assert_eq!(unfold(kind, m, by_values.residues(k)), expected);
            }
            let (back, image) = (phi.inverse(), by_values.into_eval());
            prop_assert_eq!(back.apply(&image).unwrap().into_coeff(), a);
            prop_assert_eq!(&Automorphism::new(&ring, back.galois_element()).unwrap(), &back);
        }

        #[test]
        fn rotations_add_up(kind in kinds(), log_degree in 4u32..=10, a in -3000i64..3000, b in -3000i64..3000) {
            let degree = 1usize << log_degree;
            let g = |steps| kind.galois_element_for_rotation(degree, steps);
            let order = kind.galois_order(degree);
            prop_assert_eq!(g(a) * g(b) % order, g(a + b));
            prop_assert_eq!(g(0), 1);
            prop_assert_eq!(g(1), 5 % order);
            prop_assert_eq!(g(kind.slots(degree) as i64), 1);
            prop_assert_eq!(kind.canonical_galois_element(degree, g(a)), Ok(g(a)));
        }
    }

    #[test]
    fn groups_or_none_permute_alike() {
        for kind in [RingKind::Cyclotomic, RingKind::ConjugateInvariant] {
            let ring = ring(kind, 1024, 1);
            let from: Vec<u64> = (0..1024).map(|x| x * x).collect();
            for g in [3, 5, 777, 2047] {
                let phi = Automorphism::new(&ring, g).unwrap();
                assert!(phi.grouped, "the transform returns values in bit-reversed order");
                let expected: Vec<u64> = phi.sources.iter().map(|&source| from[source as usize]).collect();
                for backend in Backend::ALL {
                    for grouped in [true, false] {
                        let mut to = vec![0; 1024];
                        permute(&phi.sources, grouped, backend, &from, &mut to);
                        assert_eq!(to, expected);
                    }
                }
            }
        }
        assert!(is_grouped(&[7, 6, 5, 4, 3, 2, 1, 0]));
        assert!(!is_grouped(&[7, 6, 5, 4, 3, 2, 1, 8]));
    }

    #[test]
    fn refusals() {
        let ring_16 = ring(RingKind::Cyclotomic, 16, 1);
        assert_eq!(
            Automorphism::new(&ring_16, 6),
            Err(RnsError::GaloisElement { element: 6 })
        );
        let phi = Automorphism::new(&ring_16, 3).unwrap();
        for (input, out) in [(16, 32), (15, 15), (20, 16)] {
            let (input, mut out) = (vec![0; input], vec![0; out]);
            assert!(matches!(
                phi.apply_eval(&input, &mut out),
                Err(RnsError::Length { .. })
            ));
        }
        let mut out = [0; 16];
        assert!(matches!(
            phi.apply_coeff(&[], &[0; 16], &mut out),
            Err(RnsError::Length { .. })
        ));
        for other in [
            ring(RingKind::Cyclotomic, 32, 1),
            ring(RingKind::ConjugateInvariant, 16, 1),
        ] {
            assert_eq!(phi.apply(&Poly::zero(&other)), Err(RnsError::RingMismatch));
        }
    }

    #[test]
    fn conjugation_is_its_own_inverse_and_real_slots_have_none() {
        let ring_64 = ring(RingKind::Cyclotomic, 64, 2);
        let g = RingKind::Cyclotomic.galois_element_for_conjugation(64).unwrap();
        let phi = Automorphism::new(&ring_64, g).unwrap();
        assert_eq!(phi.inverse(), phi);
        let kind = RingKind::ConjugateInvariant;
        assert_eq!(kind.galois_element_for_conjugation(64), None);
        assert_eq!(kind.canonical_galois_element(64, 255), Ok(1));
    }
}
