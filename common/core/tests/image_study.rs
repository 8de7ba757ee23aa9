//! A study on images: what its file may say, what is refused by name, and that its digest binds all of it.

#![allow(clippy::unwrap_used)]

use galen_core::network::Shape;
use galen_core::recipe::Augmentation;
use galen_core::samples::{self, Class};
use galen_core::study::{Card, FrozenStudy, Study};
use galen_core::{Digest, PartyId, SigningKey};
use std::path::{Path, PathBuf};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../configs/studies")
        .join(name)
        .join("study.toml")
}

fn pneumonia() -> Study {
    galen_core::config::load(&path("pneumonia")).unwrap()
}

fn card(name: &str) -> Card {
    Card {
        name: PartyId::new(name).unwrap(),
        certificate: Digest::of(format!("certificate of {name}").as_bytes()),
        signing: SigningKey::generate().unwrap().public(),
        sealing: Digest::of(format!("sealing key of {name}").as_bytes()),
    }
}

#[test]
fn the_shipped_study_holds_and_says_what_its_images_are() {
    let study = pneumonia();
    assert_eq!(study.check(), []);
    let data = &study.data;
    assert_eq!((data.input(), data.inputs()), (Shape::Image([1, 14, 14]), 196));
    assert_eq!(data.class_names(), Some(["normal", "pneumonia"]));
    assert_eq!(data.value_range(), [0.0, 1.0]);
    let table: Study = galen_core::config::load(&path("heart")).unwrap();
    assert_eq!(table.data.class_names(), None);
    assert_eq!(table.data.input(), Shape::Features(table.data.inputs()));
}

/// A change, and the field that must be named with what is said of it.
type Wrong = (fn(&mut Study), &'static str, &'static str);

fn samples(study: &mut Study) -> &mut samples::Schema {
    study.data.samples.as_mut().unwrap()
}

#[test]
fn what_a_study_on_images_cannot_say_is_named_by_field() {
    let wrong: [Wrong; 8] = [
        (
            |s| samples(s).input = Shape::Features(196),
            "data.samples.input",
            "[[data.column]]",
        ),
        (
            |s| samples(s).input = Shape::Image([1, 0, 14]),
            "data.samples",
            "values",
        ),
        (
            |s| {
                let class = |name: &str| Class {
                    name: name.into(),
                    labels: vec![],
                };
                samples(s).target = samples::Target::Classes {
                    classes: ["a", "b", "c"].map(class).to_vec(),
                };
            },
            "data.samples.target",
            "two classes",
        ),
        (
            |s| {
                samples(s).target = samples::Target::Regression {
                    name: "age".into(),
                    unit: "years".into(),
                };
            },
            "data.samples.target",
            "two classes",
        ),
        (
            |s| s.data.range = Some([1.0, 1.0]),
            "data.range",
            "smaller one first",
        ),
        (
            |s| s.data.range = Some([0.0, f32::INFINITY]),
            "data.range",
            "finite",
        ),
        (
            |s| {
                s.model.layers.clear();
                s.model.hidden = vec![4];
                s.model.power = 2;
                s.model.scale = 0.1;
            },
            "model.layers",
            "images",
        ),
        (|s| s.training.recipe = None, "model.layers", "recipe"),
    ];
    for (change, field, said) in wrong {
        let mut study = pneumonia();
        change(&mut study);
        let problems = study.check();
        let found = problems.iter().find(|problem| problem.field == field);
        assert!(
            found.is_some_and(|problem| problem.message.contains(said)),
            "{field}: {problems:?}"
        );
    }
}

/// Images may be varied, tables may not.
#[test]
fn augmentation_goes_with_images_only() {
    let personal = path("heart").with_file_name("personal.toml");
    let mut table: Study = galen_core::config::load(&personal).unwrap();
    assert_eq!(table.check(), []);
    let recipe = table.training.recipe.as_mut().unwrap();
    recipe.augmentation = Some(Augmentation::default());
    assert_eq!(table.check()[0].field, "training.recipe.augmentation");
    assert!(pneumonia().training.recipe.unwrap().augmentation.is_some());
}

/// What describes tables has no place beside images, nor the other way round; a table that leaves something out is told what.
#[test]
fn a_file_describes_a_table_or_images() {
    let read = |name: &str, change: &dyn Fn(String) -> String| {
        let text = std::fs::read_to_string(path(name)).unwrap();
        let parsed = galen_core::config::parse::<Study>(Path::new("study.toml"), &change(text));
        parsed.unwrap_err().to_string()
    };
    let after = |line: &'static str, more: &'static str| {
        move |text: String| {
            assert!(text.contains(line));
            text.replacen(line, &format!("{line}\n{more}"), 1)
        }
    };
    for (more, field) in [
        ("header = true", "`header` describes a table"),
        ("missing = []", "`missing` describes a table"),
        ("column = []", "`column` describes a table"),
    ] {
        let error = read("pneumonia", &after("held_out = 0.3", more));
        assert!(error.contains(field), "{error}");
    }
    let error = read("heart", &after("held_out = 0.3", "range = [0.0, 1.0]"));
    assert!(error.contains("`range` is that of images"), "{error}");
    let error = read("heart", &|text| text.replacen("header = false", "", 1));
    assert!(error.contains("missing field `header`"), "{error}");
    let error = read("pneumonia", &after("input = [1, 14, 14]", "colour = true"));
    assert!(
        error.contains("study.toml:") && error.contains("colour"),
        "{error}"
    );
}

#[test]
fn the_digest_binds_all_that_is_said_of_images() {
    let study = pneumonia();
    let cards: Vec<Card> = study.party.iter().map(|m| card(m.name.as_str())).collect();
    let coordinator = card("coordinator");
    let freeze = |study: Study| FrozenStudy::freeze(study, coordinator.clone(), cards.clone()).unwrap();
    let frozen = freeze(study.clone());
    let changes: [fn(&mut Study); 6] = [
        |s| samples(s).input = Shape::Image([1, 14, 15]),
        |s| samples(s).source.inputs = Some("scans".into()),
        |s| samples(s).source.window = Some([40.0, 400.0]),
        |s| samples(s).elements = vec!["gray".into()],
        |s| s.data.range = Some([0.0, 2.0]),
        |s| {
            let target = &mut samples(s).target;
            if let samples::Target::Binary { negative, .. } = target {
                negative.labels.push("2".into());
            }
        },
    ];
    for change in changes {
        let mut changed = study.clone();
        change(&mut changed);
        assert_ne!(freeze(changed).digest(), frozen.digest());
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("study.toml");
    std::fs::write(&file, frozen.to_toml().unwrap()).unwrap();
    assert_eq!(FrozenStudy::load(&file).unwrap(), frozen);
}
