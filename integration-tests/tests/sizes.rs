//! Studies of other sizes: the fewest hospitals that can sum, and eight of them.

use galen_core::PartyId;
use galen_core::study::{Member, Release, Role};
use galen_integration_tests::StudyFolder;
use galen_integration_tests::federation::COORDINATOR;
use galen_integration_tests::scene::{Scene, small_heart};
use std::collections::BTreeMap;

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_quickstart");

/// The patients of the heart study dealt to `count` hospitals, a training round, and the model kept by the hospitals.
fn dealt(count: usize, threshold: u32, agreement: u32) -> anyhow::Result<StudyFolder> {
    let heart = small_heart(60)?;
    let mut study = heart.study().clone();
    let tables: Vec<String> = study
        .party
        .iter()
        .filter_map(|member| heart.table(&member.name))
        .map(|table| String::from_utf8_lossy(table).into_owned())
        .collect();
    let mut dealt = vec![String::new(); count];
    for (index, line) in tables.iter().flat_map(|table| table.lines()).enumerate() {
        dealt[index % count].push_str(line);
        dealt[index % count].push('\n');
    }
    let names = (0..count).map(|index| PartyId::new(format!("hospital-{index}")));
    let names = names.collect::<Result<Vec<_>, _>>()?;
    let roles = vec![Role::Contributor, Role::Custodian];
    study.party = names
        .iter()
        .map(|name| Member {
            name: name.clone(),
            title: String::new(),
            roles: roles.clone(),
        })
        .collect();
    (study.sums.threshold, study.sums.agreement) = (threshold, agreement);
    study.sums.quorum = count as u32;
    study.training.rounds = 1;
    study.serving.release = Release::Contributors;
    let tables: BTreeMap<_, _> = names
        .into_iter()
        .zip(dealt.into_iter().map(String::into_bytes))
        .collect();
    StudyFolder::new(study, tables)
}

/// Nothing is released, so the study is closed when the last sum is open, and the hospitals' daemons end by themselves.
fn runs_to_its_end(folder: &StudyFolder) -> anyhow::Result<()> {
    let mut scene = Scene::started(EXECUTABLE, folder)?;
    scene.wait_done()?;
    for party in scene.parties().to_vec() {
        let (status, log) = scene.wait_ended(party.as_str())?;
        anyhow::ensure!(status.success(), "{party} ended with {status}:\n{log}");
    }
    scene.check_sums_of_all()?;
    let refused = scene.command("hospital-0", ["query", "--held-out"])?.failure()?;
    anyhow::ensure!(
        !refused.log.is_empty(),
        "nothing was said about a query that cannot be"
    );
    scene.stop(COORDINATOR)
}

#[test]
fn three_hospitals() -> anyhow::Result<()> {
    runs_to_its_end(&dealt(3, 2, 2)?)
}

#[test]
fn eight_hospitals() -> anyhow::Result<()> {
    // 56 pieces of each key.
    runs_to_its_end(&dealt(8, 4, 6)?)
}
