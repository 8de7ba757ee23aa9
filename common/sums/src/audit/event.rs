//! What a line of the audit log can say.

use crate::authored::Authored;
use crate::record::RoundId;
use galen_core::study::Purpose;
use galen_core::{Digest, PartyId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Something that happened in a study. Variants are only ever added at the end: their order is their encoding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditEvent {
    /// A party showed its signed consent for the first time.
    Admitted {
        /// Who.
        party: PartyId,
        /// Digest of the signed consent.
        consent: Digest,
    },
    /// Every party has signed; rounds begin.
    Activated,
    /// A custodian started anew.
    Incarnation {
        /// Who.
        custodian: PartyId,
        /// Nonce of the incarnation.
        nonce: Digest,
        /// Number of the entry in the custodian's ledger at which it starts.
        seq: u64,
    },
    /// Another custodian knows of nothing newer than this incarnation.
    Confirmed {
        /// Whose incarnation.
        custodian: PartyId,
        /// Its nonce.
        nonce: Digest,
        /// Who confirms it.
        by: PartyId,
    },
    /// Another custodian holds something newer by that custodian than the incarnation knows: it was put back to an old state.
    Stale {
        /// Whose incarnation.
        custodian: PartyId,
        /// Its nonce.
        nonce: Digest,
        /// Who holds the newer statement.
        by: PartyId,
    },
    /// A round record was fixed.
    Record {
        /// Round and attempt.
        id: RoundId,
        /// What the sum is for.
        purpose: Purpose,
        /// Digest of the record.
        record: Digest,
        /// Digest of the state that contributions start from.
        base: Digest,
        /// Earlier attempts of the round that were not given up by certificate, with the contributors over whom their sums may be open.
        standing: BTreeMap<u32, BTreeSet<PartyId>>,
    },
    /// A contribution was received whole.
    Contribution {
        /// Round and attempt.
        id: RoundId,
        /// Whose.
        contributor: PartyId,
        /// Digest of the signed header.
        header: Digest,
        /// Digest of the ciphertexts.
        blob: Digest,
    },
    /// A party was refused a statement.
    Refused {
        /// Who.
        party: PartyId,
        /// What it stated.
        what: String,
        /// Number of the refusal's [`galen_core::Code`].
        code: u16,
        /// Why, in a few words.
        text: String,
    },
    /// A member is named as at fault.
    Named {
        /// Round and attempt.
        id: RoundId,
        /// Who.
        party: PartyId,
        /// Of what.
        culprit: Culprit,
        /// In words.
        text: String,
        /// Signed statements that show it.
        evidence: Vec<Authored>,
    },
    /// The set of contributions and its sum were fixed.
    Proposed {
        /// Round and attempt.
        id: RoundId,
        /// For each contributor, the digest of its signed header.
        members: BTreeMap<PartyId, Digest>,
        /// Digest of the set ([`crate::ContributionSet::digest`]).
        set: Digest,
        /// Digest of the sum's ciphertexts.
        sum: Digest,
    },
    /// Enough custodians endorsed the set and its sum.
    Certified {
        /// Round and attempt.
        id: RoundId,
        /// Digest of the set.
        set: Digest,
        /// Digest of the sum.
        sum: Digest,
        /// The custodians' signed endorsements ([`crate::Endorsement`]).
        endorsements: Vec<Authored>,
    },
    /// The attempt was given up before anything of it could be opened.
    Abandoned {
        /// Round and attempt.
        id: RoundId,
        /// Why.
        reason: String,
        /// The custodians' signed words ([`crate::abandon::Abandoned`]).
        signatures: Vec<Authored>,
    },
    /// A custodian sent the sum of some of the contributors' key pieces, sealed to the receivers.
    Answered {
        /// Round and attempt.
        id: RoundId,
        /// Who.
        custodian: PartyId,
        /// How many pieces the answer covers.
        pieces: u32,
        /// Digest of the sum of key pieces.
        key_sum: Digest,
    },
    /// Every piece is answered: the receivers can read the sum.
    Opened {
        /// Round and attempt.
        id: RoundId,
        /// Who can read it.
        receivers: Vec<PartyId>,
        /// Over how many contributors it is.
        contributors: u32,
    },
    /// A receiver read the sum.
    Read {
        /// Round and attempt.
        id: RoundId,
        /// Who.
        receiver: PartyId,
        /// Digest of the state that it derived.
        result: Digest,
    },
    /// A receiver could not read the sum.
    OpeningFailed {
        /// Round and attempt.
        id: RoundId,
        /// Who.
        receiver: PartyId,
        /// What it said.
        fault: String,
    },
    /// Enough receivers derived the same state from the sum.
    Published {
        /// Round and attempt.
        id: RoundId,
        /// Digest of the sum.
        sum: Digest,
        /// Digest of the state.
        result: Digest,
    },
    /// A contributor agreed that a model goes to the coordinator in clear.
    Released {
        /// Who.
        party: PartyId,
        /// Digest of the model.
        model: Digest,
    },
    /// The coordinator serves a model.
    Served {
        /// Digest of the model.
        model: Digest,
    },
    /// The study is over.
    Closed {
        /// Whether all its steps were done.
        completed: bool,
        /// Why.
        reason: String,
    },
    /// An attempt ended without a result and without a certificate that it is given up: its sum may be open. The round is collected again.
    Repeated {
        /// Round and attempt.
        id: RoundId,
        /// Why.
        reason: String,
        /// The contributors whose sum may be open; none if no set was proposed.
        members: BTreeSet<PartyId>,
        /// Who is asked in the next attempt; none if there is no other.
        next: BTreeSet<PartyId>,
    },
    /// A custodian endorsed a set and its sum when enough others had, so that it can be asked for their pieces.
    Endorsed {
        /// Round and attempt.
        id: RoundId,
        /// Its signed endorsement ([`crate::Endorsement`]).
        endorsement: Authored,
    },
}

/// What a named member did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Culprit {
    /// A contributor whose sealed seeds do not open or do not fit their hashes.
    BadSeeds,
    /// A contributor whose ciphertexts do not decrypt to small values, or lie outside of the agreed range.
    BadCiphertext,
    /// A contributor whose fingerprint does not fit its ciphertexts.
    BadFingerprint,
    /// A custodian that answered with another polynomial than the sum of the key pieces.
    WrongKeySum,
    /// A custodian that signed twice for one attempt.
    TwoSignatures,
    /// A custodian that endorsed and then did not answer.
    RefusedAnswer,
    /// A contributor that is left out because no sum with it opened and others did: it spoils them, or another one does when it takes
    /// part.
    Suspected,
}

impl AuditEvent {
    /// The attempt that it belongs to, if it belongs to one.
    pub fn id(&self) -> Option<RoundId> {
        match self {
            Self::Record { id, .. }
            | Self::Contribution { id, .. }
            | Self::Named { id, .. }
            | Self::Proposed { id, .. }
            | Self::Certified { id, .. }
            | Self::Abandoned { id, .. }
            | Self::Answered { id, .. }
            | Self::Opened { id, .. }
            | Self::Read { id, .. }
            | Self::OpeningFailed { id, .. }
            | Self::Published { id, .. }
            | Self::Repeated { id, .. }
            | Self::Endorsed { id, .. } => Some(*id),
            Self::Admitted { .. }
            | Self::Activated
            | Self::Incarnation { .. }
            | Self::Confirmed { .. }
            | Self::Stale { .. }
            | Self::Refused { .. }
            | Self::Released { .. }
            | Self::Served { .. }
            | Self::Closed { .. } => None,
        }
    }
}
