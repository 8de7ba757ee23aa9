//! From a table with gaps to rows of numbers that a model can take.

use crate::table::Table;
use galen_core::study::{Column, ColumnKind, DataSchema};
use galen_models::{Range, Statistics};

/// Standardised values are limited to this many standard deviations, at every hospital and in every query alike.
///
/// It is part of the model, like the standardisation itself: a quadratic network squares outliers, and a public limit
/// bounds what encrypted evaluation has to carry.
pub const LIMIT: f64 = 4.0;

/// Turns patients into model inputs.
///
/// A numeric column gives its standardised value (0, the mean, where missing; limited to +-[`LIMIT`]) and an indicator of
/// missing values; a categorical column gives one indicator per value (all 0 where missing) and an indicator of missing values.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessor {
    encoders: Vec<Encoder>,
}

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
        Ok(Self { encoders })
    }

    /// One row of model inputs per patient.
    pub fn rows(&self, table: &Table) -> Result<Vec<Vec<f64>>, PreprocessError> {
        let encode = |(row, cells): (usize, &Vec<Option<f64>>)| {
            if cells.len() != self.encoders.len() {
                return Err(PreprocessError::Features {
                    row,
                    expected: self.encoders.len(),
                    found: cells.len(),
                });
            }
            let mut inputs = Vec::new();
            for (encoder, &cell) in self.encoders.iter().zip(cells) {
                encoder.encode(cell, &mut inputs);
            }
            Ok(inputs)
        };
        table.features.iter().enumerate().map(encode).collect()
    }

    /// The public range of every model input: what encrypted evaluation must be able to carry.
    pub fn input_ranges(&self) -> Vec<Range> {
        let mut ranges = Vec::new();
        for encoder in &self.encoders {
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
    use galen_core::study::Target;
    use galen_models::ColumnStatistics;

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
        let rows = preprocessor.rows(&table).unwrap();
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
            preprocessor.rows(&table),
            Err(PreprocessError::Features {
                row: 0,
                expected: 3,
                found: 1
            })
        );
    }
}
