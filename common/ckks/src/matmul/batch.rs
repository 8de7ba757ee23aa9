//! Products of matrices whose elements are ciphertexts.

use crate::ciphertext::Ciphertext;
use crate::error::CkksError;
use crate::evaluate::Evaluator;
use crate::keys::RelinKey;
use crate::transform::check_count;
use rayon::prelude::*;

/// A matrix of ciphertexts: element (i, j) of as many matrices as there are slots.
#[derive(Debug, Clone, PartialEq)]
pub struct CiphertextMatrix {
    rows: usize,
    columns: usize,
    /// Row by row.
    elements: Vec<Ciphertext>,
}

impl CiphertextMatrix {
    /// From elements, row by row.
    ///
    /// # Errors
    /// [`CkksError::Count`] unless there are `rows * columns` of them, and some.
    pub fn new(rows: usize, columns: usize, elements: Vec<Ciphertext>) -> Result<Self, CkksError> {
        check_count(rows, 1, usize::MAX)?;
        check_count(columns, 1, usize::MAX)?;
        let count = rows.saturating_mul(columns);
        check_count(elements.len(), count, count)?;
        Ok(Self {
            rows,
            columns,
            elements,
        })
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The elements, row by row.
    #[must_use]
    pub fn elements(&self) -> &[Ciphertext] {
        &self.elements
    }

    /// The elements, row by row.
    #[must_use]
    pub fn into_elements(self) -> Vec<Ciphertext> {
        self.elements
    }

    /// One element.
    #[must_use]
    pub fn get(&self, row: usize, column: usize) -> Option<&Ciphertext> {
        if column < self.columns {
            self.elements.get(row.checked_mul(self.columns)? + column)
        } else {
            None
        }
    }

    /// The elements at one level, its nominal scale and degree 1.
    fn brought_to(&self, ev: &Evaluator, relin: &RelinKey, level: usize) -> Result<Self, CkksError> {
        let op = ev.aligned(relin);
        let elements = self.elements.par_iter().map(|ct| op.at_level(ct, level));
        Ok(Self {
            elements: elements.collect::<Result<_, _>>()?,
            ..*self
        })
    }
}

impl Evaluator {
    /// `a * b`, slot by slot a product of matrices, at the nominal scale of its level.
    ///
    /// The products that make up an element are added before they are relinearised and rescaled, together and once. Elements may be of
    /// any levels and scales; they are brought to the highest that all can have. Elements of the result are computed in the current
    /// rayon pool; the result does not depend on it.
    ///
    /// # Errors
    /// [`CkksError::Count`] unless a has as many columns as b has rows, [`CkksError::NoLevelLeft`], [`CkksError::KeyMismatch`],
    /// [`CkksError::PresetMismatch`], [`CkksError::Overflow`], [`CkksError::Precision`].
    pub fn matrix_product(
        &self,
        a: &CiphertextMatrix,
        b: &CiphertextMatrix,
        relin: &RelinKey,
    ) -> Result<CiphertextMatrix, CkksError> {
        check_count(b.rows, a.columns, a.columns)?;
        let op = self.aligned(relin);
        let mut level = self.context().max_level();
        for ct in a.elements.iter().chain(&b.elements) {
            // Costs nothing for those that are nominal already, as all are in most uses.
            level = level.min(
                if ct.scale() == self.context().scale(ct.level())? && ct.degree() == 1 {
                    ct.level()
                } else {
                    op.at_nominal(ct)?.level()
                },
            );
        }
        let (a, b) = (
            a.brought_to(self, relin, level)?,
            b.brought_to(self, relin, level)?,
        );
        let elements = (0..a.rows * b.columns)
            .into_par_iter()
            .map(|index| {
                let row = &a.elements[index / b.columns * a.columns..][..a.columns];
                let column = b.elements.iter().skip(index % b.columns).step_by(b.columns);
                let pairs: Vec<_> = row.iter().zip(column).collect();
                let sum = self.sum_of_products(&pairs)?;
                self.relin_rescale(&sum, relin)
            })
            .collect::<Result<Vec<_>, _>>()?;
        CiphertextMatrix::new(a.rows, b.columns, elements)
    }
}
