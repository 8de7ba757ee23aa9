//! What is wrong with a data set, and where.

use galen_core::samples::SchemaError;
use std::fmt;
use std::path::{Path, PathBuf};

/// What is wrong with a data set, and where. What it says never shows the content of a cell, pixel or attribute.
#[derive(Debug)]
pub struct DatasetError {
    /// The file.
    pub file: PathBuf,
    /// Where in it.
    pub place: Place,
    /// What is wrong.
    pub problem: Box<Problem>,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// The file as a whole.
    File,
    /// A line of a text, from 1, and the column if it is one.
    Line(u64, Option<String>),
    /// An array and, if it is one, the index of the sample in it, from 0.
    Array(String, Option<usize>),
    /// A sample, from 0.
    Sample(usize),
    /// A row of a table, from 1, and the column if it is one; row 0 is what stands before the first.
    Row(u64, Option<String>),
    /// What a file of one sample says of its target, or the name of the folder that it lies in.
    Target,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => Ok(()),
            Self::Line(line, None) => write!(f, ":{line}"),
            Self::Line(line, Some(column)) => write!(f, ":{line}: column \"{column}\""),
            Self::Array(name, None) => write!(f, ": array \"{name}\""),
            Self::Array(name, Some(index)) => write!(f, ": array \"{name}\" at sample {index}"),
            Self::Sample(index) => write!(f, ": sample {index}"),
            Self::Row(0, column) => write!(f, ": column \"{}\"", column.as_deref().unwrap_or_default()),
            Self::Row(row, None) => write!(f, ": row {row}"),
            Self::Row(row, Some(column)) => write!(f, ": row {row}, column \"{column}\""),
            Self::Target => write!(f, ": target"),
        }
    }
}

impl fmt::Display for DatasetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}: {}", self.file.display(), self.place, self.problem)
    }
}

impl std::error::Error for DatasetError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.problem.source()
    }
}

impl DatasetError {
    /// Trouble with a file as a whole.
    pub(crate) fn file(file: &Path, problem: Problem) -> Self {
        Self::at(file, Place::File, problem)
    }

    /// Trouble at a place.
    pub(crate) fn at(file: &Path, place: Place, problem: Problem) -> Self {
        let (file, problem) = (file.to_owned(), Box::new(problem));
        Self { file, place, problem }
    }
}

/// What can be wrong with a data set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The schema.
    #[error("the schema cannot be used: {0}")]
    Schema(#[from] SchemaError),
    /// The operating system.
    #[error("cannot be read: {0}")]
    Read(#[source] std::io::Error),
    /// The operating system, when a file is written.
    #[error("cannot be written: {0}")]
    Write(#[source] std::io::Error),
    /// The bytes are not of the format.
    #[error("is not {format}: {reason}")]
    Format {
        /// The format.
        format: &'static str,
        /// What does not fit.
        reason: String,
    },
    /// The format could not be told from the name.
    #[error("the format does not follow from the name; name one of {formats}")]
    Unknown {
        /// The formats.
        formats: String,
    },
    /// More than a limit allows.
    #[error("has {what} above the limit of {limit}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// Something that the schema needs is not there.
    #[error("{what} is missing")]
    Missing {
        /// What.
        what: String,
    },
    /// Sizes that do not fit.
    #[error("{what}: {found} found, {expected} expected")]
    Size {
        /// What was counted.
        what: &'static str,
        /// The schema's.
        expected: String,
        /// The file's.
        found: String,
    },
    /// A value that is not a number.
    #[error("is not a finite number (the schema's source.missing lists texts for missing values)")]
    NotANumber,
    /// A label of no class.
    #[error("is not a label of any class of the schema; its labels are {labels}")]
    NotAClass {
        /// Labels of the schema.
        labels: String,
    },
    /// Something stands twice.
    #[error("{what} stands twice")]
    Repeated {
        /// What.
        what: String,
    },
    /// There are no samples.
    #[error("there is no sample")]
    Empty,
}
