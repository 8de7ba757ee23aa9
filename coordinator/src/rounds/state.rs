//! What the coordinator knows of the study and of the round attempt under way.

use galen_core::study::{Role, Study};
use galen_core::{Digest, PartyId};
use galen_net::protocol::AttemptPhase;
use galen_sums::incarnation::confirmations_needed;
use galen_sums::roster::Roster;
use galen_sums::statement::OpeningFault;
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
    /// Contributors that a custodian named as at fault in the round under way.
    pub excluded: BTreeSet<PartyId>,
    /// Contributors of which one spoils sums; a single one is left out from then on.
    pub suspects: BTreeSet<PartyId>,
    /// Contributors that were in every set of the study whose sum did not open; `None` before the first one.
    pub in_all_spoilt: Option<BTreeSet<PartyId>>,
    /// What became of the earlier attempts of the round under way.
    pub earlier: Vec<EarlierAttempt>,
    /// The custodians' incarnations.
    pub incarnations: BTreeMap<PartyId, IncarnationState>,
    /// When a custodian last introduced itself or vouched for another, on the steady clock; set anew at start-up.
    #[serde(skip)]
    pub introduced_ms: u64,
    /// Model digests that contributors agreed to release.
    pub releases: BTreeMap<PartyId, Digest>,
    /// The model that is served.
    pub serving: Option<Digest>,
    /// Set when the study is over.
    pub closed: Option<Closed>,
}

/// How an earlier attempt of the round under way ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EarlierAttempt {
    /// It was given up by certificate.
    Abandoned,
    /// It was certified for these contributors, and its sum did not open.
    Standing(BTreeSet<PartyId>),
}

impl EarlierAttempt {
    /// The set whose sum may be open.
    pub fn standing(&self) -> Option<&BTreeSet<PartyId>> {
        match self {
            Self::Abandoned => None,
            Self::Standing(set) => Some(set),
        }
    }
}

/// A custodian's incarnation and who confirmed it. The statements stand beside the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncarnationState {
    /// Its nonce.
    pub nonce: Digest,
    /// The custodian's ledger number as it said it.
    pub seq: u64,
    /// How many incarnations it has begun in this study, with this one.
    pub begun: u32,
    /// Who confirmed it.
    pub confirmed: BTreeSet<PartyId>,
    /// Who showed that its ledger is old.
    pub stale: Option<PartyId>,
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
    /// The answers that open it.
    pub answers: Vec<Answered>,
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
    /// Who is asked to contribute, where it is not everybody.
    pub asked: Option<BTreeSet<PartyId>>,
    /// Custodians that sent a one-round key.
    pub keys: BTreeMap<PartyId, RoundKey>,
    /// Digest of the round record, once fixed.
    pub record: Option<Digest>,
    /// Custodians whose keys stand in the record.
    pub custodians: BTreeSet<PartyId>,
    /// Contributions received.
    pub contributions: BTreeMap<PartyId, Contribution>,
    /// The set and its sum, once fixed.
    pub proposal: Option<Proposal>,
    /// Custodians that found the proposal's seeds to fit, with the statement's digest.
    pub checked: BTreeMap<PartyId, Digest>,
    /// Custodians that found a contributor's seeds not to fit, with that contributor.
    pub refused: BTreeMap<PartyId, PartyId>,
    /// Custodians that endorsed the proposal, with the statement's digest.
    pub endorsements: BTreeMap<PartyId, Digest>,
    /// Custodians that gave the attempt up, with the statement's digest.
    pub abandons: BTreeMap<PartyId, Digest>,
    /// Members of the set that sent their fingerprints, with the statement's digest.
    pub fingerprints: BTreeMap<PartyId, Digest>,
    /// Who is asked for which pieces. Reassigned pieces add entries; the entries in force partition the pieces.
    pub assignments: Vec<Assignment>,
    /// Receivers that opened, with the digest of what they derived.
    pub opened: BTreeMap<PartyId, Digest>,
    /// Receivers that could not open, with what they said.
    pub failures: BTreeMap<PartyId, Failure>,
    /// Custodians that sent key checks, with the statement's digest.
    pub key_checks: BTreeMap<PartyId, Digest>,
    /// Receivers that judged the key checks, with the custodians that they name.
    pub judged: BTreeMap<PartyId, Named>,
    /// Custodians whose answers were replaced by others'; they are not asked again.
    pub liars: BTreeSet<PartyId>,
    /// How often pieces of silent custodians were given to others.
    pub reassigned: u32,
    /// Whether the custodians' answers were disputed before.
    pub disputed: bool,
    /// Why it was abandoned, or is about to be.
    pub abandoned: Option<String>,
    /// Who is asked in the attempt after this one, where it is not everybody.
    pub asked_next: Option<BTreeSet<PartyId>>,
}

/// A custodian's one-round key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundKey {
    /// Digest of the statement.
    pub statement: Digest,
    /// The incarnation under which it was given out.
    pub incarnation: Digest,
}

/// What a receiver said of a sum that does not open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What does not fit.
    pub fault: OpeningFault,
    /// In words.
    pub detail: String,
}

/// Whom a receiver names after it compared the key checks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Whose answers were wrong.
    pub liars: Vec<PartyId>,
    /// Whose answers may be wrong.
    pub doubted: Vec<PartyId>,
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
    /// The answer, once received.
    pub answer: Option<Answered>,
}

/// A custodian's answer that was received and stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// Digest of the signed statement.
    pub statement: Digest,
    /// Digest of the blob of what it seals to the receivers.
    pub sealed: Digest,
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
    /// Stand-still after which the study is closed, in milliseconds.
    pub give_up_ms: u64,
    /// Attempts per round.
    pub max_attempts: u32,
    /// How many others must confirm a custodian's incarnation.
    pub confirmations: usize,
}

impl Rules {
    /// The rules of a study.
    pub fn of(study: &Study, roster: Arc<Roster>) -> Self {
        Self {
            contributors: roster.contributors().iter().cloned().collect(),
            confirmations: confirmations_needed(&roster),
            roster,
            agreement: study.sums.agreement as usize,
            min_contributors: study.sums.min_contributors as usize,
            quorum: study.sums.quorum as usize,
            patience_ms: u64::from(study.sums.patience_s) * 1000,
            give_up_ms: u64::from(study.sums.give_up_s) * 1000,
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

impl StudyState {
    /// What transitions of an attempt look at beside it.
    pub fn standing(&self, rules: &Rules) -> Standing {
        let enough = |state: &IncarnationState| state.confirmed.len() >= rules.confirmations;
        let confirmed = self.incarnations.iter().filter(|(_, state)| enough(state));
        Standing {
            open: self
                .earlier
                .iter()
                .filter_map(EarlierAttempt::standing)
                .cloned()
                .collect(),
            excluded: self.left_out(),
            confirmed: confirmed
                .map(|(name, state)| (name.clone(), state.nonce))
                .collect(),
        }
    }

    /// What is left of the state under a successor of the study: the search for a contributor that spoils sums goes on, if all that are
    /// suspected are still contributors. Otherwise the one that does may have left, and a search among the rest would end with one that does not.
    #[must_use]
    pub fn succeed(&self, successor: &Study) -> Self {
        let stays = |name: &PartyId| successor.has_role(name, Role::Contributor);
        let suspects = match self.suspects.iter().all(stays) {
            true => self.suspects.clone(),
            false => BTreeSet::new(),
        };
        Self {
            suspects,
            ..Self::default()
        }
    }

    /// Contributors that are not asked: those named in this round, and one that spoils sums.
    pub fn left_out(&self) -> BTreeSet<PartyId> {
        let mut out = self.excluded.clone();
        if self.suspects.len() == 1 {
            out.extend(self.suspects.iter().cloned());
        }
        out
    }
}

/// What transitions of an attempt look at beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Sets of earlier attempts of the round whose sums may be open.
    pub open: Vec<BTreeSet<PartyId>>,
    /// Contributors that are not asked.
    pub excluded: BTreeSet<PartyId>,
    /// Custodians whose incarnation enough others confirmed, with its nonce.
    pub confirmed: BTreeMap<PartyId, Digest>,
}

impl Attempt {
    /// Who is asked to contribute.
    pub fn expected(&self, rules: &Rules, standing: &Standing) -> BTreeSet<PartyId> {
        let asked = self.asked.as_ref().unwrap_or(&rules.contributors);
        asked.difference(&standing.excluded).cloned().collect()
    }

    /// Custodians whose keys can stand in a record.
    pub fn usable_keys(&self, standing: &Standing) -> BTreeSet<PartyId> {
        let usable =
            |(name, key): &(&PartyId, &RoundKey)| standing.confirmed.get(*name) == Some(&key.incarnation);
        self.keys
            .iter()
            .filter(usable)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// The answers that are in force; they cover each piece at most once.
    pub fn answers(&self) -> Vec<Answered> {
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
            asked: None,
            keys: BTreeMap::new(),
            record: None,
            custodians: BTreeSet::new(),
            contributions: BTreeMap::new(),
            proposal: None,
            checked: BTreeMap::new(),
            refused: BTreeMap::new(),
            endorsements: BTreeMap::new(),
            abandons: BTreeMap::new(),
            fingerprints: BTreeMap::new(),
            assignments: Vec::new(),
            opened: BTreeMap::new(),
            failures: BTreeMap::new(),
            key_checks: BTreeMap::new(),
            judged: BTreeMap::new(),
            liars: BTreeSet::new(),
            reassigned: 0,
            disputed: false,
            abandoned: None,
            asked_next: None,
        }
    }
}
