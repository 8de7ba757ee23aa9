//! `party state export` and `party state import`.

use super::args::{StateExportArgs, StateImportArgs};
use super::output::Output;
use crate::backup::BackupError;
use crate::{PartyError, handover, home};
use galen_core::study::Card;
use serde::Serialize;
use std::path::PathBuf;

#[derive(Serialize)]
struct Exported {
    file: PathBuf,
    bytes: usize,
    to: String,
}

/// Seals the derived state for a hospital that joins.
pub(super) fn export(args: &StateExportArgs, output: &Output) -> anyhow::Result<()> {
    let home = super::open(&args.dir)?;
    if args.file.exists() {
        let path = args.file.clone();
        let what = "exists already";
        return Err(PartyError::from(BackupError::Occupied { path, what }).into());
    }
    let card: Card = galen_core::config::load(&args.to).map_err(PartyError::from)?;
    let bytes = handover::export(&home, &card)?;
    home::write_durably(&args.file, &bytes)?;
    let exported = Exported {
        file: args.file.clone(),
        bytes: bytes.len(),
        to: card.name.to_string(),
    };
    let text = format!(
        "Wrote {} ({} bytes), which only \"{}\" can read.\nNext, there: party state import FILE --dir DIR",
        args.file.display(),
        exported.bytes,
        exported.to
    );
    output.say(exported, || text)
}

#[derive(Serialize)]
struct Imported {
    rounds: u32,
    state: String,
}

/// Takes in the state that another member exported.
pub(super) fn import(args: &StateImportArgs, output: &Output) -> anyhow::Result<()> {
    let home = super::open(&args.dir)?;
    let state = handover::import(&home, &args.file)?;
    let imported = Imported {
        rounds: state.derived.applied(),
        state: state.derived.digest().to_hex(),
    };
    let text = format!(
        "Took in the state after {} rounds; it is the one that the study names.\nNext: party serve --dir {}",
        imported.rounds,
        args.dir.display()
    );
    output.say(imported, || text)
}
