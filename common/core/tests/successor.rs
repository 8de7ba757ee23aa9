//! Successors: what may change from one version of a study to the next, and what must not.

#![allow(clippy::unwrap_used, clippy::panic)] // A test that cannot set itself up has failed.

use galen_core::study::{Card, Changes, Draft, FrozenStudy, Role, Study, StudyError, Written};
use galen_core::{Digest, PartyId, PublicKey};
use std::path::Path;

fn name(text: &str) -> PartyId {
    PartyId::new(text).unwrap()
}

fn card(text: &str) -> Card {
    let digest = |what: &str| Digest::of(format!("{what} of {text}").as_bytes());
    Card {
        name: name(text),
        certificate: digest("certificate"),
        signing: PublicKey(digest("signing key")),
        sealing: digest("sealing key"),
    }
}

/// The heart study: four hospitals, t = 3, g = 3, min_contributors = 3.
fn heart() -> FrozenStudy {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/studies/heart/study.toml");
    let study: Study = galen_core::config::load(&path).unwrap();
    let cards = study.party.iter().map(|m| card(m.name.as_str())).collect();
    FrozenStudy::freeze(study, card("coordinator"), cards).unwrap()
}

fn state() -> Digest {
    Digest::of(b"state")
}

const ALL: [Role; 3] = [Role::Contributor, Role::Custodian, Role::Querier];

/// Long Beach leaves and Basel joins after five rounds.
fn draft() -> Draft {
    let mut draft = Draft::of(&heart(), 5, state());
    assert!(draft.remove(&name("long-beach")) && !draft.remove(&name("nobody")));
    draft.add(card("basel"), "Basel".into(), ALL.to_vec());
    draft
}

#[test]
fn a_hospital_leaves_and_another_joins() {
    let old = heart();
    let new = draft().freeze(&old).unwrap();
    assert_eq!(
        (old.version(), old.first_round(), old.predecessor()),
        (1, 0, None)
    );
    assert_eq!((new.version(), new.first_round()), (2, 5));
    let before = new.predecessor().unwrap();
    assert_eq!((before.study, before.state), (old.digest(), state()));
    assert_ne!(new.digest(), old.digest());
    assert_eq!(new.card(&name("basel")), Some(&card("basel")));
    assert_eq!(new.card(&name("long-beach")), None);
    let changes = Changes::between(old.study(), new.study());
    assert_eq!(
        (changes.left, changes.joined),
        (vec![name("long-beach")], vec![name("basel")])
    );
    // And on from there.
    let mut next = Draft::of(&new, 7, Digest::of(b"later"));
    next.study.party[0].roles = vec![Role::Custodian];
    next.study.party[1].roles.reverse();
    next.study.sums.agreement = 4;
    let next = next.freeze(&new).unwrap();
    assert_eq!((next.version(), next.first_round()), (3, 7));
    let changes = Changes::between(new.study(), next.study());
    assert_eq!(changes.other_roles, [name("cleveland")]);
    assert!(changes.left.is_empty() && changes.joined.is_empty());
}

#[test]
fn a_successor_is_read_back_and_a_changed_one_is_refused() {
    let new = draft().freeze(&heart()).unwrap();
    let text = new.to_toml().unwrap();
    let path = Path::new("study.toml");
    assert_eq!(FrozenStudy::parse(path, &text).unwrap(), new);
    let before = heart().digest().to_hex();
    for (from, to) in [
        ("rounds = 5", "rounds = 4".to_owned()),
        ("version = 1", "version = 2".to_owned()),
        (before.as_str(), Digest::of(b"other").to_hex()),
        (&state().to_hex(), Digest::of(b"other").to_hex()),
    ] {
        assert!(text.contains(from), "{from}");
        let error = FrozenStudy::parse(path, &text.replacen(from, &to, 1)).unwrap_err();
        assert!(matches!(error, StudyError::Digest { .. }), "{error}");
    }
    // Nor can the table be dropped: the same study without a past is another study.
    let mut table: toml::Table = toml::from_str(&text).unwrap();
    table.remove("predecessor");
    let error = FrozenStudy::parse(path, &table.to_string()).unwrap_err();
    assert!(matches!(error, StudyError::Digest { .. }), "{error}");
}

/// A change that keeps the draft from being a successor, and the field that must be named.
type Wrong = (&'static str, fn(&mut Draft), &'static str);

const WRONG: &[Wrong] = &[
    (
        "another study",
        |d| d.predecessor.study = Digest::of(b"x"),
        "predecessor.study",
    ),
    (
        "a version left out",
        |d| d.predecessor.version = 2,
        "predecessor.version",
    ),
    ("name", |d| d.study.name = PartyId::new("lung").unwrap(), "name"),
    ("seed", |d| d.study.seed += 1, "seed"),
    ("data", |d| d.study.data.max_rows += 1, "data"),
    ("model", |d| d.study.model.hidden[0] += 1, "model"),
    ("training", |d| d.study.training.rounds += 1, "training"),
    ("evaluation", |d| d.study.evaluation.bins += 1, "evaluation"),
    ("serving", |d| d.study.serving.precision_bits += 1, "serving"),
    (
        "coordinator",
        |d| d.coordinator.certificate = Digest::of(b"x"),
        "coordinator",
    ),
    (
        "other keys of a member",
        |d| d.card[0].sealing = Digest::of(b"x"),
        "card of \"cleveland\"",
    ),
];

#[test]
fn what_must_not_change_is_named() {
    let old = heart();
    for (what, change, field) in WRONG {
        let mut draft = draft();
        change(&mut draft);
        let error = draft.freeze(&old).unwrap_err();
        let StudyError::Problems(problems) = error else {
            panic!("{what}: {error}");
        };
        let fields: Vec<_> = problems.iter().map(|p| p.field.as_str()).collect();
        assert_eq!(fields, [*field], "{what}");
    }
    // Titles, roles and the policy of the sums may.
    let mut allowed = draft();
    allowed.study.title.push('!');
    allowed.study.party[0].title.push('!');
    allowed.study.sums.patience_s += 1;
    allowed.study.sums.agreement = 4;
    allowed.study.sums.threshold = 2;
    allowed.freeze(&old).unwrap();
    let mut first = heart();
    assert_eq!(first.check_successor_of(&old)[0].field, "predecessor");
    first = draft().freeze(&old).unwrap();
    let mut back = Draft::of(&first, 4, state());
    back.study.title.push('!');
    let StudyError::Problems(problems) = back.freeze(&first).unwrap_err() else {
        panic!("rounds went back");
    };
    assert_eq!(problems[0].field, "predecessor.rounds");
}

/// Too many leave at once: too few know what they computed with, or those who left could still open what is opened again.
#[test]
fn not_everybody_leaves_at_once() {
    let problems = |remove: &[&str], threshold: u32| {
        let mut study = heart().study().clone();
        study.sums.threshold = threshold;
        let cards = study.party.iter().map(|m| card(m.name.as_str())).collect();
        let old = FrozenStudy::freeze(study, card("coordinator"), cards).unwrap();
        let mut draft = Draft::of(&old, 5, state());
        for (i, party) in remove.iter().enumerate() {
            draft.remove(&name(party));
            draft.add(card(&format!("new-{i}")), String::new(), ALL.to_vec());
        }
        match draft.freeze(&old) {
            Ok(_) => Vec::new(),
            Err(StudyError::Problems(problems)) => problems,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(problems(&["zurich"], 3), []);
    assert_eq!(problems(&["zurich"], 2), []);
    let two = problems(&["zurich", "budapest"], 3);
    assert_eq!(two.len(), 1);
    assert!(two[0].message.contains("2 contributors stay"), "{two:?}");
    let both = problems(&["zurich", "budapest"], 2);
    assert!(
        both.iter()
            .any(|p| p.message.contains("2 custodians leave at once")),
        "{both:?}"
    );
    // Who only lays down the role of a custodian signs the successor, and is bound by that.
    let old = heart();
    let mut draft = Draft::of(&old, 5, state());
    draft.add(card("basel"), String::new(), ALL.to_vec());
    draft.add(card("bern"), String::new(), ALL.to_vec());
    for member in draft.study.party.iter_mut().take(3) {
        member.roles.retain(|role| *role != Role::Custodian);
    }
    draft.freeze(&old).unwrap();
}

#[test]
fn a_draft_is_told_from_a_new_study_and_errors_name_the_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("draft.toml");
    let draft = draft();
    let text = draft.to_toml().unwrap();
    std::fs::write(&path, &text).unwrap();
    let read = Written::load(&path).unwrap();
    assert_eq!(read.study(), &draft.study);
    assert_eq!(read, Written::Successor(Box::new(draft)));
    let line = text.lines().position(|line| line.starts_with("seed")).unwrap() + 1;
    std::fs::write(&path, text.replace("\nseed =", "\nsead =")).unwrap();
    let error = Written::load(&path).unwrap_err().to_string();
    assert!(error.contains(&format!("draft.toml:{line}:1")), "{error}");
    std::fs::write(&path, toml::to_string(heart().study()).unwrap()).unwrap();
    assert!(matches!(Written::load(&path).unwrap(), Written::New(_)));
}
