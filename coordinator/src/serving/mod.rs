//! Encrypted queries: the models that are answered, and a queue of batches that outlives a restart.
//!
//! The coordinator learns who asks, when, which version of which model, under which key, and how large the batch is; inputs and answers
//! stay encrypted under the querier's own key. `registry` holds the models that the operator added, `served` compiled programs, `exact` those of
//! quantised models, `keys` the queriers' evaluation keys, `queue` the persisted queries, `uploads` the batches that arrived before their queries, `worker` evaluates, `leftovers` cleans up at start, and this file joins them.

mod exact;
mod keys;
mod leftovers;
mod queue;
pub mod registry;
mod served;
mod uploads;
mod worker;

pub use exact::ExactProgram;
pub use keys::check as check_key;
pub use queue::{Outcome, Progress, QueryCounts, QueryRecord, Quotas};

use crate::home::{self, HomeError};
use crate::rounds::engine::{Engine, EngineError};
use exact::Expanded;
use galen_core::{Code, Digest, PartyId, Refusal, faults};
use galen_inference::Program;
use galen_net::protocol::{BlobKind, Engine as Scheme, KeyState, Offer, QueryState, STUDY_MODEL, Serving};
use galen_store::StoreError;
use keys::Keys;
use queue::Queue;
use registry::{Arrival, Asked, Compiled, Registry};
use serde::{Deserialize, Serialize};
use served::Served;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use uploads::Uploads;

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
    /// The folder of models cannot be written.
    #[error(transparent)]
    Folder(#[from] HomeError),
    /// The released model cannot be served.
    #[error("the released model {model} cannot be served: {reason}")]
    Model {
        /// Its digest.
        model: Digest,
        /// Why.
        reason: String,
    },
}

/// What the service takes and keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What parties may ask.
    pub quotas: Quotas,
    /// Milliseconds for which ended queries, their answers, and batches without a query are kept.
    pub keep_ms: u64,
    /// Versions of a model that are kept.
    pub versions: u32,
}

/// A model that is answered, for the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelStatus {
    /// Its name.
    pub name: String,
    /// The version.
    pub version: Digest,
    /// How it is evaluated.
    pub engine: Scheme,
    /// Whether a batch holds all values of some patients in one ciphertext, instead of one value of all patients in each.
    #[serde(default)]
    pub packed: bool,
    /// Whether it is the latest one of its name and way.
    pub current: bool,
    /// Name of the CKKS preset, or of the parameter set of TFHE.
    pub preset: String,
    /// Bytes of a batch, under TFHE of a patient.
    pub batch_bytes: u64,
    /// Milliseconds for a batch, under TFHE for a patient.
    pub batch_ms: u64,
    /// What an answer under TFHE may reveal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reveals: Vec<String>,
    /// When it was registered, in milliseconds since the epoch; 0 for the study's own.
    pub added_ms: u64,
}

/// What a model takes.
enum Takes {
    /// Batches of this many bytes, under keys of this set.
    Batches(String, u64),
    /// Queries for one of these programs, of this many patients at most.
    Patients(Vec<ExactProgram>, u64),
}

/// The study's own model.
#[derive(Clone)]
struct Own {
    version: Digest,
    interface: Digest,
    preset: String,
    batch_bytes: u64,
    served: Arc<Served>,
}

/// The query service of a study.
pub struct Service {
    engine: Arc<Engine>,
    limits: Limits,
    own: Mutex<Option<Own>>,
    registry: Mutex<Registry>,
    loaded: Mutex<Vec<(Digest, Arc<Served>)>>,
    /// Milliseconds of the last batch of each version.
    measured: Mutex<BTreeMap<Digest, u64>>,
    keys: Mutex<Keys>,
    expanded: Mutex<Expanded>,
    queue: Mutex<Queue>,
    uploads: Mutex<Uploads>,
    wake: Notify,
    scratch: PathBuf,
}

impl Service {
    /// Opens the service; if a model was served before, it is served again. The folder `scratch` is the service's alone: what an earlier
    /// process left there is removed.
    pub fn open(engine: &Arc<Engine>, limits: Limits, scratch: &Path) -> Result<Self, ServiceError> {
        home::remove_folder(scratch)?;
        let store = engine.store();
        let queue = Queue::open(store, limits.quotas)?;
        let keys = Keys::open(store)?;
        leftovers::delete(store, &queue, &keys)?;
        let uploads = Uploads::open(store, &queue, &keys, engine.now_ms())?;
        let service = Self {
            engine: Arc::clone(engine),
            limits,
            own: Mutex::default(),
            registry: Mutex::new(Registry::open(store, engine.own(), limits.versions)?),
            loaded: Mutex::default(),
            measured: Mutex::default(),
            keys: Mutex::new(keys),
            expanded: Mutex::default(),
            queue: Mutex::new(queue),
            uploads: Mutex::new(uploads),
            wake: Notify::new(),
            scratch: scratch.to_owned(),
        };
        if let Some(model) = engine.state().serving
            && let Err(error) = service.load(model)
        {
            // Receivers that were away still catch up; only queries are refused.
            tracing::error!(%error, "queries cannot be served");
        }
        Ok(service)
    }

    /// Starts serving the study's own model, whose blob is stored.
    pub fn start(&self, model: Digest) -> Result<(), ServiceError> {
        self.load(model)?;
        self.engine.serve(model)?;
        tracing::info!(model = %model.short(), "serving");
        Ok(())
    }

    fn load(&self, version: Digest) -> Result<(), ServiceError> {
        let blobs = self.engine.store().blobs();
        let bits = self.engine.study().study().serving.precision_bits;
        let unserved = |reason: String| ServiceError::Model {
            model: version,
            reason,
        };
        let program: Program = served::released(&blobs.read(&version)?, bits).map_err(unserved)?;
        let interface = program.interface().to_bytes();
        let interface = interface.map_err(|error| unserved(error.to_string()))?;
        let interface = blobs.put_bytes(&interface, BlobKind::Interface as u16, self.engine.own())?;
        *locked(&self.own) = Some(Own {
            version,
            interface,
            preset: program.plan().preset.clone(),
            batch_bytes: program.plan().batch_bytes as u64,
            served: Arc::new(Served::Ckks(Box::new(program))),
        });
        Ok(())
    }

    /// The study's own model, if it is served.
    pub fn serving(&self) -> Option<Serving> {
        locked(&self.own).as_ref().map(|own| Serving {
            model: own.version,
            preset: own.preset.clone(),
        })
    }

    /// Every version of a model that is answered.
    pub fn models(&self) -> Vec<ModelStatus> {
        let measured = locked(&self.measured);
        let registry = locked(&self.registry);
        let own = locked(&self.own).clone();
        let own = own.map(|own| ModelStatus {
            name: STUDY_MODEL.into(),
            version: own.version,
            engine: Scheme::Ckks,
            packed: false,
            current: true,
            preset: own.preset,
            batch_bytes: own.batch_bytes,
            batch_ms: measured.get(&own.version).copied().unwrap_or(0),
            reveals: Vec::new(),
            added_ms: 0,
        });
        let registered = registry.models().iter().map(|(version, record)| {
            let (preset, batch_bytes, reveals) = match &record.compiled {
                Compiled::Ckks {
                    choice, batch_bytes, ..
                } => (choice.preset().to_owned(), *batch_bytes, Vec::new()),
                Compiled::Tfhe { programs, .. } => {
                    let mut sets: Vec<&str> = programs.iter().map(|p| p.parameters.as_str()).collect();
                    sets.dedup();
                    let largest = programs.iter().map(|p| p.patient_bytes).max().unwrap_or(0);
                    let reveals = programs.iter().map(|p| p.reveal.name().to_owned());
                    (sets.join(" "), largest, reveals.collect())
                }
            };
            ModelStatus {
                name: record.name.clone(),
                version: *version,
                engine: record.engine(),
                packed: record.is_packed(),
                current: registry.is_current(version),
                preset,
                batch_bytes,
                batch_ms: measured.get(version).copied().unwrap_or(record.batch_ms),
                reveals,
                added_ms: record.added_ms,
            }
        });
        let mut all: Vec<ModelStatus> = own.into_iter().chain(registered).collect();
        // A querier that knows of no packing takes the first one of a name.
        all.sort_by_key(|model| model.packed);
        all
    }

    /// The same for queriers.
    pub fn offers(&self) -> Vec<Offer> {
        let own = locked(&self.own).as_ref().map(|own| (own.version, own.interface));
        let offer = |model: ModelStatus| Offer {
            interface: match own {
                Some((version, interface)) if version == model.version => interface,
                _ => model.version,
            },
            name: model.name,
            version: model.version,
            engine: model.engine,
            packed: model.packed,
            current: model.current,
            batch_ms: model.batch_ms,
        };
        self.models().into_iter().map(offer).collect()
    }

    /// How a party's evaluation key is doing.
    pub fn key_status(&self, party: &PartyId, key: &Digest) -> Result<KeyState, Refusal> {
        let state = locked(&self.keys).status(party, key, |old| locked(&self.queue).needs(old));
        // One that another took the place of is swept, if it is sent again.
        if matches!(state, Ok(KeyState::Present) | Err(_)) {
            locked(&self.uploads).attached(party, key);
        }
        state
    }

    /// Whether a party may send an evaluation key.
    pub fn admit_key(&self, party: &PartyId, key: &Digest) -> Result<(), Refusal> {
        let present = locked(&self.keys).set(party, key).map_err(|e| e.refusal())?;
        if present.is_some() {
            return Ok(());
        }
        let (most, now_ms) = (self.limits.quotas.waiting, self.engine.now_ms());
        locked(&self.uploads).admit(party, key, most, now_ms)
    }

    /// Whether a party may send a batch.
    pub fn admit_batch(&self, party: &PartyId, batch: &Digest) -> Result<(), Refusal> {
        let now_ms = self.engine.now_ms();
        let queue = locked(&self.queue);
        if queue.is_open(party, batch) {
            return Ok(());
        }
        queue.check_quotas(party, now_ms)?;
        locked(&self.uploads).admit(party, batch, self.limits.quotas.waiting, now_ms)
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
        let asked = self.takes(&model)?;
        match self.key_status(party, &key)? {
            KeyState::Present => {}
            KeyState::Missing => {
                return Err(Refusal::new(Code::NoKey, "this evaluation key is not registered"));
            }
            KeyState::Stale => {
                return Err(Refusal::new(
                    Code::NoKey,
                    "a later evaluation key took the place of this one",
                ));
            }
        }
        let set = locked(&self.keys).set(party, &key).map_err(|e| e.refusal())?;
        let info = self
            .engine
            .store()
            .blobs()
            .info(&batch)
            .map_err(|e| e.refusal())?;
        let info = info.filter(|info| info.kind == BlobKind::Batch as u16 && info.has_owner(party));
        self.check_fits(&asked, set.as_deref(), (&batch, info.map(|info| info.len)))?;
        let now_ms = self.engine.now_ms();
        let state = locked(&self.queue).submit(party, (model, key, batch), now_ms)?;
        locked(&self.uploads).attached(party, &batch);
        faults::reach("coordinator.query.accepted");
        self.wake.notify_one();
        Ok(state)
    }

    /// What a version of a model takes.
    fn takes(&self, model: &Digest) -> Result<Takes, Refusal> {
        let own = locked(&self.own).clone();
        if let Some(own) = own.as_ref().filter(|own| own.version == *model) {
            return Ok(Takes::Batches(own.preset.clone(), own.batch_bytes));
        }
        let registry = locked(&self.registry);
        match registry.models().get(model).map(|record| &record.compiled) {
            Some(Compiled::Ckks {
                choice, batch_bytes, ..
            }) => Ok(Takes::Batches(choice.key_set(), *batch_bytes)),
            Some(Compiled::Tfhe { programs, patients }) => Ok(Takes::Patients(programs.clone(), *patients)),
            None if own.is_none() && registry.models().is_empty() => {
                Err(Refusal::new(Code::NoModel, "no model is served"))
            }
            None => Err(Refusal::new(
                Code::UnknownModel,
                format!("version {} of a model is not kept here", model.short()),
            )),
        }
    }

    /// Refuses a batch, of the length that its blob has if there is one, that the model does not take under a key of this set.
    fn check_fits(
        &self,
        takes: &Takes,
        key: Option<&str>,
        (batch, length): (&Digest, Option<u64>),
    ) -> Result<(), Refusal> {
        let bad = |detail: String| Err(Refusal::new(Code::BadQuery, detail));
        let unsent = || Refusal::new(Code::BlobUnknown, "send the batch before the query");
        let foreign = |wanted: &str| {
            bad(format!(
                "the evaluation key is of another set than the model takes, {wanted}"
            ))
        };
        match takes {
            Takes::Batches(set, _) if key != Some(set) => foreign(set),
            Takes::Batches(_, bytes) => match length.ok_or_else(unsent)? {
                length if length == *bytes => Ok(()),
                length => bad(format!("the batch has {length} bytes, the model takes {bytes}")),
            },
            Takes::Patients(programs, most) => {
                let length = length.ok_or_else(unsent)?;
                let holds = |program: &ExactProgram| {
                    let patients = program.patients(length);
                    patients.is_some_and(|patients| (1..=*most).contains(&patients))
                };
                // Before it is read: a batch may be far longer than any query.
                if !programs.iter().any(holds) {
                    return bad(format!(
                        "the query has {length} bytes, the model takes 1 to {most} patients"
                    ));
                }
                let query = self.engine.store().blobs().read(batch).map_err(|e| e.refusal())?;
                let named = exact::program_of(&query);
                let program = programs.iter().find(|program| Some(program.program) == named);
                match program.filter(|program| holds(program)) {
                    Some(program) if key != Some(&program.parameters) => foreign(&program.parameters),
                    Some(_) => Ok(()),
                    None => bad("this is no query of this version of the model".into()),
                }
            }
        }
    }

    /// How a query is doing.
    pub fn status(&self, party: &PartyId, batch: &Digest) -> Result<QueryState, Refusal> {
        locked(&self.queue).state(party, batch)
    }

    /// Takes a query back, or a batch that no query names. If it is being evaluated, what comes of it is dropped.
    pub fn cancel(&self, party: &PartyId, batch: &Digest) -> Result<QueryState, Refusal> {
        let withdrawn = locked(&self.uploads).withdraw(self.engine.store().blobs(), party, batch);
        if withdrawn.map_err(|e| e.refusal())? {
            return Ok(QueryState::Cancelled);
        }
        let (state, runs) = locked(&self.queue).cancel(party, batch, self.engine.now_ms())?;
        if !runs {
            let blobs = self.engine.store().blobs();
            blobs.delete(batch).map_err(|e| e.refusal())?;
        }
        Ok(state)
    }

    /// Deletes an answer that has arrived.
    pub fn acknowledge(&self, party: &PartyId, batch: &Digest) -> Result<(), Refusal> {
        let answer = locked(&self.queue).acknowledge(party, batch)?;
        if let Some(answer) = answer {
            let blobs = self.engine.store().blobs();
            blobs.delete(&answer).map_err(|e| e.refusal())?;
        }
        Ok(())
    }

    /// Queries by state.
    pub fn counts(&self) -> QueryCounts {
        locked(&self.queue).counts()
    }

    /// Queries by party and state.
    pub fn counts_by_party(&self) -> BTreeMap<PartyId, QueryCounts> {
        locked(&self.queue).counts_by_party()
    }

    /// Resolves when there may be work.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Takes in what the operator put into the folder of models.
    pub fn look(&self, folder: &Path) -> Result<(), ServiceError> {
        for arrival in Arrival::all(folder) {
            let version = *arrival.version();
            // Takes seconds for a large model, during which nothing is locked.
            let asked = arrival.read().and_then(|asked| match &asked {
                Asked::Add(checked) => match locked(&self.registry).against(checked) {
                    Some(reason) => Err(reason),
                    None => Ok(asked),
                },
                Asked::Remove(_) => Ok(asked),
            });
            let needed = |version: &Digest| locked(&self.queue).needs(version);
            let (gone, refused) = match asked {
                Ok(Asked::Add(checked)) => {
                    let gone = locked(&self.registry).take_in(*checked, &needed, self.engine.now_ms())?;
                    tracing::info!(version = %version.short(), "model registered");
                    (gone, None)
                }
                Ok(Asked::Remove(version)) => {
                    locked(&self.registry).remove(&version)?;
                    tracing::info!(version = %version.short(), "model removed");
                    (vec![version], None)
                }
                Err(reason) => {
                    tracing::error!(version = %version.short(), %reason, "the model is not registered");
                    (Vec::new(), Some(reason))
                }
            };
            // The same version may have been added again, with another limit of memory.
            locked(&self.loaded).retain(|(held, _)| *held != version && !gone.contains(held));
            arrival.done(refused.as_deref())?;
        }
        Ok(())
    }

    /// Forgets what is too old: ended queries with their answers, and batches without a query.
    pub fn sweep(&self) -> Result<(), ServiceError> {
        let before = self.engine.now_ms().saturating_sub(self.limits.keep_ms);
        let blobs = self.engine.store().blobs();
        // Looked through without the lock: there may be a million of them.
        let records = locked(&self.queue).records();
        let old = queue::ended_before(&records, before)?;
        let forgotten = locked(&self.queue).forget(old)?;
        for query in forgotten {
            if let Some((_, Outcome::Answered(answer))) = query.outcome {
                blobs.delete(&answer)?;
            }
        }
        locked(&self.uploads).sweep(blobs, before)?;
        Ok(())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
