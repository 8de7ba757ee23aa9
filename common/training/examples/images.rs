//! Trains a network for encrypted evaluation on a set of images, and says how good it is on images that it was not trained on.
//!
//! `cargo run --release -p galen-training --example images -- NETWORK RECIPE SCHEMA TRAINING TEST OUT`
//!
//! NETWORK and RECIPE are files as in `configs/models` and `configs/recipes`, SCHEMA says what the images are (see `galen-data`),
//! TRAINING and TEST are data sets (IDX with the labels beside it, or NPZ), and OUT is the model file to write. A run that was
//! interrupted continues from OUT.checkpoint. The test images choose nothing unless the recipe stops early.

#![allow(clippy::print_stdout)]

use galen_data::{Limits, Schema};
use galen_models::{Model, ModelSpec, Range};
use galen_training::recipes::Recipe;
use galen_training::{Device, Event, Examples, Network, Options, Targets, fit};
use serde::de::DeserializeOwned;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

/// Images that are evaluated together.
const CHUNK: usize = 500;

fn read<T: DeserializeOwned>(path: &str) -> Result<T, Box<dyn Error>> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    toml::from_str(&text).map_err(|e| format!("{path}: {e}").into())
}

/// Share of images whose class has the largest output, and the range of what enters each activation.
fn judge(model: &Model, examples: &Examples) -> Result<(f64, Vec<Range>), Box<dyn Error>> {
    let network = Network::new(&Device::cpu(), model)?;
    let spec = model.spec();
    let Targets::Classes(classes) = &examples.targets else {
        return Err("the images have no classes".into());
    };
    let mut hits = 0;
    let mut ranges = vec![Range::EMPTY; network.activations().len()];
    for (rows, classes) in examples.inputs.chunks(CHUNK * spec.inputs()).zip(classes.chunks(CHUNK)) {
        let (outputs, seen) = network.evaluate(rows)?;
        for (outputs, &class) in outputs.chunks(spec.outputs()).zip(classes) {
            let found = match outputs {
                [one] => usize::from(*one >= 0.0),
                several => (0..several.len()).fold(0, |a, b| if several[b] > several[a] { b } else { a }),
            };
            hits += usize::from(found == class as usize);
        }
        for (range, seen) in ranges.iter_mut().zip(seen) {
            range.include(seen.min);
            range.include(seen.max);
        }
    }
    Ok((hits as f64 / classes.len() as f64, ranges))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [network, recipe, schema, training, test, out] = &arguments[..] else {
        return Err("six arguments are needed: NETWORK RECIPE SCHEMA TRAINING TEST OUT".into());
    };
    let spec: ModelSpec = read(network)?;
    let recipe: Recipe = read(recipe)?;
    let schema: Schema = read(schema)?;
    let load = |path: &str| galen_data::load(Path::new(path), None, &schema, &Limits::default());
    let (training, test) = (Examples::from(&load(training)?), Examples::from(&load(test)?));
    let model = recipe.model(&spec)?;
    println!("{} parameters, seed {}", model.params().len(), recipe.seed);
    let begin = Instant::now();
    let mut progress = |event: &Event| {
        let Some(epoch) = &event.finished else { return };
        let score = epoch.validation.map_or(String::new(), |s| {
            format!(" test loss {:.5} accuracy {:.2} %", s.loss, 100.0 * s.accuracy)
        });
        println!(
            "{} epoch {}/{} loss {:.5}{score} {:.0}/s, {:.0} s done, {:.0} s left",
            event.stage,
            event.epoch + 1,
            event.epochs,
            epoch.loss,
            event.rate,
            begin.elapsed().as_secs_f64(),
            event.remaining_s,
        );
    };
    let checkpoint = format!("{out}.checkpoint");
    let options = Options {
        checkpoint: Some(Path::new(&checkpoint)),
        progress: &mut progress,
    };
    let outcome = fit(Network::new(&Device::cpu(), &model)?, &recipe, &training, Some(&test), options)?;
    std::fs::write(out, outcome.model.to_safetensors()?)?;
    for (part, examples) in [("training", &training), ("test", &test)] {
        let (accuracy, ranges) = judge(&outcome.model, examples)?;
        println!("{part}: {:.2} %", 100.0 * accuracy);
        for (layer, range) in Network::new(&Device::cpu(), &outcome.model)?.activations().iter().zip(ranges) {
            println!("  what enters {layer}: {:.2} to {:.2}", range.min, range.max);
        }
    }
    println!("model {}", outcome.model.digest().to_hex());
    Ok(())
}
