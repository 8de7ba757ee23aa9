//! A teacher as a network of its own.

use galen_models::{Extent, Layer, Model, ModelError, ModelSpec, Site};

/// The network that a teacher was while it was trained: `model` with ReLU in the place of every polynomial and, if `maximum`, maxima in the
/// place of means. `None` if no layers compute what the teacher did: maxima of windows with a margin.
pub(super) fn alone(model: &Model, maximum: bool) -> Result<Option<Model>, ModelError> {
    let sites = model.spec().resolve()?;
    let mut params = Vec::with_capacity(model.params().len());
    let Some(layers) = sequence(&sites, model, maximum, &mut params) else {
        return Ok(None);
    };
    let spec = ModelSpec {
        input: model.spec().input,
        layers,
    };
    Model::new(spec, params).map(Some)
}

/// The layers as the teacher has them; appends their parameters.
fn sequence(sites: &[Site<'_>], model: &Model, maximum: bool, params: &mut Vec<f64>) -> Option<Vec<Layer>> {
    let mut layers = Vec::with_capacity(sites.len());
    for site in sites {
        let layer = match site.layer {
            layer if layer.is_activation() && layer.is_polynomial() => Layer::Relu,
            Layer::AveragePool {
                kernel,
                stride,
                padding,
            } if maximum => {
                if *padding != Extent::ZERO {
                    return None;
                }
                Layer::MaxPool {
                    kernel: *kernel,
                    stride: *stride,
                }
            }
            Layer::Add { .. } => Layer::Add {
                body: sequence(&site.body, model, maximum, params)?,
                shortcut: sequence(&site.shortcut, model, maximum, params)?,
            },
            other => {
                for block in &site.parameters {
                    params.extend_from_slice(block.of(model.params()));
                }
                other.clone()
            }
        };
        layers.push(layer);
    }
    Some(layers)
}
