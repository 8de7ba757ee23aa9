//! Where the elements of a vector lie among the slots of a patient.
//!
//! A matrix costs as many products as it has generalised diagonals, so what counts is by how many different distances elements are moved. Those of
//! a convolution are few if rows and planes have a length that is a power of two, and if places that a stride skips are apart: pixel (y, x) of a
//! window with stride 2 is then at the same distance from its place for all places.

use galen_models::{Extent, Layer, ModelSpec, Shape, Site};
use serde::{Deserialize, Serialize};

/// Strides that are taken apart, and margins that are kept free, at most.
const MAX_STEP: usize = 16;

/// The slots of the elements of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Order {
    /// One after the other.
    Plain,
    /// Of an image: one plane for every phase of the stride, and in it for every channel, with rows of a length that is a power of two.
    Image {
        /// Channels, height and width.
        shape: [usize; 3],
        /// Stride of the window that reads it, down and along.
        phases: [usize; 2],
        /// Free rows and columns before the first ones.
        margin: [usize; 2],
    },
}

impl Order {
    /// The slot of each of `len` elements, all different; nothing if the order is not one of so many, or takes more than `width` slots.
    pub(crate) fn places(&self, len: usize, width: usize) -> Option<Vec<usize>> {
        let Self::Image {
            shape: [channels, height, wide],
            phases: [down, along],
            margin: [above, left],
        } = *self
        else {
            return (1..=width).contains(&len).then(|| (0..len).collect());
        };
        let steps = [down, along];
        let small = steps.iter().all(|s| (1..=MAX_STEP).contains(s)) && above.max(left) <= MAX_STEP;
        let elements = channels.checked_mul(height)?.checked_mul(wide)?;
        if !small || elements != len || len == 0 || len > width {
            return None;
        }
        let pitch = (wide + left).div_ceil(along).next_power_of_two();
        let plane = ((height + above).div_ceil(down) * pitch).next_power_of_two();
        let all = down * along * channels * plane;
        if all > width {
            return None;
        }
        let place = |element: usize| {
            let (channel, y, x) = (
                element / (height * wide),
                element / wide % height + above,
                element % wide + left,
            );
            let phase = y % down * along + x % along;
            (phase * channels + channel) * plane + y / down * pitch + x / along
        };
        Some((0..len).map(place).collect())
    }

    /// The orders that are tried for a vector of `len` elements of this network.
    pub(crate) fn candidates(spec: &ModelSpec, len: usize) -> Vec<Self> {
        let mut all = vec![Self::Plain];
        let sites = spec.resolve().unwrap_or_default();
        add_candidates(&sites, len, &mut all);
        all
    }
}

fn add_candidates(sites: &[Site<'_>], len: usize, all: &mut Vec<Order>) {
    for site in sites {
        let window = match site.layer {
            Layer::Conv2d { stride, padding, .. }
            | Layer::AveragePool {
                stride: Some(stride),
                padding,
                ..
            }
            | Layer::SumPool {
                stride: Some(stride),
                padding,
                ..
            } => Some((stride, padding)),
            Layer::AveragePool { kernel, padding, .. } | Layer::SumPool { kernel, padding, .. } => {
                Some((kernel, padding))
            }
            _ => None,
        };
        let extents = |(step, margin): (&Extent, &Extent)| (step.pair(), margin.pair());
        let (phases, margin) = window.map_or(([1, 1], [0, 0]), extents);
        let mut add = |shape: Shape, phases, margin| {
            if let Shape::Image(shape) = shape
                && shape.iter().product::<usize>() == len
            {
                let order = Order::Image {
                    shape,
                    phases,
                    margin,
                };
                if !all.contains(&order) {
                    all.push(order);
                }
            }
        };
        add(site.input, phases, margin);
        add(site.output, [1, 1], [0, 0]);
        add_candidates(&site.body, len, all);
        add_candidates(&site.shortcut, len, all);
    }
}
