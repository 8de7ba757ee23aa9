//! A transform as plaintexts, ready to be applied to many ciphertexts.

use super::LinearTransform;
use crate::ciphertext::Plaintext;
use crate::context::Context;
use crate::error::CkksError;
use crate::extended::ExtendedPlaintext;
use std::collections::{BTreeMap, BTreeSet};

/// A [`LinearTransform`] for the ciphertexts of one level.
#[derive(Debug, Clone)]
pub struct EncodedTransform {
    pub(super) level: usize,
    pub(super) norm: f64,
    pub(super) diagonals: Diagonals,
    /// Rotations, in slots, that add up the parts of a wide matrix.
    pub(super) folds: Vec<i64>,
}

#[derive(Debug, Clone)]
pub(super) enum Diagonals {
    /// None at all.
    Zero,
    /// The main diagonal: a product slot by slot, and no rotation.
    Main(Plaintext),
    /// Baby steps, and the groups of one giant step each.
    Many {
        /// Rotations, in slots, of the vector.
        babies: Vec<i64>,
        groups: Vec<Group>,
    },
}

/// Diagonals that share a giant step.
#[derive(Debug, Clone)]
pub(super) struct Group {
    /// In slots.
    pub(super) giant: i64,
    /// Index of the baby step, and the diagonal rotated back by the giant step.
    pub(super) products: Vec<(usize, ExtendedPlaintext)>,
}

impl LinearTransform {
    /// The diagonals as plaintexts for ciphertexts of nominal scale at a level. Each takes as much memory as half a ciphertext of
    /// that level with the special primes besides.
    ///
    /// # Errors
    /// [`CkksError::NoLevelLeft`] for level 0, [`CkksError::LevelRange`], [`CkksError::PresetMismatch`] if the context has another
    /// number of slots than the one that the transform is for, [`CkksError::Overflow`].
    pub fn encode(&self, context: &Context, level: usize) -> Result<EncodedTransform, CkksError> {
        if context.slots() != self.slots {
            return Err(CkksError::PresetMismatch);
        }
        if level == 0 {
            return Err(CkksError::NoLevelLeft);
        }
        // Times the nominal scale this makes that of a product, which rescales to the nominal one.
        let scale = context.scale(level)?;
        let slots = |steps: usize| (steps * self.stride) as i64;
        let rotated_back = |diagonal: &[f64], steps: usize| -> Vec<f64> {
            // Steps are a multiple of the stride that may be longer than the diagonal.
            let start = diagonal.len() - steps % diagonal.len();
            (0..self.slots)
                .map(|slot| diagonal[(start + slot / self.stride) % diagonal.len()])
                .collect()
        };
        let magnitude = |diagonal: &[f64]| diagonal.iter().map(|w| w.abs()).fold(0.0, f64::max);
        let diagonals = if self.diagonals.is_empty() {
            Diagonals::Zero
        } else if let (1, Some(main)) = (self.diagonals.len(), self.diagonals.get(&0)) {
            let values = rotated_back(main, 0);
            Diagonals::Main(context.encode_at(&values, magnitude(main), level, scale)?)
        } else {
            let babies: BTreeSet<usize> = self.diagonals.keys().map(|i| i % self.baby_steps).collect();
            let babies: Vec<usize> = babies.into_iter().collect();
            let mut groups: BTreeMap<usize, Vec<(usize, ExtendedPlaintext)>> = BTreeMap::new();
            for (&i, diagonal) in &self.diagonals {
                let baby = i % self.baby_steps;
                let index = babies.binary_search(&baby).unwrap_or_default();
                let values = rotated_back(diagonal, i - baby);
                let plaintext = context.encode_extended(&values, magnitude(diagonal), level, scale)?;
                groups.entry(i - baby).or_default().push((index, plaintext));
            }
            Diagonals::Many {
                babies: babies.into_iter().map(slots).collect(),
                groups: groups
                    .into_iter()
                    .map(|(giant, products)| Group {
                        giant: slots(giant),
                        products,
                    })
                    .collect(),
            }
        };
        Ok(EncodedTransform {
            level,
            norm: self.norm,
            diagonals,
            folds: self.folds().into_iter().map(slots).collect(),
        })
    }
}

impl EncodedTransform {
    /// The level of the ciphertexts that it takes, or that it brings them down to. The result is one below.
    #[must_use]
    pub fn level(&self) -> usize {
        self.level
    }

    /// Whether ciphertexts of degree 2 can be transformed as they are: where no rotation is needed.
    #[must_use]
    pub fn takes_degree_2(&self) -> bool {
        !matches!(self.diagonals, Diagonals::Many { .. }) && self.folds.is_empty()
    }

    /// Rotations to have keys for, in slots.
    pub(super) fn rotations(&self) -> impl Iterator<Item = i64> {
        let (babies, groups) = match &self.diagonals {
            Diagonals::Many { babies, groups } => (babies.as_slice(), groups.as_slice()),
            _ => Default::default(),
        };
        let giants = groups.iter().map(|group| group.giant);
        babies
            .iter()
            .copied()
            .chain(giants)
            .chain(self.folds.iter().copied())
    }
}
