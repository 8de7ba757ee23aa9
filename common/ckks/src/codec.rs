//! Objects as bytes.
//!
//! Every object begins with the magic, a version, a type tag and the digest of its preset. Residues take
//! `ceil(log2 q)` bits each, packed prime by prime; a uniform half is stored as the 32-byte seed that it was expanded
//! from. Numbers are little-endian. All lengths follow from the header, and what does not conform to the preset in
//! every respect is refused with a [`Malformed`] that says why, before memory is taken for it.
//!
//! | object | after the header |
//! |---|---|
//! | ciphertext | key digest 32, level 1, degree 1, seeded 1, slots 4, scale 8, magnitude 8, noise 8, c0, then seed 32 or c1 (, c2) |
//! | set | count 4, then that many ciphertexts without their headers |
//! | public key | seed 32, b |
//! | relinearisation key | key digest 32, seed 32, digits 1, the b of each |
//! | Galois keys | key digest 32, seed 32, digits 1, count 2, then for each Galois element in ascending order: element 4, the b of each digit |
//! | secret key | seed 32 |

use crate::ciphertext::{Ciphertext, check_magnitude};
use crate::context::{Context, check_scale};
use crate::encrypt::expand_uniform;
use crate::error::{CkksError, Malformed};
use crate::galois::{GaloisKeys, MAX_GALOIS_KEYS};
use crate::keys::{KeyDigest, PublicKey, RelinKey, SecretKey};
use crate::noise::Budget;
use galen_rns::RnsError;
use galen_rns::packing::{pack, packed_len, unpack_residues};
use galen_rns::poly::{Eval, Poly};
use galen_rns::ring::Ring;
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

const MAGIC: [u8; 4] = *b"GCKS";
const VERSION: u16 = 1;
const HEADER_LEN: usize = 4 + 2 + 1 + 32;
/// What stands between the header of a ciphertext and its polynomials.
const CIPHERTEXT_FIELDS: usize = 32 + 1 + 1 + 1 + 4 + 3 * 8;

/// Largest set that is read; the other objects have their own, smaller limits.
pub const MAX_SET_BYTES: usize = 1 << 31;
/// Most ciphertexts in one set.
pub const MAX_SET: usize = 1 << 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Tag {
    Ciphertext = 1,
    CiphertextSet = 2,
    PublicKey = 3,
    RelinKey = 4,
    SecretKey = 5,
    GaloisKeys = 6,
}

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
        let mut reader = Reader::new(context, bytes, Tag::CiphertextSet, MAX_SET_BYTES)?;
        let count = reader.u32()? as usize;
        if !(1..=MAX_SET).contains(&count) {
            return Err(Malformed::Count {
                count,
                min: 1,
                max: MAX_SET,
            }
            .into());
        }
        let ciphertexts = (0..count)
            .map(|_| read_ciphertext(context, &mut reader))
            .collect::<Result<Vec<_>, _>>()?;
        reader.finish()?;
        Self::new(ciphertexts)
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

impl PublicKey {
    /// The length of every public key of a preset.
    #[must_use]
    pub fn max_bytes(context: &Context) -> usize {
        HEADER_LEN + 32 + poly_len(&context.top().ring)
    }

    /// As bytes.
    ///
    /// # Errors
    /// None but those of packing.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CkksError> {
        let mut out = header(Tag::PublicKey, &self.context.digest().0);
        out.extend_from_slice(&self.seed);
        write_poly(&self.b, &mut out)?;
        Ok(out)
    }

    /// From bytes.
    ///
    /// # Errors
    /// [`CkksError::Malformed`] for whatever [`Self::to_bytes`] does not write under this preset.
    pub fn from_bytes(context: &Arc<Context>, bytes: &[u8]) -> Result<Self, CkksError> {
        let mut reader = Reader::new(context, bytes, Tag::PublicKey, Self::max_bytes(context))?;
        let seed = reader.array()?;
        let b = reader.poly(&context.top().ring)?;
        reader.finish()?;
        Ok(Self::assemble(context, seed, b))
    }
}

impl RelinKey {
    /// The length of every relinearisation key of a preset.
    #[must_use]
    pub fn max_bytes(context: &Context) -> usize {
        HEADER_LEN + 32 + 32 + 1 + context.top().switching.digits.len() * poly_len(context.key_ring())
    }

    /// As bytes.
    ///
    /// # Errors
    /// None but those of packing.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CkksError> {
        let mut out = header(Tag::RelinKey, &self.context.digest().0);
        out.extend_from_slice(&self.digest().0);
        out.extend_from_slice(&self.seed);
        out.push(self.context.top().switching.digits.len() as u8);
        self.key.halves().try_for_each(|b| write_poly(b, &mut out))?;
        Ok(out)
    }

    /// From bytes.
    ///
    /// # Errors
    /// [`CkksError::Malformed`] for whatever [`Self::to_bytes`] does not write under this preset.
    pub fn from_bytes(context: &Arc<Context>, bytes: &[u8]) -> Result<Self, CkksError> {
        let mut reader = Reader::new(context, bytes, Tag::RelinKey, Self::max_bytes(context))?;
        let digest = KeyDigest(reader.array()?);
        let seed = reader.array()?;
        let digits = reader.digits(context)?;
        let halves = reader.halves(context, digits)?;
        reader.finish()?;
        Ok(Self::assemble(context, digest, seed, halves))
    }
}

impl GaloisKeys {
    /// The length of the largest set of keys of a preset that is read: [`MAX_GALOIS_KEYS`] of them, or [`MAX_SET_BYTES`].
    #[must_use]
    pub fn max_bytes(context: &Context) -> usize {
        Self::bytes_of(context, MAX_GALOIS_KEYS).min(MAX_SET_BYTES)
    }

    /// The length of this many keys of a preset.
    #[must_use]
    pub fn bytes_of(context: &Context, count: usize) -> usize {
        let key = 4 + context.top().switching.digits.len() * poly_len(context.key_ring());
        HEADER_LEN + 32 + 32 + 1 + 2 + count * key
    }

    /// As bytes.
    ///
    /// # Errors
    /// None but those of packing.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CkksError> {
        let mut out = header(Tag::GaloisKeys, &self.context.digest().0);
        out.reserve(Self::bytes_of(&self.context, self.keys.len()) - out.len());
        out.extend_from_slice(&self.digest().0);
        out.extend_from_slice(&self.seed);
        out.push(self.context.top().switching.digits.len() as u8);
        out.extend_from_slice(&(self.keys.len() as u16).to_le_bytes());
        for (element, key) in &self.keys {
            out.extend_from_slice(&(*element as u32).to_le_bytes());
            key.key.halves().try_for_each(|b| write_poly(b, &mut out))?;
        }
        Ok(out)
    }

    /// From bytes.
    ///
    /// # Errors
    /// [`CkksError::Malformed`] for whatever [`Self::to_bytes`] does not write under this preset.
    pub fn from_bytes(context: &Arc<Context>, bytes: &[u8]) -> Result<Self, CkksError> {
        let mut reader = Reader::new(context, bytes, Tag::GaloisKeys, Self::max_bytes(context))?;
        let digest = KeyDigest(reader.array()?);
        let seed = reader.array()?;
        let digits = reader.digits(context)?;
        let count = usize::from(u16::from_le_bytes(reader.array()?));
        if !(1..=MAX_GALOIS_KEYS).contains(&count) {
            return Err(Malformed::Count {
                count,
                min: 1,
                max: MAX_GALOIS_KEYS,
            }
            .into());
        }
        let mut keys = Vec::new();
        let mut last = 0;
        for _ in 0..count {
            let element = u64::from(reader.u32()?);
            if element <= last || !context.is_galois_element(element) {
                return Err(Malformed::GaloisElement { element }.into());
            }
            last = element;
            keys.push((element, reader.halves(context, digits)?));
        }
        reader.finish()?;
        Self::assemble(context, digest, seed, keys)
    }
}

impl SecretKey {
    /// The secret key as bytes, for its owner to store encrypted. Wiped on drop.
    #[must_use]
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        // All at once: growing later would leave a copy behind.
        let mut out = Zeroizing::new(Vec::with_capacity(HEADER_LEN + 32));
        out.extend_from_slice(&header(Tag::SecretKey, &self.context.digest().0));
        out.extend_from_slice(&*self.seed);
        out
    }

    /// The secret key from its bytes.
    ///
    /// # Errors
    /// [`CkksError::Malformed`].
    pub fn from_secret_bytes(context: &Arc<Context>, bytes: &[u8]) -> Result<Self, CkksError> {
        let mut reader = Reader::new(context, bytes, Tag::SecretKey, HEADER_LEN + 32)?;
        let mut seed: [u8; 32] = reader.array()?;
        let key = reader
            .finish()
            .map_err(CkksError::from)
            .and_then(|()| Self::from_seed(context, &seed));
        seed.zeroize();
        key
    }
}

fn header(tag: Tag, preset: &[u8; 32]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_LEN);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.push(tag as u8);
    out.extend_from_slice(preset);
    out
}

fn poly_len(ring: &Ring) -> usize {
    ring.moduli()
        .iter()
        .map(|m| packed_len(ring.degree(), m.bits()))
        .sum()
}

fn write_poly(poly: &Poly<Eval>, out: &mut Vec<u8>) -> Result<(), CkksError> {
    out.reserve(poly_len(poly.ring()));
    for (index, m) in poly.ring().moduli().iter().enumerate() {
        pack(poly.residues(index), m.bits(), out)?;
    }
    Ok(())
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

/// Takes fields off the front of bytes.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Checks length and header.
    fn new(context: &Context, bytes: &'a [u8], expected: Tag, max: usize) -> Result<Self, CkksError> {
        if bytes.len() > max {
            return Err(Malformed::TooLong {
                length: bytes.len(),
                max,
            }
            .into());
        }
        let mut reader = Self { rest: bytes };
        if reader.array()? != MAGIC {
            return Err(Malformed::Magic.into());
        }
        let version = u16::from_le_bytes(reader.array()?);
        if version != VERSION {
            return Err(Malformed::Version { version }.into());
        }
        let tag = reader.u8()?;
        if tag != expected as u8 {
            return Err(Malformed::Type {
                tag,
                expected: expected as u8,
            }
            .into());
        }
        if reader.array()? != context.digest().0 {
            return Err(Malformed::Preset.into());
        }
        Ok(reader)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(Malformed::Truncated {
                missing: count - self.rest.len(),
            });
        };
        self.rest = rest;
        Ok(taken)
    }

    fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN], Malformed> {
        let mut out = [0; LEN];
        out.copy_from_slice(self.take(LEN)?);
        Ok(out)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn f64(&mut self) -> Result<f64, Malformed> {
        Ok(f64::from_bits(u64::from_le_bytes(self.array()?)))
    }

    fn poly(&mut self, ring: &Arc<Ring>) -> Result<Poly<Eval>, CkksError> {
        // All of it must be there before memory is taken for it.
        let mut packed = self.take(poly_len(ring))?;
        let mut poly = Poly::zero(ring);
        for (index, m) in ring.moduli().iter().enumerate() {
            let (bytes, rest) = packed.split_at(packed_len(ring.degree(), m.bits()));
            packed = rest;
            unpack_residues(bytes, m, poly.residues_mut(index)).map_err(|error| match error {
                RnsError::ResidueRange { .. } => CkksError::from(Malformed::Residue),
                RnsError::Padding => Malformed::Padding.into(),
                other => other.into(),
            })?;
        }
        Ok(poly)
    }

    /// The number of digits of a key, which must be that of the preset.
    fn digits(&mut self, context: &Context) -> Result<usize, CkksError> {
        let (count, expected) = (usize::from(self.u8()?), context.top().switching.digits.len());
        if count == expected {
            return Ok(count);
        }
        Err(Malformed::Count {
            count,
            min: expected,
            max: expected,
        }
        .into())
    }

    /// The stored halves of a key.
    fn halves(&mut self, context: &Context, digits: usize) -> Result<Vec<Poly<Eval>>, CkksError> {
        (0..digits).map(|_| self.poly(context.key_ring())).collect()
    }

    fn finish(self) -> Result<(), Malformed> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(Malformed::Trailing { count }),
        }
    }
}
