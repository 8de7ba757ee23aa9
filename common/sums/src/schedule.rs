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
        self.inputs_for(
            roster.contributors().len(),
            roster.custodians().len(),
            roster.threshold(),
            round,
        )
    }

    /// The same before there is a roster: the members' numbers are all that a plan needs.
    pub fn inputs_for(
        &self,
        contributors: usize,
        custodians: usize,
        threshold: usize,
        round: u32,
    ) -> Option<PlanInputs> {
        let (_, count, max_abs) = *self.rounds.get(round as usize)?;
        let per_attempt: u64 = self
            .rounds
            .iter()
            .map(|(_, count, _)| padded(u64::from(*count)))
            .sum();
        Some(PlanInputs {
            contributors: contributors as u32,
            ranges: vec![ValueRange {
                count,
                max_abs,
                fraction_bits: 0,
            }],
            study_coefficients: per_attempt.saturating_mul(u64::from(self.attempts)),
            custodians: custodians as u32,
            threshold: threshold as u32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roster::{RosterMember, RosterParts};
    use crate::{PlanError, SumPlan};
    use galen_core::{Digest, PartyId, PublicKey};

    fn roster() -> Roster {
        let member = |index: u8| RosterMember {
            name: PartyId::new(format!("h{index}")).unwrap(),
            signing: PublicKey(Digest::of(&[index])),
            sealing: [index; 32],
            contributor: true,
            custodian: index < 3,
        };
        Roster::new(RosterParts {
            study: Digest::of(b"study"),
            coordinator: PublicKey(Digest::of(b"coordinator")),
            members: (0..5).map(member).collect(),
            threshold: 2,
            agreement: 2,
            min_contributors: 3,
        })
        .unwrap()
    }

    #[test]
    fn every_round_has_its_own_range_and_the_study_s_coefficients() {
        let rounds = vec![
            (Purpose::Statistics, 10, 1 << 30),
            (Purpose::Training, 5000, 1 << 38),
            (Purpose::Training, 5000, 1 << 38),
            (Purpose::Evaluation, 4096, 100),
        ];
        let (roster, schedule) = (roster(), Schedule::new(rounds.clone(), 3));
        assert_eq!((schedule.len(), schedule.is_empty()), (4, false));
        // Blocks of 4096: one, two, two and one, each in up to three attempts.
        let coefficients = 3 * 4096 * (1 + 2 + 2 + 1);
        for (round, (purpose, count, max_abs)) in (0u32..).zip(rounds) {
            let inputs = schedule.inputs(&roster, round).unwrap();
            let range = ValueRange {
                count,
                max_abs,
                fraction_bits: 0,
            };
            let expected = PlanInputs {
                contributors: 5,
                ranges: vec![range],
                study_coefficients: coefficients,
                custodians: 3,
                threshold: 2,
            };
            assert_eq!(inputs, expected, "{round}");
            assert_eq!(schedule.purpose(round), Some(purpose));
            SumPlan::new(&inputs).unwrap();
        }
        for past in [4, u32::MAX] {
            assert!(schedule.inputs(&roster, past).is_none());
            assert_eq!(schedule.purpose(past), None);
        }
    }

    #[test]
    fn what_cannot_be_counted_is_refused_by_the_plan() {
        let schedule = Schedule::new(vec![(Purpose::Training, u32::MAX, 1)], u32::MAX);
        let inputs = schedule.inputs(&roster(), 0).unwrap();
        assert!(matches!(SumPlan::new(&inputs), Err(PlanError::Values { .. })));
        let none = Schedule::new(Vec::new(), 1);
        assert!(none.is_empty() && none.inputs(&roster(), 0).is_none());
    }
}
