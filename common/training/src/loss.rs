//! What training minimises.

use crate::network::NetworkError;
use crate::recipes::{Distillation, Objective};
use burn::tensor::Tensor;
use burn::tensor::activation::{log_sigmoid, log_softmax, softmax};

/// The loss of a batch. All matrices have one row per output and one column per patient; `targets` are 1 for the patient's class
/// and 0 for others, or the numbers to predict; `weights`, a row with a factor for each patient, count for classes only. The sum is divided
/// by the number of patients, not by their weights, so that the batches of an epoch add up to the loss of all patients.
pub(crate) fn loss(
    objective: Objective,
    outputs: Tensor<2>,
    targets: Tensor<2>,
    weights: Option<Tensor<2>>,
) -> Tensor<1> {
    let [rows, patients] = outputs.dims();
    let weighted = |logarithms: Tensor<2>| match weights {
        Some(weights) => logarithms * weights,
        None => logarithms,
    };
    match objective {
        Objective::Regression => (outputs - targets).square().mean(),
        // ln sigmoid(+-z), stable for large logits of either sign.
        Objective::Classification if rows == 1 => weighted(log_sigmoid(outputs * (targets * 2.0 - 1.0)))
            .mean()
            .neg(),
        Objective::Classification => {
            weighted(log_softmax(outputs, 0) * targets).sum().neg() / patients.max(1) as f64
        }
    }
}

/// What distillation adds to the loss; `teacher` are the teacher's outputs for the same batch, as constants.
pub(crate) fn distillation(
    objective: Objective,
    settings: Distillation,
    outputs: Tensor<2>,
    teacher: Tensor<2>,
) -> Tensor<1> {
    let [rows, patients] = outputs.dims();
    let t = settings.temperature;
    let divergence = match objective {
        Objective::Regression => return (outputs - teacher).square().mean() * settings.weight,
        Objective::Classification if rows == 1 => {
            let (s, z) = (outputs / t, teacher / t);
            let side = |s: Tensor<2>, z: Tensor<2>| {
                let log = log_sigmoid(z);
                log.clone().exp() * (log - log_sigmoid(s))
            };
            side(s.clone(), z.clone()) + side(s.neg(), z.neg())
        }
        Objective::Classification => {
            let z = teacher / t;
            softmax(z.clone(), 0) * (log_softmax(z, 0) - log_softmax(outputs / t, 0))
        }
    };
    divergence.sum() * (settings.weight * t * t / patients.max(1) as f64)
}

/// The value of a tensor with one element.
pub(crate) fn scalar(tensor: Tensor<1>) -> Result<f64, NetworkError> {
    let values = crate::network::read(tensor)?;
    Ok(values.first().copied().map_or(f64::NAN, f64::from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;

    fn matrix(values: &[f32], shape: [usize; 2]) -> Tensor<2> {
        Tensor::from_data(
            TensorData::new(values.to_vec(), shape),
            &burn::tensor::Device::flex(),
        )
    }

    fn close(tensor: Tensor<1>, expected: f64) {
        let value = scalar(tensor).unwrap();
        assert!((value - expected).abs() < 1e-5, "{value} {expected}");
    }

    /// Two patients, three classes.
    const LOGITS: [[f64; 3]; 2] = [[1.0, 0.0, -2.0], [0.5, 3.0, 0.25]];
    const TEACHER: [[f64; 3]; 2] = [[2.0, -1.0, 0.0], [0.0, 1.0, 1.0]];

    fn columns(rows: [[f64; 3]; 2]) -> Tensor<2> {
        let values: Vec<f32> = (0..3).flat_map(|c| rows.map(|row| row[c] as f32)).collect();
        matrix(&values, [3, 2])
    }

    fn probabilities(logits: [f64; 3], t: f64) -> [f64; 3] {
        let sum: f64 = logits.iter().map(|z| (z / t).exp()).sum();
        logits.map(|z| (z / t).exp() / sum)
    }

    #[test]
    fn losses_from_their_definitions() {
        let class = Objective::Classification;
        let targets = columns([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]);
        let expected = -probabilities(LOGITS[0], 1.0)[0].ln() - probabilities(LOGITS[1], 1.0)[2].ln();
        close(
            loss(class, columns(LOGITS), targets.clone(), None),
            expected / 2.0,
        );
        let (first, second) = (
            -probabilities(LOGITS[0], 1.0)[0].ln(),
            -probabilities(LOGITS[1], 1.0)[2].ln(),
        );
        let weights = || Some(matrix(&[0.5, 3.0], [1, 2]));
        let weighted = (0.5 * first + 3.0 * second) / 2.0;
        close(loss(class, columns(LOGITS), targets, weights()), weighted);
        let one = matrix(&[0.5, -40.0], [1, 2]);
        let expected = ((1.0 + (-0.5f64).exp()).ln() + 40.0) / 2.0;
        let both = || matrix(&[1.0, 1.0], [1, 2]);
        close(loss(class, one.clone(), both(), None), expected);
        let weighted = (0.5 * (1.0 + (-0.5f64).exp()).ln() + 3.0 * 40.0) / 2.0;
        close(loss(class, one, both(), weights()), weighted);
        let one = matrix(&[0.5, -1.0], [1, 2]);
        close(loss(Objective::Regression, one, both(), None), (0.25 + 4.0) / 2.0);
    }

    #[test]
    fn distillation_from_its_definition() {
        let settings = Distillation {
            temperature: 3.0,
            weight: 0.2,
        };
        let class = Objective::Classification;
        let mut expected = 0.0;
        for (s, t) in LOGITS.into_iter().zip(TEACHER) {
            let (s, t) = (probabilities(s, 3.0), probabilities(t, 3.0));
            expected += t.iter().zip(s).map(|(t, s)| t * (t / s).ln()).sum::<f64>();
        }
        let value = distillation(class, settings, columns(LOGITS), columns(TEACHER));
        close(value, expected / 2.0 * 9.0 * 0.2);
        // One logit z is as good as the two logits z and 0.
        let (student, teacher) = (matrix(&[0.7, -2.0], [1, 2]), matrix(&[1.5, 0.5], [1, 2]));
        let pair = |row: [f32; 2]| matrix(&[row[0], row[1], 0.0, 0.0], [2, 2]);
        let two = distillation(class, settings, pair([0.7, -2.0]), pair([1.5, 0.5]));
        close(
            distillation(class, settings, student, teacher),
            scalar(two).unwrap(),
        );
        let none = distillation(class, settings, columns(TEACHER), columns(TEACHER));
        close(none, 0.0);
        let (a, b) = (matrix(&[1.0, 2.0], [1, 2]), matrix(&[0.0, 0.0], [1, 2]));
        close(distillation(Objective::Regression, settings, a, b), 0.5);
    }
}
