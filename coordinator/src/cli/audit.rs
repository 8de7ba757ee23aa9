//! `coordinator audit show` and `coordinator audit export`.

use super::output::Outcome;
use crate::daemon::DaemonError;
use crate::home::{self, Home};
use crate::rounds::audit::AuditLog;
use crate::rounds::engine::EngineError;
use anyhow::{Context, bail};
use galen_core::Signed;
use galen_store::Store;
use galen_sums::Roster;
use galen_sums::audit::{AuditLine, Chain, Checker, Report, json_lines, words};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

pub(crate) const SHOW: &str = "\
Prints the audit log line by line in plain English, then what was opened to whom, when and over how many contributors. The log is verified on the way. It is read from the folder, so the daemon must not run; while it runs, every hospital shows its own copy with `party audit show`.

Example: coordinator audit show --dir coordinator --from 100";

pub(crate) const EXPORT: &str = "\
Writes the audit log to a file: one JSON object a line, with the exact signed bytes and what they say in words. The file holds no secret. Anybody with the frozen study verifies it offline with `party audit verify FILE --study STUDY`. The daemon must not run.

Example: coordinator audit export --dir coordinator --out audit.jsonl";

struct Log {
    lines: Vec<(AuditLine, Signed)>,
    report: Report,
}

pub(crate) fn show(dir: &Path, from: u64) -> anyhow::Result<Outcome> {
    let log = read(dir)?;
    let shown: Vec<&AuditLine> = log
        .lines
        .iter()
        .map(|(line, _)| line)
        .filter(|line| line.number >= from)
        .collect();
    let text: Vec<String> = shown.iter().map(|line| words::line(line)).collect();
    let lines: Vec<_> = shown
        .iter()
        .map(|line| {
            json!({
                "line": line.number,
                "time_ms": line.time_ms,
                "text": words::event(&line.event),
                "event": line.event,
            })
        })
        .collect();
    Ok(Outcome {
        text: format!("{}\n\n{}", text.join("\n"), log.report.text()),
        data: json!({ "lines": lines, "report": log.report }),
    })
}

pub(crate) fn export(dir: &Path, out: &Path) -> anyhow::Result<Outcome> {
    if out.exists() {
        bail!("{} exists; an audit log is never overwritten", out.display());
    }
    let log = read(dir)?;
    let mut text = String::new();
    for (line, signed) in &log.lines {
        text.push_str(&json_lines::write(line, signed)?);
        text.push('\n');
    }
    home::write_durably(out, text.as_bytes())?;
    let head = log.report.head;
    Ok(Outcome {
        text: format!(
            "Wrote {} lines to {}.\nHead, to compare by telephone:\n  {}",
            head.lines,
            out.display(),
            head.digest.spoken()
        ),
        data: json!({ "file": out, "head": head }),
    })
}

fn read(dir: &Path) -> anyhow::Result<Log> {
    let home = Home::new(dir);
    let config = home.config().context("run `coordinator init` first")?;
    let study = home.study(&config)?;
    let roster = Arc::new(Roster::from_study(&study)?);
    let path = home.store_path();
    if !path.exists() {
        bail!(
            "there is no log yet: `coordinator serve` has not run in {}",
            dir.display()
        );
    }
    let store = Store::open(&path).map_err(DaemonError::from)?;
    let (log, head) = AuditLog::open(store.database(), study.digest()).map_err(EngineError::from)?;
    let mut chain = Chain::new(study.digest(), *roster.coordinator());
    let checker = Checker::new(roster);
    let mut checker = match study.predecessor() {
        Some(before) => checker.after(before),
        None => checker,
    };
    let mut lines = Vec::new();
    while chain.head().lines < head.lines {
        let some = log.lines(chain.head().lines, usize::MAX)?;
        let read = chain.extend(&some)?;
        if read.is_empty() {
            break;
        }
        for (line, signed) in read.into_iter().zip(some) {
            checker.read(&line);
            lines.push((line, signed));
        }
    }
    chain.stands_at(&head)?;
    Ok(Log {
        lines,
        report: checker.finish(head),
    })
}
