//! Receivers that name a contributor whose signed fingerprint is not that of its ciphertexts.
//!
//! The coordinator has what the contributor signed, the header with the ciphertexts' digest and the fingerprint, and the ciphertexts
//! themselves. So it takes nobody's word: it computes the fingerprint, and names either the contributor in the audit log, with both
//! statements and the complaint, or refuses the complaint.

use super::{Engine, EngineError, internal, statement_key, store_refusal};
use crate::rounds::state::Attempt;
use crate::rounds::verify;
use galen_core::{Code, Refusal};
use galen_net::protocol::AttemptPhase;
use galen_sums::audit::{AuditEvent, Culprit};
use galen_sums::authored::Authored;
use galen_sums::round::Round;
use galen_sums::{Challenge, check_fingerprint, check_header, fingerprint};

impl Engine {
    /// Takes in a receiver's complaint about a fingerprint. One line in the audit log for each contributor and attempt.
    pub(super) fn complaint(
        &self,
        round: &Round,
        attempt: &Attempt,
        complaint: Authored,
    ) -> Result<(), Refusal> {
        let id = round.id();
        let accused = verify::fingerprint_refused(round, &complaint)?;
        if attempt.phase != AttemptPhase::Opening {
            return Err(Refusal::new(Code::WrongPhase, "nothing is being opened"));
        }
        let unfounded = || {
            Refusal::new(
                Code::NotConforming,
                format!("the fingerprint that {accused} signed is that of its ciphertexts"),
            )
        };
        if self.lock().fitting.contains(&accused) {
            return Err(unfounded());
        }
        let stored = |kind: &str| {
            self.statements
                .get(statement_key(id, kind, &accused))
                .map_err(store_refusal)
        };
        if stored("complaint")?.is_some() {
            return Ok(());
        }
        let (header, said) = match (stored("contribution")?, stored("fingerprint")?) {
            (Some(header), Some(said)) if attempt.fingerprints.contains_key(&accused) => (header, said),
            _ => {
                return Err(Refusal::new(
                    Code::WrongRound,
                    format!("{accused} signed no fingerprint"),
                ));
            }
        };
        let false_one = self.is_false(round, attempt, &header, &said).map_err(internal)?;
        let mut inner = self.lock();
        let current = inner.state.attempt.as_ref();
        if current.is_none_or(|current| (current.round, current.attempt) != (id.round, id.attempt)) {
            return Err(Refusal::new(Code::WrongRound, "the attempt has ended"));
        }
        if !false_one {
            inner.fitting.insert(accused.clone());
            return Err(unfounded());
        }
        // Another receiver's may have been taken meanwhile.
        if stored("complaint")?.is_some() {
            return Ok(());
        }
        tracing::warn!(contributor = %accused, %id, "signed another fingerprint than that of its ciphertexts");
        let event = AuditEvent::Named {
            id,
            party: accused.clone(),
            culprit: Culprit::BadFingerprint,
            text: format!(
                "receiver {} computed another one, and so did the coordinator",
                complaint.author
            ),
            evidence: vec![header, said, complaint.clone()],
        };
        let state = inner.state.clone();
        let statement = Some((statement_key(id, "complaint", &accused), complaint));
        self.commit(&mut inner, state, statement, vec![event])
    }

    /// Whether a stored fingerprint is another one than that of the stored ciphertexts.
    fn is_false(
        &self,
        round: &Round,
        attempt: &Attempt,
        header: &Authored,
        said: &Authored,
    ) -> Result<bool, EngineError> {
        let certificate = self.certificate(round, attempt)?;
        let challenge = Challenge::new(certificate.endorsement());
        let claimed = check_fingerprint(round, &challenge, said)?;
        let header = check_header(round, header)?;
        let blob = self.store.blobs().open_read(&header.ciphertext)?;
        Ok(fingerprint::of_contribution(round, &challenge, &header, blob)? != claimed)
    }
}
