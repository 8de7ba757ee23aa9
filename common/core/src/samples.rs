//! What a data set declares of itself: shapes, names, and where things stand in its files.
//!
//! `galen_data` reads files by a [`Schema`]; a study on images has one ([`DataSchema::samples`](crate::study::DataSchema::samples)).

use crate::network::Shape;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// Largest number of classes.
pub const MAX_CLASSES: usize = 1000;
/// Largest number of values of one sample.
pub const MAX_SAMPLE_VALUES: usize = 1 << 22;

/// What every sample of a data set looks like.
///
/// ```
/// # use galen_core::samples::Schema;
/// let mnist: Schema = toml::from_str(r#"
///     input = [1, 28, 28]
///     target = { classes = { classes = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"] } }
/// "#)?;
/// mnist.check()?;
///
/// let heart: Schema = toml::from_str(r#"
///     input = 2
///     elements = ["age", "chol"]
///     target = { binary = { negative = { name = "healthy", labels = ["0"] }, positive = { name = "diseased", labels = ["1", "2", "3", "4"] } } }
///     source = { target = "num", site = "site", missing = ["?", ""] }
/// "#)?;
/// heart.check()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// Shape of one sample: a number of features, or `[channels, height, width]`.
    pub input: Shape,
    /// Names of the features, or of the channels of an image. For tables these are the columns to read and must be given; elsewhere
    /// they may be left out.
    #[serde(default)]
    pub elements: Vec<String>,
    /// What is predicted.
    pub target: Target,
    /// Where things stand in the files.
    #[serde(default)]
    pub source: Source,
}

/// What is predicted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Target {
    /// One of two classes. Class 0 is `negative`, class 1 is `positive`.
    Binary {
        /// Class 0.
        negative: Class,
        /// Class 1.
        positive: Class,
    },
    /// One of several classes, numbered from 0 in this order.
    Classes {
        /// The classes; at least two.
        classes: Vec<Class>,
    },
    /// A number.
    Regression {
        /// What it is.
        name: String,
        /// Its unit, such as `mmHg`; empty if it has none.
        #[serde(default)]
        unit: String,
    },
}

/// A class, and how files write it. In files of schemas: a text, or a table with `name` and `labels`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "ClassForm", into = "ClassForm")]
pub struct Class {
    /// Its name.
    pub name: String,
    /// The labels that mean this class. Without any, the label is the name, and a class of a multi-class target also has its own
    /// number, from 0, as label. Labels that are numbers are compared as numbers: `1` is `1.0`.
    pub labels: Vec<String>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum ClassForm {
    Name(String),
    Full {
        name: String,
        #[serde(default)]
        labels: Vec<String>,
    },
}

impl From<ClassForm> for Class {
    fn from(form: ClassForm) -> Self {
        match form {
            ClassForm::Name(name) => Self {
                name,
                labels: Vec::new(),
            },
            ClassForm::Full { name, labels } => Self { name, labels },
        }
    }
}

impl From<Class> for ClassForm {
    fn from(Class { name, labels }: Class) -> Self {
        if labels.is_empty() {
            Self::Name(name)
        } else {
            Self::Full { name, labels }
        }
    }
}

/// Where things stand in the files. Which entries a format reads is said with the format.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Source {
    /// NPZ: name of the array of inputs.
    pub inputs: Option<String>,
    /// Name of the column or array of targets.
    pub target: Option<String>,
    /// Name of the column or array that tells patients apart.
    pub patient: Option<String>,
    /// Name of the column or array that tells sites apart.
    pub site: Option<String>,
    /// IDX: the file of labels. A relative path is relative to the folder of the inputs.
    pub labels: Option<std::path::PathBuf>,
    /// Cell texts of a table that mean "missing".
    pub missing: Vec<String>,
    /// Name of the column of a table that names the image of each sample, a file in PNG, JPEG or DICOM. A relative path is relative to
    /// the folder of the table.
    pub files: Option<String>,
    /// What happens to images of another size.
    pub fit: Fit,
    /// DICOM: center and width of the window of gray values that become 0 to 1, after rescaling (Hounsfield units for CT), instead of
    /// the one that a file names.
    pub window: Option<[f64; 2]>,
}

/// What happens to images of another size than the schema's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// They are an error.
    #[default]
    Exact,
    /// They are resized, whatever becomes of their proportions.
    Stretch,
    /// They are resized until they cover the shape; what stands out on two sides is cut off.
    Crop,
    /// They are resized until they fit into the shape; the rest is black.
    Pad,
}

/// A schema that cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// An input of no values, or of more than fit.
    #[error("input: {shape} has {values} values, 1 to {MAX_SAMPLE_VALUES} are possible")]
    Input {
        /// The shape.
        shape: Shape,
        /// Its values.
        values: usize,
    },
    /// Names that do not fit the shape.
    #[error("elements: {found} names, the input has {expected} features or channels")]
    Elements {
        /// Features or channels.
        expected: usize,
        /// Names.
        found: usize,
    },
    /// A name that stands twice, or is empty.
    #[error("{field}: the name \"{name}\" is empty or stands twice")]
    Name {
        /// Where.
        field: &'static str,
        /// The name.
        name: String,
    },
    /// A window of gray values that is none.
    #[error("source.window: [center, width] must be finite, the width at least 1")]
    Window,
    /// A number of classes that is not possible.
    #[error("target: {found} classes, 2 to {MAX_CLASSES} are possible")]
    Classes {
        /// Classes.
        found: usize,
    },
}

impl Schema {
    /// Checks the schema by itself.
    pub fn check(&self) -> Result<(), SchemaError> {
        let values = self.input.len();
        if values == 0 || values > MAX_SAMPLE_VALUES {
            let shape = self.input;
            return Err(SchemaError::Input { shape, values });
        }
        if let Some([center, width]) = self.source.window
            && !(center.is_finite() && width.is_finite() && width >= 1.0)
        {
            return Err(SchemaError::Window);
        }
        let (expected, found) = (self.input.channels(), self.elements.len());
        if found != 0 && found != expected {
            return Err(SchemaError::Elements { expected, found });
        }
        distinct("elements", self.elements.iter().map(String::as_str))?;
        let classes = self.target.classes();
        if let Target::Classes { .. } = self.target
            && !(2..=MAX_CLASSES).contains(&classes.len())
        {
            let found = classes.len();
            return Err(SchemaError::Classes { found });
        }
        distinct("target", classes.iter().map(|c| c.name.as_str()))?;
        let labels: Vec<String> = classes
            .iter()
            .flat_map(|c| c.labels.iter().map(|l| canonical(l)))
            .collect();
        distinct("target labels", labels.iter().map(String::as_str))?;
        Ok(())
    }

    /// For samples of a shape of which nothing else is said: what is not in a table needs no more to be evaluated.
    pub fn of_inputs(input: Shape) -> Self {
        Self {
            input,
            elements: Vec::new(),
            target: Target::Regression {
                name: "unknown".into(),
                unit: String::new(),
            },
            source: Source::default(),
        }
    }

    /// Name of a feature or channel: the declared one, or its number.
    pub fn element(&self, index: usize) -> String {
        self.elements
            .get(index)
            .cloned()
            .unwrap_or_else(|| index.to_string())
    }
}

fn distinct<'a>(field: &'static str, names: impl Iterator<Item = &'a str>) -> Result<(), SchemaError> {
    let mut seen = HashSet::new();
    for name in names {
        if name.is_empty() || !seen.insert(name) {
            let name = name.to_owned();
            return Err(SchemaError::Name { field, name });
        }
    }
    Ok(())
}

impl Target {
    /// The classes in order; none for a regression.
    pub fn classes(&self) -> Vec<&Class> {
        match self {
            Self::Binary { negative, positive } => vec![negative, positive],
            Self::Classes { classes } => classes.iter().collect(),
            Self::Regression { .. } => Vec::new(),
        }
    }

    /// Number of outputs that a network needs: one logit for two classes or a number, one per class otherwise.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Binary { .. } | Self::Regression { .. } => 1,
            Self::Classes { classes } => classes.len(),
        }
    }
}

/// A label as it is compared: those that are equal numbers are one label.
pub fn canonical(label: &str) -> String {
    let label = label.trim();
    match label.parse::<f64>() {
        Ok(number) if number.is_finite() => (number + 0.0).to_string(),
        _ => label.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(target: Target) -> Schema {
        Schema {
            input: Shape::Features(2),
            elements: vec!["a".into(), "b".into()],
            target,
            source: Source::default(),
        }
    }

    fn class(name: &str, labels: &[&str]) -> Class {
        Class {
            name: name.into(),
            labels: labels.iter().map(|&l| l.into()).collect(),
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let binary = |negative, positive| schema(Target::Binary { negative, positive });
        let error = binary(class("a", &["1"]), class("b", &["1.0"]))
            .check()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "target labels: the name \"1\" is empty or stands twice"
        );
        assert!(binary(class("a", &[]), class("a", &[])).check().is_err());
        let mut odd = binary(class("a", &[]), class("b", &[]));
        odd.elements.pop();
        let expected = SchemaError::Elements {
            expected: 2,
            found: 1,
        };
        assert_eq!(odd.check(), Err(expected));
        odd.elements.clear();
        odd.check().unwrap();
        odd.input = Shape::Image([1, usize::MAX, 2]);
        assert!(matches!(odd.check(), Err(SchemaError::Input { .. })));
        assert!(
            schema(Target::Classes {
                classes: vec![class("a", &[])]
            })
            .check()
            .is_err()
        );
    }
}
