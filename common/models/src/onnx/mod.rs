//! Networks as ONNX files: what other frameworks read and write.
//!
//! Values are `f32`, as the usual runtimes want them: exported weights are rounded, imported ones exact. Everything that acts on values
//! alone by sums and products (`Mul`, `Add`, `Pow`, ...) is read as a polynomial, and additions of two ways as residual connections.

mod coefficient;
mod constant;
mod export;
mod import;
mod operators;
mod proto;
#[cfg(test)]
mod tests;
mod value;

use crate::model::{Model, ModelError};
use crate::weights::MAX_FILE_BYTES;
use prost::Message;

/// An ONNX file that cannot be read, or a model that cannot be written as one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// Not an ONNX file, or one with parts missing.
    #[error("not a usable ONNX file: {detail}")]
    Malformed {
        /// What is wrong with it.
        detail: String,
    },
    /// Operators that no layer corresponds to.
    #[error("operators that are not supported: {}", nodes.join(", "))]
    Operators {
        /// Each with the name of its node.
        nodes: Vec<String>,
    },
    /// A supported operator used in a way that is not supported.
    #[error("{operator} at node {node}: {why}")]
    Node {
        /// The kind of operator.
        operator: String,
        /// The node's name, or that of its output where it has none.
        node: String,
        /// What is not supported, and what is.
        why: String,
    },
    /// The network that the file describes cannot be.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl Model {
    /// Reads an ONNX file with fixed sizes, one input and one output, whose operators have layers that correspond to them.
    ///
    /// The first dimension of the input is the batch. Errors name the operators and nodes that are not supported.
    pub fn from_onnx(bytes: &[u8]) -> Result<Self, OnnxError> {
        if bytes.len() > MAX_FILE_BYTES {
            let detail = format!("{} bytes, at most {MAX_FILE_BYTES} are taken", bytes.len());
            return Err(OnnxError::Malformed { detail });
        }
        let model = proto::Model::decode(bytes).map_err(|e| OnnxError::Malformed {
            detail: e.to_string(),
        })?;
        import::import(&model, bytes.len())
    }

    /// The model as an ONNX file: operator set 13, weights in `f32`, a batch of any size, input `input` and output `output`.
    ///
    /// Dropout does nothing when a model is used and is left out. The sign of exactly 0 is 0 in ONNX and 1 here.
    pub fn to_onnx(&self) -> Result<Vec<u8>, OnnxError> {
        Ok(export::export(self)?.encode_to_vec())
    }
}
