//! From a circuit to a program: scales of all values, noise, and the choice of parameters.

use crate::circuit::{Circuit, Lookup, Sum};
use crate::encoding::{Coded, Reading};
use crate::parameters::{ParameterSet, log2_failure};
use crate::plan::Plan;
use crate::program::Program;
use galen_core::Transcript;

/// log2 of the failure probability of one decision, all of its bootstraps and its decryption included, at most.
pub const LOG2_FAILURE: f64 = -40.0;
/// What single bootstraps are asked for, in turn, until their sum is below [`LOG2_FAILURE`].
const PER_BOOTSTRAP: [f64; 6] = [-40.5, -42.0, -44.0, -48.0, -54.0, -60.0];
/// Most entries of a look-up that does not depend on the lowest places of its sum, in turn: the fewer, the wider are the boxes that its last
/// bootstrap reads, and the more places must be cleared before.
const COARSE: [usize; 5] = [usize::MAX, 16, 8, 4, 2];
/// log2 of the entries of a table that a single bootstrap reads where the sum is one of inputs in dimension n: such look-ups are left as they are.
const DIRECT: u32 = 5;
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
        let mut cheapest: Option<Self> = None;
        for set in ParameterSet::all() {
            match Self::compile_under(circuit.clone(), &set) {
                Ok(program) => {
                    let cost =
                        |program: &Self| program.plan().bootstraps as f64 * program.parameters().cost();
                    if cheapest.as_ref().is_none_or(|known| cost(&program) < cost(known)) {
                        cheapest = Some(program);
                    }
                }
                Err(CompileError::NoParameters { reason: this }) => reason = this,
                Err(other) => return Err(other),
            }
        }
        cheapest.ok_or(CompileError::NoParameters { reason })
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
        let mut nearest = (f64::INFINITY, String::new());
        let mut best: Option<Layout> = None;
        for (coarse, wide) in COARSE
            .iter()
            .flat_map(|&coarse| [(coarse, false), (coarse, true)])
        {
            let coarsened = |lookup: &Lookup| {
                let narrow = !is_wide(lookup.sum(), circuit.inputs(), wide);
                match narrow && Coded::entries_log(lookup) <= DIRECT {
                    true => lookup.clone(),
                    false => lookup.coarsened(coarse),
                }
            };
            let lookups: Vec<Lookup> = circuit.lookups().iter().map(coarsened).collect();
            for target in PER_BOOTSTRAP {
                match Layout::new(&circuit, &lookups, set, target, wide) {
                    Ok(layout) if layout.log2_failure() <= LOG2_FAILURE => {
                        let order = |layout: &Layout| (layout.bootstraps(), layout.scales.big_inputs.len());
                        if best.as_ref().is_none_or(|known| order(&layout) < order(known)) {
                            best = Some(layout);
                        }
                        break;
                    }
                    Ok(layout) => {
                        let failure = layout.log2_failure();
                        if failure < nearest.0 {
                            let reason =
                                format!("all bootstraps together fail with a probability of 2^{failure:.1}");
                            nearest = (failure, reason);
                        }
                    }
                    // What already fails where least is asked says most.
                    Err(obstacle) if target == PER_BOOTSTRAP[0] && obstacle.0 < nearest.0 => {
                        nearest = obstacle
                    }
                    Err(_) => {}
                }
            }
        }
        if let Some(layout) = best {
            let digest = Transcript::new("galen exact program v1")
                .field(&circuit.digest().0)
                .field(&set.digest().0)
                .digest();
            let plan = Plan::new(&circuit, set, &layout);
            return Ok(Self::from_parts(circuit, *set, layout, digest, plan));
        }
        let reason = format!("under {} {}", set.name(), nearest.1);
        Err(CompileError::NoParameters { reason })
    }
}

/// What a circuit becomes under a parameter set.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub coded: Vec<Coded>,
    /// Scale of every wire.
    pub scales: Scales,
    /// Scale of every output.
    pub outputs: Vec<u32>,
    /// log2 failure probabilities of all bootstraps and outputs.
    failures: Vec<f64>,
    /// Whether all look-ups take inputs in dimension N.
    pub wide: bool,
    /// Noise of the noisiest output, as a share of the torus, squared.
    pub answer_variance: f64,
}

impl Layout {
    /// Errors with the log2 failure probability of what fails too often, and what that is.
    ///
    /// `lookups` are the circuit's, or coarser ones that give the same.
    fn new(
        circuit: &Circuit,
        lookups: &[Lookup],
        set: &ParameterSet,
        target: f64,
        wide: bool,
    ) -> Result<Self, (f64, String)> {
        let wires = circuit.inputs() + circuit.lookups().len();
        let outputs: Vec<u32> = circuit
            .output_ranges()
            .iter()
            .map(|range| 63 - range.count().next_power_of_two().ilog2())
            .collect();
        let scales = scales(circuit, lookups, wires, &outputs, wide);
        let noise = Noise::new(circuit, set, &scales, wide);
        let mut coded = Vec::with_capacity(lookups.len());
        let mut failures = Vec::new();
        for (index, lookup) in lookups.iter().enumerate() {
            let scale = scales.big[circuit.inputs() + index];
            let exponent = Coded::exponent(lookup);
            if 2usize << Coded::entries_log(lookup) > set.polynomial_size() {
                return Err((0.0, format!("look-up {index} has too large a table")));
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
                let reason = format!(
                    "a bootstrap of look-up {index} ({} entries, {} places dropped) fails with a probability of 2^{worst:.1}",
                    lookup.entries(),
                    lookup.shift
                );
                (worst, reason)
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
                let reason =
                    format!("output {index} is decrypted wrongly with a probability of 2^{failure:.1}");
                return Err((failure, reason));
            }
            failures.push(failure);
        }
        Ok(Self {
            coded,
            scales,
            outputs,
            failures,
            wide,
            answer_variance,
        })
    }

    /// Bootstraps per patient.
    pub(crate) fn bootstraps(&self) -> usize {
        self.coded.iter().map(Coded::bootstraps).sum()
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

/// The largest scale of a wire: tables count in halves of a unit.
const LARGEST: u32 = 62;

/// The scale of every wire, the smallest that its uses ask for: its unit is 2^exponent. Inputs have one for each dimension in which they are
/// encrypted, since noise in dimension n leaves no room for a scale that only sums in dimension N ask for.
#[derive(Clone, Debug)]
pub(crate) struct Scales {
    /// Of inputs in dimension n.
    pub small: Vec<u32>,
    /// Of inputs and look-ups in dimension N.
    pub big: Vec<u32>,
    /// Inputs that are encrypted in dimension n: look-ups of nothing else need no key switch.
    pub small_inputs: Vec<usize>,
    /// Inputs that are encrypted in dimension N: those of outputs and of look-ups that take other look-ups too, and all if noise in
    /// dimension n were too large.
    pub big_inputs: Vec<usize>,
}

impl Scales {
    /// The integer by which a wire's ciphertext, in dimension N if `big`, is multiplied in a sum of units of 2^exponent: `weight` times the ratio
    /// of scales.
    pub(crate) fn factor(&self, wire: usize, weight: i64, exponent: u32, big: bool) -> (i64, u32) {
        let own = if big { self.big[wire] } else { self.small[wire] };
        (weight, exponent.saturating_sub(own))
    }
}

fn scales(circuit: &Circuit, lookups: &[Lookup], wires: usize, outputs: &[u32], wide: bool) -> Scales {
    let inputs = circuit.inputs();
    let mut small = vec![None; inputs];
    let mut big = vec![None; wires];
    let demand = |sum: &Sum, exponent: u32, scales: &mut [Option<u32>]| {
        for &(wire, _) in &sum.terms {
            let known = &mut scales[wire];
            *known = Some(known.map_or(exponent, |known| known.min(exponent)));
        }
    };
    for lookup in lookups {
        let scales = if is_wide(&lookup.sum, inputs, wide) {
            &mut big
        } else {
            &mut small
        };
        demand(&lookup.sum, Coded::exponent(lookup), scales);
    }
    for (sum, &exponent) in circuit.outputs().iter().zip(outputs) {
        demand(sum, exponent, &mut big);
    }
    let used = |scales: &[Option<u32>]| (0..inputs).filter(|&input| scales[input].is_some()).collect();
    let (small_inputs, big_inputs) = (used(&small), used(&big));
    // A wire that nothing uses has any scale.
    let exponents =
        |scales: Vec<Option<u32>>| scales.into_iter().map(|scale| scale.unwrap_or(LARGEST)).collect();
    Scales {
        small: exponents(small),
        big: exponents(big),
        small_inputs,
        big_inputs,
    }
}

/// Variances, as shares of the torus, squared. Noises of different wires are independent.
struct Noise<'a> {
    set: &'a ParameterSet,
    inputs: usize,
    scales: &'a Scales,
    /// Whether look-ups take inputs in dimension N.
    wide: bool,
    fresh: f64,
    fresh_big: f64,
    bootstrap: f64,
    keyswitch: f64,
    rounding: f64,
}

impl<'a> Noise<'a> {
    fn new(circuit: &Circuit, set: &'a ParameterSet, scales: &'a Scales, wide: bool) -> Self {
        Self {
            wide,
            set,
            inputs: circuit.inputs(),
            scales,
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
            variance += self.gain(wire, weight, exponent, switched) * own;
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
            self.gain(wire, weight, exponent, true) * own
        });
        zero + terms.sum::<f64>()
    }

    fn gain(&self, wire: usize, weight: i64, exponent: u32, big: bool) -> f64 {
        let (weight, places) = self.scales.factor(wire, weight, exponent, big);
        let factor = weight as f64 * f64::from(places).exp2();
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
