//! Shrinking: which of a failing schedule's faults it takes to fail.

use super::invariants::Invariant;
use super::{Outcome, Schedule};
use std::collections::BTreeSet;
use std::ops::Range;

/// A process that stops again and again violates an invariant each time; so many violations are shown.
const SHOWN: usize = 8;

/// A schedule that fails, and how.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The schedule.
    pub schedule: Schedule,
    /// How it ended.
    pub outcome: Outcome,
    /// Schedules that were run to find it.
    pub runs: usize,
}

impl Failure {
    /// Runs a schedule; `None` if everything holds.
    ///
    /// # Errors
    /// If the simulation cannot be set up.
    pub fn of(schedule: &Schedule) -> anyhow::Result<Option<Self>> {
        let outcome = schedule.run()?;
        Ok((!outcome.violations.is_empty()).then(|| Self {
            schedule: schedule.clone(),
            outcome,
            runs: 1,
        }))
    }

    fn invariants(&self) -> BTreeSet<Invariant> {
        self.outcome
            .violations
            .iter()
            .map(|violation| violation.invariant)
            .collect()
    }

    /// Takes faults, lies, crossings and spoilt contributions out as long as the same invariant fails: halves first, then smaller parts, down to single ones.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn shrink(mut self) -> anyhow::Result<Self> {
        let wanted = self.invariants();
        let len = |schedule: &Schedule| {
            schedule.faults.len() + schedule.lies.len() + schedule.crossings.len() + schedule.spoils.len()
        };
        let mut part = len(&self.schedule).div_ceil(2).max(1);
        loop {
            let mut at = 0;
            let mut smaller = false;
            while at < len(&self.schedule) {
                let schedule = without(&self.schedule, at..at + part);
                self.runs += 1;
                match Self::of(&schedule)? {
                    Some(found) if found.invariants().iter().any(|i| wanted.contains(i)) => {
                        self.schedule = found.schedule;
                        self.outcome = found.outcome;
                        smaller = true;
                    }
                    _ => at += part,
                }
            }
            if part == 1 && !smaller {
                return Ok(self);
            }
            if !smaller || part > len(&self.schedule) {
                part = (part / 2).max(1);
            }
        }
    }
}

/// The schedule without some of its faults, lies, crossings and spoilt contributions, counted in this order.
fn without(schedule: &Schedule, part: Range<usize>) -> Schedule {
    fn take<T>(list: &mut Vec<T>, part: &Range<usize>, first: &mut usize) {
        let len = list.len();
        let mut index = *first..;
        list.retain(|_| index.next().is_none_or(|index| !part.contains(&index)));
        *first += len;
    }
    let mut smaller = schedule.clone();
    let mut first = 0;
    take(&mut smaller.faults, &part, &mut first);
    take(&mut smaller.lies, &part, &mut first);
    take(&mut smaller.crossings, &part, &mut first);
    take(&mut smaller.spoils, &part, &mut first);
    smaller
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let violations = &self.outcome.violations;
        for violation in violations.iter().take(SHOWN) {
            writeln!(f, "{violation}")?;
        }
        if violations.len() > SHOWN {
            writeln!(f, "and {} more", violations.len() - SHOWN)?;
        }
        writeln!(f, "{}", self.schedule)
    }
}
