//! `cargo run --release --bin quickstart`: a whole federation on this machine, watched from setup to encrypted queries.
//!
//! [`options`] is the command line, [`story`] runs the study, [`exact`] asks for a decision besides, [`progress`] shows it live, [`baselines`] computes meanwhile what it is
//! compared with, [`compare`] compares, [`report`] is what comes out and whether it held, and [`text`] tells it to people.

mod baselines;
mod compare;
mod exact;
mod options;
mod progress;
mod report;
mod story;
mod text;

use clap::Parser;
use galen_integration_tests::role;
use options::{Format, Options};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    // The daemons are this executable too.
    if let Some(code) = role::play(std::env::args_os()) {
        return code;
    }
    let options = Options::parse();
    let result = story::run(&options);
    let held = result.as_ref().is_ok_and(|report| report.failures.is_empty());
    let text = match (&result, options.format) {
        (Ok(report), Format::Json) => serde_json::to_string_pretty(report).unwrap_or_default(),
        (Ok(report), Format::Text) => text::describe(report),
        (Err(error), Format::Json) => {
            serde_json::json!({ "ok": false, "failures": [format!("{error:#}")] }).to_string()
        }
        (Err(_), Format::Text) => String::new(),
    };
    if let Err(error) = &result {
        let _ = writeln!(std::io::stderr(), "error: {error:#}");
        if options.keep.is_none() {
            let _ = writeln!(
                std::io::stderr(),
                "Run it again with --keep DIR to look into the logs of every process."
            );
        }
    }
    if !text.is_empty() && writeln!(std::io::stdout(), "{}", text.trim_end()).is_err() {
        return ExitCode::FAILURE;
    }
    if held {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
