//! Hashing of structured data: every field is length-prefixed, so that no two field lists share an encoding.

use crate::id::Digest;
use serde::Serialize;

/// A SHA-256 over a domain label and a sequence of length-prefixed fields.
///
/// ```
/// use galen_core::Transcript;
/// let ab_c = Transcript::new("demo").field(b"ab").field(b"c").digest();
/// let a_bc = Transcript::new("demo").field(b"a").field(b"bc").digest();
/// assert_ne!(ab_c, a_bc);
/// ```
pub struct Transcript(ring::digest::Context);

impl Transcript {
    /// Starts a transcript under a domain label, which is itself a length-prefixed field.
    pub fn new(domain: &str) -> Self {
        Self(ring::digest::Context::new(&ring::digest::SHA256)).field(domain.as_bytes())
    }

    /// Appends a field: its length as 8 little-endian bytes, then its bytes.
    #[must_use]
    pub fn field(mut self, bytes: &[u8]) -> Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Appends a number as a field of 8 little-endian bytes.
    #[must_use]
    pub fn number(self, value: u64) -> Self {
        self.field(&value.to_le_bytes())
    }

    /// The digest of everything appended.
    pub fn digest(self) -> Digest {
        let mut out = [0; 32];
        out.copy_from_slice(self.0.finish().as_ref());
        Digest(out)
    }
}

/// Digest of a serialisable value under a domain label; postcard writes every length, so the encoding is injective.
pub fn digest_of<T: Serialize>(domain: &str, value: &T) -> Result<Digest, postcard::Error> {
    Ok(Transcript::new(domain)
        .field(&postcard::to_stdvec(value)?)
        .digest())
}
