//! A hospital's part of a training round: a stretch of a stage on its own data, from the model that all have.

use super::epoch::Span;
use super::{FitError, Run, State, Teacher, class_weights};
use crate::device::Device;
use crate::examples::Examples;
use crate::network::Network;
use crate::recipes::{Recipe, Stage};
use crate::train::Progress;
use burn::tensor::Tensor;
use galen_models::Model;
use galen_models::course::Place;
use galen_models::random::Stream;

/// The proximal term of FedProx (Li et al., arXiv 1812.06127): `mu / 2 * ||w - w_global||^2` over the shared parameters that have gradients.
pub(super) struct Anchor {
    mu: f64,
    /// Per parameter block, where it is held; nothing for those that are free.
    at: Vec<Option<Tensor<2>>>,
}

impl Anchor {
    /// Adds the term to a loss whose gradients are taken by `leaves`.
    pub(super) fn pull(&self, loss: Tensor<1>, leaves: &[Tensor<2>]) -> Tensor<1> {
        let held = leaves
            .iter()
            .zip(&self.at)
            .filter_map(|(leaf, at)| Some((leaf, at.as_ref()?)));
        held.fold(loss, |loss, (leaf, at)| {
            let distance = (leaf.clone() - at.clone()).square().sum();
            loss + distance * (self.mu / 2.0)
        })
    }
}

/// The teacher of a stage, and the stage that it came of: it is evaluated as it was trained.
#[derive(Clone, Copy)]
pub(crate) struct Teaching<'a> {
    pub(crate) model: &'a Model,
    pub(crate) stage: &'a Stage,
}

/// What one hospital does in one training round.
pub(crate) struct Turn<'a> {
    /// The study's seed.
    pub(crate) seed: u64,
    /// Whose data they are.
    pub(crate) party: &'a str,
    /// The recipe.
    pub(crate) recipe: &'a Recipe,
    /// Where in it the round stands.
    pub(crate) place: Place<'a>,
    /// Passes over the data.
    pub(crate) passes: u32,
    /// The model that the round starts from.
    pub(crate) base: &'a Model,
    /// The teacher, if a stage has made one.
    pub(crate) teacher: Option<Teaching<'a>>,
    /// mu of FedProx.
    pub(crate) proximal: f64,
    /// Whether each parameter block is shared.
    pub(crate) shared: &'a [bool],
    /// Patients of each class at all hospitals.
    pub(crate) classes: &'a [u64],
}

/// Trains on one hospital's data for one round. The optimiser starts anew; schedule, warm-up and transition go by the round's place in its
/// stage.
///
/// On the CPU the result depends on nothing but the arguments, to the bit.
pub(crate) fn turn(
    device: &Device,
    turn: &Turn<'_>,
    training: &Examples,
    progress: &mut dyn FnMut(Progress),
) -> Result<Model, FitError> {
    let network = Network::new(device, turn.base)?;
    let (recipe, stage) = (turn.recipe, turn.place.stage);
    recipe.check_for(network.activations().len())?;
    let problem = |problem| FitError::Examples {
        part: "training",
        problem,
    };
    super::kind(recipe.objective, &training.targets).map_err(problem)?;
    let patients = training.check(network.spec()).map_err(problem)?;
    let run = Run {
        recipe,
        start: network.params().to_vec(),
        training,
        patients,
        validation: None,
        class_weights: class_weights(recipe, network.spec(), || turn.classes.to_vec())?,
        anchor: anchor(&network, turn),
    };
    let activations = network.activations().len();
    let teacher = match turn.teacher {
        Some(teaching) => Some(Teacher {
            params: Network::new(device, teaching.model)?.params().to_vec(),
            shares: teaching.stage.shares(teaching.stage.epochs, activations),
            maximum: teaching.stage.max_pooling,
        }),
        None => None,
    };
    let mut state = State::new(network, stage);
    state.stage = turn.place.index;
    state.epoch = turn.place.round;
    state.teacher = teacher;
    let fields = [state.stage.to_string(), state.epoch.to_string()];
    let fields = [turn.party.as_bytes(), fields[0].as_bytes(), fields[1].as_bytes()];
    let mut stream = Stream::new("galen federated fit v1", turn.seed, &fields);
    let passes = turn.passes.max(1);
    for pass in 0..passes {
        let length = 1.0 / f64::from(passes);
        let span = Span {
            begin: f64::from(turn.place.round) + f64::from(pass) * length,
            length,
        };
        let (loss, _) = run.pass(stage, &mut state, span, &mut stream, &mut |_, _| {})?;
        progress(Progress {
            epoch: pass + 1,
            epochs: passes,
            loss,
        });
    }
    Ok(state.network.model()?)
}

fn anchor(network: &Network, turn: &Turn<'_>) -> Option<Anchor> {
    if turn.proximal <= 0.0 {
        return None;
    }
    let held = network.blocks().iter().zip(turn.shared).zip(network.params());
    let at = held.map(|((block, shared), param)| {
        (*shared && block.kind.is_trained()).then(|| param.clone().autodiff())
    });
    Some(Anchor {
        mu: turn.proximal,
        at: at.collect(),
    })
}
