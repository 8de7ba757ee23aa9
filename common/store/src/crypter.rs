//! Encryption at rest.

use crate::error::StoreError;
use crate::files::Files;
use galen_core::{Digest, Transcript};
use ring::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Bytes that sealing adds: a nonce in front and a tag behind.
pub(crate) const OVERHEAD: usize = NONCE_LEN + 16;

const MAGIC: &[u8; 8] = b"GALENKY1";

/// The master key of a directory, from which every other key at rest is derived. Clones share it; Debug does not print it.
///
/// Sealing is ChaCha20-Poly1305 (RFC 8439) under random 96-bit nonces. Among q messages under one key two nonces are equal
/// with probability at most q²/2^97 (birthday bound); at 2^32 messages that is 2^-33, the limit that NIST SP 800-38D section 8.3
/// sets for random nonces of this length. All records of a directory share one key, so 2^32 writes is the life of a
/// `storage.key`; every blob file and every erasable name has a key of its own.
#[derive(Clone)]
pub struct Crypter(Arc<Keys>);

struct Keys {
    master: Zeroizing<[u8; 32]>,
    records: Aead,
}

impl Crypter {
    /// Draws a master key and writes it to a file that only this user may read. Fails if the file exists.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        Self::create_in(&Files::folder(), path)
    }

    pub(crate) fn create_in(files: &Files, path: &Path) -> Result<Self, StoreError> {
        if files.exists(path) {
            return Err(StoreError::Io {
                path: path.to_owned(),
                action: "cannot create",
                source: std::io::ErrorKind::AlreadyExists.into(),
            });
        }
        let master = Zeroizing::new(galen_core::random::bytes::<32>()?);
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAGIC.len() + master.len()));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&*master);
        files.write(path, &bytes)?;
        Self::new(master)
    }

    /// Reads the master key from a file.
    pub fn load(path: &Path) -> Result<Self, StoreError> {
        Self::load_from(&Files::folder(), path)
    }

    pub(crate) fn load_from(files: &Files, path: &Path) -> Result<Self, StoreError> {
        let bytes = Zeroizing::new(files.read(path)?);
        let master = bytes
            .strip_prefix(MAGIC)
            .and_then(|key| <[u8; 32]>::try_from(key).ok())
            .ok_or_else(|| StoreError::KeyFile {
                path: path.to_owned(),
            })?;
        Self::new(Zeroizing::new(master))
    }

    fn new(master: Zeroizing<[u8; 32]>) -> Result<Self, StoreError> {
        let records = Aead::derive(&master, b"galen records v1", &[])?;
        Ok(Self(Arc::new(Keys { master, records })))
    }

    /// Seals the content of a small file that another process of the same user reads, under a key of its own. The content
    /// is bound to `name`, so that one file cannot take the place of another.
    pub fn seal_file(&self, name: &str, content: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut sealed = Vec::new();
        self.files(name)?
            .seal_into(&file_bound(name), content, &mut sealed)?;
        Ok(sealed)
    }

    /// Opens what [`Crypter::seal_file`] sealed under this name; `None` if it does not fit.
    pub fn open_file(&self, name: &str, sealed: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        Ok(self.files(name)?.open(&file_bound(name), sealed))
    }

    fn files(&self, name: &str) -> Result<Aead, StoreError> {
        self.derive(b"galen sealed files v1", name.as_bytes())
    }

    /// The cipher of plain records.
    pub(crate) fn records(&self) -> &Aead {
        &self.0.records
    }

    /// A cipher for one purpose and name.
    pub(crate) fn derive(&self, purpose: &[u8], name: &[u8]) -> Result<Aead, StoreError> {
        Aead::derive(&self.0.master, purpose, name)
    }

    /// A cipher for one purpose and name, for many bytes: AES-256-GCM, which processors have instructions for.
    pub(crate) fn derive_bulk(&self, purpose: &[u8], name: &[u8]) -> Result<Aead, StoreError> {
        Aead::derive_for(&AES_256_GCM, &self.0.master, purpose, name)
    }
}

fn file_bound(name: &str) -> Digest {
    Transcript::new("galen sealed file v1")
        .field(name.as_bytes())
        .digest()
}

impl std::fmt::Debug for Crypter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Crypter(..)")
    }
}

/// One ChaCha20-Poly1305 or AES-256-GCM key. Raw key bytes are wiped by their owners; ring's expanded copy in here is not wiped on drop,
/// so erased keys may linger in this process's memory, not on disk, until that memory is used again.
pub(crate) struct Aead(LessSafeKey);

impl Aead {
    pub(crate) fn new(key: &[u8; 32]) -> Result<Self, StoreError> {
        Self::with(&CHACHA20_POLY1305, key)
    }

    fn with(algorithm: &'static Algorithm, key: &[u8; 32]) -> Result<Self, StoreError> {
        let key = UnboundKey::new(algorithm, key).map_err(|_| StoreError::Cipher)?;
        Ok(Self(LessSafeKey::new(key)))
    }

    fn derive(master: &[u8; 32], purpose: &[u8], name: &[u8]) -> Result<Self, StoreError> {
        Self::derive_for(&CHACHA20_POLY1305, master, purpose, name)
    }

    fn derive_for(
        algorithm: &'static Algorithm,
        master: &[u8; 32],
        purpose: &[u8],
        name: &[u8],
    ) -> Result<Self, StoreError> {
        let mut key = Zeroizing::new([0; 32]);
        // Purposes are constants none of which is a prefix of another, so purpose and name together are unambiguous.
        hkdf::Salt::new(hkdf::HKDF_SHA256, b"galen store")
            .extract(master)
            .expand(&[purpose, name], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut *key))
            .map_err(|_| StoreError::Cipher)?;
        Self::with(algorithm, &key)
    }

    /// Appends nonce, ciphertext and tag of `plaintext` to `out`. `bound` is what the ciphertext is tied to.
    pub(crate) fn seal_into(
        &self,
        bound: &Digest,
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let nonce = galen_core::random::bytes::<NONCE_LEN>()?;
        out.reserve(plaintext.len() + OVERHEAD);
        out.extend_from_slice(&nonce);
        let start = out.len();
        out.extend_from_slice(plaintext);
        let tag = out.get_mut(start..).ok_or(StoreError::Cipher).and_then(|body| {
            self.0
                .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&bound.0), body)
                .map_err(|_| StoreError::Cipher)
        })?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Seals in place: `buffer` begins with room for the nonce, [`NONCE_LEN`] bytes, and the plaintext follows; the tag is appended.
    pub(crate) fn seal_in_place(&self, bound: &Digest, buffer: &mut Vec<u8>) -> Result<(), StoreError> {
        let fresh = galen_core::random::bytes::<NONCE_LEN>()?;
        let (nonce, body) = buffer
            .split_first_chunk_mut::<NONCE_LEN>()
            .ok_or(StoreError::Cipher)?;
        *nonce = fresh;
        let tag = self
            .0
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(fresh), Aad::from(&bound.0), body)
            .map_err(|_| StoreError::Cipher)?;
        buffer.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Opens in place what [`Aead::seal_in_place`] sealed: the plaintext stands after the nonce, and is as long as this returns; `None` if
    /// it does not fit.
    pub(crate) fn open_in_place(&self, bound: &Digest, sealed: &mut [u8]) -> Option<usize> {
        let (nonce, body) = sealed.split_first_chunk_mut::<NONCE_LEN>()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plaintext = self.0.open_in_place(nonce, Aad::from(&bound.0), body).ok()?;
        Some(plaintext.len())
    }

    /// Opens what [`Aead::seal_into`] appended; `None` if it does not fit.
    pub(crate) fn open(&self, bound: &Digest, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut body = Zeroizing::new(body.to_vec());
        let length = self
            .0
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(&bound.0),
                &mut body,
            )
            .ok()?
            .len();
        body.truncate(length);
        Some(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_file_is_private_and_loads_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("storage.key");
        let a = Crypter::create(&path).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(
                std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
        let b = Crypter::load(&path).unwrap();
        let bound = Digest::of(b"x");
        let mut sealed = Vec::new();
        a.records().seal_into(&bound, b"secret", &mut sealed).unwrap();
        assert_eq!(&**b.records().open(&bound, &sealed).unwrap(), b"secret");
        assert!(b.records().open(&Digest::of(b"y"), &sealed).is_none());
        assert!(b.derive(b"other", b"").unwrap().open(&bound, &sealed).is_none());
        for i in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[i] ^= 1;
            assert!(b.records().open(&bound, &bad).is_none());
            assert!(b.records().open(&bound, &sealed[..i]).is_none());
        }
        assert!(Crypter::create(&path).is_err());
    }

    #[test]
    fn a_sealed_file_is_bound_to_its_name_and_key() {
        let dir = tempfile::tempdir().unwrap();
        let a = Crypter::create(&dir.path().join("a.key")).unwrap();
        let b = Crypter::create(&dir.path().join("b.key")).unwrap();
        let sealed = a.seal_file("state", b"content").unwrap();
        assert_eq!(&**a.open_file("state", &sealed).unwrap().unwrap(), b"content");
        assert!(a.open_file("other", &sealed).unwrap().is_none());
        assert!(b.open_file("state", &sealed).unwrap().is_none());
        assert!(a.open_file("state", &sealed[1..]).unwrap().is_none());
        assert_ne!(sealed, a.seal_file("state", b"content").unwrap());
    }

    #[test]
    fn other_files_are_no_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("storage.key");
        for bytes in [
            &b""[..],
            b"GALENKY1",
            &[7; 40],
            &[b"GALENKY1".as_slice(), &[1; 33]].concat(),
        ] {
            std::fs::write(&path, bytes).unwrap();
            assert!(matches!(Crypter::load(&path), Err(StoreError::KeyFile { .. })));
        }
    }
}
