//! `coordinator status`.

use super::output::Outcome;
use crate::home::Home;
use crate::serving::QueryCounts;
use crate::status::Status;
use anyhow::Context;
use galen_core::study::Purpose;
use galen_core::{Clock, PartyId, SystemClock};
use std::fmt::Write;
use std::path::Path;

pub(crate) const LONG: &str = "\
Shows where the study stands, who is waited for, what was published, queries, traffic and memory. It reads status.json in the folder, which the daemon rewrites as things move; it works while the daemon runs and after it ended.

Example: coordinator status --dir coordinator --format json";

/// Older than this, the daemon that wrote the status does not run any more.
const STALE_MS: u64 = 10_000;

pub(crate) fn run(dir: &Path) -> anyhow::Result<Outcome> {
    let path = Home::new(dir).status_path();
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "{} cannot be read: has `coordinator serve` run in this folder?",
            path.display()
        )
    })?;
    let status: Status =
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
    Ok(Outcome {
        text: describe(&status, SystemClock.now_ms()),
        data: serde_json::to_value(&status)?,
    })
}

fn counted(q: &QueryCounts) -> String {
    format!(
        "{} waiting, {} running, {} done, {} failed, {} taken back",
        q.queued, q.running, q.done, q.failed, q.cancelled
    )
}

fn describe(status: &Status, now_ms: u64) -> String {
    let mut out = format!("study     {} ({})\n", status.study, status.digest.short());
    if status.version > 1 {
        let _ = writeln!(out, "version   {}", status.version);
    }
    for former in &status.former {
        let _ = writeln!(out, "before    {former}");
    }
    let age = now_ms.saturating_sub(status.updated_ms);
    let running = if age > STALE_MS {
        format!("not running (last seen {} s ago)", age / 1000)
    } else {
        format!("running as process {} on {}", status.pid, status.listen)
    };
    let _ = writeln!(out, "daemon    {running}");
    let _ = writeln!(out, "phase     {}", status.phase);
    if let Some(attempt) = &status.attempt
        && !attempt.awaiting.is_empty()
    {
        let names: Vec<_> = attempt.awaiting.iter().map(PartyId::as_str).collect();
        let _ = writeln!(out, "waiting   for {}", names.join(", "));
    }
    let _ = writeln!(
        out,
        "rounds    {} of {} published",
        status.published.len(),
        status.rounds_total
    );
    for round in &status.published {
        let purpose = round.purpose.map_or("", Purpose::name);
        let _ = writeln!(
            out,
            "  {:>4}    {purpose:<11} {} contributors, {:.1} s{}",
            round.round,
            round.contributors,
            round.seconds,
            if round.attempt > 0 {
                format!(", attempt {}", round.attempt + 1)
            } else {
                String::new()
            }
        );
    }
    if let Some(model) = status.serving {
        let _ = writeln!(out, "serving   model {}", model.short());
    }
    for model in status.models.iter().filter(|model| model.added_ms > 0) {
        let _ = writeln!(
            out,
            "model     {} {}{}, {} {}{}",
            model.name,
            model.version.short(),
            if model.current { "" } else { " (earlier)" },
            model.engine,
            model.preset,
            if model.packed { ", packed" } else { "" }
        );
    }
    if !status.models.is_empty() {
        let _ = writeln!(out, "queries   {}", counted(&status.queries));
        for (party, counts) in &status.queries_by_party {
            let _ = writeln!(out, "  {party:<12} {}", counted(counts));
        }
    }
    if let Some(closed) = &status.closed {
        let _ = writeln!(out, "closed    {}", closed.reason);
    }
    let connections = status.connections;
    if connections.waited > 0 {
        let _ = writeln!(
            out,
            "network   {} of {} connections; parties waited {} times for one",
            connections.open, connections.most, connections.waited
        );
    }
    for (purpose, bytes) in &status.traffic {
        let _ = writeln!(
            out,
            "traffic   {purpose:<11} sent {}, received {} bytes",
            bytes.bytes_sent, bytes.bytes_received
        );
    }
    if let Some(peak) = status.peak_rss_bytes {
        let _ = write!(out, "memory    {} MiB at most", peak >> 20);
    }
    out
}
