//! Sets of several attempts of one round, in which contributors encrypt the same values.

use super::*;
use galen_core::PartyId;
use galen_sums::authored::ABANDONED;
use galen_sums::{Abandoned, Earlier};
use std::collections::BTreeSet;

fn names(federation: &Federation, indices: &[usize]) -> BTreeSet<PartyId> {
    let name = |&index: &usize| federation.members[index].identity.name.clone();
    indices.iter().map(name).collect()
}

/// A custodian's word that it gave an attempt up, as its own code gives it.
fn give_up(federation: &Federation, round: &Round) -> Vec<Authored> {
    let word = |member: &super::super::federation::Member| member.custodian.abandon(round).unwrap();
    federation.custodians().filter_map(word).collect()
}

/// Another attempt of the first round, whose record says this of those before.
fn attempt(federation: &Federation, attempt: u32, earlier: Vec<Earlier>) -> Result<Round, PartyError> {
    let id = RoundId { round: 0, attempt };
    let record = changed_record(federation, id, |record| record.earlier = earlier);
    federation.rounds.open(id, &record)
}

/// What the first custodian says to the set of these contributors.
fn offer(federation: &Federation, round: &Round, indices: &[usize]) -> Result<Option<Authored>, PartyError> {
    let all = federation.contribute(round, values);
    let parcels: Vec<Parcel> = (0..)
        .zip(all)
        .filter(|(at, _)| indices.contains(at))
        .map(|(_, p)| p)
        .collect();
    let sum = federation.add(round, &parcels).1;
    federation.members[0]
        .custodian
        .endorse(round, &headers(&parcels), sum)
}

/// Attack: a later attempt collects all but one of those whose sum may be open already; the difference is that hospital's values.
#[test]
fn a_set_that_differs_by_one_hospital_is_not_endorsed_in_a_later_attempt() {
    let federation = federation(6, 3, 5);
    let first = federation.statistics_round(0, base(&federation));
    offer(&federation, &first, &[0, 1, 2, 3, 4, 5]).unwrap().unwrap();
    let whole = names(&federation, &[0, 1, 2, 3, 4, 5]);
    // Line of defence: the ledger's rule of atoms.
    let second = attempt(&federation, 1, vec![Earlier::Standing(whole.clone())]).unwrap();
    refused(
        offer(&federation, &second, &[1, 2, 3, 4, 5]),
        "would tell about 1",
    );
    refused(offer(&federation, &second, &[0, 1, 2, 3]), "second set or sum");
}

/// Attack: three sets of one round, any two of which are far enough apart.
#[test]
fn three_sets_of_one_round_single_nobody_out() {
    let federation = federation(6, 3, 5);
    let first = federation.statistics_round(0, base(&federation));
    offer(&federation, &first, &[0, 1, 2, 3, 4, 5]).unwrap().unwrap();
    let whole = Earlier::Standing(names(&federation, &[0, 1, 2, 3, 4, 5]));
    let second = attempt(&federation, 1, vec![whole.clone()]).unwrap();
    offer(&federation, &second, &[0, 1, 2]).unwrap().unwrap();
    let half = Earlier::Standing(names(&federation, &[0, 1, 2]));
    // Line of defence: atoms of all sets together, not pairs of sets: beside the whole alone this one would do.
    let third = attempt(&federation, 2, vec![whole.clone(), half.clone()]).unwrap();
    refused(offer(&federation, &third, &[0, 3, 4]), "would tell about 1");
    let fourth = attempt(
        &federation,
        3,
        vec![whole, half, Earlier::Standing(names(&federation, &[0, 3, 4]))],
    );
    // Even where the record says that what was refused is open, nothing more is.
    refused(
        offer(&federation, &fourth.unwrap(), &[3, 4, 5]),
        "would tell about 1",
    );
}

/// Attack: the record does not say that a set may be open, or names another.
#[test]
fn a_record_that_hides_a_standing_set_gets_no_signature() {
    let federation = federation(6, 3, 5);
    let first = federation.statistics_round(0, base(&federation));
    offer(&federation, &first, &[0, 1, 2, 3, 4, 5]).unwrap().unwrap();
    // Line of defence: a record says what became of every attempt.
    refused(attempt(&federation, 1, Vec::new()), "what became of each attempt");
    // Line of defence: the ledger knows what it endorsed.
    let other = Earlier::Standing(names(&federation, &[3, 4, 5]));
    let second = attempt(&federation, 1, vec![other]).unwrap();
    refused(offer(&federation, &second, &[0, 1, 2]), "hides the set");
    // Line of defence: names of strangers would make atoms large.
    let strangers = ["x", "y", "z"].map(testing::name).into_iter().collect();
    refused(
        attempt(&federation, 2, vec![Earlier::Standing(strangers); 2]),
        "no contributor",
    );
}

/// An attempt that was given up by certificate is never opened, so that any set may follow it.
#[test]
fn after_a_certificate_of_abandonment_any_set_may_follow_and_the_abandoned_one_never() {
    let federation = federation(4, 3, 3);
    let first = federation.statistics_round(0, base(&federation));
    let parcels = federation.contribute(&first, values);
    let sum = federation.add(&first, &parcels).1;
    let given_up = give_up(&federation, &first);
    assert_eq!(given_up.len(), 4);
    // Line of defence: in the ledger one excludes the other.
    for member in &federation.members {
        refused(
            member.custodian.endorse(&first, &headers(&parcels), sum),
            "another decision",
        );
    }
    let second = attempt(&federation, 1, vec![Earlier::Abandoned(given_up)]).unwrap();
    offer(&federation, &second, &[0, 1, 2]).unwrap().unwrap();
}

/// Attack: the certificate of abandonment of an attempt that may be open is made up.
#[test]
fn a_forged_certificate_of_abandonment_lets_nobody_take_part() {
    let federation = federation(4, 3, 3);
    let first = federation.statistics_round(0, base(&federation));
    let parcels = federation.contribute(&first, values);
    let all = headers(&parcels);
    let sum = federation.add(&first, &parcels).1;
    let said = endorsement(&first, &all, sum);
    // Two honest custodians endorse, the third gives up, and the fourth, f = 1, signs anything.
    let mut endorsements = Vec::new();
    for member in &federation.members[..2] {
        endorsements.push(member.custodian.endorse(&first, &all, sum).unwrap().unwrap());
    }
    let true_word = federation.members[2].custodian.abandon(&first).unwrap().unwrap();
    let study = federation.study.digest();
    let sign = |by: usize, name: usize, round: RoundId| {
        let name = &federation.members[name].identity.name;
        Abandoned { round }
            .sign(&federation.members[by].identity.signing, name, &study)
            .unwrap()
    };
    let cheat = sign(3, 3, ID);
    let other = RoundId { round: 1, attempt: 0 };
    let in_domain = |domain: &str| {
        let identity = &federation.members[0].identity;
        Authored::sign(&identity.signing, &identity.name, domain, &study, &said).unwrap()
    };
    let forged: [(&str, Vec<Authored>); 7] = [
        ("none", Vec::new()),
        ("too few", vec![true_word.clone(), cheat.clone()]),
        ("repeated", vec![true_word.clone(), cheat.clone(), cheat.clone()]),
        (
            "another round's",
            vec![true_word.clone(), cheat.clone(), sign(0, 0, other)],
        ),
        (
            "under another's name",
            vec![true_word.clone(), cheat.clone(), sign(3, 0, ID)],
        ),
        ("endorsements", endorsements.clone()),
        (
            "an endorsement in its domain",
            vec![true_word.clone(), cheat.clone(), in_domain(ABANDONED)],
        ),
    ];
    for (what, statements) in forged {
        // Line of defence: everybody verifies the certificate with the record, contributors as well as custodians.
        let opened = attempt(&federation, 1, vec![Earlier::Abandoned(statements)]);
        assert!(opened.is_err(), "{what}");
    }
    // The cheat's endorsement completes the certificate, so that it is right that nothing follows.
    endorsements.push(sign_anything(&federation, 3, &said));
    assert!(galen_sums::check_certificate(&first, &endorsements).is_ok());
}
