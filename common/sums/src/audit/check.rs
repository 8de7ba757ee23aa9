//! What genuine lines must not say.
//!
//! A chain proves that the coordinator wrote these lines in this order. Whether what they tell could have happened under the
//! study's rules is checked here, line by line, with nothing but the lines and the frozen study. Certificates and certificates of
//! abandonment carry the custodians' signatures, so that these rules bind more than the coordinator's word.

mod accusations;
mod attempts;
mod inconsistency;

pub use inconsistency::{Finding, Inconsistency};

use super::chain::{AuditHead, AuditLine};
use super::event::AuditEvent;
use super::report::{Accusation, Closing, Rejection, Repeat, Report, Warning};
use crate::record::RoundId;
use crate::roster::Roster;
use attempts::Attempt;
use galen_core::study::Predecessor;
use galen_core::{Digest, PartyId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

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
            AuditEvent::Repeated {
                id,
                reason,
                members,
                next,
            } => {
                self.report.repeats.push(Repeat {
                    line: line.number,
                    id: *id,
                    reason: reason.clone(),
                    members: members.clone(),
                    next: next.clone(),
                });
                let mut verdicts = self.repeated(*id, members);
                verdicts.extend(next.iter().map(|party| self.contributor(party)));
                verdicts
            }
            AuditEvent::Endorsed { id, endorsement } => vec![self.endorsed(*id, endorsement)],
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

    fn served(&self, model: Digest) -> Verdict {
        let min = self.roster.min_contributors();
        let released = self.released.values().filter(|known| **known == model).count();
        if released >= min {
            return Ok(());
        }
        Err(Inconsistency::Unreleased { model, released, min })
    }
}
