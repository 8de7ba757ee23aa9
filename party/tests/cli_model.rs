//! `party model` as its user meets it.

// Helpers outside of test functions may fail the test too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod command;

use command::{json, party, text};
use serde_json::Value;
use std::path::Path;

#[test]
fn a_network_is_shown_and_a_model_travels_between_formats() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    let network = "input = 2\nlayers = [\n  { dense = { outputs = 2 } },\n  \"square\",\n  { dense = { outputs = 1 } },\n]\n";
    std::fs::write(at("net.toml"), network).unwrap();
    let (code, shown) = json(&["model", "show", &at("net.toml")]);
    assert_eq!(code, 0, "{shown}");
    assert_eq!(shown["result"]["summary"]["levels"], 3, "{shown}");
    assert_eq!(shown["result"]["summary"]["parameters"], 9);
    let said = text(&party(&["model", "show", &at("net.toml")]).stdout);
    assert!(
        said.contains("layer1 square") && said.contains("relinearisations"),
        "{said}"
    );
    let schema = text(&party(&["model", "show", "--schema"]).stdout);
    let schema: Value = serde_json::from_str(&schema).unwrap();
    assert_eq!(schema["title"], "ModelSpec");

    let spec = galen_models::ModelSpec::load_toml(Path::new(&at("net.toml"))).unwrap();
    let params = [1.0, 2.0, 3.0, 4.0, 0.5, -0.5, 1.0, -1.0, 0.25].to_vec();
    let model = galen_models::Model::new(spec, params).unwrap();
    std::fs::write(at("first.safetensors"), model.to_safetensors().unwrap()).unwrap();
    let digest = model.digest().to_hex();
    let (code, there) = json(&[
        "model",
        "export",
        "--model",
        &at("first.safetensors"),
        "--out",
        &at("there.onnx"),
    ]);
    assert_eq!(
        (code, &there["result"]["model"]),
        (0, &Value::from(digest.as_str())),
        "{there}"
    );
    // These weights are exact in f32.
    let (code, back) = json(&[
        "model",
        "import",
        &at("there.onnx"),
        "--out",
        &at("back.safetensors"),
    ]);
    assert_eq!(
        (code, &back["result"]["model"]),
        (0, &Value::from(digest.as_str())),
        "{back}"
    );
    let (code, said) = json(&[
        "model",
        "import",
        &at("there.onnx"),
        "--out",
        &at("back.safetensors"),
    ]);
    assert_eq!(
        (code, &said["error"]["code"]),
        (3, &Value::from("P103")),
        "{said}"
    );

    // Twice the same in an ensemble is the same.
    let (first, there, both) = (at("first.safetensors"), at("there.onnx"), at("both.safetensors"));
    let (code, joined) = json(&["model", "ensemble", &first, &there, "--out", &both]);
    assert_eq!(
        (code, &joined["result"]["parameters"]),
        (0, &Value::from(18)),
        "{joined}"
    );
    let read = galen_models::ModelFile::from_safetensors(&std::fs::read(&both).unwrap()).unwrap();
    let row = [[0.5, -1.5]];
    assert_eq!(
        read.model.forward(&row).unwrap().rows().next(),
        model.forward(&row).unwrap().rows().next()
    );
    let alone = party(&["model", "ensemble", &first, "--out", &at("one.safetensors")]);
    assert_eq!(alone.status.code(), Some(2));

    // The same parameters by the names of a mapping.
    let map = "layer0 = \"layer0\"\nlayer2 = \"layer2\"\n";
    std::fs::write(at("names.toml"), map).unwrap();
    let (code, mapped) = json(&[
        "model",
        "import",
        &at("first.safetensors"),
        "--network",
        &at("net.toml"),
        "--map",
        &at("names.toml"),
        "--out",
        &at("mapped.safetensors"),
    ]);
    assert_eq!(
        (code, &mapped["result"]["model"]),
        (0, &Value::from(digest.as_str())),
        "{mapped}"
    );

    let wrong = network.replace("\"square\"", "\"squared\"");
    std::fs::write(at("wrong.toml"), wrong).unwrap();
    let (code, said) = json(&["model", "show", &at("wrong.toml")]);
    assert_eq!(
        (code, &said["error"]["code"]),
        (3, &Value::from("P101")),
        "{said}"
    );
    assert!(
        said["error"]["message"]
            .as_str()
            .unwrap()
            .contains("wrong.toml:4:"),
        "{said}"
    );
    std::fs::write(at("wrong.onnx"), "no protobuf").unwrap();
    let (code, said) = json(&["model", "show", &at("wrong.onnx")]);
    assert_eq!(
        (code, &said["error"]["code"]),
        (3, &Value::from("P202")),
        "{said}"
    );
}
