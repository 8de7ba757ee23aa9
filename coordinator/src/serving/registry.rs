//! The models that the operator registered, and the folder through which they come.
//!
//! Only one process can open the store, and the daemon has it. So `coordinator model add` compiles a model in its own process and puts
//! what came of it into the folder `models/`, where the daemon looks every second; without a daemon it lies there until one is started. A version is
//! named by the digest of its interface, which says the digest of network and weights, the precision and the parameters; a quantised model's
//! interface holds all of the model.

use super::exact::{self, ExactProgram};
use crate::home::{self, HomeError};
use galen_core::{Digest, PartyId};
use galen_inference::{Choice, Interface, Program};
use galen_models::ModelFile;
use galen_net::protocol::{BlobKind, Engine, STUDY_MODEL};
use galen_store::{BlobStore, Repository, Store, StoreError, Table};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const MODELS: Table<ModelRecord> = Table::new("models", *b"MODL", 4);
/// Version of a package.
const FORMAT: u32 = 4;

/// A registered version of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// Name of the model.
    pub name: String,
    /// Later versions have larger numbers.
    pub order: u64,
    /// When it was taken in, in milliseconds since the epoch.
    pub added_ms: u64,
    /// How it is evaluated.
    pub compiled: Compiled,
    /// Milliseconds for a batch, under TFHE for a patient, as estimated.
    pub batch_ms: u64,
}

/// Name, engine, and whether batches are packed.
type Way<'a> = (&'a str, Engine, bool);

/// What a version became under its engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compiled {
    /// Batches under CKKS.
    Ckks {
        /// Blob of the model file.
        file: Digest,
        /// Bits after the binary point that were asked for.
        precision_bits: u32,
        /// Preset and layout.
        choice: Choice,
        /// Bytes of every batch.
        batch_bytes: u64,
    },
    /// Single patients under TFHE; the model is in the interface.
    Tfhe {
        /// One for each thing that may be revealed.
        programs: Vec<ExactProgram>,
        /// Patients of a query, at most.
        patients: u64,
    },
}

impl ModelRecord {
    /// The engine.
    pub fn engine(&self) -> Engine {
        match self.compiled {
            Compiled::Ckks { .. } => Engine::Ckks,
            Compiled::Tfhe { .. } => Engine::Tfhe,
        }
    }

    /// Whether a batch under CKKS holds all values of some patients in one ciphertext.
    pub fn is_packed(&self) -> bool {
        matches!(&self.compiled, Compiled::Ckks { choice, .. } if choice.is_packed())
    }

    /// The model file, under CKKS.
    fn file(&self) -> Option<&Digest> {
        match &self.compiled {
            Compiled::Ckks { file, .. } => Some(file),
            Compiled::Tfhe { .. } => None,
        }
    }

    /// Versions of one name that replace one another are evaluated in the same way.
    fn way(&self) -> Way<'_> {
        (&self.name, self.engine(), self.is_packed())
    }
}

/// A compiled model on its way to the daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Package {
    format: u32,
    name: String,
    interface: Vec<u8>,
    batch_ms: u64,
    content: Content,
}

/// What a package holds beside the interface.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Content {
    Ckks {
        precision_bits: u32,
        choice: Choice,
        file: Vec<u8>,
    },
    Tfhe,
}

impl Package {
    /// Of a program and the file that it was compiled from.
    pub fn new(
        name: &str,
        precision_bits: u32,
        program: &Program,
        batch_ms: u64,
        file: Vec<u8>,
    ) -> Result<Self, String> {
        let interface = program.interface().to_bytes().map_err(|e| e.to_string())?;
        let content = Content::Ckks {
            precision_bits,
            choice: program.choice().clone(),
            file,
        };
        Self::of(name, interface, batch_ms, content)
    }

    /// Of a quantised model, of which a patient takes this many milliseconds.
    pub fn exact(name: &str, interface: &galen_exact::Interface, patient_ms: u64) -> Result<Self, String> {
        let interface = interface.to_bytes().map_err(|e| e.to_string())?;
        Self::of(name, interface, patient_ms, Content::Tfhe)
    }

    fn of(name: &str, interface: Vec<u8>, batch_ms: u64, content: Content) -> Result<Self, String> {
        check_name(name)?;
        Ok(Self {
            format: FORMAT,
            name: name.to_owned(),
            interface,
            batch_ms,
            content,
        })
    }

    /// Names the version.
    pub fn version(&self) -> Digest {
        Digest::of(&self.interface)
    }

    /// Puts it where the daemon finds it.
    pub fn put(&self, folder: &Path) -> Result<(), HomeError> {
        let path = waiting(folder, &self.version(), ADD);
        home::make_folder(&path)?;
        let bytes = postcard::to_stdvec(self).map_err(|e| HomeError::Io {
            path: path.clone(),
            source: std::io::Error::other(e),
        })?;
        for over in [FAILED, REMOVE] {
            forget(folder, &self.version(), over)?;
        }
        home::write_durably(&path, &bytes)
    }
}

const ADD: &str = "add";
const REMOVE: &str = "remove";
const FAILED: &str = "failed";

fn waiting(folder: &Path, version: &Digest, what: &str) -> PathBuf {
    folder.join(version.to_hex()).with_extension(what)
}

/// Takes back what was asked of the daemon, if it has not been done.
fn forget(folder: &Path, version: &Digest, what: &str) -> Result<(), HomeError> {
    remove_if_there(&waiting(folder, version, what))
}

/// The daemon and a command may both be about to.
fn remove_if_there(path: &Path) -> Result<(), HomeError> {
    match home::remove_durably(path) {
        Err(HomeError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Asks the daemon to remove a version. What was asked about it before, and what was refused, is forgotten.
pub fn ask_removal(folder: &Path, version: &Digest) -> Result<(), HomeError> {
    let path = waiting(folder, version, REMOVE);
    home::make_folder(&path)?;
    for over in [ADD, FAILED] {
        forget(folder, version, over)?;
    }
    home::write_durably(&path, b"")
}

/// What waits in the folder for the daemon, and what it refused, with its reason.
pub fn pending(folder: &Path) -> Vec<(Digest, &'static str, String)> {
    let mut all = Vec::new();
    for path in files(folder) {
        let version = path.file_stem().and_then(|s| s.to_str()?.parse().ok());
        let kind = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let known = [ADD, REMOVE, FAILED].into_iter().find(|known| *known == kind);
        if let (Some(version), Some(kind)) = (version, known) {
            let reason = if kind == FAILED {
                fs::read_to_string(&path).unwrap_or_default()
            } else {
                String::new()
            };
            all.push((version, kind, reason));
        }
    }
    all
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// Names of models are like those of parties.
pub fn check_name(name: &str) -> Result<(), String> {
    PartyId::new(name).map_err(|_| {
        format!(
            "\"{name}\" cannot name a model: 1 to 32 characters of a-z, 0-9 and '-', starting with a letter"
        )
    })?;
    if name == STUDY_MODEL {
        return Err(format!(
            "\"{name}\" is the model that the study trains; choose another name"
        ));
    }
    Ok(())
}

/// The registered models.
pub(super) struct Registry {
    records: Repository<ModelRecord>,
    blobs: BlobStore,
    owner: PartyId,
    keep: usize,
    models: BTreeMap<Digest, ModelRecord>,
}

impl Registry {
    pub(super) fn open(store: &Store, owner: &PartyId, keep: u32) -> Result<Self, StoreError> {
        let records = store.database().repository(&MODELS)?;
        let mut models = BTreeMap::new();
        for key in records.keys(&[]) {
            let key = key?;
            let Ok(version) = key.as_slice().try_into().map(Digest) else {
                continue;
            };
            match records.get(&key) {
                Ok(Some(record)) => drop(models.insert(version, record)),
                Ok(None) => {}
                // Of another release: everything else goes on without it.
                Err(error @ StoreError::WrongVersion { .. }) => {
                    tracing::warn!(version = %version.short(), %error, "a registered model is forgotten; add it again");
                    records.delete(&key)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Self {
            records,
            blobs: store.blobs().clone(),
            owner: owner.clone(),
            keep: keep.max(1) as usize,
            models,
        })
    }

    /// All versions, by their digests.
    pub(super) fn models(&self) -> &BTreeMap<Digest, ModelRecord> {
        &self.models
    }

    /// Whether a version is the latest of its name and way. A packed one is not beside a later model of that name which has none.
    pub(super) fn is_current(&self, version: &Digest) -> bool {
        let latest = |way: Way<'_>| {
            let same = self.models.values().filter(|other| other.way() == way);
            same.max_by_key(|other| other.order)
        };
        self.models.get(version).is_some_and(|record| {
            let (name, engine, packed) = record.way();
            let other = latest((name, engine, false)).filter(|_| packed);
            latest(record.way()).map(|last| last.order) == Some(record.order)
                && other.is_none_or(|other| other.file() == record.file())
        })
    }

    /// What stands against a package: its version is that of another name. A version has one name.
    pub(super) fn against(&self, checked: &Checked) -> Option<String> {
        let known = self.models.get(&checked.version())?;
        (known.name != checked.package.name).then(|| {
            format!(
                "the same model is registered as \"{}\"; remove that first",
                known.name
            )
        })
    }

    /// Registers a package, and removes the versions that are too many, unless queries wait for them; returns those.
    pub(super) fn take_in(
        &mut self,
        package: Checked,
        needed: &dyn Fn(&Digest) -> bool,
        now_ms: u64,
    ) -> Result<Vec<Digest>, StoreError> {
        let version = package.version();
        let Checked { package, compiled } = package;
        if let Content::Ckks { file, .. } = &package.content {
            self.blobs.put_bytes(file, BlobKind::Model as u16, &self.owner)?;
        }
        self.blobs
            .put_bytes(&package.interface, BlobKind::Interface as u16, &self.owner)?;
        let order = self.models.values().map(|m| m.order + 1).max().unwrap_or(0);
        let record = ModelRecord {
            name: package.name,
            order,
            added_ms: now_ms,
            compiled,
            batch_ms: package.batch_ms,
        };
        self.records.put(version.0, &record)?;
        self.models.insert(version, record);
        self.trim(needed)
    }

    /// Removes the versions beyond those that are kept, unless queries wait for them.
    fn trim(&mut self, needed: &dyn Fn(&Digest) -> bool) -> Result<Vec<Digest>, StoreError> {
        let mut by_name: BTreeMap<Way<'_>, Vec<(u64, Digest)>> = BTreeMap::new();
        for (version, record) in &self.models {
            let all = by_name.entry(record.way()).or_default();
            all.push((record.order, *version));
        }
        let mut surplus = Vec::new();
        for versions in by_name.values_mut() {
            versions.sort_unstable();
            let keep = versions.len().saturating_sub(self.keep);
            surplus.extend(versions.iter().take(keep).map(|(_, version)| *version));
        }
        surplus.retain(|version| !needed(version));
        for version in &surplus {
            self.remove(version)?;
        }
        Ok(surplus)
    }

    /// Removes a version, if it is there.
    pub(super) fn remove(&mut self, version: &Digest) -> Result<(), StoreError> {
        let Some(record) = self.models.remove(version) else {
            return Ok(());
        };
        self.records.delete(version.0)?;
        let of = |record: &ModelRecord| match record.compiled {
            Compiled::Ckks { file, .. } => Some(file),
            Compiled::Tfhe { .. } => None,
        };
        // Another version may be of the same file.
        if let Some(file) = of(&record)
            && !self.models.values().any(|other| of(other) == Some(file))
        {
            self.blobs.delete(&file)?;
        }
        self.blobs.delete(version)
    }
}

/// A package whose programs were made once: what is registered can be served.
pub(super) struct Checked {
    package: Package,
    compiled: Compiled,
}

impl Checked {
    /// Names the version.
    fn version(&self) -> Digest {
        self.package.version()
    }
}

/// What the folder asks for.
pub(super) enum Asked {
    /// To register a model.
    Add(Box<Checked>),
    /// To remove a version.
    Remove(Digest),
}

/// A request in the folder.
pub(super) struct Arrival {
    folder: PathBuf,
    path: PathBuf,
    version: Digest,
}

impl Arrival {
    /// All of them.
    pub(super) fn all(folder: &Path) -> Vec<Self> {
        let wanted = |path: &PathBuf| path.extension().is_some_and(|e| e == ADD || e == REMOVE);
        let arrival = |path: PathBuf| {
            Some(Self {
                version: path.file_stem()?.to_str()?.parse().ok()?,
                folder: folder.to_owned(),
                path,
            })
        };
        files(folder)
            .into_iter()
            .filter(wanted)
            .filter_map(arrival)
            .collect()
    }

    /// Names the version.
    pub(super) fn version(&self) -> &Digest {
        &self.version
    }

    /// What is asked, checked; takes seconds for a large model.
    pub(super) fn read(&self) -> Result<Asked, String> {
        if self.path.extension().is_some_and(|e| e == REMOVE) {
            return Ok(Asked::Remove(self.version));
        }
        check_package(&self.path, &self.version).map(|package| Asked::Add(Box::new(package)))
    }

    /// It is done, or refused for a reason, which stays in its place.
    pub(super) fn done(&self, refused: Option<&str>) -> Result<(), HomeError> {
        if let Some(reason) = refused {
            home::write_durably(&waiting(&self.folder, &self.version, FAILED), reason.as_bytes())?;
        }
        remove_if_there(&self.path)
    }
}

/// Reads a package, and makes its programs.
fn check_package(path: &Path, version: &Digest) -> Result<Checked, String> {
    let bytes = fs::read(path).map_err(|e| e.to_string())?;
    let package: Package = postcard::from_bytes(&bytes).map_err(|_| {
        "this is no package of this version's `coordinator model add`: add the model again".to_owned()
    })?;
    if package.format != FORMAT {
        return Err(format!(
            "a package of version {}, this program reads {FORMAT}",
            package.format
        ));
    }
    check_name(&package.name)?;
    if package.version() != *version {
        return Err("the package is of another version than its name says".into());
    }
    let compiled = match &package.content {
        Content::Ckks {
            precision_bits,
            choice,
            file,
        } => {
            let interface = Interface::from_bytes(&package.interface).map_err(|e| e.to_string())?;
            let model = ModelFile::from_safetensors(file).map_err(|e| e.to_string())?;
            let program = Program::from_choice(&model, *precision_bits, choice).map_err(|e| e.to_string())?;
            if *program.interface() != interface {
                return Err("it was compiled by another version of Galen: add it again".into());
            }
            Compiled::Ckks {
                file: Digest::of(file),
                precision_bits: *precision_bits,
                choice: choice.clone(),
                batch_bytes: interface.sizes().batch as u64,
            }
        }
        Content::Tfhe => exact::compiled(&package.interface)?,
    };
    Ok(Checked { package, compiled })
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
