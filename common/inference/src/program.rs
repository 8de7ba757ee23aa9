//! A model compiled for encrypted batches: the choice of preset, and the coordinator's half of a query.

use crate::bounds::{Bound, Bounds};
use crate::circuit::{Circuit, Scales, magnitudes};
use crate::encrypted::Encrypted;
use crate::lower::{Unsupported, lower};
use crate::network::Network;
use crate::plan::{Plan, Precision};
use crate::serving::ServingKey;
use galen_ckks::CkksError;
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::codec::CiphertextSet;
use galen_ckks::context::Context;
use galen_ckks::evaluate::Evaluator;
use galen_ckks::preset::Preset;
use galen_models::{ActivationRange, Model, ModelFile, Range};
use std::collections::HashMap;
use std::sync::Arc;

/// The result is made smaller by at most this many binary places to fit the last modulus.
const MAX_SHIFT: u32 = 24;
/// Flooding beyond this hides nothing more (statistical security 40 for 2^16 answers, by the rule of
/// [`rerandomise`](galen_ckks::keys::PublicKey::rerandomise)).
const MAX_FLOODING: u32 = 30;
/// Numbers computed on two platforms may differ in their last bits.
const TOLERANCE: f64 = 1.0 + 1e-9;

/// What was recorded of a model when it was trained: where the inputs of its activations lie.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recorded {
    /// The place of an activation's layer (see [`Site::path`](galen_models::Site)), and the range of everything that entered it.
    pub activations: HashMap<String, Range>,
}

impl Recorded {
    /// Of every activation the range over all channels, as a [`ModelFile`] or an evaluation recorded it.
    pub fn of(activations: &[ActivationRange]) -> Self {
        let overall = |a: &ActivationRange| (a.path.clone(), a.overall());
        Self {
            activations: activations.iter().map(overall).collect(),
        }
    }
}

/// Values are taken to lie within the recorded ranges times this. A patient outside still gets an answer: what must not overflow are
/// coefficients, each an average over all patients of a batch; precision is what is lost.
const MARGIN: f64 = 2.0;

/// A model compiled for encrypted batches under one preset. Equal arguments compile to equal programs.
#[derive(Debug)]
pub struct Program {
    context: Arc<Context>,
    circuit: Circuit,
    ranges: Vec<Range>,
    /// What is known of the answers as they leave the coordinator.
    answers: Vec<Bound>,
    plan: Plan,
}

/// A model that cannot be compiled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// A layer that cannot be evaluated.
    #[error("{layer} cannot be evaluated encrypted: {why}")]
    Unsupported {
        /// Its place and kind.
        layer: String,
        /// Why, and what to do.
        why: &'static str,
    },
    /// Not one range per input.
    #[error("{found} input ranges, the model has {expected} inputs")]
    Ranges {
        /// Inputs of the model.
        expected: usize,
        /// Ranges given.
        found: usize,
    },
    /// A model file without ranges of its inputs.
    #[error(
        "the model file does not say where its inputs lie: record its training data, or declare their ranges"
    )]
    NotRecorded,
    /// A range that is empty, infinite or not a number.
    #[error("the range of input {input} is {min} to {max}")]
    Range {
        /// Index of the input.
        input: usize,
        /// Smallest value.
        min: f64,
        /// Largest value.
        max: f64,
    },
    /// No standard preset is large enough.
    #[error(
        "no preset has {levels} levels and {precision_bits} bits of precision for this model ({reason}); \
         ask for fewer bits, or train with a stronger penalty or decay, so that values stay smaller"
    )]
    NoPreset {
        /// Levels needed.
        levels: usize,
        /// Precision asked for.
        precision_bits: u32,
        /// Why the largest one that was tried did not do.
        reason: String,
    },
    /// The encryption library failed.
    #[error(transparent)]
    Ckks(#[from] CkksError),
}

/// A batch that cannot be evaluated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Not one ciphertext per input.
    #[error("the batch has {found} ciphertexts, the program takes {expected}")]
    Inputs {
        /// Inputs of the program.
        expected: usize,
        /// Ciphertexts of the batch.
        found: usize,
    },
    /// More bytes than a batch has.
    #[error("the batch has {bytes} bytes, the program takes {max}")]
    TooLong {
        /// Bytes given.
        bytes: usize,
        /// Bytes of every batch.
        max: usize,
    },
    /// A ciphertext of another level, scale or degree than the program takes, or with larger stated bounds.
    #[error("ciphertext {input} is not an input of this program: {what}")]
    NotAnInput {
        /// Its index.
        input: usize,
        /// What does not fit.
        what: &'static str,
    },
    /// A ciphertext under another key than the serving key's.
    #[error("ciphertext {input} is encrypted under another key than the serving key belongs to")]
    ForeignKey {
        /// Its index.
        input: usize,
    },
    /// The encryption library refused: malformed bytes, another preset.
    #[error(transparent)]
    Ckks(#[from] CkksError),
}

impl Program {
    /// Compiles a model for inputs within public `ranges`, one per input, such that `precision_bits` bits after the binary point of
    /// the outputs are right by the static noise bound. Chooses the smallest standard preset, all of which have 128-bit
    /// security.
    pub fn compile(model: &Model, ranges: &[Range], precision_bits: u32) -> Result<Self, CompileError> {
        let network = Self::lower(model, ranges, &Recorded::default())?;
        let compilation = Compilation {
            magnitudes: magnitudes(&network, ranges, None),
            network: &network,
            ranges,
            precision_bits,
            guaranteed: true,
        };
        let mut reason = "none has that many levels".to_owned();
        let levels = network.depth().max(1);
        for preset in Preset::all().iter().filter(|p| p.max_level() >= levels) {
            let context = Context::new(preset)?;
            match compilation.under(&context, levels, Scales::Nominal, f64::INFINITY) {
                Ok(Some(program)) => return Ok(program),
                // No cost is too high here.
                Ok(None) => {}
                Err(error) => reason = format!("{}: {error}", preset.name()),
            }
        }
        Err(CompileError::NoPreset {
            levels,
            precision_bits,
            reason,
        })
    }

    /// Compiles a model whose activations were `recorded` in training, such that `precision_bits` bits after the binary point of the
    /// outputs are expected to be right (see [`Precision::Expected`]). Bounds over all possible inputs are out of reach for networks
    /// with many values; what patients look like is within reach. Takes the cheapest way per patient among all standard presets and
    /// layouts of scales.
    pub fn compile_recorded(
        model: &Model,
        ranges: &[Range],
        precision_bits: u32,
        recorded: &Recorded,
    ) -> Result<Self, CompileError> {
        let network = Self::lower(model, ranges, recorded)?;
        let compilation = Compilation {
            magnitudes: magnitudes(&network, ranges, Some(MARGIN)),
            network: &network,
            ranges,
            precision_bits,
            guaranteed: false,
        };
        let mut reason = "none has that many levels".to_owned();
        let mut best: Option<(f64, Self)> = None;
        let mut presets = Preset::all();
        presets.sort_by_key(|p| p.degree());
        for preset in &presets {
            // Larger rings hold more patients at the same cost for each; they are for more levels.
            if best
                .as_ref()
                .is_some_and(|(_, program)| program.plan.degree < preset.degree())
            {
                break;
            }
            let context = Context::new(preset)?;
            for scales in Scales::choices() {
                let least = if scales == Scales::Nominal {
                    network.depth()
                } else {
                    1
                };
                for level in least..=preset.max_level() {
                    let most = best.as_ref().map_or(f64::INFINITY, |(cost, _)| *cost);
                    match compilation.under(&context, level, scales, most) {
                        Ok(Some(program)) => {
                            best = Some((program.plan.cost_per_patient(), program));
                            break;
                        }
                        // What costs as much at this level costs more at a higher one.
                        Ok(None) => break,
                        Err(CkksError::NoLevelLeft | CkksError::Overflow { .. }) => {}
                        Err(error) => {
                            reason = format!("{}: {error}", preset.name());
                            break;
                        }
                    }
                }
            }
        }
        best.map(|(_, program)| program).ok_or(CompileError::NoPreset {
            levels: network.depth(),
            precision_bits,
            reason,
        })
    }

    /// Compiles a model file by what it says of its inputs and activations: by the recorded ranges if there are any, see
    /// [`Self::compile_recorded`]; otherwise by what the inputs may be, see [`Self::compile`].
    pub fn compile_file(file: &ModelFile, precision_bits: u32) -> Result<Self, CompileError> {
        let annotations = &file.annotations;
        let ranges = annotations
            .input_ranges(file.model.spec())
            .ok_or(CompileError::NotRecorded)?;
        if annotations.activations.is_empty() {
            return Self::compile(&file.model, &ranges, precision_bits);
        }
        let recorded = Recorded::of(&annotations.activations);
        Self::compile_recorded(&file.model, &ranges, precision_bits, &recorded)
    }

    fn lower(model: &Model, ranges: &[Range], recorded: &Recorded) -> Result<Network, CompileError> {
        let expected = model.spec().inputs();
        if ranges.len() != expected {
            return Err(CompileError::Ranges {
                expected,
                found: ranges.len(),
            });
        }
        let bad = |r: &Range| !(r.min.is_finite() && r.max.is_finite() && r.min <= r.max);
        if let Some((input, range)) = ranges.iter().enumerate().find(|(_, r)| bad(r)) {
            return Err(CompileError::Range {
                input,
                min: range.min,
                max: range.max,
            });
        }
        lower(model, &|place| recorded.activations.get(place).copied())
            .map_err(|Unsupported { layer, why }| CompileError::Unsupported { layer, why })
    }

    /// The tables of the preset.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// What the program needs, costs and promises.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The public range of every input.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// Level of a batch's ciphertexts.
    pub(crate) fn level(&self) -> usize {
        self.circuit.level()
    }

    /// Scale of a batch's ciphertexts.
    pub(crate) fn input_scale(&self) -> f64 {
        self.circuit.input_scale()
    }

    /// Binary places by which answers are smaller than outputs.
    pub(crate) fn shift(&self) -> u32 {
        self.circuit.shift
    }

    /// What answers must be like.
    pub(crate) fn check_answers(&self, answers: &[Ciphertext]) -> bool {
        let planned = |(answer, bound): (&Ciphertext, &Bound)| {
            let budget = &bound.budget;
            answer.level() == bound.level
                && answer.degree() == bound.degree
                && answer.scale() == budget.scale
                && answer.magnitude_bound() <= budget.magnitude * TOLERANCE
                && answer.noise_bound() <= budget.noise * TOLERANCE
        };
        answers.len() == self.answers.len() && answers.iter().zip(&self.answers).all(planned)
    }

    /// Evaluates a batch without seeing it: one ciphertext per model input, made by a [`Querier`](crate::Querier) of this program. The answer is
    /// one ciphertext of level 0 per output with a patient per slot, re-randomised under the querier's public key: its polynomials say nothing
    /// of how it was computed; its noise, which the querier sees, is flooded as far as [`Plan::flooding_bits`] says.
    ///
    /// `progress` gets steps done and steps in all. Everything about the inputs is checked before anything is computed.
    pub fn run(
        &self,
        key: &ServingKey,
        inputs: &[Ciphertext],
        progress: &mut dyn FnMut(u32, u32),
    ) -> Result<Vec<Ciphertext>, RunError> {
        self.check_inputs(key, inputs)?;
        let evaluator = Evaluator::new(&self.context);
        let arithmetic = Encrypted {
            evaluator: match self.plan.precision {
                Precision::Guaranteed => evaluator,
                Precision::Expected => evaluator.with_min_precision(f64::NEG_INFINITY),
            },
            relin: key.relin(),
        };
        let results = self.circuit.run(&arithmetic, inputs, progress)?;
        let public = key.public();
        let rerandomised = |result: &Ciphertext| {
            Ok(match self.plan.flooding_bits {
                Some(bits) => public.rerandomise(result, bits)?,
                None => {
                    let zero = public.encrypt_zero(result.level(), result.scale())?;
                    arithmetic.evaluator.add(result, &zero)?
                }
            })
        };
        results.iter().map(rerandomised).collect()
    }

    /// The same on the bytes of a serving key and of a batch.
    pub fn answer(
        &self,
        serving_key: &[u8],
        batch: &[u8],
        progress: &mut dyn FnMut(u32, u32),
    ) -> Result<Vec<u8>, RunError> {
        let (bytes, max) = (batch.len(), self.plan.batch_bytes);
        if bytes > max {
            return Err(RunError::TooLong { bytes, max });
        }
        let key = ServingKey::from_bytes(&self.context, serving_key)?;
        let batch = CiphertextSet::from_bytes(&self.context, batch)?;
        let answers = self.run(&key, batch.ciphertexts(), progress)?;
        Ok(CiphertextSet::new(answers)?.to_bytes()?)
    }

    fn check_inputs(&self, key: &ServingKey, inputs: &[Ciphertext]) -> Result<(), RunError> {
        if inputs.len() != self.ranges.len() {
            return Err(RunError::Inputs {
                expected: self.ranges.len(),
                found: inputs.len(),
            });
        }
        let bounds = Bounds::new(&self.context, false);
        let (level, scale) = (self.level(), self.input_scale());
        for (input, (ct, range)) in inputs.iter().zip(&self.ranges).enumerate() {
            let refuse = |what| Err(RunError::NotAnInput { input, what });
            if ct.preset_digest() != self.context.digest() {
                return Err(CkksError::PresetMismatch.into());
            }
            if *ct.key_digest() != key.digest() {
                return Err(RunError::ForeignKey { input });
            }
            if ct.level() != level {
                return refuse("another level");
            }
            if ct.degree() != 1 {
                return refuse("another degree");
            }
            if ct.scale() != scale {
                return refuse("another scale");
            }
            let fresh = bounds.fresh(level, scale, range.magnitude())?.budget;
            if ct.magnitude_bound() > fresh.magnitude {
                return refuse("a larger range");
            }
            if ct.noise_bound() > fresh.noise * TOLERANCE {
                return refuse("more noise");
            }
        }
        Ok(())
    }
}

/// What a network is compiled for.
struct Compilation<'a> {
    network: &'a Network,
    magnitudes: Vec<Vec<f64>>,
    ranges: &'a [Range],
    precision_bits: u32,
    guaranteed: bool,
}

impl Compilation<'_> {
    /// The program under a preset, with inputs at `level`, if it costs less than `most` for a patient ([`Plan::cost_per_patient`]); errors
    /// with what stands against it. Costs are known before bounds are, which take longer.
    fn under(
        &self,
        context: &Arc<Context>,
        level: usize,
        scales: Scales,
        most: f64,
    ) -> Result<Option<Program>, CkksError> {
        let bounds = Bounds::new(context, self.guaranteed);
        // The last modulus leaves a few bits above the scale; results that could be larger are computed smaller.
        let (mut shift, mut needed) = (0, f64::INFINITY);
        let (circuit, bare) = loop {
            let circuit = Circuit::new(context, self.network, &self.magnitudes, level, scales, shift)?;
            if circuit.work(context.degree()).cost as f64 / context.slots() as f64 >= most {
                return Ok(None);
            }
            let fresh = |r: &Range| bounds.fresh(level, circuit.input_scale(), r.magnitude());
            let inputs = self
                .ranges
                .iter()
                .map(fresh)
                .collect::<Result<Vec<Bound>, CkksError>>()?;
            let bare = circuit.run(&bounds, &inputs, &mut |_, _| {});
            // The fresh zero of re-randomisation must fit as well.
            let fitting = bare.and_then(|bare| {
                bare.iter()
                    .try_for_each(|b| bounds.rerandomised(b, None).map(drop))?;
                Ok(bare)
            });
            match fitting {
                Ok(bare) => break (circuit, bare),
                // Only if it is the results that do not fit does a shift help.
                Err(CkksError::Overflow { needed_bits, .. }) if shift < MAX_SHIFT && needed_bits < needed => {
                    shift += 1;
                    needed = needed_bits;
                }
                Err(error) => return Err(error),
            }
        };
        // As much flooding as the precision asked for leaves room for, if any.
        let enough = |flooding: Option<u32>| {
            let answers = bare
                .iter()
                .map(|b| bounds.rerandomised(b, flooding))
                .collect::<Result<Vec<Bound>, CkksError>>()?;
            let planned_bits = least_bits(&answers, self.guaranteed) - f64::from(shift);
            let requested_bits = f64::from(self.precision_bits);
            if planned_bits >= requested_bits {
                return Ok(answers);
            }
            Err(CkksError::Precision {
                planned_bits,
                requested_bits,
            })
        };
        let (mut flooding_bits, mut answers) = (None, enough(None)?);
        for bits in 0..=MAX_FLOODING {
            let Ok(flooded) = enough(Some(bits)) else { break };
            (flooding_bits, answers) = (Some(bits), flooded);
        }
        let precision = if self.guaranteed {
            Precision::Guaranteed
        } else {
            Precision::Expected
        };
        let precision_bits = least_bits(&answers, self.guaranteed) - f64::from(shift);
        let plan = Plan::new(
            context,
            &circuit,
            self.network.inputs(),
            &answers,
            (precision, precision_bits, self.precision_bits),
            flooding_bits,
        );
        Ok(Some(Program {
            context: Arc::clone(context),
            circuit,
            ranges: self.ranges.to_vec(),
            answers,
            plan,
        }))
    }
}

/// The bits after the binary point of the least precise answer.
fn least_bits(answers: &[Bound], guaranteed: bool) -> f64 {
    let bits = |b: &Bound| {
        if guaranteed {
            b.budget.precision_bits()
        } else {
            b.expected_bits()
        }
    };
    answers.iter().map(bits).fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::querier::Querier;
    use galen_models::ModelSpec;
    use galen_models::random::Stream;

    /// Planned bounds are those that ciphertexts carry, to the last bit, for every kind of circuit.
    #[test]
    fn the_plan_is_what_ciphertexts_carry() {
        for hidden in [&[][..], &[3], &[3, 2]] {
            let spec = ModelSpec::residual_mlp(4, hidden, 0.3, 2).unwrap();
            let mut stream = Stream::new("plan test", hidden.len() as u64, &[]);
            let params = (0..spec.parameter_count()).map(|_| stream.symmetric()).collect();
            let model = Model::new(spec, params).unwrap();
            let ranges = [
                Range::new(-3.0, 2.0),
                Range::new(0.0, 1.0),
                Range::new(-1.0, 1.0),
                Range::new(0.0, 0.0),
            ];
            let program = Arc::new(Program::compile(&model, &ranges, 12).unwrap());
            let querier = Querier::generate(&program).unwrap();
            let key = querier.serving_key().unwrap();
            let batch = querier.encrypt_batch(&[[1.0, 0.5, -1.0, 0.0]]).unwrap();
            let mut steps = Vec::new();
            let answers = program
                .run(&key, batch.ciphertexts(), &mut |done, total| {
                    steps.push((done, total))
                })
                .unwrap();
            let [answer] = answers.as_slice() else {
                panic!("{} answers", answers.len());
            };
            assert_eq!(*answer.budget(), program.answers[0].budget, "{hidden:?}");
            assert_eq!((answer.level(), answer.degree()), (0, 1));
            let total = steps.len() as u32;
            let expected: Vec<(u32, u32)> = (1..=total).map(|done| (done, total)).collect();
            assert_eq!(steps, expected);
            let plan = program.plan();
            assert_eq!(plan.batch_bytes, batch.to_bytes().unwrap().len());
            let set = CiphertextSet::new(answers).unwrap();
            assert_eq!(plan.answer_bytes, set.to_bytes().unwrap().len());
            assert_eq!(plan.serving_key_bytes, key.to_bytes().unwrap().len());
            assert!(plan.precision_bits >= 12.0, "{plan:?}");
            assert!(plan.log2_qp <= plan.security_bound);
        }
    }
}
