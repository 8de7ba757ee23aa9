//! The whole study in one process and without encryption: what each hospital reaches alone, what the federation must reach, and
//! what training on the pooled patients would reach.
//!
//! [`federated()`] does exactly what the daemons do, with plain sums in place of encrypted ones, so that every sum it returns must
//! equal the opened one bit for bit.

use crate::device::Device;
use crate::federated::{self, LocalError};
use crate::preprocess::{PreprocessError, Preprocessor};
use crate::records::{Divided, LoadError, Records};
use galen_core::PartyId;
use galen_core::study::Study;
use galen_models::{
    CodecError, Course, CourseError, Histograms, Learned, Model, ModelError, Personal, Statistics, agenda,
};
use galen_models::{histogram, metrics};
use std::collections::BTreeMap;
use std::path::Path;

/// One hospital's patients, already split.
#[derive(Clone, Debug, PartialEq)]
pub struct Hospital {
    /// Its name in the study.
    pub name: PartyId,
    /// The patients to learn from.
    pub train: Records,
    /// The patients to evaluate on.
    pub held_out: Records,
}

/// A model with the preprocessing that belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// From patients to rows.
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
    /// The final model; private parameters are as they were at the beginning.
    pub trained: Trained,
    /// The final model of every hospital, with its private parameters.
    pub models: BTreeMap<PartyId, Model>,
    /// The pooled histograms of held-out patients.
    pub histograms: Histograms,
}

/// A step of the study that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaselineError {
    /// The hospital's data.
    #[error(transparent)]
    Data(#[from] LoadError),
    /// Hospitals whose data are not of one kind, or no hospital.
    #[error("there is nothing to pool: no hospital, or tables beside images")]
    Pool,
    /// Network, recipe or sharing.
    #[error(transparent)]
    Course(#[from] CourseError),
    /// The preprocessing.
    #[error(transparent)]
    Preprocess(#[from] PreprocessError),
    /// The training.
    #[error(transparent)]
    Train(#[from] LocalError),
    /// The sums.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl Hospital {
    /// Reads and divides a hospital's data as its daemon does.
    pub fn load(study: &Study, name: &PartyId, data: &Path) -> Result<Self, BaselineError> {
        let Divided { train, held_out, .. } = Divided::load(data, study, name)?;
        let name = name.clone();
        Ok(Self {
            name,
            train,
            held_out,
        })
    }
}

impl Trained {
    /// Predicted probabilities of class 1.
    pub fn probabilities(&self, patients: &Records) -> Result<Vec<f64>, BaselineError> {
        self.preprocessor.probabilities(&self.model, patients)
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

impl Federated {
    /// Predicted probabilities of class 1, by the hospital's own model.
    pub fn probabilities(&self, hospital: &PartyId, patients: &Records) -> Result<Vec<f64>, BaselineError> {
        let model = self.models.get(hospital).unwrap_or(&self.trained.model);
        self.trained.preprocessor.probabilities(model, patients)
    }

    /// Exact AUC on the held-out patients of all hospitals together, each scored by its hospital's model; `None` if they are all of one
    /// class.
    pub fn auc(&self, hospitals: &[Hospital]) -> Result<Option<f64>, BaselineError> {
        let (mut scores, mut labels) = (Vec::new(), Vec::new());
        for hospital in hospitals {
            scores.extend(self.probabilities(&hospital.name, &hospital.held_out)?);
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
    let all = Records::joined(hospitals.iter().map(|h| &h.train)).ok_or(BaselineError::Pool)?;
    central(study, device, "pooled", &all)
}

/// The study's training on one set of patients: the same rounds, without averaging and what belongs to it, and without the limits of contributions.
fn central(study: &Study, device: &Device, name: &str, patients: &Records) -> Result<Trained, BaselineError> {
    let mut study = study.clone();
    study.training.proximal = 0.0;
    study.training.private.clear();
    // The limit of rows is one hospital's.
    let rows = u32::try_from(patients.len()).unwrap_or(u32::MAX);
    study.data.max_rows = study.data.max_rows.max(rows);
    let schema = &study.data;
    let statistics = Statistics::from_sums(&patients.statistics(schema)?, schema)?;
    let preprocessor = Preprocessor::new(schema, &statistics)?;
    let examples = preprocessor.examples(patients)?;
    let course = Course::of(&study)?;
    let mut learned: Option<Learned> = None;
    for round in 0..course.rounds() {
        let hospital = federated::Hospital {
            study: &study,
            course: &course,
            party: name,
            round,
            learned: learned.as_ref(),
            personal: None,
            classes: statistics.classes,
        };
        let step = hospital.train(device, &examples, &mut |_| {})?;
        learned = Some(course.taken(round, learned.as_ref(), &step.local));
    }
    let model = course.model(learned.as_ref(), None)?;
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
        add(&mut statistics_sum, &hospital.train.statistics(schema)?);
    }
    let statistics = Statistics::from_sums(&statistics_sum, schema)?;
    let preprocessor = Preprocessor::new(schema, &statistics)?;
    let mut examples = BTreeMap::new();
    for hospital in hospitals {
        examples.insert(&hospital.name, preprocessor.examples(&hospital.train)?);
    }
    let course = Course::of(study)?;
    let mut learned: Option<Learned> = None;
    let mut personal: BTreeMap<&PartyId, Option<Personal>> = BTreeMap::new();
    let mut training_sums = Vec::new();
    for round in 0..course.rounds() {
        let mut sum = vec![0; course.values()];
        for hospital in hospitals {
            let own = personal.entry(&hospital.name).or_default();
            let mut trained = None;
            if takes_part(round + 1, &hospital.name) {
                let place = federated::Hospital {
                    study,
                    course: &course,
                    party: hospital.name.as_str(),
                    round,
                    learned: learned.as_ref(),
                    personal: own.as_ref(),
                    classes: statistics.classes,
                };
                let step = place.train(device, &examples[&hospital.name], &mut |_| {})?;
                add(&mut sum, &step.contribution(&course)?);
                trained = Some(step.private(&course));
            }
            *own = course.personal(round, own.as_ref(), trained);
        }
        learned = Some(course.apply(round, learned.as_ref(), &sum)?);
        training_sums.push(sum);
    }
    let mut models = BTreeMap::new();
    for hospital in hospitals {
        let own = personal.get(&hospital.name).and_then(Option::as_ref);
        models.insert(hospital.name.clone(), course.model(learned.as_ref(), own)?);
    }
    let model = course.model(learned.as_ref(), None)?;
    let trained = Trained { preprocessor, model };
    let mut evaluation_sum = vec![0; Histograms::values(&study.evaluation)];
    for hospital in members(agenda::rounds(study).saturating_sub(1)) {
        let patients = &hospital.held_out;
        let probabilities: Vec<f64> = trained
            .preprocessor
            .probabilities::<BaselineError>(&models[&hospital.name], patients)?;
        let values = histogram::contribution(&probabilities, &patients.labels, &study.evaluation, schema)?;
        add(&mut evaluation_sum, &values);
    }
    let histograms = Histograms::from_sums(&evaluation_sum, &study.evaluation)?;
    Ok(Federated {
        statistics_sum,
        training_sums,
        evaluation_sum,
        trained,
        models,
        histograms,
    })
}

fn add(sum: &mut [i64], values: &[i64]) {
    sum.iter_mut().zip(values).for_each(|(s, v)| *s += v);
}
