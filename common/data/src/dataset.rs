//! Samples with their targets, patients and sites.

use crate::error::Problem;
use galen_core::samples::{Schema, Target};
use std::collections::HashMap;

/// Samples with their targets.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    schema: Schema,
    pub(crate) values: Vec<f32>,
    targets: Targets,
    patients: Option<Groups>,
    sites: Option<Groups>,
}

/// The targets, one per sample.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    /// Numbers of classes, in the schema's order.
    Classes(Vec<u32>),
    /// Numbers, in the schema's unit.
    Numbers(Vec<f64>),
}

impl Targets {
    /// Number of samples.
    pub fn len(&self) -> usize {
        match self {
            Self::Classes(classes) => classes.len(),
            Self::Numbers(numbers) => numbers.len(),
        }
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The targets of some samples, whose indices must be below [`Targets::len`].
    pub fn select(&self, indices: &[usize]) -> Self {
        match self {
            Self::Classes(classes) => Self::Classes(indices.iter().map(|&i| classes[i]).collect()),
            Self::Numbers(numbers) => Self::Numbers(indices.iter().map(|&i| numbers[i]).collect()),
        }
    }
}

/// To which of several named groups (patients, sites) each sample belongs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Groups {
    names: Vec<String>,
    of: Vec<u32>,
}

impl Groups {
    /// From the name of each sample's group. Groups are numbered in the order in which they first appear.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let mut groups = Self::default();
        let mut known: HashMap<String, u32> = HashMap::new();
        for name in names {
            let next = groups.names.len() as u32;
            let number = *known.entry(name).or_insert_with_key(|name| {
                groups.names.push(name.clone());
                next
            });
            groups.of.push(number);
        }
        groups
    }

    /// Names of the groups.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Per sample, the number of its group.
    pub fn of(&self) -> &[u32] {
        &self.of
    }

    /// The groups of some samples, whose indices must be within.
    fn select(&self, indices: &[usize]) -> Self {
        Self::new(indices.iter().map(|&i| self.names[self.of[i] as usize].clone()))
    }
}

impl Dataset {
    /// Puts samples together: `values` holds one sample after the other, each in the order of the shape. A missing value of a vector of
    /// features is NaN; images have none.
    pub fn new(
        schema: Schema,
        values: Vec<f32>,
        targets: Targets,
        patients: Option<Groups>,
        sites: Option<Groups>,
    ) -> Result<Self, Problem> {
        schema.check()?;
        let count = targets.len();
        let size = |what, expected: usize, found: usize| Problem::Size {
            what,
            expected: expected.to_string(),
            found: found.to_string(),
        };
        if count == 0 {
            return Err(Problem::Empty);
        }
        let expected = count.saturating_mul(schema.input.len());
        if values.len() != expected {
            return Err(size("values", expected, values.len()));
        }
        for groups in [&patients, &sites].into_iter().flatten() {
            if groups.of.len() != count {
                return Err(size("samples with a patient or site", count, groups.of.len()));
            }
        }
        let gaps = matches!(schema.input, galen_models::Shape::Features(_));
        if values.iter().any(|v| v.is_infinite() || (v.is_nan() && !gaps)) {
            return Err(Problem::NotANumber);
        }
        let classes = schema.target.classes().len();
        let fits = match (&targets, &schema.target) {
            (Targets::Numbers(numbers), Target::Regression { .. }) => numbers.iter().all(|v| v.is_finite()),
            (Targets::Numbers(_), _) | (_, Target::Regression { .. }) => false,
            (Targets::Classes(numbers), _) => numbers.iter().all(|&c| (c as usize) < classes),
        };
        if !fits {
            let labels = schema
                .target
                .classes()
                .iter()
                .map(|c| c.name.as_str())
                .collect::<Vec<_>>()
                .join(", ");
            return Err(Problem::NotAClass { labels });
        }
        Ok(Self {
            schema,
            values,
            targets,
            patients,
            sites,
        })
    }

    /// What every sample looks like.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Number of samples; at least one, except in a selection of none.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All values, one sample after the other.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The values of a sample, whose index must be below [`Dataset::len`].
    pub fn sample(&self, index: usize) -> &[f32] {
        let each = self.schema.input.len();
        &self.values[index * each..(index + 1) * each]
    }

    /// The targets.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Numbers of the classes, or `None` for a regression.
    pub fn classes(&self) -> Option<&[u32]> {
        match &self.targets {
            Targets::Classes(classes) => Some(classes),
            Targets::Numbers(_) => None,
        }
    }

    /// Targets of a regression, or `None` for classes.
    pub fn numbers(&self) -> Option<&[f64]> {
        match &self.targets {
            Targets::Classes(_) => None,
            Targets::Numbers(numbers) => Some(numbers),
        }
    }

    /// The patients, if the files tell.
    pub fn patients(&self) -> Option<&Groups> {
        self.patients.as_ref()
    }

    /// The sites, if the files tell.
    pub fn sites(&self) -> Option<&Groups> {
        self.sites.as_ref()
    }

    /// The samples at the given indices, in this order; each index must be below [`Dataset::len`].
    pub fn select(&self, indices: &[usize]) -> Self {
        Self {
            schema: self.schema.clone(),
            values: indices.iter().flat_map(|&i| self.sample(i)).copied().collect(),
            targets: self.targets.select(indices),
            patients: self.patients.as_ref().map(|p| p.select(indices)),
            sites: self.sites.as_ref().map(|s| s.select(indices)),
        }
    }
}
