//! A custodian's disk is put back to before it signed, and it is offered another set.

use super::*;
use galen_core::PartyId;
use galen_sums::Earlier;
use std::collections::BTreeSet;

/// What a custodian that was put back is offered: the record that it has forgotten, a second one of the same attempt, later attempts.
fn offered_again(federation: &Federation, first: &Round, all: &[Authored]) {
    let custodian = &federation.members[0].custodian;
    let fewer = &all[..3];
    for headers in [all, fewer] {
        let signed = custodian.endorse(first, headers, Digest::of(b"another sum"));
        assert!(!matches!(signed, Ok(Some(_))), "{signed:?}");
    }
    assert!(!matches!(custodian.abandon(first), Ok(Some(_))));
    // Line of defence: no key for the rounds that others know of.
    for attempt in 0..3 {
        let key = custodian.announce(RoundId { round: 0, attempt });
        if attempt > 0 {
            stands_aside(key);
        }
    }
    // A second record of the attempt, with the key that it gave out before.
    let whole: BTreeSet<PartyId> = all.iter().map(|header| header.author.clone()).collect();
    let keys = first.record().custodians.clone();
    for id in [ID, RoundId { round: 0, attempt: 1 }] {
        let signed = federation.record(id, *base_of(first), Purpose::Statistics, keys.clone());
        let second = change_record(federation, &signed, |record| {
            record.audit.lines += 1;
            record.earlier = vec![Earlier::Standing(whole.clone()); id.attempt as usize];
        });
        let Ok(second) = federation.rounds.open(id, &second) else {
            assert_eq!(id.attempt, 1, "keys of another attempt");
            continue;
        };
        let headers = all.iter().map(|header| {
            let member = federation
                .members
                .iter()
                .find(|m| m.identity.name == header.author)
                .unwrap();
            let (name, signing) = (&member.identity.name, &member.identity.signing);
            galen_custody::encrypt(&second, name, signing, &values(0), Vec::new()).unwrap()
        });
        let headers: Vec<Authored> = headers.collect();
        let signed = custodian.endorse(&second, &headers[..3], Digest::of(b"another sum"));
        assert!(!matches!(signed, Ok(Some(_))), "{signed:?}");
    }
}

fn base_of(round: &Round) -> &Digest {
    &round.record().base
}

/// Attack: the machine of a custodian that has signed is put back to before, with or without its memory. The others know of the round
/// only that they gave out keys for it: the coordinator showed the record to nobody else, and shows nobody what the custodian signed.
#[test]
fn a_custodian_put_back_to_before_it_signed_signs_no_other_set_of_the_round() {
    for memory_lost in [false, true] {
        let mut federation = federation(4, 3, 3);
        // What the disk held when all had given out keys.
        let keys = federation.announce(ID);
        let image = federation.image(0);
        let record = federation.record(ID, base(&federation), Purpose::Statistics, keys);
        let round = federation.rounds.open(ID, &record).unwrap();
        let parcels = federation.contribute(&round, values);
        let all = headers(&parcels);
        let sum = federation.add(&round, &parcels).1;
        federation.members[0]
            .custodian
            .endorse(&round, &all, sum)
            .unwrap()
            .unwrap();
        if memory_lost {
            federation.memories[0].lose();
        }
        // Line of defence: the anchor in memory is ahead of the disk, or gone; a new incarnation begins either way.
        let before = federation.members[0].custodian.standing().unwrap().unwrap().nonce;
        federation.put_back(0, &image);
        let after = federation.members[0].custodian.standing().unwrap().unwrap();
        assert!(after.nonce != before && !after.confirmed);
        // The coordinator passes on nobody's word: nothing is signed at all.
        let later = RoundId { round: 1, attempt: 0 };
        assert!(federation.members[0].custodian.announce(later).is_err());
        offered_again(&federation, &round, &all);
        // It passes on what suits it: the word of g - 1 = 2 others, none of whom saw the record.
        let words = federation.introduce();
        assert!(words.len() >= 2);
        let custodian = &federation.members[0].custodian;
        assert!(custodian.standing().unwrap().unwrap().confirmed);
        offered_again(&federation, &round, &all);
        // The study goes on with it in the next round.
        federation.members[0].custodian.announce(later).unwrap();
    }
}

/// Attack: the disk is put back to before the custodian even gave out its key, so that its own ledger knows of no round.
#[test]
fn a_custodian_put_back_to_the_beginning_learns_from_others_what_it_has_forgotten() {
    let mut federation = federation(4, 3, 3);
    let image = federation.image(0);
    let round = federation.statistics_round(0, base(&federation));
    let parcels = federation.contribute(&round, values);
    let all = headers(&parcels);
    let sum = federation.add(&round, &parcels).1;
    federation.members[0]
        .custodian
        .endorse(&round, &all, sum)
        .unwrap()
        .unwrap();
    federation.memories[0].lose();
    federation.put_back(0, &image);
    let words = federation.introduce();
    assert!(!words.is_empty());
    let custodian = &federation.members[0].custodian;
    assert!(custodian.standing().unwrap().unwrap().confirmed);
    // Line of defence: whoever confirms says for which attempt it has given out a key itself.
    for attempt in 0..3 {
        stands_aside(custodian.announce(RoundId { round: 0, attempt }));
    }
    let signed = custodian.endorse(&round, &all[..3], Digest::of(b"another sum"));
    assert!(!matches!(signed, Ok(Some(_))), "{signed:?}");
    custodian.announce(RoundId { round: 1, attempt: 0 }).unwrap();
}
