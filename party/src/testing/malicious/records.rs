//! Records that name other keys, other bases or other incarnations than the study's and the signed ones.

use super::*;
use crate::derive::Derived;
use galen_core::PartyId;
use galen_sums::authored::{CONFIRMATION, ONE_ROUND_KEY};
use galen_sums::{AnswerHeader, Authored, Confirmation, OneRoundKey, check_answer, check_certificate};

fn key_of(authored: &Authored) -> OneRoundKey {
    authored.statement.read_unverified().unwrap()
}

/// Attack: contributors are to seal their seeds to keys that are the coordinator's, in the names of custodians.
#[test]
fn swapped_custodian_keys_are_sealed_to_by_nobody() {
    let federation = federation(4, 3, 3);
    let study = federation.study.digest();
    let honest = honest_record(&federation, ID, Purpose::Statistics);
    federation.rounds.open(ID, &honest).unwrap();
    let own_key = |key: &OneRoundKey| OneRoundKey {
        key: Digest::of(b"a key that the coordinator knows").0,
        ..key.clone()
    };
    let attacks: [(&str, &dyn Fn(&mut RoundRecord)); 8] = [
        // Lines of defence, in this order: signatures under the study's keys; the name in the key; the attempt in the key; distinct keys;
        // each custodian once; g custodians at least; custodians only.
        ("statement of \"a\"", &|record| {
            let forged = own_key(&key_of(&record.custodians[0]));
            record.custodians[0].statement = federation
                .coordinator
                .sign(ONE_ROUND_KEY, &study, &forged)
                .unwrap();
        }),
        ("statement of \"a\"", &|record| {
            // A custodian of the coordinator's signs in another's name.
            let forged = own_key(&key_of(&record.custodians[0]));
            let cheat = &federation.members[3].identity.signing;
            record.custodians[0].statement = cheat.sign(ONE_ROUND_KEY, &study, &forged).unwrap();
        }),
        ("another round, attempt or record", &|record| {
            let forged = own_key(&key_of(&record.custodians[0]));
            record.custodians[3].statement = federation.members[3]
                .identity
                .signing
                .sign(ONE_ROUND_KEY, &study, &forged)
                .unwrap();
        }),
        ("another round, attempt or record", &|record| {
            let mut old = own_key(&key_of(&record.custodians[3]));
            old.round.round = 1;
            record.custodians[3].statement = federation.members[3]
                .identity
                .signing
                .sign(ONE_ROUND_KEY, &study, &old)
                .unwrap();
        }),
        ("share a key", &|record| {
            let copied = OneRoundKey {
                key: key_of(&record.custodians[0]).key,
                ..key_of(&record.custodians[3])
            };
            record.custodians[3].statement = federation.members[3]
                .identity
                .signing
                .sign(ONE_ROUND_KEY, &study, &copied)
                .unwrap();
        }),
        ("occurs twice", &|record| {
            let again = record.custodians[0].clone();
            record.custodians.push(again);
        }),
        ("fewer than the agreement", &|record| {
            record.custodians.truncate(2)
        }),
        ("is not a custodian", &|record| {
            record.custodians[0].author = testing::name("stranger");
        }),
    ];
    for (part, attack) in attacks {
        let record = change_record(&federation, &honest, attack);
        refused(federation.rounds.open(ID, &record), part);
    }
}

/// Attack: a custodian's second key for an attempt, in a second record for other parties.
#[test]
fn a_second_record_of_an_attempt_gets_no_contribution_and_no_signature() {
    let federation = federation(4, 3, 3);
    let honest = honest_record(&federation, ID, Purpose::Statistics);
    let first = federation.rounds.open(ID, &honest).unwrap();
    let parcels = federation.contribute(&first, values);
    // The fourth custodian is the coordinator's: its key in the second record is another.
    let study = federation.study.digest();
    let second = change_record(&federation, &honest, |record| {
        let other = OneRoundKey {
            key: Digest::of(b"another key").0,
            ..key_of(&record.custodians[3])
        };
        record.custodians[3].statement = federation.members[3]
            .identity
            .signing
            .sign(ONE_ROUND_KEY, &study, &other)
            .unwrap();
    });
    let second = federation.rounds.open(ID, &second).unwrap();
    for member in &federation.members {
        // Line of defence: one record per attempt at the contributor.
        refused(
            member.contributor.parcel(&second, || Ok(values(0))),
            "two records",
        );
    }
    for member in &federation.members[..3] {
        // Line of defence: a contribution is for one record.
        let signed = member
            .custodian
            .endorse(&second, &headers(&parcels), Digest::of(b"sum"));
        refused(signed, "another round, attempt or record");
    }
    let sum = federation.add(&first, &parcels).1;
    federation.endorse(&first, &headers(&parcels), sum);
}

/// Attack: answers are to be sealed to a key of the coordinator's in the place of a receiver.
#[test]
fn receivers_keys_come_from_the_study() {
    let federation = federation(4, 3, 3);
    let round = federation.statistics_round(0, base(&federation));
    let parcels = federation.contribute(&round, values);
    let (evidence, blob, sum) = federation.whole_round(&round, &parcels);
    let receivers: Vec<&PartyId> = federation
        .members
        .iter()
        .map(|member| &member.identity.name)
        .collect();
    for authored in &evidence.answers {
        let answer: AnswerHeader = authored.said.statement.read_unverified().unwrap();
        // Line of defence: no request names a receiver; the roster of the signed study does.
        assert!(answer.sealed.texts.keys().eq(receivers.iter().copied()));
    }
    for receiver in 0..4 {
        let opening = open(&federation, receiver, &round, sum, &evidence, &blob).unwrap();
        assert_eq!(opening.sum.values, sum_of(4));
    }
    // An answer that a cheating custodian seals to the coordinator as well is refused in public.
    let certificate = check_certificate(&round, &evidence.endorsements).unwrap();
    let mut answer: AnswerHeader = evidence.answers[0].said.statement.read_unverified().unwrap();
    let sealed = *answer.sealed.texts.values().next().unwrap();
    answer.sealed.texts.insert(testing::name("coordinator"), sealed);
    let author = &evidence.answers[0].said.author;
    let cheat = federation
        .members
        .iter()
        .find(|member| member.identity.name == *author)
        .unwrap();
    let domain = galen_sums::authored::ANSWER;
    let study = federation.study.digest();
    let forged = Authored::sign(&cheat.identity.signing, author, domain, &study, &answer).unwrap();
    refused(
        check_answer(&round, &certificate, &forged),
        "exactly the receivers",
    );
    // A study with another receiver's key is another study, whose records nobody opens.
    let record = changed_record(&federation, ID, |record| {
        record.study = Digest::of(b"other cards")
    });
    assert!(federation.rounds.open(ID, &record).is_err());
}

/// Attack: a member is told that a round ended otherwise, and the next one is to begin from what it was told.
#[test]
fn who_derived_the_true_state_takes_no_part_in_a_round_from_a_false_one() {
    let federation = federation(4, 3, 3);
    let derived = Derived::initial(&federation.study);
    let honest = honest_record(&federation, ID, Purpose::Statistics);
    derived
        .agrees_with(&federation.rounds.open(ID, &honest).unwrap())
        .unwrap();
    let false_base = change_record(&federation, &honest, |record| {
        record.base = Digest::of(b"another model")
    });
    // Line of defence: every step of a round, a custodian's too, begins with this comparison.
    refused(
        derived.agrees_with(&federation.rounds.open(ID, &false_base).unwrap()),
        "starts from another state",
    );
    // Who has not derived so far cannot tell, and serves the round.
    let next = RoundId { round: 1, attempt: 0 };
    let later = honest_record(&federation, next, Purpose::Training);
    derived
        .agrees_with(&federation.rounds.open(next, &later).unwrap())
        .unwrap();
}

/// Attack: some train from another model than the others, so that the difference of their updates tells one apart.
#[test]
fn a_second_base_model_is_summed_with_nothing() {
    let federation = federation(4, 3, 3);
    let honest = honest_record(&federation, ID, Purpose::Statistics);
    let round = federation.rounds.open(ID, &honest).unwrap();
    let other = change_record(&federation, &honest, |record| {
        record.base = Digest::of(b"another model")
    });
    let other = federation.rounds.open(ID, &other).unwrap();
    // The coordinator shows the first record to three contributors and the second to the fourth.
    let contributions = federation.members[..3].iter().zip([&round; 3]);
    let mut all: Vec<Authored> = contributions
        .map(|(member, round)| member.contributor.parcel(round, || Ok(values(0))).unwrap().header)
        .collect();
    let fourth = federation.members[3]
        .contributor
        .parcel(&other, || Ok(values(3)))
        .unwrap();
    all.push(fourth.header);
    for member in &federation.members {
        // Line of defence: the base is in the record, which every contribution names.
        for round in [&round, &other] {
            let signed = member.custodian.endorse(round, &all, Digest::of(b"sum"));
            refused(signed, "another round, attempt or record");
        }
    }
    // A contributor that says another base than its record is refused too.
    let cheat = &federation.members[3].identity;
    let header = galen_custody::encrypt(&round, &cheat.name, &cheat.signing, &values(3), Vec::new()).unwrap();
    let mut header: galen_sums::ContributionHeader = header.statement.read_unverified().unwrap();
    header.base = Digest::of(b"another model");
    let (domain, study) = (galen_sums::authored::CONTRIBUTION, federation.study.digest());
    all[3] = Authored::sign(&cheat.signing, &cheat.name, domain, &study, &header).unwrap();
    refused(
        federation.members[0]
            .custodian
            .endorse(&round, &all, Digest::of(b"sum")),
        "has base model",
    );
}

/// Attack: one quantity is summed in two rounds over sets that differ by one hospital.
#[test]
fn a_quantity_is_opened_in_one_round_only() {
    let federation = federation(5, 3, 4);
    let opened = |number: u32| {
        let id = RoundId {
            round: number,
            attempt: 0,
        };
        let record = honest_record(&federation, id, Purpose::Training);
        federation.rounds.open(id, &record).unwrap()
    };
    let (first, count) = {
        let round = opened(1);
        let count = round.plan().values() as usize;
        (round, count)
    };
    let parcels = federation.contribute(&first, |_| vec![1; count]);
    let sum = federation.add(&first, &parcels).1;
    federation.endorse(&first, &headers(&parcels), sum);
    // The next round of the same purpose from the same base, without one hospital.
    let second = opened(2);
    let parcels = federation.contribute(&second, |_| vec![1; count]);
    let sum = federation.add(&second, &parcels[..4]).1;
    for member in &federation.members {
        // Line of defence: the ledger's list of quantities.
        let signed = member.custodian.endorse(&second, &headers(&parcels[..4]), sum);
        refused(signed, "a quantity is opened once");
    }
}

/// Attack: a record with an incarnation that too few vouched for, or for whom others did, or that was replaced.
#[test]
fn replayed_or_too_few_confirmations_and_retired_incarnations_are_refused() {
    let mut federation = federation(4, 3, 3);
    let honest = honest_record(&federation, ID, Purpose::Statistics);
    let parts: RoundRecord = honest.read_unverified().unwrap();
    let of = |authored: &Authored| -> Confirmation { authored.statement.read_unverified().unwrap() };
    let first = federation.members[0].identity.name.clone();
    let by = |author: &str, of_first: bool| {
        parts
            .confirmations
            .iter()
            .find(|word| word.author.as_str() == author && (of(word).custodian == first) == of_first)
            .unwrap()
            .clone()
    };
    let study = federation.study.digest();
    // Of g - 1 = 2 words for the first custodian's incarnation one is left.
    let without = || {
        let kept = |word: &&Authored| word.author.as_str() == "c" || of(word).custodian != first;
        parts
            .confirmations
            .iter()
            .filter(kept)
            .cloned()
            .collect::<Vec<_>>()
    };
    let replaced = Confirmation {
        nonce: Digest::of(b"an incarnation before"),
        ..of(&by("d", true))
    };
    let cheat = &federation.members[3].identity;
    let replayed = Authored::sign(&cheat.signing, &cheat.name, CONFIRMATION, &study, &replaced).unwrap();
    let own = &federation.members[0].identity;
    let of_itself =
        Authored::sign(&own.signing, &own.name, CONFIRMATION, &study, &of(&by("d", true))).unwrap();
    let forged = Authored {
        author: testing::name("d"),
        statement: by("c", true).statement,
    };
    for (part, instead) in [
        ("confirmed by 1 others, 2 are needed", vec![]),
        ("confirmed by 1 others, 2 are needed", vec![by("c", true)]),
        ("confirmed by 1 others, 2 are needed", vec![by("d", false)]),
        ("confirmed by 1 others, 2 are needed", vec![replayed]),
        ("not about another custodian", vec![of_itself]),
        ("statement of \"d\"", vec![forged]),
    ] {
        let mut confirmations = without();
        confirmations.extend(instead);
        // Line of defence: g - 1 distinct others vouch for exactly the incarnation in the key.
        let record = change_record(&federation, &honest, |record| {
            record.confirmations = confirmations
        });
        refused(federation.rounds.open(ID, &record), part);
    }
    federation.rounds.open(ID, &honest).unwrap();
    // The first custodian's machine starts anew, and the others confirm its next incarnation. Then the coordinator comes with a
    // record of a later round, with the key that it had from the incarnation before.
    let id = RoundId { round: 1, attempt: 0 };
    let base = base(&federation);
    let old_keys = federation.announce(id);
    federation.members.clear();
    federation.memories[0].lose();
    federation.restart();
    let record = federation.record(id, base, Purpose::Training, old_keys);
    let round_1 = federation.rounds.open(id, &record).unwrap();
    let count = round_1.plan().values() as usize;
    let parcels_1 = federation.contribute(&round_1, |_| vec![0; count]);
    let sum = federation.add(&round_1, &parcels_1).1;
    // Line of defence: an incarnation of its own that is over.
    stands_aside(
        federation.members[0]
            .custodian
            .endorse(&round_1, &headers(&parcels_1), sum),
    );
    let id = RoundId { round: 2, attempt: 0 };
    let mut keys: Vec<Authored> = federation
        .custodians()
        .map(|m| m.custodian.announce(id).unwrap())
        .collect();
    // In a later round its key is signed again under the incarnation before, as a cheating custodian could.
    let own = &federation.members[0].identity;
    let retired = OneRoundKey {
        incarnation: key_of(&parts.custodians[0]).incarnation,
        ..key_of(&keys[0])
    };
    keys[0] = retired.sign(&own.signing, &study).unwrap();
    let record = federation.record(id, base, Purpose::Training, keys);
    let round_2 = federation.rounds.open(id, &record).unwrap();
    let headers_2 = headers(&federation.contribute(&round_2, |_| vec![0; count]));
    for member in &federation.members[1..] {
        // Line of defence: in the ledger, who confirmed another incarnation refuses the one before.
        refused(
            member.custodian.check(&round_2, &headers_2, Digest::of(b"sum")),
            "was replaced",
        );
    }
}

/// Attack: the record starts from a model that the coordinator made.
#[test]
fn a_sum_from_a_base_that_receivers_did_not_derive_is_not_opened() {
    let federation = federation(4, 3, 3);
    let round = federation.statistics_round(0, Digest::of(b"a model of the coordinator's"));
    let parcels = federation.contribute(&round, values);
    let (evidence, blob, sum) = federation.whole_round(&round, &parcels);
    for receiver in 0..4 {
        // Line of defence: receivers compare the base with the state that they derived; so do contributors before they compute.
        refused(
            open(&federation, receiver, &round, sum, &evidence, &blob),
            "another state than this party's",
        );
    }
}
