//! A released model, compiled for encrypted batches.

use galen_core::{Code, Digest, Refusal};
use galen_inference::Program;
use galen_models::Model;
use galen_models::agenda::ReleasedModel;

/// A program ready to run.
pub(super) struct Served {
    pub(super) model: Digest,
    program: Program,
}

impl Served {
    /// Reads and compiles a released model.
    pub(super) fn load(model: Digest, bytes: &[u8], precision_bits: u32) -> Result<Self, String> {
        let (released, rest) = postcard::take_from_bytes::<ReleasedModel>(bytes)
            .map_err(|_| "the blob is not a released model")?;
        if !rest.is_empty() {
            return Err("the blob has bytes after the released model".into());
        }
        let network = Model::from_safetensors(&released.safetensors).map_err(|e| e.to_string())?;
        let program =
            Program::compile(&network, &released.input_ranges, precision_bits).map_err(|e| e.to_string())?;
        Ok(Self { model, program })
    }

    /// Name of the preset that queries must use.
    pub(super) fn preset(&self) -> &str {
        &self.program.plan().preset
    }

    /// Evaluates an encrypted batch under the querier's key.
    pub(super) fn evaluate(
        &self,
        key: &[u8],
        batch: &[u8],
        progress: &mut dyn FnMut(u32, u32),
    ) -> Result<Vec<u8>, Refusal> {
        let answer = self.program.answer(key, batch, progress);
        answer.map_err(|error| Refusal::new(Code::BadQuery, error.to_string()))
    }
}
