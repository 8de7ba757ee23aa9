//! Models as they are evaluated: the study's own, and those that the operator registered.

use super::exact::{Exact, Expanded};
use super::registry::{Compiled, ModelRecord};
use galen_core::{Code, Digest, Refusal};
use galen_inference::{Program, RunError};
use galen_models::agenda::ReleasedModel;
use galen_models::{Model, ModelFile};
use galen_store::BlobStore;
use std::path::Path;

/// A model ready to run.
pub(super) enum Served {
    /// Batches under CKKS.
    Ckks(Box<Program>),
    /// Single patients under TFHE.
    Tfhe(Exact),
}

/// Reads and compiles the model that the study released.
pub(super) fn released(bytes: &[u8], precision_bits: u32) -> Result<Program, String> {
    let (released, rest) =
        postcard::take_from_bytes::<ReleasedModel>(bytes).map_err(|_| "the blob is not a released model")?;
    if !rest.is_empty() {
        return Err("the blob has bytes after the released model".into());
    }
    let network = Model::from_safetensors(&released.safetensors).map_err(|e| e.to_string())?;
    Program::compile(&network, &released.input_ranges, precision_bits).map_err(|e| e.to_string())
}

impl Served {
    /// Reads a registered model, and makes the programs that were chosen when it was added. Ciphertexts that do not fit in memory wait in the
    /// folder `scratch`.
    pub(super) fn registered(
        blobs: &BlobStore,
        version: &Digest,
        record: &ModelRecord,
        scratch: &Path,
    ) -> Result<Self, String> {
        let read = |blob: &Digest| blobs.read(blob).map_err(|e| e.to_string());
        Ok(match &record.compiled {
            Compiled::Ckks {
                file,
                precision_bits,
                choice,
                ..
            } => {
                let file = ModelFile::from_safetensors(&read(file)?).map_err(|e| e.to_string())?;
                let program = Program::from_choice(&file, *precision_bits, choice);
                let program = program.map_err(|e| e.to_string())?;
                Self::Ckks(Box::new(program.with_scratch(scratch)))
            }
            Compiled::Tfhe { .. } => Self::Tfhe(Exact::new(&read(version)?)?),
        })
    }

    /// Evaluates an encrypted batch under the querier's key, which `name` names. `progress` gets steps done and in all, and says whether to
    /// go on.
    pub(super) fn evaluate(
        &self,
        expanded: &mut Expanded,
        (name, key): (&Digest, &[u8]),
        batch: &[u8],
        progress: &(dyn Fn(u32, u32) -> bool + Sync),
    ) -> Result<Vec<u8>, Refusal> {
        match self {
            Self::Ckks(program) => {
                let answer = program.answer(key, batch, &mut |done, total| {
                    progress(done, total);
                });
                answer.map_err(|error| match error {
                    RunError::Disk { .. } => {
                        tracing::error!(%error, "ciphertexts cannot wait on disk");
                        Refusal::new(Code::EvaluationFailed, "the disk failed")
                    }
                    error => Refusal::new(Code::BadQuery, error.to_string()),
                })
            }
            Self::Tfhe(exact) => exact.evaluate(expanded, (name, key), batch, progress),
        }
    }
}
