//! Hospitals leave and join between rounds, and come back from backups; the sums stay right.

use anyhow::ensure;
use galen_core::study::FrozenStudy;
use galen_core::{PartyId, StudyDigest};
use galen_integration_tests::StudyFolder;
use galen_integration_tests::federation::COORDINATOR;
use galen_integration_tests::oracle::{self, Recomputed, Sets};
use galen_integration_tests::scene::{Scene, small_heart};
use galen_party::custody::anchor::VolatileFile;
use galen_party::sealed::OpenedSum;
use galen_training::baseline::Hospital;
use std::collections::BTreeSet;

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_quickstart");
/// Rounds under the first version: statistics and one of training.
const FIRST: u32 = 2;

fn heart() -> anyhow::Result<StudyFolder> {
    small_heart(20)?.with(|study| study.training.rounds = 3)
}

fn names(names: &[&str]) -> anyhow::Result<Vec<PartyId>> {
    Ok(names
        .iter()
        .map(|name| PartyId::new(*name))
        .collect::<Result<_, _>>()?)
}

/// Runs the first rounds and stops everybody between two rounds.
fn until_held(scene: &mut Scene) -> anyhow::Result<()> {
    scene.start_holding(FIRST)?;
    for party in scene.parties().to_vec() {
        scene.start(party.as_str())?;
    }
    scene.wait_for("the first rounds are opened everywhere", |_, snapshot| {
        let opened = snapshot
            .parties
            .values()
            .filter(|party| party.applied == FIRST)
            .count();
        Ok(snapshot.published() == FIRST as usize && opened == 4)
    })?;
    scene.end()
}

#[test]
fn one_hospital_leaves_and_another_joins() -> anyhow::Result<()> {
    let folder = heart()?;
    let mut scene = Scene::new(EXECUTABLE, &folder)?;
    let old = scene.frozen().clone();
    until_held(&mut scene)?;

    // Zurich leaves, Basel joins.
    let (zurich, basel) = (PartyId::new("zurich")?, PartyId::new("basel")?);
    let table = folder.table(&PartyId::new("cleveland")?).unwrap_or_default();
    let lines: Vec<&str> = std::str::from_utf8(table)?.lines().take(150).collect();
    scene.init_party(&basel, lines.join("\n").as_bytes())?;
    let card = scene.home("basel").join("card.toml").display().to_string();
    let draft = scene.dir().join("successor.toml").display().to_string();
    let args = [
        "study", "succeed", "--remove", "zurich", "--add", &card, "--out", &draft,
    ];
    let said = scene.run(COORDINATOR, &args)?;
    ensure!(
        said["version"] == 2 && said["rounds_published"] == FIRST,
        "{said}"
    );
    ensure!(
        said["leave"][0] == "zurich" && said["join"][0] == "basel",
        "{said}"
    );
    ensure!(said["tolerated_cheats"] == 1, "{said}");
    scene.run(COORDINATOR, &["study", "freeze", &draft])?;
    let file = scene.home(COORDINATOR).join("study.toml");
    let new = FrozenStudy::load(&file)?;
    ensure!(new.check_successor_of(&old).is_empty(), "no successor");
    let digest = new.digest().to_hex();
    let stay = names(&["cleveland", "budapest", "long-beach"])?;
    for party in &stay {
        let said = scene.sign(party, &file, &digest)?;
        ensure!(said["needs_state"] == false && said["version"] == 2, "{said}");
    }
    let said = scene.sign(&basel, &file, &digest)?;
    ensure!(said["needs_state"] == true, "{said}");

    // The one that joins takes part only with the state; that of somebody else's study is none.
    let early = scene.command("basel", ["serve"])?.failure()?;
    ensure!(
        early.log.contains("P601") && early.log.contains("party state import"),
        "{}",
        early.log
    );
    let state = scene.dir().join("state").display().to_string();
    scene.run("budapest", &["state", "export", &state, "--to", &card])?;
    let foreign = scene
        .command("long-beach", ["state", "import", state.as_str()])?
        .failure()?;
    ensure!(
        foreign.log.contains("not sealed to this party"),
        "{}",
        foreign.log
    );
    let said = scene.run("basel", &["state", "import", &state])?;
    ensure!(said["rounds"] == FIRST, "{said}");

    // Who left and does not know it is told; so is who stays but has not signed. The study goes on without either.
    scene.follow(new.clone());
    scene.start_all()?;
    scene.start("zurich")?;
    let (status, log) = scene.wait_ended("zurich")?;
    ensure!(
        status.code() == Some(7) && log.contains("G1502"),
        "{status}: {log}"
    );
    scene.wait_done()?;
    let answers = scene.dir().join("answers.csv").display().to_string();
    scene.run("basel", &["query", "--held-out", "--out", &answers])?;
    let status = scene.snapshot().coordinator;
    let status = status.ok_or_else(|| anyhow::anyhow!("no status"))?;
    ensure!(status.version == 2, "version {}", status.version);
    ensure!(
        status.former.len() == 1 && status.former[0].contains("succeeded by version 2"),
        "{:?}",
        status.former
    );
    check(&mut scene, &zurich, &basel, &stay)?;
    // The logs of both versions hold, the old one's ends with the succession.
    for party in ["basel", "budapest"] {
        let said = scene.run(party, &["audit", "verify"])?;
        ensure!(said["report"]["findings"] == serde_json::json!([]), "{said}");
    }
    let former = scene.home(COORDINATOR).join("former");
    let log = std::fs::read_to_string(former.join("v1.audit.jsonl"))?;
    ensure!(
        log.lines()
            .last()
            .is_some_and(|line| line.contains("succeeded by version 2")),
        "{log}"
    );
    ensure!(
        scene.home("budapest").join("former/v1-audit/log.jsonl").exists(),
        "no copy of the old log"
    );
    scene.end()
}

/// Everybody opened the plain sums: of the old four in the first rounds, of the new four after.
fn check(scene: &mut Scene, left: &PartyId, joined: &PartyId, stay: &[PartyId]) -> anyhow::Result<()> {
    let with = |more: &PartyId| -> BTreeSet<PartyId> { stay.iter().chain([more]).cloned().collect() };
    let (study, first) = (scene.study().clone(), FIRST as usize);
    let rounds = galen_models::agenda::rounds(&study) as usize;
    let sets: Sets = (0..rounds)
        .map(|round| with(if round < first { left } else { joined }))
        .collect();
    let mut hospitals = oracle::hospitals(&study, scene.root())?;
    hospitals.push(Hospital::load(
        &study,
        left,
        &scene.home(left.as_str()).join("data.csv"),
    )?);
    let recomputed = Recomputed::among(&study, &hospitals, sets)?;
    for party in stay.iter().chain([joined]) {
        let opened: Vec<OpenedSum> = oracle::opened(scene, party)?.sums;
        let since = if party == joined { first } else { 0 };
        let differences = recomputed.differences_since(since, party, &opened);
        ensure!(differences.is_empty(), "{}", differences.join("\n"));
    }
    Ok(())
}

/// A successor that somebody has not signed does not begin, and who still speaks of the old study is told.
#[test]
fn a_successor_waits_for_all_its_members() -> anyhow::Result<()> {
    let mut scene = Scene::new(EXECUTABLE, &heart()?)?;
    until_held(&mut scene)?;
    let draft = scene.dir().join("successor.toml").display().to_string();
    let args = ["study", "succeed", "--agreement", "4", "--out", &draft];
    scene.run(COORDINATOR, &args)?;
    scene.run(COORDINATOR, &["study", "freeze", &draft])?;
    let file = scene.home(COORDINATOR).join("study.toml");
    let new = FrozenStudy::load(&file)?;
    let digest = new.digest().to_hex();
    for party in names(&["cleveland", "budapest", "zurich"])? {
        scene.sign(&party, &file, &digest)?;
    }
    scene.follow(new);
    scene.start(COORDINATOR)?;
    for party in ["cleveland", "budapest", "zurich"] {
        scene.start(party)?;
    }
    scene.wait_for("three have signed", |_, snapshot| {
        let missing = snapshot.coordinator.as_ref().map(|status| status.missing.clone());
        Ok(missing.is_some_and(|missing| missing.len() == 1 && missing[0].as_str() == "long-beach"))
    })?;
    scene.start("long-beach")?;
    let (status, log) = scene.wait_ended("long-beach")?;
    ensure!(
        status.code() == Some(7) && log.contains("G1502"),
        "{status}: {log}"
    );
    ensure!(
        scene.snapshot().published() == FIRST as usize,
        "it went on without a member"
    );
    scene.sign(&PartyId::new("long-beach")?, &file, &digest)?;
    scene.start("long-beach")?;
    scene.finish()?;
    Ok(())
}

/// What a party's custodian keeps in memory for a study, if there is such memory and anything in it.
fn anchor(scene: &Scene, party: &PartyId, study: &StudyDigest) -> Option<std::path::PathBuf> {
    let file = VolatileFile::of(&scene.home(party.as_str()).join("store"), study);
    file.path().filter(|path| path.exists()).map(Into::into)
}

/// Everybody dies on the way to a successor, each at another step, and goes on with whatever is run next.
#[test]
fn a_succession_survives_a_kill_at_every_step() -> anyhow::Result<()> {
    let mut scene = Scene::new(EXECUTABLE, &heart()?)?;
    let old = scene.frozen().digest();
    until_held(&mut scene)?;
    let parties = scene.parties().to_vec();
    let volatile = VolatileFile::of(scene.root(), &old).path().is_some();
    for party in &parties {
        ensure!(anchor(&scene, party, &old).is_some() == volatile, "{party}");
    }
    let draft = scene.dir().join("successor.toml").display().to_string();
    scene.run(
        COORDINATOR,
        &["study", "succeed", "--agreement", "4", "--out", &draft],
    )?;
    let freeze = ["study", "freeze", draft.as_str()];
    let file = scene.home(COORDINATOR).join("study.toml");
    // Before the store goes over the study is what it was; from there on it is the successor, whose file is written by whatever comes next.
    scene.run_killed_at(COORDINATOR, &freeze, "coordinator.succession.written")?;
    ensure!(
        FrozenStudy::load(&file)?.digest() == old,
        "it went over too early"
    );
    scene.run_killed_at(COORDINATOR, &freeze, "coordinator.succession.adopted")?;
    scene.start(COORDINATOR)?;
    scene.wait_for("the coordinator serves the successor", |_, snapshot| {
        Ok(snapshot
            .coordinator
            .as_ref()
            .is_some_and(|status| status.version == 2))
    })?;
    let new = FrozenStudy::load(&file)?;
    ensure!(new.check_successor_of(scene.frozen()).is_empty(), "no successor");
    let (digest, path) = (new.digest().to_hex(), file.display().to_string());
    let points = [
        "party.succession.decided",
        "party.succession.erased",
        "party.succession.carried",
        "party.succession.written",
    ];
    for (party, point) in parties.iter().zip(points) {
        let sign = ["study", "sign", path.as_str(), "--digest", digest.as_str()];
        scene.run_killed_at(party.as_str(), &sign, point)?;
        let journal = scene.home(party.as_str()).join("succession.bin");
        ensure!(journal.exists(), "{party} has no journal at {point}");
    }
    scene.follow(new);
    for party in &parties {
        scene.start(party.as_str())?;
    }
    let sets = scene.finish()?;
    ensure!(sets.iter().all(|set| set.len() == parties.len()), "{sets:?}");
    for party in &parties {
        let journal = scene.home(party.as_str()).join("succession.bin");
        ensure!(!journal.exists(), "{party} did not finish");
        ensure!(
            anchor(&scene, party, &old).is_none(),
            "{party} left its memory behind"
        );
        let said = scene.run(party.as_str(), &["audit", "verify"])?;
        ensure!(said["report"]["findings"] == serde_json::json!([]), "{said}");
    }
    Ok(())
}

/// A hospital loses its machine and comes back from the backup of its keys.
#[test]
fn a_custodian_restored_from_its_backup_takes_part_again() -> anyhow::Result<()> {
    // The round that begins before the restored custodian is confirmed goes on without it.
    let folder = heart()?.with(|study| study.sums.patience_s = 5)?;
    let mut scene = Scene::new(EXECUTABLE, &folder)?;
    let secret = scene.dir().join("passphrase");
    std::fs::write(&secret, "six random words would be good\n")?;
    let (secret, backup) = (
        secret.display().to_string(),
        scene.dir().join("zurich.galen-backup").display().to_string(),
    );
    let args = ["keys", "backup", &backup, "--passphrase-file", &secret];
    scene.run("zurich", &args)?;
    until_held(&mut scene)?;
    let (home, lost) = (scene.home("zurich"), scene.dir().join("lost"));
    std::fs::rename(&home, &lost)?;
    let args = ["keys", "restore", &backup, "--passphrase-file", &secret];
    scene.run("zurich", &args)?;
    ensure!(
        home.join("restored.toml").exists(),
        "the restored party is not marked"
    );
    ensure!(
        !home.join("store").exists() && !home.join("shared").exists(),
        "more came back than keys"
    );
    std::fs::copy(lost.join("data.csv"), home.join("data.csv"))?;
    scene.start_all()?;
    let zurich = PartyId::new("zurich")?;
    let sets = scene.finish()?;
    ensure!(sets.last().is_some_and(|set| set.contains(&zurich)), "{sets:?}");
    // Its peers have confirmed its new incarnation: it is a custodian again.
    ensure!(!home.join("restored.toml").exists(), "the mark is still there");
    let said = scene.run("zurich", &["audit", "verify"])?;
    ensure!(said["report"]["findings"] == serde_json::json!([]), "{said}");
    Ok(())
}
