//! Secret, public and relinearisation keys.
//!
//! A secret key is 32 bytes; all else is expanded from them: the ternary secret `s`, the public key
//! `(b = -a s + e, a)` over Q, and the relinearisation key, for digit j `(b_j = -a_j s + e_j + P g_j s^2, a_j)` over
//! QP (see `key_switch`). The uniform halves `a` come from public seeds, which is how keys are stored. Keys for rotations
//! are in [`galois`](crate::galois).

use crate::context::Context;
use crate::error::CkksError;
use crate::key_switch::{RELINEARISATION, SwitchingKey};
use galen_rns::poly::{Eval, Poly};
use galen_rns::ring::Ring;
use galen_rns::sampling::{Gaussian, gaussian_residues, ternary_residues};
use galen_rns::xof::{Xof, random_seed};
use ring::digest::{Context as Sha256, SHA256};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

/// First domain field of every stream of this crate.
const DOMAIN: &[u8] = b"galen-ckks-1";

/// Names a key: SHA-256 of preset and public key. Carried by everything that belongs to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeyDigest(pub [u8; 32]);

impl core::fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "KeyDigest({self})")
    }
}

impl core::fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A stream for one purpose under one preset.
pub(crate) fn stream(context: &Context, seed: &[u8; 32], purpose: &str, index: u64) -> Xof {
    Xof::new(
        seed,
        &[
            DOMAIN,
            &context.digest().0,
            purpose.as_bytes(),
            &index.to_le_bytes(),
        ],
    )
}

/// A seed for something else, from a seed.
pub(crate) fn derive(context: &Context, seed: &[u8; 32], purpose: &str) -> [u8; 32] {
    let mut derived = [0; 32];
    stream(context, seed, purpose, 0).fill(&mut derived);
    derived
}

/// A fresh error polynomial, sigma 3.19. The caller wipes it.
pub(crate) fn error(ring: &Arc<Ring>, xof: &mut Xof) -> Result<Poly<Eval>, CkksError> {
    let mut errors = Poly::zero(ring);
    error_into(ring, xof, errors.data_mut())?;
    Ok(errors)
}

/// The same, as N transformed residues for each prime.
pub(crate) fn error_into(ring: &Ring, xof: &mut Xof, out: &mut [u64]) -> Result<(), CkksError> {
    gaussian_residues(&Gaussian::SIGMA_3_19, xof, ring.moduli(), out)?;
    transform(ring, out);
    Ok(())
}

/// A uniform ternary polynomial, as N transformed residues for each prime. The caller wipes it.
pub(crate) fn small_into(ring: &Ring, xof: &mut Xof, out: &mut [u64]) -> Result<(), CkksError> {
    ternary_residues(xof, ring.moduli(), out)?;
    transform(ring, out);
    Ok(())
}

fn transform(ring: &Ring, rows: &mut [u64]) {
    for (prime, row) in rows.chunks_exact_mut(ring.degree()).enumerate() {
        ring.ntt(prime).forward(row);
    }
}

/// The secret key. Wiped on drop; `Debug` prints only its digest.
pub struct SecretKey {
    pub(crate) context: Arc<Context>,
    pub(crate) seed: Zeroizing<[u8; 32]>,
    /// s over all primes of QP.
    pub(crate) secret: Poly<Eval>,
    digest: KeyDigest,
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl core::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SecretKey")
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

impl SecretKey {
    /// A fresh key from the operating system's randomness.
    ///
    /// # Errors
    /// If that gives none.
    pub fn generate(context: &Arc<Context>) -> Result<Self, CkksError> {
        Self::from_seed(context, &Zeroizing::new(random_seed()?))
    }

    /// The key of a secret seed, always the same. The seed is as secret as the key, and serves nothing else.
    ///
    /// # Errors
    /// None but those of ring arithmetic.
    pub fn from_seed(context: &Arc<Context>, seed: &[u8; 32]) -> Result<Self, CkksError> {
        let ring = context.key_ring();
        let mut secret = Poly::zero(ring);
        small_into(ring, &mut stream(context, seed, "secret", 0), secret.data_mut())?;
        let mut key = Self {
            context: Arc::clone(context),
            seed: Zeroizing::new(*seed),
            secret,
            digest: KeyDigest([0; 32]),
        };
        key.digest = key.public_key()?.digest;
        Ok(key)
    }

    /// The name of this key.
    #[must_use]
    pub fn digest(&self) -> KeyDigest {
        self.digest
    }

    /// The public key, always the same.
    ///
    /// # Errors
    /// None but those of ring arithmetic.
    pub fn public_key(&self) -> Result<PublicKey, CkksError> {
        let context = &self.context;
        let ring = &context.top().ring;
        let seed = derive(context, &self.seed, "public key uniform");
        let a = PublicKey::expand(context, &seed);
        let mut b = a.clone();
        let s = Zeroizing::new(self.secret.restrict(ring)?);
        b.mul_assign(&s)?;
        b.neg_assign();
        let e = Zeroizing::new(error(
            ring,
            &mut stream(context, &self.seed, "public key error", 0),
        )?);
        b.add_assign(&e)?;
        Ok(PublicKey::assemble(context, seed, b))
    }

    /// The relinearisation key, always the same.
    ///
    /// # Errors
    /// None but those of ring arithmetic.
    pub fn relin_key(&self) -> Result<RelinKey, CkksError> {
        let context = &self.context;
        let seed = derive(context, &self.seed, "relinearisation uniform");
        let mut square = Zeroizing::new(self.secret.clone());
        square.mul_assign(&self.secret)?;
        let key = SwitchingKey::generate(self, &seed, RELINEARISATION, &self.secret, &square)?;
        Ok(RelinKey {
            context: Arc::clone(context),
            digest: self.digest,
            seed,
            key,
        })
    }
}

/// A public encryption key.
#[derive(Clone)]
pub struct PublicKey {
    pub(crate) context: Arc<Context>,
    digest: KeyDigest,
    pub(crate) seed: [u8; 32],
    /// `-a s + e` over Q.
    pub(crate) b: Poly<Eval>,
    pub(crate) a: Poly<Eval>,
}

impl core::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PublicKey")
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

impl PublicKey {
    fn expand(context: &Context, seed: &[u8; 32]) -> Poly<Eval> {
        Poly::uniform(&context.top().ring, &mut stream(context, seed, "public key", 0))
    }

    /// From its stored parts; `b` is over the top ring.
    pub(crate) fn assemble(context: &Arc<Context>, seed: [u8; 32], b: Poly<Eval>) -> Self {
        let mut hash = Sha256::new(&SHA256);
        hash.update(DOMAIN);
        hash.update(&context.digest().0);
        hash.update(&seed);
        // Fixed lengths throughout: the preset says how many residues follow.
        b.data().iter().for_each(|x| hash.update(&x.to_le_bytes()));
        let mut digest = [0; 32];
        digest.copy_from_slice(hash.finish().as_ref());
        let a = Self::expand(context, &seed);
        Self {
            context: Arc::clone(context),
            digest: KeyDigest(digest),
            seed,
            b,
            a,
        }
    }

    /// The name of the key that this belongs to.
    #[must_use]
    pub fn digest(&self) -> KeyDigest {
        self.digest
    }
}

/// A key that brings ciphertexts of degree 2 back to degree 1.
#[derive(Clone)]
pub struct RelinKey {
    pub(crate) context: Arc<Context>,
    digest: KeyDigest,
    pub(crate) seed: [u8; 32],
    pub(crate) key: SwitchingKey,
}

impl core::fmt::Debug for RelinKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RelinKey")
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

impl RelinKey {
    /// From its stored parts; each half is over the key ring.
    pub(crate) fn assemble(
        context: &Arc<Context>,
        digest: KeyDigest,
        seed: [u8; 32],
        halves: Vec<Poly<Eval>>,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            digest,
            seed,
            key: SwitchingKey::assemble(context, &seed, RELINEARISATION, halves),
        }
    }

    /// The name of the key that this belongs to, as its maker states it.
    #[must_use]
    pub fn digest(&self) -> KeyDigest {
        self.digest
    }
}
