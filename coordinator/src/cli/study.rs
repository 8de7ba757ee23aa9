//! `coordinator study check` and `coordinator study freeze`.

use super::output::Outcome;
use crate::config::Config;
use crate::home::{self, Home};
use crate::succession;
use anyhow::{Context, bail};
use galen_core::study::{Card, Draft, FrozenStudy, Role, Server, Study, Written};
use galen_models::{Course, Layer, agenda};
use galen_sums::schedule::Schedule;
use galen_sums::{PieceTable, SumPlan};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::{Path, PathBuf};

pub(crate) const CHECK: &str = "\
Reads a study as its author wrote it, names everything that is wrong with it by field, and shows what follows from it: key pieces, rounds, encryption parameters and bytes per contribution. Needs no cards and changes nothing.

Example: coordinator study check study.toml";

pub(crate) const FREEZE: &str = "\
Joins a study with the public cards of the coordinator and of every party into one file, whose digest covers every byte that matters. The file goes into the coordinator's folder; send it to every hospital. Each hospital compares the digest with the others by telephone, and signs it with `party study sign`. Any later change of the file is noticed.

The draft of a successor (`coordinator study succeed`) has the cards in it. Freezing it closes the study in the folder, while the daemon does not run; the successor goes on from it when all its members have signed.

Example: coordinator study freeze study.toml --dir coordinator --card a/card.toml --card b/card.toml --card c/card.toml
Next:    coordinator serve --dir coordinator";

pub(crate) fn check(file: &Path) -> anyhow::Result<Outcome> {
    let written = Written::load(file)?;
    let study = written.study();
    let mut problems = study.check();
    if problems.is_empty() {
        problems = Course::check(study);
    }
    if !problems.is_empty() {
        let lines: Vec<_> = problems.iter().map(|p| format!("  {p}")).collect();
        bail!(
            "{}: the study has {} problem(s):\n{}",
            file.display(),
            problems.len(),
            lines.join("\n")
        );
    }
    let (mut text, mut data) = summary(study)?;
    if let Written::Successor(draft) = &written {
        let before = &draft.predecessor;
        let _ = write!(
            text,
            "\n  version {}, goes on from {} after {} rounds",
            before.version.saturating_add(1),
            before.study.short(),
            before.rounds
        );
        data["predecessor"] = json!(before);
    }
    Ok(Outcome { text, data })
}

pub(crate) fn freeze(file: &Path, dir: &Path, cards: &[PathBuf]) -> anyhow::Result<Outcome> {
    let home = Home::new(dir);
    let config = home.config().context("run `coordinator init` first")?;
    let study = match Written::load(file)? {
        Written::New(study) => study,
        Written::Successor(draft) if cards.is_empty() => {
            return freeze_successor(&home, &config, *draft, file);
        }
        Written::Successor(_) => {
            bail!("the draft of a successor has all cards in it; --card is for a new study")
        }
    };
    let target = home.study_path(&config);
    if target.exists() {
        bail!(
            "{} exists: a frozen study is never overwritten; use another folder for another study, and `coordinator study succeed` for a \
             successor of this one",
            target.display()
        );
    }
    let cards: Vec<Card> = cards
        .iter()
        .map(|card| galen_core::config::load(card))
        .collect::<Result<_, _>>()?;
    let frozen =
        FrozenStudy::freeze(study, home.card()?, cards).with_context(|| file.display().to_string())?;
    // What can be frozen but not computed is refused before it is written.
    Course::of(frozen.study()).with_context(|| file.display().to_string())?;
    home::write_durably(&target, frozen.to_toml()?.as_bytes())?;
    frozen_outcome(&frozen, &target, String::new())
}

/// Freezes a successor of the study in the folder and goes over to it.
fn freeze_successor(home: &Home, config: &Config, draft: Draft, file: &Path) -> anyhow::Result<Outcome> {
    let (old, _) = succession::standing(home, config)?;
    let frozen = draft.freeze(&old).with_context(|| file.display().to_string())?;
    succession::adopt(home, config, &frozen)?;
    let closed = format!(
        "Version {} ({}) is closed: succeeded by version {}.\n",
        old.version(),
        old.digest().short(),
        frozen.version()
    );
    frozen_outcome(&frozen, &home.study_path(config), closed)
}

fn frozen_outcome(frozen: &FrozenStudy, target: &Path, closed: String) -> anyhow::Result<Outcome> {
    let (summary, mut data) = summary(frozen.study())?;
    let text = format!(
        "{summary}\n{closed}Frozen as {}\nDigest, to compare by telephone:\n  {}\nSend the file to every hospital; each runs: party study sign FILE --dir DIR",
        target.display(),
        frozen.digest().spoken()
    );
    data["digest"] = json!(frozen.digest());
    data["version"] = json!(frozen.version());
    data["file"] = json!(target);
    Ok(Outcome { text, data })
}

pub(crate) fn summary(study: &Study) -> anyhow::Result<(String, Value)> {
    let custodians = study.with_role(Role::Custodian).len();
    let contributors = study.with_role(Role::Contributor).len();
    let sums = &study.sums;
    let pieces = PieceTable::new(custodians, sums.threshold as usize)?.len();
    let course = Course::of(study)?;
    let spec = course.network();
    let agreement = study.agreement();
    let warning = agreement
        .warning()
        .map(|warning| format!("  {warning}\n"))
        .unwrap_or_default();
    let mut text = format!(
        "{}\n  {contributors} contributors, {custodians} custodians, of whom any {} open and {} must endorse; keys in {pieces} pieces\n  {agreement}\n{warning}{}  model: {} inputs, {}, {} parameters{}\n",
        study.title,
        sums.threshold,
        sums.agreement,
        images(study),
        spec.inputs(),
        if study.model.layers.is_empty() {
            format!("widths {:?}", study.model.hidden)
        } else {
            let layers: Vec<_> = spec.layers.iter().map(Layer::name).collect();
            layers.join(" > ")
        },
        spec.parameter_count(),
        match spec.parameter_count() - course.sharing().count() {
            0 => String::new(),
            private => format!(", of which {private} stay at each hospital"),
        },
    );
    describe(&mut text, study);
    let schedule = Schedule::new(agenda::schedule_shapes(study)?, sums.max_attempts);
    let mut rounds = Vec::new();
    let training = study.training_rounds();
    let numbers = [0, 1, training.saturating_add(1)];
    for number in numbers {
        let inputs = schedule.inputs_for(contributors, custodians, sums.threshold as usize, number);
        let (Some(shape), Some(inputs)) = (agenda::shape(study, number)?, inputs) else {
            continue;
        };
        let plan = SumPlan::new(&inputs)?;
        let times = if number == 1 { training } else { 1 };
        let _ = writeln!(
            text,
            "  {times:>3} x {:<11} {} values, {} bytes each contribution ({:.2} per value when full), N = {}, log2 Q = {:.1} (bound {} for 128 bits)",
            shape.purpose.name(),
            shape.values,
            plan.blob_len(),
            plan.bytes_per_value(),
            plan.degree,
            plan.log2_q(),
            plan.security_bound(),
        );
        rounds.push(json!({
            "purpose": shape.purpose.name(), "rounds": times, "values": shape.values, "bytes": plan.blob_len(),
            "n": plan.degree, "log2_q": plan.log2_q(), "bound": plan.security_bound(),
        }));
    }
    let data = json!({
        "title": study.title, "input": study.data.input(), "custodians": custodians, "threshold": sums.threshold, "agreement": sums.agreement,
        "tolerated_cheats": agreement.tolerated_cheats(), "enough": agreement.is_enough(), "pieces": pieces, "parameters": spec.parameter_count(),
        "shared_parameters": course.sharing().count(), "rounds": rounds,
    });
    Ok((text.trim_end().to_owned(), data))
}

/// What images a study is on; nothing for one on tables.
fn images(study: &Study) -> String {
    let data = &study.data;
    let (Some(samples), Some([negative, positive])) = (&data.samples, data.class_names()) else {
        return String::new();
    };
    let [min, max] = data.value_range();
    format!(
        "  data: images of {} (channels, height, width) with values from {min} to {max}, class 0 \"{negative}\", class 1 \"{positive}\"\n",
        samples.input
    )
}

/// How hospitals train, where that is more than the simple plan.
fn describe(text: &mut String, study: &Study) {
    let plan = &study.training;
    if let Some(recipe) = &plan.recipe {
        let stages = recipe.stages.iter().map(|s| format!("{} ({})", s.name, s.epochs));
        let stages: Vec<_> = stages.collect();
        let _ = writeln!(
            text,
            "  stages, in rounds (local epochs in each: {}): {}",
            plan.local_epochs,
            stages.join(", ")
        );
    }
    if plan.proximal > 0.0 {
        let _ = writeln!(
            text,
            "  hospitals are held to the model by a proximal term, mu = {}",
            plan.proximal
        );
    }
    match plan.server {
        Server::Average => {}
        Server::Momentum {
            learning_rate,
            momentum,
        } => {
            let _ = writeln!(
                text,
                "  the average moves the model with momentum {momentum}, learning rate {learning_rate}"
            );
        }
        Server::Adam { learning_rate, .. } => {
            let _ = writeln!(
                text,
                "  the average moves the model by Adam, learning rate {learning_rate}"
            );
        }
    }
}
