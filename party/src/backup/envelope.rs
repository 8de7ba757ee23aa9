//! The file in which a backup lies: encrypted under a passphrase, versioned, with its own checksum.
//!
//! ```text
//! "GALENBK" | version (1) | salt (16) | nonce (12) | ciphertext and tag | SHA-256 of all before it (32)
//! ```
//!
//! Version 1: the key is Argon2id (RFC 9106, version 0x13) of the passphrase with the parameters that section 4 of the RFC recommends
//! where memory is limited, t = 3 passes over m = 64 MiB in p = 4 lanes, a 128-bit salt and a 256-bit tag; the content is sealed by
//! ChaCha20-Poly1305 (RFC 8439) with everything before it as associated data. Every file has a salt of its own, so every key
//! seals once. The parameters follow from the version and stand in no file, so that a file cannot ask for more memory.
//!
//! The checksum is not keyed. It only tells a damaged file from a wrong passphrase.

use argon2::{Algorithm, Argon2, Params};
use galen_core::Digest;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

const MAGIC: &[u8; 7] = b"GALENBK";
const VERSION: u8 = 1;
const SALT: usize = 16;
const HEADER: usize = MAGIC.len() + 1 + SALT + NONCE_LEN;
const TAG: usize = 16;
const CHECKSUM: usize = 32;

/// Argon2id memory in KiB, passes and lanes: RFC 9106, section 4, second recommended option.
const COST: (u32, u32, u32) = (64 << 10, 3, 4);

/// Fewest bytes of a passphrase for a new backup. Guessing is what the encryption must stand; a short one cannot.
pub const MIN_PASSPHRASE: usize = 12;

/// Largest file that is read as a backup. Keys and a study file are far below it.
pub const MAX_FILE: u64 = 64 << 20;

/// Why a file is not opened, or not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Some other file.
    #[error("this is no Galen backup")]
    NotABackup,
    /// Made by a newer Galen.
    #[error("the backup has format version {found}, this program reads version {VERSION}")]
    Newer {
        /// The version in the file.
        found: u8,
    },
    /// Bytes are missing or changed.
    #[error("the backup is damaged: its bytes do not have their checksum")]
    Damaged,
    /// The passphrase is another, or somebody changed the file and its checksum.
    #[error("the passphrase does not open the backup")]
    Passphrase,
    /// A passphrase too short for a new backup.
    #[error("the passphrase is too short: at least {MIN_PASSPHRASE} bytes are needed")]
    Short,
    /// No random bytes, or no memory for the key derivation.
    #[error("the backup cannot be encrypted on this machine: {0}")]
    Machine(String),
}

/// Seals content under a passphrase.
///
/// # Errors
/// [`EnvelopeError::Short`]; [`EnvelopeError::Machine`].
pub fn seal(passphrase: &[u8], content: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
    if passphrase.len() < MIN_PASSPHRASE {
        return Err(EnvelopeError::Short);
    }
    let random = |error: galen_core::random::RandomError| EnvelopeError::Machine(error.to_string());
    let salt = galen_core::random::bytes::<SALT>().map_err(random)?;
    let nonce = galen_core::random::bytes::<NONCE_LEN>().map_err(random)?;
    let mut file = Vec::with_capacity(HEADER + content.len() + TAG + CHECKSUM);
    file.extend_from_slice(MAGIC);
    file.push(VERSION);
    file.extend_from_slice(&salt);
    file.extend_from_slice(&nonce);
    let key = key(passphrase, &salt)?;
    let mut body = Zeroizing::new(content.to_vec());
    let tag = key
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(&file),
            body.as_mut_slice(),
        )
        .map_err(|_| EnvelopeError::Machine("the cipher failed".into()))?;
    file.extend_from_slice(&body);
    file.extend_from_slice(tag.as_ref());
    let checksum = Digest::of(&file);
    file.extend_from_slice(&checksum.0);
    Ok(file)
}

/// Opens what [`seal`] made.
///
/// # Errors
/// What is wrong, as far as it can be told.
pub fn open(passphrase: &[u8], file: &[u8]) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
    let (version, _) = file
        .strip_prefix(MAGIC)
        .and_then(<[u8]>::split_first)
        .ok_or(EnvelopeError::NotABackup)?;
    match *version {
        VERSION => {}
        0 => return Err(EnvelopeError::NotABackup),
        found => return Err(EnvelopeError::Newer { found }),
    }
    let (covered, checksum) = file
        .split_last_chunk::<CHECKSUM>()
        .ok_or(EnvelopeError::Damaged)?;
    if Digest::of(covered).0 != *checksum {
        return Err(EnvelopeError::Damaged);
    }
    let (header, body) = covered.split_at_checked(HEADER).ok_or(EnvelopeError::Damaged)?;
    let (before, nonce) = header
        .split_last_chunk::<NONCE_LEN>()
        .ok_or(EnvelopeError::Damaged)?;
    let (_, salt) = before.split_last_chunk::<SALT>().ok_or(EnvelopeError::Damaged)?;
    let key = key(passphrase, salt)?;
    let mut content = Zeroizing::new(body.to_vec());
    let len = key
        .open_in_place(
            Nonce::assume_unique_for_key(*nonce),
            Aad::from(header),
            content.as_mut_slice(),
        )
        .map_err(|_| EnvelopeError::Passphrase)?
        .len();
    content.truncate(len);
    Ok(content)
}

fn key(passphrase: &[u8], salt: &[u8; SALT]) -> Result<LessSafeKey, EnvelopeError> {
    let machine = |error: argon2::Error| EnvelopeError::Machine(error.to_string());
    let (memory, passes, lanes) = COST;
    let params = Params::new(memory, passes, lanes, Some(32)).map_err(machine)?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, argon2::Version::V0x13, params)
        .hash_password_into(passphrase, salt, &mut *key)
        .map_err(machine)?;
    let key = UnboundKey::new(&CHACHA20_POLY1305, &*key)
        .map_err(|_| EnvelopeError::Machine("the cipher takes no key".into()))?;
    Ok(LessSafeKey::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSPHRASE: &[u8] = b"correct horse battery";

    /// Changes bytes and makes the checksum fit again, as somebody would who knows the format.
    fn forged(file: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut covered = file[..file.len() - CHECKSUM].to_vec();
        change(&mut covered);
        let checksum = Digest::of(&covered);
        covered.extend_from_slice(&checksum.0);
        covered
    }

    #[test]
    fn content_comes_back_under_its_passphrase_only() {
        let file = seal(PASSPHRASE, b"content").unwrap();
        assert_eq!(**open(PASSPHRASE, &file).unwrap(), *b"content");
        assert_eq!(
            open(b"correct horse batterz", &file),
            Err(EnvelopeError::Passphrase)
        );
        assert_ne!(seal(PASSPHRASE, b"content").unwrap(), file, "a salt of its own");
        assert!(!file.windows(7).any(|part| part == b"content"));
    }

    #[test]
    fn what_is_wrong_is_told_apart() {
        let file = seal(PASSPHRASE, b"content").unwrap();
        for len in [8, HEADER, file.len() - 1] {
            assert_eq!(
                open(PASSPHRASE, &file[..len]),
                Err(EnvelopeError::Damaged),
                "{len}"
            );
        }
        for at in [8, HEADER, file.len() - 1] {
            let mut bad = file.clone();
            bad[at] ^= 1;
            assert_eq!(open(PASSPHRASE, &bad), Err(EnvelopeError::Damaged), "{at}");
        }
        // The checksum keeps nobody out; the cipher does, also from the header.
        for at in [10, 30, HEADER] {
            let bad = forged(&file, |bytes| bytes[at] ^= 1);
            assert_eq!(open(PASSPHRASE, &bad), Err(EnvelopeError::Passphrase), "{at}");
        }
        let newer = forged(&file, |bytes| bytes[7] = 9);
        assert_eq!(open(PASSPHRASE, &newer), Err(EnvelopeError::Newer { found: 9 }));
        for other in [&b""[..], b"GALENBK", b"GALENBK\0", b"PK\x03\x04 an archive"] {
            assert_eq!(open(PASSPHRASE, other), Err(EnvelopeError::NotABackup));
        }
        assert_eq!(seal(b"short", b"content"), Err(EnvelopeError::Short));
    }

    /// The test vector of RFC 9106, section 5.3.
    #[test]
    fn the_key_derivation_is_argon2id() {
        let params = argon2::ParamsBuilder::new()
            .m_cost(32)
            .t_cost(3)
            .p_cost(4)
            .data(argon2::AssociatedData::new(&[4; 12]).unwrap())
            .output_len(32)
            .build()
            .unwrap();
        let mut out = [0; 32];
        Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, argon2::Version::V0x13, params)
            .unwrap()
            .hash_password_into(&[1; 32], &[2; 16], &mut out)
            .unwrap();
        assert_eq!(
            hex::encode(out),
            "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"
        );
    }
}
