//! Strategies of federated training against each other, on the four hospitals of the heart study.
//!
//! `cargo run --release -p galen-training --example strategies -- FOLDER [SEEDS]`, where FOLDER is `configs/studies/heart`.
//!
//! The network is that of `personal.toml`: a dense layer of eight, batch normalisation, a trained quadratic per channel, and an output. It is trained in one
//! stage of 20 rounds of two local epochs. A seed fixes which patients are held out, the first weights and the orders. Prints for every variant mean and
//! standard deviation over the seeds of the AUC over all held-out patients together, each scored by its hospital's model, and of the mean of
//! the hospitals' own AUCs.

#![allow(clippy::print_stdout)]

use galen_core::config;
use galen_core::recipe::{Activations, Stage};
use galen_core::study::{Server, Study};
use galen_models::metrics;
use galen_training::Device;
use galen_training::baseline::{self, Federated, Hospital};
use std::error::Error;
use std::path::{Path, PathBuf};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const MOMENTUM: Server = Server::Momentum {
    learning_rate: 1.0,
    momentum: 0.5,
};
const ADAM: Server = Server::Adam {
    learning_rate: 0.03,
    beta1: 0.9,
    beta2: 0.99,
    tau: 1e-3,
};

/// A name, the server strategy, mu, and what is private.
const VARIANTS: [(&str, Server, f64, &[&str]); 8] = [
    ("FedAvg", Server::Average, 0.0, &[]),
    ("FedProx, mu = 0.01", Server::Average, 0.01, &[]),
    ("FedProx, mu = 0.1", Server::Average, 0.1, &[]),
    ("FedProx, mu = 1", Server::Average, 1.0, &[]),
    ("FedAvgM, momentum = 0.5", MOMENTUM, 0.0, &[]),
    ("FedAdam, learning_rate = 0.03", ADAM, 0.0, &[]),
    (
        "FedBN (normalisations private)",
        Server::Average,
        0.0,
        &["normalisations"],
    ),
    ("statistics private", Server::Average, 0.0, &["statistics"]),
];

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("FOLDER is missing")?);
    let seeds: u64 = arguments.next().map_or(Ok(3), |text| text.parse())?;
    println!("| variant | AUC, all patients | mean of the hospitals' AUCs |\n|---|---|---|");
    for (name, server, proximal, private) in VARIANTS {
        let row = row(&folder, seeds, |study, hospitals| {
            study.training.server = server;
            study.training.proximal = proximal;
            study.training.private = private.iter().map(|name| (*name).to_owned()).collect();
            let run = baseline::federated(study, &Device::cpu(), hospitals)?;
            areas(hospitals, |hospital| scores(&run, hospital))
        })?;
        println!("| {name} | {row} |");
    }
    let pooled = row(&folder, seeds, |study, hospitals| {
        let trained = baseline::pooled(study, &Device::cpu(), hospitals)?;
        areas(hospitals, |hospital| {
            Ok(trained.probabilities(&hospital.held_out)?)
        })
    })?;
    println!("| all patients in one place | {pooled} |");
    let alone = row(&folder, seeds, |study, hospitals| {
        let mut each = Vec::new();
        for hospital in hospitals {
            each.push(baseline::alone(study, &Device::cpu(), hospital)?);
        }
        let mut models = each.iter();
        areas(hospitals, |hospital| {
            let trained = models.next().ok_or("a model for every hospital")?;
            Ok(trained.probabilities(&hospital.held_out)?)
        })
    })?;
    println!("| each hospital alone | {alone} |");
    Ok(())
}

/// The study of a seed with its hospitals.
fn study(folder: &Path, seed: u64) -> Result<(Study, Vec<Hospital>)> {
    let mut study: Study = config::load(&folder.join("personal.toml"))?;
    study.seed = seed;
    study.training.local_epochs = 2;
    let recipe = study.training.recipe.as_mut().ok_or("the study has a recipe")?;
    let last = recipe.stages.pop().ok_or("the recipe has stages")?;
    recipe.stages = vec![Stage {
        epochs: 20,
        activations: Activations::Own,
        distillation: None,
        ..last
    }];
    let load = |name| Hospital::load(&study, name, &folder.join(format!("{name}.csv")));
    let hospitals: std::result::Result<Vec<_>, _> =
        study.party.iter().map(|member| load(&member.name)).collect();
    let hospitals = hospitals?;
    Ok((study, hospitals))
}

fn scores(run: &Federated, hospital: &Hospital) -> Result<Vec<f64>> {
    Ok(run.probabilities(&hospital.name, &hospital.held_out)?)
}

/// The AUC over all held-out patients, and the mean of the hospitals' own.
fn areas(hospitals: &[Hospital], mut scores: impl FnMut(&Hospital) -> Result<Vec<f64>>) -> Result<[f64; 2]> {
    let (mut all, mut labels, mut sum) = (Vec::new(), Vec::new(), 0.0);
    for hospital in hospitals {
        let own = scores(hospital)?;
        sum += metrics::auc(&own, &hospital.held_out.labels).ok_or("both classes are held out")?;
        all.extend(own);
        labels.extend(&hospital.held_out.labels);
    }
    let together = metrics::auc(&all, &labels).ok_or("both classes are held out")?;
    Ok([together, sum / hospitals.len() as f64])
}

/// Mean and standard deviation over the seeds of both areas.
fn row(
    folder: &Path,
    seeds: u64,
    mut run: impl FnMut(&mut Study, &[Hospital]) -> Result<[f64; 2]>,
) -> Result<String> {
    let mut found = Vec::new();
    for seed in 1..=seeds {
        let (mut study, hospitals) = study(folder, seed)?;
        found.push(run(&mut study, &hospitals)?);
    }
    let n = found.len() as f64;
    let cell = |i: usize| {
        let mean = found.iter().map(|areas| areas[i]).sum::<f64>() / n;
        let squares: f64 = found.iter().map(|areas| (areas[i] - mean).powi(2)).sum();
        format!("{mean:.3} ± {:.3}", (squares / (n - 1.0).max(1.0)).sqrt())
    };
    Ok(format!("{} | {}", cell(0), cell(1)))
}
