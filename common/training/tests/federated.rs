//! A study with a recipe, in one process: what each hospital does in a round, and what comes of all rounds.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use galen_core::recipe::{Schedule, Stage};
use galen_core::study::{Server, Study};
use galen_models::{Course, Learned, Model, ParameterKind};
use galen_training::baseline::{self, Hospital};
use galen_training::{Device, Examples, Targets, federated};
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../configs/studies/heart")
}

/// The shipped study with a recipe: 5 rounds of a teacher, 4 of transition, 5 of polynomials.
fn personal() -> Study {
    let study: Study = galen_core::config::load(&folder().join("personal.toml")).unwrap();
    assert_eq!(study.check(), []);
    assert_eq!(Course::check(&study), []);
    study
}

fn hospitals(study: &Study) -> Vec<Hospital> {
    let load = |member: &galen_core::study::Member| {
        let file = folder().join(format!("{}.csv", member.name));
        Hospital::load(study, &member.name, &file).unwrap()
    };
    study.party.iter().map(load).collect()
}

fn stage(study: &mut Study, index: usize) -> &mut Stage {
    &mut study.training.recipe.as_mut().unwrap().stages[index]
}

/// Rows and labels that a line tells apart, and a few that it does not.
fn rows(inputs: usize) -> (Vec<Vec<f64>>, Vec<bool>) {
    let value = |row: usize, column: usize| ((row * 7 + column * 13) % 11) as f64 / 5.0 - 1.0;
    let rows: Vec<Vec<f64>> = (0..48)
        .map(|row| (0..inputs).map(|column| value(row, column)).collect())
        .collect();
    let labels = rows
        .iter()
        .enumerate()
        .map(|(i, r)| r[0] + 0.3 * r[1] > 0.0 || i % 9 == 0);
    let labels = labels.collect();
    (rows, labels)
}

/// One hospital's training in a round of a study, from what was learnt before.
fn local(study: &Study, round: u32, learned: Option<&Learned>, classes: [u64; 2]) -> Model {
    let course = Course::of(study).unwrap();
    let hospital = federated::Hospital {
        study,
        course: &course,
        party: "cleveland",
        round,
        learned,
        personal: None,
        classes,
    };
    let (rows, labels) = rows(course.network().inputs());
    let patients = Examples {
        inputs: rows.iter().flatten().map(|&x| x as f32).collect(),
        targets: Targets::Classes(labels.iter().map(|&positive| u32::from(positive)).collect()),
    };
    let mut seen = Vec::new();
    let step = hospital.train(&Device::cpu(), &patients, &mut |progress| {
        seen.push(progress.epoch)
    });
    assert_eq!(seen, (1..=study.training.local_epochs).collect::<Vec<_>>());
    step.unwrap().local
}

fn learned(params: &Model, teacher: bool) -> Learned {
    Learned {
        params: params.params().to_vec(),
        server: Default::default(),
        teacher: teacher.then(|| params.params().to_vec()),
    }
}

fn distance(a: &Model, b: &Model) -> f64 {
    let trained = |kind: ParameterKind| kind.is_trained();
    let mut sum = 0.0;
    for block in a.spec().parameters() {
        if trained(block.kind) {
            let pairs = block.of(a.params()).iter().zip(block.of(b.params()));
            sum += pairs.map(|(x, y)| (x - y) * (x - y)).sum::<f64>();
        }
    }
    sum.sqrt()
}

/// Step sizes, warm-up and the shares of a transition go by the round in its stage, however many passes a round has.
#[test]
fn schedule_and_transition_follow_the_round() {
    let mut study = personal();
    study.training.proximal = 0.0;
    let first = Course::of(&study).unwrap().first().clone();
    // The transition begins with round 5 of the study: share 0, then 1/3, 2/3, 1.
    let at = |study: &Study, round| local(study, round, Some(&learned(&first, true)), [1, 1]);
    let shares: Vec<Model> = (5..9).map(|round| at(&study, round)).collect();
    for (i, a) in shares.iter().enumerate() {
        assert!(shares[..i].iter().all(|b| distance(a, b) > 1e-6), "{i}");
    }
    // In the last stage the cosine falls to a tenth: later rounds lead less far.
    let far: Vec<f64> = (9..14)
        .map(|round| distance(&at(&study, round), &first))
        .collect();
    assert!(far.windows(2).all(|pair| pair[1] < pair[0]), "{far:?}");
    // One round of warm-up: the factor climbs from 0 to 1 over the passes of the round.
    stage(&mut study, 2).schedule = Schedule::Constant;
    let plain = distance(&at(&study, 9), &first);
    stage(&mut study, 2).warm_up = 1.0;
    let warm = distance(&at(&study, 9), &first);
    assert!(warm < 0.8 * plain, "{warm} {plain}");
    let after = distance(&at(&study, 10), &first);
    assert!(after > warm, "{after} {warm}");
    study.training.local_epochs = 3;
    assert!(distance(&at(&study, 9), &first) > warm);
}

/// A teacher counts where a stage learns from one, and only there; so do class weights and the proximal term.
#[test]
fn teacher_class_weights_and_proximal_term_take_part() {
    let mut study = personal();
    study.training.proximal = 0.0;
    study.training.local_epochs = 2;
    let first = Course::of(&study).unwrap().first().clone();
    let other = local(&study, 0, None, [1, 1]);
    let taught_by = |study: &Study, teacher: &Model, round| {
        let learned = Learned {
            teacher: Some(teacher.params().to_vec()),
            ..learned(&first, false)
        };
        local(study, round, Some(&learned), [1, 1])
    };
    assert!(distance(&taught_by(&study, &first, 9), &taught_by(&study, &other, 9)) > 1e-4);
    // The teacher's own stage learns from nobody.
    assert_eq!(taught_by(&study, &first, 1), taught_by(&study, &other, 1));
    stage(&mut study, 2).distillation = None;
    assert_eq!(taught_by(&study, &first, 9), taught_by(&study, &other, 9));
    let even = local(&study, 0, None, [1, 1]);
    let uneven = local(&study, 0, None, [9, 1]);
    assert_ne!(even, uneven);
    study.training.recipe.as_mut().unwrap().class_weights = None;
    assert_eq!(local(&study, 0, None, [1, 1]), local(&study, 0, None, [9, 1]));
    let free = distance(&local(&study, 0, None, [1, 1]), &first);
    study.training.proximal = 50.0;
    let held = distance(&local(&study, 0, None, [1, 1]), &first);
    assert!(held < 0.9 * free, "{held} {free}");
}

/// The whole federation: the same bits again, private parameters that differ and shared ones that do not, and a model that has learnt.
#[test]
fn a_federation_with_teacher_transition_and_private_normalisations() {
    let study = personal();
    let hospitals = hospitals(&study);
    let device = Device::cpu();
    let run = baseline::federated(&study, &device, &hospitals).unwrap();
    assert_eq!(run, baseline::federated(&study, &device, &hospitals).unwrap());
    let course = Course::of(&study).unwrap();
    let sharing = course.sharing();
    assert_eq!(run.training_sums.len(), 14);
    assert!(
        run.training_sums
            .iter()
            .all(|sum| sum.len() == sharing.count() + 1)
    );
    let names = sharing.private_names();
    assert_eq!(names.len(), 4, "{names:?}");
    let models: Vec<&Model> = run.models.values().collect();
    for (i, model) in models.iter().enumerate() {
        for other in &models[..i] {
            for block in course.network().parameters() {
                let same = block.of(model.params()) == block.of(other.params());
                assert_eq!(same, !names.contains(&block.name.as_str()), "{}", block.name);
            }
        }
    }
    let auc = run.auc(&hospitals).unwrap().unwrap();
    println!("{auc}");
    assert!(auc > 0.8, "{auc}");
    let pooled = baseline::pooled(&study, &device, &hospitals).unwrap();
    assert!(pooled.auc(&hospitals).unwrap().unwrap() > 0.8);
    // Who is in no set keeps what all began with, and the others go on.
    let absent = &hospitals[2].name;
    let without = baseline::federated_among(&study, &device, &hospitals, |round, name| {
        round == 0 || round == 15 || name != absent
    })
    .unwrap();
    let first = sharing.private_of(course.first().params());
    assert_eq!(sharing.private_of(without.models[absent].params()), first);
    assert_ne!(without.trained.model, run.trained.model);
}

/// Every strategy on the heart study learns, and no two of them the same.
#[test]
fn every_server_strategy_learns() {
    let mut study: Study = galen_core::config::load(&folder().join("study.toml")).unwrap();
    let hospitals = hospitals(&study);
    let mut models = Vec::new();
    for (server, proximal) in [
        (Server::Average, 0.0),
        (Server::Average, 0.1),
        (
            Server::Momentum {
                learning_rate: 1.0,
                momentum: 0.5,
            },
            0.0,
        ),
        (
            Server::Adam {
                learning_rate: 0.03,
                beta1: 0.9,
                beta2: 0.99,
                tau: 1e-3,
            },
            0.0,
        ),
    ] {
        study.training.server = server;
        study.training.proximal = proximal;
        assert_eq!(study.check(), []);
        let run = baseline::federated(&study, &Device::cpu(), &hospitals).unwrap();
        let auc = run.auc(&hospitals).unwrap().unwrap();
        println!("{server:?} {proximal}: {auc:.4}");
        assert!(auc > 0.8, "{server:?} {proximal}: {auc}");
        assert!(models.iter().all(|other| *other != run.trained.model));
        models.push(run.trained.model);
    }
}
