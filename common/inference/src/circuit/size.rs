//! How large the values of a network are.

use crate::network::{Limit, Network, Node};
use galen_models::Range;

/// How large an element is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Size {
    /// At most.
    pub(crate) largest: f64,
    /// For most patients.
    pub(crate) typical: f64,
}

impl Size {
    pub(crate) fn times(self, factor: f64) -> Self {
        Self {
            largest: self.largest * factor,
            typical: self.typical * factor,
        }
    }
}

/// Of the channels of a layer, none is taken to vary less than this part of the one that varies most: what hardly varied among those who
/// were recorded may vary more among others.
const LEAST_WIDTH: f64 = 0.1;

fn half_width(range: &Range) -> f64 {
    (range.max - range.min) / 2.0
}

/// Most values are no further from 0 than this times their root mean square: of any distribution three quarters (Chebyshev), of a normal one 95
/// of a hundred.
const TYPICAL: f64 = 2.0;

/// The sizes of a node's elements: by interval arithmetic from the inputs, and where ranges were recorded, those widened about their middle to
/// `margin` times their width if they are smaller. What is typical is recorded too, or as large as can be.
pub(crate) fn sizes(network: &Network, ranges: &[Range], margin: Option<f64>) -> Vec<Vec<Size>> {
    let limited = margin.map(|margin| {
        let mut limited = network.clone();
        for node in &mut limited.nodes {
            if let Node::Sum {
                limits: Some(limits), ..
            } = node
            {
                let widest = limits.iter().map(|l| half_width(&l.range)).fold(0.0, f64::max);
                for limit in limits {
                    let range = &mut limit.range;
                    let half = half_width(range).max(LEAST_WIDTH * widest);
                    let middle = (range.min + range.max) / 2.0;
                    *range = Range::new(middle - margin * half, middle + margin * half);
                }
            }
        }
        limited
    });
    let all = limited
        .as_ref()
        .unwrap_or(network)
        .intervals(ranges, margin.is_some());
    let size = |(range, limit): (&Range, Option<&Limit>)| {
        let largest = range.magnitude();
        let typical = limit.and_then(|limit| limit.typical).map(|rms| TYPICAL * rms);
        Size {
            largest,
            typical: typical
                .filter(|_| margin.is_some())
                .unwrap_or(largest)
                .min(largest),
        }
    };
    let of_node = |(node, ranges): (&Node, &Vec<Range>)| {
        let limits = match node {
            Node::Sum {
                limits: Some(limits), ..
            } => limits.as_slice(),
            _ => &[],
        };
        let pairs = ranges.iter().enumerate().map(|(i, range)| (range, limits.get(i)));
        pairs.map(size).collect()
    };
    network.nodes.iter().zip(&all).map(of_node).collect()
}
