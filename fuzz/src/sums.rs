//! Statements and blobs of encrypted sums. Payloads are signed here by the party whose turn it is, so that everything
//! behind the signature is reached: the parties of a study sign what they like.

use crate::federation::FEDERATION;
use crate::memory::bounded;
use crate::{HINTED, choose, postcard_again};
use galen_core::{Digest, Signed};
use galen_custody::{LedgerState, OneRoundSecret, ReceiverKey, check_contribution, open_answers};
use galen_rns::poly::Poly;
use galen_sums::abandon::check_abandoned;
use galen_sums::audit::{AuditHead, AuditLine, Chain, Checker, json_lines, words};
use galen_sums::authored::{
    ABANDONED, ANSWER, CONFIRMATION, CONTRIBUTION, ENDORSEMENT, FINGERPRINT, INCARNATION, KEY_CHECK, STALE,
};
use galen_sums::blob::{ArrivingBlob, BlobReader, BlobWriter, HEADER_LEN, Subject};
use galen_sums::incarnation::{check_confirmation, check_incarnation, check_stale};
use galen_sums::{
    Abandoned, AnswerHeader, Authored, Challenge, Confirmation, ContributionHeader, ContributionSet,
    Endorsement, Fingerprint, FingerprintStatement, Incarnation, KeyCheck, OneRoundKey, PlanInputs, Round,
    RoundRecord, SealedStatement, SealedTexts, Stale, SumPlan, check_answer, check_certificate,
    check_fingerprint, check_header, check_key_check, statement,
};
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeS, Serializable, single_shot_seal};
use std::sync::{Arc, LazyLock};

/// Every statement type: the first byte selects it, the rest is its encoding.
pub fn statements(data: &[u8]) {
    let Some((&which, payload)) = data.split_first() else {
        return;
    };
    match which % 22 {
        0 => drop(postcard_again::<Authored>(payload)),
        1 => drop(postcard_again::<OneRoundKey>(payload)),
        2 => {
            if let Some(record) = postcard_again::<RoundRecord>(payload) {
                record.digest().unwrap();
            }
        }
        3 => drop(postcard_again::<ContributionHeader>(payload)),
        4 => {
            if let Some(set) = postcard_again::<ContributionSet>(payload) {
                assert!(set.check(&FEDERATION.round).is_err() || set.len() >= 3);
            }
        }
        5 => drop(postcard_again::<Endorsement>(payload)),
        6 => drop(postcard_again::<AnswerHeader>(payload)),
        7 => drop(postcard_again::<statement::SeedsRefused>(payload)),
        8 => drop(postcard_again::<statement::Opened>(payload)),
        9 => drop(postcard_again::<statement::OpeningFailed>(payload)),
        10 => drop(postcard_again::<statement::Release>(payload)),
        11 => drop(postcard_again::<AuditLine>(payload)),
        12 => drop(postcard_again::<statement::FingerprintRefused>(payload)),
        13 => drop(postcard_again::<statement::Judged>(payload)),
        14 => drop(postcard_again::<KeyCheck>(payload)),
        15 => drop(postcard_again::<Incarnation>(payload)),
        16 => drop(postcard_again::<Confirmation>(payload)),
        17 => drop(postcard_again::<Stale>(payload)),
        18 => drop(postcard_again::<Abandoned>(payload)),
        19 => drop(postcard_again::<FingerprintStatement>(payload)),
        20 => {
            if let Some(sealed) = postcard_again::<SealedStatement>(payload) {
                assert!(sealed.blob().len() <= payload.len());
            }
        }
        _ => plan(payload),
    }
}

/// Plans and what they follow from.
fn plan(data: &[u8]) {
    if let Some(inputs) = postcard_again::<PlanInputs>(data)
        && let Ok(plan) = SumPlan::new(&inputs)
    {
        plan.check(&inputs).unwrap();
        assert!(plan.log2_q() <= f64::from(plan.security_bound()));
    }
    if let Some(plan) = postcard_again::<SumPlan>(data)
        && plan.check(&plan.inputs).is_ok()
    {
        assert_eq!(SumPlan::new(&plan.inputs).as_ref(), Ok(&plan));
    }
}

/// A coordinator's round record: [`Round::open`].
fn record(data: &[u8]) {
    let f = &*FEDERATION;
    if let Ok(round) = Round::open(&f.roster, &f.record_of(data), &f.inputs) {
        assert_eq!(round.plan(), f.round.plan());
        assert!(round.custodians().len() >= f.roster.agreement());
        round.common_polynomial(0);
    }
}

/// A custodian's one-round key as it stands in a record.
fn round_key(data: &[u8]) {
    let f = &*FEDERATION;
    let mut record = f.record.clone();
    record.custodians[0] = f.key_of(0, data);
    let signed = record.sign(&f.coordinator).unwrap();
    if let Ok(round) = Round::open(&f.roster, &signed, &f.inputs) {
        assert!(round.custodians().contains_key(&f.names[0]));
    }
}

/// A contribution's header, as the coordinator and as a custodian checks it: [`check_header`], [`check_contribution`].
fn contribution(data: &[u8]) {
    let f = &*FEDERATION;
    let authored = f.signed_by(1, CONTRIBUTION, data);
    let header = check_header(&f.round, &authored);
    let opened = check_contribution(&f.round, &f.names[0], &f.secrets[0], &authored);
    match header {
        Ok(header) => {
            assert!(header.contributor == f.names[1] && header.record == *f.round.digest());
            if let Ok(opened) = opened {
                assert_eq!(opened.header(), &authored.digest());
            }
        }
        Err(_) => assert!(opened.is_err()),
    }
}

/// Endorsements: [`check_certificate`].
fn endorsement(data: &[u8]) {
    let f = &*FEDERATION;
    let [first, second] = [0, 1].map(|custodian| f.signed_by(custodian, ENDORSEMENT, data));
    if let Ok(certificate) = check_certificate(&f.round, &[first.clone(), second]) {
        assert_eq!(certificate.endorsers().len(), 2);
        let _ = certificate.check_set(&f.round, &f.set);
    }
    assert!(check_certificate(&f.round, &[first.clone(), first]).is_err());
}

/// A custodian's answer: [`check_answer`].
fn answer(data: &[u8]) {
    let f = &*FEDERATION;
    let authored = f.signed_by(0, ANSWER, data);
    if let Ok(answer) = check_answer(&f.round, &f.certificate, &authored) {
        assert!(!answer.pieces.is_empty() && answer.custodian == f.names[0]);
    }
}

/// The encoded key sum inside of a sealed answer, which a dishonest custodian chooses: [`open_answers`].
///
/// The first two bytes are how much longer or shorter than it should be the encoding is; the others are its beginning, and are repeated.
pub fn key_sum(data: &[u8]) {
    let f = &*FEDERATION;
    let Some((&[fill, shorter], start)) = data.split_first_chunk() else {
        return;
    };
    if start.len() < 2 {
        return;
    }
    // One custodian answers for all pieces that it holds, another one for the rest.
    let held: [Vec<u32>; 2] = {
        let first = f.round.held_by(&f.names[0]).to_vec();
        let rest = f
            .round
            .held_by(&f.names[1])
            .iter()
            .copied()
            .filter(|p| !first.contains(p));
        [first.clone(), rest.collect()]
    };
    let width = usize::from(start[1]);
    let packed = (4096 * width).div_ceil(8) + usize::from(fill);
    let mut encoding = start.to_vec();
    let pattern = &start[2..];
    while encoding.len() < 2 + packed {
        encoding.extend(pattern.iter().take(2 + packed - encoding.len()));
        if pattern.is_empty() {
            encoding.resize(2 + packed, 0);
        }
    }
    encoding.truncate((2 + packed).saturating_sub(usize::from(shorter)));
    let answers = [0, 1].map(|custodian| {
        let sealed = seal(custodian, &held[custodian], &encoding);
        let certified = f.certificate.endorsement();
        let texts = f
            .names
            .iter()
            .map(|name| (name.clone(), sealed.clone()))
            .collect();
        let header = AnswerHeader {
            record: certified.record,
            set: certified.set,
            sum: certified.sum,
            custodian: f.names[custodian].clone(),
            pieces: held[custodian].clone(),
            key_sum: galen_core::Transcript::new("galen sums key sum v1")
                .field(&f.round.digest().0)
                .field(&encoding)
                .digest(),
            sealed: SealedTexts::of(&texts),
        };
        let (signing, name) = (&f.signing[custodian], &f.names[custodian]);
        let said = Authored::sign(signing, name, ANSWER, f.roster.study(), &header).unwrap();
        SealedStatement { said, texts }
    });
    let opened = bounded(&encoding, 1 << 20, 32, || {
        open_answers(
            &f.round,
            &f.certificate,
            &f.set,
            &f.names[3],
            &f.receivers[3],
            &answers,
        )
    });
    if opened.is_ok() {
        // At most 12 seeds of at most 27 per coefficient: ten bits.
        assert!(
            start[0] == 1 && (1..=10).contains(&start[1]) && encoding.len() == 2 + (4096 * width).div_ceil(8)
        );
    } else {
        let error = opened.unwrap_err().to_string();
        assert!(
            !error.contains("does not open") && !error.contains("that it signed"),
            "{error}"
        );
    }
}

/// Seals to the fourth party what [`open_answers`] opens.
fn seal(custodian: usize, pieces: &[u32], text: &[u8]) -> Vec<u8> {
    let f = &*FEDERATION;
    let certified = f.certificate.endorsement();
    let pieces: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_le_bytes()).collect();
    let (custodian, receiver) = (f.names[custodian].as_str(), f.names[3].as_str());
    let fields = [
        &certified.record.0[..],
        &certified.set.0,
        &certified.sum.0,
        custodian.as_bytes(),
        &pieces,
        receiver.as_bytes(),
    ];
    let bound: Vec<u8> = fields
        .iter()
        .flat_map(|field| [&(field.len() as u64).to_le_bytes()[..], field].concat())
        .collect();
    let to = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(f.receivers[3].public()).unwrap();
    let (key, text) = single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &to,
        b"galen sums sealed answer v1",
        text,
        &bound,
    )
    .unwrap();
    [&key.to_bytes()[..], &text].concat()
}

/// A blob of ciphertexts: [`BlobReader`]. The first byte is how many bytes are missing, the second how many follow; then comes the
/// header, and then the pattern that the rest is filled with.
pub fn blob(data: &[u8]) {
    let f = &*FEDERATION;
    let Some((&[missing, more], rest)) = data.split_first_chunk() else {
        return;
    };
    let (header, pattern) = rest.split_at(rest.len().min(HEADER_LEN));
    let expected = f.round.plan().blob_len() as usize;
    let mut bytes = header.to_vec();
    let fill = pattern
        .iter()
        .copied()
        .cycle()
        .take(expected.saturating_sub(bytes.len()));
    bytes.extend(fill);
    bytes.resize(expected + usize::from(more), 0);
    bytes.truncate((expected + usize::from(more)).saturating_sub(usize::from(missing)));
    for subject in [
        Subject::Contribution(f.names[1].clone()),
        Subject::Sum(f.set.digest()),
    ] {
        let read = bounded(&bytes, 1 << 12, 4, || {
            let mut reader = BlobReader::new(&f.round, &subject, bytes.as_slice()).ok()?;
            let mut block = Poly::zero(f.round.ring());
            reader.read_block(&mut block).ok()?;
            Some((reader.finish().ok()?, block))
        });
        assert_eq!(
            arrives(&bytes, &subject, 1 + 97 * usize::from(more)),
            read.is_some()
        );
        if let Some((digest, block)) = read {
            assert!(bytes.len() == expected && digest == Some(Digest::of(&bytes)));
            let mut again = Vec::new();
            let mut writer = BlobWriter::new(&f.round, &subject, &mut again).unwrap();
            writer.write_block(&block).unwrap();
            assert_eq!(Some(writer.finish().unwrap()), digest);
            assert_eq!(again, bytes);
        }
    }
}

/// Whether a blob conforms that arrives in pieces of so many bytes: [`ArrivingBlob`].
fn arrives(bytes: &[u8], subject: &Subject, piece: usize) -> bool {
    static ROUND: LazyLock<Arc<Round>> = LazyLock::new(|| {
        let f = &*FEDERATION;
        let record = f.record.sign(&f.coordinator).unwrap();
        Arc::new(Round::open(&f.roster, &record, &f.inputs).unwrap())
    });
    let mut arriving = ArrivingBlob::new(&ROUND, subject);
    bytes.chunks(piece).all(|piece| arriving.take(piece).is_ok()) && arriving.is_complete()
}

/// Keys as a party stores them: [`ReceiverKey::from_bytes`], [`OneRoundSecret::from_bytes`]; the ledger of a custodian.
pub fn custody_keys(data: &[u8]) {
    // Private keys come back clamped (RFC 7748, section 5), which is the same key; all else is as it was.
    if let Ok(key) = bounded(data, HINTED, 8, || ReceiverKey::from_bytes(data)) {
        let bytes = key.to_bytes();
        let again = ReceiverKey::from_bytes(&bytes).unwrap();
        assert!(again.public() == key.public() && again.to_bytes() == bytes && bytes.len() == data.len());
    }
    if let Ok(secret) = bounded(data, HINTED, 8, || OneRoundSecret::from_bytes(data)) {
        let bytes = secret.to_bytes();
        let again = OneRoundSecret::from_bytes(&bytes).unwrap();
        assert!(again.public() == secret.public() && again.to_bytes() == bytes);
        assert!(bytes.len() == data.len() && bytes[..9] == data[..9]);
    }
    if let Some(ledger) = postcard_again::<LedgerState>(data) {
        let f = &*FEDERATION;
        let secret = &f.secrets[0];
        if let Ok(ledger) = ledger.announce(f.round.id(), secret.public()) {
            secret
                .statement(&ledger, &f.names[0], &f.signing[0], f.roster.study())
                .unwrap();
        }
    }
}

/// A contributor's fingerprint: [`check_fingerprint`].
fn fingerprint(data: &[u8]) {
    let f = &*FEDERATION;
    let challenge = Challenge::new(f.certificate.endorsement());
    let authored = f.signed_by(1, FINGERPRINT, data);
    if let Ok(values) = check_fingerprint(&f.round, &challenge, &authored) {
        let mut total = Fingerprint::zero(&f.round);
        total.add(&f.round, &values).unwrap();
        assert_eq!(total, values);
    }
}

/// A custodian's word on its pieces: [`check_key_check`].
fn key_check(data: &[u8]) {
    let f = &*FEDERATION;
    let authored = f.signed_by(0, KEY_CHECK, data);
    if let Ok(check) = check_key_check(&f.round, &f.certificate, &authored) {
        assert_eq!(check.custodian, f.names[0]);
        assert_eq!(check.digests.len(), f.round.held_by(&f.names[0]).len());
    }
}

/// What custodians say of each other's ledgers, and that they gave an attempt up.
fn custodians(data: &[u8]) {
    let f = &*FEDERATION;
    let nonce = Digest::of(b"incarnation");
    let ledger = LedgerState::default().begin(nonce);
    if let Ok(said) = check_incarnation(&f.roster, &f.signed_by(0, INCARNATION, data)) {
        assert_eq!(said.custodian, f.names[0]);
        let (vouched, _) = ledger.vouch(&said);
        assert!(vouched.seq() >= ledger.seq());
    }
    if let Ok(said) = check_confirmation(&f.roster, &f.signed_by(1, CONFIRMATION, data)) {
        assert_ne!(said.custodian, f.names[1]);
        let by = [(f.names[1].clone(), said)].into();
        if let Ok(confirmed) = ledger.confirmed(&by, 1) {
            assert!(confirmed.is_confirmed());
            let _ = confirmed.announce(f.round.id(), f.secrets[0].public());
        }
    }
    let own = Incarnation {
        custodian: f.names[0].clone(),
        nonce,
        seq: 3,
    };
    if let Ok(key) = check_stale(&f.roster, &own, &f.signed_by(1, STALE, data)) {
        assert!(key.seq > own.seq);
        assert!(ledger.forget_until(&key, nonce).seq() >= key.seq);
    }
    let _ = check_abandoned(&f.roster, f.round.id(), &f.signed_by(1, ABANDONED, data));
}

/// A whole signed envelope as it comes from a party, without help with the signature.
fn authored(data: &[u8]) {
    let f = &*FEDERATION;
    if let Some(signed) = postcard_again::<Signed>(data) {
        let _ = Round::open(&f.roster, &signed, &f.inputs);
    }
    if let Some(authored) = postcard_again::<Authored>(data) {
        let _ = check_header(&f.round, &authored);
        let _ = check_answer(&f.round, &f.certificate, &authored);
        let _ = check_certificate(&f.round, &[authored]);
    }
}

/// A line of the audit log by a dishonest coordinator: [`Chain::push`], [`Checker::read`], and the words and the file that come of it.
fn audit_line(data: &[u8]) {
    let f = &*FEDERATION;
    let head = AuditHead::default();
    // What stands before the event must fit, or nothing after it is looked at.
    let preamble = postcard::to_stdvec(&(1u64, head.digest, 7u64)).unwrap();
    let signed = f.line_of(&[&preamble, data].concat());
    let mut chain = Chain::new(*f.roster.study(), f.coordinator.public());
    let Ok(line) = chain.push(&signed) else {
        return;
    };
    let mut checker = Checker::new(Arc::clone(&f.roster));
    checker.read(&line);
    let report = checker.finish(*chain.head());
    let text = format!("{}\n{}", words::line(&line), report.text());
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
    let written = json_lines::write(&line, &signed).unwrap();
    let mut chain = Chain::new(*f.roster.study(), f.coordinator.public());
    assert_eq!(json_lines::verify(&mut chain, &written).unwrap().0, line);
}

/// A line of a file of the audit log.
fn audit_file(data: &[u8]) {
    let f = &*FEDERATION;
    let mut chain = Chain::new(*f.roster.study(), f.coordinator.public());
    let _ = json_lines::verify(&mut chain, &String::from_utf8_lossy(data));
}

/// Payloads that their authors signed.
pub fn signed(data: &[u8]) {
    choose(
        &[
            record,
            round_key,
            contribution,
            endorsement,
            answer,
            authored,
            audit_line,
            audit_file,
            fingerprint,
            key_check,
            custodians,
        ],
        data,
    );
}
