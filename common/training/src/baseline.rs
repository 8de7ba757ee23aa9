//! The whole study in one process and without encryption: what each hospital reaches alone, what the federation must reach, and
//! what training on the pooled patients would reach.
//!
//! [`federated`] does exactly what the daemons do, with plain sums in place of encrypted ones, so that every sum it returns must
//! equal the opened one bit for bit.

use crate::device::Device;
use crate::preprocess::{PreprocessError, Preprocessor};
use crate::split::split;
use crate::table::{DataError, Table, load_csv};
use crate::train::{Order, TrainError, train};
use galen_core::PartyId;
use galen_core::study::Study;
use galen_models::{CodecError, FedAvg, Histograms, Model, ModelError, ModelSpec, SpecError, Statistics};
use galen_models::{histogram, metrics, statistics};
use std::collections::BTreeMap;
use std::path::Path;

/// One hospital's patients, already split.
#[derive(Clone, Debug, PartialEq)]
pub struct Hospital {
    /// Its name in the study.
    pub name: PartyId,
    /// The patients to learn from.
    pub train: Table,
    /// The patients to evaluate on.
    pub held_out: Table,
}

/// A model with the preprocessing that belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// From tables to rows.
    pub preprocessor: Preprocessor,
    /// From rows to logits.
    pub model: Model,
}

/// Everything that a federation adds up, and what comes out.
#[derive(Clone, Debug, PartialEq)]
pub struct Federated {
    /// The sum of the statistics round.
    pub statistics_sum: Vec<i64>,
    /// The sum of every training round, in order.
    pub training_sums: Vec<Vec<i64>>,
    /// The sum of the evaluation round.
    pub evaluation_sum: Vec<i64>,
    /// The final model.
    pub trained: Trained,
    /// The pooled histograms of held-out patients.
    pub histograms: Histograms,
}

/// A step of the study that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaselineError {
    /// A file.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The network.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The preprocessing.
    #[error(transparent)]
    Preprocess(#[from] PreprocessError),
    /// The training.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The sums.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl Hospital {
    /// Reads and splits a hospital's file as its daemon does.
    pub fn load(study: &Study, name: &PartyId, csv: &Path) -> Result<Self, BaselineError> {
        let table = load_csv(csv, &study.data)?;
        let parts = split(&table, study.data.held_out, study.seed, name);
        Ok(Self {
            name: name.clone(),
            train: parts.train,
            held_out: parts.held_out,
        })
    }
}

impl Trained {
    /// Predicted probabilities of class 1.
    pub fn probabilities(&self, table: &Table) -> Result<Vec<f64>, BaselineError> {
        Ok(self.model.probabilities(&self.preprocessor.rows(table)?)?)
    }

    /// Exact AUC on the held-out patients of all hospitals together; `None` if they are all of one class.
    pub fn auc(&self, hospitals: &[Hospital]) -> Result<Option<f64>, BaselineError> {
        let (mut scores, mut labels) = (Vec::new(), Vec::new());
        for hospital in hospitals {
            scores.extend(self.probabilities(&hospital.held_out)?);
            labels.extend(&hospital.held_out.labels);
        }
        Ok(metrics::auc(&scores, &labels))
    }
}

/// A hospital by itself: its own statistics, its own patients, as many passes over them as in the federation.
pub fn alone(study: &Study, device: &Device, hospital: &Hospital) -> Result<Trained, BaselineError> {
    central(study, device, hospital.name.as_str(), &hospital.train)
}

/// Training on all patients in one place, with as many passes over them as in the federation.
pub fn pooled(study: &Study, device: &Device, hospitals: &[Hospital]) -> Result<Trained, BaselineError> {
    let mut all = Table::default();
    hospitals.iter().for_each(|h| all.extend(&h.train));
    central(study, device, "pooled", &all)
}

/// The study's recipe on one table: the same rounds, without averaging and without the limits of contributions.
fn central(study: &Study, device: &Device, name: &str, table: &Table) -> Result<Trained, BaselineError> {
    let mut schema = study.data.clone();
    // The limit of rows is one hospital's.
    schema.max_rows = schema
        .max_rows
        .max(u32::try_from(table.len()).unwrap_or(u32::MAX));
    let values = statistics::contribution(&table.features, &table.labels, &schema)?;
    let preprocessor = Preprocessor::new(&schema, &Statistics::from_sums(&values, &schema)?)?;
    let rows = preprocessor.rows(table)?;
    let mut model = Model::initial(ModelSpec::from_plan(&schema, &study.model)?, study.seed)?;
    for round in 0..study.training.rounds {
        let order = Order {
            seed: study.seed,
            party: name,
            round,
        };
        let plan = &study.training;
        model = train(device, &model, &rows, &table.labels, plan, order, &mut |_| {})?;
    }
    Ok(Trained { preprocessor, model })
}

/// The federation, with every hospital in every round.
pub fn federated(study: &Study, device: &Device, hospitals: &[Hospital]) -> Result<Federated, BaselineError> {
    federated_among(study, device, hospitals, |_, _| true)
}

/// The federation, with the hospitals that `takes_part` names for each round (numbered as in the agenda: statistics first,
/// evaluation last): what the sums must be when a round was published without somebody.
pub fn federated_among(
    study: &Study,
    device: &Device,
    hospitals: &[Hospital],
    takes_part: impl Fn(u32, &PartyId) -> bool,
) -> Result<Federated, BaselineError> {
    let schema = &study.data;
    let takes_part = &takes_part;
    let members = |round| hospitals.iter().filter(move |h| takes_part(round, &h.name));
    let mut statistics_sum = vec![0; Statistics::values(schema)];
    for hospital in members(0) {
        let table = &hospital.train;
        let values = statistics::contribution(&table.features, &table.labels, schema)?;
        add(&mut statistics_sum, &values);
    }
    let preprocessor = Preprocessor::new(schema, &Statistics::from_sums(&statistics_sum, schema)?)?;
    let mut rows = BTreeMap::new();
    for hospital in hospitals {
        rows.insert(&hospital.name, preprocessor.rows(&hospital.train)?);
    }
    let strategy = FedAvg::new(&study.training, schema);
    let mut model = Model::initial(ModelSpec::from_plan(schema, &study.model)?, study.seed)?;
    let mut training_sums = Vec::new();
    for round in 0..study.training.rounds {
        let mut sum = vec![0; strategy.values(model.spec())];
        for hospital in members(round + 1) {
            let order = Order {
                seed: study.seed,
                party: hospital.name.as_str(),
                round,
            };
            let (rows, labels, plan) = (&rows[&hospital.name], &hospital.train.labels, &study.training);
            let local = train(device, &model, rows, labels, plan, order, &mut |_| {})?;
            add(&mut sum, &strategy.contribution(&model, &local, rows.len())?);
        }
        model = strategy.apply(&model, &sum)?;
        training_sums.push(sum);
    }
    let trained = Trained { preprocessor, model };
    let mut evaluation_sum = vec![0; Histograms::values(&study.evaluation)];
    for hospital in members(study.training.rounds + 1) {
        let table = &hospital.held_out;
        let probabilities = trained.probabilities(table)?;
        let values = histogram::contribution(&probabilities, &table.labels, &study.evaluation, schema)?;
        add(&mut evaluation_sum, &values);
    }
    let histograms = Histograms::from_sums(&evaluation_sum, &study.evaluation)?;
    Ok(Federated {
        statistics_sum,
        training_sums,
        evaluation_sum,
        trained,
        histograms,
    })
}

fn add(sum: &mut [i64], values: &[i64]) {
    sum.iter_mut().zip(values).for_each(|(s, v)| *s += v);
}
