//! Checkpoints: everything that an interrupted run needs to go on as if nothing had happened.

use super::{Epoch, FitError, Run, State, Teacher};
use crate::examples::Targets;
use crate::network::{Network, NetworkError, read};
use crate::optimise::Moments;
use crate::recipes::{Plateau, Stage};
use burn::tensor::Tensor;
use galen_core::{Digest, Transcript};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The largest file that is read.
const MAX_BYTES: u64 = 1 << 32;

/// A checkpoint that cannot be read, written or continued from.
#[derive(Debug, thiserror::Error)]
#[error("checkpoint {file}: {problem}")]
pub struct CheckpointError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it, and what to do.
    pub problem: String,
}

type Values = Vec<Vec<f32>>;

#[derive(Serialize, Deserialize)]
struct Checkpoint {
    /// Of recipe, network with its first parameters, and data: a checkpoint belongs to one run.
    run: [u8; 32],
    stage: usize,
    epoch: u32,
    steps: u64,
    waited: u32,
    params: Values,
    /// Per block, the optimiser's number of steps and its moments.
    moments: Vec<Option<(usize, Values)>>,
    average: Option<Values>,
    best: Option<(f64, Values)>,
    plateau: Plateau,
    teacher: Option<(Values, Vec<f64>, bool)>,
    history: Vec<Epoch>,
}

/// Writes the state so that a crash leaves either the old or the new file.
pub(super) fn save(path: &Path, run: [u8; 32], state: &State) -> Result<(), FitError> {
    let values = |tensors: &[Tensor<2>]| -> Result<Values, NetworkError> {
        tensors.iter().map(|tensor| read(tensor.clone())).collect()
    };
    let moments = state.optimiser.moments()?;
    let checkpoint = Checkpoint {
        run,
        stage: state.stage,
        epoch: state.epoch,
        steps: state.steps,
        waited: state.waited,
        params: values(state.network.params())?,
        moments: moments
            .into_iter()
            .map(|m| m.map(|m| (m.steps, m.tensors)))
            .collect(),
        average: state.average.as_deref().map(values).transpose()?,
        best: match &state.best {
            Some((loss, params)) => Some((*loss, values(params)?)),
            None => None,
        },
        plateau: state.plateau,
        teacher: match &state.teacher {
            Some(teacher) => Some((values(&teacher.params)?, teacher.shares.clone(), teacher.maximum)),
            None => None,
        },
        history: state.history.clone(),
    };
    let failed = |problem: String| CheckpointError {
        file: path.to_owned(),
        problem,
    };
    let mut bytes = postcard::to_stdvec(&checkpoint).map_err(|e| failed(e.to_string()))?;
    let digest = seal(&bytes);
    bytes.extend(digest.0);
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let written = File::create(&new).and_then(|mut file| {
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    });
    written.map_err(|e| failed(format!("cannot be written: {e}")))?;
    Ok(())
}

/// The state in the file, or `begin` if there is no file.
pub(super) fn resume(
    path: &Path,
    run: [u8; 32],
    stages: &[Stage],
    mut begin: State,
) -> Result<State, FitError> {
    let failed = |problem: String| CheckpointError {
        file: path.to_owned(),
        problem,
    };
    let size = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(begin),
        Err(error) => return Err(failed(error.to_string()).into()),
    };
    if size > MAX_BYTES {
        return Err(failed(format!("has {size} bytes, more than a checkpoint can have")).into());
    }
    let bytes = fs::read(path).map_err(|e| failed(e.to_string()))?;
    let damaged = || failed("is damaged; delete it to begin anew".into());
    let (body, digest) = bytes.split_last_chunk::<32>().ok_or_else(damaged)?;
    if seal(body).0 != *digest {
        return Err(damaged().into());
    }
    let checkpoint: Checkpoint = postcard::from_bytes(body).map_err(|_| damaged())?;
    if checkpoint.run != run {
        let other = "belongs to another recipe, network or data; delete it, or name another file";
        return Err(failed(other.into()).into());
    }
    let network = begin.network.clone();
    let load = |values: Values| tensors(&network, values).ok_or_else(damaged);
    if checkpoint.stage > stages.len() {
        return Err(damaged().into());
    }
    begin.stage = checkpoint.stage;
    super::set(&mut begin.network, &load(checkpoint.params)?);
    // A finished run has no stage to enter.
    if let Some(stage) = stages.get(checkpoint.stage) {
        begin.enter(stage);
        let moments = checkpoint.moments.into_iter();
        let moments = moments.map(|m| m.map(|(steps, tensors)| Moments { steps, tensors }));
        begin
            .optimiser
            .restore(&network, moments.collect())
            .ok_or_else(damaged)?;
    }
    begin.epoch = checkpoint.epoch;
    begin.steps = checkpoint.steps;
    begin.waited = checkpoint.waited;
    begin.average = checkpoint.average.map(load).transpose()?;
    begin.best = match checkpoint.best {
        Some((loss, params)) => Some((loss, load(params)?)),
        None => None,
    };
    begin.plateau = checkpoint.plateau;
    let activations = network.activations().len();
    begin.teacher = match checkpoint.teacher {
        Some((_, shares, _)) if shares.len() != activations => return Err(damaged().into()),
        Some((params, shares, maximum)) => Some(Teacher {
            params: load(params)?,
            shares,
            maximum,
        }),
        None => None,
    };
    begin.history = checkpoint.history;
    Ok(begin)
}

/// The parameter blocks of a network from plain numbers, if they fit.
fn tensors(network: &Network, values: Values) -> Option<Vec<Tensor<2>>> {
    let shapes = network.params().iter().map(|param| param.dims());
    if values.len() != network.params().len() {
        return None;
    }
    let tensor = |(values, shape): (Vec<f32>, [usize; 2])| {
        (values.len() == shape[0] * shape[1]).then(|| network.plain(values, shape))
    };
    values.into_iter().zip(shapes).map(tensor).collect()
}

fn seal(bytes: &[u8]) -> Digest {
    Transcript::new("galen checkpoint v1").field(bytes).digest()
}

impl Run<'_> {
    /// What distinguishes this run from others.
    pub(super) fn fingerprint(&self, network: &Network, path: &Path) -> Result<[u8; 32], FitError> {
        let failed = |e: serde_json::Error| CheckpointError {
            file: path.to_owned(),
            problem: e.to_string(),
        };
        let recipe = serde_json::to_vec(self.recipe).map_err(failed)?;
        let mut transcript = Transcript::new("galen training run v1")
            .field(&recipe)
            .field(&network.model()?.digest().0);
        for (examples, patients) in [Some((self.training, self.patients)), self.validation]
            .into_iter()
            .flatten()
        {
            let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
            let targets = match &examples.targets {
                Targets::Classes(classes) => classes.iter().flat_map(|c| c.to_le_bytes()).collect(),
                Targets::Values(values) => bytes(values),
            };
            transcript = transcript
                .number(patients as u64)
                .field(&bytes(&examples.inputs))
                .field(&targets);
        }
        Ok(transcript.digest().0)
    }
}
