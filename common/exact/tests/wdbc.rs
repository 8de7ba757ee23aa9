//! A network on the breast cancer data: accuracy of its quantised form, what its plan promises, and encrypted decisions.
#![allow(clippy::unwrap_used, reason = "a failure is the test result")]

#[path = "common/mod.rs"]
mod common;
#[path = "common/wdbc.rs"]
mod wdbc;

use galen_exact::{Outcome, Precision, Quantised, QuantisedError, Reveal, quantise, quantise_recorded};
use galen_models::Range;
use std::sync::Arc;

/// Concrete ML's network of the same shape has 0.944 on its test patients, with 110 MB of keys.
#[test]
fn decisions_are_accurate_exact_and_cheap() {
    let data = wdbc::load();
    let quantised = quantise(&data.model, &data.training.rows, Precision::ALL[0]).unwrap();
    let reveal = Reveal::Decision { threshold: 0 };
    let decide = |row: &[f64]| quantised.evaluate(reveal, row).unwrap() == Outcome::Decision(true);
    let float = data.test.accuracy(wdbc::float(&data.model));
    let exact = data.test.accuracy(decide);
    assert!(exact >= 0.944, "{exact}");
    assert!(exact >= float - 0.01, "{exact}, in floating point {float}");

    let program = Arc::new(quantised.program(reveal).unwrap());
    let plan = program.plan();
    assert_eq!(plan.polynomial_size, 2048, "{plan}");
    assert!(plan.bootstraps <= 19, "{plan}");
    // The coordinator reads the model from its file and compiles the same program.
    let file = Quantised::from_bytes(&quantised.to_bytes().unwrap()).unwrap();
    assert_eq!(file.program(reveal).unwrap().digest(), program.digest());

    assert!(plan.log2_failure <= -40.0 && plan.security_bits >= 128, "{plan}");
    assert!(plan.serving_key_bytes < 40_000_000, "{plan}");

    let patients = &data.test.rows[..12];
    let outputs = common::evaluate(&program, &quantised.encode(patients).unwrap());
    for (row, outcome) in patients.iter().zip(quantised.outcomes(reveal, &outputs)) {
        assert_eq!(outcome, quantised.evaluate(reveal, row).unwrap());
    }
    let mut wrong = patients.to_vec();
    wrong[5][7] = f64::NAN;
    let refused = quantised.encode(&wrong);
    assert!(matches!(refused, Err(QuantisedError::Patient { patient: 5, .. })));
}

/// By the ranges of the inputs alone, without patients.
#[test]
fn recorded_ranges_suffice() {
    let data = wdbc::load();
    let range = |input: usize| {
        let mut range = Range::EMPTY;
        data.training
            .rows
            .iter()
            .for_each(|row| range.include(row[input]));
        range
    };
    let ranges: Vec<Range> = (0..30).map(range).collect();
    let quantised = quantise_recorded(&data.model, &ranges, Precision::ALL[0]).unwrap();
    let reveal = Reveal::Decision { threshold: 0 };
    let decide = |row: &[f64]| quantised.evaluate(reveal, row).unwrap() == Outcome::Decision(true);
    let accuracy = [&data.training, &data.test].map(|part| part.accuracy(decide));
    println!("by ranges alone: {accuracy:?}");
    assert!(accuracy.iter().all(|&share| share >= 0.944), "{accuracy:?}");
    let plan = quantised.program(reveal).unwrap().plan().clone();
    assert!(plan.log2_failure <= -40.0, "{plan}");
}

/// All test patients, encrypted.
#[test]
#[ignore = "encrypts 142 patients twice: four minutes of processor time"]
fn all_test_patients_are_decided_as_in_plain() {
    let data = wdbc::load();
    let quantised = quantise(&data.model, &data.training.rows, Precision::ALL[0]).unwrap();
    for reveal in [Reveal::Decision { threshold: 0 }, Reveal::Scores] {
        let program = Arc::new(quantised.program(reveal).unwrap());
        let outputs = common::evaluate(&program, &quantised.encode(&data.test.rows).unwrap());
        for (row, outcome) in data.test.rows.iter().zip(quantised.outcomes(reveal, &outputs)) {
            assert_eq!(outcome, quantised.evaluate(reveal, row).unwrap());
        }
    }
}
