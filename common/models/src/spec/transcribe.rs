//! What distinguishes one network from another, for digests.

use galen_core::Transcript;
use galen_core::network::{Extent, Granularity, Layer, Shape};

/// Appends an input shape and layers. Every layer begins with its name, and every number has a fixed length, so that no two
/// networks read the same.
pub(super) fn transcribe(transcript: Transcript, input: Shape, layers: &[Layer]) -> Transcript {
    let start = match input {
        Shape::Features(n) => transcript.number(n as u64),
        Shape::Image(sides) => sides
            .iter()
            .fold(transcript.field(b"image"), |t, &side| t.number(side as u64)),
    };
    sequence(start, layers)
}

fn sequence(transcript: Transcript, layers: &[Layer]) -> Transcript {
    layers.iter().fold(transcript.number(layers.len() as u64), one)
}

fn one(transcript: Transcript, layer: &Layer) -> Transcript {
    let start = transcript.field(layer.name().as_bytes());
    let pair = |t: Transcript, extent: &Extent| {
        let [vertical, horizontal] = extent.pair();
        t.number(vertical as u64).number(horizontal as u64)
    };
    let bits = |t: Transcript, value: f64| t.number(value.to_bits());
    match layer {
        Layer::Dense { outputs } => start.number(*outputs as u64),
        Layer::Residual {
            outputs,
            scale,
            power,
        } => bits(start.number(*outputs as u64), *scale).number(u64::from(*power)),
        Layer::Conv2d {
            channels,
            kernel,
            stride,
            padding,
            groups,
        } => {
            let start = pair(start.number(*channels as u64), kernel);
            pair(pair(start, stride), padding).number(*groups as u64)
        }
        Layer::AveragePool {
            kernel,
            stride,
            padding,
        }
        | Layer::SumPool {
            kernel,
            stride,
            padding,
        } => pair(pair(pair(start, kernel), &stride.unwrap_or(*kernel)), padding),
        Layer::MaxPool { kernel, stride } => pair(pair(start, kernel), &stride.unwrap_or(*kernel)),
        Layer::BatchNorm { epsilon } | Layer::Hermite { epsilon } => bits(start, *epsilon),
        Layer::Dropout { rate } => bits(start, *rate),
        Layer::Add { body, shortcut } => sequence(sequence(start, body), shortcut),
        Layer::Power { scale, power } => bits(start, *scale).number(u64::from(*power)),
        Layer::Polynomial { degree, per } => start.number(*degree as u64).field(match per {
            Granularity::Layer => b"layer",
            Granularity::Channel => b"channel",
            Granularity::Element => b"element",
        }),
        Layer::FixedPolynomial { coefficients } => coefficients
            .iter()
            .fold(start.number(coefficients.len() as u64), |t, &c| bits(t, c)),
        Layer::Flatten | Layer::Square | Layer::Relu | Layer::Sigmoid | Layer::Tanh | Layer::Sign => start,
    }
}
