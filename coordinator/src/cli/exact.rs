//! `coordinator model plan` and `add` for quantised models.

use super::output::Outcome;
use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use galen_exact::{
    CompileError, Interface, InterfaceError, MAX_PATIENTS, Plan, Precision, QuantiseError, QuantisedError,
    Reveal, quantise_recorded, seconds_per_patient,
};
use galen_models::{ModelFile, Subject};
use galen_rns::threads;
use serde_json::json;
use std::fmt::Write;
use std::sync::Arc;

/// A query should take no longer than this, so that nobody waits long for another hospital's.
const TURN_SECONDS: f64 = 30.0;

/// What a quantised model is to answer.
#[derive(Args)]
pub(crate) struct ExactArgs {
    /// Under TFHE: what answers may reveal, for hospitals to choose from, the usual first [default: label, or scores if the file has no label].
    #[arg(long, value_enum)]
    reveal: Vec<Revealed>,
    /// Under TFHE: the score from which a decision is yes.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    threshold: f64,
    /// Under TFHE: most patients of a query [default: as many as take half a minute here].
    #[arg(long, value_name = "PATIENTS", value_parser = clap::value_parser!(u32).range(1..=MAX_PATIENTS as i64))]
    max_patients: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Revealed {
    /// All scores.
    Scores,
    /// The most likely class.
    Label,
    /// Whether the score reaches the threshold.
    Decision,
}

/// A quantised model with what its programs cost here.
pub(super) struct Planned {
    pub(super) interface: Interface,
    /// For each thing that may be revealed, the plan and seconds for a patient.
    programs: Vec<(Reveal, Plan, f64)>,
}

/// Plans what `party model quantise` wrote.
pub(super) fn read(bytes: &[u8], args: &ExactArgs) -> anyhow::Result<Planned> {
    plan(Interface::from_bytes(bytes)?, args)
}

/// Quantises a network by the ranges of its inputs, and plans it.
pub(super) fn quantise(file: &ModelFile, args: &ExactArgs) -> anyhow::Result<Planned> {
    let ranges = file.annotations.input_ranges(file.model.spec()).context(
        "the file does not say where the inputs lie: have it written by `party train`, or quantise it by patients with \
         `party model quantise`",
    )?;
    let quantised = quantise_recorded(&file.model, &ranges, Precision::ALL[0])?;
    let subject = Subject::of(&file.model, &file.annotations);
    let interface = Interface::new(subject, quantised, vec![Reveal::Label], MAX_PATIENTS)?;
    plan(interface, args)
}

fn plan(interface: Interface, args: &ExactArgs) -> anyhow::Result<Planned> {
    ensure!(args.threshold.is_finite(), "--threshold must be a finite number");
    let threshold = interface.quantised().units(args.threshold);
    let reveal = |revealed: &Revealed| match revealed {
        Revealed::Scores => Reveal::Scores,
        Revealed::Label => Reveal::Label,
        Revealed::Decision => Reveal::Decision { threshold },
    };
    let reveals = match args.reveal.as_slice() {
        // The file names all that can be computed, the least first.
        [] => interface.reveals().iter().copied().take(1).collect(),
        given => given.iter().map(reveal).collect(),
    };
    let most = args
        .max_patients
        .map_or(interface.max_patients(), |most| most as usize);
    let interface = interface.offering(reveals, most)?;
    let mut programs = Vec::new();
    for &reveal in interface.reveals() {
        let program = Arc::new(interface.program(reveal)?);
        let seconds = seconds_per_patient(&program)?;
        programs.push((reveal, program.plan().clone(), seconds));
    }
    let slowest = programs
        .iter()
        .map(|(_, _, seconds)| *seconds)
        .fold(0.0, f64::max);
    let turn = (TURN_SECONDS / slowest.max(1e-6)).clamp(1.0, MAX_PATIENTS as f64) as usize;
    let interface = match args.max_patients {
        Some(_) => interface,
        None => {
            let reveals = interface.reveals().to_vec();
            let most = interface.max_patients().min(turn);
            interface.offering(reveals, most)?
        }
    };
    Ok(Planned { interface, programs })
}

impl Planned {
    /// Milliseconds for a patient, whatever is revealed.
    pub(super) fn patient_ms(&self) -> u64 {
        let slowest = self.programs.iter().map(|(_, _, seconds)| *seconds);
        (slowest.fold(0.0, f64::max) * 1000.0).ceil() as u64
    }

    pub(super) fn outcome(&self) -> Outcome {
        let mut text = String::new();
        let mut plans = Vec::new();
        for (reveal, plan, seconds) in &self.programs {
            let _ = writeln!(text, "reveal         {}", reveal.name());
            let _ = writeln!(text, "{plan}");
            let _ = writeln!(
                text,
                "time           about {seconds:.2} s for one of many patients on {} threads",
                threads::current()
            );
            plans.push(json!({ "reveal": reveal.name(), "plan": plan, "seconds_per_patient": seconds }));
        }
        let most = self.interface.max_patients();
        let _ = write!(text, "patients       {most} in a query at most");
        Outcome {
            text,
            data: json!({ "engine": "tfhe", "programs": plans, "max_patients": most }),
        }
    }
}

/// What is wrong with a model, for the code of an error.
pub(super) fn is_model_error(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.is::<CompileError>()
        || cause.is::<InterfaceError>()
        || cause.is::<QuantiseError>()
        || cause.is::<QuantisedError>()
}
