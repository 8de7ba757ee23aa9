//! The queries that were accepted, on disk, and whose turn it is.
//!
//! Parties take turns: after one batch of a party comes the oldest batch of the next party that waits, in the order of names. So a party
//! with many batches delays another one's by at most one batch, whenever each of them came.

use galen_core::{Code, Digest, PartyId, Refusal};
use galen_net::protocol::QueryState;
use galen_store::{Repository, Store, StoreError, Table};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const QUERIES: Table<QueryRecord> = Table::new("batches", *b"BTCH", 1);
/// The time over which batches are counted for a quota.
const HOUR_MS: u64 = 3_600_000;

/// A query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryRecord {
    /// Place in the order of arrival.
    pub number: u64,
    /// Who asks.
    pub party: PartyId,
    /// Version of the model asked.
    pub model: Digest,
    /// Evaluation key blob.
    pub key: Digest,
    /// Batch blob; names the query.
    pub batch: Digest,
    /// How often its evaluation was started.
    pub starts: u32,
    /// When it was accepted, in milliseconds since the epoch.
    pub accepted_ms: u64,
    /// When and how it ended; `None` while it waits or runs.
    pub outcome: Option<(u64, Outcome)>,
}

/// How a query ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// With the answer blob.
    Answered(Digest),
    /// The asker has the answer; it is deleted.
    Fetched(Digest),
    /// It was refused, or could not be evaluated.
    Failed(Refusal),
    /// It was taken back.
    Cancelled,
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
    /// Taken back.
    pub cancelled: u32,
}

/// What parties may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Most batches of a party that wait or run.
    pub waiting: u32,
    /// Most batches of a party in an hour; 0 for no limit.
    pub hourly: u32,
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
    /// Who had the last turn.
    last: Option<PartyId>,
    quotas: Quotas,
}

impl Queue {
    pub(super) fn open(store: &Store, quotas: Quotas) -> Result<Self, StoreError> {
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
            last: None,
            quotas,
        })
    }

    /// Whether a party may have another batch waiting.
    pub(super) fn check_quotas(&self, party: &PartyId, now_ms: u64) -> Result<(), Refusal> {
        let own = || self.queries.values().filter(|q| &q.party == party);
        let waiting = own().filter(|q| q.outcome.is_none()).count();
        if waiting >= self.quotas.waiting as usize {
            return Err(Refusal::new(
                Code::Busy,
                format!("{waiting} queries of yours are waiting"),
            ));
        }
        if self.quotas.hourly > 0 {
            let mut recent: Vec<u64> = own()
                .map(|q| q.accepted_ms)
                .filter(|&at| at.saturating_add(HOUR_MS) > now_ms)
                .collect();
            recent.sort_unstable();
            if let Some(surplus) = recent.len().checked_sub(self.quotas.hourly as usize)
                && let Some(first) = recent.get(surplus)
            {
                let wait = first
                    .saturating_add(HOUR_MS)
                    .saturating_sub(now_ms)
                    .div_ceil(1000);
                return Err(Refusal::new(
                    Code::OverQuota,
                    format!(
                        "{} batches in an hour are allowed; the next one in {wait} s",
                        self.quotas.hourly
                    ),
                ));
            }
        }
        Ok(())
    }

    pub(super) fn submit(
        &mut self,
        party: &PartyId,
        (model, key, batch): (Digest, Digest, Digest),
        now_ms: u64,
    ) -> Result<QueryState, Refusal> {
        self.check_quotas(party, now_ms)?;
        let number = self.queries.values().map(|q| q.number + 1).max().unwrap_or(0);
        let query = QueryRecord {
            number,
            party: party.clone(),
            model,
            key,
            batch,
            starts: 0,
            accepted_ms: now_ms,
            outcome: None,
        };
        self.repository
            .put(record_key(&query), &query)
            .map_err(|e| e.refusal())?;
        self.queries.insert((party.clone(), batch), query);
        self.state(party, &batch)
    }

    fn query(&self, party: &PartyId, batch: &Digest) -> Result<&QueryRecord, Refusal> {
        self.queries
            .get(&(party.clone(), *batch))
            .ok_or_else(|| Refusal::new(Code::BlobUnknown, "no such query"))
    }

    pub(super) fn state(&self, party: &PartyId, batch: &Digest) -> Result<QueryState, Refusal> {
        let query = self.query(party, batch)?;
        Ok(match &query.outcome {
            Some((_, Outcome::Answered(answer) | Outcome::Fetched(answer))) => {
                QueryState::Done { answer: *answer }
            }
            Some((_, Outcome::Failed(refusal))) => QueryState::Failed(refusal.clone()),
            Some((_, Outcome::Cancelled)) => QueryState::Cancelled,
            None => match &self.running {
                Some((name, progress)) if self.is(name, query) => QueryState::Running {
                    done: progress.0.0.load(Ordering::Relaxed),
                    total: progress.0.1.load(Ordering::Relaxed),
                },
                _ => QueryState::Queued {
                    ahead: self.ahead(query),
                },
            },
        })
    }

    fn is(&self, name: &Name, query: &QueryRecord) -> bool {
        name.0 == query.party && name.1 == query.batch
    }

    /// The queries that wait, of every party in the order of arrival.
    fn waiting(&self) -> BTreeMap<&PartyId, Vec<&QueryRecord>> {
        let runs = |q: &QueryRecord| self.running.as_ref().is_some_and(|(name, _)| self.is(name, q));
        let mut all: BTreeMap<&PartyId, Vec<&QueryRecord>> = BTreeMap::new();
        for query in self.queries.values().filter(|q| q.outcome.is_none() && !runs(q)) {
            all.entry(&query.party).or_default().push(query);
        }
        all.values_mut().for_each(|own| own.sort_by_key(|q| q.number));
        all
    }

    /// The parties that wait, in the order of their turns.
    fn turns<'a>(&self, waiting: &BTreeMap<&'a PartyId, Vec<&QueryRecord>>) -> Vec<&'a PartyId> {
        let (mut after, mut before) = (Vec::new(), Vec::new());
        for party in waiting.keys() {
            if self.last.as_ref().is_some_and(|last| *party <= last) {
                before.push(*party);
            } else {
                after.push(*party);
            }
        }
        after.extend(before);
        after
    }

    /// How many queries are evaluated before one that waits, if no others come.
    fn ahead(&self, query: &QueryRecord) -> u32 {
        let waiting = self.waiting();
        let turns = self.turns(&waiting);
        let place = |of: &PartyId| turns.iter().position(|party| *party == of);
        let own = waiting
            .get(&query.party)
            .map_or(0, |own| own.iter().filter(|q| q.number < query.number).count());
        let mine = place(&query.party);
        let others: usize = waiting
            .iter()
            .filter(|(party, _)| **party != &query.party)
            .map(|(party, theirs)| {
                let rounds = own + usize::from(place(party) < mine);
                theirs.len().min(rounds)
            })
            .sum();
        (own + others + usize::from(self.running.is_some())) as u32
    }

    /// The waiting query whose turn it is, which runs from now on; that it was started is on disk. After a restart, what ran before waits
    /// again.
    pub(super) fn start(&mut self) -> Result<Option<QueryRecord>, StoreError> {
        let waiting = self.waiting();
        let next = self.turns(&waiting).first().and_then(|party| {
            let oldest = waiting.get(*party)?.first()?;
            Some(QueryRecord {
                starts: oldest.starts + 1,
                ..(*oldest).clone()
            })
        });
        let Some(next) = next else { return Ok(None) };
        self.repository.put(record_key(&next), &next)?;
        let name = (next.party.clone(), next.batch);
        self.queries.insert(name.clone(), next.clone());
        self.last = Some(next.party.clone());
        self.running = Some((name, Progress::default()));
        Ok(Some(next))
    }

    pub(super) fn progress(&self, query: &QueryRecord) -> Progress {
        match &self.running {
            Some((name, progress)) if self.is(name, query) => progress.clone(),
            _ => Progress::default(),
        }
    }

    /// Ends the query that runs; false if it was taken back meanwhile, and the outcome means nothing.
    pub(super) fn finish(
        &mut self,
        query: &QueryRecord,
        outcome: Outcome,
        now_ms: u64,
    ) -> Result<bool, StoreError> {
        self.running = None;
        let known = self.queries.get(&(query.party.clone(), query.batch));
        if known.is_none_or(|known| known.outcome.is_some()) {
            return Ok(false);
        }
        self.end(&query.party, &query.batch, outcome, now_ms)?;
        Ok(true)
    }

    fn end(
        &mut self,
        party: &PartyId,
        batch: &Digest,
        outcome: Outcome,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        if let Some(query) = self.queries.get_mut(&(party.clone(), *batch)) {
            let ended = QueryRecord {
                outcome: Some((now_ms, outcome)),
                ..query.clone()
            };
            self.repository.put(record_key(&ended), &ended)?;
            *query = ended;
        }
        Ok(())
    }

    /// Takes a query back; one that has ended stays as it is. Tells whether it runs at this moment.
    pub(super) fn cancel(
        &mut self,
        party: &PartyId,
        batch: &Digest,
        now_ms: u64,
    ) -> Result<(QueryState, bool), Refusal> {
        let query = self.query(party, batch)?;
        let runs = self
            .running
            .as_ref()
            .is_some_and(|(name, _)| self.is(name, query));
        if query.outcome.is_none() {
            self.end(party, batch, Outcome::Cancelled, now_ms)
                .map_err(|e| e.refusal())?;
        }
        Ok((self.state(party, batch)?, runs))
    }

    /// Notes that the asker has its answer; returns the answer that may be deleted.
    pub(super) fn acknowledge(&mut self, party: &PartyId, batch: &Digest) -> Result<Option<Digest>, Refusal> {
        let query = self.query(party, batch)?;
        match query.outcome {
            Some((ended_ms, Outcome::Answered(answer))) => {
                self.end(party, batch, Outcome::Fetched(answer), ended_ms)
                    .map_err(|e| e.refusal())?;
                Ok(Some(answer))
            }
            Some((_, Outcome::Fetched(_))) => Ok(None),
            _ => Err(Refusal::new(
                Code::WrongPhase,
                "there is no answer to this query that could be acknowledged",
            )),
        }
    }

    /// Forgets what ended before a time; returns it.
    pub(super) fn forget(&mut self, before_ms: u64) -> Result<Vec<QueryRecord>, StoreError> {
        let old: Vec<QueryRecord> = self
            .queries
            .values()
            .filter(|q| q.outcome.as_ref().is_some_and(|(ended, _)| *ended < before_ms))
            .cloned()
            .collect();
        for query in &old {
            self.repository.delete(record_key(query))?;
            self.queries.remove(&(query.party.clone(), query.batch));
        }
        Ok(old)
    }

    /// The batches of queries that have ended.
    pub(super) fn ended(&self) -> Vec<Digest> {
        let ended = self.queries.values().filter(|q| q.outcome.is_some());
        ended.map(|q| q.batch).collect()
    }

    /// Whether a query was taken back, or ended otherwise.
    pub(super) fn has_ended(&self, query: &QueryRecord) -> bool {
        let known = self.queries.get(&(query.party.clone(), query.batch));
        known.is_none_or(|known| known.outcome.is_some())
    }

    /// Whether a query names this batch.
    pub(super) fn names(&self, party: &PartyId, batch: &Digest) -> bool {
        self.queries.contains_key(&(party.clone(), *batch))
    }

    /// Whether a query that has not ended needs a model or key.
    pub(super) fn needs(&self, model_or_key: &Digest) -> bool {
        let needs = |q: &QueryRecord| q.model == *model_or_key || q.key == *model_or_key;
        self.queries.values().any(|q| q.outcome.is_none() && needs(q))
    }

    pub(super) fn counts(&self) -> QueryCounts {
        self.count(|_| true)
    }

    /// The same for every party that has asked.
    pub(super) fn counts_by_party(&self) -> BTreeMap<PartyId, QueryCounts> {
        let mut parties: Vec<&PartyId> = self.queries.keys().map(|(party, _)| party).collect();
        parties.dedup();
        let of = |party: &PartyId| (party.clone(), self.count(|q| q.party == *party));
        parties.into_iter().map(of).collect()
    }

    fn count(&self, of: impl Fn(&QueryRecord) -> bool) -> QueryCounts {
        let mut counts = QueryCounts::default();
        for query in self.queries.values().filter(|q| of(q)) {
            let runs = self
                .running
                .as_ref()
                .is_some_and(|(name, _)| self.is(name, query));
            match &query.outcome {
                None if runs => counts.running += 1,
                None => counts.queued += 1,
                Some((_, Outcome::Answered(_) | Outcome::Fetched(_))) => counts.done += 1,
                Some((_, Outcome::Failed(_))) => counts.failed += 1,
                Some((_, Outcome::Cancelled)) => counts.cancelled += 1,
            }
        }
        counts
    }
}

fn record_key(query: &QueryRecord) -> String {
    format!("{}/{}", query.party, query.batch.to_hex())
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
