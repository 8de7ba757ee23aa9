//! The smooth transition from ReLU to polynomials (Baruch et al., arXiv 2111.03362).

use serde::{Deserialize, Serialize};

/// Which activations change together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// All of them.
    #[default]
    AllAtOnce,
    /// One after the other, from the last to the first.
    LayerByLayer,
}

/// `share * polynomial + (1 - share) * ReLU`, with shares that grow from 0 to 1 over the epochs of a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transition {
    /// Which activations change together.
    #[serde(default)]
    pub order: Order,
    /// Epochs of the stage before the first change begins.
    #[serde(default)]
    pub start: u32,
    /// Epochs for a change from 0 to 1; positive.
    pub epochs_per_change: u32,
}

impl Transition {
    /// The share of the polynomial of each of `activations` activations in epoch `epoch` of the stage, from 0.
    ///
    /// With progress = (epoch - start) / epochs_per_change: activation number floor(progress), counted from the last one, has the
    /// fractional part as its share; those before it have 1. All at once, every activation has min(progress, 1).
    pub fn shares(&self, epoch: u32, activations: usize) -> Vec<f64> {
        let progress = f64::from(epoch.saturating_sub(self.start)) / f64::from(self.epochs_per_change.max(1));
        match self.order {
            Order::AllAtOnce => vec![progress.min(1.0); activations],
            Order::LayerByLayer => (0..activations)
                .rev()
                .map(|from_last| (progress - from_last as f64).clamp(0.0, 1.0))
                .collect(),
        }
    }

    /// Epochs of a stage until the last share is 1.
    pub fn length(&self, activations: usize) -> u32 {
        let changes = match self.order {
            Order::AllAtOnce => 1,
            Order::LayerByLayer => u32::try_from(activations).unwrap_or(u32::MAX),
        };
        changes
            .saturating_mul(self.epochs_per_change)
            .saturating_add(self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_the_published_schedule() {
        let mut transition = Transition {
            order: Order::AllAtOnce,
            start: 2,
            epochs_per_change: 4,
        };
        let shares = |t: &Transition, epochs: std::ops::Range<u32>| -> Vec<Vec<f64>> {
            epochs.map(|epoch| t.shares(epoch, 2)).collect()
        };
        let all = [0.0, 0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0].map(|s| vec![s, s]);
        assert_eq!(shares(&transition, 0..8), all);
        assert_eq!(transition.length(2), 6);
        transition = Transition {
            order: Order::LayerByLayer,
            start: 1,
            epochs_per_change: 2,
        };
        let each = [
            [0.0, 0.0],
            [0.0, 0.0],
            [0.0, 0.5],
            [0.0, 1.0],
            [0.5, 1.0],
            [1.0, 1.0],
        ]
        .map(Vec::from);
        assert_eq!(shares(&transition, 0..6), each);
        assert_eq!(transition.length(2), 5);
    }
}
