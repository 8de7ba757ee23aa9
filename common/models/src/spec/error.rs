//! What can be wrong with a network.

use super::{MAX_DEPTH, MAX_LAYERS, MAX_PARAMETERS, MAX_VALUES};
use galen_core::network::Shape;

/// A network that cannot be. `layer` is the layer's place, such as `layer3.body0`.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum SpecError {
    /// No inputs, or too many.
    #[error("a model needs 1 to {MAX_VALUES} inputs, got {inputs}")]
    Inputs {
        /// Number of inputs.
        inputs: usize,
    },
    /// No layers, or too many.
    #[error("a model needs 1 to {MAX_LAYERS} layers, nested ones included, got {layers}")]
    Layers {
        /// Number of layers, as far as they were counted.
        layers: usize,
    },
    /// A layer of an impossible width.
    #[error("{layer} has {outputs} outputs, possible are 1 to {MAX_VALUES}")]
    Width {
        /// The layer.
        layer: String,
        /// Its outputs.
        outputs: usize,
    },
    /// More parameters than a model may have.
    #[error("with {layer} the model has more than {MAX_PARAMETERS} parameters")]
    Parameters {
        /// The layer with which it has too many.
        layer: String,
    },
    /// A setting out of its range.
    #[error("{layer} has the {what} {value}, it must be {possible}")]
    Setting {
        /// The layer.
        layer: String,
        /// The setting.
        what: &'static str,
        /// Its value.
        value: f64,
        /// What it could be.
        possible: &'static str,
    },
    /// A window that does not fit the image.
    #[error(
        "{layer} has a window of {kernel}, a step of {stride} and a margin of {padding} on a side of {size}: the window must fit \
         the side with its margins, the margin must be smaller than the window, and neither window nor step may be 0"
    )]
    Window {
        /// The layer.
        layer: String,
        /// Extent of the window.
        kernel: usize,
        /// Step.
        stride: usize,
        /// Margin.
        padding: usize,
        /// Extent of the image.
        size: usize,
    },
    /// A layer for images behind a vector.
    #[error("{layer} ({kind}) needs an image, what enters is a vector of {input}")]
    NeedsImage {
        /// The layer.
        layer: String,
        /// Its kind.
        kind: &'static str,
        /// What enters.
        input: Shape,
    },
    /// A layer for vectors behind an image.
    #[error("{layer} ({kind}) needs a vector, what enters is an image of {input}; put \"flatten\" before it")]
    NeedsVector {
        /// The layer.
        layer: String,
        /// Its kind.
        kind: &'static str,
        /// What enters.
        input: Shape,
    },
    /// The two ways of an addition end in different shapes.
    #[error(
        "{layer} adds {body} from its body to {shortcut} from its shortcut; both must have the same shape"
    )]
    Branches {
        /// The layer.
        layer: String,
        /// The body's shape.
        body: Shape,
        /// The shortcut's shape.
        shortcut: Shape,
    },
    /// An addition without a body.
    #[error("{layer} has an empty body")]
    EmptyBody {
        /// The layer.
        layer: String,
    },
    /// Additions within additions, too deep.
    #[error("{layer} is nested deeper than {MAX_DEPTH} additions")]
    Nesting {
        /// The layer.
        layer: String,
    },
}

impl SpecError {
    /// The place of the layer that is wrong, such as `layer3.body0`; `None` where no single one is.
    pub fn layer(&self) -> Option<&str> {
        match self {
            Self::Inputs { .. } | Self::Layers { .. } => None,
            Self::Width { layer, .. }
            | Self::Parameters { layer }
            | Self::Setting { layer, .. }
            | Self::Window { layer, .. }
            | Self::NeedsImage { layer, .. }
            | Self::NeedsVector { layer, .. }
            | Self::Branches { layer, .. }
            | Self::EmptyBody { layer }
            | Self::Nesting { layer } => Some(layer),
        }
    }
}
