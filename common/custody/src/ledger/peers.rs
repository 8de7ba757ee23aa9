//! What a custodian knows of the other custodians' ledgers, by which it vouches for their incarnations.

use galen_core::{Digest, PartyId};
use galen_sums::incarnation::MAX_INCARNATIONS;
use galen_sums::record::{OneRoundKey, RoundId};
use galen_sums::{Authored, Incarnation, Round};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is known of one other custodian.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Peer {
    /// The incarnation that was confirmed last, with the attempt that was said with it.
    current: Option<(Digest, Option<RoundId>)>,
    /// Incarnations that were replaced, each with the newest attempt of that time: later records must not have it.
    retired: BTreeMap<Digest, Option<RoundId>>,
    /// Its newest one-round key, as it signed it, with round and ledger number.
    newest: Option<(RoundId, u64, Authored)>,
}

/// The other custodians.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Peers(BTreeMap<PartyId, Peer>);

/// What a custodian says to another one's incarnation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vouch {
    /// It is the current one; beside it the own newest attempt when it was first confirmed.
    Confirmed(Option<RoundId>),
    /// This key of the same custodian is newer than the ledger behind it.
    Stale(Authored),
    /// It was replaced before by another one.
    Retired,
}

impl Peers {
    /// The incarnation of each other custodian that is taken for the current one.
    pub(super) fn current(&self) -> BTreeMap<PartyId, Digest> {
        let known = |(name, peer): (&PartyId, &Peer)| Some((name.clone(), peer.current.as_ref()?.0));
        self.0.iter().filter_map(known).collect()
    }

    /// Judges an incarnation when `newest` is the own newest attempt. A confirmed one replaces those before.
    pub(super) fn vouch(&mut self, said: &Incarnation, newest: Option<RoundId>) -> Vouch {
        let peer = self.0.entry(said.custodian.clone()).or_default();
        if let Some((nonce, confirmed_at)) = &peer.current
            && *nonce == said.nonce
        {
            return Vouch::Confirmed(*confirmed_at);
        }
        if peer.retired.contains_key(&said.nonce) || peer.retired.len() >= MAX_INCARNATIONS {
            return Vouch::Retired;
        }
        if let Some((_, seq, authored)) = &peer.newest
            && *seq > said.seq
        {
            return Vouch::Stale(authored.clone());
        }
        if let Some((before, _)) = peer.current.replace((said.nonce, newest)) {
            peer.retired.insert(before, newest);
        }
        Vouch::Confirmed(newest)
    }

    /// Takes note of the keys in a verified record.
    pub(super) fn observe(&mut self, me: &PartyId, round: &Round) {
        for authored in &round.record().custodians {
            let Some(key) = round
                .keys()
                .get(&authored.author)
                .filter(|key| key.custodian != *me)
            else {
                continue;
            };
            self.note(key, authored);
        }
    }

    pub(super) fn note(&mut self, key: &OneRoundKey, authored: &Authored) {
        let peer = self.0.entry(key.custodian.clone()).or_default();
        if peer.newest.as_ref().is_none_or(|(_, seq, _)| *seq < key.seq) {
            peer.newest = Some((key.round, key.seq, authored.clone()));
        }
    }

    /// The first custodian of a record whose incarnation in it is not the one that was confirmed, nor one that was replaced only
    /// after the attempt had been announced here.
    pub(super) fn retired_in(&self, round: &Round) -> Option<PartyId> {
        let id = round.id();
        let replaced = |key: &&OneRoundKey| {
            let Some(peer) = self.0.get(&key.custodian) else {
                return false;
            };
            let current = peer.current.as_ref().map(|(nonce, _)| nonce);
            if current.is_none_or(|nonce| *nonce == key.incarnation) {
                return false;
            }
            let since = peer.retired.get(&key.incarnation);
            since.is_none_or(|since| since.is_none_or(|since| id > since))
        };
        let found = round.keys().values().find(replaced);
        found.map(|key| key.custodian.clone())
    }
}
