//! The trainer against an independent computation of its gradient, and its refusals.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use galen_core::study::TrainingPlan;
use galen_models::random::Stream;
use galen_models::{Layer, Model, ModelSpec, Shape, metrics};
use galen_training::{Device, Order, TrainError, train};

fn plan() -> TrainingPlan {
    TrainingPlan {
        rounds: 1,
        local_epochs: 1,
        batch_size: 1000,
        learning_rate: 0.5,
        learning_rate_decay: 0.5,
        momentum: 0.0,
        weight_decay: 0.02,
        latent_penalty: 0.3,
        latent_bound: 0.2,
        clip: 1.0,
        fraction_bits: 24,
        ..TrainingPlan::default()
    }
}

const ORDER: Order<'static> = Order {
    seed: 5,
    party: "p",
    round: 0,
};

fn data(n: usize, width: usize) -> (Vec<Vec<f64>>, Vec<bool>) {
    let mut stream = Stream::new("test data", 1, &[]);
    let rows: Vec<Vec<f64>> = (0..n)
        .map(|_| (0..width).map(|_| 2.0 * stream.symmetric()).collect())
        .collect();
    let labels = rows.iter().map(|r| r[0] * r[0] + 0.5 * r[1] > 1.0).collect();
    (rows, labels)
}

fn model(width: usize, hidden: &[usize]) -> Model {
    Model::initial(ModelSpec::residual_mlp(width, hidden, 0.3, 2).unwrap(), 11).unwrap()
}

/// Cross-entropy plus penalty plus half the squared weights times the decay, in `f64` from the definition.
fn objective(model: &Model, rows: &[Vec<f64>], labels: &[bool], plan: &TrainingPlan) -> f64 {
    let mut loss = 0.0;
    for (row, &label) in rows.iter().zip(labels) {
        let blocks = model.spec().parameters();
        let values = |i: usize| blocks[i].of(model.params());
        let mut x = row.clone();
        let mut at = 0;
        for layer in &model.spec().layers {
            let affine = |i: usize| -> Vec<f64> {
                let dot = |w: &[f64]| w.iter().zip(&x).map(|(w, x)| w * x).sum::<f64>();
                values(i)
                    .chunks(x.len())
                    .zip(values(i + 1))
                    .map(|(w, b)| dot(w) + b)
                    .collect()
            };
            if let Layer::Residual { scale, .. } = layer {
                let u = affine(at + 2);
                let over: f64 = u.iter().map(|u| (u.abs() - plan.latent_bound).max(0.0)).sum();
                loss += plan.latent_penalty * over / u.len() as f64;
                x = affine(at)
                    .iter()
                    .zip(&u)
                    .map(|(y, u)| y + scale * u * u)
                    .collect();
                at += 4;
            } else {
                x = affine(at);
                at += 2;
            }
        }
        let p = metrics::sigmoid(x[0]);
        loss -= if label { p.ln() } else { (1.0 - p).ln() };
    }
    let weights = model
        .spec()
        .parameters()
        .into_iter()
        .filter(|b| b.name.ends_with("weight"));
    let squares: f64 = weights
        .flat_map(|b| b.of(model.params()).to_vec())
        .map(|w| w * w)
        .sum();
    loss / rows.len() as f64 + plan.weight_decay * squares / 2.0
}

/// One full-batch step is minus the step size times the gradient, which finite differences give.
#[test]
fn a_step_follows_the_gradient() {
    let (rows, labels) = data(60, 3);
    let base = model(3, &[4, 2]);
    let plan = plan();
    let next = train(&Device::cpu(), &base, &rows, &labels, &plan, ORDER, &mut |_| {}).unwrap();
    const H: f64 = 1e-5;
    for i in 0..base.params().len() {
        let shifted = |h: f64| {
            let mut params = base.params().to_vec();
            params[i] += h;
            objective(
                &Model::new(base.spec().clone(), params).unwrap(),
                &rows,
                &labels,
                &plan,
            )
        };
        let gradient = (shifted(H) - shifted(-H)) / (2.0 * H);
        let step = next.params()[i] - base.params()[i];
        assert!(
            (step + 0.5 * gradient).abs() < 2e-4,
            "parameter {i}: {step} {gradient}"
        );
    }
}

#[test]
fn the_step_size_decays_from_round_to_round() {
    let (rows, labels) = data(60, 3);
    let base = model(3, &[4]);
    let norm = |round| {
        let order = Order { round, ..ORDER };
        let next = train(&Device::cpu(), &base, &rows, &labels, &plan(), order, &mut |_| {}).unwrap();
        let step = next
            .params()
            .iter()
            .zip(base.params())
            .map(|(n, b)| (n - b) * (n - b));
        step.sum::<f64>().sqrt()
    };
    let ratio = norm(2) / norm(0);
    assert!((ratio - 0.25).abs() < 1e-4, "{ratio}");
}

#[test]
fn training_learns_what_a_linear_model_cannot() {
    let (rows, labels) = data(300, 3);
    let base = model(3, &[8]);
    let plan = TrainingPlan {
        local_epochs: 60,
        batch_size: 32,
        learning_rate: 0.05,
        momentum: 0.9,
        weight_decay: 0.0,
        latent_penalty: 0.001,
        latent_bound: 5.0,
        ..plan()
    };
    let mut losses = Vec::new();
    let next = train(&Device::cpu(), &base, &rows, &labels, &plan, ORDER, &mut |p| {
        assert_eq!((p.epoch as usize, p.epochs), (losses.len() + 1, 60));
        losses.push(p.loss);
    })
    .unwrap();
    assert_eq!(losses.len(), 60);
    assert!(losses[59] < losses[0] / 2.0, "{losses:?}");
    let auc = metrics::auc(&next.logits(&rows).unwrap(), &labels).unwrap();
    assert!(auc > 0.97, "{auc}");
}

#[test]
fn the_order_of_batches_follows_from_seed_party_and_round() {
    let (rows, labels) = data(60, 3);
    let base = model(3, &[4]);
    let plan = TrainingPlan {
        batch_size: 8,
        learning_rate_decay: 1.0,
        ..plan()
    };
    let digest = |order| {
        train(&Device::cpu(), &base, &rows, &labels, &plan, order, &mut |_| {})
            .unwrap()
            .digest()
    };
    let first = digest(ORDER);
    assert_eq!(first, digest(ORDER));
    for other in [
        Order { seed: 6, ..ORDER },
        Order { party: "q", ..ORDER },
        Order { round: 1, ..ORDER },
    ] {
        assert_ne!(first, digest(other), "{other:?}");
    }
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let device = Device::cpu();
    let base = model(3, &[4]);
    let (rows, labels) = data(10, 3);
    let run = |base: &Model, rows: &[Vec<f64>], labels: &[bool], plan: &TrainingPlan| {
        train(&device, base, rows, labels, plan, ORDER, &mut |_| {}).unwrap_err()
    };
    assert!(matches!(
        run(&base, &[], &[], &plan()),
        TrainError::Rows { rows: 0, .. }
    ));
    assert!(matches!(
        run(&base, &rows, &labels[1..], &plan()),
        TrainError::Rows { .. }
    ));
    let narrow = vec![vec![0.0; 3], vec![0.0; 2]];
    assert!(matches!(
        run(&base, &narrow, &[true, false], &plan()),
        TrainError::RowWidth {
            row: 1,
            expected: 3,
            found: 2
        }
    ));
    let two = ModelSpec {
        input: Shape::Features(3),
        layers: vec![Layer::Dense { outputs: 2 }],
    };
    let two = Model::initial(two, 0).unwrap();
    assert!(matches!(
        run(&two, &rows, &labels, &plan()),
        TrainError::Unsupported { .. }
    ));
    let wild = TrainingPlan {
        learning_rate: 10.0,
        local_epochs: 50,
        batch_size: 2,
        ..plan()
    };
    assert!(matches!(
        run(&base, &rows, &labels, &wild),
        TrainError::Diverged(_)
    ));
}

/// Two full steps from the same place: the proximal term pulls the second one back by mu times how far the first one led, and the first
/// one not at all. Private parameters are not pulled.
#[test]
fn the_proximal_term_pulls_shared_parameters_back_to_where_they_began() {
    let (rows, labels) = data(40, 3);
    let base = model(3, &[4]);
    let run = |epochs, proximal, private: &[&str]| {
        let plan = TrainingPlan {
            local_epochs: epochs,
            proximal,
            private: private.iter().map(|name| (*name).to_owned()).collect(),
            ..plan()
        };
        train(&Device::cpu(), &base, &rows, &labels, &plan, ORDER, &mut |_| {})
    };
    let (mu, rate) = (0.4, plan().learning_rate);
    let first = run(1, 0.0, &[]).unwrap();
    assert_eq!(run(1, mu, &[]).unwrap().params(), first.params());
    let free = run(2, 0.0, &[]).unwrap();
    let held = run(2, mu, &[]).unwrap();
    let mixed = run(2, mu, &["layer1"]).unwrap();
    for block in base.spec().parameters() {
        for i in block.offset..block.offset + block.len() {
            let led = first.params()[i] - base.params()[i];
            let expected = free.params()[i] - rate * mu * led;
            assert!((held.params()[i] - expected).abs() < 1e-5, "{}", block.name);
            let expected = if block.name.starts_with("layer1.") {
                free.params()[i]
            } else {
                expected
            };
            assert!((mixed.params()[i] - expected).abs() < 1e-5, "{}", block.name);
        }
    }
    assert_ne!(held.params(), free.params());
    assert!(matches!(run(1, mu, &["layer9"]), Err(TrainError::Private(_))));
}
