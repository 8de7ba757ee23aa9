//! `party data`: data sets checked, described and divided.

use super::args::{DescribeArgs, Division, SplitArgs};
use super::output::Output;
use crate::PartyError;
use galen_core::config;
use galen_data::{ClassCount, Dataset, Format, Limits, Schema, partition, write_parts};
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

/// Prints what a data set holds.
pub(super) fn describe(args: &DescribeArgs, output: &Output) -> anyhow::Result<()> {
    let schema: Schema = config::load(&args.schema).map_err(PartyError::from)?;
    let data = galen_data::load(&args.data, args.stored_as, &schema, &Limits::default())
        .map_err(PartyError::from)?;
    let description = data.describe();
    let text = description.to_string();
    output.say(description, || text)
}

/// A hospital's file.
#[derive(Debug, Serialize)]
struct Site {
    name: String,
    file: PathBuf,
    samples: u64,
    /// Per class, its samples; empty for a regression.
    classes: Vec<ClassCount>,
}

#[derive(Debug, Serialize)]
struct Sites {
    sites: Vec<Site>,
}

/// Divides a table among hospitals and says what each of them has.
pub(super) fn split(args: &SplitArgs, output: &Output) -> anyhow::Result<()> {
    let schema: Schema = config::load(&args.schema).map_err(PartyError::from)?;
    let limits = Limits::default();
    let data = galen_data::load(&args.data, Some(Format::Csv), &schema, &limits).map_err(PartyError::from)?;
    let refused = |error: partition::PartitionError| PartyError::Model {
        path: args.data.clone(),
        problem: error.to_string(),
    };
    let parts = divide(args, &data).map_err(refused)?;
    let written = write_parts(&args.data, &parts, &args.out, &limits).map_err(PartyError::from)?;
    let sites = written.into_iter().zip(&parts).map(|(written, (_, samples))| {
        let description = data.select(samples).describe();
        Site {
            name: written.name,
            file: written.file,
            samples: description.samples,
            classes: description.classes,
        }
    });
    let sites = Sites {
        sites: sites.collect(),
    };
    let text = text(&sites);
    output.say(sites, || text)
}

fn divide(args: &SplitArgs, data: &Dataset) -> Result<Vec<(String, Vec<usize>)>, partition::PartitionError> {
    let hospitals = args.hospitals.unwrap_or_default();
    let numbered = |parts: Vec<Vec<usize>>| {
        let name = |number: usize| format!("hospital-{}", number + 1);
        parts
            .into_iter()
            .enumerate()
            .map(|(number, part)| (name(number), part))
            .collect()
    };
    match args.by {
        Division::Site => partition::by_site(data),
        Division::Even => partition::even(data, hospitals, args.seed).map(numbered),
        Division::Dirichlet => {
            let alpha = args.alpha.unwrap_or_default();
            partition::dirichlet(data, hospitals, alpha, args.seed).map(numbered)
        }
    }
}

fn text(sites: &Sites) -> String {
    let mut text = String::new();
    for site in &sites.sites {
        let classes = site.classes.iter().map(|c| format!("{} {}", c.samples, c.name));
        let classes: Vec<_> = classes.collect();
        let _ = writeln!(
            text,
            "{}: {} samples ({}) in {}",
            site.name,
            site.samples,
            classes.join(", "),
            site.file.display()
        );
    }
    text.trim_end().to_owned()
}
