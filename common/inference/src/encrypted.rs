//! A circuit's operations on ciphertexts.

use crate::circuit::{Arithmetic, Size};
use galen_ckks::CkksError;
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::context::Target;
use galen_ckks::evaluate::Evaluator;
use galen_ckks::keys::RelinKey;
use galen_ckks::linear::LinearMap;

/// Computes with ciphertexts.
pub(crate) struct Encrypted<'a> {
    pub(crate) evaluator: Evaluator,
    pub(crate) relin: &'a RelinKey,
}

impl Arithmetic for Encrypted<'_> {
    type Value = Ciphertext;

    fn apply(
        &self,
        map: &LinearMap,
        inputs: &[&Ciphertext],
        target: Target,
    ) -> Result<Vec<Ciphertext>, CkksError> {
        self.evaluator.apply(map, inputs, target)
    }

    fn square(&self, a: &Ciphertext) -> Result<Ciphertext, CkksError> {
        self.evaluator.square(a)
    }

    fn square_divided(&self, a: &Ciphertext, divisions: usize) -> Result<Ciphertext, CkksError> {
        let Some(left) = divisions.checked_sub(1) else {
            return self.evaluator.relinearise(&self.evaluator.square(a)?, self.relin);
        };
        let mut square = self.evaluator.square_relin_rescale(a, self.relin)?;
        for _ in 0..left {
            self.evaluator.rescale_assign(&mut square)?;
        }
        Ok(square)
    }

    fn finish(&self, mut sum: Ciphertext, constant: f64, divisions: usize) -> Result<Ciphertext, CkksError> {
        // Added before the division, where the scale is finest.
        self.evaluator.add_scalar_assign(&mut sum, constant)?;
        let mut left = divisions;
        if sum.degree() == 2 {
            sum = if divisions == 0 {
                self.evaluator.relinearise(&sum, self.relin)?
            } else {
                left -= 1;
                self.evaluator.relin_rescale(&sum, self.relin)?
            };
        }
        for _ in 0..left {
            self.evaluator.rescale_assign(&mut sum)?;
        }
        Ok(sum)
    }

    fn at_level(&self, mut a: Ciphertext, level: usize) -> Result<Ciphertext, CkksError> {
        self.evaluator.drop_level_assign(&mut a, level)?;
        Ok(a)
    }

    fn within(&self, a: Ciphertext, size: Size) -> Result<Ciphertext, CkksError> {
        let magnitude = size.largest.min(a.magnitude_bound());
        a.with_magnitude_bound(self.evaluator.context(), magnitude)
    }
}
