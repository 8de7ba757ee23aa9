//! SIGKILL of a daemon in every state that it makes durable: it is started again and the study is completed with exact sums.
//!
//! The daemons die by themselves at named fault points, right after the state became durable. One study goes through all of them:
//! each time the daemon has died it is started again, doomed to die at the next point.

use galen_core::PartyId;
use galen_integration_tests::StudyFolder;
use galen_integration_tests::federation::COORDINATOR;
use galen_integration_tests::scene::{Scene, small_heart};

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_quickstart");

/// The states of the coordinator, in the order in which a study comes to them.
const COORDINATOR_ROUNDS: &[&str] = &[
    "coordinator.study.active",
    "coordinator.round.announced",
    "coordinator.round.collecting",
    "coordinator.contribution.stored",
    "coordinator.round.proposed",
    "coordinator.round.endorsing",
    "coordinator.round.certified",
    "coordinator.answer.stored",
    "coordinator.round.opening",
    "coordinator.round.published",
    "coordinator.model.serving",
];

/// The states of a party, likewise.
const PARTY: &[&str] = &[
    "party.key.announced",
    "party.contribution.drawn",
    "party.contribution.sent",
    "party.set.checked",
    "party.set.signed",
    "party.answer.stored",
    "party.answer.sent",
    "party.round.applied",
    "party.round.erased",
    "party.model.released",
];

/// Nobody is given up: a party that needs some seconds to notice that the coordinator is back is still waited for.
fn patient_heart() -> anyhow::Result<StudyFolder> {
    small_heart(20)
}

#[test]
fn the_coordinator_dies_in_every_state_of_the_rounds() -> anyhow::Result<()> {
    let mut scene = Scene::new(EXECUTABLE, &patient_heart()?)?;
    for party in scene.parties().to_vec() {
        scene.start(party.as_str())?;
    }
    for point in COORDINATOR_ROUNDS {
        scene.start_killed_at(COORDINATOR, point)?;
        scene.wait_killed(COORDINATOR)?;
    }
    scene.start(COORDINATOR)?;
    scene.wait_done()?;
    scene.query(&PartyId::new("zurich")?)?;
    scene.finish()?;
    Ok(())
}

#[test]
fn the_coordinator_dies_after_giving_an_attempt_up() -> anyhow::Result<()> {
    // With two of four hospitals gone, a set of three cannot be endorsed, nor given up: that takes three as well.
    let mut scene = Scene::new(EXECUTABLE, &small_heart(2)?)?;
    scene.start_killed_at(COORDINATOR, "coordinator.round.abandoning")?;
    for name in ["cleveland", "budapest"] {
        scene.start(name)?;
    }
    for name in ["zurich", "long-beach"] {
        scene.start_killed_at(name, "party.contribution.sent")?;
    }
    scene.wait_killed("zurich")?;
    scene.wait_killed("long-beach")?;
    scene.wait_killed(COORDINATOR)?;
    for name in [COORDINATOR, "zurich", "long-beach"] {
        scene.start(name)?;
    }
    scene.finish()?;
    let status = scene.snapshot();
    let first = status
        .coordinator
        .as_ref()
        .and_then(|status| status.published.first());
    anyhow::ensure!(
        first.is_some_and(|round| round.attempt > 0),
        "the first attempt was not given up: {first:?}"
    );
    Ok(())
}

#[test]
fn a_party_dies_in_every_state() -> anyhow::Result<()> {
    // Every step needs all four, so that nothing goes on without the one that dies.
    let folder = patient_heart()?.with(|study| {
        study.sums.agreement = 4;
        study.sums.min_contributors = 4;
        study.sums.quorum = 4;
    })?;
    let mut scene = Scene::new(EXECUTABLE, &folder)?;
    scene.start(COORDINATOR)?;
    for name in ["cleveland", "budapest", "zurich"] {
        scene.start(name)?;
    }
    for point in PARTY {
        scene.start_killed_at("long-beach", point)?;
        scene.wait_killed("long-beach")?;
    }
    scene.start("long-beach")?;
    scene.wait_done()?;
    scene.query(&PartyId::new("long-beach")?)?;
    scene.finish()?;
    Ok(())
}

#[test]
fn the_coordinator_dies_while_queries_wait_in_their_evaluation_and_after_answering() -> anyhow::Result<()> {
    let mut scene = Scene::started(EXECUTABLE, &patient_heart()?)?;
    scene.wait_done()?;
    for point in [
        "coordinator.query.accepted",
        "coordinator.query.evaluating",
        "coordinator.query.done",
    ] {
        scene.stop(COORDINATOR)?;
        scene.start_killed_at(COORDINATOR, point)?;
        let party = PartyId::new("budapest")?;
        let out = scene.dir().join(format!("{point}.csv"));
        let args = [
            "query".into(),
            "--held-out".into(),
            "--out".into(),
            out.clone().into_os_string(),
        ];
        let query = scene.command(party.as_str(), args)?;
        scene.wait_killed(COORDINATOR)?;
        scene.start(COORDINATOR)?;
        query.result()?;
        scene.check_answers(&party, &out)?;
    }
    scene.finish()?;
    Ok(())
}

/// A query whose evaluation ends the coordinator again and again is given up, and the next one is answered.
#[test]
fn a_query_that_ends_the_coordinator_thrice_fails() -> anyhow::Result<()> {
    const POINT: &str = "coordinator.query.evaluating";
    let mut scene = Scene::started(EXECUTABLE, &patient_heart()?)?;
    scene.wait_done()?;
    scene.stop(COORDINATOR)?;
    scene.start_killed_at(COORDINATOR, POINT)?;
    let party = PartyId::new("budapest")?;
    let query = scene.command(party.as_str(), ["query", "--held-out"])?;
    scene.wait_killed(COORDINATOR)?;
    for _ in 1..3 {
        scene.start_killed_at(COORDINATOR, POINT)?;
        scene.wait_killed(COORDINATOR)?;
    }
    scene.start(COORDINATOR)?;
    let failure = query.failure()?;
    anyhow::ensure!(failure.log.contains("interrupted too often"), "{}", failure.log);
    scene.query(&party)?;
    scene.finish()?;
    Ok(())
}
