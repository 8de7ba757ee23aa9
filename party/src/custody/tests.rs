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
        .endorse(&round, &headers(&parcels), Digest::of(b"another sum"))
        .unwrap_err();
    assert!(error.to_string().contains("second set or sum"), "{error}");
    // The same members in another order are the same set.
    let mut other = headers(&parcels);
    other.swap(0, 1);
    custodian.endorse(&round, &other, sum).unwrap();
    // A member that encrypts a second time makes another set, valid in itself.
    let member = &federation.members[2].identity;
    let second =
        galen_custody::encrypt(&round, &member.name, &member.signing, &values(2), Vec::new()).unwrap();
    other[2] = second;
    assert!(ContributionSet::new(&round, &other).is_ok());
    let error = custodian.endorse(&round, &other, sum).unwrap_err();
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
            .check(&round, set, sum)
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
    assert!(custodian.check(&old, &headers(&parcels), sum).is_err());
    // Contributions to one attempt are worth nothing in another.
    let error = custodian.check(&new, &headers(&parcels), sum).unwrap_err();
    assert!(error.to_string().contains("must not be opened"), "{error}");
    // The statement for the old attempt still exists; a key for an attempt that it never took part in does not.
    federation.announce(RoundId { round: 1, attempt: 0 });
    let error = custodian.announce(RoundId { round: 0, attempt: 2 }).unwrap_err();
    assert!(error.to_string().contains("ledger refuses"), "{error}");
}

/// The machine starts anew: its memory is gone, and its disk may be an old one for all it knows.
fn reboot(federation: &mut Federation, index: usize) {
    federation.members.clear();
    federation.memories[index].lose();
    federation.restart();
}

#[test]
fn a_machine_that_starts_anew_sits_out_the_round_under_way() {
    let mut federation = Federation::new();
    let round = federation.statistics_round(0, base());
    let parcels = federation.contribute(&round, values);
    let (_, sum) = federation.add(&round, &parcels);
    let all = headers(&parcels);
    let pieces = round.held_by(&federation.members[0].identity.name).to_vec();
    let endorsements = federation.endorse(&round, &all, sum);
    let before = federation.members[0].custodian.standing().unwrap().unwrap();
    reboot(&mut federation, 0);
    let custodian = &federation.members[0].custodian;
    let after = custodian.standing().unwrap().unwrap();
    assert!(after.confirmed && after.nonce != before.nonce);
    let refused = custodian
        .answer(&round, &all, &endorsements, &pieces)
        .unwrap_err();
    assert!(matches!(refused, PartyError::StandsAside(_)), "{refused}");
    for attempt in 1..3 {
        let refused = custodian.announce(RoundId { round: 0, attempt }).unwrap_err();
        assert!(matches!(refused, PartyError::StandsAside(_)), "{refused}");
        assert_eq!(refused.code(), "P503");
    }
    custodian.announce(RoundId { round: 1, attempt: 0 }).unwrap();
    // The others go on, also after their daemons were killed: their machines remember.
    federation.restart();
    for member in &federation.members[1..] {
        let held = round.held_by(&member.identity.name);
        member
            .custodian
            .answer(&round, &all, &endorsements, held)
            .unwrap();
    }
}

/// A custodian's folder is put back to before it endorsed a set, and it is offered another one.
#[test]
fn an_old_disk_signs_nothing_for_rounds_that_it_may_have_forgotten() {
    let mut federation = Federation::new();
    let round = federation.statistics_round(0, base());
    let parcels = federation.contribute(&round, values);
    let (_, sum) = federation.add(&round, &parcels);
    let all = headers(&parcels);
    let name = federation.members[0].identity.name.clone();
    let old = federation.members[0].custodian.peek();
    federation.endorse(&round, &all, sum);
    for memory_kept in [true, false] {
        federation.members[0].custodian.put_back(&old);
        if memory_kept {
            federation.restart();
        } else {
            reboot(&mut federation, 0);
        }
        let custodian = &federation.members[0].custodian;
        let standing = custodian.standing().unwrap().unwrap();
        assert_ne!(Some(standing.nonce), old.incarnation().copied(), "{memory_kept}");
        let member = &federation.members[0].identity;
        let mut other = all.clone();
        other[0] =
            galen_custody::encrypt(&round, &member.name, &member.signing, &values(0), Vec::new()).unwrap();
        for headers in [&all, &other] {
            let signed = custodian.endorse(&round, headers, Digest::of(b"another sum"));
            assert!(!matches!(signed, Ok(Some(_))), "{signed:?}");
        }
        assert_eq!(custodian.abandon(&round).unwrap(), None);
        assert!(custodian.announce(RoundId { round: 0, attempt: 1 }).is_err());
        assert!(round.keys().contains_key(&name));
    }
}

/// What others know of a custodian that was put back to before a round that it took part in.
#[test]
fn others_show_a_custodian_that_its_disk_is_old() {
    let mut federation = Federation::new();
    let old = federation.members[0].custodian.peek();
    let round = federation.statistics_round(0, base());
    let parcels = federation.contribute(&round, values);
    let (_, sum) = federation.add(&round, &parcels);
    federation.endorse(&round, &headers(&parcels), sum);
    federation.members[0].custodian.put_back(&old);
    reboot(&mut federation, 0);
    let (back, roster) = (&federation.members[0], federation.rounds.roster());
    let standing = back.custodian.standing().unwrap().unwrap();
    assert!(!standing.confirmed);
    let incarnations = [back.custodian.incarnation().unwrap()];
    let name = &back.identity.name;
    let judge = |member: &crate::testing::federation::Member| {
        let word = member
            .custodian
            .vouch(roster, &incarnations, name, &standing.nonce);
        word.unwrap().unwrap()
    };
    let proofs: Vec<Authored> = federation.members[1..]
        .iter()
        .map(|member| {
            let (word, stale) = judge(member);
            assert!(stale);
            word
        })
        .collect();
    back.custodian.forget(roster, &incarnations, &proofs).unwrap();
    let reborn = back.custodian.standing().unwrap().unwrap();
    assert_ne!(reborn.nonce, standing.nonce);
    federation.introduce();
    let custodian = &federation.members[0].custodian;
    assert!(custodian.standing().unwrap().unwrap().confirmed);
    assert!(custodian.announce(RoundId { round: 0, attempt: 3 }).is_err());
    custodian.announce(RoundId { round: 1, attempt: 0 }).unwrap();
}

#[test]
fn given_up_or_endorsed_but_not_both() {
    let federation = Federation::new();
    let round = federation.statistics_round(0, base());
    let parcels = federation.contribute(&round, values);
    let (_, sum) = federation.add(&round, &parcels);
    let all = headers(&parcels);
    let [first, second] = [0, 1].map(|index| &federation.members[index].custodian);
    first.endorse(&round, &all, sum).unwrap().unwrap();
    assert_eq!(first.abandon(&round).unwrap(), None);
    let word = second.abandon(&round).unwrap().unwrap();
    assert_eq!(second.abandon(&round).unwrap().unwrap(), word);
    let refused = second.endorse(&round, &all, sum).unwrap_err();
    assert!(refused.to_string().contains("ledger refuses"), "{refused}");
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
        .map(|member| member.custodian.endorse(&round, &all, lie).unwrap().unwrap())
        .collect();
    assert!(
        custodian.answer(&round, &all, &lied, &pieces).is_err(),
        "not endorsed by itself"
    );
    let own = custodian.endorse(&round, &all, sum).unwrap().unwrap();
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
        .check(&round, &bad, sum)
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
    let custodian = &federation.members[0].custodian;
    assert_eq!(custodian.check(&round, &good, sum).unwrap(), Some(verdict));
    assert_eq!(custodian.endorse(&round, &good, sum).unwrap(), None);
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
    assert_eq!(member.custodian.endorse(&round, &all, sum).unwrap(), None);
    assert!(
        member.custodian.announce(ID).is_err(),
        "no second key for an attempt"
    );
}
