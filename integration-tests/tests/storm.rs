//! SIGKILL at any moment: daemons die at arbitrary times, one after the other, and the study is completed with exact sums.

use galen_integration_tests::federation::COORDINATOR;
use galen_integration_tests::scene::{Scene, small_heart};
use std::time::Duration;

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_quickstart");

/// Kills of a party, and of the coordinator, in this order.
const VICTIMS: &[&str] = &[
    "cleveland",
    "zurich",
    COORDINATOR,
    "budapest",
    "long-beach",
    "zurich",
    COORDINATOR,
    "budapest",
    "cleveland",
];

#[test]
fn daemons_that_are_killed_at_any_moment_go_on() -> anyhow::Result<()> {
    // Enough rounds for every kill to hit one.
    let folder = small_heart(20)?.with(|study| study.training.rounds = 40)?;
    let mut scene = Scene::started(EXECUTABLE, &folder)?;
    // Different moments at every run: what must hold, holds at all of them.
    let mut state = u64::from(std::process::id()) | 1;
    let mut published = 0;
    for victim in VICTIMS {
        published += 3;
        scene.wait_published(published)?;
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_micros((state >> 33) % 200_000));
        scene.kill(victim)?;
        scene.start(victim)?;
    }
    scene.finish()?;
    Ok(())
}
