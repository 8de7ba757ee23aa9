//! `party train`.

use super::args::TrainArgs;
use super::output::{Output, complain};
use crate::train::{self, Task, Trained};
use anyhow::Context;
use galen_rns::threads;
use galen_training::Event;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use std::time::Duration;

/// Trains a network on one's own data.
pub(super) fn run(args: &TrainArgs, output: &Output) -> anyhow::Result<()> {
    threads::set_default(args.threads).context("--threads")?;
    let task = Task {
        network: args.network.clone(),
        recipe: args.recipe.clone(),
        seed: args.seed,
        schema: args.schema.clone(),
        data: args.data.clone(),
        hold_out: args.hold_out,
        test: args.test.clone(),
        test_schema: args.test_schema.clone(),
        device: args.device.clone(),
        out: args.out.clone(),
    };
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}")?);
    let trained = train::train(&task, &mut |event| show(&bar, event));
    bar.finish_and_clear();
    let trained = trained?;
    let text = text(&trained);
    output.say(trained, || text)
}

fn show(bar: &ProgressBar, event: &Event) {
    let stage = match event.stages {
        1 => event.stage.clone(),
        stages => format!("{} ({} of {stages})", event.stage, event.stage_index + 1),
    };
    let left = HumanDuration(Duration::from_secs_f64(event.remaining_s.clamp(0.0, 1e9)));
    bar.set_message(format!(
        "{stage}, epoch {} of {}, {:.0} a second, {left} left",
        event.epoch + 1,
        event.epochs,
        event.rate
    ));
    bar.set_length(event.patients as u64);
    bar.set_position(event.done as u64);
    if let Some(epoch) = &event.finished {
        let held_out = epoch.validation.map_or_else(String::new, |score| {
            format!(
                "; held out: loss {:.5}, accuracy {:.4}",
                score.loss, score.accuracy
            )
        });
        let line = format!(
            "{stage} epoch {}/{}: loss {:.5}{held_out}",
            event.epoch + 1,
            event.epochs,
            epoch.loss
        );
        bar.suspend(|| complain(&line));
    }
}

fn text(trained: &Trained) -> String {
    let mut scores = vec![format!("training data {:.4}", trained.training)];
    scores.extend(trained.held_out.map(|score| format!("held out {score:.4}")));
    scores.extend(trained.test.map(|score| format!("test data {score:.4}")));
    scores.extend(trained.teacher.map(|score| format!("its teacher {score:.4}")));
    format!(
        "Accuracy (of numbers: variance explained): {}.\nWrote model {} of {} parameters to {} after {} epochs; the report is {}.",
        scores.join(", "),
        trained.model,
        trained.parameters,
        trained.file.display(),
        trained.epochs,
        trained.report.display()
    )
}
