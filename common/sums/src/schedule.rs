//! The plan inputs of every round of a study, derived alike by coordinator and parties.

use crate::plan::{PlanInputs, ValueRange, padded};
use crate::roster::Roster;
use galen_core::study::Purpose;

/// The rounds of a study: purpose, values per contribution and largest absolute value of each, and how often one may be attempted.
#[derive(Clone, Debug)]
pub struct Schedule {
    rounds: Vec<(Purpose, u32, u64)>,
    attempts: u32,
}

impl Schedule {
    /// A schedule; round `r` is entry `r`.
    pub fn new(rounds: Vec<(Purpose, u32, u64)>, attempts: u32) -> Self {
        Self { rounds, attempts }
    }

    /// Number of rounds.
    pub fn len(&self) -> usize {
        self.rounds.len()
    }

    /// Whether there are no rounds.
    pub fn is_empty(&self) -> bool {
        self.rounds.is_empty()
    }

    /// What a round is for; `None` past the last.
    pub fn purpose(&self, round: u32) -> Option<Purpose> {
        self.rounds.get(round as usize).map(|(purpose, _, _)| *purpose)
    }

    /// What the plan of a round follows from; `None` past the last.
    pub fn inputs(&self, roster: &Roster, round: u32) -> Option<PlanInputs> {
        let (_, count, max_abs) = *self.rounds.get(round as usize)?;
        let per_attempt: u64 = self
            .rounds
            .iter()
            .map(|(_, count, _)| padded(u64::from(*count)))
            .sum();
        let range = ValueRange {
            count,
            max_abs,
            fraction_bits: 0,
        };
        Some(PlanInputs::for_roster(
            roster,
            vec![range],
            per_attempt.saturating_mul(u64::from(self.attempts)),
        ))
    }
}
