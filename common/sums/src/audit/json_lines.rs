//! A line in a file: one JSON object with the exact signed bytes, and what they say in words.
//!
//! `{"line":1,"time":"2026-03-01 12:30:05 UTC","text":"...","words":1,"signed":{"payload":"...","signature":"..."}}`
//!
//! Only `signed` counts: everything else follows from it. Readers check that it does, so that nobody is shown words that were not signed.

use super::chain::{AuditError, AuditLine, Chain};
use super::words::{self, WORDS};
use galen_core::clock::utc;
use galen_core::{Code, Signed};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    line: u64,
    time: String,
    text: String,
    words: u32,
    signed: Signed,
}

/// Why a line of a file is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It is not what the log should hold there.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// It is no JSON object of a line.
    #[error("line {line} of the file is damaged: {source}")]
    Json {
        /// Number of the line.
        line: u64,
        /// What was refused.
        source: serde_json::Error,
    },
    /// Its words are not those of its signed bytes, or are those of a version that is not known here.
    #[error("line {line} of the file says in words what was not signed, or in words of another version")]
    Words {
        /// Number of the line.
        line: u64,
    },
}

impl FileError {
    /// Number of the line at fault.
    pub fn line(&self) -> u64 {
        match self {
            Self::Audit(error) => error.line(),
            Self::Json { line, .. } | Self::Words { line } => *line,
        }
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Audit(error) => error.code(),
            Self::Json { .. } | Self::Words { .. } => Code::AuditForked,
        }
    }
}

/// A line as it stands in a file, without the line break.
///
/// # Errors
/// None that a line causes.
pub fn write(line: &AuditLine, signed: &Signed) -> serde_json::Result<String> {
    serde_json::to_string(&Written {
        line: line.number,
        time: utc(line.time_ms),
        text: words::event(&line.event),
        words: WORDS,
        signed: signed.clone(),
    })
}

/// The signed bytes of a line that was verified before; `number` is where it stands, from 1.
///
/// # Errors
/// [`FileError::Json`].
pub fn read(number: u64, text: &str) -> Result<Signed, FileError> {
    parse(number, text).map(|written| written.signed)
}

/// Verifies the next line of a file: it extends the chain, and its words are those of its signed bytes. Words that an older version wrote
/// are not compared; the caller shows its own.
///
/// # Errors
/// What is wrong; the chain is then unchanged.
pub fn verify(chain: &mut Chain, text: &str) -> Result<(AuditLine, Signed), FileError> {
    let number = chain.head().lines.saturating_add(1);
    let written = parse(number, text)?;
    if written.words == 0 || written.words > WORDS {
        return Err(FileError::Words { line: number });
    }
    let mut next = chain.clone();
    let line = next.push(&written.signed)?;
    if written.words == WORDS {
        let same =
            write(&line, &written.signed).map_err(|source| FileError::Json { line: number, source })?;
        if same != text {
            return Err(FileError::Words { line: number });
        }
    }
    *chain = next;
    Ok((line, written.signed))
}

fn parse(line: u64, text: &str) -> Result<Written, FileError> {
    serde_json::from_str(text).map_err(|source| FileError::Json { line, source })
}
