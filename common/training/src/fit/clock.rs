//! Rates and remaining times.

use super::{Epoch, Event, State};
use crate::recipes::{Recipe, Stage};
use std::time::Instant;

/// Rates and remaining times.
pub(super) struct Clock {
    begin: Instant,
    stages: usize,
    patients: usize,
    /// Patients that this process has trained on in whole epochs; one counts again in each.
    seen: usize,
    /// Patients of the whole epochs that are left, the present one included.
    left: usize,
}

impl Clock {
    pub(super) fn new(recipe: &Recipe, state: &State, patients: usize) -> Self {
        let epochs: u64 = recipe
            .stages
            .iter()
            .skip(state.stage)
            .map(|s| u64::from(s.epochs))
            .sum();
        let left = epochs.saturating_sub(u64::from(state.epoch)) as usize;
        Self {
            begin: Instant::now(),
            stages: recipe.stages.len(),
            patients,
            seen: 0,
            left: left.saturating_mul(patients),
        }
    }

    /// Takes note of a whole epoch.
    pub(super) fn epoch_done(&mut self) {
        self.seen += self.patients;
        self.left = self.left.saturating_sub(self.patients);
    }

    /// Takes epochs out that will not be run.
    pub(super) fn skip(&mut self, epochs: u32) {
        self.left = self.left.saturating_sub(epochs as usize * self.patients);
    }

    /// How far the run is, with `done` patients of this epoch.
    pub(super) fn event(&self, stage: &Stage, state: &State, done: usize, finished: Option<Epoch>) -> Event {
        let seconds = self.begin.elapsed().as_secs_f64();
        let rate = (self.seen + done) as f64 / seconds.max(1e-9);
        Event {
            stage: stage.name.clone(),
            stage_index: state.stage,
            stages: self.stages,
            epoch: state.epoch,
            epochs: stage.epochs,
            done,
            patients: self.patients,
            rate,
            remaining_s: self.left.saturating_sub(done) as f64 / rate.max(1e-9),
            finished,
        }
    }
}
