//! Blobs coming in and going out.

use crate::rounds::engine::Engine;
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
    collecting: bool,
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

impl Sink {
    /// Opens or resumes an upload, if the party may send this kind of blob.
    pub fn open(
        engine: &Arc<Engine>,
        limits: QueryLimits,
        party: &PartyId,
        digest: &Digest,
        kind: BlobKind,
    ) -> Result<Self, Refusal> {
        use galen_core::study::Role;
        let study = engine.study().study();
        let (role, limit) = match kind {
            BlobKind::Contribution => {
                let len = engine.contribution_len();
                let len = len
                    .ok_or_else(|| Refusal::new(Code::WrongPhase, "no contributions are being collected"))?;
                (Role::Contributor, Limit::Exactly(len))
            }
            BlobKind::Model => (Role::Contributor, Limit::AtMost(MAX_MODEL_LEN)),
            BlobKind::EvaluationKey => (Role::Querier, Limit::AtMost(limits.key)),
            BlobKind::Batch => (Role::Querier, Limit::AtMost(limits.batch)),
            BlobKind::Sum | BlobKind::Answer => {
                return Err(Refusal::new(
                    Code::RoleMissing,
                    "only the coordinator makes blobs of this kind",
                ));
            }
        };
        if !study.has_role(party, role) {
            return Err(Refusal::new(
                Code::RoleMissing,
                format!("sending this needs the role {role:?}"),
            ));
        }
        let writer = engine
            .store()
            .blobs()
            .begin(digest, kind as u16, party)
            .map_err(|e| e.refusal())?;
        Ok(Self {
            writer,
            limit,
            engine: Arc::clone(engine),
            collecting: kind == BlobKind::Contribution,
        })
    }
}

impl BlobSink for Sink {
    fn offset(&self) -> u64 {
        self.writer.offset()
    }

    fn announce(&mut self, len: u64) -> Result<(), Refusal> {
        match self.limit {
            Limit::Exactly(exact) if len != exact => {
                let code = if len > exact {
                    Code::BlobTooLarge
                } else {
                    Code::NotConforming
                };
                return Err(Refusal::new(
                    code,
                    format!("{len} bytes announced, the round's plan has {exact}"),
                ));
            }
            Limit::AtMost(most) if len > most => {
                return Err(Refusal::new(
                    Code::BlobTooLarge,
                    format!("{len} bytes announced, at most {most} are taken"),
                ));
            }
            _ => {}
        }
        self.writer.expect_len(len).map_err(|e| e.refusal())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if self.collecting {
            self.engine.touch();
        }
        self.writer.append(bytes).map_err(|e| e.refusal())
    }

    fn finish(self) -> Result<(), Refusal> {
        self.writer.finish().map(drop).map_err(|e| e.refusal())
    }
}
