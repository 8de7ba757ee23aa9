//! `party audit verify` and `party audit show`.

use super::args::{LogArgs, ShowArgs, VerifyArgs};
use super::output::{Output, complain};
use crate::PartyError;
use crate::audit::verify::{self, Log};
use crate::config::Config;
use crate::consent;
use galen_core::study::FrozenStudy;
use galen_sums::audit::{AuditEvent, Report, words};
use serde::Serialize;

#[derive(Serialize)]
struct Verified<'a> {
    report: &'a Report,
    /// Line whose head is the one given.
    head_at: Option<u64>,
    /// Whether it was compared with the party's own copy, and how many lines that has.
    compared_with: Option<u64>,
}

#[derive(Serialize)]
struct Shown<'a> {
    line: u64,
    time_ms: u64,
    text: String,
    event: &'a AuditEvent,
}

/// A log with the party's own copy, if it is another one.
struct Found {
    log: Log,
    own: Option<Log>,
}

fn read(args: &LogArgs) -> anyhow::Result<Found> {
    let Some(dir) = &args.dir else {
        let (Some(file), Some(study)) = (&args.file, &args.study) else {
            // The command line asks for them.
            return Err(PartyError::Internal("no log is named".into()).into());
        };
        let study = FrozenStudy::load(study).map_err(PartyError::from)?;
        return Ok(Found {
            log: verify::file(&study, file)?,
            own: None,
        });
    };
    let home = super::open(dir)?;
    let study = consent::signed_study(&Config::load(&home)?)?;
    let own = verify::own(&study, &home)?;
    Ok(match &args.file {
        None => Found { log: own, own: None },
        Some(file) => Found {
            log: verify::file(&study, file)?,
            own: Some(own),
        },
    })
}

/// Verifies a log and gives an account of it.
pub(super) fn verify(args: &VerifyArgs, output: &Output) -> anyhow::Result<()> {
    let Found { log, own } = read(&args.log)?;
    if let Some(own) = &own {
        log.agrees_with(own)?;
    }
    let head_at = args.head.map(|head| log.find(&head)).transpose()?;
    let report = &log.report;
    if !report.is_consistent() {
        complain(&report.text());
        return Err(PartyError::Inconsistent(report.findings.clone()).into());
    }
    let compared_with = own.map(|own| own.report.head.lines);
    let verified = Verified {
        report,
        head_at,
        compared_with,
    };
    output.say(verified, || {
        let mut text = format!(
            "{}\n\nEvery line is signed, in its place, and within the rules of the study.",
            report.text()
        );
        if let Some(lines) = compared_with {
            text.push_str(&format!(
                "\nIt agrees with this party's own copy of {lines} lines."
            ));
        }
        if let Some(line) = head_at {
            text.push_str(&format!("\nThe head that was given is that of line {line}."));
        }
        text
    })
}

/// Prints a log line by line.
pub(super) fn show(args: &ShowArgs, output: &Output) -> anyhow::Result<()> {
    let Found { log, .. } = read(&args.log)?;
    let lines = log.lines.iter().filter(|line| line.number >= args.from);
    let shown: Vec<Shown> = lines
        .clone()
        .map(|line| Shown {
            line: line.number,
            time_ms: line.time_ms,
            text: words::event(&line.event),
            event: &line.event,
        })
        .collect();
    output.say(shown, || {
        let text: Vec<String> = lines.map(words::line).collect();
        if text.is_empty() {
            return "There are no such lines yet.".into();
        }
        text.join("\n")
    })
}
