//! One hospital's part of a training round of a study: by the simple plan or by the recipe.

use crate::device::Device;
use crate::examples::{Examples, Targets};
use crate::fit::{FitError, Teaching, Turn, turn};
use crate::train::{Order, Progress, TrainError, train};
use galen_core::study::Study;
use galen_models::{CodecError, Course, Learned, Model, ModelError, Personal};

/// What a hospital trains from in a round.
#[derive(Clone, Copy, Debug)]
pub struct Hospital<'a> {
    /// The study.
    pub study: &'a Study,
    /// Its course.
    pub course: &'a Course,
    /// The hospital's name, which fixes the order of its patients.
    pub party: &'a str,
    /// The training round, from 0.
    pub round: u32,
    /// What the rounds before have led to; `None` before the first.
    pub learned: Option<&'a Learned>,
    /// What this hospital keeps to itself; `None` before its first round, and where everything is shared.
    pub personal: Option<&'a Personal>,
    /// Patients of each class at all hospitals, as the statistics round counted them.
    pub classes: [u64; 2],
}

/// A round of training at one hospital.
#[derive(Clone, Debug)]
pub struct LocalStep {
    /// The model that the round started from.
    pub base: Model,
    /// The model that it ended in.
    pub local: Model,
    rows: usize,
}

/// A hospital's training that did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// By the simple plan.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// By the recipe.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// What was learnt before does not fit the network.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl Hospital<'_> {
    /// Trains on patients' model inputs and classes.
    ///
    /// On the CPU the result depends on nothing but the arguments, to the bit.
    pub fn train(
        &self,
        device: &Device,
        patients: &Examples,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<LocalStep, LocalError> {
        let (course, plan) = (self.course, &self.study.training);
        let base = course.base(self.round, self.learned, self.personal)?;
        let local = match course.recipe().zip(course.place(self.round)) {
            None => {
                let order = Order {
                    seed: self.study.seed,
                    party: self.party,
                    round: self.round,
                };
                let (rows, labels) = rows(patients, base.spec().inputs());
                train(device, &base, &rows, &labels, plan, order, progress)?
            }
            Some((recipe, place)) => {
                let teacher = course.teacher(self.learned, self.personal)?;
                let taught = teacher.as_ref().zip(course.teacher_stage(self.round));
                let round = Turn {
                    seed: self.study.seed,
                    party: self.party,
                    recipe,
                    place,
                    passes: plan.local_epochs,
                    base: &base,
                    teacher: taught.map(|(model, stage)| Teaching { model, stage }),
                    proximal: plan.proximal,
                    shared: course.sharing().shared(),
                    classes: &self.classes,
                };
                turn(device, &round, patients, progress)?
            }
        };
        let rows = patients.targets.len();
        Ok(LocalStep { base, local, rows })
    }
}

impl LocalStep {
    /// The hospital's values for the round.
    pub fn contribution(&self, course: &Course) -> Result<Vec<i64>, CodecError> {
        course.contribution(&self.base, &self.local, self.rows)
    }

    /// The private parameters as they were trained.
    pub fn private(&self, course: &Course) -> Vec<f64> {
        course.sharing().private_of(self.local.params())
    }
}

/// What the simple plan trains on: a row and a label for each patient.
fn rows(patients: &Examples, width: usize) -> (Vec<Vec<f64>>, Vec<bool>) {
    let rows = patients.inputs.chunks(width.max(1));
    let rows = rows.map(|row| row.iter().map(|&x| f64::from(x)).collect());
    let labels = match &patients.targets {
        Targets::Classes(classes) => classes.iter().map(|&class| class == 1).collect(),
        Targets::Values(_) => Vec::new(),
    };
    (rows.collect(), labels)
}
