//! `party study sign`.

use super::args::SignArgs;
use super::output::{Output, complain};
use crate::PartyError;
use crate::config::Config;
use crate::consent;
use crate::data::Patients;
use crate::handover;
use crate::home::Home;
use crate::identity::Identity;
use crate::sealed::Sealed;
use crate::succession;
use anyhow::Context;
use galen_core::study::{FrozenStudy, Role, StudyError};
use galen_models::Course;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Serialize)]
struct SignedStudy {
    study: String,
    digest: String,
    version: u32,
    /// Whether the derived state has to be imported first.
    needs_state: bool,
    file: PathBuf,
    patients: Option<usize>,
    /// Patients of class 0 and of class 1.
    classes: Option<[usize; 2]>,
}

/// Shows the study and signs it.
pub(super) fn sign(args: &SignArgs, output: &Output) -> anyhow::Result<()> {
    let home = super::open(&args.dir)?;
    let config = Config::load(&home)?;
    let identity = Identity::load(&home)?;
    let text = std::fs::read_to_string(&args.file).map_err(PartyError::file(&args.file))?;
    let study = FrozenStudy::parse(&args.file, &text).map_err(PartyError::from)?;
    let problems = Course::check(study.study());
    if !problems.is_empty() {
        return Err(PartyError::from(StudyError::Problems(problems)).into());
    }
    let old = predecessor(&home, &config, &study)?;
    identity.check_member(&study)?;
    if let Some(expected) = args.digest
        && expected != study.digest()
    {
        return Err(PartyError::Consent(format!(
            "this study has digest {}, --digest says {expected}: it is not the one that was compared",
            study.digest()
        ))
        .into());
    }
    let contributor = study.study().has_role(&identity.name, Role::Contributor);
    let classes = check_data(&config, &study, &identity)?;
    let patients = classes.map(|classes| classes.iter().sum());
    complain(&consent::summary(&study, &identity.name));
    complain(&checked(&config, &study, classes));
    if let Some(old) = &old {
        complain(&consent::changes(old, &study));
    }
    if args.digest.is_none() && !args.yes {
        confirm()?;
    }
    match old {
        Some(_) => succession::sign(&home, &config, &Arc::new(identity), &study, &text),
        None => consent::sign(&home, &config, &identity, &study, text.as_bytes()),
    }
    .context("signing the study")?;
    let needs_state = needs_state(&home, &study, contributor)?;
    let signed = SignedStudy {
        study: study.study().name.to_string(),
        digest: study.digest().to_hex(),
        version: study.version(),
        needs_state,
        file: config.study.clone(),
        patients,
        classes,
    };
    output.say(signed, || {
        let (dir, name) = (args.dir.display(), &study.study().name);
        let next = if needs_state {
            format!(
                "another member runs `party state export FILE --to CARD` with this party's card; then: party state import FILE --dir {dir}"
            )
        } else {
            format!("party serve --dir {dir}")
        };
        format!("Signed study \"{name}\", version {}.\nNext: {next}", study.version())
    })
}

/// The study that is signed here, if this one is its successor.
fn predecessor(home: &Home, config: &Config, study: &FrozenStudy) -> Result<Option<FrozenStudy>, PartyError> {
    if !home.consent().exists() || !config.study.exists() {
        return Ok(None);
    }
    let signed = consent::signed_study(config)?;
    Ok(succession::follows(&signed, study).then_some(signed))
}

/// Whether another member must hand over the derived state before this party can take part.
fn needs_state(home: &Home, study: &FrozenStudy, contributor: bool) -> Result<bool, PartyError> {
    let state = match Sealed::open(home) {
        Ok(sealed) => sealed.state(&study.digest())?,
        Err(PartyError::NotYet(_)) => None,
        Err(error) => return Err(error),
    };
    Ok(handover::is_needed(study, contributor, state.as_ref()))
}

/// Data that are there must fit; those that are not there yet may come later. Patients of class 0 and of class 1.
fn check_data(
    config: &Config,
    study: &FrozenStudy,
    identity: &Identity,
) -> Result<Option<[usize; 2]>, PartyError> {
    if !study.study().has_role(&identity.name, Role::Contributor) || !config.data.exists() {
        return Ok(None);
    }
    let patients = Patients::load(&config.data, study.study(), &identity.name)?;
    Ok(Some(patients.classes()))
}

/// What the check has found, for the person who decides.
fn checked(config: &Config, study: &FrozenStudy, classes: Option<[usize; 2]>) -> String {
    let names = study.study().data.class_names();
    let what = if names.is_some() { "images" } else { "table" };
    let (Some([negative, positive]), data) = (classes, config.data.display()) else {
        let pronoun = if names.is_some() { "them" } else { "it" };
        let verb = if names.is_some() { "were" } else { "was" };
        return format!(
            "The {what} {verb} not checked; `party serve` checks {pronoun} before anything else."
        );
    };
    let count = negative + positive;
    match names {
        None => format!("The {what} {data} fits the study: {count} patients."),
        Some([no, yes]) => format!(
            "The {what} in {data} fit the study: {count} samples, {negative} of class 0 ({no:?}) and {positive} of class 1 ({yes:?})."
        ),
    }
}

fn confirm() -> Result<(), PartyError> {
    complain("Has the digest been compared with the other parties, and shall this be signed? Type yes:");
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    if read.is_ok() && answer.trim().eq_ignore_ascii_case("yes") {
        return Ok(());
    }
    Err(PartyError::Consent("not signed: nobody said yes".into()))
}
