//! What can be wrong with a genuine line.

use crate::audit::event::Culprit;
use crate::audit::words::culprit_words;
use crate::record::RoundId;
use galen_core::study::Purpose;
use galen_core::{Digest, PartyId};
use serde::Serialize;

/// A line that the study's rules forbid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Number of the line.
    pub line: u64,
    /// What is wrong with it, in words.
    pub text: String,
    /// The same for programs.
    #[serde(skip)]
    pub what: Inconsistency,
}

/// What genuine lines tell that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Inconsistency {
    /// A name that the study does not have, or not in this role.
    #[error("{party} is not a {role} of the study")]
    Stranger {
        /// Who.
        party: PartyId,
        /// The role that it would need.
        role: &'static str,
    },
    /// A party that joins twice.
    #[error("{0} had joined before")]
    JoinedTwice(PartyId),
    /// The study became active without everybody.
    #[error("the study became active although {0} had not joined")]
    ActiveWithout(PartyId),
    /// A round before the study was active.
    #[error("a round began before the study was active")]
    NotActive,
    /// Something after the end of the study.
    #[error("the study had ended before")]
    AfterTheEnd,
    /// An incarnation confirmed by its own custodian, or one that was never announced.
    #[error("incarnation {nonce} of {custodian} was confirmed by itself, or was not announced before")]
    Incarnation {
        /// Whose.
        custodian: PartyId,
        /// Its nonce.
        nonce: Digest,
    },
    /// A line about an attempt that lacks an earlier line.
    #[error("{id} has no {missing} before this line")]
    Missing {
        /// The attempt.
        id: RoundId,
        /// What is missing.
        missing: &'static str,
    },
    /// Something that happens once in an attempt.
    #[error("{id} had a {what} before")]
    Twice {
        /// The attempt.
        id: RoundId,
        /// What occurs twice.
        what: &'static str,
    },
    /// A round before the one before it was published, or after it was published itself.
    #[error("{id} was announced, but {published} rounds were published before it")]
    Order {
        /// The attempt.
        id: RoundId,
        /// Rounds published so far.
        published: u32,
    },
    /// An attempt after one that was neither given up by certificate nor is named with the set whose sum may be open.
    #[error(
        "{id} was announced although an attempt before it was neither given up by certificate nor named with the set that may be open"
    )]
    NotAbandoned {
        /// The attempt.
        id: RoundId,
    },
    /// Contributions to a round start from another state than the one published last, or than those of an earlier attempt.
    #[error("{id} starts from state {found}, it should be {expected}")]
    Base {
        /// The attempt.
        id: RoundId,
        /// State in the record.
        found: Digest,
        /// State that it should be.
        expected: Digest,
    },
    /// A second, different contribution.
    #[error("{contributor} had sent another contribution to {id} before")]
    SecondContribution {
        /// The attempt.
        id: RoundId,
        /// Who.
        contributor: PartyId,
    },
    /// A set with a contribution that was not received in this attempt.
    #[error("the set of {id} names a contribution of {contributor} that was not received in this attempt")]
    NotReceived {
        /// The attempt.
        id: RoundId,
        /// Whose.
        contributor: PartyId,
    },
    /// Too small a set.
    #[error("the set of {id} has {members} members, the study asks for at least {min}")]
    TooFew {
        /// The attempt.
        id: RoundId,
        /// Members of the set.
        members: usize,
        /// Fewest allowed.
        min: usize,
    },
    /// A set whose digest is not that of its members.
    #[error("the digest of the set of {id} is not that of its members")]
    SetDigest {
        /// The attempt.
        id: RoundId,
    },
    /// A certificate for another set or sum than the proposed ones.
    #[error("{id}: the set or the sum is another one than was proposed")]
    OtherSet {
        /// The attempt.
        id: RoundId,
    },
    /// Too few valid signatures of distinct custodians.
    #[error("{id}: {valid} distinct custodians signed validly, the study asks for {needed}")]
    TooFewSigners {
        /// The attempt.
        id: RoundId,
        /// Valid signatures of distinct custodians.
        valid: usize,
        /// g.
        needed: usize,
    },
    /// A signature that does not hold, or one signer twice.
    #[error("{id}: the signature of {signer} does not hold, or occurs twice")]
    BadSignature {
        /// The attempt.
        id: RoundId,
        /// Who is said to have signed.
        signer: PartyId,
    },
    /// A set whose sum, together with those of the round that may be open, tells of too few contributors.
    #[error(
        "the sum of {id}, together with those of the round that may be open, tells of a group of {smallest}, the study asks for at least {min}"
    )]
    Subtractable {
        /// The attempt.
        id: RoundId,
        /// Members of the smallest group.
        smallest: usize,
        /// Fewest allowed.
        min: usize,
    },
    /// A contribution in the certificates of two attempts.
    #[error("the contribution of {contributor} to {id} is in the certificate of {earlier} as well")]
    CertifiedTwice {
        /// The attempt.
        id: RoundId,
        /// Whose contribution.
        contributor: PartyId,
        /// The other attempt.
        earlier: RoundId,
    },
    /// The same ciphertexts under two names, or in two attempts.
    #[error("the ciphertexts of {contributor} in {id} were certified before, in {earlier}")]
    CopiedContribution {
        /// The attempt.
        id: RoundId,
        /// In whose name.
        contributor: PartyId,
        /// The other attempt.
        earlier: RoundId,
    },
    /// An attempt that was both agreed upon and given up.
    #[error("{id} has both a certificate and a certificate of abandonment")]
    BothCertificates {
        /// The attempt.
        id: RoundId,
    },
    /// An answer by a custodian that did not agree.
    #[error("{custodian} answered in {id}, whose certificate it has not signed")]
    AnsweredUnsigned {
        /// The attempt.
        id: RoundId,
        /// Who.
        custodian: PartyId,
    },
    /// Another number of contributors than the set has.
    #[error("{id} was opened over {said} contributors, its set has {members}")]
    Count {
        /// The attempt.
        id: RoundId,
        /// Number in the line.
        said: usize,
        /// Members of the set.
        members: usize,
    },
    /// Published although too few receivers derived this state.
    #[error("{id} was published with a state that {readers} receivers derived, the study asks for {min}")]
    Unread {
        /// The attempt.
        id: RoundId,
        /// Receivers that derived it.
        readers: usize,
        /// Fewest allowed.
        min: usize,
    },
    /// A quantity that had been opened before.
    #[error("the {} of state {base} was opened in {earlier} before", .purpose.name())]
    OpenedBefore {
        /// What the sum is for.
        purpose: Purpose,
        /// State that it starts from.
        base: Digest,
        /// Where it was opened.
        earlier: RoundId,
    },
    /// A model that too few contributors agreed to serve.
    #[error("model {model} is served, but {released} contributors released it and the study asks for {min}")]
    Unreleased {
        /// The model.
        model: Digest,
        /// Contributors that released it.
        released: usize,
        /// Fewest allowed.
        min: usize,
    },
    /// Somebody accused without the signed statements that show it.
    #[error("{party} is accused in {id} ({}), but the signed statements that show it are not there", culprit_words(*.culprit))]
    Unproven {
        /// The attempt.
        id: RoundId,
        /// Who.
        party: PartyId,
        /// Of what.
        culprit: Culprit,
    },
}
