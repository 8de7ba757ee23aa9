//! The statistics round: what imputation and standardisation need to know about all patients together.
//!
//! A hospital contributes the number of its patients of each class and, per numeric column, the count of known values, their sum
//! and the sum of their squares, after the column's public range was mapped to [-1, 1]. Images are taken as they are: of them only the classes
//! are counted ([`class_counts`]).

use crate::fixed::{CodecError, FixedPoint, check_length, check_rows};
use galen_core::study::{Column, ColumnKind, DataSchema};

/// Sums are rounded to this many fractional bits, once per hospital.
const CODEC: FixedPoint = FixedPoint { fraction_bits: 20 };
/// Values per numeric column: count, sum, sum of squares.
const PER_COLUMN: usize = 3;

/// What is known about all patients together.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// Patients of class 0 and of class 1.
    pub classes: [u64; 2],
    /// Per numeric column of the schema, in order.
    pub columns: Vec<ColumnStatistics>,
}

/// What is known about one numeric column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ColumnStatistics {
    /// Known values.
    pub count: u64,
    /// Their mean, in the column's unit; the middle of the range where nothing is known.
    pub mean: f64,
    /// Their standard deviation (over n), in the column's unit; 0 where all are equal or none is known.
    pub std: f64,
}

/// The public range of a numeric column.
fn range(column: &Column) -> Result<(f64, f64), CodecError> {
    column
        .min
        .zip(column.max)
        .filter(|(min, max)| min < max)
        .ok_or_else(|| CodecError::NoRange {
            column: column.name.clone(),
        })
}

/// One hospital's patients of class 0 and of class 1: its values where the data are images.
///
/// # Errors
/// On more patients than the study allows and on none.
pub fn class_counts(labels: &[bool], schema: &DataSchema) -> Result<Vec<i64>, CodecError> {
    check_rows(labels.len(), schema.max_rows)?;
    let positive = labels.iter().filter(|&&l| l).count();
    Ok(vec![(labels.len() - positive) as i64, positive as i64])
}

/// One hospital's values where the data are a table.
///
/// `features` has per patient one entry per feature column of the schema (numeric and categorical, in order), `None` where
/// missing. Errors on a number outside its column's range, on more rows than the study allows and on none.
pub fn contribution(
    features: &[Vec<Option<f64>>],
    labels: &[bool],
    schema: &DataSchema,
) -> Result<Vec<i64>, CodecError> {
    check_rows(features.len(), schema.max_rows)?;
    check_length(features.len(), labels.len())?;
    let columns: Vec<&Column> = schema.features().collect();
    let mut values = class_counts(labels, schema)?;
    for (place, column) in columns.iter().enumerate() {
        if column.kind != ColumnKind::Numeric {
            continue;
        }
        let (min, max) = range(column)?;
        let (mut count, mut sum, mut squares) = (0i64, 0.0, 0.0);
        for (row, cells) in features.iter().enumerate() {
            check_length(columns.len(), cells.len())?;
            let Some(value) = cells[place] else { continue };
            if !(min..=max).contains(&value) {
                return Err(CodecError::Column {
                    row,
                    column: column.name.clone(),
                    value,
                    min,
                    max,
                });
            }
            let scaled = 2.0 * (value - min) / (max - min) - 1.0;
            count += 1;
            sum += scaled;
            squares += scaled * scaled;
        }
        let at = values.len();
        values.extend([count, CODEC.encode(at + 1, sum)?, CODEC.encode(at + 2, squares)?]);
    }
    Ok(values)
}

impl Statistics {
    /// Number of values of a contribution.
    pub fn values(schema: &DataSchema) -> usize {
        2 + PER_COLUMN * schema.numeric().count()
    }

    /// No value of one contribution has a larger magnitude.
    pub fn max_abs(schema: &DataSchema) -> u64 {
        // At most 1 per row in scaled units; floating-point error of the summation stays below one unit more.
        u64::from(schema.max_rows) * CODEC.unit() as u64 + 1
    }

    /// What the sum of all contributions says.
    ///
    /// Errors if the sum has another length than the schema asks for, or if no patients can have it.
    pub fn from_sums(sums: &[i64], schema: &DataSchema) -> Result<Self, CodecError> {
        check_length(Self::values(schema), sums.len())?;
        let impossible = |detail: String| CodecError::ImpossibleSum { detail };
        let count = |value: i64, of: &str| {
            u64::try_from(value).map_err(|_| impossible(format!("{value} as a count of {of}")))
        };
        let classes = [count(sums[0], "class 0")?, count(sums[1], "class 1")?];
        let mut columns = Vec::new();
        for (column, sums) in schema.numeric().zip(sums[2..].chunks_exact(PER_COLUMN)) {
            let name = &column.name;
            let (min, max) = range(column)?;
            let known = count(sums[0], name)?;
            if classes[0].checked_add(classes[1]).is_none_or(|all| known > all) {
                return Err(impossible(format!("more values of \"{name}\" than patients")));
            }
            let n = known.max(1) as f64;
            let mean = CODEC.decode(sums[1]) / n;
            let square = CODEC.decode(sums[2]) / n;
            // Beyond what the hospitals' rounding explains: at most 1 of 2^-20 per value.
            const SLACK: f64 = 1e-5;
            if mean.abs() > 1.0 + SLACK || !(-SLACK..=1.0 + SLACK).contains(&square) {
                return Err(impossible(format!(
                    "the mean of \"{name}\" lies outside its range"
                )));
            }
            let variance = square - mean * mean;
            if variance < -SLACK {
                return Err(impossible(format!("a negative variance of \"{name}\"")));
            }
            // Below this a column is constant up to rounding, and dividing by its deviation would only magnify that.
            let std = if variance > SLACK { variance.sqrt() } else { 0.0 };
            let half = (max - min) / 2.0;
            columns.push(ColumnStatistics {
                count: known,
                mean: min + (mean + 1.0) * half,
                std: std * half,
            });
        }
        Ok(Self { classes, columns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_core::study::Target;
    use proptest::prelude::*;

    fn schema() -> DataSchema {
        let column = |name: &str, kind| Column {
            name: name.into(),
            kind,
            min: None,
            max: None,
            values: vec![],
            missing_values: vec![],
        };
        let numeric = |name: &str, min, max| Column {
            min: Some(min),
            max: Some(max),
            ..column(name, ColumnKind::Numeric)
        };
        let sex = Column {
            values: vec![0.0, 1.0],
            ..column("sex", ColumnKind::Categorical)
        };
        DataSchema {
            header: false,
            missing: vec![],
            max_rows: 1000,
            held_out: 0.3,
            column: vec![
                numeric("age", 0.0, 120.0),
                sex,
                numeric("chol", 50.0, 1000.0),
                column("class", ColumnKind::Target),
            ],
            target: Target {
                negative: vec![0.0],
                positive: vec![1.0],
            },
            samples: None,
            range: None,
        }
    }

    #[test]
    fn of_images_the_classes_are_counted() {
        let schema = DataSchema {
            max_rows: 5,
            samples: Some(galen_core::samples::Schema::of_inputs(crate::Shape::Image([
                1, 2, 2,
            ]))),
            ..DataSchema::default()
        };
        let values = class_counts(&[true, false, true], &schema).unwrap();
        assert_eq!(values, [1, 2]);
        assert_eq!(values.len(), Statistics::values(&schema));
        let statistics = Statistics::from_sums(&[7, 9], &schema).unwrap();
        assert_eq!((statistics.classes, statistics.columns.len()), ([7, 9], 0));
        for rows in [0, 6] {
            let error = class_counts(&vec![true; rows], &schema).unwrap_err();
            assert_eq!(error, CodecError::Rows { rows, max_rows: 5 });
        }
    }

    #[test]
    fn by_hand() {
        let features = [
            vec![Some(30.0), Some(1.0), None],
            vec![Some(90.0), None, Some(525.0)],
        ];
        let values = contribution(&features, &[true, false], &schema()).unwrap();
        let unit = CODEC.unit() as i64;
        assert_eq!(values, [1, 1, 2, 0, unit / 2, 1, 0, 0]);
        let statistics = Statistics::from_sums(&values, &schema()).unwrap();
        assert_eq!(statistics.classes, [1, 1]);
        assert_eq!(
            statistics.columns[0],
            ColumnStatistics {
                count: 2,
                mean: 60.0,
                std: 30.0
            }
        );
        assert_eq!(
            statistics.columns[1],
            ColumnStatistics {
                count: 1,
                mean: 525.0,
                std: 0.0
            }
        );
    }

    #[test]
    fn a_column_that_nobody_knows_is_neutral() {
        let values = contribution(&[vec![None, None, None]], &[true], &schema()).unwrap();
        let statistics = Statistics::from_sums(&values, &schema()).unwrap();
        assert_eq!(
            statistics.columns[0],
            ColumnStatistics {
                count: 0,
                mean: 60.0,
                std: 0.0
            }
        );
    }

    #[test]
    fn impossible_data_and_sums_are_refused() {
        let s = schema();
        let row = vec![Some(121.0), None, None];
        assert!(
            matches!(contribution(&[row], &[true], &s), Err(CodecError::Column { row: 0, column, .. }) if column == "age")
        );
        assert!(matches!(
            contribution(&[vec![Some(f64::NAN), None, None]], &[true], &s),
            Err(CodecError::Column { .. })
        ));
        assert!(matches!(
            contribution(&[vec![None]], &[true], &s),
            Err(CodecError::Length { .. })
        ));
        assert!(matches!(
            contribution(&[], &[], &s),
            Err(CodecError::Rows { rows: 0, .. })
        ));
        let unit = CODEC.unit() as i64;
        for (what, sums) in [
            ("too short", vec![1, 1]),
            ("negative class", vec![-1, 3, 1, 0, 0, 0, 0, 0]),
            ("negative count", vec![2, 3, -1, 0, 0, 0, 0, 0]),
            ("more values than patients", vec![1, 1, 3, 0, unit, 0, 0, 0]),
            ("mean out of range", vec![1, 1, 2, 3 * unit, 2 * unit, 0, 0, 0]),
            ("negative variance", vec![1, 1, 2, unit, unit / 4, 0, 0, 0]),
            ("huge", vec![i64::MAX, i64::MAX, 1, i64::MAX, i64::MAX, 0, 0, 0]),
        ] {
            assert!(Statistics::from_sums(&sums, &s).is_err(), "{what}");
        }
    }

    proptest! {
        #[test]
        fn sums_over_hospitals_give_the_pooled_mean_and_deviation(
            ages in proptest::collection::vec(proptest::option::of(0.0f64..=120.0), 3..200),
            cuts in (1usize..100, 1usize..100),
        ) {
            let rows: Vec<_> = ages.iter().map(|&a| vec![a, None, None]).collect();
            let labels = vec![false; rows.len()];
            let n = rows.len();
            let (a, b) = (1 + cuts.0 % (n - 2), 1 + cuts.1 % (n - 2));
            let (a, b) = (a.min(b), a.max(b).max(a.min(b) + 1));
            let mut sums = vec![0; Statistics::values(&schema())];
            for part in [0..a, a..b, b..n] {
                if part.is_empty() { continue; }
                let values = contribution(&rows[part.clone()], &labels[part], &schema()).unwrap();
                prop_assert!(values.iter().all(|v| v.unsigned_abs() <= Statistics::max_abs(&schema())));
                sums.iter_mut().zip(values).for_each(|(s, v)| *s += v);
            }
            let got = Statistics::from_sums(&sums, &schema()).unwrap().columns[0];
            let known: Vec<f64> = ages.iter().flatten().copied().collect();
            prop_assert_eq!(got.count as usize, known.len());
            if !known.is_empty() {
                let mean = known.iter().sum::<f64>() / known.len() as f64;
                let std = (known.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / known.len() as f64).sqrt();
                prop_assert!((got.mean - mean).abs() < 1e-3, "{} {}", got.mean, mean);
                // A deviation below 0.3 % of the range counts as none.
                prop_assert!((got.std - std).abs() < 0.25, "{} {}", got.std, std);
            }
        }
    }
}
