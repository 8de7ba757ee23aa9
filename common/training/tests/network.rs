//! The burn network against a plain evaluation in `f64`, layer by layer, and against finite differences.

#![allow(clippy::unwrap_used, clippy::panic)]

use galen_models::random::Stream;
use galen_models::{Extent, Granularity, Layer, Model, ModelSpec, ParameterKind, Shape, Site};
use galen_training::{Device, Network, NetworkError};

/// Evaluates sites from the definitions of their layers.
fn evaluate(sites: &[Site<'_>], params: &[f64], x: Vec<f64>) -> Vec<f64> {
    sites.iter().fold(x, |x, site| layer(site, params, x))
}

fn layer(site: &Site<'_>, params: &[f64], x: Vec<f64>) -> Vec<f64> {
    let block = |i: usize| site.parameters[i].of(params);
    let affine = |i: usize| -> Vec<f64> {
        let dot = |w: &[f64]| w.iter().zip(&x).map(|(w, x)| w * x).sum::<f64>();
        block(i)
            .chunks(x.len())
            .zip(block(i + 1))
            .map(|(w, b)| dot(w) + b)
            .collect()
    };
    let area = site.input.area();
    let each = |f: &dyn Fn(usize, f64) -> f64| x.iter().enumerate().map(|(i, &x)| f(i, x)).collect();
    match site.layer {
        Layer::Dense { .. } => affine(0),
        Layer::Residual { scale, power, .. } => {
            let u = affine(2);
            affine(0)
                .iter()
                .zip(u)
                .map(|(y, u)| y + scale * u.powi(*power as i32))
                .collect()
        }
        Layer::Conv2d {
            kernel,
            stride,
            padding,
            groups,
            ..
        } => convolve(
            site,
            block(0),
            block(1),
            &x,
            [*kernel, *stride, *padding],
            *groups,
        ),
        Layer::AveragePool {
            kernel,
            stride,
            padding,
        } => {
            let [h, w] = kernel.pair();
            let sums = pool(site, &x, *kernel, stride.unwrap_or(*kernel), *padding, false);
            sums.iter().map(|s| s / (h * w) as f64).collect()
        }
        Layer::SumPool {
            kernel,
            stride,
            padding,
        } => pool(site, &x, *kernel, stride.unwrap_or(*kernel), *padding, false),
        Layer::MaxPool { kernel, stride } => {
            pool(site, &x, *kernel, stride.unwrap_or(*kernel), Extent::ZERO, true)
        }
        Layer::BatchNorm { epsilon } => each(&|i, x| {
            let c = i / area;
            block(0)[c] * (x - block(2)[c]) / (block(3)[c] + epsilon).sqrt() + block(1)[c]
        }),
        Layer::Hermite { epsilon } => each(&|i, x| {
            let c = i / area;
            let normal = |v: f64, at: usize| (v - block(at)[c]) / (block(at + 1)[c] + epsilon).sqrt();
            let pi = std::f64::consts::PI;
            let second = normal((x * x - 1.0) / 2f64.sqrt(), 4);
            let y = 1.0 / (2.0 * pi).sqrt() + normal(x, 2) / 2.0 + second / (4.0 * pi).sqrt();
            block(0)[c] * y + block(1)[c]
        }),
        Layer::Flatten | Layer::Dropout { .. } => x,
        Layer::Add { .. } => {
            let long = evaluate(&site.body, params, x.clone());
            let short = evaluate(&site.shortcut, params, x);
            long.iter().zip(short).map(|(a, b)| a + b).collect()
        }
        Layer::Square => each(&|_, x| x * x),
        Layer::Power { scale, power } => each(&|_, x| scale * x.powi(*power as i32)),
        Layer::Polynomial { degree, per } => {
            let sets = site.parameters[0].shape[1];
            let set = |i: usize| match per {
                Granularity::Layer => 0,
                Granularity::Channel => i / area,
                Granularity::Element => i,
            };
            each(&|i, x| {
                (0..=*degree)
                    .map(|k| block(0)[k * sets + set(i)] * x.powi(k as i32))
                    .sum()
            })
        }
        Layer::FixedPolynomial { coefficients } => each(&|_, x| {
            coefficients
                .iter()
                .enumerate()
                .map(|(k, c)| c * x.powi(k as i32))
                .sum()
        }),
        Layer::Relu => each(&|_, x| x.max(0.0)),
        Layer::Sigmoid => each(&|_, x| 1.0 / (1.0 + (-x).exp())),
        Layer::Tanh => each(&|_, x| x.tanh()),
        other => panic!("{other:?}"),
    }
}

/// The value at a place of an image, or nothing in the margin.
fn at(site: &Site<'_>, x: &[f64], channel: usize, y: isize, z: isize) -> Option<f64> {
    let Shape::Image([_, height, width]) = site.input else {
        panic!("{:?}", site.input)
    };
    let inside = (0..height as isize).contains(&y) && (0..width as isize).contains(&z);
    inside.then(|| x[(channel * height + y as usize) * width + z as usize])
}

fn convolve(
    site: &Site<'_>,
    weight: &[f64],
    bias: &[f64],
    x: &[f64],
    [kernel, stride, padding]: [Extent; 3],
    groups: usize,
) -> Vec<f64> {
    let Shape::Image([channels, height, width]) = site.output else {
        panic!("{:?}", site.output)
    };
    let inputs = site.input.channels() / groups;
    let ([kh, kw], [sy, sx], [py, px]) = (kernel.pair(), stride.pair(), padding.pair());
    let mut out = Vec::new();
    for o in 0..channels {
        for (oy, ox) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let mut sum = bias[o];
            for c in 0..inputs {
                for (ky, kx) in (0..kh).flat_map(|y| (0..kw).map(move |x| (y, x))) {
                    let channel = o / (channels / groups) * inputs + c;
                    let (y, z) = (
                        (oy * sy + ky) as isize - py as isize,
                        (ox * sx + kx) as isize - px as isize,
                    );
                    let w = weight[((o * inputs + c) * kh + ky) * kw + kx];
                    sum += w * at(site, x, channel, y, z).unwrap_or(0.0);
                }
            }
            out.push(sum);
        }
    }
    out
}

fn pool(
    site: &Site<'_>,
    x: &[f64],
    kernel: Extent,
    stride: Extent,
    padding: Extent,
    maximum: bool,
) -> Vec<f64> {
    let Shape::Image([channels, height, width]) = site.output else {
        panic!("{:?}", site.output)
    };
    let ([kh, kw], [sy, sx], [py, px]) = (kernel.pair(), stride.pair(), padding.pair());
    let mut out = Vec::new();
    for c in 0..channels {
        for (oy, ox) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let window = (0..kh)
                .flat_map(|ky| (0..kw).map(move |kx| (ky, kx)))
                .map(|(ky, kx)| {
                    let (y, z) = (
                        (oy * sy + ky) as isize - py as isize,
                        (ox * sx + kx) as isize - px as isize,
                    );
                    at(site, x, c, y, z).unwrap_or(0.0)
                });
            out.push(if maximum {
                window.fold(f64::NEG_INFINITY, f64::max)
            } else {
                window.sum()
            });
        }
    }
    out
}

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

/// Compares a network with its definition on three patients, within 1e-5 of the largest output.
fn agrees(input: Shape, layers: Vec<Layer>) {
    let text = format!("{layers:?}");
    let model = model(input, layers, 3);
    let network = Network::new(&Device::cpu(), &model).unwrap();
    let rows = rows(3, input.len(), 4);
    let (outputs, ranges) = network.evaluate(&rows).unwrap();
    assert_eq!(ranges.len(), network.activations().len());
    let sites = model.spec().resolve().unwrap();
    let mut all = Vec::new();
    for row in rows.chunks(input.len()) {
        let row = row.iter().map(|&x| f64::from(x)).collect();
        all.extend(evaluate(&sites, model.params(), row));
    }
    let largest = all.iter().fold(1.0f64, |m, x| m.max(x.abs()));
    assert_eq!(outputs.len(), all.len(), "{text}");
    for (found, expected) in outputs.iter().zip(all) {
        assert!(
            (f64::from(*found) - expected).abs() < 1e-5 * largest,
            "{text}: {found} {expected}"
        );
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
fn every_layer_agrees_with_its_definition() {
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
fn a_network_of_many_layers_agrees_with_its_definition() {
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
}
