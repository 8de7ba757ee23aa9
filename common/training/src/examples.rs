//! What a network is trained on, as plain numbers.

use galen_data::Dataset;
use galen_models::ModelSpec;

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

impl Examples {
    /// Number of patients, as the targets count them for a network with `outputs` outputs.
    pub fn len(&self, outputs: usize) -> usize {
        match &self.targets {
            Targets::Classes(classes) => classes.len(),
            Targets::Values(values) => values.len().checked_div(outputs).unwrap_or(0),
        }
    }

    /// Checks that these are whole patients of the network, at least one, all numbers finite; gives their number.
    pub fn check(&self, spec: &ModelSpec) -> Result<usize, ExamplesError> {
        let (width, outputs) = (spec.inputs(), spec.outputs());
        let patients = self.len(outputs);
        let targets = match &self.targets {
            Targets::Classes(classes) => classes.len(),
            Targets::Values(values) => values.len(),
        };
        let whole = match &self.targets {
            Targets::Classes(_) => true,
            Targets::Values(values) => outputs > 0 && values.len() % outputs == 0,
        };
        if !whole || patients == 0 || patients.checked_mul(width) != Some(self.inputs.len()) {
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

    /// The patients at the given indices, for a network with `inputs` inputs and `outputs` outputs. Indices must be below the number
    /// of patients.
    pub fn select(&self, patients: &[usize], inputs: usize, outputs: usize) -> Self {
        let pick = |values: &[f32], width: usize| {
            let rows = patients.iter().map(|&p| &values[p * width..(p + 1) * width]);
            rows.flatten().copied().collect()
        };
        Self {
            inputs: pick(&self.inputs, inputs),
            targets: match &self.targets {
                Targets::Classes(classes) => Targets::Classes(patients.iter().map(|&p| classes[p]).collect()),
                Targets::Values(values) => Targets::Values(pick(values, outputs)),
            },
        }
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
