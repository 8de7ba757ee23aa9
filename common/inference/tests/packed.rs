//! All values of some patients in one ciphertext, against the plain evaluator.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use galen_ckks::codec::CiphertextSet;
use galen_ckks::keys::SecretKey;
use galen_inference::{CompileError, Interface, InterfaceError, Precision, Program, Querier, RunError, ServingKey};
use galen_models::random::Stream;
use galen_models::{Model, ModelFile, ModelSpec, Range};
use std::time::Instant;

fn table(layers: &str, inputs: usize, seed: u64) -> ModelFile {
    let spec: ModelSpec = toml::from_str(&format!("input = {inputs}\nlayers = [{layers}]")).unwrap();
    let mut stream = Stream::new("packed test", seed, &[]);
    let params = (0..spec.parameter_count()).map(|_| 0.5 * stream.symmetric()).collect();
    let mut file = ModelFile::from(Model::new(spec, params).unwrap());
    file.annotations.inputs = vec![Range::new(-1.0, 1.0)];
    file
}

/// Random weights, with the ranges of activations on some images.
fn images(text: &str) -> ModelFile {
    let spec: ModelSpec = toml::from_str(text).unwrap();
    let mut file = ModelFile::from(Model::initial(spec.clone(), 1).unwrap());
    file.record(&rows(64, spec.inputs(), 0.0)).unwrap();
    file.annotations.inputs = vec![Range::new(0.0, 1.0)];
    file
}

fn rows(patients: usize, inputs: usize, least: f64) -> Vec<Vec<f64>> {
    let mut stream = Stream::new("packed rows", patients as u64, &[]);
    let mut row = || (0..inputs).map(|_| least + (1.0 - least) * stream.unit()).collect();
    (0..patients).map(|_| row()).collect()
}

/// The largest error of as many patients as a batch takes, after everything went through bytes.
fn largest_error(file: &ModelFile, program: &Program, rows: &[Vec<f64>]) -> f64 {
    let interface = Interface::from_bytes(&program.interface().to_bytes().unwrap()).unwrap();
    assert_eq!(interface, *program.interface());
    let querier = Querier::generate(&interface).unwrap();
    let key = querier.serving_key().unwrap().to_bytes().unwrap();
    let batch = querier.encrypt_batch(rows).unwrap().to_bytes().unwrap();
    let answer = program.answer(&key, &batch, &mut |_, _| {}).unwrap();
    let plan = program.plan();
    assert_eq!((key.len(), batch.len(), answer.len()), (plan.serving_key_bytes, plan.batch_bytes, plan.answer_bytes));
    let outputs = querier.outputs(&answer, rows.len()).unwrap();
    let plain = file.model.forward(rows).unwrap();
    assert_eq!(outputs.len(), rows.len());
    let pairs = outputs.iter().flatten().zip(plain.rows().flatten());
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

const TABLE: &str = "{ dense = { outputs = 16 } }, \"square\", { dense = { outputs = 1 } }";
const CLASSES: &str = "{ dense = { outputs = 9 } }, \"square\", { dense = { outputs = 5 } }, { residual = { outputs = 3, scale = 0.3, power = 2 } }";

/// A table's network, guaranteed: within the bound for every patient of a full batch, and of a batch of one.
#[test]
fn a_table_is_answered_within_the_promise() {
    for (layers, inputs) in [(TABLE, 13), (CLASSES, 6), ("{ dense = { outputs = 3 } }", 20)] {
        let file = table(layers, inputs, 1);
        let program = Program::compile_packed(&file, 10, u64::MAX).unwrap();
        let plan = program.plan();
        println!("{plan:#?}");
        assert_eq!((plan.precision, plan.inputs), (Precision::Guaranteed, 1));
        assert!(plan.log2_qp <= plan.security_bound && plan.precision_bits >= 10.0);
        for patients in [1, plan.max_patients] {
            let error = largest_error(&file, &program, &rows(patients, inputs, -1.0));
            println!("{patients} patients: {error:e}");
            assert!(error <= 1.5 / 1024.0, "{layers}: {error}");
        }
        let again = Program::from_choice(&file, 10, program.choice()).unwrap();
        assert_eq!((again.plan(), again.interface()), (plan, program.interface()));
    }
}

/// Images are answered within the bits that are expected, rounding included, and in one ciphertext.
#[test]
fn digits_are_answered_as_expected() {
    let file = images(include_str!("../benches/networks/cryptonets.toml"));
    let begin = Instant::now();
    let program = Program::compile_packed(&file, 8, u64::MAX).unwrap();
    let plan = program.plan();
    println!("compiled in {:?}: {plan:#?}", begin.elapsed());
    assert_eq!((plan.precision, plan.inputs, plan.outputs), (Precision::Expected, 1, 10));
    for patients in [1, plan.max_patients] {
        let error = largest_error(&file, &program, &rows(patients, 784, 0.0));
        println!("{patients} images: {error:e}");
        assert!(error <= 1.5 / 256.0, "{error}");
    }
}
