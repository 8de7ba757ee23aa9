//! Rounds as this party checks them: the record must be the one that follows from the study.

use crate::error::PartyError;
use galen_core::Signed;
use galen_core::study::{FrozenStudy, Purpose};
use galen_models::agenda;
use galen_sums::schedule::Schedule;
use galen_sums::{Roster, Round, RoundId};
use std::sync::Arc;

/// The rounds of a study, as derived here.
#[derive(Clone, Debug)]
pub struct Rounds {
    roster: Arc<Roster>,
    schedule: Schedule,
}

impl Rounds {
    /// The rounds of a study.
    pub fn of(study: &FrozenStudy) -> Result<Self, PartyError> {
        let plan = study.study();
        let mut rounds = Vec::new();
        for round in 0..agenda::rounds(plan) {
            if let Some(shape) = agenda::shape(plan, round).map_err(PartyError::internal)? {
                let count = u32::try_from(shape.values).map_err(PartyError::internal)?;
                rounds.push((shape.purpose, count, shape.max_abs));
            }
        }
        let roster = Arc::new(Roster::from_study(study).map_err(PartyError::internal)?);
        Ok(Self { roster, schedule: Schedule::new(rounds, plan.sums.max_attempts) })
    }

    /// The members.
    pub fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// What a round is for; `None` past the last.
    pub fn purpose(&self, round: u32) -> Option<Purpose> {
        self.schedule.purpose(round)
    }

    /// Verifies a round record: signed by the coordinator, for this attempt, for the purpose and with the plan that
    /// follow from the study.
    pub fn open(&self, id: RoundId, record: &Signed) -> Result<Round, PartyError> {
        let inputs = self.schedule.inputs(&self.roster, id.round);
        let inputs = inputs.ok_or_else(|| PartyError::Untrue(format!("the study has no round {}", id.round)))?;
        let round = Round::open(&self.roster, record, &inputs)
            .map_err(|error| PartyError::Untrue(format!("the record of {id} is refused: {error}")))?;
        if round.id() != id || Some(round.record().purpose) != self.purpose(id.round) {
            let (found, purpose) = (round.id(), round.record().purpose.name());
            return Err(PartyError::Untrue(format!("asked for the record of {id}, got that of {found} ({purpose})")));
        }
        Ok(round)
    }
}
