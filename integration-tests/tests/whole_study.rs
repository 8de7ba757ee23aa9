//! A study from the first signature to encrypted predictions, every process real.

use galen_integration_tests::federation::COORDINATOR;
use galen_integration_tests::scene::{Scene, small_heart};

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_quickstart");

#[test]
fn four_hospitals_train_and_every_one_of_them_queries() -> anyhow::Result<()> {
    // Long enough that nobody is left out even on a machine that is busy with other things.
    let mut scene = Scene::started(EXECUTABLE, &small_heart(60)?)?;
    scene.wait_done()?;
    scene.check_sums_of_all()?;
    for party in scene.parties().to_vec() {
        scene.query(&party)?;
    }
    scene.wait_for("four queries are answered", |_, snapshot| {
        let queries = snapshot.coordinator.as_ref().map(|status| status.queries);
        Ok(queries.is_some_and(|queries| queries.done == 4 && queries.failed == 0))
    })?;
    scene.end()?;
    contributions_are_gone(&scene)?;
    the_audit_logs_agree(&mut scene)
}

/// With fewer connections than hospitals, those that wait for news make room for the others, and the study goes its way.
#[test]
fn four_hospitals_and_a_query_share_three_connections() -> anyhow::Result<()> {
    let folder = small_heart(60)?.with(|study| study.training.rounds = 1)?;
    let mut scene = Scene::new(EXECUTABLE, &folder)?;
    let config = scene.home(COORDINATOR).join("config.toml");
    let text = std::fs::read_to_string(&config)?;
    let few = text.replace("\nconnections = 256\n", "\nconnections = 3\n");
    anyhow::ensure!(few != text, "the sample names the default number of connections");
    std::fs::write(&config, few)?;
    scene.start_all()?;
    scene.wait_done()?;
    scene.check_sums_of_all()?;
    let party = scene.parties()[0].clone();
    scene.query(&party)?;
    let status = scene.snapshot().coordinator.map(|status| status.connections);
    anyhow::ensure!(
        status.is_some_and(|connections| connections.most == 3 && connections.waited > 0),
        "{status:?}"
    );
    scene.end()
}

/// Every hospital's copy of the audit log verifies and tells of every opened sum; it is a part of what the coordinator exports.
fn the_audit_logs_agree(scene: &mut Scene) -> anyhow::Result<()> {
    let rounds = scene.snapshot().published();
    let exported = scene.dir().join("audit.jsonl").to_string_lossy().into_owned();
    let written = scene.run(COORDINATOR, &["audit", "export", "--out", &exported])?;
    let shown = scene.run(COORDINATOR, &["audit", "show"])?;
    anyhow::ensure!(shown["report"]["head"] == written["head"], "{written} {shown}");
    for party in scene.parties().to_vec() {
        let own = scene.run(party.as_str(), &["audit", "verify"])?;
        let openings = own["report"]["openings"].as_array().map_or(0, Vec::len);
        anyhow::ensure!(
            openings == rounds,
            "{party} knows of {openings} of {rounds} sums: {own:#}"
        );
        let all = scene.run(party.as_str(), &["audit", "verify", &exported])?;
        anyhow::ensure!(all["report"]["head"] == written["head"], "{all:#}");
        anyhow::ensure!(all["compared_with"] == own["report"]["head"]["lines"], "{all:#}");
        anyhow::ensure!(
            all["report"]["warnings"] == serde_json::json!([])
                && all["report"]["served"].as_array().is_some_and(|m| m.len() == 1),
            "{all:#}"
        );
    }
    Ok(())
}

/// Exit status of `party serve` when the study is closed without having been completed.
const CLOSED: i32 = 7;

#[test]
fn a_model_that_no_parameters_can_serve_closes_the_study_with_the_reason() -> anyhow::Result<()> {
    let folder = small_heart(60)?.with(|study| {
        study.model.hidden = vec![4; 4];
        study.serving.precision_bits = 24;
    })?;
    let mut scene = Scene::started(EXECUTABLE, &folder)?;
    scene.wait_for("the study is closed", |_, snapshot| {
        Ok(snapshot
            .closed()
            .is_some_and(|(completed, reason)| !completed && reason.contains("cannot be served")))
    })?;
    for party in scene.parties().to_vec() {
        let (status, log) = scene.wait_ended(party.as_str())?;
        anyhow::ensure!(
            status.code() == Some(CLOSED),
            "{party} ended with {status}:\n{log}"
        );
        anyhow::ensure!(
            log.contains("cannot be served"),
            "{party} does not say why:\n{log}"
        );
    }
    // What was opened stays the hospitals' own, and the coordinator goes on telling what happened.
    scene.check_sums_of_all()?;
    scene.end()
}

/// Ciphertexts of contributions are deleted when their round is over: the coordinator's folder is smaller than a single round's.
fn contributions_are_gone(scene: &Scene) -> anyhow::Result<()> {
    let blobs = scene.home(COORDINATOR).join("data").join("blobs");
    let mut found = Vec::new();
    for entry in walk(&blobs)? {
        found.push(entry.metadata()?.len());
    }
    // What stays: a sum per round with what each custodian sealed to the receivers, the model and its interface, evaluation
    // keys and answers.
    let (rounds, parties) = (scene.snapshot().published(), scene.parties().len());
    let stay = rounds * (1 + parties) + 2 + 2 * parties;
    anyhow::ensure!(
        found.len() <= stay,
        "{} blobs are left, at most {stay} should be: {found:?}",
        found.len()
    );
    Ok(())
}

fn walk(dir: &std::path::Path) -> anyhow::Result<Vec<std::fs::DirEntry>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => files.extend(walk(&entry.path())?),
            false => files.push(entry),
        }
    }
    Ok(files)
}
