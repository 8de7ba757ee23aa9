//! An honest study of two rounds told in lines, and everything that can be done to it.

mod chain;
mod named;
mod openings;
mod rules;

use super::chain::{AuditHead, AuditLine, Chain};
use super::check::Checker;
use super::event::{AuditEvent, Culprit};
use super::report::Report;
use super::words;
use crate::abandon::Abandoned;
use crate::authored::ABANDONED;
use crate::authored::{Authored, ENDORSEMENT};
use crate::record::RoundId;
use crate::roster::{Roster, RosterMember, RosterParts};
use crate::set::{ContributionSet, Endorsement};
use crate::statement::{SEEDS_REFUSED, SeedsRefused};
use galen_core::study::Purpose;
use galen_core::{Code, Digest, PartyId, Signed, SigningKey};
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

fn repeated(id: RoundId, members: &[&str], next: &[&str]) -> AuditEvent {
    AuditEvent::Repeated {
        id,
        reason: "nobody could open it".into(),
        members: members.iter().map(|who| name(who)).collect(),
        next: next.iter().map(|who| name(who)).collect(),
    }
}

fn seeds_refused(id: RoundId, by: &str, contributor: &str) -> Authored {
    let said = SeedsRefused {
        record: record(id),
        contributor: name(contributor),
    };
    WORLD.sign(by, SEEDS_REFUSED, &said)
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
            evidence: vec![seeds_refused(first, "b", "d")],
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
    let mut events = honest();
    events.extend([
        repeated(id(0, 0), &ABC, &["a", "d"]),
        repeated(id(0, 1), &[], &[]),
        AuditEvent::Endorsed {
            id: id(0, 1),
            endorsement: endorsement(id(0, 1), &ABC, "d"),
        },
    ]);
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
        "Round 0 attempt 0 ended without a result: nobody could open it; its sum over a, b and c may be open; the round is collected \
         again from a and d.",
        "Round 0 attempt 1 ended without a result: nobody could open it; no set was proposed; nobody is asked again.",
        "Custodian d agreed as well to open the sum of round 0 attempt 1.",
        "The study is over, completed: all rounds are published",
    ] {
        assert!(
            said.iter().any(|text| text.contains(part)),
            "{part}\n{}",
            said.join("\n")
        );
    }
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
