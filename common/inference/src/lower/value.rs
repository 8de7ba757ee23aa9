//! Vectors on their way through the layers.

use crate::network::Term;
use crate::sparse::Sparse;

/// A vector as an affine function of nodes: `sum of maps[k] * nodes[k] + constants`.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) terms: Vec<Term>,
    pub(super) constants: Vec<f64>,
}

impl Value {
    /// `map * self + bias`.
    pub(super) fn mapped(self, map: &Sparse, bias: &[f64]) -> Self {
        let constants = map.times(&self.constants);
        Self {
            terms: self
                .terms
                .iter()
                .map(|t| Term {
                    node: t.node,
                    map: map.after(&t.map),
                })
                .collect(),
            constants: constants.iter().zip(bias).map(|(c, b)| c + b).collect(),
        }
    }

    /// `factors * self + shifts`, element by element.
    pub(super) fn scaled(self, factors: &[f64], shifts: &[f64]) -> Self {
        let constants = self.constants.iter().zip(factors).zip(shifts);
        Self {
            constants: constants.map(|((c, f), s)| c * f + s).collect(),
            terms: self
                .terms
                .into_iter()
                .map(|t| Term {
                    node: t.node,
                    map: t.map.scaled(factors),
                })
                .collect(),
        }
    }

    pub(super) fn plus(mut self, other: Self) -> Self {
        for (c, d) in self.constants.iter_mut().zip(&other.constants) {
            *c += d;
        }
        for term in other.terms {
            match self.terms.iter_mut().find(|t| t.node == term.node) {
                Some(own) => own.map = own.map.plus(&term.map),
                None => self.terms.push(term),
            }
        }
        self
    }
}
