//! What a network is trained on, as plain numbers.

use galen_data::Dataset;
use galen_models::{ModelSpec, metrics};

/// What is to be predicted.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    /// One class per patient, from 0.
    Classes(Vec<u32>),
    /// As many numbers per patient as the network has outputs, one patient after the other.
    Values(Vec<f32>),
}

/// Patients' inputs and what is to be predicted from them.
#[derive(Clone, Debug, PartialEq)]
pub struct Examples {
    /// Model inputs: as many numbers per patient as the network takes (an image by channel, row, column), one patient after the other.
    pub inputs: Vec<f32>,
    /// What is to be predicted.
    pub targets: Targets,
}

/// Examples that do not fit a network.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum ExamplesError {
    /// No patients, or numbers that do not go up in patients.
    #[error(
        "{inputs} input values and {targets} targets do not make whole patients, or none: the network takes {width} values each"
    )]
    Count {
        /// Input values.
        inputs: usize,
        /// Values the network takes.
        width: usize,
        /// Targets.
        targets: usize,
    },
    /// A class that the network has no output for.
    #[error("patient {patient} is of class {class}, the network tells {classes} classes apart")]
    Class {
        /// Index of the patient.
        patient: usize,
        /// Its class.
        class: u32,
        /// The network's classes.
        classes: usize,
    },
    /// Classes where numbers are needed, or numbers where classes are.
    #[error("the recipe's objective is {objective}, the targets are {found}")]
    Kind {
        /// The objective.
        objective: &'static str,
        /// The targets.
        found: &'static str,
    },
    /// An input or target that is infinite or not a number.
    #[error("patient {patient} has a value that is not finite")]
    NotFinite {
        /// Index of the patient.
        patient: usize,
    },
}

impl From<&Dataset> for Examples {
    /// The samples of a data set, in its order. Missing values stay NaN, which [`Examples::check`] refuses.
    fn from(data: &Dataset) -> Self {
        Self {
            inputs: data.values().to_vec(),
            targets: match data.targets() {
                galen_data::Targets::Classes(classes) => Targets::Classes(classes.clone()),
                galen_data::Targets::Numbers(numbers) => {
                    Targets::Values(numbers.iter().map(|&number| number as f32).collect())
                }
            },
        }
    }
}

impl Targets {
    /// Number of patients of whom classes are known; for values, numbers of all outputs together.
    pub fn len(&self) -> usize {
        match self {
            Self::Classes(classes) => classes.len(),
            Self::Values(values) => values.len(),
        }
    }

    /// Whether there are no targets.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How well outputs, `width` per patient and one patient after the other, meet the targets. For classes the share of patients
    /// whose class has the largest logit; a single logit stands for class 1 where it is not negative. For numbers 1 minus the squared
    /// errors over the squared deviations from the mean of each output.
    pub fn accuracy(&self, outputs: &[f64], width: usize) -> f64 {
        match self {
            Self::Classes(classes) => {
                let found = match width {
                    1 => outputs.iter().map(|&z| u32::from(z >= 0.0)).collect(),
                    _ => metrics::largest(outputs, width),
                };
                let hits = found.iter().zip(classes).filter(|(f, c)| f == c).count();
                hits as f64 / classes.len() as f64
            }
            Self::Values(values) => {
                let values = || values.iter().map(|&v| f64::from(v));
                let errors = values().zip(outputs).map(|(v, o)| (v - o) * (v - o));
                let deviations = |column: usize| {
                    let column = || values().skip(column).step_by(width.max(1));
                    let mean = column().sum::<f64>() / column().count() as f64;
                    column().map(|v| (v - mean) * (v - mean)).sum::<f64>()
                };
                1.0 - errors.sum::<f64>() / (0..width).map(deviations).sum::<f64>()
            }
        }
    }
}

impl Examples {
    /// Checks that these are whole patients of the network, at least one, all numbers finite; gives their number.
    pub fn check(&self, spec: &ModelSpec) -> Result<usize, ExamplesError> {
        let (width, outputs) = (spec.inputs(), spec.outputs());
        let (targets, per_patient) = match &self.targets {
            Targets::Classes(classes) => (classes.len(), 1),
            Targets::Values(values) => (values.len(), outputs),
        };
        let patients = targets / per_patient.max(1);
        let whole =
            targets.is_multiple_of(per_patient) && patients.checked_mul(width) == Some(self.inputs.len());
        if !whole || patients == 0 {
            return Err(ExamplesError::Count {
                inputs: self.inputs.len(),
                width,
                targets,
            });
        }
        let wild = |values: &[f32], per: usize| {
            let at = values.iter().position(|v| !v.is_finite())?;
            Some(ExamplesError::NotFinite {
                patient: at / per.max(1),
            })
        };
        if let Some(error) = wild(&self.inputs, width) {
            return Err(error);
        }
        match &self.targets {
            Targets::Classes(list) => {
                let classes = outputs.max(2);
                match list.iter().position(|&class| class as usize >= classes) {
                    Some(patient) => Err(ExamplesError::Class {
                        patient,
                        class: list[patient],
                        classes,
                    }),
                    None => Ok(patients),
                }
            }
            Targets::Values(values) => wild(values, outputs).map_or(Ok(patients), Err),
        }
    }

    /// How many patients are of each of `classes` classes; none where the targets are numbers.
    pub fn class_counts(&self, classes: usize) -> Vec<u64> {
        let mut counts = vec![0; classes];
        if let Targets::Classes(list) = &self.targets {
            for &class in list {
                if let Some(count) = counts.get_mut(class as usize) {
                    *count += 1;
                }
            }
        }
        counts
    }

    /// The factors of some patients, whose classes have these.
    pub(crate) fn weights_of(&self, patients: &[usize], factors: &[f64]) -> Vec<f32> {
        let factor = |&patient: &usize| match &self.targets {
            Targets::Classes(classes) => {
                factors.get(classes[patient] as usize).copied().unwrap_or(1.0) as f32
            }
            Targets::Values(_) => 1.0,
        };
        patients.iter().map(factor).collect()
    }

    /// Targets of some patients as a matrix with one row per output and one column per patient.
    pub(crate) fn target_columns(&self, patients: &[usize], outputs: usize) -> Vec<f32> {
        let n = patients.len();
        let mut columns = vec![0.0; outputs * n];
        for (column, &patient) in patients.iter().enumerate() {
            match &self.targets {
                Targets::Classes(classes) if outputs == 1 => columns[column] = classes[patient] as f32,
                Targets::Classes(classes) => columns[classes[patient] as usize * n + column] = 1.0,
                Targets::Values(values) => {
                    for output in 0..outputs {
                        columns[output * n + column] = values[patient * outputs + output];
                    }
                }
            }
        }
        columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accuracies_from_their_definition() {
        let classes = Targets::Classes(vec![0, 1, 1, 0]);
        assert_eq!(classes.accuracy(&[-1.0, 0.5, -0.5, -2.0], 1), 0.75);
        let three = Targets::Classes(vec![2, 0]);
        assert_eq!(three.accuracy(&[0.0, 1.0, 3.0, 1.0, 2.0, 0.5], 3), 0.5);
        // Two outputs with means 1 and 10: deviations 2 and 200, errors 1 and 4.
        let values = Targets::Values(vec![0.0, 0.0, 2.0, 20.0]);
        let accuracy = values.accuracy(&[1.0, 0.0, 2.0, 18.0], 2);
        assert!((accuracy - (1.0 - 5.0 / 202.0)).abs() < 1e-12, "{accuracy}");
    }
}
