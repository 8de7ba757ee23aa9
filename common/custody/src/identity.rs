//! A receiver's long-term key, to which custodians seal what opens a sum. Its public half stands in the study.

use crate::error::CustodyError;
use crate::seal::KeyPair;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

const VERSION: u8 = 1;

/// A long-term X25519 key pair for HPKE. Overwritten on drop; Debug prints the public half only.
#[derive(Debug, Zeroize, ZeroizeOnDrop)]
pub struct ReceiverKey(KeyPair);

impl ReceiverKey {
    /// Draws a key pair.
    ///
    /// # Errors
    /// [`CustodyError::Random`].
    pub fn generate() -> Result<Self, CustodyError> {
        KeyPair::generate().map(Self)
    }

    /// The public half, for the party's identity card.
    pub fn public(&self) -> &[u8; 32] {
        self.0.public()
    }

    /// Bytes for storing the key; secret.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(1 + 32));
        out.push(VERSION);
        self.0.write(&mut out);
        out
    }

    /// Reads [`Self::to_bytes`].
    ///
    /// # Errors
    /// [`CustodyError::Key`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CustodyError> {
        let key = bytes.strip_prefix(&[VERSION]).and_then(KeyPair::read);
        key.map(Self).ok_or(CustodyError::Key("receiver key"))
    }

    pub(crate) fn pair(&self) -> &KeyPair {
        &self.0
    }
}
