//! Objects as bytes.
//!
//! Every object begins with the magic, a version, a type tag and the digest of its preset. Residues take
//! `ceil(log2 q)` bits each, packed prime by prime; a uniform half is stored as the 32-byte seed that it was expanded
//! from. Numbers are little-endian. All lengths follow from the header, and what does not conform to the preset in
//! every respect is refused with a `Malformed` that says why, before memory is taken for it.
//!
//! | object | after the header |
//! |---|---|
//! | ciphertext | key digest 32, level 1, degree 1, seeded 1, slots 4, scale 8, magnitude 8, noise 8, c0, then seed 32 or c1 (, c2) |
//! | set | count 4, then that many ciphertexts without their headers |
//! | public key | seed 32, b |
//! | relinearisation key | key digest 32, seed 32, digits 1, the b of each |
//! | Galois keys | key digest 32, seed 32, digits 1, count 2, then for each Galois element in ascending order: element 4, the b of each digit |
//! | secret key | seed 32 |

mod ciphertexts;
mod keys;
mod wire;

use crate::preset::Preset;

pub use ciphertexts::CiphertextSet;

/// The standard preset that bytes of an object say they conform to. Nothing else of them is looked at.
#[must_use]
pub fn preset_of(bytes: &[u8]) -> Option<Preset> {
    let digest = wire::preset_digest(bytes)?;
    Preset::all()
        .into_iter()
        .find(|preset| preset.digest().0 == digest)
}

/// Largest set that is read; the other objects have their own, smaller limits.
pub const MAX_SET_BYTES: usize = 1 << 31;
/// Most ciphertexts in one set.
pub const MAX_SET: usize = 1 << 16;
