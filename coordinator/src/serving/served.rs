//! Models as they are evaluated: the study's own, and those that the operator registered.

use super::registry::ModelRecord;
use galen_core::{Code, Refusal};
use galen_inference::Program;
use galen_models::agenda::ReleasedModel;
use galen_models::{Model, ModelFile};

/// A program ready to run.
pub(super) struct Served(Program);

impl Served {
    /// Reads and compiles the model that the study released.
    pub(super) fn released(bytes: &[u8], precision_bits: u32) -> Result<Self, String> {
        let (released, rest) = postcard::take_from_bytes::<ReleasedModel>(bytes)
            .map_err(|_| "the blob is not a released model")?;
        if !rest.is_empty() {
            return Err("the blob has bytes after the released model".into());
        }
        let network = Model::from_safetensors(&released.safetensors).map_err(|e| e.to_string())?;
        let program =
            Program::compile(&network, &released.input_ranges, precision_bits).map_err(|e| e.to_string())?;
        Ok(Self(program))
    }

    /// Reads a registered model, and makes the program that was chosen when it was added.
    pub(super) fn registered(file: &[u8], record: &ModelRecord) -> Result<Self, String> {
        let file = ModelFile::from_safetensors(file).map_err(|e| e.to_string())?;
        let program =
            Program::from_choice(&file, record.precision_bits, &record.choice).map_err(|e| e.to_string())?;
        Ok(Self(program))
    }

    /// The program.
    pub(super) fn program(&self) -> &Program {
        &self.0
    }

    /// Evaluates an encrypted batch under the querier's key.
    pub(super) fn evaluate(
        &self,
        key: &[u8],
        batch: &[u8],
        progress: &mut dyn FnMut(u32, u32),
    ) -> Result<Vec<u8>, Refusal> {
        let answer = self.0.answer(key, batch, progress);
        answer.map_err(|error| Refusal::new(Code::BadQuery, error.to_string()))
    }
}
