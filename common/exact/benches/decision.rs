//! Time of one exact decision: `cargo bench -p galen-exact --bench decision`.
//!
//! The network of `tests/wdbc.rs` (30 features, 16 ReLU units, one decision) on one test patient after another, for each number of threads.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "printing is what this is for"
)]

#[path = "../tests/common/wdbc.rs"]
mod wdbc;

use galen_exact::{Outcome, Precision, Querier, Reveal, quantise};
use galen_measure::{machine, peak_mib, process_time};
use std::sync::Arc;
use std::time::Instant;

const PATIENTS: usize = 30;

fn main() {
    let data = wdbc::load();
    println!("{}", machine());
    for precision in Precision::ALL {
        let quantised = quantise(&data.model, &data.training.rows, precision).unwrap();
        let reveal = Reveal::Decision { threshold: 0 };
        let decide = |row: &[f64]| quantised.evaluate(reveal, row).unwrap() == Outcome::Decision(true);
        println!(
            "\ntables of {} bits: accuracy {:.4} on {} test patients, in floating point {:.4}; on the training patients {:.4} and {:.4}",
            precision.table_bits,
            data.test.accuracy(decide),
            data.test.rows.len(),
            data.test.accuracy(wdbc::float(&data.model)),
            data.training.accuracy(decide),
            data.training.accuracy(wdbc::float(&data.model)),
        );
        let program = match quantised.program(reveal) {
            Ok(program) => Arc::new(program),
            Err(error) => {
                println!("{error}");
                continue;
            }
        };
        println!("{}", program.plan());
        let start = Instant::now();
        let querier = Querier::generate(&program).unwrap();
        let serving = querier.serving_key();
        println!("keys made in {:.2} s", start.elapsed().as_secs_f64());
        let start = Instant::now();
        let evaluation = serving.expand();
        println!(
            "serving key expanded in {:.2} s to {} bytes",
            start.elapsed().as_secs_f64(),
            evaluation.memory_bytes()
        );
        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let (mut wall, mut least, before) = (0.0, f64::INFINITY, process_time());
            let mut equal = 0;
            for row in &data.test.rows[..PATIENTS] {
                let query = querier
                    .encrypt(&[quantised.encoder().encode(row).unwrap()])
                    .unwrap();
                let start = Instant::now();
                let answer = pool
                    .install(|| program.run(&evaluation, &query, &|_, _| true))
                    .unwrap();
                let time = start.elapsed().as_secs_f64();
                (wall, least) = (wall + time, time.min(least));
                let outputs = querier.decrypt(&answer.to_bytes(), 1).unwrap();
                equal += usize::from(
                    quantised.outcome(reveal, &outputs[0]) == quantised.evaluate(reveal, row).unwrap(),
                );
            }
            let patients = PATIENTS as f64;
            println!(
                "{threads} threads: {:.4} s a decision (least {least:.4}), {:.4} s of processors; {equal} of {PATIENTS} equal the plain ones",
                wall / patients,
                (process_time() - before).as_secs_f64() / patients
            );
        }
    }
    if let Some(mib) = peak_mib() {
        println!("\npeak memory {mib:.0} MiB");
    }
}
