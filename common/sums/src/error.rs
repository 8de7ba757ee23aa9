//! What the public half refuses, and under which stable code.

use galen_core::{Code, Digest, PartyId, SignError};
use galen_rns::RnsError;

/// A plan that cannot be made, or that is not what its inputs ask for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// No threshold sharing of this kind exists.
    #[error(
        "threshold {threshold} of {custodians} custodians: must be between 2 and the number of custodians"
    )]
    Threshold {
        /// n.
        custodians: usize,
        /// t.
        threshold: usize,
    },
    /// The key would be cut into too many pieces.
    #[error("threshold {threshold} of {custodians} custodians cuts keys into more than 512 pieces")]
    TooManyPieces {
        /// n.
        custodians: usize,
        /// t.
        threshold: usize,
    },
    /// No contributors, or more than are planned for anywhere.
    #[error("{contributors} contributors: must be between 1 and {max}")]
    Contributors {
        /// The refused number.
        contributors: u32,
        /// The largest number.
        max: u32,
    },
    /// A range without values, without room, or with too many fractional bits.
    #[error("value range {index} has no values, a zero bound, or more than {max_fraction} fractional bits")]
    Range {
        /// Which range.
        index: usize,
        /// Most fractional bits.
        max_fraction: u32,
    },
    /// No values, or more than one record takes.
    #[error("{values} values: must be between 1 and {max}")]
    Values {
        /// The refused number.
        values: u64,
        /// The largest number.
        max: u64,
    },
    /// The study opens more coefficients than it said, already in this round.
    #[error("the study announces {said} coefficients, but this sum alone has {needed}")]
    StudyCoefficients {
        /// Number in the inputs.
        said: u64,
        /// Number that this sum has.
        needed: u64,
    },
    /// A sum could leave the range of the integers that it is returned in.
    #[error("{contributors} contributors of values up to {max_abs} overflow a 62-bit sum")]
    SumTooLarge {
        /// Number of contributors.
        contributors: u32,
        /// Largest value of one.
        max_abs: u64,
    },
    /// No allowed modulus is large enough.
    #[error(
        "the sum needs a modulus of {needed} bits, at most {max} are available: \
         take fewer fractional bits or a smaller range"
    )]
    Overflow {
        /// Bits needed.
        needed: u32,
        /// Bits available.
        max: u32,
    },
    /// The plan was made for other inputs.
    #[error("the plan was made for other values, contributors or custodians than the study's")]
    Inputs,
    /// The ring degree or the primes are not those of a plan.
    #[error("the plan's ring is not one of {degree} coefficients and one or two primes")]
    Ring {
        /// The degree of every plan.
        degree: u32,
    },
    /// The modulus is above the bound of 128-bit security.
    #[error("the modulus has {bits} bits, 128-bit security allows {bound}")]
    Security {
        /// Bits of the modulus.
        bits: u32,
        /// Largest log2.
        bound: u32,
    },
    /// The noise bound is not the one that follows from the inputs.
    #[error("the plan's noise bound is {said}, the inputs ask for {needed}")]
    NoiseBound {
        /// Bound in the plan.
        said: u64,
        /// Bound that follows.
        needed: u64,
    },
    /// Delta leaves the remainder check too little room.
    #[error("the plan's delta is {said}, the noise bound asks for {needed}")]
    Delta {
        /// Delta in the plan.
        said: u64,
        /// Delta that follows.
        needed: u64,
    },
    /// The largest sum would wrap around the modulus.
    #[error("the plan's modulus has {bits} bits, which the largest sum overflows")]
    Capacity {
        /// Bits of the modulus.
        bits: u32,
    },
    /// The plan would do, but it is not the one that every party derives.
    #[error("the plan differs from the one that the inputs determine")]
    NotDerived,
    /// A refusal of the ring arithmetic.
    #[error(transparent)]
    Rns(#[from] RnsError),
}

/// What is wrong with a ciphertext or sum blob.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// It does not begin as a blob of sums does.
    #[error("it is not a blob of sums")]
    Magic,
    /// It is of a format version that is not spoken here.
    #[error("format version {0} is unknown")]
    Version(u16),
    /// It is a sum where a contribution was expected, or the other way round.
    #[error("it is of kind {found}, expected {expected}")]
    Kind {
        /// Kind written in the blob.
        found: u16,
        /// Kind that was asked for.
        expected: u16,
    },
    /// It belongs to another round record.
    #[error("it belongs to another round or attempt")]
    Record,
    /// It belongs to another contributor or another set.
    #[error("it belongs to another contributor or set")]
    Subject,
    /// It ends early.
    #[error("it ends early")]
    Truncated,
    /// It goes on after its last block.
    #[error("it is longer than the plan says")]
    TooLong,
    /// A residue is not below its modulus, or padding is not zero.
    #[error("block {block}: {source}")]
    Residues {
        /// Which block.
        block: u32,
        /// What was refused.
        source: RnsError,
    },
    /// Its bytes do not have the announced digest.
    #[error("its digest is {found}, announced was {announced}")]
    Digest {
        /// Digest of the bytes.
        found: Digest,
        /// Digest announced.
        announced: Digest,
    },
    /// More or fewer blocks were written or read than the plan has.
    #[error("it has {blocks} blocks, block {at} does not fit")]
    Blocks {
        /// Blocks of the plan.
        blocks: u32,
        /// The block in question.
        at: u32,
    },
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl BlobError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Version(_) => Code::WrongVersion,
            Self::Record => Code::WrongRound,
            Self::Truncated => Code::BlobTruncated,
            Self::TooLong => Code::BlobTooLarge,
            Self::Digest { .. } => Code::BlobMismatch,
            Self::Io(_) | Self::Blocks { .. } => Code::Internal,
            _ => Code::NotConforming,
        }
    }
}

/// Why a set of contributions is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetFault {
    /// Too few members for a sum to hide anything.
    #[error("{members} contributions, at least {min} are needed")]
    TooFew {
        /// Members of the set.
        members: usize,
        /// Fewest allowed.
        min: usize,
    },
    /// More members than the plan has room for.
    #[error("{members} contributions, the plan has room for {max}")]
    TooMany {
        /// Members of the set.
        members: usize,
        /// Most allowed.
        max: usize,
    },
    /// A member occurs twice.
    #[error("\"{0}\" occurs twice")]
    Repeated(PartyId),
    /// A member is no contributor of the study.
    #[error("\"{0}\" is no contributor of this study")]
    Stranger(PartyId),
    /// The contribution of a member is missing or is another one than the set names.
    #[error("the contribution of \"{0}\" is not the one that the set names")]
    Contribution(PartyId),
    /// The set that was certified is another one.
    #[error("the set or the sum is not the certified one")]
    NotCertified,
}

/// Why the fingerprints of contributions do not vouch for a sum.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FingerprintFault {
    /// A member made no statement, and nobody computed its fingerprint.
    #[error("there is no fingerprint of the contribution of \"{0}\"")]
    Missing(PartyId),
    /// A member made two statements.
    #[error("\"{0}\" made two statements")]
    Repeated(PartyId),
    /// A statement by someone whose contribution is not in the set.
    #[error("\"{0}\" has no contribution in the set")]
    Stranger(PartyId),
    /// A member signed another fingerprint than that of its contribution.
    #[error("\"{0}\" signed a fingerprint that is not the one of its contribution")]
    False(PartyId),
    /// The fingerprints do not add up.
    #[error("the contributions do not add up to the sum that the coordinator served")]
    Sum,
}

/// What the public half of the sums refuses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SumsError {
    /// A plan that does not fit.
    #[error("plan of the sums: {0}")]
    Plan(#[from] PlanError),
    /// A statement of a party that is no member or lacks the role.
    #[error("\"{party}\" is not a {role} of this study")]
    Role {
        /// The party.
        party: PartyId,
        /// The role that it lacks.
        role: &'static str,
    },
    /// A roster that contradicts itself.
    #[error("roster: {0}")]
    Roster(&'static str),
    /// A signature that does not fit, or a statement that cannot be decoded.
    #[error("statement of \"{author}\": {source}")]
    Signature {
        /// Who is said to have signed.
        author: String,
        /// What was refused.
        source: SignError,
    },
    /// A value that cannot be encoded.
    #[error("encoding failed: {0}")]
    Encoding(#[from] postcard::Error),
    /// A record of another study.
    #[error("the round record belongs to study {found}, this is study {expected}")]
    Study {
        /// Study named in the record.
        found: Digest,
        /// This study.
        expected: Digest,
    },
    /// A statement for another round, attempt or record.
    #[error("the statement of \"{author}\" is for another round, attempt or record")]
    Record {
        /// Who made it.
        author: PartyId,
    },
    /// A record without enough custodians, or with one twice.
    #[error("custodians of the round record: {0}")]
    Custodians(&'static str),
    /// A contribution trained from another base model.
    #[error("the contribution of \"{contributor}\" has base model {found}, the round has {expected}")]
    Base {
        /// Whose contribution.
        contributor: PartyId,
        /// Base that it names.
        found: Digest,
        /// Base of the round.
        expected: Digest,
    },
    /// A header of the wrong form.
    #[error("the {kind} of \"{author}\" does not conform: {what}")]
    Header {
        /// Contribution or answer.
        kind: &'static str,
        /// Who made it.
        author: PartyId,
        /// What does not conform.
        what: &'static str,
    },
    /// A blob of the wrong form.
    #[error("the blob of {whose} is refused: {source}")]
    Blob {
        /// Whose blob it is.
        whose: String,
        /// What was refused.
        source: BlobError,
    },
    /// A set that must not be opened.
    #[error("the set is refused: {0}")]
    Set(#[from] SetFault),
    /// Too few valid endorsements of one set and sum.
    #[error("{found} custodians endorse the set, {needed} are needed")]
    Certificate {
        /// Valid endorsements of one statement.
        found: usize,
        /// g.
        needed: usize,
    },
    /// Too few custodians that gave the attempt up.
    #[error("{found} custodians gave {round} up, {needed} are needed")]
    Abandonment {
        /// The attempt.
        round: crate::record::RoundId,
        /// Valid statements.
        found: usize,
        /// g.
        needed: usize,
    },
    /// A record that does not account for every earlier attempt of its round.
    #[error("{0} does not say what became of each attempt before it")]
    Earlier(crate::record::RoundId),
    /// An incarnation that too few other custodians confirmed.
    #[error("the incarnation of \"{custodian}\" is confirmed by {found} others, {needed} are needed")]
    Unconfirmed {
        /// Whose.
        custodian: PartyId,
        /// Distinct other custodians that confirmed it.
        found: usize,
        /// g - 1.
        needed: usize,
    },
    /// Evidence of an old disk that proves nothing.
    #[error("the word of \"{0}\" about an old disk proves nothing")]
    Stale(PartyId),
    /// Endorsements of one certificate that disagree, or come twice from one custodian.
    #[error("the endorsement of \"{0}\" contradicts or repeats another one")]
    Endorsement(PartyId),
    /// Fingerprints that do not vouch for the sum.
    #[error("fingerprints: {0}")]
    Fingerprint(#[from] FingerprintFault),
    /// A fault of the ring arithmetic, which checked data cannot cause.
    #[error(transparent)]
    Rns(#[from] RnsError),
}

impl SumsError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Plan(_) | Self::Header { .. } | Self::Custodians(_) => Code::NotConforming,
            Self::Role { .. } => Code::RoleMissing,
            Self::Signature { .. } => Code::BadSignature,
            Self::Study { .. } => Code::WrongStudy,
            Self::Record { .. } => Code::WrongRound,
            Self::Base { .. } => Code::WrongBase,
            Self::Blob { source, .. } => source.code(),
            Self::Fingerprint(FingerprintFault::Sum) => Code::WrongSum,
            Self::Fingerprint(FingerprintFault::False(_)) => Code::NotConforming,
            Self::Fingerprint(_) => Code::SetRefused,
            Self::Set(_) | Self::Certificate { .. } | Self::Endorsement(_) => Code::SetRefused,
            Self::Abandonment { .. } | Self::Earlier(_) | Self::Unconfirmed { .. } | Self::Stale(_) => {
                Code::NotConforming
            }
            Self::Roster(_) | Self::Encoding(_) | Self::Rns(_) => Code::Internal,
        }
    }

    pub(crate) fn blob(whose: impl std::fmt::Display, source: BlobError) -> Self {
        Self::Blob {
            whose: whose.to_string(),
            source,
        }
    }
}
