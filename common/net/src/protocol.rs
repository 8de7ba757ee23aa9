//! What parties and coordinator say to each other.
//!
//! Parties dial out and ask; the coordinator answers. A party learns what goes on from the [`View`], which it polls and which the
//! coordinator answers as soon as something changed. Everything that binds its author travels as a signed statement
//! ([`galen_core::Signed`]) whose type and domain the crate `galen-sums` fixes; large objects are blobs named by digest.
//!
//! Every request may be repeated: a repeat of an accepted statement is answered with [`Response::Ok`], a different statement
//! where one is final with [`galen_core::Code::Conflict`].

use galen_core::{Digest, PartyId, Refusal, Signed};
use serde::{Deserialize, Serialize};

/// What a party asks of the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// The first request on every connection: the party's signed consent to the study
    /// (domain [`galen_core::study::STUDY_SIGNATURE`], payload the study digest). Answered by `Ok`.
    Hello {
        /// Signed study digest.
        consent: Signed,
    },
    /// Waits until the view differs from the one numbered `seen`, at most some seconds. Answered by `View`.
    Poll {
        /// Number of the last view received; 0 for none.
        seen: u64,
        /// The first published round that the asker wants to see.
        from: u32,
    },
    /// Makes a statement. Answered by `Ok`.
    Post(Statement),
    /// Asks for statements of others, a page at a time. Answered by `Statements`.
    Fetch {
        /// The round.
        round: u32,
        /// The attempt.
        attempt: u32,
        /// Which statements.
        item: Item,
        /// Author and digest of the last statement that the asker has of them; those after it are wanted.
        after: Option<(PartyId, Digest)>,
    },
    /// Asks for what a statement seals to the asker. Answered by `Sealed`.
    FetchSealed {
        /// The round.
        round: u32,
        /// The attempt.
        attempt: u32,
        /// Where the statement was listed: among the answers or the key checks.
        item: Item,
        /// Digest of the signed statement.
        statement: Digest,
    },
    /// Announces the upload of a blob. Answered by `Offset`, then the chunks follow, then `Ok`.
    Put {
        /// SHA-256 of the bytes.
        digest: Digest,
        /// Number of bytes.
        len: u64,
        /// What the blob is for; decides size limit and who may read it.
        kind: BlobKind,
    },
    /// Asks for a blob from an offset on. Answered by `Blob`, then the chunks follow.
    Get {
        /// SHA-256 of the bytes.
        digest: Digest,
        /// First byte wanted.
        offset: u64,
    },
    /// Asks which model is served. Answered by `Serving`.
    Serving,
    /// Asks whether a querier's evaluation key is registered. Answered by `Key`.
    KeyStatus {
        /// Digest of the evaluation key blob.
        key: Digest,
    },
    /// Submits an encrypted batch, uploaded before as a blob. Answered by `Query`.
    Query {
        /// Model that the batch is for.
        model: Digest,
        /// Evaluation key blob.
        key: Digest,
        /// Batch blob.
        batch: Digest,
    },
    /// Asks how a query is doing. Answered by `Query`.
    QueryStatus {
        /// The batch blob's digest, which names the query.
        batch: Digest,
    },
    /// Asks for the audit log after its first `from` lines. Answered by `Audit`.
    Audit {
        /// Number of lines that the asker has.
        from: u64,
    },
    /// Asks which models can be queried. Answered by `Models`.
    Models,
    /// Takes a query back. Answered by `Query`: a query that has ended stays as it ended.
    Cancel {
        /// The batch blob's digest, which names the query.
        batch: Digest,
    },
    /// Says that the answer to a query has arrived and is not needed here any more. Answered by `Ok`.
    Acknowledge {
        /// The batch blob's digest, which names the query.
        batch: Digest,
    },
}

/// What the coordinator answers.
#[allow(clippy::large_enum_variant)] // It is made, sent and dropped; nothing keeps many of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// Accepted and durable.
    Ok,
    /// The state of the study.
    View(View),
    /// Signed statements with their authors.
    Statements {
        /// Some of them, at least one if there are any.
        found: Vec<(PartyId, Signed)>,
        /// Whether others follow.
        more: bool,
    },
    /// A text that is sealed to the asker; empty if the statement seals nothing.
    Sealed(Vec<u8>),
    /// How many bytes of the blob are stored; send the rest.
    Offset(u64),
    /// The blob has this many bytes; those from the asked offset follow.
    Blob {
        /// Length of the whole blob.
        len: u64,
    },
    /// The served model, if any.
    Serving(Option<Serving>),
    /// Whether an evaluation key is registered.
    Key(KeyState),
    /// State of a query.
    Query(QueryState),
    /// Refused, with the reason.
    Refused(Refusal),
    /// Signed lines of the audit log in their order, as many as one answer holds; none if there are no further ones.
    Audit(Vec<Signed>),
    /// Not an answer yet: the request waits for its turn, and the answer follows. Sent again and again, so that nobody's patience ends in
    /// a queue.
    Wait,
    /// Every version of a model that is answered.
    Models(Vec<Offer>),
}

/// A signed statement by a party. The domain of each is a constant in `galen-sums`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Statement {
    /// A custodian's one-round key.
    RoundKey(Signed),
    /// A contributor's header; its ciphertext blob was uploaded before.
    Contribution(Signed),
    /// A custodian's incarnation.
    Incarnation(Signed),
    /// A custodian confirms another one's incarnation.
    Confirmation(Signed),
    /// A custodian shows that another one's ledger is older than what it signed.
    Stale(Signed),
    /// A custodian found the seeds of the proposed set to fit; it is not bound by that.
    Checked(Signed),
    /// A custodian found the seeds of one contributor in the proposed set not to fit.
    SeedsRefused(Signed),
    /// A custodian endorses the proposed set and sum, and is bound to them.
    Endorsement(Signed),
    /// A custodian gives the attempt up.
    Abandoned(Signed),
    /// A contributor's fingerprint of what it sent, once set and sum are fixed.
    Fingerprint(Signed),
    /// A custodian's word on every piece that it holds, once an opening has failed. The blob of what it seals was uploaded before.
    KeyCheck(Signed),
    /// A receiver names the custodians whose answers were wrong.
    Judged(Signed),
    /// A custodian's key sum for some pieces. The blob of what it seals to the receivers was uploaded before.
    Answer(Signed),
    /// A receiver opened the sum, and this is the digest of the state that it derived.
    Opened(Signed),
    /// A receiver could not open the sum.
    OpeningFailed(Signed),
    /// A contributor agrees that the model with this digest is released as the study says.
    Release(Signed),
    /// A receiver found that a contributor signed another fingerprint than that of what it sent.
    FingerprintRefused(Signed),
}

/// Which statements of a round attempt are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item {
    /// The coordinator's round record (one statement).
    Record,
    /// The headers of the contributions in the proposed set, in the order of the set.
    Headers,
    /// The custodians' endorsements.
    Endorsements,
    /// The custodians' answers (receivers only).
    Answers,
    /// The contributors' fingerprints (receivers only).
    Fingerprints,
    /// The custodians' key checks (receivers only).
    KeyChecks,
    /// The custodians' certificate that the attempt was given up.
    Abandonment,
    /// All custodians' current incarnations; round and attempt mean nothing here.
    Incarnations,
    /// The confirmations of these incarnations; round and attempt mean nothing here.
    Confirmations,
    /// What shows the asking custodian's own ledger to be old; round and attempt mean nothing here.
    Staleness,
    /// What receivers say that they derived (receivers only).
    Openings,
}

/// What a blob is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BlobKind {
    /// A contributor's ciphertexts.
    Contribution,
    /// The sum of a set of contributions.
    Sum,
    /// A released model.
    Model,
    /// A querier's evaluation key.
    EvaluationKey,
    /// A querier's encrypted batch.
    Batch,
    /// An encrypted answer.
    Answer,
    /// What a custodian's statement seals to the receivers, one text after the other in the order of their names.
    Sealed,
    /// What a querier needs to know of a model (`galen_inference::Interface`).
    Interface,
}

/// The state of the study as every party may see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Number of this view; never repeats, also after a restart.
    pub version: u64,
    /// Where the study stands.
    pub study: StudyPhase,
    /// How many rounds are published.
    pub rounds: u32,
    /// The round that is the first in `published`.
    pub first: u32,
    /// Published rounds in their order, as many as one view holds.
    pub published: Vec<PublishedRound>,
    /// The attempt under way.
    pub attempt: Option<AttemptView>,
    /// Digest of the model that is served.
    pub serving: Option<Digest>,
    /// The custodians' incarnations.
    pub incarnations: Vec<IncarnationView>,
}

impl View {
    /// A published round, if this view shows it.
    pub fn published_round(&self, round: u32) -> Option<&PublishedRound> {
        let index = round.checked_sub(self.first)?;
        self.published.get(usize::try_from(index).ok()?)
    }

    /// Whether further rounds are published than those that this view shows.
    pub fn is_cut(&self) -> bool {
        let shown = u32::try_from(self.published.len()).unwrap_or(u32::MAX);
        self.first.saturating_add(shown) < self.rounds
    }
}

/// A custodian's incarnation as the coordinator knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncarnationView {
    /// Whose.
    pub custodian: PartyId,
    /// Its nonce.
    pub nonce: Digest,
    /// Who confirmed it.
    pub confirmed: Vec<PartyId>,
    /// Whether somebody showed that its owner's ledger is old.
    pub stale: bool,
}

/// Where the study stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StudyPhase {
    /// Waiting for these parties' signatures.
    Frozen {
        /// Parties that have not signed.
        missing: Vec<PartyId>,
    },
    /// All have signed; rounds and serving go on.
    Active,
    /// Over.
    Closed {
        /// Whether all steps were done.
        completed: bool,
        /// Why.
        reason: String,
    },
}

/// A round whose sum has been opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedRound {
    /// The attempt that was opened.
    pub attempt: u32,
    /// Digest of the sum blob.
    pub sum: Digest,
    /// Digest of the state that the receivers derived from it.
    pub result: Digest,
}

/// The attempt under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptView {
    /// The round.
    pub round: u32,
    /// The attempt, from 0.
    pub attempt: u32,
    /// Where it stands.
    pub phase: AttemptPhase,
    /// Who is waited for.
    pub awaiting: Vec<PartyId>,
    /// Who is to contribute; the others are left out of this attempt.
    pub contributors: Vec<PartyId>,
    /// From `Proposed` on: the contributors in the set, in its order.
    pub set: Vec<PartyId>,
    /// From `Proposed` on: digest of the set.
    pub set_digest: Option<Digest>,
    /// From `Proposed` on: digest of the sum blob.
    pub sum: Option<Digest>,
    /// How many custodians' answers were replaced: what was opened, checked and judged before is done again.
    pub replaced: u32,
    /// In `Certified`: pieces that each custodian is asked for.
    pub assignments: Vec<(PartyId, Vec<u32>)>,
}

/// Phases of a round attempt at the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttemptPhase {
    /// Custodians are asked for one-round keys.
    Announced,
    /// The round record is fixed; contributions come in.
    Collecting,
    /// The set and its sum are fixed; custodians check the seeds.
    Proposed,
    /// The seeds fit; custodians endorse the set and the sum.
    Endorsing,
    /// Enough custodians endorsed; they are asked for key sums, and the contributors for fingerprints.
    Certified,
    /// The key sums are complete; receivers open.
    Opening,
    /// The sum did not open; custodians are asked for key checks.
    Disputed,
    /// The key checks are there; receivers say whose answers were wrong.
    Judging,
    /// The attempt is to be given up; custodians that endorsed nothing are asked to say so.
    Abandoning,
    /// Enough receivers opened and derived the same state.
    Published,
    /// Another attempt follows.
    Abandoned,
}

/// The model that is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// Digest of the model.
    pub model: Digest,
    /// Name of the CKKS preset that its program needs.
    pub preset: String,
}

/// How a model is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Approximately, thousands of patients at a time.
    Ckks,
    /// Exactly, patient by patient; answers reveal no more than was asked.
    Tfhe,
}

impl std::fmt::Display for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Ckks => "ckks",
            Self::Tfhe => "tfhe",
        })
    }
}

/// A version of a model that can be queried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Name of the model, as the operator chose it; [`STUDY_MODEL`] is the model that the study trained.
    pub name: String,
    /// Names the version in a [`Request::Query`]: the digest of the interface, or of the study's released model.
    pub version: Digest,
    /// The blob of its interface.
    pub interface: Digest,
    /// How it is evaluated.
    pub engine: Engine,
    /// Whether a batch under CKKS holds all values of some patients in one ciphertext, for few patients, instead of one value of all patients in each.
    pub packed: bool,
    /// Whether it is the latest version of its name and way.
    pub current: bool,
    /// Milliseconds for a batch, under TFHE for a patient: those of the last one, or an estimate.
    pub batch_ms: u64,
}

/// Name of the model that the study trained, among those that can be queried.
pub const STUDY_MODEL: &str = "study";

/// Whether an evaluation key is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyState {
    /// Upload it first.
    Missing,
    /// Registered.
    Present,
    /// A later one took its place.
    Stale,
}

/// State of a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QueryState {
    /// Waiting behind others.
    Queued {
        /// Queries ahead of this one.
        ahead: u32,
    },
    /// Being evaluated.
    Running {
        /// Steps done.
        done: u32,
        /// Steps in all.
        total: u32,
    },
    /// The answer blob can be fetched.
    Done {
        /// Its digest.
        answer: Digest,
    },
    /// It failed.
    Failed(Refusal),
    /// It was taken back.
    Cancelled,
}
