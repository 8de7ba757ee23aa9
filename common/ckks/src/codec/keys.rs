//! Keys.

use super::MAX_SET_BYTES;
use super::wire::{HEADER_LEN, Reader, Tag, header, poly_len, write_poly};
use crate::context::Context;
use crate::error::{CkksError, Malformed};
use crate::galois::{GaloisKeys, MAX_GALOIS_KEYS};
use crate::keys::{KeyDigest, PublicKey, RelinKey, SecretKey};
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

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
