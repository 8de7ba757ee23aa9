//! Texts that a statement seals to single receivers, of which its signature covers the digests.
//!
//! A custodian's answer is sealed to every receiver. If each receiver had to fetch what is sealed to all of them in order to verify one
//! signature, what a round sends would grow with the square of its members. So the signed statement names the digest of each receiver's text,
//! and the texts travel apart: from the author to the coordinator one after the other in one blob, in the order of the receivers' names, and
//! from there each to its receiver alone, who compares it with the signed digest.

use crate::authored::Authored;
use crate::contribution::SEAL_OVERHEAD;
use galen_core::{Digest, PartyId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

/// What a statement says of the texts that it seals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedTexts {
    /// Digest of the blob of all texts.
    pub blob: Digest,
    /// Each receiver's text.
    pub texts: BTreeMap<PartyId, SealedText>,
}

/// What a statement says of one sealed text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedText {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub len: u32,
}

impl SealedText {
    /// What a statement says of this text.
    pub fn of(text: &[u8]) -> Self {
        Self {
            digest: Digest::of(text),
            len: u32::try_from(text.len()).unwrap_or(u32::MAX),
        }
    }
}

/// A statement with sealed texts: all of them where it was made, and its own where a receiver has it. Which receiver a text is for is a claim until
/// it was compared with the statement, [`SealedTexts::own`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedStatement {
    /// The signed statement.
    pub said: Authored,
    /// Texts by receiver.
    pub texts: BTreeMap<PartyId, Vec<u8>>,
}

impl SealedStatement {
    /// The blob in which the texts travel to the coordinator.
    pub fn blob(&self) -> Vec<u8> {
        let mut blob = Vec::with_capacity(self.texts.values().map(Vec::len).sum());
        self.texts.values().for_each(|text| blob.extend_from_slice(text));
        blob
    }

    /// The statement as one receiver gets it.
    pub fn to(&self, receiver: &PartyId) -> Self {
        let own = self.texts.get_key_value(receiver);
        Self {
            said: self.said.clone(),
            texts: own
                .map(|(name, text)| (name.clone(), text.clone()))
                .into_iter()
                .collect(),
        }
    }
}

impl SealedTexts {
    /// What a statement says of these texts.
    pub fn of(texts: &BTreeMap<PartyId, Vec<u8>>) -> Self {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        texts.values().for_each(|text| hash.update(text));
        let described = texts
            .iter()
            .map(|(name, text)| (name.clone(), SealedText::of(text)));
        Self {
            blob: digest(hash),
            texts: described.collect(),
        }
    }

    /// Length of the blob in bytes.
    pub fn len(&self) -> u64 {
        self.texts.values().map(|text| u64::from(text.len)).sum()
    }

    /// Whether nothing is sealed.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Where a receiver's text stands in the blob: offset and length.
    pub fn place(&self, receiver: &PartyId) -> Option<(u64, u32)> {
        let before = self.texts.range::<PartyId, _>(..receiver);
        let offset = before.map(|(_, text)| u64::from(text.len)).sum();
        self.texts.get(receiver).map(|text| (offset, text.len))
    }

    /// What is wrong with the form of texts that should be sealed to exactly these receivers.
    ///
    /// # Errors
    /// In words, for a message that names the author.
    pub fn check(&self, receivers: &BTreeSet<&PartyId>) -> Result<(), &'static str> {
        if !self.texts.keys().eq(receivers.iter().copied()) {
            return Err("it is not sealed to exactly the receivers");
        }
        let overhead = u32::try_from(SEAL_OVERHEAD).unwrap_or(u32::MAX);
        if self.texts.values().any(|text| text.len <= overhead) {
            return Err("a sealed text is empty");
        }
        Ok(())
    }

    /// Compares the blob with the digests, a text at a time; false if one differs.
    ///
    /// # Errors
    /// If it cannot be read; a blob that ends too early counts as that.
    pub fn fits(&self, mut blob: impl Read) -> io::Result<bool> {
        let mut buffer = [0; 8 << 10];
        let mut fits = true;
        for text in self.texts.values() {
            let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
            let mut rest = text.len as usize;
            while rest > 0 {
                let wanted = rest.min(buffer.len());
                let part = buffer.get_mut(..wanted).unwrap_or_default();
                blob.read_exact(part)?;
                hash.update(part);
                rest -= wanted;
            }
            fits &= digest(hash) == text.digest;
        }
        Ok(fits && blob.read(&mut [0])? == 0)
    }

    /// A receiver's own text, if it is there and is the one that was signed.
    pub fn own<'t>(&self, me: &PartyId, texts: &'t BTreeMap<PartyId, Vec<u8>>) -> Option<&'t [u8]> {
        let text = texts.get(me)?;
        let signed = self.texts.get(me)?;
        (SealedText::of(text) == *signed).then_some(text)
    }
}

fn digest(hash: ring::digest::Context) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(hash.finish().as_ref());
    Digest(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> PartyId {
        PartyId::new(name).unwrap()
    }

    fn texts() -> BTreeMap<PartyId, Vec<u8>> {
        let text = |(at, who): (usize, &str)| (name(who), vec![at as u8; 20_000 * at + 100]);
        ["c", "a", "b"].into_iter().enumerate().map(text).collect()
    }

    #[test]
    fn the_blob_holds_each_text_where_the_statement_says() {
        let texts = texts();
        let signed = SealedTexts::of(&texts);
        let mut blob = Vec::new();
        texts.values().for_each(|text| blob.extend_from_slice(text));
        assert_eq!(
            (signed.blob, signed.len()),
            (Digest::of(&blob), blob.len() as u64)
        );
        for (who, text) in &texts {
            let (offset, len) = signed.place(who).unwrap();
            assert_eq!(blob[offset as usize..][..len as usize], text[..]);
            assert_eq!(signed.own(who, &texts), Some(&text[..]));
        }
        assert_eq!(signed.place(&name("d")), None);
        assert!(signed.fits(blob.as_slice()).unwrap());
        assert!(signed.fits(&blob[1..]).is_err());
        assert!(
            !signed
                .fits(blob.iter().chain(&[0]).copied().collect::<Vec<_>>().as_slice())
                .unwrap()
        );
        for at in [0, 100, blob.len() - 1] {
            let mut other = blob.clone();
            other[at] ^= 1;
            assert!(!signed.fits(other.as_slice()).unwrap());
        }
    }

    #[test]
    fn another_text_or_receiver_is_not_what_was_signed() {
        let mut texts = texts();
        let signed = SealedTexts::of(&texts);
        let names: Vec<PartyId> = texts.keys().cloned().collect();
        let receivers: BTreeSet<&PartyId> = names.iter().collect();
        assert_eq!(signed.check(&receivers), Ok(()));
        let fewer = receivers.iter().copied().skip(1).collect();
        assert!(signed.check(&fewer).is_err());
        let stranger = name("d");
        let more = receivers.iter().copied().chain([&stranger]).collect();
        assert!(signed.check(&more).is_err());
        // One receiver's text given to another, and a text with a flipped bit.
        let swapped = texts[&name("a")].clone();
        texts.insert(name("b"), swapped);
        assert_eq!(signed.own(&name("b"), &texts), None);
        texts.get_mut(&name("c")).unwrap()[3] ^= 1;
        assert_eq!(signed.own(&name("c"), &texts), None);
        assert!(signed.own(&name("a"), &texts).is_some());
        assert_eq!(signed.own(&name("d"), &texts), None);
        texts.insert(name("a"), vec![1; SEAL_OVERHEAD]);
        assert!(SealedTexts::of(&texts).check(&receivers).is_err());
    }
}
