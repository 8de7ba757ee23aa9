//! Encrypted sums under one-round keys, public half: everything that the coordinator may see and do.
//!
//! Hospitals add vectors without showing them. For each round, every contributor draws a fresh key, sends
//! `c_j = a_j s + e_j + delta m_j` for each block j of its values, and deals the key `s` in pieces to the custodians: as seeds,
//! sealed to keys that live for this round only. The coordinator adds the ciphertexts. Once custodians agree on the
//! set that was added, they hand the receivers the sums of the key pieces over that set, and the receivers subtract
//! `a_j` times the summed key: what is left is the sum of the values, exactly, and a little noise that is rounded
//! away. No key in the clear ever reaches the coordinator, and none outlives its round.
//!
//! This crate holds no secrets: it plans, verifies, encodes and adds. Encrypting, keeping pieces and opening are in
//! `galen-custody`, which the coordinator does not link.
//!
//! Read in the order of a round:
//!
//! | module | idea |
//! |---|---|
//! | [`pieces`] | which custodian holds which piece of a key |
//! | [`plan`] | modulus, scale and noise bound, so that the sum is exact |
//! | [`roster`] | who may do what in the study |
//! | [`authored`] | signed statements |
//! | [`incarnation`] | custodians whose disks may be older than their word |
//! | [`record`], [`round`] | the announcement of a round, and the round once that is verified |
//! | [`contribution`], [`blob`] | what a contributor sends: a signed header and a blob of ciphertexts |
//! | [`adder`] | adding blobs, a block at a time |
//! | [`fingerprint`] | whether the sum is that of the contributions |
//! | [`schedule`] | the plan of every round of a study |
//! | [`statement`] | what custodians and receivers report |
//! | [`set`] | the set that was added, its certificate, and the custodians' answers |
//! | [`key_check`] | custodians' word on every piece, where a sum does not open |
//! | [`abandon`] | the certificate that an attempt is never opened |
//! | [`atoms`] | which sets of one round may be opened beside each other |
//! | [`audit`] | the signed log of all of it, and how a copy is verified |
//!
//! ```
//! use galen_sums::{PlanInputs, SumPlan, ValueRange, plan::padded};
//!
//! // A thousand contributors of 5,000 weights each, up to 2^14 with 24 fractional bits, over 100 rounds.
//! let weights = ValueRange { count: 5000, max_abs: 1 << 38, fraction_bits: 24 };
//! let inputs = PlanInputs {
//!     contributors: 1000,
//!     ranges: vec![weights],
//!     study_coefficients: 100 * padded(5000),
//!     custodians: 5,
//!     threshold: 3,
//! };
//! let plan = SumPlan::new(&inputs)?;
//! assert!(plan.log2_q() <= f64::from(plan.security_bound()));
//! assert!(plan.bytes_per_value() <= 8.0);
//! # Ok::<(), galen_sums::PlanError>(())
//! ```
//!
//! [`round::Round`] is the place to start: a verified round record, which every later step takes.
//!
//! The security argument is in `docs/sums-proof.md`.

pub mod abandon;
pub mod adder;
pub mod atoms;
pub mod audit;
pub mod authored;
pub mod blob;
pub mod contribution;
pub mod error;
pub mod fingerprint;
pub mod incarnation;
pub mod key_check;
pub mod pieces;
pub mod plan;
pub mod record;
pub mod roster;
pub mod round;
pub mod schedule;
pub mod set;
pub mod statement;

pub use abandon::{Abandoned, Abandonment, check_abandonment};
pub use adder::{Bytes, Source, add};
pub use audit::{AuditEvent, AuditHead, AuditLine};
pub use authored::Authored;
pub use contribution::{ContributionHeader, check_blob, check_header};
pub use error::{BlobError, FingerprintFault, PlanError, SetFault, SumsError};
pub use fingerprint::{Challenge, Fingerprint, FingerprintStatement, check_fingerprint, check_sum};
pub use galen_core::study::Purpose;
pub use incarnation::{Confirmation, Incarnation, Stale};
pub use key_check::{KeyCheck, check_key_check};
pub use pieces::{Assignment, PieceTable};
pub use plan::{PlanInputs, SumPlan, ValueRange};
pub use record::{Earlier, OneRoundKey, RoundId, RoundRecord};
pub use roster::{Roster, RosterMember, RosterParts};
pub use round::Round;
pub use set::{AnswerHeader, Certificate, ContributionSet, Endorsement, check_answer, check_certificate};
