//! Patients of one hospital as its study describes them: rows of a table, or images.

use crate::split::{split, split_samples};
use crate::table::{DataError, Table, load_csv};
use galen_core::PartyId;
use galen_core::network::Shape;
use galen_core::samples::Schema;
use galen_core::study::{DataSchema, Study};
use galen_data::partition::Parts;
use galen_data::{Dataset, DatasetError, Format, Inputs, Limits, Problem};
use galen_models::{CodecError, statistics};
use std::path::{Path, PathBuf};

/// Patients of one hospital.
#[derive(Clone, Debug, PartialEq)]
pub struct Records {
    /// What is known of each patient.
    pub values: Values,
    /// Per patient, whether the class is 1.
    pub labels: Vec<bool>,
}

/// What is known of patients, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Per patient, one entry per feature column of the schema; see [`Table::features`].
    Table(Vec<Vec<Option<f64>>>),
    /// Images by channel, row and column.
    Images {
        /// Shape of each.
        input: Shape,
        /// All values, finite and in the study's range.
        values: Vec<f32>,
    },
}

/// Images that a study does not take.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SamplesError {
    /// More than the study allows.
    #[error("{}: more than {max_rows} samples, which is the study's data.max_rows", file.display())]
    TooMany {
        /// The data.
        file: PathBuf,
        /// The study's limit.
        max_rows: u32,
    },
    /// A value outside the range.
    #[error(
        "{}: sample {sample}, {place}: the value is outside {min} to {max}, the study's data.range",
        file.display()
    )]
    OutOfRange {
        /// The data.
        file: PathBuf,
        /// Number of the sample, from 1; of a folder in the order of the sorted paths.
        sample: usize,
        /// Where in it.
        place: String,
        /// Smallest allowed.
        min: f32,
        /// Largest allowed.
        max: f32,
    },
}

/// A hospital's data that cannot be used. What images errors say never shows a value; what those of tables say may.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A table.
    #[error(transparent)]
    Table(#[from] DataError),
    /// Images that cannot be read or do not fit the schema.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// Images that fit the schema, but not the study.
    #[error(transparent)]
    Samples(#[from] SamplesError),
}

/// One hospital's patients in two disjoint parts, which keep their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Divided {
    /// To learn from.
    pub train: Records,
    /// Held out, to evaluate on.
    pub held_out: Records,
    /// For each held-out patient, its index in the data, from 0.
    pub held_out_indices: Vec<usize>,
}

impl From<Table> for Records {
    fn from(Table { features, labels }: Table) -> Self {
        Self {
            values: Values::Table(features),
            labels,
        }
    }
}

impl Records {
    /// Number of patients.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no patients.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Images whose classes are not known; their labels mean nothing.
    ///
    /// # Errors
    /// As [`Divided::load`] for images.
    pub fn of_inputs(
        path: &Path,
        stored_as: Option<Format>,
        samples: &Schema,
        schema: &DataSchema,
    ) -> Result<(Self, Vec<String>), LoadError> {
        let found = galen_data::load_inputs(path, stored_as, samples, &limits(schema))
            .map_err(|error| too_many(error, schema))?;
        let names = found.names().to_vec();
        let values: Vec<f32> = (0..found.len())
            .flat_map(|i| Inputs::sample(&found, i))
            .copied()
            .collect();
        check_range(path, samples, schema, &values)?;
        let records = Self {
            values: Values::Images {
                input: samples.input,
                values,
            },
            labels: vec![false; names.len()],
        };
        Ok((records, names))
    }

    /// The patients at the given indices, which must be below [`Records::len`].
    pub fn select(&self, indices: &[usize]) -> Self {
        let values = match &self.values {
            Values::Table(features) => Values::Table(indices.iter().map(|&i| features[i].clone()).collect()),
            Values::Images { input, values } => {
                let each = input.len();
                let image = |&i: &usize| &values[i * each..(i + 1) * each];
                Values::Images {
                    input: *input,
                    values: indices.iter().flat_map(image).copied().collect(),
                }
            }
        };
        Self {
            values,
            labels: indices.iter().map(|&i| self.labels[i]).collect(),
        }
    }

    /// Patients of several hospitals of one study together; `None` if there is no hospital, or if their data are not of one kind.
    pub fn joined<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let mut parts = parts.into_iter();
        let mut all = parts.next()?.clone();
        for part in parts {
            match (&mut all.values, &part.values) {
                (Values::Table(all), Values::Table(more)) => all.extend(more.iter().cloned()),
                (
                    Values::Images { input, values },
                    Values::Images {
                        input: other,
                        values: more,
                    },
                ) if input == other => values.extend(more),
                _ => return None,
            }
            all.labels.extend(&part.labels);
        }
        Some(all)
    }

    /// A hospital's values for the statistics round.
    ///
    /// # Errors
    /// As [`statistics::contribution`] and [`statistics::class_counts`].
    pub fn statistics(&self, schema: &DataSchema) -> Result<Vec<i64>, CodecError> {
        match &self.values {
            Values::Table(features) => statistics::contribution(features, &self.labels, schema),
            Values::Images { .. } => statistics::class_counts(&self.labels, schema),
        }
    }

    /// Patients of class 0 and of class 1.
    pub fn classes(&self) -> [usize; 2] {
        let positive = self.labels.iter().filter(|&&label| label).count();
        [self.len() - positive, positive]
    }
}

impl Divided {
    /// Reads a hospital's data and holds patients out, both as the study says: a CSV file, or what `data.samples` describes, whose format
    /// follows from the name. The first thing wrong is an error; nothing is skipped or repaired.
    pub fn load(path: &Path, study: &Study, party: &PartyId) -> Result<Self, LoadError> {
        let schema = &study.data;
        let Some(samples) = &schema.samples else {
            return Ok(Self::of_table(load_csv(path, schema)?, study, party));
        };
        let data = galen_data::load(path, None, samples, &limits(schema))
            .map_err(|error| too_many(error, schema))?;
        check_range(path, samples, schema, data.values())?;
        let parts = split_samples(&data, schema.held_out, study.seed, party);
        Ok(Self::of_parts(&Records::of(&data), parts))
    }

    /// Divides the rows of a table.
    pub fn of_table(table: Table, study: &Study, party: &PartyId) -> Self {
        let parts = split(&table.labels, study.data.held_out, study.seed, party);
        Self::of_parts(&Records::from(table), parts)
    }

    fn of_parts(all: &Records, parts: Parts) -> Self {
        Self {
            train: all.select(&parts.train),
            held_out: all.select(&parts.held_out),
            held_out_indices: parts.held_out,
        }
    }
}

impl Records {
    fn of(data: &Dataset) -> Self {
        let classes = data.classes().unwrap_or_default();
        Self {
            values: Values::Images {
                input: data.schema().input,
                values: data.values().to_vec(),
            },
            labels: classes.iter().map(|&class| class == 1).collect(),
        }
    }
}

fn limits(schema: &DataSchema) -> Limits {
    Limits {
        samples: schema.max_rows as usize,
        ..Limits::default()
    }
}

/// The limit of samples is the study's, and its error says so.
fn too_many(error: DatasetError, schema: &DataSchema) -> LoadError {
    match *error.problem {
        Problem::Limit { what: "samples", .. } => SamplesError::TooMany {
            file: error.file,
            max_rows: schema.max_rows,
        }
        .into(),
        _ => error.into(),
    }
}

fn check_range(
    path: &Path,
    samples: &Schema,
    schema: &DataSchema,
    values: &[f32],
) -> Result<(), SamplesError> {
    let [min, max] = schema.value_range();
    let Some(at) = values.iter().position(|value| !(min..=max).contains(value)) else {
        return Ok(());
    };
    let (each, area) = (samples.input.len().max(1), samples.input.area().max(1));
    let width = match samples.input {
        Shape::Image([_, _, width]) => width.max(1),
        Shape::Features(_) => 1,
    };
    let (channel, pixel) = (at % each / area, at % each % area);
    Err(SamplesError::OutOfRange {
        file: path.to_owned(),
        sample: at / each + 1,
        place: format!(
            "channel \"{}\", row {}, column {}",
            samples.element(channel),
            pixel / width + 1,
            pixel % width + 1
        ),
        min,
        max,
    })
}
