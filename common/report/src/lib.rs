//! What a training run gave, for people and for programs.
//!
//! A [`Report`] is plain data. [`Report::write`] makes two files of it: `report.html`, one page that needs nothing else (pictures are
//! SVG inside it, there is no script and no network), and `report.json`, the same content. Equal reports give equal bytes.
//!
//! # The JSON
//!
//! The fields of [`Report`] by their names, `format` first. A field that has no value is `null`, a list without entries `[]`. Programs
//! should refuse a `format` they do not know; fields may be added without changing it.

mod charts;
mod evaluation;
mod html;

pub use evaluation::{Curve, Evaluation, Judgement, OneVersusRest};

use galen_data::Description;
use galen_models::Summary;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The version of the form that [`Report`] is written in.
pub const FORMAT: u32 = 1;

/// What a training run gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: u32,
    /// What was trained, for the heading.
    pub title: String,
    /// How it was trained: recipe, seed, device, times. In this order.
    pub settings: Vec<Setting>,
    /// The data, by what it was used for.
    pub data: Vec<DataPart>,
    /// The network.
    pub model: Option<Summary>,
    /// Learning curves.
    pub curves: Vec<LearningCurve>,
    /// How good the model is, per set of samples that it was judged on.
    pub evaluations: Vec<Evaluation>,
    /// Inputs of the activations, in the order of the layers.
    pub activations: Vec<ActivationRange>,
}

/// A named setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value, as text.
    pub value: String,
}

/// Samples that were used for one thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataPart {
    /// What for: `train`, `validation`, `test`.
    pub name: String,
    /// What they hold.
    pub description: Description,
}

/// A quantity over the course of training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LearningCurve {
    /// The quantity: `loss`, `accuracy`.
    pub quantity: String,
    /// One line per set of samples.
    pub lines: Vec<Curve>,
}

/// What goes into an activation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActivationRange {
    /// The layer.
    pub layer: String,
    /// Smallest input seen.
    pub min: f64,
    /// Largest input seen.
    pub max: f64,
    /// The interval that the activation is made for, if it is made for one: outside of it a polynomial may be far from what it approximates.
    pub interval: Option<[f64; 2]>,
}

/// A report that cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A number that is not finite, which neither a picture nor JSON can hold.
    #[error("the report has a number that is not finite in {0}")]
    NotFinite(&'static str),
    /// A picture.
    #[error("drawing {picture}: {reason}")]
    Draw {
        /// The picture.
        picture: String,
        /// Why not.
        reason: String,
    },
    /// The JSON.
    #[error("writing JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A file.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl Report {
    /// A report without content.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            format: FORMAT,
            title: title.into(),
            settings: Vec::new(),
            data: Vec::new(),
            model: None,
            curves: Vec::new(),
            evaluations: Vec::new(),
            activations: Vec::new(),
        }
    }

    /// Adds a setting.
    pub fn set(&mut self, name: &str, value: impl ToString) {
        self.settings.push(Setting {
            name: name.to_owned(),
            value: value.to_string(),
        });
    }

    /// The page.
    pub fn to_html(&self) -> Result<String, ReportError> {
        self.check()?;
        html::page(self)
    }

    /// The JSON, indented, with a line break at the end.
    pub fn to_json(&self) -> Result<String, ReportError> {
        self.check()?;
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Writes `report.html` and `report.json` into a folder, which must exist; earlier ones are replaced. Both are complete before the
    /// first is written.
    pub fn write(&self, folder: &Path) -> Result<(), ReportError> {
        let (html, json) = (self.to_html()?, self.to_json()?);
        for (name, text) in [("report.html", html), ("report.json", json)] {
            let path = folder.join(name);
            std::fs::write(&path, text).map_err(|source| ReportError::File { path, source })?;
        }
        Ok(())
    }

    /// Everything that is drawn must be a number.
    fn check(&self) -> Result<(), ReportError> {
        let lines = self.curves.iter().flat_map(|c| &c.lines);
        let points = || lines.clone().flat_map(|line| line.points.iter().flatten());
        if !points().all(|v| v.is_finite()) {
            return Err(ReportError::NotFinite("the learning curves"));
        }
        let range = |a: &ActivationRange| [Some([a.min, a.max]), a.interval];
        let mut ends = self.activations.iter().flat_map(range).flatten().flatten();
        if !ends.all(f64::is_finite) {
            return Err(ReportError::NotFinite("the ranges of activations"));
        }
        Ok(())
    }
}
