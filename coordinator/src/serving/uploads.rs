//! Batches that have arrived, or begun to, and that no query names: bounded for each party, and deleted after a time.

use super::queue::Queue;
use galen_core::{Code, Digest, PartyId, Refusal};
use galen_net::protocol::BlobKind;
use galen_store::{BlobStore, Store, StoreError};
use std::collections::BTreeMap;

/// What was seen of them, with the time at which it was first seen, in milliseconds since the epoch.
pub(super) struct Uploads(BTreeMap<(PartyId, Digest), u64>);

impl Uploads {
    /// What lies in the store.
    pub(super) fn open(store: &Store, queue: &Queue, now_ms: u64) -> Result<Self, StoreError> {
        let mut seen = BTreeMap::new();
        for (digest, info) in store.blobs().list()? {
            if info.kind != BlobKind::Batch as u16 {
                continue;
            }
            for owner in &info.owners {
                if !queue.names(owner, &digest)? {
                    seen.insert((owner.clone(), digest), now_ms);
                }
            }
        }
        Ok(Self(seen))
    }

    /// Takes note of an upload, unless the party has too many.
    pub(super) fn admit(
        &mut self,
        party: &PartyId,
        batch: &Digest,
        most: u32,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        let name = (party.clone(), *batch);
        if self.0.contains_key(&name) {
            return Ok(());
        }
        let own = self.0.keys().filter(|(owner, _)| owner == party).count();
        if own >= most as usize {
            return Err(Refusal::new(
                Code::Busy,
                format!("{own} batches of yours have arrived without a query"),
            ));
        }
        self.0.insert(name, now_ms);
        Ok(())
    }

    /// A query names the batch now.
    pub(super) fn attached(&mut self, party: &PartyId, batch: &Digest) {
        self.0.remove(&(party.clone(), *batch));
    }

    /// Deletes what was first seen before a time.
    pub(super) fn sweep(&mut self, blobs: &BlobStore, before_ms: u64) -> Result<(), StoreError> {
        let old = self.0.iter().filter(|(_, seen)| **seen < before_ms);
        let old: Vec<(PartyId, Digest)> = old.map(|(name, _)| name.clone()).collect();
        for (party, batch) in old {
            if blobs.info(&batch)?.is_some_and(|info| info.has_owner(&party)) {
                blobs.delete(&batch)?;
            } else if blobs.partials()?.contains(&(batch, party.clone())) {
                blobs.discard_partial(&batch, &party)?;
            }
            self.0.remove(&(party, batch));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::Quotas;

    #[test]
    fn batches_without_a_query_are_few_and_go_after_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let quotas = Quotas {
            waiting: 8,
            hourly: 0,
        };
        let (a, b) = (PartyId::new("a").unwrap(), PartyId::new("b").unwrap());
        let put = |bytes: &[u8], owner| store.blobs().put_bytes(bytes, BlobKind::Batch as u16, owner);
        let mut queue = Queue::open(&store, quotas).unwrap();
        let (left, asked) = (put(b"left", &a).unwrap(), put(b"asked", &a).unwrap());
        queue.submit(&a, (left, left, asked), 1).unwrap();
        let mut uploads = Uploads::open(&store, &queue, 10).unwrap();
        // One is left over from before.
        let second = Digest::of(b"second");
        uploads.admit(&a, &second, 2, 20).unwrap();
        uploads.admit(&a, &second, 2, 21).unwrap();
        assert_eq!(
            uploads.admit(&a, &Digest::of(b"third"), 2, 22).unwrap_err().code,
            Code::Busy
        );
        uploads.admit(&b, &Digest::of(b"third"), 2, 22).unwrap();
        uploads.attached(&a, &second);
        uploads.admit(&a, &Digest::of(b"third"), 2, 23).unwrap();
        uploads.sweep(store.blobs(), 11).unwrap();
        assert!(store.blobs().info(&left).unwrap().is_none());
        assert!(store.blobs().info(&asked).unwrap().is_some());
    }
}
