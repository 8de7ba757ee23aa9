//! Records, sets, certificates and answers that must be refused.

use crate::federation::*;
use crate::refusals::{contributions, federation};
use galen_core::{Code, Digest, PartyId, SigningKey};
use galen_custody::{CustodyError, Vote, check_set, endorse};
use galen_sums::plan::PlanInputs;
use galen_sums::record::OneRoundKey;
use galen_sums::{
    AnswerHeader, Authored, ContributionSet, Endorsement, PlanError, Round, RoundId, SealedStatement,
    SetFault, SumsError, authored, check_answer, check_certificate,
};
use std::collections::BTreeSet;

#[test]
fn sets_that_are_too_small_or_not_the_custodians_are_refused() {
    let federation = federation();
    let mut attempt = federation.announce_all(1, 0);
    let all = contributions(&attempt);
    let headers: Vec<_> = all.iter().map(|c| c.header.clone()).collect();
    let few = ContributionSet::new(&attempt.round, &headers[..2]).unwrap_err();
    assert!(matches!(
        few,
        SumsError::Set(SetFault::TooFew { members: 2, min: 3 })
    ));
    assert_eq!(few.code(), Code::SetRefused);

    let set = ContributionSet::new(&attempt.round, &headers).unwrap();
    let smaller = ContributionSet::new(&attempt.round, &headers[..3]).unwrap();
    let opened = attempt.open_seeds(&name(0), &all).unwrap();
    assert!(check_set(&attempt.round, &set, &opened).is_ok());
    assert!(
        check_set(&attempt.round, &set, &opened[..3]).is_err(),
        "a member without seeds"
    );
    assert!(
        check_set(&attempt.round, &smaller, &opened).is_err(),
        "seeds without a member"
    );
    let mut other = set.clone();
    other.members.insert(name(1), Digest::of(b"another header"));
    assert!(check_set(&attempt.round, &other, &opened).is_err());
    let mut stranger = set.clone();
    stranger
        .members
        .insert(PartyId::new("stranger").unwrap(), Digest::of(b"x"));
    assert_eq!(
        check_set(&attempt.round, &stranger, &opened).unwrap_err().code(),
        Code::SetRefused
    );
    let mut elsewhere = set.clone();
    elsewhere.record = Digest::of(b"another record");
    assert!(check_set(&attempt.round, &elsewhere, &opened).is_err());

    // Endorsing needs the ledger's commitment, and only to this.
    let party = &federation.parties[0];
    let sum = Digest::of(b"sum");
    let (round, ledger) = (&attempt.round, &attempt.ledgers[&name(0)]);
    let early = endorse(round, &party.name, &party.signing, ledger, &set, &opened, sum);
    assert_eq!(early.unwrap_err().code(), Code::WrongPhase);
    let committed = ledger.sign(round.id(), &Vote::of(round, &set, sum)).unwrap();
    assert!(endorse(round, &party.name, &party.signing, &committed, &set, &opened, sum).is_ok());
    let another = endorse(
        round,
        &party.name,
        &party.signing,
        &committed,
        &set,
        &opened,
        Digest::of(b"other"),
    );
    assert_eq!(another.unwrap_err().code(), Code::Conflict);
    let smaller = endorse(
        round,
        &party.name,
        &party.signing,
        &committed,
        &smaller,
        &opened[..3],
        sum,
    );
    assert_eq!(smaller.unwrap_err().code(), Code::Conflict);
    attempt.ledgers.clear();
}

#[test]
fn certificates_need_g_distinct_custodians_of_one_mind() {
    let federation = federation();
    let attempt = federation.announce_all(1, 0);
    let all = contributions(&attempt);
    let proposal = attempt.propose(&all);
    let endorsement = Endorsement::of(&proposal.set, proposal.digest);
    let sign = |index: usize, endorsement: &Endorsement| {
        let party = &federation.parties[index];
        let study = federation.roster.study();
        Authored::sign(
            &party.signing,
            &party.name,
            authored::ENDORSEMENT,
            study,
            endorsement,
        )
        .unwrap()
    };
    let votes: Vec<_> = (0..4).map(|i| sign(i, &endorsement)).collect();
    let round = &attempt.round;
    assert_eq!(check_certificate(round, &votes).unwrap().endorsers().len(), 4);
    assert!(check_certificate(round, &votes[..3]).is_ok());
    let few = check_certificate(round, &votes[1..3]).unwrap_err();
    assert!(matches!(few, SumsError::Certificate { found: 2, needed: 3 }));
    let twice = [votes[0].clone(), votes[1].clone(), votes[1].clone()];
    assert!(matches!(
        check_certificate(round, &twice),
        Err(SumsError::Endorsement(_))
    ));
    let other = Endorsement {
        sum: Digest::of(b"other"),
        ..endorsement.clone()
    };
    let split = [votes[0].clone(), votes[1].clone(), sign(2, &other)];
    assert!(matches!(
        check_certificate(round, &split),
        Err(SumsError::Endorsement(_))
    ));
    let elsewhere = Endorsement {
        record: Digest::of(b"other"),
        ..endorsement
    };
    let old: Vec<_> = (0..3).map(|i| sign(i, &elsewhere)).collect();
    assert_eq!(
        check_certificate(round, &old).unwrap_err().code(),
        Code::WrongRound
    );
    let mut forged = votes[..3].to_vec();
    forged[2].author = name(3);
    assert_eq!(
        check_certificate(round, &forged).unwrap_err().code(),
        Code::BadSignature
    );
}

#[test]
fn answers_for_wrong_pieces_are_refused() {
    let federation = federation();
    let mut attempt = federation.announce_all(1, 0);
    let all = contributions(&attempt);
    let proposal = attempt.propose(&all);
    let everyone = attempt.custodians();
    let certificate = attempt.certify(&everyone, &all, &proposal);
    let held = attempt.round.held_by(&name(0)).to_vec();
    let lacking = (0..6).find(|piece| !held.contains(piece)).unwrap();
    for pieces in [
        vec![],
        vec![lacking],
        vec![held[1], held[0]],
        vec![held[0], held[0]],
        vec![6],
    ] {
        let refused = attempt
            .answer(&name(0), &all, &certificate, &proposal, &pieces)
            .unwrap_err();
        assert_eq!(refused.code(), Code::NotConforming, "{pieces:?}");
    }
    // A custodian that signs such an answer all the same.
    let good = attempt
        .answer(&name(0), &all, &certificate, &proposal, &held)
        .unwrap();
    let resign = |change: &dyn Fn(&mut AnswerHeader)| {
        let mut header: AnswerHeader = good.said.statement.read_unverified().unwrap();
        change(&mut header);
        let party = &federation.parties[0];
        let study = federation.roster.study();
        SealedStatement {
            said: Authored::sign(&party.signing, &party.name, authored::ANSWER, study, &header).unwrap(),
            texts: good.texts.clone(),
        }
    };
    let check =
        |answer: &SealedStatement| check_answer(&attempt.round, &certificate, &answer.said).map(|_| ());
    assert!(check(&good).is_ok());
    type Change<'a> = (&'a dyn Fn(&mut AnswerHeader), Code);
    let changes: [Change<'_>; 9] = [
        (&|a| a.pieces.clear(), Code::NotConforming),
        (&|a| a.pieces = vec![lacking], Code::NotConforming),
        (&|a| a.pieces.reverse(), Code::NotConforming),
        (&|a| a.custodian = name(1), Code::NotConforming),
        (&|a| a.record = Digest::of(b"x"), Code::WrongRound),
        (&|a| a.set = Digest::of(b"x"), Code::SetRefused),
        (&|a| a.sum = Digest::of(b"x"), Code::SetRefused),
        (&|a| drop(a.sealed.texts.pop_first()), Code::NotConforming),
        (
            &|a| a.sealed.texts.get_mut(&name(2)).unwrap().len = 48,
            Code::NotConforming,
        ),
    ];
    for (index, (change, code)) in changes.into_iter().enumerate() {
        assert_eq!(check(&resign(change)).unwrap_err().code(), code, "change {index}");
    }
    // A polynomial that is said to cover other pieces than it was sealed for does not open.
    let fewer = resign(&|a| a.pieces = vec![held[0]]);
    let mut answers = vec![fewer];
    let rest: BTreeSet<u32> = (0..6).filter(|piece| *piece != held[0]).collect();
    for piece in rest {
        let holder = (1..4)
            .map(name)
            .find(|c| attempt.round.held_by(c).contains(&piece))
            .unwrap();
        answers.push(
            attempt
                .answer(&holder, &all, &certificate, &proposal, &[piece])
                .unwrap(),
        );
    }
    let refused = attempt.open(1, &certificate, &proposal, &answers).unwrap_err();
    assert!(
        matches!(&refused, CustodyError::Answer { custodian, .. } if *custodian == name(0)),
        "{refused}"
    );
    // An honest answer in its place opens; covering a piece twice does not.
    answers[0] = attempt
        .answer(&name(0), &all, &certificate, &proposal, &[held[0]])
        .unwrap();
    assert!(attempt.open(1, &certificate, &proposal, &answers).is_ok());
    answers.push(
        attempt
            .answer(&name(0), &all, &certificate, &proposal, &[held[0]])
            .unwrap(),
    );
    let twice = attempt.open(1, &certificate, &proposal, &answers).unwrap_err();
    assert!(matches!(twice, CustodyError::Pieces { times: 2, .. }));
}

#[test]
fn an_answer_for_another_set_is_refused_by_the_ledger_and_by_the_receiver() {
    let federation = federation();
    let mut attempt = federation.announce_all(1, 0);
    let all = contributions(&attempt);
    let (proposal, other) = (attempt.propose(&all), attempt.propose(&all[..3]));
    let certificate = attempt.certify(&names([0, 1, 2]), &all, &proposal);
    // Custodian 3 missed the endorsement and may still answer for the certified set, but for no other.
    let pieces = attempt.round.held_by(&name(3)).to_vec();
    let late = attempt.answer(&name(3), &all, &certificate, &proposal, &pieces);
    assert!(late.is_ok());
    let refused = attempt
        .answer(&name(3), &all[..3], &certificate, &other, &pieces)
        .unwrap_err();
    assert_eq!(refused.code(), Code::Conflict);
    let mut rival = federation.announce_all(1, 0);
    rival.round = attempt.round.clone();
    rival.secrets = std::mem::take(&mut attempt.secrets);
    // These custodians forget their ledgers and certify the smaller set too; one with its ledger does not join.
    let id = attempt.round.id();
    for (custodian, secret) in &rival.secrets {
        let fresh = federation.fresh_ledger(custodian);
        let fresh = fresh.announce(id, secret.public()).unwrap();
        rival.ledgers.insert(custodian.clone(), fresh);
    }
    let second = rival.certify(&names([0, 1, 2]), &all[..3], &other);
    let kept = &attempt.ledgers[&name(3)];
    let vote = Vote::of(&attempt.round, &other.set, second.endorsement().sum);
    assert_eq!(kept.sign(id, &vote).unwrap_err().code(), Code::Conflict);
    assert_eq!(
        kept.answer(id, second.endorsement()).unwrap_err().code(),
        Code::Conflict
    );
    // And a receiver takes no answer for the one in the place of the other.
    let answer = rival.answer(
        &name(0),
        &all[..3],
        &second,
        &other,
        rival.round.clone().held_by(&name(0)),
    );
    let refused = attempt
        .open(0, &certificate, &proposal, &[answer.unwrap()])
        .unwrap_err();
    assert_eq!(refused.code(), Code::SetRefused);
}

#[test]
fn records_that_do_not_hold_are_refused() {
    let federation = federation();
    let id = RoundId { round: 1, attempt: 0 };
    let attempt = federation.announce_all(1, 0);
    let keys = attempt.round.record().custodians.clone();
    let open_with = |key: &SigningKey, record: galen_sums::RoundRecord, inputs: &PlanInputs| {
        Round::open(&federation.roster, &record.sign(key).unwrap(), inputs).map(|_| ())
    };
    let open = |record| open_with(&federation.coordinator, record, &federation.inputs);
    let record = |keys: &[Authored]| federation.record(id, keys.to_vec());
    assert!(open(record(&keys)).is_ok());
    assert!(open(record(&keys[..3])).is_ok());

    let stranger = SigningKey::generate().unwrap();
    let refused = open_with(&stranger, record(&keys), &federation.inputs).unwrap_err();
    assert_eq!(refused.code(), Code::BadSignature);
    let refused = open(record(&keys[..2])).unwrap_err();
    assert!(matches!(refused, SumsError::Custodians(_)));
    let repeated = [&keys[..], &keys[..1]].concat();
    assert!(matches!(open(record(&repeated)), Err(SumsError::Custodians(_))));

    // Keys of another attempt, under another name, by a stranger, or shared.
    let later = federation.announce_all(1, 1).round.record().custodians.clone();
    assert_eq!(open(record(&later)).unwrap_err().code(), Code::WrongRound);
    let sign = |index: usize, custodian: usize, key: [u8; 32]| {
        let statement = OneRoundKey {
            round: id,
            custodian: name(custodian),
            key,
            incarnation: Digest::of(name(custodian).as_str().as_bytes()),
            seq: 1,
        };
        let party = &federation.parties[index];
        Authored::sign(
            &party.signing,
            &party.name,
            authored::ONE_ROUND_KEY,
            federation.roster.study(),
            &statement,
        )
        .unwrap()
    };
    let renamed = [keys[0].clone(), keys[1].clone(), sign(2, 3, [9; 32])];
    assert_eq!(open(record(&renamed)).unwrap_err().code(), Code::WrongRound);
    let shared = [sign(0, 0, [9; 32]), sign(1, 1, [9; 32]), sign(2, 2, [8; 32])];
    assert!(matches!(open(record(&shared)), Err(SumsError::Custodians(_))));
    let mut unknown = keys.clone();
    unknown[0].author = PartyId::new("stranger").unwrap();
    assert_eq!(open(record(&unknown)).unwrap_err().code(), Code::RoleMissing);
    let mut forged = keys.clone();
    forged[0].author = name(1);
    forged.remove(1);
    assert_eq!(open(record(&forged)).unwrap_err().code(), Code::BadSignature);

    // A plan that lies by a bit, and a plan for other inputs.
    let mut lie = record(&keys);
    lie.plan.delta *= 2;
    assert!(matches!(open(lie), Err(SumsError::Plan(PlanError::Delta { .. }))));
    let mut lie = record(&keys);
    lie.plan.noise_bound *= 2;
    assert_eq!(open(lie).unwrap_err().code(), Code::NotConforming);
    let mut other = federation.inputs.clone();
    other.ranges[0].max_abs -= 1;
    let refused = open_with(&federation.coordinator, record(&keys), &other).unwrap_err();
    assert!(matches!(refused, SumsError::Plan(PlanError::Inputs)));

    // Another study's record under this coordinator's key.
    let mut foreign = record(&keys);
    foreign.study = Digest::of(b"another study");
    assert_eq!(open(foreign.clone()).unwrap_err().code(), Code::BadSignature);
    let signed = federation
        .coordinator
        .sign(authored::ROUND_RECORD, federation.roster.study(), &foreign)
        .unwrap();
    let refused = Round::open(&federation.roster, &signed, &federation.inputs).unwrap_err();
    assert_eq!(refused.code(), Code::WrongStudy);
}
