//! HPKE (RFC 9180) in base mode: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305, from the `hpke` crate.
//!
//! What is sealed here is always covered by its sender's signature too, so the mode without sender authentication is
//! enough. The associated data names everything that a sealed text belongs to.

use crate::error::CustodyError;
use galen_core::PartyId;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable, single_shot_open, single_shot_seal};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

type PrivateKey = <X25519HkdfSha256 as Kem>::PrivateKey;
type PublicKey = <X25519HkdfSha256 as Kem>::PublicKey;
type EncappedKey = <X25519HkdfSha256 as Kem>::EncappedKey;

const KEY_LEN: usize = 32;

/// What a sealed text belongs to: HPKE's `info` is the label, the associated data the fields, each preceded by its
/// length as 8 little-endian bytes.
pub(crate) struct Context {
    label: &'static str,
    bound: Vec<u8>,
}

impl Context {
    pub(crate) fn new(label: &'static str, fields: &[&[u8]]) -> Self {
        let mut bound = Vec::new();
        for field in fields {
            bound.extend_from_slice(&(field.len() as u64).to_le_bytes());
            bound.extend_from_slice(field);
        }
        Self { label, bound }
    }

    /// Encapsulated key, then ciphertext with tag.
    pub(crate) fn seal(&self, name: &PartyId, to: &[u8; 32], text: &[u8]) -> Result<Vec<u8>, CustodyError> {
        let refused = |_| CustodyError::Seal(name.clone());
        let to = PublicKey::from_bytes(to).map_err(refused)?;
        // `hpke` draws the ephemeral key itself and knows no error for a machine without randomness: ask first.
        fill_random(&mut [0; 1])?;
        let (key, text) = single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeS::Base,
            &to,
            self.label.as_bytes(),
            text,
            &self.bound,
        )
        .map_err(refused)?;
        Ok([&key.to_bytes()[..], &text].concat())
    }
}

/// An X25519 key pair. The private half stays in one place and is overwritten on drop; Debug prints the public one.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct KeyPair {
    private: Box<[u8; KEY_LEN]>,
    #[zeroize(skip)]
    public: [u8; KEY_LEN],
}

impl KeyPair {
    pub(crate) fn generate() -> Result<Self, CustodyError> {
        let mut material = Zeroizing::new([0; KEY_LEN]);
        fill_random(&mut *material)?;
        let (private, _) = X25519HkdfSha256::derive_keypair(&*material);
        Ok(Self::of(&private))
    }

    fn of(key: &PrivateKey) -> Self {
        let (mut private, mut public) = (Box::new([0; KEY_LEN]), [0; KEY_LEN]);
        key.write_exact(&mut *private);
        X25519HkdfSha256::sk_to_pk(key).write_exact(&mut public);
        Self { private, public }
    }

    pub(crate) fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// Appends the private half.
    pub(crate) fn write(&self, out: &mut Zeroizing<Vec<u8>>) {
        out.extend_from_slice(&*self.private);
    }

    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        PrivateKey::from_bytes(bytes).ok().as_ref().map(Self::of)
    }

    /// The text, unless it was sealed to another key, in another context, or was changed.
    pub(crate) fn open(&self, context: &Context, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (key, text) = sealed.split_at_checked(KEY_LEN)?;
        let key = EncappedKey::from_bytes(key).ok()?;
        let private = PrivateKey::from_bytes(&*self.private).ok()?;
        single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &private,
            &key,
            context.label.as_bytes(),
            text,
            &context.bound,
        )
        .ok()
        .map(Zeroizing::new)
    }
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyPair(public {:02x?})", &self.public[..4])
    }
}

/// Fills a buffer in place from the operating system's generator.
pub(crate) fn fill_random(out: &mut [u8]) -> Result<(), CustodyError> {
    SystemRandom::new().fill(out).map_err(|_| CustodyError::Random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_text_opens_only_in_its_context_and_unchanged() {
        let name = PartyId::new("a").unwrap();
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let context = Context::new("label", &[b"ab", b"c"]);
        let sealed = context.seal(&name, key.public(), b"secret").unwrap();
        assert_eq!(sealed.len(), 6 + galen_sums::contribution::SEAL_OVERHEAD);
        assert_eq!(key.open(&context, &sealed).unwrap().as_slice(), b"secret");
        assert!(other.open(&context, &sealed).is_none());
        assert!(
            key.open(&Context::new("label", &[b"a", b"bc"]), &sealed)
                .is_none()
        );
        assert!(
            key.open(&Context::new("other", &[b"ab", b"c"]), &sealed)
                .is_none()
        );
        for i in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[i] ^= 1;
            assert!(key.open(&context, &bad).is_none(), "byte {i}");
            assert!(key.open(&context, &sealed[..i]).is_none(), "length {i}");
        }
    }

    #[test]
    fn a_key_to_which_nothing_can_be_sealed_is_an_error() {
        // The all-zero point has order one: RFC 9180 (7.1.4) demands that the zero shared secret is refused.
        let context = Context::new("label", &[]);
        let name = PartyId::new("a").unwrap();
        assert!(matches!(
            context.seal(&name, &[0; 32], b"x"),
            Err(CustodyError::Seal(_))
        ));
    }
}
