//! What all simulated hospitals of a measurement share: the scene, the cores, and when what happened.

use crate::study::Scene;
use anyhow::Context;
use galen_core::{Digest, PartyId};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Barrier, Semaphore, watch};

/// What all hospitals of a measurement share.
pub(crate) struct Shared {
    pub(crate) scene: Scene,
    /// Everybody waits here with an encrypted contribution, if uploads are to be measured by themselves.
    pub(crate) together: Option<Barrier>,
    /// Encrypting takes a core; as many at a time as there are.
    pub(crate) cores: Semaphore,
    /// The state that followed from each round: from the one hospital that opens, for the others to report.
    pub(crate) results: watch::Sender<BTreeMap<u32, Digest>>,
    marks: Mutex<BTreeMap<(u32, Mark), Instant>>,
    /// The custodian that dies once a certificate of this round is there.
    pub(crate) doomed: Option<(PartyId, u32)>,
}

/// Moments of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mark {
    Announced,
    Collecting,
    /// The first upload began.
    Uploading,
    /// The last contribution was acknowledged; marked again with each.
    Contributed,
    Proposed,
    Endorsing,
    Certified,
    Opening,
    Published,
}

impl Shared {
    pub(crate) fn new(scene: Scene, together: bool, doomed: Option<(PartyId, u32)>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            together: together.then(|| Barrier::new(scene.keys.len())),
            cores: Semaphore::new(cores),
            results: watch::Sender::new(BTreeMap::new()),
            marks: Mutex::default(),
            doomed,
            scene,
        }
    }

    pub(crate) fn mark(&self, round: u32, mark: Mark) {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match mark {
            Mark::Contributed => *marks.entry((round, mark)).or_insert(now) = now,
            _ => {
                marks.entry((round, mark)).or_insert(now);
            }
        }
    }

    /// Time between two moments of a round.
    pub(crate) fn between(&self, round: u32, from: Mark, to: Mark) -> anyhow::Result<Duration> {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let at = |mark| {
            marks
                .get(&(round, mark))
                .with_context(|| format!("round {round} was not {mark:?}"))
        };
        Ok(at(to)?.saturating_duration_since(*at(from)?))
    }

    /// Where a hospital keeps the ciphertexts of a round.
    pub(crate) fn blob_path(&self, name: &PartyId, round: u32) -> PathBuf {
        self.scene.dir.join(format!("{name}.{round}.blob"))
    }
}
