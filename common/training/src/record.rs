//! Trained models on whole data sets, in `f64`.

use crate::examples::Examples;
use crate::fit::FitError;
use crate::network::NetworkError;
use galen_models::{Forward, Model, ModelError, ModelFile, ModelSpec};

/// Patients that are evaluated together.
const CHUNK: usize = 512;

/// The outputs of a model for all patients, one patient after the other.
pub fn evaluate(model: &Model, examples: &Examples) -> Result<Vec<f64>, FitError> {
    in_parts(model.spec(), examples, |rows| model.forward(rows))
}

/// The same, and writes into the file between which values the patients' inputs and what enters the activations lie: the compiler for
/// encrypted evaluation goes by these ranges. They are to be those of the training data.
///
/// A range is the extreme of one or two patients: it is as confidential as they are.
pub fn record(file: &mut ModelFile, training: &Examples) -> Result<Vec<f64>, FitError> {
    let spec = file.model.spec().clone();
    in_parts(&spec, training, |rows| file.record(rows))
}

fn in_parts(
    spec: &ModelSpec,
    examples: &Examples,
    mut forward: impl FnMut(&[&[f64]]) -> Result<Forward, ModelError>,
) -> Result<Vec<f64>, FitError> {
    examples.check(spec).map_err(|problem| FitError::Examples {
        part: "evaluated",
        problem,
    })?;
    let inputs = spec.inputs();
    let mut outputs = Vec::new();
    for part in examples.inputs.chunks(CHUNK * inputs) {
        let part: Vec<f64> = part.iter().map(|&v| f64::from(v)).collect();
        let rows: Vec<&[f64]> = part.chunks(inputs).collect();
        outputs.extend(forward(&rows).map_err(NetworkError::Model)?.into_values());
    }
    Ok(outputs)
}
