//! Custodians that sign twice: two sets of one attempt, or a set of an attempt that they also gave up.

use super::{Engine, statement_key, store_refusal};
use galen_core::{Code, Refusal};
use galen_sums::abandon::check_abandoned;
use galen_sums::audit::{AuditEvent, Culprit};
use galen_sums::authored::{Authored, ENDORSEMENT};
use galen_sums::record::RoundId;
use galen_sums::round::Round;
use galen_sums::set::Endorsement;

impl Engine {
    /// Names a custodian in the audit log, with both statements, if this one is binding and it made another binding one about the
    /// attempt under way. Whether the statement itself was taken does not matter.
    pub(super) fn note_second_signature(&self, said: Authored) -> Result<(), Refusal> {
        let party = said.author.clone();
        let mut inner = self.lock();
        let Some(attempt) = &inner.state.attempt else {
            return Ok(());
        };
        let id = RoundId {
            round: attempt.round,
            attempt: attempt.attempt,
        };
        let Some(round) = inner.round.as_deref().filter(|round| round.id() == id) else {
            return Ok(());
        };
        if !is_binding(round, &said) {
            return Ok(());
        }
        let mut other = None;
        for kind in ["endorsement", "abandoned"] {
            let stored = self
                .statements
                .get(statement_key(id, kind, &party))
                .map_err(store_refusal)?;
            let differs = |stored: &Authored| stored.statement.payload() != said.statement.payload();
            other = other.or(stored.filter(differs));
        }
        let Some(other) = other else { return Ok(()) };
        // Once per attempt: whoever goes on signing fills nobody's disk.
        if !inner
            .refused
            .insert((party.clone(), "second signature", Code::Conflict))
        {
            return Ok(());
        }
        tracing::warn!(custodian = %party, %id, "a custodian signed twice");
        let event = AuditEvent::Named {
            id,
            party,
            culprit: Culprit::TwoSignatures,
            text: "both statements bind it, and they exclude each other".to_owned(),
            evidence: vec![other, said],
        };
        let state = inner.state.clone();
        self.commit(&mut inner, state, None, vec![event])
    }
}

fn is_binding(round: &Round, said: &Authored) -> bool {
    let custodian = round.custodians().contains_key(&said.author);
    let endorsed = said.open::<Endorsement>(round.roster(), ENDORSEMENT);
    let endorses = endorsed.is_ok_and(|endorsed| endorsed.record == *round.digest());
    custodian && (endorses || check_abandoned(round.roster(), round.id(), said).is_ok())
}
