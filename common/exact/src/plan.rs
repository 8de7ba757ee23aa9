//! What a compiled circuit needs, costs and promises.

use crate::circuit::Circuit;
use crate::codec;
use crate::compile::Layout;
use crate::parameters::ParameterSet;
use serde::Serialize;
use std::fmt;

/// What a program needs, costs and promises.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Name of the parameter set.
    pub parameters: String,
    /// The set of TFHE-rs whose dimensions and noise it has.
    pub source: String,
    /// Security in bits, at least.
    pub security_bits: u32,
    /// Dimension n in which bootstraps read.
    pub lwe_dimension: usize,
    /// Ring degree N of bootstraps.
    pub polynomial_size: usize,
    /// log2 of the failure probability of the bootstrap or decryption that fails most often.
    pub log2_failure_worst: f64,
    /// log2 of the failure probability of one patient's answer, everything included.
    pub log2_failure: f64,
    /// Inputs of the circuit.
    pub inputs: usize,
    /// Outputs of the circuit: ciphertexts of an answer, per patient.
    pub outputs: usize,
    /// Look-ups, each of one or more bootstraps.
    pub lookups: usize,
    /// Bootstraps per patient.
    pub bootstraps: usize,
    /// Bootstraps that must follow one another.
    pub depth: usize,
    /// Multiplications of a ciphertext by an integer, per patient.
    pub multiply_adds: u64,
    /// Bytes of a serving key, sent once.
    pub serving_key_bytes: usize,
    /// Bytes of a query beside its patients.
    pub query_header_bytes: usize,
    /// Bytes of a query for each patient.
    pub query_bytes_per_patient: usize,
    /// Bytes of an answer for each patient.
    pub answer_bytes_per_patient: usize,
    /// log2 of the width of the uniform noise that hides an answer's own, over the standard deviation of that noise.
    pub flooding_bits: f64,
}

impl Plan {
    pub(crate) fn new(circuit: &Circuit, set: &ParameterSet, layout: &Layout) -> Self {
        let terms = circuit
            .lookups()
            .iter()
            .map(|lookup| &lookup.sum)
            .chain(circuit.outputs());
        let mut depths = vec![0usize; circuit.inputs()];
        for (lookup, coded) in circuit.lookups().iter().zip(&layout.coded) {
            let before = lookup.sum.terms.iter().map(|&(wire, _)| depths[wire]).max();
            depths.push(before.unwrap_or(0) + coded.bootstraps());
        }
        let flood = layout
            .outputs
            .iter()
            .map(|&e| Layout::flood(e))
            .min()
            .unwrap_or(1);
        let width = 2.0 * flood as f64 / 64f64.exp2();
        let flooding_bits = (width / layout.answer_variance.sqrt()).log2();
        Self {
            parameters: set.name().to_owned(),
            source: set.source().to_owned(),
            security_bits: ParameterSet::SECURITY_BITS,
            lwe_dimension: set.lwe_dimension(),
            polynomial_size: set.polynomial_size(),
            log2_failure_worst: layout.log2_worst(),
            log2_failure: layout.log2_failure(),
            inputs: circuit.inputs(),
            outputs: circuit.outputs().len(),
            lookups: circuit.lookups().len(),
            bootstraps: layout.bootstraps(),
            depth: depths.into_iter().max().unwrap_or(0),
            multiply_adds: terms.map(|sum| sum.terms.len() as u64).sum(),
            serving_key_bytes: codec::serving_key_bytes(set),
            query_header_bytes: codec::QUERY_HEADER,
            query_bytes_per_patient: 2 * codec::SEED
                + 8 * (layout.scales.small_inputs.len() + layout.scales.big_inputs.len()),
            answer_bytes_per_patient: 8 * circuit.outputs().len() * (set.polynomial_size() + 1),
            flooding_bits,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "parameters     {} (n and noise of {})",
            self.parameters, self.source
        )?;
        writeln!(f, "security       at least {} bits", self.security_bits)?;
        writeln!(
            f,
            "failure        2^{:.1} per patient, 2^{:.1} per bootstrap at most",
            self.log2_failure, self.log2_failure_worst
        )?;
        writeln!(
            f,
            "bootstraps     {} per patient for {} look-ups, {} after one another",
            self.bootstraps, self.lookups, self.depth
        )?;
        writeln!(f, "serving key    {} bytes, once", self.serving_key_bytes)?;
        writeln!(
            f,
            "query          {} bytes and {} per patient",
            self.query_header_bytes, self.query_bytes_per_patient
        )?;
        write!(
            f,
            "answer         {} bytes per patient",
            self.answer_bytes_per_patient
        )
    }
}
