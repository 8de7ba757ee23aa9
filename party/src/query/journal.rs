//! What was sent and answered of the queries that are not finished, so that the same question goes on where it stopped.
//!
//! A batch that was submitted is asked about, not sent again: encryption is randomised, so sending its patients again would be another
//! batch. Of one that was sent and not submitted, the coordinator is told to drop what has arrived. Answers lie in the store, encrypted
//! under the hospital's key as they came, until all are there.

use crate::error::PartyError;
use galen_core::{Digest, PartyId};
use galen_store::{Repository, Store, StoreError, Table};
use serde::{Deserialize, Serialize};

const QUERIES: Table<Unfinished> = Table::new("unfinished-queries", *b"QJOB", 1);
/// Kind of the blobs of answers, the only ones in this store.
const ANSWER: u16 = 0;

/// A query that is not finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unfinished {
    /// Version of the model that is asked.
    pub(super) model: Digest,
    /// Digest of the evaluation key.
    pub(super) key: Digest,
    /// Digest of all values and names of the patients.
    pub(super) patients: Digest,
    /// When it was begun, in milliseconds since the epoch.
    pub(super) begun_ms: u64,
    /// What is known of its batches, in order; those that were not sent are missing at the end.
    pub(super) batches: Vec<Sent>,
}

/// A batch that was submitted, or was about to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sent {
    /// Its digest.
    pub(super) batch: Digest,
    /// The blob of its answer, once it is here.
    pub(super) answer: Option<Digest>,
}

/// All unfinished queries. Calls block.
#[derive(Debug)]
pub(super) struct Journal {
    store: Store,
    queries: Repository<Unfinished>,
    own: PartyId,
}

impl Journal {
    /// Opens the journal in the store of queries.
    pub(super) fn open(store: &Store, own: &PartyId) -> Result<Self, PartyError> {
        Ok(Self {
            queries: store.database().repository(&QUERIES)?,
            store: store.clone(),
            own: own.clone(),
        })
    }

    /// All of them, by their names.
    pub(super) fn all(&self) -> Result<Vec<(String, Unfinished)>, PartyError> {
        let named = |entry: Result<(Vec<u8>, Unfinished), StoreError>| {
            let (name, query) = entry?;
            Ok((String::from_utf8_lossy(&name).into_owned(), query))
        };
        self.queries.iter().map(named).collect()
    }

    /// The query that asks this, begun before or now.
    pub(super) fn begin(
        &self,
        model: Digest,
        key: Digest,
        patients: Digest,
        now_ms: u64,
    ) -> Result<(String, Unfinished), PartyError> {
        let all = self.all()?;
        let same = |q: &Unfinished| (q.model, q.key, q.patients) == (model, key, patients);
        if let Some(found) = all.iter().find(|(_, query)| same(query)) {
            return Ok(found.clone());
        }
        let last = all.last().and_then(|(name, _)| name.parse::<u64>().ok());
        let name = format!("{:012}", last.map_or(0, |last| last.saturating_add(1)));
        let query = Unfinished {
            model,
            key,
            patients,
            begun_ms: now_ms,
            batches: Vec::new(),
        };
        self.queries.put(&name, &query)?;
        Ok((name, query))
    }

    /// Notes what has changed. Durable when this returns.
    pub(super) fn note(&self, name: &str, query: &Unfinished) -> Result<(), PartyError> {
        Ok(self.queries.put(name, query)?)
    }

    /// Keeps an answer.
    pub(super) fn keep(&self, answer: &[u8]) -> Result<Digest, PartyError> {
        Ok(self.store.blobs().put_bytes(answer, ANSWER, &self.own)?)
    }

    /// An answer that was kept.
    pub(super) fn answer(&self, answer: &Digest) -> Result<Vec<u8>, PartyError> {
        Ok(self.store.blobs().read(answer)?)
    }

    /// The query is over: forgets it and its answers.
    pub(super) fn end(&self, name: &str) -> Result<(), PartyError> {
        if let Some(query) = self.queries.get(name)? {
            self.queries.delete(name)?;
            for answer in query.batches.iter().filter_map(|sent| sent.answer) {
                self.store.blobs().delete(&answer)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_question_goes_on_and_another_begins() {
        let temp = tempfile::tempdir().unwrap();
        let of = |text: &str| Digest::of(text.as_bytes());
        let open = || Journal::open(&Store::open(temp.path()).unwrap(), &testing::name("a")).unwrap();
        let (name, answer) = {
            let journal = open();
            let (name, mut query) = journal.begin(of("m"), of("k"), of("p"), 5).unwrap();
            let answer = journal.keep(b"answer").unwrap();
            query.batches.push(Sent {
                batch: of("b"),
                answer: Some(answer),
            });
            journal.note(&name, &query).unwrap();
            (name, answer)
        };
        let journal = open();
        let (again, query) = journal.begin(of("m"), of("k"), of("p"), 9).unwrap();
        assert_eq!((&again, query.begun_ms, query.batches.len()), (&name, 5, 1));
        assert_eq!(journal.answer(&answer).unwrap(), b"answer");
        for (model, key, patients) in [("x", "k", "p"), ("m", "x", "p"), ("m", "k", "x")] {
            let (other, query) = journal.begin(of(model), of(key), of(patients), 9).unwrap();
            assert!(other != name && query.batches.is_empty());
        }
        assert_eq!(journal.all().unwrap().len(), 4);
        journal.end(&name).unwrap();
        assert!(journal.answer(&answer).is_err());
        assert_eq!(journal.all().unwrap().len(), 3);
    }
}
