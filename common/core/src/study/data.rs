//! The schema that every hospital's table must follow.

use serde::{Deserialize, Serialize};

/// How a hospital's CSV file is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSchema {
    /// Whether the first line names the columns. Without it, the columns stand in the order of this schema.
    pub header: bool,
    /// Cell texts that mean "missing", such as `?` and the empty text.
    pub missing: Vec<String>,
    /// No hospital has more rows than this. Public ranges of sums follow from it, so it must not be derived from the data.
    pub max_rows: u32,
    /// Fraction of each hospital's patients, per class, that is held out for evaluation; in 0.05..=0.5.
    pub held_out: f64,
    /// The columns, in order.
    pub column: Vec<Column>,
    /// What is predicted.
    pub target: Target,
}

/// A column of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name; unique.
    pub name: String,
    /// What it holds.
    pub kind: ColumnKind,
    /// For a numeric column: the smallest plausible value. A smaller one in the data is an error.
    #[serde(default)]
    pub min: Option<f64>,
    /// For a numeric column: the largest plausible value. A larger one in the data is an error.
    #[serde(default)]
    pub max: Option<f64>,
    /// For a categorical column: its values. Another one in the data is an error.
    #[serde(default)]
    pub values: Vec<f64>,
    /// Numbers that stand for "missing" in this column, such as a cholesterol of 0.
    #[serde(default)]
    pub missing_values: Vec<f64>,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnKind {
    /// A number within `min..=max`: imputed by its mean, standardised, with an indicator of missing values.
    Numeric,
    /// One of `values`: one indicator per value, all zero where missing.
    Categorical,
    /// Not used (an identifier, say).
    Ignored,
    /// The class; see [`Target`].
    Target,
}

/// What is predicted: whether the target column holds one of the positive values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Cell values of class 0.
    pub negative: Vec<f64>,
    /// Cell values of class 1.
    pub positive: Vec<f64>,
}

impl DataSchema {
    /// The columns that become model inputs, in order.
    pub fn features(&self) -> impl Iterator<Item = &Column> {
        self.column
            .iter()
            .filter(|c| matches!(c.kind, ColumnKind::Numeric | ColumnKind::Categorical))
    }

    /// The numeric columns, in order: the ones that the statistics round covers.
    pub fn numeric(&self) -> impl Iterator<Item = &Column> {
        self.column.iter().filter(|c| c.kind == ColumnKind::Numeric)
    }

    /// Number of model inputs: a numeric column gives its value and its missing-value indicator, a categorical one an indicator
    /// per value and its missing-value indicator.
    pub fn inputs(&self) -> usize {
        self.features().map(Column::inputs).sum()
    }
}

impl Column {
    /// Number of model inputs that this column gives.
    pub fn inputs(&self) -> usize {
        match self.kind {
            ColumnKind::Numeric => 2,
            ColumnKind::Categorical => self.values.len() + 1,
            ColumnKind::Ignored | ColumnKind::Target => 0,
        }
    }
}
