//! What parties may read: statements of others, and blobs.

use super::{Engine, EngineError, internal, proposal, store_refusal};
use crate::rounds::state::Answered;
use galen_core::{Code, Digest, PartyId, Refusal, Signed};
use galen_net::protocol::{AttemptPhase, BlobKind, Item};
use galen_sums::authored::Authored;
use galen_sums::record::RoundId;
use galen_sums::{AnswerHeader, KeyCheck, SealedTexts};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

/// Bytes of statements after which a page holds no further one.
const PAGE_BYTES: usize = 128 << 10;

/// Some of the statements that were asked for.
#[derive(Debug)]
pub struct Page {
    /// The statements with their authors, at least one if there are any.
    pub found: Vec<(PartyId, Signed)>,
    /// Whether others follow.
    pub more: bool,
}

/// Statements one by one, in the order of their keys.
type Statements<'e> = Box<dyn Iterator<Item = Result<Authored, EngineError>> + 'e>;

impl Engine {
    /// Statements of an attempt, for parties that may see them: the first page, or the one that begins after a statement.
    ///
    /// # Errors
    /// If the party may not see them, if there are none where there should be, or if `after` is not among them.
    pub fn fetch(
        &self,
        party: &PartyId,
        id: RoundId,
        item: Item,
        after: Option<&(PartyId, Digest)>,
    ) -> Result<Page, Refusal> {
        let page = page(self.statements(party, id, item)?, after)?;
        if page.found.is_empty() && after.is_none() && must_be_there(item) {
            return Err(Refusal::new(
                Code::WrongRound,
                format!("nothing of the kind is stored for {id}"),
            ));
        }
        Ok(page)
    }

    fn statements(&self, party: &PartyId, id: RoundId, item: Item) -> Result<Statements<'_>, Refusal> {
        let receivers_only = [Item::Answers, Item::Fingerprints, Item::KeyChecks, Item::Openings];
        if receivers_only.contains(&item) && !self.roster.receivers().contains(party) {
            return Err(Refusal::new(Code::RoleMissing, "only receivers fetch these"));
        }
        let given = |found: Vec<Authored>| -> Statements<'_> { Box::new(found.into_iter().map(Ok)) };
        Ok(match item {
            Item::Incarnations => given(self.all_incarnations().map_err(internal)?),
            Item::Confirmations => given(self.all_confirmations().map_err(internal)?),
            Item::Staleness => given(self.staleness_of(party).map_err(internal)?),
            Item::Record => self.stored(id, "record"),
            Item::Endorsements => self.stored(id, "endorsement"),
            Item::Fingerprints => self.stored(id, "fingerprint"),
            Item::Abandonment => self.stored(id, "abandoned"),
            Item::Openings => self.stored(id, "opened"),
            Item::Headers => {
                let set: BTreeSet<PartyId> = self.set_of(id)?.into_iter().collect();
                keep(self.stored(id, "contribution"), move |said| {
                    set.contains(&said.author)
                })
            }
            Item::Answers => {
                let in_force = self.open_answers(id)?;
                let known = move |said: &Authored| in_force.contains(&said.digest());
                keep(self.stored(id, "answer"), known)
            }
            Item::KeyChecks => {
                let current = self.current_key_checks(id);
                let known = move |said: &Authored| current.get(&said.author) == Some(&said.digest());
                keep(self.stored(id, "keycheck"), known)
            }
        })
    }

    fn stored(&self, id: RoundId, kind: &str) -> Statements<'_> {
        let prefix = format!("{:08}/{:04}/{kind}", id.round, id.attempt);
        let stored = self.statements.prefix(prefix.as_bytes());
        Box::new(stored.map(|entry| -> Result<Authored, EngineError> { Ok(entry?.1) }))
    }

    /// What an answer or a key check seals to a receiver; nothing if it seals nothing.
    ///
    /// # Errors
    /// If the party may not see the statement, or it is not there.
    pub fn fetch_sealed(
        &self,
        party: &PartyId,
        id: RoundId,
        item: Item,
        statement: &Digest,
    ) -> Result<Vec<u8>, Refusal> {
        if !matches!(item, Item::Answers | Item::KeyChecks) {
            return Err(Refusal::new(Code::WrongRound, "such statements seal nothing"));
        }
        let unknown = || Refusal::new(Code::WrongRound, "no such statement is in force");
        let is_it =
            |said: &Result<Authored, EngineError>| said.as_ref().map_or(true, |s| s.digest() == *statement);
        let said = self
            .statements(party, id, item)?
            .find(is_it)
            .ok_or_else(unknown)?;
        let said = said.map_err(internal)?;
        let sealed = sealed_in(item, &said)?;
        let Some((offset, len)) = sealed.place(party) else {
            return Ok(Vec::new());
        };
        let blobs = self.store.blobs();
        let mut text = vec![0; len as usize];
        let mut read = blobs.open_read_at(&sealed.blob, offset).map_err(store_refusal)?;
        read.read_exact(&mut text).map_err(|error| {
            tracing::error!(%error, blob = %sealed.blob, "a stored blob cannot be read");
            Refusal::new(Code::Internal, "the coordinator could not carry this out")
        })?;
        Ok(text)
    }

    /// The key checks of the dispute under way; those of one before say nothing of answers that came since.
    fn current_key_checks(&self, id: RoundId) -> BTreeMap<PartyId, Digest> {
        let inner = self.lock();
        let attempt = inner.state.attempt.as_ref();
        let current = attempt.filter(|a| (a.round, a.attempt) == (id.round, id.attempt));
        current
            .map(|attempt| attempt.key_checks.clone())
            .unwrap_or_default()
    }

    /// The answers in force of an attempt. They are given out only when all pieces are answered, so that receivers open once and
    /// completely.
    fn open_answers(&self, id: RoundId) -> Result<BTreeSet<Digest>, Refusal> {
        let digests = |answers: &[Answered]| answers.iter().map(|answer| answer.statement).collect();
        let inner = self.lock();
        if let Some(published) = inner.state.published.get(id.round as usize)
            && published.attempt == id.attempt
        {
            return Ok(digests(&published.answers));
        }
        let current = inner.state.attempt.as_ref();
        let phases = AttemptPhase::Opening..=AttemptPhase::Judging;
        let open =
            current.filter(|a| (a.round, a.attempt) == (id.round, id.attempt) && phases.contains(&a.phase));
        let open = open.ok_or_else(|| Refusal::new(Code::WrongPhase, "the answers are not complete"))?;
        Ok(digests(&open.answers()))
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
            // It tells what every member may know of a model.
            kind if kind == BlobKind::Interface as u16 => true,
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

/// Statements without which the asker cannot go on.
fn must_be_there(item: Item) -> bool {
    matches!(
        item,
        Item::Record | Item::Endorsements | Item::Headers | Item::Answers
    )
}

fn keep<'e>(statements: Statements<'e>, known: impl Fn(&Authored) -> bool + 'e) -> Statements<'e> {
    Box::new(statements.filter(move |said| said.as_ref().map_or(true, &known)))
}

/// The statements after one of them, as many as a page holds.
fn page(mut statements: Statements<'_>, after: Option<&(PartyId, Digest)>) -> Result<Page, Refusal> {
    if let Some((author, digest)) = after {
        let is_it = |said: &Authored| said.author == *author && said.digest() == *digest;
        loop {
            match statements.next().transpose().map_err(internal)? {
                Some(said) if is_it(&said) => break,
                Some(_) => {}
                None => {
                    let text = "the statement to go on after is not among them";
                    return Err(Refusal::new(Code::WrongRound, text));
                }
            }
        }
    }
    let (mut found, mut bytes) = (Vec::new(), 0);
    for said in statements {
        if bytes >= PAGE_BYTES {
            return Ok(Page { found, more: true });
        }
        let Authored { author, statement } = said.map_err(internal)?;
        bytes += statement.payload().len();
        found.push((author, statement));
    }
    Ok(Page { found, more: false })
}

/// What a stored answer or key check says that it seals.
fn sealed_in(item: Item, said: &Authored) -> Result<SealedTexts, Refusal> {
    let sealed = match item {
        Item::KeyChecks => said
            .statement
            .read_unverified::<KeyCheck>()
            .map(|check| check.sealed),
        _ => said
            .statement
            .read_unverified::<AnswerHeader>()
            .map(|answer| answer.sealed),
    };
    sealed.map_err(|error| internal(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_core::SigningKey;

    /// Statements of these lengths, by as many parties.
    fn said(lengths: &[usize]) -> Vec<Authored> {
        let key = SigningKey::generate().unwrap();
        let study = Digest::of(b"study");
        let sign = |(at, len): (usize, &usize)| {
            let name = PartyId::new(format!("h{at}")).unwrap();
            Authored::sign(&key, &name, "test", &study, &vec![at as u8; *len]).unwrap()
        };
        lengths.iter().enumerate().map(sign).collect()
    }

    fn given(said: &[Authored]) -> Statements<'_> {
        Box::new(said.iter().cloned().map(Ok))
    }

    #[test]
    fn pages_are_bounded_and_together_they_are_everything() {
        let all = said(&[10, PAGE_BYTES / 2, PAGE_BYTES / 2, 5, 2 * PAGE_BYTES, 7]);
        let (mut got, mut pages) = (Vec::<(PartyId, Signed)>::new(), 0);
        loop {
            let after = got.last().map(|(author, said)| (author.clone(), said.digest()));
            let page = page(given(&all), after.as_ref()).unwrap();
            let whole: usize = page.found.iter().map(|(_, said)| said.payload().len()).sum();
            let last = page.found.last().map_or(0, |(_, said)| said.payload().len());
            assert!(whole - last < PAGE_BYTES);
            got.extend(page.found);
            pages += 1;
            if !page.more {
                break;
            }
        }
        assert_eq!(pages, 3);
        let expected: Vec<_> = all
            .iter()
            .map(|a| (a.author.clone(), a.statement.clone()))
            .collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn a_page_after_what_is_not_there_is_refused() {
        let all = said(&[1, 2, 3]);
        let other = (all[0].author.clone(), Digest::of(b"other"));
        assert_eq!(
            page(given(&all), Some(&other)).unwrap_err().code,
            Code::WrongRound
        );
        let last = (all[2].author.clone(), all[2].digest());
        let page = page(given(&all), Some(&last)).unwrap();
        assert!(page.found.is_empty() && !page.more);
    }
}
