//! What the coordinator knows of the study and of the round attempt under way.

use galen_core::study::Study;
use galen_core::{Digest, PartyId};
use galen_net::protocol::AttemptPhase;
use galen_sums::roster::Roster;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The whole persisted state of a study. Statements and blobs stand beside it, named by the digests in here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StudyState {
    /// Parties whose consent has been stored.
    pub consents: BTreeSet<PartyId>,
    /// Published rounds, in order. Each has a record of its own, so that this one does not grow with the study.
    #[serde(skip)]
    pub published: Vec<Published>,
    /// The attempt under way.
    pub attempt: Option<Attempt>,
    /// Contributors that a custodian or receiver named as at fault in the round under way.
    pub excluded: BTreeSet<PartyId>,
    /// Model digests that contributors agreed to release.
    pub releases: BTreeMap<PartyId, Digest>,
    /// The model that is served.
    pub serving: Option<Digest>,
    /// Set when the study is over.
    pub closed: Option<Closed>,
}

/// Why a study is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// Whether all steps were done.
    pub completed: bool,
    /// In words.
    pub reason: String,
}

/// A published round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The attempt that was opened.
    pub attempt: u32,
    /// Contributors in the sum.
    pub set: Vec<PartyId>,
    /// Digest of the sum blob.
    pub sum: Digest,
    /// Digests of the answers that open it.
    pub answers: Vec<Digest>,
    /// Digest of the state that the receivers derived.
    pub result: Digest,
    /// When the round's first attempt was announced, in milliseconds since the epoch.
    pub announced_ms: u64,
    /// When it was published.
    pub published_ms: u64,
}

/// A round attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The round, from 0.
    pub round: u32,
    /// The attempt, from 0.
    pub attempt: u32,
    /// Digest of the state from which contributors start.
    pub base: Digest,
    /// Where it stands.
    pub phase: AttemptPhase,
    /// When the round's first attempt was announced.
    pub announced_ms: u64,
    /// When something last moved, on the steady clock; set anew at start-up.
    pub progress_ms: u64,
    /// Custodians that sent a one-round key, with the statement's digest.
    pub keys: BTreeMap<PartyId, Digest>,
    /// Digest of the round record, once fixed.
    pub record: Option<Digest>,
    /// Custodians whose keys stand in the record.
    pub custodians: BTreeSet<PartyId>,
    /// Contributions received.
    pub contributions: BTreeMap<PartyId, Contribution>,
    /// The set and its sum, once fixed.
    pub proposal: Option<Proposal>,
    /// Custodians that endorsed the proposal, with the statement's digest.
    pub endorsements: BTreeMap<PartyId, Digest>,
    /// Who is asked for which pieces. Reassigned pieces add entries; the entries in force partition the pieces.
    pub assignments: Vec<Assignment>,
    /// Receivers that opened, with the digest of what they derived.
    pub opened: BTreeMap<PartyId, Digest>,
    /// Receivers that could not open, with what they said.
    pub failures: BTreeMap<PartyId, String>,
    /// Why it was abandoned, or is about to be.
    pub abandoned: Option<String>,
    /// The contributor that a custodian named as the reason.
    pub culprit: Option<PartyId>,
}

/// A contribution that was received and stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contribution {
    /// Digest of the signed header.
    pub header: Digest,
    /// Digest of the ciphertext blob.
    pub blob: Digest,
}

/// The fixed set and its sum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Contributors, sorted.
    pub set: Vec<PartyId>,
    /// Digest of the set.
    pub set_digest: Digest,
    /// Digest of the sum blob.
    pub sum: Digest,
}

/// Pieces that one custodian is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Who is asked.
    pub custodian: PartyId,
    /// For which pieces.
    pub pieces: Vec<u32>,
    /// Digest of the answer, once received.
    pub answer: Option<Digest>,
}

/// The fixed rules that transitions need: a study's members and thresholds in the form in which they are looked up.
#[derive(Clone)]
pub struct Rules {
    /// Members, keys and pieces.
    pub roster: Arc<Roster>,
    /// Contributors.
    pub contributors: BTreeSet<PartyId>,
    /// g.
    pub agreement: usize,
    /// Smallest set.
    pub min_contributors: usize,
    /// Contributions with which a stalled round may close.
    pub quorum: usize,
    /// Stand-still after which the missing are left behind, in milliseconds.
    pub patience_ms: u64,
    /// Attempts per round.
    pub max_attempts: u32,
}

impl Rules {
    /// The rules of a study.
    pub fn of(study: &Study, roster: Arc<Roster>) -> Self {
        Self {
            contributors: roster.contributors().iter().cloned().collect(),
            roster,
            agreement: study.sums.agreement as usize,
            min_contributors: study.sums.min_contributors as usize,
            quorum: study.sums.quorum as usize,
            patience_ms: u64::from(study.sums.patience_s) * 1000,
            max_attempts: study.sums.max_attempts,
        }
    }

    /// Custodians in the order of the study.
    pub fn custodians(&self) -> &[PartyId] {
        self.roster.custodians()
    }

    /// A partition of all pieces over some custodians; `None` if a piece has no holder among them.
    pub fn assign<'a>(&self, among: impl IntoIterator<Item = &'a PartyId>) -> Option<Vec<Assignment>> {
        let indices = among
            .into_iter()
            .filter_map(|name| self.roster.custodian_index(name))
            .collect();
        let name = |index: usize| self.custodians().get(index).cloned();
        let assigned = self.roster.pieces().assign(&indices)?.into_iter();
        assigned
            .map(|a| {
                Some(Assignment {
                    custodian: name(a.custodian)?,
                    pieces: a.pieces,
                    answer: None,
                })
            })
            .collect()
    }
}

impl Attempt {
    /// Digests of the answers that are in force; they cover each piece at most once.
    pub fn answers(&self) -> Vec<Digest> {
        self.assignments.iter().filter_map(|a| a.answer).collect()
    }

    /// A newly announced attempt.
    pub fn announce(round: u32, attempt: u32, base: Digest, announced_ms: u64, steady_ms: u64) -> Self {
        Self {
            round,
            attempt,
            base,
            phase: AttemptPhase::Announced,
            announced_ms,
            progress_ms: steady_ms,
            keys: BTreeMap::new(),
            record: None,
            custodians: BTreeSet::new(),
            contributions: BTreeMap::new(),
            proposal: None,
            endorsements: BTreeMap::new(),
            assignments: Vec::new(),
            opened: BTreeMap::new(),
            failures: BTreeMap::new(),
            abandoned: None,
            culprit: None,
        }
    }
}
