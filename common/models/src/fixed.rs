//! Fixed-point numbers: how real values become the integers that are added under encryption.

/// Integers above this are refused, so that every encoded value and its `f64` image are exact.
pub const MAX_MAGNITUDE: i64 = 1 << 52;

/// Data that cannot become values of a round, or a sum that means nothing.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum CodecError {
    /// A value that fixed point cannot hold: infinite, not a number, or beyond the bound.
    #[error("value {index} is {value}, possible is a magnitude up to {limit}")]
    Range {
        /// Index among the values.
        index: usize,
        /// The value.
        value: f64,
        /// The largest magnitude.
        limit: f64,
    },
    /// A vector of another length than the study asks for.
    #[error("{found} values, the study asks for {expected}")]
    Length {
        /// What the study asks for.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// More rows, or fewer, than the study allows.
    #[error("{rows} rows, the study allows 1 to {max_rows}")]
    Rows {
        /// Rows given.
        rows: usize,
        /// The study's `data.max_rows`.
        max_rows: usize,
    },
    /// Two models of different networks.
    #[error("the two models have different networks")]
    OtherNetwork,
    /// A sum that no set of honest contributions gives.
    #[error("the sum is impossible: {detail}")]
    ImpossibleSum {
        /// What is impossible about it.
        detail: String,
    },
    /// The column of a row has no number although the schema says so, or a value outside its range.
    #[error("row {row}, column \"{column}\": {value} is outside {min}..={max}")]
    Column {
        /// Index of the row.
        row: usize,
        /// Name of the column.
        column: String,
        /// The value.
        value: f64,
        /// Smallest allowed.
        min: f64,
        /// Largest allowed.
        max: f64,
    },
    /// The schema has a numeric column without a range.
    #[error("column \"{column}\" has no min and max in the schema")]
    NoRange {
        /// Name of the column.
        column: String,
    },
}

/// Signed fixed point with `fraction_bits` bits after the binary point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedPoint {
    /// Bits after the binary point, up to 52.
    pub fraction_bits: u32,
}

impl FixedPoint {
    /// The nearest integer to `value * 2^fraction_bits`, halves away from zero. `index` is only for the error.
    pub fn encode(self, index: usize, value: f64) -> Result<i64, CodecError> {
        // Scaling by a power of two is exact, so the only rounding is the one meant.
        let scaled = (value * self.unit()).round();
        if scaled.is_finite() && scaled.abs() <= MAX_MAGNITUDE as f64 {
            Ok(scaled as i64)
        } else {
            let limit = MAX_MAGNITUDE as f64 / self.unit();
            Err(CodecError::Range { index, value, limit })
        }
    }

    /// The number that an integer stands for; exact up to [`MAX_MAGNITUDE`].
    pub fn decode(self, value: i64) -> f64 {
        value as f64 / self.unit()
    }

    /// `2^fraction_bits`.
    pub fn unit(self) -> f64 {
        (1u64 << self.fraction_bits.min(52)) as f64
    }
}

/// Errors unless there are 1 to `max_rows` rows.
pub(crate) fn check_rows(rows: usize, max_rows: u32) -> Result<(), CodecError> {
    let max_rows = max_rows as usize;
    if (1..=max_rows).contains(&rows) {
        Ok(())
    } else {
        Err(CodecError::Rows { rows, max_rows })
    }
}

/// Errors unless `found == expected`.
pub(crate) fn check_length(expected: usize, found: usize) -> Result<(), CodecError> {
    if expected == found {
        Ok(())
    } else {
        Err(CodecError::Length { expected, found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn halves_round_away_from_zero() {
        let codec = FixedPoint { fraction_bits: 1 };
        for (value, expected) in [(0.25, 1), (-0.25, -1), (0.2, 0), (1.5, 3), (0.75, 2), (-0.75, -2)] {
            assert_eq!(codec.encode(0, value), Ok(expected), "{value}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let codec = FixedPoint { fraction_bits: 24 };
        let limit = MAX_MAGNITUDE as f64 / codec.unit();
        assert_eq!(codec.encode(0, limit), Ok(MAX_MAGNITUDE));
        for value in [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            limit * 1.001,
            -limit * 1.001,
        ] {
            assert!(
                matches!(codec.encode(3, value), Err(CodecError::Range { index: 3, .. })),
                "{value}"
            );
        }
    }

    proptest! {
        #[test]
        fn decoding_is_within_half_a_unit(value in -1e6f64..1e6, fraction_bits in 0u32..30) {
            let codec = FixedPoint { fraction_bits };
            let back = codec.decode(codec.encode(0, value).unwrap());
            prop_assert!((back - value).abs() <= 0.5 / codec.unit());
        }

        #[test]
        fn integers_survive(value in -MAX_MAGNITUDE..=MAX_MAGNITUDE, fraction_bits in 0u32..30) {
            let codec = FixedPoint { fraction_bits };
            prop_assert_eq!(codec.encode(0, codec.decode(value)), Ok(value));
        }
    }
}
