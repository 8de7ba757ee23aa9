//! A study with a recipe, over real daemons: a teacher, a transition, distillation, normalisations that stay at the hospitals, a proximal term
//! and server momentum.

use galen_core::PartyId;
use galen_integration_tests::StudyFolder;
use galen_integration_tests::federation::COORDINATOR;
use galen_integration_tests::oracle::{self, Recomputed};
use galen_integration_tests::scene::Scene;
use galen_models::Model;
use std::path::Path;

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_quickstart");

/// The shipped study over five training rounds: two of a teacher, two of transition, one of distillation.
fn few_rounds() -> anyhow::Result<StudyFolder> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/studies/heart/personal.toml");
    StudyFolder::load(&file)?.with(|study| {
        study.sums.patience_s = 20;
        study.sums.max_attempts = 50;
        if let Some(recipe) = &mut study.training.recipe {
            for (stage, epochs) in recipe.stages.iter_mut().zip([2, 3, 1]) {
                stage.epochs = epochs;
            }
        }
    })
}

/// A hospital dies in the states in which it has trained, has kept its own parameters, and has taken a round in, and all daemons are started
/// anew in the middle. Every sum is then the plain one, bit for bit, and every hospital has the model with its own normalisations.
#[test]
fn a_hospital_that_dies_on_the_way_ends_with_the_same_models() -> anyhow::Result<()> {
    let mut scene = Scene::new(EXECUTABLE, &few_rounds()?)?;
    scene.start(COORDINATOR)?;
    let (zurich, others): (Vec<PartyId>, Vec<PartyId>) = scene
        .parties()
        .to_vec()
        .into_iter()
        .partition(|party| party.as_str() == "zurich");
    for party in &others {
        scene.start(party.as_str())?;
    }
    for point in [
        "party.private.kept",
        "party.contribution.drawn",
        "party.round.applied",
    ] {
        scene.start_killed_at(zurich[0].as_str(), point)?;
        scene.wait_killed(zurich[0].as_str())?;
    }
    scene.start(zurich[0].as_str())?;
    // The teacher is made by the third round; those who are started anew must still have it.
    scene.wait_published(3)?;
    for party in &others {
        scene.kill(party.as_str())?;
        scene.start(party.as_str())?;
    }
    scene.wait_done()?;
    let sets = scene.check_sums()?;
    let hospitals = oracle::hospitals(scene.study(), scene.root())?;
    let recomputed = Recomputed::among(&scene.study().clone(), &hospitals, sets)?;
    let mut digests = Vec::new();
    for party in scene.parties().to_vec() {
        let out = scene.dir().join(format!("{party}.safetensors"));
        let text = out.to_string_lossy().into_owned();
        scene.run(party.as_str(), &["model", "export", "--out", &text])?;
        let model = Model::from_safetensors(&std::fs::read(&out)?)?;
        anyhow::ensure!(
            model == *recomputed.model_of(&party),
            "{party} has another model than it should"
        );
        digests.push(model.digest());
    }
    digests.sort_unstable();
    digests.dedup();
    anyhow::ensure!(
        digests.len() == hospitals.len(),
        "normalisations are not the hospitals' own"
    );
    scene.end()
}
