//! How long a program takes on this machine, from a trial of a moment.

use crate::keys::ClientKey;
use crate::program::{Program, RunError};
use crate::query::{Querier, QueryError};
use galen_core::random::RandomError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long patients are evaluated, unless they are done before.
const LONG_ENOUGH: Duration = Duration::from_millis(1500);
/// Bootstraps of each thread, at least: the first ones take longer than the others.
const ENOUGH: usize = 4;

/// A trial that could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrialError {
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The trial's patients.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The evaluation.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Seconds for one of many patients, with the threads of the present pool. Makes a key for it, which takes a second or two.
pub fn seconds_per_patient(program: &Arc<Program>) -> Result<f64, TrialError> {
    let key = ClientKey::generate(program.parameters())?;
    let evaluation = key.serving_key().expand();
    let threads = rayon::current_num_threads();
    let circuit = program.circuit();
    let least = |input| circuit.range(input).map_or(0, |range| range.min);
    let row: Vec<i64> = (0..circuit.inputs()).map(least).collect();
    let querier = Querier::with(program, key);
    let query = querier.encrypt(&vec![row; threads])?;
    let most = AtomicUsize::new(0);
    let began = Instant::now();
    let run = program.run(&evaluation, &query, &|done, _| {
        most.fetch_max(done, Ordering::Relaxed);
        done < ENOUGH * threads || began.elapsed() < LONG_ENOUGH
    });
    match run {
        Ok(_) | Err(RunError::Cancelled) => {}
        Err(other) => return Err(other.into()),
    }
    let seconds = began.elapsed().as_secs_f64();
    let done = most.into_inner();
    if done == 0 {
        // Nothing to bootstrap: all that there is was done.
        return Ok(seconds / threads as f64);
    }
    Ok(seconds / done as f64 * program.plan().bootstraps as f64)
}
