//! Custodians' incarnations: who says which is current, who confirmed it, and who was shown to have come back from an old disk.

use super::{Engine, EngineError};
use crate::rounds::state::{IncarnationState, StudyState};
use crate::rounds::verify;
use galen_core::{Code, Digest, PartyId, Refusal};
use galen_net::protocol::AttemptPhase;
use galen_sums::audit::AuditEvent;
use galen_sums::authored::{Authored, STALE};
use galen_sums::incarnation::{
    Incarnation, MAX_INCARNATIONS, Stale, check_confirmation, check_incarnation, check_stale,
};

fn own_key(custodian: &PartyId) -> String {
    format!("incarnation/{custodian}")
}

fn confirmation_key(custodian: &PartyId, nonce: &Digest, by: &str) -> String {
    format!("confirmation/{custodian}/{nonce}/{by}")
}

fn stale_key(custodian: &PartyId, nonce: &Digest) -> String {
    format!("stale/{custodian}/{nonce}")
}

impl Engine {
    /// Stores a custodian's incarnation in the place of the one before.
    pub(super) fn incarnation(&self, authored: Authored) -> Result<(), Refusal> {
        let said = check_incarnation(&self.roster, &authored).map_err(verify::refusal)?;
        let mut inner = self.lock();
        let known = inner.state.incarnations.get(&said.custodian);
        if known.is_some_and(|known| known.nonce == said.nonce) {
            return Ok(());
        }
        let begun = known.map_or(0, |known| known.begun) + 1;
        if begun > MAX_INCARNATIONS as u32 {
            return Err(Refusal::new(
                Code::TooManyIncarnations,
                format!(
                    "{} has begun {MAX_INCARNATIONS} incarnations in this study, and no more are taken",
                    said.custodian
                ),
            ));
        }
        let mut state = inner.state.clone();
        state.incarnations.insert(
            said.custodian.clone(),
            IncarnationState {
                nonce: said.nonce,
                seq: said.seq,
                begun,
                confirmed: Default::default(),
                stale: None,
            },
        );
        self.moved(&mut state);
        let event = AuditEvent::Incarnation {
            custodian: said.custodian.clone(),
            nonce: said.nonce,
            seq: said.seq,
        };
        let statement = Some((own_key(&said.custodian), authored));
        self.commit(&mut inner, state, statement, vec![event])
    }

    /// Stores a custodian's confirmation of another one's current incarnation.
    pub(super) fn confirmation(&self, authored: Authored) -> Result<(), Refusal> {
        let said = check_confirmation(&self.roster, &authored).map_err(verify::refusal)?;
        let mut inner = self.lock();
        let mut state = inner.state.clone();
        let known = current(&mut state, &said.custodian, &said.nonce)?;
        if !known.confirmed.insert(authored.author.clone()) {
            return Ok(());
        }
        self.moved(&mut state);
        let event = AuditEvent::Confirmed {
            custodian: said.custodian.clone(),
            nonce: said.nonce,
            by: authored.author.clone(),
        };
        let key = confirmation_key(&said.custodian, &said.nonce, authored.author.as_str());
        self.commit(&mut inner, state, Some((key, authored)), vec![event])
    }

    /// Stores the proof that a custodian's ledger is older than what it signed.
    pub(super) fn stale(&self, authored: Authored) -> Result<(), Refusal> {
        let said: Stale = verify::open(&self.roster, STALE, &authored)?;
        let mut inner = self.lock();
        let mut state = inner.state.clone();
        let known = current(&mut state, &said.custodian, &said.nonce)?;
        let incarnation = Incarnation {
            custodian: said.custodian.clone(),
            nonce: said.nonce,
            seq: known.seq,
        };
        check_stale(&self.roster, &incarnation, &authored).map_err(verify::refusal)?;
        if known.stale.is_some() {
            return Ok(());
        }
        known.stale = Some(authored.author.clone());
        self.moved(&mut state);
        let event = AuditEvent::Stale {
            custodian: said.custodian.clone(),
            nonce: said.nonce,
            by: authored.author.clone(),
        };
        let key = stale_key(&said.custodian, &said.nonce);
        self.commit(&mut inner, state, Some((key, authored)), vec![event])
    }

    /// Custodians that introduce themselves keep an attempt that waits for their keys from standing still.
    fn moved(&self, state: &mut StudyState) {
        state.introduced_ms = self.clock.steady_ms();
        if let Some(attempt) = &mut state.attempt
            && attempt.phase == AttemptPhase::Announced
        {
            attempt.progress_ms = state.introduced_ms;
        }
    }

    /// The custodians' current incarnations.
    pub(super) fn all_incarnations(&self) -> Result<Vec<Authored>, EngineError> {
        self.with_prefix("incarnation/")
    }

    /// The confirmations of the custodians' current incarnations.
    pub(super) fn all_confirmations(&self) -> Result<Vec<Authored>, EngineError> {
        let custodians: Vec<PartyId> = self.lock().state.incarnations.keys().cloned().collect();
        let mut found = Vec::new();
        for custodian in &custodians {
            found.extend(self.confirmations_of(custodian)?);
        }
        Ok(found)
    }

    /// The confirmations of one custodian's current incarnation.
    pub(super) fn confirmations_of(&self, custodian: &PartyId) -> Result<Vec<Authored>, EngineError> {
        let Some(nonce) = self.nonce_of(custodian) else {
            return Ok(Vec::new());
        };
        self.with_prefix(&confirmation_key(custodian, &nonce, ""))
    }

    /// What shows that this party's ledger is old, if its current incarnation was found to be.
    pub(super) fn staleness_of(&self, custodian: &PartyId) -> Result<Vec<Authored>, EngineError> {
        let Some(nonce) = self.nonce_of(custodian) else {
            return Ok(Vec::new());
        };
        let found = self.statements.get(stale_key(custodian, &nonce))?;
        Ok(found.into_iter().collect())
    }

    fn nonce_of(&self, custodian: &PartyId) -> Option<Digest> {
        let inner = self.lock();
        inner.state.incarnations.get(custodian).map(|known| known.nonce)
    }

    fn with_prefix(&self, prefix: &str) -> Result<Vec<Authored>, EngineError> {
        let found = self.statements.prefix(prefix.as_bytes());
        Ok(found
            .map(|entry| entry.map(|(_, authored)| authored))
            .collect::<Result<_, _>>()?)
    }
}

/// A custodian's incarnation, if it is this one.
fn current<'a>(
    state: &'a mut StudyState,
    custodian: &PartyId,
    nonce: &Digest,
) -> Result<&'a mut IncarnationState, Refusal> {
    let known = state.incarnations.get_mut(custodian);
    known.filter(|known| known.nonce == *nonce).ok_or_else(|| {
        Refusal::new(
            Code::WrongRound,
            format!("{custodian} has another incarnation by now"),
        )
    })
}
