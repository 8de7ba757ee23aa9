//! From a table with gaps, or from images, to rows of numbers that a model can take.

use crate::examples::{Examples, Targets};
use crate::records::{Records, Values};
use galen_core::network::Shape;
use galen_core::study::{Column, ColumnKind, DataSchema};
use galen_models::{Model, ModelError, Range, Statistics};
use std::ops::Range as Span;

/// Standardised values are limited to this many standard deviations, at every hospital and in every query alike.
///
/// It is part of the model, like the standardisation itself: a quadratic network squares outliers, and a public limit
/// bounds what encrypted evaluation has to carry.
pub const LIMIT: f64 = 4.0;

/// Turns patients into model inputs.
///
/// A numeric column gives its standardised value (0, the mean, where missing; limited to +-[`LIMIT`]) and an indicator of
/// missing values; a categorical column gives one indicator per value (all 0 where missing) and an indicator of missing values. Images are
/// taken as they are.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessor(Kind);

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Table(Vec<Encoder>),
    Images { input: Shape, range: Range },
}

/// Patients that are evaluated at one time: images are large as rows of `f64`.
const AT_A_TIME: usize = 256;

#[derive(Clone, Debug, PartialEq)]
enum Encoder {
    Numeric { mean: f64, std: f64 },
    Categorical { values: Vec<f64> },
}

/// Statistics or patients that do not belong to the schema.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PreprocessError {
    /// Statistics of another number of columns.
    #[error("statistics of {found} numeric columns, the schema has {expected}")]
    Columns {
        /// Numeric columns of the schema.
        expected: usize,
        /// Columns of the statistics.
        found: usize,
    },
    /// Statistics that are not numbers.
    #[error("the statistics of column \"{column}\" are not finite")]
    NotFinite {
        /// The column.
        column: String,
    },
    /// Images where the schema describes a table, a table where it describes images, or images of another shape.
    #[error("the study describes {expected}, the patients are {found}")]
    Kind {
        /// What the schema describes.
        expected: String,
        /// What the patients are.
        found: String,
    },
    /// A patient with another number of features.
    #[error("row {row} has {found} features, the schema has {expected}")]
    Features {
        /// Index of the row.
        row: usize,
        /// Features of the schema.
        expected: usize,
        /// Features of the row.
        found: usize,
    },
}

impl Preprocessor {
    /// Prepares for a schema with the statistics of all hospitals together.
    pub fn new(schema: &DataSchema, statistics: &Statistics) -> Result<Self, PreprocessError> {
        let expected = schema.numeric().count();
        if statistics.columns.len() != expected {
            let found = statistics.columns.len();
            return Err(PreprocessError::Columns { expected, found });
        }
        if let Some(samples) = &schema.samples {
            let [min, max] = schema.value_range();
            return Ok(Self(Kind::Images {
                input: samples.input,
                range: Range::new(f64::from(min), f64::from(max)),
            }));
        }
        let mut numeric = statistics.columns.iter();
        let mut encoders = Vec::new();
        for column in schema.features() {
            encoders.push(match column.kind {
                ColumnKind::Categorical => Encoder::Categorical {
                    values: column.values.clone(),
                },
                _ => {
                    let (mean, std) = numeric.next().map_or((0.0, 0.0), |s| (s.mean, s.std));
                    if !(mean.is_finite() && std.is_finite()) {
                        return Err(not_finite(column));
                    }
                    // A constant column carries nothing: centring it is all there is to do.
                    let std = if std > 0.0 { std } else { 1.0 };
                    Encoder::Numeric { mean, std }
                }
            });
        }
        Ok(Self(Kind::Table(encoders)))
    }

    /// One row of model inputs per patient.
    pub fn rows(&self, records: &Records) -> Result<Vec<Vec<f64>>, PreprocessError> {
        self.rows_of(records, 0..records.len())
    }

    /// The rows of the patients with the given indices, as far as there are any.
    fn rows_of(&self, records: &Records, indices: Span<usize>) -> Result<Vec<Vec<f64>>, PreprocessError> {
        let indices = indices.start..indices.end.min(records.len());
        match (&self.0, &records.values) {
            (Kind::Table(encoders), Values::Table(features)) => {
                let rows = indices.clone().zip(features.get(indices).unwrap_or_default());
                rows.map(|(row, cells)| encode(encoders, row, cells)).collect()
            }
            (Kind::Images { input, .. }, Values::Images { input: found, values }) if input == found => {
                let each = input.len().max(1);
                let images = values.chunks_exact(each).skip(indices.start).take(indices.len());
                Ok(images
                    .map(|image| image.iter().map(|&v| f64::from(v)).collect())
                    .collect())
            }
            (_, values) => Err(PreprocessError::Kind {
                expected: self.describe(),
                found: match values {
                    Values::Table(_) => "rows of a table".into(),
                    Values::Images { input, .. } => format!("images of {input}"),
                },
            }),
        }
    }

    fn describe(&self) -> String {
        match &self.0 {
            Kind::Table(_) => "a table".into(),
            Kind::Images { input, .. } => format!("images of {input}"),
        }
    }

    /// Model inputs and classes, to train on.
    pub fn examples(&self, records: &Records) -> Result<Examples, PreprocessError> {
        let inputs = match &records.values {
            Values::Images { values, .. } => {
                self.rows_of(records, 0..1)?;
                values.clone()
            }
            Values::Table(_) => self.rows(records)?.iter().flatten().map(|&x| x as f32).collect(),
        };
        let classes = records.labels.iter().map(|&positive| u32::from(positive));
        Ok(Examples {
            inputs,
            targets: Targets::Classes(classes.collect()),
        })
    }

    /// A model's probability of class 1 for every patient.
    ///
    /// # Errors
    /// Patients of another schema, and [`Model::probabilities`].
    pub fn probabilities<E: From<PreprocessError> + From<ModelError>>(
        &self,
        model: &Model,
        records: &Records,
    ) -> Result<Vec<f64>, E> {
        let mut all = Vec::with_capacity(records.len());
        for first in (0..records.len()).step_by(AT_A_TIME) {
            let rows = self.rows_of(records, first..first + AT_A_TIME)?;
            all.extend(model.probabilities(&rows)?);
        }
        Ok(all)
    }

    /// The public range of every model input: what encrypted evaluation must be able to carry.
    pub fn input_ranges(&self) -> Vec<Range> {
        let encoders = match &self.0 {
            Kind::Images { input, range } => return vec![*range; input.len()],
            Kind::Table(encoders) => encoders,
        };
        let mut ranges = Vec::new();
        for encoder in encoders {
            match encoder {
                Encoder::Numeric { .. } => ranges.extend([Range::new(-LIMIT, LIMIT), Range::new(0.0, 1.0)]),
                Encoder::Categorical { values } => {
                    ranges.extend(vec![Range::new(0.0, 1.0); values.len() + 1]);
                }
            }
        }
        ranges
    }
}

fn encode(encoders: &[Encoder], row: usize, cells: &[Option<f64>]) -> Result<Vec<f64>, PreprocessError> {
    if cells.len() != encoders.len() {
        return Err(PreprocessError::Features {
            row,
            expected: encoders.len(),
            found: cells.len(),
        });
    }
    let mut inputs = Vec::new();
    for (encoder, &cell) in encoders.iter().zip(cells) {
        encoder.encode(cell, &mut inputs);
    }
    Ok(inputs)
}

impl Encoder {
    fn encode(&self, cell: Option<f64>, inputs: &mut Vec<f64>) {
        let indicator = |on: bool| f64::from(u8::from(on));
        match self {
            Self::Numeric { mean, std } => {
                inputs.push(cell.map_or(0.0, |value| ((value - mean) / std).clamp(-LIMIT, LIMIT)));
            }
            Self::Categorical { values } => {
                inputs.extend(values.iter().map(|&value| indicator(cell == Some(value))));
            }
        }
        inputs.push(indicator(cell.is_none()));
    }
}

fn not_finite(column: &Column) -> PreprocessError {
    PreprocessError::NotFinite {
        column: column.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;
    use galen_core::study::Target;
    use galen_models::{ColumnStatistics, Layer, ModelSpec};

    fn schema() -> DataSchema {
        let column = |name: &str, kind, values: &[f64]| Column {
            name: name.into(),
            kind,
            min: (kind == ColumnKind::Numeric).then_some(0.0),
            max: (kind == ColumnKind::Numeric).then_some(100.0),
            values: values.to_vec(),
            missing_values: vec![],
        };
        DataSchema {
            header: false,
            missing: vec![],
            max_rows: 10,
            held_out: 0.3,
            column: vec![
                column("pain", ColumnKind::Categorical, &[1.0, 2.0]),
                column("age", ColumnKind::Numeric, &[]),
                column("flat", ColumnKind::Numeric, &[]),
            ],
            target: Target {
                negative: vec![0.0],
                positive: vec![1.0],
            },
            samples: None,
            range: None,
        }
    }

    fn statistics(age_std: f64) -> Statistics {
        let age = ColumnStatistics {
            count: 2,
            mean: 50.0,
            std: age_std,
        };
        let flat = ColumnStatistics {
            count: 2,
            mean: 7.0,
            std: 0.0,
        };
        Statistics {
            classes: [1, 1],
            columns: vec![age, flat],
        }
    }

    #[test]
    fn by_hand() {
        let preprocessor = Preprocessor::new(&schema(), &statistics(10.0)).unwrap();
        let table = Table {
            features: vec![
                vec![Some(2.0), Some(60.0), Some(7.0)],
                vec![None, None, None],
                vec![Some(1.0), Some(0.0), Some(8.0)],
            ],
            labels: vec![true; 3],
        };
        let rows = preprocessor.rows(&table.clone().into()).unwrap();
        assert_eq!(rows[0], [0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!(rows[1], [0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
        assert_eq!(rows[2], [1.0, 0.0, 0.0, -LIMIT, 0.0, 1.0, 0.0]);
        let ranges = preprocessor.input_ranges();
        assert_eq!(ranges.len(), schema().inputs());
        for row in rows {
            assert!(row.iter().zip(&ranges).all(|(x, r)| r.contains(*x)));
        }
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let mut short = statistics(1.0);
        short.columns.pop();
        assert_eq!(
            Preprocessor::new(&schema(), &short),
            Err(PreprocessError::Columns {
                expected: 2,
                found: 1
            })
        );
        assert!(
            matches!(Preprocessor::new(&schema(), &statistics(f64::NAN)), Err(PreprocessError::NotFinite { column }) if column == "age")
        );
        let table = Table {
            features: vec![vec![None]],
            labels: vec![true],
        };
        let preprocessor = Preprocessor::new(&schema(), &statistics(1.0)).unwrap();
        assert_eq!(
            preprocessor.rows(&table.clone().into()),
            Err(PreprocessError::Features {
                row: 0,
                expected: 3,
                found: 1
            })
        );
    }

    /// Images of two values, of class 1 where the second one is larger, and their preprocessing.
    fn images() -> (Preprocessor, Records) {
        let input = Shape::Image([1, 1, 2]);
        let schema = DataSchema {
            samples: Some(galen_core::samples::Schema::of_inputs(input)),
            range: Some([-1.0, 3.0]),
            ..DataSchema::default()
        };
        let statistics = Statistics {
            classes: [1, 1],
            columns: vec![],
        };
        let values = (0..2 * (AT_A_TIME + 3))
            .map(|i| (i * 7 % 5) as f32 / 2.0 - 1.0)
            .collect();
        let records = Records {
            labels: vec![true; AT_A_TIME + 3],
            values: Values::Images { input, values },
        };
        (Preprocessor::new(&schema, &statistics).unwrap(), records)
    }

    #[test]
    fn images_are_taken_as_they_are() {
        let (preprocessor, records) = images();
        let rows = preprocessor.rows(&records).unwrap();
        assert_eq!(
            (rows.len(), &rows[0], &rows[1]),
            (AT_A_TIME + 3, &vec![-1.0, 0.0], &vec![1.0, -0.5])
        );
        assert_eq!(preprocessor.input_ranges(), [Range::new(-1.0, 3.0); 2]);
        let examples = preprocessor.examples(&records).unwrap();
        assert_eq!(examples.inputs[..4], [-1.0, 0.0, 1.0, -0.5]);
        assert_eq!(examples.targets, Targets::Classes(vec![1; AT_A_TIME + 3]));
        // In parts or at once, the probabilities are the same.
        let spec = ModelSpec {
            input: Shape::Image([1, 1, 2]),
            layers: vec![Layer::Flatten, Layer::Dense { outputs: 1 }],
        };
        let model = Model::initial(spec, 3).unwrap();
        let scores: Vec<f64> = preprocessor
            .probabilities::<Box<dyn std::error::Error>>(&model, &records)
            .unwrap();
        assert_eq!(scores, model.probabilities(&rows).unwrap());
    }

    #[test]
    fn patients_of_another_kind_are_refused() {
        let (preprocessor, mut records) = images();
        let table: Records = Table {
            features: vec![vec![None; 3]],
            labels: vec![true],
        }
        .into();
        let error = preprocessor.rows(&table).unwrap_err();
        let expected = "the study describes images of 1x1x2, the patients are rows of a table";
        assert_eq!(error.to_string(), expected);
        let of_tables = Preprocessor::new(&schema(), &statistics(1.0)).unwrap();
        assert!(of_tables.examples(&records).is_err());
        if let Values::Images { input, .. } = &mut records.values {
            *input = Shape::Image([1, 2, 1]);
        }
        assert!(preprocessor.examples(&records).is_err());
    }
}
