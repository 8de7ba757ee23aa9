//! How long a plan takes on this machine, from a second of measurements.

use crate::circuit::{Place, Shelf};
use crate::error::RunError;
use crate::plan::{Plan, Spilled};
use crate::shelf::Files;
use galen_ckks::CkksError;
use galen_ckks::ciphertext::{Ciphertext, Plaintext};
use galen_ckks::context::{Context, Target};
use galen_ckks::evaluate::Evaluator;
use galen_ckks::keys::{RelinKey, SecretKey};
use galen_ckks::linear::LinearMap;
use galen_ckks::preset::Preset;
use rayon::prelude::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long each kind of operation is repeated.
const LONG_ENOUGH: Duration = Duration::from_millis(120);
/// Memory of the ciphertexts that are measured with.
const MEMORY: usize = 128 << 20;
/// Sums that read them together.
const OUTPUTS: usize = 48;
/// Small enough for the last modulus of every preset, also when squared.
const SCALE: f64 = (1u32 << 14) as f64;
/// Scale of encoded weights.
const WEIGHTS: f64 = (1u32 << 28) as f64;

/// Seconds for a residue in every coefficient of 1024, by what is done to it, all threads at work; see [`Residues`](crate::Residues).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    scalar: f64,
    squared: f64,
    switched: f64,
    alone: f64,
    divided: f64,
    products: f64,
    encoded: f64,
    encrypted: f64,
    /// For a byte of a ciphertext that is put into a file or taken back.
    shelved: f64,
}

impl Calibration {
    /// Measures this machine under a plan's preset and at its level, with the threads of the present pool. Where ciphertexts wait on
    /// disk, files are written to the system's folder for temporary ones.
    pub fn measure(plan: &Plan) -> Result<Self, RunError> {
        let context = Context::new(&Preset::by_name(&plan.preset)?)?;
        let mut measured = Self::at(&context, plan.levels)?;
        if plan.spilled.is_some() {
            measured.shelved = shelved(&context, plan.levels)?;
        }
        Ok(measured)
    }

    /// The same for a preset and the level of its inputs.
    pub fn at(context: &Arc<Context>, level: usize) -> Result<Self, CkksError> {
        let key = SecretKey::generate(context)?;
        let relin = key.relin_key()?;
        let evaluator = Evaluator::new(context).with_min_precision(f64::NEG_INFINITY);
        let bytes = 2 * (level + 1) * context.degree() * size_of::<u64>();
        let count = (MEMORY / bytes).clamp(4, 64);
        let residues = (count * (level + 1) * context.degree() / 1024) as f64;
        let plaintext = context.encode_at(&[0.5, -0.25], 1.0, level, SCALE)?;
        let encrypt = || -> Result<Vec<Ciphertext>, CkksError> {
            (0..count)
                .into_par_iter()
                .map(|_| key.encrypt(&plaintext))
                .collect()
        };
        let fresh = encrypt()?;
        let encrypted = seconds(|| encrypt().map(drop))?;
        let map = weights(count)?;
        let target = Target {
            level,
            scale: 64.0 * SCALE,
        };
        let inputs: Vec<&Ciphertext> = fresh.iter().collect();
        let scalar = seconds(|| evaluator.apply(&map, &inputs, target).map(drop))?;
        let square = |a: &Ciphertext| evaluator.square(a);
        let squares: Vec<Ciphertext> = fresh.par_iter().map(square).collect::<Result<_, _>>()?;
        let squared = seconds(|| fresh.par_iter().map(square).try_for_each(|r| r.map(drop)))?;
        let switched = seconds(|| relinearise(&evaluator, &squares, &relin))?;
        let alone = seconds(|| relinearise(&evaluator, &squares[..1], &relin))?;
        let numbers: Vec<f64> = (0..context.slots()).map(|slot| (slot % 7) as f64 / 8.0).collect();
        let encode = |_| context.encode_at(&numbers, 1.0, level, WEIGHTS);
        let encoded = seconds(|| {
            (0..count)
                .into_par_iter()
                .map(encode)
                .try_for_each(|r| r.map(drop))
        })?;
        // As many as there are ciphertexts: in an evaluation none is at hand because it was used just before.
        let plaintexts: Vec<Plaintext> = (0..count).into_par_iter().map(encode).collect::<Result<_, _>>()?;
        let pairs: Vec<_> = fresh.iter().zip(&plaintexts).collect();
        let multiplied = seconds(|| {
            // As many sums at a time as ciphertexts, which all threads work on.
            let sum = |_| evaluator.sum_of_plain_products(&pairs).map(drop);
            (0..count).into_par_iter().map(sum).try_for_each(|r| r)
        })?;
        let divided = if level == 0 {
            0.0
        } else {
            // Scales must not fall below 1 by the division.
            let prime = context.preset().primes().get(level).copied().unwrap_or(1);
            let large = context.encode_at(&[0.5, -0.25], 1.0, level, prime as f64 * 16.0)?;
            let large = key.encrypt(&large)?;
            let divide = |_| evaluator.rescale_assign(&mut large.clone());
            seconds(|| (0..count).into_par_iter().map(divide).try_for_each(|r| r))?
        };
        Ok(Self {
            // Two polynomials of each input for each output.
            scalar: scalar / (2.0 * residues * OUTPUTS as f64),
            squared: squared / residues,
            switched: switched / residues,
            alone: alone / (residues / count as f64),
            divided: divided / residues,
            products: multiplied / (residues * count as f64),
            encoded: encoded / residues,
            encrypted: encrypted / residues,
            shelved: 0.0,
        })
    }

    /// Seconds for evaluating a batch, about.
    pub fn evaluation(&self, plan: &Plan) -> f64 {
        let residues = &plan.residues;
        let moved = |spilled: Spilled| (spilled.written_bytes + spilled.read_bytes) as f64;
        let waiting = plan.spilled.map_or(0.0, moved) * self.shelved;
        let computing: f64 = [
            (residues.scalar, self.scalar),
            (residues.squared, self.squared),
            (residues.switched, self.switched),
            (residues.alone, self.alone),
            (residues.divided, self.divided),
            (residues.products, self.products),
            (residues.encoded, self.encoded),
        ]
        .iter()
        .map(|&(count, each)| count as f64 * each)
        .sum();
        computing + waiting
    }

    /// Seconds for encrypting a batch of so many ciphertexts, about. Encoding, which depends on the number of patients, comes to it.
    pub fn encryption(&self, inputs: usize, level: usize, degree: usize) -> f64 {
        (inputs * (level + 1) * degree / 1024) as f64 * self.encrypted
    }
}

/// Seconds for a byte of a ciphertext on its way to a file or back.
fn shelved(context: &Arc<Context>, level: usize) -> Result<f64, RunError> {
    const COUNT: usize = 16;
    let key = SecretKey::generate(context)?;
    let plaintext = context.encode_at(&[0.5, -0.25], 1.0, level, SCALE)?;
    // A sum is not stored as its seed.
    let fresh = key.encrypt(&plaintext)?;
    let value = Evaluator::new(context).add(&fresh, &key.encrypt(&plaintext)?)?;
    let files = Files::new(context, &std::env::temp_dir())?;
    let begin = Instant::now();
    let places = (0..COUNT).into_par_iter().map(Place::input);
    places.try_for_each(|place| {
        files.put(place, &value)?;
        files.get(place).map(drop)
    })?;
    let bytes = 2 * COUNT * value.parts().len() * (level + 1) * context.degree() * size_of::<u64>();
    Ok(begin.elapsed().as_secs_f64() / bytes as f64)
}

/// A dense matrix with weights like those of a network, as wide as there are inputs.
fn weights(inputs: usize) -> Result<LinearMap, CkksError> {
    let weight = |i: usize| (i * 37 % 101) as f64 / 50.0 - 1.0;
    LinearMap::dense(inputs, (0..inputs * OUTPUTS).map(weight).collect())
}

fn relinearise(evaluator: &Evaluator, squares: &[Ciphertext], key: &RelinKey) -> Result<(), CkksError> {
    let each = |a: &Ciphertext| evaluator.relinearise(a, key).map(drop);
    squares.par_iter().map(each).try_for_each(|r| r)
}

/// Seconds of a run, the first one, which fills caches and tables, left out.
fn seconds(mut run: impl FnMut() -> Result<(), CkksError>) -> Result<f64, CkksError> {
    run()?;
    let (begin, mut runs) = (Instant::now(), 0u32);
    while begin.elapsed() < LONG_ENOUGH || runs == 0 {
        run()?;
        runs += 1;
    }
    Ok(begin.elapsed().as_secs_f64() / f64::from(runs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Program;
    use galen_models::{Model, ModelSpec, Range};

    #[test]
    fn every_kind_of_work_takes_time() {
        let model = Model::initial(ModelSpec::residual_mlp(3, &[2], 0.1, 2).unwrap(), 1).unwrap();
        let program = Program::compile(&model, &[Range::new(-1.0, 1.0); 3], 8).unwrap();
        let plan = program.plan();
        let measured = Calibration::measure(plan).unwrap();
        for each in [
            measured.scalar,
            measured.squared,
            measured.switched,
            measured.alone,
            measured.divided,
            measured.products,
            measured.encoded,
            measured.encrypted,
        ] {
            assert!(each > 0.0 && each.is_finite());
        }
        assert!(measured.evaluation(plan) > 0.0);
        assert!(measured.encryption(plan.inputs, plan.levels, plan.degree) > 0.0);
    }
}
