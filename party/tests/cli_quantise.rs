//! `party model quantise` as its user meets it.

// Helpers outside of test functions may fail the test too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod command;

use command::{json, party, text};
use galen_exact::{Interface, Outcome, Reveal};
use std::path::{Path, PathBuf};

/// A file of the breast cancer model that is shipped.
fn shipped(name: &str) -> String {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/models/breast-cancer");
    folder.join(name).display().to_string()
}

#[test]
fn a_network_is_quantised_by_patients() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("model.json").display().to_string();
    let (model, schema, data) = (
        shipped("model.safetensors"),
        shipped("data.toml"),
        shipped("train.csv"),
    );
    let from = ["model", "quantise", &model, "--schema", &schema, "--data", &data];
    let quantise = [&from[..], &["--out", &out]].concat();
    let (code, made) = json(&quantise);
    assert_eq!(code, 0, "{made}");
    let count = |name: &str| made["result"]["labels"][name].as_u64().unwrap();
    assert!(count("equal") * 100 >= count("patients") * 95, "{made}");
    assert!(
        made["result"]["plans"][0][1]["log2_failure"].as_f64().unwrap() <= -40.0,
        "{made}"
    );
    let interface = Interface::from_bytes(&std::fs::read(&out).unwrap()).unwrap();
    assert_eq!(interface.subject().classes.len(), 2);
    assert_eq!(interface.reveals(), [Reveal::Label, Reveal::Scores]);

    let said = text(&party(&quantise).stderr);
    assert!(said.contains("not overwritten"), "{said}");
    let other = temp.path().join("other.json").display().to_string();
    let without = text(&party(&["model", "quantise", &model, "--out", &other]).stderr);
    assert!(without.contains("--data"), "{without}");
    let spiking = text(&party(&[&from[..], &["--spiking", "2", "--out", &other]].concat()).stderr);
    assert!(spiking.contains("not a ReLU"), "{spiking}");
    assert!(!Path::new(&other).exists());
}

#[test]
fn trees_keep_their_comparisons() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    let dump = r#"[{"nodeid": 0, "split": "age", "split_condition": 50.5, "yes": 1, "no": 2, "children":
        [{"nodeid": 1, "leaf": -0.5}, {"nodeid": 2, "leaf": 0.75}]}]"#;
    std::fs::write(at("trees.json"), dump).unwrap();
    let schema = "input = 2\nelements = [\"sex\", \"age\"]\ntarget = { binary = { negative = \"well\", positive = \"ill\" } }\n";
    std::fs::write(at("schema.toml"), schema).unwrap();
    let quantise = |dump: &str, out: &str| {
        json(&[
            "model",
            "quantise",
            &at(dump),
            "--schema",
            &at("schema.toml"),
            "--out",
            &at(out),
        ])
    };
    let (code, made) = quantise("trees.json", "out.json");
    assert_eq!(code, 0, "{made}");
    let interface = Interface::from_bytes(&std::fs::read(at("out.json")).unwrap()).unwrap();
    assert_eq!(interface.subject().classes, ["well", "ill"]);
    for (age, label) in [(50.0, 0), (51.0, 1)] {
        let outcome = interface
            .quantised()
            .evaluate(Reveal::Label, &[1.0, age])
            .unwrap();
        assert_eq!(outcome, Outcome::Label(label));
    }
    std::fs::write(at("wrong.json"), dump.replace("age", "weight")).unwrap();
    let (code, refused) = quantise("wrong.json", "wrong-out.json");
    assert_eq!(code, 3, "{refused}");
    assert!(
        refused["error"]["message"]
            .as_str()
            .unwrap()
            .contains("\"weight\""),
        "{refused}"
    );
}
