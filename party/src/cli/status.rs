//! `party status`.

use super::args::DirArgs;
use super::output::Output;
use crate::status::{self, Status};
use galen_core::{Clock, SystemClock};
use std::fmt::Write;

/// Shows what the daemon last said.
pub(super) fn run(args: &DirArgs, output: &Output) -> anyhow::Result<()> {
    let home = super::open(&args.dir)?;
    let mut status = status::read(&home)?;
    if let Some(queries) = crate::query::totals(&home)? {
        status.traffic.insert("query".into(), queries);
    }
    output.say(&status, || text(&status, SystemClock.now_ms()))
}

/// The daemon writes its status every two seconds; a status older than this was left behind.
const FRESH_MS: u64 = 10_000;

fn text(status: &Status, now_ms: u64) -> String {
    let mut text = format!(
        "{} in study \"{}\" ({})\n",
        status.name,
        status.study,
        status.digest.short()
    );
    // Writing to a string cannot fail.
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<12} {value}");
    };
    line("phase", status.phase.clone());
    let age_ms = now_ms.saturating_sub(status.updated_ms);
    if age_ms > FRESH_MS {
        line(
            "written",
            format!("{} s ago: the daemon does not run", age_ms / 1000),
        );
    }
    line("connected", if status.connected { "yes" } else { "no" }.into());
    line(
        "rounds",
        format!("{} of {} opened", status.applied, status.rounds_total),
    );
    if let Some(training) = status.training {
        line(
            "training",
            format!(
                "pass {} of {}, loss {:.4}",
                training.epoch, training.epochs, training.loss
            ),
        );
    }
    if let Some(model) = status.model {
        line("model", model.to_hex());
    }
    if let Some(serving) = status.serving {
        line("served", serving.to_hex());
    }
    for (purpose, entry) in &status.traffic {
        let (sent, received, seconds) = (entry.bytes_sent, entry.bytes_received, entry.seconds);
        line(
            purpose,
            format!("{sent} bytes sent, {received} received, {seconds:.1} s"),
        );
    }
    if let Some(peak) = status.peak_rss_bytes {
        line("memory", format!("{} MiB at most", peak >> 20));
    }
    if let Some(error) = &status.error {
        line("error", format!("{}: {}", error.code, error.message));
        line("hint", error.hint.clone());
    }
    if status.finished {
        line("finished", "yes; ask the model with `party query`".into());
    }
    text
}
