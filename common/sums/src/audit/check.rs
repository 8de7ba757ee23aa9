//! What genuine lines must not say.
//!
//! A chain proves that the coordinator wrote these lines in this order. Whether what they tell could have happened under the
//! study's rules is checked here, line by line, with nothing but the lines and the frozen study. Certificates and certificates of
//! abandonment carry the custodians' signatures, so that these rules bind more than the coordinator's word.

use super::chain::{AuditHead, AuditLine};
use super::event::{AuditEvent, Culprit};
use super::report::{Accusation, Closing, Opening, Rejection, Report, Warning};
use crate::abandon::Abandoned;
use crate::authored::{ABANDONED, Authored, ENDORSEMENT};
use crate::record::RoundId;
use crate::roster::Roster;
use crate::set::{ContributionSet, Endorsement};
use galen_core::study::{Predecessor, Purpose};
use galen_core::{Digest, PartyId};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A line that the study's rules forbid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Number of the line.
    pub line: u64,
    /// What is wrong with it, in words.
    pub text: String,
    /// The same for programs.
    #[serde(skip)]
    pub what: Inconsistency,
}

/// What genuine lines tell that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Inconsistency {
    /// A name that the study does not have, or not in this role.
    #[error("{party} is not a {role} of the study")]
    Stranger {
        /// Who.
        party: PartyId,
        /// The role that it would need.
        role: &'static str,
    },
    /// A party that joins twice.
    #[error("{0} had joined before")]
    JoinedTwice(PartyId),
    /// The study became active without everybody.
    #[error("the study became active although {0} had not joined")]
    ActiveWithout(PartyId),
    /// A round before the study was active.
    #[error("a round began before the study was active")]
    NotActive,
    /// Something after the end of the study.
    #[error("the study had ended before")]
    AfterTheEnd,
    /// An incarnation confirmed by its own custodian, or one that was never announced.
    #[error("incarnation {nonce} of {custodian} was confirmed by itself, or was not announced before")]
    Incarnation {
        /// Whose.
        custodian: PartyId,
        /// Its nonce.
        nonce: Digest,
    },
    /// A line about an attempt that lacks an earlier line.
    #[error("{id} has no {missing} before this line")]
    Missing {
        /// The attempt.
        id: RoundId,
        /// What is missing.
        missing: &'static str,
    },
    /// Something that happens once in an attempt.
    #[error("{id} had a {what} before")]
    Twice {
        /// The attempt.
        id: RoundId,
        /// What occurs twice.
        what: &'static str,
    },
    /// A round before the one before it was published, or after it was published itself.
    #[error("{id} was announced, but {published} rounds were published before it")]
    Order {
        /// The attempt.
        id: RoundId,
        /// Rounds published so far.
        published: u32,
    },
    /// An attempt after one that was neither given up by certificate nor is named with the set whose sum may be open.
    #[error(
        "{id} was announced although an attempt before it was neither given up by certificate nor named with the set that may be open"
    )]
    NotAbandoned {
        /// The attempt.
        id: RoundId,
    },
    /// Contributions to a round start from another state than the one published last, or than those of an earlier attempt.
    #[error("{id} starts from state {found}, it should be {expected}")]
    Base {
        /// The attempt.
        id: RoundId,
        /// State in the record.
        found: Digest,
        /// State that it should be.
        expected: Digest,
    },
    /// A second, different contribution.
    #[error("{contributor} had sent another contribution to {id} before")]
    SecondContribution {
        /// The attempt.
        id: RoundId,
        /// Who.
        contributor: PartyId,
    },
    /// A set with a contribution that was not received in this attempt.
    #[error("the set of {id} names a contribution of {contributor} that was not received in this attempt")]
    NotReceived {
        /// The attempt.
        id: RoundId,
        /// Whose.
        contributor: PartyId,
    },
    /// Too small a set.
    #[error("the set of {id} has {members} members, the study asks for at least {min}")]
    TooFew {
        /// The attempt.
        id: RoundId,
        /// Members of the set.
        members: usize,
        /// Fewest allowed.
        min: usize,
    },
    /// A set whose digest is not that of its members.
    #[error("the digest of the set of {id} is not that of its members")]
    SetDigest {
        /// The attempt.
        id: RoundId,
    },
    /// A certificate for another set or sum than the proposed ones.
    #[error("{id}: the set or the sum is another one than was proposed")]
    OtherSet {
        /// The attempt.
        id: RoundId,
    },
    /// Too few valid signatures of distinct custodians.
    #[error("{id}: {valid} distinct custodians signed validly, the study asks for {needed}")]
    TooFewSigners {
        /// The attempt.
        id: RoundId,
        /// Valid signatures of distinct custodians.
        valid: usize,
        /// g.
        needed: usize,
    },
    /// A signature that does not hold, or one signer twice.
    #[error("{id}: the signature of {signer} does not hold, or occurs twice")]
    BadSignature {
        /// The attempt.
        id: RoundId,
        /// Who is said to have signed.
        signer: PartyId,
    },
    /// A set whose sum, together with those of the round that may be open, tells of too few contributors.
    #[error(
        "the sum of {id}, together with those of the round that may be open, tells of a group of {smallest}, the study asks for at least {min}"
    )]
    Subtractable {
        /// The attempt.
        id: RoundId,
        /// Members of the smallest group.
        smallest: usize,
        /// Fewest allowed.
        min: usize,
    },
    /// A contribution in the certificates of two attempts.
    #[error("the contribution of {contributor} to {id} is in the certificate of {earlier} as well")]
    CertifiedTwice {
        /// The attempt.
        id: RoundId,
        /// Whose contribution.
        contributor: PartyId,
        /// The other attempt.
        earlier: RoundId,
    },
    /// The same ciphertexts under two names, or in two attempts.
    #[error("the ciphertexts of {contributor} in {id} were certified before, in {earlier}")]
    CopiedContribution {
        /// The attempt.
        id: RoundId,
        /// In whose name.
        contributor: PartyId,
        /// The other attempt.
        earlier: RoundId,
    },
    /// An attempt that was both agreed upon and given up.
    #[error("{id} has both a certificate and a certificate of abandonment")]
    BothCertificates {
        /// The attempt.
        id: RoundId,
    },
    /// An answer by a custodian that did not agree.
    #[error("{custodian} answered in {id}, whose certificate it has not signed")]
    AnsweredUnsigned {
        /// The attempt.
        id: RoundId,
        /// Who.
        custodian: PartyId,
    },
    /// Another number of contributors than the set has.
    #[error("{id} was opened over {said} contributors, its set has {members}")]
    Count {
        /// The attempt.
        id: RoundId,
        /// Number in the line.
        said: usize,
        /// Members of the set.
        members: usize,
    },
    /// Published although too few receivers derived this state.
    #[error("{id} was published with a state that {readers} receivers derived, the study asks for {min}")]
    Unread {
        /// The attempt.
        id: RoundId,
        /// Receivers that derived it.
        readers: usize,
        /// Fewest allowed.
        min: usize,
    },
    /// A quantity that had been opened before.
    #[error("the {} of state {base} was opened in {earlier} before", .purpose.name())]
    OpenedBefore {
        /// What the sum is for.
        purpose: Purpose,
        /// State that it starts from.
        base: Digest,
        /// Where it was opened.
        earlier: RoundId,
    },
    /// A model that too few contributors agreed to serve.
    #[error("model {model} is served, but {released} contributors released it and the study asks for {min}")]
    Unreleased {
        /// The model.
        model: Digest,
        /// Contributors that released it.
        released: usize,
        /// Fewest allowed.
        min: usize,
    },
    /// Somebody accused of signing twice without two of its signatures.
    #[error("{party} is accused of signing twice in {id}, but two signatures of it are not shown")]
    Unproven {
        /// The attempt.
        id: RoundId,
        /// Who.
        party: PartyId,
    },
}

/// What the lines so far say of an attempt.
#[derive(Debug, Default)]
struct Attempt {
    record: Option<(Digest, Purpose, Digest)>,
    /// Sets of earlier attempts that the record says may be open.
    standing: Vec<BTreeSet<PartyId>>,
    contributions: BTreeMap<PartyId, (Digest, Digest)>,
    proposal: Option<(Digest, Digest, BTreeSet<PartyId>)>,
    certificate: Option<BTreeSet<PartyId>>,
    abandoned: bool,
    opened: bool,
    reads: BTreeMap<PartyId, Digest>,
}

/// Reads a log line by line, notes what the rules forbid, and keeps account of what was opened. Lines come from a
/// [`super::Chain`], which verified them.
#[derive(Debug)]
pub struct Checker {
    roster: Arc<Roster>,
    active: bool,
    closed: bool,
    joined: BTreeSet<PartyId>,
    incarnations: BTreeSet<(PartyId, Digest)>,
    attempts: BTreeMap<RoundId, Attempt>,
    /// Rounds that were published under an earlier version of the study, and the state after them.
    before: (u32, Option<Digest>),
    /// Attempt and state of the published rounds after those, in order.
    published: Vec<(RoundId, Digest)>,
    opened: BTreeMap<(&'static str, Digest), RoundId>,
    headers: BTreeMap<Digest, RoundId>,
    blobs: BTreeMap<Digest, RoundId>,
    released: BTreeMap<PartyId, Digest>,
    report: Report,
}

type Verdict = Result<(), Inconsistency>;

impl Checker {
    /// A checker that has read nothing.
    pub fn new(roster: Arc<Roster>) -> Self {
        Self {
            report: Report::new(*roster.study()),
            roster,
            active: false,
            closed: false,
            joined: BTreeSet::new(),
            incarnations: BTreeSet::new(),
            attempts: BTreeMap::new(),
            before: (0, None),
            published: Vec::new(),
            opened: BTreeMap::new(),
            headers: BTreeMap::new(),
            blobs: BTreeMap::new(),
            released: BTreeMap::new(),
        }
    }

    /// A checker of the log of a study that goes on from another: rounds are counted through.
    pub fn after(self, predecessor: &Predecessor) -> Self {
        Self {
            before: (predecessor.rounds, Some(predecessor.state)),
            ..self
        }
    }

    /// Number of rounds published so far, under this study and before.
    fn rounds(&self) -> u32 {
        self.before.0.saturating_add(self.published.len() as u32)
    }

    /// Reads the next line. What is wrong with it is noted, and reading goes on.
    pub fn read(&mut self, line: &AuditLine) {
        self.report.time(line.number, line.time_ms);
        for verdict in self.judge(line) {
            if let Err(what) = verdict {
                self.report.findings.push(Finding {
                    line: line.number,
                    text: what.to_string(),
                    what,
                });
            }
        }
    }

    /// Says where the chain ended that the lines came from, and gives the report.
    pub fn finish(mut self, head: AuditHead) -> Report {
        self.report.head = head;
        self.report
    }

    fn judge(&mut self, line: &AuditLine) -> Vec<Verdict> {
        match &line.event {
            AuditEvent::Admitted { party, .. } => vec![self.member(party), self.admitted(party)],
            AuditEvent::Activated => vec![self.activated()],
            AuditEvent::Incarnation { custodian, nonce, .. } => {
                self.incarnations.insert((custodian.clone(), *nonce));
                vec![self.custodian(custodian)]
            }
            AuditEvent::Confirmed { custodian, nonce, by } => {
                vec![self.custodian(by), self.incarnation(custodian, nonce, by)]
            }
            AuditEvent::Stale { custodian, nonce, by } => {
                self.report.warnings.push(Warning {
                    line: line.number,
                    text: format!("custodian {custodian} was put back to an old state, as {by} noticed"),
                });
                vec![self.custodian(by), self.incarnation(custodian, nonce, by)]
            }
            AuditEvent::Record {
                id,
                purpose,
                record,
                base,
                standing,
            } => self.record(*id, *purpose, (*record, *base), standing),
            AuditEvent::Contribution {
                id,
                contributor,
                header,
                blob,
            } => vec![self.contribution(*id, contributor, *header, *blob)],
            AuditEvent::Refused {
                party,
                what,
                code,
                text,
            } => {
                self.report.rejections.push(Rejection {
                    line: line.number,
                    party: party.clone(),
                    what: what.clone(),
                    code: *code,
                    text: text.clone(),
                });
                vec![self.member(party)]
            }
            AuditEvent::Named {
                id,
                party,
                culprit,
                text,
                evidence,
            } => {
                self.report.accusations.push(Accusation {
                    line: line.number,
                    id: *id,
                    party: party.clone(),
                    culprit: *culprit,
                    text: text.clone(),
                });
                vec![
                    self.member(party),
                    self.accusation(*id, party, *culprit, evidence),
                ]
            }
            AuditEvent::Proposed {
                id,
                members,
                set,
                sum,
            } => self.proposed(*id, members, *set, *sum),
            AuditEvent::Certified {
                id,
                set,
                sum,
                endorsements,
            } => self.certified(*id, *set, *sum, endorsements),
            AuditEvent::Abandoned { id, signatures, .. } => self.abandoned(*id, signatures),
            AuditEvent::Answered { id, custodian, .. } => vec![self.answered(*id, custodian)],
            AuditEvent::Opened {
                id,
                receivers,
                contributors,
            } => self.opened(line, *id, receivers, *contributors as usize),
            AuditEvent::Read { id, receiver, result } => {
                vec![self.receiver(receiver), self.was_read(*id, receiver, *result)]
            }
            AuditEvent::OpeningFailed { id, receiver, fault } => {
                if let Some(opening) = self.report.opening(*id) {
                    opening.failures.insert(receiver.clone(), fault.clone());
                }
                vec![self.receiver(receiver), self.was_opened(*id)]
            }
            AuditEvent::Published { id, sum, result } => self.published(line, *id, *sum, *result),
            AuditEvent::Released { party, model } => {
                self.released.insert(party.clone(), *model);
                vec![self.contributor(party)]
            }
            AuditEvent::Served { model } => {
                self.report.served.push(*model);
                vec![self.served(*model)]
            }
            AuditEvent::Closed { completed, reason } => {
                self.report.closed = Some(Closing {
                    completed: *completed,
                    reason: reason.clone(),
                });
                let verdict = self.open();
                self.closed = true;
                vec![verdict]
            }
        }
    }

    fn open(&self) -> Verdict {
        if self.closed {
            Err(Inconsistency::AfterTheEnd)
        } else {
            Ok(())
        }
    }

    fn stranger(party: &PartyId, role: &'static str, is: bool) -> Verdict {
        if is {
            return Ok(());
        }
        Err(Inconsistency::Stranger {
            party: party.clone(),
            role,
        })
    }

    fn member(&self, party: &PartyId) -> Verdict {
        Self::stranger(party, "member", self.roster.signing(party).is_some())
    }

    fn custodian(&self, party: &PartyId) -> Verdict {
        Self::stranger(party, "custodian", self.roster.custodian_index(party).is_some())
    }

    fn contributor(&self, party: &PartyId) -> Verdict {
        Self::stranger(party, "contributor", self.roster.is_contributor(party))
    }

    fn receiver(&self, party: &PartyId) -> Verdict {
        Self::stranger(party, "receiver", self.roster.receivers().contains(party))
    }

    fn admitted(&mut self, party: &PartyId) -> Verdict {
        if self.joined.insert(party.clone()) {
            return Ok(());
        }
        Err(Inconsistency::JoinedTwice(party.clone()))
    }

    fn activated(&mut self) -> Verdict {
        self.active = true;
        let missing = self.roster.members().find(|party| !self.joined.contains(*party));
        missing.map_or(Ok(()), |party| Err(Inconsistency::ActiveWithout(party.clone())))
    }

    fn incarnation(&self, custodian: &PartyId, nonce: &Digest, by: &PartyId) -> Verdict {
        if by != custodian && self.incarnations.contains(&(custodian.clone(), *nonce)) {
            return Ok(());
        }
        Err(Inconsistency::Incarnation {
            custodian: custodian.clone(),
            nonce: *nonce,
        })
    }

    fn record(
        &mut self,
        id: RoundId,
        purpose: Purpose,
        (record, base): (Digest, Digest),
        standing: &BTreeMap<u32, BTreeSet<PartyId>>,
    ) -> Vec<Verdict> {
        let published = self.rounds();
        let order = if id.round == published {
            Ok(())
        } else {
            Err(Inconsistency::Order { id, published })
        };
        // Each of them: an attempt that was skipped could hold a certificate.
        let earlier = self.attempts.range(RoundId { attempt: 0, ..id }..id);
        let accounted = earlier.filter(|(before, attempt)| {
            let proposed = attempt.proposal.as_ref().map(|(_, _, members)| members);
            let said = standing.get(&before.attempt);
            attempt.abandoned || (said.is_some() && said == proposed)
        });
        let abandoned = if accounted.count() == id.attempt as usize {
            Ok(())
        } else {
            Err(Inconsistency::NotAbandoned { id })
        };
        let last = self.published.last().map(|(_, state)| *state).or(self.before.1);
        let of_round = self.attempts.range(RoundId { attempt: 0, ..id }..id);
        let mut of_round = of_round
            .filter_map(|(_, attempt)| attempt.record)
            .map(|(_, _, base)| base);
        let expected = last.or_else(|| of_round.next()).unwrap_or(base);
        let based = if expected == base {
            Ok(())
        } else {
            Err(Inconsistency::Base {
                id,
                found: base,
                expected,
            })
        };
        let active = if self.active {
            Ok(())
        } else {
            Err(Inconsistency::NotActive)
        };
        let attempt = self.attempts.entry(id).or_default();
        let once = once(id, "record", attempt.record.is_some());
        attempt.record.get_or_insert((record, purpose, base));
        attempt.standing = standing.values().cloned().collect();
        vec![self.open(), active, order, abandoned, based, once]
    }

    fn contribution(&mut self, id: RoundId, contributor: &PartyId, header: Digest, blob: Digest) -> Verdict {
        self.contributor(contributor)?;
        let attempt = self.announced(id)?;
        let known = attempt.contributions.entry(contributor.clone());
        if *known.or_insert((header, blob)) == (header, blob) {
            return Ok(());
        }
        Err(Inconsistency::SecondContribution {
            id,
            contributor: contributor.clone(),
        })
    }

    fn proposed(
        &mut self,
        id: RoundId,
        members: &BTreeMap<PartyId, Digest>,
        set: Digest,
        sum: Digest,
    ) -> Vec<Verdict> {
        let (min, open) = (self.roster.min_contributors(), self.open());
        let attempt = match self.announced(id) {
            Ok(attempt) => attempt,
            Err(missing) => return vec![open, Err(missing)],
        };
        let mut verdicts = vec![open, once(id, "proposal", attempt.proposal.is_some())];
        if members.len() < min {
            let members = members.len();
            verdicts.push(Err(Inconsistency::TooFew { id, members, min }));
        }
        let received = |name: &PartyId| attempt.contributions.get(name).map(|(header, _)| header);
        let foreign = members
            .iter()
            .find(|(name, header)| received(name) != Some(*header));
        if let Some((contributor, _)) = foreign {
            let contributor = contributor.clone();
            verdicts.push(Err(Inconsistency::NotReceived { id, contributor }));
        }
        let said = ContributionSet {
            record: attempt.record.map(|(record, _, _)| record).unwrap_or_default(),
            members: members.clone(),
        };
        if said.digest() != set {
            verdicts.push(Err(Inconsistency::SetDigest { id }));
        }
        let names = members.keys().cloned().collect();
        attempt.proposal.get_or_insert((set, sum, names));
        verdicts
    }

    fn certified(
        &mut self,
        id: RoundId,
        set: Digest,
        sum: Digest,
        endorsements: &[Authored],
    ) -> Vec<Verdict> {
        let roster = Arc::clone(&self.roster);
        let open = self.open();
        let attempt = match self.announced(id) {
            Ok(attempt) => attempt,
            Err(missing) => return vec![open, Err(missing)],
        };
        let record = attempt.record.map(|(record, _, _)| record).unwrap_or_default();
        let mut verdicts = vec![open, once(id, "certificate", attempt.certificate.is_some())];
        if attempt.abandoned {
            verdicts.push(Err(Inconsistency::BothCertificates { id }));
        }
        let same = attempt
            .proposal
            .as_ref()
            .is_some_and(|(known, of, _)| (*known, *of) == (set, sum));
        if !same {
            verdicts.push(Err(Inconsistency::OtherSet { id }));
        }
        let expected = Endorsement { record, set, sum };
        let (signers, mut signed) = signers(&roster, id, endorsements, |authored| {
            authored
                .open::<Endorsement>(&roster, ENDORSEMENT)
                .is_ok_and(|said| said == expected)
        });
        verdicts.append(&mut signed);
        attempt.certificate = Some(signers);
        let min = roster.min_contributors();
        let smallest = self.smallest_group(id);
        if smallest < min {
            verdicts.push(Err(Inconsistency::Subtractable { id, smallest, min }));
        }
        let Some(attempt) = self.attempts.get(&id) else {
            return verdicts;
        };
        let members = attempt.proposal.as_ref().map(|(_, _, members)| members);
        let contributions: Vec<_> = members
            .into_iter()
            .flatten()
            .filter_map(|name| Some((name.clone(), *attempt.contributions.get(name)?)))
            .collect();
        for (contributor, (header, blob)) in contributions {
            if let Some(earlier) = self.headers.insert(header, id) {
                verdicts.push(Err(Inconsistency::CertifiedTwice {
                    id,
                    contributor,
                    earlier,
                }));
            } else if let Some(earlier) = self.blobs.insert(blob, id) {
                verdicts.push(Err(Inconsistency::CopiedContribution {
                    id,
                    contributor,
                    earlier,
                }));
            }
        }
        verdicts
    }

    /// The smallest group of contributors that the sums of a round tell of, if all that may be open are: those that lie in exactly the
    /// same sets. Every linear combination of the sums weighs the members of a group alike.
    fn smallest_group(&self, id: RoundId) -> usize {
        let round = RoundId { attempt: 0, ..id }..=RoundId {
            attempt: u32::MAX,
            ..id
        };
        let certified = self.attempts.range(round).filter_map(|(_, attempt)| {
            let members = attempt.proposal.as_ref().map(|(_, _, members)| members);
            members.filter(|_| attempt.certificate.is_some())
        });
        let standing = self.attempts.get(&id).map(|attempt| &attempt.standing);
        let sets: BTreeSet<&BTreeSet<PartyId>> = certified.chain(standing.into_iter().flatten()).collect();
        let mut groups: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
        let everybody: BTreeSet<&PartyId> = sets.iter().copied().flatten().collect();
        for party in everybody {
            let lies_in = (0..).zip(&sets).filter(|(_, set)| set.contains(party));
            *groups
                .entry(lies_in.map(|(index, _)| index).collect())
                .or_default() += 1;
        }
        groups.into_values().min().unwrap_or(0)
    }

    fn abandoned(&mut self, id: RoundId, signatures: &[Authored]) -> Vec<Verdict> {
        let roster = Arc::clone(&self.roster);
        let attempt = self.attempts.entry(id).or_default();
        let (signers, mut verdicts) = signers(&roster, id, signatures, |authored| {
            authored
                .open::<Abandoned>(&roster, ABANDONED)
                .is_ok_and(|said| said.round == id)
        });
        attempt.abandoned = signers.len() >= roster.agreement();
        if attempt.certificate.is_some() {
            verdicts.push(Err(Inconsistency::BothCertificates { id }));
        }
        verdicts
    }

    fn answered(&mut self, id: RoundId, custodian: &PartyId) -> Verdict {
        let signers = self.certificate(id)?;
        if signers.contains(custodian) {
            return Ok(());
        }
        Err(Inconsistency::AnsweredUnsigned {
            id,
            custodian: custodian.clone(),
        })
    }

    fn opened(
        &mut self,
        line: &AuditLine,
        id: RoundId,
        receivers: &[PartyId],
        contributors: usize,
    ) -> Vec<Verdict> {
        let mut verdicts = vec![self.open(), self.certificate(id).map(|_| ())];
        verdicts.extend(receivers.iter().map(|party| self.receiver(party)));
        let attempt = self.attempts.entry(id).or_default();
        let members = attempt.proposal.as_ref().map(|(_, _, members)| members.clone());
        let members = members.unwrap_or_default();
        if members.len() != contributors {
            verdicts.push(Err(Inconsistency::Count {
                id,
                said: contributors,
                members: members.len(),
            }));
        }
        verdicts.push(once(id, "opening", attempt.opened));
        attempt.opened = true;
        let custodians = attempt.certificate.clone().unwrap_or_default();
        let quantity = attempt.record.map(|(_, purpose, base)| (purpose, base));
        if let Some((purpose, base)) = quantity {
            let earlier = *self.opened.entry((purpose.name(), base)).or_insert(id);
            // Further attempts of one round are looked at together, see `smallest_group`.
            if earlier.round != id.round {
                verdicts.push(Err(Inconsistency::OpenedBefore {
                    purpose,
                    base,
                    earlier,
                }));
            }
        }
        self.report.openings.push(Opening {
            line: line.number,
            time_ms: line.time_ms,
            id,
            purpose: quantity.map(|(purpose, _)| purpose),
            contributors: members.into_iter().collect(),
            receivers: receivers.to_vec(),
            custodians: custodians.into_iter().collect(),
            readers: BTreeSet::new(),
            failures: BTreeMap::new(),
            published_ms: None,
        });
        verdicts
    }

    fn was_opened(&self, id: RoundId) -> Verdict {
        if self.attempts.get(&id).is_some_and(|attempt| attempt.opened) {
            return Ok(());
        }
        Err(Inconsistency::Missing {
            id,
            missing: "opening",
        })
    }

    fn was_read(&mut self, id: RoundId, receiver: &PartyId, result: Digest) -> Verdict {
        if let Some(opening) = self.report.opening(id) {
            opening.readers.insert(receiver.clone());
            opening.failures.remove(receiver);
        }
        let verdict = self.was_opened(id);
        let attempt = self.attempts.entry(id).or_default();
        attempt.reads.insert(receiver.clone(), result);
        verdict
    }

    fn published(&mut self, line: &AuditLine, id: RoundId, sum: Digest, result: Digest) -> Vec<Verdict> {
        let mut verdicts = vec![self.open(), self.was_opened(id)];
        let count = self.rounds();
        if id.round != count {
            verdicts.push(Err(Inconsistency::Order { id, published: count }));
        }
        let min = self.roster.min_contributors();
        let attempt = self.attempts.entry(id).or_default();
        if attempt
            .proposal
            .as_ref()
            .is_none_or(|(_, known, _)| *known != sum)
        {
            verdicts.push(Err(Inconsistency::OtherSet { id }));
        }
        let readers = attempt.reads.values().filter(|state| **state == result).count();
        if readers < min {
            verdicts.push(Err(Inconsistency::Unread { id, readers, min }));
        }
        if let Some(opening) = self.report.opening(id) {
            opening.published_ms = Some(line.time_ms);
        }
        self.published.push((id, result));
        verdicts
    }

    fn served(&self, model: Digest) -> Verdict {
        let min = self.roster.min_contributors();
        let released = self.released.values().filter(|known| **known == model).count();
        if released >= min {
            return Ok(());
        }
        Err(Inconsistency::Unreleased { model, released, min })
    }

    /// Who signs twice is shown by two valid, different, binding statements about one attempt.
    fn accusation(&self, id: RoundId, party: &PartyId, culprit: Culprit, evidence: &[Authored]) -> Verdict {
        if culprit != Culprit::TwoSignatures {
            return Ok(());
        }
        let record = self.attempts.get(&id).and_then(|attempt| attempt.record);
        let binding = |authored: &&Authored| {
            let endorsed = authored.open::<Endorsement>(&self.roster, ENDORSEMENT);
            let abandoned = authored.open::<Abandoned>(&self.roster, ABANDONED);
            endorsed.is_ok_and(|said| record.is_some_and(|(record, _, _)| record == said.record))
                || abandoned.is_ok_and(|said| said.round == id)
        };
        let shown: BTreeSet<&[u8]> = evidence
            .iter()
            .filter(|authored| authored.author == *party)
            .filter(binding)
            .map(|authored| authored.statement.payload())
            .collect();
        if shown.len() >= 2 {
            return Ok(());
        }
        Err(Inconsistency::Unproven {
            id,
            party: party.clone(),
        })
    }

    fn announced(&mut self, id: RoundId) -> Result<&mut Attempt, Inconsistency> {
        let attempt = self
            .attempts
            .get_mut(&id)
            .filter(|attempt| attempt.record.is_some());
        attempt.ok_or(Inconsistency::Missing {
            id,
            missing: "record",
        })
    }

    fn certificate(&self, id: RoundId) -> Result<&BTreeSet<PartyId>, Inconsistency> {
        let attempt = self.attempts.get(&id);
        attempt
            .and_then(|attempt| attempt.certificate.as_ref())
            .ok_or(Inconsistency::Missing {
                id,
                missing: "certificate",
            })
    }
}

fn once(id: RoundId, what: &'static str, before: bool) -> Verdict {
    if before {
        return Err(Inconsistency::Twice { id, what });
    }
    Ok(())
}

/// The distinct custodians whose statements hold, and what is wrong with the others or with their number.
fn signers(
    roster: &Roster,
    id: RoundId,
    statements: &[Authored],
    holds: impl Fn(&Authored) -> bool,
) -> (BTreeSet<PartyId>, Vec<Verdict>) {
    let (mut valid, mut verdicts) = (BTreeSet::new(), Vec::new());
    for authored in statements {
        let signer = &authored.author;
        let custodian = roster.custodian_index(signer).is_some();
        if !custodian || !holds(authored) || !valid.insert(signer.clone()) {
            let signer = signer.clone();
            verdicts.push(Err(Inconsistency::BadSignature { id, signer }));
        }
    }
    let needed = roster.agreement();
    if valid.len() < needed {
        let valid = valid.len();
        verdicts.push(Err(Inconsistency::TooFewSigners { id, valid, needed }));
    }
    (valid, verdicts)
}
