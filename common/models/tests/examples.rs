//! The sample networks in configs/models/examples: they can be read, and what they say of themselves is so.

// Helpers outside of test functions may fail the test too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use galen_models::ModelSpec;
use std::path::{Path, PathBuf};

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/models/examples");
    let mut all: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    all.sort();
    all
}

#[test]
fn every_example_is_a_network() {
    let mut levels = Vec::new();
    for path in examples() {
        let spec = ModelSpec::load_toml(&path).unwrap_or_else(|e| panic!("{e}"));
        let summary = spec.summary().unwrap();
        assert_eq!(summary.parameters, spec.parameter_count());
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        levels.push((name, summary.levels));
    }
    let expected = [
        ("cryptonets", Some(5)),
        ("image-elements", Some(7)),
        ("image-quadratic", Some(7)),
        ("residual-image", Some(11)),
        ("residual-table", Some(5)),
        ("signal", Some(6)),
        ("teacher", None),
    ];
    let found: Vec<(&str, Option<u32>)> = levels
        .iter()
        .map(|(name, levels)| (name.as_str(), *levels))
        .collect();
    assert_eq!(found, expected);
}

/// All kinds of layers but the sign are shown in the examples.
#[test]
fn the_examples_show_every_layer() {
    let all: String = examples()
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let schema = ModelSpec::json_schema();
    let layers = schema["$defs"]["Layer"]["oneOf"].as_array().unwrap();
    // A layer with settings is an object of one property, one without them a word.
    let names = layers
        .iter()
        .flat_map(|layer| match layer["properties"].as_object() {
            Some(settings) => settings.keys().cloned().collect(),
            None => vec![layer["const"].as_str().unwrap().to_owned()],
        });
    let names: Vec<String> = names.filter(|name| name != "sign").collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        assert!(all.contains(&name), "{name}");
    }
}
