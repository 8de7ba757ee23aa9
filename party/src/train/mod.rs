//! Training on a data set of one's own by a recipe: what `party train` does.
//!
//! Nothing of it leaves this machine. The result is a folder with a model file for encrypted evaluation and a report.

mod report;

use crate::PartyError;
use crate::home;
use galen_core::config;
use galen_data::{Dataset, Description, Limits, Normalisation, Schema, partition};
use galen_models::{Model, ModelFile, ModelSpec, Range, Shape};
use galen_training::recipes::Recipe;
use galen_training::{Device, Event, Examples, Network, Options, evaluate, fit, record};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The model, with its annotations.
const MODEL: &str = "model.safetensors";
/// The state after the last epoch, from which an interrupted run goes on.
const CHECKPOINT: &str = "checkpoint";

/// What is trained on what.
#[derive(Clone, Debug)]
pub struct Task {
    /// The network (.toml).
    pub network: PathBuf,
    /// The recipe (.toml).
    pub recipe: PathBuf,
    /// Takes the place of the recipe's seed.
    pub seed: Option<u64>,
    /// The schema of the data (.toml).
    pub schema: PathBuf,
    /// The data to learn from.
    pub data: PathBuf,
    /// Share of the data, in [0, 1), that judges the network after each epoch and is not learnt from.
    pub hold_out: f64,
    /// Data that the finished model is evaluated on, and nothing else is done with.
    pub test: Option<PathBuf>,
    /// The schema of the test data, where it is another than that of the data to learn from: arrays of other names in one archive, say.
    pub test_schema: Option<PathBuf>,
    /// Name of the device.
    pub device: String,
    /// The folder that is written.
    pub out: PathBuf,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Trained {
    /// The model's digest.
    pub model: String,
    /// The model's file.
    pub file: PathBuf,
    /// The report: beside it is `report.json`.
    pub report: PathBuf,
    /// Parameters of the model.
    pub parameters: usize,
    /// Epochs in all, those before an interruption included.
    pub epochs: usize,
    /// On the data that were learnt from: share of classes that are right, or for numbers the share of their variance that is explained.
    pub training: f64,
    /// The same on the held-out data.
    pub held_out: Option<f64>,
    /// The same on the test data.
    pub test: Option<f64>,
    /// The same for the teacher, if the recipe made one: on the test data or else on the held-out data.
    pub teacher: Option<f64>,
}

/// The data of a task, ready for the network.
struct Parts {
    training: Part,
    held_out: Option<Part>,
    test: Option<Part>,
    normalisation: Option<Normalisation>,
}

/// Samples that are used for one thing.
struct Part {
    /// As the network takes them.
    data: Dataset,
    /// What they hold, in the units of the files.
    description: Description,
}

impl From<Dataset> for Part {
    fn from(data: Dataset) -> Self {
        let description = data.describe();
        Self { data, description }
    }
}

/// Trains, evaluates and writes the folder. If it holds the checkpoint of the same task, the run goes on from there.
///
/// `progress` is told after every step.
pub fn train(task: &Task, progress: &mut dyn FnMut(&Event)) -> Result<Trained, PartyError> {
    let model_path = task.out.join(MODEL);
    if model_path.exists() {
        let problem = "holds a trained model already, which is not overwritten".to_owned();
        return Err(PartyError::Model {
            path: task.out.clone(),
            problem,
        });
    }
    let mut recipe: Recipe = config::load(&task.recipe)?;
    recipe.seed = task.seed.unwrap_or(recipe.seed);
    let spec = ModelSpec::load_toml(&task.network)?;
    let unfit = |path: &Path| {
        let path = path.to_owned();
        move |problem: String| PartyError::Model { path, problem }
    };
    let model = Model::for_recipe(&spec, &recipe).map_err(|error| unfit(&task.recipe)(error.to_string()))?;
    let device = Device::by_name(&task.device).map_err(|error| PartyError::Device(error.to_string()))?;
    let parts = Parts::load(task, recipe.seed)?;
    let network = Network::new(&device, &model).map_err(|error| unfit(&task.network)(error.to_string()))?;
    // Checkpoint, report and ranges tell of patients. A folder that is there already keeps what its owner chose for it.
    if !task.out.exists() {
        home::make_private(&task.out)?;
    }
    let checkpoint = task.out.join(CHECKPOINT);
    let (training, held_out) = (
        Examples::from(&parts.training.data),
        parts.held_out.as_ref().map(|part| Examples::from(&part.data)),
    );
    let options = Options {
        checkpoint: Some(&checkpoint),
        progress,
    };
    let outcome = fit(network, &recipe, &training, held_out.as_ref(), options)?;

    let mut file = ModelFile::from(outcome.model);
    let schema = parts.training.data.schema();
    file.annotations.classes = schema
        .target
        .classes()
        .iter()
        .map(|class| class.name.clone())
        .collect();
    file.annotations.standardisation = parts.normalisation.clone().map(Into::into);
    let seen = record(&mut file, &training)?;
    widen(&mut file);
    let test = parts.test.as_ref().map(|part| Examples::from(&part.data));
    let judged = |model: &Model, examples: &Option<Examples>| {
        examples.as_ref().map(|e| evaluate(model, e)).transpose()
    };
    let (held_out_seen, test_seen) = (judged(&file.model, &held_out)?, judged(&file.model, &test)?);
    let (unseen_name, unseen_part, unseen) = match &parts.test {
        Some(part) => ("test (teacher)", Some(part), &test),
        None => ("held out (teacher)", parts.held_out.as_ref(), &held_out),
    };
    let teacher_seen = match &outcome.teacher {
        Some(teacher) => judged(teacher, unseen)?,
        None => None,
    };
    let report = report::of(
        task,
        &recipe,
        &file,
        &outcome.epochs,
        &[
            ("training", Some(&parts.training), Some(&seen)),
            ("held out", parts.held_out.as_ref(), held_out_seen.as_ref()),
            ("test", parts.test.as_ref(), test_seen.as_ref()),
            (unseen_name, unseen_part, teacher_seen.as_ref()),
        ],
    )?;
    report
        .write(&task.out)
        .map_err(|error| unfit(&task.out)(error.to_string()))?;
    let bytes = file
        .to_safetensors()
        .map_err(|error| unfit(&model_path)(error.to_string()))?;
    // The model is last: where it is, everything is.
    home::write_durably(&model_path, &bytes)?;
    std::fs::remove_file(&checkpoint).map_err(PartyError::file(&checkpoint))?;
    let width = file.model.spec().outputs();
    let accuracy = |examples: &Option<Examples>, outputs: &Option<Vec<f64>>| {
        Some(examples.as_ref()?.targets.accuracy(outputs.as_ref()?, width))
    };
    Ok(Trained {
        model: file.model.digest().to_hex(),
        parameters: file.model.params().len(),
        file: model_path,
        report: task.out.join("report.html"),
        epochs: outcome.epochs.len(),
        training: training.targets.accuracy(&seen, width),
        held_out: accuracy(&held_out, &held_out_seen),
        test: accuracy(&test, &test_seen),
        teacher: accuracy(unseen, &teacher_seen),
    })
}

/// Makes room for inputs that were not seen in training: an encrypted query refuses a patient outside the input ranges, and of a few hundred
/// patients the next one is often the largest in something. Images from 0 to 1 may have every value between; of everything else
/// the range grows by half its width on each side.
pub(crate) fn widen(file: &mut ModelFile) {
    let image = matches!(file.model.spec().input, Shape::Image(_));
    for range in &mut file.annotations.inputs {
        let unit = image && range.min >= 0.0 && range.max <= 1.0;
        let margin = (range.max - range.min) / 2.0;
        *range = if unit {
            Range::new(0.0, 1.0)
        } else {
            Range::new(range.min - margin, range.max + margin)
        };
    }
}

impl Parts {
    /// Reads, divides, and standardises features by the statistics of those that are learnt from; images stay between 0 and 1.
    fn load(task: &Task, seed: u64) -> Result<Self, PartyError> {
        let schema: Schema = config::load(&task.schema)?;
        let test_schema: Schema = match &task.test_schema {
            Some(path) => config::load(path)?,
            None => schema.clone(),
        };
        if (&test_schema.input, &test_schema.target) != (&schema.input, &schema.target) {
            let path = task.test_schema.clone().unwrap_or_default();
            let problem = format!("input or target are not those of {}", task.schema.display());
            return Err(PartyError::Model { path, problem });
        }
        let load = |path: &Path, schema: &Schema| galen_data::load(path, None, schema, &Limits::default());
        let all = load(&task.data, &schema)?;
        let test = task
            .test
            .as_deref()
            .map(|path| load(path, &test_schema))
            .transpose()?;
        let (training, held_out) = match task.hold_out {
            0.0 => (all, None),
            share => {
                let parts = partition::hold_out(&all, share, seed).map_err(|error| PartyError::Model {
                    path: task.data.clone(),
                    problem: error.to_string(),
                })?;
                (all.select(&parts.train), Some(all.select(&parts.held_out)))
            }
        };
        for (part, name) in [
            (Some(&training), "to learn from"),
            (held_out.as_ref(), "held out"),
        ] {
            if part.is_some_and(Dataset::is_empty) {
                return Err(PartyError::Model {
                    path: task.data.clone(),
                    problem: format!("no sample is left {name} with --hold-out {}", task.hold_out),
                });
            }
        }
        let mut training = Part::from(training);
        let (mut held_out, mut test) = (held_out.map(Part::from), test.map(Part::from));
        let normalisation =
            matches!(schema.input, Shape::Features(_)).then(|| Normalisation::fit(&training.data));
        if let Some(normalisation) = &normalisation {
            for part in [Some(&mut training), held_out.as_mut(), test.as_mut()]
                .into_iter()
                .flatten()
            {
                // The statistics are of the same schema.
                part.data = normalisation
                    .standardised(&part.data)
                    .map_err(|error| PartyError::Internal(error.to_string()))?;
            }
        }
        Ok(Self {
            training,
            held_out,
            test,
            normalisation,
        })
    }
}
