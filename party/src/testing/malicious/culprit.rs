//! Contributors that spoil sums, over the real engine: the round fails visibly, and who it was is found.

use super::play::Play;
use super::*;
use galen_core::study::{Release, Study};
use galen_net::protocol::StudyPhase;
use galen_rns::poly::Poly;
use galen_sums::ContributionHeader;
use galen_sums::audit::{AuditEvent, Culprit};
use galen_sums::authored::CONTRIBUTION;
use galen_sums::blob::{BlobWriter, Subject};

/// Eight contributors, four of which keep pieces.
fn study() -> Study {
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

/// Attack: one of eight contributors sends garbage in every round. No sum that it is in opens to anything, and no two sums that are
/// opened single anybody out (the custodians see to that); groups are asked until it alone is left.
#[test]
fn of_eight_contributors_the_one_that_sends_garbage_is_found_and_the_study_ends_without_it() {
    for culprit in [1, 6] {
        let mut play = Play::new(Federation::of(study()));
        let name = play.federation.members[culprit].identity.name.clone();
        let mut turns = 0;
        while !matches!(play.engine.view().study, StudyPhase::Closed { .. }) {
            turns += 1;
            assert!(turns < 200, "{:?}", play.engine.view());
            play.turn(&|federation, round, index, parcel| match index == culprit {
                true => garbage(federation, round, index, &parcel),
                false => parcel,
            });
        }
        let StudyPhase::Closed { completed, reason } = play.engine.view().study else {
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
        // Every published sum is without it.
        let state = play.engine.state();
        assert!(state.published.iter().all(|round| !round.set.contains(&name)));
        assert_eq!(state.left_out(), [name].into());
    }
}

/// Attack: a contributor deals other seeds to one custodian than to the others, so that a later answer depends on who gives it.
#[test]
fn inconsistent_seeds_are_named_before_anybody_is_bound() {
    let mut play = Play::new(Federation::of(study()));
    let cheat = play.federation.members[5].identity.name.clone();
    while play.engine.view().published.is_empty() {
        play.turn(&|federation, _, index, parcel| {
            if index != 5 {
                return parcel;
            }
            // What all custodians but the first get does not open. Were it one of them only, the others would do.
            let mut header: ContributionHeader = parcel.header.statement.read_unverified().unwrap();
            for sealed in header.sealed.values_mut().skip(1) {
                sealed[60] ^= 1;
            }
            resigned(federation, index, &header, parcel.ciphertext.to_vec())
        });
    }
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
