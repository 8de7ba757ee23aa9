//! Samples without targets.

use crate::error::{DatasetError, Problem};
use galen_core::samples::Schema;
use galen_models::Shape;
use std::path::Path;

/// Samples that are to be evaluated, with what tells them apart.
#[derive(Clone, PartialEq)]
pub struct Inputs {
    shape: Shape,
    values: Vec<f32>,
    names: Vec<String>,
}

impl std::fmt::Debug for Inputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Inputs({} of {})", self.names.len(), self.shape)
    }
}

impl Inputs {
    pub(crate) fn new(
        path: &Path,
        schema: &Schema,
        values: Vec<f32>,
        names: Vec<String>,
    ) -> Result<Self, DatasetError> {
        let shape = schema.input;
        if names.is_empty() {
            return Err(DatasetError::file(path, Problem::Empty));
        }
        let expected = names.len().saturating_mul(shape.len());
        if values.len() != expected {
            let problem = Problem::Size {
                what: "values",
                expected: expected.to_string(),
                found: values.len().to_string(),
            };
            return Err(DatasetError::file(path, problem));
        }
        let gaps = matches!(shape, Shape::Features(_));
        if values.iter().any(|v| v.is_infinite() || (v.is_nan() && !gaps)) {
            return Err(DatasetError::file(path, Problem::NotANumber));
        }
        Ok(Self { shape, values, names })
    }

    /// Number of samples, at least one.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are no samples; never so.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// What tells the samples apart: the patients that the file names, or the paths of images, or numbers from 1 on.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The values of a sample, in the order of the shape; a missing one is NaN. Nothing for a sample that does not exist.
    pub fn sample(&self, index: usize) -> &[f32] {
        let each = self.shape.len();
        let start = index.saturating_mul(each);
        self.values
            .get(start..start.saturating_add(each))
            .unwrap_or_default()
    }
}
