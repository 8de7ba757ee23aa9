//! The report of a training on one's own data.

use super::{Part, Task};
use crate::PartyError;
use galen_data::{Dataset, Target};
use galen_models::metrics::{sigmoid, softmax};
use galen_models::{ModelFile, ModelSpec};
use galen_report::{ActivationRange, Curve, DataPart, Evaluation, LearningCurve, Report};
use galen_training::Epoch;
use galen_training::recipes::Recipe;
use std::path::Path;

/// Samples with a name and the model's outputs for them.
type Judged<'a> = (&'a str, Option<&'a Part>, Option<&'a Vec<f64>>);

pub(super) fn of(
    task: &Task,
    recipe: &Recipe,
    file: &ModelFile,
    epochs: &[Epoch],
    parts: &[Judged<'_>],
) -> Result<Report, PartyError> {
    let stem = |path: &Path| {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let mut report = Report::new(stem(&task.out));
    report.set("network", stem(&task.network));
    report.set("recipe", stem(&task.recipe));
    report.set("data", stem(&task.data));
    report.set("seed", recipe.seed);
    report.set("batch size", recipe.batch_size);
    report.set("device", &task.device);
    report.set("epochs", epochs.len());
    report.set("model", file.model.digest().to_hex());
    let spec: &ModelSpec = file.model.spec();
    report.model = Some(
        spec.summary()
            .map_err(|error| PartyError::Internal(error.to_string()))?,
    );
    report.curves = curves(epochs);
    for (name, part, outputs) in parts {
        let (Some(part), Some(outputs)) = (part, outputs) else {
            continue;
        };
        // The teacher is judged on samples that have been listed.
        if !report
            .data
            .iter()
            .any(|listed| listed.description == part.description)
        {
            report.data.push(DataPart {
                name: (*name).to_owned(),
                description: part.description.clone(),
            });
        }
        report
            .evaluations
            .extend(judge(name, &part.data, outputs, spec.outputs()));
    }
    report.activations = file
        .annotations
        .activations
        .iter()
        .map(|seen| ActivationRange {
            layer: seen.path.clone(),
            min: seen.overall().min,
            max: seen.overall().max,
            interval: None,
        })
        .collect();
    Ok(report)
}

/// Loss and score over the epochs of all stages, one after the other.
fn curves(epochs: &[Epoch]) -> Vec<LearningCurve> {
    let line = |name: &str, of: &dyn Fn(&Epoch) -> Option<f64>| Curve {
        name: name.to_owned(),
        points: (1u32..)
            .zip(epochs)
            .filter_map(|(number, epoch)| Some([f64::from(number), of(epoch)?]))
            .collect(),
    };
    let validation = |epoch: &Epoch| epoch.validation;
    let lines = [
        ("loss", line("training", &|epoch| Some(epoch.loss))),
        ("loss", line("held out", &|epoch| Some(validation(epoch)?.loss))),
        (
            "accuracy",
            line("held out", &|epoch| Some(validation(epoch)?.accuracy)),
        ),
    ];
    let mut curves: Vec<LearningCurve> = Vec::new();
    for (quantity, line) in lines {
        if line.points.is_empty() {
            continue;
        }
        match curves.last_mut().filter(|curve| curve.quantity == quantity) {
            Some(curve) => curve.lines.push(line),
            None => curves.push(LearningCurve {
                quantity: quantity.to_owned(),
                lines: vec![line],
            }),
        }
    }
    curves
}

/// How good outputs are, `width` per sample. None if they are no judgement, as where something is not finite.
fn judge(part: &str, data: &Dataset, outputs: &[f64], width: usize) -> Option<Evaluation> {
    let target = &data.schema().target;
    match (target, data.classes(), data.numbers()) {
        (Target::Regression { name, unit }, _, Some(numbers)) => {
            Evaluation::regression(part, name, unit, outputs, numbers)
        }
        (Target::Binary { negative, positive }, Some(classes), _) if width == 1 => {
            let probabilities: Vec<f64> = outputs.iter().map(|&z| sigmoid(z)).collect();
            Evaluation::binary(part, [&negative.name, &positive.name], &probabilities, classes)
        }
        (_, Some(classes), _) => {
            let names: Vec<String> = target.classes().iter().map(|class| class.name.clone()).collect();
            let probabilities: Vec<f64> = outputs.chunks(width.max(1)).flat_map(softmax).collect();
            Evaluation::classes(part, &names, &probabilities, classes)
        }
        _ => None,
    }
}
