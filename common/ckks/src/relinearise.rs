//! Relinearisation: from degree 2 back to degree 1 by hybrid key switching.

use crate::ciphertext::Ciphertext;
use crate::error::CkksError;
use crate::evaluate::{Evaluator, header};
use crate::keys::RelinKey;
use galen_rns::kernel;
use galen_rns::poly::{Eval, Poly};

impl Evaluator {
    /// Brings a ciphertext of degree 2 to degree 1; one of degree 1 comes back as it is.
    ///
    /// # Errors
    /// [`CkksError::KeyMismatch`], [`CkksError::PresetMismatch`], [`CkksError::Overflow`],
    /// [`CkksError::Precision`].
    pub fn relinearise(&self, a: &Ciphertext, key: &RelinKey) -> Result<Ciphertext, CkksError> {
        self.check_preset(a)?;
        if key.context.digest() != self.context().digest() {
            return Err(CkksError::PresetMismatch);
        }
        if key.digest() != a.key {
            return Err(CkksError::KeyMismatch);
        }
        let [c0, c1, c2] = a.parts.as_slice() else {
            return Ok(a.clone());
        };
        let budget = a.budget.plus_noise(self.context().at(a.level)?.switching.noise);
        self.check_budget(a.level, &budget)?;
        let (mut d0, mut d1) = self.switch(c2, a.level, key)?;
        d0.add_assign(c0)?;
        d1.add_assign(c1)?;
        Ok(Ciphertext {
            budget,
            parts: vec![d0, d1],
            seed: None,
            ..header(a)
        })
    }

    /// `(d0, d1)` with `d0 + d1 s = part * s^2` and a little noise.
    fn switch(
        &self,
        part: &Poly<Eval>,
        level: usize,
        key: &RelinKey,
    ) -> Result<(Poly<Eval>, Poly<Eval>), CkksError> {
        let switching = &self.context().at(level)?.switching;
        let degree = self.context().degree();
        let own = level + 1;
        // Residues of the key for this level's primes come first; those of the special primes after all of Q.
        let skipped = self.context().max_level() - level;
        let key_row = |prime: usize| if prime < own { prime } else { prime + skipped };
        let coefficients = part.clone().into_coeff();
        let (mut sum0, mut sum1) = (
            Poly::<Eval>::zero(&switching.ring),
            Poly::<Eval>::zero(&switching.ring),
        );
        let others = switching.ring.moduli().len();
        let mut converted = vec![0u64; others * degree];
        for (digit, (b, a)) in switching.digits.iter().zip(&key.digits) {
            let (start, end) = (digit.start, digit.end);
            let out = &mut converted[..(others - (end - start)) * degree];
            digit
                .converter
                .convert(&coefficients.data()[start * degree..end * degree], out)?;
            for prime in 0..others {
                let residues = if (start..end).contains(&prime) {
                    // Modulo its own primes a digit is what it was before the inverse transform.
                    part.residues(prime)
                } else {
                    let row = if prime < start {
                        prime
                    } else {
                        prime - (end - start)
                    };
                    let residues = &mut out[row * degree..(row + 1) * degree];
                    switching.ring.ntt(prime).forward(residues);
                    &*residues
                };
                let m = &switching.ring.moduli()[prime];
                kernel::mul_add_assign(m, sum0.residues_mut(prime), residues, b.residues(key_row(prime)));
                kernel::mul_add_assign(m, sum1.residues_mut(prime), residues, a.residues(key_row(prime)));
            }
        }
        Ok((
            switching.down.apply_eval(&sum0)?,
            switching.down.apply_eval(&sum1)?,
        ))
    }
}
