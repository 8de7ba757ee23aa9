//! Incarnations: what keeps a custodian that came back from an old disk from signing twice.
//!
//! A custodian's ledger says what it has signed. Put back to an earlier state (a restored backup, a virtual machine's snapshot), it
//! has forgotten the newest part and would sign again. So a custodian draws a nonce, its incarnation, whenever it cannot rule that
//! out, and takes part again only from a round on that it cannot have forgotten:
//!
//! - g-1 other custodians confirm the incarnation, each with the newest attempt for which it has given out a key itself. Whoever
//!   endorsed a set together with the forgetful one had given out its key for that attempt before, and of any g-1 such and any g-1
//!   confirming ones at least f = 2g - n - 1 are the same: one of them is neither cheating nor forgetful as long as those that are, the
//!   one that asks included, are at most f. Asking more would bear one more of them, but then nobody could take part again while
//!   a single custodian is absent.
//! - Under an incarnation a custodian signs nothing for the rounds up to the newest that it or a confirming one knows.
//! - A record holds the incarnation of each of its custodians with the confirmations, and custodians refuse one that was replaced.
//!
//! Who knows a newer key of the custodian than its own ledger says so ([`Stale`]), which is the proof that it came back from an
//! old disk.

use crate::authored::{Authored, CONFIRMATION, INCARNATION, ONE_ROUND_KEY, STALE};
use crate::error::SumsError;
use crate::record::{OneRoundKey, RoundId};
use crate::roster::Roster;
use galen_core::{Digest, PartyId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::{BTreeMap, BTreeSet};

/// A custodian's current incarnation, signed by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incarnation {
    /// Whose.
    pub custodian: PartyId,
    /// Drawn at random.
    pub nonce: Digest,
    /// Number of its newest ledger entry when the incarnation began, as it knew it then.
    pub seq: u64,
}

/// Another custodian's word that it takes this incarnation for the current one, in the place of any before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// Whose incarnation.
    pub custodian: PartyId,
    /// Its nonce.
    pub nonce: Digest,
    /// The newest attempt for which the author had given out a key itself when it first confirmed the incarnation.
    pub newest: Option<RoundId>,
}

/// Another custodian's word that the ledger behind an incarnation is older than something that its owner signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stale {
    /// Whose incarnation.
    pub custodian: PartyId,
    /// Its nonce.
    pub nonce: Digest,
    /// The newest one-round key of that custodian that the author knows, as it was signed.
    pub newest: Authored,
}

fn custodian<T: DeserializeOwned>(
    roster: &Roster,
    domain: &str,
    authored: &Authored,
) -> Result<T, SumsError> {
    if roster.custodian_index(&authored.author).is_none() {
        return Err(SumsError::Role {
            party: authored.author.clone(),
            role: "custodian",
        });
    }
    authored.open(roster, domain)
}

fn refuse<T>(author: &PartyId, kind: &'static str, what: &'static str) -> Result<T, SumsError> {
    Err(SumsError::Header {
        kind,
        author: author.clone(),
        what,
    })
}

/// Verifies an incarnation.
///
/// # Errors
/// [`SumsError::Role`], [`SumsError::Signature`], or [`SumsError::Header`] if it names another custodian.
pub fn check_incarnation(roster: &Roster, authored: &Authored) -> Result<Incarnation, SumsError> {
    let said: Incarnation = custodian(roster, INCARNATION, authored)?;
    if said.custodian != authored.author {
        return refuse(
            &authored.author,
            "incarnation",
            "it names another custodian than its signer",
        );
    }
    Ok(said)
}

/// Verifies a confirmation.
///
/// # Errors
/// [`SumsError::Role`], [`SumsError::Signature`], or [`SumsError::Header`] for a custodian that confirms itself or names a stranger.
pub fn check_confirmation(roster: &Roster, authored: &Authored) -> Result<Confirmation, SumsError> {
    let said: Confirmation = custodian(roster, CONFIRMATION, authored)?;
    if said.custodian == authored.author || roster.custodian_index(&said.custodian).is_none() {
        return refuse(
            &authored.author,
            "confirmation",
            "it is not about another custodian",
        );
    }
    Ok(said)
}

/// Verifies that the ledger behind an incarnation is older than a key that its owner signed; returns that key.
///
/// # Errors
/// [`SumsError::Role`] and [`SumsError::Signature`]; [`SumsError::Stale`] if the key is not of that custodian or not newer.
pub fn check_stale(
    roster: &Roster,
    incarnation: &Incarnation,
    authored: &Authored,
) -> Result<OneRoundKey, SumsError> {
    let said: Stale = custodian(roster, STALE, authored)?;
    let key: OneRoundKey = custodian(roster, ONE_ROUND_KEY, &said.newest)?;
    let same = said.custodian == incarnation.custodian && said.nonce == incarnation.nonce;
    let own = said.newest.author == incarnation.custodian && key.custodian == incarnation.custodian;
    if !same || !own || key.seq <= incarnation.seq {
        return Err(SumsError::Stale(authored.author.clone()));
    }
    Ok(key)
}

/// Most incarnations of one custodian in a study; each is a start of its machine, or of its daemon where there is no memory file system.
/// Without a bound, one custodian could fill the disks of the coordinator and of the others.
pub const MAX_INCARNATIONS: usize = 256;

/// How many others must confirm an incarnation: g-1.
pub fn confirmations_needed(roster: &Roster) -> usize {
    roster.agreement() - 1
}

/// Verifies that enough other custodians confirmed the incarnation of every key.
///
/// # Errors
/// [`SumsError::Unconfirmed`]; any invalid confirmation is an error too.
pub fn check_confirmations(
    roster: &Roster,
    keys: &BTreeMap<PartyId, OneRoundKey>,
    confirmations: &[Authored],
) -> Result<(), SumsError> {
    let mut by: BTreeMap<PartyId, BTreeSet<PartyId>> = BTreeMap::new();
    for authored in confirmations {
        let said = check_confirmation(roster, authored)?;
        if keys
            .get(&said.custodian)
            .is_some_and(|key| key.incarnation == said.nonce)
        {
            by.entry(said.custodian)
                .or_default()
                .insert(authored.author.clone());
        }
    }
    let needed = confirmations_needed(roster);
    for custodian in keys.keys() {
        let found = by.get(custodian).map_or(0, BTreeSet::len);
        if found < needed {
            return Err(SumsError::Unconfirmed {
                custodian: custodian.clone(),
                found,
                needed,
            });
        }
    }
    Ok(())
}
