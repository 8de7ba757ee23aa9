//! Encrypted and plain evaluation of circuits are equal, under real parameters.
#![allow(clippy::unwrap_used, reason = "a failure is the test result")]

mod common;

use common::{Numbers, evaluate, keys};
use galen_exact::{Circuit, Interval, LOG2_FAILURE, ParameterSet, Program, Querier, RunError, Sum};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn compiled(circuit: Circuit, set: &str) -> Arc<Program> {
    let set = ParameterSet::named(set).unwrap();
    let program = Program::compile_under(circuit, &set).unwrap();
    assert!(program.plan().log2_failure <= LOG2_FAILURE);
    Arc::new(program)
}

fn compare(program: &Arc<Program>, rows: &[Vec<i64>]) {
    let found = evaluate(program, rows);
    for (row, found) in rows.iter().zip(found) {
        assert_eq!(found, program.circuit().evaluate(row).unwrap(), "{row:?}");
    }
}

fn sum(terms: &[(usize, i64)], constant: i64) -> Sum {
    Sum {
        terms: terms.to_vec(),
        constant,
    }
}

/// All 64 values of the widest sum that one bootstrap reads, for tables that change their sign: comparison and distance.
#[test]
fn every_value_of_the_widest_tables() {
    let mut circuit = Circuit::new(vec![Interval::new(-32, 31)]).unwrap();
    let at_least = circuit.lookup(Sum::wire(0), 0, |v| i64::from(v >= 0)).unwrap();
    let distance = circuit.lookup(Sum::wire(0), 0, i64::abs).unwrap();
    circuit.output(Sum::wire(at_least)).unwrap();
    circuit.output(Sum::wire(distance)).unwrap();
    let program = compiled(circuit, "n796_N2048_l1");
    assert_eq!(program.plan().bootstraps, 2);
    let rows: Vec<Vec<i64>> = (-32..32).map(|v| vec![v]).collect();
    compare(&program, &rows);
}

/// Sums of bootstraps' outputs and of inputs, tables of all kinds, and outputs of both, over three layers.
#[test]
fn layers_of_everything() {
    let mut circuit = Circuit::new(vec![
        Interval::new(-3, 3),
        Interval::BIT,
        Interval::new(0, 6),
        Interval::new(-1, 1),
    ])
    .unwrap();
    let a = circuit
        .lookup(sum(&[(0, 2), (1, -1), (2, 1)], 1), 0, |v| v * v % 11)
        .unwrap();
    let b = circuit
        .lookup(sum(&[(2, 1), (3, 4), (0, -1)], -2), 0, |v| v.max(0))
        .unwrap();
    let c = circuit
        .lookup(sum(&[(a, 1), (1, 2)], -4), 0, |v| v.clamp(-2, 3))
        .unwrap();
    let d = circuit
        .lookup(sum(&[(c, 1), (b, -1), (0, 1)], 3), 1, |v| {
            i64::from(v >= 2) - i64::from(v < -1)
        })
        .unwrap();
    circuit.output(sum(&[(a, 3), (c, -2), (0, 1)], 5)).unwrap();
    circuit.output(sum(&[(d, 1)], 0)).unwrap();
    let program = compiled(circuit, "n866_N2048_l1");
    let mut numbers = Numbers::new(1);
    let rows: Vec<Vec<i64>> = (0..24)
        .map(|_| {
            vec![
                numbers.below(7) - 3,
                numbers.below(2),
                numbers.below(7),
                numbers.below(3) - 1,
            ]
        })
        .collect();
    compare(&program, &rows);
}

/// Comparisons of sums far wider than a table are exact at the threshold and next to it.
#[test]
fn wide_comparisons_are_exact_at_the_threshold() {
    let mut circuit = Circuit::new(vec![Interval::new(-500, 500), Interval::new(-11, 11)]).unwrap();
    let wide = sum(&[(0, 1), (1, 40)], -7);
    let bit = circuit.lookup(wide, 7, |v| i64::from(v >= 0)).unwrap();
    circuit.output(Sum::wire(bit)).unwrap();
    let program = compiled(circuit, "n866_N2048_l1");
    assert!(program.plan().bootstraps >= 2);
    let mut rows = Vec::new();
    for b in [-11i64, -3, 0, 5, 11] {
        rows.extend([-1, 0, 1].map(|off| vec![(7 + off - 40 * b).clamp(-500, 500), b]));
    }
    rows.extend([vec![500, 11], vec![-500, -11]]);
    compare(&program, &rows);
}

#[test]
fn progress_counts_bootstraps_and_stops() {
    let mut circuit = Circuit::new(vec![Interval::BIT; 2]).unwrap();
    let bit = circuit
        .lookup(sum(&[(0, 1), (1, 1)], 0), 0, |v| i64::from(v == 2))
        .unwrap();
    circuit.output(Sum::wire(bit)).unwrap();
    let program = compiled(circuit, "n796_N2048_l1");
    let (client, evaluation) = keys(program.parameters());
    let querier = Querier::open(&program, client).unwrap();
    let query = querier.encrypt(&[[0, 1], [1, 1], [1, 0]]).unwrap();
    let most = AtomicUsize::new(0);
    let count = |done: usize, all: usize| {
        assert_eq!(all, 3);
        most.fetch_max(done, Ordering::Relaxed);
        true
    };
    let answer = program.run(&evaluation, &query, &count).unwrap();
    assert_eq!(most.into_inner(), 3);
    assert_eq!(querier.decrypt(&answer.to_bytes(), 3).unwrap(), [[0], [1], [0]]);
    // A single patient's look-ups are divided among the threads, several patients are.
    for (row, bit) in [([1, 1], 1), ([0, 1], 0)] {
        let query = querier.encrypt(&[row]).unwrap();
        let answer = program.run(&evaluation, &query, &|_, all| all == 1).unwrap();
        assert_eq!(querier.decrypt(&answer.to_bytes(), 1).unwrap(), [[bit]]);
    }
    let stopped = program.run(&evaluation, &query, &|_, _| false);
    assert!(matches!(stopped, Err(RunError::Cancelled)));
}

/// Two evaluations of one query share no mask: nothing of the first answer is in the second.
#[test]
fn answers_are_re_randomised() {
    let mut circuit = Circuit::new(vec![Interval::new(0, 3); 2]).unwrap();
    circuit.output(sum(&[(0, 5), (1, -3)], 1)).unwrap();
    let program = compiled(circuit, "n796_N2048_l1");
    assert_eq!(program.plan().bootstraps, 0);
    let (client, evaluation) = keys(program.parameters());
    let querier = Querier::open(&program, client).unwrap();
    let query = querier.encrypt(&[[2, 3]]).unwrap();
    let run = || program.run(&evaluation, &query, &|_, _| true).unwrap().to_bytes();
    let (first, second) = (run(), run());
    assert_eq!(querier.decrypt(&first, 1).unwrap(), [[2]]);
    assert_eq!(querier.decrypt(&second, 1).unwrap(), [[2]]);
    let header = first.len() - program.plan().answer_bytes_per_patient;
    let words = |bytes: &[u8]| -> Vec<u64> {
        let words = bytes[header..].chunks_exact(8);
        words
            .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
            .collect()
    };
    let (first, second) = (words(&first), words(&second));
    assert!(first.iter().zip(&second).all(|(a, b)| a != b));
}
