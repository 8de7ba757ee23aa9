//! What the encrypted sums must be, recomputed outside the protocol by somebody who knows all tables.

use crate::federation::{Federation, home};
use anyhow::{Context, ensure};
use galen_core::PartyId;
use galen_core::study::{Role, Study};
use galen_models::Model;
use galen_party::config::Config;
use galen_party::home::Home;
use galen_party::sealed::{OpenedSum, SumSecurity};
use galen_training::Device;
use galen_training::baseline::{self, Federated, Hospital};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Whose contributions are in the sum of each round.
pub type Sets = Vec<BTreeSet<PartyId>>;

/// What a party has opened: the result of `party opened`.
#[derive(Clone, Debug, Deserialize)]
pub struct Opened {
    /// The sums, in order of rounds.
    pub sums: Vec<OpenedSum>,
    /// How they were encrypted.
    pub security: SumSecurity,
}

/// Asks a party what it has opened.
pub fn opened(federation: &mut Federation, party: &PartyId) -> anyhow::Result<Opened> {
    let result = federation.run(party.as_str(), &["opened"])?;
    serde_json::from_value(result).with_context(|| format!("what {party} opened"))
}

/// Reads and splits every contributor's data, where the configuration in a federation's root folder says that they are.
pub fn hospitals(study: &Study, root: &Path) -> anyhow::Result<Vec<Hospital>> {
    let load = |name: &PartyId| -> anyhow::Result<Hospital> {
        let config = Config::load(&Home::open(&home(root, name.as_str()))?)?;
        Ok(Hospital::load(study, name, &config.data)?)
    };
    study.with_role(Role::Contributor).into_iter().map(load).collect()
}

/// The whole study, computed on plain values.
#[derive(Clone, Debug)]
pub struct Recomputed {
    sets: Sets,
    /// Its sums and its model.
    pub federated: Federated,
}

impl Recomputed {
    /// With every hospital in every round.
    pub fn of_all(study: &Study, hospitals: &[Hospital]) -> anyhow::Result<Self> {
        let everybody: BTreeSet<_> = hospitals.iter().map(|hospital| hospital.name.clone()).collect();
        let rounds = galen_models::agenda::rounds(study) as usize;
        Self::among(study, hospitals, vec![everybody; rounds])
    }

    /// With these hospitals in each round.
    pub fn among(study: &Study, hospitals: &[Hospital], sets: Sets) -> anyhow::Result<Self> {
        let takes_part =
            |round: u32, name: &PartyId| sets.get(round as usize).is_some_and(|set| set.contains(name));
        let device = Device::by_name("cpu")?;
        let federated = baseline::federated_among(study, &device, hospitals, takes_part)?;
        Ok(Self { sets, federated })
    }

    /// The final model of a hospital, with what it keeps to itself.
    pub fn model_of(&self, hospital: &PartyId) -> &Model {
        let models = &self.federated.models;
        models.get(hospital).unwrap_or(&self.federated.trained.model)
    }

    /// Whose contributions it added in each round.
    pub fn sets(&self) -> &Sets {
        &self.sets
    }

    /// The sum of every round, in order.
    fn sums(&self) -> Vec<&[i64]> {
        let federated = &self.federated;
        let training = federated.training_sums.iter().map(Vec::as_slice);
        let (first, last) = (
            federated.statistics_sum.as_slice(),
            federated.evaluation_sum.as_slice(),
        );
        std::iter::once(first).chain(training).chain([last]).collect()
    }

    /// Where what a party opened is not this, bit for bit; empty if it is this everywhere.
    pub fn differences(&self, party: &PartyId, opened: &[OpenedSum]) -> Vec<String> {
        self.differences_since(0, party, opened)
    }

    /// The same for a party that joined before round `first`.
    pub fn differences_since(&self, first: usize, party: &PartyId, opened: &[OpenedSum]) -> Vec<String> {
        let sums = self.sums();
        let mut found = Vec::new();
        let expected = sums.len().saturating_sub(first);
        if opened.len() != expected {
            found.push(format!("{party} opened {} sums of {expected}", opened.len()));
        }
        for (opened, (round, sum)) in opened.iter().zip(sums.iter().enumerate().skip(first)) {
            let set: BTreeSet<_> = opened.contributors.iter().cloned().collect();
            if opened.round as usize != round || Some(&set) != self.sets.get(round) {
                found.push(format!(
                    "{party}, round {round}: opened a sum over {set:?} in round {}",
                    opened.round
                ));
            }
            if opened.values != *sum {
                let wrong = opened.values.iter().zip(*sum).filter(|(a, b)| a != b).count();
                found.push(format!(
                    "{party}, round {round}: {wrong} of {} values differ",
                    sum.len()
                ));
            }
        }
        found
    }
}

/// Whose contributions each round added, on which all parties must agree.
pub fn sets(opened: &BTreeMap<PartyId, Vec<OpenedSum>>) -> anyhow::Result<Sets> {
    let mut agreed: Option<Sets> = None;
    for (party, opened) in opened {
        let sets: Sets = opened
            .iter()
            .map(|opened| opened.contributors.iter().cloned().collect())
            .collect();
        ensure!(
            agreed.as_ref().is_none_or(|known| *known == sets),
            "{party} opened sums over other sets than the others"
        );
        agreed = Some(sets);
    }
    agreed.context("nobody opened anything")
}
