//! What parties may read: statements of others, and blobs.

use super::{Engine, internal, proposal, store_refusal};
use galen_core::{Code, Digest, PartyId, Refusal, Signed};
use galen_net::protocol::{AttemptPhase, BlobKind, Item};
use galen_sums::authored::Authored;
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
        let receivers_only = [Item::Fingerprints, Item::KeyChecks];
        if receivers_only.contains(&item) && !self.roster.receivers().contains(party) {
            return Err(Refusal::new(Code::RoleMissing, "only receivers fetch these"));
        }
        let mut may_be_empty = true;
        let found = match item {
            Item::Incarnations => self.all_incarnations().map_err(internal)?,
            Item::Confirmations => self.all_confirmations().map_err(internal)?,
            Item::Staleness => self.staleness_of(party).map_err(internal)?,
            Item::Fingerprints => self.collect(id, "fingerprint").map_err(internal)?,
            Item::KeyChecks => self.current_key_checks(id)?,
            Item::Abandonment => self.collect(id, "abandoned").map_err(internal)?,
            _ => {
                may_be_empty = false;
                self.fetch_needed(id, item)?
            }
        };
        if found.is_empty() && !may_be_empty {
            return Err(Refusal::new(
                Code::WrongRound,
                format!("nothing of the kind is stored for round {round} attempt {attempt}"),
            ));
        }
        Ok(found.into_iter().map(|a| (a.author, a.statement)).collect())
    }

    /// Statements without which the asker cannot go on.
    fn fetch_needed(&self, id: RoundId, item: Item) -> Result<Vec<Authored>, Refusal> {
        Ok(match item {
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
            _ => Vec::new(),
        })
    }

    /// The key checks of the dispute under way; those of one before say nothing of answers that came since.
    fn current_key_checks(&self, id: RoundId) -> Result<Vec<Authored>, Refusal> {
        let mut stored = self.collect(id, "keycheck").map_err(internal)?;
        let inner = self.lock();
        let attempt = inner.state.attempt.as_ref();
        let current = attempt.filter(|a| (a.round, a.attempt) == (id.round, id.attempt));
        let checks = current.map(|a| &a.key_checks);
        stored.retain(|said| checks.is_some_and(|c| c.get(&said.author) == Some(&said.digest())));
        Ok(stored)
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
        let phases = AttemptPhase::Opening..=AttemptPhase::Judging;
        let open =
            current.filter(|a| (a.round, a.attempt) == (id.round, id.attempt) && phases.contains(&a.phase));
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
            // Of a member that is gone, receivers compute the fingerprint themselves.
            kind if kind == BlobKind::Contribution as u16 => receiver && self.is_in_open_set(digest),
            kind if kind == BlobKind::Answer as u16 => info.has_owner(party),
            _ => false,
        };
        if allowed {
            Ok(())
        } else {
            Err(Refusal::new(Code::BlobForbidden, "this blob is not for you"))
        }
    }

    fn is_in_open_set(&self, digest: &Digest) -> bool {
        let inner = self.lock();
        inner.state.attempt.as_ref().is_some_and(|attempt| {
            let set = attempt.proposal.iter().flat_map(|p| p.set.iter());
            let mut blobs = set
                .filter_map(|name| attempt.contributions.get(name))
                .map(|c| c.blob);
            attempt.phase == AttemptPhase::Opening && blobs.any(|blob| blob == *digest)
        })
    }

    fn sum_is_open(&self, digest: &Digest) -> bool {
        let inner = self.lock();
        let current = inner.state.attempt.as_ref().is_some_and(|a| {
            a.phase == AttemptPhase::Opening && a.proposal.as_ref().is_some_and(|p| p.sum == *digest)
        });
        current || inner.state.published.iter().any(|p| p.sum == *digest)
    }
}
