//! `party query`.

use super::args::QueryArgs;
use super::output::Output;
use crate::PartyError;
use crate::home;
use crate::query::report::{self, Report};
use crate::query::{self, Question, Stage};
use anyhow::Context;
use galen_core::SystemClock;
use galen_core::telemetry::{self, LogFormat};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Asks the model.
pub(super) fn run(args: &QueryArgs, output: &Output) -> anyhow::Result<()> {
    let home = super::open(&args.dir)?;
    telemetry::start("warn", LogFormat::Text);
    if let Some(out) = &args.out {
        check_target(out)?;
    }
    let question = Question {
        csv: args.csv.clone(),
        dry_run: args.dry_run,
        new_key: args.new_key,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the async runtime")?;
    let bar = progress_bar()?;
    let shown = bar.clone();
    let asked = query::run(&home, question, Arc::new(SystemClock), move |stage| {
        show(&shown, stage)
    });
    let asked = runtime.block_on(asked);
    bar.finish_and_clear();
    let mut report = asked?;
    if let (Some(out), false) = (&args.out, report.dry_run) {
        let answers = std::mem::take(&mut report.answers);
        home::write_durably(out, report::csv(&answers, report.decimals).as_bytes())?;
        report.out = Some(out.clone());
    }
    output.say(&report, || text(&report))
}

/// Whether answers can be written there is asked before the coordinator is.
fn check_target(out: &Path) -> Result<(), PartyError> {
    let folder = out
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    if !folder.is_dir() || out.is_dir() {
        let kind = if out.is_dir() {
            std::io::ErrorKind::IsADirectory
        } else {
            std::io::ErrorKind::NotFound
        };
        return Err(PartyError::File {
            path: out.to_owned(),
            source: kind.into(),
        });
    }
    Ok(())
}

/// A bar on standard error; it hides itself where that is no terminal.
fn progress_bar() -> anyhow::Result<ProgressBar> {
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template(
        "{spinner} {msg} {wide_bar} {pos}/{len}",
    )?);
    bar.enable_steady_tick(Duration::from_millis(120));
    Ok(bar)
}

fn show(bar: &ProgressBar, stage: Stage) {
    let (message, done, total) = match stage {
        Stage::Preparing => ("reading patients and model".to_owned(), 0, 0),
        Stage::Key => ("compiling the model, preparing the key".to_owned(), 0, 0),
        Stage::Encrypting => ("encrypting".to_owned(), 0, 0),
        Stage::Connecting => ("connecting".to_owned(), 0, 0),
        Stage::Sending(done, total) => ("sending".to_owned(), done, total),
        Stage::Waiting(ahead) => (format!("waiting behind {ahead} queries"), 0, 0),
        Stage::Evaluating(done, total) => (
            "the coordinator evaluates".to_owned(),
            u64::from(done),
            u64::from(total),
        ),
        Stage::Decrypting => ("decrypting".to_owned(), 0, 0),
    };
    bar.set_message(message);
    bar.set_length(total);
    bar.set_position(done);
}

fn text(report: &Report) -> String {
    let sizes = format!(
        "{} patients in {} batches of {} bytes in all, evaluation key {} bytes, preset {}",
        report.patients, report.batches, report.batch_bytes, report.key_bytes, report.preset
    );
    if report.dry_run {
        return format!("Nothing was sent. It would be {sizes}.");
    }
    match &report.out {
        Some(out) => format!("Wrote {} ({sizes}) in {:.1} s.", out.display(), report.seconds),
        None => report::csv(&report.answers, report.decimals),
    }
}
