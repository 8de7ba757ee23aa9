//! Going over to a successor study in the coordinator's folder.
//!
//! The store decides ([`crate::rounds::engine::succession`]); the study file follows it. The successor lies in `successor.toml` until both
//! agree, so that a crash in between leaves nothing in doubt: [`settle`] looks which of the two studies the store belongs to.

use crate::config::Config;
use crate::home::{self, Home, HomeError};
use crate::rounds::audit;
use crate::rounds::engine::succession::{self as engine, Standing, SuccessionError};
use galen_core::study::FrozenStudy;
use galen_core::{Clock, SystemClock, faults};
use galen_store::Store;
use galen_sums::audit::{Chain, json_lines};
use std::path::PathBuf;

/// Why the folder cannot go over to a successor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The folder cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The study cannot be succeeded.
    #[error(transparent)]
    Succession(#[from] SuccessionError),
    /// The store cannot be opened: the daemon must not run.
    #[error(transparent)]
    Store(#[from] galen_store::StoreError),
    /// The audit log of the old study does not hold.
    #[error("the audit log of the old study: {0}")]
    Audit(String),
    /// The successor is none.
    #[error(transparent)]
    Study(#[from] galen_core::study::StudyError),
}

fn successor_path(home: &Home, config: &Config) -> PathBuf {
    home.study_path(config).with_file_name("successor.toml")
}

/// The study of a folder and how far it is, if it can be succeeded there. The daemon must not run.
pub fn standing(home: &Home, config: &Config) -> Result<(FrozenStudy, Standing), Error> {
    settle(home, config)?;
    let study = home.study(config)?;
    let store = Store::open(&home.store_path())?;
    let standing = engine::standing(&store, &study)?;
    Ok((study, standing))
}

/// Puts a successor in the place of the folder's study. The daemon must not run.
///
/// # Errors
/// [`Error::Succession`] if the study has moved since the successor was drafted, or a round is being opened.
pub fn adopt(home: &Home, config: &Config, new: &FrozenStudy) -> Result<(), Error> {
    let (old, _) = standing(home, config)?;
    let former = home.former_path(old.version());
    home::make_folder(&former)?;
    home::write_durably(&former, old.to_toml()?.as_bytes())?;
    home::write_durably(&successor_path(home, config), new.to_toml()?.as_bytes())?;
    faults::reach("coordinator.succession.written");
    let store = Store::open(&home.store_path())?;
    engine::adopt(&store, &old, new, &home.signing()?, SystemClock.now_ms())?;
    drop(store);
    faults::reach("coordinator.succession.adopted");
    settle(home, config)
}

/// Finishes what an interrupted [`adopt`] left: the study file becomes that of the study to which the store belongs.
pub fn settle(home: &Home, config: &Config) -> Result<(), Error> {
    let path = successor_path(home, config);
    if !path.exists() {
        return Ok(());
    }
    let new = FrozenStudy::load(&path)?;
    let store = Store::open(&home.store_path())?;
    match engine::lineage(&store, &new) {
        Ok(_) => {
            export_log(home, &store, new.version().saturating_sub(1))?;
            home::write_durably(&home.study_path(config), new.to_toml()?.as_bytes())?;
        }
        // It did not come so far. The study is what it was.
        Err(SuccessionError::OtherStudy { .. } | SuccessionError::NoPast { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    home::remove_durably(&path)?;
    Ok(())
}

/// Writes the audit log of a former version beside its study, for anybody to verify.
fn export_log(home: &Home, store: &Store, version: u32) -> Result<(), Error> {
    let damaged = |error: &dyn std::fmt::Display| Error::Audit(error.to_string());
    let study = FrozenStudy::load(&home.former_path(version))?;
    let mut chain = Chain::new(study.digest(), study.coordinator().signing);
    let mut text = String::new();
    for signed in audit::retired(store.database(), version)? {
        let line = chain.push(&signed).map_err(|error| damaged(&error))?;
        text.push_str(&json_lines::write(&line, &signed).map_err(|error| damaged(&error))?);
        text.push('\n');
    }
    Ok(home::write_durably(
        &home.former_path(version).with_extension("audit.jsonl"),
        text.as_bytes(),
    )?)
}
