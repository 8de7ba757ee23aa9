//! The models in `configs/models`: they are as good as their cards say, and encrypted evaluation gives the same answers.
//!
//! Data that are not part of this repository are looked for in `../shared/data`; a test that does not find them says so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use galen_data::{Dataset, Limits, Schema};
use galen_exact::{Interface, Outcome, Precision, Quantised, Reveal, quantise};
use galen_inference::{Program, Querier};
use galen_models::metrics::largest;
use galen_models::{Model, ModelFile, ModelSpec};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn model(name: &str) -> ModelFile {
    model_file(name, "model.safetensors")
}

fn model_file(name: &str, file: &str) -> ModelFile {
    let path = root().join("configs/models").join(name).join(file);
    ModelFile::from_safetensors(&std::fs::read(path).unwrap()).unwrap()
}

fn data(name: &str, schema: &str, file: &Path) -> Dataset {
    let schema = root().join("configs/models").join(name).join(schema);
    let schema: Schema = galen_core::config::load(&schema).unwrap();
    galen_data::load(file, None, &schema, &Limits::default()).unwrap()
}

/// A file outside of the repository, if it is there.
fn shared(file: &str) -> Option<PathBuf> {
    let path = root().join("../shared/data").join(file);
    if !path.exists() {
        println!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path)
}

/// The inputs as the model takes them.
fn rows(file: &ModelFile, data: &Dataset) -> Vec<Vec<f64>> {
    let spec = file.model.spec();
    let row = |values: &[f32]| {
        let mut row: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
        if let Some(standardisation) = &file.annotations.standardisation {
            standardisation.apply(spec.input, &mut row);
        }
        row
    };
    data.values().chunks(spec.inputs()).map(row).collect()
}

/// Values outside the ranges that the model is compiled for, moved to their ends: an encrypted query takes no others.
fn within_ranges(file: &ModelFile, rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let ranges = file.annotations.input_ranges(file.model.spec()).unwrap();
    let row = |row: &Vec<f64>| {
        let values = row.iter().zip(&ranges);
        values.map(|(v, range)| v.clamp(range.min, range.max)).collect()
    };
    rows.iter().map(row).collect()
}

/// The classes that outputs stand for.
fn classes(outputs: &[f64], width: usize) -> Vec<u32> {
    match width {
        1 => outputs.iter().map(|&z| u32::from(z >= 0.0)).collect(),
        _ => largest(outputs, width),
    }
}

/// Share of samples whose class is predicted, in plain numbers.
fn accuracy(file: &ModelFile, rows: &[Vec<f64>], data: &Dataset) -> f64 {
    let outputs = file.model.forward(rows).unwrap().into_values();
    let found = classes(&outputs, file.model.spec().outputs());
    let truth = data.classes().unwrap();
    let hits = found.iter().zip(truth).filter(|(f, t)| f == t).count();
    hits as f64 / truth.len() as f64
}

/// Encrypts, evaluates and decrypts a batch, and compares outputs and classes with those in plain numbers.
fn encrypted(name: &str, file: &ModelFile, rows: &[Vec<f64>], expected: &[f64], bits: u32) {
    let program = Arc::new(Program::compile_file(file, bits).unwrap());
    let plan = program.plan();
    println!("{name}: {}, {:?}", plan.preset, plan.precision);
    let querier = Querier::generate(program.interface()).unwrap();
    let key = querier.serving_key().unwrap().to_bytes().unwrap();
    let batch = querier.encrypt_batch(rows).unwrap().to_bytes().unwrap();
    let answer = program.answer(&key, &batch, &mut |_, _| {}).unwrap();
    let width = file.model.spec().outputs();
    let found: Vec<f64> = querier.outputs(&answer, rows.len()).unwrap().concat();
    let worst = found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max);
    // Half a step of rounding, and as much noise.
    let step = (-f64::from(bits)).exp2();
    assert!(worst <= step, "{name}: an output is off by {worst}");
    // A class may differ only where two outputs are closer than the step.
    let pairs = classes(&found, width).into_iter().zip(classes(expected, width));
    let near = |row: &[f64]| {
        let mut row = row.to_vec();
        if width == 1 {
            row.push(0.0);
        }
        row.sort_by(f64::total_cmp);
        row[row.len() - 1] - row[row.len() - 2] <= 2.0 * step
    };
    for (sample, (a, b)) in pairs.enumerate() {
        let row = &expected[sample * width..(sample + 1) * width];
        assert!(a == b || near(row), "{name}: sample {sample} is of another class");
    }
}

/// Both models on tables that come with their data.
#[test]
fn models_on_tables_are_as_good_as_their_cards_say_and_the_same_encrypted() {
    for (name, stated) in [("heart", 0.8333), ("breast-cancer", 0.9823)] {
        let file = model(name);
        let test = root().join("configs/models").join(name).join("test.csv");
        let test = data(name, "data.toml", &test);
        let rows = rows(&file, &test);
        let found = accuracy(&file, &rows, &test);
        assert!((found - stated).abs() < 5e-5, "{name}: {found}");
        let rows = within_ranges(&file, &rows);
        let expected = file.model.forward(&rows).unwrap().into_values();
        encrypted(name, &file, &rows, &expected, 10);
    }
}

/// The quantised heart model is what its command makes of the network, and as good as its card says.
#[test]
fn the_exact_heart_model_is_that_of_its_network() {
    let folder = root().join("configs/models/heart");
    let file =
        ModelFile::from_safetensors(&std::fs::read(folder.join("exact.safetensors")).unwrap()).unwrap();
    let exact = Interface::from_bytes(&std::fs::read(folder.join("exact.json")).unwrap()).unwrap();
    let rows_of = |name: &str| {
        let set = data("heart", "data.toml", &folder.join(name));
        (rows(&file, &set), set)
    };
    let (training, _) = rows_of("train.csv");
    let again = quantise(&file.model, &training, Precision::ALL[0]).unwrap();
    let (test, set) = rows_of("test.csv");
    let label = |model: &Quantised, row: &[f64]| model.evaluate(Reveal::Label, row).unwrap();
    let mut right = 0;
    for (index, row) in test.iter().enumerate() {
        let found = label(exact.quantised(), row);
        assert_eq!(label(&again, row), found, "patient {index}");
        right += usize::from(found == Outcome::Label(set.classes().unwrap()[index] as usize));
    }
    let found = right as f64 / test.len() as f64;
    assert!((found - 0.8444).abs() < 0.02, "{found}");
    println!(
        "exact heart model: {found:.4} of the test patients, its network {:.4}",
        accuracy(&file, &test, &set)
    );
}

/// The spiking network reads as many digits as its card says, in plain integers, which encrypted evaluation equals.
#[test]
fn the_spiking_network_reads_digits() {
    let Some(test) = shared("mnist/t10k-images-idx3-ubyte.gz") else {
        return;
    };
    let path = root().join("configs/models/mnist/spiking.json");
    let exact = Interface::from_bytes(&std::fs::read(path).unwrap()).unwrap();
    let set = data("mnist", "data.toml", &test);
    let truth = set.classes().unwrap();
    let circuit = exact.quantised().circuit(Reveal::Scores).unwrap();
    let inputs = exact.subject().input.len();
    let mut right = 0;
    for (row, class) in set.values().chunks(inputs).zip(truth) {
        let row: Vec<f64> = row.iter().map(|&v| f64::from(v)).collect();
        let scores = circuit
            .evaluate(&exact.quantised().encode(&[row]).unwrap()[0])
            .unwrap();
        let scores: Vec<f64> = scores.into_iter().map(|score| score as f64).collect();
        right += usize::from(largest(&scores, scores.len()) == [*class]);
    }
    let accuracy = right as f64 / truth.len() as f64;
    assert!((accuracy - 0.9654).abs() < 5e-5, "{accuracy}");
}

/// Models on signals and images, whose data do not come with them, in plain numbers.
#[test]
fn models_on_images_and_signals_are_as_good_as_their_cards_say() {
    for (name, model, schema, test, stated) in [
        (
            "pneumonia",
            "model.safetensors",
            "test.toml",
            "pneumoniamnist/pneumoniamnist.npz",
            0.9263,
        ),
        (
            "ecg",
            "model.safetensors",
            "data.toml",
            "ecg-mitbih/mitbih_beats_DS2.npz",
            0.9730,
        ),
        (
            "mnist",
            "model.safetensors",
            "data.toml",
            "mnist/t10k-images-idx3-ubyte.gz",
            0.9957,
        ),
        (
            "mnist",
            "strided.safetensors",
            "data.toml",
            "mnist/t10k-images-idx3-ubyte.gz",
            0.9956,
        ),
        (
            "mnist",
            "distilled-1.safetensors",
            "data.toml",
            "mnist/t10k-images-idx3-ubyte.gz",
            0.9956,
        ),
        (
            "mnist",
            "distilled-2.safetensors",
            "data.toml",
            "mnist/t10k-images-idx3-ubyte.gz",
            0.9963,
        ),
        (
            "mnist",
            "distilled-3.safetensors",
            "data.toml",
            "mnist/t10k-images-idx3-ubyte.gz",
            0.9952,
        ),
    ] {
        let file = model_file(name, model);
        let Some(test) = shared(test) else { continue };
        let test = data(name, schema, &test);
        let found = accuracy(&file, &rows(&file, &test), &test);
        assert!((found - stated).abs() < 5e-5, "{name}/{model}: {found}");
    }
}

fn colours() -> ModelFile {
    let folder = root().join("configs/models/cifar10");
    let spec = ModelSpec::load_toml(&folder.join("six.toml")).unwrap();
    let weights = std::fs::read(folder.join("six.st")).unwrap();
    ModelFile::from(Model::from_tensors(spec, &weights, &BTreeMap::new()).unwrap())
}

/// The weights for colour images belong to their network, and answer gray ones.
#[test]
fn weights_in_half_precision_for_colour_images() {
    let file = colours();
    assert_eq!(file.model.params().len(), 3_194_774);
    let outputs = file.model.forward(&[vec![0.5; 3072]]).unwrap().into_values();
    assert!(outputs.iter().all(|z| z.abs() < 50.0), "{outputs:?}");
}

#[test]
#[ignore = "takes minutes, and the variable CIFAR10_NPZ must name the archive that the card describes"]
fn the_network_for_colour_images_is_as_good_as_its_card_says() {
    let archive = std::env::var_os("CIFAR10_NPZ").expect("CIFAR10_NPZ names the archive");
    let test = data("cifar10", "test.toml", Path::new(&archive));
    let file = colours();
    let found = accuracy(&file, &rows(&file, &test), &test);
    println!("{found}");
    // The card's figure is of single precision.
    assert!((found - 0.9252).abs() < 4e-4, "{found}");
}

/// All networks for digits in one, which still takes seven levels.
#[test]
fn the_ensemble_of_all_networks_for_digits() {
    let files = ["model", "strided", "distilled-1", "distilled-2", "distilled-3"];
    let members = files.map(|file| model_file("mnist", &format!("{file}.safetensors")));
    let file = ModelFile::ensemble(&members).unwrap();
    assert_eq!(file.model.spec().summary().unwrap().levels, Some(7));
    let Some(test) = shared("mnist/t10k-images-idx3-ubyte.gz") else {
        return;
    };
    let test = data("mnist", "data.toml", &test);
    let found = accuracy(&file, &rows(&file, &test), &test);
    assert!((found - 0.9968).abs() < 5e-5, "{found}");
}

/// Trained networks for digits are given a ring of degree 16,384, at 8 bits after the binary point.
#[test]
fn trained_networks_for_digits_do_without_the_larger_ring() {
    for name in ["model", "strided", "distilled-2"] {
        let file = model_file("mnist", &format!("{name}.safetensors"));
        let program = Program::compile_file(&file, 8).unwrap();
        let plan = program.plan();
        assert!(
            plan.degree == 16_384 && plan.precision_bits >= 8.0,
            "{name}: {plan:?}"
        );
    }
}
