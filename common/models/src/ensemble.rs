//! Several trained models as one, whose outputs are the means of theirs.

use crate::annotations::Annotations;
use crate::evaluate::{ActivationRange, Range};
use crate::model::{Model, ModelError};
use crate::spec::{Layer, ModelSpec, ParameterKind};
use crate::weights::ModelFile;

/// Models that cannot be averaged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnsembleError {
    /// Fewer than two.
    #[error("an ensemble needs at least two models, {0} was given")]
    Few(usize),
    /// One that differs from the first where all must be equal.
    #[error(
        "model {member} differs from model 1 in its {what}: an ensemble's members take and give the same"
    )]
    Different {
        /// Its number, from 1.
        member: usize,
        /// In what.
        what: &'static str,
    },
    /// One whose last layer has no weights that the mean could be taken into.
    #[error(
        "model {member} ends in {layer}: its last layer must be dense, so that the mean goes into its weights"
    )]
    Ending {
        /// Its number, from 1.
        member: usize,
        /// Its last layer.
        layer: &'static str,
    },
    /// The joined network is impossible, say too large.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl ModelFile {
    /// Joins trained models side by side into one that gives the mean of their outputs (a deep ensemble: Lakshminarayanan, Pritzel and
    /// Blundell, NeurIPS 2017, arXiv 1612.01474; of logits here, because their mean is linear and costs an encrypted evaluation nothing). It
    /// has the levels of its deepest member and the work of all.
    ///
    /// The mean is taken into the weights of the last layers, which must be dense. Recorded ranges are carried over if all members have
    /// them; title and classes are those of the first.
    pub fn ensemble(members: &[Self]) -> Result<Self, EnsembleError> {
        let (first, rest) = match members {
            [first, rest @ ..] if !rest.is_empty() => (first, rest),
            few => return Err(EnsembleError::Few(few.len())),
        };
        for (index, other) in rest.iter().enumerate() {
            let different = |what| EnsembleError::Different {
                member: index + 2,
                what,
            };
            let (spec, others) = (first.model.spec(), other.model.spec());
            if others.input != spec.input {
                return Err(different("input"));
            }
            if others.outputs() != spec.outputs() {
                return Err(different("outputs"));
            }
            if other.annotations.classes != first.annotations.classes {
                return Err(different("classes"));
            }
            if other.annotations.standardisation != first.annotations.standardisation {
                return Err(different("standardisation"));
            }
        }
        let mut params = Vec::new();
        for (index, member) in members.iter().enumerate() {
            params.extend(shared(&member.model, index, members.len())?);
        }
        let mut activations = Vec::new();
        let layers = side_by_side(members, "layer", &mut activations);
        let spec = ModelSpec {
            input: first.model.spec().input,
            layers,
        };
        let annotations = Annotations {
            inputs: inputs(members),
            activations: if members.iter().any(|m| m.annotations.activations.is_empty()) {
                Vec::new()
            } else {
                activations
            },
            ..first.annotations.clone()
        };
        Ok(Self {
            model: Model::new(spec, params)?,
            annotations,
        })
    }
}

/// A member's parameters, with its last layer divided by the number of members.
fn shared(model: &Model, index: usize, members: usize) -> Result<Vec<f64>, EnsembleError> {
    let spec = model.spec();
    let last = spec.layers.last();
    if !matches!(last, Some(Layer::Dense { .. })) {
        return Err(EnsembleError::Ending {
            member: index + 1,
            layer: last.map_or("nothing", Layer::name),
        });
    }
    let mut params = model.params().to_vec();
    let prefix = format!("layer{}.", spec.layers.len() - 1);
    for block in spec.parameters() {
        if block.name.starts_with(&prefix)
            && matches!(block.kind, ParameterKind::Weight | ParameterKind::Bias)
        {
            let values = params.iter_mut().skip(block.offset).take(block.len());
            values.for_each(|value| *value /= members as f64);
        }
    }
    Ok(params)
}

/// The members' layers as one list: a balanced tree of sums, so that it is nested as little as it can be. Their recorded ranges are
/// appended under the names that their layers have in it.
fn side_by_side(members: &[ModelFile], prefix: &str, activations: &mut Vec<ActivationRange>) -> Vec<Layer> {
    if let [member] = members {
        let renamed = member.annotations.activations.iter().map(|seen| ActivationRange {
            path: seen.path.replacen("layer", prefix, 1),
            channels: seen.channels.clone(),
            moments: seen.moments.clone(),
        });
        activations.extend(renamed);
        return member.model.spec().layers.clone();
    }
    let (left, right) = members.split_at(members.len().div_ceil(2));
    vec![Layer::Add {
        body: side_by_side(left, &format!("{prefix}0.body"), activations),
        shortcut: side_by_side(right, &format!("{prefix}0.shortcut"), activations),
    }]
}

/// The union of what the members say of their inputs; nothing if they say it in different ways or not at all.
fn inputs(members: &[ModelFile]) -> Vec<Range> {
    let mut all = members.iter().map(|member| &member.annotations.inputs);
    let first = all.next().cloned().unwrap_or_default();
    all.try_fold(first, |mut union, next| {
        if next.len() != union.len() {
            return None;
        }
        for (range, other) in union.iter_mut().zip(next) {
            *range = range.union(*other);
        }
        Some(union)
    })
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: &str = r#"input = [1, 4, 4]
        layers = [
            { conv2d = { channels = 2, kernel = 3 } },
            { batch_norm = {} },
            { polynomial = { degree = 2, per = "channel" } },
            "flatten",
            { dense = { outputs = 3 } },
        ]"#;

    fn rows() -> Vec<Vec<f64>> {
        let value = |row: usize, i: usize| ((row * 31 + i * 7) % 13) as f64 / 6.0 - 1.0;
        (0..5)
            .map(|row| (0..16).map(|i| value(row, i)).collect())
            .collect()
    }

    fn member(seed: u64) -> ModelFile {
        let mut file = ModelFile::from(Model::initial(toml::from_str(NETWORK).unwrap(), seed).unwrap());
        file.annotations.classes = ["a", "b", "c"].map(String::from).to_vec();
        file.record(&rows()).unwrap();
        file
    }

    #[test]
    fn outputs_are_means_and_ranges_those_of_a_recording() {
        for count in 2..6 {
            let members: Vec<ModelFile> = (0..count).map(member).collect();
            let mut joined = ModelFile::ensemble(&members).unwrap();
            let levels = |m: &ModelFile| m.model.spec().summary().unwrap().levels;
            assert_eq!(levels(&joined), levels(&members[0]));
            let found = joined.model.forward(&rows()).unwrap();
            for (row, outputs) in found.rows().enumerate() {
                for (output, value) in outputs.iter().enumerate() {
                    let of =
                        |m: &ModelFile| m.model.forward(&rows()).unwrap().rows().nth(row).unwrap()[output];
                    let mean = members.iter().map(of).sum::<f64>() / count as f64;
                    assert!((value - mean).abs() < 1e-12);
                }
            }
            let carried = joined.annotations.clone();
            joined.annotations.inputs.clear();
            joined.annotations.activations.clear();
            joined.record(&rows()).unwrap();
            assert_eq!(joined.annotations, carried);
            let read = ModelFile::from_safetensors(&joined.to_safetensors().unwrap()).unwrap();
            assert_eq!(read, joined);
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let said = |members: &[ModelFile]| ModelFile::ensemble(members).unwrap_err().to_string();
        assert!(said(&[member(1)]).contains("at least two"));
        let network = |text: &str| ModelFile::from(Model::initial(toml::from_str(text).unwrap(), 1).unwrap());
        let mut other = network("input = 2\nlayers = [{ dense = { outputs = 3 } }]");
        other.annotations.classes = member(1).annotations.classes;
        assert!(said(&[member(1), other]).contains("model 2 differs from model 1 in its input"));
        let mut renamed = member(2);
        renamed.annotations.classes[0] = "x".into();
        assert!(
            said(&[member(1), member(3), renamed]).contains("model 3 differs from model 1 in its classes")
        );
        let square = network("input = 2\nlayers = [{ dense = { outputs = 1 } }, \"square\"]");
        assert!(said(&[square.clone(), square]).contains("model 1 ends in square"));
    }
}
