//! Time of one exact decision: `cargo bench --workspace --bench decision`.
//!
//! The network of `tests/wdbc.rs` (30 features, 16 ReLU units, one decision) on one test patient after another, for each number of threads, 1 and 2
//! or those in `GALEN_THREADS`; then what a spiking network of the size of FHE-DiSNN's for MNIST would take, from its count of bootstraps.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "printing is what this is for"
)]

#[path = "../tests/common/wdbc.rs"]
mod wdbc;

use galen_exact::{EvaluationKey, Outcome, Precision, Quantised, Querier, Reveal, Timing, quantise, spiking};
use galen_measure::{machine, peak_mib, process_time};
use galen_models::random::Stream;
use galen_models::{Layer, Model, ModelSpec, Shape};
use std::sync::Arc;
use std::time::Instant;

const PATIENTS: usize = 10;
const REVEAL: Reveal = Reveal::Decision { threshold: 0 };

fn main() {
    println!("{}", machine());
    let data = wdbc::load();
    let precision = Precision::ALL[0];
    let quantised = quantise(&data.model, &data.training.rows, precision).unwrap();
    let decide = |row: &[f64]| quantised.evaluate(REVEAL, row).unwrap() == Outcome::Decision(true);
    println!(
        "accuracy       {:.4} on {} test patients, in floating point {:.4}; {:.4} and {:.4} on the {} training patients",
        data.test.accuracy(decide),
        data.test.rows.len(),
        data.test.accuracy(wdbc::float(&data.model)),
        data.training.accuracy(decide),
        data.training.accuracy(wdbc::float(&data.model)),
        data.training.rows.len(),
    );
    let start = Instant::now();
    let program = Arc::new(quantised.program(REVEAL).unwrap());
    println!("compiled       in {:.2} s", start.elapsed().as_secs_f64());
    println!("{}", program.plan());

    let start = Instant::now();
    let querier = Querier::generate(&program).unwrap();
    let serving = querier.serving_key();
    println!("keys           made in {:.2} s", start.elapsed().as_secs_f64());
    let start = Instant::now();
    let evaluation = serving.expand();
    println!(
        "serving key    expanded in {:.2} s to {} bytes of memory",
        start.elapsed().as_secs_f64(),
        evaluation.memory_bytes()
    );
    let mut each = 0.0;
    let chosen = std::env::var("GALEN_THREADS").unwrap_or_else(|_| "1 2".to_owned());
    for threads in chosen.split_whitespace().map(|n| n.parse().unwrap()) {
        each = decisions(&data.test.rows, &quantised, &querier, &evaluation, threads);
    }
    if let Some(mib) = peak_mib() {
        println!("peak memory    {mib:.0} MiB");
    }
    estimate(each / program.plan().bootstraps as f64);
}

/// Decides one patient after another; gives the median of processor seconds.
fn decisions(
    rows: &[Vec<f64>],
    quantised: &Quantised,
    querier: &Querier,
    evaluation: &EvaluationKey,
    threads: usize,
) -> f64 {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap();
    let (mut wall, mut used, mut equal) = (Vec::new(), Vec::new(), 0);
    for row in &rows[..PATIENTS] {
        let inputs = quantised.encoder().encode(row).unwrap();
        let query = querier.encrypt(&[inputs]).unwrap().to_bytes();
        let (start, before) = (Instant::now(), process_time());
        let answer = pool
            .install(|| querier.program().answer(evaluation, &query, &|_, _| true))
            .unwrap();
        wall.push(start.elapsed().as_secs_f64());
        used.push((process_time() - before).as_secs_f64());
        let outputs = querier.decrypt(&answer, 1).unwrap();
        equal +=
            usize::from(quantised.outcome(REVEAL, &outputs[0]) == quantised.evaluate(REVEAL, row).unwrap());
    }
    wall.sort_by(f64::total_cmp);
    used.sort_by(f64::total_cmp);
    println!(
        "{threads} threads      {:.4} s a decision [{:.4} to {:.4}], processors {:.4} s [{:.4} to {:.4}]; \
         {equal} of {PATIENTS} equal the plain ones",
        wall[PATIENTS / 2],
        wall[0],
        wall[PATIENTS - 1],
        used[PATIENTS / 2],
        used[0],
        used[PATIENTS - 1],
    );
    used[PATIENTS / 2]
}

/// A spiking network of 784 inputs, 30 neurons and 10 classes with random weights: its plan, and its time from that of one bootstrap.
fn estimate(bootstrap: f64) {
    println!("\na bootstrap    {:.4} s of processors", bootstrap);
    let spec = ModelSpec {
        input: Shape::Features(784),
        layers: vec![
            Layer::Dense { outputs: 30 },
            Layer::Relu,
            Layer::Dense { outputs: 10 },
        ],
    };
    let model = Model::initial(spec, 1).unwrap();
    let mut stream = Stream::new("exact spiking estimate", 1, &[]);
    let rows: Vec<Vec<f64>> = (0..50)
        .map(|_| (0..784).map(|_| stream.symmetric().max(0.0)).collect())
        .collect();
    for (steps, threshold_bits) in [(2, 4), (4, 4), (4, 6), (8, 6)] {
        let timing = Timing {
            steps,
            threshold_bits,
            score_bits: 8,
        };
        let network = spiking(&model, &rows, timing).unwrap();
        for reveal in [Reveal::Scores, Reveal::Label] {
            match network.program(reveal) {
                Ok(program) => println!(
                    "784-30-10, {steps} steps, thresholds of {threshold_bits} bits, {reveal:?}: {} bootstraps under {}, \
                     about {:.1} s of processors at this set's relative cost",
                    program.plan().bootstraps,
                    program.plan().parameters,
                    bootstrap * program.plan().bootstraps as f64 * program.parameters().cost()
                        / galen_exact::ParameterSet::named("n796_N2048_l2").map_or(1.0, |set| set.cost()),
                ),
                Err(error) => {
                    println!("784-30-10, {steps} steps, {threshold_bits} bits, {reveal:?}: {error}")
                }
            }
        }
    }
}
