//! The recipes and networks in `configs`: they can be read and followed.

#![allow(clippy::unwrap_used, clippy::panic)]

use galen_data::Schema;
use galen_models::{Layer, Model, ModelSpec};
use galen_training::recipes::Recipe;
use std::path::{Path, PathBuf};

fn configs(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../configs")
        .join(folder)
}

#[test]
fn every_recipe_makes_a_network_without_functions_that_ckks_lacks() {
    let written: ModelSpec = toml::from_str(
        r#"
        input = [1, 12, 12]
        layers = [
            { conv2d = { channels = 4, kernel = 3 } },
            "relu",
            { max_pool = { kernel = 2 } },
            "flatten",
            { dense = { outputs = 8 } },
            "relu",
            { dense = { outputs = 3 } },
        ]
        "#,
    )
    .unwrap();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(configs("recipes")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let recipe: Recipe = toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        recipe
            .check()
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let model = Model::for_recipe(&written, &recipe).unwrap();
        let adapted = recipe.adaptation.is_some();
        let plain = |layer: &Layer| matches!(layer, Layer::Relu | Layer::MaxPool { .. });
        assert_eq!(
            model.spec().layers.iter().any(plain),
            !adapted,
            "{}",
            path.display()
        );
        found.push(path.file_stem().unwrap().to_str().unwrap().to_owned());
    }
    found.sort();
    let expected = [
        "beaa",
        "cryptodl",
        "hermite",
        "mnist",
        "reacthe",
        "smooth-transition",
    ];
    assert_eq!(found, expected);
}

#[test]
fn the_network_for_digits_takes_seven_levels() {
    let folder = configs("models/mnist");
    let spec = ModelSpec::load_toml(&folder.join("network.toml")).unwrap();
    assert_eq!(spec.summary().unwrap().levels, Some(7));
    let schema: Schema = toml::from_str(&std::fs::read_to_string(folder.join("data.toml")).unwrap()).unwrap();
    schema.check().unwrap();
    assert_eq!(schema.input, spec.input);
    assert_eq!(schema.target.outputs(), spec.outputs());
}
