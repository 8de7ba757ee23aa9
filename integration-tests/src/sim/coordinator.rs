//! The coordinator of a simulation: the real engine and desk on a simulated disk.

use super::shape::Cast;
use super::wire::{Answer, Message};
use galen_coordinator::blobs::{QueryLimits, Sink};
use galen_coordinator::lanes::Lanes;
use galen_coordinator::requests::Desk;
use galen_coordinator::rounds::engine::Engine;
use galen_coordinator::rounds::state::StudyState;
use galen_coordinator::serving::{Limits, Quotas, Service};
use galen_core::{Clock, Digest, PartyId, Refusal};
use galen_net::BlobSink;
use galen_net::NetError;
use galen_net::protocol::{Request, Response};
use galen_party::carrier::AnySink;
use galen_store::{MemoryDisk, Store};
use galen_sums::AuditLine;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// The coordinator's machine.
pub struct Coordinator {
    /// Its disk.
    pub disk: MemoryDisk,
    /// Its process, if it runs.
    desk: Option<Desk>,
    /// The view and time at which there was nothing to drive.
    driven: Option<(u64, u64)>,
}

/// How often stand-still is looked for, in milliseconds.
const LOOK_MS: u64 = 500;

const LIMITS: QueryLimits = QueryLimits { batch: 0, key: 0 };
/// A folder that is not there, and never made: nothing is evaluated.
const SCRATCH: &str = "/nonexistent";
/// Nobody asks anything in a simulation.
const SERVICE: Limits = Limits {
    quotas: Quotas {
        waiting: 1,
        hourly: 0,
    },
    keep_ms: 1,
    versions: 1,
};

impl Coordinator {
    /// A machine that is not started yet.
    #[allow(clippy::new_without_default)] // A machine is built on purpose.
    pub fn new() -> Self {
        Self {
            disk: MemoryDisk::new(),
            desk: None,
            driven: None,
        }
    }

    /// Starts the process on what the disk holds.
    pub fn start(&mut self, cast: &Cast, clock: &Arc<dyn Clock>) -> anyhow::Result<()> {
        self.desk = None;
        let store = Store::in_memory(&self.disk)?;
        let engine = Engine::open(cast.study.clone(), cast.coordinator()?, store, Arc::clone(clock))?;
        let engine = Arc::new(engine);
        self.desk = Some(Desk {
            service: Arc::new(Service::open(&engine, SERVICE, Path::new(SCRATCH))?),
            engine,
            limits: LIMITS,
            lanes: Lanes::default(),
        });
        self.driven = None;
        Ok(())
    }

    /// The process is gone.
    pub fn stop(&mut self) {
        self.desk = None;
    }

    /// Whether the process runs.
    pub fn runs(&self) -> bool {
        self.desk.is_some()
    }

    /// The state, while the process runs.
    pub fn state(&self) -> Option<StudyState> {
        self.desk.as_ref().map(|desk| desk.engine.state())
    }

    /// Its audit log, while the process runs.
    pub fn audit(&self) -> Option<Vec<AuditLine>> {
        let lines = self.desk.as_ref()?.engine.audit(0).ok()?;
        lines.iter().map(|line| line.read_unverified().ok()).collect()
    }

    /// Number of the view.
    pub fn version(&self) -> Option<u64> {
        self.desk.as_ref().map(|desk| *desk.engine.changes().borrow())
    }

    /// Whether there may be something to drive.
    pub fn is_due(&self, now_ms: u64) -> bool {
        let version = self.version();
        version.is_some_and(|version| {
            self.driven
                .is_none_or(|(seen, at)| seen != version || now_ms >= at + LOOK_MS)
        })
    }

    /// Does what is due.
    pub fn drive(&mut self, now_ms: u64) -> Result<(), String> {
        let Some(desk) = &self.desk else { return Ok(()) };
        let driven = desk.engine.drive().map_err(|error| error.to_string());
        self.driven = self.version().map(|version| (version, now_ms));
        driven
    }

    /// Answers a party's message.
    pub fn answer(&self, party: &PartyId, message: Message) -> Answer {
        let Some(desk) = &self.desk else {
            return Err(NetError::Cancelled);
        };
        let refused = NetError::Refused;
        match message {
            Message::Call(request) => desk.respond(party, request).map_err(refused),
            Message::Put { digest, bytes, kind } => {
                let len = bytes.len() as u64;
                let sink = Sink::open(&desk.engine, LIMITS, party, &digest, len, kind);
                sink.and_then(|sink| fill(sink, len, &bytes))
                    .map(|()| Response::Ok)
                    .map_err(refused)
            }
            Message::Get { digest, sink } => {
                let bytes = self.read(party, &digest, sink.offset()).map_err(refused)?;
                let len = sink.offset() + bytes.len() as u64;
                resume(sink, len, &bytes)
                    .map(|()| Response::Ok)
                    .map_err(NetError::Sink)
            }
            Message::Rest => Ok(Response::Ok),
        }
    }

    /// Gives a party other bytes than those of the blob.
    pub fn spoil(&self, party: &PartyId, digest: &Digest, sink: AnySink, which: u64) -> Answer {
        let mut bytes = self
            .read(party, digest, sink.offset())
            .map_err(NetError::Refused)?;
        let len = sink.offset() + bytes.len() as u64;
        let at = usize::try_from(which).unwrap_or_default() % bytes.len().max(1);
        if which.is_multiple_of(3) {
            bytes.truncate(at);
        } else if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1;
        }
        resume(sink, len, &bytes)
            .map(|()| Response::Ok)
            .map_err(NetError::Sink)
    }

    fn read(&self, party: &PartyId, digest: &Digest, from: u64) -> Result<Vec<u8>, Refusal> {
        let internal = |text: String| Refusal::new(galen_core::Code::Internal, text);
        let desk = self.desk.as_ref().ok_or_else(|| internal("off".into()))?;
        desk.readable(party, digest)?;
        let reader = desk.engine.store().blobs().open_read_at(digest, from);
        let mut bytes = Vec::new();
        reader
            .map_err(|error| error.refusal())?
            .read_to_end(&mut bytes)
            .map_err(|error| internal(error.to_string()))?;
        Ok(bytes)
    }
}

/// Uploads what the sink lacks.
fn fill(mut sink: impl BlobSink, len: u64, bytes: &[u8]) -> Result<(), Refusal> {
    sink.announce(len)?;
    let held = usize::try_from(sink.offset()).unwrap_or(usize::MAX);
    sink.write(bytes.get(held..).unwrap_or_default())?;
    sink.finish()
}

/// Gives a sink the rest of a blob.
fn resume(mut sink: AnySink, len: u64, rest: &[u8]) -> Result<(), Refusal> {
    sink.announce(len)?;
    sink.write(rest)?;
    sink.finish()
}

/// Whether a message need not be answered yet: nothing has changed since its sender looked.
pub fn may_wait(message: &Message, version: Option<u64>) -> bool {
    matches!(message, Message::Call(Request::Poll { seen, .. }) if version == Some(*seen))
}
