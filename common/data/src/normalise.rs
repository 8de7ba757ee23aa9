//! Standardised inputs.

use crate::Dataset;
use galen_models::{Shape, Standardisation};
use serde::{Deserialize, Serialize};

/// Mean and standard deviation of every feature, or of every channel of an image. Fitted on the samples to learn from, applied to all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalisation {
    /// Means, in the units of the values.
    pub mean: Vec<f64>,
    /// Standard deviations (of the population: divided by the count); 1 where all values are equal.
    pub std: Vec<f64>,
}

/// Statistics of another data set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("normalisation of {found} features or channels, the samples have {expected}")]
pub struct NormalisationError {
    /// Features or channels of the samples.
    pub expected: usize,
    /// Of the statistics.
    pub found: usize,
}

impl Normalisation {
    /// The statistics of the samples; missing values are left out. A feature without any value gets mean 0.
    pub fn fit(data: &Dataset) -> Self {
        let shape = data.schema().input;
        let channels = shape.channels();
        let mut count = vec![0u64; channels];
        let mut mean = vec![0.0; channels];
        let mut square = vec![0.0; channels];
        // Two passes: the second about the mean, so that large means cost no digits.
        for_each(data.values(), shape, |channel, value| {
            if !value.is_nan() {
                count[channel] += 1;
                mean[channel] += f64::from(value);
            }
        });
        let divisor = |channel: usize| count[channel].max(1) as f64;
        (0..channels).for_each(|c| mean[c] /= divisor(c));
        for_each(data.values(), shape, |channel, value| {
            if !value.is_nan() {
                square[channel] += (f64::from(value) - mean[channel]).powi(2);
            }
        });
        let deviation = |channel: usize| (square[channel] / divisor(channel)).sqrt();
        let std = (0..channels)
            .map(|c| if deviation(c) > 0.0 { deviation(c) } else { 1.0 })
            .collect();
        Self { mean, std }
    }

    /// Standardises values of a shape, sample after sample; missing ones become 0, the mean.
    pub fn apply(&self, shape: Shape, values: &mut [f32]) -> Result<(), NormalisationError> {
        let expected = shape.channels();
        if self.mean.len() != expected || self.std.len() != expected {
            let found = self.mean.len().min(self.std.len());
            return Err(NormalisationError { expected, found });
        }
        let area = shape.area().max(1);
        for sample in values.chunks_exact_mut(shape.len().max(1)) {
            for (plane, (mean, std)) in sample.chunks_exact_mut(area).zip(self.mean.iter().zip(&self.std)) {
                for value in plane {
                    *value = if value.is_nan() {
                        0.0
                    } else {
                        ((f64::from(*value) - mean) / std) as f32
                    };
                }
            }
        }
        Ok(())
    }

    /// The data set with standardised inputs.
    pub fn standardised(&self, data: &Dataset) -> Result<Dataset, NormalisationError> {
        let mut standardised = data.clone();
        self.apply(data.schema().input, &mut standardised.values)?;
        Ok(standardised)
    }
}

/// What a model file says of it, so that whoever has the file prepares inputs in the same way.
impl From<Normalisation> for Standardisation {
    fn from(Normalisation { mean, std }: Normalisation) -> Self {
        Self { mean, std }
    }
}

fn for_each(values: &[f32], shape: Shape, mut visit: impl FnMut(usize, f32)) {
    let area = shape.area().max(1);
    for sample in values.chunks_exact(shape.len().max(1)) {
        for (channel, plane) in sample.chunks_exact(area).enumerate() {
            plane.iter().for_each(|&value| visit(channel, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Schema, Source, Target, Targets};

    fn data(input: Shape, values: Vec<f32>, count: usize) -> Dataset {
        let schema = Schema {
            input,
            elements: Vec::new(),
            target: Target::Regression {
                name: "y".into(),
                unit: String::new(),
            },
            source: Source::default(),
        };
        Dataset::new(schema, values, Targets::Numbers(vec![0.0; count]), None, None).unwrap()
    }

    #[test]
    fn channels_of_images_have_mean_zero_and_deviation_one() {
        let all = data(
            Shape::Image([2, 1, 2]),
            vec![1.0, 3.0, 5.0, 5.0, 5.0, 7.0, 5.0, 5.0],
            2,
        );
        let fitted = Normalisation::fit(&all);
        assert_eq!(
            (&fitted.mean[..], &fitted.std[..]),
            (&[4.0, 5.0][..], &[5f64.sqrt(), 1.0][..])
        );
        let again = Normalisation::fit(&fitted.standardised(&all).unwrap());
        assert!(again.mean.iter().all(|m| m.abs() < 1e-6));
        assert!((again.std[0] - 1.0).abs() < 1e-6 && again.std[1] == 1.0);
    }

    #[test]
    fn missing_values_are_left_out_and_become_the_mean() {
        let all = data(
            Shape::Features(2),
            vec![1.0, f32::NAN, 3.0, f32::NAN, f32::NAN, f32::NAN],
            3,
        );
        let fitted = Normalisation::fit(&all);
        assert_eq!(
            (&fitted.mean[..], &fitted.std[..]),
            (&[2.0, 0.0][..], &[1.0, 1.0][..])
        );
        let standardised = fitted.standardised(&all).unwrap();
        assert_eq!(standardised.values(), [-1.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
        let in_file = Standardisation::from(fitted.clone());
        for (raw, expected) in [([1.0, f64::NAN], [-1.0, 0.0]), ([f64::NAN, 7.0], [0.0, 7.0])] {
            let mut row = raw;
            in_file.apply(Shape::Features(2), &mut row);
            assert_eq!(row, expected);
        }
        let other = data(Shape::Features(3), vec![0.0; 3], 1);
        let error = NormalisationError {
            expected: 3,
            found: 2,
        };
        assert_eq!(fitted.standardised(&other), Err(error));
    }
}
