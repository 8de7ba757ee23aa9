//! Optimisers with groups of parameters, and schedules of step sizes.

use crate::network::{Network, NetworkError, read};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::{MomentumConfig, MomentumState};
use burn::optim::{
    Adam, AdamConfig, AdamState, AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, Optimizer,
    RecordState, Sgd, SgdConfig, SgdState, StateSink,
};
use burn::tensor::Tensor;
use galen_models::ParameterKind;
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

#[derive(Clone)]
enum Rule {
    Sgd(Sgd),
    Adam(Adam),
    AdamW(AdamW),
}

impl Rule {
    fn new(group: &Group, decays: bool) -> Self {
        let decay = if decays { group.weight_decay } else { 0.0 };
        let penalty = || (decay > 0.0).then(|| WeightDecayConfig::new(decay as f32));
        match group.method {
            Method::Sgd => {
                let momentum = MomentumConfig::new()
                    .with_momentum(group.momentum)
                    .with_dampening(0.0);
                let config = SgdConfig::new()
                    .with_momentum(Some(momentum))
                    .with_weight_decay(penalty());
                Self::Sgd(config.build())
            }
            Method::Adam => {
                let config = AdamConfig::new().with_epsilon(1e-8).with_weight_decay(penalty());
                Self::Adam(config.build())
            }
            Method::AdamW => {
                let config = AdamWConfig::new()
                    .with_epsilon(1e-8)
                    .with_weight_decay(decay as f32);
                Self::AdamW(config.build())
            }
        }
    }
}

#[derive(Clone)]
enum State {
    Sgd(Box<SgdState<2>>),
    Adaptive(Box<AdaptiveMomentumState<2>>),
}

/// The state of one parameter block as plain numbers: how many steps were taken, and the moments.
pub(crate) struct Moments {
    pub(crate) steps: usize,
    pub(crate) tensors: Vec<Vec<f32>>,
}

/// Gradient descent under way.
#[derive(Clone)]
pub(crate) struct Optimiser {
    /// Per block the rule and the step size; nothing for statistics.
    rules: Vec<Option<(Rule, f64)>>,
    states: Vec<Option<State>>,
}

impl Optimiser {
    /// An optimiser whose coefficients of activations follow `coefficients`, and all else `weights`.
    pub(crate) fn new(network: &Network, weights: &Group, coefficients: &Group) -> Self {
        let rule = |kind: ParameterKind| {
            let group = match kind {
                ParameterKind::Coefficient => coefficients,
                kind if kind.is_trained() => weights,
                _ => return None,
            };
            let decays = matches!(kind, ParameterKind::Weight | ParameterKind::Coefficient);
            Some((Rule::new(group, decays), group.learning_rate))
        };
        let rules: Vec<_> = network.blocks().iter().map(|block| rule(block.kind)).collect();
        Self {
            states: vec![None; rules.len()],
            rules,
        }
    }

    /// One step on all blocks that have a gradient.
    pub(crate) fn step(&mut self, network: &mut Network, gradients: Vec<Option<Tensor<2>>>, factor: f64) {
        for (block, gradient) in gradients.into_iter().enumerate() {
            let (Some((rule, rate)), Some(gradient)) = (&self.rules[block], gradient) else {
                continue;
            };
            let rate = rate * factor;
            let param = network.params()[block].clone();
            let state = self.states[block].take();
            let (param, state) = match rule {
                Rule::Sgd(rule) => {
                    let state = match state {
                        Some(State::Sgd(state)) => Some(*state),
                        _ => None,
                    };
                    let (param, state) = rule.step(rate, param, gradient, state);
                    (param, state.map(|s| State::Sgd(Box::new(s))))
                }
                Rule::Adam(rule) => {
                    let state = adaptive(state).map(AdamState::new);
                    let (param, state) = rule.step(rate, param, gradient, state);
                    (param, state.map(|s| State::Adaptive(Box::new(s.momentum))))
                }
                Rule::AdamW(rule) => {
                    let state = adaptive(state).map(AdamWState::new);
                    let (param, state) = rule.step(rate, param, gradient, state);
                    (param, state.map(|s| State::Adaptive(Box::new(s.momentum))))
                }
            };
            network.set_param(block, param);
            self.states[block] = state;
        }
    }

    /// The state of each block, for a checkpoint.
    pub(crate) fn moments(&self) -> Result<Vec<Option<Moments>>, NetworkError> {
        let moments = |state: &Option<State>| {
            let (steps, tensors) = match state {
                None => return Ok(None),
                Some(State::Sgd(state)) => {
                    let mut sink = StateSink::default();
                    state.state_flatten("", &mut sink);
                    let data = sink.tensors.into_iter().map(|(_, data)| data.try_to_vec());
                    let tensors = data.collect::<Result<Vec<Vec<f32>>, _>>();
                    let failed = |e| NetworkError::Device {
                        detail: format!("{e:?}"),
                    };
                    (0, tensors.map_err(failed)?)
                }
                Some(State::Adaptive(state)) => {
                    let tensors = vec![read(state.moment_1.clone())?, read(state.moment_2.clone())?];
                    (state.time, tensors)
                }
            };
            Ok(Some(Moments { steps, tensors }))
        };
        self.states.iter().map(moments).collect()
    }

    /// Continues from the state of a checkpoint; `None` if it does not fit the rules or the network.
    pub(crate) fn restore(&mut self, network: &Network, moments: Vec<Option<Moments>>) -> Option<()> {
        if moments.len() != self.states.len() {
            return None;
        }
        for (block, moments) in moments.into_iter().enumerate() {
            let Some(moments) = moments else { continue };
            let (rule, _) = self.rules[block].as_ref()?;
            let shape = network.params()[block].dims();
            let mut tensors = Vec::new();
            for values in moments.tensors {
                if values.len() != shape[0] * shape[1] {
                    return None;
                }
                tensors.push(network.plain(values, shape));
            }
            let mut tensors = tensors.into_iter();
            let state = match (rule, tensors.next(), tensors.next()) {
                (Rule::Sgd(_), velocity, None) => {
                    State::Sgd(Box::new(SgdState::new(velocity.map(MomentumState::new))))
                }
                (Rule::Adam(_) | Rule::AdamW(_), Some(first), Some(second)) => {
                    State::Adaptive(Box::new(AdaptiveMomentumState::new(moments.steps, first, second)))
                }
                _ => return None,
            };
            self.states[block] = Some(state);
        }
        Some(())
    }
}

fn adaptive(state: Option<State>) -> Option<AdaptiveMomentumState<2>> {
    match state {
        Some(State::Adaptive(state)) => Some(*state),
        _ => None,
    }
}

/// Scales gradients down to a common norm of at most `limit`.
pub(crate) fn clip(gradients: &mut [Option<Tensor<2>>], limit: f64) -> Result<(), NetworkError> {
    let mut squares = 0.0;
    for gradient in gradients.iter().flatten() {
        squares += crate::loss::scalar(gradient.clone().square().sum())?;
    }
    let norm = squares.sqrt();
    if norm > limit {
        for gradient in gradients.iter_mut() {
            *gradient = gradient.take().map(|g| g * (limit / norm));
        }
    }
    Ok(())
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
