//! A spiking network of two layers, encrypted and in plain.
#![allow(clippy::unwrap_used, reason = "a failure is the test result")]

mod common;

use common::evaluate;
use galen_exact::{Reveal, Timing, spiking};
use galen_models::random::Stream;
use galen_models::{Layer, Model, ModelSpec, Shape};
use std::sync::Arc;

#[test]
fn encrypted_spikes_equal_plain_ones() {
    let spec = ModelSpec {
        input: Shape::Features(4),
        layers: vec![
            Layer::Dense { outputs: 3 },
            Layer::Relu,
            Layer::Dense { outputs: 3 },
            Layer::Relu,
            Layer::Dense { outputs: 3 },
        ],
    };
    let model = Model::initial(spec, 3).unwrap();
    let mut stream = Stream::new("spiking test", 1, &[]);
    let rows: Vec<Vec<f64>> = (0..40)
        .map(|_| (0..4).map(|_| stream.symmetric()).collect())
        .collect();
    let timing = Timing {
        steps: 3,
        threshold_bits: 4,
        score_bits: 5,
    };
    let network = spiking(&model, &rows, timing).unwrap();
    let program = Arc::new(network.program(Reveal::Label).unwrap());
    let coded: Vec<Vec<i64>> = rows[..3]
        .iter()
        .map(|row| network.encoder().encode(row).unwrap())
        .collect();
    for (row, outputs) in rows.iter().zip(evaluate(&program, &coded)) {
        let expected = network.evaluate(Reveal::Label, row).unwrap();
        assert_eq!(network.outcome(Reveal::Label, &outputs), expected);
    }
}
