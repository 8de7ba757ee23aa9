//! Operations of a packed circuit on ciphertexts and on bounds.

use super::plains::Numbers;
use super::run::SlotArithmetic;
use crate::bounds::{Bound, Bounds};
use crate::circuit::{Arithmetic, Size};
use crate::encrypted::Encrypted;
use galen_ckks::CkksError;
use galen_ckks::ciphertext::{Ciphertext, Plaintext};
use galen_ckks::context::Context;
use galen_ckks::galois::GaloisKeys;
use galen_ckks::noise::Budget;
use rayon::prelude::*;

/// Computes with ciphertexts.
pub(crate) struct Rotating<'a> {
    pub(crate) inner: Encrypted<'a>,
    pub(crate) galois: &'a GaloisKeys,
}

/// Numbers as a plaintext.
pub(crate) fn encode(context: &Context, numbers: &Numbers<'_>) -> Result<Plaintext, CkksError> {
    context.encode_at(&numbers.slots(), numbers.magnitude, numbers.level, numbers.scale)
}

impl SlotArithmetic for Rotating<'_> {
    type Value = Ciphertext;
    type Plain = Plaintext;

    fn rotate(&self, a: &Ciphertext, steps: usize) -> Result<Ciphertext, CkksError> {
        self.inner.evaluator.rotate(a, steps as i64, self.galois)
    }

    fn rotate_all(&self, a: &Ciphertext, steps: &[usize]) -> Result<Vec<Ciphertext>, CkksError> {
        if let [steps] = steps {
            return Ok(vec![self.rotate(a, *steps)?]);
        }
        let evaluator = &self.inner.evaluator;
        let hoisted = evaluator.hoist(a)?;
        let rotated = steps
            .par_iter()
            .map(|&steps| evaluator.rotate_from(&hoisted, steps as i64, self.galois));
        rotated.collect()
    }

    fn products(&self, pairs: &[(&Ciphertext, &Plaintext)], row: f64) -> Result<Ciphertext, CkksError> {
        self.inner.evaluator.sum_of_plain_products_by_rows(pairs, row)
    }

    fn add(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext, CkksError> {
        self.inner.evaluator.add(a, b)
    }

    fn add_plain(&self, a: &Ciphertext, plain: &Plaintext) -> Result<Ciphertext, CkksError> {
        self.inner.evaluator.add_plain(a, plain)
    }

    fn divided(&self, mut a: Ciphertext) -> Result<Ciphertext, CkksError> {
        self.inner.evaluator.rescale_assign(&mut a)?;
        Ok(a)
    }

    fn squared(&self, a: &Ciphertext, divisions: usize) -> Result<Ciphertext, CkksError> {
        self.inner.square_divided(a, divisions)
    }

    fn lowered(&self, a: &Ciphertext, level: usize) -> Result<Ciphertext, CkksError> {
        self.inner.at_level(a.clone(), level)
    }

    fn bounded(&self, a: Ciphertext, size: Size) -> Result<Ciphertext, CkksError> {
        self.inner.within(a, size)
    }

    fn expected(&self, a: Ciphertext, noise: f64) -> Result<Ciphertext, CkksError> {
        let noise = noise.min(a.noise_bound());
        a.with_noise_bound(self.inner.evaluator.context(), noise)
    }
}

impl Bounds {
    /// What encoding makes of numbers.
    pub(crate) fn encoded(&self, numbers: &Numbers<'_>) -> Result<Budget, CkksError> {
        self.plain(numbers.magnitude, numbers.level, numbers.scale)
    }
}

impl SlotArithmetic for Bounds {
    type Value = Bound;
    type Plain = Budget;

    fn rotate(&self, a: &Bound, _: usize) -> Result<Bound, CkksError> {
        self.noisier(a, 1, self.switching(a.level).1)
    }

    fn rotate_all(&self, a: &Bound, steps: &[usize]) -> Result<Vec<Bound>, CkksError> {
        steps.iter().map(|&steps| self.rotate(a, steps)).collect()
    }

    fn products(&self, pairs: &[(&Bound, &Budget)], row: f64) -> Result<Bound, CkksError> {
        let products = pairs.iter().map(|(a, plain)| (&a.budget, *plain));
        let budget = Budget::sum_of_products(products, row);
        let (Some((first, _)), Some(budget)) = (pairs.first(), budget) else {
            return Err(CkksError::Count {
                count: 0,
                min: 1,
                max: usize::MAX,
            });
        };
        self.checked(Bound { budget, ..**first })
    }

    fn add(&self, a: &Bound, b: &Bound) -> Result<Bound, CkksError> {
        self.checked(Bound {
            budget: a.budget.sum(&b.budget),
            ..*a
        })
    }

    fn add_plain(&self, a: &Bound, plain: &Budget) -> Result<Bound, CkksError> {
        self.checked(Bound {
            budget: a.budget.sum(plain),
            ..*a
        })
    }

    fn divided(&self, a: Bound) -> Result<Bound, CkksError> {
        self.rescaled(&a)
    }

    fn squared(&self, a: &Bound, divisions: usize) -> Result<Bound, CkksError> {
        self.square_divided(a, divisions)
    }

    fn lowered(&self, a: &Bound, level: usize) -> Result<Bound, CkksError> {
        self.at_level(*a, level)
    }

    fn bounded(&self, a: Bound, size: Size) -> Result<Bound, CkksError> {
        self.within(a, size)
    }

    fn expected(&self, a: Bound, noise: f64) -> Result<Bound, CkksError> {
        let budget = Budget {
            noise: noise.min(a.budget.noise),
            ..a.budget
        };
        self.checked(Bound {
            budget,
            expected: noise,
            ..a
        })
    }
}
