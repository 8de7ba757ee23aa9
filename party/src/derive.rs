//! The state that a party derives from opened sums: statistics, then the model, then histograms.
//!
//! Every contributor derives it for itself, from authentic openings only, and all of them arrive at the same bits; the
//! digest of the state is what receivers publish and what the next round starts from. No model is ever accepted from
//! elsewhere.

use crate::error::PartyError;
use galen_core::Digest;
use galen_core::study::{FrozenStudy, Purpose, Study};
use galen_models::agenda::{self, ReleasedModel};
use galen_models::{
    CodecError, Course, CourseError, Histograms, Learned, Model, ModelError, Personal, Statistics,
};
use galen_sums::Round;
use galen_training::{PreprocessError, Preprocessor};
use serde::{Deserialize, Serialize};

/// Why a state cannot be derived.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeriveError {
    /// The study has no further round.
    #[error("the study has no round {0}")]
    NoRound(u32),
    /// An earlier round's result is needed first.
    #[error("the {0} are not known yet")]
    Missing(&'static str),
    /// The study's training is impossible.
    #[error(transparent)]
    Course(#[from] CourseError),
    /// A model that cannot be.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The opened sums mean nothing.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The released model cannot be encoded.
    #[error("the released model cannot be encoded: {0}")]
    Encoding(#[from] postcard::Error),
    /// A state whose content is not what its digest names.
    #[error("the state is not what its digest names: {0}")]
    Untrue(&'static str),
    /// No preprocessing follows from the statistics.
    #[error(transparent)]
    Preprocess(#[from] PreprocessError),
}

/// What one round added to the digest of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Link {
    /// Digest of what was derived.
    object: Digest,
    /// What only those who opened the round have.
    secret: Digest,
}

/// What follows from the sums opened so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Derived {
    applied: u32,
    digest: Digest,
    /// Digest of the state before the first link.
    origin: Digest,
    /// How the digest came about, round by round, so that the content can be checked against it wherever it is taken to.
    chain: Vec<Link>,
    statistics: Option<Vec<i64>>,
    /// What the training rounds have led to; the initial model follows from the study.
    learned: Option<Learned>,
    histograms: Option<Vec<i64>>,
}

impl Derived {
    /// The state before the first round under a study. If that is not the first round of all, only the digest of the state is known, and a
    /// contributor needs the state itself ([`crate::handover`]).
    pub fn initial(study: &FrozenStudy) -> Self {
        let digest = agenda::first_state(study);
        Self {
            applied: study.first_round(),
            digest,
            origin: digest,
            chain: Vec::new(),
            statistics: None,
            learned: None,
            histograms: None,
        }
    }

    /// Number of rounds taken in; the number of the next round.
    pub fn applied(&self) -> u32 {
        self.applied
    }

    /// The digest that names this state.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Checks that a round begins from this state, if it is the next one. Of other rounds nothing is known here: a custodian that derives
    /// nothing, or has not taken in what went before, serves them on the word of the others.
    ///
    /// # Errors
    /// [`PartyError::Untrue`] if the record names another state.
    pub fn agrees_with(&self, round: &Round) -> Result<(), PartyError> {
        let id = round.id();
        if id.round == self.applied && round.record().base != self.digest {
            return Err(PartyError::Untrue(format!(
                "{id} starts from another state than the one derived here"
            )));
        }
        Ok(())
    }

    /// The purpose of the next round; `None` after the last.
    pub fn next_purpose(&self, study: &Study) -> Option<Purpose> {
        agenda::purpose(study, self.applied)
    }

    /// The state after the next round, whose opened sums these are. The opening secret goes into the digest of the state and nowhere
    /// else: models are the same bytes whatever keys their sums were encrypted under.
    pub fn apply(&self, study: &Study, sums: &[i64], opening_secret: &Digest) -> Result<Self, DeriveError> {
        let purpose = self
            .next_purpose(study)
            .ok_or(DeriveError::NoRound(self.applied))?;
        let mut next = self.clone();
        let object = match purpose {
            Purpose::Statistics => {
                Preprocessor::new(&study.data, &Statistics::from_sums(sums, &study.data)?)?;
                next.statistics = Some(sums.to_vec());
                agenda::sums_digest(sums)
            }
            Purpose::Training => {
                let course = Course::of(study)?;
                // Training rounds count from 0; round 0 of the study is the statistics round.
                let round = self.applied.saturating_sub(1);
                let learned = course.apply(round, self.learned.as_ref(), sums)?;
                let digest = learned.digest(&course);
                next.learned = Some(learned);
                digest.ok_or(DeriveError::Untrue("its parameters do not fit the network"))?
            }
            Purpose::Evaluation => {
                Histograms::from_sums(sums, &study.evaluation)?;
                next.histograms = Some(sums.to_vec());
                agenda::sums_digest(sums)
            }
        };
        next.applied += 1;
        next.chain.push(Link {
            object,
            secret: *opening_secret,
        });
        next.digest = agenda::next_state(&self.digest, &object, opening_secret);
        Ok(next)
    }

    /// Checks that this is the state that a digest names, after so many rounds: the digest is computed again, round by round, and what
    /// the state holds must be what it was computed from.
    ///
    /// # Errors
    /// [`DeriveError::Untrue`]; and what keeps the content from being used.
    pub fn verify(&self, study: &Study, rounds: u32, digest: &Digest) -> Result<(), DeriveError> {
        let untrue = |holds: bool, what| {
            if holds {
                Ok(())
            } else {
                Err(DeriveError::Untrue(what))
            }
        };
        let link = |state: Digest, link: &Link| agenda::next_state(&state, &link.object, &link.secret);
        untrue(
            self.applied == rounds && self.chain.len() == rounds as usize,
            "it is after another number of rounds",
        )?;
        untrue(
            self.digest == *digest && self.chain.iter().fold(self.origin, link) == *digest,
            "its rounds lead to another digest",
        )?;
        let object = |round: u32| self.chain.get(round as usize).map(|link| link.object);
        let sums = |sums: &Option<Vec<i64>>| sums.as_deref().map(agenda::sums_digest);
        untrue(
            sums(&self.statistics) == object(0),
            "other statistics were opened",
        )?;
        if self.statistics.is_some() {
            self.preprocessor(study)?;
        }
        let trained = rounds.saturating_sub(1).min(study.training_rounds());
        untrue(
            self.learned.is_some() == (trained > 0),
            "it has a model before training, or none after",
        )?;
        if let Some(learned) = &self.learned {
            let digest = learned.digest(&Course::of(study)?);
            untrue(
                digest.is_some() && digest == object(trained),
                "another model was derived",
            )?;
        }
        untrue(
            sums(&self.histograms) == object(study.training_rounds().saturating_add(1)),
            "other histograms were opened",
        )?;
        self.histograms(study)?;
        Ok(())
    }

    /// What the training rounds taken in have led to; `None` before the first.
    pub fn learned(&self) -> Option<&Learned> {
        self.learned.as_ref()
    }

    /// Whether all training rounds are taken in.
    pub fn is_trained(&self, study: &Study) -> bool {
        self.applied > study.training_rounds()
    }

    /// The model, once all training rounds are taken in: with the private parameters of this hospital, or with those that all began with.
    pub fn trained(&self, study: &Study, personal: Option<&Personal>) -> Result<Model, DeriveError> {
        if self.is_trained(study) {
            Ok(Course::of(study)?.model(self.learned.as_ref(), personal)?)
        } else {
            Err(DeriveError::Missing("trained weights"))
        }
    }

    /// Statistics over all patients, once known.
    pub fn statistics(&self, study: &Study) -> Result<Statistics, DeriveError> {
        let sums = self
            .statistics
            .as_ref()
            .ok_or(DeriveError::Missing("statistics"))?;
        Ok(Statistics::from_sums(sums, &study.data)?)
    }

    /// What turns a table into model inputs, once the statistics are known.
    pub fn preprocessor(&self, study: &Study) -> Result<Preprocessor, DeriveError> {
        Ok(Preprocessor::new(&study.data, &self.statistics(study)?)?)
    }

    /// Histograms of scores over all held-out patients, once known.
    pub fn histograms(&self, study: &Study) -> Result<Option<Histograms>, DeriveError> {
        let sums = self.histograms.as_ref();
        Ok(sums
            .map(|sums| Histograms::from_sums(sums, &study.evaluation))
            .transpose()?)
    }

    /// What goes to the coordinator where the study says so, as bytes: the trained model and the public ranges of its inputs. Same
    /// bytes at every contributor.
    pub fn released(&self, study: &Study) -> Result<Vec<u8>, DeriveError> {
        let released = ReleasedModel {
            safetensors: self.trained(study, None)?.to_safetensors()?,
            input_ranges: self.preprocessor(study)?.input_ranges(),
        };
        Ok(postcard::to_stdvec(&released)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    /// A state after each number of rounds of the small study.
    fn states() -> Vec<Derived> {
        let study = testing::study();
        let mut states = vec![Derived::initial(&testing::frozen(&[]))];
        for round in 0..agenda::rounds(&study) {
            let shape = agenda::shape(&study, round).unwrap().unwrap();
            let sums = match shape.purpose {
                Purpose::Statistics => vec![30, 12, 30, 5 << 20, 9 << 20],
                Purpose::Training => (1..=shape.values as i64).map(|i| i << 20).collect(),
                Purpose::Evaluation => vec![1; shape.values],
            };
            let secret = Digest::of(&round.to_be_bytes());
            let next = states.last().unwrap().apply(&study, &sums, &secret).unwrap();
            states.push(next);
        }
        states
    }

    #[test]
    fn a_state_is_what_its_digest_names() {
        let study = testing::study();
        for (rounds, state) in (0..).zip(states()) {
            state.verify(&study, rounds, &state.digest()).unwrap();
            assert!(state.verify(&study, rounds + 1, &state.digest()).is_err());
            assert!(state.verify(&study, rounds, &Digest::of(b"other")).is_err());
            let stored: Derived = postcard::from_bytes(&postcard::to_stdvec(&state).unwrap()).unwrap();
            stored.verify(&study, rounds, &state.digest()).unwrap();
        }
    }

    /// Whatever is exchanged in a state, its digest tells.
    #[test]
    fn no_part_of_a_state_can_be_exchanged() {
        let study = testing::study();
        let whole = states().pop().unwrap();
        let changes: [fn(&mut Derived); 9] = [
            |s| {
                s.statistics = s.statistics.take().map(|mut sums| {
                    sums[0] += 1;
                    sums
                })
            },
            |s| s.statistics = None,
            |s| {
                s.learned = s.learned.take().map(|mut learned| {
                    learned.params[3] += 1e-9;
                    learned
                })
            },
            |s| s.learned = None,
            |s| {
                s.histograms = s.histograms.take().map(|mut sums| {
                    sums[0] += 1;
                    sums
                })
            },
            |s| s.histograms = None,
            |s| s.chain[1].object = Digest::of(b"x"),
            |s| s.chain[2].secret = Digest::of(b"x"),
            |s| s.origin = Digest::of(b"x"),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut state = whole.clone();
            change(&mut state);
            let error = state.verify(&study, 4, &whole.digest()).unwrap_err();
            assert!(matches!(error, DeriveError::Untrue(_)), "{index}: {error}");
        }
        // An older model under the newest digest is no help either.
        let mut state = whole.clone();
        state.learned = states().swap_remove(2).learned;
        assert!(state.verify(&study, 4, &whole.digest()).is_err());
    }
}
