//! Following a recipe.

mod checkpoint;
mod clock;
mod epoch;
mod judge;
mod round;
mod teacher;

pub use checkpoint::CheckpointError;
pub use judge::Score;
pub(crate) use round::{Teaching, Turn, turn};

use crate::examples::{Examples, ExamplesError, Targets};
use crate::network::{Network, NetworkError};
use crate::optimise::Optimiser;
use crate::recipes::{AugmentError, Objective, Plateau, Recipe, RecipeError, Stage};
use burn::tensor::Tensor;
use clock::Clock;
use galen_models::{Model, ModelSpec, ParameterKind, Shape};
use round::Anchor;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What a training run needs beside network, recipe and data.
pub struct Options<'a> {
    /// A file written after every epoch; if it exists the run continues from it.
    pub checkpoint: Option<&'a Path>,
    /// Called after every step.
    pub progress: &'a mut dyn FnMut(&Event),
}

/// How far a training run is.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The stage's name.
    pub stage: String,
    /// The stage's number, from 0, of `stages`.
    pub stage_index: usize,
    /// Stages of the recipe.
    pub stages: usize,
    /// The epoch, from 0, of `epochs`.
    pub epoch: u32,
    /// Epochs of the stage.
    pub epochs: u32,
    /// Patients of the epoch that are done, of `patients`.
    pub done: usize,
    /// Patients of the training data.
    pub patients: usize,
    /// Patients per second since this process began to train.
    pub rate: f64,
    /// Seconds to the end of the recipe at this rate, if no stage stops early.
    pub remaining_s: f64,
    /// The epoch's results, with the last step of an epoch.
    pub finished: Option<Epoch>,
}

/// The results of an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// The stage's number, from 0.
    pub stage: usize,
    /// The epoch within the stage, from 0.
    pub epoch: u32,
    /// Mean loss over the epoch's steps, penalties and distillation included.
    pub loss: f64,
    /// Factor on the step sizes at the end of the epoch.
    pub factor: f64,
    /// Per activation, the share of the polynomial.
    pub shares: Vec<f64>,
    /// The score on the validation data after the epoch, if there are any.
    pub validation: Option<Score>,
}

/// What came of a training run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The model at the end of the last stage.
    pub model: Model,
    /// The teacher of the last stage, if a stage made one, as a network of its own: with ReLU and maximum pooling where it had them. `None`
    /// too if its activations were not ReLU and not the network's own, or if it took maxima of windows with a margin.
    pub teacher: Option<Model>,
    /// All epochs.
    pub epochs: Vec<Epoch>,
}

/// A training run that cannot start or did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FitError {
    /// An impossible recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// Examples that do not fit the network.
    #[error("{part} data: {problem}")]
    Examples {
        /// Training, validation, or evaluated.
        part: &'static str,
        /// What is wrong.
        problem: ExamplesError,
    },
    /// The network or the device failed.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The loss became infinite or undefined.
    #[error(
        "training diverged in epoch {epoch} of stage \"{stage}\"; lower its learning_rate, set clip, or raise its penalty"
    )]
    Diverged {
        /// The stage.
        stage: String,
        /// The epoch, from 0.
        epoch: u32,
    },
    /// A checkpoint that cannot be read, written or continued from.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// A network that others learn from.
#[derive(Clone)]
struct Teacher {
    params: Vec<Tensor<2>>,
    shares: Vec<f64>,
    maximum: bool,
}

impl Teacher {
    /// The teacher as a network of its own, where there is one; it was trained as `network`.
    fn model(&self, network: &Network) -> Result<Option<Model>, NetworkError> {
        let mut network = network.clone();
        set(&mut network, &self.params);
        let model = network.model()?;
        let all = |share: f64| self.shares.iter().all(|s| *s == share);
        Ok(if all(0.0) {
            teacher::alone(&model, self.maximum)?
        } else if all(1.0) && !self.maximum {
            Some(model)
        } else {
            None
        })
    }
}

/// Everything that an epoch leaves to the next.
struct State {
    stage: usize,
    epoch: u32,
    network: Network,
    optimiser: Optimiser,
    average: Option<Vec<Tensor<2>>>,
    steps: u64,
    best: Option<(f64, Vec<Tensor<2>>)>,
    waited: u32,
    plateau: Plateau,
    teacher: Option<Teacher>,
    history: Vec<Epoch>,
}

/// What does not change during a run.
struct Run<'a> {
    recipe: &'a Recipe,
    /// The network's parameters at the beginning.
    start: Vec<Tensor<2>>,
    training: &'a Examples,
    patients: usize,
    validation: Option<(&'a Examples, usize)>,
    /// How much a patient of each class counts.
    class_weights: Option<Vec<f64>>,
    /// What the parameters are held to.
    anchor: Option<Anchor>,
}

/// Trains `network` by `recipe`, from its present parameters on.
///
/// On the CPU the result depends on nothing but network, recipe and data, to the bit, and it is the same
/// if the run was interrupted and continued from its checkpoint.
pub fn fit(
    network: Network,
    recipe: &Recipe,
    training: &Examples,
    validation: Option<&Examples>,
    options: Options<'_>,
) -> Result<Outcome, FitError> {
    recipe.check_for(network.activations().len())?;
    let class_weights = class_weights(recipe, network.spec(), || {
        training.class_counts(network.spec().outputs().max(2))
    })?;
    if recipe.augmentation.is_some() && !matches!(network.spec().input, Shape::Image(_)) {
        return Err(RecipeError::Augmentation(AugmentError::NoImage).into());
    }
    let check = |examples: &Examples, part| {
        let problem = |problem| FitError::Examples { part, problem };
        kind(recipe.objective, &examples.targets).map_err(problem)?;
        examples.check(network.spec()).map_err(problem)
    };
    let patients = check(training, "training")?;
    let validation = match validation {
        Some(examples) => Some((examples, check(examples, "validation")?)),
        None => None,
    };
    let run = Run {
        recipe,
        start: network.params().to_vec(),
        training,
        patients,
        validation,
        class_weights,
        anchor: None,
    };
    let checkpoint = match options.checkpoint {
        Some(path) => Some((path, run.fingerprint(&network, path)?)),
        None => None,
    };
    let mut state = State::new(network, &recipe.stages[0]);
    if let Some((path, run)) = checkpoint {
        state = checkpoint::resume(path, run, &recipe.stages, state)?;
    }
    let mut clock = Clock::new(recipe, &state, patients);
    while let Some(stage) = recipe.stages.get(state.stage) {
        while state.epoch < stage.epochs {
            let finished = run.epoch(stage, &mut state, &mut |state, done, finished| {
                (options.progress)(&clock.event(stage, state, done, finished));
            })?;
            state.epoch += 1;
            clock.epoch_done();
            if finished {
                clock.skip(stage.epochs - state.epoch);
                state.epoch = stage.epochs;
            }
            if let Some((path, run)) = checkpoint {
                checkpoint::save(path, run, &state)?;
            }
        }
        run.end(stage, &mut state)?;
        if let Some((path, run)) = checkpoint {
            checkpoint::save(path, run, &state)?;
        }
    }
    let model = state.network.model()?;
    let teacher = match &state.teacher {
        Some(teacher) => teacher.model(&state.network)?,
        None => None,
    };
    Ok(Outcome {
        model,
        teacher,
        epochs: state.history,
    })
}

/// How much a patient of each class counts, from the numbers of patients of each class.
fn class_weights(
    recipe: &Recipe,
    spec: &ModelSpec,
    counts: impl FnOnce() -> Vec<u64>,
) -> Result<Option<Vec<f64>>, RecipeError> {
    let Some(weights) = &recipe.class_weights else {
        return Ok(None);
    };
    let factors = weights.of(&counts());
    if factors.len() != spec.outputs().max(2) {
        return Err(RecipeError::Setting {
            place: "the recipe".into(),
            setting: "class_weights",
            value: format!("{factors:?}"),
            possible: "a number for each class that the network tells apart is needed",
        });
    }
    Ok(Some(factors))
}

fn kind(objective: Objective, targets: &Targets) -> Result<(), ExamplesError> {
    let (objective, found) = match (objective, targets) {
        (Objective::Classification, Targets::Values(_)) => ("classification", "numbers"),
        (Objective::Regression, Targets::Classes(_)) => ("regression", "classes"),
        _ => return Ok(()),
    };
    Err(ExamplesError::Kind { objective, found })
}

/// Puts all parameters into a network.
fn set(network: &mut Network, params: &[Tensor<2>]) {
    for (block, param) in params.iter().enumerate() {
        network.set_param(block, param.clone());
    }
}

impl Run<'_> {
    /// Ends a stage: takes the averaged or the best parameters, computes statistics anew, makes a teacher; then enters the next one.
    fn end(&self, stage: &Stage, state: &mut State) -> Result<(), FitError> {
        state.network = match state.best.take() {
            Some((_, best)) => {
                let mut network = state.network.clone();
                set(&mut network, &best);
                network
            }
            None => state.settled(stage),
        };
        let shares = stage.shares(stage.epochs, state.network.activations().len());
        if stage.recalibrate {
            self.recalibrate(&mut state.network, &shares, stage.max_pooling)?;
        }
        if stage.becomes_teacher {
            state.teacher = Some(Teacher {
                params: state.network.params().to_vec(),
                shares,
                maximum: stage.max_pooling,
            });
        }
        state.stage += 1;
        if let Some(next) = self.recipe.stages.get(state.stage) {
            if next.from_scratch {
                self.renew(state)?;
            }
            state.enter(next);
        }
        Ok(())
    }

    /// Other random weights; coefficients of activations as they were at the beginning, which may be fits that no draw replaces.
    fn renew(&self, state: &mut State) -> Result<(), NetworkError> {
        let seed = self.recipe.seed.wrapping_add(state.stage as u64);
        let fresh = Model::initial(state.network.spec().clone(), seed)?;
        state.network.load(fresh.params())?;
        for (block, start) in self.start.iter().enumerate() {
            if state.network.blocks()[block].kind == ParameterKind::Coefficient {
                state.network.set_param(block, start.clone());
            }
        }
        Ok(())
    }
}

impl State {
    /// The state before the first stage.
    fn new(network: Network, first: &Stage) -> Self {
        Self {
            stage: 0,
            epoch: 0,
            optimiser: Optimiser::new(&network, &first.weights, &first.coefficients),
            network,
            average: None,
            steps: 0,
            best: None,
            waited: 0,
            plateau: Plateau::default(),
            teacher: None,
            history: Vec::new(),
        }
    }

    /// The network that is the stage's result if it ends here and no earlier epoch was better.
    fn settled(&self, stage: &Stage) -> Network {
        let mut network = self.network.clone();
        if let Some(average) = &self.average {
            set(&mut network, average);
            // The mean of two coefficients of unlike signs can be next to 0.
            if let Some(least) = stage.least_leading {
                epoch::guard(&mut network, least);
            }
        }
        network
    }

    /// Begins a stage with the present parameters.
    fn enter(&mut self, stage: &Stage) {
        self.epoch = 0;
        self.optimiser = Optimiser::new(&self.network, &stage.weights, &stage.coefficients);
        self.average = None;
        self.steps = 0;
        self.best = None;
        self.waited = 0;
        self.plateau = Plateau::default();
    }
}
