//! Custodians that are absent when a sum is opened: any three of four are enough.

use galen_integration_tests::federation::COORDINATOR;
use galen_integration_tests::scene::{Scene, small_heart};

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_quickstart");

/// Starts everybody, with one party doomed; when it is dead, the round goes on and is published without it; then it comes back.
fn without(scene: &mut Scene, absent: &str, point: &str) -> anyhow::Result<()> {
    scene.start(COORDINATOR)?;
    for party in scene.parties().to_vec() {
        if party.as_str() != absent {
            scene.start(party.as_str())?;
        }
    }
    scene.start_killed_at(absent, point)?;
    scene.wait_killed(absent)?;
    anyhow::ensure!(
        scene.snapshot().published() == 0,
        "the first round was published before {absent} died"
    );
    scene.wait_published(1)?;
    scene.start(absent)?;
    let sets = scene.finish()?;
    let in_first = sets
        .first()
        .is_some_and(|set| set.iter().any(|party| party.as_str() == absent));
    anyhow::ensure!(
        in_first,
        "{absent} had contributed to the first sum, which was {:?}",
        sets.first()
    );
    Ok(())
}

#[test]
fn a_custodian_that_never_endorses_is_not_needed() -> anyhow::Result<()> {
    let mut scene = Scene::new(EXECUTABLE, &small_heart(2)?)?;
    without(&mut scene, "zurich", "party.set.signed")
}

#[test]
fn pieces_of_a_custodian_that_endorsed_and_vanished_come_from_others() -> anyhow::Result<()> {
    // With all four needed for agreement, the one that dies has endorsed and is asked for pieces.
    let folder = small_heart(2)?.with(|study| study.sums.agreement = 4)?;
    let mut scene = Scene::new(EXECUTABLE, &folder)?;
    without(&mut scene, "zurich", "party.answer.stored")
}
