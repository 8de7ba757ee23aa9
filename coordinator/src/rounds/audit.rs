//! The audit log on disk, and what a change of state tells it.
//!
//! Lines are written in the same batch as the change that they tell: after a crash both are there or neither. What needs a signed
//! statement to tell (a certificate, a named culprit) comes from where that statement is at hand; everything else follows from
//! the state before and after ([`told`]), so that no transition can be forgotten.

use super::blame;
use super::state::{Attempt, StudyState};
use galen_core::study::FrozenStudy;
use galen_core::{Code, PartyId, Refusal, SignError, Signed, SigningKey, StudyDigest};
use galen_net::protocol::{AttemptPhase, Statement};
use galen_store::{Batch, Database, Repository, StoreError, Table};
use galen_sums::audit::{AuditEvent, AuditHead, AuditLine};
use galen_sums::record::RoundId;
use galen_sums::roster::Roster;
use std::collections::BTreeSet;

const LINES: Table<Signed> = Table::new("audit", *b"AUDI", 1);
const HEADS: Table<AuditHead> = Table::new("audit-head", *b"AUDH", 1);
const HEAD_KEY: &str = "head";
/// Lines of studies that were succeeded, under the study's version and their number.
const FORMER: Table<Signed> = Table::new("audit-former", *b"AUDF", 1);

/// Most lines of one answer.
const MAX_LINES: usize = 4096;
/// Bytes after which an answer holds no further line.
const MAX_BYTES: usize = 4 << 20;
/// Longest text in a line, in characters.
const MAX_TEXT: usize = 200;

/// A log that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditLogError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A line cannot be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The stored lines do not lead to the stored head.
    #[error(
        "the audit log on disk has {found} lines up to digest {digest}, its head says {head} lines: the folder was damaged or tampered with"
    )]
    Damaged {
        /// Lines found.
        found: u64,
        /// Digest over them.
        digest: galen_core::Digest,
        /// Lines of the stored head.
        head: u64,
    },
}

/// The lines of a study's log, one record each under its number.
pub struct AuditLog {
    study: StudyDigest,
    lines: Repository<Signed>,
    heads: Repository<AuditHead>,
}

impl AuditLog {
    /// Opens the log and checks that its lines lead to its head.
    ///
    /// # Errors
    /// [`AuditLogError::Damaged`] if they do not.
    pub fn open(database: &Database, study: StudyDigest) -> Result<(Self, AuditHead), AuditLogError> {
        let log = Self {
            study,
            lines: database.repository(&LINES)?,
            heads: database.repository(&HEADS)?,
        };
        let head = log.heads.get(HEAD_KEY)?.unwrap_or_default();
        let mut found = AuditHead::default();
        for entry in log.lines.iter() {
            found = found.after(&study, &entry?.1);
        }
        if found == head {
            return Ok((log, head));
        }
        Err(AuditLogError::Damaged {
            found: found.lines,
            digest: found.digest,
            head: head.lines,
        })
    }

    /// Adds the lines of these events, which follow `head`, to a batch; returns the head after them, which holds once the batch is
    /// committed.
    pub fn append(
        &self,
        batch: &mut Batch,
        signing: &SigningKey,
        mut head: AuditHead,
        now_ms: u64,
        events: Vec<AuditEvent>,
    ) -> Result<AuditHead, AuditLogError> {
        if events.is_empty() {
            return Ok(head);
        }
        for event in events {
            let (line, next) = AuditLine::sign(signing, &self.study, &head, now_ms, event)?;
            batch.put(&self.lines, next.lines.to_be_bytes(), &line)?;
            head = next;
        }
        batch.put(&self.heads, HEAD_KEY, &head)?;
        Ok(head)
    }

    /// The lines after the first `from`, at most `limit` and not more than an answer holds.
    pub fn lines(&self, from: u64, limit: usize) -> Result<Vec<Signed>, StoreError> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        for number in from.saturating_add(1)..=u64::MAX {
            if found.len() >= limit.min(MAX_LINES) || bytes >= MAX_BYTES {
                break;
            }
            let Some(line) = self.lines.get(number.to_be_bytes())? else {
                break;
            };
            bytes += line.payload().len();
            found.push(line);
        }
        Ok(found)
    }
}

/// Moves the log of a study that is succeeded aside, in a batch; the successor's begins anew. If the study was not over, `reason` is its
/// last line.
pub fn retire(
    database: &Database,
    batch: &mut Batch,
    old: &FrozenStudy,
    signing: &SigningKey,
    now_ms: u64,
    reason: Option<&str>,
) -> Result<(), AuditLogError> {
    let (log, head) = AuditLog::open(database, old.digest())?;
    let former = database.repository(&FORMER)?;
    let key = |number: &[u8]| [&old.version().to_be_bytes(), number].concat();
    for entry in log.lines.iter() {
        let (number, line) = entry?;
        batch.put(&former, key(&number), &line)?;
        batch.delete(&log.lines, number);
    }
    batch.delete(&log.heads, HEAD_KEY);
    if let Some(reason) = reason {
        let event = AuditEvent::Closed {
            completed: false,
            reason: reason.to_owned(),
        };
        let (line, next) = AuditLine::sign(signing, &old.digest(), &head, now_ms, event)?;
        batch.put(&former, key(&next.lines.to_be_bytes()), &line)?;
    }
    Ok(())
}

/// The log of a study that was succeeded, as it ended.
pub fn retired(database: &Database, version: u32) -> Result<Vec<Signed>, StoreError> {
    let former = database.repository(&FORMER)?;
    let lines = former.prefix(&version.to_be_bytes());
    lines.map(|entry| entry.map(|(_, line)| line)).collect()
}

/// What a change of state tells, apart from what needs a signed statement.
pub fn told(before: &StudyState, after: &StudyState, roster: &Roster) -> Vec<AuditEvent> {
    let mut events = Vec::new();
    let everybody = |state: &StudyState| roster.members().all(|party| state.consents.contains(party));
    if everybody(after) && !everybody(before) {
        events.push(AuditEvent::Activated);
    }
    if let Some(attempt) = &after.attempt {
        let earlier = before.attempt.as_ref();
        let earlier =
            earlier.filter(|earlier| (earlier.round, earlier.attempt) == (attempt.round, attempt.attempt));
        told_of_attempt(earlier, attempt, roster, &mut events);
    }
    if let Some(event) = repeated(before, after, roster) {
        events.push(event);
    }
    if let Some(event) = blame::spoiler(before, after) {
        events.push(event);
    }
    let known = before.published.len();
    for (round, published) in (0u32..).zip(&after.published).skip(known) {
        events.push(AuditEvent::Published {
            id: RoundId {
                round,
                attempt: published.attempt,
            },
            sum: published.sum,
            result: published.result,
        });
    }
    for (party, model) in &after.releases {
        if !before.releases.contains_key(party) {
            events.push(AuditEvent::Released {
                party: party.clone(),
                model: *model,
            });
        }
    }
    if let Some(model) = after.serving
        && before.serving.is_none()
    {
        events.push(AuditEvent::Served { model });
    }
    if let Some(closed) = &after.closed
        && before.closed.is_none()
    {
        events.push(AuditEvent::Closed {
            completed: closed.completed,
            reason: short(&closed.reason),
        });
    }
    events
}

/// An attempt that ended although its sum may be open, and who is asked next.
fn repeated(before: &StudyState, after: &StudyState, roster: &Roster) -> Option<AuditEvent> {
    let ended = after.earlier.get(before.earlier.len())?;
    let (members, attempt) = (ended.standing()?.clone(), after.attempt.as_ref()?);
    let over = after.closed.is_some();
    let next = match attempt.asked_next.as_ref().or(attempt.asked.as_ref()) {
        _ if over => BTreeSet::new(),
        Some(asked) => asked.difference(&after.left_out()).cloned().collect(),
        None => {
            let everybody: BTreeSet<_> = roster.contributors().iter().cloned().collect();
            everybody.difference(&after.left_out()).cloned().collect()
        }
    };
    Some(AuditEvent::Repeated {
        id: RoundId {
            round: attempt.round,
            attempt: attempt.attempt,
        },
        reason: short(attempt.abandoned.as_deref().unwrap_or("unknown")),
        members,
        next,
    })
}

fn told_of_attempt(before: Option<&Attempt>, after: &Attempt, roster: &Roster, events: &mut Vec<AuditEvent>) {
    let id = RoundId {
        round: after.round,
        attempt: after.attempt,
    };
    for (contributor, contribution) in &after.contributions {
        if !before.is_some_and(|before| before.contributions.contains_key(contributor)) {
            events.push(AuditEvent::Contribution {
                id,
                contributor: contributor.clone(),
                header: contribution.header,
                blob: contribution.blob,
            });
        }
    }
    if let Some(proposal) = &after.proposal
        && before.is_none_or(|before| before.proposal.is_none())
    {
        let header = |name| {
            Some((
                after.contributions.get_key_value(name)?.0.clone(),
                after.contributions.get(name)?.header,
            ))
        };
        events.push(AuditEvent::Proposed {
            id,
            members: proposal.set.iter().filter_map(header).collect(),
            set: proposal.set_digest,
            sum: proposal.sum,
        });
    }
    // Once, also if the phase is entered again after answers were replaced.
    let first = before.is_none_or(|before| before.phase < AttemptPhase::Opening) && after.liars.is_empty();
    if first && after.phase == AttemptPhase::Opening {
        events.push(AuditEvent::Opened {
            id,
            receivers: roster.receivers().to_vec(),
            contributors: after
                .proposal
                .as_ref()
                .map_or(0, |proposal| proposal.set.len() as u32),
        });
    }
    for (receiver, result) in &after.opened {
        if !before.is_some_and(|before| before.opened.contains_key(receiver)) {
            events.push(AuditEvent::Read {
                id,
                receiver: receiver.clone(),
                result: *result,
            });
        }
    }
    for (receiver, fault) in &after.failures {
        // Its first word only: a receiver that keeps changing it fills nobody's disk.
        if !before.is_some_and(|before| before.failures.contains_key(receiver)) {
            events.push(AuditEvent::OpeningFailed {
                id,
                receiver: receiver.clone(),
                fault: short(&fault.detail),
            });
        }
    }
}

/// What a statement is called in a refusal.
pub fn name_of(statement: &Statement) -> &'static str {
    match statement {
        Statement::RoundKey(_) => "one-round key",
        Statement::Contribution(_) => "contribution",
        Statement::Incarnation(_) => "incarnation",
        Statement::Confirmation(_) => "confirmation of an incarnation",
        Statement::Stale(_) => "proof of an old ledger",
        Statement::Checked(_) => "report of checked seeds",
        Statement::Abandoned(_) => "abandonment",
        Statement::Fingerprint(_) => "fingerprint",
        Statement::FingerprintRefused(_) => "complaint about a fingerprint",
        Statement::KeyCheck(_) => "key check",
        Statement::Judged(_) => "judgement of key checks",
        Statement::Endorsement(_) => "endorsement",
        Statement::SeedsRefused(_) => "complaint about seeds",
        Statement::Answer(_) => "key sum",
        Statement::Opened(_) => "report of an opening",
        Statement::OpeningFailed(_) => "report of a failed opening",
        Statement::Release(_) => "release of a model",
    }
}

/// The line of a refusal, if it is one that names its receiver as at fault. Others only say that the sender saw an older state, or
/// that it should come again.
pub fn refused(party: &PartyId, what: &str, refusal: &Refusal) -> Option<AuditEvent> {
    let fault = matches!(
        refusal.code,
        Code::WrongStudy
            | Code::RoleMissing
            | Code::BadSignature
            | Code::Conflict
            | Code::NotConforming
            | Code::WrongBase
            | Code::BadSeeds
            | Code::BadRemainder
            | Code::SetRefused
    );
    fault.then(|| AuditEvent::Refused {
        party: party.clone(),
        what: what.to_owned(),
        code: refusal.code.number(),
        text: short(&refusal.detail),
    })
}

/// A text of limited length on one line.
pub fn short(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rounds::state::{Closed, Contribution, Proposal, Published};
    use galen_core::{Digest, PartyId};
    use galen_store::Store;
    use galen_sums::audit::{Chain, words};
    use galen_sums::{RosterMember, RosterParts};

    fn name(text: &str) -> PartyId {
        PartyId::new(text).unwrap()
    }

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn roster(coordinator: &SigningKey) -> Roster {
        let member = |text: &&str| RosterMember {
            name: name(text),
            signing: SigningKey::generate().unwrap().public(),
            sealing: digest(text).0,
            contributor: true,
            custodian: true,
        };
        Roster::new(RosterParts {
            study: digest("study"),
            coordinator: coordinator.public(),
            members: ["a", "b", "c"].iter().map(member).collect(),
            threshold: 2,
            agreement: 2,
            min_contributors: 3,
        })
        .unwrap()
    }

    fn served(model: &str) -> AuditEvent {
        AuditEvent::Served { model: digest(model) }
    }

    #[test]
    fn lines_and_head_come_back_together_or_not_at_all() {
        let temp = tempfile::tempdir().unwrap();
        let (key, study) = (SigningKey::generate().unwrap(), digest("study"));
        let head = {
            let store = Store::open(temp.path()).unwrap();
            let (log, head) = AuditLog::open(store.database(), study).unwrap();
            assert_eq!(head, AuditHead::default());
            let mut batch = store.database().batch();
            let head = log
                .append(&mut batch, &key, head, 7, vec![served("1"), served("2")])
                .unwrap();
            batch.commit().unwrap();
            // A batch that is not committed leaves nothing.
            let mut batch = store.database().batch();
            log.append(&mut batch, &key, head, 8, vec![served("3")]).unwrap();
            drop(batch);
            // Nothing to tell is nothing to write.
            let mut batch = store.database().batch();
            assert_eq!(log.append(&mut batch, &key, head, 8, Vec::new()).unwrap(), head);
            head
        };
        let store = Store::open(temp.path()).unwrap();
        let (log, found) = AuditLog::open(store.database(), study).unwrap();
        assert_eq!((found, found.lines), (head, 2));
        let lines = log.lines(0, 10).unwrap();
        let mut chain = Chain::new(study, key.public());
        let read = chain.extend(&lines).unwrap();
        assert_eq!(
            (*chain.head(), read[1].time_ms, &read[1].event),
            (head, 7, &served("2"))
        );
        assert_eq!(log.lines(1, 10).unwrap(), lines[1..]);
        assert_eq!(log.lines(0, 1).unwrap(), lines[..1]);
        assert_eq!(log.lines(2, 10).unwrap(), []);
        assert_eq!(log.lines(u64::MAX, 10).unwrap(), []);
    }

    #[test]
    fn lines_that_do_not_lead_to_the_head_are_noticed_at_the_start() {
        let temp = tempfile::tempdir().unwrap();
        let (key, study) = (SigningKey::generate().unwrap(), digest("study"));
        let store = Store::open(temp.path()).unwrap();
        let (log, head) = AuditLog::open(store.database(), study).unwrap();
        let mut batch = store.database().batch();
        let events = ["1", "2", "3"].map(served).to_vec();
        log.append(&mut batch, &key, head, 7, events).unwrap();
        batch.commit().unwrap();
        log.lines.delete(3u64.to_be_bytes()).unwrap();
        let error = AuditLog::open(store.database(), study).err().unwrap();
        assert!(
            matches!(
                error,
                AuditLogError::Damaged {
                    found: 2,
                    head: 3,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn an_answer_is_bounded() {
        let temp = tempfile::tempdir().unwrap();
        let (key, study) = (SigningKey::generate().unwrap(), digest("study"));
        let store = Store::open(temp.path()).unwrap();
        let (log, mut head) = AuditLog::open(store.database(), study).unwrap();
        let long = AuditEvent::Closed {
            completed: false,
            reason: "x".repeat(MAX_BYTES / 8),
        };
        for _ in 0..3 {
            let mut batch = store.database().batch();
            head = log
                .append(&mut batch, &key, head, 0, vec![long.clone(); 4])
                .unwrap();
            batch.commit().unwrap();
        }
        let (mut from, mut answers) = (0, 0);
        while from < head.lines {
            let lines = log.lines(from, usize::MAX).unwrap();
            let bytes: usize = lines.iter().map(|line| line.payload().len()).sum();
            assert!(!lines.is_empty() && bytes <= MAX_BYTES + MAX_BYTES / 4);
            from += lines.len() as u64;
            answers += 1;
        }
        assert_eq!((from, answers), (12, 2));
    }

    /// Each change of state is told, once, and in the order in which it came.
    #[test]
    fn a_change_of_state_is_told_once() {
        let roster = roster(&SigningKey::generate().unwrap());
        let mut state = StudyState::default();
        let mut said = Vec::new();
        let mut step = |change: &mut dyn FnMut(&mut StudyState)| {
            let before = state.clone();
            change(&mut state);
            said.extend(told(&before, &state, &roster).iter().map(words::event));
            assert_eq!(told(&state, &state, &roster), [], "told twice");
        };
        for party in ["a", "b", "c"] {
            step(&mut |state| assert!(state.consents.insert(name(party))));
        }
        step(&mut |state| state.attempt = Some(Attempt::announce(0, 1, digest("base"), 0, 0)));
        let attempt = |state: &mut StudyState, change: &dyn Fn(&mut Attempt)| {
            state.attempt.iter_mut().for_each(change);
        };
        for party in ["b", "a", "c"] {
            step(&mut |state| {
                attempt(state, &|attempt| {
                    let contribution = Contribution {
                        header: digest(party),
                        blob: digest("blob"),
                    };
                    attempt.contributions.insert(name(party), contribution);
                });
            });
        }
        step(&mut |state| {
            attempt(state, &|attempt| {
                attempt.proposal = Some(Proposal {
                    set: ["a", "b", "c"].map(name).to_vec(),
                    set_digest: digest("set"),
                    sum: digest("sum"),
                });
                attempt.phase = AttemptPhase::Proposed;
            });
        });
        step(&mut |state| attempt(state, &|attempt| attempt.phase = AttemptPhase::Opening));
        step(&mut |state| {
            attempt(state, &|attempt| {
                attempt.failures.insert(
                    name("c"),
                    crate::rounds::state::Failure {
                        fault: galen_sums::statement::OpeningFault::Other,
                        detail: "line\nbreak".into(),
                    },
                );
            });
        });
        step(&mut |state| {
            attempt(state, &|attempt| {
                attempt.opened.insert(name("a"), digest("result"));
            });
        });
        step(&mut |state| {
            state.attempt = None;
            state.published.push(Published {
                attempt: 1,
                set: Vec::new(),
                sum: digest("sum"),
                answers: Vec::new(),
                result: digest("result"),
                announced_ms: 0,
                published_ms: 0,
            });
        });
        step(&mut |state| assert_eq!(state.releases.insert(name("b"), digest("model")), None));
        step(&mut |state| state.serving = Some(digest("model")));
        step(&mut |state| {
            state.closed = Some(Closed {
                completed: true,
                reason: "done".into(),
            });
        });
        let parts = [
            "Every party has signed",
            "The encrypted contribution of b to round 0 attempt 1",
            "The encrypted contribution of a to round 0 attempt 1",
            "The encrypted contribution of c to round 0 attempt 1",
            "In round 0 attempt 1 the contributions of a, b and c were added",
            "The sum of round 0 attempt 1 over 3 contributors was opened to a, b and c",
            "c could not read the sum of round 0 attempt 1: line break",
            "a read the sum of round 0 attempt 1",
            "Round 0 attempt 1 was published",
            "b agreed that model",
            "The coordinator serves model",
            "The study is over, completed: done",
        ];
        assert_eq!(said.len(), parts.len(), "{said:#?}");
        for (text, part) in said.iter().zip(parts) {
            assert!(text.starts_with(part), "{part}\n{text}");
        }
    }

    /// A statement that came too early or too late is nobody's fault, and a log that grew with each would fill the disk.
    #[test]
    fn only_refusals_that_name_a_fault_are_told() {
        let told = |code| refused(&name("a"), "contribution", &Refusal::new(code, "no\u{7}")).is_some();
        for code in [
            Code::Conflict,
            Code::BadSignature,
            Code::NotConforming,
            Code::WrongBase,
        ] {
            assert!(told(code), "{code:?}");
        }
        for code in [
            Code::WrongPhase,
            Code::WrongRound,
            Code::Busy,
            Code::Internal,
            Code::BlobUnknown,
        ] {
            assert!(!told(code), "{code:?}");
        }
    }
}
