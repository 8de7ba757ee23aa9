//! The queries that were accepted, in order, on disk.

use galen_core::{Code, Digest, PartyId, Refusal};
use galen_net::protocol::QueryState;
use galen_store::{Repository, Store, StoreError, Table};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const QUERIES: Table<QueryRecord> = Table::new("queries", *b"QURY", 1);

/// A query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryRecord {
    /// Place in the order of arrival.
    pub number: u64,
    /// Who asks.
    pub party: PartyId,
    /// Model asked.
    pub model: Digest,
    /// Evaluation key blob.
    pub key: Digest,
    /// Batch blob; names the query.
    pub batch: Digest,
    /// How often its evaluation was started.
    pub starts: u32,
    /// How it ended; `None` while it waits or runs.
    pub outcome: Option<Result<Digest, Refusal>>,
}

/// Queries by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryCounts {
    /// Waiting.
    pub queued: u32,
    /// Being evaluated.
    pub running: u32,
    /// Answered.
    pub done: u32,
    /// Failed.
    pub failed: u32,
}

/// Steps done of the query that runs.
#[derive(Clone, Default)]
pub struct Progress(Arc<(AtomicU32, AtomicU32)>);

impl Progress {
    /// Takes note of progress.
    pub fn set(&self, done: u32, total: u32) {
        self.0.0.store(done, Ordering::Relaxed);
        self.0.1.store(total, Ordering::Relaxed);
    }
}

type Name = (PartyId, Digest);

pub(super) struct Queue {
    repository: Repository<QueryRecord>,
    queries: BTreeMap<Name, QueryRecord>,
    running: Option<(Name, Progress)>,
    max_waiting: u32,
}

impl Queue {
    pub(super) fn open(store: &Store, max_waiting: u32) -> Result<Self, StoreError> {
        let repository = store.database().repository(&QUERIES)?;
        let mut queries = BTreeMap::new();
        for entry in repository.iter() {
            let (_, query) = entry?;
            queries.insert((query.party.clone(), query.batch), query);
        }
        Ok(Self {
            repository,
            queries,
            running: None,
            max_waiting,
        })
    }

    pub(super) fn submit(
        &mut self,
        party: &PartyId,
        model: Digest,
        key: Digest,
        batch: Digest,
    ) -> Result<QueryState, Refusal> {
        let waiting = self
            .queries
            .values()
            .filter(|q| q.outcome.is_none() && &q.party == party)
            .count();
        if waiting >= self.max_waiting as usize {
            return Err(Refusal::new(
                Code::Busy,
                format!("{waiting} queries of yours are waiting"),
            ));
        }
        let number = self.queries.values().map(|q| q.number + 1).max().unwrap_or(0);
        let query = QueryRecord {
            number,
            party: party.clone(),
            model,
            key,
            batch,
            starts: 0,
            outcome: None,
        };
        self.repository
            .put(record_key(&query), &query)
            .map_err(|e| e.refusal())?;
        self.queries.insert((party.clone(), batch), query);
        self.state(party, &batch)
    }

    pub(super) fn state(&self, party: &PartyId, batch: &Digest) -> Result<QueryState, Refusal> {
        let name = (party.clone(), *batch);
        let query = self
            .queries
            .get(&name)
            .ok_or_else(|| Refusal::new(Code::BlobUnknown, "no such query"))?;
        Ok(match &query.outcome {
            Some(Ok(answer)) => QueryState::Done { answer: *answer },
            Some(Err(refusal)) => QueryState::Failed(refusal.clone()),
            None => match &self.running {
                Some((running, progress)) if *running == name => QueryState::Running {
                    done: progress.0.0.load(Ordering::Relaxed),
                    total: progress.0.1.load(Ordering::Relaxed),
                },
                _ => {
                    let ahead = self
                        .queries
                        .values()
                        .filter(|q| q.outcome.is_none() && q.number < query.number)
                        .count();
                    QueryState::Queued { ahead: ahead as u32 }
                }
            },
        })
    }

    /// The oldest waiting query, which runs from now on; that it was started is on disk. After a restart, what ran before waits again.
    pub(super) fn start(&mut self) -> Result<Option<QueryRecord>, StoreError> {
        let oldest = self
            .queries
            .values()
            .filter(|q| q.outcome.is_none())
            .min_by_key(|q| q.number);
        let Some(oldest) = oldest else { return Ok(None) };
        let next = QueryRecord {
            starts: oldest.starts + 1,
            ..oldest.clone()
        };
        self.repository.put(record_key(&next), &next)?;
        let name = (next.party.clone(), next.batch);
        self.queries.insert(name.clone(), next.clone());
        self.running = Some((name, Progress::default()));
        Ok(Some(next))
    }

    /// The batches of queries that have ended.
    pub(super) fn ended(&self) -> Vec<Digest> {
        self.queries
            .values()
            .filter(|q| q.outcome.is_some())
            .map(|q| q.batch)
            .collect()
    }

    pub(super) fn progress(&self, query: &QueryRecord) -> Progress {
        match &self.running {
            Some(((party, batch), progress)) if *party == query.party && *batch == query.batch => {
                progress.clone()
            }
            _ => Progress::default(),
        }
    }

    pub(super) fn finish(
        &mut self,
        query: &QueryRecord,
        outcome: Result<Digest, Refusal>,
    ) -> Result<(), StoreError> {
        let done = QueryRecord {
            outcome: Some(outcome),
            ..query.clone()
        };
        self.repository.put(record_key(&done), &done)?;
        self.queries.insert((done.party.clone(), done.batch), done);
        self.running = None;
        Ok(())
    }

    pub(super) fn counts(&self) -> QueryCounts {
        let mut counts = QueryCounts {
            running: self.running.is_some().into(),
            ..QueryCounts::default()
        };
        for query in self.queries.values() {
            match &query.outcome {
                None => counts.queued += 1,
                Some(Ok(_)) => counts.done += 1,
                Some(Err(_)) => counts.failed += 1,
            }
        }
        counts.queued = counts.queued.saturating_sub(counts.running);
        counts
    }
}

fn record_key(query: &QueryRecord) -> String {
    format!("{}/{}", query.party, query.batch.to_hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(name: &str) -> PartyId {
        PartyId::new(name).unwrap()
    }

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn submit(queue: &mut Queue, name: &str, batch: &str) -> Result<QueryState, Refusal> {
        queue.submit(&party(name), digest("model"), digest("key"), digest(batch))
    }

    #[test]
    fn queries_run_in_order_and_only_their_asker_sees_them() {
        let dir = tempfile::tempdir().unwrap();
        let mut queue = Queue::open(&Store::open(dir.path()).unwrap(), 8).unwrap();
        assert_eq!(
            submit(&mut queue, "b", "first").unwrap(),
            QueryState::Queued { ahead: 0 }
        );
        assert_eq!(
            submit(&mut queue, "a", "second").unwrap(),
            QueryState::Queued { ahead: 1 }
        );
        let running = queue.start().unwrap().unwrap();
        assert_eq!(
            (running.party.clone(), running.batch),
            (party("b"), digest("first"))
        );
        queue.progress(&running).set(3, 10);
        let state = queue.state(&party("b"), &digest("first")).unwrap();
        assert_eq!(state, QueryState::Running { done: 3, total: 10 });
        assert_eq!(
            queue.state(&party("a"), &digest("first")).unwrap_err().code,
            Code::BlobUnknown
        );
        queue.finish(&running, Ok(digest("answer"))).unwrap();
        let state = queue.state(&party("b"), &digest("first")).unwrap();
        assert_eq!(
            state,
            QueryState::Done {
                answer: digest("answer")
            }
        );
        let refusal = Refusal::new(Code::BadQuery, "not a batch");
        let second = queue.start().unwrap().unwrap();
        queue.finish(&second, Err(refusal.clone())).unwrap();
        assert_eq!(
            queue.state(&party("a"), &digest("second")).unwrap(),
            QueryState::Failed(refusal)
        );
        assert_eq!(
            queue.counts(),
            QueryCounts {
                queued: 0,
                running: 0,
                done: 1,
                failed: 1
            }
        );
        assert!(queue.start().unwrap().is_none());
    }

    #[test]
    fn a_party_may_not_fill_the_queue() {
        let dir = tempfile::tempdir().unwrap();
        let mut queue = Queue::open(&Store::open(dir.path()).unwrap(), 2).unwrap();
        submit(&mut queue, "a", "1").unwrap();
        submit(&mut queue, "a", "2").unwrap();
        assert_eq!(submit(&mut queue, "a", "3").unwrap_err().code, Code::Busy);
        submit(&mut queue, "b", "3").unwrap();
        let first = queue.start().unwrap().unwrap();
        queue.finish(&first, Ok(digest("answer"))).unwrap();
        submit(&mut queue, "a", "3").unwrap();
    }

    #[test]
    fn what_ran_when_the_process_ended_waits_again_and_what_ended_stays() {
        let dir = tempfile::tempdir().unwrap();
        {
            let mut queue = Queue::open(&Store::open(dir.path()).unwrap(), 8).unwrap();
            submit(&mut queue, "a", "1").unwrap();
            submit(&mut queue, "a", "2").unwrap();
            let first = queue.start().unwrap().unwrap();
            queue.finish(&first, Ok(digest("answer"))).unwrap();
            assert!(queue.start().unwrap().is_some());
        }
        let mut queue = Queue::open(&Store::open(dir.path()).unwrap(), 8).unwrap();
        assert_eq!(
            queue.counts(),
            QueryCounts {
                queued: 1,
                running: 0,
                done: 1,
                failed: 0
            }
        );
        let again = queue.start().unwrap().unwrap();
        assert_eq!(
            (again.batch, again.starts),
            (digest("2"), 2),
            "that it ran before is known"
        );
    }
}
