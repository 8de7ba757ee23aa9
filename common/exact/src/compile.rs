//! From a circuit to a program: scales of all values, noise, and the choice of parameters.

use crate::circuit::{Circuit, Sum};
use crate::encoding::{Coded, Reading};
use crate::parameters::{ParameterSet, log2_failure};
use crate::plan::Plan;
use crate::program::Program;
use galen_core::Transcript;

/// log2 of the failure probability of one decision, all of its bootstraps and its decryption included, at most.
pub const LOG2_FAILURE: f64 = -40.0;
/// What single bootstraps are asked for, in turn, until their sum is below [`LOG2_FAILURE`].
const PER_BOOTSTRAP: [f64; 4] = [-44.0, -48.0, -54.0, -60.0];
/// An output's noise must stay below half a unit; half of that is kept for the noise that hides it.
const FLOODED: u32 = 2;

/// A circuit that no parameter set evaluates exactly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// No set does.
    #[error(
        "no parameter set evaluates this circuit with a failure probability of at most 2^-40 ({reason}); \
         give it smaller weights, or fewer bits"
    )]
    NoParameters {
        /// What stands against the last one that was tried.
        reason: String,
    },
    /// A parameter set that does not exist.
    #[error("there is no parameter set {name}")]
    Unknown {
        /// Its name.
        name: String,
    },
    /// A parameter set below the security bound.
    #[error("the parameter set {name} has less than 128-bit security")]
    Insecure {
        /// Its name.
        name: String,
    },
    /// Nothing to compute.
    #[error("the circuit has no outputs")]
    NoOutputs,
}

impl Program {
    /// Compiles a circuit under the cheapest parameter set that evaluates it exactly, but for a failure probability of at most
    /// 2^-40 per patient.
    pub fn compile(circuit: Circuit) -> Result<Self, CompileError> {
        let mut reason = String::new();
        for set in ParameterSet::all() {
            match Self::compile_under(circuit.clone(), &set) {
                Err(CompileError::NoParameters { reason: this }) => reason = this,
                other => return other,
            }
        }
        Err(CompileError::NoParameters { reason })
    }

    /// Compiles under one parameter set.
    pub fn compile_under(circuit: Circuit, set: &ParameterSet) -> Result<Self, CompileError> {
        if !set.is_secure() {
            return Err(CompileError::Insecure {
                name: set.name().to_owned(),
            });
        }
        if circuit.outputs().is_empty() {
            return Err(CompileError::NoOutputs);
        }
        let mut reason = String::new();
        let attempts = [false, true]
            .into_iter()
            .flat_map(|wide| PER_BOOTSTRAP.map(|target| (wide, target)));
        for (wide, target) in attempts {
            match Layout::new(&circuit, set, target, wide) {
                Ok(layout) if layout.log2_failure() <= LOG2_FAILURE => {
                    let digest = Transcript::new("galen exact program v1")
                        .field(&circuit.digest().0)
                        .field(&set.digest().0)
                        .digest();
                    let plan = Plan::new(&circuit, set, &layout);
                    return Ok(Self::from_parts(circuit, *set, layout, digest, plan));
                }
                Ok(layout) => {
                    reason = format!(
                        "under {} all bootstraps together fail with a probability of 2^{:.1}",
                        set.name(),
                        layout.log2_failure()
                    );
                }
                Err(why) => reason = format!("under {} {why}", set.name()),
            }
        }
        Err(CompileError::NoParameters { reason })
    }
}

/// What a circuit becomes under a parameter set.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub coded: Vec<Coded>,
    /// Scale of every wire: its unit is 2^exponent.
    pub exponents: Vec<u32>,
    /// Scale of every output.
    pub outputs: Vec<u32>,
    /// Inputs that are encrypted in dimension n: look-ups of nothing else need no key switch.
    pub small: Vec<usize>,
    /// Inputs that are encrypted in dimension N: those of outputs and of look-ups that take other look-ups too, and all if noise in
    /// dimension n were too large.
    pub big: Vec<usize>,
    /// log2 failure probabilities of all bootstraps and outputs.
    failures: Vec<f64>,
    /// Whether all look-ups take inputs in dimension N.
    pub wide: bool,
    /// Noise of the noisiest output, as a share of the torus, squared.
    pub answer_variance: f64,
}

impl Layout {
    fn new(circuit: &Circuit, set: &ParameterSet, target: f64, wide: bool) -> Result<Self, String> {
        let wires = circuit.inputs() + circuit.lookups().len();
        let outputs: Vec<u32> = circuit
            .output_ranges()
            .iter()
            .map(|range| 63 - range.count().next_power_of_two().ilog2())
            .collect();
        let (mut exponents, small, big) = scales(circuit, wires, &outputs, wide);
        // A wire that nothing uses.
        exponents.iter_mut().for_each(|e| *e = (*e).min(62));
        let noise = Noise::new(circuit, set, &exponents, wide);
        let mut coded = Vec::with_capacity(circuit.lookups().len());
        let mut failures = Vec::new();
        for (index, lookup) in circuit.lookups().iter().enumerate() {
            let scale = exponents[circuit.inputs() + index];
            let exponent = Coded::exponent(lookup);
            if 2usize << Coded::entries_log(lookup) > set.polynomial_size() {
                return Err(format!("look-up {index} has too large a table"));
            }
            let (variance, switched) = noise.of(&lookup.sum, exponent);
            let least = u32::from(lookup.shift > 0);
            let found = (least..=lookup.shift).find_map(|steps| {
                let coded = Coded::new(lookup, steps, scale);
                let all = noise.failures(&coded, variance, switched);
                all.iter().all(|&f| f <= target).then_some((coded, all))
            });
            let (code, all) = found.ok_or_else(|| {
                let all = noise.failures(&Coded::new(lookup, lookup.shift, scale), variance, switched);
                let worst = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                format!(
                    "a bootstrap of look-up {index} ({} entries, {} places dropped) fails with a probability of 2^{worst:.1}",
                    lookup.entries(),
                    lookup.shift
                )
            })?;
            failures.extend(all);
            coded.push(code);
        }
        let mut answer_variance = 0.0f64;
        for (index, (sum, &exponent)) in circuit.outputs().iter().zip(&outputs).enumerate() {
            let variance = noise.of_output(sum, exponent);
            answer_variance = answer_variance.max(variance);
            let failure = log2_failure(share(exponent - FLOODED), variance);
            if failure > target {
                return Err(format!(
                    "output {index} is decrypted wrongly with a probability of 2^{failure:.1}"
                ));
            }
            failures.push(failure);
        }
        Ok(Self {
            coded,
            exponents,
            outputs,
            small,
            big,
            failures,
            wide,
            answer_variance,
        })
    }

    /// log2 of the sum of all failure probabilities: no decision fails more often (union bound).
    pub(crate) fn log2_failure(&self) -> f64 {
        self.failures.iter().map(|f| f.exp2()).sum::<f64>().log2()
    }

    /// log2 of the largest single failure probability.
    pub(crate) fn log2_worst(&self) -> f64 {
        self.failures.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    /// Half the width of the uniform noise that hides an output's own.
    pub(crate) fn flood(exponent: u32) -> u64 {
        1 << (exponent - FLOODED)
    }
}

/// 2^exponent as a share of the torus.
fn share(exponent: u32) -> f64 {
    (f64::from(exponent) - 64.0).exp2()
}

/// Whether a look-up takes inputs in dimension N: where it takes other look-ups too, its sum is switched to dimension n anyway, and noise
/// there is smaller; otherwise where everything does.
pub(crate) fn is_wide(sum: &Sum, inputs: usize, wide: bool) -> bool {
    wide || sum.terms.iter().any(|&(wire, _)| wire >= inputs)
}

/// The scale of every wire, the smallest that its uses ask for, and the inputs to be encrypted in dimension n and in dimension N.
fn scales(
    circuit: &Circuit,
    wires: usize,
    outputs: &[u32],
    wide: bool,
) -> (Vec<u32>, Vec<usize>, Vec<usize>) {
    let mut exponents = vec![u32::MAX; wires];
    let (mut small, mut big) = (vec![false; circuit.inputs()], vec![false; circuit.inputs()]);
    let mut demand = |sum: &Sum, exponent: u32, used: &mut [bool]| {
        for &(wire, _) in &sum.terms {
            exponents[wire] = exponents[wire].min(exponent);
            if let Some(used) = used.get_mut(wire) {
                *used = true;
            }
        }
    };
    for lookup in circuit.lookups() {
        let used = if is_wide(&lookup.sum, circuit.inputs(), wide) {
            &mut big
        } else {
            &mut small
        };
        demand(&lookup.sum, Coded::exponent(lookup), used);
    }
    for (sum, &exponent) in circuit.outputs().iter().zip(outputs) {
        demand(sum, exponent, &mut big);
    }
    let listed = |used: Vec<bool>| (0..used.len()).filter(|&i| used[i]).collect();
    (exponents, listed(small), listed(big))
}

/// Variances, as shares of the torus, squared. Noises of different wires are independent.
struct Noise<'a> {
    set: &'a ParameterSet,
    inputs: usize,
    exponents: &'a [u32],
    /// Whether look-ups take inputs in dimension N.
    wide: bool,
    fresh: f64,
    fresh_big: f64,
    bootstrap: f64,
    keyswitch: f64,
    rounding: f64,
}

impl<'a> Noise<'a> {
    fn new(circuit: &Circuit, set: &'a ParameterSet, exponents: &'a [u32], wide: bool) -> Self {
        Self {
            wide,
            set,
            inputs: circuit.inputs(),
            exponents,
            fresh: set.fresh_variance(),
            fresh_big: set.fresh_big_variance(),
            bootstrap: set.bootstrap_variance(),
            keyswitch: set.keyswitch_variance(),
            rounding: set.rounding_variance(),
        }
    }

    /// Of a sum in units of 2^exponent, and whether a part of it must be switched to dimension n.
    fn of(&self, sum: &Sum, exponent: u32) -> (f64, bool) {
        let switched = is_wide(sum, self.inputs, self.wide);
        let mut variance = 0.0;
        for &(wire, weight) in &sum.terms {
            let own = match (wire >= self.inputs, switched) {
                (true, _) => self.bootstrap,
                (false, true) => self.fresh_big,
                (false, false) => self.fresh,
            };
            variance += self.gain(wire, weight, exponent) * own;
        }
        (variance, switched)
    }

    /// Of an output, re-randomised: everything in dimension N, and an encryption of zero under the public key, whose noise is
    /// e r + e_1 + e_2 s with binary r and s: (N + 1) times that of the key.
    fn of_output(&self, sum: &Sum, exponent: u32) -> f64 {
        let zero = (self.set.polynomial_size() as f64 + 1.0) * self.fresh_big;
        let terms = sum.terms.iter().map(|&(wire, weight)| {
            let own = if wire >= self.inputs {
                self.bootstrap
            } else {
                self.fresh_big
            };
            self.gain(wire, weight, exponent) * own
        });
        zero + terms.sum::<f64>()
    }

    fn gain(&self, wire: usize, weight: i64, exponent: u32) -> f64 {
        let factor = weight as f64 * f64::from(exponent - self.exponents[wire]).exp2();
        factor * factor
    }

    /// log2 failure probabilities of a look-up's bootstraps.
    fn failures(&self, coded: &Coded, mut variance: f64, mut switched: bool) -> Vec<f64> {
        let read = |reading: &Reading, variance: f64, switched: bool| {
            let lifted = variance * (2.0 * f64::from(reading.lift)).exp2();
            let switch = if switched { self.keyswitch } else { 0.0 };
            log2_failure(reading.margin, lifted + switch + self.rounding)
        };
        let mut all = Vec::with_capacity(coded.bootstraps());
        for clearing in &coded.clearings {
            all.push(read(&clearing.reading, variance, switched));
            variance += self.bootstrap;
            switched = true;
        }
        all.push(read(&coded.last, variance, switched));
        all
    }
}
