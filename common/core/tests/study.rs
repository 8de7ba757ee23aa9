//! Studies: what is refused, what freezing binds, and that the shipped ones hold.

#![allow(clippy::unwrap_used)] // A test that cannot set itself up has failed.

use galen_core::study::{Card, ColumnKind, FrozenStudy, Release, Role, Study, StudyError};
use galen_core::{Digest, PartyId, SigningKey};
use std::path::{Path, PathBuf};

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../configs/studies/{name}/study.toml"))
}

fn heart() -> Study {
    galen_core::config::load(&shipped("heart")).unwrap()
}

fn card(name: &str) -> Card {
    Card {
        name: PartyId::new(name).unwrap(),
        certificate: Digest::of(format!("certificate of {name}").as_bytes()),
        signing: SigningKey::generate().unwrap().public(),
        sealing: Digest::of(format!("sealing key of {name}").as_bytes()),
    }
}

fn cards(study: &Study) -> Vec<Card> {
    study
        .party
        .iter()
        .map(|member| card(member.name.as_str()))
        .collect()
}

#[test]
fn the_shipped_studies_hold() {
    for name in ["heart", "breast-cancer"] {
        let study: Study = galen_core::config::load(&shipped(name)).unwrap();
        assert_eq!(study.check(), [], "{name}");
    }
}

/// A name, a change that makes the heart study wrong, and the field that must be named.
type Wrong = (&'static str, fn(&mut Study), &'static str);

const WRONG: &[Wrong] = &[
    ("format", |s| s.format = 2, "format"),
    (
        "two of a name",
        |s| s.party[1].name = s.party[0].name.clone(),
        "party[1].name",
    ),
    (
        "reserved name",
        |s| s.party[0].name = PartyId::new("coordinator").unwrap(),
        "party[0].name",
    ),
    ("no role", |s| s.party[0].roles.clear(), "party[0].roles"),
    (
        "a role twice",
        |s| s.party[0].roles.push(Role::Querier),
        "party[0].roles",
    ),
    (
        "a querier that does not contribute",
        |s| s.party[0].roles = vec![Role::Querier],
        "party[0].roles",
    ),
    (
        "too few custodians",
        |s| {
            s.party
                .iter_mut()
                .skip(2)
                .for_each(|p| p.roles.retain(|r| *r != Role::Custodian))
        },
        "party",
    ),
    (
        "too few contributors",
        |s| {
            s.party
                .iter_mut()
                .skip(2)
                .for_each(|p| p.roles.retain(|r| *r != Role::Contributor))
        },
        "party",
    ),
    ("threshold of one", |s| s.sums.threshold = 1, "sums.threshold"),
    ("threshold above n", |s| s.sums.threshold = 5, "sums.threshold"),
    (
        "agreement below threshold",
        |s| s.sums.agreement = 2,
        "sums.agreement",
    ),
    ("agreement above n", |s| s.sums.agreement = 5, "sums.agreement"),
    (
        "sums over two",
        |s| s.sums.min_contributors = 2,
        "sums.min_contributors",
    ),
    ("quorum below the minimum", |s| s.sums.quorum = 2, "sums.quorum"),
    ("quorum above all", |s| s.sums.quorum = 5, "sums.quorum"),
    ("no patience", |s| s.sums.patience_s = 0, "sums.patience_s"),
    ("no attempts", |s| s.sums.max_attempts = 0, "sums.max_attempts"),
    ("few rows", |s| s.data.max_rows = 5, "data.max_rows"),
    ("all held out", |s| s.data.held_out = 1.0, "data.held_out"),
    (
        "held out is not a number",
        |s| s.data.held_out = f64::NAN,
        "data.held_out",
    ),
    (
        "two of a column",
        |s| s.data.column[1].name = s.data.column[0].name.clone(),
        "data.column[1].name",
    ),
    (
        "a range upside down",
        |s| s.data.column[0].max = Some(1.0),
        "data.column[0]",
    ),
    (
        "an infinite range",
        |s| s.data.column[0].max = Some(f64::INFINITY),
        "data.column[0]",
    ),
    (
        "numeric with codes",
        |s| s.data.column[0].values = vec![1.0],
        "data.column[0]",
    ),
    (
        "one category",
        |s| s.data.column[1].values.truncate(1),
        "data.column[1]",
    ),
    (
        "a category twice",
        |s| s.data.column[1].values = vec![1.0, 1.0],
        "data.column[1]",
    ),
    (
        "no target",
        |s| s.data.column.retain(|c| c.kind != ColumnKind::Target),
        "data.column",
    ),
    (
        "a value in both classes",
        |s| s.data.target.positive.push(0.0),
        "data.target",
    ),
    (
        "an empty class",
        |s| s.data.target.negative.clear(),
        "data.target.negative",
    ),
    ("no block", |s| s.model.hidden.clear(), "model.hidden"),
    ("a width of nothing", |s| s.model.hidden[0] = 0, "model.hidden"),
    ("a cube", |s| s.model.power = 3, "model.power"),
    ("no rounds", |s| s.training.rounds = 0, "training.rounds"),
    (
        "momentum of one",
        |s| s.training.momentum = 1.0,
        "training.momentum",
    ),
    ("no clipping", |s| s.training.clip = 0.0, "training.clip"),
    (
        "coarse fixed point",
        |s| s.training.fraction_bits = 4,
        "training.fraction_bits",
    ),
    ("one bin", |s| s.evaluation.bins = 1, "evaluation.bins"),
    (
        "queriers of nothing",
        |s| s.serving.release = Release::Contributors,
        "serving.release",
    ),
];

#[test]
fn every_contradiction_is_found_and_named_by_field() {
    for (name, change, field) in WRONG {
        let mut study = heart();
        change(&mut study);
        let problems = study.check();
        let found = problems
            .iter()
            .any(|p| p.field == *field || p.field.starts_with(&format!("{field} (")));
        assert!(found, "{name}: {problems:?}");
        let coordinator = card("coordinator");
        assert!(
            matches!(
                FrozenStudy::freeze(study, coordinator, vec![]),
                Err(StudyError::Problems(_))
            ),
            "{name}"
        );
    }
}

#[test]
fn too_many_pieces_are_refused_before_anything_is_built_on_them() {
    let mut study = heart();
    let member = study.party[0].clone();
    study.party = (0..13)
        .map(|i| {
            let mut member = member.clone();
            member.name = PartyId::new(format!("h{i}")).unwrap();
            member
        })
        .collect();
    (study.sums.threshold, study.sums.agreement) = (7, 10);
    let problems = study.check();
    assert!(
        problems
            .iter()
            .any(|p| p.field == "sums.threshold" && p.message.contains("1716 pieces")),
        "{problems:?}"
    );
    study.sums.threshold = 4;
    assert_eq!(study.check(), [], "C(13, 3) = 286 pieces are allowed");
}

#[test]
fn freezing_needs_exactly_the_cards_of_the_members() {
    let study = heart();
    let all = cards(&study);
    let freeze = |cards: Vec<Card>| FrozenStudy::freeze(heart(), card("coordinator"), cards);
    assert!(matches!(freeze(all[1..].to_vec()), Err(StudyError::CardMissing(name)) if name == all[0].name));
    let mut more = all.clone();
    more.push(card("stranger"));
    assert!(matches!(freeze(more), Err(StudyError::CardUnknown(name)) if name.as_str() == "stranger"));
    for share in [
        |a: &Card, b: &mut Card| b.certificate = a.certificate,
        |a: &Card, b: &mut Card| b.signing = a.signing,
        |a: &Card, b: &mut Card| b.sealing = a.sealing,
    ] {
        let mut cards = all.clone();
        let (first, rest) = cards.split_at_mut(1);
        share(&first[0], &mut rest[0]);
        assert!(matches!(freeze(cards), Err(StudyError::CardRepeated(..))));
    }
}

#[test]
fn the_order_of_cards_does_not_matter_and_every_change_does() {
    let study = heart();
    let (coordinator, all) = (card("coordinator"), cards(&study));
    let freeze =
        |study: Study, cards: Vec<Card>| FrozenStudy::freeze(study, coordinator.clone(), cards).unwrap();
    let frozen = freeze(study.clone(), all.clone());
    let reversed: Vec<_> = all.iter().rev().cloned().collect();
    assert_eq!(freeze(study.clone(), reversed).digest(), frozen.digest());
    let changes: [fn(&mut Study); 6] = [
        |s| s.title.push('.'),
        |s| s.seed += 1,
        |s| s.sums.agreement = 4,
        |s| s.data.column[0].max = Some(111.0),
        |s| s.training.learning_rate += f64::EPSILON,
        |s| s.party[3].roles.retain(|r| *r != Role::Querier),
    ];
    for change in changes {
        let mut changed = study.clone();
        change(&mut changed);
        assert_ne!(freeze(changed, all.clone()).digest(), frozen.digest());
    }
    let mut other = all;
    other[2].signing = SigningKey::generate().unwrap().public();
    assert_ne!(freeze(study, other).digest(), frozen.digest());
}

#[test]
fn a_frozen_file_is_read_back_and_a_changed_one_is_refused() {
    let study = heart();
    let cards = cards(&study);
    let frozen = FrozenStudy::freeze(study, card("coordinator"), cards).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("study.toml");
    let text = frozen.to_toml().unwrap();
    std::fs::write(&path, &text).unwrap();
    assert_eq!(FrozenStudy::load(&path).unwrap(), frozen);
    for (from, to) in [
        ("rounds = 15", "rounds = 16"),
        ("Coronary", "coronary"),
        ("threshold = 3", "threshold = 2"),
    ] {
        assert!(text.contains(from), "{from}");
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let error = FrozenStudy::load(&path).unwrap_err();
        assert!(
            matches!(&error, StudyError::Digest { found, .. } if *found != frozen.digest()),
            "{error}"
        );
    }
    std::fs::write(&path, text.replacen("rounds = 15", "rouns = 15", 1)).unwrap();
    let error = FrozenStudy::load(&path).unwrap_err().to_string();
    assert!(
        error.contains("study.toml:") && error.contains("rouns"),
        "{error}"
    );
}

/// A frozen study of the older form keeps its name: parties compared and signed it.
#[test]
fn the_digest_of_a_study_with_a_simple_plan_is_stable() {
    let study = heart();
    let fixed = |name: &str| Card {
        signing: galen_core::PublicKey(Digest::of(format!("signing key of {name}").as_bytes())),
        ..card(name)
    };
    let cards = study.party.iter().map(|m| fixed(m.name.as_str())).collect();
    let frozen = FrozenStudy::freeze(study, fixed("coordinator"), cards).unwrap();
    assert_eq!(frozen.digest().to_hex(), HEART_DIGEST);
}

const HEART_DIGEST: &str = "c27a65c03c79f68991dc583c72b9d43fff422cfa64a2ed4bfd4c72e2615b7c2d";
