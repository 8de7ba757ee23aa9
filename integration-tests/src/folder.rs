//! A study with the tables or images of its hospitals, as it stands in `configs/studies/NAME`.

use anyhow::{Context, ensure};
use galen_core::PartyId;
use galen_core::study::{Role, Study};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A study file and the data of every contributor.
#[derive(Clone, Debug)]
pub struct StudyFolder {
    text: String,
    study: Study,
    data: BTreeMap<PartyId, Data>,
}

/// The data of a hospital.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// A table, which is copied into the hospital's folder.
    Table(Vec<u8>),
    /// Images, which are read where they are: the absolute path of a file or a folder.
    Images(PathBuf),
}

/// What may follow a hospital's name in the name of its images.
const IMAGES: [&str; 6] = [
    "",
    ".npz",
    "-images-idx3-ubyte.gz",
    "-images-idx3-ubyte",
    ".parquet",
    ".csv",
];

macro_rules! shipped {
    ($name:literal: $($party:literal),+) => {
        StudyFolder::parse(
            concat!($name, "/study.toml"),
            include_str!(concat!("../../configs/studies/", $name, "/study.toml")),
            |_, party| match party {
                $($party => Ok(Data::Table(include_bytes!(concat!("../../configs/studies/", $name, "/", $party, ".csv")).to_vec())),)+
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

    /// Reads a study file, or `study.toml` of a folder, and beside it for every contributor NAME `NAME.csv`. Of a study on images, what is
    /// beside it is a folder NAME, or NAME with the ending of another format.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let (dir, path) = if path.is_file() {
            (path.parent().unwrap_or(Path::new("")), path.to_owned())
        } else {
            (path, path.join("study.toml"))
        };
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Self::parse(&path.display().to_string(), &text, |study, party| {
            if study.data.samples.is_some() {
                return images(dir, party);
            }
            let path = dir.join(format!("{party}.csv"));
            let table = std::fs::read(&path);
            table
                .map(Data::Table)
                .with_context(|| format!("the table of \"{party}\": {}", path.display()))
        })
    }

    fn parse(
        name: &str,
        text: &str,
        find: impl Fn(&Study, &str) -> anyhow::Result<Data>,
    ) -> anyhow::Result<Self> {
        let study: Study = galen_core::config::parse(Path::new(name), text)?;
        let mut data = BTreeMap::new();
        for party in study.with_role(Role::Contributor) {
            data.insert(party.clone(), find(&study, party.as_str())?);
        }
        Ok(Self {
            text: text.to_owned(),
            study,
            data,
        })
    }

    /// A study on tables made by a program.
    pub fn new(study: Study, tables: BTreeMap<PartyId, Vec<u8>>) -> anyhow::Result<Self> {
        let data = tables
            .into_iter()
            .map(|(party, table)| (party, Data::Table(table)));
        Self::of(study, data.collect())
    }

    /// A study made by a program.
    pub fn of(study: Study, data: BTreeMap<PartyId, Data>) -> anyhow::Result<Self> {
        let without = study
            .with_role(Role::Contributor)
            .into_iter()
            .find(|party| !data.contains_key(*party));
        ensure!(without.is_none(), "no data of {without:?}");
        let text = toml::to_string_pretty(&study)?;
        Ok(Self { text, study, data })
    }

    /// The same hospitals and data under a changed plan.
    pub fn with(self, change: impl FnOnce(&mut Study)) -> anyhow::Result<Self> {
        let mut study = self.study;
        change(&mut study);
        Self::of(study, self.data)
    }

    /// The same study with another table of one hospital.
    pub fn with_table(mut self, party: &str, table: impl Into<Vec<u8>>) -> anyhow::Result<Self> {
        self.data.insert(PartyId::new(party)?, Data::Table(table.into()));
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

    /// A hospital's table; `None` if it has images, or is no contributor.
    pub fn table(&self, party: &PartyId) -> Option<&[u8]> {
        match self.data.get(party)? {
            Data::Table(table) => Some(table),
            Data::Images(_) => None,
        }
    }

    /// A hospital's data.
    pub fn data(&self, party: &PartyId) -> Option<&Data> {
        self.data.get(party)
    }
}

/// The images of a hospital in a folder of a study.
fn images(dir: &Path, party: &str) -> anyhow::Result<Data> {
    let found = IMAGES
        .iter()
        .map(|ending| dir.join(format!("{party}{ending}")))
        .find(|path| path.exists());
    let path = found.with_context(|| {
        let possible = IMAGES.map(|ending| format!("{party}{ending}")).join(", ");
        format!(
            "the images of \"{party}\": {} has none of {possible}",
            dir.display()
        )
    })?;
    Ok(Data::Images(std::path::absolute(path)?))
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
        for party in heart.data.keys() {
            let table = heart.table(party).unwrap();
            std::fs::write(dir.path().join(format!("{party}.csv")), table).unwrap();
        }
        let read = StudyFolder::load(dir.path()).unwrap();
        assert_eq!((read.study(), &read.data), (heart.study(), &heart.data));
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
