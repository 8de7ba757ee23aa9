//! The layers one after the other, on groups of patients.

use super::activation::{self, Normalisation, each, horner, power};
use super::lanes::{self, Filters, LANES, Lanes, Window};
use super::range::{ActivationRange, Moments, Range};
use super::{Forward, sigmoid};
use crate::annotations;
use crate::model::{Model, ModelError};
use crate::spec::{Extent, Layer, Shape, Site};
use rayon::prelude::*;

/// Evaluates all rows, group by group.
pub(super) fn forward<R: AsRef<[f64]> + Sync>(model: &Model, rows: &[R]) -> Result<Forward, ModelError> {
    let spec = model.spec();
    let expected = spec.inputs();
    for (row, values) in rows.iter().enumerate() {
        let found = values.as_ref().len();
        if found != expected {
            return Err(ModelError::RowWidth { row, expected, found });
        }
    }
    let sites = spec.resolve()?;
    let width = sites.last().map_or(expected, |last| last.output.len());
    let mut places = Vec::new();
    annotations::activations(&sites, &mut places);
    let nothing_yet = |(path, channels): (&str, usize)| ActivationRange {
        path: path.to_owned(),
        channels: vec![Range::EMPTY; channels],
        moments: vec![Moments::default(); channels],
    };
    let mut activations: Vec<ActivationRange> = places.into_iter().map(nothing_yet).collect();
    let evaluate = |group: &[R]| {
        let mut run = Run {
            params: model.params(),
            patients: group.len(),
            seen: activations.clone(),
            next: 0,
        };
        let output = run.sequence(&sites, side_by_side(group, expected));
        (one_by_one(&output, group.len()), run.seen)
    };
    let groups: Vec<(Vec<f64>, Vec<ActivationRange>)> = if rows.len() <= LANES {
        rows.chunks(LANES).map(evaluate).collect()
    } else {
        rows.par_chunks(LANES).map(evaluate).collect()
    };
    let mut values = Vec::with_capacity(rows.len() * width);
    for (outputs, seen) in groups {
        values.extend(outputs);
        for (all, seen) in activations.iter_mut().zip(&seen) {
            all.merge(seen);
        }
    }
    Ok(Forward {
        width,
        values,
        activations,
    })
}

fn side_by_side<R: AsRef<[f64]>>(rows: &[R], width: usize) -> Vec<Lanes> {
    let mut all = vec![[0.0; LANES]; width];
    for (lane, row) in rows.iter().enumerate() {
        for (place, &value) in all.iter_mut().zip(row.as_ref()) {
            place[lane] = value;
        }
    }
    all
}

fn one_by_one(values: &[Lanes], patients: usize) -> Vec<f64> {
    let mut all = Vec::with_capacity(values.len() * patients);
    for lane in 0..patients {
        all.extend(values.iter().map(|v| v[lane]));
    }
    all
}

/// One group of patients under way.
struct Run<'a> {
    params: &'a [f64],
    /// How many lanes are in use.
    patients: usize,
    seen: Vec<ActivationRange>,
    /// The activation that comes next.
    next: usize,
}

impl<'a> Run<'a> {
    fn sequence(&mut self, sites: &[Site<'_>], mut x: Vec<Lanes>) -> Vec<Lanes> {
        for site in sites {
            x = self.layer(site, x);
        }
        x
    }

    /// The values of the site's parameter block `i`.
    fn block(&self, site: &Site<'_>, i: usize) -> &'a [f64] {
        site.parameters
            .get(i)
            .map_or(&[][..], |block| block.of(self.params))
    }

    /// Records what enters the next activation.
    fn record(&mut self, x: &[Lanes], area: usize) {
        let patients = self.patients;
        if let Some(seen) = self.seen.get_mut(self.next) {
            let channels = seen.channels.iter_mut().zip(&mut seen.moments);
            for ((range, moments), plane) in channels.zip(x.chunks(area.max(1))) {
                for &value in plane.iter().flat_map(|lanes| &lanes[..patients]) {
                    range.include(value);
                    moments.include(value);
                }
            }
        }
        self.next += 1;
    }

    fn layer(&mut self, site: &Site<'_>, mut x: Vec<Lanes>) -> Vec<Lanes> {
        let area = site.input.area();
        if site.layer.is_activation() {
            self.record(&x, area);
        }
        let window =
            |kernel: &Extent, stride: &Extent, padding: &Extent| Window::of(site, kernel, stride, padding);
        let channels = site.input.channels();
        match site.layer {
            Layer::Dense { .. } => return lanes::dense(self.block(site, 0), self.block(site, 1), &x),
            Layer::Residual {
                scale, power: degree, ..
            } => {
                let mut sum = lanes::dense(self.block(site, 0), self.block(site, 1), &x);
                let inner = lanes::dense(self.block(site, 2), self.block(site, 3), &x);
                self.record(&inner, 1);
                for (y, u) in sum.iter_mut().flatten().zip(inner.iter().flatten()) {
                    *y += scale * power(*u, *degree);
                }
                return sum;
            }
            Layer::Conv2d {
                kernel,
                stride,
                padding,
                groups,
                ..
            } => {
                let filters = Filters {
                    weight: self.block(site, 0),
                    bias: self.block(site, 1),
                    inputs: channels / (*groups).max(1),
                    groups: *groups,
                };
                return lanes::conv2d(filters, window(kernel, stride, padding), &x);
            }
            Layer::AveragePool {
                kernel,
                stride,
                padding,
            } => {
                let window = window(kernel, &stride.unwrap_or(*kernel), padding);
                let mut sums = lanes::pool(channels, window, &x, 0.0, |a, b| a + b);
                let count = (window.kernel[0] * window.kernel[1]) as f64;
                each(&mut sums, |sum| sum / count);
                return sums;
            }
            Layer::SumPool {
                kernel,
                stride,
                padding,
            } => {
                let window = window(kernel, &stride.unwrap_or(*kernel), padding);
                return lanes::pool(channels, window, &x, 0.0, |a, b| a + b);
            }
            Layer::MaxPool { kernel, stride } => {
                let window = window(kernel, &stride.unwrap_or(*kernel), &Extent::ZERO);
                return lanes::pool(channels, window, &x, f64::NEG_INFINITY, f64::max);
            }
            Layer::Add { .. } => {
                let mut sum = self.sequence(&site.body, x.clone());
                let short = self.sequence(&site.shortcut, x);
                for (y, s) in sum.iter_mut().flatten().zip(short.iter().flatten()) {
                    *y += s;
                }
                return sum;
            }
            Layer::BatchNorm { epsilon } => {
                let norm = self.normalisation(site, 2, *epsilon);
                activation::batch_norm(&mut x, area, [0, 1].map(|i| self.block(site, i)), norm);
            }
            Layer::Hermite { epsilon } => {
                let terms = [2, 4].map(|i| self.normalisation(site, i, *epsilon));
                activation::hermite(&mut x, area, [0, 1].map(|i| self.block(site, i)), terms);
            }
            Layer::Polynomial { per, .. } => {
                activation::polynomial(&mut x, site.input, self.block(site, 0), *per);
            }
            Layer::FixedPolynomial { coefficients } => each(&mut x, |v| horner(coefficients, v)),
            Layer::Square => each(&mut x, |v| v * v),
            Layer::Power { scale, power: degree } => each(&mut x, |v| scale * power(v, *degree)),
            // NaN stays what it is.
            Layer::Relu => each(&mut x, |v| if v < 0.0 { 0.0 } else { v }),
            Layer::Sigmoid => each(&mut x, sigmoid),
            Layer::Tanh => each(&mut x, f64::tanh),
            Layer::Sign => each(&mut x, |v| if v >= 0.0 { 1.0 } else { -1.0 }),
            Layer::Flatten | Layer::Dropout { .. } => {}
        }
        x
    }

    /// The statistics in the blocks `i` and `i + 1`.
    fn normalisation(&self, site: &Site<'_>, i: usize, epsilon: f64) -> Normalisation<'a> {
        Normalisation {
            mean: self.block(site, i),
            variance: self.block(site, i + 1),
            epsilon,
        }
    }
}

impl Window {
    /// The window of a resolved convolution or pooling layer.
    pub(crate) fn of(site: &Site<'_>, kernel: &Extent, stride: &Extent, padding: &Extent) -> Self {
        let sides = |shape: Shape| match shape {
            Shape::Image([_, height, width]) => [height, width],
            Shape::Features(n) => [n, 1],
        };
        Self {
            input: sides(site.input),
            output: sides(site.output),
            kernel: kernel.pair(),
            stride: stride.pair(),
            padding: padding.pair(),
        }
    }
}
