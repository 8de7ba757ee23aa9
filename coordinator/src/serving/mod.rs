//! Encrypted queries: the served model, and a queue of batches that outlives a restart.
//!
//! The coordinator learns who asks, when, under which key, and how large the batch is; inputs and answers stay encrypted under the
//! querier's own key. `served` holds the compiled program, `queue` the persisted queries, and this file joins them.

mod queue;
mod served;

pub use queue::{Progress, QueryCounts, QueryRecord};

use crate::rounds::engine::{Engine, EngineError};
use galen_core::{Code, Digest, PartyId, Refusal, faults};
use galen_net::protocol::{BlobKind, KeyState, QueryState, Serving};
use galen_store::StoreError;
use queue::Queue;
use served::Served;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// How often a query may be started: a restart of the coordinator is not its fault, again and again is.
const MAX_STARTS: u32 = 3;

/// Why the service itself cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// Reading or writing failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The rounds' engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The released model cannot be served.
    #[error("the released model {model} cannot be served: {reason}")]
    Model {
        /// Its digest.
        model: Digest,
        /// Why.
        reason: String,
    },
}

/// The query service of a study.
pub struct Service {
    engine: Arc<Engine>,
    served: Mutex<Option<Arc<Served>>>,
    queue: Mutex<Queue>,
    wake: Notify,
}

impl Service {
    /// Opens the service; if a model was served before, it is served again.
    pub fn open(engine: &Arc<Engine>, max_waiting: u32) -> Result<Self, ServiceError> {
        let queue = Queue::open(engine.store(), max_waiting)?;
        let service = Self {
            engine: Arc::clone(engine),
            served: Mutex::default(),
            queue: Mutex::new(queue),
            wake: Notify::new(),
        };
        for query in service.queue().ended() {
            // The process may have ended between recording the outcome and deleting the batch.
            engine.store().blobs().delete(&query)?;
        }
        if let Some(model) = engine.state().serving
            && let Err(error) = service.load(model)
        {
            // Receivers that were away still catch up; only queries are refused.
            tracing::error!(%error, "queries cannot be served");
        }
        Ok(service)
    }

    /// Starts serving a model whose blob is stored.
    pub fn start(&self, model: Digest) -> Result<(), ServiceError> {
        self.load(model)?;
        self.engine.serve(model)?;
        tracing::info!(model = %model.short(), "serving");
        Ok(())
    }

    fn load(&self, model: Digest) -> Result<(), ServiceError> {
        let bytes = self.engine.store().blobs().read(&model)?;
        let bits = self.engine.study().study().serving.precision_bits;
        let served =
            Served::load(model, &bytes, bits).map_err(|reason| ServiceError::Model { model, reason })?;
        *self.served.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(served));
        Ok(())
    }

    /// The served model.
    pub fn serving(&self) -> Option<Serving> {
        self.served().map(|served| Serving {
            model: served.model,
            preset: served.preset().to_owned(),
        })
    }

    /// Whether a party's evaluation key is registered.
    pub fn key_status(&self, party: &PartyId, key: &Digest) -> Result<KeyState, Refusal> {
        Ok(if self.holds(party, key, BlobKind::EvaluationKey)? {
            KeyState::Present
        } else {
            KeyState::Missing
        })
    }

    /// Takes in a query; a repeat gives the state of the first.
    pub fn submit(
        &self,
        party: &PartyId,
        model: Digest,
        key: Digest,
        batch: Digest,
    ) -> Result<QueryState, Refusal> {
        if let Ok(state) = self.status(party, &batch) {
            return Ok(state);
        }
        let served = self
            .served()
            .ok_or_else(|| Refusal::new(Code::NoModel, "no model is served"))?;
        if served.model != model {
            return Err(Refusal::new(
                Code::BadQuery,
                format!("model {} is served, not {}", served.model.short(), model.short()),
            ));
        }
        if !self.holds(party, &key, BlobKind::EvaluationKey)? {
            return Err(Refusal::new(Code::NoKey, "this evaluation key is not registered"));
        }
        if !self.holds(party, &batch, BlobKind::Batch)? {
            return Err(Refusal::new(Code::BlobUnknown, "send the batch before the query"));
        }
        let state = self.queue().submit(party, model, key, batch)?;
        faults::reach("coordinator.query.accepted");
        self.wake.notify_one();
        Ok(state)
    }

    /// How a query is doing.
    pub fn status(&self, party: &PartyId, batch: &Digest) -> Result<QueryState, Refusal> {
        self.queue().state(party, batch)
    }

    /// Queries by state.
    pub fn counts(&self) -> QueryCounts {
        self.queue().counts()
    }

    /// Resolves when there may be work.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Evaluates the next query, if there is one; blocks meanwhile.
    pub fn work(&self) -> Result<bool, ServiceError> {
        let Some(served) = self.served() else {
            return Ok(false);
        };
        let Some(query) = self.queue().start()? else {
            return Ok(false);
        };
        let outcome = if query.starts > MAX_STARTS {
            // Whatever ended the process before would end it again, and nobody else would be served.
            Err(Refusal::new(
                Code::EvaluationFailed,
                "the evaluation was interrupted too often",
            ))
        } else {
            let evaluated = panic::catch_unwind(AssertUnwindSafe(|| self.evaluate(&served, &query)));
            evaluated
                .unwrap_or_else(|_| Err(Refusal::new(Code::EvaluationFailed, "the evaluation broke off")))
        };
        if let Err(refusal) = &outcome {
            tracing::warn!(party = %query.party, %refusal, "query failed");
        }
        self.queue().finish(&query, outcome)?;
        self.engine.store().blobs().delete(&query.batch)?;
        faults::reach("coordinator.query.done");
        Ok(true)
    }

    fn evaluate(&self, served: &Served, query: &QueryRecord) -> Result<Digest, Refusal> {
        if query.model != served.model {
            return Err(Refusal::new(Code::NoModel, "another model is served since"));
        }
        let blobs = self.engine.store().blobs();
        let key = blobs.read(&query.key).map_err(|e| e.refusal())?;
        let batch = blobs.read(&query.batch).map_err(|e| e.refusal())?;
        let progress = self.queue().progress(query);
        let answer = served.evaluate(&key, &batch, &mut |done, total| progress.set(done, total))?;
        blobs
            .put_bytes(&answer, BlobKind::Answer as u16, &query.party)
            .map_err(|e| e.refusal())
    }

    fn holds(&self, party: &PartyId, digest: &Digest, kind: BlobKind) -> Result<bool, Refusal> {
        let info = self
            .engine
            .store()
            .blobs()
            .info(digest)
            .map_err(|e| e.refusal())?;
        Ok(info.is_some_and(|info| info.kind == kind as u16 && info.has_owner(party)))
    }

    fn served(&self) -> Option<Arc<Served>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
