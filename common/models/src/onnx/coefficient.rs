//! Coefficients of polynomials, per layer, channel or value.

use crate::spec::{Granularity, Shape};

/// One coefficient for all values of a shape, or one per channel, or one per value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Coefficient {
    pub(super) per: Granularity,
    pub(super) values: Vec<f64>,
}

impl Coefficient {
    pub(super) fn all(value: f64) -> Self {
        Self {
            per: Granularity::Layer,
            values: vec![value],
        }
    }

    /// One value per element of a shape, with as few coefficients as hold them.
    pub(super) fn of_elements(values: Vec<f64>, shape: Shape) -> Self {
        let first = values.first().copied().unwrap_or(0.0);
        if values.iter().all(|v| *v == first) {
            return Self::all(first);
        }
        let mut planes = values.chunks(shape.area().max(1));
        if planes.all(|plane| plane.iter().all(|v| *v == plane[0])) {
            let per_channel = values.iter().step_by(shape.area().max(1)).copied();
            return Self {
                per: Granularity::Channel,
                values: per_channel.collect(),
            };
        }
        Self {
            per: Granularity::Element,
            values,
        }
    }

    /// Coefficient of the value at `element` of a shape.
    pub(super) fn at(&self, element: usize, shape: Shape) -> f64 {
        let i = match self.per {
            Granularity::Layer => 0,
            Granularity::Channel => element / shape.area().max(1),
            Granularity::Element => element,
        };
        self.values.get(i).copied().unwrap_or(0.0)
    }

    /// The single value, if it is the same everywhere.
    pub(super) fn single(&self) -> Option<f64> {
        (self.per == Granularity::Layer).then(|| self.at(0, Shape::Features(1)))
    }

    pub(super) fn is(&self, value: f64) -> bool {
        self.values.iter().all(|v| *v == value)
    }

    /// Applies `f` place by place.
    pub(super) fn zip(&self, other: &Self, shape: Shape, f: impl Fn(f64, f64) -> f64) -> Self {
        let per = finer(self.per, other.per);
        let (count, step) = match per {
            Granularity::Layer => (1, 1),
            Granularity::Channel => (shape.channels(), shape.area()),
            Granularity::Element => (shape.len(), 1),
        };
        let at = |i: usize| f(self.at(i * step, shape), other.at(i * step, shape));
        Self {
            per,
            values: (0..count).map(at).collect(),
        }
    }

    /// The same with one value for each set of `per`, which must not be coarser.
    pub(super) fn expanded(&self, per: Granularity, shape: Shape) -> Vec<f64> {
        let zero = |count: usize| Self {
            per,
            values: vec![0.0; count],
        };
        let count = match per {
            Granularity::Layer => 1,
            Granularity::Channel => shape.channels(),
            Granularity::Element => shape.len(),
        };
        self.zip(&zero(count), shape, |a, _| a).values
    }
}

/// The granularity that can hold both.
pub(super) fn finer(a: Granularity, b: Granularity) -> Granularity {
    let rank = |per: Granularity| match per {
        Granularity::Layer => 0,
        Granularity::Channel => 1,
        Granularity::Element => 2,
    };
    if rank(a) >= rank(b) { a } else { b }
}
