//! A model compiled for encrypted batches: the choice of preset, and the coordinator's half of a query.

use crate::bounds::{Bound, Bounds};
use crate::circuit::Circuit;
use crate::encrypted::Encrypted;
use crate::fold::{Folded, fold};
use crate::plan::Plan;
use crate::serving::ServingKey;
use galen_ckks::CkksError;
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::codec::CiphertextSet;
use galen_ckks::context::Context;
use galen_ckks::evaluate::Evaluator;
use galen_ckks::preset::Preset;
use galen_models::{Model, Range};
use std::sync::Arc;

/// The result is made smaller by at most this many binary places to fit the last modulus.
const MAX_SHIFT: u32 = 24;
/// Flooding beyond this hides nothing more (statistical security 40 for 2^16 answers, by the rule of
/// [`rerandomise`](galen_ckks::keys::PublicKey::rerandomise)).
const MAX_FLOODING: u32 = 30;
/// Numbers computed on two platforms may differ in their last bits.
const TOLERANCE: f64 = 1.0 + 1e-9;

/// A model compiled for encrypted batches under one preset. Equal arguments compile to equal programs.
#[derive(Debug)]
pub struct Program {
    context: Arc<Context>,
    circuit: Circuit,
    ranges: Vec<Range>,
    level: usize,
    /// What is known of an answer as it leaves the coordinator.
    answer: Bound,
    plan: Plan,
}

/// A model that cannot be compiled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// A network that this compiler does not know.
    #[error("only networks of dense layers and residual blocks of power 2 with one output can be compiled")]
    Unsupported,
    /// Not one range per input.
    #[error("{found} input ranges, the model has {expected} inputs")]
    Ranges {
        /// Inputs of the model.
        expected: usize,
        /// Ranges given.
        found: usize,
    },
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
    /// the logit are right by the static noise bound. Chooses the smallest standard preset, all of which have 128-bit
    /// security.
    pub fn compile(model: &Model, ranges: &[Range], precision_bits: u32) -> Result<Self, CompileError> {
        let folded = fold(model).ok_or(CompileError::Unsupported)?;
        if ranges.len() != folded.inputs {
            return Err(CompileError::Ranges {
                expected: folded.inputs,
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
        let levels = Circuit::levels(&folded);
        let mut reason = "none has that many levels".to_owned();
        for preset in Preset::all().iter().filter(|p| p.max_level() >= levels) {
            let context = Context::new(preset)?;
            match Self::under(&context, &folded, ranges, precision_bits) {
                Ok(program) => return Ok(program),
                Err(error) => reason = format!("{}: {error}", preset.name()),
            }
        }
        Err(CompileError::NoPreset {
            levels,
            precision_bits,
            reason,
        })
    }

    /// Compiles under one preset; errors with what stands against it.
    fn under(
        context: &Arc<Context>,
        folded: &Folded,
        ranges: &[Range],
        precision_bits: u32,
    ) -> Result<Self, CkksError> {
        let level = Circuit::levels(folded);
        let bounds = Bounds::new(context);
        let inputs: Result<Vec<Bound>, CkksError> = ranges
            .iter()
            .map(|r| bounds.fresh(level, r.magnitude()))
            .collect();
        let inputs = inputs?;
        // The last modulus leaves a few bits above the scale; a result that could be larger is computed smaller.
        let mut shift = 0;
        let (circuit, bare) = loop {
            let circuit = Circuit::new(folded, shift);
            let bare = circuit.run(context, &bounds, &inputs, &mut |_, _| {});
            // The fresh zero of re-randomisation must fit as well.
            match bare.and_then(|bare| bounds.rerandomised(&bare, None).map(|_| bare)) {
                Ok(bound) => break (circuit, bound),
                Err(CkksError::Overflow { .. }) if shift < MAX_SHIFT => shift += 1,
                Err(error) => return Err(error),
            }
        };
        // As much flooding as the precision asked for leaves room for, if any.
        let (requested_bits, lost) = (f64::from(precision_bits), f64::from(shift));
        let enough = |flooding: Option<u32>| {
            let answer = bounds.rerandomised(&bare, flooding)?;
            let planned_bits = answer.budget.precision_bits() - lost;
            if planned_bits >= requested_bits {
                return Ok(answer);
            }
            Err(CkksError::Precision {
                planned_bits,
                requested_bits,
            })
        };
        let (mut flooding_bits, mut answer) = (None, enough(None)?);
        for bits in 0..=MAX_FLOODING {
            let Ok(flooded) = enough(Some(bits)) else { break };
            (flooding_bits, answer) = (Some(bits), flooded);
        }
        let plan = Plan::new(
            context,
            &circuit,
            level,
            inputs.len(),
            &answer,
            precision_bits,
            flooding_bits,
        );
        Ok(Self {
            context: Arc::clone(context),
            circuit,
            ranges: ranges.to_vec(),
            level,
            answer,
            plan,
        })
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
        self.level
    }

    /// Binary places by which answers are smaller than logits.
    pub(crate) fn shift(&self) -> u32 {
        self.circuit.shift
    }

    /// What an answer must be like.
    pub(crate) fn check_answer(&self, answer: &Ciphertext) -> bool {
        let planned = &self.answer.budget;
        answer.level() == self.answer.level
            && answer.degree() == self.answer.degree
            && answer.scale() == planned.scale
            && answer.magnitude_bound() <= planned.magnitude * TOLERANCE
            && answer.noise_bound() <= planned.noise * TOLERANCE
    }

    /// Evaluates a batch without seeing it: one ciphertext per model input, made by a [`Querier`](crate::Querier) of this program. The answer is
    /// one ciphertext of level 0 with a logit per slot, re-randomised under the querier's public key: its polynomials say nothing of how it
    /// was computed; its noise, which the querier sees, is flooded as far as [`Plan::flooding_bits`] says.
    ///
    /// `progress` gets steps done and steps in all. Everything about the inputs is checked before anything is computed.
    pub fn run(
        &self,
        key: &ServingKey,
        inputs: &[Ciphertext],
        progress: &mut dyn FnMut(u32, u32),
    ) -> Result<Ciphertext, RunError> {
        self.check_inputs(key, inputs)?;
        let arithmetic = Encrypted {
            evaluator: Evaluator::new(&self.context),
            relin: key.relin(),
        };
        let result = self.circuit.run(&self.context, &arithmetic, inputs, progress)?;
        let public = key.public();
        Ok(match self.plan.flooding_bits {
            Some(bits) => public.rerandomise(&result, bits)?,
            None => {
                let zero = public.encrypt_zero(result.level(), result.scale())?;
                arithmetic.evaluator.add(&result, &zero)?
            }
        })
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
        Ok(self.run(&key, batch.ciphertexts(), progress)?.to_bytes()?)
    }

    fn check_inputs(&self, key: &ServingKey, inputs: &[Ciphertext]) -> Result<(), RunError> {
        if inputs.len() != self.ranges.len() {
            return Err(RunError::Inputs {
                expected: self.ranges.len(),
                found: inputs.len(),
            });
        }
        let bounds = Bounds::new(&self.context);
        let scale = self.context.scale(self.level)?;
        for (input, (ct, range)) in inputs.iter().zip(&self.ranges).enumerate() {
            let refuse = |what| Err(RunError::NotAnInput { input, what });
            if ct.preset_digest() != self.context.digest() {
                return Err(CkksError::PresetMismatch.into());
            }
            if *ct.key_digest() != key.digest() {
                return Err(RunError::ForeignKey { input });
            }
            if ct.level() != self.level {
                return refuse("another level");
            }
            if ct.degree() != 1 {
                return refuse("another degree");
            }
            if ct.scale() != scale {
                return refuse("another scale");
            }
            let fresh = bounds.fresh(self.level, range.magnitude())?.budget;
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
            let answer = program
                .run(&key, batch.ciphertexts(), &mut |done, total| {
                    steps.push((done, total))
                })
                .unwrap();
            assert_eq!(*answer.budget(), program.answer.budget, "{hidden:?}");
            assert_eq!((answer.level(), answer.degree()), (0, 1));
            let total = steps.len() as u32;
            let expected: Vec<(u32, u32)> = (1..=total).map(|done| (done, total)).collect();
            assert_eq!(steps, expected);
            let plan = program.plan();
            assert_eq!(plan.batch_bytes, batch.to_bytes().unwrap().len());
            assert_eq!(plan.answer_bytes, answer.to_bytes().unwrap().len());
            assert_eq!(plan.serving_key_bytes, key.to_bytes().unwrap().len());
            assert!(plan.precision_bits >= 12.0, "{plan:?}");
            assert!(plan.log2_qp <= plan.security_bound);
        }
    }
}
