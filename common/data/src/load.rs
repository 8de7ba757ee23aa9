//! One entry for all formats.

use crate::error::{DatasetError, Problem};
use crate::limits::Limits;
use crate::{Dataset, Inputs, folder, idx, npz, parquet, table};
use galen_core::samples::Schema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// How a data set is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// IDX as MNIST has it: a file of images (`...-images-idx3-ubyte`) beside one of labels, plain or with `.gz`.
    Idx,
    /// A CSV file with a header line (`.csv`, `.csv.gz`).
    Csv,
    /// Named arrays of NumPy (`.npz`).
    Npz,
    /// A Parquet file with flat columns (`.parquet`).
    Parquet,
    /// A folder of images (PNG, JPEG, DICOM) with a subfolder for each class.
    Folder,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 5] = [Self::Idx, Self::Csv, Self::Npz, Self::Parquet, Self::Folder];

    /// Its name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idx => "idx",
            Self::Csv => "csv",
            Self::Npz => "npz",
            Self::Parquet => "parquet",
            Self::Folder => "folder",
        }
    }

    /// The format that a name implies; a folder is a folder of images.
    pub fn of(path: &Path) -> Result<Self, DatasetError> {
        if path.is_dir() {
            return Ok(Self::Folder);
        }
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_lowercase();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        if name.ends_with("-ubyte") || name.ends_with(".idx") {
            return Ok(Self::Idx);
        }
        if name.ends_with(".csv") {
            return Ok(Self::Csv);
        }
        if name.ends_with(".npz") {
            return Ok(Self::Npz);
        }
        if name.ends_with(".parquet") {
            return Ok(Self::Parquet);
        }
        let formats = Self::ALL.map(Self::name).join(", ");
        Err(DatasetError::file(path, Problem::Unknown { formats }))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|f| f.name() == text);
        found.ok_or_else(|| {
            format!(
                "no such format; there are {}",
                Self::ALL.map(Self::name).join(", ")
            )
        })
    }
}

/// The format of a data set whose schema is sound.
fn checked(path: &Path, format: Option<Format>, schema: &Schema) -> Result<Format, DatasetError> {
    schema
        .check()
        .map_err(|error| DatasetError::file(path, error.into()))?;
    format.map_or_else(|| Format::of(path), Ok)
}

/// Reads a data set. Without a format, the name tells it. The first thing wrong with it is an error; nothing is skipped or repaired.
pub fn load(
    path: &Path,
    format: Option<Format>,
    schema: &Schema,
    limits: &Limits,
) -> Result<Dataset, DatasetError> {
    match checked(path, format, schema)? {
        Format::Idx => idx::load(path, schema, limits),
        Format::Csv => table::load(path, schema, limits),
        Format::Npz => npz::load(path, schema, limits),
        Format::Parquet => parquet::load(path, schema, limits),
        Format::Folder => folder::load(path, schema, limits),
    }
}

/// Reads samples that are only to be evaluated: no target is needed, and one that is there is not looked at.
pub fn load_inputs(
    path: &Path,
    format: Option<Format>,
    schema: &Schema,
    limits: &Limits,
) -> Result<Inputs, DatasetError> {
    match checked(path, format, schema)? {
        Format::Idx => idx::inputs(path, schema, limits),
        Format::Csv => table::inputs(path, schema, limits),
        Format::Npz => npz::inputs(path, schema, limits),
        Format::Parquet => parquet::inputs(path, schema, limits),
        Format::Folder => folder::inputs(path, schema, limits),
    }
}
