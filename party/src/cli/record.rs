//! `party model record`: where patients' values lie, written into a model's file.

use super::args::RecordArgs;
use super::model::{load, new_file, problem_with, write};
use super::output::Output;
use crate::query::Samples;
use crate::query::cohort::Cohort;
use crate::train::widen;
use galen_core::config;
use galen_data::Schema;
use galen_models::Subject;
use indicatif::{ProgressBar, ProgressStyle};

/// Samples that are evaluated together.
const CHUNK: usize = 512;

/// Writes the model with the ranges that the data show.
pub(super) fn run(args: &RecordArgs, output: &Output) -> anyhow::Result<()> {
    new_file(&args.out)?;
    let mut file = load(&args.file)?;
    file.annotations.inputs.clear();
    file.annotations.activations.clear();
    if let Some(path) = &args.schema {
        let schema: Schema = config::load(path)?;
        let classes = schema.target.classes();
        if !classes.is_empty() {
            file.annotations.classes = classes.iter().map(|class| class.name.clone()).collect();
            file.annotations
                .check(file.model.spec())
                .map_err(problem_with(path))?;
        }
    }
    let samples = Samples {
        data: args.data.clone(),
        schema: args.schema.clone(),
        stored_as: args.stored_as,
    };
    let subject = Subject::of(&file.model, &file.annotations);
    let cohort = Cohort::load(&samples, &subject, None, false)?;
    let progress = ProgressBar::new(cohort.len() as u64).with_style(ProgressStyle::with_template(
        "{pos}/{len} samples {bar:30} {per_sec}, {eta} left",
    )?);
    for first in (0..cohort.len()).step_by(CHUNK) {
        file.record(&cohort.rows(first, CHUNK))
            .map_err(problem_with(&args.file))?;
        progress.set_position((first + CHUNK).min(cohort.len()) as u64);
    }
    progress.finish_and_clear();
    widen(&mut file);
    write(&file, &args.out, output)
}
