//! All values of some patients in one ciphertext, against the plain evaluator.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use galen_ckks::codec::CiphertextSet;
use galen_ckks::keys::SecretKey;
use galen_inference::{
    CompileError, Interface, InterfaceError, Precision, Program, Querier, RunError, ServingKey,
};
use galen_models::random::Stream;
use galen_models::{Model, ModelFile, ModelSpec, Range};
use std::time::Instant;

fn table(layers: &str, inputs: usize, seed: u64) -> ModelFile {
    let spec: ModelSpec = toml::from_str(&format!("input = {inputs}\nlayers = [{layers}]")).unwrap();
    let mut stream = Stream::new("packed test", seed, &[]);
    let params = (0..spec.parameter_count())
        .map(|_| 0.5 * stream.symmetric())
        .collect();
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
    let mut row = || {
        (0..inputs)
            .map(|_| least + (1.0 - least) * stream.unit())
            .collect()
    };
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
    assert_eq!(
        (key.len(), batch.len(), answer.len()),
        (plan.serving_key_bytes, plan.batch_bytes, plan.answer_bytes)
    );
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
    assert_eq!(
        (plan.precision, plan.inputs, plan.outputs),
        (Precision::Expected, 1, 10)
    );
    // The convolution takes 36 diagonals, dense layers as many as they have rows, rounded up to a power of two.
    assert_eq!(plan.products, 36 + 128 + 16);
    for patients in [1, plan.max_patients] {
        let error = largest_error(&file, &program, &rows(patients, 784, 0.0));
        println!("{patients} images: {error:e}");
        assert!(error <= 1.5 / 256.0, "{error}");
    }
}

/// What a decryption shows beside the outputs: the same outputs again, and zeros. Nothing of the weights is in slots that nobody asked for.
#[test]
fn every_other_slot_of_an_answer_holds_outputs_or_zero() {
    for layers in [TABLE, CLASSES] {
        let file = table(layers, 13, 2);
        let program = Program::compile_packed(&file, 10, u64::MAX).unwrap();
        let (interface, plan) = (program.interface(), program.plan());
        let querier = Querier::generate(interface).unwrap();
        let rows = rows(3, 13, -1.0);
        let batch = querier.encrypt_batch(&rows).unwrap();
        let key = querier.serving_key().unwrap();
        let answer = program.run(&key, batch.ciphertexts(), &mut |_, _| {}).unwrap();
        let context = program.context();
        let secret = SecretKey::from_secret_bytes(context, &querier.secret_bytes()).unwrap();
        let slots = context.decode(&secret.decrypt(&answer[0]).unwrap()).unwrap();
        let (lanes, period) = (plan.max_patients, plan.outputs.next_power_of_two());
        assert_eq!(slots.len(), context.slots());
        // Lanes without a patient hold the answer about zeros.
        let mut asked = rows.clone();
        asked.push(vec![0.0; 13]);
        let plain = file.model.forward(&asked).unwrap();
        let plain: Vec<&[f64]> = plain.rows().collect();
        for (slot, value) in slots.iter().enumerate() {
            let (element, lane) = (slot / lanes % period, (slot % lanes).min(rows.len()));
            let expected = plain[lane].get(element).copied().unwrap_or(0.0);
            assert!(
                (value - expected).abs() < 1.0 / 1024.0,
                "{layers}: slot {slot} holds {value}, not {expected}"
            );
        }
        // Equal questions get answers that share nothing.
        let again = program.run(&key, batch.ciphertexts(), &mut |_, _| {}).unwrap();
        for (a, b) in answer[0].parts().iter().zip(again[0].parts()) {
            assert_ne!(a, b);
        }
    }
}

/// What a querier gains that fills the slots of a patient with unlike copies: rows of the first matrix in parts, which a proper question gives
/// as one sum. Nothing of later layers comes apart.
#[test]
fn unlike_copies_give_parts_of_the_rows_of_the_first_matrix() {
    let (inputs, hidden) = (6, 9);
    let file = table(
        "{ dense = { outputs = 9 } }, \"square\", { dense = { outputs = 1 } }",
        inputs,
        5,
    );
    let program = Program::compile_packed(&file, 10, u64::MAX).unwrap();
    let querier = Querier::generate(program.interface()).unwrap();
    let (context, key) = (program.context(), querier.serving_key().unwrap());
    let row = rows(1, inputs, -1.0).remove(0);
    let proper = querier.encrypt_batch(&[&row]).unwrap();
    let proper = &proper.ciphertexts()[0];
    // Inputs repeat after 8 slots, a patient has 16: the second copy is left empty.
    assert_eq!(program.interface().packed_width(), Some(16));
    let lanes = context.slots() / 16;
    let mut slots = vec![0.0; context.slots()];
    row.iter().enumerate().for_each(|(j, x)| slots[j * lanes] = *x);
    let odd = context
        .encode_at(&slots, 1.0, proper.level(), proper.scale())
        .unwrap();
    let secret = SecretKey::from_secret_bytes(context, &querier.secret_bytes()).unwrap();
    let odd = secret.encrypt(&odd).unwrap();
    let answer = |batch| {
        let answer = program
            .run(&key, std::slice::from_ref(batch), &mut |_, _| {})
            .unwrap();
        let answer = CiphertextSet::new(answer).unwrap().to_bytes().unwrap();
        querier.outputs(&answer, 1).unwrap()[0][0]
    };
    let params = file.model.params();
    let (weights, rest) = params.split_at(hidden * inputs);
    let (biases, rest) = rest.split_at(hidden);
    // Neuron i reads input j from the copy that begins at or before slot i, and from the next one if j is before i.
    let network = |read: &dyn Fn(usize, usize) -> bool| {
        let neuron = |i: usize| {
            let read = (0..inputs).filter(|&j| read(i, j));
            let sum: f64 = read.map(|j| weights[i * inputs + j] * row[j]).sum();
            rest[i] * (biases[i] + sum) * (biases[i] + sum)
        };
        rest[hidden] + (0..hidden).map(neuron).sum::<f64>()
    };
    let whole = network(&|_, _| true);
    let parts = network(&|i, j| (i + (j + 16 - i) % 8) % 16 < 8);
    assert!((whole - parts).abs() > 0.01, "{whole} {parts}");
    assert!((answer(proper) - whole).abs() <= 1.5 / 1024.0);
    assert!((answer(&odd) - parts).abs() <= 1.5 / 1024.0);
}

#[test]
fn keys_and_batches_of_another_way_are_refused() {
    let file = table(TABLE, 13, 3);
    let packed = Program::compile_packed(&file, 10, u64::MAX).unwrap();
    let run = |key: &ServingKey, batch: &CiphertextSet| packed.run(key, batch.ciphertexts(), &mut |_, _| {});
    let querier = Querier::generate(packed.interface()).unwrap();
    let batch = querier.encrypt_batch(&rows(2, 13, -1.0)).unwrap();
    let key = querier.serving_key().unwrap();
    assert!(run(&key, &batch).is_ok());
    assert_eq!(key.key_set(packed.context()), packed.interface().key_set());
    let whole = key.to_bytes().unwrap();
    // Without rotations: a key, but not one for this program.
    let rotations = galen_ckks::galois::GaloisKeys::bytes_of(packed.context(), 4);
    let bare = ServingKey::from_bytes(packed.context(), &whole[..whole.len() - rotations]).unwrap();
    let refused = run(&bare, &batch).unwrap_err();
    assert!(
        matches!(&refused, RunError::KeySet { needed, .. } if needed.ends_with("_w16")),
        "{refused}"
    );
    for end in [
        whole.len() - 1,
        whole.len() - rotations + 1,
        whole.len() - rotations - 1,
    ] {
        assert!(ServingKey::from_bytes(packed.context(), &whole[..end]).is_err());
    }
    let long = [whole.clone(), vec![0; 8 * whole.len()]].concat();
    assert!(ServingKey::from_bytes(packed.context(), &long).is_err());
    // Rotations of another secret key, and rotations that no packing has.
    let other = Querier::generate(packed.interface())
        .unwrap()
        .serving_key()
        .unwrap()
        .to_bytes()
        .unwrap();
    let cut = whole.len() - rotations;
    assert!(ServingKey::from_bytes(packed.context(), &[&whole[..cut], &other[cut..]].concat()).is_err());
    let secret = SecretKey::from_secret_bytes(packed.context(), &querier.secret_bytes()).unwrap();
    let odd = secret.galois_keys(&[1, 2, 3, 4]).unwrap().to_bytes().unwrap();
    assert!(ServingKey::from_bytes(packed.context(), &[&whole[..cut], &odd].concat()).is_err());
    // A batch of two ciphertexts.
    let two = CiphertextSet::new([batch.ciphertexts(), batch.ciphertexts()].concat()).unwrap();
    assert!(matches!(
        run(&key, &two),
        Err(RunError::Inputs {
            expected: 1,
            found: 2
        })
    ));
    // Too many patients for one batch.
    assert!(
        querier
            .encrypt_batch(&rows(packed.plan().max_patients + 1, 13, -1.0))
            .is_err()
    );
}

#[test]
fn a_packing_that_cannot_be_is_refused() {
    let file = images(
        r#"
        input = [1, 9, 9]
        layers = [
            { conv2d = { channels = 3, kernel = 3, stride = 2, padding = 1 } },
            "square",
            "flatten",
            { dense = { outputs = 4 } },
        ]"#,
    );
    let program = Program::compile_packed(&file, 6, u64::MAX).unwrap();
    let error = largest_error(&file, &program, &rows(program.plan().max_patients, 81, 0.0));
    assert!(error <= 1.5 / 64.0, "{error}");
    let good: serde_json::Value = serde_json::from_slice(&program.interface().to_bytes().unwrap()).unwrap();
    let place = "/batches/packing";
    assert!(good.pointer(&format!("{place}/order/image")).is_some(), "{good}");
    for (place, value) in [
        ("/width", serde_json::json!(0)),
        ("/width", serde_json::json!(1)),
        ("/width", serde_json::json!(48)),
        ("/width", serde_json::json!(16)),
        ("/width", serde_json::json!(1u64 << 40)),
        ("/order", serde_json::json!("other")),
        ("/order/image/shape", serde_json::json!([1, 9, 8])),
        ("/order/image/shape", serde_json::json!([1u64 << 63, 2, 81])),
        ("/order/image/phases", serde_json::json!([0, 2])),
        ("/order/image/phases", serde_json::json!([1000, 2])),
        ("/order/image/margin", serde_json::json!([1u64 << 60, 0])),
    ] {
        let mut changed = good.clone();
        *changed.pointer_mut(&format!("/batches/packing{place}")).unwrap() = value.clone();
        let read = Interface::from_bytes(&serde_json::to_vec(&changed).unwrap());
        assert!(read.is_err(), "{place} = {value} was taken");
    }
    let mut many = good.clone();
    many["answers"]["outputs"] = serde_json::json!(5000);
    assert!(matches!(
        Interface::from_bytes(&serde_json::to_vec(&many).unwrap()),
        Err(InterfaceError::Entry { .. })
    ));
}

#[test]
fn what_cannot_be_packed_is_refused() {
    let file = table(
        "{ dense = { outputs = 3 } }, \"square\", { dense = { outputs = 2 } }",
        4,
        4,
    );
    let small = Program::compile_packed(&file, 8, 1 << 10).unwrap_err();
    assert!(matches!(small, CompileError::Memory { .. }), "{small}");
    let precise = Program::compile_packed(&file, 60, u64::MAX).unwrap_err();
    assert!(matches!(precise, CompileError::NoPreset { .. }), "{precise}");
    let relu = table("\"relu\", { dense = { outputs = 2 } }", 4, 4);
    assert!(matches!(
        Program::compile_packed(&relu, 8, u64::MAX),
        Err(CompileError::Unsupported { .. })
    ));
}

/// Matrices that do not fit beside the ciphertexts are encoded where they are used; the answers are the same.
#[test]
fn matrices_that_do_not_fit_are_encoded_for_each_batch() {
    let file = images(include_str!("../benches/networks/cryptonets.toml"));
    let kept = Program::compile_packed(&file, 8, u64::MAX).unwrap();
    let limit = kept.plan().peak_bytes - 1;
    let encoded = Program::compile_packed(&file, 8, limit).unwrap();
    let (before, plan) = (kept.plan(), encoded.plan());
    println!("{before:#?}\n{plan:#?}");
    assert!(before.kept_bytes > 0 && before.residues.encoded == 0);
    assert!(plan.kept_bytes == 0 && plan.residues.encoded > 0 && plan.cost > before.cost);
    assert!(plan.peak_bytes <= limit && plan.peak_bytes > before.peak_bytes - before.kept_bytes);
    // To whoever asks, they are one program.
    assert_eq!(encoded.interface(), kept.interface());
    let error = largest_error(&file, &encoded, &rows(3, 784, 0.0));
    println!("{error:e}");
    assert!(error <= 1.5 / 256.0, "{error}");
    let again = Program::from_choice(&file, 8, encoded.choice()).unwrap();
    assert_eq!((again.plan(), again.choice()), (plan, encoded.choice()));
}

/// Bounds that add up over the diagonals of three layers of squares fit no modulus; what is expected does, and comes true.
#[test]
fn deep_networks_are_answered_as_expected() {
    let file = images(
        r#"
        input = [1, 14, 14]
        layers = [
            { conv2d = { channels = 12, kernel = 5, stride = 2, padding = 2 } },
            { batch_norm = {} },
            "square",
            { conv2d = { channels = 24, kernel = 3, stride = 2, padding = 1 } },
            { batch_norm = {} },
            "square",
            { conv2d = { channels = 32, kernel = 3 } },
            { batch_norm = {} },
            "square",
            "flatten",
            { dense = { outputs = 10 } },
        ]"#,
    );
    let program = Program::compile_packed(&file, 8, u64::MAX).unwrap();
    let plan = program.plan();
    println!("{plan:#?}");
    assert_eq!((plan.precision, plan.squares), (Precision::Expected, 3));
    let error = largest_error(&file, &program, &rows(plan.max_patients, 196, 0.0));
    println!("{error:e}");
    assert!(error <= 1.5 / 256.0, "{error}");
}

/// Layers that are not one chain of matrices: a shortcut, pooling, a polynomial whose parts are read twice, groups of channels.
#[test]
fn networks_with_shortcuts_and_pools_are_answered() {
    let file = images(
        r#"
        input = [2, 8, 8]
        layers = [
            { conv2d = { channels = 4, kernel = 3, padding = 1, groups = 2 } },
            { batch_norm = {} },
            { polynomial = { degree = 2, per = "channel" } },
            { average_pool = { kernel = 2 } },
            { add = { body = [
                { conv2d = { channels = 4, kernel = 3, padding = 1 } },
                "square",
            ] } },
            "flatten",
            { dense = { outputs = 3 } },
        ]"#,
    );
    let program = Program::compile_packed(&file, 8, u64::MAX).unwrap();
    println!("{:#?}", program.plan());
    let error = largest_error(&file, &program, &rows(program.plan().max_patients, 128, 0.0));
    println!("{error:e}");
    assert!(error <= 1.5 / 256.0, "{error}");
}
