//! Ed25519 keys and signed envelopes.
//!
//! A [`Signed`] value keeps the exact bytes that were signed, so that it can be stored and passed on without being
//! encoded again. The signature covers a domain label (what kind of statement this is), the study digest and the bytes.

use crate::hash::Transcript;
use crate::id::{Digest, StudyDigest};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fmt;

/// What can go wrong with keys and signatures.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The operating system gave no random bytes.
    #[error(transparent)]
    Random(#[from] crate::random::RandomError),
    /// Stored key bytes are not an Ed25519 key in PKCS#8.
    #[error("the stored signing key cannot be read")]
    Key,
    /// The signature does not belong to these bytes, this domain, this study and this key.
    #[error("the signature does not fit")]
    Signature,
    /// The signed bytes are not the statement that was expected.
    #[error("the signed bytes cannot be decoded")]
    Encoding(#[from] postcard::Error),
}

/// A long-term Ed25519 signing key. Debug prints the public half only.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    pkcs8: zeroize::Zeroizing<Vec<u8>>,
}

impl SigningKey {
    /// Draws a key.
    pub fn generate() -> Result<Self, SignError> {
        let document = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new())
            .map_err(|_| crate::random::RandomError)?;
        Self::from_pkcs8(document.as_ref())
    }

    /// Reads a key from PKCS#8 bytes.
    pub fn from_pkcs8(bytes: &[u8]) -> Result<Self, SignError> {
        let pair = Ed25519KeyPair::from_pkcs8(bytes).map_err(|_| SignError::Key)?;
        Ok(Self {
            pair,
            pkcs8: zeroize::Zeroizing::new(bytes.to_vec()),
        })
    }

    /// PKCS#8 bytes for storing the key; secret.
    pub fn to_pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        let mut out = [0; 32];
        out.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey(Digest(out))
    }

    /// Signs a statement of kind `domain` within a study.
    pub fn sign<T: Serialize>(
        &self,
        domain: &str,
        study: &StudyDigest,
        statement: &T,
    ) -> Result<Signed, SignError> {
        let payload = postcard::to_stdvec(statement)?;
        let signature = self.pair.sign(&message(domain, study, &payload).0);
        Ok(Signed {
            payload,
            signature: signature.as_ref().to_vec(),
        })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(public {:?})", self.public())
    }
}

/// An Ed25519 public key; 64 hexadecimal digits in text formats.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PublicKey(pub Digest);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.0.short())
    }
}

/// Bytes of a statement with the Ed25519 signature over them. Text formats hold both as hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    #[serde(with = "hex_in_text")]
    payload: Vec<u8>,
    #[serde(with = "hex_in_text")]
    signature: Vec<u8>,
}

/// Bytes as hexadecimal digits in text formats, as they are in binary ones.
mod hex_in_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &Vec<u8>, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&hex::encode(bytes))
        } else {
            bytes.serialize(serializer)
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        if deserializer.is_human_readable() {
            hex::decode(String::deserialize(deserializer)?).map_err(Error::custom)
        } else {
            Vec::deserialize(deserializer)
        }
    }
}

impl Signed {
    /// Checks the signature and nothing else.
    ///
    /// # Errors
    /// [`SignError::Signature`] if it was not made by `key` over this domain, study and payload.
    pub fn verify(&self, domain: &str, study: &StudyDigest, key: &PublicKey) -> Result<(), SignError> {
        UnparsedPublicKey::new(&ED25519, &key.0.0)
            .verify(&message(domain, study, &self.payload).0, &self.signature)
            .map_err(|_| SignError::Signature)
    }

    /// Checks the signature and decodes the statement.
    ///
    /// # Errors
    /// [`SignError::Signature`] if it was not made by `key` over this domain, study and payload, and
    /// [`SignError::Encoding`] if the payload is not a `T` or has bytes left over.
    pub fn open<T: DeserializeOwned>(
        &self,
        domain: &str,
        study: &StudyDigest,
        key: &PublicKey,
    ) -> Result<T, SignError> {
        self.verify(domain, study, key)?;
        self.read_unverified()
    }

    /// Decodes the statement without checking the signature: only for bytes that this process verified before storing.
    pub fn read_unverified<T: DeserializeOwned>(&self) -> Result<T, SignError> {
        let (value, rest) = postcard::take_from_bytes(&self.payload)?;
        if rest.is_empty() {
            Ok(value)
        } else {
            Err(SignError::Encoding(postcard::Error::DeserializeBadEncoding))
        }
    }

    /// Digest of payload and signature.
    pub fn digest(&self) -> Digest {
        Transcript::new("galen signed envelope v1")
            .field(&self.payload)
            .field(&self.signature)
            .digest()
    }

    /// The signed bytes.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }
}

impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Signed({} bytes, {})",
            self.payload.len(),
            self.digest().short()
        )
    }
}

fn message(domain: &str, study: &StudyDigest, payload: &[u8]) -> Digest {
    Transcript::new("galen signature v1")
        .field(domain.as_bytes())
        .field(&study.0)
        .field(payload)
        .digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_binds_domain_study_key_and_bytes() {
        let key = SigningKey::generate().unwrap();
        let study = Digest::of(b"study");
        let signed = key.sign("vote", &study, &(1u32, "x")).unwrap();
        let open = |s: &Signed, d: &str, st: &Digest, k: &PublicKey| s.open::<(u32, String)>(d, st, k);
        assert_eq!(
            open(&signed, "vote", &study, &key.public()).unwrap(),
            (1, "x".into())
        );
        assert!(open(&signed, "veto", &study, &key.public()).is_err());
        assert!(open(&signed, "vote", &Digest::of(b"other"), &key.public()).is_err());
        assert!(open(&signed, "vote", &study, &SigningKey::generate().unwrap().public()).is_err());
        for i in 0..signed.payload.len() {
            let mut bad = signed.clone();
            bad.payload[i] ^= 1;
            assert!(open(&bad, "vote", &study, &key.public()).is_err());
        }
        assert!(matches!(
            signed.open::<u32>("vote", &study, &key.public()),
            Err(SignError::Encoding(_))
        ));
    }

    #[test]
    fn text_formats_hold_the_exact_bytes_in_hexadecimal() {
        let key = SigningKey::generate().unwrap();
        let study = Digest::of(b"study");
        let signed = key.sign("vote", &study, &7u32).unwrap();
        let text = serde_json::to_string(&signed).unwrap();
        assert!(text.starts_with(r#"{"payload":"07","signature":""#), "{text}");
        assert_eq!(serde_json::from_str::<Signed>(&text).unwrap(), signed);
        assert!(serde_json::from_str::<Signed>(&text.replace("07", "0x")).is_err());
        let binary = postcard::to_stdvec(&signed).unwrap();
        assert_eq!(postcard::from_bytes::<Signed>(&binary).unwrap(), signed);
        assert_eq!(binary.len(), 1 + 1 + 1 + 64, "lengths and bytes, nothing else");
    }

    #[test]
    fn a_key_survives_storage() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_pkcs8(key.to_pkcs8()).unwrap();
        assert_eq!(key.public(), again.public());
        assert!(SigningKey::from_pkcs8(b"nonsense").is_err());
        assert!(!format!("{key:?}").contains(&hex::encode(key.to_pkcs8())));
    }
}
