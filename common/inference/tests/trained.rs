//! A network that a recipe trained, from its file to encrypted answers.

#![allow(clippy::unwrap_used)]

use galen_inference::{Precision, Program, Querier};
use galen_models::random::Stream;
use galen_models::{Model, ModelFile, ModelSpec};
use galen_training::recipes::Recipe;
use galen_training::{Device, Examples, Network, Options, Targets, evaluate, fit, record};
use std::sync::Arc;

/// Noise, with a bright centre in the images of class 1.
fn images(patients: usize, seed: u64) -> Examples {
    let mut stream = Stream::new("trained test", seed, &[]);
    let mut inputs = Vec::new();
    let mut classes = Vec::new();
    for _ in 0..patients {
        let class = stream.below(2);
        let mut image: Vec<f32> = (0..36).map(|_| stream.unit() as f32).collect();
        for place in [14, 15, 20, 21] {
            image[place] += class as f32;
        }
        inputs.extend(image);
        classes.push(class as u32);
    }
    let targets = Targets::Classes(classes);
    Examples { inputs, targets }
}

#[test]
fn a_trained_file_is_all_that_the_compiler_needs() {
    let network: ModelSpec = toml::from_str(
        r#"
        input = [1, 6, 6]
        layers = [
            { conv2d = { channels = 3, kernel = 3, stride = 3 } },
            "relu",
            "flatten",
            { dense = { outputs = 4 } },
            "relu",
            { dense = { outputs = 2 } },
        ]
        "#,
    )
    .unwrap();
    let recipe: Recipe = toml::from_str(
        r#"
        seed = 1
        batch_size = 20
        [adaptation]
        activation = { trained = { degree = 2, radius = 3.0, per = "channel" } }
        normalise = true
        [[stages]]
        name = "quadratics"
        epochs = 30
        weights = { learning_rate = 0.01 }
        schedule = { cosine = {} }
        recalibrate = true
        "#,
    )
    .unwrap();
    let training = images(400, 1);
    let network = Network::new(&Device::cpu(), &Model::for_recipe(&network, &recipe).unwrap()).unwrap();
    let options = Options {
        checkpoint: None,
        progress: &mut |_| {},
    };
    let trained = fit(network, &recipe, &training, None, options).unwrap();
    let mut file = ModelFile::from(trained.model);
    record(&mut file, &training).unwrap();

    let read = ModelFile::from_safetensors(&file.to_safetensors().unwrap()).unwrap();
    let program = Arc::new(Program::compile_file(&read, 8).unwrap());
    assert_eq!(program.plan().precision, Precision::Expected);
    let querier = Querier::generate(program.interface()).unwrap();
    let key = querier.serving_key().unwrap().to_bytes().unwrap();
    let test = images(100, 2);
    let rows: Vec<Vec<f64>> = test
        .inputs
        .chunks(36)
        .map(|image| image.iter().map(|&v| f64::from(v)).collect())
        .collect();
    let batch = querier.encrypt_batch(&rows).unwrap().to_bytes().unwrap();
    let answer = program.answer(&key, &batch, &mut |_, _| {}).unwrap();
    let outputs = querier.outputs(&answer, rows.len()).unwrap().concat();
    let expected = evaluate(&file.model, &test).unwrap();
    let pairs = outputs.iter().zip(&expected);
    let error = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(error <= 1.5 / 256.0, "{error}");
    let accuracy = test.targets.accuracy(&outputs, 2);
    assert!(accuracy > 0.9, "{accuracy}");
}
