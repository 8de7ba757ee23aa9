//! The querier's half: encrypting patients and reading answers.

use crate::codec::{ANSWER_HEADER, CodecError, Kind, MAX_PATIENTS, QUERY_HEADER, Reader, SEED, Writer};
use crate::keys::{ClientKey, ServingKey, expand_list, modulus, seeder};
use crate::program::Program;
use galen_core::Digest;
use galen_core::random::RandomError;
use std::sync::Arc;
use tfhe::core_crypto::commons::math::random::{CompressionSeed, Seed};
use tfhe::core_crypto::prelude::*;
use zeroize::Zeroizing;

/// Patients, encrypted for one program.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    program: Digest,
    key: Digest,
    patients: Vec<Patient>,
}

/// One patient's ciphertexts, in dimension n and in dimension N.
#[derive(Clone, Debug, PartialEq)]
struct Patient {
    small: Seeded,
    big: Seeded,
}

/// Ciphertexts under one seed: their masks follow from it.
#[derive(Clone, Debug, PartialEq)]
struct Seeded {
    seed: u128,
    bodies: Vec<u64>,
}

impl Query {
    /// Number of patients.
    pub fn patients(&self) -> usize {
        self.patients.len()
    }

    /// The name of the key that it is encrypted under.
    pub fn key(&self) -> Digest {
        self.key
    }

    /// As bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let lists = || {
            self.patients
                .iter()
                .flat_map(|patient| [&patient.small, &patient.big])
        };
        let capacity = QUERY_HEADER + lists().map(|list| SEED + 8 * list.bodies.len()).sum::<usize>();
        let mut writer = Writer::new(Kind::Query, &self.program, &self.key, capacity);
        writer.patients(self.patients.len());
        for list in lists() {
            writer.seed(list.seed);
            writer.words(&list.bodies);
        }
        writer.finish()
    }

    /// From bytes; refuses everything that is not a query of this program.
    pub fn from_bytes(program: &Program, bytes: &[u8]) -> Result<Self, CodecError> {
        let (mut reader, key) = Reader::new(Kind::Query, &program.digest(), bytes)?;
        let patients = reader.patients()?;
        reader.length(QUERY_HEADER + patients * program.plan().query_bytes_per_patient)?;
        let scales = &program.layout().scales;
        let mut list = |inputs: usize| -> Result<Seeded, CodecError> {
            let (seed, bodies) = (reader.seed()?, reader.words(inputs)?);
            Ok(Seeded { seed, bodies })
        };
        let patients: Result<Vec<Patient>, CodecError> = (0..patients)
            .map(|_| {
                let (small, big) = (list(scales.small_inputs.len())?, list(scales.big_inputs.len())?);
                Ok(Patient { small, big })
            })
            .collect();
        Ok(Self {
            program: program.digest(),
            key,
            patients: patients?,
        })
    }

    /// Refuses a query of another program.
    pub(crate) fn check(&self, program: &Program) -> Result<(), CodecError> {
        if self.program == program.digest() {
            return Ok(());
        }
        Err(CodecError::Foreign {
            kind: Kind::Query,
            found: self.program,
            expected: program.digest(),
        })
    }

    /// One patient's ciphertexts, with their masks: in dimension n, and in dimension N. They are hundreds of times larger than the query, so
    /// that no more patients should be expanded than are worked on.
    pub(crate) fn expand(&self, program: &Program, patient: usize) -> (Vec<Vec<u64>>, Vec<Vec<u64>>) {
        let set = program.parameters();
        let expand = |list: &Seeded, dimension| expand_list(list.bodies.clone(), dimension, list.seed);
        self.patients
            .get(patient)
            .map_or_else(Default::default, |patient| {
                (
                    expand(&patient.small, set.lwe_dimension()),
                    expand(&patient.big, set.polynomial_size()),
                )
            })
    }
}

/// Encrypted outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    program: Digest,
    key: Digest,
    patients: usize,
    words: Vec<u64>,
}

impl Answer {
    pub(crate) fn new(program: Digest, key: Digest, patients: usize, words: Vec<u64>) -> Self {
        Self {
            program,
            key,
            patients,
            words,
        }
    }

    /// As bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let capacity = ANSWER_HEADER + 8 * self.words.len();
        let mut writer = Writer::new(Kind::Answer, &self.program, &self.key, capacity);
        writer.patients(self.patients);
        writer.words(&self.words);
        writer.finish()
    }

    /// From bytes; refuses everything that is not an answer of this program.
    pub fn from_bytes(program: &Program, bytes: &[u8]) -> Result<Self, CodecError> {
        let (mut reader, key) = Reader::new(Kind::Answer, &program.digest(), bytes)?;
        let patients = reader.patients()?;
        let each = program.plan().answer_bytes_per_patient;
        reader.length(ANSWER_HEADER + patients * each)?;
        let words = reader.words(patients * each / 8)?;
        Ok(Self::new(program.digest(), key, patients, words))
    }
}

/// Patients that cannot be encrypted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// No patients, or too many.
    #[error("{patients} patients, a query takes 1 to {MAX_PATIENTS}")]
    Patients {
        /// Patients given.
        patients: usize,
    },
    /// A row with another number of values than the circuit has inputs.
    #[error("patient {patient} has {found} values, the circuit takes {expected}")]
    Width {
        /// Index of the patient.
        patient: usize,
        /// The circuit's inputs.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// A value that the circuit was not compiled for.
    #[error("patient {patient}, input {input}: {value} is outside {min} to {max}")]
    OutOfRange {
        /// Index of the patient.
        patient: usize,
        /// Index of the input.
        input: usize,
        /// The value.
        value: i64,
        /// Smallest possible.
        min: i64,
        /// Largest possible.
        max: i64,
    },
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// The answer cannot be used. It does not say why: what a querier does on different errors would tell a dishonest coordinator about the
/// key. The same query must not be sent again under the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer cannot be used; do not send this query again under the same key")]
pub struct AnswerError;

/// Holds a secret key for one program.
#[derive(Clone, Debug)]
pub struct Querier {
    program: Arc<Program>,
    key: ClientKey,
}

impl Querier {
    /// With a fresh secret key.
    pub fn generate(program: &Arc<Program>) -> Result<Self, RandomError> {
        Ok(Self::with(program, ClientKey::generate(program.parameters())?))
    }

    /// With a key of the program's parameter set.
    pub(crate) fn with(program: &Arc<Program>, key: ClientKey) -> Self {
        Self {
            program: Arc::clone(program),
            key,
        }
    }

    /// With a secret key; `None` if it is of another parameter set.
    pub fn open(program: &Arc<Program>, key: ClientKey) -> Option<Self> {
        (key.parameters() == program.parameters()).then(|| Self::with(program, key))
    }

    /// The secret key.
    pub fn key(&self) -> &ClientKey {
        &self.key
    }

    /// The program.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// What the coordinator needs, once.
    pub fn serving_key(&self) -> ServingKey {
        self.key.serving_key()
    }

    /// Encrypts rows of circuit inputs. Nothing is encrypted if a value lies outside its range.
    pub fn encrypt<R: AsRef<[i64]>>(&self, rows: &[R]) -> Result<Query, QueryError> {
        let circuit = self.program.circuit();
        if rows.is_empty() || rows.len() > MAX_PATIENTS {
            return Err(QueryError::Patients { patients: rows.len() });
        }
        for (patient, row) in rows.iter().enumerate() {
            let row = row.as_ref();
            if row.len() != circuit.inputs() {
                return Err(QueryError::Width {
                    patient,
                    expected: circuit.inputs(),
                    found: row.len(),
                });
            }
            for (input, &value) in row.iter().enumerate() {
                if let Some(range) = circuit.range(input)
                    && !range.contains(value)
                {
                    return Err(QueryError::OutOfRange {
                        patient,
                        input,
                        value,
                        min: range.min,
                        max: range.max,
                    });
                }
            }
        }
        let set = self.program.parameters();
        let scales = &self.program.layout().scales;
        let (small, big) = (&self.key.small, &self.key.big);
        let mut seeder = seeder()?;
        let mut encrypt =
            |encoded: Zeroizing<Vec<u64>>, key: &LweSecretKeyOwned<u64>, noise: DynamicDistribution<u64>| {
                let Seed(seed) = seeder.seed();
                if encoded.is_empty() {
                    let bodies = Vec::new();
                    return Seeded { seed, bodies };
                }
                let mut list = SeededLweCiphertextList::new(
                    0u64,
                    key.lwe_dimension().to_lwe_size(),
                    LweCiphertextCount(encoded.len()),
                    CompressionSeed::from(Seed(seed)),
                    modulus(),
                );
                let plain = PlaintextList::from_container(encoded.as_slice());
                encrypt_seeded_lwe_ciphertext_list(key, &mut list, &plain, noise, &mut seeder);
                let bodies = list.into_container();
                Seeded { seed, bodies }
            };
        let encode = |row: &[i64], inputs: &[usize], exponents: &[u32]| {
            let of = |&input: &usize| (row[input] as u64).wrapping_mul(1 << exponents[input]);
            Zeroizing::new(inputs.iter().map(of).collect::<Vec<u64>>())
        };
        let patients = rows.iter().map(|row| {
            let narrow = encode(row.as_ref(), &scales.small_inputs, &scales.small);
            let wide = encode(row.as_ref(), &scales.big_inputs, &scales.big);
            Patient {
                small: encrypt(narrow, small, set.lwe_noise()),
                big: encrypt(wide, big, set.glwe_noise()),
            }
        });
        Ok(Query {
            program: self.program.digest(),
            key: self.key.id(),
            patients: patients.collect(),
        })
    }

    /// The outputs of each of a query's `patients`, from the bytes of its answer.
    ///
    /// An answer with a value outside the circuit's range is refused as a whole: no honest evaluation gives one.
    pub fn decrypt(&self, answer: &[u8], patients: usize) -> Result<Vec<Vec<i64>>, AnswerError> {
        self.outputs(answer, patients).ok_or(AnswerError)
    }

    fn outputs(&self, answer: &[u8], patients: usize) -> Option<Vec<Vec<i64>>> {
        let answer = Answer::from_bytes(&self.program, answer).ok()?;
        if answer.key != self.key.id() || answer.patients != patients {
            return None;
        }
        let size = self.program.parameters().polynomial_size() + 1;
        let outputs = self.program.circuit().outputs().len();
        let rows = answer.words.chunks_exact(size * outputs);
        rows.map(|row| self.row(row, size)).collect()
    }

    fn row(&self, words: &[u64], size: usize) -> Option<Vec<i64>> {
        let ranges = self.program.circuit().output_ranges();
        let exponents = &self.program.layout().outputs;
        let ciphertexts = words.chunks_exact(size).zip(ranges).zip(exponents);
        ciphertexts
            .map(|((words, range), &exponent)| {
                let ciphertext = LweCiphertext::from_container(words, modulus());
                let Plaintext(phase) = decrypt_lwe_ciphertext(&self.key.big, &ciphertext);
                let rounded = phase.wrapping_add(1 << (exponent - 1)) >> exponent;
                let value = range.min.checked_add(i64::try_from(rounded).ok()?)?;
                range.contains(value).then_some(value)
            })
            .collect()
    }
}
