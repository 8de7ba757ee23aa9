//! Keys for rotating slots and for conjugating them.
//!
//! The automorphism `phi: X -> X^g` takes an encryption under s to one under phi(s). Here switching comes first, from s to
//! `phi^-1(s)`, and phi last, which brings that back to s: so digits that were taken once serve every rotation as they
//! are, and only the two sums are permuted.

use crate::context::Context;
use crate::error::CkksError;
use crate::key_switch::{Purpose, SwitchingKey};
use crate::keys::{KeyDigest, SecretKey, derive};
use galen_rns::automorphism::Automorphism;
use galen_rns::poly::{Eval, Poly};
use std::collections::BTreeMap;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Most keys in one [`GaloisKeys`].
pub const MAX_GALOIS_KEYS: usize = 1024;

/// The streams of the key for X -> X^g: 64 digits for each odd g.
fn purpose(galois_element: u64) -> Purpose {
    Purpose {
        uniform: "galois key",
        error: "galois error",
        first: galois_element << 6,
    }
}

/// Keys for rotations, and for conjugation. All belong to one secret key, and every key depends on that and its
/// automorphism alone.
#[derive(Clone)]
pub struct GaloisKeys {
    pub(crate) context: Arc<Context>,
    digest: KeyDigest,
    pub(crate) seed: [u8; 32],
    /// By Galois element.
    pub(crate) keys: BTreeMap<u64, GaloisKey>,
}

/// The key of one automorphism, with its permutation.
#[derive(Clone)]
pub(crate) struct GaloisKey {
    pub(crate) automorphism: Automorphism,
    pub(crate) key: SwitchingKey,
}

impl core::fmt::Debug for GaloisKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("GaloisKeys")
            .field("digest", &self.digest)
            .field("elements", &self.keys.keys())
            .finish_non_exhaustive()
    }
}

impl SecretKey {
    /// Keys for rotations by these numbers of slots to the left (negative: to the right), always the same. They count
    /// modulo the number of slots; repeated ones and zero are skipped.
    ///
    /// # Errors
    /// [`CkksError::Count`] if nothing is left or more than [`MAX_GALOIS_KEYS`].
    pub fn galois_keys(&self, steps: &[i64]) -> Result<GaloisKeys, CkksError> {
        self.generate_galois(self.context.rotation_elements(steps))
    }

    /// [`Self::galois_keys`], and the key for conjugation; `steps` may be empty here.
    ///
    /// # Errors
    /// [`CkksError::NoConjugation`] in the conjugate-invariant ring, [`CkksError::Count`].
    pub fn galois_keys_and_conjugation(&self, steps: &[i64]) -> Result<GaloisKeys, CkksError> {
        let mut elements = self.context.rotation_elements(steps);
        elements.push(self.context.conjugation_element()?);
        self.generate_galois(elements)
    }

    fn generate_galois(&self, mut elements: Vec<u64>) -> Result<GaloisKeys, CkksError> {
        elements.sort_unstable();
        elements.dedup();
        check_count(elements.len())?;
        let context = &self.context;
        let seed = derive(context, &self.seed, "galois uniform");
        let mut keys = BTreeMap::new();
        for element in elements {
            let automorphism = Automorphism::new(context.key_ring(), element)?;
            let image = Zeroizing::new(automorphism.inverse().apply(&self.secret)?);
            // From products with s to ones with phi^-1(s).
            let key = SwitchingKey::generate(self, &seed, purpose(element), &image, &self.secret)?;
            keys.insert(element, GaloisKey { automorphism, key });
        }
        Ok(GaloisKeys {
            context: Arc::clone(context),
            digest: self.digest(),
            seed,
            keys,
        })
    }
}

fn check_count(count: usize) -> Result<(), CkksError> {
    if (1..=MAX_GALOIS_KEYS).contains(&count) {
        return Ok(());
    }
    Err(CkksError::Count {
        count,
        min: 1,
        max: MAX_GALOIS_KEYS,
    })
}

impl Context {
    fn rotation_element(&self, steps: i64) -> u64 {
        let (kind, degree) = (self.preset().spec().ring, self.degree());
        kind.galois_element_for_rotation(degree, steps)
    }

    /// The Galois elements of rotations, without that of none.
    fn rotation_elements(&self, steps: &[i64]) -> Vec<u64> {
        let elements = steps.iter().map(|&steps| self.rotation_element(steps));
        elements.filter(|&element| element != 1).collect()
    }

    pub(crate) fn conjugation_element(&self) -> Result<u64, CkksError> {
        let (kind, degree) = (self.preset().spec().ring, self.degree());
        kind.galois_element_for_conjugation(degree)
            .ok_or(CkksError::NoConjugation)
    }

    /// Every Galois element that a key may be for.
    pub(crate) fn is_galois_element(&self, element: u64) -> bool {
        let (kind, degree) = (self.preset().spec().ring, self.degree());
        element > 1 && kind.canonical_galois_element(degree, element) == Ok(element)
    }
}

impl GaloisKeys {
    /// From its stored parts; the halves are over the key ring and the elements canonical.
    pub(crate) fn assemble(
        context: &Arc<Context>,
        digest: KeyDigest,
        seed: [u8; 32],
        halves: Vec<(u64, Vec<Poly<Eval>>)>,
    ) -> Result<Self, CkksError> {
        let mut keys = BTreeMap::new();
        for (element, halves) in halves {
            let automorphism = Automorphism::new(context.key_ring(), element)?;
            let key = SwitchingKey::assemble(context, &seed, purpose(element), halves);
            keys.insert(element, GaloisKey { automorphism, key });
        }
        Ok(Self {
            context: Arc::clone(context),
            digest,
            seed,
            keys,
        })
    }

    /// The name of the key that these belong to, as their maker states it.
    #[must_use]
    pub fn digest(&self) -> KeyDigest {
        self.digest
    }

    /// The rotations that there are keys for, to the left, in ascending order.
    #[must_use]
    pub fn rotations(&self) -> Vec<usize> {
        let (kind, degree) = (self.context.preset().spec().ring, self.context.degree());
        let order = kind.galois_order(degree);
        let mut element = 1;
        let mut steps = Vec::new();
        for step in 1..self.context.slots() {
            element = element * 5 % order;
            if self.keys.contains_key(&element) {
                steps.push(step);
            }
        }
        steps
    }

    /// Whether there is a key for this rotation. None is needed for zero steps.
    #[must_use]
    pub fn has_rotation(&self, steps: i64) -> bool {
        let elements = self.context.rotation_elements(&[steps]);
        elements.iter().all(|element| self.keys.contains_key(element))
    }

    /// Whether there is a key for conjugation.
    #[must_use]
    pub fn has_conjugation(&self) -> bool {
        let element = self.context.conjugation_element();
        element.is_ok_and(|element| self.keys.contains_key(&element))
    }

    /// These keys and those of `other`, which are of the same secret key.
    ///
    /// # Errors
    /// [`CkksError::PresetMismatch`], [`CkksError::KeyMismatch`], [`CkksError::Count`].
    pub fn merge(mut self, other: Self) -> Result<Self, CkksError> {
        if self.context.digest() != other.context.digest() {
            return Err(CkksError::PresetMismatch);
        }
        if self.digest != other.digest || self.seed != other.seed {
            return Err(CkksError::KeyMismatch);
        }
        self.keys.extend(other.keys);
        check_count(self.keys.len())?;
        Ok(self)
    }

    /// The key of a rotation; nothing for zero steps.
    pub(crate) fn rotation(&self, steps: i64) -> Result<Option<&GaloisKey>, CkksError> {
        let element = self.context.rotation_element(steps);
        if element == 1 {
            return Ok(None);
        }
        self.keys
            .get(&element)
            .map(Some)
            .ok_or_else(|| CkksError::MissingRotation {
                steps: steps.rem_euclid(self.context.slots() as i64) as usize,
                slots: self.context.slots(),
                available: self.keys.len() - usize::from(self.has_conjugation()),
            })
    }

    /// The key of conjugation.
    pub(crate) fn conjugation(&self) -> Result<&GaloisKey, CkksError> {
        let element = self.context.conjugation_element()?;
        self.keys.get(&element).ok_or(CkksError::MissingConjugation)
    }
}
