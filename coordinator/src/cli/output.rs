//! Results on standard output, errors with what to do next on standard error.

use super::Format;
use serde_json::{Value, json};
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
    let (ok, text, envelope) = match result {
        Ok(outcome) => (
            true,
            outcome.text,
            json!({ "ok": true, "command": command, "result": outcome.data }),
        ),
        Err(error) => {
            let message = format!("{error:#}");
            (
                false,
                String::new(),
                json!({ "ok": false, "command": command, "error": { "message": message } }),
            )
        }
    };
    let mut out = std::io::stdout().lock();
    // Nobody reads any more if this fails (a closed pipe), so there is nobody to tell.
    let _ = match format {
        Format::Json => writeln!(out, "{envelope:#}"),
        Format::Text if ok && !text.is_empty() => writeln!(out, "{text}"),
        Format::Text => Ok(()),
    };
    if !ok {
        let message = envelope
            .pointer("/error/message")
            .and_then(Value::as_str)
            .unwrap_or("");
        let _ = writeln!(std::io::stderr(), "error: {message}");
    }
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
