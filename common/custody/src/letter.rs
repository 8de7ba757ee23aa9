//! A letter: something that one member hands to another outside of any round, sealed to the long-term key on its card.
//!
//! HPKE in base mode says nothing of the sender. Whoever opens a letter checks its content by other means.

use crate::error::CustodyError;
use crate::identity::ReceiverKey;
use crate::seal::Context;
use galen_core::{PartyId, StudyDigest};
use zeroize::Zeroizing;

fn context(subject: &'static str, study: &StudyDigest, to: &PartyId) -> Context {
    Context::new(subject, &[&study.0, to.as_str().as_bytes()])
}

/// Seals a text to a member of a study. The subject says what kind of letter it is, and is a constant of the program.
///
/// # Errors
/// [`CustodyError::Seal`] for a key to which nothing can be sealed; [`CustodyError::Random`].
pub fn seal(
    subject: &'static str,
    study: &StudyDigest,
    to: &PartyId,
    key: &[u8; 32],
    text: &[u8],
) -> Result<Vec<u8>, CustodyError> {
    context(subject, study, to).seal(to, key, text)
}

/// Opens a letter to this member; `None` if it is another's, on another subject, of another study, or was changed.
pub fn open(
    subject: &'static str,
    study: &StudyDigest,
    to: &PartyId,
    key: &ReceiverKey,
    sealed: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    key.pair().open(&context(subject, study, to), sealed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_core::Digest;

    #[test]
    fn a_letter_opens_for_its_reader_on_its_subject_only() {
        let (a, b) = (PartyId::new("a").unwrap(), PartyId::new("b").unwrap());
        let (study, other) = (Digest::of(b"study"), Digest::of(b"other"));
        let (key, stranger) = (ReceiverKey::generate().unwrap(), ReceiverKey::generate().unwrap());
        let letter = seal("subject", &study, &a, key.public(), b"text").unwrap();
        assert_eq!(**open("subject", &study, &a, &key, &letter).unwrap(), *b"text");
        assert!(open("another", &study, &a, &key, &letter).is_none());
        assert!(open("subject", &other, &a, &key, &letter).is_none());
        assert!(open("subject", &study, &b, &key, &letter).is_none());
        assert!(open("subject", &study, &a, &stranger, &letter).is_none());
        assert!(open("subject", &study, &a, &key, &letter[1..]).is_none());
    }
}
