//! Blobs coming in and going out.

use crate::rounds::engine::{ArrivalCheck, Engine};
use crate::rounds::steps::Step;
use galen_core::study::Role;
use galen_core::{Code, Digest, PartyId, Refusal};
use galen_net::BlobSink;
use galen_net::protocol::BlobKind;
use galen_store::BlobWriter;
use std::sync::Arc;

/// Largest released model.
const MAX_MODEL_LEN: u64 = 64 << 20;

/// Receives a party's blob into the store.
pub struct Sink {
    writer: BlobWriter,
    limit: Limit,
    engine: Arc<Engine>,
    party: PartyId,
    digest: Digest,
    kind: BlobKind,
    /// For a contribution that arrives from its first byte on, as long as it conforms. What does not is read again, and refused, when
    /// its header comes; so is what was resumed.
    check: Option<ArrivalCheck>,
}

enum Limit {
    Exactly(u64),
    AtMost(u64),
}

/// Limits of what queriers send, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct QueryLimits {
    /// Largest batch.
    pub batch: u64,
    /// Largest evaluation key.
    pub key: u64,
}

impl Limit {
    fn check(&self, len: u64) -> Result<(), Refusal> {
        match *self {
            Self::Exactly(exact) if len != exact => {
                let code = if len > exact {
                    Code::BlobTooLarge
                } else {
                    Code::NotConforming
                };
                Err(Refusal::new(
                    code,
                    format!("{len} bytes announced, the round's plan has {exact}"),
                ))
            }
            Self::AtMost(most) if len > most => {
                let text = format!("{len} bytes announced, at most {most} are taken");
                Err(Refusal::new(Code::BlobTooLarge, text))
            }
            _ => Ok(()),
        }
    }
}

impl Sink {
    /// Opens or resumes an upload of `len` bytes, if the party may send this kind of blob at this moment.
    pub fn open(
        engine: &Arc<Engine>,
        limits: QueryLimits,
        party: &PartyId,
        digest: &Digest,
        len: u64,
        kind: BlobKind,
    ) -> Result<Self, Refusal> {
        let (role, limit) = match kind {
            BlobKind::Contribution => (Role::Contributor, Limit::Exactly(collecting(engine)?)),
            BlobKind::Model => {
                // Also after enough have released it: whoever is slower is not refused.
                if !matches!(engine.step(), Step::AwaitRelease | Step::Serve(_) | Step::Serving) {
                    return Err(Refusal::new(Code::WrongPhase, "no model is waited for"));
                }
                (Role::Contributor, Limit::AtMost(MAX_MODEL_LEN))
            }
            BlobKind::Sealed => (Role::Custodian, Limit::AtMost(engine.sealed_limit(party)?)),
            BlobKind::EvaluationKey => (Role::Querier, Limit::AtMost(limits.key)),
            BlobKind::Batch => (Role::Querier, Limit::AtMost(limits.batch)),
            BlobKind::Sum | BlobKind::Answer | BlobKind::Interface => {
                return Err(Refusal::new(
                    Code::RoleMissing,
                    "only the coordinator makes blobs of this kind",
                ));
            }
        };
        if !engine.study().study().has_role(party, role) {
            return Err(Refusal::new(
                Code::RoleMissing,
                format!("sending this needs the role {role:?}"),
            ));
        }
        // Before a file is made for it.
        limit.check(len)?;
        let writer = engine
            .store()
            .blobs()
            .begin(digest, kind as u16, party)
            .map_err(|e| e.refusal())?;
        let fresh = kind == BlobKind::Contribution && writer.offset() == 0;
        Ok(Self {
            writer,
            limit,
            check: fresh.then(|| engine.arriving(party)).flatten(),
            engine: Arc::clone(engine),
            party: party.clone(),
            digest: *digest,
            kind,
        })
    }
}

/// Length of a contribution, while contributions are collected.
fn collecting(engine: &Engine) -> Result<u64, Refusal> {
    engine
        .contribution_len()
        .ok_or_else(|| Refusal::new(Code::WrongPhase, "no contributions are being collected"))
}

impl BlobSink for Sink {
    fn offset(&self) -> u64 {
        self.writer.offset()
    }

    fn announce(&mut self, len: u64) -> Result<(), Refusal> {
        self.limit.check(len)?;
        self.writer.expect_len(len).map_err(|e| e.refusal())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if matches!(self.kind, BlobKind::Contribution | BlobKind::Sealed) {
            self.engine.touch(&self.party);
        }
        self.check.take_if(|check| !check.take(bytes));
        self.writer.append(bytes).map_err(|e| e.refusal())
    }

    fn finish(self) -> Result<(), Refusal> {
        if self.kind == BlobKind::Contribution {
            // What ends after its attempt would stay behind the sweep.
            collecting(&self.engine)?;
        }
        self.writer.finish().map_err(|e| e.refusal())?;
        if let Some(check) = &self.check {
            self.engine.arrived(&self.party, self.digest, check);
        }
        Ok(())
    }
}
