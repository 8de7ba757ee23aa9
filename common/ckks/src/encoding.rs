//! Real and complex vectors to polynomials and back.

mod composition;
mod rounding;

use crate::ciphertext::{Plaintext, check_magnitude};
use crate::context::{Context, check_scale};
use crate::error::CkksError;
use crate::noise::Budget;
use galen_rns::modulus::Modulus;
use galen_rns::poly::{Eval, Poly};
use galen_rns::ring::{Ring, RingKind};
use galen_rns::vectorise::{Loop, vectorised};
use rounding::Integers;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Coefficients of encodings are below this: they are exact in `i128`.
const MAX_LOG2_COEFFICIENT: i32 = 120;

impl Context {
    /// Encodes up to [`Self::slots`] real values at the top level and its nominal scale; see [`Self::encode_at`].
    ///
    /// # Errors
    /// Those of [`Self::encode_at`].
    pub fn encode(&self, values: &[f64], magnitude: f64) -> Result<Plaintext, CkksError> {
        let level = self.max_level();
        self.encode_at(values, magnitude, level, self.scale(level)?)
    }

    /// Encodes 1 to [`Self::slots`] real values at a level and scale; the slots that remain hold zero.
    ///
    /// `magnitude` bounds the absolute values. It goes with the ciphertext in clear, so it must come from what is
    /// public (the range in the data schema), never from the values.
    ///
    /// # Errors
    /// [`CkksError::Count`], [`CkksError::InvalidNumber`] or [`CkksError::Magnitude`] for the values,
    /// [`CkksError::InvalidScale`], [`CkksError::LevelRange`], [`CkksError::Overflow`].
    pub fn encode_at(
        &self,
        values: &[f64],
        magnitude: f64,
        level: usize,
        scale: f64,
    ) -> Result<Plaintext, CkksError> {
        let (budget, poly) = self.encode_over(self.ring(level)?, values, magnitude, level, scale)?;
        Ok(Plaintext {
            preset: *self.digest(),
            level,
            slots: values.len(),
            budget,
            poly,
        })
    }

    /// [`Self::encode`] into a plaintext that exists, whose memory is reused.
    ///
    /// # Errors
    /// Those of [`Self::encode_at`]; `out` is then as it was.
    pub fn encode_into(&self, values: &[f64], magnitude: f64, out: &mut Plaintext) -> Result<(), CkksError> {
        let level = self.max_level();
        self.encode_at_into(values, magnitude, level, self.scale(level)?, out)
    }

    /// [`Self::encode_at`] into a plaintext that exists, whose memory is reused.
    ///
    /// # Errors
    /// Those of [`Self::encode_at`]; `out` is then as it was.
    pub fn encode_at_into(
        &self,
        values: &[f64],
        magnitude: f64,
        level: usize,
        scale: f64,
        out: &mut Plaintext,
    ) -> Result<(), CkksError> {
        let ring = self.ring(level)?;
        self.check_values(values, magnitude)?;
        out.budget = self.encoding_budget(magnitude, level, scale)?;
        out.poly.reshape(ring);
        self.write_scaled(values, &[], scale, &mut out.poly);
        (out.preset, out.level, out.slots) = (*self.digest(), level, values.len());
        Ok(())
    }

    /// Encodes complex values, given by as many real as imaginary parts, which `magnitude` bounds by absolute value.
    ///
    /// # Errors
    /// Those of [`Self::encode_at`]; [`CkksError::Count`] if there are more or fewer imaginary parts than real ones, and
    /// [`CkksError::NoConjugation`] in the conjugate-invariant ring, whose slots are real.
    pub fn encode_complex_at(
        &self,
        re: &[f64],
        im: &[f64],
        magnitude: f64,
        level: usize,
        scale: f64,
    ) -> Result<Plaintext, CkksError> {
        self.check_complex()?;
        if im.len() != re.len() {
            return Err(CkksError::Count {
                count: im.len(),
                min: re.len(),
                max: re.len(),
            });
        }
        self.check_values(re, magnitude)?;
        self.check_values(im, magnitude)?;
        if let Some(index) = re
            .iter()
            .zip(im)
            .position(|(x, y)| x * x + y * y > magnitude * magnitude)
        {
            return Err(CkksError::Magnitude { index, magnitude });
        }
        let budget = self.encoding_budget(magnitude, level, scale)?;
        Ok(Plaintext {
            preset: *self.digest(),
            level,
            slots: re.len(),
            budget,
            poly: self.scaled(self.ring(level)?, re, im, scale),
        })
    }

    /// [`Self::encode_at`] for a ring that has the level's primes and others.
    pub(crate) fn encode_over(
        &self,
        ring: &Arc<Ring>,
        values: &[f64],
        magnitude: f64,
        level: usize,
        scale: f64,
    ) -> Result<(Budget, Poly<Eval>), CkksError> {
        self.check_values(values, magnitude)?;
        let budget = self.encoding_budget(magnitude, level, scale)?;
        Ok((budget, self.scaled(ring, values, &[], scale)))
    }

    fn check_values(&self, values: &[f64], magnitude: f64) -> Result<(), CkksError> {
        let (count, max) = (values.len(), self.slots());
        if !(1..=max).contains(&count) {
            return Err(CkksError::Count { count, min: 1, max });
        }
        check_magnitude(magnitude)?;
        // What is not a number is not within a bound either.
        if vectorised(AllWithin(values, magnitude)) {
            return Ok(());
        }
        for (index, &value) in values.iter().enumerate() {
            if !value.is_finite() {
                return Err(CkksError::InvalidNumber { index, value });
            }
        }
        let index = values
            .iter()
            .position(|x| x.abs() > magnitude)
            .unwrap_or_default();
        Err(CkksError::Magnitude { index, magnitude })
    }

    fn check_complex(&self) -> Result<(), CkksError> {
        match self.preset().spec().ring {
            RingKind::Cyclotomic => Ok(()),
            RingKind::ConjugateInvariant => Err(CkksError::NoConjugation),
        }
    }

    fn encoding_budget(&self, magnitude: f64, level: usize, scale: f64) -> Result<Budget, CkksError> {
        check_scale(scale)?;
        let budget = Budget {
            scale,
            magnitude,
            noise: self.noise.encoding(scale * magnitude),
        };
        budget.check_fits(self.log2_q(level)?.min(f64::from(MAX_LOG2_COEFFICIENT)))?;
        Ok(budget)
    }

    fn scaled(&self, ring: &Arc<Ring>, re: &[f64], im: &[f64], scale: f64) -> Poly<Eval> {
        let mut poly = Poly::zero(ring);
        self.write_scaled(re, im, scale, &mut poly);
        poly
    }

    /// The integer polynomial nearest to that with the values `scale * (re + i im)` in its slots, those that are not given
    /// being zero.
    fn write_scaled(&self, re: &[f64], im: &[f64], scale: f64, poly: &mut Poly<Eval>) {
        let slots = self.slots();
        let [mut slots_re, mut slots_im] = [re, im].map(|values| {
            let mut part = Zeroizing::new(vec![0.0; slots]);
            part.iter_mut()
                .zip(values)
                .for_each(|(x, &value)| *x = value * scale);
            part
        });
        let mut coefficients = Zeroizing::new(vec![0.0; self.degree()]);
        self.embedding
            .coefficients(&mut slots_re, &mut slots_im, &mut coefficients);
        let integers = Integers::nearest(&coefficients);
        let ring = Arc::clone(poly.ring());
        for (index, m) in ring.moduli().iter().enumerate() {
            let row = poly.residues_mut(index);
            integers.residues(m, row);
            ring.ntt(index).forward(row);
        }
    }

    /// The slot values of a plaintext, as they are, with all their noise; their real parts where they are complex.
    ///
    /// Only for whoever holds the key. A raw decoding that is passed on gives the key away (Li and Micciancio, ePrint
    /// 2020/1533); pass on what [`Self::decode_rounded`] returns.
    ///
    /// # Errors
    /// [`CkksError::PresetMismatch`].
    pub fn decode(&self, plaintext: &Plaintext) -> Result<Vec<f64>, CkksError> {
        let (re, _) = self.slot_values(plaintext)?;
        Ok(re
            .iter()
            .take(plaintext.slots)
            .map(|x| x / plaintext.budget.scale)
            .collect())
    }

    /// Real and imaginary parts of the slot values of a plaintext, under the caution of [`Self::decode`].
    ///
    /// # Errors
    /// [`CkksError::PresetMismatch`]; [`CkksError::NoConjugation`] in the conjugate-invariant ring.
    pub fn decode_complex(&self, plaintext: &Plaintext) -> Result<(Vec<f64>, Vec<f64>), CkksError> {
        self.check_complex()?;
        let (re, im) = self.slot_values(plaintext)?;
        let [re, im] = [re, im].map(|part| {
            let values = part.iter().take(plaintext.slots);
            values.map(|x| x / plaintext.budget.scale).collect()
        });
        Ok((re, im))
    }

    /// Real and imaginary parts in all slots, times the scale.
    #[expect(clippy::type_complexity, reason = "two wiped vectors")]
    fn slot_values(
        &self,
        plaintext: &Plaintext,
    ) -> Result<(Zeroizing<Vec<f64>>, Zeroizing<Vec<f64>>), CkksError> {
        if plaintext.preset != *self.digest() {
            return Err(CkksError::PresetMismatch);
        }
        let mut coefficients = Zeroizing::new(vec![0.0; self.degree()]);
        composition::coefficients(&plaintext.poly, plaintext.budget.needed_bits(), &mut coefficients)?;
        let [mut re, mut im] = [(); 2].map(|()| Zeroizing::new(vec![0.0; self.slots()]));
        self.embedding.evaluations(&coefficients, &mut re, &mut im);
        Ok((re, im))
    }

    /// The slot values of a plaintext, rounded to multiples of `2^-bits`.
    ///
    /// # Errors
    /// [`CkksError::Precision`] if fewer bits are planned than asked for, [`CkksError::PresetMismatch`].
    pub fn decode_rounded(&self, plaintext: &Plaintext, bits: u32) -> Result<Vec<f64>, CkksError> {
        plaintext.budget.check_precision(f64::from(bits))?;
        let unit = f64::from(bits).exp2();
        let mut values = self.decode(plaintext)?;
        // A zero without sign: the sign of a rounded-away value is noise.
        values
            .iter_mut()
            .for_each(|x| *x = (*x * unit).round() / unit + 0.0);
        Ok(values)
    }
}

/// The integer nearest to `value * scale`, modulo each prime, and itself. It is below `2^120` in absolute value.
///
/// # Errors
/// [`CkksError::InvalidNumber`] if it is not.
pub(crate) fn scaled_integer(index: usize, value: f64, scale: f64) -> Result<(i128, f64), CkksError> {
    let exact = value * scale;
    if exact.is_finite() && exact.abs() < f64::from(MAX_LOG2_COEFFICIENT).exp2() {
        return Ok((exact.round() as i128, exact));
    }
    Err(CkksError::InvalidNumber { index, value })
}

/// A whole number modulo a prime, exactly: what is beyond 2^53 is 53 bits times a power of two. Scales of squares that are not divided yet
/// take constants beyond what fits into an `i128`.
pub(crate) fn residue_of_whole(m: &Modulus, whole: f64) -> u64 {
    const FRACTION_BITS: u32 = f64::MANTISSA_DIGITS - 1;
    // The exponent of the last of those bits, with the bias of the format.
    const BIAS: u64 = 1023 + FRACTION_BITS as u64;
    if whole.abs() < f64::from(MAX_LOG2_COEFFICIENT).exp2() {
        return m.reduce_i128(whole as i128);
    }
    let bits = whole.to_bits();
    let exponent = (bits >> FRACTION_BITS & 0x7ff).saturating_sub(BIAS);
    let significand = i128::from(bits & ((1 << FRACTION_BITS) - 1) | 1 << FRACTION_BITS);
    let odd = m.reduce_i128(if whole < 0.0 { -significand } else { significand });
    m.mul(odd, m.pow(m.reduce_u64(2), exponent))
}

struct AllWithin<'a>(&'a [f64], f64);

impl Loop for AllWithin<'_> {
    type Output = bool;

    #[inline(always)]
    fn call(self) -> bool {
        // Counted rather than searched: no early exit, so it vectorises.
        let within: u64 = self.0.iter().map(|x| u64::from(x.abs() <= self.1)).sum();
        within == self.0.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigInt;

    #[test]
    fn whole_numbers_of_any_size_have_their_residues() {
        let m = Modulus::new(1_125_899_906_826_241).unwrap();
        let mut exact = BigInt::from(1);
        let mut whole = 1.0;
        // 3 * 2^k and 2^k - 2^(k-50), up to the largest exponent.
        for _ in 0..1020 {
            let near = &exact * ((1i64 << 50) - 1);
            let cases = [
                (3.0 * whole, &exact * 3),
                (((1i64 << 50) - 1) as f64 * whole, near),
            ];
            for (whole, exact) in cases.into_iter().filter(|(whole, _)| whole.is_finite()) {
                for (whole, exact) in [(whole, exact.clone()), (-whole, -exact)] {
                    let q = BigInt::from(m.value());
                    let expected = ((exact % &q) + &q) % &q;
                    assert_eq!(BigInt::from(residue_of_whole(&m, whole)), expected, "{whole:e}");
                }
            }
            exact *= 2;
            whole *= 2.0;
        }
    }
}
