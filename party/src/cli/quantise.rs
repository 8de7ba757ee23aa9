//! `party model quantise`: a trained network or trees on integers, for exact evaluation.

use super::args::QuantiseArgs;
use super::model::{has_extension, load, new_file, problem_with, read};
use super::output::Output;
use crate::PartyError;
use crate::home;
use crate::query::Samples;
use crate::query::cohort::Cohort;
use galen_core::{Digest, config};
use galen_data::Schema;
use galen_exact::{
    Forest, Interface, MAX_PATIENTS, Outcome, Plan, Precision, Quantised, Reveal, Timing, quantise, spiking,
};
use galen_models::{ModelFile, Subject};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;

/// Bits of a score of trees: fine enough for leaves of a thousandth of the range.
const TREE_BITS: u32 = 11;

/// What came of it.
#[derive(Serialize)]
struct Made {
    /// Digest of network and weights, or of the trees.
    model: Digest,
    file: PathBuf,
    /// Patients of the calibration, and how many of them are given the label that the network gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<Agreement>,
    /// What may be revealed, the least first, and what that costs.
    plans: Vec<(&'static str, Plan)>,
}

#[derive(Serialize)]
struct Agreement {
    patients: usize,
    equal: usize,
}

/// Makes the file of a quantised model.
pub(super) fn run(args: &QuantiseArgs, output: &Output) -> anyhow::Result<()> {
    new_file(&args.out)?;
    let trees = has_extension(&args.file, "json");
    let Quantisation {
        subject,
        quantised,
        labels,
    } = if trees { forest(args) } else { network(args) }?;
    let (mut reveals, mut plans, mut refused) = (Vec::new(), Vec::new(), None);
    for reveal in [Reveal::Label, Reveal::Scores] {
        // Of many classes, a label can ask for more than parameters carry, where scores do not.
        match quantised.program(reveal) {
            Ok(program) => {
                reveals.push(reveal);
                plans.push((reveal.name(), program.plan().clone()));
            }
            Err(error) => refused = Some(error),
        }
    }
    if let (true, Some(error)) = (reveals.is_empty(), refused) {
        return Err(problem_with(&args.file)(error).into());
    }
    let model = subject.model;
    let interface = Interface::new(subject, quantised, reveals, MAX_PATIENTS);
    let interface = interface.map_err(problem_with(&args.file))?;
    home::write_durably(&args.out, &interface.to_bytes()?)?;
    let made = Made {
        model,
        file: args.out.clone(),
        labels,
        plans,
    };
    let text = made.to_string();
    output.say(made, || text)
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Agreement { patients, equal }) = self.labels {
            writeln!(
                f,
                "labels         {equal} of {patients} calibration patients are given the label of the network"
            )?;
        }
        for (reveal, plan) in &self.plans {
            writeln!(f, "reveal         {reveal}\n{plan}")?;
        }
        write!(f, "Wrote {}.", self.file.display())
    }
}

/// A model on integers.
struct Quantisation {
    subject: Subject,
    quantised: Quantised,
    labels: Option<Agreement>,
}

/// A network, by patients.
fn network(args: &QuantiseArgs) -> Result<Quantisation, PartyError> {
    let path = args.file.as_path();
    let file: ModelFile = load(&args.file)?;
    let subject = Subject::of(&file.model, &file.annotations);
    let Some(data) = &args.data else {
        return Err(PartyError::NotYet(
            "name patients that show how values are distributed: --data, and --schema for a table; without patients, \
             `coordinator model add --engine tfhe` quantises by the ranges that the file records"
                .into(),
        ));
    };
    let samples = Samples {
        data: data.clone(),
        schema: args.schema.clone(),
        stored_as: args.stored_as,
    };
    let cohort = Cohort::load(&samples, &subject, None, false)?;
    let rows = cohort.rows(0, args.rows as usize);
    let quantised = match args.spiking {
        Some(steps) => {
            let timing = Timing {
                steps: steps as usize,
                threshold_bits: args.threshold_bits,
                score_bits: args.score_bits,
            };
            spiking(&file.model, &rows, timing).map_err(problem_with(path))?
        }
        None => {
            let precision = Precision {
                table_bits: args.table_bits,
                score_bits: args.score_bits,
                ..Precision::ALL[0]
            };
            quantise(&file.model, &rows, precision).map_err(problem_with(path))?
        }
    };
    let outputs = file.model.forward(&rows).map_err(problem_with(path))?;
    let mut equal = 0;
    for (row, outputs) in rows.iter().zip(outputs.rows()) {
        let label = quantised
            .evaluate(Reveal::Label, row)
            .map_err(problem_with(path))?;
        equal += usize::from(label == Outcome::Label(best(outputs)));
    }
    let patients = rows.len();
    Ok(Quantisation {
        subject,
        quantised,
        labels: Some(Agreement { patients, equal }),
    })
}

/// The first of the largest outputs; of a single one, whether it is at least 0.
fn best(outputs: &[f64]) -> usize {
    match outputs {
        [logit] => usize::from(*logit >= 0.0),
        _ => {
            let places = outputs.iter().enumerate().rev();
            places
                .max_by(|a, b| a.1.total_cmp(b.1))
                .map_or(0, |(best, _)| best)
        }
    }
}

/// Trees, whose comparisons are kept as they are.
fn forest(args: &QuantiseArgs) -> Result<Quantisation, PartyError> {
    let Some(path) = &args.schema else {
        return Err(PartyError::NotYet(
            "trees need a schema that names their features in order, and the classes: --schema".into(),
        ));
    };
    let schema: Schema = config::load(path)?;
    schema.check().map_err(problem_with(path))?;
    let names: Vec<String> = (0..schema.input.len())
        .map(|input| schema.element(input))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let dump = read(&args.file)?;
    let text = std::str::from_utf8(&dump).map_err(problem_with(&args.file))?;
    let forest = Forest::from_xgboost(text, &names, schema.target.outputs(), args.base_margin)
        .map_err(problem_with(&args.file))?;
    let subject = Subject {
        model: Digest::of(&dump),
        title: String::new(),
        classes: schema
            .target
            .classes()
            .iter()
            .map(|class| class.name.clone())
            .collect(),
        input: schema.input,
        standardisation: None,
    };
    Ok(Quantisation {
        subject,
        quantised: forest.quantise(TREE_BITS).map_err(problem_with(&args.file))?,
        labels: None,
    })
}
