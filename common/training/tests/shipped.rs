//! The shipped studies, run in one process: accuracy, and sums that anybody can recompute.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use galen_core::study::Study;
use galen_models::{Course, Histograms, Statistics, metrics};
use galen_training::baseline::{self, Federated, Hospital};
use galen_training::{Device, Values, federated};
use std::path::PathBuf;

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../configs/studies")
        .join(name)
}

fn load(name: &str, seed: Option<u64>) -> (Study, Vec<Hospital>) {
    let mut study: Study = galen_core::config::load(&folder(name).join("study.toml")).unwrap();
    assert_eq!(study.check(), []);
    study.seed = seed.unwrap_or(study.seed);
    let load = |member: &galen_core::study::Member| {
        let file = folder(name).join(format!("{}.csv", member.name));
        Hospital::load(&study, &member.name, &file).unwrap()
    };
    let hospitals = study.party.iter().map(load).collect();
    (study, hospitals)
}

struct Areas {
    alone: Vec<f64>,
    federated: f64,
    pooled: f64,
    run: Federated,
}

fn areas(study: &Study, hospitals: &[Hospital]) -> Areas {
    let device = Device::cpu();
    let auc = |trained: &baseline::Trained| trained.auc(hospitals).unwrap().unwrap();
    let run = baseline::federated(study, &device, hospitals).unwrap();
    Areas {
        alone: hospitals
            .iter()
            .map(|h| auc(&baseline::alone(study, &device, h).unwrap()))
            .collect(),
        federated: auc(&run.trained),
        pooled: auc(&baseline::pooled(study, &device, hospitals).unwrap()),
        run,
    }
}

/// The bar of the heart study, for the shipped seed and for others: nothing is owed to a lucky split.
#[test]
fn the_heart_federation_is_as_good_as_pooling_and_better_than_alone() {
    for seed in [None, Some(1), Some(2), Some(3), Some(4)] {
        let (study, hospitals) = load("heart", seed);
        let areas = areas(&study, &hospitals);
        let alone = areas.alone.iter().sum::<f64>() / areas.alone.len() as f64;
        println!(
            "seed {}: federated {:.4}, pooled {:.4}, alone {:.4} {:.3?}",
            study.seed, areas.federated, areas.pooled, alone, areas.alone
        );
        assert!(areas.federated >= areas.pooled - 0.01, "seed {}", study.seed);
        assert!(areas.federated > alone, "seed {}", study.seed);
        assert!(areas.federated > 0.85, "seed {}", study.seed);
        // The histograms lose little of the ranking.
        let binned = areas.run.histograms.roc().unwrap().auc;
        assert!((binned - areas.federated).abs() < 0.005, "seed {}", study.seed);
    }
}

#[test]
fn the_breast_cancer_federation_works_too() {
    let (study, hospitals) = load("breast-cancer", None);
    let areas = areas(&study, &hospitals);
    println!(
        "federated {:.4}, pooled {:.4}, alone {:.3?}",
        areas.federated, areas.pooled, areas.alone
    );
    assert!(areas.federated >= areas.pooled - 0.01 && areas.federated > 0.97);
}

#[test]
fn the_shipped_heart_files_are_as_published() {
    let (study, hospitals) = load("heart", None);
    let counts = [
        ("cleveland", 164, 303),
        ("budapest", 188, 294),
        ("zurich", 8, 123),
        ("long-beach", 51, 200),
    ];
    for (hospital, (name, healthy, all)) in hospitals.iter().zip(counts) {
        assert_eq!(hospital.name.as_str(), name);
        let labels = || hospital.train.labels.iter().chain(&hospital.held_out.labels);
        assert_eq!(
            (labels().filter(|&&l| !l).count(), labels().count()),
            (healthy, all)
        );
    }
    let place = study.data.features().position(|c| c.name == "chol").unwrap();
    let Values::Table(zurich) = &hospitals[2].train.values else {
        panic!("a table becomes rows")
    };
    assert!(
        zurich.iter().all(|f| f[place].is_none()),
        "a cholesterol of 0 is a missing one"
    );
}

/// What the daemons rely on: a contribution can be recomputed from the hospital's file and the published model, and every bound
/// that the planner of the sums is given holds.
#[test]
fn a_contribution_can_be_recomputed_from_file_and_base_model() {
    let (study, hospitals) = load("heart", None);
    let device = Device::cpu();
    let run = baseline::federated(&study, &device, &hospitals).unwrap();
    assert_eq!(run, baseline::federated(&study, &device, &hospitals).unwrap());
    let schema = &study.data;
    let course = Course::of(&study).unwrap();
    let statistics = Statistics::from_sums(&run.statistics_sum, schema).unwrap();
    assert_eq!(run.statistics_sum.len(), Statistics::values(schema));
    assert_eq!(run.evaluation_sum.len(), Histograms::values(&study.evaluation));
    let base = course.first();
    let mut sum = vec![0i64; course.values()];
    for hospital in &hospitals {
        let examples = run.trained.preprocessor.examples(&hospital.train).unwrap();
        let place = federated::Hospital {
            study: &study,
            course: &course,
            party: hospital.name.as_str(),
            round: 0,
            learned: None,
            personal: None,
            classes: statistics.classes,
        };
        // From another thread: nothing hangs on thread-local state.
        let step = std::thread::scope(|scope| {
            let work = || place.train(&device, &examples, &mut |_| {});
            scope.spawn(work).join().unwrap().unwrap()
        });
        let values = step.contribution(&course).unwrap();
        let bound = course.average().max_abs();
        assert!(values.iter().all(|v| v.unsigned_abs() <= bound));
        sum.iter_mut().zip(values).for_each(|(s, v)| *s += v);
    }
    assert_eq!(sum, run.training_sums[0]);
    let next = course.apply(0, None, &sum).unwrap();
    assert_ne!(next.digest(&course).unwrap(), base.digest());
}

/// A federation as one line: the digest of the model and of every sum.
fn fingerprint() -> String {
    let (study, hospitals) = load("heart", None);
    let run = baseline::federated(&study, &Device::cpu(), &hospitals).unwrap();
    let sums = (&run.statistics_sum, &run.training_sums, &run.evaluation_sum);
    let sums = galen_core::hash::digest_of("test sums", &sums).unwrap();
    format!("fingerprint {} {sums}", run.trained.model.digest())
}

#[test]
fn prints_its_fingerprint() {
    println!("{}", fingerprint());
}

/// A checker in another process gets the same bits.
#[test]
fn another_process_computes_the_same_bits() {
    let here = fingerprint();
    for _ in 0..3 {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "prints_its_fingerprint", "--nocapture"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(&here), "{here} is not in {text}");
    }
}

/// Training must help: a federation of no information is a coin toss.
#[test]
fn the_first_model_knows_nothing() {
    let (study, hospitals) = load("heart", None);
    let run = baseline::federated(&study, &Device::cpu(), &hospitals).unwrap();
    let spec = run.trained.model.spec().clone();
    let first = galen_models::Model::initial(spec, study.seed).unwrap();
    let (mut before, mut after, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    for hospital in &hospitals {
        let rows = run.trained.preprocessor.rows(&hospital.held_out).unwrap();
        before.extend(first.logits(&rows).unwrap());
        after.extend(run.trained.model.logits(&rows).unwrap());
        labels.extend(&hospital.held_out.labels);
    }
    let gain = metrics::auc(&after, &labels).unwrap() - metrics::auc(&before, &labels).unwrap();
    assert!(gain > 0.1, "{gain}");
}
