//! Optimisers with groups of parameters.

use crate::network::{Network, NetworkError, read};
use crate::recipes::{Group, Method};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::{MomentumConfig, MomentumState};
use burn::optim::{
    Adam, AdamConfig, AdamState, AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, Optimizer,
    RecordState, Sgd, SgdConfig, SgdState, StateSink,
};
use burn::tensor::Tensor;
use galen_models::ParameterKind;

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
