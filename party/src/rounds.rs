//! Rounds as this party checks them: the record must be the one that follows from the study.

use crate::error::PartyError;
use galen_core::Signed;
use galen_core::study::{FrozenStudy, Purpose};
use galen_models::agenda;
use galen_sums::schedule::Schedule;
use galen_sums::{PlanInputs, Roster, Round, RoundId};
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
        let shapes = agenda::schedule_shapes(plan).map_err(PartyError::internal)?;
        let roster = Arc::new(Roster::from_study(study).map_err(PartyError::internal)?);
        Ok(Self {
            roster,
            schedule: Schedule::new(shapes, plan.sums.max_attempts),
        })
    }

    /// The members.
    pub fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// What a round is for; `None` past the last.
    pub fn purpose(&self, round: u32) -> Option<Purpose> {
        self.schedule.purpose(round)
    }

    /// What the plan of a round's sum follows from; `None` past the last.
    pub fn inputs(&self, round: u32) -> Option<PlanInputs> {
        self.schedule.inputs(&self.roster, round)
    }

    /// Verifies a round record: signed by the coordinator, for this attempt, for the purpose and with the plan that
    /// follow from the study.
    pub fn open(&self, id: RoundId, record: &Signed) -> Result<Round, PartyError> {
        let inputs = self
            .inputs(id.round)
            .ok_or_else(|| PartyError::Untrue(format!("the study has no round {}", id.round)))?;
        let round = Round::open(&self.roster, record, &inputs)
            .map_err(|error| PartyError::Untrue(format!("the record of {id} is refused: {error}")))?;
        if round.id() != id || Some(round.record().purpose) != self.purpose(id.round) {
            let (found, purpose) = (round.id(), round.record().purpose.name());
            return Err(PartyError::Untrue(format!(
                "asked for the record of {id}, got that of {found} ({purpose})"
            )));
        }
        Ok(round)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::federation::Federation;
    use galen_core::Digest;

    #[test]
    fn the_schedule_has_the_shape_of_every_round() {
        let federation = Federation::new();
        let study = federation.study.study();
        let shapes = agenda::schedule_shapes(study).unwrap();
        assert_eq!(shapes.len(), agenda::rounds(study) as usize);
        for (round, (purpose, count, max_abs)) in (0u32..).zip(shapes) {
            let shape = agenda::shape(study, round).unwrap().unwrap();
            assert_eq!(
                (purpose, count as usize, max_abs),
                (shape.purpose, shape.values, shape.max_abs)
            );
            let inputs = federation.rounds.inputs(round).unwrap();
            assert_eq!(
                (inputs.ranges[0].count, inputs.ranges[0].max_abs),
                (count, max_abs)
            );
            assert_eq!(federation.rounds.purpose(round), Some(purpose));
        }
        assert!(federation.rounds.inputs(agenda::rounds(study)).is_none());
    }

    #[test]
    fn only_the_record_that_follows_from_the_study_is_accepted() {
        let federation = Federation::new();
        let id = RoundId { round: 0, attempt: 0 };
        let keys = federation.announce(id);
        let base = Digest::of(b"base");
        let record = federation.record(id, base, Purpose::Statistics, keys.clone());
        federation.rounds.open(id, &record).unwrap();
        let refused = |id: RoundId, record: &Signed, part: &str| {
            let error = federation.rounds.open(id, record).unwrap_err();
            assert!(matches!(error, PartyError::Untrue(_)));
            assert!(error.to_string().contains(part), "{error}");
        };
        refused(RoundId { round: 0, attempt: 1 }, &record, "asked for");
        refused(RoundId { round: 9, attempt: 0 }, &record, "no round 9");
        refused(
            id,
            &federation.record(id, base, Purpose::Training, keys.clone()),
            "asked for",
        );
        refused(
            id,
            &federation.record(id, base, Purpose::Statistics, keys[..1].to_vec()),
            "custodians",
        );
        // The plan of a training round does not pass for that of the statistics.
        let training = RoundId { round: 1, attempt: 0 };
        refused(
            id,
            &federation.record(training, base, Purpose::Statistics, keys),
            "refused",
        );
        // Nor does anybody's signature but the coordinator's.
        let others = Federation::new();
        refused(
            id,
            &others.record(id, base, Purpose::Statistics, others.announce(id)),
            "refused",
        );
    }
}
