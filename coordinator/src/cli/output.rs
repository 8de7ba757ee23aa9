//! Results on standard output, errors with what to do next on standard error.

use super::Format;
use crate::daemon::DaemonError;
use crate::home::HomeError;
use crate::rounds::engine::EngineError;
use crate::succession;
use galen_core::config::ConfigError;
use galen_core::envelope::{self, Trouble};
use galen_core::study::StudyError;
use serde_json::Value;
use std::io::Write;
use std::process::ExitCode;

/// What a command has to say.
pub(crate) struct Outcome {
    /// For people.
    pub(crate) text: String,
    /// For programs.
    pub(crate) data: Value,
}

/// Writes the outcome of a command and gives its exit status.
pub(crate) fn finish(command: &str, format: Format, result: anyhow::Result<Outcome>) -> ExitCode {
    match result {
        Ok(outcome) => {
            match format {
                Format::Json => print(envelope::success(command, outcome.data)),
                Format::Text if outcome.text.is_empty() => {}
                Format::Text => print(Ok(outcome.text)),
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            let (trouble, status) = trouble(&error);
            let mut err = std::io::stderr().lock();
            let _ = writeln!(
                err,
                "error {}: {}\nhint: {}",
                trouble.code, trouble.message, trouble.hint
            );
            if format == Format::Json {
                print(envelope::failure(command, &trouble));
            }
            ExitCode::from(status)
        }
    }
}

/// Writes a line to standard output. A reader that has gone away is no error of ours.
fn print(text: serde_json::Result<String>) {
    if let Ok(text) = text {
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }
}

/// The stable code, message, hint and exit status of an error.
fn trouble(error: &anyhow::Error) -> (Trouble, u8) {
    let (code, hint, status) = error.chain().find_map(known).unwrap_or((
        "C900",
        "`coordinator --help` explains the commands; the log has the details",
        1,
    ));
    let mut message = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // Many errors say their cause themselves.
        if !message.ends_with(&cause) {
            message.push_str(if message.is_empty() { "" } else { ": " });
            message.push_str(&cause);
        }
    }
    (
        Trouble {
            code: code.into(),
            message,
            hint: hint.into(),
        },
        status,
    )
}

fn known(cause: &(dyn std::error::Error + 'static)) -> Option<(&'static str, &'static str, u8)> {
    const FOLDER: (&str, &str, u8) = ("C101", "`coordinator init --dir DIR` makes a folder", 3);
    const FILE: (&str, &str, u8) = (
        "C102",
        "correct the file at the line named; every field is explained in the samples",
        3,
    );
    const STUDY: (&str, &str, u8) = (
        "C103",
        "`coordinator study check FILE` names everything that is wrong",
        3,
    );
    const STORE: (&str, &str, u8) = (
        "C301",
        "is another coordinator running in this folder, or the disk full?",
        1,
    );
    const NET: (&str, &str, u8) = (
        "C401",
        "is the address in config.toml free, and a UDP port that may be opened?",
        5,
    );
    const SUCCESSION: (&str, &str, u8) = (
        "C104",
        "`coordinator status` tells where the study stands; docs/membership.md explains successors",
        3,
    );
    if let Some(home) = cause.downcast_ref::<HomeError>() {
        return Some(match home {
            HomeError::Config(_) => FILE,
            HomeError::Study(_) | HomeError::Stranger { .. } => STUDY,
            _ => FOLDER,
        });
    }
    if let Some(daemon) = cause.downcast_ref::<DaemonError>() {
        return match daemon {
            DaemonError::Home(home) => known(home),
            DaemonError::Store(_) => Some(STORE),
            DaemonError::Succession(error) => known(error),
            DaemonError::Engine(EngineError::Succession(_)) => Some(SUCCESSION),
            DaemonError::Net(_) => Some(NET),
            _ => None,
        };
    }
    if let Some(error) = cause.downcast_ref::<succession::Error>() {
        return match error {
            succession::Error::Home(home) => known(home),
            succession::Error::Succession(_) | succession::Error::Audit(_) => Some(SUCCESSION),
            succession::Error::Store(_) => Some(STORE),
            succession::Error::Study(_) => Some(STUDY),
        };
    }
    if super::model::is_model_error(cause) {
        return Some((
            "C105",
            "docs/inference.md tells which models can be evaluated, and what to change",
            3,
        ));
    }
    if cause.is::<ConfigError>() {
        return Some(FILE);
    }
    cause.is::<StudyError>().then_some(STUDY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use std::path::PathBuf;

    #[test]
    fn errors_have_code_hint_and_status_through_any_context() {
        let error = Err::<(), _>(HomeError::Exists(PathBuf::from("d")))
            .context("making it")
            .unwrap_err();
        let (trouble, status) = trouble(&error);
        assert_eq!((trouble.code.as_str(), status), ("C101", 3));
        assert!(
            trouble.message.starts_with("making it: d already holds"),
            "{}",
            trouble.message
        );
        let twice = anyhow::Error::from(std::io::Error::other("cause")).context("it failed: cause");
        assert_eq!(super::trouble(&twice).0.message, "it failed: cause");
        let (other, status) = super::trouble(&anyhow::anyhow!("odd"));
        assert_eq!((other.code.as_str(), status), ("C900", 1));
    }
}
