//! What is offered to custodians as contributions.

use super::*;
use crate::custody::Verdict;
use galen_sums::authored::CONTRIBUTION;
use galen_sums::statement::{OpeningFault, SEEDS_REFUSED, SeedsRefused};
use galen_sums::{ContributionHeader, check_blob};

/// What every custodian says to these headers.
fn offered(federation: &Federation, round: &Round, headers: &[Authored], part: &str) {
    for member in &federation.members {
        let custodian = &member.custodian;
        refused(custodian.check(round, headers, Digest::of(b"some sum")), part);
        refused(custodian.endorse(round, headers, Digest::of(b"some sum")), part);
    }
}

/// A header signed by a member that says what it likes.
fn forged(federation: &Federation, by: usize, header: &ContributionHeader) -> Authored {
    let (identity, study) = (&federation.members[by].identity, federation.study.digest());
    Authored::sign(&identity.signing, &identity.name, CONTRIBUTION, &study, header).unwrap()
}

fn read(authored: &Authored) -> ContributionHeader {
    authored.statement.read_unverified().unwrap()
}

/// Attack: one contribution stands twice in the set, so that it can be told from the others.
#[test]
fn a_contributor_counted_twice_is_refused_by_custodians_and_receivers() {
    let federation = federation(4, 3, 3);
    let round = federation.statistics_round(0, base(&federation));
    let parcels = federation.contribute(&round, values);
    let all = headers(&parcels);
    let twice = [all.clone(), all[..1].to_vec()].concat();
    // Line of defence: a set has one header for each name.
    offered(&federation, &round, &twice, "occurs twice");
    // In place of another, so that the number is right.
    let in_place = vec![all[0].clone(), all[0].clone(), all[1].clone(), all[2].clone()];
    offered(&federation, &round, &in_place, "occurs twice");
    // A contributor that rushes sends two contributions, each valid.
    let member = &federation.members[1].identity;
    let second =
        galen_custody::encrypt(&round, &member.name, &member.signing, &values(1), Vec::new()).unwrap();
    offered(
        &federation,
        &round,
        &[all.clone(), vec![second]].concat(),
        "occurs twice",
    );
    // The set is honest and the sum has one contribution twice: custodians cannot see it, receivers do.
    let added: Vec<&Parcel> = parcels.iter().chain(&parcels[..1]).collect();
    let (blob, sum) = super::sums::add(&federation, &round, &all, &added);
    let evidence = super::sums::evidence(&federation, &round, &all, sum);
    let opened = open(&federation, 0, &round, sum, &evidence, &blob);
    match opened {
        // Line of defence: the key sum is over the set.
        Err(NotOpened::Round(unopened)) => assert_eq!(unopened.fault(), OpeningFault::Remainder),
        other => panic!("{other:?}"),
    }
}

/// Attack: a sum over fewer members than the study allows, down to one hospital's values.
#[test]
fn too_few_contributors_are_opened_by_nobody() {
    let federation = federation(4, 3, 3);
    let round = federation.statistics_round(0, base(&federation));
    let parcels = federation.contribute(&round, values);
    for count in 0..3 {
        let few = headers(&parcels[..count]);
        // Line of defence: custodians count.
        offered(&federation, &round, &few, "at least 3 are needed");
        // Line of defence: so do receivers, even if all custodians signed.
        let set = ContributionSet {
            record: *round.digest(),
            members: few
                .iter()
                .map(|header| (header.author.clone(), header.digest()))
                .collect(),
        };
        let sum = Digest::of(b"some sum");
        let said = Endorsement::of(&set, sum);
        let evidence = Evidence {
            headers: few,
            endorsements: (0..4)
                .map(|index| sign_anything(&federation, index, &said))
                .collect(),
            answers: Vec::new(),
            fingerprints: Vec::new(),
        };
        refused(
            Verified::new(&round, sum, evidence).map(drop),
            "at least 3 are needed",
        );
    }
}

/// Attack: contributions are replayed in another attempt, another round or under another record, to be opened in two sums.
#[test]
fn another_round_s_contribution_is_in_no_set() {
    let federation = federation(4, 3, 3);
    let old = federation.statistics_round(0, base(&federation));
    let replayed = federation.contribute(&old, values);
    let second = federation.statistics_round(1, base(&federation));
    let fresh = headers(&federation.contribute(&second, values));
    let mut mixed = fresh.clone();
    mixed[1] = replayed[1].header.clone();
    // Line of defence: a header names its record.
    offered(&federation, &second, &mixed, "another round, attempt or record");
    offered(
        &federation,
        &second,
        &headers(&replayed),
        "another round, attempt or record",
    );
    // The contributor itself re-signs its former contribution: the seeds were sealed for the other record.
    let mut header = read(&replayed[1].header);
    header.record = *second.digest();
    let mut mixed = fresh.clone();
    mixed[1] = forged(&federation, 1, &header);
    named(&federation, &second, &mixed, 1);
    // Nor does its blob pass for one of this attempt.
    let name = &federation.members[1].identity.name;
    assert!(check_blob(&second, name, &replayed[1].ciphertext[..]).is_err());
}

/// Every custodian refuses the seeds of this contributor and says so; nobody endorses.
fn named(federation: &Federation, round: &Round, headers: &[Authored], cheat: usize) {
    let cheat = &federation.members[cheat].identity.name;
    for member in &federation.members {
        let verdict = member
            .custodian
            .check(round, headers, Digest::of(b"sum"))
            .unwrap()
            .unwrap();
        let Verdict::SeedsRefused {
            contributor,
            statement,
        } = verdict
        else {
            panic!("{verdict:?}")
        };
        let said: SeedsRefused = statement.open(federation.rounds.roster(), SEEDS_REFUSED).unwrap();
        assert_eq!(
            (&contributor, &said.contributor, said.record),
            (cheat, cheat, *round.digest())
        );
        let signed = member
            .custodian
            .endorse(round, headers, Digest::of(b"sum"))
            .unwrap();
        assert_eq!(signed, None);
    }
}

/// Attack: a contributor that rushes sees another's contribution first and gives it out as its own, so that the other's values
/// count twice.
#[test]
fn a_copied_contribution_is_refused_under_every_other_name() {
    let (victim, cheat) = (0, 3);
    let copies: [(&str, &dyn Fn(&Federation, &Authored) -> Authored); 3] = [
        // The victim's statement under the cheat's name. Line of defence: its signature.
        ("statement of \"d\"", &|federation, header| Authored {
            author: federation.members[cheat].identity.name.clone(),
            statement: header.statement.clone(),
        }),
        // The victim's words, signed by the cheat. Line of defence: the name inside.
        ("names another contributor", &|federation, header| {
            forged(federation, cheat, &read(header))
        }),
        // Its seed hashes and sealed seeds with the cheat's name inside. Line of defence: seeds are sealed for a contributor.
        ("", &|federation, header| {
            let contributor = federation.members[cheat].identity.name.clone();
            forged(
                federation,
                cheat,
                &ContributionHeader {
                    contributor,
                    ..read(header)
                },
            )
        }),
    ];
    for (part, copy) in copies {
        let federation = federation(4, 3, 3);
        let round = federation.statistics_round(0, base(&federation));
        let mut all = headers(&federation.contribute(&round, values));
        all[cheat] = copy(&federation, &all[victim]);
        if part.is_empty() {
            named(&federation, &round, &all, cheat);
        } else {
            offered(&federation, &round, &all, part);
        }
    }
}

/// Attack: the same with the ciphertexts alone, under seeds of the cheat's own.
#[test]
fn copied_ciphertexts_under_other_seeds_open_nothing() {
    let federation = federation(4, 3, 3);
    let round = federation.statistics_round(0, base(&federation));
    let mut parcels = federation.contribute(&round, values);
    let (victim, cheat) = (
        &federation.members[0].identity.name,
        &federation.members[3].identity.name,
    );
    // Line of defence: a blob names its contributor, for which the coordinator checks what arrives.
    assert!(check_blob(&round, cheat, &parcels[0].ciphertext[..]).is_err());
    let relabelled = super::sums::relabel(&round, victim, cheat, &parcels[0].ciphertext);
    assert!(check_blob(&round, cheat, &relabelled[..]).is_ok());
    let header = ContributionHeader {
        ciphertext: Digest::of(&relabelled),
        ..read(&parcels[3].header)
    };
    parcels[3] = Parcel {
        header: forged(&federation, 3, &header),
        digest: header.ciphertext,
        ciphertext: relabelled.into(),
    };
    let (evidence, blob, sum) = federation.whole_round(&round, &parcels);
    for receiver in 0..4 {
        // Line of defence: the key sum has the cheat's key, its ciphertexts the victim's; no remainder is small.
        match open(&federation, receiver, &round, sum, &evidence, &blob) {
            Err(NotOpened::Round(unopened)) => assert_eq!(unopened.fault(), OpeningFault::Remainder),
            other => panic!("{other:?}"),
        }
    }
}
