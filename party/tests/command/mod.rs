//! The program as tests run it.

use serde_json::Value;
use std::process::{Command, Output};

/// Runs a command.
pub(crate) fn party(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_party"))
        .args(args)
        .output()
        .unwrap()
}

/// What a command printed.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs a command with `--format json`; the exit status and the one object on standard output.
pub(crate) fn json(args: &[&str]) -> (i32, Value) {
    let output = party(&[args, &["--format", "json"]].concat());
    let object =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output.stderr)));
    (output.status.code().unwrap(), object)
}
