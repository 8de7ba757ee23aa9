//! What single settings of a stage do.

#![allow(clippy::unwrap_used, clippy::panic)]

use galen_models::random::Stream;
use galen_models::{Model, ModelFile, ModelSpec, ParameterKind, metrics};
use galen_training::recipes::Recipe;
use galen_training::{Device, Examples, Network, Options, Outcome, Targets, evaluate, fit, record};

fn spec(text: &str) -> ModelSpec {
    toml::from_str(text).unwrap()
}

/// Random inputs of random classes.
fn patients(count: usize, width: usize, seed: u64) -> Examples {
    let mut stream = Stream::new("stages", seed, &[]);
    Examples {
        inputs: (0..count * width).map(|_| stream.symmetric() as f32).collect(),
        targets: Targets::Classes((0..count).map(|_| stream.below(2) as u32).collect()),
    }
}

fn run(recipe: &Recipe, model: &Model, training: &Examples, validation: Option<&Examples>) -> Outcome {
    let network = Network::new(&Device::cpu(), model).unwrap();
    let options = Options {
        checkpoint: None,
        progress: &mut |_| {},
    };
    fit(network, recipe, training, validation, options).unwrap()
}

/// A recipe of stages that change no parameter and see all patients in one step, with the given further lines.
fn still(stages: &[&str]) -> Recipe {
    let stage = |lines: &&str| {
        format!(
            "[[stages]]\nname = \"still\"\nepochs = 1\nweights = {{ method = \"sgd\", learning_rate = 1e-30 }}\n\
             coefficients = {{ method = \"sgd\", learning_rate = 1e-30 }}\n{lines}\n"
        )
    };
    let stages: String = stages.iter().map(stage).collect();
    toml::from_str(&format!("seed = 1\nbatch_size = 100\n{stages}")).unwrap()
}

/// Mean cross-entropy of the patients' two logits.
fn entropy(model: &Model, examples: &Examples) -> f64 {
    let Targets::Classes(classes) = &examples.targets else {
        unreachable!()
    };
    let outputs = evaluate(model, examples).unwrap();
    let rows = outputs.chunks(2).zip(classes);
    let losses = rows.map(|(z, &class)| -metrics::softmax(z)[class as usize].ln());
    losses.sum::<f64>() / classes.len() as f64
}

#[test]
fn distillation_adds_the_divergence_from_the_teacher() {
    let own = spec(
        r#"
        input = [1, 4, 4]
        layers = [{ conv2d = { channels = 2, kernel = 3, padding = 1 } }, "square", { average_pool = { kernel = 2 } }, "flatten", { dense = { outputs = 2 } }]
        "#,
    );
    let teacher = spec(
        r#"
        input = [1, 4, 4]
        layers = [{ conv2d = { channels = 2, kernel = 3, padding = 1 } }, "relu", { max_pool = { kernel = 2 } }, "flatten", { dense = { outputs = 2 } }]
        "#,
    );
    let recipe = still(&[
        "activations = \"relu\"\nmax_pooling = true\nbecomes_teacher = true",
        "distillation = { temperature = 2, weight = 0.5 }",
    ]);
    let model = Model::for_recipe(&own, &recipe).unwrap();
    let training = patients(40, 16, 1);
    let outcome = run(&recipe, &model, &training, None);
    let teacher = Model::new(teacher, model.params().to_vec()).unwrap();
    let alone = outcome.teacher.as_ref().unwrap();
    assert_eq!(alone.spec(), teacher.spec());
    let pairs = alone.params().iter().zip(teacher.params());
    assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-6));
    let losses: Vec<f64> = outcome.epochs.iter().map(|e| e.loss).collect();
    assert!(
        (losses[0] - entropy(&teacher, &training)).abs() < 1e-5,
        "{losses:?}"
    );
    let halves = |model: &Model| -> Vec<f64> {
        let outputs = evaluate(model, &training).unwrap();
        let halves = outputs
            .chunks(2)
            .map(|z| metrics::softmax(&[z[0] / 2.0, z[1] / 2.0]));
        halves.flatten().collect()
    };
    let pairs = halves(&teacher).into_iter().zip(halves(&model));
    let divergence = pairs.map(|(t, s)| t * (t / s).ln()).sum::<f64>() / 40.0;
    let expected = entropy(&model, &training) + 0.5 * 4.0 * divergence;
    assert!(divergence > 1e-3, "{divergence}");
    assert!((losses[1] - expected).abs() < 1e-5, "{losses:?} {expected}");
}

#[test]
fn penalties_measure_what_enters_activations() {
    let network =
        spec("input = 3\nlayers = [{ dense = { outputs = 4 } }, \"square\", { dense = { outputs = 2 } }]");
    let recipe = still(&[
        "",
        "penalty = { weight = 3.0, bound = 0.5 }",
        "penalty = { weight = 3.0, bound = 0.5, reach = \"largest\" }",
    ]);
    let model = Model::for_recipe(&network, &recipe).unwrap();
    let training = patients(50, 3, 2);
    let losses: Vec<f64> = run(&recipe, &model, &training, None)
        .epochs
        .iter()
        .map(|e| e.loss)
        .collect();
    let first = spec("input = 3\nlayers = [{ dense = { outputs = 4 } }]");
    let first = Model::new(first, model.params()[..16].to_vec()).unwrap();
    let entering = evaluate(&first, &training).unwrap();
    let mean = entering.iter().map(|u| (u.abs() - 0.5).max(0.0)).sum::<f64>() / entering.len() as f64;
    let end = |sign: f64| entering.iter().map(|u| sign * u - 0.5).fold(0.0, f64::max);
    let largest = end(1.0) + end(-1.0);
    assert!(
        mean > 0.01 && end(1.0) > 0.1 && end(-1.0) > 0.1,
        "{mean} {largest}"
    );
    for (loss, penalty) in losses.iter().zip([0.0, mean, largest]) {
        let expected = entropy(&model, &training) + 3.0 * penalty;
        assert!((loss - expected).abs() < 1e-5, "{losses:?} {mean} {largest}");
    }
}

#[test]
fn a_stage_from_scratch_keeps_the_fits() {
    let mut recipe = still(&["", "from_scratch = true"]);
    recipe.adaptation = Some(
        toml::from_str("activation = { trained = { degree = 2, radius = 3.0, per = \"layer\" } }").unwrap(),
    );
    recipe.stages[0].weights.learning_rate = 0.1;
    recipe.stages[0].coefficients.learning_rate = 0.1;
    let network =
        spec("input = 3\nlayers = [{ dense = { outputs = 4 } }, \"relu\", { dense = { outputs = 2 } }]");
    let model = Model::for_recipe(&network, &recipe).unwrap();
    let trained = run(
        &Recipe {
            stages: recipe.stages[..1].to_vec(),
            ..recipe.clone()
        },
        &model,
        &patients(50, 3, 3),
        None,
    );
    let renewed = run(&recipe, &model, &patients(50, 3, 3), None);
    let other = Model::initial(model.spec().clone(), 2).unwrap();
    for block in model.spec().parameters() {
        let of = |model: &Model| block.of(model.params()).to_vec();
        let expected = match block.kind {
            ParameterKind::Coefficient => &model,
            _ => &other,
        };
        let far = |model: &Model| {
            let pairs = of(model).into_iter().zip(of(expected));
            pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
        };
        assert!(far(&renewed.model) < 1e-7, "{}", block.name);
        assert!(far(&trained.model) > 1e-4, "{}", block.name);
    }
}

#[test]
fn early_stopping_takes_the_best_epoch() {
    let recipe: Recipe = toml::from_str(
        "seed = 1\nbatch_size = 10\n[[stages]]\nname = \"a\"\nepochs = 200\nweights = { learning_rate = 0.02 }\n\
         early_stopping = { patience = 3 }",
    )
    .unwrap();
    let network =
        spec("input = 4\nlayers = [{ dense = { outputs = 8 } }, \"square\", { dense = { outputs = 2 } }]");
    let (training, validation) = (patients(20, 4, 4), patients(20, 4, 5));
    let model = Model::for_recipe(&network, &recipe).unwrap();
    let outcome = run(&recipe, &model, &training, Some(&validation));
    let losses: Vec<f64> = outcome
        .epochs
        .iter()
        .map(|e| e.validation.unwrap().loss)
        .collect();
    let best = (0..losses.len())
        .min_by(|&a, &b| losses[a].total_cmp(&losses[b]))
        .unwrap();
    assert!(losses.len() < 200);
    assert_eq!(best + 5, losses.len(), "{losses:?}");
    let found = entropy(&outcome.model, &validation);
    assert!((found - losses[best]).abs() < 1e-5, "{found} {losses:?}");
}

#[test]
fn highest_coefficients_keep_away_from_zero() {
    let network = spec(
        "input = 4\nlayers = [{ dense = { outputs = 2 } }, { polynomial = { degree = 2, per = \"element\" } }, { dense = { outputs = 2 } }]",
    );
    let blocks = network.parameters();
    let block = blocks
        .iter()
        .find(|b| b.kind == ParameterKind::Coefficient)
        .unwrap();
    let mut params = Model::initial(network.clone(), 1).unwrap().params().to_vec();
    params[block.offset + 4] = 0.3;
    params[block.offset + 5] = -0.3;
    let model = Model::new(network, params).unwrap();
    // Next to the decay gradients are nothing: with each step it leaves 0.8 of a coefficient, or -0.9 of it.
    for (decay, signs) in [(2000.0, Some([1.0, -1.0])), (19000.0, None)] {
        let text = format!(
            "seed = 1\nbatch_size = 10\n[[stages]]\nname = \"a\"\nepochs = 20\nleast_leading = 0.05\naveraging = 0.5\n\
             weights = {{ learning_rate = 0.001 }}\n\
             coefficients = {{ method = \"sgd\", learning_rate = 1e-4, momentum = 0.0, weight_decay = {decay} }}"
        );
        let outcome = run(&toml::from_str(&text).unwrap(), &model, &patients(40, 4, 6), None);
        let leading = &block.of(outcome.model.params())[4..];
        for (at, found) in leading.iter().enumerate() {
            let sign = signs.map_or(found.signum(), |signs| signs[at]);
            assert!((found - 0.05 * sign).abs() < 1e-6, "{decay}: {leading:?}");
        }
    }
}

/// The ranges in a model file are those of all patients, however many parts they are evaluated in.
#[test]
fn what_training_data_show_is_recorded() {
    let recipe = still(&[""]);
    let network =
        spec("input = 3\nlayers = [{ dense = { outputs = 2 } }, \"square\", { dense = { outputs = 2 } }]");
    let model = Model::for_recipe(&network, &recipe).unwrap();
    let mut training = patients(1100, 3, 7);
    training.inputs[1000 * 3 + 1] = 9.0;
    let mut file = ModelFile::from(model.clone());
    let outputs = record(&mut file, &training).unwrap();
    assert_eq!(outputs, evaluate(&model, &training).unwrap());
    let first = spec("input = 3\nlayers = [{ dense = { outputs = 2 } }]");
    let first = Model::new(first, model.params()[..8].to_vec()).unwrap();
    let entering = evaluate(&first, &training).unwrap();
    let activation = &file.annotations.activations[0];
    assert_eq!(activation.path, "layer1");
    for (channel, range) in activation.channels.iter().enumerate() {
        let column = || entering.iter().skip(channel).step_by(2).copied();
        assert_eq!(range.min, column().fold(f64::INFINITY, f64::min));
        assert_eq!(range.max, column().fold(f64::NEG_INFINITY, f64::max));
    }
    let largest: Vec<f64> = file.annotations.inputs.iter().map(|r| r.max).collect();
    assert!(largest[0] < 1.0 && largest[1] == 9.0, "{largest:?}");
    let read = ModelFile::from_safetensors(&file.to_safetensors().unwrap()).unwrap();
    assert_eq!(read, file);
    training.inputs[6] = f32::NAN;
    let error = record(&mut file, &training).unwrap_err().to_string();
    assert_eq!(error, "evaluated data: patient 2 has a value that is not finite");
}
