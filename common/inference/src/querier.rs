//! The hospital's half of a query: it alone can read its patients and the answers.

use crate::interface::Interface;
use crate::packed::{Places, rotations};
use crate::plan::Precision;
use crate::serving::ServingKey;
use galen_ckks::CkksError;
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::codec::CiphertextSet;
use galen_ckks::keys::SecretKey;
use galen_models::metrics::sigmoid;
use rayon::prelude::*;
use zeroize::Zeroizing;

/// Holds a secret key, and knows of a model what its [`Interface`] says.
#[derive(Debug)]
pub struct Querier {
    interface: Interface,
    key: SecretKey,
}

/// A batch that cannot be encrypted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// No patients, or more than a batch has room for.
    #[error("{patients} patients, a batch takes 1 to {max}")]
    Patients {
        /// Patients given.
        patients: usize,
        /// Patients that a batch has room for.
        max: usize,
    },
    /// A row with another number of values than the model has inputs.
    #[error("patient {patient} has {found} values, the model takes {expected}")]
    Width {
        /// Index of the patient.
        patient: usize,
        /// The model's inputs.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// A value outside the range for which the program was compiled. It is refused rather than clamped: the answer would be another
    /// patient's.
    #[error("patient {patient}, input {input}: {value} is outside {min} to {max}")]
    OutOfRange {
        /// Index of the patient.
        patient: usize,
        /// Index of the model input.
        input: usize,
        /// The value.
        value: f64,
        /// Smallest allowed.
        min: f64,
        /// Largest allowed.
        max: f64,
    },
    /// The encryption library failed.
    #[error(transparent)]
    Ckks(#[from] CkksError),
}

/// The answer cannot be used. It does not say why: what a querier does on different errors would tell a dishonest coordinator about the
/// key. The same batch must not be sent again under the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer cannot be used; do not send this batch again under the same key")]
pub struct AnswerError;

impl Querier {
    /// With a fresh secret key.
    pub fn generate(interface: &Interface) -> Result<Self, CkksError> {
        let key = SecretKey::generate(interface.context())?;
        Ok(Self {
            interface: interface.clone(),
            key,
        })
    }

    /// With a secret key that was stored; errors if it belongs to another preset.
    pub fn open(interface: &Interface, secret: &[u8]) -> Result<Self, CkksError> {
        let key = SecretKey::from_secret_bytes(interface.context(), secret)?;
        Ok(Self {
            interface: interface.clone(),
            key,
        })
    }

    /// The secret key, to be stored encrypted.
    pub fn secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        self.key.to_secret_bytes()
    }

    /// What is known of the model.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// What the coordinator needs, once. Always the same for the same secret key.
    pub fn serving_key(&self) -> Result<ServingKey, CkksError> {
        let key = ServingKey::new(self.key.relin_key()?, self.key.public_key()?)?;
        let Some(width) = self.interface.packed_width() else {
            return Ok(key);
        };
        let context = self.interface.context();
        let galois = self.key.galois_keys(&rotations(context, width))?;
        key.with_rotations(context, width, galois)
    }

    /// Encrypts 1 to [`Interface::max_patients`] rows of model inputs: one ciphertext per input, one patient per slot, or all in one
    /// ciphertext if batches are packed.
    ///
    /// Errors before anything is encrypted if a value lies outside its public range.
    pub fn encrypt_batch<R: AsRef<[f64]> + Sync>(&self, rows: &[R]) -> Result<CiphertextSet, QueryError> {
        let context = self.interface.context();
        let ranges = self.interface.ranges();
        let max = self.interface.max_patients();
        if rows.is_empty() || rows.len() > max {
            return Err(QueryError::Patients {
                patients: rows.len(),
                max,
            });
        }
        for (patient, row) in rows.iter().enumerate() {
            let row = row.as_ref();
            if row.len() != ranges.len() {
                return Err(QueryError::Width {
                    patient,
                    expected: ranges.len(),
                    found: row.len(),
                });
            }
            let outside =
                |(_, (value, range)): &(usize, (&f64, &galen_models::Range))| !range.contains(**value);
            if let Some((input, (&value, range))) = row.iter().zip(ranges).enumerate().find(outside) {
                return Err(QueryError::OutOfRange {
                    patient,
                    input,
                    value,
                    min: range.min,
                    max: range.max,
                });
            }
        }
        if let Some(places) = self.interface.places() {
            return Ok(CiphertextSet::new(vec![self.packed(rows, places)?])?);
        }
        let (level, scale) = (self.interface.level(), self.interface.scale());
        let encrypt = |(input, range): (usize, &galen_models::Range)| {
            let column: Vec<f64> = rows.iter().map(|row| row.as_ref()[input]).collect();
            let column = Zeroizing::new(column);
            let plaintext = context.encode_at(&column, range.magnitude(), level, scale)?;
            self.key.encrypt(&plaintext)
        };
        let ciphertexts = ranges.par_iter().enumerate().map(encrypt);
        let ciphertexts = ciphertexts.collect::<Result<Vec<_>, CkksError>>()?;
        Ok(CiphertextSet::new(ciphertexts)?)
    }

    /// All values of all rows, which are within their ranges: value after value, and of each all patients; repeated with the period of the places.
    fn packed<R: AsRef<[f64]>>(&self, rows: &[R], places: &Places) -> Result<Ciphertext, CkksError> {
        let context = self.interface.context();
        let lanes = self.interface.max_patients();
        let mut slots = Zeroizing::new(vec![0.0; context.slots()]);
        for (lane, row) in rows.iter().enumerate() {
            for (&value, &place) in row.as_ref().iter().zip(&places.slots) {
                let copies = slots.iter_mut().skip(place * lanes + lane);
                copies
                    .step_by(places.period * lanes)
                    .for_each(|slot| *slot = value);
            }
        }
        let ranges = self.interface.ranges().iter();
        let largest = ranges.map(galen_models::Range::magnitude).fold(0.0, f64::max);
        let (level, scale) = (self.interface.level(), self.interface.scale());
        self.key
            .encrypt(&context.encode_at(&slots, largest, level, scale)?)
    }

    /// The probabilities of class 1 of a batch's `patients`, from the bytes of the answer of a model with one output.
    ///
    /// See [`Self::outputs`]; also errors if the model has several outputs.
    pub fn decrypt_batch(&self, answer: &[u8], patients: usize) -> Result<Vec<f64>, AnswerError> {
        let outputs = self.outputs(answer, patients)?;
        let single = |row: Vec<f64>| match row.as_slice() {
            [logit] => Ok(sigmoid(*logit)),
            _ => Err(AnswerError),
        };
        outputs.into_iter().map(single).collect()
    }

    /// The model's outputs for a batch's `patients`, a row for each, from the bytes of its answer.
    ///
    /// They are rounded to the precision that was asked for at compilation before anything else is done with them, since the raw
    /// decoding of a CKKS ciphertext tells about the key once it is shared (Li and Micciancio, ePrint 2020/1533), and checked
    /// against the range that the model can give.
    pub fn outputs(&self, answer: &[u8], patients: usize) -> Result<Vec<Vec<f64>>, AnswerError> {
        let columns = self.columns(answer, patients).ok_or(AnswerError)?;
        let row = |patient: usize| columns.iter().map(|column| column[patient]).collect();
        Ok((0..patients).map(row).collect())
    }

    fn columns(&self, answer: &[u8], patients: usize) -> Option<Vec<Vec<f64>>> {
        let context = self.interface.context();
        if answer.len() > self.interface.sizes().answer {
            return None;
        }
        let answer = CiphertextSet::from_bytes(context, answer).ok()?;
        let answers = answer.ciphertexts();
        let lanes = self.interface.max_patients();
        let needed = match self.interface.places() {
            // The outputs of the last lane of these.
            Some(_) => (self.interface.outputs().saturating_sub(1)) * lanes + patients,
            None => patients,
        };
        if patients > lanes || !self.interface.accepts(answers) || answers.iter().any(|a| a.slots() < needed)
        {
            return None;
        }
        let decoded = answers.par_iter().map(|answer| self.decoded(answer));
        let decoded = decoded.collect::<Option<Vec<Zeroizing<Vec<f64>>>>>()?;
        let column = |values: &[f64]| self.checked(values, patients);
        match (self.interface.places(), decoded.as_slice()) {
            (None, columns) => columns.iter().map(|values| column(values)).collect(),
            (Some(_), [values]) => {
                let columns = values.chunks(lanes).take(self.interface.outputs());
                columns.map(column).collect()
            }
            _ => None,
        }
    }

    /// The rounded values of all slots.
    fn decoded(&self, answer: &Ciphertext) -> Option<Zeroizing<Vec<f64>>> {
        let plaintext = self.key.decrypt(answer).ok()?;
        let context = self.interface.context();
        let bits = self.interface.rounded_bits() + self.interface.shift();
        let values = match self.interface.precision() {
            Precision::Guaranteed => context.decode_rounded(&plaintext, bits).ok()?,
            // The static bound, which the context goes by, is above what is expected.
            Precision::Expected => {
                let unit = f64::from(bits).exp2();
                let raw = Zeroizing::new(context.decode(&plaintext).ok()?);
                raw.iter().map(|x| (x * unit).round() / unit + 0.0).collect()
            }
        };
        Some(Zeroizing::new(values))
    }

    /// The outputs of the first patients, if all are possible.
    fn checked(&self, values: &[f64], patients: usize) -> Option<Vec<f64>> {
        let (rounded, shift) = (self.interface.rounded_bits(), self.interface.shift());
        let unit = f64::from(shift).exp2();
        let slack = (-f64::from(rounded)).exp2();
        let outputs: Vec<f64> = values.iter().take(patients).map(|v| v * unit).collect();
        let largest = self.interface.largest_output() + slack;
        let possible = |output: &f64| output.abs() <= largest;
        (outputs.len() == patients && outputs.iter().all(possible)).then_some(outputs)
    }
}
