//! The coordinator's half of a query: a program on an encrypted batch.

use crate::bounds::Bounds;
use crate::circuit::{Circuit, Spill, Stored, StoredFailure};
use crate::encrypted::Encrypted;
use crate::error::RunError;
use crate::packed::Rotating;
use crate::plan::Precision;
use crate::program::Program;
use crate::serving::ServingKey;
use crate::shelf::Files;
use crate::way::Way;
use galen_ckks::CkksError;
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::codec::CiphertextSet;
use galen_ckks::evaluate::Evaluator;
use galen_models::Range;

/// Numbers computed on two platforms may differ in their last bits.
pub(crate) const TOLERANCE: f64 = 1.0 + 1e-9;

impl Program {
    /// Evaluates a batch without seeing it: one ciphertext per model input, made by a [`Querier`](crate::Querier) of this program, or one in all if it
    /// is packed. The answer is one ciphertext of level 0 per output with a patient per slot, or one in all, re-randomised under the querier's public key: its polynomials say nothing
    /// of how it was computed; its noise, which the querier sees, is flooded as far as [`Plan::flooding_bits`](crate::Plan::flooding_bits) says; the bounds that it
    /// states are those of the [`Interface`](crate::Interface).
    ///
    /// `progress` gets steps done and steps in all. Everything about the inputs is checked before anything is computed.
    pub fn run(
        &self,
        key: &ServingKey,
        inputs: &[Ciphertext],
        progress: &mut dyn FnMut(u32, u32),
    ) -> Result<Vec<Ciphertext>, RunError> {
        if inputs.len() != self.plan.inputs {
            return Err(self.wrong_number(inputs.len()));
        }
        self.check_key(key)?;
        for (index, input) in inputs.iter().enumerate() {
            self.check_input(key, index, input)?;
        }
        let bare = self.bare(key, inputs, progress)?;
        self.stated(key, &bare)
    }

    /// Answers as they are given away.
    fn stated(&self, key: &ServingKey, bare: &[Ciphertext]) -> Result<Vec<Ciphertext>, RunError> {
        let stated = |answer: &Ciphertext| {
            let answer = self.rerandomised(key, answer)?;
            Ok(self.interface.stated(answer)?)
        };
        bare.iter().map(stated).collect()
    }

    fn arithmetic<'a>(&self, key: &'a ServingKey) -> Encrypted<'a> {
        let evaluator = Evaluator::new(&self.context);
        Encrypted {
            evaluator: match self.plan.precision {
                Precision::Guaranteed => evaluator,
                Precision::Expected => evaluator.with_min_precision(f64::NEG_INFINITY),
            },
            relin: key.relin(),
        }
    }

    /// What the circuit computes. It must not be given away as it is.
    fn bare(
        &self,
        key: &ServingKey,
        inputs: &[Ciphertext],
        progress: &mut dyn FnMut(u32, u32),
    ) -> Result<Vec<Ciphertext>, RunError> {
        match (&self.way, key.galois(), inputs) {
            (Way::Slots(circuit, None), ..) => {
                let run = circuit.run(&self.arithmetic(key), inputs, progress);
                Ok(run.map_err(|failure| failure.error)?)
            }
            (Way::Slots(circuit, Some(spill)), ..) => {
                let mut stored = self.stored()?;
                for (index, input) in inputs.iter().enumerate() {
                    stored.input(spill, index, input.clone())?;
                }
                self.bare_stored(key, (circuit, spill), stored, progress)
            }
            (Way::Packed(packed), Some(galois), [input]) => {
                let inner = self.arithmetic(key);
                let answer = packed.run(&Rotating { inner, galois }, input, progress)?;
                Ok(vec![answer])
            }
            // Both were checked before.
            (Way::Packed(_), ..) => Err(CkksError::KeyMismatch.into()),
        }
    }

    /// A shelf for the ciphertexts of one batch.
    fn stored(&self) -> Result<Stored<Ciphertext, Files>, RunError> {
        Ok(Stored::new(Files::new(&self.context, &self.scratch)?))
    }

    /// [`Self::bare`] from inputs that are stored already.
    fn bare_stored(
        &self,
        key: &ServingKey,
        (circuit, spill): (&Circuit, &Spill),
        stored: Stored<Ciphertext, Files>,
        progress: &mut dyn FnMut(u32, u32),
    ) -> Result<Vec<Ciphertext>, RunError> {
        let run = circuit.run_stored(&self.arithmetic(key), spill, stored, progress);
        run.map_err(|failure| match failure {
            StoredFailure::Ckks(error) => error.into(),
            StoredFailure::Shelf(error) => error.into(),
        })
    }

    fn rerandomised(&self, key: &ServingKey, bare: &Ciphertext) -> Result<Ciphertext, CkksError> {
        let public = key.public();
        match self.plan.flooding_bits {
            Some(bits) => public.rerandomise(bare, bits),
            None => {
                let zero = public.encrypt_zero(bare.level(), bare.scale())?;
                self.arithmetic(key).evaluator.add(bare, &zero)
            }
        }
    }

    /// The same on the bytes of a serving key and of a batch. Where ciphertexts may wait on disk, those of the batch are read one after the
    /// other, and memory holds no more of them than the plan says.
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
        let answers = match &self.way {
            Way::Slots(circuit, Some(spill)) => {
                self.check_key(&key)?;
                let mut stored = self.stored()?;
                let mut found = 0;
                CiphertextSet::read(&self.context, batch, |input| {
                    self.check_input(&key, found, &input)?;
                    stored.input(spill, found, input)?;
                    found += 1;
                    Ok::<(), RunError>(())
                })?;
                if found != self.plan.inputs {
                    return Err(self.wrong_number(found));
                }
                let bare = self.bare_stored(&key, (circuit, spill), stored, progress)?;
                self.stated(&key, &bare)?
            }
            _ => {
                let batch = CiphertextSet::from_bytes(&self.context, batch)?;
                self.run(&key, batch.ciphertexts(), progress)?
            }
        };
        Ok(CiphertextSet::new(answers)?.to_bytes()?)
    }

    fn wrong_number(&self, found: usize) -> RunError {
        RunError::Inputs {
            expected: self.plan.inputs,
            found,
        }
    }

    /// A packed program takes keys with its rotations, another one none.
    fn check_key(&self, key: &ServingKey) -> Result<(), RunError> {
        let (needed, found) = (self.choice.key_set(), key.key_set(&self.context));
        let packed = self.choice.is_packed();
        if key.galois().is_some() != packed || (packed && needed != found) {
            return Err(RunError::KeySet { needed, found });
        }
        Ok(())
    }

    /// The largest value that an input may have; all are in one ciphertext if they are packed.
    fn largest(&self, input: usize) -> Option<f64> {
        match self.way {
            Way::Slots(..) => self.ranges.get(input).map(Range::magnitude),
            Way::Packed(_) if input > 0 => None,
            Way::Packed(_) => Some(self.ranges.iter().map(Range::magnitude).fold(0.0, f64::max)),
        }
    }

    fn check_input(&self, key: &ServingKey, input: usize, ct: &Ciphertext) -> Result<(), RunError> {
        let Some(largest) = self.largest(input) else {
            return Err(self.wrong_number(input + 1));
        };
        let bounds = Bounds::new(&self.context, false);
        let (level, scale) = (self.level(), self.input_scale());
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
        let fresh = bounds.fresh(level, scale, largest)?.budget;
        if ct.magnitude_bound() > fresh.magnitude {
            return refuse("a larger range");
        }
        if ct.noise_bound() > fresh.noise * TOLERANCE {
            return refuse("more noise");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recorded;
    use crate::querier::Querier;
    use galen_models::random::Stream;
    use galen_models::{Model, ModelFile, ModelSpec};

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
            let program = Program::compile(&model, &ranges, 12).unwrap();
            let querier = Querier::generate(program.interface()).unwrap();
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
            let bare = program.bare(&key, batch.ciphertexts(), &mut |_, _| {}).unwrap();
            let exact = program.rerandomised(&key, &bare[0]).unwrap();
            assert_eq!(*exact.budget(), program.answers[0].budget, "{hidden:?}");
            // What is given away states no more than the interface does.
            let (stated, planned) = (answer.budget(), exact.budget());
            assert!(stated.magnitude >= planned.magnitude && stated.noise >= planned.noise);
            assert_eq!(
                stated.magnitude * f64::from(1 << program.way.shift()),
                program.interface().largest_output()
            );
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

    /// The same for packed programs, whose bounds grow by rotations and by the rounding of encoded matrices.
    #[test]
    fn the_plan_of_a_packed_program_is_what_ciphertexts_carry() {
        for (layers, inputs) in [
            ("{ dense = { outputs = 3 } }", 5),
            (
                "{ dense = { outputs = 7 } }, \"square\", { dense = { outputs = 2 } }",
                12,
            ),
            (
                "{ residual = { outputs = 4, scale = 0.3, power = 2 } }, { dense = { outputs = 1 } }",
                3,
            ),
        ] {
            let text = format!("input = {inputs}\nlayers = [{layers}]");
            let spec: ModelSpec = toml::from_str(&text).unwrap();
            let mut file = ModelFile::from(Model::initial(spec, 5).unwrap());
            file.annotations.inputs = vec![Range::new(-1.0, 1.0)];
            let program = Program::compile_packed(&file, 8, u64::MAX).unwrap();
            let querier = Querier::generate(program.interface()).unwrap();
            let key = querier.serving_key().unwrap();
            let batch = querier.encrypt_batch(&[vec![0.5; inputs]]).unwrap();
            let bare = program.bare(&key, batch.ciphertexts(), &mut |_, _| {}).unwrap();
            let exact = program.rerandomised(&key, &bare[0]).unwrap();
            assert_eq!(*exact.budget(), program.answers[0].budget, "{layers}");
            assert_eq!((exact.level(), exact.degree(), bare.len()), (0, 1, 1));
        }
    }

    /// The answers of a linear layer, solved for its weights: from the second halves alone, which are no secret, since those of a batch are
    /// expanded from seeds.
    fn solved(inputs: &[Ciphertext], answer: &Ciphertext, q: u64) -> Option<Vec<u64>> {
        let q = u128::from(q);
        let half = |ct: &Ciphertext, at: usize| u128::from(ct.parts()[1].residues(0)[at]);
        let equation = |at: usize| -> Vec<u128> {
            let knowns = inputs.iter().map(|ct| half(ct, at));
            knowns.chain([half(answer, at)]).collect()
        };
        let inverse = |x: u128| {
            // Fermat: x^(q-2).
            let (mut power, mut result, mut exponent) = (x, 1, q - 2);
            while exponent > 0 {
                if exponent % 2 == 1 {
                    result = result * power % q;
                }
                power = power * power % q;
                exponent /= 2;
            }
            result
        };
        let n = inputs.len();
        let mut rows: Vec<Vec<u128>> = (0..n).map(equation).collect();
        for column in 0..n {
            let pivot = (column..n).find(|&r| rows[r][column] != 0)?;
            rows.swap(column, pivot);
            let scale = inverse(rows[column][column]);
            rows[column].iter_mut().for_each(|x| *x = *x * scale % q);
            let reduced = rows[column].clone();
            for (_, row) in rows.iter_mut().enumerate().filter(|(r, _)| *r != column) {
                let factor = q - row[column];
                row.iter_mut()
                    .zip(&reduced)
                    .for_each(|(x, y)| *x = (*x + factor * y) % q);
            }
        }
        let weights: Vec<u128> = rows.iter().map(|row| row[n]).collect();
        // They must explain every other coefficient, too.
        let fits = (n..n + 64).all(|at| {
            let equation = equation(at);
            let sum = equation
                .iter()
                .zip(&weights)
                .map(|(a, w)| a * w % q)
                .sum::<u128>();
            sum % q == equation[n]
        });
        fits.then(|| weights.iter().map(|&w| w as u64).collect())
    }

    /// Why answers are re-randomised: the weights of a linear layer lie open in a bare answer.
    #[test]
    fn a_bare_answer_gives_the_weights_away_and_a_rerandomised_one_does_not() {
        let weights = [0.75, -1.5, 0.3125];
        let spec: ModelSpec = toml::from_str("input = 3\nlayers = [{ dense = { outputs = 1 } }]").unwrap();
        let model = Model::new(spec, [&weights[..], &[0.25]].concat()).unwrap();
        let ranges = [Range::new(-1.0, 1.0); 3];
        let program = Program::compile_recorded(&model, &ranges, 6, &Recorded::default()).unwrap();
        let querier = Querier::generate(program.interface()).unwrap();
        let key = querier.serving_key().unwrap();
        let batch = querier
            .encrypt_batch(&[[0.5, -0.5, 1.0], [0.0, 1.0, 0.25]])
            .unwrap();
        let inputs = batch.ciphertexts();
        let bare = program.bare(&key, inputs, &mut |_, _| {}).unwrap().remove(0);
        let q = program.context().preset().primes()[0];
        let found = solved(inputs, &bare, q).expect("a bare answer fits its weights");
        // Weights enter as integers; nothing was divided on the way.
        let unit = bare.scale() / inputs[0].scale();
        for (found, weight) in found.iter().zip(weights) {
            let centred = if *found > q / 2 {
                *found as f64 - q as f64
            } else {
                *found as f64
            };
            let recovered = centred / unit * f64::from(1 << program.way.shift());
            assert!((recovered - weight).abs() < 0.01, "{recovered} for {weight}");
        }
        let answers = program.run(&key, inputs, &mut |_, _| {}).unwrap();
        assert_eq!(solved(inputs, &answers[0], q), None);
        // The values are the same.
        let set = CiphertextSet::new(answers).unwrap().to_bytes().unwrap();
        let outputs = querier.outputs(&set, 2).unwrap();
        assert!(
            (outputs[0][0] - (0.375 + 0.75 + 0.3125 + 0.25)).abs() < 0.05,
            "{outputs:?}"
        );
    }
}
