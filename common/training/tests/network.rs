//! The burn network against the evaluator in `f64`, layer by layer.

#![allow(clippy::unwrap_used, clippy::panic)]

use galen_models::random::Stream;
use galen_models::{
    ActivationRange, Extent, Granularity, Layer, Model, ModelSpec, ParameterKind, Range, Shape,
};
use galen_training::{Device, Network, NetworkError};

/// A model whose parameters are all different from what they are initially.
fn model(input: Shape, layers: Vec<Layer>, seed: u64) -> Model {
    let spec = ModelSpec { input, layers };
    let mut params = Model::initial(spec.clone(), seed).unwrap().params().to_vec();
    let mut stream = Stream::new("test parameters", seed, &[]);
    for block in spec.parameters() {
        for value in &mut params[block.offset..block.offset + block.len()] {
            *value = match block.kind {
                ParameterKind::Variance => 0.5 + stream.unit(),
                _ => *value + 0.3 * stream.symmetric(),
            };
        }
    }
    Model::new(spec, params).unwrap()
}

fn rows(patients: usize, width: usize, seed: u64) -> Vec<f32> {
    let mut stream = Stream::new("test rows", seed, &[]);
    (0..patients * width)
        .map(|_| (1.5 * stream.symmetric()) as f32)
        .collect()
}

/// Compares outputs and ranges with those of the evaluator on three patients, within 1e-5 of the largest magnitude.
fn agrees(input: Shape, layers: Vec<Layer>) {
    let text = format!("{layers:?}");
    let model = model(input, layers, 3);
    let network = Network::new(&Device::cpu(), &model).unwrap();
    let rows = rows(3, input.len(), 4);
    let (outputs, ranges) = network.evaluate(&rows).unwrap();
    let exact: Vec<f64> = rows.iter().map(|&x| f64::from(x)).collect();
    let exact: Vec<&[f64]> = exact.chunks(input.len()).collect();
    let expected = model.forward(&exact).unwrap();
    let paths: Vec<&str> = expected.activations().iter().map(|a| a.path.as_str()).collect();
    assert_eq!(network.activations(), paths, "{text}");
    let overall: Vec<Range> = expected
        .activations()
        .iter()
        .map(ActivationRange::overall)
        .collect();
    assert_eq!(ranges.len(), overall.len(), "{text}");
    let ends = |ranges: &[Range]| -> Vec<f64> { ranges.iter().flat_map(|r| [r.min, r.max]).collect() };
    let outputs: Vec<f64> = outputs.into_iter().map(f64::from).collect();
    for (found, expected) in [(outputs, expected.into_values()), (ends(&ranges), ends(&overall))] {
        assert_eq!(found.len(), expected.len(), "{text}");
        let largest = expected.iter().fold(1.0f64, |m, x| m.max(x.abs()));
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() < 1e-5 * largest,
                "{text}: {found} {expected}"
            );
        }
    }
    let back = network.model().unwrap();
    for (a, b) in back.params().iter().zip(model.params()) {
        assert_eq!(*a, f64::from(*b as f32));
    }
}

const IMAGE: Shape = Shape::Image([4, 7, 6]);
const ROW: Shape = Shape::Features(5);

fn conv(channels: usize, kernel: Extent, stride: Extent, padding: Extent, groups: usize) -> Layer {
    Layer::Conv2d {
        channels,
        kernel,
        stride,
        padding,
        groups,
    }
}

#[test]
fn every_layer_agrees_with_the_evaluator() {
    let square = Extent::Square;
    agrees(ROW, vec![Layer::Dense { outputs: 3 }]);
    for power in [2, 3, 5] {
        agrees(
            ROW,
            vec![Layer::Residual {
                outputs: 3,
                scale: 0.2,
                power,
            }],
        );
        agrees(ROW, vec![Layer::Power { scale: 0.5, power }]);
    }
    agrees(IMAGE, vec![conv(6, square(3), Extent::ONE, Extent::ZERO, 1)]);
    agrees(
        IMAGE,
        vec![conv(
            6,
            Extent::Pair([3, 2]),
            Extent::Pair([2, 1]),
            Extent::Pair([1, 0]),
            2,
        )],
    );
    agrees(IMAGE, vec![conv(4, square(5), square(2), square(2), 4)]);
    agrees(IMAGE, vec![conv(3, Extent::ONE, Extent::ONE, Extent::ZERO, 1)]);
    let (kernel, padding) = (Extent::Pair([3, 2]), square(1));
    for stride in [None, Some(square(1))] {
        agrees(
            IMAGE,
            vec![Layer::AveragePool {
                kernel,
                stride,
                padding,
            }],
        );
        agrees(
            IMAGE,
            vec![Layer::SumPool {
                kernel,
                stride,
                padding: Extent::ZERO,
            }],
        );
        agrees(IMAGE, vec![Layer::MaxPool { kernel, stride }]);
    }
    for shape in [IMAGE, ROW] {
        agrees(shape, vec![Layer::BatchNorm { epsilon: 1e-3 }]);
        agrees(shape, vec![Layer::Hermite { epsilon: 1e-3 }]);
        for per in [Granularity::Layer, Granularity::Channel, Granularity::Element] {
            for degree in [1, 2, 4] {
                agrees(shape, vec![Layer::Polynomial { degree, per }]);
            }
        }
        let coefficients = vec![0.25, -0.5, 0.125, 0.3];
        for layer in [
            Layer::FixedPolynomial { coefficients },
            Layer::Square,
            Layer::Relu,
            Layer::Sigmoid,
            Layer::Tanh,
            Layer::Dropout { rate: 0.5 },
        ] {
            agrees(shape, vec![layer]);
        }
    }
    agrees(IMAGE, vec![Layer::Flatten, Layer::Dense { outputs: 2 }]);
}

#[test]
fn a_network_of_many_layers_agrees_with_the_evaluator() {
    let shortcut = vec![conv(6, Extent::ONE, Extent::Square(2), Extent::ZERO, 1)];
    let body = vec![
        conv(6, Extent::Square(3), Extent::Square(2), Extent::ONE, 1),
        Layer::BatchNorm { epsilon: 1e-5 },
        Layer::Polynomial {
            degree: 2,
            per: Granularity::Element,
        },
    ];
    let plain = Layer::Add {
        body: vec![Layer::Square],
        shortcut: vec![],
    };
    agrees(
        IMAGE,
        vec![
            Layer::Add { body, shortcut },
            Layer::Hermite { epsilon: 1e-5 },
            Layer::AveragePool {
                kernel: Extent::Square(2),
                stride: None,
                padding: Extent::ZERO,
            },
            Layer::Flatten,
            Layer::Residual {
                outputs: 8,
                scale: 0.1,
                power: 2,
            },
            plain,
            Layer::Dense { outputs: 3 },
        ],
    );
}

#[test]
fn a_layer_without_a_gradient_is_refused() {
    let spec = ModelSpec {
        input: ROW,
        layers: vec![Layer::Dense { outputs: 2 }, Layer::Sign],
    };
    let model = Model::initial(spec, 0).unwrap();
    let error = Network::new(&Device::cpu(), &model).unwrap_err();
    assert!(
        matches!(&error, NetworkError::Untrainable { layer, .. } if layer == "layer1"),
        "{error}"
    );
    assert!(error.to_string().contains("sign"), "{error}");
}

#[test]
fn ranges_are_those_of_what_enters_the_activations() {
    let layers = vec![
        Layer::Square,
        Layer::Residual {
            outputs: 1,
            scale: 1.0,
            power: 2,
        },
        Layer::Relu,
    ];
    let spec = ModelSpec {
        input: Shape::Features(1),
        layers,
    };
    // linear 0 x + 1, power -1 x + 0.5
    let model = Model::new(spec, vec![0.0, 1.0, -1.0, 0.5]).unwrap();
    let network = Network::new(&Device::cpu(), &model).unwrap();
    let (outputs, ranges) = network.evaluate(&[2.0, -3.0]).unwrap();
    assert_eq!(outputs, [1.0 + 3.5 * 3.5, 1.0 + 8.5 * 8.5]);
    let pairs: Vec<(f64, f64)> = ranges.iter().map(|r| (r.min, r.max)).collect();
    assert_eq!(pairs, [(-3.0, 2.0), (-8.5, -3.5), (13.25, 73.25)]);
    assert_eq!(network.activations(), ["layer0", "layer1", "layer2"]);
    let (outputs, ranges) = network.evaluate(&[]).unwrap();
    assert_eq!((outputs.len(), ranges), (0, vec![Range::EMPTY; 3]));
}

#[test]
fn inputs_that_are_no_whole_patients_are_refused() {
    let layers = vec![Layer::Dense { outputs: 1 }];
    let network = Network::new(&Device::cpu(), &model(ROW, layers, 1)).unwrap();
    let error = network.evaluate(&[0.0; 12]).unwrap_err().to_string();
    assert_eq!(error, "row 2 has 2 values, the network takes 5");
}
