//! `party keys backup`, `party keys verify` and `party keys restore`.

use super::args::{BackupArgs, KeysVerifyArgs, RestoreArgs};
use super::output::Output;
use super::passphrase;
use crate::PartyError;
use crate::backup::{Backup, BackupError, Contents};
use crate::home;
use crate::identity::Identity;
use anyhow::Context;
use galen_core::study::FrozenStudy;
use galen_core::{Clock, SystemClock};
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

#[derive(Serialize)]
struct Written {
    file: PathBuf,
    bytes: usize,
    #[serde(flatten)]
    contents: Contents,
}

/// Writes a backup.
pub(super) fn backup(args: &BackupArgs, output: &Output) -> anyhow::Result<()> {
    let home = super::open(&args.dir)?;
    if args.file.exists() {
        let path = args.file.clone();
        let what = "exists already";
        return Err(PartyError::from(BackupError::Occupied { path, what }).into());
    }
    let backup = Backup::collect(&home, SystemClock.now_ms()).context("collecting the backup")?;
    let passphrase = passphrase::read(&args.passphrase, true)?;
    let bytes = backup.seal(&passphrase)?;
    home::write_durably(&args.file, &bytes)?;
    // What cannot be read back is no backup.
    let contents = Backup::open(&args.file, &passphrase)?.contents()?;
    let written = Written {
        file: args.file.clone(),
        bytes: bytes.len(),
        contents,
    };
    output.say(&written, || {
        format!(
            "Wrote {} ({} bytes) and read it back.\n{}\nIt holds no one-round key, no patient and nothing that was opened.\n\
             Keep it elsewhere than this machine, and the passphrase elsewhere than the file.",
            written.file.display(),
            written.bytes,
            describe(&written.contents)
        )
    })
}

#[derive(Serialize)]
struct Verified {
    #[serde(flatten)]
    contents: Contents,
    /// What else the keys were compared with: the party in a folder, the card in a study.
    matches: Vec<&'static str>,
}

/// Says what is in a backup.
pub(super) fn verify(args: &KeysVerifyArgs, output: &Output) -> anyhow::Result<()> {
    // What it is compared with is read first: a folder that is none needs no passphrase to be told.
    let identity = match &args.dir {
        Some(dir) => Some(Identity::load(&super::open(dir)?)?),
        None => None,
    };
    let study = match &args.study {
        Some(path) => Some(FrozenStudy::load(path).map_err(PartyError::from)?),
        None => None,
    };
    let backup = Backup::open(&args.file, &passphrase::read(&args.passphrase, false)?)?;
    let mut matches = vec!["card"];
    let contents = backup.contents()?;
    if contents.study.is_some() {
        matches.push("signed study");
    }
    if let Some(identity) = identity {
        backup.check_is(&identity.card())?;
        matches.push("party in the folder");
    }
    if let Some(study) = study {
        backup.check_member(&study)?;
        matches.push("given study");
    }
    let verified = Verified { contents, matches };
    output.say(&verified, || {
        format!(
            "{}\n  keys match   {}\nNothing was written.",
            describe(&verified.contents),
            verified.matches.join(", ")
        )
    })
}

#[derive(Serialize)]
struct RestoredParty {
    dir: PathBuf,
    #[serde(flatten)]
    contents: Contents,
}

/// Makes a party from a backup.
pub(super) fn restore(args: &RestoreArgs, output: &Output) -> anyhow::Result<()> {
    let backup = Backup::open(&args.file, &passphrase::read(&args.passphrase, false)?)?;
    let home = backup
        .restore(&args.dir, SystemClock.now_ms())
        .context("restoring the party")?;
    // What was written is read back as the daemon will read it.
    Identity::load(&home)?;
    let restored = RestoredParty {
        dir: args.dir.clone(),
        contents: backup.contents()?,
    };
    output.say(&restored, || {
        let next = if restored.contents.study.is_some() {
            "party serve"
        } else {
            "party study sign FILE"
        };
        format!(
            "{}\nRestored in {dir} and marked as restored. No other machine may serve as this party any more.\n\
             Next: put the hospital's table where {config} says, then: {next} --dir {dir}",
            describe(&restored.contents),
            dir = args.dir.display(),
            config = home.config().display(),
        )
    })
}

fn describe(contents: &Contents) -> String {
    let mut text = format!("Backup of party \"{}\"\n", contents.party);
    // Writing to a string cannot fail.
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<12} {value}");
    };
    line("certificate", contents.certificate.spoken());
    line("made", galen_core::clock::utc(contents.made_ms));
    line("keys", contents.keys.join(", "));
    match &contents.study {
        Some(study) => line(
            "study",
            format!("\"{}\", digest {}", study.name, study.digest.spoken()),
        ),
        None => line("study", "none was signed".into()),
    }
    match (contents.applied, contents.state) {
        (Some(applied), Some(state)) => line(
            "state",
            format!("{} after {applied} rounds (its digest only)", state.short()),
        ),
        _ => line("state", "nothing had been derived".into()),
    }
    text.trim_end().to_owned()
}
