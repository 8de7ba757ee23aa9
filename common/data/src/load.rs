//! One entry for all formats.

use crate::error::{DatasetError, Problem};
use crate::limits::Limits;
use crate::schema::Schema;
use crate::{Dataset, idx, npz, table};
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
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 3] = [Self::Idx, Self::Csv, Self::Npz];

    /// Its name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idx => "idx",
            Self::Csv => "csv",
            Self::Npz => "npz",
        }
    }

    /// The format that a name implies.
    pub fn of(path: &Path) -> Result<Self, DatasetError> {
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

/// Reads a data set. Without a format, the name tells it. The first thing wrong with it is an error; nothing is skipped or repaired.
pub fn load(
    path: &Path,
    format: Option<Format>,
    schema: &Schema,
    limits: &Limits,
) -> Result<Dataset, DatasetError> {
    schema
        .check()
        .map_err(|error| DatasetError::file(path, error.into()))?;
    let format = match format {
        Some(format) => format,
        None => Format::of(path)?,
    };
    match format {
        Format::Idx => idx::load(path, schema, limits),
        Format::Csv => table::load(path, schema, limits),
        Format::Npz => npz::load(path, schema, limits),
    }
}
