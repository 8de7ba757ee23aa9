//! What a model predicts from what: the part of an interface that does not depend on how the model is evaluated.

use crate::{Annotations, Model, Shape, Standardisation};
use galen_core::Digest;
use serde::{Deserialize, Serialize};

/// Longest title or name, in bytes.
const MAX_TEXT: usize = 200;

/// What a model predicts from what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Digest of network and weights, or of trees.
    pub model: Digest,
    /// What is predicted, in a few words; may be empty.
    pub title: String,
    /// Names of the classes, one for each output; two for a single logit; none for numbers.
    pub classes: Vec<String>,
    /// Shape of one patient's values.
    pub input: Shape,
    /// What is done to raw values before they are encrypted.
    pub standardisation: Option<Standardisation>,
}

/// An entry that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct SubjectError {
    /// The entry.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

fn refuse(field: &'static str, problem: impl Into<String>) -> Result<(), SubjectError> {
    Err(SubjectError {
        field,
        problem: problem.into(),
    })
}

impl Subject {
    /// Of a model with what its file says.
    pub fn of(model: &Model, annotations: &Annotations) -> Self {
        Self {
            model: model.digest(),
            title: annotations.title.clone(),
            classes: annotations.classes.clone(),
            input: model.spec().input,
            standardisation: annotations.standardisation.clone(),
        }
    }

    /// Checks what somebody else wrote, of a model with this many outputs: names are shown to people and written into tables, statistics
    /// are applied to patients.
    pub fn check(&self, outputs: usize) -> Result<(), SubjectError> {
        check_text("subject.title", &self.title)?;
        let classes = if outputs == 1 { 2 } else { outputs };
        if !self.classes.is_empty() && self.classes.len() != classes {
            return refuse(
                "subject.classes",
                format!("{} names for {classes} classes", self.classes.len()),
            );
        }
        for name in &self.classes {
            check_text("subject.classes", name)?;
        }
        let Some(statistics) = &self.standardisation else {
            return Ok(());
        };
        let fits = |n: usize| n == 1 || n == self.input.channels();
        if !fits(statistics.mean.len()) || statistics.mean.len() != statistics.std.len() {
            return refuse("subject.standardisation", "not one pair for each channel");
        }
        let normal = |s: &f64| s.is_normal() && *s > 0.0;
        if !statistics.mean.iter().all(|m| m.is_finite()) || !statistics.std.iter().all(normal) {
            return refuse(
                "subject.standardisation",
                "means must be finite, deviations positive and finite",
            );
        }
        Ok(())
    }

    /// Raw values of one patient as the model takes them. Missing values (NaN) become the mean; of a model that takes raw values they become 0,
    /// which is not the mean, but there is nothing better to say.
    pub fn prepare(&self, row: &mut [f64]) {
        match &self.standardisation {
            Some(standardisation) => standardisation.apply(self.input, row),
            None => row.iter_mut().filter(|v| v.is_nan()).for_each(|v| *v = 0.0),
        }
    }
}

fn check_text(field: &'static str, text: &str) -> Result<(), SubjectError> {
    if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
        return refuse(field, "a text that is too long or has control characters");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject {
        Subject {
            model: Digest::default(),
            title: "illness".into(),
            classes: vec!["well".into(), "ill".into()],
            input: Shape::Features(2),
            standardisation: Some(Standardisation {
                mean: vec![50.0, 0.5],
                std: vec![10.0, 0.5],
            }),
        }
    }

    #[test]
    fn what_cannot_be_is_named() {
        assert_eq!(subject().check(1), Ok(()));
        assert_eq!(subject().check(2), Ok(()));
        let changed = |change: fn(&mut Subject)| {
            let mut subject = subject();
            change(&mut subject);
            subject.check(1).unwrap_err().field
        };
        assert_eq!(changed(|s| s.title = "a\nb".into()), "subject.title");
        assert_eq!(changed(|s| s.classes[0] = "x".repeat(201)), "subject.classes");
        assert_eq!(changed(|s| s.classes.truncate(1)), "subject.classes");
        let wrong: [fn(&mut Standardisation); 3] =
            [|s| s.std[0] = 0.0, |s| s.mean[1] = f64::NAN, |s| s.mean.push(1.0)];
        for change in wrong {
            let mut subject = subject();
            subject.standardisation.iter_mut().for_each(change);
            assert_eq!(subject.check(1).unwrap_err().field, "subject.standardisation");
        }
    }

    #[test]
    fn raw_values_become_those_that_the_model_takes() {
        let mut row = [70.0, f64::NAN];
        subject().prepare(&mut row);
        assert_eq!(row, [2.0, 0.0]);
        let raw = Subject {
            standardisation: None,
            ..subject()
        };
        let mut row = [70.0, f64::NAN];
        raw.prepare(&mut row);
        assert_eq!(row, [70.0, 0.0]);
    }
}
