//! `party init`.

use super::args::InitArgs;
use super::output::Output;
use crate::home::{self, Home};
use crate::identity::Identity;
use anyhow::Context;
use serde::Serialize;
use std::path::PathBuf;

#[derive(Serialize)]
struct Made {
    name: String,
    card: PathBuf,
    config: PathBuf,
    fingerprint: String,
}

/// Makes a party.
pub(super) fn run(args: &InitArgs, output: &Output) -> anyhow::Result<()> {
    let home = Home::create(&args.dir)?;
    let sample = crate::config::sample(args.coordinator.as_deref(), args.data.as_deref());
    home::write_durably(&home.config(), sample.as_bytes())?;
    let identity = Identity::create(&home, args.name.clone()).context("the party's keys")?;
    let fingerprint = identity.card().certificate;
    let made = Made {
        name: args.name.to_string(),
        card: home.card(),
        config: home.config(),
        fingerprint: fingerprint.to_hex(),
    };
    output.say(made, || {
        format!(
            "Made party \"{name}\" in {dir}.\n\n\
             1. Send {card} to the study's operator (it holds no secret), with these lines for the study file:\n\n\
             [[party]]\nname = \"{name}\"\ntitle = {title}\nroles = [\"contributor\", \"custodian\", \"querier\"]\n\n\
             2. Tell the operator the certificate fingerprint by telephone:\n   {spoken}\n\n\
             3. Set `coordinator` and `data` in {config}.\n\n\
             4. Back up the keys in {keys}: party keys backup FILE --dir {dir}\n\n\
             Next, when the frozen study arrives: party study sign FILE --dir {dir}",
            name = args.name,
            dir = args.dir.display(),
            card = home.card().display(),
            title = toml::Value::from(args.title.as_str()),
            spoken = fingerprint.spoken(),
            config = home.config().display(),
            keys = home.keys().display(),
        )
    })
}
