//! The two ways in which a model is evaluated, as a querier sees them: what is known of the model, and the key that asks.

use super::keys::Keys;
use super::report::decimals;
use crate::error::PartyError;
use galen_core::{Digest, Transcript};
use galen_exact::{ClientKey, Outcome, Program, Reveal};
use galen_inference::{Calibration, Precision, Querier};
use galen_models::{Range, Subject};
use galen_net::protocol::Engine;
use serde::Serialize;
use std::sync::Arc;
use std::time::Instant;
use zeroize::Zeroizing;

/// Longest interface that is fetched, whatever the engine.
pub(super) const MAX_INTERFACE_BYTES: usize =
    if galen_inference::MAX_INTERFACE_BYTES > galen_exact::MAX_FILE_BYTES {
        galen_inference::MAX_INTERFACE_BYTES
    } else {
        galen_exact::MAX_FILE_BYTES
    };

/// What an answer is to reveal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Revealed {
    /// All scores
    Scores,
    /// The most likely class
    Label,
    /// Whether the score reaches the operator's threshold
    Decision,
}

impl Revealed {
    fn name(self) -> &'static str {
        match self {
            Self::Scores => "scores",
            Self::Label => "label",
            Self::Decision => "decision",
        }
    }
}

/// How a model is evaluated, for the report.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "engine", rename_all = "lowercase")]
pub enum Means {
    /// Batches under CKKS.
    Ckks {
        /// Name of the preset.
        preset: String,
        /// Its ring degree.
        n: usize,
        /// log2 of its modulus with the special primes.
        log2_qp: u32,
        /// The largest that 128-bit security allows at this degree.
        bound: u32,
        /// Levels.
        levels: usize,
        /// Slots of a patient, where all values of some patients are packed into one ciphertext.
        packed_width: Option<usize>,
        /// Bits after the binary point of outputs that are right.
        precision_bits: f64,
        /// Whether that holds for every patient within the ranges, or is expected of patients like those in training.
        precision: Precision,
        /// Bits after the binary point to which outputs are rounded.
        rounded_bits: u32,
        /// Decimals in the table.
        decimals: u32,
    },
    /// Single patients under TFHE, exactly.
    Tfhe {
        /// Name of the parameter set.
        parameters: String,
        /// Security in bits, at least.
        security_bits: u32,
        /// log2 of the probability that a patient's answer is wrong, all bootstraps included, at most.
        log2_failure: f64,
        /// Bootstraps for a patient.
        bootstraps: usize,
        /// What answers reveal.
        reveal: &'static str,
    },
}

/// What is known of a model, checked.
#[derive(Clone, Debug)]
pub(super) enum Known {
    Ckks(Box<galen_inference::Interface>),
    Tfhe(Exact),
}

/// A quantised model, and the program for what is to be revealed.
#[derive(Clone, Debug)]
pub(super) struct Exact {
    interface: Arc<galen_exact::Interface>,
    reveal: Reveal,
    program: Arc<Program>,
}

impl Known {
    /// Reads an interface that somebody else wrote.
    ///
    /// # Errors
    /// [`PartyError::Untrue`] for one that must not be used, [`PartyError::NotYet`] for an answer that it does not offer.
    pub(super) fn read(engine: Engine, bytes: &[u8], wanted: Option<Revealed>) -> Result<Self, PartyError> {
        let untrue =
            |error: String| PartyError::Untrue(format!("the coordinator's interface is not used: {error}"));
        match engine {
            Engine::Ckks => {
                if let Some(wanted) = wanted.filter(|wanted| *wanted != Revealed::Scores) {
                    return Err(PartyError::NotYet(format!(
                        "under ckks, answers are scores; only tfhe reveals a {} alone: leave out --reveal, or ask for another model",
                        wanted.name()
                    )));
                }
                let read = galen_inference::Interface::from_bytes(bytes);
                Ok(Self::Ckks(Box::new(
                    read.map_err(|error| untrue(error.to_string()))?,
                )))
            }
            Engine::Tfhe => {
                let interface = galen_exact::Interface::from_bytes(bytes);
                let interface = interface.map_err(|error| untrue(error.to_string()))?;
                let offered = interface.reveals();
                let named = |reveal: &&Reveal| wanted.is_none_or(|wanted| reveal.name() == wanted.name());
                let Some(&reveal) = offered.iter().find(named) else {
                    let names: Vec<&str> = offered.iter().map(|reveal| reveal.name()).collect();
                    return Err(PartyError::NotYet(format!(
                        "the operator lets answers reveal only: {}",
                        names.join(", ")
                    )));
                };
                let program = interface
                    .program(reveal)
                    .map_err(|error| untrue(error.to_string()))?;
                Ok(Self::Tfhe(Exact {
                    interface: Arc::new(interface),
                    reveal,
                    program: Arc::new(program),
                }))
            }
        }
    }

    /// What the model predicts from what.
    pub(super) fn subject(&self) -> &Subject {
        match self {
            Self::Ckks(interface) => interface.subject(),
            Self::Tfhe(exact) => exact.interface.subject(),
        }
    }

    /// The range of every input; nothing if the model takes any numbers.
    pub(super) fn ranges(&self) -> Option<&[Range]> {
        match self {
            Self::Ckks(interface) => Some(interface.ranges()),
            Self::Tfhe(_) => None,
        }
    }

    /// Patients of a batch, at most.
    pub(super) fn max_patients(&self) -> usize {
        match self {
            Self::Ckks(interface) => interface.max_patients(),
            Self::Tfhe(exact) => exact.interface.max_patients(),
        }
        .max(1)
    }

    /// The name under which keys are kept.
    pub(super) fn key_set(&self) -> String {
        match self {
            Self::Ckks(interface) => interface.key_set(),
            Self::Tfhe(exact) => exact.program.parameters().name().to_owned(),
        }
    }

    /// Names a question about patients: of an exact model, also by what is revealed.
    pub(super) fn question(&self, patients: Digest) -> Digest {
        match self {
            Self::Ckks(_) => patients,
            Self::Tfhe(exact) => Transcript::new("galen exact question v1")
                .field(&patients.0)
                .field(&exact.program.digest().0)
                .digest(),
        }
    }

    /// Bytes of the key.
    pub(super) fn key_bytes(&self) -> u64 {
        match self {
            Self::Ckks(interface) => interface.sizes().key as u64,
            Self::Tfhe(exact) => exact.program.plan().serving_key_bytes as u64,
        }
    }

    /// Bytes of a batch of this many patients.
    pub(super) fn batch_bytes(&self, patients: usize) -> u64 {
        match self {
            Self::Ckks(interface) => interface.sizes().batch as u64,
            Self::Tfhe(exact) => {
                let plan = exact.program.plan();
                (plan.query_header_bytes + patients * plan.query_bytes_per_patient) as u64
            }
        }
    }

    /// Bytes of the answer to it.
    pub(super) fn answer_bytes(&self, patients: usize) -> u64 {
        match self {
            Self::Ckks(interface) => interface.sizes().answer as u64,
            // The header of an answer is that of a query.
            Self::Tfhe(exact) => {
                let plan = exact.program.plan();
                (plan.query_header_bytes + patients * plan.answer_bytes_per_patient) as u64
            }
        }
    }

    /// Memory here for a batch, about, in bytes: ciphertexts, their bytes, and the rows.
    pub(super) fn memory_bytes(&self) -> u64 {
        match self {
            Self::Ckks(interface) => {
                let degree = interface.context().preset().degree();
                let polynomial = (interface.level() + 1) * degree * size_of::<u64>();
                let rows = size_of::<f64>() * interface.max_patients();
                // Beside one ciphertext, the keys of rotations are most of it.
                let keys = interface.packed_width().map_or(0, |_| 2 * self.key_bytes());
                (interface.inputs() * (2 * polynomial + rows)) as u64 + 2 * self.batch_bytes(0) + keys
            }
            // The key is the largest part.
            Self::Tfhe(_) => 2 * self.key_bytes() + 2 * self.batch_bytes(self.max_patients()),
        }
    }

    /// Seconds that the evaluation of this many patients takes, if a batch (or a patient, under TFHE) takes `batch_ms`.
    pub(super) fn evaluation_seconds(&self, batch_ms: u64, patients: usize) -> f64 {
        let times = match self {
            Self::Ckks(_) => patients.div_ceil(self.max_patients()),
            Self::Tfhe(_) => patients,
        };
        batch_ms as f64 * times as f64 / 1000.0
    }

    /// Seconds that a batch takes to encrypt here, measured.
    pub(super) fn encryption_seconds(&self) -> Result<f64, PartyError> {
        match self {
            Self::Ckks(interface) => {
                let (context, level) = (interface.context(), interface.level());
                let measured = Calibration::at(context, level).map_err(PartyError::internal)?;
                Ok(measured.encryption(interface.inputs(), level, context.degree()))
            }
            Self::Tfhe(exact) => {
                let querier = galen_exact::Querier::generate(&exact.program).map_err(PartyError::internal)?;
                let circuit = exact.program.circuit();
                let least = |input| circuit.range(input).map_or(0, |range| range.min);
                let row: Vec<i64> = (0..circuit.inputs()).map(least).collect();
                let began = Instant::now();
                querier.encrypt(&[row]).map_err(PartyError::internal)?;
                Ok(began.elapsed().as_secs_f64() * self.max_patients() as f64)
            }
        }
    }

    /// For the report.
    pub(super) fn means(&self) -> Means {
        match self {
            Self::Ckks(interface) => {
                let preset = interface.context().preset();
                Means::Ckks {
                    preset: preset.name().to_owned(),
                    n: preset.degree(),
                    log2_qp: preset.log2_qp(),
                    bound: preset.security_bound().unwrap_or(0),
                    levels: interface.level(),
                    packed_width: interface.packed_width(),
                    precision_bits: interface.precision_bits(),
                    precision: interface.precision(),
                    rounded_bits: interface.rounded_bits(),
                    decimals: decimals(interface.rounded_bits()),
                }
            }
            Self::Tfhe(exact) => {
                let plan = exact.program.plan();
                Means::Tfhe {
                    parameters: plan.parameters.clone(),
                    security_bits: plan.security_bits,
                    log2_failure: plan.log2_failure,
                    bootstraps: plan.bootstraps,
                    reveal: exact.reveal.name(),
                }
            }
        }
    }

    /// Bits after the binary point of scores.
    pub(super) fn score_bits(&self) -> u32 {
        match self {
            Self::Ckks(interface) => interface.rounded_bits(),
            Self::Tfhe(exact) => {
                let bits = -exact.interface.quantised().scale().log2();
                bits.ceil().clamp(1.0, 24.0) as u32
            }
        }
    }
}

/// The hospital's own key for a model.
#[derive(Debug)]
pub(super) enum Cipher {
    Ckks(Box<Querier>),
    Tfhe(Exact, Box<galen_exact::Querier>),
}

impl Cipher {
    /// Under the key that is kept; the first call, and one that asks for a new key, makes it.
    ///
    /// # Errors
    /// [`PartyError::NotYet`] if the key is suspect and no new one is asked for.
    pub(super) fn open(keys: &Keys, known: &Known, new_key: bool) -> Result<Self, PartyError> {
        match known {
            Known::Ckks(interface) => Ok(Self::Ckks(Box::new(keys.querier(interface, new_key)?))),
            Known::Tfhe(exact) => {
                let set = exact.program.parameters();
                let make = || {
                    let key = ClientKey::generate(set).map_err(PartyError::internal)?;
                    Ok(key.secret_bytes())
                };
                let secret: Zeroizing<Vec<u8>> = keys.secret(set.name(), new_key, make)?;
                let key = ClientKey::from_secret_bytes(set, &secret);
                let querier = key.and_then(|key| galen_exact::Querier::open(&exact.program, key));
                let querier =
                    querier.ok_or_else(|| PartyError::Internal("the key that is stored is none".into()))?;
                Ok(Self::Tfhe(exact.clone(), Box::new(querier)))
            }
        }
    }

    /// What the coordinator needs, once.
    pub(super) fn serving_key(&self) -> Result<Vec<u8>, PartyError> {
        match self {
            Self::Ckks(querier) => {
                let key = querier.serving_key().and_then(|key| key.to_bytes());
                key.map_err(PartyError::internal)
            }
            Self::Tfhe(_, querier) => Ok(querier.serving_key().to_bytes()),
        }
    }

    /// Encrypts patients.
    pub(super) fn encrypt(&self, rows: &[Vec<f64>]) -> Result<Vec<u8>, PartyError> {
        match self {
            Self::Ckks(querier) => {
                let batch = querier.encrypt_batch(rows).map_err(super::unencrypted)?;
                batch.to_bytes().map_err(PartyError::internal)
            }
            Self::Tfhe(exact, querier) => {
                // What is wrong with a value is not shown.
                let inputs = exact.interface.quantised().encode(rows);
                let inputs =
                    inputs.map_err(|_| PartyError::Internal("a value of a patient is not finite".into()))?;
                let query = querier.encrypt(&inputs).map_err(PartyError::internal)?;
                Ok(query.to_bytes())
            }
        }
    }

    /// What an answer says of `patients` patients; `None`, whatever is wrong with it.
    pub(super) fn read(&self, answer: &[u8], patients: usize) -> Option<Vec<Outcome>> {
        match self {
            Self::Ckks(querier) => {
                let outputs = querier.outputs(answer, patients).ok()?;
                Some(outputs.into_iter().map(Outcome::Scores).collect())
            }
            Self::Tfhe(exact, querier) => {
                let outputs = querier.decrypt(answer, patients).ok()?;
                Some(exact.interface.quantised().outcomes(exact.reveal, &outputs))
            }
        }
    }
}
