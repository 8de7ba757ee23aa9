//! Batches and evaluation keys that have arrived, or begun to, and that nobody has named: bounded for each party, and deleted after a time.

use super::keys::Keys;
use super::queue::Queue;
use galen_core::{Code, Digest, PartyId, Refusal};
use galen_net::protocol::BlobKind;
use galen_store::{BlobStore, Partial, Store, StoreError};
use std::collections::BTreeMap;

/// What was seen of them, with the time at which it was first seen, in milliseconds since the epoch.
pub(super) struct Uploads(BTreeMap<(PartyId, Digest), u64>);

impl Uploads {
    /// What lies in the store.
    pub(super) fn open(store: &Store, queue: &Queue, keys: &Keys, now_ms: u64) -> Result<Self, StoreError> {
        let (batch, key) = (BlobKind::Batch as u16, BlobKind::EvaluationKey as u16);
        let mut seen = BTreeMap::new();
        for (digest, info) in store.blobs().list()? {
            for owner in &info.owners {
                let unnamed = (info.kind == batch && !queue.names(owner, &digest)?)
                    || (info.kind == key && !keys.knows(owner, &digest)?);
                if unnamed {
                    seen.insert((owner.clone(), digest), now_ms);
                }
            }
        }
        for partial in store.blobs().partials()? {
            if [batch, key].contains(&partial.kind) {
                seen.insert((partial.owner, partial.digest), now_ms);
            }
        }
        Ok(Self(seen))
    }

    /// Takes note of an upload, unless the party has too many.
    pub(super) fn admit(
        &mut self,
        party: &PartyId,
        upload: &Digest,
        most: u32,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        let name = (party.clone(), *upload);
        if self.0.contains_key(&name) {
            return Ok(());
        }
        let own = self.0.keys().filter(|(owner, _)| owner == party).count();
        if own >= most as usize {
            return Err(Refusal::new(
                Code::Busy,
                format!("{own} uploads of yours wait for a query"),
            ));
        }
        self.0.insert(name, now_ms);
        Ok(())
    }

    /// A query names the batch now, or the key is registered.
    pub(super) fn attached(&mut self, party: &PartyId, upload: &Digest) {
        self.0.remove(&(party.clone(), *upload));
    }

    /// Deletes one that its party takes back; false if there is none.
    pub(super) fn withdraw(
        &mut self,
        blobs: &BlobStore,
        party: &PartyId,
        upload: &Digest,
    ) -> Result<bool, StoreError> {
        let there = self.0.remove(&(party.clone(), *upload)).is_some();
        if there {
            delete(blobs, party, upload)?;
        }
        Ok(there)
    }

    /// Deletes what was first seen before a time.
    pub(super) fn sweep(&mut self, blobs: &BlobStore, before_ms: u64) -> Result<(), StoreError> {
        let old = self.0.iter().filter(|(_, seen)| **seen < before_ms);
        let old: Vec<(PartyId, Digest)> = old.map(|(name, _)| name.clone()).collect();
        for (party, upload) in old {
            delete(blobs, &party, &upload)?;
            self.0.remove(&(party, upload));
        }
        Ok(())
    }
}

/// Deletes what has arrived of an upload.
fn delete(blobs: &BlobStore, party: &PartyId, upload: &Digest) -> Result<(), StoreError> {
    if blobs.info(upload)?.is_some_and(|info| info.has_owner(party)) {
        return blobs.delete(upload);
    }
    let of = |partial: &Partial| partial.digest == *upload && partial.owner == *party;
    match blobs.partials()?.into_iter().find(of) {
        Some(partial) => blobs.discard_partial(&partial),
        None => Ok(()),
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
        let begun = Digest::of(b"begun");
        let mut writer = store.blobs().begin(&begun, BlobKind::Batch as u16, &b).unwrap();
        writer.append(b"beg").unwrap();
        drop(writer);
        let keys = Keys::open(&store).unwrap();
        let mut uploads = Uploads::open(&store, &queue, &keys, 10).unwrap();
        // One is left over from before, and one has begun.
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
        assert!(uploads.withdraw(store.blobs(), &b, &begun).unwrap());
        assert!(!uploads.withdraw(store.blobs(), &b, &begun).unwrap());
        assert!(store.blobs().partials().unwrap().is_empty());
        uploads.sweep(store.blobs(), 11).unwrap();
        assert!(store.blobs().info(&left).unwrap().is_none());
        assert!(store.blobs().info(&asked).unwrap().is_some());
    }
}
