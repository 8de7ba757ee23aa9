//! Contributors that spoil sums, over the real engine: the round fails visibly, and who it was is found.

use super::play::{Play, honest};
use super::sums::rewrite;
use super::*;
use galen_core::PartyId;
use galen_core::study::{Release, Study};
use galen_net::protocol::{AttemptPhase, Statement, StudyPhase};
use galen_rns::poly::Poly;
use galen_sums::ContributionHeader;
use galen_sums::audit::{AuditEvent, Culprit};
use galen_sums::authored::CONTRIBUTION;
use galen_sums::blob::{BlobWriter, Subject};
use galen_sums::statement::{FINGERPRINT_REFUSED, FingerprintRefused};
use std::rc::Rc;

/// Eight contributors, four of which keep pieces.
pub(super) fn study() -> Study {
    let mut study = testing::study_of(8, 4, 3, 3);
    study.serving.release = Release::Contributors;
    study
}

fn resigned(
    federation: &Federation,
    index: usize,
    header: &ContributionHeader,
    ciphertext: Vec<u8>,
) -> Parcel {
    let (identity, study) = (&federation.members[index].identity, federation.study.digest());
    Parcel {
        header: Authored::sign(&identity.signing, &identity.name, CONTRIBUTION, &study, header).unwrap(),
        digest: header.ciphertext,
        ciphertext: ciphertext.into(),
    }
}

/// Well-formed ciphertexts that are an encryption of nothing.
fn garbage(federation: &Federation, round: &Round, index: usize, parcel: &Parcel) -> Parcel {
    let name = &federation.members[index].identity.name;
    let mut blob = Vec::new();
    let mut writer = BlobWriter::new(round, &Subject::Contribution(name.clone()), &mut blob).unwrap();
    for block in 0..round.plan().blocks() {
        let noise: Poly<galen_rns::poly::Coeff> = galen_sums::round::common_coefficients(
            &Digest::of(format!("garbage {}", block).as_bytes()),
            block,
            round.ring(),
        );
        writer.write_block(&noise).unwrap();
    }
    writer.finish().unwrap();
    let header: ContributionHeader = parcel.header.statement.read_unverified().unwrap();
    let header = ContributionHeader {
        ciphertext: Digest::of(&blob),
        ..header
    };
    resigned(federation, index, &header, blob)
}

/// The contribution with `more` added to its first value, whatever the plan's range is: what a program sends that leaves out the check.
fn add_to_first(federation: &Federation, round: &Round, index: usize, parcel: &Parcel, more: i64) -> Parcel {
    let shift = i128::from(more) * i128::from(round.plan().delta);
    shifted(federation, round, index, parcel, shift)
}

/// The contribution with a number added to its first ciphertext coefficient.
fn shifted(federation: &Federation, round: &Round, index: usize, parcel: &Parcel, shift: i128) -> Parcel {
    let subject = Subject::Contribution(federation.members[index].identity.name.clone());
    let blob = rewrite(round, &subject, &subject, &parcel.ciphertext, shift);
    let header: ContributionHeader = parcel.header.statement.read_unverified().unwrap();
    let header = ContributionHeader {
        ciphertext: Digest::of(&blob),
        ..header
    };
    resigned(federation, index, &header, blob)
}

/// The largest magnitude that the plan allows the first value.
fn first_bound(round: &Round) -> i64 {
    round.plan().bounds().next().unwrap() as i64
}

/// Attack: well-formed encryptions of values out of range, which take the sum out of the range of all contributors together.
#[test]
fn values_whose_sum_leaves_the_range_are_found_out_and_who_sent_them_is_named() {
    let mut play = Play::new(Federation::of(study()));
    let (culprit, plain) = (7, Rc::clone(&play.plain));
    let name = play.federation.members[culprit].identity.name.clone();
    for turns in 0.. {
        assert!(turns < 200, "{:?}", play.engine.view(0));
        if matches!(play.engine.view(0).study, StudyPhase::Closed { .. }) {
            break;
        }
        // Line of defence: no sum is beyond what its contributors can add up to, here by one. (Much more comes back at the other end of
        // the range, where the modulus ends.)
        play.turn(&|federation, round, index, parcel| match index == culprit {
            true => {
                let sum: i64 = (0..8)
                    .map(|index| plain.borrow()[&(round.id().round, index)][0])
                    .sum();
                let more = 8 * first_bound(round) + 1 - sum;
                add_to_first(federation, round, index, &parcel, more)
            }
            false => parcel,
        });
    }
    let StudyPhase::Closed { completed, reason } = play.engine.view(0).study else {
        unreachable!()
    };
    assert!(completed, "{reason}");
    let state = play.engine.state();
    assert_eq!(state.left_out(), [name.clone()].into());
    assert!(state.published.iter().all(|round| !round.set.contains(&name)));
    for (round, sum) in (0..).zip(&play.sums) {
        assert_eq!(*sum, play.plain_sum(round));
    }
}

/// Attack: the same within the range of all together, to a sum that no patients add up to.
#[test]
fn a_sum_that_no_patients_add_up_to_is_collected_again_without_who_spoiled_it() {
    let mut play = Play::new(Federation::of(study()));
    let name = play.federation.members[2].identity.name.clone();
    // Line of defence: receivers ask whether an opened sum can be one of patients. Less than no patient of a class cannot.
    play.until_published(1, &|federation, round, index, parcel| match index == 2 {
        true => add_to_first(federation, round, index, &parcel, -4 * first_bound(round)),
        false => parcel,
    });
    let state = play.engine.state();
    assert!(state.published[0].attempt > 0 && !state.published[0].set.contains(&name));
    assert!(state.suspects.contains(&name), "{:?}", state.suspects);
    assert_eq!(play.sums[0], play.plain_sum(0));
}

/// Attack: less than a unit is added to a ciphertext, which rounding would take away. Under a key that outlives the round this is how its key is
/// read from an exact sum; here it must show like anything else that is no encryption.
#[test]
fn what_rounding_would_hide_is_seen_and_collected_again() {
    let mut play = Play::new(Federation::of(study()));
    let name = play.federation.members[2].identity.name.clone();
    // Line of defence: remainders.
    play.until_published(1, &|federation, round, index, parcel| match index == 2 {
        true => shifted(
            federation,
            round,
            index,
            &parcel,
            i128::from(round.plan().delta / 3),
        ),
        false => parcel,
    });
    let state = play.engine.state();
    assert!(state.published[0].attempt > 0 && !state.published[0].set.contains(&name));
    assert_eq!(play.sums[0], play.plain_sum(0));
}

/// What is not stopped: a value out of range whose sum stays within the range of all together. It is summed as it is, exactly, and
/// nobody is named.
#[test]
fn a_value_out_of_range_that_leaves_the_sum_in_range_is_not_seen() {
    let mut play = Play::new(Federation::of(study()));
    let more = |round: &Round| first_bound(round) + 50;
    let mut sent = 0;
    while play.engine.view(0).published.is_empty() {
        let said = std::cell::Cell::new(sent);
        play.turn(&|federation, round, index, parcel| match index == 2 {
            true => {
                said.set(more(round));
                add_to_first(federation, round, index, &parcel, more(round))
            }
            false => parcel,
        });
        sent = said.get();
    }
    assert!(sent > 0);
    let mut expected = play.plain_sum(0);
    expected[0] += sent;
    assert_eq!(play.sums[0], expected);
    assert_eq!(play.engine.state().published[0].set.len(), 8);
    let named = |event: &AuditEvent| matches!(event, AuditEvent::Named { .. });
    assert!(!play.events().iter().any(named));
    // The honest go on.
    play.until_published(2, &honest);
}

/// Attack: one of eight contributors sends garbage in every round. No sum that it is in opens to anything, and no two sums that are
/// opened single anybody out (the custodians see to that); groups are asked until it alone is left.
#[test]
fn of_eight_contributors_the_one_that_sends_garbage_is_found_and_the_study_ends_without_it() {
    for culprit in [1, 6] {
        let mut play = Play::new(Federation::of(study()));
        let name = play.federation.members[culprit].identity.name.clone();
        let mut turns = 0;
        while !matches!(play.engine.view(0).study, StudyPhase::Closed { .. }) {
            turns += 1;
            assert!(turns < 200, "{:?}", play.engine.view(0));
            play.turn(&|federation, round, index, parcel| match index == culprit {
                true => garbage(federation, round, index, &parcel),
                false => parcel,
            });
        }
        let StudyPhase::Closed { completed, reason } = play.engine.view(0).study else {
            unreachable!()
        };
        assert!(completed, "{reason}");
        let events = play.events();
        let named: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                AuditEvent::Named { party, culprit, .. } => Some((party.clone(), *culprit)),
                _ => None,
            })
            .collect();
        assert_eq!(named, [(name.clone(), Culprit::Suspected)]);
        // Every attempt that ended without a result is in the log, with whom the round is collected from next.
        let mut failed = events.iter().filter_map(|event| match event {
            AuditEvent::Repeated { members, next, .. } => Some((members, next)),
            _ => None,
        });
        assert!(failed.clone().count() > 0);
        assert!(failed.all(|(members, next)| members.contains(&name) && next.len() >= 3 && next != members));
        // Every published sum is without it.
        let state = play.engine.state();
        assert!(state.published.iter().all(|round| !round.set.contains(&name)));
        assert_eq!(state.left_out(), [name].into());
    }
}

/// Attack: a contributor deals other seeds to one custodian than to the others, so that a later answer depends on who gives it; or seeds
/// that are not those that it committed to.
#[test]
fn inconsistent_seeds_are_named_before_anybody_is_bound() {
    let attacks: [&dyn Fn(&mut ContributionHeader); 2] = [
        // What all custodians but the first get does not open. Were it one of them only, the others would do.
        &|header| {
            header
                .sealed
                .values_mut()
                .skip(1)
                .for_each(|sealed| sealed[60] ^= 1)
        },
        &|header| header.seed_hashes.iter_mut().for_each(|hash| hash.0[0] ^= 1),
    ];
    for attack in attacks {
        let mut play = Play::new(Federation::of(study()));
        let cheat = play.federation.members[5].identity.name.clone();
        play.until_published(1, &|federation, _, index, parcel| {
            if index != 5 {
                return parcel;
            }
            let mut header: ContributionHeader = parcel.header.statement.read_unverified().unwrap();
            attack(&mut header);
            resigned(federation, index, &header, parcel.ciphertext.to_vec())
        });
        // Line of defence: every custodian checks the seeds before any endorses; the attempt is given up by certificate.
        let events = play.events();
        assert!(events.iter().any(
            |event| matches!(event, AuditEvent::Named { party, culprit, evidence, .. }
            if *party == cheat && *culprit == Culprit::BadSeeds && evidence.len() == 1)
        ));
        assert!(
            events
                .iter()
                .any(|event| matches!(event, AuditEvent::Abandoned { id, .. } if *id == ID))
        );
        let published = &play.engine.state().published[0];
        assert!(published.attempt == 1 && published.set.len() == 7 && !published.set.contains(&cheat));
    }
}

/// Attack: a contributor signs the fingerprint of other ciphertexts than it sent; and a receiver accuses an honest contributor of it.
#[test]
fn a_false_fingerprint_is_named_in_the_audit_log_and_an_honest_one_is_not() {
    let mut play = Play::new(federation(4, 3, 3));
    play.false_fingerprint = Some(1);
    let [liar, innocent, accuser] =
        [1, 2, 3].map(|index| play.federation.members[index].identity.name.clone());
    let (id, _) = play.until_phase(AttemptPhase::Opening, &honest);
    let record = *play.round(id).digest();
    let complain = |play: &Play, contributor: &PartyId, record: Digest| {
        let said = FingerprintRefused {
            record,
            contributor: contributor.clone(),
        };
        let member = &play.federation.members[3];
        let said = Statement::FingerprintRefused(play.sign(member, FINGERPRINT_REFUSED, &said));
        play.engine.post(&accuser, said)
    };
    // Line of defence: the coordinator computes the fingerprint itself, so that nobody is named on a receiver's word.
    for _ in 0..2 {
        refused(complain(&play, &innocent, record), "is that of its ciphertexts");
    }
    refused(complain(&play, &liar, Digest::of(b"another record")), "");
    play.until_published(1, &honest);
    assert_eq!(play.sums[0], play.plain_sum(0));
    let named: Vec<_> = play
        .events()
        .into_iter()
        .filter_map(|event| match event {
            AuditEvent::Named {
                party,
                culprit,
                evidence,
                ..
            } => Some((party, culprit, evidence.len())),
            _ => None,
        })
        .collect();
    // Once, although every receiver complains.
    assert_eq!(named, [(liar, Culprit::BadFingerprint, 3)]);
}
