//! `coordinator study succeed`.

use super::output::Outcome;
use super::study::summary;
use crate::home::{self, Home};
use crate::succession;
use anyhow::{Context, bail, ensure};
use galen_core::PartyId;
use galen_core::study::{Card, Changes, Draft, Role, Study, StudyError};
use serde_json::json;
use std::fmt::Write;
use std::path::PathBuf;

pub(crate) const LONG: &str = "\
Drafts the successor of the study in a folder: the version under which hospitals join or leave between rounds. What is computed stays as it was; members, roles and the policy of the sums may change. The draft says what changes, and can be edited before it is frozen. Needs a folder whose daemon does not run, and in which no round is being opened; changes nothing there.

A hospital that lost its keys leaves and joins under a new name.

Example: coordinator study succeed --dir coordinator --remove zurich --add basel/card.toml --out successor.toml
Next:    coordinator study freeze successor.toml --dir coordinator; then every member compares the digest and signs";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The coordinator's folder.
    #[arg(long)]
    dir: PathBuf,
    /// File to write the draft to; an existing one is not overwritten.
    #[arg(long)]
    out: PathBuf,
    /// A member that leaves; once per member.
    #[arg(long, value_name = "NAME")]
    remove: Vec<PartyId>,
    /// Card of a hospital that joins; once per hospital.
    #[arg(long, value_name = "CARD")]
    add: Vec<PathBuf>,
    /// Roles of those that join, such as contributor,custodian: once for all, or once per --add in the same order.
    #[arg(long, value_name = "ROLES", default_value = "contributor,custodian,querier")]
    roles: Vec<String>,
    /// Another t: custodians that open together.
    #[arg(long)]
    threshold: Option<u32>,
    /// Another g: custodians that must agree.
    #[arg(long)]
    agreement: Option<u32>,
    /// Another smallest number of contributions.
    #[arg(long)]
    min_contributors: Option<u32>,
    /// Another quorum.
    #[arg(long)]
    quorum: Option<u32>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let home = Home::new(&args.dir);
    let config = home.config().context("run `coordinator init` first")?;
    ensure!(
        !args.out.exists(),
        "{} exists and is not overwritten",
        args.out.display()
    );
    let (old, standing) = succession::standing(&home, &config)?;
    let mut draft = Draft::of(&old, standing.rounds, standing.state);
    for name in &args.remove {
        ensure!(draft.remove(name), "\"{name}\" is no member of the study");
    }
    let roles = roles(args)?;
    for (card, roles) in args.add.iter().zip(roles) {
        let card: Card = galen_core::config::load(card)?;
        ensure!(
            draft.study.party.iter().all(|member| member.name != card.name),
            "\"{}\" is a member already; a hospital that lost its keys leaves, and joins under a new name",
            card.name
        );
        draft.add(card, String::new(), roles);
    }
    let sums = &mut draft.study.sums;
    for (value, given) in [
        (&mut sums.threshold, args.threshold),
        (&mut sums.agreement, args.agreement),
        (&mut sums.min_contributors, args.min_contributors),
        (&mut sums.quorum, args.quorum),
    ] {
        *value = given.unwrap_or(*value);
    }
    let frozen = match draft.clone().freeze(&old) {
        Err(error @ StudyError::Problems(_)) => {
            return Err(anyhow::Error::from(error).context(
                "no draft was written; --threshold, --agreement, --min-contributors and --quorum change the policy",
            ));
        }
        frozen => frozen?,
    };
    home::write_durably(&args.out, draft.to_toml()?.as_bytes())?;
    let (before, after) = (old.study(), frozen.study());
    let changes = Changes::between(before, after);
    let (costs, mut data) = summary(after)?;
    let mut text = format!(
        "Version {} of study \"{}\", after {} rounds of version {}\n",
        frozen.version(),
        after.name,
        standing.rounds,
        old.version()
    );
    // Writing to a string cannot fail.
    for (what, names) in [("leave", &changes.left), ("join", &changes.joined)] {
        if !names.is_empty() {
            let names: Vec<_> = names.iter().map(PartyId::as_str).collect();
            let _ = writeln!(text, "  {what:<8} {}", names.join(", "));
        }
    }
    for (what, study) in [("before", before), ("after", after)] {
        let _ = writeln!(text, "  {what:<8} {}", numbers(study));
    }
    let _ = write!(
        text,
        "{costs}\nWrote {}; it can be edited. Nothing else has changed.\nNext: coordinator study freeze {} --dir {}",
        args.out.display(),
        args.out.display(),
        args.dir.display()
    );
    data["version"] = json!(frozen.version());
    data["rounds_published"] = json!(standing.rounds);
    data["state"] = json!(standing.state);
    data["leave"] = json!(changes.left);
    data["join"] = json!(changes.joined);
    data["file"] = json!(args.out);
    Ok(Outcome { text, data })
}

/// The roles of each hospital that joins.
fn roles(args: &Args) -> anyhow::Result<Vec<Vec<Role>>> {
    let parsed: Vec<Vec<Role>> = args
        .roles
        .iter()
        .map(|text| parse(text))
        .collect::<Result<_, _>>()?;
    match parsed.as_slice() {
        [all] => Ok(vec![all.clone(); args.add.len()]),
        _ if parsed.len() == args.add.len() => Ok(parsed),
        _ => bail!(
            "--roles stands {} times and --add {} times",
            parsed.len(),
            args.add.len()
        ),
    }
}

fn parse(text: &str) -> anyhow::Result<Vec<Role>> {
    let role = |name: &str| match name.trim() {
        "contributor" => Ok(Role::Contributor),
        "custodian" => Ok(Role::Custodian),
        "querier" => Ok(Role::Querier),
        other => bail!("\"{other}\" is no role; there are contributor, custodian and querier"),
    };
    text.split(',').map(role).collect()
}

fn numbers(study: &Study) -> String {
    let (agreement, sums) = (study.agreement(), &study.sums);
    let f = agreement
        .tolerated_cheats()
        .map_or_else(|| "none".to_owned(), |f| f.to_string());
    format!(
        "{} members, n = {}, t = {}, g = {}, f = 2g - n - 1 = {f}, at least {} contributors, quorum {}",
        study.party.len(),
        agreement.custodians,
        sums.threshold,
        sums.agreement,
        sums.min_contributors,
        sums.quorum
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(roles: &[&str], added: usize) -> Args {
        Args {
            dir: "d".into(),
            out: "o".into(),
            remove: Vec::new(),
            add: vec!["c".into(); added],
            roles: roles.iter().map(|text| (*text).to_owned()).collect(),
            threshold: None,
            agreement: None,
            min_contributors: None,
            quorum: None,
        }
    }

    #[test]
    fn roles_are_given_once_for_all_or_for_each() {
        let both = vec![Role::Contributor, Role::Custodian];
        let all = roles(&args(&["contributor, custodian"], 2)).unwrap();
        assert_eq!(all, [both.clone(), both.clone()]);
        let each = roles(&args(&["contributor,custodian", "custodian"], 2)).unwrap();
        assert_eq!(each, [both, vec![Role::Custodian]]);
        assert!(roles(&args(&["contributor", "custodian"], 3)).is_err());
        assert!(roles(&args(&["director"], 1)).is_err());
        assert!(roles(&args(&["contributor"], 0)).unwrap().is_empty());
    }
}
