//! The queries that were accepted, on disk, and whose turn it is.
//!
//! Parties take turns: after one batch of a party comes the oldest batch of the next party that waits, in the order of names. So a party
//! with many batches delays another one's by at most one batch, whenever each of them came.
//!
//! In memory are the queries that wait or run, which quotas bound; those that ended are on disk and only counted here, so that neither memory nor
//! the time for a question grows with how many there were.

use galen_core::{Code, Digest, PartyId, Refusal};
use galen_net::protocol::QueryState;
use galen_store::{Database, Repository, Store, StoreError, Table};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
    database: Database,
    repository: Repository<QueryRecord>,
    /// Those that wait or run, of every party in the order of arrival.
    open: BTreeMap<PartyId, BTreeMap<u64, QueryRecord>>,
    /// How many ended, of every party.
    ended: BTreeMap<PartyId, QueryCounts>,
    /// When the batches of the last hour were accepted, of every party.
    recent: BTreeMap<PartyId, VecDeque<u64>>,
    /// Number of the next query.
    next: u64,
    running: Option<(Name, Progress)>,
    /// Who had the last turn.
    last: Option<PartyId>,
    quotas: Quotas,
}

impl Queue {
    pub(super) fn open(store: &Store, quotas: Quotas) -> Result<Self, StoreError> {
        let mut queue = Self {
            database: store.database().clone(),
            repository: store.database().repository(&QUERIES)?,
            open: BTreeMap::new(),
            ended: BTreeMap::new(),
            recent: BTreeMap::new(),
            next: 0,
            running: None,
            last: None,
            quotas,
        };
        for entry in queue.repository.iter() {
            let (_, query) = entry?;
            queue.next = queue.next.max(query.number + 1);
            let recent = queue.recent.entry(query.party.clone()).or_default();
            recent.push_back(query.accepted_ms);
            match &query.outcome {
                Some((_, outcome)) => *queue.ended_as(&query.party, outcome) += 1,
                None => queue.insert(query),
            }
        }
        for accepted in queue.recent.values_mut() {
            accepted.make_contiguous().sort_unstable();
        }
        Ok(queue)
    }

    fn insert(&mut self, query: QueryRecord) {
        let own = self.open.entry(query.party.clone()).or_default();
        own.insert(query.number, query);
    }

    /// The count of those that ended like this.
    fn ended_as(&mut self, party: &PartyId, outcome: &Outcome) -> &mut u32 {
        let counts = self.ended.entry(party.clone()).or_default();
        match outcome {
            Outcome::Answered(_) | Outcome::Fetched(_) => &mut counts.done,
            Outcome::Failed(_) => &mut counts.failed,
            Outcome::Cancelled => &mut counts.cancelled,
        }
    }

    /// Whether a party may have another batch waiting.
    pub(super) fn check_quotas(&self, party: &PartyId, now_ms: u64) -> Result<(), Refusal> {
        let waiting = self.open.get(party).map_or(0, BTreeMap::len);
        if waiting >= self.quotas.waiting as usize {
            return Err(Refusal::new(
                Code::Busy,
                format!("{waiting} queries of yours are waiting"),
            ));
        }
        if self.quotas.hourly > 0 {
            let within = |at: &&u64| at.saturating_add(HOUR_MS) > now_ms;
            let recent: Vec<u64> = self
                .recent
                .get(party)
                .into_iter()
                .flatten()
                .filter(within)
                .copied()
                .collect();
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
        let query = QueryRecord {
            number: self.next,
            party: party.clone(),
            model,
            key,
            batch,
            starts: 0,
            accepted_ms: now_ms,
            outcome: None,
        };
        self.repository
            .put(record_key(party, &batch), &query)
            .map_err(|e| e.refusal())?;
        self.next += 1;
        self.insert(query);
        let recent = self.recent.entry(party.clone()).or_default();
        while recent
            .front()
            .is_some_and(|at| at.saturating_add(HOUR_MS) <= now_ms)
        {
            recent.pop_front();
        }
        recent.push_back(now_ms);
        self.state(party, &batch)
    }

    /// A query that waits or runs.
    fn open_query(&self, party: &PartyId, batch: &Digest) -> Option<&QueryRecord> {
        self.open.get(party)?.values().find(|query| query.batch == *batch)
    }

    fn query(&self, party: &PartyId, batch: &Digest) -> Result<QueryRecord, Refusal> {
        if let Some(query) = self.open_query(party, batch) {
            return Ok(query.clone());
        }
        let ended = self
            .repository
            .get(record_key(party, batch))
            .map_err(|e| e.refusal())?;
        ended.ok_or_else(|| Refusal::new(Code::BlobUnknown, "no such query"))
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
                Some((name, progress)) if is(name, &query) => QueryState::Running {
                    done: progress.0.0.load(Ordering::Relaxed),
                    total: progress.0.1.load(Ordering::Relaxed),
                },
                _ => QueryState::Queued {
                    ahead: self.ahead(&query),
                },
            },
        })
    }

    fn runs(&self, query: &QueryRecord) -> bool {
        self.running.as_ref().is_some_and(|(name, _)| is(name, query))
    }

    /// The queries that wait, of every party in the order of arrival.
    fn waiting(&self) -> BTreeMap<&PartyId, Vec<&QueryRecord>> {
        let mut all = BTreeMap::new();
        for (party, own) in &self.open {
            let own: Vec<&QueryRecord> = own.values().filter(|query| !self.runs(query)).collect();
            if !own.is_empty() {
                all.insert(party, own);
            }
        }
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
        self.repository.put(record_key(&next.party, &next.batch), &next)?;
        self.insert(next.clone());
        self.last = Some(next.party.clone());
        self.running = Some(((next.party.clone(), next.batch), Progress::default()));
        Ok(Some(next))
    }

    pub(super) fn progress(&self, query: &QueryRecord) -> Progress {
        match &self.running {
            Some((name, progress)) if is(name, query) => progress.clone(),
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
        if self.has_ended(query) {
            return Ok(false);
        }
        self.end(query, outcome, now_ms)?;
        Ok(true)
    }

    /// Ends a query that waits or runs.
    fn end(&mut self, query: &QueryRecord, outcome: Outcome, now_ms: u64) -> Result<(), StoreError> {
        let ended = QueryRecord {
            outcome: Some((now_ms, outcome.clone())),
            ..query.clone()
        };
        self.repository
            .put(record_key(&query.party, &query.batch), &ended)?;
        if let Some(own) = self.open.get_mut(&query.party) {
            own.remove(&query.number);
            if own.is_empty() {
                self.open.remove(&query.party);
            }
        }
        *self.ended_as(&query.party, &outcome) += 1;
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
        let runs = self.runs(&query);
        if query.outcome.is_none() {
            self.end(&query, Outcome::Cancelled, now_ms)
                .map_err(|e| e.refusal())?;
        }
        Ok((self.state(party, batch)?, runs))
    }

    /// Notes that the asker has its answer; returns the answer that may be deleted.
    pub(super) fn acknowledge(&mut self, party: &PartyId, batch: &Digest) -> Result<Option<Digest>, Refusal> {
        let query = self.query(party, batch)?;
        match query.outcome {
            Some((ended_ms, Outcome::Answered(answer))) => {
                let fetched = QueryRecord {
                    outcome: Some((ended_ms, Outcome::Fetched(answer))),
                    ..query
                };
                self.repository
                    .put(record_key(party, batch), &fetched)
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

    /// All queries on record, which can be looked through while the queue is at work.
    pub(super) fn records(&self) -> Repository<QueryRecord> {
        self.repository.clone()
    }

    /// Forgets queries that have ended, as one write. One that ended otherwise meanwhile stays.
    pub(super) fn forget(&mut self, old: Vec<QueryRecord>) -> Result<Vec<QueryRecord>, StoreError> {
        let mut deletions = self.database.batch();
        let mut forgotten = Vec::with_capacity(old.len());
        for query in old {
            let key = record_key(&query.party, &query.batch);
            if self.repository.get(&key)?.as_ref() == Some(&query) {
                deletions.delete(&self.repository, key);
                forgotten.push(query);
            }
        }
        deletions.commit()?;
        for query in &forgotten {
            if let Some((_, outcome)) = &query.outcome {
                let count = self.ended_as(&query.party, outcome);
                *count = count.saturating_sub(1);
            }
        }
        self.ended.retain(|_, counts| *counts != QueryCounts::default());
        Ok(forgotten)
    }

    /// The answers that have not been fetched.
    pub(super) fn answers(&self) -> Result<BTreeSet<Digest>, StoreError> {
        let mut answers = BTreeSet::new();
        for entry in self.repository.iter() {
            if let Some((_, Outcome::Answered(answer))) = entry?.1.outcome {
                answers.insert(answer);
            }
        }
        Ok(answers)
    }

    /// Whether a query that names this batch has ended.
    pub(super) fn is_over(&self, party: &PartyId, batch: &Digest) -> Result<bool, StoreError> {
        Ok(self.open_query(party, batch).is_none() && self.names(party, batch)?)
    }

    /// Whether a query that names this batch waits or runs.
    pub(super) fn is_open(&self, party: &PartyId, batch: &Digest) -> bool {
        self.open_query(party, batch).is_some()
    }

    /// Whether a query was taken back, or ended otherwise.
    pub(super) fn has_ended(&self, query: &QueryRecord) -> bool {
        let own = self.open.get(&query.party);
        own.is_none_or(|own| !own.contains_key(&query.number))
    }

    /// Whether a query names this batch.
    pub(super) fn names(&self, party: &PartyId, batch: &Digest) -> Result<bool, StoreError> {
        if self.open_query(party, batch).is_some() {
            return Ok(true);
        }
        self.repository.contains(record_key(party, batch))
    }

    /// Whether a query that has not ended needs a model or key.
    pub(super) fn needs(&self, model_or_key: &Digest) -> bool {
        let needs = |q: &QueryRecord| q.model == *model_or_key || q.key == *model_or_key;
        self.open.values().flat_map(BTreeMap::values).any(needs)
    }

    pub(super) fn counts(&self) -> QueryCounts {
        let mut all = QueryCounts::default();
        for counts in self.counts_by_party().values() {
            all.queued += counts.queued;
            all.running += counts.running;
            all.done += counts.done;
            all.failed += counts.failed;
            all.cancelled += counts.cancelled;
        }
        all
    }

    /// The same for every party that has asked.
    pub(super) fn counts_by_party(&self) -> BTreeMap<PartyId, QueryCounts> {
        let mut all = self.ended.clone();
        for (party, own) in &self.open {
            let counts = all.entry(party.clone()).or_default();
            let running = own.values().filter(|query| self.runs(query)).count() as u32;
            counts.running += running;
            counts.queued += own.len() as u32 - running;
        }
        all
    }
}

/// The queries that ended before a time.
pub(super) fn ended_before(
    records: &Repository<QueryRecord>,
    before_ms: u64,
) -> Result<Vec<QueryRecord>, StoreError> {
    let old = |query: &QueryRecord| {
        query
            .outcome
            .as_ref()
            .is_some_and(|(ended, _)| *ended < before_ms)
    };
    let mut all = Vec::new();
    for entry in records.iter() {
        let (_, query) = entry?;
        if old(&query) {
            all.push(query);
        }
    }
    Ok(all)
}

fn is(name: &Name, query: &QueryRecord) -> bool {
    name.0 == query.party && name.1 == query.batch
}

fn record_key(party: &PartyId, batch: &Digest) -> String {
    format!("{party}/{}", batch.to_hex())
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
