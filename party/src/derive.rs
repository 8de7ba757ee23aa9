//! The state that a party derives from opened sums: statistics, then the model, then histograms.
//!
//! Every contributor derives it for itself, from authentic openings only, and all of them arrive at the same bits; the
//! digest of the state is what receivers publish and what the next round starts from. No model is ever accepted from
//! elsewhere.

use galen_core::Digest;
use galen_core::study::{FrozenStudy, Purpose, Study};
use galen_models::agenda::{self, ReleasedModel};
use galen_models::{CodecError, FedAvg, Histograms, Model, ModelError, ModelSpec, SpecError, Statistics};
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
    /// The study's network is impossible.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A model that cannot be.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The opened sums mean nothing.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The released model cannot be encoded.
    #[error("the released model cannot be encoded: {0}")]
    Encoding(#[from] postcard::Error),
    /// No preprocessing follows from the statistics.
    #[error(transparent)]
    Preprocess(#[from] PreprocessError),
}

/// What follows from the sums opened so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Derived {
    applied: u32,
    digest: Digest,
    statistics: Option<Vec<i64>>,
    /// Parameters after the last training round; the initial model follows from the study.
    params: Option<Vec<f64>>,
    histograms: Option<Vec<i64>>,
}

impl Derived {
    /// The state before the first round.
    pub fn initial(study: &FrozenStudy) -> Self {
        Self {
            applied: 0,
            digest: agenda::initial_state(&study.digest()),
            statistics: None,
            params: None,
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

    /// The purpose of the next round; `None` after the last.
    pub fn next_purpose(&self, study: &Study) -> Result<Option<Purpose>, DeriveError> {
        Ok(agenda::shape(study, self.applied)?.map(|shape| shape.purpose))
    }

    /// The state after the next round, whose opened sums these are. The opening secret goes into the digest of the state and nowhere
    /// else: models are the same bytes whatever keys their sums were encrypted under.
    pub fn apply(&self, study: &Study, sums: &[i64], opening_secret: &Digest) -> Result<Self, DeriveError> {
        let purpose = self
            .next_purpose(study)?
            .ok_or(DeriveError::NoRound(self.applied))?;
        let mut next = self.clone();
        let object = match purpose {
            Purpose::Statistics => {
                Preprocessor::new(&study.data, &Statistics::from_sums(sums, &study.data)?)?;
                next.statistics = Some(sums.to_vec());
                agenda::sums_digest(sums)
            }
            Purpose::Training => {
                let model = FedAvg::new(&study.training, &study.data).apply(&self.model(study)?, sums)?;
                next.params = Some(model.params().to_vec());
                model.digest()
            }
            Purpose::Evaluation => {
                Histograms::from_sums(sums, &study.evaluation)?;
                next.histograms = Some(sums.to_vec());
                agenda::sums_digest(sums)
            }
        };
        next.applied += 1;
        next.digest = agenda::next_state(&self.digest, &object, opening_secret);
        Ok(next)
    }

    /// The model after the rounds taken in.
    pub fn model(&self, study: &Study) -> Result<Model, DeriveError> {
        let spec = ModelSpec::from_plan(&study.data, &study.model)?;
        Ok(match &self.params {
            Some(params) => Model::new(spec, params.clone())?,
            None => Model::initial(spec, study.seed)?,
        })
    }

    /// Whether all training rounds are taken in.
    pub fn is_trained(&self, study: &Study) -> bool {
        self.applied > study.training.rounds
    }

    /// The model, once all training rounds are taken in.
    pub fn trained(&self, study: &Study) -> Result<Model, DeriveError> {
        if self.is_trained(study) {
            self.model(study)
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
            safetensors: self.trained(study)?.to_safetensors()?,
            input_ranges: self.preprocessor(study)?.input_ranges(),
        };
        Ok(postcard::to_stdvec(&released)?)
    }
}
