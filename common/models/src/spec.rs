//! The shape of a network and the order of its parameters.

use galen_core::Transcript;
use galen_core::study::{DataSchema, ModelPlan};
use serde::{Deserialize, Serialize};

/// Largest number of features or units in a layer.
pub const MAX_WIDTH: usize = 1 << 14;
/// Largest number of layers.
pub const MAX_LAYERS: usize = 64;

/// A feed-forward network: `inputs` features through `layers`, in order.
///
/// Every layer can be evaluated exactly by additions and multiplications, so that the encrypted network is the trained one and
/// not an approximation of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Number of input features.
    pub inputs: usize,
    /// The layers.
    pub layers: Vec<Layer>,
}

/// One layer; `x` is what enters it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
#[non_exhaustive]
pub enum Layer {
    /// `W x + w`.
    Dense {
        /// Number of outputs.
        outputs: usize,
    },
    /// Residue activation with a scaled power: `A x + a + scale * (B x + b)^power`, element-wise power.
    ///
    /// The family that the abstract of ReActHE (Song and Shi, Smart Health 2024, DOI 10.1016/j.smhl.2024.100469) describes; the
    /// paper's own formula was not available, so this parametrisation is this project's.
    Residual {
        /// Number of outputs.
        outputs: usize,
        /// Factor on the power; positive.
        scale: f64,
        /// Exponent; 2.
        power: u32,
    },
}

impl Layer {
    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Dense { outputs } | Self::Residual { outputs, .. } => *outputs,
        }
    }
}

/// One named block of parameters within the flat vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Unique name, such as `layer0.power.weight`.
    pub name: String,
    /// Rows (outputs of the layer) and columns (its inputs; 1 for a bias). Stored row by row.
    pub shape: [usize; 2],
    /// Index of its first value in the flat vector.
    pub offset: usize,
}

impl Parameter {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    /// Whether it has no values; never so in a checked [`ModelSpec`].
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its values within the flat vector `all`, which must belong to the same network.
    pub fn of<'a, T>(&self, all: &'a [T]) -> &'a [T] {
        &all[self.offset..self.offset + self.len()]
    }
}

/// A network that cannot be.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum SpecError {
    /// No input features, or too many.
    #[error("a model needs 1 to {MAX_WIDTH} inputs, got {inputs}")]
    Inputs {
        /// Number of inputs.
        inputs: usize,
    },
    /// No layers, or too many.
    #[error("a model needs 1 to {MAX_LAYERS} layers, got {layers}")]
    Layers {
        /// Number of layers.
        layers: usize,
    },
    /// A layer of an impossible width.
    #[error("layer {layer} has {outputs} outputs, possible are 1 to {MAX_WIDTH}")]
    Width {
        /// Index of the layer.
        layer: usize,
        /// Its outputs.
        outputs: usize,
    },
    /// A power that is not supported.
    #[error("layer {layer} raises to the power {power}, supported is 2")]
    Power {
        /// Index of the layer.
        layer: usize,
        /// Its power.
        power: u32,
    },
    /// A scale that is not a positive number.
    #[error("layer {layer} has the scale {scale}, it must be positive and finite")]
    Scale {
        /// Index of the layer.
        layer: usize,
        /// Its scale.
        scale: f64,
    },
}

impl ModelSpec {
    /// Residual blocks of the given widths, then a dense layer with one output: the logit of class 1.
    pub fn residual_mlp(inputs: usize, hidden: &[usize], scale: f64, power: u32) -> Result<Self, SpecError> {
        let blocks = hidden.iter().map(|&outputs| Layer::Residual {
            outputs,
            scale,
            power,
        });
        let layers = blocks.chain([Layer::Dense { outputs: 1 }]).collect();
        let spec = Self { inputs, layers };
        spec.check()?;
        Ok(spec)
    }

    /// The network that a study asks for.
    pub fn from_plan(schema: &DataSchema, plan: &ModelPlan) -> Result<Self, SpecError> {
        let hidden: Vec<usize> = plan.hidden.iter().map(|&width| width as usize).collect();
        Self::residual_mlp(schema.inputs(), &hidden, plan.scale, plan.power)
    }

    /// Whether every layer is possible.
    pub fn check(&self) -> Result<(), SpecError> {
        if self.inputs == 0 || self.inputs > MAX_WIDTH {
            return Err(SpecError::Inputs { inputs: self.inputs });
        }
        if self.layers.is_empty() || self.layers.len() > MAX_LAYERS {
            return Err(SpecError::Layers {
                layers: self.layers.len(),
            });
        }
        for (layer, l) in self.layers.iter().enumerate() {
            let outputs = l.outputs();
            if outputs == 0 || outputs > MAX_WIDTH {
                return Err(SpecError::Width { layer, outputs });
            }
            if let Layer::Residual { scale, power, .. } = *l {
                if power != 2 {
                    return Err(SpecError::Power { layer, power });
                }
                if !(scale.is_finite() && scale > 0.0) {
                    return Err(SpecError::Scale { layer, scale });
                }
            }
        }
        Ok(())
    }

    /// Number of outputs of the last layer.
    pub fn outputs(&self) -> usize {
        self.layers.last().map_or(self.inputs, Layer::outputs)
    }

    /// The parameter blocks in flat order. A dense layer has `weight` and `bias`, a residual block has `linear.weight` (A),
    /// `linear.bias` (a), `power.weight` (B) and `power.bias` (b).
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut all: Vec<Parameter> = Vec::new();
        let mut inputs = self.inputs;
        for (i, layer) in self.layers.iter().enumerate() {
            let outputs = layer.outputs();
            let names: &[(&str, usize)] = match layer {
                Layer::Dense { .. } => &[("weight", inputs), ("bias", 1)],
                Layer::Residual { .. } => &[
                    ("linear.weight", inputs),
                    ("linear.bias", 1),
                    ("power.weight", inputs),
                    ("power.bias", 1),
                ],
            };
            for (name, columns) in names {
                all.push(Parameter {
                    name: format!("layer{i}.{name}"),
                    shape: [outputs, *columns],
                    offset: all.last().map_or(0, |last| last.offset + last.len()),
                });
            }
            inputs = outputs;
        }
        all
    }

    /// Number of parameters.
    pub fn parameter_count(&self) -> usize {
        self.parameters().iter().map(Parameter::len).sum()
    }

    /// Appends everything that distinguishes this network from another one.
    pub(crate) fn transcribe(&self, transcript: Transcript) -> Transcript {
        let start = transcript
            .number(self.inputs as u64)
            .number(self.layers.len() as u64);
        self.layers.iter().fold(start, |t, layer| match layer {
            Layer::Dense { outputs } => t.field(b"dense").number(*outputs as u64),
            Layer::Residual {
                outputs,
                scale,
                power,
            } => t
                .field(b"residual")
                .number(*outputs as u64)
                .number(scale.to_bits())
                .number(u64::from(*power)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_tile_the_flat_vector() {
        let spec = ModelSpec::residual_mlp(5, &[4, 3], 0.1, 2).unwrap();
        let blocks = spec.parameters();
        let mut next = 0;
        for block in &blocks {
            assert_eq!(block.offset, next);
            next += block.len();
        }
        assert_eq!(next, 2 * (4 * 5 + 4) + 2 * (3 * 4 + 3) + 3 + 1);
        assert_eq!(next, spec.parameter_count());
        let names: Vec<&str> = blocks.iter().map(|b| b.name.as_str()).collect();
        assert_eq!(names[0], "layer0.linear.weight");
        assert_eq!(names[3], "layer0.power.bias");
        assert_eq!(names[9], "layer2.bias");
        assert_eq!(blocks[2].shape, [4, 5]);
    }

    #[test]
    fn impossible_networks_are_refused() {
        use SpecError::*;
        assert_eq!(
            ModelSpec::residual_mlp(0, &[1], 0.1, 2),
            Err(Inputs { inputs: 0 })
        );
        assert_eq!(
            ModelSpec::residual_mlp(1, &[4, 0], 0.1, 2),
            Err(Width { layer: 1, outputs: 0 })
        );
        assert_eq!(
            ModelSpec::residual_mlp(1, &[4], 0.1, 3),
            Err(Power { layer: 0, power: 3 })
        );
        assert_eq!(
            ModelSpec::residual_mlp(1, &[4], 0.0, 2),
            Err(Scale { layer: 0, scale: 0.0 })
        );
        let none = ModelSpec {
            inputs: 1,
            layers: vec![],
        };
        assert_eq!(none.check(), Err(Layers { layers: 0 }));
    }
}
