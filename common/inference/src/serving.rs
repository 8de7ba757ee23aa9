//! What a querier registers once, so that the coordinator can evaluate its batches.

use galen_ckks::CkksError;
use galen_ckks::codec;
use galen_ckks::context::Context;
use galen_ckks::keys::{KeyDigest, PublicKey, RelinKey};
use galen_ckks::preset::Preset;
use std::sync::Arc;

/// The relinearisation key, and the public key under which answers are re-randomised. Neither decrypts anything.
#[derive(Clone, Debug)]
pub struct ServingKey {
    relin: RelinKey,
    public: PublicKey,
}

impl ServingKey {
    /// Joins the two keys of one secret key. Errors with [`CkksError::KeyMismatch`] if they belong to different ones.
    pub fn new(relin: RelinKey, public: PublicKey) -> Result<Self, CkksError> {
        if relin.digest() == public.digest() {
            Ok(Self { relin, public })
        } else {
            Err(CkksError::KeyMismatch)
        }
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

    /// The length of every serving key under a context's preset.
    pub fn max_bytes(context: &Context) -> usize {
        PublicKey::max_bytes(context) + RelinKey::max_bytes(context)
    }

    /// As bytes: the public key, whose length the preset fixes, then the relinearisation key.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CkksError> {
        let mut bytes = self.public.to_bytes()?;
        bytes.extend(self.relin.to_bytes()?);
        Ok(bytes)
    }

    /// The standard preset that the bytes of a serving key say they belong to.
    pub fn preset_of(bytes: &[u8]) -> Option<Preset> {
        codec::preset_of(bytes)
    }

    /// From bytes. Refuses whatever [`ServingKey::to_bytes`] does not write under this preset.
    pub fn from_bytes(context: &Arc<Context>, bytes: &[u8]) -> Result<Self, CkksError> {
        let cut = PublicKey::max_bytes(context).min(bytes.len());
        let (public, relin) = bytes.split_at(cut);
        let public = PublicKey::from_bytes(context, public)?;
        Self::new(RelinKey::from_bytes(context, relin)?, public)
    }
}
