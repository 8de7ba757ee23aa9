//! `party model export`.

use super::args::ExportArgs;
use super::output::Output;
use crate::PartyError;
use crate::config::Config;
use crate::consent;
use crate::home;
use crate::sealed::Sealed;
use serde::Serialize;
use std::path::PathBuf;

#[derive(Serialize)]
struct Exported {
    model: String,
    parameters: usize,
    file: PathBuf,
}

/// Writes the trained model to a file.
pub(super) fn export(args: &ExportArgs, output: &Output) -> anyhow::Result<()> {
    let home = super::open(&args.dir)?;
    let config = Config::load(&home)?;
    let study = consent::signed_study(&config)?;
    let state = Sealed::open(&home)?.state(&study.digest())?;
    let model = state.and_then(|state| state.derived.trained(study.study()).ok());
    let model = model.ok_or_else(|| PartyError::NotYet("the model is not trained yet".into()))?;
    if args.out.exists() {
        return Err(PartyError::File {
            path: args.out.clone(),
            source: std::io::Error::new(
                std::io::ErrorKind::AlreadyExists,
                "exists already and is not overwritten",
            ),
        }
        .into());
    }
    home::write_durably(&args.out, &model.to_safetensors()?)?;
    let exported = Exported {
        model: model.digest().to_hex(),
        parameters: model.params().len(),
        file: args.out.clone(),
    };
    let text = format!(
        "Wrote {} parameters of model {} to {}.",
        exported.parameters,
        exported.model,
        args.out.display()
    );
    output.say(exported, || text)
}
