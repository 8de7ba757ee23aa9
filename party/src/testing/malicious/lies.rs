//! A custodian's answers as a cheat makes them: well formed, signed, and not what they should be. Made from an honest answer and the
//! description of its form alone.

use super::super::federation::Federation;
use galen_core::{PartyId, Transcript};
use galen_custody::ReceiverKey;
use galen_sums::authored::ANSWER;
use galen_sums::{AnswerHeader, Authored, Round, SealedStatement, SealedTexts};
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable, single_shot_open, single_shot_seal};
use std::collections::BTreeMap;

type Key = X25519HkdfSha256;
const LABEL: &[u8] = b"galen sums sealed answer v1";
/// HPKE's encapsulated key comes first.
const ENCAPSULATED: usize = 32;
/// Before the packed coefficients: version and width.
const HEAD: usize = 2;

/// What an answer to a receiver is bound to: every field after its length.
fn bound(header: &AnswerHeader, receiver: &PartyId) -> Vec<u8> {
    let pieces: Vec<u8> = header
        .pieces
        .iter()
        .flat_map(|piece| piece.to_le_bytes())
        .collect();
    let fields = [
        &header.record.0[..],
        &header.set.0,
        &header.sum.0,
        header.custodian.as_str().as_bytes(),
        &pieces,
        receiver.as_str().as_bytes(),
    ];
    let prefixed = |field: &&[u8]| [&(field.len() as u64).to_le_bytes()[..], field].concat();
    fields.iter().flat_map(prefixed).collect()
}

/// The polynomial that the custodian sealed to itself.
fn unseal(header: &AnswerHeader, sealed: &[u8], key: &ReceiverKey) -> Vec<u8> {
    // A version comes before the private half.
    let private = <Key as Kem>::PrivateKey::from_bytes(&key.to_bytes()[1..]).unwrap();
    let (encapsulated, text) = sealed.split_at(ENCAPSULATED);
    let encapsulated = <Key as Kem>::EncappedKey::from_bytes(encapsulated).unwrap();
    let bound = bound(header, &header.custodian);
    single_shot_open::<ChaCha20Poly1305, HkdfSha256, Key>(
        &OpModeR::Base,
        &private,
        &encapsulated,
        LABEL,
        text,
        &bound,
    )
    .unwrap()
}

fn seal(header: &AnswerHeader, receiver: &PartyId, to: &[u8; 32], text: &[u8]) -> Vec<u8> {
    let to = <Key as Kem>::PublicKey::from_bytes(to).unwrap();
    let bound = bound(header, receiver);
    let (encapsulated, text) =
        single_shot_seal::<ChaCha20Poly1305, HkdfSha256, Key>(&OpModeS::Base, &to, LABEL, text, &bound)
            .unwrap();
    [&encapsulated.to_bytes()[..], &text].concat()
}

/// The statement with other texts.
fn resealed(
    federation: &Federation,
    index: usize,
    mut header: AnswerHeader,
    texts: BTreeMap<PartyId, Vec<u8>>,
) -> SealedStatement {
    header.sealed = SealedTexts::of(&texts);
    let (identity, study) = (&federation.members[index].identity, federation.study.digest());
    let said = Authored::sign(&identity.signing, &identity.name, ANSWER, &study, &header).unwrap();
    SealedStatement { said, texts }
}

/// The answer with its first coefficient changed by one, the same for every receiver.
pub(super) fn wrong_coefficient(
    federation: &Federation,
    round: &Round,
    index: usize,
    honest: &SealedStatement,
) -> SealedStatement {
    let mut header: AnswerHeader = honest.said.statement.read_unverified().unwrap();
    let own = &honest.texts[&header.custodian];
    let mut encoding = unseal(&header, own, &federation.members[index].identity.sealing);
    encoding[HEAD] ^= 1;
    header.key_sum = Transcript::new("galen sums key sum v1")
        .field(&header.record.0)
        .field(&encoding)
        .digest();
    let receivers = round.roster().receivers();
    let texts = receivers.iter().map(|receiver| {
        let to = round.roster().sealing(receiver).unwrap();
        (receiver.clone(), seal(&header, receiver, to, &encoding))
    });
    let texts = texts.collect();
    resealed(federation, index, header, texts)
}

/// The honest answer, which one receiver cannot open.
pub(super) fn closed_to(
    federation: &Federation,
    index: usize,
    victim: &PartyId,
    honest: &SealedStatement,
) -> SealedStatement {
    let header: AnswerHeader = honest.said.statement.read_unverified().unwrap();
    let mut texts = honest.texts.clone();
    texts.get_mut(victim).unwrap()[ENCAPSULATED] ^= 1;
    resealed(federation, index, header, texts)
}
