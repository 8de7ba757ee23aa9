//! Opening a round: verify everything that members signed about it, subtract the keys, and derive the next state.

use crate::derive::Derived;
use crate::error::PartyError;
use crate::identity::Identity;
use crate::sealed::{OpenedSum, SumSecurity};
use galen_core::Digest;
use galen_core::study::Study;
use galen_sums::{Authored, Certificate, ContributionSet, Round, check_certificate};
use std::io::Read;

/// What members signed about a round.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The contributions' headers.
    pub headers: Vec<Authored>,
    /// The custodians' endorsements.
    pub endorsements: Vec<Authored>,
    /// The custodians' answers.
    pub answers: Vec<Authored>,
}

/// Why a round does not open.
#[derive(Debug, thiserror::Error)]
#[error("{} does not open: {detail}", id)]
pub struct Unopened {
    id: galen_sums::RoundId,
    detail: String,
}

/// An opened round and the state after it.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The sum.
    pub sum: OpenedSum,
    /// The state.
    pub derived: Derived,
    /// How it was encrypted.
    pub security: SumSecurity,
}

/// A round whose evidence holds; what remains is to open its sum.
pub struct Verified<'a> {
    round: &'a Round,
    certificate: Certificate,
    set: ContributionSet,
    answers: Vec<Authored>,
}

impl<'a> Verified<'a> {
    /// Checks the evidence: headers, at least g endorsements of exactly this set and sum. Answers are checked when they are opened.
    pub fn new(round: &'a Round, sum: Digest, evidence: Evidence) -> Result<Self, Unopened> {
        let refuse = |detail: String| Unopened { id: round.id(), detail };
        let set = ContributionSet::new(round, &evidence.headers).map_err(|e| refuse(e.to_string()))?;
        let certificate = check_certificate(round, &evidence.endorsements).map_err(|e| refuse(e.to_string()))?;
        certificate.check_set(round, &set).map_err(|e| refuse(e.to_string()))?;
        if certificate.endorsement().sum != sum {
            return Err(refuse("the custodians endorsed another sum than the published one".into()));
        }
        Ok(Self { round, certificate, set, answers: evidence.answers })
    }

    /// Opens the sum and derives the state after it.
    pub fn open(
        &self,
        identity: &Identity,
        study: &Study,
        before: &Derived,
        blob: impl Read,
    ) -> Result<Opening, Unopened> {
        let (round, id) = (self.round, self.round.id());
        let refuse = |detail: String| Unopened { id, detail };
        if round.record().base != before.digest() || id.round != before.applied() {
            return Err(refuse("its record starts from another state than this party's".into()));
        }
        let key = galen_custody::open::open_answers(
            round,
            &self.certificate,
            &self.set,
            &identity.name,
            &identity.sealing,
            &self.answers,
        );
        let key = key.map_err(|e| refuse(e.to_string()))?;
        let opened = galen_custody::open::open_sum(round, &self.certificate, &self.set, &key, blob)
            .map_err(|e| refuse(e.to_string()))?;
        // Sums are no patient's values; still, errors that leave this party name no number of theirs.
        let derived = before
            .apply(study, &opened.values)
            .map_err(|error| {
                tracing::debug!(%id, %error, "opened sum refused");
                refuse("the opened sum means nothing under this study".into())
            })?;
        let (plan, roster) = (round.plan(), round.roster());
        let sum = OpenedSum {
            round: id.round,
            attempt: id.attempt,
            purpose: round.record().purpose,
            contributors: self.set.members.keys().cloned().collect(),
            sum: self.certificate.endorsement().sum,
            result: derived.digest(),
            max_noise: opened.max_noise,
            noise_bound: plan.noise_bound,
            values: opened.values,
        };
        let security = SumSecurity {
            n: plan.degree,
            log2_q: plan.log2_q(),
            bound: plan.security_bound(),
            pieces: roster.pieces().len() as u32,
            custodians: roster.custodians().len() as u32,
            threshold: roster.threshold() as u32,
            agreement: roster.agreement() as u32,
        };
        Ok(Opening { sum, derived, security })
    }
}

impl Unopened {
    /// Why, for the statement that goes to the coordinator.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl From<Unopened> for PartyError {
    fn from(error: Unopened) -> Self {
        Self::Untrue(error.to_string())
    }
}
