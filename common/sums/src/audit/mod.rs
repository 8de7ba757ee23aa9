//! The audit log: a chain of lines signed by the coordinator, which says who was let do what with whose contributions.
//!
//! Every line names the digest of all lines before it, and every round record names the head of the chain at that time. Each party
//! keeps its own copy and acts on a record only if the lines up to its head extend that copy. So a coordinator that shows two
//! parties two different logs can never again show both of them the same record, and since contributions, endorsements and
//! answers are bound to a record, the two can no longer take part in one round.
//!
//! | module | idea |
//! |---|---|
//! | [`event`] | what a line can say |
//! | [`chain`] | numbers, links and signatures |
//! | [`check`] | what genuine lines must not say: the rules of the study, line by line |
//! | [`report`] | what was opened to whom, when and over how many contributors |
//! | [`words`] | a line in plain English |
//! | [`json_lines`] | a line in a file |
//!
//! Nothing in the log is secret: it names parties, rounds, digests and signatures. It proves what was signed and in which order it
//! was told; it does not prove that nothing was left out. What must not be left out is what others hold signatures of: a certificate and a
//! certificate of abandonment carry the custodians' own signatures, which no coordinator can make.
//!
//! ```
//! use galen_core::{Digest, PartyId, SigningKey};
//! use galen_sums::audit::{AuditEvent, AuditHead, AuditLine, Chain};
//!
//! let (key, study) = (SigningKey::generate()?, Digest::of(b"study"));
//! let event = AuditEvent::Admitted { party: PartyId::new("st-mary")?, consent: Digest::of(b"consent") };
//! let (line, head) = AuditLine::sign(&key, &study, &AuditHead::default(), 0, event)?;
//!
//! let mut chain = Chain::new(study, key.public());
//! chain.extend(&[line.clone()])?;
//! assert_eq!(*chain.head(), head);
//! assert!(chain.extend(&[line]).is_err(), "a line stands in the log once");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod chain;
pub mod check;
pub mod event;
pub mod json_lines;
pub mod report;
#[cfg(test)]
mod tests;
pub mod words;

pub use chain::{AUDIT_LINE, AuditError, AuditHead, AuditLine, Chain, head_extends};
pub use check::{Checker, Finding, Inconsistency};
pub use event::{AuditEvent, Culprit};
pub use report::{Opening, Report};
