//! An honest study of two rounds told in lines, and everything that can be done to it.

use super::chain::{AuditError, AuditHead, AuditLine, Chain, head_extends};
use super::check::{Checker, Inconsistency};
use super::event::{AuditEvent, Culprit};
use super::report::Report;
use super::{json_lines, words};
use crate::abandon::Abandoned;
use crate::authored::ABANDONED;
use crate::authored::{Authored, ENDORSEMENT};
use crate::record::RoundId;
use crate::roster::{Roster, RosterMember, RosterParts};
use crate::set::{ContributionSet, Endorsement};
use galen_core::study::Purpose;
use galen_core::{Code, Digest, PartyId, Signed, SigningKey};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const START_MS: u64 = 1_798_761_599_000;

fn name(text: &str) -> PartyId {
    PartyId::new(text).unwrap()
}

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn id(round: u32, attempt: u32) -> RoundId {
    RoundId { round, attempt }
}

/// Four parties that contribute and keep pieces; t = g = 3, at least 3 contributors.
struct World {
    coordinator: SigningKey,
    keys: BTreeMap<PartyId, SigningKey>,
    roster: Arc<Roster>,
}

static WORLD: LazyLock<World> = LazyLock::new(World::new);

impl World {
    fn new() -> Self {
        let coordinator = SigningKey::generate().unwrap();
        let keys: BTreeMap<_, _> = NAMES
            .iter()
            .map(|text| (name(text), SigningKey::generate().unwrap()))
            .collect();
        let member = |(name, key): (&PartyId, &SigningKey)| RosterMember {
            name: name.clone(),
            signing: key.public(),
            sealing: digest(name.as_str()).0,
            contributor: true,
            custodian: true,
        };
        let roster = Roster::new(RosterParts {
            study: digest("study"),
            coordinator: coordinator.public(),
            members: keys.iter().map(member).collect(),
            threshold: 3,
            agreement: 3,
            min_contributors: 3,
        });
        Self {
            coordinator,
            keys,
            roster: Arc::new(roster.unwrap()),
        }
    }

    fn sign<T: serde::Serialize>(&self, signer: &str, domain: &str, statement: &T) -> Authored {
        let signer = name(signer);
        Authored::sign(
            &self.keys[&signer],
            &signer,
            domain,
            self.roster.study(),
            statement,
        )
        .unwrap()
    }

    /// The lines that the coordinator signs for these events, one a second.
    fn lines(&self, events: &[AuditEvent]) -> (Vec<Signed>, AuditHead) {
        let mut head = AuditHead::default();
        let study = self.roster.study();
        let mut lines = Vec::new();
        for (second, event) in (0..).zip(events) {
            let time = START_MS + second * 1000;
            let (line, next) = AuditLine::sign(&self.coordinator, study, &head, time, event.clone()).unwrap();
            lines.push(line);
            head = next;
        }
        (lines, head)
    }

    fn chain(&self) -> Chain {
        Chain::new(*self.roster.study(), self.coordinator.public())
    }

    fn report(&self, events: &[AuditEvent]) -> Report {
        let (lines, head) = self.lines(events);
        let mut chain = self.chain();
        let mut checker = Checker::new(Arc::clone(&self.roster));
        chain
            .extend(&lines)
            .unwrap()
            .iter()
            .for_each(|line| checker.read(line));
        chain.stands_at(&head).unwrap();
        checker.finish(head)
    }
}

fn record(id: RoundId) -> Digest {
    digest(&format!("record {id}"))
}

fn header(id: RoundId, contributor: &str) -> Digest {
    digest(&format!("header {contributor} {id}"))
}

fn sum(id: RoundId) -> Digest {
    digest(&format!("sum {id}"))
}

fn result(round: u32) -> Digest {
    digest(&format!("result {round}"))
}

fn members(id: RoundId, of: &[&str]) -> BTreeMap<PartyId, Digest> {
    of.iter().map(|who| (name(who), header(id, who))).collect()
}

fn set(id: RoundId, of: &[&str]) -> Digest {
    let members = members(id, of);
    ContributionSet {
        record: record(id),
        members,
    }
    .digest()
}

fn announced(id: RoundId, purpose: Purpose, base: Digest) -> AuditEvent {
    AuditEvent::Record {
        id,
        purpose,
        record: record(id),
        base,
        standing: BTreeMap::new(),
    }
}

/// The same after attempts whose sums may be open.
fn announced_beside(id: RoundId, purpose: Purpose, base: Digest, sets: &[(u32, &[&str])]) -> AuditEvent {
    AuditEvent::Record {
        id,
        purpose,
        record: record(id),
        base,
        standing: sets
            .iter()
            .map(|(attempt, of)| (*attempt, of.iter().map(|who| name(who)).collect()))
            .collect(),
    }
}

fn contribution(id: RoundId, who: &str) -> AuditEvent {
    AuditEvent::Contribution {
        id,
        contributor: name(who),
        header: header(id, who),
        blob: digest(&format!("blob {who} {id}")),
    }
}

fn proposed(id: RoundId, of: &[&str]) -> AuditEvent {
    AuditEvent::Proposed {
        id,
        members: members(id, of),
        set: set(id, of),
        sum: sum(id),
    }
}

fn endorsement(id: RoundId, of: &[&str], signer: &str) -> Authored {
    let statement = Endorsement {
        record: record(id),
        set: set(id, of),
        sum: sum(id),
    };
    WORLD.sign(signer, ENDORSEMENT, &statement)
}

fn certified(id: RoundId, of: &[&str], signers: &[&str]) -> AuditEvent {
    AuditEvent::Certified {
        id,
        set: set(id, of),
        sum: sum(id),
        endorsements: signers.iter().map(|signer| endorsement(id, of, signer)).collect(),
    }
}

fn abandonment(id: RoundId, signer: &str) -> Authored {
    WORLD.sign(signer, ABANDONED, &Abandoned { round: id })
}

fn abandoned(id: RoundId, signers: &[&str]) -> AuditEvent {
    AuditEvent::Abandoned {
        id,
        reason: "2 custodians endorsed the set, 3 are needed".into(),
        signatures: signers.iter().map(|signer| abandonment(id, signer)).collect(),
    }
}

fn answered(id: RoundId, who: &str) -> AuditEvent {
    AuditEvent::Answered {
        id,
        custodian: name(who),
        pieces: 2,
        key_sum: digest(&format!("key sum {who} {id}")),
    }
}

fn opened(id: RoundId, contributors: u32) -> AuditEvent {
    AuditEvent::Opened {
        id,
        receivers: NAMES.iter().map(|who| name(who)).collect(),
        contributors,
    }
}

fn read(id: RoundId, who: &str) -> AuditEvent {
    AuditEvent::Read {
        id,
        receiver: name(who),
        result: result(id.round),
    }
}

fn published(id: RoundId) -> AuditEvent {
    AuditEvent::Published {
        id,
        sum: sum(id),
        result: result(id.round),
    }
}

const ABC: [&str; 3] = ["a", "b", "c"];

/// A whole attempt that is opened and published.
fn whole(id: RoundId, purpose: Purpose, base: Digest, of: &[&str]) -> Vec<AuditEvent> {
    let mut events = vec![announced(id, purpose, base)];
    events.extend(of.iter().map(|who| contribution(id, who)));
    events.extend([proposed(id, of), certified(id, of, &ABC)]);
    events.extend(ABC.iter().map(|who| answered(id, who)));
    events.push(opened(id, of.len() as u32));
    events.extend(ABC.iter().map(|who| read(id, who)));
    events.push(published(id));
    events
}

/// A study as it should go: round 0 at the second attempt, then round 1, then the model is served.
fn honest() -> Vec<AuditEvent> {
    let admitted = |who: &&str| AuditEvent::Admitted {
        party: name(who),
        consent: digest(who),
    };
    let (first, second, next) = (id(0, 0), id(0, 1), id(1, 0));
    let initial = digest("initial");
    let nonce = digest("nonce");
    let mut events: Vec<_> = NAMES.iter().map(admitted).collect();
    events.extend([
        AuditEvent::Activated,
        AuditEvent::Incarnation {
            custodian: name("a"),
            nonce,
            seq: 3,
        },
        AuditEvent::Confirmed {
            custodian: name("a"),
            nonce,
            by: name("b"),
        },
        AuditEvent::Refused {
            party: name("d"),
            what: "contribution".into(),
            code: Code::NotConforming.number(),
            text: "its \u{1b}[31mhash\u{202e} is wrong.".into(),
        },
        announced(first, Purpose::Statistics, initial),
    ]);
    events.extend(NAMES.iter().map(|who| contribution(first, who)));
    events.extend([
        proposed(first, &NAMES),
        AuditEvent::Named {
            id: first,
            party: name("d"),
            culprit: Culprit::BadSeeds,
            text: "custodian b could not open them".into(),
            evidence: vec![WORLD.sign("b", "seeds", &0u8)],
        },
        abandoned(first, &ABC),
    ]);
    events.extend(whole(second, Purpose::Statistics, initial, &ABC));
    let mut last = whole(next, Purpose::Training, result(0), &NAMES);
    let publication = last.pop();
    last.push(AuditEvent::OpeningFailed {
        id: next,
        receiver: name("d"),
        fault: "a remainder is not small".into(),
    });
    last.extend(publication);
    events.extend(last);
    let released = |who: &&str| AuditEvent::Released {
        party: name(who),
        model: digest("model"),
    };
    events.extend(ABC.iter().map(released));
    events.extend([
        AuditEvent::Served {
            model: digest("model"),
        },
        AuditEvent::Closed {
            completed: true,
            reason: "all rounds are published.".into(),
        },
    ]);
    events
}

#[test]
fn an_honest_log_verifies_and_tells_what_was_opened_to_whom() {
    let report = WORLD.report(&honest());
    assert_eq!(report.findings, []);
    assert_eq!(report.warnings, []);
    let [first, second] = &report.openings[..] else {
        panic!("{:?}", report.openings)
    };
    assert_eq!((first.id, second.id), (id(0, 1), id(1, 0)));
    assert_eq!(first.contributors, ABC.map(name));
    assert_eq!(second.contributors, NAMES.map(name));
    assert_eq!(first.receivers, NAMES.map(name));
    assert_eq!(first.custodians, ABC.map(name));
    assert_eq!(second.readers.len(), 3);
    assert!(first.published_ms.is_some_and(|ms| ms > first.time_ms));
    assert_eq!(second.failures.len(), 1);
    let text = report.text();
    for part in [
        "2 sums were opened",
        "round 0 attempt 1 (statistics): on 2027-01-01 00:00:",
        "the sum over 3 contributors (a, b and c) was opened to a, b, c and d; custodians a, b and c agreed; read by a, b and c",
        "round 1 attempt 0 (training)",
        "d could not read it (a remainder is not small)",
        "Named as at fault",
        "its sealed seeds do not fit: custodian b could not open them",
        "a contribution of d, G1404: its  [31mhash  is wrong",
        "The study is over, completed: all rounds are published.",
        &report.head.digest.spoken(),
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains("AGAINST"), "{text}");
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
}

/// Every kind of event has a sentence of its own that names who and what it is about.
#[test]
fn every_line_has_its_words() {
    let events = honest();
    let said: Vec<String> = events.iter().map(words::event).collect();
    for (event, text) in events.iter().zip(&said) {
        assert!(text.ends_with('.') && !text.contains(".."), "{text}");
        if let Some(id) = event.id() {
            assert!(text.to_lowercase().contains(&id.to_string()), "{text}");
        }
        assert!(text.chars().all(|c| !c.is_control()), "{text:?}");
    }
    for part in [
        "a joined with its signed consent",
        "Custodian b confirmed incarnation",
        "d was refused a contribution (G1404)",
        "Custodians a, b and c agreed to open sum",
        "was given up, and nothing of it opened: 2 custodians endorsed the set, 3 are needed; custodians a, b and c signed so",
        "for 2 pieces to the receivers, sealed",
        "The sum of round 0 attempt 1 over 3 contributors was opened to a, b, c and d",
        "d could not read the sum of round 1 attempt 0: a remainder is not small",
        "c agreed that model",
        "The study is over, completed: all rounds are published",
    ] {
        assert!(
            said.iter().any(|text| text.contains(part)),
            "{part}\n{}",
            said.join("\n")
        );
    }
}

fn tampered(signed: &Signed, index: usize, bit: u8) -> Signed {
    let bytes = postcard::to_stdvec(signed).unwrap();
    let (mut payload, mut signature): (Vec<u8>, Vec<u8>) = postcard::from_bytes(&bytes).unwrap();
    let at = index % (payload.len() + signature.len());
    match payload.get_mut(at) {
        Some(byte) => *byte ^= 1 << bit,
        None => signature[at - payload.len()] ^= 1 << bit,
    }
    postcard::from_bytes(&postcard::to_stdvec(&(payload, signature)).unwrap()).unwrap()
}

fn fault(lines: &[Signed], head: &AuditHead) -> AuditError {
    let (key, study) = (WORLD.coordinator.public(), WORLD.roster.study());
    head_extends(&key, study, &AuditHead::default(), head, lines).unwrap_err()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A changed bit of the signed bytes, a dropped, repeated or exchanged line, a cut end: found, and the line named.
    #[test]
    fn whatever_is_done_to_a_log_is_found(at in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(), byte in 0usize..10_000, bit in 0u8..8) {
        let (lines, head) = WORLD.lines(&honest());
        let count = lines.len();
        let (at, other) = (at.index(count), other.index(count));
        let number = at as u64 + 1;

        let mut changed = lines.clone();
        changed[at] = tampered(&lines[at], byte, bit);
        let found = fault(&changed, &head);
        prop_assert!(matches!(found, AuditError::Signature { .. }) && found.line() == number, "{found}");

        let mut dropped = lines.clone();
        dropped.remove(at);
        prop_assert_eq!(fault(&dropped, &head).line(), number);

        let mut repeated = lines.clone();
        repeated.insert(other, lines[at].clone());
        // A line before its own place stands in the place of another; one at or after it comes a second time.
        let expected = if other == at { other + 1 } else { other };
        prop_assert_eq!(fault(&repeated, &head).line(), expected as u64 + 1);

        if at != other {
            let mut swapped = lines.clone();
            swapped.swap(at, other);
            prop_assert_eq!(fault(&swapped, &head).line(), at.min(other) as u64 + 1);
        }

        let found = fault(&lines[..at], &head);
        prop_assert!(matches!(found, AuditError::Short { .. }) && found.line() == number, "{found}");
    }

    /// The same for a file: every byte of a line counts, also of its words.
    #[test]
    fn whatever_is_done_to_a_file_is_found(at in any::<prop::sample::Index>(), byte in any::<prop::sample::Index>(), by in 1u8..=255) {
        let (lines, _) = WORLD.lines(&honest());
        let mut chain = WORLD.chain();
        let read = chain.extend(&lines).unwrap();
        let written: Vec<String> = read.iter().zip(&lines).map(|(line, signed)| json_lines::write(line, signed).unwrap()).collect();
        let at = at.index(written.len());
        let mut chain = WORLD.chain();
        for (text, (line, signed)) in written.iter().zip(read.iter().zip(&lines)).take(at) {
            let (same, bytes) = json_lines::verify(&mut chain, text).unwrap();
            prop_assert!(same == *line && bytes == *signed);
        }
        let mut bytes = written[at].clone().into_bytes();
        let place = byte.index(bytes.len());
        bytes[place] ^= by;
        let before = chain.clone();
        if let Ok(text) = String::from_utf8(bytes) {
            let error = json_lines::verify(&mut chain, &text).unwrap_err();
            prop_assert_eq!(error.line(), at as u64 + 1);
            prop_assert_eq!(&chain, &before);
        }
        json_lines::verify(&mut chain, &written[at]).unwrap();
    }
}

#[test]
fn lines_of_others_and_garbage_are_told_apart() {
    let (lines, _) = WORLD.lines(&honest());
    let (study, first) = (WORLD.roster.study(), AuditHead::default());
    let mut chain = WORLD.chain();
    chain.extend(&lines[..2]).unwrap();
    let before = chain.clone();

    let stranger = SigningKey::generate().unwrap();
    let (forged, _) = AuditLine::sign(&stranger, study, chain.head(), 0, AuditEvent::Activated).unwrap();
    assert!(matches!(
        chain.push(&forged),
        Err(AuditError::Signature { line: 3 })
    ));
    let elsewhere = digest("another study");
    let (foreign, _) = AuditLine::sign(
        &WORLD.coordinator,
        &elsewhere,
        chain.head(),
        0,
        AuditEvent::Activated,
    )
    .unwrap();
    assert!(matches!(
        chain.push(&foreign),
        Err(AuditError::Signature { line: 3 })
    ));
    let sign = |bytes: &dyn erased::Bytes| bytes.sign(super::AUDIT_LINE);
    assert!(matches!(
        chain.push(&sign(&7u8)),
        Err(AuditError::Malformed { line: 3 })
    ));
    let unknown = (3u64, chain.head().digest, 0u64, 200u8);
    let error = chain.push(&sign(&unknown)).unwrap_err();
    assert!(matches!(error, AuditError::UnknownEvent { line: 3 }));
    assert_eq!(error.code(), Code::WrongVersion);
    let longer = (3u64, chain.head().digest, 0u64, 1u8, 9u8);
    assert!(matches!(
        chain.push(&sign(&longer)),
        Err(AuditError::Malformed { line: 3 })
    ));
    assert_eq!(chain, before, "a refused line changes nothing");

    // All or none.
    let mixed = [lines[2].clone(), lines[4].clone()];
    assert_eq!(chain.extend(&mixed).unwrap_err().line(), 4);
    assert_eq!(chain, before);
    assert_eq!(first.after(study, &lines[0]).lines, 1);
}

/// Signs anything as if it were a line.
mod erased {
    use super::{Signed, WORLD};

    pub(super) trait Bytes {
        fn sign(&self, domain: &str) -> Signed;
    }

    impl<T: serde::Serialize> Bytes for T {
        fn sign(&self, domain: &str) -> Signed {
            WORLD
                .coordinator
                .sign(domain, WORLD.roster.study(), self)
                .unwrap()
        }
    }
}

#[test]
fn of_two_continuations_only_the_one_that_was_seen_extends() {
    let events = honest();
    let (common, _) = events.split_at(10);
    let (mut left, mut right) = (common.to_vec(), common.to_vec());
    left.extend([contribution(id(0, 0), "b"), contribution(id(0, 0), "c")]);
    right.extend([contribution(id(0, 0), "c"), contribution(id(0, 0), "b")]);
    let ((seen, seen_head), (shown, shown_head)) = (WORLD.lines(&left), WORLD.lines(&right));
    let (key, study) = (WORLD.coordinator.public(), WORLD.roster.study());
    // Up to the fork nobody can tell.
    let (_, old) = WORLD.lines(common);
    head_extends(&key, study, &old, &seen_head, &seen[10..]).unwrap();
    head_extends(&key, study, &old, &shown_head, &shown[10..]).unwrap();
    // After its first line of one, nothing of the other is taken.
    let (_, one) = WORLD.lines(&left[..11]);
    let error = head_extends(&key, study, &one, &shown_head, &shown[11..]).unwrap_err();
    assert!(matches!(error, AuditError::Link { line: 12, .. }), "{error}");
    assert_eq!(error.code(), Code::AuditForked);
    // A head of the other branch is not reached by lines of this one.
    let error = head_extends(&key, study, &old, &shown_head, &seen[10..]).unwrap_err();
    assert!(matches!(error, AuditError::Head { line: 12, .. }), "{error}");
    // More lines than the head has are not its lines.
    let error = head_extends(&key, study, &old, &one, &seen[10..]).unwrap_err();
    assert!(matches!(error, AuditError::Head { line: 11, .. }), "{error}");
}

#[test]
fn a_clock_that_was_set_back_is_odd_but_no_breach() {
    let mut head = AuditHead::default();
    let mut chain = WORLD.chain();
    let mut checker = Checker::new(Arc::clone(&WORLD.roster));
    for (time, event) in [5000, 4000, 6000].into_iter().zip(honest()) {
        let (line, next) =
            AuditLine::sign(&WORLD.coordinator, WORLD.roster.study(), &head, time, event).unwrap();
        checker.read(&chain.push(&line).unwrap());
        head = next;
    }
    let report = checker.finish(head);
    assert_eq!(report.findings, []);
    assert_eq!(report.warnings.len(), 1);
    assert_eq!(report.warnings[0].line, 2);
    assert_eq!((report.from_ms, report.until_ms), (Some(5000), Some(6000)));
}

/// What is changed, and what must be found.
type Case = (fn(&mut Vec<AuditEvent>), fn(&Inconsistency) -> bool);

fn place(events: &[AuditEvent], wanted: impl Fn(&AuditEvent) -> bool) -> usize {
    events.iter().position(wanted).unwrap()
}

fn swap(events: &mut [AuditEvent], old: &AuditEvent, new: AuditEvent) {
    let at = place(events, |event| event == old);
    events[at] = new;
}

fn before(events: &mut Vec<AuditEvent>, wanted: &AuditEvent, new: AuditEvent) {
    let at = place(events, |event| event == wanted);
    events.insert(at, new);
}

fn remove(events: &mut Vec<AuditEvent>, old: &AuditEvent) {
    let at = place(events, |event| event == old);
    events.remove(at);
}

/// Has the statistics certified once more, in a third attempt beside sets that may be open.
fn third_attempt(events: &mut Vec<AuditEvent>, beside: &[(u32, &[&str])], of: &[&str]) {
    let again = id(0, 2);
    let mut more = vec![announced_beside(
        again,
        Purpose::Statistics,
        digest("initial"),
        beside,
    )];
    more.extend(of.iter().map(|who| contribution(again, who)));
    more.extend([proposed(again, of), certified(again, of, &ABC)]);
    // The round is not published yet.
    let at = place(events, |event| *event == published(id(0, 1)));
    events.splice(at..at, more);
}

/// An attempt that ended without a certificate either way may be followed by one that tells nothing more.
#[test]
fn a_further_attempt_is_judged_together_with_what_may_be_open() {
    let mut events = honest();
    third_attempt(&mut events, &[(1, &ABC)], &ABC);
    let report = WORLD.report(&events);
    assert_eq!(report.findings, [], "{}", report.text());
    let said = "attempt 1 was not given up: its sum over a, b and c may be open.";
    assert!(events.iter().map(words::event).any(|text| text.contains(said)));
}

/// Every rule is broken once, by lines that are genuine.
#[test]
fn what_the_rules_forbid_is_found_one_by_one() {
    use Inconsistency as I;
    let cases: &[Case] = &[
        // Who takes part.
        (
            |e| {
                before(
                    e,
                    &AuditEvent::Activated,
                    AuditEvent::Admitted {
                        party: name("x"),
                        consent: digest("x"),
                    },
                )
            },
            |i| matches!(i, I::Stranger { role: "member", .. }),
        ),
        (
            |e| {
                before(
                    e,
                    &AuditEvent::Activated,
                    AuditEvent::Admitted {
                        party: name("a"),
                        consent: digest("y"),
                    },
                )
            },
            |i| matches!(i, I::JoinedTwice(who) if *who == name("a")),
        ),
        (
            |e| drop(e.remove(3)),
            |i| matches!(i, I::ActiveWithout(who) if *who == name("d")),
        ),
        (|e| remove(e, &AuditEvent::Activated), |i| *i == I::NotActive),
        (
            |e| {
                let at = place(e, |event| matches!(event, AuditEvent::Confirmed { .. }));
                e[at] = AuditEvent::Confirmed {
                    custodian: name("a"),
                    nonce: digest("nonce"),
                    by: name("a"),
                };
            },
            |i| matches!(i, I::Incarnation { .. }),
        ),
        (
            |e| drop(e.remove(place(e, |event| matches!(event, AuditEvent::Incarnation { .. })))),
            |i| matches!(i, I::Incarnation { .. }),
        ),
        // Which rounds there are.
        (
            |e| remove(e, &announced(id(0, 1), Purpose::Statistics, digest("initial"))),
            |i| {
                matches!(
                    i,
                    I::Missing {
                        missing: "record",
                        ..
                    }
                )
            },
        ),
        (
            |e| {
                before(
                    e,
                    &contribution(id(0, 1), "a"),
                    announced(id(0, 1), Purpose::Statistics, digest("initial")),
                )
            },
            |i| matches!(i, I::Twice { what: "record", .. }),
        ),
        (
            |e| {
                before(
                    e,
                    &contribution(id(0, 0), "a"),
                    announced(id(1, 0), Purpose::Training, digest("initial")),
                )
            },
            |i| matches!(i, I::Order { published: 0, .. }),
        ),
        (
            |e| remove(e, &abandoned(id(0, 0), &ABC)),
            |i| *i == I::NotAbandoned { id: id(0, 1) },
        ),
        (
            |e| swap(e, &abandoned(id(0, 0), &ABC), abandoned(id(0, 0), &["a", "b"])),
            |i| {
                *i == I::TooFewSigners {
                    id: id(0, 0),
                    valid: 2,
                    needed: 3,
                }
            },
        ),
        (
            |e| swap(e, &abandoned(id(0, 0), &ABC), abandoned(id(0, 0), &["a", "b"])),
            |i| *i == I::NotAbandoned { id: id(0, 1) },
        ),
        (
            |e| {
                // Signatures for another attempt.
                let old = abandoned(id(0, 0), &ABC);
                let AuditEvent::Abandoned {
                    signatures, reason, ..
                } = abandoned(id(0, 1), &ABC)
                else {
                    panic!()
                };
                swap(
                    e,
                    &old,
                    AuditEvent::Abandoned {
                        id: id(0, 0),
                        signatures,
                        reason,
                    },
                );
            },
            |i| {
                *i == I::TooFewSigners {
                    id: id(0, 0),
                    valid: 0,
                    needed: 3,
                }
            },
        ),
        (
            |e| {
                before(
                    e,
                    &announced(id(0, 1), Purpose::Statistics, digest("initial")),
                    certified(id(0, 0), &NAMES, &ABC),
                )
            },
            |i| *i == I::BothCertificates { id: id(0, 0) },
        ),
        (
            |e| before(e, &opened(id(0, 1), 3), abandoned(id(0, 1), &ABC)),
            |i| *i == I::BothCertificates { id: id(0, 1) },
        ),
        (
            |e| {
                swap(
                    e,
                    &announced(id(1, 0), Purpose::Training, result(0)),
                    announced(id(1, 0), Purpose::Training, digest("second")),
                )
            },
            |i| matches!(i, I::Base { expected, .. } if *expected == result(0)),
        ),
        (
            |e| {
                swap(
                    e,
                    &announced(id(0, 1), Purpose::Statistics, digest("initial")),
                    announced(id(0, 1), Purpose::Statistics, digest("second")),
                )
            },
            |i| matches!(i, I::Base { expected, .. } if *expected == digest("initial")),
        ),
        (
            // The attempt in between is given up, the first one was agreed upon.
            |e| {
                let at = place(e, |event| {
                    *event == announced(id(1, 0), Purpose::Training, result(0))
                });
                let again = announced(id(0, 3), Purpose::Statistics, digest("initial"));
                e.splice(at..at, [abandoned(id(0, 2), &ABC), again]);
            },
            |i| *i == I::NotAbandoned { id: id(0, 3) },
        ),
        (
            |e| {
                let at = place(e, |event| {
                    *event == announced(id(1, 0), Purpose::Training, result(0))
                });
                e.splice(
                    at..at,
                    whole(id(0, 2), Purpose::Statistics, digest("initial"), &ABC),
                );
            },
            |i| *i == I::NotAbandoned { id: id(0, 2) },
        ),
        (
            // The attempt before is named, but with another set than was proposed.
            |e| third_attempt(e, &[(1, &["a", "b", "d"])], &ABC),
            |i| *i == I::NotAbandoned { id: id(0, 2) },
        ),
        (
            // Named rightly; but one hospital more is one hospital's value.
            |e| third_attempt(e, &[(1, &ABC)], &NAMES),
            |i| {
                *i == I::Subtractable {
                    id: id(0, 2),
                    smallest: 1,
                    min: 3,
                }
            },
        ),
        // Contributions and sets.
        (
            |e| {
                before(
                    e,
                    &proposed(id(0, 1), &ABC),
                    AuditEvent::Contribution {
                        id: id(0, 1),
                        contributor: name("a"),
                        header: digest("other"),
                        blob: digest("other blob"),
                    },
                )
            },
            |i| {
                *i == I::SecondContribution {
                    id: id(0, 1),
                    contributor: name("a"),
                }
            },
        ),
        (
            |e| remove(e, &contribution(id(0, 1), "b")),
            |i| {
                *i == I::NotReceived {
                    id: id(0, 1),
                    contributor: name("b"),
                }
            },
        ),
        (
            // A contribution of the attempt before.
            |e| {
                let mut of = members(id(0, 1), &ABC);
                of.insert(name("b"), header(id(0, 0), "b"));
                let set = ContributionSet {
                    record: record(id(0, 1)),
                    members: of.clone(),
                }
                .digest();
                swap(
                    e,
                    &proposed(id(0, 1), &ABC),
                    AuditEvent::Proposed {
                        id: id(0, 1),
                        members: of,
                        set,
                        sum: sum(id(0, 1)),
                    },
                );
            },
            |i| {
                *i == I::NotReceived {
                    id: id(0, 1),
                    contributor: name("b"),
                }
            },
        ),
        (
            |e| swap(e, &proposed(id(0, 1), &ABC), proposed(id(0, 1), &["a", "b"])),
            |i| {
                *i == I::TooFew {
                    id: id(0, 1),
                    members: 2,
                    min: 3,
                }
            },
        ),
        (
            |e| {
                swap(
                    e,
                    &proposed(id(0, 1), &ABC),
                    AuditEvent::Proposed {
                        id: id(0, 1),
                        members: members(id(0, 1), &ABC),
                        set: digest("set"),
                        sum: sum(id(0, 1)),
                    },
                )
            },
            |i| *i == I::SetDigest { id: id(0, 1) },
        ),
        (
            |e| before(e, &certified(id(0, 1), &ABC, &ABC), proposed(id(0, 1), &ABC)),
            |i| matches!(i, I::Twice { what: "proposal", .. }),
        ),
        (
            |e| {
                // d sends what c sent, in its own name.
                let at = place(e, |event| *event == contribution(id(1, 0), "d"));
                e[at] = AuditEvent::Contribution {
                    id: id(1, 0),
                    contributor: name("d"),
                    header: header(id(1, 0), "d"),
                    blob: digest(&format!("blob c {}", id(1, 0))),
                };
            },
            |i| matches!(i, I::CopiedContribution { .. }),
        ),
        // Certificates.
        (
            |e| {
                swap(
                    e,
                    &certified(id(0, 1), &ABC, &ABC),
                    certified(id(0, 1), &ABC, &["a", "b"]),
                )
            },
            |i| {
                *i == I::TooFewSigners {
                    id: id(0, 1),
                    valid: 2,
                    needed: 3,
                }
            },
        ),
        (
            |e| {
                swap(
                    e,
                    &certified(id(0, 1), &ABC, &ABC),
                    certified(id(0, 1), &ABC, &["a", "b", "b"]),
                )
            },
            |i| {
                *i == I::BadSignature {
                    id: id(0, 1),
                    signer: name("b"),
                }
            },
        ),
        (
            |e| {
                // The signature of d under the name of c.
                let mut endorsements: Vec<_> = ["a", "b", "d"]
                    .iter()
                    .map(|s| endorsement(id(0, 1), &ABC, s))
                    .collect();
                endorsements[2].author = name("c");
                swap(
                    e,
                    &certified(id(0, 1), &ABC, &ABC),
                    AuditEvent::Certified {
                        id: id(0, 1),
                        set: set(id(0, 1), &ABC),
                        sum: sum(id(0, 1)),
                        endorsements,
                    },
                );
            },
            |i| {
                *i == I::BadSignature {
                    id: id(0, 1),
                    signer: name("c"),
                }
            },
        ),
        (
            |e| {
                swap(
                    e,
                    &certified(id(1, 0), &NAMES, &ABC),
                    certified(id(1, 0), &ABC, &ABC),
                )
            },
            |i| *i == I::OtherSet { id: id(1, 0) },
        ),
        (
            |e| before(e, &opened(id(0, 1), 3), certified(id(0, 1), &ABC, &ABC)),
            |i| {
                matches!(
                    i,
                    I::Twice {
                        what: "certificate",
                        ..
                    }
                )
            },
        ),
        (
            |e| before(e, &opened(id(0, 1), 3), certified(id(0, 1), &ABC, &ABC)),
            |i| matches!(i, I::CertifiedTwice { .. }),
        ),
        // Openings.
        (
            |e| before(e, &opened(id(0, 1), 3), answered(id(0, 1), "d")),
            |i| {
                *i == I::AnsweredUnsigned {
                    id: id(0, 1),
                    custodian: name("d"),
                }
            },
        ),
        (
            |e| remove(e, &certified(id(0, 1), &ABC, &ABC)),
            |i| {
                matches!(
                    i,
                    I::Missing {
                        missing: "certificate",
                        ..
                    }
                )
            },
        ),
        (
            |e| swap(e, &opened(id(0, 1), 3), opened(id(0, 1), 4)),
            |i| {
                *i == I::Count {
                    id: id(0, 1),
                    said: 4,
                    members: 3,
                }
            },
        ),
        (
            |e| {
                swap(
                    e,
                    &opened(id(0, 1), 3),
                    AuditEvent::Opened {
                        id: id(0, 1),
                        receivers: vec![name("x")],
                        contributors: 3,
                    },
                )
            },
            |i| matches!(i, I::Stranger { role: "receiver", .. }),
        ),
        (
            |e| before(e, &opened(id(0, 1), 3), opened(id(0, 1), 3)),
            |i| matches!(i, I::Twice { what: "opening", .. }),
        ),
        (
            |e| remove(e, &opened(id(0, 1), 3)),
            |i| {
                matches!(
                    i,
                    I::Missing {
                        missing: "opening",
                        ..
                    }
                )
            },
        ),
        (
            // The statistics once more, where training is due.
            |e| {
                let again = announced(id(1, 0), Purpose::Statistics, digest("initial"));
                swap(e, &announced(id(1, 0), Purpose::Training, result(0)), again);
            },
            |i| matches!(i, I::OpenedBefore { earlier, .. } if *earlier == id(0, 1)),
        ),
        (
            |e| {
                before(
                    e,
                    &announced(id(1, 0), Purpose::Training, result(0)),
                    published(id(0, 1)),
                )
            },
            |i| matches!(i, I::Order { published: 1, .. }),
        ),
        (
            |e| remove(e, &read(id(0, 1), "b")),
            |i| {
                *i == I::Unread {
                    id: id(0, 1),
                    readers: 2,
                    min: 3,
                }
            },
        ),
        (
            |e| {
                swap(
                    e,
                    &published(id(0, 1)),
                    AuditEvent::Published {
                        id: id(0, 1),
                        sum: digest("shifted"),
                        result: result(0),
                    },
                )
            },
            |i| *i == I::OtherSet { id: id(0, 1) },
        ),
        // The end.
        (
            |e| drop(e.remove(place(e, |event| matches!(event, AuditEvent::Released { .. })))),
            |i| {
                matches!(
                    i,
                    I::Unreleased {
                        released: 2,
                        min: 3,
                        ..
                    }
                )
            },
        ),
        (
            |e| e.push(announced(id(2, 0), Purpose::Evaluation, result(1))),
            |i| *i == I::AfterTheEnd,
        ),
        // Accusations.
        (
            |e| {
                before(
                    e,
                    &abandoned(id(0, 0), &ABC),
                    AuditEvent::Named {
                        id: id(0, 0),
                        party: name("b"),
                        culprit: Culprit::TwoSignatures,
                        text: "twice".into(),
                        evidence: vec![
                            endorsement(id(0, 0), &NAMES, "b"),
                            endorsement(id(0, 0), &NAMES, "b"),
                        ],
                    },
                )
            },
            |i| {
                *i == I::Unproven {
                    id: id(0, 0),
                    party: name("b"),
                }
            },
        ),
    ];
    for (index, (change, wanted)) in cases.iter().enumerate() {
        let mut events = honest();
        change(&mut events);
        let report = WORLD.report(&events);
        assert!(
            report.findings.iter().any(|finding| wanted(&finding.what)),
            "case {index}: {:#?}",
            report.findings
        );
        assert!(!report.is_consistent() && report.text().contains("AGAINST THE RULES"));
        for finding in &report.findings {
            assert!(finding.line >= 1 && finding.line <= events.len() as u64);
        }
    }
}

#[test]
fn an_accusation_of_two_signatures_holds_with_both_of_them() {
    let mut events = honest();
    let proven = AuditEvent::Named {
        id: id(0, 0),
        party: name("b"),
        culprit: Culprit::TwoSignatures,
        text: "an endorsement and its word that the attempt was given up".into(),
        evidence: vec![endorsement(id(0, 0), &NAMES, "b"), abandonment(id(0, 0), "b")],
    };
    before(&mut events, &abandoned(id(0, 0), &ABC), proven);
    let report = WORLD.report(&events);
    assert_eq!(report.findings, []);
    assert_eq!(report.accusations.len(), 2);
}

#[test]
fn a_stale_incarnation_is_told_to_whoever_verifies() {
    let mut events = honest();
    let stale = AuditEvent::Stale {
        custodian: name("a"),
        nonce: digest("nonce"),
        by: name("c"),
    };
    before(
        &mut events,
        &announced(id(0, 0), Purpose::Statistics, digest("initial")),
        stale,
    );
    let report = WORLD.report(&events);
    assert_eq!(report.findings, []);
    assert!(
        report.warnings[0]
            .text
            .contains("custodian a was put back to an old state")
    );
}
