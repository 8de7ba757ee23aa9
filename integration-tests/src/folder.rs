//! A study with the tables of its hospitals, as it stands in `configs/studies/NAME`.

use anyhow::{Context, ensure};
use galen_core::PartyId;
use galen_core::study::{Role, Study};
use std::collections::BTreeMap;
use std::path::Path;

/// A study file and the table of every contributor.
#[derive(Clone, Debug)]
pub struct StudyFolder {
    text: String,
    study: Study,
    tables: BTreeMap<PartyId, Vec<u8>>,
}

macro_rules! shipped {
    ($name:literal: $($party:literal),+) => {
        StudyFolder::parse(
            concat!($name, "/study.toml"),
            include_str!(concat!("../../configs/studies/", $name, "/study.toml")),
            |party| match party {
                $($party => Ok(include_bytes!(concat!("../../configs/studies/", $name, "/", $party, ".csv")).to_vec()),)+
                other => anyhow::bail!("the shipped study has no table of \"{other}\""),
            },
        )
    };
}

impl StudyFolder {
    /// The heart study, which is part of the executable, so that the quickstart runs from any folder.
    pub fn heart() -> anyhow::Result<Self> {
        shipped!("heart": "cleveland", "budapest", "zurich", "long-beach")
    }

    /// Reads a study file, or `study.toml` of a folder, and beside it for every contributor NAME `NAME.csv`.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let (dir, path) = if path.is_file() {
            (path.parent().unwrap_or(Path::new("")), path.to_owned())
        } else {
            (path, path.join("study.toml"))
        };
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Self::parse(&path.display().to_string(), &text, |party| {
            let path = dir.join(format!("{party}.csv"));
            std::fs::read(&path).with_context(|| format!("the table of \"{party}\": {}", path.display()))
        })
    }

    fn parse(
        name: &str,
        text: &str,
        table: impl Fn(&str) -> anyhow::Result<Vec<u8>>,
    ) -> anyhow::Result<Self> {
        let study: Study = galen_core::config::parse(Path::new(name), text)?;
        let mut tables = BTreeMap::new();
        for party in study.with_role(Role::Contributor) {
            tables.insert(party.clone(), table(party.as_str())?);
        }
        Ok(Self {
            text: text.to_owned(),
            study,
            tables,
        })
    }

    /// A study made by a program.
    pub fn new(study: Study, tables: BTreeMap<PartyId, Vec<u8>>) -> anyhow::Result<Self> {
        let without = study
            .with_role(Role::Contributor)
            .into_iter()
            .find(|party| !tables.contains_key(*party));
        ensure!(without.is_none(), "no table of {without:?}");
        let text = toml::to_string_pretty(&study)?;
        Ok(Self { text, study, tables })
    }

    /// The same hospitals and tables under a changed plan.
    pub fn with(self, change: impl FnOnce(&mut Study)) -> anyhow::Result<Self> {
        let mut study = self.study;
        change(&mut study);
        Self::new(study, self.tables)
    }

    /// The same study with another table of one hospital.
    pub fn with_table(mut self, party: &str, table: impl Into<Vec<u8>>) -> anyhow::Result<Self> {
        self.tables.insert(PartyId::new(party)?, table.into());
        Ok(self)
    }

    /// The plan.
    pub fn study(&self) -> &Study {
        &self.study
    }

    /// The study file as its author wrote it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A hospital's table.
    pub fn table(&self, party: &PartyId) -> Option<&[u8]> {
        self.tables.get(party).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_study_is_sound_and_a_written_one_reads_back() {
        let heart = StudyFolder::heart().unwrap();
        assert_eq!(heart.study().check(), []);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("study.toml"), heart.text()).unwrap();
        let error = format!("{:#}", StudyFolder::load(dir.path()).unwrap_err());
        assert!(error.contains("the table of \"cleveland\""), "{error}");
        for (party, table) in &heart.tables {
            std::fs::write(dir.path().join(format!("{party}.csv")), table).unwrap();
        }
        let read = StudyFolder::load(dir.path()).unwrap();
        assert_eq!((read.study(), &read.tables), (heart.study(), &heart.tables));
        let changed = heart.clone().with(|study| study.training.rounds = 2).unwrap();
        assert_eq!(
            galen_core::config::parse::<Study>(Path::new("x"), changed.text())
                .unwrap()
                .training
                .rounds,
            2
        );
    }
}
