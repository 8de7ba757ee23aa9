//! A quantised model as a file, so that both sides compile the same program without the rows that it was calibrated on.

use crate::circuit::{Circuit, CircuitError, Interval, Lookup, Sum};
use crate::features::{Code, Encoder, Feature, FeatureError};
use crate::quantised::Quantised;
use serde::{Deserialize, Serialize};

/// Largest file of a quantised model that is read, in bytes.
pub const MAX_FILE_BYTES: usize = 64 << 20;

/// What such a file begins with, and the version of its form.
const FORMAT: &str = "galen exact model v1";

/// A file that holds no quantised model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// Too many bytes.
    #[error("the file has {bytes} bytes, at most {MAX_FILE_BYTES} are read")]
    Size {
        /// Bytes of the file.
        bytes: usize,
    },
    /// No JSON, or none of this form.
    #[error("the file holds no quantised model (line {line}, column {column}): {detail}")]
    Json {
        /// Line of the file, from 1.
        line: usize,
        /// Column of the file.
        column: usize,
        /// What the reader says.
        detail: String,
    },
    /// Another kind or version.
    #[error("the file is a {found:?}, this program reads {FORMAT:?}")]
    Format {
        /// What it calls itself.
        found: String,
    },
    /// Inputs that the circuit does not have.
    #[error("the features give {features} inputs, the circuit takes {circuit}")]
    Inputs {
        /// Inputs that the features give.
        features: usize,
        /// Inputs of the circuit.
        circuit: usize,
    },
    /// A scale that is none.
    #[error("a score's unit is {scale}, it must be positive and finite")]
    Scale {
        /// The unit.
        scale: f64,
    },
    /// A look-up that cannot be.
    #[error("look-up {lookup}: {error}")]
    Lookup {
        /// Index of the look-up, in order of evaluation.
        lookup: usize,
        /// What is wrong with it.
        error: CircuitError,
    },
    /// A score that cannot be.
    #[error("score {score}: {error}")]
    Score {
        /// Index of the score.
        score: usize,
        /// What is wrong with it.
        error: CircuitError,
    },
    /// The inputs' ranges.
    #[error(transparent)]
    Circuit(#[from] CircuitError),
    /// The thresholds.
    #[error(transparent)]
    Feature(#[from] FeatureError),
}

/// A quantised model as it is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    format: String,
    /// What one unit of a score is worth.
    scale: f64,
    features: Vec<WrittenFeature>,
    inputs: Vec<(i64, i64)>,
    lookups: Vec<WrittenLookup>,
    scores: Vec<WrittenSum>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFeature {
    code: WrittenCode,
    thresholds: Vec<f64>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenCode {
    Thermometer,
    Level,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSum {
    terms: Vec<(usize, i64)>,
    constant: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLookup {
    sum: WrittenSum,
    shift: u32,
    table: Vec<i64>,
}

impl From<&Sum> for WrittenSum {
    fn from(sum: &Sum) -> Self {
        Self {
            terms: sum.terms.clone(),
            constant: sum.constant,
        }
    }
}

impl From<WrittenSum> for Sum {
    fn from(sum: WrittenSum) -> Self {
        Self {
            terms: sum.terms,
            constant: sum.constant,
        }
    }
}

impl From<&Lookup> for WrittenLookup {
    fn from(lookup: &Lookup) -> Self {
        Self {
            sum: lookup.sum().into(),
            shift: lookup.shift(),
            table: lookup.table.clone(),
        }
    }
}

impl Quantised {
    /// The model as JSON: thresholds, circuit and scores. Equal models give equal bytes.
    ///
    /// Thresholds at quantiles lie between the values of calibration patients, and are as confidential as a few of these values are.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FileError> {
        serde_json::to_vec(&self.written()).map_err(json)
    }

    /// Reads what [`Quantised::to_bytes`] wrote. Every range is derived again, so that a model that is read keeps the promise of one
    /// that was made: whatever the inputs are, no sum leaves its table.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FileError> {
        if bytes.len() > MAX_FILE_BYTES {
            return Err(FileError::Size { bytes: bytes.len() });
        }
        Self::read(serde_json::from_slice(bytes).map_err(json)?)
    }

    /// The model as it is written.
    pub(crate) fn written(&self) -> Written {
        let feature = |feature: &Feature| WrittenFeature {
            code: match feature.code() {
                Code::Thermometer => WrittenCode::Thermometer,
                Code::Level => WrittenCode::Level,
            },
            thresholds: feature.thresholds().to_vec(),
        };
        let circuit = self.inner();
        let input = |input| circuit.range(input).map(|range| (range.min, range.max));
        Written {
            format: FORMAT.to_owned(),
            scale: self.scale(),
            features: self.encoder().features().iter().map(feature).collect(),
            inputs: (0..circuit.inputs()).filter_map(input).collect(),
            lookups: circuit.lookups().iter().map(WrittenLookup::from).collect(),
            scores: self.sums().iter().map(WrittenSum::from).collect(),
        }
    }

    /// The model that is written there.
    pub(crate) fn read(written: Written) -> Result<Self, FileError> {
        if written.format != FORMAT {
            return Err(FileError::Format {
                found: written.format,
            });
        }
        let scale = written.scale;
        if !(scale.is_finite() && scale > 0.0) {
            return Err(FileError::Scale { scale });
        }
        let features = written.features.into_iter().map(|feature| {
            let code = match feature.code {
                WrittenCode::Thermometer => Code::Thermometer,
                WrittenCode::Level => Code::Level,
            };
            Feature::new(feature.thresholds, code)
        });
        let encoder = Encoder::new(features.collect())?;
        let ranges: Vec<Interval> = written
            .inputs
            .iter()
            .map(|&(min, max)| Interval::new(min, max))
            .collect();
        if ranges != encoder.ranges() {
            return Err(FileError::Inputs {
                features: encoder.ranges().len(),
                circuit: ranges.len(),
            });
        }
        let mut circuit = Circuit::new(ranges)?;
        for (lookup, written) in written.lookups.into_iter().enumerate() {
            circuit
                .lookup_table(written.sum.into(), written.shift, written.table)
                .map_err(|error| FileError::Lookup { lookup, error })?;
        }
        let scores: Vec<Sum> = written.scores.into_iter().map(Sum::from).collect();
        for (score, sum) in scores.iter().enumerate() {
            circuit
                .range_of(sum)
                .map_err(|error| FileError::Score { score, error })?;
        }
        Ok(Self::new(encoder, circuit, scores, scale))
    }
}

fn json(error: serde_json::Error) -> FileError {
    FileError::Json {
        line: error.line(),
        column: error.column(),
        detail: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reveal::Reveal;
    use crate::trees::{Forest, Node};

    fn model() -> Quantised {
        let split = |feature, threshold, below, from| Node::Split {
            feature,
            threshold,
            below: Box::new(Node::Leaf(below)),
            from: Box::new(Node::Leaf(from)),
        };
        let trees = vec![split(0, 0.25, -1.0, 2.0), split(1, 1e-3, 0.5, -0.1)];
        Forest::new(2, 1, 0.1, trees).unwrap().quantise(8).unwrap()
    }

    #[test]
    fn a_file_gives_the_same_model() {
        let model = model();
        let bytes = model.to_bytes().unwrap();
        let read = Quantised::from_bytes(&bytes).unwrap();
        assert_eq!(read, model);
        assert_eq!(read.to_bytes().unwrap(), bytes);
        let digest = |model: &Quantised| model.circuit(Reveal::Label).unwrap().digest();
        assert_eq!(digest(&read), digest(&model));
    }

    /// Every cut and every changed byte either gives an error or a model that still keeps its ranges.
    #[test]
    fn damaged_files_do_no_harm() {
        let bytes = model().to_bytes().unwrap();
        for length in 0..bytes.len() {
            assert!(Quantised::from_bytes(&bytes[..length]).is_err(), "{length}");
        }
        for at in 0..bytes.len() {
            for replacement in [b'0', b'9', b'-', b'"', b']', b'e', 0xff] {
                let mut changed = bytes.clone();
                changed[at] = replacement;
                if let Ok(read) = Quantised::from_bytes(&changed) {
                    for row in [[0.0, 0.0], [1e9, -1e9], [0.3, 1.0]] {
                        let _ = read.evaluate(Reveal::Label, &row);
                    }
                }
            }
        }
    }

    #[test]
    fn files_that_lie_are_refused() {
        let text = String::from_utf8(model().to_bytes().unwrap()).unwrap();
        let changed = |from: &str, to: &str| {
            assert!(text.contains(from), "{from} in {text}");
            Quantised::from_bytes(text.replacen(from, to, 1).as_bytes())
        };
        let refused = changed("galen exact model v1", "galen exact model v9");
        assert!(matches!(refused, Err(FileError::Format { .. })));
        let refused = changed("\"inputs\":[[0,1]", "\"inputs\":[[0,2]");
        assert!(matches!(refused, Err(FileError::Inputs { .. })));
        let refused = changed("\"scale\":", "\"scale\":-");
        assert!(matches!(refused, Err(FileError::Scale { .. })));
        let refused = changed("\"scale\":", "\"other\":1,\"scale\":");
        assert!(matches!(refused, Err(FileError::Json { .. })));
        let refused = changed("\"terms\":[[0,1]]", "\"terms\":[[99,1]]");
        assert!(matches!(
            refused,
            Err(FileError::Lookup {
                lookup: 0,
                error: CircuitError::Wire { wire: 99, .. }
            })
        ));
        let refused = changed("\"terms\":[[0,1]]", "\"terms\":[[0,3]]");
        assert!(matches!(
            refused,
            Err(FileError::Lookup {
                lookup: 0,
                error: CircuitError::Entries { .. }
            })
        ));
        let refused = changed("\"terms\":[[0,1]]", "\"terms\":[[0,-9223372036854775808]]");
        assert!(matches!(
            refused,
            Err(FileError::Lookup {
                error: CircuitError::Magnitude,
                ..
            })
        ));
        let long = vec![b' '; MAX_FILE_BYTES + 1];
        assert!(matches!(
            Quantised::from_bytes(&long),
            Err(FileError::Size { .. })
        ));
    }
}
