//! What belongs to a model beside its network and parameters, so that its file can be used without asking anyone.

use crate::evaluate::{ActivationRange, Moments, Range};
use crate::spec::{Layer, ModelSpec, Shape, Site};
use serde::{Deserialize, Serialize};

/// What a model file says about its model. Everything is optional; the model's digest does not cover it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Annotations {
    /// What the model predicts, in a few words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// Names of the classes, one per output; of a single logit, that of class 0 and that of class 1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// What is done to raw inputs before they enter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standardisation: Option<Standardisation>,
    /// Where prepared inputs lie: one interval for all, or one per channel of an image or value of a vector.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Range>,
    /// What entered the activations in training, in the order of [`Forward::activations`](crate::Forward::activations).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub activations: Vec<ActivationRange>,
}

/// `(x - mean) / std`: one pair for all values, or one per channel of an image or value of a vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standardisation {
    /// Means.
    pub mean: Vec<f64>,
    /// Standard deviations; positive.
    pub std: Vec<f64>,
}

impl Standardisation {
    /// Prepares one patient's raw values of the given shape. Missing ones (NaN) become 0, the mean.
    pub fn apply(&self, shape: Shape, values: &mut [f64]) {
        let of = |all: &[f64], channel: usize| all.get(channel).or(all.first()).copied();
        for (channel, plane) in values.chunks_mut(shape.area().max(1)).enumerate() {
            let mean = of(&self.mean, channel).unwrap_or(0.0);
            let std = of(&self.std, channel).unwrap_or(1.0);
            for v in plane {
                *v = if v.is_nan() { 0.0 } else { (*v - mean) / std };
            }
        }
    }
}

impl Annotations {
    /// Widens the ranges of inputs and activations by what further rows showed.
    pub(crate) fn widen<R: AsRef<[f64]>>(&mut self, input: Shape, rows: &[R], seen: &[ActivationRange]) {
        if self.inputs.is_empty() {
            self.inputs = vec![Range::EMPTY; input.channels()];
        }
        let single = self.inputs.len() == 1;
        for row in rows {
            for (channel, plane) in row.as_ref().chunks(input.area().max(1)).enumerate() {
                let place = if single { 0 } else { channel };
                if let Some(range) = self.inputs.get_mut(place) {
                    plane.iter().for_each(|&value| range.include(value));
                }
            }
        }
        if self.activations.len() != seen.len() {
            self.activations = seen.to_vec();
            return;
        }
        for (all, seen) in self.activations.iter_mut().zip(seen) {
            all.merge(seen);
        }
    }

    /// The range of every single input, if inputs were recorded or declared.
    pub fn input_ranges(&self, spec: &ModelSpec) -> Option<Vec<Range>> {
        let (area, first) = (spec.input.area().max(1), *self.inputs.first()?);
        let of = |input: usize| match self.inputs.as_slice() {
            [_] => first,
            all => all.get(input / area).copied().unwrap_or(first),
        };
        Some((0..spec.inputs()).map(of).collect())
    }

    /// Whether the annotations belong to a network; otherwise, what does not fit.
    pub fn check(&self, spec: &ModelSpec) -> Result<(), String> {
        let outputs = spec.outputs();
        let classes = if outputs == 1 { 2 } else { outputs };
        if !self.classes.is_empty() && self.classes.len() != classes {
            return Err(format!(
                "{} class names, the network distinguishes {classes}",
                self.classes.len()
            ));
        }
        let channels = spec.input.channels();
        let fits = |n: usize| n == 1 || n == channels;
        if let Some(Standardisation { mean, std }) = &self.standardisation {
            if !fits(mean.len()) || mean.len() != std.len() {
                return Err(format!(
                    "{} means and {} standard deviations, the input has {channels} channels",
                    mean.len(),
                    std.len()
                ));
            }
            if !mean.iter().all(|m| m.is_finite()) || !std.iter().all(|s| s.is_finite() && *s > 0.0) {
                return Err("means must be finite, standard deviations positive and finite".into());
            }
        }
        if !self.inputs.is_empty() && !fits(self.inputs.len()) {
            return Err(format!(
                "{} input ranges, the input has {channels} channels",
                self.inputs.len()
            ));
        }
        if !self.inputs.iter().all(is_interval) {
            return Err("an input range is empty or not finite".into());
        }
        if !self.activations.is_empty() {
            let sites = spec.resolve().map_err(|e| e.to_string())?;
            let mut expected = Vec::new();
            activations(&sites, &mut expected);
            let found = self
                .activations
                .iter()
                .map(|a| (a.path.as_str(), a.channels.len()));
            if !found.eq(expected.iter().map(|(path, channels)| (*path, *channels))) {
                return Err("the recorded activations are not those of the network".into());
            }
            if let Some(wrong) = self
                .activations
                .iter()
                .find(|a| !a.channels.iter().all(is_interval))
            {
                return Err(format!(
                    "a range recorded at {} is empty or not finite",
                    wrong.path
                ));
            }
            let fits = |a: &ActivationRange| {
                a.moments.is_empty()
                    || a.moments.len() == a.channels.len() && a.moments.iter().all(Moments::is_possible)
            };
            if let Some(wrong) = self.activations.iter().find(|a| !fits(a)) {
                return Err(format!("the moments recorded at {} are impossible", wrong.path));
            }
        }
        Ok(())
    }
}

fn is_interval(range: &Range) -> bool {
    range.min.is_finite() && range.max.is_finite() && range.min <= range.max
}

/// The places of a network's activations and the channels of what enters them, in the order in which they are evaluated.
pub(crate) fn activations<'a>(sites: &'a [Site<'_>], all: &mut Vec<(&'a str, usize)>) {
    for site in sites {
        match site.layer {
            Layer::Residual { outputs, .. } => all.push((site.path.as_str(), *outputs)),
            layer if layer.is_activation() => all.push((site.path.as_str(), site.input.channels())),
            _ => {}
        }
        activations(&site.body, all);
        activations(&site.shortcut, all);
    }
}
