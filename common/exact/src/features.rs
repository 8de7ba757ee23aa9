//! From a patient's features to a circuit's inputs.

use crate::circuit::Interval;

/// Most thresholds of one feature.
pub const MAX_THRESHOLDS: usize = 1024;

/// How the thresholds that a value reaches are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// One bit per threshold: whether the value reaches it. Whatever steps a model takes along a feature is then a weighted sum.
    Thermometer,
    /// One integer: how many thresholds the value reaches.
    Level,
}

/// A feature, cut at thresholds.
#[derive(Clone, Debug, PartialEq)]
pub struct Feature {
    thresholds: Vec<f64>,
    code: Code,
}

/// Thresholds that cannot be, or a row that does not fit.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FeatureError {
    /// Thresholds must ascend.
    #[error(
        "feature {feature} has thresholds that are not finite, do not ascend, or are more than {MAX_THRESHOLDS}"
    )]
    Thresholds {
        /// The feature.
        feature: usize,
    },
    /// A row of another width.
    #[error("the row has {found} values, the model takes {expected}")]
    Width {
        /// Features of the model.
        expected: usize,
        /// Values of the row.
        found: usize,
    },
    /// A value that is no number.
    #[error("feature {feature} is {value}; missing values must be filled in before")]
    NotFinite {
        /// The feature.
        feature: usize,
        /// Its value.
        value: f64,
    },
}

/// Turns rows of features into integers. Every row of finite numbers has a code: values beyond the outermost thresholds count as if they
/// were just there, so that no patient can leave the range that a model was compiled for.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoder {
    features: Vec<Feature>,
}

impl Feature {
    /// With thresholds in ascending order.
    pub fn new(thresholds: Vec<f64>, code: Code) -> Self {
        Self { thresholds, code }
    }

    /// How reached thresholds are written.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The thresholds.
    pub fn thresholds(&self) -> &[f64] {
        &self.thresholds
    }

    /// How many thresholds a value reaches.
    pub fn level(&self, value: f64) -> usize {
        self.thresholds.partition_point(|&threshold| threshold <= value)
    }

    /// Its inputs to a circuit.
    pub fn wires(&self) -> usize {
        match self.code {
            Code::Thermometer => self.thresholds.len(),
            Code::Level => 1,
        }
    }
}

impl Encoder {
    /// Checks the thresholds.
    pub fn new(features: Vec<Feature>) -> Result<Self, FeatureError> {
        for (feature, Feature { thresholds, .. }) in features.iter().enumerate() {
            let ascend = thresholds.is_sorted_by(|a, b| a < b);
            if !ascend || thresholds.iter().any(|t| !t.is_finite()) || thresholds.len() > MAX_THRESHOLDS {
                return Err(FeatureError::Thresholds { feature });
            }
        }
        Ok(Self { features })
    }

    /// The features.
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// The range of every input of the circuit.
    pub fn ranges(&self) -> Vec<Interval> {
        let of = |feature: &Feature| match feature.code {
            Code::Thermometer => vec![Interval::BIT; feature.thresholds.len()],
            Code::Level => vec![Interval::new(0, feature.thresholds.len() as i64)],
        };
        self.features.iter().flat_map(of).collect()
    }

    /// The first input of every feature, in order.
    pub fn offsets(&self) -> Vec<usize> {
        let mut next = 0;
        let mut offsets = Vec::with_capacity(self.features.len());
        for feature in &self.features {
            offsets.push(next);
            next += feature.wires();
        }
        offsets
    }

    /// The circuit's inputs for one patient.
    pub fn encode(&self, row: &[f64]) -> Result<Vec<i64>, FeatureError> {
        if row.len() != self.features.len() {
            return Err(FeatureError::Width {
                expected: self.features.len(),
                found: row.len(),
            });
        }
        let mut inputs = Vec::new();
        for (index, (feature, &value)) in self.features.iter().zip(row).enumerate() {
            if !value.is_finite() {
                return Err(FeatureError::NotFinite {
                    feature: index,
                    value,
                });
            }
            let level = feature.level(value);
            match feature.code {
                Code::Thermometer => {
                    inputs.extend((0..feature.thresholds.len()).map(|i| i64::from(i < level)));
                }
                Code::Level => inputs.push(level as i64),
            }
        }
        Ok(inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_by_hand() {
        let features = vec![
            Feature::new(vec![-1.0, 0.0, 2.5], Code::Thermometer),
            Feature::new(vec![0.5, 0.75], Code::Level),
            Feature::new(Vec::new(), Code::Thermometer),
        ];
        let encoder = Encoder::new(features).unwrap();
        assert_eq!(encoder.offsets(), [0, 3, 4]);
        assert_eq!(encoder.encode(&[0.0, 0.5, 9.0]).unwrap(), [1, 1, 0, 1]);
        assert_eq!(encoder.encode(&[-1e300, 1e300, 0.0]).unwrap(), [0, 0, 0, 2]);
        let expected = [Interval::BIT, Interval::BIT, Interval::BIT, Interval::new(0, 2)];
        assert_eq!(encoder.ranges(), expected);
    }

    #[test]
    fn what_has_no_code_is_refused() {
        let encoder = Encoder::new(vec![Feature::new(vec![0.0], Code::Level)]).unwrap();
        assert!(matches!(
            encoder.encode(&[f64::NAN]),
            Err(FeatureError::NotFinite { feature: 0, .. })
        ));
        assert!(encoder.encode(&[]).is_err());
        for thresholds in [vec![1.0, 1.0], vec![2.0, 1.0], vec![f64::INFINITY]] {
            let refused = Encoder::new(vec![Feature::new(thresholds, Code::Level)]);
            assert_eq!(refused, Err(FeatureError::Thresholds { feature: 0 }));
        }
    }
}
