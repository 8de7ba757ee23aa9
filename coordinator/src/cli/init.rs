//! `coordinator init`.

use super::output::Outcome;
use crate::home::Home;
use serde_json::json;
use std::path::Path;

pub(crate) const LONG: &str = "\
Makes a coordinator's folder: a TLS identity, a signing key (both stay in the folder, readable by you only), a commented config.toml, and card.toml, the public half that the frozen study will hold. Nothing is overwritten.

Example: coordinator init --dir coordinator
Next:    collect the hospitals' card.toml files, then `coordinator study freeze`.";

pub(crate) fn run(dir: &Path) -> anyhow::Result<Outcome> {
    let (home, card) = Home::init(dir)?;
    let text = format!(
        "Made {}.\nCertificate fingerprint: {}\nLook at {}, then collect the hospitals' cards and freeze the study:\n  coordinator study freeze study.toml --dir {} --card HOSPITAL/card.toml ...",
        dir.display(),
        card.certificate.spoken(),
        home.config_path().display(),
        dir.display()
    );
    Ok(Outcome {
        text,
        data: json!({ "dir": dir, "card": home.card_path(), "certificate": card.certificate }),
    })
}
