//! The matrix of a sum as it is computed: in blocks of rows that read the same columns. It is the same for every layout of scales.

use super::BLOCK;
use crate::network::{Network, Node, Term};
use crate::sparse::Sparse;
use galen_ckks::CkksError;
use galen_ckks::linear::LinearMap;
use rayon::prelude::*;
use std::sync::Arc;

/// Rows that are computed together.
#[derive(Debug)]
pub(crate) struct Block {
    /// Which rows of the sum.
    pub(crate) rows: Vec<usize>,
    /// What they read.
    pub(crate) columns: Vec<usize>,
    /// These rows and columns.
    pub(crate) map: LinearMap,
}

/// The matrices of a sum's terms, side by side.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    blocks: Vec<Block>,
    terms: usize,
    copy: bool,
    free: bool,
}

impl Blocks {
    /// Of the terms of a sum with so many rows.
    pub(crate) fn new(terms: &[Term], rows: usize) -> Result<Self, CkksError> {
        let maps: Vec<&Sparse> = terms.iter().map(|t| &t.map).collect();
        let map = Sparse::beside(&maps, rows);
        let diagonal = map.is_diagonal();
        let block = |rows: Vec<usize>| {
            let (columns, part) = map.of_rows(&rows).packed();
            let map = part.to_map()?;
            Ok(Block { rows, columns, map })
        };
        Ok(Self {
            terms: map.terms(),
            copy: diagonal && map.is_ones(),
            free: diagonal && map.is_unit(),
            blocks: map
                .blocks(BLOCK)
                .into_par_iter()
                .map(block)
                .collect::<Result<_, CkksError>>()?,
        })
    }

    /// Of every node of a network; nothing for those that are no sums.
    pub(crate) fn all(network: &Network) -> Result<Vec<Arc<Self>>, CkksError> {
        let of = |node: &Node| match node {
            Node::Sum { terms, constants, .. } => Self::new(terms, constants.len()).map(Arc::new),
            Node::Input { .. } | Node::Square { .. } => Ok(Arc::default()),
        };
        network.nodes.iter().map(of).collect()
    }

    /// Number of blocks.
    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// The blocks; every row is in one.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Block> {
        self.blocks.iter()
    }

    /// Number of weights.
    pub(crate) fn terms(&self) -> usize {
        self.terms
    }

    /// Whether every row is what it reads.
    pub(crate) fn is_copy(&self) -> bool {
        self.copy
    }

    /// Whether every row is what it reads, or its negative: nothing is multiplied.
    pub(crate) fn is_free(&self) -> bool {
        self.free
    }
}
