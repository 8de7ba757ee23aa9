//! `party study sign`.

use super::args::SignArgs;
use super::output::{Output, complain};
use crate::PartyError;
use crate::config::Config;
use crate::consent;
use crate::data::Patients;
use crate::home::{self, Home};
use crate::identity::Identity;
use anyhow::Context;
use galen_core::study::{FrozenStudy, Role};
use serde::Serialize;
use std::path::PathBuf;

#[derive(Serialize)]
struct SignedStudy {
    study: String,
    digest: String,
    file: PathBuf,
    patients: Option<usize>,
}

/// Shows the study and signs it.
pub(super) fn sign(args: &SignArgs, output: &Output) -> anyhow::Result<()> {
    let home = Home::open(&args.dir)?;
    let config = Config::load(&home)?;
    let identity = Identity::load(&home)?;
    let text = home::read(&args.file)?;
    let study = FrozenStudy::load(&args.file).map_err(PartyError::from)?;
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
    let patients = check_table(&config, &study, &identity)?;
    complain(&consent::summary(&study, &identity.name));
    match patients {
        Some(count) => complain(&format!(
            "The table {} fits the study: {count} patients.",
            config.data.display()
        )),
        None => complain("The table was not checked; `party serve` checks it before anything else."),
    }
    if args.digest.is_none() && !args.yes {
        confirm()?;
    }
    consent::sign(&home, &config, &identity, &study, &text).context("signing the study")?;
    let signed = SignedStudy {
        study: study.study().name.to_string(),
        digest: study.digest().to_hex(),
        file: config.study.clone(),
        patients,
    };
    output.say(signed, || {
        format!(
            "Signed study \"{}\".\nNext: party serve --dir {}",
            study.study().name,
            args.dir.display()
        )
    })
}

/// A table that is there must fit; one that is not there yet may come later.
fn check_table(
    config: &Config,
    study: &FrozenStudy,
    identity: &Identity,
) -> Result<Option<usize>, PartyError> {
    if !study.study().has_role(&identity.name, Role::Contributor) || !config.data.exists() {
        return Ok(None);
    }
    let patients = Patients::load(&config.data, study.study(), &identity.name)?;
    Ok(Some(patients.train.len() + patients.held_out.len()))
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
