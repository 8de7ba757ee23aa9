//! Weighted sums of ciphertexts: the linear layers of a network.

use crate::ciphertext::Ciphertext;
use crate::context::{Target, check_scale};
use crate::encoding::scaled_integer;
use crate::error::CkksError;
use crate::evaluate::Evaluator;
use crate::noise::Budget;
use galen_rns::kernel;
use galen_rns::poly::Poly;

/// Coefficients per tile of a weighted sum: a tile of some tens of inputs stays in the second-level cache.
const TILE: usize = 512;

impl Evaluator {
    /// `sum of weights[k] * cts[k]`, landing on exactly the level and scale of `target`.
    ///
    /// The ciphertexts may be of any level from that of the target up (a higher one is read as if dropped to it), of
    /// any scale, and of degree 1 or 2. Weight k becomes the integer nearest to `weights[k] * target.scale /
    /// cts[k].scale()`, so the ratio of scales (2^45, say, for [`product_target`](crate::context::Context::product_target)) is the precision of the
    /// weights; it may be up to 2^90 and more.
    ///
    /// # Errors
    /// [`CkksError::Count`] if there are none or not as many weights as ciphertexts, [`CkksError::LevelRange`],
    /// [`CkksError::KeyMismatch`], [`CkksError::InvalidNumber`], [`CkksError::InvalidScale`],
    /// [`CkksError::Overflow`], [`CkksError::Precision`].
    pub fn mac_scalars(
        &self,
        cts: &[&Ciphertext],
        weights: &[f64],
        target: Target,
    ) -> Result<Ciphertext, CkksError> {
        let mut sums = self.linear(cts, &[weights], target)?;
        sums.pop().ok_or(CkksError::Count {
            count: 0,
            min: 1,
            max: 1,
        })
    }

    /// A linear layer: [`Self::mac_scalars`] for every row of a matrix, reading the ciphertexts once.
    ///
    /// # Errors
    /// Those of [`Self::mac_scalars`].
    pub fn linear(
        &self,
        cts: &[&Ciphertext],
        rows: &[&[f64]],
        target: Target,
    ) -> Result<Vec<Ciphertext>, CkksError> {
        let Some(first) = cts.first() else {
            return Err(CkksError::Count {
                count: 0,
                min: 1,
                max: usize::MAX,
            });
        };
        check_scale(target.scale)?;
        let ring = self.context().ring(target.level)?;
        for ct in cts {
            self.check_preset(ct)?;
            if ct.key != first.key {
                return Err(CkksError::KeyMismatch);
            }
            if ct.level < target.level {
                return Err(CkksError::LevelRange {
                    level: target.level,
                    max: ct.level,
                });
            }
        }
        let mut integers = Vec::with_capacity(rows.len());
        let mut sums = Vec::with_capacity(rows.len());
        let parts = cts.iter().map(|ct| ct.parts.len()).max().unwrap_or(2);
        let slots = cts.iter().map(|ct| ct.slots).max().unwrap_or(1);
        for row in rows {
            let (row, budget) = integer_weights(cts, row, target.scale)?;
            self.check_budget(target.level, &budget)?;
            integers.push(row);
            sums.push(Ciphertext {
                preset: first.preset,
                key: first.key,
                level: target.level,
                slots,
                budget,
                parts: (0..parts).map(|_| Poly::zero(ring)).collect(),
                seed: None,
            });
        }
        for (prime, m) in ring.moduli().iter().enumerate() {
            for part in 0..parts {
                let present: Vec<usize> = (0..cts.len()).filter(|&k| cts[k].parts.len() > part).collect();
                let residues: Vec<Vec<u64>> = integers
                    .iter()
                    .map(|row| present.iter().map(|&k| m.reduce_i128(row[k])).collect())
                    .collect();
                let inputs: Vec<&[u64]> = present
                    .iter()
                    .map(|&k| cts[k].parts[part].residues(prime))
                    .collect();
                for start in (0..ring.degree()).step_by(TILE) {
                    let end = (start + TILE).min(ring.degree());
                    let tiles: Vec<&[u64]> = inputs.iter().map(|input| &input[start..end]).collect();
                    for (sum, weights) in sums.iter_mut().zip(&residues) {
                        let out = &mut sum.parts[part].residues_mut(prime)[start..end];
                        kernel::linear_combination(m, &tiles, weights, out);
                    }
                }
            }
        }
        Ok(sums)
    }
}

/// The weights of one row as integers, and the budget of its sum.
fn integer_weights(cts: &[&Ciphertext], row: &[f64], scale: f64) -> Result<(Vec<i128>, Budget), CkksError> {
    if row.len() != cts.len() {
        return Err(CkksError::Count {
            count: row.len(),
            min: cts.len(),
            max: cts.len(),
        });
    }
    let mut integers = Vec::with_capacity(row.len());
    // A sum of nothing but zero weights is an exact zero; one unit keeps its precision a number.
    let mut budget = Budget {
        scale,
        magnitude: 0.0,
        noise: 1.0,
    };
    for (index, (ct, &weight)) in cts.iter().zip(row).enumerate() {
        let (integer, exact) = scaled_integer(index, weight, scale / ct.scale())?;
        // A double at the start and rounded to an integer, so it is exactly a double again.
        budget = budget.sum(&ct.budget.weighted(weight, integer as f64, exact, scale));
        integers.push(integer);
    }
    Ok((integers, budget))
}
