//! The evaluator against results computed by hand, and against plain loops written from the definitions.

use super::*;
use crate::random::Stream;
use crate::spec::{Granularity, Layer, ModelSpec, ParameterKind, Shape, Site};

/// A network with random parameters: variances in [0.5, 1.5), everything else in [-1, 1).
pub(crate) fn random_model(text: &str, seed: u64) -> Model {
    let spec: ModelSpec = toml::from_str(text).unwrap();
    let mut stream = Stream::new("test model", seed, &[]);
    let mut params = Vec::new();
    for block in spec.parameters() {
        params.extend((0..block.len()).map(|_| match block.kind {
            ParameterKind::Variance => 0.5 + stream.unit(),
            _ => stream.symmetric(),
        }));
    }
    Model::new(spec, params).unwrap()
}

pub(crate) fn random_rows(model: &Model, count: usize) -> Vec<Vec<f64>> {
    let mut stream = Stream::new("test rows", 1, &[]);
    let mut row = || -> Vec<f64> { (0..model.spec().inputs()).map(|_| stream.symmetric()).collect() };
    (0..count).map(|_| row()).collect()
}

fn sides(shape: Shape) -> [usize; 3] {
    match shape {
        Shape::Image(sides) => sides,
        Shape::Features(n) => [n, 1, 1],
    }
}

/// The pixels under the window at (y, x) of a channel; outside the image, zeros.
fn under(
    x: &[f64],
    shape: Shape,
    c: usize,
    at: [usize; 2],
    kernel: [usize; 2],
    padding: [usize; 2],
) -> Vec<f64> {
    let [_, height, width] = sides(shape);
    let mut all = Vec::new();
    for ky in 0..kernel[0] {
        for kx in 0..kernel[1] {
            let y = (at[0] + ky) as i64 - padding[0] as i64;
            let x_ = (at[1] + kx) as i64 - padding[1] as i64;
            let inside = y >= 0 && x_ >= 0 && y < height as i64 && x_ < width as i64;
            all.push(if inside {
                x[(c * height + y as usize) * width + x_ as usize]
            } else {
                0.0
            });
        }
    }
    all
}

/// One layer on one patient, from its definition.
fn slow(site: &Site<'_>, params: &[f64], x: &[f64]) -> Vec<f64> {
    let p = |i: usize| site.parameters[i].of(params);
    let channels = site.input.channels();
    let channel = |i: usize| i / site.input.area();
    let [out_channels, out_height, out_width] = sides(site.output);
    let affine = |w: &[f64], b: &[f64]| -> Vec<f64> {
        (0..b.len())
            .map(|o| b[o] + (0..x.len()).map(|i| w[o * x.len() + i] * x[i]).sum::<f64>())
            .collect()
    };
    let windows = |f: &dyn Fn(usize, usize, usize) -> f64| {
        let mut all = Vec::new();
        for o in 0..out_channels {
            for y in 0..out_height {
                for x in 0..out_width {
                    all.push(f(o, y, x));
                }
            }
        }
        all
    };
    let each = |f: &dyn Fn(usize, f64) -> f64| x.iter().enumerate().map(|(i, &v)| f(i, v)).collect();
    match site.layer {
        Layer::Dense { .. } => affine(p(0), p(1)),
        Layer::Residual { scale, power, .. } => {
            let inner = affine(p(2), p(3));
            let linear = affine(p(0), p(1));
            linear
                .iter()
                .zip(inner)
                .map(|(a, u)| a + scale * u.powi(*power as i32))
                .collect()
        }
        Layer::Conv2d {
            kernel,
            stride,
            padding,
            groups,
            ..
        } => {
            let (k, s, m) = (kernel.pair(), stride.pair(), padding.pair());
            let (inputs, outputs) = (channels / groups, out_channels / groups);
            windows(&|o, y, x_| {
                let mut sum = p(1)[o];
                for i in 0..inputs {
                    let pixels = under(
                        x,
                        site.input,
                        o / outputs * inputs + i,
                        [y * s[0], x_ * s[1]],
                        k,
                        m,
                    );
                    for (t, pixel) in pixels.iter().enumerate() {
                        sum += p(0)[(o * inputs + i) * k[0] * k[1] + t] * pixel;
                    }
                }
                sum
            })
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
        } => {
            let (k, s, m) = (kernel.pair(), stride.unwrap_or(*kernel).pair(), padding.pair());
            let mean = matches!(site.layer, Layer::AveragePool { .. });
            windows(&|c, y, x_| {
                let pixels = under(x, site.input, c, [y * s[0], x_ * s[1]], k, m);
                let sum: f64 = pixels.iter().sum();
                if mean { sum / pixels.len() as f64 } else { sum }
            })
        }
        Layer::MaxPool { kernel, stride } => {
            let (k, s) = (kernel.pair(), stride.unwrap_or(*kernel).pair());
            windows(&|c, y, x_| {
                let pixels = under(x, site.input, c, [y * s[0], x_ * s[1]], k, [0, 0]);
                pixels.into_iter().reduce(f64::max).unwrap()
            })
        }
        Layer::BatchNorm { epsilon } => each(&|i, v| {
            let c = channel(i);
            p(0)[c] * (v - p(2)[c]) / (p(3)[c] + epsilon).sqrt() + p(1)[c]
        }),
        Layer::Hermite { epsilon } => each(&|i, v| {
            let c = channel(i);
            let pi = std::f64::consts::PI;
            let first = (v - p(2)[c]) / (p(3)[c] + epsilon).sqrt();
            let second = ((v * v - 1.0) / 2f64.sqrt() - p(4)[c]) / (p(5)[c] + epsilon).sqrt();
            let sum = 1.0 / (2.0 * pi).sqrt() + first / 2.0 + second / (4.0 * pi).sqrt();
            p(0)[c] * sum + p(1)[c]
        }),
        Layer::Add { .. } => {
            let way = |sites: &[Site<'_>]| sites.iter().fold(x.to_vec(), |x, site| slow(site, params, &x));
            let (body, shortcut) = (way(&site.body), way(&site.shortcut));
            body.iter().zip(shortcut).map(|(a, b)| a + b).collect()
        }
        Layer::Polynomial { degree, per } => each(&|i, v| {
            let (set, sets) = match per {
                Granularity::Layer => (0, 1),
                Granularity::Channel => (channel(i), channels),
                Granularity::Element => (i, x.len()),
            };
            (0..=*degree)
                .map(|k| p(0)[k * sets + set] * v.powi(k as i32))
                .sum()
        }),
        Layer::FixedPolynomial { coefficients } => each(&|_, v| {
            coefficients
                .iter()
                .enumerate()
                .map(|(k, c)| c * v.powi(k as i32))
                .sum()
        }),
        Layer::Square => each(&|_, v| v.powi(2)),
        Layer::Power { scale, power } => each(&|_, v| scale * v.powi(*power as i32)),
        Layer::Relu => each(&|_, v| v.max(0.0)),
        Layer::Sigmoid => each(&|_, v| 1.0 / (1.0 + (-v).exp())),
        Layer::Tanh => each(&|_, v| (v.exp() - (-v).exp()) / (v.exp() + (-v).exp())),
        Layer::Sign => each(&|_, v| if v < 0.0 { -1.0 } else { 1.0 }),
        Layer::Flatten | Layer::Dropout { .. } => x.to_vec(),
    }
}

/// Networks that together use every layer and every setting.
pub(crate) const NETWORKS: [&str; 6] = [
    r#"
    input = [3, 11, 9]
    layers = [
        { conv2d = { channels = 10, kernel = [3, 2], stride = [2, 1], padding = [1, 0] } },
        { batch_norm = { epsilon = 0.01 } },
        { polynomial = { degree = 2, per = "channel" } },
        { average_pool = { kernel = 3, stride = 2, padding = 1 } },
        { conv2d = { channels = 4, kernel = 3, padding = 2, groups = 2 } },
        { polynomial = { degree = 3, per = "element" } },
        "flatten",
        { dense = { outputs = 7 } },
        "square",
        { dense = { outputs = 3 } },
    ]"#,
    r#"
    input = [2, 8, 8]
    layers = [
        { conv2d = { channels = 6, kernel = 5, padding = 4, stride = 3, groups = 2 } },
        { hermite = {} },
        { sum_pool = { kernel = [2, 1], stride = [1, 2], padding = [1, 0] } },
        { add = { body = [
            { conv2d = { channels = 6, kernel = 3, padding = 1, groups = 6 } },
            { add = { body = ["square", { conv2d = { channels = 6, kernel = 1 } }] } },
            "relu",
        ], shortcut = [{ conv2d = { channels = 6, kernel = 1 } }, { batch_norm = {} }] } },
        { max_pool = { kernel = 2, stride = 1 } },
        "tanh",
        "flatten",
        { batch_norm = {} },
        { hermite = { epsilon = 0.1 } },
        { dense = { outputs = 5 } },
    ]"#,
    r#"
    input = 6
    layers = [
        { residual = { outputs = 9, scale = 0.5, power = 3 } },
        { dropout = { rate = 0.25 } },
        { residual = { outputs = 4, scale = 0.1, power = 2 } },
        { fixed_polynomial = { coefficients = [0.1, 0.5, 0.2, 0.0, -0.01] } },
        { polynomial = { degree = 4, per = "layer" } },
        { power = { scale = 0.3, power = 3 } },
        "sigmoid",
        { dense = { outputs = 2 } },
        "sign",
    ]"#,
    r#"
    input = [1, 1, 40]
    layers = [
        { conv2d = { channels = 5, kernel = [1, 7], stride = [1, 3], padding = [0, 3] } },
        "square",
        { average_pool = { kernel = [1, 2] } },
        { batch_norm = {} },
        "flatten",
        { polynomial = { degree = 2, per = "channel" } },
        { dense = { outputs = 1 } },
    ]"#,
    r#"
    input = [4, 5, 5]
    layers = [
        { average_pool = { kernel = 5 } },
        "flatten",
        { add = { body = [{ dense = { outputs = 4 } }, "square"] } },
        { dense = { outputs = 9 } },
    ]"#,
    r#"
    input = [2, 3, 3]
    layers = [{ max_pool = { kernel = [3, 1] } }, { polynomial = { degree = 1, per = "element" } }, "square"]
    "#,
];

#[test]
fn every_layer_agrees_with_its_definition() {
    for (n, text) in NETWORKS.iter().enumerate() {
        let model = random_model(text, n as u64);
        let rows = random_rows(&model, 11);
        let result = model.forward(&rows).unwrap();
        assert_eq!((result.len(), result.width()), (11, model.spec().outputs()));
        let sites = model.spec().resolve().unwrap();
        for (row, found) in rows.iter().zip(result.rows()) {
            let expected = sites
                .iter()
                .fold(row.clone(), |x, site| slow(site, model.params(), &x));
            assert_eq!(found.len(), expected.len());
            for (f, e) in found.iter().zip(&expected) {
                assert!((f - e).abs() <= 1e-12 * e.abs().max(1.0), "network {n}: {f} {e}");
            }
        }
    }
}

#[test]
fn recorded_ranges_are_what_enters_the_activations() {
    fn inputs(sites: &[Site<'_>], params: &[f64], mut x: Vec<f64>, seen: &mut Vec<(String, Vec<f64>)>) {
        for site in sites {
            if site.layer.is_activation() {
                seen.push((site.path.clone(), x.clone()));
            }
            if let Layer::Residual { .. } = site.layer {
                let [w, b] = [2, 3].map(|i| site.parameters[i].of(params));
                let inner = w.chunks(x.len()).zip(b);
                let inner = inner.map(|(w, b)| b + w.iter().zip(&x).map(|(w, x)| w * x).sum::<f64>());
                seen.push((site.path.clone(), inner.collect()));
            }
            inputs(&site.body, params, x.clone(), seen);
            inputs(&site.shortcut, params, x.clone(), seen);
            x = slow(site, params, &x);
        }
    }
    for (n, text) in NETWORKS.iter().enumerate() {
        let model = random_model(text, n as u64);
        let rows = random_rows(&model, 11);
        let result = model.forward(&rows).unwrap();
        let sites = model.spec().resolve().unwrap();
        let mut expected: Vec<(String, Vec<Range>)> = Vec::new();
        for (patient, row) in rows.iter().enumerate() {
            let mut seen = Vec::new();
            inputs(&sites, model.params(), row.clone(), &mut seen);
            for (i, (path, x)) in seen.into_iter().enumerate() {
                if patient == 0 {
                    let channels = result.activations()[i].channels.len();
                    expected.push((path, vec![Range::EMPTY; channels]));
                }
                let ranges = &mut expected[i].1;
                let area = x.len() / ranges.len();
                x.iter()
                    .enumerate()
                    .for_each(|(j, &v)| ranges[j / area].include(v));
            }
        }
        assert_eq!(result.activations().len(), expected.len());
        for (found, (path, ranges)) in result.activations().iter().zip(&expected) {
            assert_eq!(&found.path, path);
            let overall = found.overall();
            let near = |a: f64, b: f64| (a - b).abs() < 1e-12 * overall.magnitude().max(1.0);
            for (f, e) in found.channels.iter().zip(ranges) {
                assert!(near(f.min, e.min) && near(f.max, e.max), "{path}: {f:?} {e:?}");
            }
            assert!(
                found
                    .channels
                    .iter()
                    .all(|c| overall.min <= c.min && c.max <= overall.max)
            );
        }
    }
}

/// Bits, not tolerances: neither threads nor neighbours matter.
#[test]
fn threads_and_neighbours_change_nothing() {
    for text in NETWORKS {
        let model = random_model(text, 5);
        let rows = random_rows(&model, 21);
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| model.forward(&rows).unwrap())
        };
        let one = on(1);
        assert_eq!(one, on(3));
        for (row, outputs) in rows.iter().zip(one.rows()) {
            let alone = model.forward(std::slice::from_ref(row)).unwrap();
            assert_eq!(alone.into_values(), outputs);
        }
    }
}

/// By hand: A = [[1, 2]], a = 0.5, B = [[-1, 1]], b = 0.25, scale 0.1, output 3 y - 1.
#[test]
fn a_block_computed_by_hand() {
    let spec = ModelSpec::residual_mlp(2, &[1], 0.1, 2).unwrap();
    let model = Model::new(spec, vec![1.0, 2.0, 0.5, -1.0, 1.0, 0.25, 3.0, -1.0]).unwrap();
    let result = model.evaluate(&[[2.0, 1.0], [0.0, 0.0]]).unwrap();
    let first = 3.0 * (4.5 + 0.1 * 0.75 * 0.75) - 1.0;
    let second = 3.0 * (0.5 + 0.1 * 0.0625) - 1.0;
    assert!((result.logits[0] - first).abs() < 1e-12);
    assert!((result.logits[1] - second).abs() < 1e-12);
    assert_eq!(result.activation_ranges, [Range::new(-0.75, 0.25)]);
    let p = model.probabilities(&[[2.0, 1.0]]).unwrap()[0];
    assert!((p - 1.0 / (1.0 + (-first).exp())).abs() < 1e-15);
}

/// By hand, on the image 1 2 3 / 4 5 6 / 7 8 9.
#[test]
fn windows_computed_by_hand() {
    let image = [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]];
    let outputs = |layer: &str, params: Vec<f64>| {
        let text = format!("input = [1, 3, 3]\nlayers = [{layer}]");
        let model = Model::new(toml::from_str(&text).unwrap(), params).unwrap();
        model.forward(&image).unwrap().into_values()
    };
    let filter = vec![1.0, 0.0, 0.0, -1.0, 0.5];
    assert_eq!(
        outputs("{ conv2d = { channels = 1, kernel = 2 } }", filter.clone()),
        [-3.5, -3.5, -3.5, -3.5]
    );
    // With a margin the upper left window holds 0 0 / 0 1, the lower right one 9 0 / 0 0.
    assert_eq!(
        outputs(
            "{ conv2d = { channels = 1, kernel = 2, stride = 3, padding = 1 } }",
            filter
        ),
        [-0.5, 0.5, 0.5, 9.5]
    );
    assert_eq!(
        outputs(
            "{ average_pool = { kernel = 2, stride = 2, padding = 1 } }",
            vec![]
        ),
        [0.25, 1.25, 2.75, 7.0]
    );
    assert_eq!(
        outputs("{ sum_pool = { kernel = [1, 3] } }", vec![]),
        [6.0, 15.0, 24.0]
    );
    assert_eq!(
        outputs("{ max_pool = { kernel = 2, stride = 1 } }", vec![]),
        [5.0, 6.0, 8.0, 9.0]
    );
}

/// A filter for each group: the second channel is seen by the second filter only.
#[test]
fn groups_do_not_see_each_other() {
    let text = "input = [2, 1, 2]\nlayers = [{ conv2d = { channels = 2, kernel = 1, groups = 2 } }]";
    let model = Model::new(toml::from_str(text).unwrap(), vec![2.0, 3.0, 0.0, 1.0]).unwrap();
    let outputs = model.forward(&[[1.0, 2.0, 10.0, 20.0]]).unwrap().into_values();
    assert_eq!(outputs, [2.0, 4.0, 31.0, 61.0]);
}

#[test]
fn the_largest_output_is_the_class() {
    let text = "input = 3\nlayers = [{ fixed_polynomial = { coefficients = [0.0, 1.0] } }]";
    let model = Model::new(toml::from_str(text).unwrap(), vec![]).unwrap();
    let rows = [[0.0, 2.0, 1.0], [3.0, 3.0, 1.0], [-2.0, -1.0, -0.5]];
    assert_eq!(model.forward(&rows).unwrap().classes(), [1, 0, 2]);
    let none = model.forward::<Vec<f64>>(&[]).unwrap();
    assert!(none.is_empty() && none.classes().is_empty());
    assert_eq!(none.activations()[0].overall(), Range::EMPTY);
}

#[test]
fn rows_of_another_width_are_refused() {
    let spec = ModelSpec::residual_mlp(2, &[1], 0.1, 2).unwrap();
    let model = Model::initial(spec, 0).unwrap();
    let error = model.logits(&[vec![0.0, 0.0], vec![0.0]]).unwrap_err();
    assert!(matches!(
        error,
        ModelError::RowWidth {
            row: 1,
            expected: 2,
            found: 1
        }
    ));
}

#[test]
fn logits_need_one_output() {
    let spec = ModelSpec {
        input: Shape::Features(1),
        layers: vec![Layer::Dense { outputs: 2 }],
    };
    let model = Model::new(spec, vec![0.0; 4]).unwrap();
    assert!(matches!(
        model.logits(&[[1.0]]),
        Err(ModelError::Outputs { outputs: 2 })
    ));
}
