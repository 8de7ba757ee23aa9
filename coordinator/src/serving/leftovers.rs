//! What an earlier process left among the blobs, and nobody needs any more.

use super::keys::Keys;
use super::queue::Queue;
use galen_core::{Digest, PartyId};
use galen_net::protocol::BlobKind;
use galen_store::{BlobInfo, Store, StoreError};
use std::collections::BTreeSet;

/// Deletes batches of queries that have ended, answers that no query has, and evaluation keys whose place others took. A process may end between
/// a record and the blob that follows it.
pub(super) fn delete(store: &Store, queue: &Queue, keys: &Keys) -> Result<(), StoreError> {
    let blobs = store.blobs();
    let all_blobs = blobs.list()?;
    let is_answer = |(_, info): &(Digest, BlobInfo)| info.kind == BlobKind::Answer as u16;
    // Every query on record is read for them.
    let answers = match all_blobs.iter().any(is_answer) {
        true => queue.answers()?,
        false => BTreeSet::new(),
    };
    for (digest, info) in all_blobs {
        let of = |kind: BlobKind| info.kind == kind as u16;
        let all = |gone: &dyn Fn(&PartyId) -> Result<bool, StoreError>| all_owners(&info, gone);
        let left_over = if of(BlobKind::Batch) {
            all(&|owner| queue.is_over(owner, &digest))?
        } else if of(BlobKind::EvaluationKey) {
            !queue.needs(&digest) && all(&|owner| keys.is_former(owner, &digest))?
        } else {
            of(BlobKind::Answer) && !answers.contains(&digest)
        };
        if left_over {
            blobs.delete(&digest)?;
        }
    }
    Ok(())
}

/// Whether something holds for every owner of a blob.
fn all_owners(
    info: &BlobInfo,
    holds: &dyn Fn(&PartyId) -> Result<bool, StoreError>,
) -> Result<bool, StoreError> {
    for owner in &info.owners {
        if !holds(owner)? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::super::Quotas;
    use super::super::queue::Outcome;
    use super::*;

    #[test]
    fn what_no_record_names_goes_and_everything_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let party = PartyId::new("a").unwrap();
        let put = |bytes: &[u8], kind: BlobKind| store.blobs().put_bytes(bytes, kind as u16, &party).unwrap();
        let (ended, waits) = (put(b"ended", BlobKind::Batch), put(b"waits", BlobKind::Batch));
        let unasked = put(b"unasked", BlobKind::Batch);
        let (answer, lost) = (put(b"answer", BlobKind::Answer), put(b"lost", BlobKind::Answer));
        let model = put(b"model", BlobKind::Model);
        let unknown = put(b"a key that nobody has asked about", BlobKind::EvaluationKey);
        let quotas = Quotas {
            waiting: 8,
            hourly: 0,
        };
        let mut queue = Queue::open(&store, quotas).unwrap();
        let any = Digest::of(b"model or key");
        queue.submit(&party, (any, any, ended), 1).unwrap();
        let first = queue.start().unwrap().unwrap();
        queue.finish(&first, Outcome::Answered(answer), 2).unwrap();
        queue.submit(&party, (any, any, waits), 3).unwrap();
        delete(&store, &queue, &Keys::open(&store).unwrap()).unwrap();
        let there = |digest: &Digest| store.blobs().info(digest).unwrap().is_some();
        assert!(!there(&ended) && !there(&lost));
        assert!([waits, unasked, answer, model, unknown].iter().all(there));
    }
}
