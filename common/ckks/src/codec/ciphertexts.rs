//! Ciphertexts, and lists of them.

use super::wire::{HEADER_LEN, Reader, Tag, header, poly_len, write_poly};
use super::{MAX_SET, MAX_SET_BYTES};
use crate::ciphertext::{Ciphertext, check_magnitude};
use crate::context::{Context, check_scale};
use crate::encrypt::expand_uniform;
use crate::error::{CkksError, Malformed};
use crate::keys::KeyDigest;
use crate::noise::Budget;
use std::sync::Arc;

/// What stands between the header of a ciphertext and its polynomials.
const CIPHERTEXT_FIELDS: usize = 32 + 1 + 1 + 1 + 4 + 3 * 8;

/// A list of ciphertexts, which may differ in level, scale and degree.
#[derive(Debug, Clone, PartialEq)]
pub struct CiphertextSet {
    ciphertexts: Vec<Ciphertext>,
}

impl CiphertextSet {
    /// A list of 1 to [`MAX_SET`] ciphertexts of one preset and key.
    ///
    /// # Errors
    /// [`CkksError::Count`], [`CkksError::PresetMismatch`], [`CkksError::KeyMismatch`].
    pub fn new(ciphertexts: Vec<Ciphertext>) -> Result<Self, CkksError> {
        let count = ciphertexts.len();
        let Some(first) = ciphertexts.first().filter(|_| count <= MAX_SET) else {
            return Err(CkksError::Count {
                count,
                min: 1,
                max: MAX_SET,
            });
        };
        if ciphertexts.iter().any(|ct| ct.preset != first.preset) {
            return Err(CkksError::PresetMismatch);
        }
        if ciphertexts.iter().any(|ct| ct.key != first.key) {
            return Err(CkksError::KeyMismatch);
        }
        Ok(Self { ciphertexts })
    }

    /// The ciphertexts.
    #[must_use]
    pub fn ciphertexts(&self) -> &[Ciphertext] {
        &self.ciphertexts
    }

    /// The ciphertexts, given away.
    #[must_use]
    pub fn into_ciphertexts(self) -> Vec<Ciphertext> {
        self.ciphertexts
    }

    /// As bytes.
    ///
    /// # Errors
    /// None but those of packing.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CkksError> {
        let Some(first) = self.ciphertexts.first() else {
            return Err(CkksError::Count {
                count: 0,
                min: 1,
                max: MAX_SET,
            });
        };
        let mut out = header(Tag::CiphertextSet, &first.preset.0);
        out.extend_from_slice(&(self.ciphertexts.len() as u32).to_le_bytes());
        self.ciphertexts
            .iter()
            .try_for_each(|ct| write_ciphertext(ct, &mut out))?;
        Ok(out)
    }

    /// From bytes.
    ///
    /// # Errors
    /// [`CkksError::Malformed`] for whatever [`Self::to_bytes`] does not write under this preset,
    /// [`CkksError::KeyMismatch`].
    pub fn from_bytes(context: &Arc<Context>, bytes: &[u8]) -> Result<Self, CkksError> {
        let mut ciphertexts = Vec::new();
        Self::read(context, bytes, |ct| -> Result<(), CkksError> {
            ciphertexts.push(ct);
            Ok(())
        })?;
        Self::new(ciphertexts)
    }

    /// From bytes, one ciphertext after the other, so that memory need not hold them all. `each` can have been called before an error is found.
    ///
    /// # Errors
    /// Those of [`Self::from_bytes`], but that keys are not compared; those of `each`.
    pub fn read<E: From<CkksError>>(
        context: &Arc<Context>,
        bytes: &[u8],
        mut each: impl FnMut(Ciphertext) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut reader = Reader::new(context, bytes, Tag::CiphertextSet, MAX_SET_BYTES)?;
        let count = reader.u32().map_err(CkksError::from)? as usize;
        if !(1..=MAX_SET).contains(&count) {
            let malformed = Malformed::Count {
                count,
                min: 1,
                max: MAX_SET,
            };
            return Err(CkksError::from(malformed).into());
        }
        for _ in 0..count {
            each(read_ciphertext(context, &mut reader)?)?;
        }
        Ok(reader.finish().map_err(CkksError::from)?)
    }
}

impl Ciphertext {
    /// The length of the largest ciphertext of a preset: three parts at the top level.
    #[must_use]
    pub fn max_bytes(context: &Context) -> usize {
        HEADER_LEN + CIPHERTEXT_FIELDS + 3 * poly_len(&context.top().ring)
    }

    /// As bytes.
    ///
    /// # Errors
    /// None but those of packing.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CkksError> {
        let mut out = header(Tag::Ciphertext, &self.preset.0);
        write_ciphertext(self, &mut out)?;
        Ok(out)
    }

    /// From bytes.
    ///
    /// # Errors
    /// [`CkksError::Malformed`] for whatever [`Self::to_bytes`] does not write under this preset.
    pub fn from_bytes(context: &Arc<Context>, bytes: &[u8]) -> Result<Self, CkksError> {
        let mut reader = Reader::new(context, bytes, Tag::Ciphertext, Self::max_bytes(context))?;
        let ciphertext = read_ciphertext(context, &mut reader)?;
        reader.finish()?;
        Ok(ciphertext)
    }
}

fn write_ciphertext(ct: &Ciphertext, out: &mut Vec<u8>) -> Result<(), CkksError> {
    out.extend_from_slice(&ct.key.0);
    out.extend_from_slice(&[ct.level as u8, ct.degree() as u8, u8::from(ct.seed.is_some())]);
    out.extend_from_slice(&(ct.slots as u32).to_le_bytes());
    for number in [ct.budget.scale, ct.budget.magnitude, ct.budget.noise] {
        out.extend_from_slice(&number.to_bits().to_le_bytes());
    }
    let stored = if ct.seed.is_some() { 1 } else { ct.parts.len() };
    ct.parts[..stored]
        .iter()
        .try_for_each(|part| write_poly(part, out))?;
    if let Some(seed) = &ct.seed {
        out.extend_from_slice(seed);
    }
    Ok(())
}

fn read_ciphertext(context: &Context, reader: &mut Reader<'_>) -> Result<Ciphertext, CkksError> {
    let key = KeyDigest(reader.array()?);
    let level = usize::from(reader.u8()?);
    if level > context.max_level() {
        return Err(Malformed::Level {
            level,
            max: context.max_level(),
        }
        .into());
    }
    let degree = usize::from(reader.u8()?);
    let seeded = match reader.u8()? {
        0 => false,
        1 => true,
        value => return Err(Malformed::Flag { value }.into()),
    };
    if !(1..=2).contains(&degree) || (seeded && degree != 1) {
        return Err(Malformed::Degree { degree }.into());
    }
    let slots = reader.u32()? as usize;
    if !(1..=context.slots()).contains(&slots) {
        return Err(Malformed::Slots {
            slots,
            max: context.slots(),
        }
        .into());
    }
    let budget = Budget {
        scale: reader.f64()?,
        magnitude: reader.f64()?,
        noise: reader.f64()?,
    };
    check_scale(budget.scale).map_err(|_| Malformed::Scale)?;
    for bound in [budget.magnitude, budget.noise] {
        // A negative zero would be a second form of the same bound.
        if check_magnitude(bound).is_err() || bound.is_sign_negative() {
            return Err(Malformed::Bound.into());
        }
    }
    if budget.noise == 0.0 {
        return Err(Malformed::Bound.into());
    }
    budget
        .check_fits(context.log2_q(level)?)
        .map_err(|_| Malformed::Overflow)?;

    let ring = context.ring(level)?;
    let stored = if seeded { 1 } else { degree + 1 };
    let mut parts = (0..stored)
        .map(|_| reader.poly(ring))
        .collect::<Result<Vec<_>, _>>()?;
    let mut seed = None;
    if seeded {
        let bytes = reader.array()?;
        parts.push(expand_uniform(context, &bytes, level)?);
        seed = Some(bytes);
    }
    Ok(Ciphertext {
        preset: *context.digest(),
        key,
        level,
        slots,
        budget,
        parts,
        seed,
    })
}
