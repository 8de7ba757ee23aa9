//! Trains a network for encrypted evaluation on a set of images, and says how good it is on images that it was not trained on.
//!
//! `cargo run --release -p galen-training --example images -- NETWORK RECIPE SCHEMA TRAINING TEST OUT`
//!
//! NETWORK and RECIPE are files as in `configs/models` and `configs/recipes`, SCHEMA says what the images are (see `galen-data`),
//! TRAINING and TEST are data sets (IDX with the labels beside it, or NPZ), and OUT is the model file to write, with the ranges that
//! training images give. A run that was interrupted continues from OUT.checkpoint. The test images choose nothing unless the recipe
//! stops early or has the schedule `plateau`.

#![allow(clippy::print_stdout)]

use galen_data::{Limits, Schema};
use galen_models::{Model, ModelFile, ModelSpec};
use galen_training::recipes::Recipe;
use galen_training::{Device, Event, Examples, Network, Options, evaluate, fit, record};
use serde::de::DeserializeOwned;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

fn read<T: DeserializeOwned>(path: &str) -> Result<T, Box<dyn Error>> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    toml::from_str(&text).map_err(|e| format!("{path}: {e}").into())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [network, recipe, schema, training, test, out] = &arguments[..] else {
        return Err("six arguments are needed: NETWORK RECIPE SCHEMA TRAINING TEST OUT".into());
    };
    let spec = ModelSpec::load_toml(Path::new(network))?;
    let recipe: Recipe = read(recipe)?;
    let schema: Schema = read(schema)?;
    let load = |path: &str| galen_data::load(Path::new(path), None, &schema, &Limits::default());
    let (training, test) = (Examples::from(&load(training)?), Examples::from(&load(test)?));
    let model = Model::for_recipe(&spec, &recipe)?;
    let levels = model.spec().summary()?.levels;
    let levels = levels.map_or("no polynomial".to_owned(), |levels| format!("{levels} levels"));
    println!(
        "{} parameters, {levels}, seed {}",
        model.params().len(),
        recipe.seed
    );
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
    let outcome = fit(
        Network::new(&Device::cpu(), &model)?,
        &recipe,
        &training,
        Some(&test),
        options,
    )?;
    let mut file = ModelFile::from(outcome.model);
    file.annotations.classes = schema
        .target
        .classes()
        .into_iter()
        .map(|class| class.name.clone())
        .collect();
    let width = file.model.spec().outputs();
    let outputs = record(&mut file, &training)?;
    let seen = 100.0 * training.targets.accuracy(&outputs, width);
    let unseen = 100.0 * test.targets.accuracy(&evaluate(&file.model, &test)?, width);
    println!("in f64: {seen:.2} % of the training images, {unseen:.2} % of the test images");
    for activation in &file.annotations.activations {
        let range = activation.overall();
        println!(
            "what enters {}: {:.2} to {:.2}",
            activation.path, range.min, range.max
        );
    }
    std::fs::write(out, file.to_safetensors()?)?;
    println!("model {}", file.model.digest().to_hex());
    Ok(())
}
