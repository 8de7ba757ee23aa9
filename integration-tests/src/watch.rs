//! Waiting for a federation to get somewhere.
//!
//! What every daemon says of itself is in its `status.json`. As long as those files tell of something new, waiting goes on, however
//! long it takes; when nothing moves for a while, it fails with the last words of everybody.

use crate::federation::{COORDINATOR, home};
use galen_coordinator::status::Status as CoordinatorStatus;
use galen_core::PartyId;
use galen_party::status::Status as PartyStatus;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// What all daemons say of themselves at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The coordinator's status, once it has written one.
    pub coordinator: Option<CoordinatorStatus>,
    /// The parties' statuses.
    pub parties: BTreeMap<PartyId, PartyStatus>,
}

impl Snapshot {
    /// Reads the status files below `root`.
    pub(crate) fn read<'a>(root: &Path, parties: impl Iterator<Item = &'a PartyId>) -> Self {
        let parties = parties.filter_map(|name| Some((name.clone(), read(&home(root, name.as_str()))?)));
        Self {
            coordinator: read(&home(root, COORDINATOR)),
            parties: parties.collect(),
        }
    }

    /// The same without what changes by itself: times, memory, keep-alive bytes.
    pub(crate) fn essence(&self) -> Self {
        let mut essence = self.clone();
        if let Some(status) = &mut essence.coordinator {
            (status.updated_ms, status.peak_rss_bytes) = (0, None);
            status.traffic.clear();
        }
        for status in essence.parties.values_mut() {
            (status.updated_ms, status.peak_rss_bytes) = (0, None);
            status.traffic.clear();
        }
        essence
    }

    /// Number of rounds whose sums are open.
    pub fn published(&self) -> usize {
        self.coordinator
            .as_ref()
            .map_or(0, |status| status.published.len())
    }

    /// Whether a model is served.
    pub fn serves(&self) -> bool {
        self.coordinator
            .as_ref()
            .is_some_and(|status| status.serving.is_some())
    }

    /// Why the study is over, if it is, and whether all its steps were done.
    pub fn closed(&self) -> Option<(bool, &str)> {
        let closed = self.coordinator.as_ref()?.closed.as_ref()?;
        Some((closed.completed, &closed.reason))
    }

    /// The state of everybody, for an error message.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        match &self.coordinator {
            Some(status) => {
                let awaiting = status.attempt.iter().flat_map(|attempt| &attempt.awaiting);
                let awaiting: Vec<_> = awaiting.map(PartyId::as_str).collect();
                let _ = writeln!(
                    text,
                    "  coordinator: {}; waits for [{}]",
                    status.phase,
                    awaiting.join(", ")
                );
            }
            None => text.push_str("  coordinator: no status\n"),
        }
        for (name, status) in &self.parties {
            let _ = writeln!(
                text,
                "  {name}: {}, {} rounds opened",
                status.phase, status.applied
            );
            if let Some(trouble) = &status.error {
                let _ = writeln!(text, "    {}: {}", trouble.code, trouble.message);
            }
        }
        text
    }
}

/// A status file; `None` while there is none. It is replaced in one step, so it is never half written.
fn read<T: DeserializeOwned>(home: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(home.join("status.json")).ok()?).ok()
}
