//! From a network with ReLU to one that can be evaluated encrypted.

mod approximation;

pub use approximation::{ApproximationError, Original, approximate};

use crate::model::{Model, ModelError};
use crate::spec::{Extent, Layer, ModelSpec, ParameterKind};
use galen_core::recipe::{Adaptation, PoolingChoice, Recipe, Replacement};

/// A network that cannot be adapted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdaptationError {
    /// The polynomial cannot be fitted.
    #[error(transparent)]
    Approximation(#[from] ApproximationError),
    /// The result is no possible network.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A residue block needs the linear layer right before the activation.
    #[error(
        "layer {layer} ({kind}) has no dense layer or convolution right before it that a residue block could be made of"
    )]
    NoLinear {
        /// The activation's place among its neighbours, from 0.
        layer: usize,
        /// Its kind.
        kind: &'static str,
    },
}

impl Model {
    /// The network that a recipe makes of `spec`, with initial parameters.
    pub fn for_recipe(spec: &ModelSpec, recipe: &Recipe) -> Result<Self, AdaptationError> {
        spec.start(recipe.adaptation.as_ref(), recipe.seed)
    }
}

impl ModelSpec {
    /// The adapted network with initial parameters; this network itself without an adaptation.
    pub fn start(&self, adaptation: Option<&Adaptation>, seed: u64) -> Result<Model, AdaptationError> {
        match adaptation {
            Some(adaptation) => Adapting(adaptation).model(self, seed),
            None => Ok(Model::initial(self.clone(), seed)?),
        }
    }
}

/// The walk through a network that is adapted.
struct Adapting<'a>(&'a Adaptation);

impl Adapting<'_> {
    fn model(&self, spec: &ModelSpec, seed: u64) -> Result<Model, AdaptationError> {
        let mut starts = Vec::new();
        let layers = self.sequence(&spec.layers, &mut starts)?;
        let adapted = ModelSpec {
            input: spec.input,
            layers,
        };
        let initial = Model::initial(adapted.clone(), seed)?;
        let mut params = initial.params().to_vec();
        let mut starts = starts.into_iter();
        for block in adapted.parameters() {
            if block.kind != ParameterKind::Coefficient {
                continue;
            }
            // Polynomials that the network had before keep their initial coefficients.
            let Some(Some(coefficients)) = starts.next() else {
                continue;
            };
            let sets = block.len() / coefficients.len().max(1);
            for (k, coefficient) in coefficients.iter().enumerate() {
                params[block.offset + k * sets..block.offset + (k + 1) * sets].fill(*coefficient);
            }
        }
        Ok(Model::new(adapted, params)?)
    }

    /// The adapted layers; appends, per trained polynomial, what its coefficients start from.
    fn sequence(
        &self,
        layers: &[Layer],
        starts: &mut Vec<Option<Vec<f64>>>,
    ) -> Result<Vec<Layer>, AdaptationError> {
        let mut adapted: Vec<Layer> = Vec::new();
        for (index, layer) in layers.iter().enumerate() {
            let original = match layer {
                Layer::Relu => Original::Relu,
                Layer::Sigmoid => Original::Sigmoid,
                Layer::Tanh => Original::Tanh,
                Layer::Add { body, shortcut } => {
                    let body = self.sequence(body, starts)?;
                    let shortcut = self.sequence(shortcut, starts)?;
                    adapted.push(Layer::Add { body, shortcut });
                    continue;
                }
                other => {
                    if matches!(other, Layer::Polynomial { .. }) {
                        starts.push(None);
                    }
                    adapted.push(self.pooling(other));
                    continue;
                }
            };
            let residue = matches!(self.0.activation, Replacement::Residue { .. });
            let hermite = self.0.activation == Replacement::Hermite;
            let normalised = matches!(adapted.last(), Some(Layer::BatchNorm { .. }));
            if self.0.normalise && !normalised && !residue && !hermite {
                adapted.push(Layer::BatchNorm { epsilon: 1e-5 });
            }
            let replacement = match &self.0.activation {
                Replacement::Square => Layer::Square,
                Replacement::Fixed { degree, radius, fit } => Layer::FixedPolynomial {
                    coefficients: approximate(original, *fit, *degree, *radius)?,
                },
                Replacement::Trained {
                    degree,
                    radius,
                    fit,
                    per,
                } => {
                    starts.push(Some(approximate(original, *fit, *degree, *radius)?));
                    Layer::Polynomial {
                        degree: *degree,
                        per: *per,
                    }
                }
                Replacement::Hermite => Layer::Hermite { epsilon: 1e-5 },
                Replacement::Residue { scale, power } => {
                    let block = adapted
                        .pop()
                        .and_then(|linear| residue_block(linear, *scale, *power));
                    block.ok_or(AdaptationError::NoLinear {
                        layer: index,
                        kind: layer.name(),
                    })?
                }
            };
            adapted.push(replacement);
        }
        Ok(adapted)
    }

    fn pooling(&self, layer: &Layer) -> Layer {
        match (layer, self.0.pooling) {
            (Layer::MaxPool { kernel, stride }, PoolingChoice::Mean) => Layer::AveragePool {
                kernel: *kernel,
                stride: *stride,
                padding: Extent::ZERO,
            },
            (Layer::MaxPool { kernel, stride }, PoolingChoice::Sum) => Layer::SumPool {
                kernel: *kernel,
                stride: *stride,
                padding: Extent::ZERO,
            },
            (
                Layer::AveragePool {
                    kernel,
                    stride,
                    padding,
                },
                PoolingChoice::Sum,
            ) => Layer::SumPool {
                kernel: *kernel,
                stride: *stride,
                padding: *padding,
            },
            (other, _) => other.clone(),
        }
    }
}

/// `L(x) + scale * L'(x)^power` for a linear layer L.
fn residue_block(linear: Layer, scale: f64, power: u32) -> Option<Layer> {
    match linear {
        Layer::Dense { outputs } => Some(Layer::Residual {
            outputs,
            scale,
            power,
        }),
        Layer::Conv2d { .. } => Some(Layer::Add {
            body: vec![linear.clone(), Layer::Power { scale, power }],
            shortcut: vec![linear],
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Granularity;
    use galen_core::recipe::Fit;

    fn spec() -> ModelSpec {
        toml::from_str(
            r#"
            input = [1, 8, 8]
            layers = [
                { conv2d = { channels = 2, kernel = 3 } },
                "relu",
                { max_pool = { kernel = 2 } },
                "flatten",
                { dense = { outputs = 4 } },
                "tanh",
                { dense = { outputs = 1 } },
            ]
            "#,
        )
        .unwrap()
    }

    fn names(model: &Model) -> Vec<&'static str> {
        model.spec().layers.iter().map(Layer::name).collect()
    }

    #[test]
    fn polynomials_start_from_their_fits() {
        let activation = Replacement::Trained {
            degree: 3,
            radius: 2.0,
            fit: Fit::Derivative,
            per: Granularity::Channel,
        };
        let adaptation = Adaptation {
            activation,
            normalise: true,
            pooling: PoolingChoice::Sum,
        };
        let model = spec().start(Some(&adaptation), 1).unwrap();
        let expected = [
            "conv2d",
            "batch_norm",
            "polynomial",
            "sum_pool",
            "flatten",
            "dense",
            "batch_norm",
            "polynomial",
            "dense",
        ];
        assert_eq!(names(&model), expected);
        let blocks = model.spec().parameters();
        let of = |name: &str| {
            let block = blocks.iter().find(|b| b.name == name).unwrap();
            block.of(model.params()).to_vec()
        };
        for (name, original, sets) in [
            ("layer2.coefficients", Original::Relu, 2),
            ("layer7.coefficients", Original::Tanh, 4),
        ] {
            let fit = approximate(original, Fit::Derivative, 3, 2.0).unwrap();
            let expected: Vec<f64> = fit.iter().flat_map(|&c| vec![c; sets]).collect();
            assert_eq!(of(name), expected, "{name}");
        }
    }

    #[test]
    fn residue_blocks_take_in_the_linear_layer() {
        let adaptation = Adaptation {
            activation: Replacement::Residue { scale: 0.1, power: 2 },
            normalise: false,
            pooling: PoolingChoice::Mean,
        };
        let model = spec().start(Some(&adaptation), 1).unwrap();
        assert_eq!(
            names(&model),
            ["add", "average_pool", "flatten", "residual", "dense"]
        );
        let mut wrong = spec();
        wrong.layers.insert(1, Layer::BatchNorm { epsilon: 1e-5 });
        let error = wrong.start(Some(&adaptation), 1).unwrap_err();
        assert!(
            matches!(
                error,
                AdaptationError::NoLinear {
                    layer: 2,
                    kind: "relu"
                }
            ),
            "{error}"
        );
    }
}
