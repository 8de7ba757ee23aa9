use super::*;
use crate::contribute::Parcel;
use crate::testing::federation::Federation;

const ID: RoundId = RoundId { round: 0, attempt: 0 };

fn base() -> Digest {
    Digest::of(b"base")
}

fn values(index: usize) -> Vec<i64> {
    vec![index as i64, 1, 2, 3, 4]
}

fn headers(parcels: &[Parcel]) -> Vec<Authored> {
    parcels.iter().map(|parcel| parcel.header.clone()).collect()
}

#[test]
fn every_statement_is_the_same_after_a_restart() {
    let mut federation = Federation::new();
    let keys = federation.announce(ID);
    federation.restart();
    assert_eq!(federation.announce(ID), keys);
    let round = federation.statistics_round(0, base());
    let parcels = federation.contribute(&round, values);
    let (_, sum) = federation.add(&round, &parcels);
    let headers = headers(&parcels);
    let endorsements = federation.endorse(&round, &headers, sum);
    federation.restart();
    assert_eq!(federation.endorse(&round, &headers, sum), endorsements);
    let answers = federation.answer(&round, &headers, &endorsements);
    federation.restart();
    assert_eq!(federation.answer(&round, &headers, &endorsements), answers);
}

#[test]
fn no_second_set_or_sum_in_an_attempt() {
    let federation = Federation::new();
    let round = federation.statistics_round(0, base());
    let parcels = federation.contribute(&round, values);
    let (_, sum) = federation.add(&round, &parcels);
    federation.endorse(&round, &headers(&parcels), sum);
    let custodian = &federation.members[0].custodian;
    let error = custodian
        .judge(&round, &headers(&parcels), Digest::of(b"another sum"))
        .unwrap_err();
    assert!(error.to_string().contains("second set or sum"), "{error}");
    // The same members in another order are the same set.
    let mut other = headers(&parcels);
    other.swap(0, 1);
    custodian.judge(&round, &other, sum).unwrap();
    // A member that encrypts a second time makes another set, valid in itself.
    let member = &federation.members[2].identity;
    let second =
        galen_custody::encrypt(&round, &member.name, &member.signing, &values(2), Vec::new()).unwrap();
    other[2] = second;
    assert!(ContributionSet::new(&round, &other).is_ok());
    let error = custodian.judge(&round, &other, sum).unwrap_err();
    assert!(error.to_string().contains("second set or sum"), "{error}");
}

#[test]
fn too_small_or_repeated_sets_are_not_endorsed() {
    let federation = Federation::new();
    let round = federation.statistics_round(0, base());
    let parcels = federation.contribute(&round, values);
    let (_, sum) = federation.add(&round, &parcels);
    let all = headers(&parcels);
    for set in [&all[..2], &[all.clone(), all[..1].to_vec()].concat(), &[]] {
        let error = federation.members[0]
            .custodian
            .judge(&round, set, sum)
            .unwrap_err();
        assert!(error.to_string().contains("must not be opened"), "{error}");
    }
    // A refusal binds nobody: the right set is endorsed afterwards.
    federation.endorse(&round, &all, sum);
}

#[test]
fn older_attempts_are_refused() {
    let federation = Federation::new();
    let old = federation.statistics_round(0, base());
    let parcels = federation.contribute(&old, values);
    let (_, sum) = federation.add(&old, &parcels);
    let new = federation.statistics_round(1, base());
    let custodian = &federation.members[0].custodian;
    assert!(custodian.judge(&old, &headers(&parcels), sum).is_err());
    // The statement for the old attempt still exists; a key for an attempt that it never took part in does not.
    federation.announce(RoundId { round: 1, attempt: 0 });
    let error = custodian.announce(RoundId { round: 0, attempt: 2 }).unwrap_err();
    assert!(error.to_string().contains("ledger refuses"), "{error}");
    // Contributions to one attempt are worth nothing in another.
    let error = custodian.judge(&new, &headers(&parcels), sum).unwrap_err();
    assert!(error.to_string().contains("must not be opened"), "{error}");
}

#[test]
fn who_answered_in_a_round_stands_aside_in_its_later_attempts() {
    let mut federation = Federation::new();
    let round = federation.statistics_round(0, base());
    let parcels = federation.contribute(&round, values);
    federation.whole_round(&round, &parcels);
    let again = RoundId { round: 0, attempt: 1 };
    for erased in [false, true] {
        if erased {
            let member = &federation.members[0];
            let gone = member.vault.erase_before(again).unwrap();
            member.custodian.erased(&gone).unwrap();
        }
        federation.restart();
        let custodian = &federation.members[0].custodian;
        let error = custodian.announce(again).unwrap_err();
        assert!(matches!(error, PartyError::StandsAside(_)), "{error}");
        assert_eq!(error.code(), "P503");
        assert!(
            federation.members[0]
                .vault
                .get(again, &Item::OneRoundSecret)
                .unwrap()
                .is_none()
        );
    }
    federation.announce(RoundId { round: 1, attempt: 0 });
}

#[test]
fn nothing_is_answered_without_the_certificate_of_what_was_endorsed() {
    let federation = Federation::new();
    let round = federation.statistics_round(0, base());
    let parcels = federation.contribute(&round, values);
    let (_, sum) = federation.add(&round, &parcels);
    let all = headers(&parcels);
    let custodian = &federation.members[0].custodian;
    let pieces = round.held_by(&federation.members[0].identity.name).to_vec();
    // Two others endorse another sum than the one that this custodian saw.
    let lie = Digest::of(b"another sum");
    let lied: Vec<Authored> = federation.members[1..]
        .iter()
        .map(
            |member| match member.custodian.judge(&round, &all, lie).unwrap() {
                Some(Verdict::Endorsed(statement)) => statement,
                other => panic!("{other:?}"),
            },
        )
        .collect();
    assert!(
        custodian.answer(&round, &all, &lied, &pieces).is_err(),
        "not endorsed by itself"
    );
    let Some(Verdict::Endorsed(own)) = custodian.judge(&round, &all, sum).unwrap() else {
        panic!("not endorsed")
    };
    assert!(
        custodian.answer(&round, &all, &lied, &pieces).is_err(),
        "another sum than the endorsed one"
    );
    let error = custodian.answer(&round, &all, &[own], &pieces).unwrap_err();
    assert!(error.to_string().contains("no certificate"), "{error}");
}

#[test]
fn pieces_of_others_are_not_answered() {
    let federation = Federation::new();
    let round = federation.statistics_round(0, base());
    let parcels = federation.contribute(&round, values);
    let (_, sum) = federation.add(&round, &parcels);
    let all = headers(&parcels);
    let endorsements = federation.endorse(&round, &all, sum);
    let member = &federation.members[0];
    let held = round.held_by(&member.identity.name);
    let foreign = (0..3).find(|piece| !held.contains(piece)).unwrap();
    for pieces in [vec![foreign], vec![], vec![held[1], held[0]]] {
        assert!(
            member
                .custodian
                .answer(&round, &all, &endorsements, &pieces)
                .is_err(),
            "{pieces:?}"
        );
    }
    // Reassigned pieces of its own are.
    member
        .custodian
        .answer(&round, &all, &endorsements, &held[..1])
        .unwrap();
    member
        .custodian
        .answer(&round, &all, &endorsements, &held[1..])
        .unwrap();
}

#[test]
fn a_contributor_whose_seeds_do_not_fit_is_named_and_nothing_is_endorsed_after() {
    let mut federation = Federation::new();
    let round = federation.statistics_round(0, base());
    let parcels = federation.contribute(&round, values);
    let (_, sum) = federation.add(&round, &parcels);
    let good = headers(&parcels);
    let cheat = &federation.members[1].identity;
    let mut header: galen_sums::ContributionHeader = good[1].statement.read_unverified().unwrap();
    header
        .seed_hashes
        .iter_mut()
        .for_each(|hash| *hash = Digest::of(b"lie"));
    let study = federation.study.digest();
    let forged = Authored::sign(
        &cheat.signing,
        &cheat.name,
        galen_sums::authored::CONTRIBUTION,
        &study,
        &header,
    )
    .unwrap();
    let bad = vec![good[0].clone(), forged, good[2].clone()];
    let verdict = federation.members[0]
        .custodian
        .judge(&round, &bad, sum)
        .unwrap()
        .unwrap();
    let Verdict::SeedsRefused {
        contributor,
        statement,
    } = &verdict
    else {
        panic!("{verdict:?}")
    };
    assert_eq!(contributor.as_str(), "b");
    let said: SeedsRefused = statement.open(federation.rounds.roster(), SEEDS_REFUSED).unwrap();
    assert_eq!((said.record, said.contributor.as_str()), (*round.digest(), "b"));
    federation.restart();
    assert_eq!(
        federation.members[0].custodian.judge(&round, &good, sum).unwrap(),
        Some(verdict)
    );
}

#[test]
fn an_erased_attempt_is_over() {
    let mut federation = Federation::new();
    let round = federation.statistics_round(0, base());
    let parcels = federation.contribute(&round, values);
    let (_, sum) = federation.add(&round, &parcels);
    let all = headers(&parcels);
    let endorsements = federation.endorse(&round, &all, sum);
    let before = RoundId { round: 0, attempt: 1 };
    let member = &federation.members[0];
    let erased = member.vault.erase_before(before).unwrap();
    member.custodian.erased(&erased).unwrap();
    member.custodian.erased(&erased).unwrap();
    federation.restart();
    let member = &federation.members[0];
    let pieces = round.held_by(&member.identity.name).to_vec();
    assert!(
        member
            .custodian
            .answer(&round, &all, &endorsements, &pieces)
            .is_err()
    );
    assert_eq!(member.custodian.judge(&round, &all, sum).unwrap(), None);
    assert!(
        member.custodian.announce(ID).is_err(),
        "no second key for an attempt"
    );
}
