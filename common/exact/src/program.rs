//! A compiled circuit, and its evaluation on encrypted patients.

use crate::circuit::{Circuit, Sum};
use crate::codec::CodecError;
use crate::compile::{Layout, is_wide};
use crate::encoding::{Coded, Reading};
use crate::keys::{EvaluationKey, Generator, modulus, seeder};
use crate::parameters::ParameterSet;
use crate::plan::Plan;
use crate::query::{Answer, Query};
use galen_core::Digest;
use galen_core::random::RandomError;
use rayon::prelude::*;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tfhe::core_crypto::commons::generators::NoiseRandomGenerator;
use tfhe::core_crypto::commons::math::random::Seed;
use tfhe::core_crypto::prelude::*;

/// A circuit compiled under one parameter set. Equal circuits compile to equal programs, on both sides.
#[derive(Debug)]
pub struct Program {
    circuit: Circuit,
    set: ParameterSet,
    layout: Layout,
    groups: Vec<Vec<usize>>,
    digest: Digest,
    plan: Plan,
}

/// A query that cannot be evaluated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The bytes are not a query of this program.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Encrypted under another key than the serving key's.
    #[error("the query is encrypted under key {query}, the serving key belongs to {serving}")]
    ForeignKey {
        /// The query's key.
        query: Digest,
        /// The serving key's.
        serving: Digest,
    },
    /// The serving key is of another parameter set.
    #[error("the serving key is of the parameter set {found}, the program of {expected}")]
    Parameters {
        /// The key's set.
        found: &'static str,
        /// The program's.
        expected: &'static str,
    },
    /// The caller asked to stop.
    #[error("the evaluation was cancelled")]
    Cancelled,
    /// No randomness for the answer.
    #[error(transparent)]
    Random(#[from] RandomError),
}

impl Program {
    pub(crate) fn from_parts(
        circuit: Circuit,
        set: ParameterSet,
        layout: Layout,
        digest: Digest,
        plan: Plan,
    ) -> Self {
        Self {
            groups: circuit.groups(),
            circuit,
            set,
            layout,
            digest,
            plan,
        }
    }

    /// The circuit.
    pub fn circuit(&self) -> &Circuit {
        &self.circuit
    }

    /// The parameter set.
    pub fn parameters(&self) -> &ParameterSet {
        &self.set
    }

    /// What it needs, costs and promises.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What names it in queries and answers: circuit and parameters.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Evaluates a query without seeing it.
    ///
    /// Answers are re-randomised under the querier's public key and their noise is covered by uniform noise, as [`Plan::flooding_bits`]
    /// says: the masks of an answer are fresh, so that they say nothing of the weights.
    ///
    /// `progress` gets bootstraps done and in all, from several threads; evaluation stops when it returns `false`.
    pub fn run(
        &self,
        key: &EvaluationKey,
        query: &Query,
        progress: &(dyn Fn(usize, usize) -> bool + Sync),
    ) -> Result<Answer, RunError> {
        if key.set != self.set {
            return Err(RunError::Parameters {
                found: key.set.name(),
                expected: self.set.name(),
            });
        }
        query.check(self)?;
        if query.key() != key.id {
            return Err(RunError::ForeignKey {
                query: query.key(),
                serving: key.id,
            });
        }
        let fft = Fft::new(PolynomialSize(self.set.polynomial_size()));
        let meter = Meter {
            done: AtomicUsize::new(0),
            all: self.plan.bootstraps * query.patients(),
            go: AtomicBool::new(true),
            progress,
        };
        let machine = Machine {
            program: self,
            key,
            fft: fft.as_view(),
            meter: &meter,
            // Either patients or look-ups are divided among the threads, never both: a thread that waits for a part of one patient
            // would begin with the next, and hold the ciphertexts of several.
            by_patient: query.patients() >= rayon::current_num_threads(),
        };
        let patient = |patient| {
            let (small, big) = query.expand(self, patient);
            machine.patient(small, big)
        };
        let patients = 0..query.patients();
        let rows: Result<Vec<Vec<u64>>, RunError> = match machine.by_patient {
            true => patients.into_par_iter().map(patient).collect(),
            false => patients.map(patient).collect(),
        };
        Ok(Answer::new(self.digest, key.id, query.patients(), rows?.concat()))
    }

    /// The same on the bytes of a query.
    pub fn answer(
        &self,
        key: &EvaluationKey,
        query: &[u8],
        progress: &(dyn Fn(usize, usize) -> bool + Sync),
    ) -> Result<Vec<u8>, RunError> {
        let query = Query::from_bytes(self, query)?;
        Ok(self.run(key, &query, progress)?.to_bytes())
    }
}

/// Counts bootstraps.
struct Meter<'a> {
    done: AtomicUsize,
    all: usize,
    go: AtomicBool,
    progress: &'a (dyn Fn(usize, usize) -> bool + Sync),
}

impl Meter<'_> {
    fn step(&self) -> Result<(), RunError> {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        if !(self.progress)(done, self.all) {
            self.go.store(false, Ordering::Relaxed);
        }
        if self.go.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err(RunError::Cancelled)
        }
    }
}

/// A sum in two parts: one in dimension n, one in dimension N (if anything is in it).
struct Split {
    small: Vec<u64>,
    big: Vec<u64>,
    used: bool,
}

struct Machine<'a> {
    program: &'a Program,
    key: &'a EvaluationKey,
    fft: FftView<'a>,
    meter: &'a Meter<'a>,
    by_patient: bool,
}

impl Machine<'_> {
    /// The outputs' ciphertexts of one patient, one after another.
    fn patient(&self, small: Vec<Vec<u64>>, big: Vec<Vec<u64>>) -> Result<Vec<u64>, RunError> {
        let circuit = &self.program.circuit;
        let layout = &self.program.layout;
        let wires = circuit.inputs() + circuit.lookups().len();
        let (mut narrow, mut wide) = (vec![Vec::new(); circuit.inputs()], vec![Vec::new(); wires]);
        for (&input, ciphertext) in layout.scales.small_inputs.iter().zip(small) {
            narrow[input] = ciphertext;
        }
        for (&input, ciphertext) in layout.scales.big_inputs.iter().zip(big) {
            wide[input] = ciphertext;
        }
        for group in &self.program.groups {
            let mut buffers = ComputationBuffers::new();
            let lookup = |buffers: &mut ComputationBuffers, &index: &usize| {
                self.lookup(index, &narrow, &wide, buffers)
            };
            let results: Result<Vec<Vec<u64>>, RunError> = match self.by_patient {
                true => group.iter().map(|index| lookup(&mut buffers, index)).collect(),
                false => group
                    .par_iter()
                    .map_init(ComputationBuffers::new, lookup)
                    .collect(),
            };
            for (&index, result) in group.iter().zip(results?) {
                wide[circuit.inputs() + index] = result;
            }
        }
        let mut words =
            Vec::with_capacity(circuit.outputs().len() * (self.program.set.polynomial_size() + 1));
        for index in 0..circuit.outputs().len() {
            words.extend(self.output(index, &wide)?);
        }
        Ok(words)
    }

    fn lookup(
        &self,
        index: usize,
        narrow: &[Vec<u64>],
        wide: &[Vec<u64>],
        buffers: &mut ComputationBuffers,
    ) -> Result<Vec<u64>, RunError> {
        let coded = &self.program.layout.coded[index];
        let mut sum = self.sum(&self.program.circuit.lookups()[index].sum, coded, narrow, wide);
        for clearing in &coded.clearings {
            let bit = self.bootstrap(&sum, &clearing.reading, buffers)?;
            add_scaled(&mut sum.big, &bit, 1);
            sum.used = true;
            add_to_body(&mut sum.small, clearing.half.wrapping_neg());
        }
        let mut result = self.bootstrap(&sum, &coded.last, buffers)?;
        let unit = 1u64 << (coded.last.scale - 1);
        add_to_body(&mut result, (coded.constant as u64).wrapping_mul(unit));
        Ok(result)
    }

    /// A look-up's sum: in dimension n if it is of inputs alone.
    fn sum(&self, sum: &Sum, coded: &Coded, narrow: &[Vec<u64>], wide: &[Vec<u64>]) -> Split {
        let set = &self.program.set;
        let mut split = Split {
            small: vec![0; set.lwe_dimension() + 1],
            big: vec![0; set.polynomial_size() + 1],
            used: false,
        };
        split.used = is_wide(sum, narrow.len(), self.program.layout.wide);
        for &(wire, weight) in &sum.terms {
            let factor = self.factor(wire, weight, coded.exponent, split.used);
            match split.used {
                true => add_scaled(&mut split.big, &wide[wire], factor),
                false => add_scaled(&mut split.small, &narrow[wire], factor),
            }
        }
        let constant = (sum.constant + coded.offset) as u64;
        add_to_body(&mut split.small, constant.wrapping_mul(1 << coded.exponent));
        split
    }

    fn factor(&self, wire: usize, weight: i64, exponent: u32, big: bool) -> u64 {
        let (weight, places) = self.program.layout.scales.factor(wire, weight, exponent, big);
        (weight as u64).wrapping_mul(1 << places)
    }

    /// Reads a sum and writes the table's entry, in dimension N.
    fn bootstrap(
        &self,
        sum: &Split,
        reading: &Reading,
        buffers: &mut ComputationBuffers,
    ) -> Result<Vec<u64>, RunError> {
        let set = &self.program.set;
        let (size, lift) = (set.polynomial_size(), 1u64 << reading.lift);
        let mut input = vec![0u64; set.lwe_dimension() + 1];
        if sum.used {
            let mut lifted = vec![0u64; size + 1];
            add_scaled(&mut lifted, &sum.big, lift);
            let mut switched = LweCiphertext::from_container(input.as_mut_slice(), modulus());
            let lifted = LweCiphertext::from_container(lifted.as_slice(), modulus());
            keyswitch_lwe_ciphertext(&self.key.keyswitch, &lifted, &mut switched);
        }
        add_scaled(&mut input, &sum.small, lift);
        add_to_body(&mut input, reading.centre.wrapping_neg());
        let log_modulus = PolynomialSize(size).to_blind_rotation_input_modulus_log();
        let input = LweCiphertext::from_container(input.as_slice(), modulus());
        let rotation = lwe_ciphertext_centered_binary_modulus_switch::<u64, usize, _>(input, log_modulus);
        let mut table = vec![0u64; size];
        table.extend(reading.polynomial(size));
        let mut accumulator = GlweCiphertext::from_container(table, PolynomialSize(size), modulus());
        let need = blind_rotate_assign_mem_optimized_requirement::<u64>(
            GlweDimension(1).to_glwe_size(),
            PolynomialSize(size),
            self.fft,
        );
        buffers.resize(need.unaligned_bytes_required());
        blind_rotate_assign_mem_optimized(
            &rotation,
            &mut accumulator,
            &self.key.bootstrap,
            self.fft,
            buffers.stack(),
        );
        let mut output = LweCiphertext::new(0u64, LweDimension(size).to_lwe_size(), modulus());
        extract_lwe_sample_from_glwe_ciphertext(&accumulator, &mut output, MonomialDegree(0));
        self.meter.step()?;
        Ok(output.into_container())
    }

    /// An output, re-randomised: a fresh encryption of uniform noise is added.
    fn output(&self, index: usize, wide: &[Vec<u64>]) -> Result<Vec<u64>, RunError> {
        let (circuit, layout, set) = (&self.program.circuit, &self.program.layout, &self.program.set);
        let (sum, range, exponent) = (
            &circuit.outputs()[index],
            circuit.output_ranges()[index],
            layout.outputs[index],
        );
        let mut seeder = seeder()?;
        let mut noise = NoiseRandomGenerator::<Generator>::new(&mut seeder);
        let flood = Layout::flood(exponent);
        let Seed(random) = seeder.seed();
        let uniform = (random as u64 & (2 * flood - 1)).wrapping_sub(flood);
        let size = set.polynomial_size();
        let mut result = LweCiphertext::new(0u64, LweDimension(size).to_lwe_size(), modulus());
        encrypt_lwe_ciphertext_with_compact_public_key(
            &self.key.public,
            &mut result,
            Plaintext(uniform),
            set.glwe_noise(),
            set.glwe_noise(),
            &mut noise,
        );
        let mut words = result.into_container();
        for &(wire, weight) in &sum.terms {
            add_scaled(&mut words, &wide[wire], self.factor(wire, weight, exponent, true));
        }
        let constant = (sum.constant - range.min) as u64;
        add_to_body(&mut words, constant.wrapping_mul(1 << exponent));
        Ok(words)
    }
}

/// `to += factor * from`, modulo 2^64.
fn add_scaled(to: &mut [u64], from: &[u64], factor: u64) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = to.wrapping_add(from.wrapping_mul(factor));
    }
}

fn add_to_body(ciphertext: &mut [u64], value: u64) {
    if let Some(body) = ciphertext.last_mut() {
        *body = body.wrapping_add(value);
    }
}
