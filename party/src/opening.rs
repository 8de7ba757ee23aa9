//! Opening a round: verify everything that members signed about it, subtract the keys, and derive the next state.

use crate::derive::{DeriveError, Derived};
use crate::error::PartyError;
use crate::identity::Identity;
use crate::sealed::{OpenedSum, SumSecurity};
use galen_core::study::Study;
use galen_core::{Code, Digest, PartyId};
use galen_custody::CustodyError;
use galen_custody::cross_check::{Finding, find_liars};
use galen_models::CodecError;
use galen_sums::statement::{Judged, OpeningFault};
use galen_sums::{
    Authored, Certificate, ContributionHeader, ContributionSet, Endorsement, Round, RoundId, SealedStatement,
    SumsError, check_certificate, check_header,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io::Read;

/// What members signed about a round.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The contributions' headers.
    pub headers: Vec<Authored>,
    /// The custodians' endorsements.
    pub endorsements: Vec<Authored>,
    /// The custodians' answers, with what they seal to this party.
    pub answers: Vec<SealedStatement>,
    /// The contributors' fingerprints.
    pub fingerprints: Vec<Authored>,
}

/// Why a round does not open: what was said about it does not hold, or its sum is no sum.
#[derive(Debug, thiserror::Error)]
#[error("{} does not open: {detail}", id)]
pub struct Unopened {
    id: RoundId,
    fault: OpeningFault,
    detail: String,
}

/// Why a round was not opened.
#[derive(Debug, thiserror::Error)]
pub enum NotOpened {
    /// The round is at fault. Others are told.
    #[error(transparent)]
    Round(#[from] Unopened),
    /// This party is at fault: its disk, its copy of the sum. That says nothing of the round, and is tried again.
    #[error(transparent)]
    Here(#[from] PartyError),
}

impl NotOpened {
    fn round(id: RoundId, detail: impl Display) -> Self {
        Unopened::new(id, OpeningFault::Other, detail).into()
    }

    fn from_custody(id: RoundId, error: CustodyError) -> Self {
        let local = matches!(
            error.code(),
            Code::Internal | Code::BlobMismatch | Code::BlobTruncated | Code::BlobTooLarge
        );
        match &error {
            // The store took the sum's bytes only with their digest and length; what is wrong with those now went wrong here.
            CustodyError::Sums(SumsError::Blob { .. }) if local => {
                PartyError::Spoilt(format!("the copy of the sum of {id} that was fetched: {error}")).into()
            }
            // What was fetched is not what a custodian signed; it is fetched again.
            CustodyError::Carried { .. } => PartyError::Spoilt(format!("an answer of {id}: {error}")).into(),
            CustodyError::Remainder { .. } | CustodyError::Answer { .. } => {
                Unopened::new(id, OpeningFault::Remainder, error).into()
            }
            _ if error.code() == Code::Internal => PartyError::internal(error).into(),
            _ => Self::round(id, error),
        }
    }
}

/// Longest reason that goes to the coordinator.
const DETAIL_CHARS: usize = 200;

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
#[derive(Clone)]
pub struct Verified {
    certificate: Certificate,
    set: ContributionSet,
    headers: BTreeMap<PartyId, ContributionHeader>,
    answers: Vec<SealedStatement>,
    fingerprints: Vec<Authored>,
}

impl Verified {
    /// Checks the evidence: headers, at least g endorsements of exactly this set and sum. Answers and fingerprints are checked when
    /// they are used.
    pub fn new(round: &Round, sum: Digest, evidence: Evidence) -> Result<Self, NotOpened> {
        let id = round.id();
        let refuse = |error: SumsError| NotOpened::from_custody(id, error.into());
        let set = ContributionSet::new(round, &evidence.headers).map_err(refuse)?;
        let certificate = check_certificate(round, &evidence.endorsements).map_err(refuse)?;
        certificate.check_set(round, &set).map_err(refuse)?;
        if certificate.endorsement().sum != sum {
            return Err(NotOpened::round(
                id,
                "the custodians endorsed another sum than the published one",
            ));
        }
        let header = |authored: &Authored| {
            let header = check_header(round, authored).map_err(refuse)?;
            Ok((header.contributor.clone(), header))
        };
        let mut fingerprints = evidence.fingerprints;
        fingerprints.retain(|said| set.members.contains_key(&said.author));
        Ok(Self {
            headers: evidence
                .headers
                .iter()
                .map(header)
                .collect::<Result<_, NotOpened>>()?,
            certificate,
            set,
            answers: evidence.answers,
            fingerprints,
        })
    }

    /// The set.
    pub fn set(&self) -> &ContributionSet {
        &self.set
    }

    /// Digest of the sum.
    pub fn sum(&self) -> Digest {
        self.endorsement().sum
    }

    /// What the custodians endorsed.
    pub fn endorsement(&self) -> &Endorsement {
        self.certificate.endorsement()
    }

    /// The contributors in the set.
    pub fn members(&self) -> impl Iterator<Item = &PartyId> {
        self.set.members.keys()
    }

    /// A member's checked header.
    pub fn header(&self, member: &PartyId) -> Option<&ContributionHeader> {
        self.headers.get(member)
    }

    /// The members' fingerprints, as they were given.
    pub fn fingerprints(&self) -> &[Authored] {
        &self.fingerprints
    }

    /// The same round with nobody's word on its fingerprint.
    pub fn without_fingerprints(&self) -> Self {
        Self {
            fingerprints: Vec::new(),
            ..self.clone()
        }
    }

    /// Members of whom there is none.
    pub fn without_fingerprint(&self) -> BTreeSet<PartyId> {
        let said = |member: &&PartyId| !self.fingerprints.iter().any(|said| said.author == **member);
        self.members().filter(said).cloned().collect()
    }

    /// Who answered.
    fn answerers(&self) -> BTreeSet<PartyId> {
        let author = |answer: &SealedStatement| answer.said.author.clone();
        self.answers.iter().map(author).collect()
    }

    /// Compares the custodians' key checks with their answers, and says whose were wrong and whose may be.
    ///
    /// # Errors
    /// [`PartyError::Untrue`] for answers that the coordinator should not have taken.
    pub fn judge(
        &self,
        round: &Round,
        identity: &Identity,
        checks: &[SealedStatement],
    ) -> Result<Judged, PartyError> {
        let (name, key) = (&identity.name, &identity.sealing);
        let findings = find_liars(
            round,
            &self.certificate,
            &self.set,
            name,
            key,
            &self.answers,
            checks,
        )
        .map_err(|error| match error {
            CustodyError::Carried { .. } => {
                PartyError::Spoilt(format!("the key checks of {}: {error}", round.id()))
            }
            error => PartyError::Untrue(format!("the key checks of {}: {error}", round.id())),
        })?;
        let words: Vec<String> = findings.iter().map(ToString::to_string).collect();
        for finding in &words {
            tracing::warn!(id = %round.id(), %finding, "key checks");
        }
        let liars: BTreeSet<PartyId> = findings.iter().filter_map(Finding::liar).cloned().collect();
        let doubted = self.doubted(&findings);
        Ok(Judged {
            record: *round.digest(),
            doubted: doubted.difference(&liars).cloned().collect(),
            liars: liars.into_iter().collect(),
            detail: words.join("; ").chars().take(DETAIL_CHARS).collect(),
        })
    }

    /// Who answered for a piece about which its holders disagree, or says nothing about its answer.
    fn doubted(&self, findings: &[Finding]) -> BTreeSet<PartyId> {
        let answered = self.answerers();
        let mut doubted = BTreeSet::new();
        for finding in findings {
            match finding {
                Finding::Disputed { custodians, .. } => {
                    doubted.extend(custodians.intersection(&answered).cloned());
                }
                Finding::Silent { custodian } => {
                    doubted.insert(custodian.clone());
                }
                _ => {}
            }
        }
        doubted
    }

    /// Opens the sum and derives the state after it.
    pub fn open(
        &self,
        round: &Round,
        identity: &Identity,
        study: &Study,
        before: &Derived,
        blob: impl Read,
    ) -> Result<Opening, NotOpened> {
        let id = round.id();
        let refuse = |error| NotOpened::from_custody(id, error);
        if round.record().base != before.digest() || id.round != before.applied() {
            return Err(NotOpened::round(
                id,
                "its record starts from another state than this party's",
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
        let key = key.map_err(refuse)?;
        let opened =
            galen_custody::open::open_sum(round, &self.certificate, &self.set, &key, blob).map_err(refuse)?;
        // Sums are no patient's values; still, errors that leave this party name no number of theirs.
        let derived = before.apply(study, &opened.values, &opened.opening_secret);
        let derived = derived.map_err(|error| {
            tracing::debug!(%id, %error, "opened sum refused");
            // A sum that no honest contributions have is somebody's doing, whom a search may find. Anything else would come again from the same
            // data, and a search would only find the innocent.
            let (fault, detail) = match error {
                DeriveError::Codec(CodecError::ImpossibleSum { .. }) => (
                    OpeningFault::Meaning,
                    "the opened sum means nothing under this study",
                ),
                _ => (OpeningFault::Other, "no state follows from the opened sum"),
            };
            NotOpened::from(Unopened::new(id, fault, detail))
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
            unchecked: BTreeSet::new(),
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
    /// What is wrong with a round.
    pub fn new(id: RoundId, fault: OpeningFault, detail: impl Display) -> Self {
        let detail = detail.to_string();
        Self { id, fault, detail }
    }

    /// What does not fit.
    pub fn fault(&self) -> OpeningFault {
        self.fault
    }

    /// Whether the sum is not that of the contributions.
    pub fn is_wrong_sum(&self) -> bool {
        self.fault == OpeningFault::Sum
    }

    /// Why, for the statement that goes to the coordinator: a line, whatever names and lists the reason holds.
    pub fn detail(&self) -> String {
        self.detail.chars().take(DETAIL_CHARS).collect()
    }
}

impl From<NotOpened> for PartyError {
    fn from(error: NotOpened) -> Self {
        match error {
            NotOpened::Round(unopened) => unopened.into(),
            NotOpened::Here(error) => error,
        }
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
                .open(&round, &member.identity, plan, &before, blob.as_slice())
                .unwrap();
            assert_eq!(opening.sum.values, [33, 15, 36, 3 << 20, 9 << 20]);
            assert!(opening.sum.max_noise <= opening.sum.noise_bound);
            assert_eq!(opening.sum.contributors.len(), 3);
            assert_eq!((opening.security.pieces, opening.security.threshold), (3, 2));
            assert_eq!(opening.derived.applied(), 1);
            results.push(opening.sum.result);
        }
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    }

    /// The digest that is published can be computed by receivers only: knowing or guessing the sum is not enough.
    #[test]
    fn the_result_follows_from_the_keys_too_and_is_the_same_for_all_receivers() {
        let mut federation = Federation::new();
        let before = Derived::initial(&federation.study);
        let mut results = Vec::new();
        for _ in 0..2 {
            let round = federation.statistics_round(0, before.digest());
            let parcels = federation.contribute(&round, values);
            let (mut evidence, blob, sum) = federation.whole_round(&round, &parcels);
            // Who was away may find other answers than the others did: two custodians' instead of three's.
            let absent = &federation.members[0].identity.name;
            let present = round.custodians().keys().filter(|name| *name != absent).cloned();
            let assigned = round.assign(&present.collect()).unwrap();
            let others = federation.answer_as(&round, &evidence, &assigned);
            assert_ne!(others, evidence.answers);
            let mut of_all = Vec::new();
            for answers in [evidence.answers.clone(), others] {
                evidence.answers = answers;
                for member in &federation.members {
                    let verified = Verified::new(&round, sum, evidence.clone()).unwrap();
                    let plan = federation.study.study();
                    let opening = verified
                        .open(&round, &member.identity, plan, &before, blob.as_slice())
                        .unwrap();
                    assert_eq!(opening.sum.values, [33, 15, 36, 3 << 20, 9 << 20]);
                    assert_eq!(opening.sum.result, opening.derived.digest());
                    of_all.push(opening.sum.result);
                }
            }
            assert!(of_all.iter().all(|result| *result == of_all[0]));
            results.push(of_all[0]);
            federation.forget();
        }
        assert_ne!(results[0], results[1], "equal sums of equal contributors");
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
            let opened = Verified::new(&round, sum, evidence)
                .and_then(|v| v.open(&round, identity, plan, before, blob));
            let error = opened.map(|_| ()).unwrap_err();
            assert!(matches!(error, NotOpened::Round(_)), "{error:?}");
            let error = error.to_string();
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
        let secret = Digest::of(b"opening secret");
        let later = before
            .apply(plan, &[33, 15, 36, 3 << 20, 9 << 20], &secret)
            .unwrap();
        refused(evidence.clone(), sum, &later, &blob, "another state");
        // A sum that custodians endorsed and that is none: the coordinator made it.
        let mut other = blob.clone();
        other[0] ^= 1;
        refused(evidence.clone(), sum, &before, &other, "the sum");
    }

    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("a bad sector"))
        }
    }

    /// What goes wrong on this party's side says nothing of the round, and is not told to others as if it did.
    #[test]
    fn a_copy_that_cannot_be_read_is_not_the_round_s_fault() {
        let federation = Federation::new();
        let before = Derived::initial(&federation.study);
        let round = federation.statistics_round(0, before.digest());
        let parcels = federation.contribute(&round, values);
        let (evidence, blob, sum) = federation.whole_round(&round, &parcels);
        let mut flipped = blob.clone();
        let at = flipped.len() / 2;
        flipped[at] ^= 1;
        let longer = [&blob[..], &[0]].concat();
        let copies: [&mut dyn Read; 5] = [
            &mut Broken,
            &mut blob[..at].chain(Broken),
            &mut &blob[..at],
            &mut flipped.as_slice(),
            &mut longer.as_slice(),
        ];
        let identity = &federation.members[0].identity;
        for copy in copies {
            let verified = Verified::new(&round, sum, evidence.clone()).unwrap();
            let error = verified
                .open(&round, identity, federation.study.study(), &before, copy)
                .unwrap_err();
            assert!(
                matches!(&error, NotOpened::Here(PartyError::Spoilt(_))),
                "{error:?}"
            );
        }
    }

    #[test]
    fn the_reason_that_is_told_is_short() {
        let error = Unopened {
            id: RoundId { round: 0, attempt: 0 },
            fault: OpeningFault::Other,
            detail: "\u{e9}".repeat(1000),
        };
        assert_eq!(error.detail().chars().count(), 200);
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
            .open(
                &round,
                identity,
                federation.study.study(),
                &before,
                blob.as_slice(),
            )
            .unwrap_err();
        assert!(
            error.to_string().contains("means nothing") && !error.to_string().contains("231"),
            "{error}"
        );
    }
}
