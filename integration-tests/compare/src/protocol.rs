//! The requests and what they carry: one JSON object per line in, one per line out.
//!
//! The same requests go to every library of the comparison; `suite/server.py` answers them for the others.

use crate::program::Step;
use galen_ckks::preset::PresetSpec;
use galen_rns::ring::RingKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What can be asked.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Who answers, on which machine.
    Hello,
    /// Makes context and keys of a parameter set, and encrypts the operands of [`Request::Time`]. Replaces what was open.
    Open {
        parameters: Parameters,
        /// Slot values of the two operands, absolutely at most 1.
        operands: [Vec<f64>; 2],
    },
    /// Measures one operation: `samples` samples, each the mean of as many calls as take `sample_ms`.
    Time {
        operation: String,
        samples: usize,
        sample_ms: f64,
    },
    /// Bytes of everything that is sent or stored.
    Sizes,
    /// Encrypts inputs, runs a program on them, decrypts the outputs.
    Evaluate {
        /// Slot values, absolutely at most 1.
        inputs: BTreeMap<String, Vec<f64>>,
        program: Vec<Step>,
        outputs: Vec<String>,
    },
    /// The aggregation of many contributors' updates under one-round keys.
    Aggregate(Aggregation),
    /// The CryptoNets network on a batch of images.
    Network(Network),
}

/// What to aggregate, and where the result goes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Aggregation {
    /// A file of little-endian doubles: the updates of all contributors, one after the other.
    pub updates: PathBuf,
    pub contributors: usize,
    /// The first contributors, this many, are custodians too.
    pub custodians: usize,
    pub threshold: u32,
    /// Bound on the absolute values of the updates.
    pub max_abs: f64,
    /// Values are summed in fixed point with this many bits after the binary point.
    pub fraction_bits: u32,
    /// Where to write the sum, as little-endian doubles.
    pub sum: PathBuf,
}

/// The network's weights and images, and where its logits go.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Network {
    /// Has files of little-endian doubles: `images` (a row per pixel), `conv`, `conv_bias`, `dense1`, `bias1`, `dense2`,
    /// `bias2`; gets `logits` (a row per class).
    pub folder: PathBuf,
    /// Images.
    pub batch: usize,
    pub threads: usize,
    /// Evaluations, of which the median counts.
    pub runs: usize,
    pub parameters: Parameters,
}

/// A parameter set of this engine; the names are those of `PresetSpec`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// Whether the ring is the conjugate-invariant one, with as many real slots as coefficients.
    #[serde(default)]
    pub real: bool,
    pub degree: usize,
    pub base_bits: u32,
    pub levels: usize,
    pub scale_bits: u32,
    pub special: usize,
    pub special_bits: u32,
    pub digit: usize,
}

impl Parameters {
    /// As the engine takes them.
    pub(crate) fn spec(&self) -> PresetSpec {
        PresetSpec {
            ring: if self.real {
                RingKind::ConjugateInvariant
            } else {
                RingKind::Cyclotomic
            },
            degree: self.degree,
            base_bits: self.base_bits,
            levels: self.levels,
            scale_bits: self.scale_bits,
            special: self.special,
            special_bits: self.special_bits,
            digit: self.digit,
        }
    }
}

/// The answer to [`Request::Hello`].
#[derive(Debug, Serialize)]
pub(crate) struct Greeting {
    pub library: &'static str,
    pub version: &'static str,
    pub backend: String,
    pub machine: String,
    pub clock: &'static str,
}

/// The answer to [`Request::Open`].
#[derive(Debug, Serialize)]
pub(crate) struct Opened {
    pub name: String,
    pub log2_qp: u32,
    pub security_bound: Option<u32>,
    pub levels: usize,
    pub slots: usize,
    pub digits: usize,
    /// What [`Request::Time`] knows.
    pub operations: Vec<&'static str>,
}

/// The answer to [`Request::Time`].
#[derive(Debug, Serialize)]
pub(crate) struct Times {
    /// Process CPU time of one call, one entry per sample.
    pub times_ns: Vec<f64>,
    /// Calls per sample.
    pub calls: u32,
}

/// The answer to [`Request::Evaluate`].
#[derive(Debug, Serialize)]
pub(crate) struct Outputs {
    pub values: BTreeMap<String, Vec<f64>>,
    /// What this engine states as the precision of each output before it decrypts: bits after the binary point.
    pub stated_bits: BTreeMap<String, f64>,
}
