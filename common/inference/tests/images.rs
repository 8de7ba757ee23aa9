//! Networks on images, encrypted, against a plain computation that shares nothing with the compiler.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use galen_inference::{CompileError, Precision, Program, Querier, Recorded};
use galen_models::random::Stream;
use galen_models::{Layer, Model, ModelFile, ModelSpec, Parameter, Range, Shape, Site};
use std::collections::HashMap;
use std::sync::Arc;

/// Evaluates layers by their definitions, one element at a time.
struct Plain<'a> {
    model: &'a Model,
    ranges: HashMap<String, Range>,
}

impl Plain<'_> {
    fn parameter(&self, site: &Site<'_>, name: &str) -> Vec<f64> {
        let named = |p: &&Parameter| p.name == format!("{}.{name}", site.path);
        site.parameters
            .iter()
            .find(named)
            .unwrap()
            .of(self.model.params())
            .to_vec()
    }

    fn sequence(&mut self, sites: &[Site<'_>], x: Vec<f64>) -> Vec<f64> {
        sites.iter().fold(x, |x, site| self.layer(site, x))
    }

    fn windows(
        site: &Site<'_>,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        mut f: impl FnMut(usize, usize, usize, usize),
    ) {
        let (Shape::Image([_, h, w]), Shape::Image([_, down, along])) = (site.input, site.output) else {
            panic!("no image");
        };
        for place in 0..down * along {
            for k in 0..kernel[0] * kernel[1] {
                let y = (place / along * stride[0] + k / kernel[1]) as isize - padding[0] as isize;
                let x = (place % along * stride[1] + k % kernel[1]) as isize - padding[1] as isize;
                if (0..h as isize).contains(&y) && (0..w as isize).contains(&x) {
                    f(place, k, y as usize * w + x as usize, h * w);
                }
            }
        }
    }

    fn layer(&mut self, site: &Site<'_>, x: Vec<f64>) -> Vec<f64> {
        if site.layer.is_activation() {
            let range = self.ranges.entry(site.path.clone()).or_insert(Range::EMPTY);
            x.iter().for_each(|&v| range.include(v));
        }
        let channel = |i: usize| i / site.input.area();
        match site.layer {
            Layer::Flatten | Layer::Dropout { .. } => x,
            Layer::Square => x.iter().map(|v| v * v).collect(),
            Layer::Power { scale, power } => x.iter().map(|v| scale * v.powi(*power as i32)).collect(),
            Layer::FixedPolynomial { coefficients } => {
                let value = |v: &f64| coefficients.iter().rev().fold(0.0, |sum, c| sum * v + c);
                x.iter().map(value).collect()
            }
            Layer::Polynomial { .. } => {
                let c = self.parameter(site, "coefficients");
                let sets = c.len() / 3;
                let set = |i: usize| match sets {
                    1 => 0,
                    n if n == x.len() => i,
                    _ => channel(i),
                };
                let value =
                    |(i, v): (usize, &f64)| c[set(i)] + c[sets + set(i)] * v + c[2 * sets + set(i)] * v * v;
                x.iter().enumerate().map(value).collect()
            }
            Layer::BatchNorm { epsilon } => {
                let [scale, shift, mean, variance] =
                    ["scale", "shift", "mean", "variance"].map(|name| self.parameter(site, name));
                let normal = |(i, v): (usize, &f64)| {
                    let c = channel(i);
                    scale[c] * (v - mean[c]) / (variance[c] + epsilon).sqrt() + shift[c]
                };
                x.iter().enumerate().map(normal).collect()
            }
            Layer::Hermite { epsilon } => {
                let names = [
                    "scale",
                    "shift",
                    "first.mean",
                    "first.variance",
                    "second.mean",
                    "second.variance",
                ];
                let [scale, shift, m1, v1, m2, v2] = names.map(|name| self.parameter(site, name));
                let value = |(i, v): (usize, &f64)| {
                    let c = channel(i);
                    let first = (v - m1[c]) / (v1[c] + epsilon).sqrt();
                    let second = ((v * v - 1.0) / 2f64.sqrt() - m2[c]) / (v2[c] + epsilon).sqrt();
                    scale[c] * (0.398942280401 + 0.5 * first + 0.282094791774 * second) + shift[c]
                };
                x.iter().enumerate().map(value).collect()
            }
            Layer::Dense { outputs } => {
                let (w, b) = (self.parameter(site, "weight"), self.parameter(site, "bias"));
                let sum = |o: usize| b[o] + (0..x.len()).map(|i| w[o * x.len() + i] * x[i]).sum::<f64>();
                (0..*outputs).map(sum).collect()
            }
            Layer::Conv2d {
                channels,
                kernel,
                stride,
                padding,
                groups,
            } => {
                let (w, b) = (self.parameter(site, "weight"), self.parameter(site, "bias"));
                let seen = site.input.channels() / groups;
                let (area, taps) = (site.output.area(), kernel.pair()[0] * kernel.pair()[1]);
                let mut y: Vec<f64> = (0..site.output.len()).map(|i| b[i / area]).collect();
                Self::windows(
                    site,
                    kernel.pair(),
                    stride.pair(),
                    padding.pair(),
                    |place, k, at, size| {
                        for o in 0..*channels {
                            for c in 0..seen {
                                let from = o / (channels / groups) * seen + c;
                                y[o * area + place] += w[(o * seen + c) * taps + k] * x[from * size + at];
                            }
                        }
                    },
                );
                y
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
                let area = site.output.area();
                let mut y = vec![0.0; site.output.len()];
                let step = stride.unwrap_or(*kernel).pair();
                Self::windows(site, kernel.pair(), step, padding.pair(), |place, _, at, size| {
                    for c in 0..site.input.channels() {
                        y[c * area + place] += x[c * size + at];
                    }
                });
                let mean = matches!(site.layer, Layer::AveragePool { .. });
                let [h, w] = kernel.pair();
                let factor = if mean { 1.0 / (h * w) as f64 } else { 1.0 };
                y.iter().map(|v| v * factor).collect()
            }
            Layer::Add { .. } => {
                let long = self.sequence(&site.body, x.clone());
                let short = self.sequence(&site.shortcut, x);
                long.iter().zip(short).map(|(a, b)| a + b).collect()
            }
            other => panic!("{}", other.name()),
        }
    }
}

/// Random parameters of the size that training gives: outputs as large as inputs, variances around 1.
fn random_model(text: &str, seed: u64) -> Model {
    let spec: ModelSpec = toml::from_str(text).unwrap();
    let mut stream = Stream::new("images test", seed, &[]);
    let mut params = Model::initial(spec.clone(), seed).unwrap().params().to_vec();
    for block in spec.parameters() {
        let variance = block.name.ends_with("variance");
        if block.shape.len() == 1 || block.name.ends_with("coefficients") {
            for p in &mut params[block.offset..block.offset + block.len()] {
                *p = if variance {
                    0.5 + stream.unit()
                } else {
                    *p + 0.3 * stream.symmetric()
                };
            }
        }
    }
    Model::new(spec, params).unwrap()
}

/// Compiles by what the evaluator recorded in a model file, encrypts, evaluates on bytes, decrypts, and returns the largest error.
fn largest_error(text: &str, bits: u32) -> (f64, Arc<Program>) {
    let model = random_model(text, 5);
    let inputs = model.spec().inputs();
    let mut stream = Stream::new("images test inputs", 1, &[]);
    let images: Vec<Vec<f64>> = (0..6)
        .map(|_| (0..inputs).map(|_| stream.unit()).collect())
        .collect();
    let sites = model.spec().resolve().unwrap();
    let mut plain = Plain {
        model: &model,
        ranges: HashMap::new(),
    };
    let expected: Vec<Vec<f64>> = images
        .iter()
        .map(|image| plain.sequence(&sites, image.clone()))
        .collect();
    let mut file = ModelFile::from(model.clone());
    let evaluated = file.record(&images).unwrap();
    for (a, b) in evaluated.rows().flatten().zip(expected.iter().flatten()) {
        assert!((a - b).abs() <= 1e-12 * b.abs().max(1.0), "{a} {b}");
    }
    for seen in &file.annotations.activations {
        let (a, b) = (seen.overall(), plain.ranges[&seen.path]);
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-12 * b.abs().max(1.0);
        assert!(
            close(a.min, b.min) && close(a.max, b.max),
            "{}: {a:?} {b:?}",
            seen.path
        );
    }
    assert_eq!(file.annotations.activations.len(), plain.ranges.len());
    // What the file says, once it was written and read, is what it is compiled by.
    file.annotations.inputs = vec![Range::new(0.0, 1.0)];
    let read = ModelFile::from_safetensors(&file.to_safetensors().unwrap()).unwrap();
    let program = Arc::new(Program::compile_file(&read, bits).unwrap());
    let ranges = vec![Range::new(0.0, 1.0); inputs];
    let recorded = Recorded::of(&file.annotations.activations);
    let again = Program::compile_recorded(&model, &ranges, bits, &recorded).unwrap();
    assert_eq!(program.plan(), again.plan());
    println!("{:#?}", program.plan());
    let querier = Querier::generate(&program).unwrap();
    let key = querier.serving_key().unwrap().to_bytes().unwrap();
    let batch = querier.encrypt_batch(&images).unwrap().to_bytes().unwrap();
    assert_eq!(batch.len(), program.plan().batch_bytes);
    let answer = program.answer(&key, &batch, &mut |_, _| {}).unwrap();
    assert_eq!(answer.len(), program.plan().answer_bytes);
    let outputs = querier.outputs(&answer, images.len()).unwrap();
    let pairs = outputs.iter().flatten().zip(expected.iter().flatten());
    (pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max), program)
}

/// Right to the bits asked for, after rounding to them.
fn check(text: &str, bits: u32) -> Arc<Program> {
    let (error, program) = largest_error(text, bits);
    println!("largest error {error:e}");
    assert!(error <= 1.5 * (-f64::from(bits)).exp2(), "{error}");
    assert_eq!(program.plan().precision, Precision::Expected);
    program
}

#[test]
fn convolutions_with_squares_and_dense_layers() {
    let program = check(
        r#"
        input = [1, 8, 8]
        layers = [
            { conv2d = { channels = 3, kernel = 3, stride = 2, padding = 1 } },
            "square",
            "flatten",
            { dense = { outputs = 6 } },
            "square",
            { dense = { outputs = 4 } },
        ]"#,
        8,
    );
    assert_eq!(program.plan().outputs, 4);
    assert_eq!(program.plan().squares, 48 + 6);
}

#[test]
fn normalised_channels_with_trained_quadratics_and_pools() {
    let program = check(
        r#"
        input = [2, 8, 8]
        layers = [
            { conv2d = { channels = 4, kernel = 3, padding = 1, groups = 2 } },
            { batch_norm = {} },
            { polynomial = { degree = 2, per = "channel" } },
            { average_pool = { kernel = 2 } },
            { conv2d = { channels = 3, kernel = [3, 2] } },
            { hermite = {} },
            { dropout = { rate = 0.5 } },
            { sum_pool = { kernel = 2, stride = 1 } },
            "flatten",
            { dense = { outputs = 2 } },
        ]"#,
        8,
    );
    // Squares are summed over windows before they are relinearised.
    assert!(program.plan().relinearisations < program.plan().squares);
}

#[test]
fn residual_connections_and_element_wise_quadratics() {
    check(
        r#"
        input = [1, 6, 6]
        layers = [
            { conv2d = { channels = 3, kernel = 3 } },
            { polynomial = { degree = 2, per = "element" } },
            { add = { body = [
                { conv2d = { channels = 3, kernel = 3, padding = 1 } },
                { fixed_polynomial = { coefficients = [0.1, 0.5, 0.12] } },
                { conv2d = { channels = 3, kernel = 1 } },
            ] } },
            { polynomial = { degree = 2, per = "layer" } },
            { add = { body = [{ conv2d = { channels = 2, kernel = 2, stride = 2 } }], shortcut = [
                { conv2d = { channels = 2, kernel = 2, stride = 2 } },
                { power = { scale = 0.1, power = 2 } },
            ] } },
            "flatten",
            { dense = { outputs = 1 } },
        ]"#,
        7,
    );
}

#[test]
fn polynomials_of_higher_degree() {
    // ReLU of degrees 3, 4 and 6 on [-3, 3] or so.
    for (coefficients, levels) in [
        ("[0.1, 0.5, 0.15, 0.02]", 5),
        ("[0.0, 0.5, 0.159, 0.0, -0.00445]", 5),
        ("[0.0, 0.5, 0.2097, 0.01, -0.01309, 0.0, 0.000456]", 6),
    ] {
        let text = format!(
            r#"
            input = 6
            layers = [
                {{ dense = {{ outputs = 5 }} }},
                {{ fixed_polynomial = {{ coefficients = {coefficients} }} }},
                {{ dense = {{ outputs = 2 }} }},
            ]"#
        );
        let program = check(&text, 7);
        assert!(program.plan().levels <= levels, "{}", program.plan().levels);
    }
}

/// Declared input ranges alone give a bound, recorded activations an expectation, and neither is made up.
#[test]
fn a_model_file_says_what_it_is_compiled_by() {
    let text = "input = 2\nlayers = [{ dense = { outputs = 2 } }, \"square\", { dense = { outputs = 1 } }]";
    let mut file = ModelFile::from(random_model(text, 1));
    assert!(matches!(
        Program::compile_file(&file, 8),
        Err(CompileError::NotRecorded)
    ));
    file.annotations.inputs = vec![Range::new(-1.0, 1.0), Range::new(0.0, 2.0)];
    let declared = Program::compile_file(&file, 8).unwrap();
    assert_eq!(declared.plan().precision, Precision::Guaranteed);
    assert_eq!(declared.ranges(), file.annotations.inputs);
    file.record(&[[0.5, 0.5], [-0.5, 1.0]]).unwrap();
    let recorded = Program::compile_file(&file, 8).unwrap();
    assert_eq!(recorded.plan().precision, Precision::Expected);
    assert_eq!(recorded.ranges(), declared.ranges());
}
