//! Optimisers of groups of parameters, and schedules of step sizes.

use serde::{Deserialize, Serialize};

/// A rule for one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Stochastic gradient descent with momentum.
    Sgd,
    /// Adam; its decay is part of the gradient.
    #[default]
    Adam,
    /// Adam with decay apart from the gradient.
    AdamW,
}

/// How a group of parameters is optimised.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The rule.
    #[serde(default)]
    pub method: Method,
    /// Step size before the schedule's factor; positive.
    pub learning_rate: f64,
    /// Momentum of [`Method::Sgd`], in [0, 1).
    #[serde(default = "default_momentum")]
    pub momentum: f64,
    /// Decay of weights and of coefficients; biases and normalisations do not decay.
    #[serde(default)]
    pub weight_decay: f64,
}

fn default_momentum() -> f64 {
    0.9
}

impl Group {
    /// The group that coefficients of activations form in the smooth transition of Baruch et al. (arXiv 2111.03362).
    pub const COEFFICIENTS: Self = Self {
        method: Method::Sgd,
        learning_rate: 2e-4,
        momentum: 0.9,
        weight_decay: 5e-4,
    };
}

/// How the step size changes within a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// It does not.
    #[default]
    Constant,
    /// It falls to `floor` times its beginning along half a period of the cosine.
    Cosine {
        /// The last factor, in [0, 1].
        #[serde(default)]
        floor: f64,
    },
    /// It is multiplied by `factor` each time that the judged loss did not fall for more than `patience` epochs.
    Plateau {
        /// In (0, 1).
        #[serde(default = "default_factor")]
        factor: f64,
        /// Epochs without improvement that are put up with.
        #[serde(default = "default_patience")]
        patience: u32,
        /// The smallest product of factors.
        #[serde(default)]
        floor: f64,
    },
}

fn default_factor() -> f64 {
    0.5
}

fn default_patience() -> u32 {
    2
}

/// What a plateau schedule remembers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    factor: f64,
    best: Option<f64>,
    waited: u32,
}

impl Default for Plateau {
    fn default() -> Self {
        Self {
            factor: 1.0,
            best: None,
            waited: 0,
        }
    }
}

impl Schedule {
    /// The factor on all step sizes after `done` of `epochs` epochs (fractions count), of which the first `warm_up` climb from 0.
    pub fn factor(&self, done: f64, epochs: f64, warm_up: f64, plateau: &Plateau) -> f64 {
        let climb = if done < warm_up { done / warm_up } else { 1.0 };
        climb
            * match *self {
                Self::Constant => 1.0,
                Self::Cosine { floor } => {
                    let share =
                        ((done - warm_up) / (epochs - warm_up).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
                    floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * share).cos())
                }
                Self::Plateau { .. } => plateau.factor,
            }
    }

    /// Takes note of the loss that an epoch is judged by.
    pub fn judge(&self, plateau: &mut Plateau, loss: f64) {
        let Self::Plateau {
            factor,
            patience,
            floor,
        } = *self
        else {
            return;
        };
        if plateau.best.is_none_or(|best| loss < best) {
            plateau.best = Some(loss);
            plateau.waited = 0;
        } else {
            plateau.waited += 1;
            if plateau.waited > patience {
                plateau.factor = (plateau.factor * factor).max(floor);
                plateau.waited = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules() {
        let none = Plateau::default();
        let cosine = Schedule::Cosine { floor: 0.1 };
        let factor = |done| cosine.factor(done, 10.0, 2.0, &none);
        assert_eq!(factor(0.0), 0.0);
        assert!((factor(1.0) - 0.5).abs() < 1e-12);
        assert!((factor(2.0) - 1.0).abs() < 1e-12);
        assert!((factor(6.0) - 0.55).abs() < 1e-12);
        assert!((factor(10.0) - 0.1).abs() < 1e-12);
        assert_eq!(Schedule::Constant.factor(3.0, 10.0, 0.0, &none), 1.0);
        let plateau = Schedule::Plateau {
            factor: 0.5,
            patience: 1,
            floor: 0.3,
        };
        let mut memory = Plateau::default();
        let mut factors = Vec::new();
        for loss in [1.0, 0.9, 0.9, 0.95, 0.8, 0.8, 0.8, 0.8, 0.8] {
            plateau.judge(&mut memory, loss);
            factors.push(plateau.factor(1.0, 10.0, 0.0, &memory));
        }
        assert_eq!(factors, [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3]);
    }
}
