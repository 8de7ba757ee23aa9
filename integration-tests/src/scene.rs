//! A federation in a temporary folder, for tests: run to its end, and checked.

use crate::answers;
use crate::federation::{COORDINATOR, Federation};
use crate::folder::StudyFolder;
use crate::oracle::{self, Recomputed, Sets};
use crate::role::Program;
use crate::watch::Snapshot;
use anyhow::{Context, ensure};
use galen_core::PartyId;
use galen_core::study::{FrozenStudy, Release, Role, Study};
use galen_models::agenda;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};
use std::path::Path;
use tempfile::TempDir;

/// A federation with its folder. It derefs to the [`Federation`].
#[derive(Debug)]
pub struct Scene {
    federation: Federation,
    study: Study,
    dir: TempDir,
}

impl Deref for Scene {
    type Target = Federation;
    fn deref(&self) -> &Federation {
        &self.federation
    }
}

impl DerefMut for Scene {
    fn deref_mut(&mut self) -> &mut Federation {
        &mut self.federation
    }
}

/// The four hospitals of the heart study under a plan that is quickly done: two training rounds of one pass, a small network.
/// Who makes no progress for `patience_s` seconds is not waited for.
pub fn small_heart(patience_s: u32) -> anyhow::Result<StudyFolder> {
    StudyFolder::heart()?.with(|study| {
        study.training.rounds = 2;
        study.training.local_epochs = 1;
        study.model.hidden = vec![4];
        study.evaluation.bins = 16;
        study.sums.patience_s = patience_s;
        // Tests that break things on purpose use up attempts.
        study.sums.max_attempts = 50;
    })
}

impl Scene {
    /// Lays a federation out in a temporary folder. `executable` is `env!("CARGO_BIN_EXE_quickstart")`.
    pub fn new(executable: &str, folder: &StudyFolder) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("galen-test-").tempdir()?;
        let federation = Federation::create(Program::new(executable), folder, dir.path())?;
        Ok(Self {
            federation,
            study: folder.study().clone(),
            dir,
        })
    }

    /// The same with every daemon started.
    pub fn started(executable: &str, folder: &StudyFolder) -> anyhow::Result<Self> {
        let mut scene = Self::new(executable, folder)?;
        scene.start_all()?;
        Ok(scene)
    }

    /// The temporary folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The plan.
    pub fn study(&self) -> &Study {
        &self.study
    }

    /// From here on the scene is that of a successor study.
    pub fn follow(&mut self, frozen: FrozenStudy) {
        self.study = frozen.study().clone();
        self.federation.follow(frozen);
    }

    /// Waits until so many rounds are published.
    pub fn wait_published(&mut self, rounds: usize) -> anyhow::Result<()> {
        self.wait_for(&format!("{rounds} rounds are published"), |_, snapshot| {
            Ok(snapshot.published() >= rounds)
        })
    }

    /// Waits until every contributor has opened every sum and, if the study says so, the model is served.
    pub fn wait_done(&mut self) -> anyhow::Result<()> {
        let study = self.study.clone();
        self.wait_for("the study is done", |_, snapshot| Ok(is_done(&study, snapshot)))
    }

    /// Checks that what every contributor opened is, bit for bit, the plain sum over the hospitals in each round's set. Returns those
    /// sets.
    pub fn check_sums(&mut self) -> anyhow::Result<Sets> {
        let mut opened = BTreeMap::new();
        for party in self
            .study
            .with_role(Role::Contributor)
            .into_iter()
            .cloned()
            .collect::<Vec<_>>()
        {
            let sums = oracle::opened(&mut self.federation, &party)?.sums;
            opened.insert(party, sums);
        }
        let hospitals = oracle::hospitals(&self.study, self.federation.root())?;
        let sets = oracle::sets(&opened)?;
        let recomputed = Recomputed::among(&self.study, &hospitals, sets.clone())?;
        for (party, opened) in &opened {
            let differences = recomputed.differences(party, opened);
            ensure!(differences.is_empty(), "{}", differences.join("\n"));
        }
        Ok(sets)
    }

    /// As [`Scene::check_sums`], and every hospital must be in every sum.
    pub fn check_sums_of_all(&mut self) -> anyhow::Result<()> {
        let everybody: BTreeSet<PartyId> = self
            .study
            .with_role(Role::Contributor)
            .into_iter()
            .cloned()
            .collect();
        let sets = self.check_sums()?;
        ensure!(
            sets.iter().all(|set| *set == everybody),
            "somebody was left out: {sets:?}"
        );
        Ok(())
    }

    /// Has a hospital's held-out patients evaluated, encrypted.
    pub fn query(&mut self, party: &PartyId) -> anyhow::Result<()> {
        let out = self.dir().join(format!("{party}.csv"));
        let text = out.to_string_lossy().into_owned();
        self.run(party.as_str(), &["query", "--held-out", "--out", &text])?;
        self.check_answers(party, &out)
    }

    /// Checks a file of answers against the model that follows from the plain sums.
    pub fn check_answers(&mut self, party: &PartyId, out: &Path) -> anyhow::Result<()> {
        let sets = self.check_sums()?;
        let hospitals = oracle::hospitals(&self.study, self.federation.root())?;
        let trained = Recomputed::among(&self.study, &hospitals, sets)?
            .federated
            .trained;
        let hospital = hospitals
            .iter()
            .find(|h| h.name == *party)
            .context("no such hospital")?;
        let plain = trained.probabilities(&hospital.held_out)?;
        let answers = answers::read(out)?;
        ensure!(
            answers.len() == plain.len(),
            "{} answers for {} patients",
            answers.len(),
            plain.len()
        );
        for ((number, answer), plain) in answers.iter().zip(&plain) {
            ensure!(
                (answer - plain).abs() < 1e-3,
                "{party}, patient {number}: {answer} encrypted, {plain} plain"
            );
        }
        Ok(())
    }

    /// Stops every daemon; all must end gracefully.
    pub fn end(&mut self) -> anyhow::Result<()> {
        let wrong = self.stop_all()?;
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    }

    /// The whole study is done, its sums are right, and everybody ends gracefully: what must be true after whatever a test did.
    pub fn finish(&mut self) -> anyhow::Result<Sets> {
        self.wait_done()?;
        let sets = self.check_sums()?;
        self.end()?;
        Ok(sets)
    }

    /// Kills the coordinator and starts it again.
    pub fn restart_coordinator(&mut self) -> anyhow::Result<()> {
        self.kill(COORDINATOR)?;
        self.start(COORDINATOR)
    }
}

fn is_done(study: &Study, snapshot: &Snapshot) -> bool {
    let rounds = agenda::rounds(study);
    let contributors = study.with_role(Role::Contributor);
    let opened = contributors
        .iter()
        .all(|party| snapshot.parties.get(*party).is_some_and(|s| s.applied == rounds));
    let over = match study.serving.release {
        Release::Coordinator => snapshot.serves(),
        Release::Contributors => snapshot.closed().is_some_and(|(completed, _)| completed),
    };
    opened && over
}
