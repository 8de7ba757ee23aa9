//! A lowered model: sums and squares of vectors.

use crate::sparse::Sparse;
use galen_models::Range;

/// Index of a node.
pub(crate) type NodeId = usize;

/// A matrix times the vector of a node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Term {
    /// The node.
    pub(crate) node: NodeId,
    /// The matrix.
    pub(crate) map: Sparse,
}

/// What was recorded of an element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Limit {
    /// Where it lay.
    pub(crate) range: Range,
    /// Its root mean square, if that was recorded too.
    pub(crate) typical: Option<f64>,
}

/// A vector that is computed from others.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    /// The model's inputs.
    Input {
        /// Their number.
        len: usize,
    },
    /// A sum of matrices times vectors, and constants.
    Sum {
        /// The matrices with their vectors.
        terms: Vec<Term>,
        /// The constants, one per element.
        constants: Vec<f64>,
        /// Where its elements lie for all patients that were recorded, if they were.
        limits: Option<Vec<Limit>>,
    },
    /// The squares of the elements of a sum.
    Square {
        /// The sum.
        of: NodeId,
    },
}

/// A model as nodes, each after those that it reads; the last one is the output.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Network {
    /// The nodes.
    pub(crate) nodes: Vec<Node>,
}

impl Network {
    /// Number of elements of a node.
    pub(crate) fn len(&self, node: NodeId) -> usize {
        match &self.nodes[node] {
            Node::Input { len } => *len,
            Node::Sum { constants, .. } => constants.len(),
            Node::Square { of } => self.len(*of),
        }
    }

    /// Number of inputs.
    pub(crate) fn inputs(&self) -> usize {
        self.len(0)
    }

    /// Levels from inputs to outputs where every division by a prime is one: one for what is squared or put out, and one for its squares
    /// unless they are added up as they are.
    pub(crate) fn depth(&self) -> usize {
        // Of everything divided; squares as they are have one less.
        let mut depths: Vec<usize> = Vec::new();
        for node in &self.nodes {
            depths.push(match node {
                Node::Input { .. } => 0,
                Node::Square { of } => depths[*of] + 1,
                Node::Sum { terms, .. } => {
                    let is_square = |t: &Term| matches!(self.nodes[t.node], Node::Square { .. });
                    let deepest =
                        |terms: &mut dyn Iterator<Item = &Term>| terms.map(|t| depths[t.node]).max();
                    let joined = deepest(&mut terms.iter().filter(|t| is_square(t) && t.map.is_unit()));
                    let alone = |t: &&Term| is_square(t) && t.map.is_unit() && Some(depths[t.node]) == joined;
                    let others = deepest(&mut terms.iter().filter(|t| !alone(t)));
                    let exact = terms.iter().all(|t| t.map.is_unit())
                        && deepest(&mut terms.iter()) == { terms.iter().map(|t| depths[t.node]).min() };
                    match (joined, others) {
                        // One less than divided, and a division.
                        (Some(joined), others) if others.is_none_or(|other| other < joined) => joined,
                        (joined, others) if exact => joined.max(others).unwrap_or(0),
                        (joined, others) => joined.max(others).unwrap_or(0) + 1,
                    }
                }
            });
        }
        depths.pop().unwrap_or(0)
    }

    /// Where the elements of every node lie for inputs within `ranges`, by interval arithmetic; within the recorded limits as well
    /// if those are to be `trusted`.
    pub(crate) fn intervals(&self, ranges: &[Range], trusted: bool) -> Vec<Vec<Range>> {
        let mut all: Vec<Vec<Range>> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let own = match node {
                Node::Input { .. } => ranges.to_vec(),
                Node::Sum {
                    terms,
                    constants,
                    limits,
                } => {
                    let mut sums: Vec<Range> = constants.iter().map(|&c| Range::new(c, c)).collect();
                    for term in terms {
                        for (sum, row) in sums.iter_mut().zip(term.map.rows()) {
                            for &(j, w) in row {
                                let x = all[term.node][j];
                                let (a, b) = (w * x.min, w * x.max);
                                *sum = Range::new(sum.min + a.min(b), sum.max + a.max(b));
                            }
                        }
                    }
                    let limits = limits.iter().flatten().filter(|_| trusted);
                    for (sum, limit) in sums.iter_mut().zip(limits) {
                        let limit = limit.range;
                        let narrowed = Range::new(sum.min.max(limit.min), sum.max.min(limit.max));
                        if narrowed.min <= narrowed.max {
                            *sum = narrowed;
                        }
                    }
                    sums
                }
                Node::Square { of } => all[*of]
                    .iter()
                    .map(|r| {
                        let (a, b) = (r.min * r.min, r.max * r.max);
                        let least = if r.contains(0.0) { 0.0 } else { a.min(b) };
                        Range::new(least, a.max(b))
                    })
                    .collect(),
            };
            all.push(own);
        }
        all
    }

    /// The outputs for one row of inputs, in plain numbers.
    #[cfg(test)]
    pub(crate) fn evaluate(&self, row: &[f64]) -> Vec<f64> {
        let mut all: Vec<Vec<f64>> = Vec::new();
        for node in &self.nodes {
            all.push(match node {
                Node::Input { .. } => row.to_vec(),
                Node::Sum { terms, constants, .. } => {
                    let mut sums = constants.clone();
                    for term in terms {
                        let products = term.map.times(&all[term.node]);
                        sums.iter_mut().zip(products).for_each(|(s, p)| *s += p);
                    }
                    sums
                }
                Node::Square { of } => all[*of].iter().map(|x| x * x).collect(),
            });
        }
        all.pop().unwrap_or_default()
    }
}
