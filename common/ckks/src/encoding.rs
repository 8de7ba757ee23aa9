//! Real vectors to polynomials and back.

use crate::ciphertext::{Plaintext, check_magnitude};
use crate::context::{Context, check_scale};
use crate::embedding::Complex;
use crate::error::CkksError;
use crate::noise::Budget;
use galen_rns::basis::Composer;
use galen_rns::modulus::Modulus;
use galen_rns::poly::{Coeff, Eval, Poly};
use galen_rns::ring::Ring;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Coefficients of encodings are below this: they are exact in `i128`.
const MAX_LOG2_COEFFICIENT: i32 = 120;

impl Context {
    /// Encodes up to N/2 real values at the top level and its nominal scale; see [`Self::encode_at`].
    ///
    /// # Errors
    /// Those of [`Self::encode_at`].
    pub fn encode(&self, values: &[f64], magnitude: f64) -> Result<Plaintext, CkksError> {
        let level = self.max_level();
        self.encode_at(values, magnitude, level, self.scale(level)?)
    }

    /// Encodes 1 to N/2 real values at a level and scale; the slots that remain hold zero.
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

    /// [`Self::encode_at`] over any ring of the preset; the level says what has to fit.
    pub(crate) fn encode_over(
        &self,
        ring: &Arc<Ring>,
        values: &[f64],
        magnitude: f64,
        level: usize,
        scale: f64,
    ) -> Result<(Budget, Poly<Eval>), CkksError> {
        let (count, max) = (values.len(), self.slots());
        if !(1..=max).contains(&count) {
            return Err(CkksError::Count { count, min: 1, max });
        }
        check_scale(scale)?;
        check_magnitude(magnitude)?;
        if let Some(index) = values.iter().position(|x| !x.is_finite()) {
            return Err(CkksError::InvalidNumber {
                index,
                value: values[index],
            });
        }
        if let Some(index) = values.iter().position(|x| x.abs() > magnitude) {
            return Err(CkksError::Magnitude { index, magnitude });
        }
        let budget = Budget {
            scale,
            magnitude,
            noise: self.noise.encoding(scale * magnitude),
        };
        budget.check_fits(self.log2_q(level)?.min(f64::from(MAX_LOG2_COEFFICIENT)))?;

        let mut slots = Zeroizing::new(vec![Complex::ZERO; max]);
        slots
            .iter_mut()
            .zip(values)
            .for_each(|(slot, &x)| slot.re = x * scale);
        let coefficients = Zeroizing::new(self.embedding.coefficients(&mut slots));
        Ok((budget, from_floats(ring, &coefficients)?.into_eval()))
    }

    /// The slot values of a plaintext, as they are, with all their noise.
    ///
    /// Only for whoever holds the key. A raw decoding that is passed on gives the key away (Li and Micciancio, ePrint
    /// 2020/1533); pass on what [`Self::decode_rounded`] returns.
    ///
    /// # Errors
    /// [`CkksError::PresetMismatch`].
    pub fn decode(&self, plaintext: &Plaintext) -> Result<Vec<f64>, CkksError> {
        if plaintext.preset != *self.digest() {
            return Err(CkksError::PresetMismatch);
        }
        let bits = plaintext.budget.needed_bits();
        let poly = Zeroizing::new(plaintext.poly.clone().into_coeff());
        let coefficients = Zeroizing::new(to_floats(&poly, bits)?);
        let slots = Zeroizing::new(self.embedding.evaluations(&coefficients));
        Ok(slots[..plaintext.slots]
            .iter()
            .map(|z| z.re / plaintext.budget.scale)
            .collect())
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

/// The polynomial of the nearest integers, which are below `2^120`.
fn from_floats(ring: &Arc<Ring>, coefficients: &[f64]) -> Result<Poly<Coeff>, CkksError> {
    const WORD: f64 = (1u64 << 62) as f64;
    if coefficients.iter().all(|c| c.abs() < WORD) {
        let words = Zeroizing::new(coefficients.iter().map(|c| c.round() as i64).collect::<Vec<_>>());
        return Ok(Poly::from_i64(ring, &words)?);
    }
    let mut poly = Poly::<Coeff>::zero(ring);
    for (index, m) in ring.moduli().iter().enumerate() {
        let residues = poly.residues_mut(index);
        residues
            .iter_mut()
            .zip(coefficients)
            .for_each(|(x, c)| *x = m.reduce_i128(c.round() as i128));
    }
    Ok(poly)
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

/// The centred coefficients as doubles, correct to their last place or so, given that they have at most `bits` bits
/// with their sign.
fn to_floats(poly: &Poly<Coeff>, bits: f64) -> Result<Vec<f64>, CkksError> {
    // As few primes as hold the value: usually one or two.
    let moduli = poly.ring().moduli();
    let mut room = 0.0;
    let count = moduli
        .iter()
        .position(|m| {
            room += (m.value() as f64).log2();
            room > bits + 1.0
        })
        .map_or(moduli.len(), |last| last + 1);
    let moduli = &moduli[..count];
    let mut residues = vec![0; count];
    let degree = poly.ring().degree();
    let composer = if count <= 2 {
        Some(Composer::new(moduli)?)
    } else {
        None
    };
    let mixed = MixedRadix::new(moduli)?;
    let mut out = Vec::with_capacity(degree);
    for j in 0..degree {
        for (index, x) in residues.iter_mut().enumerate() {
            *x = poly.data()[index * degree + j];
        }
        out.push(match &composer {
            Some(composer) => composer.compose_centered(&residues)? as f64,
            None => mixed.compose(&mut residues),
        });
    }
    Ok(out)
}

/// Composition of many residues through mixed-radix digits (Garner).
struct MixedRadix<'a> {
    moduli: &'a [Modulus],
    /// `inverses[i][k]` is the inverse of prime k modulo prime i, for k < i.
    inverses: Vec<Vec<u64>>,
}

impl<'a> MixedRadix<'a> {
    fn new(moduli: &'a [Modulus]) -> Result<Self, CkksError> {
        let mut inverses = Vec::with_capacity(moduli.len());
        for (i, m) in moduli.iter().enumerate() {
            let row: Option<Vec<u64>> = moduli[..i]
                .iter()
                .map(|k| m.inv(m.reduce_u64(k.value())))
                .collect();
            let repeated = galen_rns::RnsError::RepeatedModulus { modulus: m.value() };
            inverses.push(row.ok_or(repeated)?);
        }
        Ok(Self { moduli, inverses })
    }

    /// Replaces residues by digits: x = d0 + d1 q0 + d2 q0 q1 + ...
    fn digits(&self, residues: &mut [u64]) {
        for i in 1..residues.len() {
            let m = self.moduli[i];
            let mut x = residues[i];
            for (k, inverse) in self.inverses[i].iter().enumerate() {
                x = m.mul(m.sub(x, m.reduce_u64(residues[k])), *inverse);
            }
            residues[i] = x;
        }
    }

    /// The centred value. Values near half the modulus could come out with the wrong sign; bounds keep them away.
    fn compose(&self, residues: &mut [u64]) -> f64 {
        let mut negated: Vec<u64> = residues.iter().zip(self.moduli).map(|(&x, m)| m.neg(x)).collect();
        self.digits(residues);
        let last = residues.len() - 1;
        if residues[last] <= self.moduli[last].value() / 2 {
            return self.evaluate(residues);
        }
        self.digits(&mut negated);
        -self.evaluate(&negated)
    }

    fn evaluate(&self, digits: &[u64]) -> f64 {
        digits
            .iter()
            .zip(self.moduli)
            .rev()
            .fold(0.0, |x, (&d, m)| x * m.value() as f64 + d as f64)
    }
}
