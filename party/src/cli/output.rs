//! Standard output: the one thing that a command has to say. Progress and questions go to standard error.

use crate::{Exit, PartyError};
use clap::ValueEnum;
use galen_core::envelope::{self, Trouble};
use serde::Serialize;
use std::process::ExitCode;

/// What standard output holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Text for people
    Text,
    /// One JSON object
    Json,
}

/// Where a command says what it has to say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    format: Format,
    command: &'static str,
}

impl Output {
    /// The output of a command.
    pub(super) fn new(format: Format, command: &'static str) -> Self {
        Self { format, command }
    }

    /// Whether standard output is for a program.
    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Says the result: the object, or the text.
    pub(super) fn say<T: Serialize>(&self, result: T, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        match self.format {
            Format::Text => print(text().trim_end()),
            Format::Json => print(&envelope::success(self.command, result)?),
        }
        Ok(())
    }

    /// Says what went wrong, and gives the exit status for it.
    pub(super) fn fail(&self, error: &anyhow::Error) -> ExitCode {
        let known = error.chain().find_map(|cause| cause.downcast_ref::<PartyError>());
        let trouble = Trouble {
            code: known.map_or_else(|| "P900".into(), PartyError::code),
            message: message(error),
            hint: known
                .map_or("`party --help` explains the commands", PartyError::hint)
                .to_owned(),
        };
        complain(&format!("error {}: {}", trouble.code, trouble.message));
        complain(&format!("hint: {}", trouble.hint));
        if self.is_json()
            && let Ok(text) = envelope::failure(self.command, &trouble)
        {
            print(&text);
        }
        ExitCode::from(known.map_or(Exit::Failure, PartyError::exit) as u8)
    }
}

/// What went wrong, with the context in which it did. A [`PartyError`] says all that may be said: its source can be an error of the
/// table that shows the cell.
fn message(error: &anyhow::Error) -> String {
    let mut said = Vec::new();
    for cause in error.chain() {
        said.push(cause.to_string());
        if cause.is::<PartyError>() {
            break;
        }
    }
    said.join(": ")
}

/// Writes a line to standard output. A reader that has gone away is no error of ours.
fn print(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Writes a line to standard error, for the person at the terminal.
pub(super) fn complain(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use galen_training::{DataError, DataProblem};

    #[test]
    fn the_cell_of_a_table_is_not_shown() {
        let problem = DataProblem::NotANumber {
            text: "Schmidt".into(),
            missing: "?".into(),
        };
        let error = DataError {
            file: "a.csv".into(),
            line: 3,
            column: Some("age".into()),
            problem,
        };
        let error = Err::<(), _>(PartyError::from(error)).context("reading the table");
        let said = message(&error.unwrap_err());
        assert!(
            said.starts_with("reading the table: a.csv:3: column \"age\": "),
            "{said}"
        );
        assert!(!said.contains("Schmidt"), "{said}");
    }
}
