//! From rows of a table to samples, whatever the table is stored in.

use crate::error::{DatasetError, Place, Problem};
use crate::labels::Labels;
use crate::limits::Limits;
use crate::picture;
use crate::{Dataset, Groups, Inputs, Targets};
use galen_core::samples::{Schema, Target};
use galen_models::Shape;
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

/// A cell of a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cell<'a> {
    /// Nothing is there.
    Missing,
    /// A text, which may be the schema's sign for "missing".
    Text(&'a str),
}

/// Collects the rows of a table.
pub(crate) struct Rows<'a> {
    file: &'a Path,
    schema: &'a Schema,
    limits: &'a Limits,
    labels: Labels,
    columns: Columns,
    count: usize,
    values: Vec<f32>,
    /// Images of the samples, if the table names any.
    files: Vec<PathBuf>,
    classes: Vec<u32>,
    numbers: Vec<f64>,
    patients: Vec<String>,
    sites: Vec<String>,
}

/// Places of columns, with their names.
struct Columns {
    inputs: Vec<(usize, String)>,
    /// Instead of inputs: where their files are named.
    file: Option<(usize, String)>,
    /// Not of rows that are only to be evaluated.
    target: Option<(usize, String)>,
    patient: Option<(usize, String)>,
    site: Option<(usize, String)>,
}

impl<'a> Rows<'a> {
    /// For a table with the given columns; `header` is where they are named. Rows that are not `labelled` need no target.
    pub(crate) fn new(
        file: &'a Path,
        header: &Place,
        names: &[String],
        (schema, labelled): (&'a Schema, bool),
        limits: &'a Limits,
    ) -> Result<Self, DatasetError> {
        let columns = Columns::find(names, schema, labelled)
            .map_err(|problem| DatasetError::at(file, header.clone(), problem))?;
        Ok(Self {
            file,
            schema,
            limits,
            labels: Labels::new(&schema.target),
            columns,
            count: 0,
            values: Vec::new(),
            files: Vec::new(),
            classes: Vec::new(),
            numbers: Vec::new(),
            patients: Vec::new(),
            sites: Vec::new(),
        })
    }

    /// Adds a row. `place` makes the place of a column, `cell` gives the cell of a column's number.
    pub(crate) fn push<'c>(
        &mut self,
        place: impl Fn(Option<String>) -> Place,
        cell: impl Fn(usize) -> Cell<'c>,
    ) -> Result<(), DatasetError> {
        let fail =
            |name: &str, problem| Err(DatasetError::at(self.file, place(Some(name.to_owned())), problem));
        let text = |(column, _): &(usize, String)| match cell(*column) {
            Cell::Text(text) if !self.schema.source.missing.iter().any(|m| m == text) => Some(text),
            _ => None,
        };
        self.count += 1;
        self.limits
            .check(self.file, self.count, self.schema.input.len())?;
        let gaps = matches!(self.schema.input, Shape::Features(_));
        if let Some(column) = &self.columns.file {
            let Some(name) = text(column) else {
                let what = "the file".into();
                return fail(&column.1, Problem::Missing { what });
            };
            self.files
                .push(self.file.parent().unwrap_or(Path::new("")).join(name));
        }
        for column in &self.columns.inputs {
            let value = match text(column) {
                Some(text) => match number(text) {
                    Some(value) => value as f32,
                    None => return fail(&column.1, Problem::NotANumber),
                },
                None if gaps => f32::NAN,
                None => return fail(&column.1, Problem::NotANumber),
            };
            self.values.push(value);
        }
        if let Some(target) = &self.columns.target {
            let Some(label) = text(target) else {
                let what = "the target".into();
                return fail(&target.1, Problem::Missing { what });
            };
            match (&self.schema.target, number(label), self.labels.class(label)) {
                (Target::Regression { .. }, Some(number), _) => self.numbers.push(number),
                (Target::Regression { .. }, None, _) => return fail(&target.1, Problem::NotANumber),
                (_, _, Some(class)) => self.classes.push(class),
                (_, _, None) => {
                    let labels = self.labels.list();
                    return fail(&target.1, Problem::NotAClass { labels });
                }
            }
        }
        let groups = [
            (&self.columns.patient, &mut self.patients, "the patient"),
            (&self.columns.site, &mut self.sites, "the site"),
        ];
        for (column, names, what) in groups {
            let Some(column) = column else { continue };
            match text(column) {
                Some(name) => names.push(name.to_owned()),
                None => {
                    let what = what.into();
                    return fail(&column.1, Problem::Missing { what });
                }
            }
        }
        Ok(())
    }

    /// Numbers of the columns that are read, in order.
    pub(crate) fn columns(&self) -> Vec<usize> {
        let Columns {
            inputs,
            file,
            target,
            patient,
            site,
        } = &self.columns;
        let others = [file.as_ref(), target.as_ref(), patient.as_ref(), site.as_ref()];
        let all = inputs.iter().chain(others.into_iter().flatten());
        let places: BTreeSet<usize> = all.map(|(place, _)| *place).collect();
        places.into_iter().collect()
    }

    /// The inputs of all rows, with the patients, or without those the numbers of the rows.
    pub(crate) fn inputs(mut self) -> Result<Inputs, DatasetError> {
        if self.columns.file.is_some() {
            self.values = picture::read_all(&self.files, &[], self.schema, self.limits)?.values;
        }
        let names = if self.columns.patient.is_some() {
            self.patients
        } else {
            (1..=self.count).map(|number| number.to_string()).collect()
        };
        Inputs::new(self.file, self.schema, self.values, names)
    }

    /// The data set of all rows.
    pub(crate) fn finish(mut self) -> Result<Dataset, DatasetError> {
        if self.columns.file.is_some() {
            self.values = picture::read_all(&self.files, &[], self.schema, self.limits)?.values;
        }
        let targets = match self.schema.target {
            Target::Regression { .. } => Targets::Numbers(self.numbers),
            _ => Targets::Classes(self.classes),
        };
        let groups = |known: bool, names: Vec<String>| known.then(|| Groups::new(names));
        let patients = groups(self.columns.patient.is_some(), self.patients);
        let sites = groups(self.columns.site.is_some(), self.sites);
        Dataset::new(self.schema.clone(), self.values, targets, patients, sites)
            .map_err(|problem| DatasetError::file(self.file, problem))
    }
}

fn number(text: &str) -> Option<f64> {
    let fits = |v: &f64| v.is_finite() && (*v as f32).is_finite();
    text.parse().ok().filter(fits)
}

impl Columns {
    fn find(names: &[String], schema: &Schema, labelled: bool) -> Result<Self, Problem> {
        let mut earlier = HashSet::new();
        for name in names {
            if !earlier.insert(name) {
                let what = format!("the column \"{name}\"");
                return Err(Problem::Repeated { what });
            }
        }
        let find = |name: &String| -> Result<(usize, String), Problem> {
            let found = names.iter().position(|n| n == name);
            let what = || format!("the column \"{name}\"");
            let place = found.ok_or_else(|| Problem::Missing { what: what() })?;
            Ok((place, name.clone()))
        };
        let source = &schema.source;
        let target = match &source.target {
            Some(target) if labelled => Some(find(target)?),
            None if labelled => {
                let what = "source.target of the schema, the column of the target,".into();
                return Err(Problem::Missing { what });
            }
            _ => None,
        };
        // A column that is there though nobody asks for it is no input.
        let known = |name: &Option<String>| {
            let name = name.as_ref()?;
            Some((names.iter().position(|n| n == name)?, name.clone()))
        };
        let patient = source.patient.as_ref().map(find).transpose()?;
        let site = match &source.site {
            Some(site) if labelled => Some(find(site)?),
            _ => None,
        };
        let file = source.files.as_ref().map(find).transpose()?;
        let inputs: Vec<(usize, String)> = match schema.input {
            _ if file.is_some() => Vec::new(),
            Shape::Features(_) if !schema.elements.is_empty() => {
                schema.elements.iter().map(find).collect::<Result<_, _>>()?
            }
            _ => {
                let others = [known(&source.target), known(&source.site), patient.clone()];
                let is_input = |(place, _): &(usize, String)| others.iter().flatten().all(|o| o.0 != *place);
                names.iter().cloned().enumerate().filter(is_input).collect()
            }
        };
        if file.is_none() && inputs.len() != schema.input.len() {
            return Err(Problem::Size {
                what: "columns of inputs",
                expected: schema.input.len().to_string(),
                found: inputs.len().to_string(),
            });
        }
        Ok(Self {
            inputs,
            file,
            target,
            patient,
            site,
        })
    }
}
