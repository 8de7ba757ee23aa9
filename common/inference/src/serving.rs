//! What a querier registers once, so that the coordinator can evaluate its batches.

use crate::choice::key_set;
use crate::packed::rotations;
use galen_ckks::CkksError;
use galen_ckks::codec;
use galen_ckks::context::Context;
use galen_ckks::galois::GaloisKeys;
use galen_ckks::keys::{KeyDigest, PublicKey, RelinKey};
use galen_ckks::preset::Preset;
use std::sync::Arc;

/// The relinearisation key, the public key under which answers are re-randomised, and, for packed batches, the keys of rotations. None decrypts
/// anything.
#[derive(Clone, Debug)]
pub struct ServingKey {
    relin: RelinKey,
    public: PublicKey,
    /// With the slots of a patient.
    galois: Option<(usize, GaloisKeys)>,
}

impl ServingKey {
    /// Joins the two keys of one secret key. Errors with [`CkksError::KeyMismatch`] if they belong to different ones.
    pub fn new(relin: RelinKey, public: PublicKey) -> Result<Self, CkksError> {
        if relin.digest() == public.digest() {
            Ok(Self {
                relin,
                public,
                galois: None,
            })
        } else {
            Err(CkksError::KeyMismatch)
        }
    }

    /// With the keys of the rotations that a packing of `width` slots for a patient takes, and no others.
    ///
    /// # Errors
    /// [`CkksError::KeyMismatch`] if they belong to another secret key, [`CkksError::Count`] if they are not those.
    pub(crate) fn with_rotations(
        self,
        context: &Context,
        width: usize,
        galois: GaloisKeys,
    ) -> Result<Self, CkksError> {
        if galois.digest() != self.digest() {
            return Err(CkksError::KeyMismatch);
        }
        let needed = rotations(context, width);
        let found: Vec<i64> = galois.rotations().iter().map(|&steps| steps as i64).collect();
        if found != needed || galois.has_conjugation() {
            return Err(CkksError::Count {
                count: found.len(),
                min: needed.len(),
                max: needed.len(),
            });
        }
        Ok(Self {
            galois: Some((width, galois)),
            ..self
        })
    }

    /// The name of the secret key that they belong to.
    pub fn digest(&self) -> KeyDigest {
        self.public.digest()
    }

    pub(crate) fn relin(&self) -> &RelinKey {
        &self.relin
    }

    pub(crate) fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The keys of rotations.
    pub(crate) fn galois(&self) -> Option<&GaloisKeys> {
        self.galois.as_ref().map(|(_, galois)| galois)
    }

    /// What names the keys that serve the same programs: the preset, and the slots of a patient where batches are packed.
    pub fn key_set(&self, context: &Context) -> String {
        key_set(
            context.preset().name(),
            self.galois.as_ref().map(|(width, _)| *width),
        )
    }

    /// The length of the longest serving key under a context's preset: with keys for the packing of one patient in all slots.
    pub fn max_bytes(context: &Context) -> usize {
        Self::bytes_of(context, Some(context.slots()))
    }

    /// The length of every serving key under a context's preset for a packing of this width, or for none.
    pub(crate) fn bytes_of(context: &Context, width: Option<usize>) -> usize {
        let rotations = width.map_or(0, |width| {
            GaloisKeys::bytes_of(context, rotations(context, width).len())
        });
        PublicKey::max_bytes(context) + RelinKey::max_bytes(context) + rotations
    }

    /// As bytes: the public key, whose length the preset fixes, then the relinearisation key, whose length it fixes too, then those of rotations,
    /// if there are any.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CkksError> {
        let mut bytes = self.public.to_bytes()?;
        bytes.extend(self.relin.to_bytes()?);
        if let Some(galois) = self.galois() {
            bytes.extend(galois.to_bytes()?);
        }
        Ok(bytes)
    }

    /// The standard preset that the bytes of a serving key say they belong to.
    pub fn preset_of(bytes: &[u8]) -> Option<Preset> {
        codec::preset_of(bytes)
    }

    /// From bytes. Refuses whatever [`ServingKey::to_bytes`] does not write under this preset.
    pub fn from_bytes(context: &Arc<Context>, bytes: &[u8]) -> Result<Self, CkksError> {
        let cut = PublicKey::max_bytes(context).min(bytes.len());
        let (public, rest) = bytes.split_at(cut);
        let (relin, galois) = rest.split_at(RelinKey::max_bytes(context).min(rest.len()));
        let public = PublicKey::from_bytes(context, public)?;
        let key = Self::new(RelinKey::from_bytes(context, relin)?, public)?;
        if galois.is_empty() {
            return Ok(key);
        }
        if bytes.len() > Self::max_bytes(context) {
            return Err(CkksError::Count {
                count: bytes.len(),
                min: 1,
                max: Self::max_bytes(context),
            });
        }
        let galois = GaloisKeys::from_bytes(context, galois)?;
        let count = galois.rotations().len() as u32;
        // Only as many rotations as there are powers of two below the slots.
        let width = 1usize
            .checked_shl(count)
            .filter(|&width| width <= context.slots());
        key.with_rotations(context, width.unwrap_or(0), galois)
    }
}
