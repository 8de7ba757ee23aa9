//! `party query`.

use super::args::QueryArgs;
use super::output::Output;
use crate::PartyError;
use crate::home::{self, Home};
use crate::query::report::{self, Report};
use crate::query::{self, About, Asked, KeyStatus, Means, ModelQuestion, Question, Samples, Stage, Way};
use anyhow::Context;
use galen_core::SystemClock;
use galen_core::telemetry::{self, LogFormat};
use galen_data::Format;
use galen_inference::Precision;
use galen_net::protocol::Offer;
use indicatif::{ProgressBar, ProgressStyle};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Asks the model.
pub(super) fn run(args: &QueryArgs, output: &Output) -> anyhow::Result<()> {
    let home = super::open(&args.dir)?;
    telemetry::start("warn", LogFormat::Text);
    if let Some(out) = &args.out {
        check_target(out)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the async runtime")?;
    if args.list {
        let models = runtime.block_on(query::list(&home))?;
        return output.say(listed(&models), || list_text(&models));
    }
    if args.cancel {
        let queries = runtime.block_on(query::cancel(&home))?;
        let text = format!("Took back {queries} queries.");
        return output.say(serde_json::json!({ "cancelled": queries }), || text);
    }
    if let (Some(model), Some(samples)) = (&args.model, samples(args)) {
        let question = ModelQuestion {
            model: model.clone(),
            engine: args.engine.engine(),
            packing: args.packing,
            reveal: args.reveal,
            samples,
            clip: args.clip,
            dry_run: args.dry_run,
            new_key: args.new_key,
        };
        return ask(&home, question, args, &runtime, output);
    }
    let about = match (&args.csv, &args.data) {
        (Some(csv), _) => About::Csv(csv.clone()),
        (None, Some(data)) => About::Images {
            data: data.clone(),
            stored_as: args.stored_as,
        },
        (None, None) => About::HeldOut,
    };
    let question = Question {
        about,
        dry_run: args.dry_run,
        new_key: args.new_key,
    };
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

/// The patients for a model that the coordinator serves. That a file is `--csv` says how it is stored, whatever its name.
fn samples(args: &QueryArgs) -> Option<Samples> {
    let (data, stored_as) = match (&args.csv, &args.data) {
        (Some(csv), _) => (csv, Some(Format::Csv)),
        (None, Some(data)) => (data, args.stored_as),
        (None, None) => return None,
    };
    Some(Samples {
        data: data.clone(),
        schema: args.schema.clone(),
        stored_as,
    })
}

/// Asks a model that the coordinator serves.
fn ask(
    home: &Home,
    question: ModelQuestion,
    args: &QueryArgs,
    runtime: &Runtime,
    output: &Output,
) -> anyhow::Result<()> {
    let bar = progress_bar()?;
    let shown = bar.clone();
    let clock = Arc::new(SystemClock);
    let asked = query::ask_model(home, question, clock, move |stage| show(&shown, stage));
    let asked = runtime.block_on(asked);
    bar.finish_and_clear();
    let mut asked = asked?;
    if let Some(out) = &args.out
        && let Some(table) = asked.table.take()
    {
        home::write_durably(out, &table.to_csv()?)?;
        asked.out = Some(out.clone());
    }
    let text = match &asked.table {
        Some(table) => String::from_utf8_lossy(&table.to_csv()?).into_owned(),
        None => describe(&asked),
    };
    output.say(asked, || text)
}

/// What is or would be asked, for people.
fn describe(asked: &Asked) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let mut lines = vec![format!(
        "model       {} version {} {}",
        asked.name, asked.version, asked.title
    )];
    lines.extend(means(&asked.means));
    if asked.ways.len() > 1 {
        lines.extend(asked.ways.iter().map(way));
    }
    if matches!(asked.means, Means::Ckks { .. }) {
        lines.push(format!("packing     {}", asked.why));
    }
    lines.extend([
        format!(
            "patients    {} in {} batches of up to {}{}",
            asked.patients,
            asked.batches,
            asked.max_patients,
            match asked.clipped_values {
                0 => String::new(),
                values => format!("; {values} values clipped"),
            }
        ),
        format!(
            "key         {} at the coordinator, {:.1} MiB",
            match asked.key {
                KeyStatus::Missing => "missing",
                KeyStatus::Present => "present",
                KeyStatus::Stale => "stale",
            },
            mib(asked.key_bytes)
        ),
        format!(
            "traffic     {:.1} MiB up, {:.2} MiB down",
            mib(asked.upload_bytes),
            mib(asked.download_bytes)
        ),
    ]);
    match (asked.dry_run, &asked.out) {
        (true, _) => {
            lines.push(format!(
                "memory      about {:.0} MiB here",
                mib(asked.memory_bytes)
            ));
            lines.push(format!(
                "time        about {:.2} s of evaluation at the coordinator, and {:.2} s of encryption here",
                asked.evaluation_seconds,
                asked.encryption_seconds.unwrap_or(0.0)
            ));
            lines.push("Nothing of the patients was sent.".into());
        }
        (false, Some(out)) => lines.push(format!("Wrote {} in {:.1} s.", out.display(), asked.seconds)),
        (false, None) => {}
    }
    lines.join("\n")
}

/// What asking in one way takes, for people.
fn way(way: &Way) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    format!(
        "  {:<9} {} batches of up to {}: {:.1} MiB up, {:.2} MiB down, key {:.1} MiB{}, {:.2} s of evaluation, about {:.0} MiB of memory here; {:.2} s in all",
        if way.packed { "packed" } else { "slots" },
        way.batches,
        way.max_patients,
        mib(way.upload_bytes),
        mib(way.download_bytes),
        mib(way.key_bytes),
        if way.key_known { ", made before" } else { "" },
        way.evaluation_seconds,
        mib(way.memory_bytes),
        way.seconds
    )
}

/// How a model is evaluated, for people.
fn means(means: &Means) -> [String; 2] {
    match means {
        Means::Ckks {
            preset,
            n,
            log2_qp,
            bound,
            levels,
            precision_bits,
            precision,
            rounded_bits,
            ..
        } => {
            let promised = match precision {
                Precision::Guaranteed => "guaranteed",
                Precision::Expected => "expected of patients like those in training",
            };
            [
                format!(
                    "preset      {preset}: N = {n}, log2 QP = {log2_qp} of {bound} allowed at 128-bit security, {levels} levels"
                ),
                format!(
                    "precision   {precision_bits:.1} bits after the binary point, {promised}; rounded to {rounded_bits}"
                ),
            ]
        }
        Means::Tfhe {
            parameters,
            security_bits,
            log2_failure,
            bootstraps,
            reveal,
        } => [
            format!(
                "parameters  {parameters}: TFHE at {security_bits}-bit security, {bootstraps} bootstraps for a patient"
            ),
            format!(
                "answers     reveal {reveal}, and are exact but for a probability of 2^{log2_failure:.1} per patient"
            ),
        ],
    }
}

fn listed(models: &[Offer]) -> serde_json::Value {
    let model = |offer: &Offer| {
        serde_json::json!({
            "name": offer.name,
            "version": offer.version,
            "engine": offer.engine,
            "packed": offer.packed,
            "current": offer.current,
            "batch_ms": offer.batch_ms,
        })
    };
    serde_json::json!({ "models": models.iter().map(model).collect::<Vec<_>>() })
}

fn list_text(models: &[Offer]) -> String {
    if models.is_empty() {
        return "The coordinator serves no model yet.".into();
    }
    let line = |offer: &Offer| {
        let earlier = if offer.current { "" } else { " (earlier)" };
        let packed = if offer.packed { ", packed" } else { "" };
        format!(
            "{:<16} {} {}{packed}{earlier}",
            offer.name, offer.version, offer.engine
        )
    };
    models.iter().map(line).collect::<Vec<_>>().join("\n")
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
        Stage::Busy(detail) => (waiting_text(&detail), 0, 0),
        Stage::Fetching(done, total) => ("receiving".to_owned(), done, total),
        Stage::Answered(done, total) => ("batches answered".to_owned(), done as u64, total as u64),
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

/// Why the coordinator lets wait, in its own words: without what would move a terminal's cursor.
fn waiting_text(detail: &str) -> String {
    let plain = detail.chars().map(|c| if c.is_control() { ' ' } else { c });
    format!(
        "the coordinator has too much to do, waiting: {}",
        plain.collect::<String>()
    )
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: QueryArgs,
    }

    #[test]
    fn csv_names_patients_of_a_model_and_how_they_are_stored() {
        let samples_of = |given: &[&str]| {
            let line = [&["query", "heart", "--dir", "d", "--schema", "s"], given].concat();
            samples(&Line::try_parse_from(line).unwrap().args).unwrap()
        };
        let csv = samples_of(&["--csv", "patients.txt"]);
        assert_eq!(csv, samples_of(&["--data", "patients.txt", "--stored-as", "csv"]));
        assert_eq!(csv.stored_as, Some(Format::Csv));
        assert_eq!(samples_of(&["--data", "patients.npz"]).stored_as, None);
    }

    #[test]
    fn what_the_coordinator_says_while_it_is_busy_is_shown_without_control_characters() {
        let said = waiting_text("2 batches\u{1b}[2J\nwait");
        assert!(said.ends_with("2 batches [2J wait"), "{said:?}");
    }
}
