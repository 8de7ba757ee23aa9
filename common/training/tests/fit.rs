//! Recipes followed: gradients, learning, interruption, teachers and transitions.

#![allow(clippy::unwrap_used, clippy::panic)]

use galen_data::augment::AugmentError;
use galen_data::{Dataset, Schema};
use galen_models::random::Stream;
use galen_models::{Model, ModelSpec};
use galen_training::recipes::{Recipe, RecipeError};
use galen_training::{Device, Epoch, Examples, FitError, Network, Options, Outcome, Targets, fit};
use std::path::Path;

/// Two classes that no linear model tells apart, as images of 6x6: whether two bright spots lie in the same half.
fn images(patients: usize, seed: u64) -> Examples {
    let mut stream = Stream::new("test images", seed, &[]);
    let mut inputs = Vec::new();
    let mut classes = Vec::new();
    for _ in 0..patients {
        let mut image: Vec<f32> = (0..36).map(|_| (0.1 * stream.symmetric()) as f32).collect();
        let spots = [stream.below(36), stream.below(36)];
        spots.iter().for_each(|&spot| image[spot] += 1.0);
        classes.push(u32::from(spots[0] / 18 == spots[1] / 18));
        inputs.extend(image);
    }
    Examples {
        inputs,
        targets: Targets::Classes(classes),
    }
}

fn network() -> ModelSpec {
    toml::from_str(
        r#"
        input = [1, 6, 6]
        layers = [
            { conv2d = { channels = 4, kernel = 3 } },
            { batch_norm = {} },
            { polynomial = { degree = 2, per = "channel" } },
            { average_pool = { kernel = 2 } },
            { conv2d = { channels = 6, kernel = 2 } },
            { polynomial = { degree = 2, per = "element" } },
            { dropout = { rate = 0.1 } },
            "flatten",
            { dense = { outputs = 2 } },
        ]
        "#,
    )
    .unwrap()
}

const RECIPE: &str = r#"
    seed = 4
    batch_size = 16
    augmentation = { shift = 0.01, brightness = 0.01 }
    [[stages]]
    name = "teacher"
    epochs = 3
    activations = "relu"
    max_pooling = true
    becomes_teacher = true
    weights = { learning_rate = 0.01 }
    schedule = { plateau = { patience = 0 } }
    [[stages]]
    name = "transition"
    epochs = 5
    activations = { transition = { order = "layer_by_layer", epochs_per_change = 2 } }
    weights = { method = "sgd", learning_rate = 0.01, weight_decay = 1e-4 }
    schedule = { cosine = {} }
    clip = 5.0
    distillation = {}
    penalty = { weight = 0.01, bound = 3.0, reach = "largest" }
    least_leading = 0.05
    [[stages]]
    name = "last"
    epochs = 3
    weights = { method = "adam_w", learning_rate = 0.003, weight_decay = 1e-3 }
    averaging = 0.9
    recalibrate = true
    early_stopping = { patience = 5 }
"#;

fn run(checkpoint: Option<&Path>, stop_after: Option<usize>) -> Result<Outcome, FitError> {
    let recipe: Recipe = toml::from_str(RECIPE).unwrap();
    let model = Model::for_recipe(&network(), &recipe).unwrap();
    let network = Network::new(&Device::cpu(), &model).unwrap();
    let mut finished = 0;
    fit(
        network,
        &recipe,
        &images(120, 1),
        Some(&images(60, 2)),
        Options {
            checkpoint,
            progress: &mut |event| {
                finished += usize::from(event.finished.is_some());
                // The checkpoint of an epoch is written after it was reported: a process killed here loses the epoch.
                if stop_after == Some(finished) && event.finished.is_some() {
                    std::panic::panic_any("killed");
                }
            },
        },
    )
}

#[test]
fn an_interrupted_run_ends_in_the_same_bits() {
    let whole = run(None, None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.checkpoint");
    for stop_after in [2, 2, 3, 4] {
        let killed = std::panic::catch_unwind(|| run(Some(&file), Some(stop_after)));
        assert!(killed.is_err());
    }
    let resumed = run(Some(&file), None).unwrap();
    assert_eq!(resumed.model.digest(), whole.model.digest());
    assert_eq!(
        resumed.teacher.unwrap().digest(),
        whole.teacher.as_ref().unwrap().digest()
    );
    assert_eq!(resumed.epochs, whole.epochs);
    // A finished run gives its result again, without training.
    let again = run(Some(&file), Some(1)).unwrap();
    assert_eq!(again.model.digest(), whole.model.digest());
    let shares: Vec<Vec<f64>> = whole.epochs.iter().map(|e: &Epoch| e.shares.clone()).collect();
    assert_eq!(shares[0], [0.0, 0.0]);
    assert_eq!(
        shares[3..8],
        [[0.0, 0.0], [0.0, 0.5], [0.0, 1.0], [0.5, 1.0], [1.0, 1.0]].map(Vec::from)
    );
    assert_eq!(shares[10], [1.0, 1.0]);
}

#[test]
fn checkpoints_of_other_runs_and_damaged_ones_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.checkpoint");
    let _ = std::panic::catch_unwind(|| run(Some(&file), Some(2)));
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let error = run(Some(&file), None).unwrap_err().to_string();
    assert!(
        error.contains("damaged") && error.contains("run.checkpoint"),
        "{error}"
    );
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let mut recipe: Recipe = toml::from_str(RECIPE).unwrap();
    recipe.seed = 5;
    let network = Network::new(&Device::cpu(), &Model::for_recipe(&network(), &recipe).unwrap()).unwrap();
    let options = Options {
        checkpoint: Some(&file),
        progress: &mut |_| {},
    };
    let error = fit(network, &recipe, &images(120, 1), None, options)
        .unwrap_err()
        .to_string();
    assert!(error.contains("another recipe"), "{error}");
}

fn quietly(recipe: &Recipe, model: &Model, training: &Examples) -> Result<Outcome, FitError> {
    let network = Network::new(&Device::cpu(), model).unwrap();
    fit(
        network,
        recipe,
        training,
        None,
        Options {
            checkpoint: None,
            progress: &mut |_| {},
        },
    )
}

/// One step of plain descent is minus the step size times the gradient, which finite differences of the loss give; here through
/// convolution, normalisation by the batch, both poolings, residual addition, Hermite terms and polynomials.
#[test]
fn a_step_follows_the_gradient() {
    let spec: ModelSpec = toml::from_str(
        r#"
        input = [2, 4, 4]
        layers = [
            { conv2d = { channels = 4, kernel = 3, padding = 1, groups = 2 } },
            { batch_norm = {} },
            { polynomial = { degree = 3, per = "channel" } },
            { add = { body = [{ conv2d = { channels = 4, kernel = 1 } }, { power = { scale = 0.2, power = 2 } }] } },
            { hermite = {} },
            { average_pool = { kernel = 2 } },
            { polynomial = { degree = 2, per = "element" } },
            "flatten",
            { residual = { outputs = 3, scale = 0.1, power = 2 } },
            { dense = { outputs = 3 } },
        ]
        "#,
    )
    .unwrap();
    let rate = 1e-3;
    let text = format!(
        "seed = 1\nbatch_size = 100\n[[stages]]\nname = \"a\"\nepochs = 1\nweights = {{ method = \"sgd\", learning_rate = {rate}, momentum = 0.0 }}\n\
         coefficients = {{ method = \"sgd\", learning_rate = {rate}, momentum = 0.0 }}\npenalty = {{ weight = 0.3, bound = 0.2 }}"
    );
    let recipe: Recipe = toml::from_str(&text).unwrap();
    let mut stream = Stream::new("gradient", 3, &[]);
    let training = Examples {
        inputs: (0..12 * 32).map(|_| stream.symmetric() as f32).collect(),
        targets: Targets::Classes((0..12).map(|i| i % 3).collect()),
    };
    let base = Model::for_recipe(&spec, &recipe).unwrap();
    let next = quietly(&recipe, &base, &training).unwrap();
    let loss = |params: Vec<f64>| {
        let model = Model::new(spec.clone(), params).unwrap();
        quietly(&recipe, &model, &training).unwrap().epochs[0].loss
    };
    const H: f64 = 4e-3;
    let mut checked = 0;
    for block in spec.parameters().iter().filter(|b| b.kind.is_trained()) {
        let mut gradient = Vec::new();
        let mut step = Vec::new();
        for i in (block.offset..block.offset + block.len()).step_by(1 + block.len() / 8) {
            let shifted = |h: f64| {
                let mut params = base.params().to_vec();
                params[i] += h;
                loss(params)
            };
            gradient.push((shifted(H) - shifted(-H)) / (2.0 * H));
            step.push((base.params()[i] - next.model.params()[i]) / rate);
        }
        for (g, s) in gradient.iter().zip(&step) {
            assert!(
                (g - s).abs() < 0.01 + 0.05 * g.abs(),
                "{}: {gradient:?} {step:?}",
                block.name
            );
            checked += usize::from(g.abs() > 0.05);
        }
    }
    assert!(checked > 15, "{checked}");
}

#[test]
fn a_transition_with_a_teacher_learns_what_a_linear_model_cannot() {
    let text = RECIPE
        .replace("epochs = 3", "epochs = 12")
        .replace("epochs = 5", "epochs = 12");
    let recipe: Recipe = toml::from_str(&text).unwrap();
    let training = images(600, 1);
    let outcome = quietly(
        &recipe,
        &Model::for_recipe(&network(), &recipe).unwrap(),
        &training,
    )
    .unwrap();
    let trained = Network::new(&Device::cpu(), &outcome.model).unwrap();
    let test = images(300, 9);
    let (outputs, ranges) = trained.evaluate(&test.inputs).unwrap();
    assert!(
        ranges
            .iter()
            .all(|r| r.magnitude() > 0.1 && r.magnitude() < 100.0),
        "{ranges:?}"
    );
    let Targets::Classes(classes) = test.targets else {
        unreachable!()
    };
    let hits = outputs
        .chunks(2)
        .zip(&classes)
        .filter(|(z, c)| u32::from(z[1] > z[0]) == **c)
        .count();
    assert!(hits > 270, "{hits} of 300");
}

#[test]
fn regression_learns_a_product() {
    let mut stream = Stream::new("product", 3, &[]);
    let inputs: Vec<f32> = (0..600).map(|_| stream.symmetric() as f32).collect();
    let values = inputs.chunks(2).map(|x| 3.0 * x[0] * x[1] + 1.0).collect();
    let training = Examples {
        inputs,
        targets: Targets::Values(values),
    };
    let spec: ModelSpec =
        toml::from_str("input = 2\nlayers = [{ residual = { outputs = 6, scale = 0.5, power = 2 } }, { dense = { outputs = 1 } }]").unwrap();
    let recipe: Recipe = toml::from_str(
        "seed = 1\nbatch_size = 20\nobjective = \"regression\"\n[[stages]]\nname = \"a\"\nepochs = 60\nweights = { learning_rate = 0.02 }\nschedule = { cosine = {} }",
    )
    .unwrap();
    let outcome = quietly(&recipe, &Model::for_recipe(&spec, &recipe).unwrap(), &training).unwrap();
    let losses: Vec<f64> = outcome.epochs.iter().map(|e| e.loss).collect();
    assert!(losses[59] < 0.01 && losses[0] > 0.5, "{losses:?}");
}

/// Data sets become examples in their order, and training sees their images varied.
#[test]
fn augmentation_changes_what_is_learnt() {
    let schema: Schema =
        toml::from_str("input = [1, 6, 6]\ntarget = { classes = { classes = [\"apart\", \"together\"] } }")
            .unwrap();
    let plain = images(40, 1);
    let Targets::Classes(classes) = &plain.targets else {
        unreachable!()
    };
    let targets = galen_data::Targets::Classes(classes.clone());
    let data = Dataset::new(schema, plain.inputs.clone(), targets, None, None).unwrap();
    let training = Examples::from(&data);
    assert_eq!(training, plain);
    let mut recipe: Recipe = toml::from_str(RECIPE).unwrap();
    recipe.stages.truncate(1);
    let model = Model::for_recipe(&network(), &recipe).unwrap();
    let mut digests = Vec::new();
    for shift in [0.2, 0.2, 0.3, 0.0] {
        let augmentation = recipe.augmentation.as_mut().unwrap();
        (augmentation.shift, augmentation.brightness) = (shift, 0.0);
        digests.push(quietly(&recipe, &model, &training).unwrap().model.digest());
    }
    let nothing = digests[3];
    recipe.augmentation = None;
    digests.push(quietly(&recipe, &model, &training).unwrap().model.digest());
    assert_eq!(digests[0], digests[1]);
    assert_eq!(digests[4], nothing);
    assert!(digests[0] != digests[2] && digests[0] != nothing && digests[2] != nothing);
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let recipe: Recipe = toml::from_str(RECIPE).unwrap();
    let model = Model::for_recipe(&network(), &recipe).unwrap();
    let refused =
        |recipe: &Recipe, training: &Examples| quietly(recipe, &model, training).unwrap_err().to_string();
    let mut training = images(10, 1);
    training.inputs.pop();
    assert!(refused(&recipe, &training).contains("whole patients"));
    training = images(10, 1);
    training.inputs[40] = f32::NAN;
    assert!(refused(&recipe, &training).contains("patient 1 "));
    training = images(10, 1);
    training.targets = Targets::Classes(vec![0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    assert!(refused(&recipe, &training).contains("patient 2 is of class 2"));
    training.targets = Targets::Values(vec![0.0; 20]);
    assert!(refused(&recipe, &training).contains("classification"));
    let training = images(40, 1);
    for (from, to, what) in [
        ("becomes_teacher = true", "", "distillation"),
        ("epochs = 5", "epochs = 0", "epochs"),
        ("averaging = 0.9", "averaging = 1.0", "averaging"),
        ("batch_size = 16", "batch_size = 0", "batch_size"),
        ("clip = 5.0", "clip = -1.0", "clip"),
        ("clip = 5.0", "warm_up = 5.5", "warm_up"),
        (
            "epochs_per_change = 2",
            "epochs_per_change = 3",
            "the transition of 2 activations takes 6",
        ),
        ("shift = 0.01", "shift = 1.5", "shift is outside 0 to 1"),
    ] {
        let wrong: Recipe = toml::from_str(&RECIPE.replace(from, to)).unwrap();
        let text = refused(&wrong, &training);
        assert!(text.contains(what), "{text}");
    }
    let row: ModelSpec = toml::from_str("input = 36\nlayers = [{ dense = { outputs = 2 } }]").unwrap();
    let row = Model::for_recipe(&row, &recipe).unwrap();
    let error = quietly(&recipe, &row, &training).unwrap_err();
    assert!(
        matches!(
            error,
            FitError::Recipe(RecipeError::Augmentation(AugmentError::NoImage))
        ),
        "{error}"
    );
    let wild: Recipe =
        toml::from_str(&RECIPE.replace("learning_rate = 0.01", "learning_rate = 1e9")).unwrap();
    let error = quietly(&wild, &model, &training).unwrap_err();
    assert!(
        matches!(error, FitError::Diverged { .. } | FitError::Network(_)),
        "{error}"
    );
}
