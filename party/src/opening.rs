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
        let refuse = |detail: String| Unopened {
            id: round.id(),
            detail,
        };
        let set = ContributionSet::new(round, &evidence.headers).map_err(|e| refuse(e.to_string()))?;
        let certificate =
            check_certificate(round, &evidence.endorsements).map_err(|e| refuse(e.to_string()))?;
        certificate
            .check_set(round, &set)
            .map_err(|e| refuse(e.to_string()))?;
        if certificate.endorsement().sum != sum {
            return Err(refuse(
                "the custodians endorsed another sum than the published one".into(),
            ));
        }
        Ok(Self {
            round,
            certificate,
            set,
            answers: evidence.answers,
        })
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
            return Err(refuse(
                "its record starts from another state than this party's".into(),
            ));
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
        let derived = before.apply(study, &opened.values).map_err(|error| {
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
        Ok(Opening {
            sum,
            derived,
            security,
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::federation::Federation;

    /// Sums that mean something: patients of both classes, count, sum and squares of a column.
    fn values(index: usize) -> Vec<i64> {
        vec![10 + index as i64, 5, 12, 1 << 20, 3 << 20]
    }

    #[test]
    fn a_round_opens_to_the_exact_sum_for_every_receiver() {
        let federation = Federation::new();
        let before = Derived::initial(&federation.study);
        let round = federation.statistics_round(0, before.digest());
        let parcels = federation.contribute(&round, values);
        let (evidence, blob, sum) = federation.whole_round(&round, &parcels);
        let plan = federation.study.study();
        let mut results = Vec::new();
        for member in &federation.members {
            let verified = Verified::new(&round, sum, evidence.clone()).unwrap();
            let opening = verified
                .open(&member.identity, plan, &before, blob.as_slice())
                .unwrap();
            assert_eq!(opening.sum.values, [33, 15, 36, 3 << 20, 9 << 20]);
            assert!(opening.sum.max_noise <= opening.sum.noise_bound);
            assert_eq!(opening.sum.contributors.len(), 3);
            assert_eq!((opening.security.pieces, opening.security.threshold), (3, 2));
            assert_eq!(opening.derived.applied(), 1);
            results.push(opening.sum.result);
        }
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(
            results[0],
            before
                .apply(plan, &[33, 15, 36, 3 << 20, 9 << 20])
                .unwrap()
                .digest()
        );
    }

    #[test]
    fn what_does_not_hold_does_not_open() {
        let federation = Federation::new();
        let before = Derived::initial(&federation.study);
        let round = federation.statistics_round(0, before.digest());
        let parcels = federation.contribute(&round, values);
        let (evidence, blob, sum) = federation.whole_round(&round, &parcels);
        let plan = federation.study.study();
        let identity = &federation.members[0].identity;
        let refused = |evidence: Evidence, sum: Digest, before: &Derived, blob: &[u8], part: &str| {
            let opened =
                Verified::new(&round, sum, evidence).and_then(|v| v.open(identity, plan, before, blob));
            let error = opened.map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        let with = |change: &dyn Fn(&mut Evidence)| {
            let mut changed = evidence.clone();
            change(&mut changed);
            changed
        };
        refused(
            evidence.clone(),
            Digest::of(b"another"),
            &before,
            &blob,
            "another sum",
        );
        refused(
            with(&|e| e.endorsements.truncate(1)),
            sum,
            &before,
            &blob,
            "endorse the set",
        );
        refused(with(&|e| e.headers.truncate(2)), sum, &before, &blob, "refused");
        refused(with(&|e| e.answers.truncate(1)), sum, &before, &blob, "piece");
        refused(
            with(&|e| e.answers.push(e.answers[0].clone())),
            sum,
            &before,
            &blob,
            "piece",
        );
        let mut flipped = blob.clone();
        let at = flipped.len() / 2;
        flipped[at] ^= 1;
        refused(evidence.clone(), sum, &before, &flipped, "the sum");
        refused(evidence.clone(), sum, &before, &blob[..at], "the sum");
        let later = before.apply(plan, &[33, 15, 36, 3 << 20, 9 << 20]).unwrap();
        refused(evidence.clone(), sum, &later, &blob, "another state");
    }

    #[test]
    fn a_sum_that_means_nothing_is_refused_without_naming_it() {
        let federation = Federation::new();
        let before = Derived::initial(&federation.study);
        let round = federation.statistics_round(0, before.digest());
        // More known values than patients.
        let parcels = federation.contribute(&round, |_| vec![1, 1, 77, 0, 0]);
        let (evidence, blob, sum) = federation.whole_round(&round, &parcels);
        let verified = Verified::new(&round, sum, evidence).unwrap();
        let identity = &federation.members[0].identity;
        let error = verified
            .open(identity, federation.study.study(), &before, blob.as_slice())
            .unwrap_err();
        assert!(
            error.detail().contains("means nothing") && !error.detail().contains("231"),
            "{error}"
        );
    }
}
