//! The evaluation of queries, one after the other.

use super::queue::{Outcome, QueryRecord};
use super::registry::ModelRecord;
use super::served::Served;
use super::{Expanded, Service, ServiceError, Takes, exact, locked};
use galen_core::{Code, Digest, Refusal, faults};
use galen_net::protocol::BlobKind;
use galen_rns::threads::inside;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Instant;

/// How often a query may be started: a restart of the coordinator is not its fault, again and again is.
const MAX_STARTS: u32 = 3;
/// Programs of registered models that are held in memory.
const LOADED: usize = 4;

impl Service {
    /// Evaluates the next query, if there is one; blocks meanwhile.
    pub fn work(&self) -> Result<bool, ServiceError> {
        let Some(query) = locked(&self.queue).start()? else {
            return Ok(false);
        };
        let outcome = if query.starts > MAX_STARTS {
            // Whatever ended the process before would end it again, and nobody else would be served.
            Err(Refusal::new(
                Code::EvaluationFailed,
                "the evaluation was interrupted too often",
            ))
        } else {
            let evaluated = panic::catch_unwind(AssertUnwindSafe(|| self.evaluate(&query)));
            evaluated
                .unwrap_or_else(|_| Err(Refusal::new(Code::EvaluationFailed, "the evaluation broke off")))
        };
        let blobs = self.engine.store().blobs();
        let outcome = match outcome {
            Ok(answer) => Outcome::Answered(answer),
            Err(refusal) => {
                tracing::warn!(party = %query.party, %refusal, "query failed");
                Outcome::Failed(refusal)
            }
        };
        let answer = match outcome {
            Outcome::Answered(answer) => Some(answer),
            _ => None,
        };
        let wanted = locked(&self.queue).finish(&query, outcome, self.engine.now_ms())?;
        if let (false, Some(answer)) = (wanted, answer) {
            blobs.delete(&answer)?;
        }
        blobs.delete(&query.batch)?;
        faults::reach("coordinator.query.done");
        Ok(true)
    }

    fn evaluate(&self, query: &QueryRecord) -> Result<Digest, Refusal> {
        let served = self.program(&query.model)?;
        let blobs = self.engine.store().blobs();
        let key = blobs.read(&query.key).map_err(|e| e.refusal())?;
        let batch = blobs.read(&query.batch).map_err(|e| e.refusal())?;
        let progress = locked(&self.queue).progress(query);
        let began = Instant::now();
        // Nothing else evaluates meanwhile.
        let mut expanded = locked(&self.expanded);
        let progress = |done, total| {
            progress.set(done, total);
            faults::reach("coordinator.query.evaluating");
            !locked(&self.queue).has_ended(query)
        };
        // The ciphertexts of a batch are some gigabytes, which threads that come and go would keep apart.
        let held: &mut Expanded = &mut expanded;
        let answer = inside(|| served.evaluate(held, (&query.key, &key), &batch, &progress))?;
        drop(expanded);
        let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let patients = match self.takes(&query.model) {
            Ok(Takes::Patients(programs, _)) => {
                let program = programs
                    .iter()
                    .find(|p| Some(p.program) == exact::program_of(&batch));
                program.and_then(|p| p.patients(batch.len() as u64)).unwrap_or(1)
            }
            _ => 1,
        };
        locked(&self.measured).insert(query.model, took.div_ceil(patients.max(1)));
        blobs
            .put_bytes(&answer, BlobKind::Answer as u16, &query.party)
            .map_err(|e| e.refusal())
    }

    /// The program of a version, made if it is not held.
    fn program(&self, version: &Digest) -> Result<Arc<Served>, Refusal> {
        if let Some(own) = locked(&self.own).as_ref().filter(|own| own.version == *version) {
            return Ok(Arc::clone(&own.served));
        }
        let mut loaded = locked(&self.loaded);
        if let Some(at) = loaded.iter().position(|(held, _)| held == version) {
            // Those that were asked last are held.
            let entry = loaded.remove(at);
            let served = Arc::clone(&entry.1);
            loaded.push(entry);
            return Ok(served);
        }
        drop(loaded);
        let record: Option<ModelRecord> = locked(&self.registry).models().get(version).cloned();
        let record =
            record.ok_or_else(|| Refusal::new(Code::UnknownModel, "the model was removed meanwhile"))?;
        let blobs = self.engine.store().blobs();
        let served = Served::registered(blobs, version, &record, &self.scratch).map_err(|reason| {
            tracing::error!(model = %record.name, %reason, "a registered model cannot be evaluated");
            Refusal::new(Code::EvaluationFailed, "the model cannot be evaluated")
        })?;
        let served = Arc::new(served);
        let mut loaded = locked(&self.loaded);
        if loaded.len() >= LOADED {
            loaded.remove(0);
        }
        loaded.push((*version, Arc::clone(&served)));
        Ok(served)
    }
}
