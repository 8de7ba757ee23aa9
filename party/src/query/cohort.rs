//! Samples of any kind that a model is asked about, prepared as its interface says.

use crate::error::PartyError;
use galen_core::{Digest, Transcript, config};
use galen_data::{Format, Inputs, Limits, Schema, load_inputs};
use galen_models::{Range, Shape, Subject};
use std::path::PathBuf;

/// Where samples come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Samples {
    /// A file, or a folder of images.
    pub data: PathBuf,
    /// What every sample looks like (.toml); may be left out where the shape of the model's inputs says it all.
    pub schema: Option<PathBuf>,
    /// How they are stored, if the name does not tell.
    pub stored_as: Option<Format>,
}

/// Samples, and how a model takes them.
pub(crate) struct Cohort {
    inputs: Inputs,
    schema: Schema,
    subject: Subject,
    /// Of every input; empty if any numbers are taken.
    ranges: Vec<Range>,
    clip: bool,
}

/// Values outside the ranges that a model takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outside {
    /// How many.
    pub(crate) values: usize,
    /// Of how many patients.
    pub(crate) patients: usize,
    /// The first one: number of the patient in the file, from 0, and of the input.
    first: Option<(usize, usize)>,
}

impl Cohort {
    /// Reads samples. A model with `ranges`, one of every input, takes nothing outside of them; another takes any numbers.
    ///
    /// # Errors
    /// [`PartyError::Dataset`] for what does not fit the schema, [`PartyError::Outside`] for values that the model does not take, unless
    /// they are to be clipped.
    pub(crate) fn load(
        samples: &Samples,
        subject: &Subject,
        ranges: Option<&[Range]>,
        clip: bool,
    ) -> Result<Self, PartyError> {
        let input = subject.input;
        let schema: Schema = match &samples.schema {
            Some(path) => {
                let schema: Schema = config::load(path)?;
                if schema.input != input {
                    return Err(PartyError::Model {
                        path: path.clone(),
                        problem: format!("describes samples of {}, the model takes {input}", schema.input),
                    });
                }
                schema
            }
            None => {
                let format = samples.stored_as.map_or_else(|| Format::of(&samples.data), Ok)?;
                if matches!(format, Format::Csv | Format::Parquet) {
                    return Err(PartyError::NotYet(
                        "a table needs a schema that names its columns in the order of the model's inputs: --schema".into(),
                    ));
                }
                Schema::of_inputs(input)
            }
        };
        let inputs = load_inputs(&samples.data, samples.stored_as, &schema, &Limits::default())?;
        let cohort = Self {
            inputs,
            schema,
            subject: subject.clone(),
            ranges: ranges.unwrap_or_default().to_vec(),
            clip,
        };
        let outside = cohort.outside();
        if let (Some((patient, input)), false) = (outside.first, clip) {
            return Err(PartyError::Outside {
                path: samples.data.clone(),
                patient: patient + 1,
                feature: cohort.feature(input),
                values: outside.values,
                patients: outside.patients,
            });
        }
        Ok(cohort)
    }

    pub(crate) fn len(&self) -> usize {
        self.inputs.len()
    }

    /// What tells the samples apart, for the table of results.
    pub(crate) fn names(&self) -> &[String] {
        self.inputs.names()
    }

    /// Rows as they are encrypted, of the samples from `first` on, at most `count`.
    pub(crate) fn rows(&self, first: usize, count: usize) -> Vec<Vec<f64>> {
        let last = first.saturating_add(count).min(self.len());
        let row = |index: usize| {
            let mut row = self.prepared(index);
            if self.clip {
                let clip = |(value, range): (&mut f64, &Range)| *value = value.clamp(range.min, range.max);
                row.iter_mut().zip(&self.ranges).for_each(clip);
            }
            row
        };
        (first..last).map(row).collect()
    }

    fn prepared(&self, index: usize) -> Vec<f64> {
        let mut row: Vec<f64> = self.inputs.sample(index).iter().map(|&v| f64::from(v)).collect();
        self.subject.prepare(&mut row);
        row
    }

    /// What lies outside the ranges.
    pub(crate) fn outside(&self) -> Outside {
        let mut all = Outside::default();
        for index in 0..self.len() {
            let row = self.prepared(index);
            let values = row.iter().zip(&self.ranges).enumerate();
            let mut found = values
                .filter(|(_, (value, range))| !range.contains(**value))
                .map(|(input, _)| input);
            if let Some(input) = found.next() {
                all.first = all.first.or(Some((index, input)));
                all.patients += 1;
                all.values += 1 + found.count();
            }
        }
        all
    }

    /// What people call an input.
    fn feature(&self, input: usize) -> String {
        match self.schema.input {
            Shape::Features(_) => format!("feature \"{}\"", self.schema.element(input)),
            Shape::Image([_, height, width]) => {
                let (channel, at) = (input / (height * width), input % (height * width));
                format!(
                    "channel \"{}\", row {}, column {}",
                    self.schema.element(channel),
                    at / width + 1,
                    at % width + 1
                )
            }
        }
    }

    /// Digest of everything that is asked: names, values, and whether they are clipped.
    pub(crate) fn digest(&self) -> Digest {
        let mut transcript = Transcript::new("galen queried patients v1").field(&[u8::from(self.clip)]);
        for (index, name) in self.names().iter().enumerate() {
            let values: Vec<u8> = self
                .inputs
                .sample(index)
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect();
            transcript = transcript.field(name.as_bytes()).field(&values);
        }
        transcript.digest()
    }
}
