//! A successor: the version of a study under which a hospital joins or leaves between rounds.
//!
//! It is a frozen study of its own, with a digest of its own that all its members compare and sign. Its `[predecessor]` table says
//! which study it goes on from, after how many rounds and from which state. Rounds are counted through: a successor of a study with
//! five published rounds begins with round 5.
//!
//! What is computed stays as it was agreed: name, seed, data, model, training, evaluation and serving. What may change is who
//! takes part, in which roles, and the policy for the sums.

use super::check::Problem;
use super::frozen::{Card, FrozenStudy, StudyError};
use super::plan::{Member, Role, Study};
use crate::config;
use crate::id::{Digest, PartyId, StudyDigest};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What a study goes on from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predecessor {
    /// Digest of the frozen study.
    pub study: StudyDigest,
    /// Its version: 1 if it had no predecessor itself.
    pub version: u32,
    /// Rounds that are published under it or before it. The successor's first round has this number.
    pub rounds: u32,
    /// Digest of the state after those rounds.
    pub state: Digest,
}

/// A successor that is not frozen yet: everything joined already, for its author to change and for the others to read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// What it goes on from.
    pub predecessor: Predecessor,
    /// The coordinator.
    pub coordinator: Card,
    /// The members' cards.
    pub card: Vec<Card>,
    /// The plan.
    pub study: Study,
}

/// A study as it comes to be frozen.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)] // One is read from a file and taken apart at once.
pub enum Written {
    /// A new study; cards are still to be joined.
    New(Study),
    /// A successor.
    Successor(Box<Draft>),
}

impl Written {
    /// Reads a study file: one with a `[predecessor]` table is the draft of a successor.
    pub fn load(path: &Path) -> Result<Self, StudyError> {
        // What the file is decides how it is read; what is wrong with it is then told with its line.
        let peek = config::load::<toml::Table>(path)?;
        if peek.contains_key("predecessor") {
            return Ok(Self::Successor(Box::new(config::load(path)?)));
        }
        Ok(Self::New(config::load(path)?))
    }

    /// The plan.
    pub fn study(&self) -> &Study {
        match self {
            Self::New(study) => study,
            Self::Successor(draft) => &draft.study,
        }
    }
}

impl Draft {
    /// A successor of `study` after `rounds` published rounds, with the same members and policy.
    pub fn of(study: &FrozenStudy, rounds: u32, state: Digest) -> Self {
        Self {
            predecessor: Predecessor {
                study: study.digest(),
                version: study.version(),
                rounds,
                state,
            },
            coordinator: study.coordinator().clone(),
            card: study.cards().to_vec(),
            study: study.study().clone(),
        }
    }

    /// Leaves a member out. Tells whether there was one.
    pub fn remove(&mut self, party: &PartyId) -> bool {
        let before = self.study.party.len();
        self.study.party.retain(|member| &member.name != party);
        self.card.retain(|card| &card.name != party);
        self.study.party.len() < before
    }

    /// Adds a member, at the end.
    pub fn add(&mut self, card: Card, title: String, roles: Vec<Role>) {
        self.study.party.push(Member {
            name: card.name.clone(),
            title,
            roles,
        });
        self.card.push(card);
    }

    /// The text of the draft file.
    pub fn to_toml(&self) -> Result<String, StudyError> {
        toml::to_string_pretty(self).map_err(|error| StudyError::Encoding(error.to_string()))
    }

    /// Freezes it as the successor of exactly this study.
    ///
    /// # Errors
    /// [`StudyError::Problems`] with everything that [`FrozenStudy::check_successor_of`] finds, and those of
    /// [`FrozenStudy::freeze`].
    pub fn freeze(self, of: &FrozenStudy) -> Result<FrozenStudy, StudyError> {
        let frozen = FrozenStudy::join(self.study, self.coordinator, self.card, Some(self.predecessor))?;
        let problems = frozen.check_successor_of(of);
        if problems.is_empty() {
            Ok(frozen)
        } else {
            Err(StudyError::Problems(problems))
        }
    }
}

/// Who is in a study and not in the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Members of the predecessor only.
    pub left: Vec<PartyId>,
    /// Members of the successor only.
    pub joined: Vec<PartyId>,
    /// Members of both whose roles are others.
    pub other_roles: Vec<PartyId>,
}

impl Changes {
    /// What changes from one plan to another.
    pub fn between(old: &Study, new: &Study) -> Self {
        let find = |study: &'_ Study, name: &PartyId| study.party.iter().find(|m| &m.name == name).cloned();
        let names = |study: &Study, other: &Study| -> Vec<PartyId> {
            let alone = study.party.iter().filter(|m| find(other, &m.name).is_none());
            alone.map(|m| m.name.clone()).collect()
        };
        let sorted = |member: &Member| {
            let mut roles = member.roles.clone();
            roles.sort_unstable();
            roles
        };
        let changed = new
            .party
            .iter()
            .filter(|member| find(old, &member.name).is_some_and(|before| sorted(&before) != sorted(member)));
        Self {
            left: names(old, new),
            joined: names(new, old),
            other_roles: changed.map(|m| m.name.clone()).collect(),
        }
    }
}

impl FrozenStudy {
    /// 1 for a study without predecessor, else one more than the predecessor's.
    pub fn version(&self) -> u32 {
        self.predecessor()
            .map_or(1, |before| before.version.saturating_add(1))
    }

    /// Number of the first round under this study: rounds are counted through all versions.
    pub fn first_round(&self) -> u32 {
        self.predecessor().map_or(0, |before| before.rounds)
    }

    /// Everything that keeps this study from being the successor of another; empty if it is one.
    pub fn check_successor_of(&self, old: &FrozenStudy) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, field: &str, message: String| {
            if !holds {
                problems.push(Problem {
                    field: field.to_owned(),
                    message,
                });
            }
        };
        let (before, after) = (old.study(), self.study());
        match self.predecessor() {
            None => require(false, "predecessor", "is missing: this is no successor".into()),
            Some(predecessor) => {
                let found = predecessor.study;
                require(
                    found == old.digest(),
                    "predecessor.study",
                    format!("is {}, the study here is {}", found.short(), old.digest().short()),
                );
                require(
                    predecessor.version == old.version(),
                    "predecessor.version",
                    format!(
                        "is {}, the study here is version {}",
                        predecessor.version,
                        old.version()
                    ),
                );
                require(
                    predecessor.rounds >= old.first_round(),
                    "predecessor.rounds",
                    format!(
                        "is {}, the study here began with round {}",
                        predecessor.rounds,
                        old.first_round()
                    ),
                );
            }
        }
        let same = "must be as it was: what is computed does not change between versions";
        require(after.name == before.name, "name", same.into());
        require(after.seed == before.seed, "seed", same.into());
        require(after.data == before.data, "data", same.into());
        require(after.model == before.model, "model", same.into());
        require(after.training == before.training, "training", same.into());
        require(after.evaluation == before.evaluation, "evaluation", same.into());
        require(after.serving == before.serving, "serving", same.into());
        require(
            self.coordinator() == old.coordinator(),
            "coordinator",
            "must be the same one, with the same keys".into(),
        );
        for card in self.cards() {
            let kept = old.card(&card.name).is_none_or(|known| known == card);
            let field = format!("card of \"{}\"", card.name);
            let message = "has other keys than before: a member keeps its card; whoever lost its keys leaves, and joins under a new name";
            require(kept, &field, message.into());
        }
        let stays = |name: &PartyId| after.party.iter().any(|member| &member.name == name);
        let contribute = before
            .with_role(Role::Contributor)
            .into_iter()
            .filter(|name| after.has_role(name, Role::Contributor))
            .count();
        let least = before.sums.min_contributors.max(after.sums.min_contributors);
        require(
            contribute >= least as usize,
            "party",
            format!("{contribute} contributors stay, at least min_contributors ({least}) must"),
        );
        // Those who stay sign the successor and answer nothing under the old study any more. Those who leave could still, and t of
        // them could open a round that is opened again under the successor, over another set.
        let gone = before
            .with_role(Role::Custodian)
            .into_iter()
            .filter(|name| !stays(name))
            .count();
        require(
            gone < before.sums.threshold as usize,
            "party",
            format!(
                "{gone} custodians leave at once, fewer than the threshold ({}) may: together they could still open a round of the old study",
                before.sums.threshold
            ),
        );
        problems
    }
}
