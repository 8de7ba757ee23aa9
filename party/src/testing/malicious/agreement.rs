//! Sets and certificates within one attempt.

use super::*;
use galen_sums::authored::{ABANDONED, CHECKED};
use galen_sums::{Abandoned, check_certificate};

/// Shows the whole set to the first `first` honest custodians and one that lacks a hospital to the others; the last `cheats` sign both.
/// Tells which of the two sets get certificates.
fn play(parties: usize, threshold: u32, agreement: u32, cheats: usize, first: usize) -> [bool; 2] {
    let federation = federation(parties, threshold, agreement);
    let round = federation.statistics_round(0, base(&federation));
    let parcels = federation.contribute(&round, values);
    let all = headers(&parcels);
    let sets = [all.clone(), all[..parties - 1].to_vec()];
    let sums = [&parcels[..], &parcels[..parties - 1]].map(|parcels| federation.add(&round, parcels).1);
    let mut signed = [Vec::new(), Vec::new()];
    let honest = &federation.members[..parties - cheats];
    let shown_to = |index: usize| usize::from(index >= first);
    for (index, member) in honest.iter().enumerate() {
        let (shown, other) = (shown_to(index), 1 - shown_to(index));
        let custodian = &member.custodian;
        let word = custodian.endorse(&round, &sets[shown], sums[shown]).unwrap();
        signed[shown].push(word.unwrap());
        // Line of defence: one signature per attempt, in the vault's verdict and in the ledger.
        refused(
            custodian.endorse(&round, &sets[other], sums[other]),
            "second set or sum",
        );
        assert_eq!(custodian.abandon(&round).unwrap(), None);
    }
    for cheat in parties - cheats..parties {
        for shown in 0..2 {
            let said = endorsement(&round, &sets[shown], sums[shown]);
            signed[shown].push(sign_anything(&federation, cheat, &said));
        }
    }
    let certified = [0, 1].map(|shown| check_certificate(&round, &signed[shown]).is_ok());
    for (index, member) in honest.iter().enumerate() {
        let (shown, other) = (shown_to(index), 1 - shown_to(index));
        let held = round.held_by(&member.identity.name);
        let answer = |set: usize| member.custodian.answer(&round, &sets[set], &signed[set], held);
        // Line of defence: a custodian answers what it endorsed itself, whatever certificate there is.
        assert!(
            answer(other).is_err(),
            "an answer to a set that it did not endorse"
        );
        assert_eq!(answer(shown).is_ok(), certified[shown]);
    }
    certified
}

/// Attack: other sets are shown to other custodians, and f = 2g - n - 1 of them sign whatever they are shown.
#[test]
fn other_sets_shown_to_other_custodians_get_no_two_certificates() {
    for (parties, threshold, agreement) in [(4, 3, 3), (5, 3, 4)] {
        let cheats = 2 * agreement as usize - parties - 1;
        let mut certified = 0;
        for first in 0..=parties - cheats {
            let found = play(parties, threshold, agreement, cheats, first);
            assert_ne!(found, [true, true], "{parties} {agreement} {first}");
            certified += usize::from(found != [false, false]);
        }
        assert!(certified > 0, "the cheating custodians never made a certificate");
        // The bound is tight, which shows that the counting can fail: one cheat more makes two certificates.
        let honest = parties - cheats - 1;
        assert_eq!(
            play(parties, threshold, agreement, cheats + 1, honest / 2),
            [true, true]
        );
    }
}

/// Attack: the coordinator makes up a certificate from statements that it has, or that t - 1 custodians sign for it.
#[test]
fn a_forged_certificate_opens_nothing() {
    let federation = federation(4, 3, 3);
    let round = federation.statistics_round(0, base(&federation));
    let parcels = federation.contribute(&round, values);
    let all = headers(&parcels);
    let (blob, sum) = federation.add(&round, &parcels);
    let study = federation.study.digest();
    let said = endorsement(&round, &all, sum);
    let other_sum = endorsement(&round, &all, Digest::of(b"another sum"));
    let mut checked = Vec::new();
    for member in &federation.members {
        let verdict = member.custodian.check(&round, &all, sum).unwrap().unwrap();
        match verdict {
            crate::custody::Verdict::Checked(statement) => checked.push(statement),
            other => panic!("{other:?}"),
        }
    }
    let victim = &federation.members[0];
    let own = victim.custodian.endorse(&round, &all, sum).unwrap().unwrap();
    // Two custodians of threshold three are the coordinator's.
    let [third, fourth] = [2, 3].map(|index| sign_anything(&federation, index, &said));
    let name_of = |index: usize| federation.members[index].identity.name.clone();
    let other_record = Endorsement {
        record: Digest::of(b"another record"),
        ..said.clone()
    };
    let sign_as = |index: usize, domain: &str| {
        let identity = &federation.members[index].identity;
        Authored::sign(&identity.signing, &name_of(1), domain, &study, &said).unwrap()
    };
    let abandoned = {
        let identity = &federation.members[1].identity;
        let said = Abandoned { round: ID };
        Authored::sign(&identity.signing, &identity.name, ABANDONED, &study, &said).unwrap()
    };
    let forged: [(&str, Vec<Authored>); 11] = [
        ("none", Vec::new()),
        ("too few", vec![own.clone(), third.clone()]),
        ("repeated", vec![own.clone(), third.clone(), third.clone()]),
        (
            "of two sums",
            vec![
                own.clone(),
                third.clone(),
                sign_anything(&federation, 3, &other_sum),
            ],
        ),
        // What was said last does not decide.
        (
            "of two sums, the other first",
            vec![
                sign_anything(&federation, 3, &other_sum),
                own.clone(),
                third.clone(),
            ],
        ),
        (
            "of another record throughout",
            [1, 2, 3]
                .map(|index| sign_anything(&federation, index, &other_record))
                .into(),
        ),
        (
            "of another record",
            vec![
                own.clone(),
                third.clone(),
                sign_anything(&federation, 3, &other_record),
            ],
        ),
        // That a custodian checked the seeds binds it to nothing.
        ("of checked seeds", checked.clone()),
        (
            "with checked seeds",
            vec![own.clone(), checked[1].clone(), third.clone()],
        ),
        (
            "under another's name",
            vec![own.clone(), third.clone(), sign_as(3, ENDORSEMENT)],
        ),
        ("with an abandonment", vec![own.clone(), third.clone(), abandoned]),
    ];
    let held = round.held_by(&victim.identity.name);
    let evidence = |endorsements: &[Authored]| Evidence {
        headers: all.clone(),
        endorsements: endorsements.to_vec(),
        answers: Vec::new(),
        fingerprints: Vec::new(),
    };
    for (what, endorsements) in &forged {
        assert!(check_certificate(&round, endorsements).is_err(), "{what}");
        // Lines of defence: custodians verify the certificate before they answer, receivers before they open.
        let answered = victim.custodian.answer(&round, &all, endorsements, held);
        assert!(answered.is_err(), "{what}");
        let opened = Verified::new(&round, sum, evidence(endorsements));
        assert!(opened.is_err(), "{what}");
    }
    assert_eq!(checked.len(), 4);
    assert!(
        checked[1]
            .open::<Endorsement>(federation.rounds.roster(), CHECKED)
            .is_ok()
    );
    // It was the certificate: with a true one the victim answers, and its answer was not spoilt by the attempts before.
    let endorsements = vec![own, third, fourth];
    victim
        .custodian
        .answer(&round, &all, &endorsements, held)
        .unwrap();
    assert!(Verified::new(&round, sum, evidence(&endorsements)).is_ok());
    assert!(!blob.is_empty());
}
