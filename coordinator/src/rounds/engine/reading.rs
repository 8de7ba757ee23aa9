//! What parties may read: statements of others, and blobs.

use super::{Engine, internal, proposal, store_refusal};
use galen_core::{Code, Digest, PartyId, Refusal, Signed};
use galen_net::protocol::{AttemptPhase, BlobKind, Item};
use galen_sums::record::RoundId;

impl Engine {
    /// Statements of an attempt, for parties that may see them.
    pub fn fetch(
        &self,
        party: &PartyId,
        round: u32,
        attempt: u32,
        item: Item,
    ) -> Result<Vec<(PartyId, Signed)>, Refusal> {
        let id = RoundId { round, attempt };
        if item == Item::Answers && !self.roster.receivers().contains(party) {
            return Err(Refusal::new(Code::RoleMissing, "only receivers fetch answers"));
        }
        let found = match item {
            Item::Record => self.collect(id, "record").map_err(internal)?,
            Item::Endorsements => self.collect(id, "endorsement").map_err(internal)?,
            Item::Headers => {
                let stored = self.collect(id, "contribution").map_err(internal)?;
                let of = |name: &PartyId| stored.iter().find(|a| &a.author == name).cloned();
                self.set_of(id)?.iter().filter_map(of).collect()
            }
            Item::Answers => {
                let in_force = self.open_answers(id)?;
                let mut stored = self.collect(id, "answer").map_err(internal)?;
                stored.retain(|answer| in_force.contains(&answer.digest()));
                stored
            }
        };
        if found.is_empty() {
            return Err(Refusal::new(
                Code::WrongRound,
                format!("nothing of the kind is stored for round {round} attempt {attempt}"),
            ));
        }
        Ok(found.into_iter().map(|a| (a.author, a.statement)).collect())
    }

    /// The answers in force of an attempt. They are given out only when all pieces are answered, so that receivers open once and
    /// completely.
    fn open_answers(&self, id: RoundId) -> Result<Vec<Digest>, Refusal> {
        let inner = self.lock();
        if let Some(published) = inner.state.published.get(id.round as usize)
            && published.attempt == id.attempt
        {
            return Ok(published.answers.clone());
        }
        let current = inner.state.attempt.as_ref();
        let open = current
            .filter(|a| (a.round, a.attempt) == (id.round, id.attempt) && a.phase == AttemptPhase::Opening);
        let open = open.ok_or_else(|| Refusal::new(Code::WrongPhase, "the answers are not complete"))?;
        Ok(open.answers())
    }

    fn set_of(&self, id: RoundId) -> Result<Vec<PartyId>, Refusal> {
        let inner = self.lock();
        if let Some(published) = inner.state.published.get(id.round as usize)
            && published.attempt == id.attempt
        {
            return Ok(published.set.clone());
        }
        let current = inner
            .state
            .attempt
            .as_ref()
            .filter(|a| (a.round, a.attempt) == (id.round, id.attempt));
        let attempt = current.ok_or_else(|| Refusal::new(Code::WrongRound, "no such attempt"))?;
        Ok(proposal(attempt)?.set.clone())
    }

    /// Whether a party may read a blob.
    pub fn may_read(&self, party: &PartyId, digest: &Digest) -> Result<(), Refusal> {
        let info = self.store.blobs().info(digest).map_err(store_refusal)?;
        let info = info.ok_or_else(|| Refusal::new(Code::BlobUnknown, "no such blob"))?;
        let receiver = self.roster.receivers().contains(party);
        let allowed = match info.kind {
            kind if kind == BlobKind::Sum as u16 => receiver && self.sum_is_open(digest),
            kind if kind == BlobKind::Answer as u16 => info.has_owner(party),
            _ => false,
        };
        if allowed {
            Ok(())
        } else {
            Err(Refusal::new(Code::BlobForbidden, "this blob is not for you"))
        }
    }

    fn sum_is_open(&self, digest: &Digest) -> bool {
        let inner = self.lock();
        let current = inner.state.attempt.as_ref().is_some_and(|a| {
            a.phase == AttemptPhase::Opening && a.proposal.as_ref().is_some_and(|p| p.sum == *digest)
        });
        current || inner.state.published.iter().any(|p| p.sum == *digest)
    }
}
