//! The course of a study: which network its training rounds begin with, what they share, and how the opened sums of one lead to the
//! model of the next.
//!
//! A [`Course`] follows from the study alone, so that coordinator and parties have the same one. What the training rounds have led to is
//! [`Learned`]: every contributor derives it from its own openings, with the same bits. Parameters that stay at a hospital are
//! [`Personal`].

mod build;
mod learned;
mod server;
mod sharing;

pub use build::CourseError;
pub use learned::{Learned, Personal};
pub use server::ServerState;
pub use sharing::Sharing;

use crate::fedavg::FedAvg;
use crate::fixed::CodecError;
use crate::model::{Model, ModelError};
use crate::spec::{ModelSpec, ParameterKind};
use galen_core::recipe::{Recipe, Stage};
use galen_core::study::{Problem, Server, Study};

/// What the training rounds of a study compute.
#[derive(Clone, Debug)]
pub struct Course {
    first: Model,
    seed: u64,
    rounds: u32,
    sharing: Sharing,
    average: FedAvg,
    server: Server,
    recipe: Option<Recipe>,
}

/// Where in a recipe a training round stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place<'a> {
    /// The stage's number, from 0.
    pub index: usize,
    /// The stage; its epochs count rounds.
    pub stage: &'a Stage,
    /// The round within the stage, from 0.
    pub round: u32,
}

impl Place<'_> {
    /// Whether the stage ends with this round.
    pub fn is_last(&self) -> bool {
        self.round.saturating_add(1) >= self.stage.epochs
    }
}

impl Course {
    /// The course of a study.
    ///
    /// # Errors
    /// Everything about network, recipe and sharing that cannot be, by field.
    pub fn of(study: &Study) -> Result<Self, CourseError> {
        build::build(study)
    }

    /// Everything that is wrong with a study beyond what [`Study::check`] finds; empty if it can be computed.
    pub fn check(study: &Study) -> Vec<Problem> {
        match build::build(study) {
            Ok(_) => Vec::new(),
            Err(CourseError { problems }) => problems,
        }
    }

    /// The network.
    pub fn network(&self) -> &ModelSpec {
        self.first.spec()
    }

    /// The model that the first round starts from.
    pub fn first(&self) -> &Model {
        &self.first
    }

    /// Which parameters are shared.
    pub fn sharing(&self) -> &Sharing {
        &self.sharing
    }

    /// The codec of contributions.
    pub fn average(&self) -> &FedAvg {
        &self.average
    }

    /// Number of training rounds.
    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    /// Values of a contribution to a training round: the step of every shared parameter, then the number of patients.
    pub fn values(&self) -> usize {
        self.average.values(&self.sharing)
    }

    /// The recipe, if the study has one.
    pub fn recipe(&self) -> Option<&Recipe> {
        self.recipe.as_ref()
    }

    /// Where in the recipe a training round (from 0) stands; `None` without a recipe and past its end.
    pub fn place(&self, round: u32) -> Option<Place<'_>> {
        let mut before = 0u32;
        for (index, stage) in self.recipe.as_ref()?.stages.iter().enumerate() {
            let next = before.saturating_add(stage.epochs);
            if round < next {
                return Some(Place {
                    index,
                    stage,
                    round: round - before,
                });
            }
            before = next;
        }
        None
    }

    /// The stage whose result is the teacher in a training round: the last one before the round's that makes one.
    pub fn teacher_stage(&self, round: u32) -> Option<&Stage> {
        let place = self.place(round)?;
        let before = self.recipe.as_ref()?.stages.get(..place.index)?;
        before.iter().rev().find(|stage| stage.becomes_teacher)
    }

    /// The model that a training round (from 0) starts from, with the private parameters of the one hospital.
    ///
    /// # Errors
    /// If what was learnt does not fit the network.
    pub fn base(
        &self,
        round: u32,
        learned: Option<&Learned>,
        personal: Option<&Personal>,
    ) -> Result<Model, ModelError> {
        let renewed = self
            .place(round)
            .filter(|place| place.round == 0 && place.index > 0 && place.stage.from_scratch);
        match renewed {
            Some(place) => self.renewed(place.index),
            None => self.model(learned, personal),
        }
    }

    /// The model after the rounds so far, with the private parameters of the one hospital.
    ///
    /// # Errors
    /// As [`Course::base`].
    pub fn model(&self, learned: Option<&Learned>, personal: Option<&Personal>) -> Result<Model, ModelError> {
        let params = learned.map_or(self.first.params(), |learned| &learned.params);
        self.whole(params, personal.map(|personal| personal.params.as_slice()))
    }

    /// The teacher of later stages, with the private parameters that the hospital had then; `None` if no stage has made one.
    ///
    /// # Errors
    /// As [`Course::base`].
    pub fn teacher(
        &self,
        learned: Option<&Learned>,
        personal: Option<&Personal>,
    ) -> Result<Option<Model>, ModelError> {
        let Some(teacher) = learned.and_then(|learned| learned.teacher.as_ref()) else {
            return Ok(None);
        };
        let private = personal.and_then(|personal| personal.teacher.as_deref());
        self.whole(teacher, private).map(Some)
    }

    fn whole(&self, params: &[f64], private: Option<&[f64]>) -> Result<Model, ModelError> {
        let model = Model::new(self.network().clone(), params.to_vec())?;
        match private {
            None => Ok(model),
            Some(private) => {
                let mut params = params.to_vec();
                self.sharing.put_private(&mut params, private)?;
                Model::new(self.network().clone(), params)
            }
        }
    }

    /// Other random weights; coefficients of activations as they were at the beginning, which may be fits that no draw replaces.
    fn renewed(&self, stage: usize) -> Result<Model, ModelError> {
        let fresh = Model::initial(self.network().clone(), self.seed.wrapping_add(stage as u64))?;
        let mut params = fresh.params().to_vec();
        for block in self.network().parameters() {
            if block.kind == ParameterKind::Coefficient {
                let range = block.offset..block.offset + block.len();
                params[range.clone()].copy_from_slice(&self.first.params()[range]);
            }
        }
        Model::new(self.network().clone(), params)
    }

    /// One hospital's values for a training round, for a local model that was trained from `base` on `rows` patients.
    ///
    /// # Errors
    /// As [`FedAvg::contribution`].
    pub fn contribution(&self, base: &Model, local: &Model, rows: usize) -> Result<Vec<i64>, CodecError> {
        self.average.contribution(&self.sharing, base, local, rows)
    }

    /// What is learnt from the opened sum of a training round (from 0).
    ///
    /// The step that the model makes is no longer than the study's clip (parameters that have gradients and statistics of normalisations each
    /// by themselves), whatever the server's strategy. A recipe's `least_leading` may then move a leading coefficient further, by its
    /// own size at most. Private parameters do not move.
    ///
    /// # Errors
    /// As [`FedAvg::average`], and if the result is not finite.
    pub fn apply(&self, round: u32, before: Option<&Learned>, sums: &[i64]) -> Result<Learned, CodecError> {
        let impossible = |error: ModelError| CodecError::ImpossibleSum {
            detail: error.to_string(),
        };
        let place = self.place(round);
        // Server and schedule start anew with each stage.
        let mut server = match &place {
            Some(place) if place.round == 0 => ServerState::default(),
            _ => before.map(|learned| learned.server.clone()).unwrap_or_default(),
        };
        let step = self.average.average(&self.sharing, sums)?;
        let step = server.advance(&self.server, &self.sharing, &step, self.average.clip);
        let base = self.base(round, before, None).map_err(impossible)?;
        let mut params = base.params().to_vec();
        self.sharing.add(&mut params, &step);
        self.settle(&mut params, place.and_then(|place| place.stage.least_leading));
        let model = Model::new(self.network().clone(), params).map_err(impossible)?;
        Ok(self.after(round, before, &model, server))
    }

    /// What is learnt if a training round (from 0) simply ends in `model`, as where one hospital trains by itself.
    pub fn taken(&self, round: u32, before: Option<&Learned>, model: &Model) -> Learned {
        self.after(round, before, model, ServerState::default())
    }

    fn after(&self, round: u32, before: Option<&Learned>, model: &Model, server: ServerState) -> Learned {
        let params = model.params().to_vec();
        let teacher = match self.place(round) {
            Some(place) if place.is_last() && place.stage.becomes_teacher => Some(params.clone()),
            _ => before.and_then(|learned| learned.teacher.clone()),
        };
        Learned {
            params,
            server,
            teacher,
        }
    }

    /// The private parameters of a hospital after a training round (from 0) whose set it was in (`trained` are then those that it
    /// trained) or not; `None` if everything is shared.
    pub fn personal(
        &self,
        round: u32,
        before: Option<&Personal>,
        trained: Option<Vec<f64>>,
    ) -> Option<Personal> {
        if self.sharing.is_whole() {
            return None;
        }
        let params = trained
            .or_else(|| before.map(|personal| personal.params.clone()))
            .unwrap_or_else(|| self.sharing.private_of(self.first.params()));
        let teacher = match self.place(round) {
            Some(place) if place.is_last() && place.stage.becomes_teacher => Some(params.clone()),
            _ => before.and_then(|personal| personal.teacher.clone()),
        };
        Some(Personal { params, teacher })
    }

    /// What averaging, rounding and a server's momentum may have spoilt: a variance is not negative, and leading coefficients
    /// stay away from 0 as the recipe says.
    fn settle(&self, params: &mut [f64], least_leading: Option<f64>) {
        for block in self.network().parameters() {
            let values = &mut params[block.offset..block.offset + block.len()];
            match (block.kind, least_leading) {
                (ParameterKind::Variance, _) => values.iter_mut().for_each(|v| *v = v.max(0.0)),
                (ParameterKind::Coefficient, Some(least)) => {
                    let sets = block.shape.last().copied().unwrap_or(1).min(values.len());
                    let leading = values.len() - sets;
                    for value in &mut values[leading..] {
                        *value = value.abs().max(least).copysign(*value);
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
