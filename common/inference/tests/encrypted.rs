//! Encrypted against plain inference, and everything that must be refused.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::codec::CiphertextSet;
use galen_ckks::keys::SecretKey;
use galen_core::study::Study;
use galen_inference::{AnswerError, CompileError, Program, Querier, QueryError, RunError, ServingKey};
use galen_models::metrics::sigmoid;
use galen_models::random::Stream;
use galen_models::{Layer, Model, ModelSpec, Range, Shape};
use galen_training::Device;
use galen_training::baseline::{self, Hospital};
use proptest::prelude::*;
use std::path::PathBuf;
use std::sync::Arc;

fn random_model(spec: ModelSpec, seed: u64) -> Model {
    let mut stream = Stream::new("inference test", seed, &[]);
    let params = (0..spec.parameter_count()).map(|_| stream.symmetric()).collect();
    Model::new(spec, params).unwrap()
}

fn mlp(inputs: usize, hidden: &[usize], seed: u64) -> Model {
    random_model(ModelSpec::residual_mlp(inputs, hidden, 0.2, 2).unwrap(), seed)
}

fn rows(ranges: &[Range], patients: usize, seed: u64) -> Vec<Vec<f64>> {
    let mut stream = Stream::new("inference rows", seed, &[]);
    let row = |_| {
        let value = |r: &Range| (r.min + (r.max - r.min) * stream.unit()).clamp(r.min, r.max);
        ranges.iter().map(value).collect()
    };
    (0..patients).map(row).collect()
}

fn compile(model: &Model, ranges: &[Range], bits: u32) -> Arc<Program> {
    Arc::new(Program::compile(model, ranges, bits).unwrap())
}

/// Encrypts, evaluates on bytes as they cross the network, decrypts.
fn ask(program: &Arc<Program>, querier: &Querier, rows: &[Vec<f64>]) -> Vec<f64> {
    let key = querier.serving_key().unwrap().to_bytes().unwrap();
    let batch = querier.encrypt_batch(rows).unwrap().to_bytes().unwrap();
    let answer = program.answer(&key, &batch, &mut |_, _| {}).unwrap();
    querier.decrypt_batch(&answer, rows.len()).unwrap()
}

fn largest_error(model: &Model, rows: &[Vec<f64>], answers: &[f64]) -> f64 {
    let plain = model.probabilities(rows).unwrap();
    assert_eq!(plain.len(), answers.len());
    let errors = plain.iter().zip(answers).map(|(p, a)| (p - a).abs());
    errors.fold(0.0, f64::max)
}

/// Logits are right to 2^-(bits) plus their rounding, and the logistic function has slope 1/4 at most.
fn allowed(bits: u32) -> f64 {
    (1.0 + 0.5) * (-f64::from(bits)).exp2() / 4.0
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    /// Random networks, widths, ranges and precisions, within the promised error.
    #[test]
    fn encrypted_probabilities_are_those_of_the_model(
        inputs in 1usize..6,
        hidden in proptest::collection::vec(1usize..4, 0..3),
        bits in 8u32..16,
        patients in 1usize..40,
        seed in any::<u64>(),
    ) {
        let model = mlp(inputs, &hidden, seed);
        let ranges: Vec<Range> = (0..inputs).map(|i| if i % 2 == 0 { Range::new(-2.0, 2.0) } else { Range::new(0.0, 1.0) }).collect();
        let program = compile(&model, &ranges, bits);
        let rows = rows(&ranges, patients, seed);
        let answers = ask(&program, &Querier::generate(program.interface()).unwrap(), &rows);
        let error = largest_error(&model, &rows, &answers);
        prop_assert!(error <= allowed(bits), "{} for {:?}", error, program.plan());
    }
}

#[test]
fn other_layer_orders_compile_too() {
    let residual = |outputs| Layer::Residual {
        outputs,
        scale: 0.3,
        power: 2,
    };
    let dense = |outputs| Layer::Dense { outputs };
    for (seed, layers) in [
        vec![dense(1)],
        vec![dense(3), residual(2), dense(2), dense(1)],
        vec![residual(2), residual(1)],
    ]
    .into_iter()
    .enumerate()
    {
        let model = random_model(
            ModelSpec {
                input: Shape::Features(3),
                layers,
            },
            seed as u64,
        );
        let ranges = [Range::new(-1.0, 1.0); 3];
        let program = compile(&model, &ranges, 12);
        let rows = rows(&ranges, 5, 1);
        let answers = ask(&program, &Querier::generate(program.interface()).unwrap(), &rows);
        assert!(largest_error(&model, &rows, &answers) <= allowed(12), "{seed}");
    }
}

/// The shipped study, trained as the federation does, every held-out patient of every hospital.
#[test]
fn the_heart_model_encrypted() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../configs/studies/heart");
    let study: Study = galen_core::config::load(&folder.join("study.toml")).unwrap();
    let load = |m: &galen_core::study::Member| {
        Hospital::load(&study, &m.name, &folder.join(format!("{}.csv", m.name))).unwrap()
    };
    let hospitals: Vec<Hospital> = study.party.iter().map(load).collect();
    let trained = baseline::federated(&study, &Device::cpu(), &hospitals)
        .unwrap()
        .trained;
    let ranges = trained.preprocessor.input_ranges();
    let bits = study.serving.precision_bits;
    let program = compile(&trained.model, &ranges, bits);
    println!("{:#?}", program.plan());
    let querier = Querier::generate(program.interface()).unwrap();
    let mut largest = 0.0f64;
    for hospital in &hospitals {
        let rows = trained.preprocessor.rows(&hospital.held_out).unwrap();
        let answers = ask(&program, &querier, &rows);
        largest = largest.max(largest_error(&trained.model, &rows, &answers));
    }
    println!("largest error in probability: {largest:e}");
    assert!(largest <= allowed(bits) && largest < 1e-5, "{largest}");
}

#[test]
fn the_smallest_preset_that_does_is_chosen() {
    let ranges = [Range::new(-2.0, 2.0); 3];
    let one = compile(&mlp(3, &[4], 1), &ranges, 10);
    assert_eq!((one.plan().degree, one.plan().levels), (8192, 2));
    // More precision than 40-bit scales give.
    let precise = compile(&mlp(3, &[4], 1), &ranges, 24);
    assert_eq!((precise.plan().degree, precise.plan().levels), (16384, 2));
    let two = compile(&mlp(3, &[4, 4], 1), &ranges, 10);
    assert_eq!((two.plan().degree, two.plan().levels), (16384, 4));
    assert!(two.plan().relinearisations == 5 && two.plan().squares == 8);
    // Fewer bits asked for leave room for more flooding.
    let coarse = compile(&mlp(3, &[4], 1), &ranges, 4);
    assert_eq!(coarse.plan().preset, one.plan().preset);
    assert!(coarse.plan().flooding_bits > one.plan().flooding_bits);
}

#[test]
fn what_cannot_be_compiled_is_refused() {
    let ranges = [Range::new(-2.0, 2.0); 3];
    let model = mlp(3, &[4], 1);
    assert!(matches!(
        Program::compile(&model, &ranges[..2], 10),
        Err(CompileError::Ranges {
            expected: 3,
            found: 2
        })
    ));
    for bad in [
        Range::EMPTY,
        Range::new(0.0, f64::NAN),
        Range::new(0.0, f64::INFINITY),
        Range::new(1.0, 0.0),
    ] {
        let ranges = [ranges[0], bad, ranges[0]];
        assert!(matches!(
            Program::compile(&model, &ranges, 10),
            Err(CompileError::Range { input: 1, .. })
        ));
    }
    assert!(matches!(
        Program::compile(&model, &ranges, 60),
        Err(CompileError::NoPreset {
            precision_bits: 60,
            ..
        })
    ));
    let deep = mlp(3, &[1; 15], 1);
    assert!(matches!(
        Program::compile(&deep, &ranges, 4),
        Err(CompileError::NoPreset { levels: 30, .. })
    ));
    let relu = ModelSpec {
        input: Shape::Features(3),
        layers: vec![
            Layer::Dense { outputs: 2 },
            Layer::Relu,
            Layer::Dense { outputs: 1 },
        ],
    };
    let refused = Program::compile(&random_model(relu, 0), &ranges, 4);
    assert!(
        matches!(&refused, Err(CompileError::Unsupported { layer, .. }) if layer == "layer1 (relu)"),
        "{refused:?}"
    );
}

struct Sides {
    program: Arc<Program>,
    querier: Querier,
    key: ServingKey,
    batch: CiphertextSet,
}

fn sides() -> Sides {
    let program = compile(&mlp(2, &[2], 1), &[Range::new(-2.0, 2.0); 2], 8);
    let querier = Querier::generate(program.interface()).unwrap();
    let key = querier.serving_key().unwrap();
    let batch = querier.encrypt_batch(&[[0.5, -1.0], [1.0, 2.0]]).unwrap();
    Sides {
        program,
        querier,
        key,
        batch,
    }
}

#[test]
fn patients_out_of_range_are_refused_by_name() {
    let Sides { program, querier, .. } = sides();
    let error = querier.encrypt_batch(&[[0.0, 0.0], [0.0, 2.5]]).unwrap_err();
    assert!(matches!(
        error,
        QueryError::OutOfRange {
            patient: 1,
            input: 1,
            ..
        }
    ));
    assert_eq!(error.to_string(), "patient 1, input 1: 2.5 is outside -2 to 2");
    assert!(querier.encrypt_batch(&[[0.0, f64::NAN]]).is_err());
    assert!(matches!(
        querier.encrypt_batch(&[vec![0.0, 0.0], vec![0.0]]),
        Err(QueryError::Width {
            patient: 1,
            expected: 2,
            found: 1
        })
    ));
    assert!(matches!(
        querier.encrypt_batch::<Vec<f64>>(&[]),
        Err(QueryError::Patients { patients: 0, .. })
    ));
    let max = program.plan().max_patients;
    assert!(matches!(
        querier.encrypt_batch(&vec![[0.0, 0.0]; max + 1]),
        Err(QueryError::Patients { .. })
    ));
    assert!(querier.encrypt_batch(&vec![[0.0, 0.0]; max]).is_ok());
}

#[test]
fn batches_that_are_not_the_program_s_are_refused() {
    let Sides {
        program,
        querier,
        key,
        batch,
    } = sides();
    let context = program.context();
    let run = |key: &ServingKey, inputs: &[Ciphertext]| program.run(key, inputs, &mut |_, _| {});
    let good = batch.ciphertexts();
    assert!(run(&key, good).is_ok());
    assert!(matches!(
        run(&key, &good[..1]),
        Err(RunError::Inputs {
            expected: 2,
            found: 1
        })
    ));
    assert!(matches!(run(&key, &[]), Err(RunError::Inputs { .. })));

    let other = Querier::generate(program.interface()).unwrap();
    let foreign = other.serving_key().unwrap();
    assert!(matches!(
        run(&foreign, good),
        Err(RunError::ForeignKey { input: 0 })
    ));
    let theirs = other.encrypt_batch(&[[0.0, 0.0]]).unwrap();
    let mixed = [good[0].clone(), theirs.ciphertexts()[1].clone()];
    assert!(matches!(
        run(&key, &mixed),
        Err(RunError::ForeignKey { input: 1 })
    ));

    // Ciphertexts of the same key that are no inputs.
    let secret = SecretKey::from_secret_bytes(context, &querier.secret_bytes()).unwrap();
    let (level, scale) = (good[0].level(), good[0].scale());
    let made = |magnitude, level, scale| {
        let plaintext = context.encode_at(&[0.5], magnitude, level, scale).unwrap();
        [good[0].clone(), secret.encrypt(&plaintext).unwrap()]
    };
    assert!(run(&key, &made(2.0, level, scale)).is_ok());
    let noisy = secret
        .public_key()
        .unwrap()
        .encrypt(&context.encode_at(&[0.5], 2.0, level, scale).unwrap());
    for (what, inputs) in [
        ("a larger range", made(2.5, level, scale)),
        (
            "another level",
            made(2.0, level - 1, context.scale(level - 1).unwrap()),
        ),
        ("another scale", made(2.0, level, scale / 2.0)),
        ("more noise", [good[0].clone(), noisy.unwrap()]),
    ] {
        let error = run(&key, &inputs).unwrap_err();
        assert!(
            matches!(error, RunError::NotAnInput { input: 1, what: said } if said == what),
            "{what}: {error}"
        );
    }

    // Another preset.
    let larger = compile(&mlp(2, &[2, 2], 1), &[Range::new(-2.0, 2.0); 2], 8);
    assert_ne!(larger.plan().preset, program.plan().preset);
    let theirs = Querier::generate(larger.interface()).unwrap();
    let batch = theirs.encrypt_batch(&[[0.0, 0.0]]).unwrap();
    assert!(matches!(run(&key, batch.ciphertexts()), Err(RunError::Ckks(_))));
    assert!(ServingKey::from_bytes(context, &theirs.serving_key().unwrap().to_bytes().unwrap()).is_err());
    assert!(Querier::open(larger.interface(), &querier.secret_bytes()).is_err());
}

#[test]
fn damaged_bytes_are_refused_or_come_to_nothing() {
    let Sides {
        program,
        querier,
        key,
        batch,
    } = sides();
    let (key, batch) = (key.to_bytes().unwrap(), batch.to_bytes().unwrap());
    let answer = |key: &[u8], batch: &[u8]| program.answer(key, batch, &mut |_, _| {});
    assert!(answer(&key[..key.len() - 1], &batch).is_err());
    assert!(answer(&key, &batch[..batch.len() - 1]).is_err());
    assert!(answer(&batch, &key).is_err());
    assert!(answer(&[], &batch).is_err() && answer(&key, &[]).is_err());
    let long = [batch.clone(), vec![0]].concat();
    assert!(matches!(answer(&key, &long), Err(RunError::TooLong { .. })));
    // Two halves of different keys.
    let other = Querier::generate(program.interface())
        .unwrap()
        .serving_key()
        .unwrap()
        .to_bytes()
        .unwrap();
    let cut = galen_ckks::keys::PublicKey::max_bytes(program.context());
    let mixed = [&key[..cut], &other[cut..]].concat();
    assert!(answer(&mixed, &batch).is_err());
    assert!(querier.decrypt_batch(&answer(&key, &batch).unwrap(), 2).is_ok());
}

#[test]
fn unusable_answers_give_one_error() {
    let Sides {
        program,
        querier,
        key,
        batch,
    } = sides();
    let answer = CiphertextSet::new(program.run(&key, batch.ciphertexts(), &mut |_, _| {}).unwrap()).unwrap();
    let bytes = answer.to_bytes().unwrap();
    let read = |bytes: &[u8], patients| querier.decrypt_batch(bytes, patients);
    assert_eq!(read(&bytes, 2).unwrap().len(), 2);
    let slots = program.plan().max_patients;
    assert_eq!(read(&bytes, slots + 1), Err(AnswerError));
    assert_eq!(read(&bytes[..bytes.len() - 1], 2), Err(AnswerError));
    assert_eq!(read(&[], 2), Err(AnswerError));
    // An input sent back, and another querier's answer.
    assert_eq!(
        read(&batch.ciphertexts()[0].to_bytes().unwrap(), 2),
        Err(AnswerError)
    );
    let other = Querier::generate(program.interface()).unwrap();
    assert_eq!(other.decrypt_batch(&bytes, 2), Err(AnswerError));
    // Random polynomials decrypt to something far outside the model's range.
    let mut noise = bytes.clone();
    let mut stream = Stream::new("damage", 1, &[]);
    let end = noise.len();
    // The residues of c0 come after header and fields; small bytes keep them below the prime.
    for byte in &mut noise[100..end / 2] {
        *byte = stream.below(128) as u8;
    }
    assert_eq!(read(&noise, 2), Err(AnswerError));
}

#[test]
fn answers_are_multiples_of_the_planned_precision() {
    let Sides {
        program,
        querier,
        key,
        batch,
    } = sides();
    let answer = CiphertextSet::new(program.run(&key, batch.ciphertexts(), &mut |_, _| {}).unwrap()).unwrap();
    let bits = program.plan().rounded_bits;
    for p in querier.decrypt_batch(&answer.to_bytes().unwrap(), 2).unwrap() {
        let logit = (p / (1.0 - p)).ln();
        let nearest = (logit * f64::from(1 << bits)).round() / f64::from(1 << bits);
        assert!((sigmoid(nearest) - p).abs() < 1e-15);
    }
}

#[test]
fn a_stored_key_serves_again() {
    let Sides {
        program,
        querier,
        key,
        batch,
    } = sides();
    let again = Querier::open(program.interface(), &querier.secret_bytes()).unwrap();
    assert_eq!(
        again.serving_key().unwrap().to_bytes().unwrap(),
        key.to_bytes().unwrap()
    );
    let answer = CiphertextSet::new(program.run(&key, batch.ciphertexts(), &mut |_, _| {}).unwrap()).unwrap();
    let bytes = answer.to_bytes().unwrap();
    assert_eq!(again.decrypt_batch(&bytes, 2), querier.decrypt_batch(&bytes, 2));
}

/// Equal questions get answers that share nothing: each is re-randomised.
#[test]
fn answers_are_rerandomised() {
    let Sides {
        program,
        querier,
        key,
        batch,
    } = sides();
    let run = || program.run(&key, batch.ciphertexts(), &mut |_, _| {}).unwrap();
    let (a, b) = (run().remove(0), run().remove(0));
    for (x, y) in a.parts().iter().zip(b.parts()) {
        assert_ne!(x, y);
    }
    let read = |ct: &Ciphertext| {
        let set = CiphertextSet::new(vec![ct.clone()]).unwrap();
        querier.decrypt_batch(&set.to_bytes().unwrap(), 2).unwrap()
    };
    let gap = read(&a)
        .iter()
        .zip(read(&b))
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max);
    assert!(gap <= 2.0 * allowed(8));
}
