//! Networks on images, encrypted, against the evaluator of [`galen_models`], which shares nothing with the compiler and is tested against the
//! layers' definitions.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use galen_inference::{CompileError, Memory, Precision, Program, Querier, Recorded, RunError};
use galen_models::random::Stream;
use galen_models::{Model, ModelFile, ModelSpec, Range};
use std::sync::Arc;

/// Random parameters of the size that training gives: outputs as large as inputs, variances around 1.
fn random_model(text: &str, seed: u64) -> Model {
    let spec: ModelSpec = toml::from_str(text).unwrap();
    let mut stream = Stream::new("images test", seed, &[]);
    let mut params = Model::initial(spec.clone(), seed).unwrap().params().to_vec();
    for block in spec.parameters() {
        let variance = block.name.ends_with("variance");
        if block.shape.len() == 1 || block.name.ends_with("coefficients") {
            for p in &mut params[block.offset..block.offset + block.len()] {
                *p = if variance {
                    0.5 + stream.unit()
                } else {
                    *p + 0.3 * stream.symmetric()
                };
            }
        }
    }
    Model::new(spec, params).unwrap()
}

/// Compiles by what the evaluator recorded in a model file, encrypts, evaluates on bytes, decrypts, and returns the largest error.
fn largest_error(text: &str, bits: u32) -> (f64, Arc<Program>) {
    let model = random_model(text, 5);
    let inputs = model.spec().inputs();
    let mut stream = Stream::new("images test inputs", 1, &[]);
    let images: Vec<Vec<f64>> = (0..6)
        .map(|_| (0..inputs).map(|_| stream.unit()).collect())
        .collect();
    let mut file = ModelFile::from(model.clone());
    let expected = file.record(&images).unwrap();
    // What the file says, once it was written and read, is what it is compiled by.
    file.annotations.inputs = vec![Range::new(0.0, 1.0)];
    let read = ModelFile::from_safetensors(&file.to_safetensors().unwrap()).unwrap();
    let program = Arc::new(Program::compile_file(&read, bits).unwrap());
    let ranges = vec![Range::new(0.0, 1.0); inputs];
    let recorded = Recorded::of(&file.annotations.activations);
    let again = Program::compile_recorded(&model, &ranges, bits, &recorded).unwrap();
    assert_eq!(program.plan(), again.plan());
    println!("{:#?}", program.plan());
    let querier = Querier::generate(program.interface()).unwrap();
    let key = querier.serving_key().unwrap().to_bytes().unwrap();
    let batch = querier.encrypt_batch(&images).unwrap().to_bytes().unwrap();
    assert_eq!(batch.len(), program.plan().batch_bytes);
    let answer = program.answer(&key, &batch, &mut |_, _| {}).unwrap();
    assert_eq!(answer.len(), program.plan().answer_bytes);
    let outputs = querier.outputs(&answer, images.len()).unwrap();
    let pairs = outputs.iter().flatten().zip(expected.rows().flatten());
    (pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max), program)
}

/// Right to the bits asked for, after rounding to them.
fn check(text: &str, bits: u32) -> Arc<Program> {
    let (error, program) = largest_error(text, bits);
    println!("largest error {error:e}");
    assert!(error <= 1.5 * (-f64::from(bits)).exp2(), "{error}");
    assert_eq!(program.plan().precision, Precision::Expected);
    program
}

#[test]
fn convolutions_with_squares_and_dense_layers() {
    let program = check(
        r#"
        input = [1, 8, 8]
        layers = [
            { conv2d = { channels = 3, kernel = 3, stride = 2, padding = 1 } },
            "square",
            "flatten",
            { dense = { outputs = 6 } },
            "square",
            { dense = { outputs = 4 } },
        ]"#,
        8,
    );
    assert_eq!(program.plan().outputs, 4);
    assert_eq!(program.plan().squares, 48 + 6);
}

#[test]
fn normalised_channels_with_trained_quadratics_and_pools() {
    let program = check(
        r#"
        input = [2, 8, 8]
        layers = [
            { conv2d = { channels = 4, kernel = 3, padding = 1, groups = 2 } },
            { batch_norm = {} },
            { polynomial = { degree = 2, per = "channel" } },
            { average_pool = { kernel = 2 } },
            { conv2d = { channels = 3, kernel = [3, 2] } },
            { hermite = {} },
            { dropout = { rate = 0.5 } },
            { sum_pool = { kernel = 2, stride = 1 } },
            "flatten",
            { dense = { outputs = 2 } },
        ]"#,
        8,
    );
    // Squares are summed over windows before they are relinearised.
    assert!(program.plan().relinearisations < program.plan().squares);
}

#[test]
fn residual_connections_and_element_wise_quadratics() {
    check(
        r#"
        input = [1, 6, 6]
        layers = [
            { conv2d = { channels = 3, kernel = 3 } },
            { polynomial = { degree = 2, per = "element" } },
            { add = { body = [
                { conv2d = { channels = 3, kernel = 3, padding = 1 } },
                { fixed_polynomial = { coefficients = [0.1, 0.5, 0.12] } },
                { conv2d = { channels = 3, kernel = 1 } },
            ] } },
            { polynomial = { degree = 2, per = "layer" } },
            { add = { body = [{ conv2d = { channels = 2, kernel = 2, stride = 2 } }], shortcut = [
                { conv2d = { channels = 2, kernel = 2, stride = 2 } },
                { power = { scale = 0.1, power = 2 } },
            ] } },
            "flatten",
            { dense = { outputs = 1 } },
        ]"#,
        7,
    );
}

#[test]
fn polynomials_of_higher_degree() {
    // ReLU of degrees 3, 4 and 6 on [-3, 3] or so.
    for (coefficients, levels) in [
        ("[0.1, 0.5, 0.15, 0.02]", 5),
        ("[0.0, 0.5, 0.159, 0.0, -0.00445]", 5),
        ("[0.0, 0.5, 0.2097, 0.01, -0.01309, 0.0, 0.000456]", 6),
    ] {
        let text = format!(
            r#"
            input = 6
            layers = [
                {{ dense = {{ outputs = 5 }} }},
                {{ fixed_polynomial = {{ coefficients = {coefficients} }} }},
                {{ dense = {{ outputs = 2 }} }},
            ]"#
        );
        let program = check(&text, 7);
        assert!(program.plan().levels <= levels, "{}", program.plan().levels);
    }
}

/// Declared input ranges alone give a bound, recorded activations an expectation, and neither is made up.
#[test]
fn a_model_file_says_what_it_is_compiled_by() {
    let text = "input = 2\nlayers = [{ dense = { outputs = 2 } }, \"square\", { dense = { outputs = 1 } }]";
    let mut file = ModelFile::from(random_model(text, 1));
    assert!(matches!(
        Program::compile_file(&file, 8),
        Err(CompileError::NotRecorded)
    ));
    file.annotations.inputs = vec![Range::new(-1.0, 1.0), Range::new(0.0, 2.0)];
    let declared = Program::compile_file(&file, 8).unwrap();
    assert_eq!(declared.plan().precision, Precision::Guaranteed);
    assert_eq!(declared.ranges(), file.annotations.inputs);
    file.record(&[[0.5, 0.5], [-0.5, 1.0]]).unwrap();
    let recorded = Program::compile_file(&file, 8).unwrap();
    assert_eq!(recorded.plan().precision, Precision::Expected);
    assert_eq!(recorded.ranges(), declared.ranges());
}

/// A layout is known to be more precise where channels lie closer together than their layer, and where most values are much smaller than the
/// largest one; and for patients like most it is.
#[test]
fn what_was_recorded_of_channels_and_of_most_patients_counts() {
    let text = r#"input = [1, 6, 6]
        layers = [{ conv2d = { channels = 4, kernel = 3 } }, { batch_norm = {} }, { polynomial = { degree = 2, per = "channel" } },
            { conv2d = { channels = 4, kernel = 3 } }, "square", "flatten", { dense = { outputs = 3 } }]"#;
    let mut file = ModelFile::from(random_model(text, 7));
    let mut stream = Stream::new("one in forty", 1, &[]);
    let mut image = |size: f64| -> Vec<f64> { (0..36).map(|_| size * stream.unit()).collect() };
    let mut images: Vec<Vec<f64>> = (0..39).map(|_| image(0.1)).collect();
    images.push(image(1.0));
    file.record(&images).unwrap();
    const BITS: u32 = 8;
    let mut ranges_only = file.clone();
    let mut layers_only = file.clone();
    for seen in &mut ranges_only.annotations.activations {
        seen.moments.clear();
    }
    for seen in &mut layers_only.annotations.activations {
        seen.moments.clear();
        let overall = seen.overall();
        seen.channels.fill(overall);
    }
    let choice = Program::compile_file(&layers_only, BITS)
        .unwrap()
        .choice()
        .clone();
    let program = |file: &ModelFile| Program::from_choice(file, BITS, &choice).unwrap();
    let [layers, channels, all] = [&layers_only, &ranges_only, &file].map(program);
    let bits = [&layers, &channels, &all].map(|p| p.plan().precision_bits);
    assert!(bits[1] > bits[0] + 0.1 && bits[2] > bits[1] + 0.5, "{bits:?}");
    // What it costs less is taken.
    let cheapest = Program::compile_file(&file, BITS).unwrap();
    assert!(cheapest.plan().cost <= layers.plan().cost);
    for program in [Arc::new(all), Arc::new(cheapest)] {
        let querier = Querier::generate(program.interface()).unwrap();
        let key = querier.serving_key().unwrap().to_bytes().unwrap();
        let batch = querier.encrypt_batch(&images).unwrap().to_bytes().unwrap();
        let answer = program.answer(&key, &batch, &mut |_, _| {}).unwrap();
        let found = querier.outputs(&answer, images.len()).unwrap();
        let expected = file.model.forward(&images).unwrap();
        let planned = (-program.plan().precision_bits).exp2() + 0.5 * (-f64::from(BITS)).exp2();
        for (found, expected) in found.iter().zip(expected.rows()).take(39) {
            for (a, b) in found.iter().zip(expected) {
                assert!((a - b).abs() <= planned, "{a} {b} {planned}");
            }
        }
    }
}

fn twelve_by_twelve() -> ModelFile {
    let text = r#"input = [1, 12, 12]
        layers = [{ conv2d = { channels = 8, kernel = 3 } }, "square", { average_pool = { kernel = 2 } },
            { conv2d = { channels = 8, kernel = 1 } }, "square", "flatten", { dense = { outputs = 2 } }]"#;
    let mut file = ModelFile::from(random_model(text, 1));
    file.record(&[vec![0.5; 144], vec![0.25; 144]]).unwrap();
    file
}

/// What is allowed is kept, or refused with what it would take; the bound is on what is held at one time, not on all there is.
#[test]
fn memory_is_bounded() {
    let file = twelve_by_twelve();
    let free = Program::compile_file(&file, 6).unwrap();
    let plan = free.plan();
    // Layer by layer, the first squares (of degree 2), what is squared, and the inputs would be held together: 800 and half as much more, 800, 144.
    let each = 2 * (plan.levels as u64 + 1) * plan.degree as u64 * 8;
    assert!(plan.peak_bytes < 1000 * each, "{plan:?}");
    let bounded = |max_bytes: u64| {
        let memory = Memory {
            max_bytes,
            spill: false,
        };
        Program::compile_watched(&file, 6, memory, &|_, _| {})
    };
    assert_eq!(bounded(plan.peak_bytes).unwrap().plan(), plan);
    match bounded(1 << 20) {
        Err(CompileError::Memory {
            needed_mib,
            allowed_mib: 1,
            ..
        }) => assert!(needed_mib > 1 && needed_mib <= plan.peak_bytes.div_ceil(1 << 20)),
        other => panic!("{:?}", other.map(|program| program.plan().clone())),
    }
}

/// What does not fit waits in files, which are gone afterwards; answers are right, also those of a program that was made again from its choice.
#[test]
fn what_does_not_fit_waits_on_disk() {
    let file = twelve_by_twelve();
    let free = Program::compile_file(&file, 6).unwrap();
    let spilling = |max_bytes| {
        let memory = Memory {
            max_bytes,
            spill: true,
        };
        Program::compile_watched(&file, 6, memory, &|_, _| {})
    };
    let scratch = tempfile::tempdir().unwrap();
    // The last layer reads all features at once.
    let Err(CompileError::Memory { needed_mib, .. }) = spilling(1 << 20) else {
        panic!("a MiB is enough");
    };
    let memory = needed_mib << 20;
    let program = spilling(memory).unwrap();
    let plan = program.plan();
    assert!(free.plan().peak_bytes > memory && plan.peak_bytes <= memory);
    let spilled = plan.spilled.unwrap();
    assert!(spilled.read_bytes > 0 && spilled.written_bytes >= spilled.disk_bytes);
    println!(
        "{needed_mib} MiB in place of {}, {spilled:?}",
        free.plan().peak_bytes >> 20
    );
    assert_eq!((&plan.preset, plan.cost), (&free.plan().preset, free.plan().cost));

    let again = Program::from_choice(&file, 6, program.choice()).unwrap();
    assert_eq!(again.plan(), plan);
    let again = again.with_scratch(scratch.path());
    let querier = Querier::generate(again.interface()).unwrap();
    let key = querier.serving_key().unwrap().to_bytes().unwrap();
    let images: Vec<Vec<f64>> = vec![vec![0.5; 144], vec![0.25; 144]];
    let batch = querier.encrypt_batch(&images).unwrap().to_bytes().unwrap();
    let mut files = 0;
    let answer = again.answer(&key, &batch, &mut |_, _| {
        let folders = std::fs::read_dir(scratch.path()).unwrap();
        let count: usize = folders
            .map(|f| std::fs::read_dir(f.unwrap().path()).unwrap().count())
            .sum();
        files = files.max(count);
    });
    assert!(files > 5, "{files}");
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    let outputs = querier.outputs(&answer.unwrap(), 2).unwrap();
    let expected = file.model.forward(&images).unwrap();
    for (found, expected) in outputs.iter().zip(expected.rows()) {
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() <= 1.5 / 64.0, "{a} {b}");
        }
    }

    // A batch that is cut is refused, and leaves nothing behind.
    let cut = again.answer(&key, &batch[..batch.len() - 1], &mut |_, _| {});
    assert!(matches!(cut, Err(RunError::Ckks(_))));
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);

    // A folder that cannot be made.
    let blocked = scratch.path().join("file");
    std::fs::write(&blocked, "").unwrap();
    let refused = again.with_scratch(&blocked).answer(&key, &batch, &mut |_, _| {});
    assert!(matches!(refused, Err(RunError::Disk { path, .. }) if path == blocked));
}
