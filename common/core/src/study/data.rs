//! The schema that every hospital's data must follow: a table, or images.

use crate::network::Shape;
use crate::samples::Schema;
use serde::{Deserialize, Serialize, Serializer};

/// Values that images have where a study says nothing else.
const UNIT: [f32; 2] = [0.0, 1.0];

/// How a hospital's data are read: a CSV file by its columns, or images by [`DataSchema::samples`].
#[derive(Clone, Debug, PartialEq, Default, Deserialize)]
#[serde(try_from = "Form")]
pub struct DataSchema {
    /// Of a table: whether the first line names the columns. Without it, the columns stand in the order of this schema.
    pub header: bool,
    /// Of a table: cell texts that mean "missing", such as `?` and the empty text.
    pub missing: Vec<String>,
    /// No hospital has more rows, or images, than this. Public ranges of sums follow from it, so it must not be derived from the data.
    pub max_rows: u32,
    /// Fraction of each hospital's patients, per class, that is held out for evaluation; in 0.05..=0.5.
    pub held_out: f64,
    /// Of a table: the columns, in order.
    pub column: Vec<Column>,
    /// Of a table: what is predicted.
    pub target: Target,
    /// Of images: their shape, their two classes, and where things stand in the files. `None` for a table.
    pub samples: Option<Schema>,
    /// Of images: the smallest and the largest value that one may have, 0 and 1 if not given. Another one in the data is an error.
    pub range: Option<[f32; 2]>,
}

/// The table `[data]` of a study file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    header: Option<bool>,
    missing: Option<Vec<String>>,
    max_rows: u32,
    held_out: f64,
    column: Option<Vec<Column>>,
    target: Option<Target>,
    samples: Option<Schema>,
    range: Option<[f32; 2]>,
}

impl TryFrom<Form> for DataSchema {
    type Error = String;

    fn try_from(form: Form) -> Result<Self, String> {
        if let Some(samples) = form.samples {
            let beside = [
                ("header", form.header.is_some()),
                ("missing", form.missing.is_some()),
                ("column", form.column.is_some()),
                ("target", form.target.is_some()),
            ];
            if let Some((field, _)) = beside.into_iter().find(|(_, given)| *given) {
                return Err(format!(
                    "`{field}` describes a table and `samples` images; a study has the one or the other (the classes of images stand in \
                     `samples.target`, their missing cells in `samples.source`)"
                ));
            }
            return Ok(Self {
                max_rows: form.max_rows,
                held_out: form.held_out,
                samples: Some(samples),
                range: form.range,
                ..Self::default()
            });
        }
        if form.range.is_some() {
            return Err("`range` is that of images; the columns of a table have `min` and `max`".into());
        }
        let missing = |field: &str| format!("missing field `{field}` (or `samples`, for images)");
        Ok(Self {
            header: form.header.ok_or_else(|| missing("header"))?,
            missing: form.missing.ok_or_else(|| missing("missing"))?,
            max_rows: form.max_rows,
            held_out: form.held_out,
            column: form.column.ok_or_else(|| missing("column"))?,
            target: form.target.ok_or_else(|| missing("target"))?,
            samples: None,
            range: None,
        })
    }
}

impl Serialize for DataSchema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// The fields of the first version of the file format, in its order: digests of studies on tables do not change.
        #[derive(Serialize)]
        struct Tables<'a> {
            header: bool,
            missing: &'a [String],
            max_rows: u32,
            held_out: f64,
            column: &'a [Column],
            target: &'a Target,
        }
        #[derive(Serialize)]
        struct Images<'a> {
            max_rows: u32,
            held_out: f64,
            #[serde(skip_serializing_if = "Option::is_none")]
            range: Option<[f32; 2]>,
            samples: &'a Schema,
        }
        match &self.samples {
            None => Tables {
                header: self.header,
                missing: &self.missing,
                max_rows: self.max_rows,
                held_out: self.held_out,
                column: &self.column,
                target: &self.target,
            }
            .serialize(serializer),
            Some(samples) => Images {
                max_rows: self.max_rows,
                held_out: self.held_out,
                range: self.range,
                samples,
            }
            .serialize(serializer),
        }
    }
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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

    /// Number of model inputs. Of a table, a numeric column gives its value and its missing-value indicator, a categorical one an indicator
    /// per value and its missing-value indicator; of images, every value is one.
    pub fn inputs(&self) -> usize {
        match &self.samples {
            None => self.features().map(Column::inputs).sum(),
            Some(samples) => samples.input.len(),
        }
    }

    /// Shape of the model inputs.
    pub fn input(&self) -> Shape {
        match &self.samples {
            None => Shape::Features(self.inputs()),
            Some(samples) => samples.input,
        }
    }

    /// The smallest and the largest value of images.
    pub fn value_range(&self) -> [f32; 2] {
        self.range.unwrap_or(UNIT)
    }

    /// Names of class 0 and class 1; nothing for a table, whose classes are numbers.
    pub fn class_names(&self) -> Option<[&str; 2]> {
        match self.samples.as_ref()?.target.classes().as_slice() {
            [negative, positive] => Some([&negative.name, &positive.name]),
            _ => None,
        }
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
