//! The matrix of a sum as it is computed: in blocks of rows that read the same columns. It is the same for every layout of scales.

use super::BLOCK;
use crate::network::{Network, Node, Term};
use crate::sparse::Sparse;
use galen_ckks::CkksError;
use galen_ckks::linear::LinearMap;
use rayon::prelude::*;
use std::collections::HashSet;
use std::sync::Arc;

/// Up to these sizes integer weights are multiplied by at once, and in two parts: what the kernels for integers take.
const WEIGHT_16: f64 = 32767.0;
const WEIGHT_28: f64 = 134_217_728.0;
/// What products with residues cost in place of integers.
const LARGE_WEIGHT: usize = 4;

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
    /// Of every row the number of its weights and the largest of their absolute values.
    sizes: Vec<(usize, f64)>,
    copy: bool,
    free: bool,
}

impl Blocks {
    /// Of the terms of a sum whose rows are `wanted` in this order.
    pub(crate) fn new(terms: &[Term], wanted: &[usize]) -> Result<Self, CkksError> {
        let rows = wanted.len();
        let maps: Vec<&Sparse> = terms.iter().map(|t| &t.map).collect();
        let map = Sparse::beside(&maps, rows);
        let diagonal = map.is_diagonal();
        let block = |mut rows: Vec<usize>| {
            // Of a diagonal matrix, rows and columns are then in the same order.
            rows.sort_unstable();
            let (columns, part) = map.of_rows(&rows).packed();
            let map = part.to_map()?;
            Ok(Block { rows, columns, map })
        };
        let size =
            |row: &Vec<(usize, f64)>| (row.len(), row.iter().fold(0.0, |m: f64, &(_, w)| m.max(w.abs())));
        Ok(Self {
            terms: map.terms(),
            sizes: map.rows().iter().map(size).collect(),
            copy: diagonal && map.is_ones(),
            free: diagonal && map.is_unit(),
            blocks: map
                .blocks(BLOCK, wanted)
                .into_par_iter()
                .map(block)
                .collect::<Result<_, CkksError>>()?,
        })
    }

    /// Of every node of a network; nothing for those that are no sums.
    ///
    /// From the results back: the rows of a sum are wanted in the order in which the blocks of those that read it come to them. So the
    /// channels of a pooling are computed place by place if that is how the next convolution reads them.
    pub(crate) fn all(network: &Network) -> Result<Vec<Arc<Self>>, CkksError> {
        let mut wanted: Vec<Wanted> = (0..network.nodes.len()).map(|_| Wanted::default()).collect();
        let mut all = Vec::with_capacity(network.nodes.len());
        for (id, node) in network.nodes.iter().enumerate().rev() {
            let order = std::mem::take(&mut wanted[id]).order(network.len(id));
            all.push(match node {
                Node::Input { .. } => Arc::default(),
                Node::Square { of } => {
                    wanted[*of].add(&order);
                    Arc::default()
                }
                Node::Sum { terms, .. } => {
                    let blocks = Self::new(terms, &order)?;
                    for block in &blocks.blocks {
                        let mut begin = 0;
                        for term in terms {
                            let end = begin + term.map.inputs();
                            let columns = block.columns.iter().filter(|c| (begin..end).contains(*c));
                            let own: Vec<usize> = columns.map(|column| column - begin).collect();
                            wanted[term.node].add(&own);
                            begin = end;
                        }
                    }
                    Arc::new(blocks)
                }
            });
        }
        all.reverse();
        Ok(all)
    }

    /// One of the blocks.
    pub(crate) fn get(&self, number: usize) -> Option<&Block> {
        self.blocks.get(number)
    }

    /// The blocks; every row is in one.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Block> {
        self.blocks.iter()
    }

    /// Number of weights.
    pub(crate) fn terms(&self) -> usize {
        self.terms
    }

    /// What the products with all weights take where weights are multiplied by `factor` and rounded to integers, in units of that
    /// of a weight of up to 16 bits.
    pub(crate) fn products(&self, factor: f64) -> usize {
        let each = |&(count, largest): &(usize, f64)| {
            count
                * match largest * factor {
                    ..=WEIGHT_16 => 1,
                    ..=WEIGHT_28 => 2,
                    _ => LARGE_WEIGHT,
                }
        };
        self.sizes.iter().map(each).sum()
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

/// The order in which elements of a node are first read.
#[derive(Default)]
struct Wanted {
    order: Vec<usize>,
    known: HashSet<usize>,
}

impl Wanted {
    fn add(&mut self, elements: &[usize]) {
        let new = elements.iter().filter(|&&index| self.known.insert(index));
        self.order.extend(new);
    }

    /// Of all `len` elements; those that nobody reads come last.
    fn order(mut self, len: usize) -> Vec<usize> {
        let all: Vec<usize> = (0..len).collect();
        self.add(&all);
        self.order
    }
}
