//! Exact encrypted decisions: a quantised model is evaluated on a hospital's encrypted patients under TFHE, and gives what its plain
//! evaluation gives, or fails with a probability of at most 2^-40 per patient.
//!
//! Start with [`quantise()`] (from a trained network and rows of patients), [`quantise_recorded`] (from a network and the ranges of its inputs),
//! [`spiking()`] or [`Forest`] (from XGBoost's trees): all give a [`Quantised`] model, whose plain evaluation is the oracle.
//! [`Quantised::program`] compiles it for what is to be revealed ([`Reveal`]: scores, a label, a decision) under the cheapest [`ParameterSet`]
//! that is exact; [`Plan`] says what that costs and promises. Both sides compile the same program. The hospital is a [`Querier`]: it
//! holds the secret key, encrypts patients and reads answers. The coordinator calls [`Program::run`] with the hospital's [`EvaluationKey`]
//! and sees neither.
//!
//! To read the code in the order of a query: `features` (rows to integers), `circuit` (sums and look-ups, with ranges), `network`, `fit` and
//! `quantise` (a network to a circuit), `recorded` (the same without patients), `spiking` (as integrate-and-fire neurons), `trees` (trees to a
//! circuit), `reveal` (what an answer says), `quantised`, `file` and `interface` (the model on integers, its bytes, and what is told about it), `encoding` (a look-up as
//! bootstraps), `parameters` and `compile` (noise, failure probability, choice of parameters), `plan` and `trial` (what it costs), `keys`, `query` and `program`
//! (encryption and evaluation), `codec` (bytes).
//!
//! The licence of TFHE-rs, BSD-3-Clause-Clear, grants no patents: who uses this crate beyond research should ask its authors.

mod circuit;
mod codec;
mod compile;
mod encoding;
mod features;
mod file;
mod fit;
mod interface;
mod keys;
mod network;
mod parameters;
mod plan;
mod program;
mod quantise;
mod quantised;
mod query;
mod recorded;
mod reveal;
mod spiking;
mod trees;
mod trial;

pub use circuit::{Circuit, CircuitError, Interval, Lookup, MAX_SHIFT, MAX_TABLE, MAX_TERMS, MAX_WIRES, Sum};
pub use codec::{CodecError, Kind, MAX_PATIENTS, VERSION, peek};
pub use compile::{CompileError, LOG2_FAILURE};
pub use features::{Code, Encoder, Feature, FeatureError, MAX_THRESHOLDS};
pub use file::{FileError, MAX_FILE_BYTES};
pub use interface::{Interface, InterfaceError};
pub use keys::{ClientKey, EvaluationKey, ServingKey};
pub use network::NetworkError;
pub use parameters::ParameterSet;
pub use plan::Plan;
pub use program::{Program, RunError};
pub use quantise::{Precision, QuantiseError, quantise};
pub use quantised::{Outcome, Quantised, QuantisedError};
pub use query::{Answer, AnswerError, Querier, Query, QueryError};
pub use recorded::quantise_recorded;
pub use reveal::{Reveal, RevealError};
pub use spiking::{MAX_STEPS, SpikingError, Timing, spiking};
pub use trees::{Forest, MAX_DEPTH, MAX_DUMP_BYTES, MAX_NODES, Node, TreeError};
pub use trial::{TrialError, seconds_per_patient};
