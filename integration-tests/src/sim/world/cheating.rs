//! Contributors that cheat: their messages are changed on the way out, and what their programs keep with them.

use super::{Bug, World};
use crate::sim::spoil::{Cheat, Parcel};
use crate::sim::wire::Message;
use galen_core::{Digest, Signed};
use galen_net::protocol::{BlobKind, Request, Statement};
use galen_party::vault::{Item, Vault};
use galen_sums::{Authored, ContributionHeader, FingerprintStatement, Round};
use std::sync::Arc;

impl World<'_> {
    /// What a party sends in the place of what its program says.
    pub(super) fn cheated(&mut self, party: usize, message: Message) -> Message {
        if self.spoils.is_empty() {
            return message;
        }
        let changed = match &message {
            Message::Put { digest, bytes, kind } if *kind == BlobKind::Contribution => {
                self.spoilt_blob(party, digest, bytes)
            }
            Message::Call(Request::Post(Statement::Contribution(signed))) => {
                self.spoilt_header(party, signed)
            }
            Message::Call(Request::Post(Statement::Fingerprint(signed))) => {
                self.false_fingerprint(party, signed)
            }
            _ => Ok(None),
        };
        match changed {
            Ok(changed) => changed.unwrap_or(message),
            Err(error) => {
                // It is the simulation that fails here, and must not look as if everything held.
                self.stops
                    .push((None, format!("turn {}: spoiling failed: {error:#}", self.turn)));
                message
            }
        }
    }

    fn spoilt_blob(
        &mut self,
        party: usize,
        digest: &Digest,
        bytes: &Arc<[u8]>,
    ) -> anyhow::Result<Option<Message>> {
        let hospital = &self.seats[party].hospital;
        let (Some(vault), Some(store)) = (hospital.vault(), hospital.store()) else {
            return Ok(None);
        };
        let kept = |round: &Round| {
            let (authored, header) = kept(&vault, round)?;
            (header.ciphertext == *digest).then_some(authored)
        };
        let found = self
            .recorder
            .rounds()
            .find_map(|round| Some((round, kept(round)?)));
        let Some((round, header)) = found else {
            return Ok(None);
        };
        let honest = Parcel {
            header,
            ciphertext: Arc::clone(bytes),
        };
        let seat = &self.seats[party];
        let identity = &self.cast.members[seat.member].identity;
        let cheat = Cheat {
            party: seat.member,
            name: &identity.name,
            signing: &identity.signing,
        };
        let spoilt = self
            .spoiler
            .contribution(self.spoils, &cheat, round, &honest, &vault)?;
        let Some(spoilt) = spoilt else { return Ok(None) };
        // Its program stands by it from now on. A power cut may get in between; then nothing is sent either.
        let mut batch = store.database().batch();
        let header = postcard::to_stdvec(&spoilt.header)?;
        let id = round.id();
        if vault.put(&mut batch, id, &Item::Header, &header).is_ok()
            && vault
                .put(&mut batch, id, &Item::Ciphertext, &spoilt.ciphertext)
                .is_ok()
        {
            let _ = batch.commit();
        }
        self.note(|| format!("{} spoils its contribution to {id}", cheat.name));
        Ok(Some(Message::Put {
            digest: Digest::of(&spoilt.ciphertext),
            bytes: spoilt.ciphertext,
            kind: BlobKind::Contribution,
        }))
    }

    fn spoilt_header(&self, party: usize, signed: &Signed) -> anyhow::Result<Option<Message>> {
        let header: ContributionHeader = signed.read_unverified()?;
        let (Some(vault), Some(round)) = (
            self.seats[party].hospital.vault(),
            self.recorder.round(&header.record),
        ) else {
            return Ok(None);
        };
        let kept = kept(&vault, round).map(|(authored, _)| authored.statement);
        Ok(kept.map(|kept| Message::Call(Request::Post(Statement::Contribution(kept)))))
    }

    fn false_fingerprint(&mut self, party: usize, signed: &Signed) -> anyhow::Result<Option<Message>> {
        let said: FingerprintStatement = signed.read_unverified()?;
        let Some(round) = self.recorder.round(&said.record) else {
            return Ok(None);
        };
        let member = self.seats[party].member;
        let identity = &self.cast.members[member].identity;
        let cheat = Cheat {
            party: member,
            name: &identity.name,
            signing: &identity.signing,
        };
        let other = self.spoiler.fingerprint(self.spoils, &cheat, round, said)?;
        Ok(other.map(|other| Message::Call(Request::Post(Statement::Fingerprint(other.statement)))))
    }

    /// What a contribution encrypts that a party is about to send: the values that it kept, unless it spoilt it.
    pub(super) fn encrypted(&self, party: usize, request: &Request) -> Option<Vec<i64>> {
        let Request::Post(Statement::Contribution(signed)) = request else {
            return None;
        };
        let authored = Authored {
            author: self.member(party).clone(),
            statement: signed.clone(),
        };
        if self.bug != Some(Bug::Unrecorded)
            && let Some(truth) = self.spoiler.truth(&authored.digest())
        {
            return truth.clone();
        }
        let header: ContributionHeader = signed.read_unverified().ok()?;
        let round = self.recorder.round(&header.record)?;
        let vault = self.seats[party].hospital.vault()?;
        let values = vault.values(round.id().round).ok().flatten();
        values.map(|values| values.to_vec())
    }
}

/// The contribution to a round as a vault has it.
fn kept(vault: &Vault, round: &Round) -> Option<(Authored, ContributionHeader)> {
    let bytes = vault.get(round.id(), &Item::Header).ok().flatten()?;
    let authored: Authored = postcard::from_bytes(&bytes).ok()?;
    let header: ContributionHeader = authored.statement.read_unverified().ok()?;
    (header.record == *round.digest()).then_some((authored, header))
}
