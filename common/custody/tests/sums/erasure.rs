//! What is gone when a round is over, and what is never shown.

use crate::federation::*;
use galen_core::{Code, Digest};
use galen_custody::seeds::Seeds;
use galen_custody::{KeySum, OneRoundSecret, ReceiverKey, Vote, check_contribution, open_answers};
use galen_sums::{Authored, SealedStatement, authored};
use zeroize::{Zeroize, ZeroizeOnDrop};

#[test]
fn secrets_are_overwritten_on_drop() {
    fn overwritten<T: ZeroizeOnDrop>() {}
    overwritten::<Seeds>();
    overwritten::<KeySum>();
    overwritten::<OneRoundSecret>();
    overwritten::<ReceiverKey>();
}

#[test]
fn overwriting_leaves_nothing_to_use() {
    let federation = Federation::new(Sharing(3, 2, 2), 3, vec![range(4, 10)]);
    let attempt = federation.announce_all(1, 0);
    let mut seeds = Seeds::draw(&attempt.round, &name(0)).unwrap();
    assert_eq!(seeds.hashes().count(), 3);
    seeds.zeroize();
    assert_eq!(seeds.hashes().count(), 0, "no seed is left to hash");

    let mut secret = OneRoundSecret::generate(attempt.round.id()).unwrap();
    let before = secret.to_bytes();
    secret.zeroize();
    let after = secret.to_bytes();
    assert_eq!(before.len(), after.len());
    assert_eq!(after[after.len() - 32..], [0; 32]);
    assert_ne!(before[before.len() - 32..], [0; 32]);
}

#[test]
fn once_the_custodians_have_erased_nobody_reads_a_contribution() {
    let federation = Federation::new(Sharing(4, 3, 3), 4, vec![range(20, 1000)]);
    let mut attempt = federation.announce_all(1, 0);
    let contributions: Vec<_> = (0..4).map(|i| attempt.contribute(i, &[i as i64; 20])).collect();
    let proposal = attempt.propose(&contributions);
    let everyone = attempt.custodians();
    let certificate = attempt.certify(&everyone, &contributions, &proposal);
    let assignments = attempt.round.assign(&everyone).unwrap();
    let answers = attempt.answer_all(&assignments, &contributions, &certificate, &proposal);
    assert!(attempt.open(0, &certificate, &proposal, &answers).is_ok());

    for custodian in &everyone {
        // What is left: the ledger, which refuses, and a key that opens nothing, whatever the machine does.
        let erased = attempt.ledgers[custodian].erase(attempt.round.id()).unwrap();
        let vote = Vote::of(&attempt.round, &proposal.set, proposal.digest);
        let refused = erased.sign(attempt.round.id(), &vote).unwrap_err();
        assert_eq!(refused.code(), Code::WrongPhase);
        attempt.ledgers.insert(custodian.clone(), erased);
        let replacement = OneRoundSecret::generate(attempt.round.id()).unwrap();
        attempt.secrets.insert(custodian.clone(), replacement);
        for contribution in &contributions {
            let secret = &attempt.secrets[custodian];
            assert!(check_contribution(&attempt.round, custodian, secret, &contribution.header).is_err());
        }
        let pieces = attempt.round.held_by(custodian).to_vec();
        let again = attempt.answer(custodian, &contributions, &certificate, &proposal, &pieces);
        assert!(again.is_err());
    }
}

#[test]
fn a_receiver_reads_only_what_was_sealed_to_it() {
    let federation = Federation::new(Sharing(3, 2, 2), 3, vec![range(20, 1000)]);
    let mut attempt = federation.announce_all(1, 0);
    let contributions: Vec<_> = (0..3).map(|i| attempt.contribute(i, &[i as i64; 20])).collect();
    let proposal = attempt.propose(&contributions);
    let everyone = attempt.custodians();
    let certificate = attempt.certify(&everyone, &contributions, &proposal);
    let assignments = attempt.round.assign(&everyone).unwrap();
    let answers = attempt.answer_all(&assignments, &contributions, &certificate, &proposal);
    let open = |me: usize, key: &ReceiverKey, answers: &[SealedStatement]| {
        open_answers(
            &attempt.round,
            &certificate,
            &proposal.set,
            &name(me),
            key,
            answers,
        )
        .map(|_| ())
    };
    assert!(open(0, &federation.parties[0].receiver, &answers).is_ok());
    assert!(open(0, &federation.parties[1].receiver, &answers).is_err());
    assert!(open(1, &federation.parties[0].receiver, &answers).is_err());
    let restored = ReceiverKey::from_bytes(&federation.parties[0].receiver.to_bytes()).unwrap();
    assert!(open(0, &restored, &answers).is_ok());
    // A custodian that signs another polynomial's digest is named.
    let mut lying = answers.clone();
    let mut header: galen_sums::AnswerHeader = lying[0].said.statement.read_unverified().unwrap();
    header.key_sum = Digest::of(b"another");
    let party = federation.party(&lying[0].said.author);
    lying[0].said = Authored::sign(
        &party.signing,
        &party.name,
        authored::ANSWER,
        federation.roster.study(),
        &header,
    )
    .unwrap();
    let refused = open(0, &federation.parties[0].receiver, &lying).unwrap_err();
    assert!(refused.to_string().contains(party.name.as_str()), "{refused}");
}

#[test]
fn stored_keys_are_read_back_or_refused() {
    let secret = OneRoundSecret::generate(galen_sums::RoundId { round: 7, attempt: 3 }).unwrap();
    let bytes = secret.to_bytes();
    let again = OneRoundSecret::from_bytes(&bytes).unwrap();
    assert_eq!((again.round(), again.public()), (secret.round(), secret.public()));
    let key = ReceiverKey::generate().unwrap();
    assert_eq!(
        ReceiverKey::from_bytes(&key.to_bytes()).unwrap().public(),
        key.public()
    );
    for length in 0..bytes.len() {
        assert!(OneRoundSecret::from_bytes(&bytes[..length]).is_err());
    }
    for length in 0..33 {
        assert!(ReceiverKey::from_bytes(&key.to_bytes()[..length]).is_err());
    }
    let mut other_version = bytes.to_vec();
    other_version[0] = 9;
    assert!(OneRoundSecret::from_bytes(&other_version).is_err());
    assert!(OneRoundSecret::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
}

#[test]
fn debug_shows_no_secret() {
    let federation = Federation::new(Sharing(3, 2, 2), 3, vec![range(4, 10)]);
    let attempt = federation.announce_all(1, 0);
    let header = attempt.contribute(0, &[1; 4]).header;
    let secret = &attempt.secrets[&name(0)];
    let opened = check_contribution(&attempt.round, &name(0), secret, &header).unwrap();
    assert_eq!(
        format!("{:?}", Seeds::draw(&attempt.round, &name(0)).unwrap()),
        "Seeds(of h0, 3 pieces)"
    );
    assert!(format!("{opened:?}").contains("Seeds(of h0, 2 pieces)"));
    let private = &secret.to_bytes()[9..];
    let shown = format!("{secret:?}");
    assert!(shown.contains("public") && !shown.contains(&format!("{:02x?}", &private[..4])));
    assert!(!shown.contains(&format!("{private:?}")));
}
