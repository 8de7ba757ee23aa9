//! `party opened`.

use super::args::DirArgs;
use super::output::Output;
use crate::config::Config;
use crate::consent;
use crate::sealed::{OpenedSum, Sealed, SumSecurity};
use serde::Serialize;
use std::fmt::Write;

#[derive(Serialize)]
struct Report {
    study: String,
    digest: String,
    state: String,
    security: Option<SumSecurity>,
    sums: Vec<OpenedSum>,
}

/// Prints every opened sum.
pub(super) fn run(args: &DirArgs, output: &Output) -> anyhow::Result<()> {
    let home = super::open(&args.dir)?;
    let config = Config::load(&home)?;
    let study = consent::signed_study(&config)?;
    let sealed = Sealed::open(&home)?;
    let state = sealed.state(&study.digest())?;
    let rounds = state.as_ref().map_or(0, |state| state.derived.applied());
    let report = Report {
        study: study.study().name.to_string(),
        digest: study.digest().to_hex(),
        state: state
            .as_ref()
            .map(|state| state.derived.digest().to_hex())
            .unwrap_or_default(),
        security: state.and_then(|state| state.security),
        sums: sealed.sums(study.first_round(), rounds)?,
    };
    output.say(&report, || text(&report))
}

fn text(report: &Report) -> String {
    let mut text = format!(
        "{} opened sums of study \"{}\"\n",
        report.sums.len(),
        report.study
    );
    for sum in &report.sums {
        let names: Vec<&str> = sum.contributors.iter().map(|name| name.as_str()).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "round {} attempt {} ({}): {} values over {}; largest remainder {} of {} allowed",
            sum.round,
            sum.attempt,
            sum.purpose.name(),
            sum.values.len(),
            names.join(", "),
            sum.max_noise,
            sum.noise_bound
        );
    }
    text.push_str("`--format json` prints the values.");
    text
}
