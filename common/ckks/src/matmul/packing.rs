//! Matrices as blocks of d x d elements, each in one ciphertext.
//!
//! Element (i, j) of a block is in the slots `(i d + j) * lanes + lane`: rotations by multiples of the lanes move all lanes alike, so every
//! lane holds a matrix of its own.

use super::PackedProduct;
use crate::ciphertext::{Ciphertext, Plaintext};
use crate::context::Context;
use crate::error::CkksError;
use crate::transform::{check_count, check_numbers};

/// Encrypted matrices of one shape, one in each lane, as blocks row by row. What is beyond the edges is zero.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockMatrix {
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Rows and columns of blocks.
    pub(super) shape: (usize, usize),
    pub(super) blocks: Vec<Ciphertext>,
}

impl BlockMatrix {
    /// Rows of each matrix.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of each matrix.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The blocks, row by row.
    #[must_use]
    pub fn blocks(&self) -> &[Ciphertext] {
        &self.blocks
    }
}

/// Encoded blocks, to be encrypted.
#[derive(Debug, Clone)]
pub struct PlaintextBlocks {
    rows: usize,
    columns: usize,
    shape: (usize, usize),
    blocks: Vec<Plaintext>,
}

impl PlaintextBlocks {
    /// Encrypts every block.
    ///
    /// # Errors
    /// Those of `encrypt`.
    pub fn encrypt(
        &self,
        encrypt: impl Fn(&Plaintext) -> Result<Ciphertext, CkksError>,
    ) -> Result<BlockMatrix, CkksError> {
        Ok(BlockMatrix {
            rows: self.rows,
            columns: self.columns,
            shape: self.shape,
            blocks: self.blocks.iter().map(encrypt).collect::<Result<_, _>>()?,
        })
    }
}

impl PackedProduct {
    /// Encodes up to as many matrices of one shape as there are [lanes](Self::lanes), by their rows, for the level of the product.
    /// Lanes that are left over hold zeros. `magnitude` bounds the absolute values.
    ///
    /// # Errors
    /// [`CkksError::Count`] for no matrices or too many, or ones without elements or of different shapes,
    /// [`CkksError::InvalidNumber`], [`CkksError::Magnitude`], [`CkksError::Overflow`].
    pub fn encode(
        &self,
        context: &Context,
        matrices: &[Vec<Vec<f64>>],
        magnitude: f64,
    ) -> Result<PlaintextBlocks, CkksError> {
        check_count(matrices.len(), 1, self.lanes)?;
        let rows = matrices[0].len();
        let columns = matrices[0].first().map_or(0, Vec::len);
        check_count(rows, 1, usize::MAX)?;
        check_count(columns, 1, usize::MAX)?;
        for matrix in matrices {
            check_count(matrix.len(), rows, rows)?;
            for row in matrix {
                check_count(row.len(), columns, columns)?;
                check_numbers(row)?;
            }
        }
        let d = self.dimension;
        let shape = (rows.div_ceil(d), columns.div_ceil(d));
        let (level, scale) = (self.level, context.scale(self.level)?);
        let mut blocks = Vec::with_capacity(shape.0 * shape.1);
        for block in 0..shape.0 * shape.1 {
            let (top, left) = (block / shape.1 * d, block % shape.1 * d);
            let slots: Vec<f64> = (0..d * d * self.lanes)
                .map(|slot| {
                    let (element, lane) = (slot / self.lanes, slot % self.lanes);
                    let row = matrices
                        .get(lane)
                        .and_then(|matrix| matrix.get(top + element / d));
                    row.and_then(|row| row.get(left + element % d))
                        .copied()
                        .unwrap_or(0.0)
                })
                .collect();
            blocks.push(context.encode_at(&slots, magnitude, level, scale)?);
        }
        Ok(PlaintextBlocks {
            rows,
            columns,
            shape,
            blocks,
        })
    }

    /// The matrices of all lanes by their rows, given a way to the slots of a block.
    ///
    /// # Errors
    /// Those of `decrypt`; [`CkksError::Count`] if it gives too few slots.
    pub fn decode(
        &self,
        matrix: &BlockMatrix,
        decrypt: impl Fn(&Ciphertext) -> Result<Vec<f64>, CkksError>,
    ) -> Result<Vec<Vec<Vec<f64>>>, CkksError> {
        let d = self.dimension;
        let mut matrices = vec![vec![vec![0.0; matrix.columns]; matrix.rows]; self.lanes];
        for (block, ct) in matrix.blocks.iter().enumerate() {
            let (top, left) = (block / matrix.shape.1 * d, block % matrix.shape.1 * d);
            let slots = decrypt(ct)?;
            check_count(slots.len(), d * d * self.lanes, usize::MAX)?;
            for (lane, matrix) in matrices.iter_mut().enumerate() {
                for (i, row) in matrix.iter_mut().skip(top).take(d).enumerate() {
                    for (j, x) in row.iter_mut().skip(left).take(d).enumerate() {
                        *x = slots[(i * d + j) * self.lanes + lane];
                    }
                }
            }
        }
        Ok(matrices)
    }
}
