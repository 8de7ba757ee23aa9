//! A circuit's operations on ciphertexts.

use crate::circuit::Arithmetic;
use galen_ckks::CkksError;
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::context::Target;
use galen_ckks::evaluate::Evaluator;
use galen_ckks::keys::RelinKey;

/// Computes with ciphertexts.
pub(crate) struct Encrypted<'a> {
    pub(crate) evaluator: Evaluator,
    pub(crate) relin: &'a RelinKey,
}

impl Arithmetic for Encrypted<'_> {
    type Value = Ciphertext;

    fn linear(
        &self,
        inputs: &[&Ciphertext],
        rows: &[&[f64]],
        target: Target,
    ) -> Result<Vec<Ciphertext>, CkksError> {
        self.evaluator.linear(inputs, rows, target)
    }

    fn add(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext, CkksError> {
        self.evaluator.add(a, b)
    }

    fn sub(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext, CkksError> {
        self.evaluator.sub(a, b)
    }

    fn add_scalar(&self, a: &Ciphertext, constant: f64) -> Result<Ciphertext, CkksError> {
        self.evaluator.add_scalar(a, constant)
    }

    fn square(&self, a: &Ciphertext) -> Result<Ciphertext, CkksError> {
        self.evaluator.square(a)
    }

    fn relinearise(&self, a: &Ciphertext) -> Result<Ciphertext, CkksError> {
        self.evaluator.relinearise(a, self.relin)
    }

    fn rescale(&self, a: &Ciphertext) -> Result<Ciphertext, CkksError> {
        self.evaluator.rescale(a)
    }
}
