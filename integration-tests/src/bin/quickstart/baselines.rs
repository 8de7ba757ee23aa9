//! What the federation is compared with, computed on plain data in this process while the daemons work.

use anyhow::anyhow;
use galen_core::PartyId;
use galen_core::study::Study;
use galen_integration_tests::oracle::Recomputed;
use galen_training::Device;
use galen_training::baseline::{self, Hospital};
use std::collections::BTreeMap;
use std::thread::JoinHandle;

/// Results on plain data.
pub(crate) struct Baselines {
    /// Each hospital's own model on everybody's held-out patients; `None` if those are all of one class.
    pub(crate) alone: BTreeMap<PartyId, Option<f64>>,
    /// Training on all patients in one place.
    pub(crate) pooled: Option<f64>,
    /// What every encrypted sum must be.
    pub(crate) recomputed: Recomputed,
}

/// Starts computing.
pub(crate) fn start(study: Study, hospitals: Vec<Hospital>) -> JoinHandle<anyhow::Result<Baselines>> {
    std::thread::spawn(move || {
        // The daemons come first; on Linux this concerns the calling thread alone.
        #[cfg(target_os = "linux")]
        let _ = rustix::process::nice(10);
        let device = Device::by_name("cpu")?;
        let recomputed = Recomputed::of_all(&study, &hospitals)?;
        let mut alone = BTreeMap::new();
        for hospital in &hospitals {
            let trained = baseline::alone(&study, &device, hospital)?;
            alone.insert(hospital.name.clone(), trained.auc(&hospitals)?);
        }
        let pooled = baseline::pooled(&study, &device, &hospitals)?.auc(&hospitals)?;
        Ok(Baselines {
            alone,
            pooled,
            recomputed,
        })
    })
}

/// Waits for the result.
pub(crate) fn join(thread: JoinHandle<anyhow::Result<Baselines>>) -> anyhow::Result<Baselines> {
    thread
        .join()
        .map_err(|_| anyhow!("computing the baselines panicked"))?
}
