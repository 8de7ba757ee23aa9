//! `party train` as its user meets it.

// Helpers outside of test functions may fail the test too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod command;

use command::{json, party, text};
use galen_models::ModelFile;
use std::path::Path;

const SCHEMA: &str = r#"
input = 2
elements = ["x", "y"]
target = { binary = { negative = { name = "inside", labels = ["0"] }, positive = { name = "outside", labels = ["1"] } } }
source = { target = "side" }
"#;

const NETWORK: &str = r#"
input = 2
layers = [{ dense = { outputs = 8 } }, "relu", { dense = { outputs = 1 } }]
"#;

const RECIPE: &str = r#"
seed = 3
batch_size = 32
adaptation = { activation = { trained = { degree = 2, radius = 3.0, fit = "direct", per = "channel" } } }
[[stages]]
name = "all"
epochs = 15
weights = { method = "adam", learning_rate = 1e-2 }
"#;

/// Points on a grid from (40, 40) on, each inside or outside of a circle.
fn points(offset: f64) -> String {
    let mut lines = String::from("x,y,side\n");
    for row in 0..20 {
        for column in 0..20 {
            let (x, y) = (f64::from(column) + offset, f64::from(row) - offset);
            let outside = (x - 9.5).powi(2) + (y - 9.5).powi(2) > 60.0;
            lines += &format!("{},{},{}\n", 40.0 + x, 40.0 + y, u8::from(outside));
        }
    }
    lines
}

#[test]
fn a_table_becomes_a_model_for_encrypted_evaluation_and_a_report() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    for (name, content) in [
        ("schema.toml", SCHEMA),
        ("net.toml", NETWORK),
        ("recipe.toml", RECIPE),
        ("a.csv", &points(0.0)),
        ("b.csv", &points(0.3)),
    ] {
        std::fs::write(at(name), content).unwrap();
    }
    let (network, recipe, schema, data, test, out) = (
        at("net.toml"),
        at("recipe.toml"),
        at("schema.toml"),
        at("a.csv"),
        at("b.csv"),
        at("circle"),
    );
    let command = [
        "train", &network, "--recipe", &recipe, "--schema", &schema, "--data", &data, "--test", &test,
        "--out", &out,
    ];
    let (code, said) = json(&command);
    assert_eq!(code, 0, "{said}");
    let result = &said["result"];
    assert_eq!(result["epochs"], 15);
    for part in ["training", "held_out", "test"] {
        let accuracy = result[part].as_f64().unwrap();
        assert!(accuracy > 0.9 && accuracy <= 1.0, "{part}: {said}");
    }

    // The report tells of patients.
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&out).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);

    // The file has what the compiler and whoever prepares patients need.
    let bytes = std::fs::read(Path::new(&out).join("model.safetensors")).unwrap();
    let file = ModelFile::from_safetensors(&bytes).unwrap();
    assert_eq!(file.annotations.classes, ["inside", "outside"]);
    let standardisation = file.annotations.standardisation.unwrap();
    assert!(
        (standardisation.mean[0] - 49.5).abs() < 0.5,
        "{standardisation:?}"
    );
    assert_eq!(file.annotations.activations.len(), 1);
    assert!(file.model.spec().summary().unwrap().levels.is_some());
    let report = std::fs::read_to_string(Path::new(&out).join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["evaluations"].as_array().unwrap().len(), 3);
    assert_eq!(
        report["curves"][0]["lines"][1]["points"]
            .as_array()
            .unwrap()
            .len(),
        15
    );
    let page = std::fs::read_to_string(Path::new(&out).join("report.html")).unwrap();
    assert!(page.contains("held out") && page.contains("outside"));
    assert!(!Path::new(&out).join("checkpoint").exists());

    // The same again gives the same model; a folder that has one is left alone.
    let again = at("again");
    let twice: Vec<&str> = command
        .iter()
        .map(|word| if *word == out { again.as_str() } else { word })
        .collect();
    let output = party(&twice);
    assert!(
        text(&output.stdout).contains(result["model"].as_str().unwrap()),
        "{}",
        text(&output.stdout)
    );
    assert!(
        text(&output.stderr).contains("all epoch 15/15: loss "),
        "{}",
        text(&output.stderr)
    );
    let (code, said) = json(&command);
    assert_eq!(
        (code, said["error"]["code"].as_str()),
        (3, Some("P202")),
        "{said}"
    );
    assert!(
        said["error"]["message"]
            .as_str()
            .unwrap()
            .contains("not overwritten")
    );
}

#[test]
fn what_does_not_fit_is_said_before_anything_is_written() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    std::fs::write(at("net.toml"), NETWORK).unwrap();
    std::fs::write(at("a.csv"), points(0.0)).unwrap();
    let said = |recipe: &str, schema: &str, more: &[&str]| {
        std::fs::write(at("recipe.toml"), recipe).unwrap();
        std::fs::write(at("schema.toml"), schema).unwrap();
        let (network, recipe, schema) = (at("net.toml"), at("recipe.toml"), at("schema.toml"));
        let (data, out) = (at("a.csv"), at("out"));
        let command = [
            "train", &network, "--recipe", &recipe, "--schema", &schema, "--data", &data, "--out", &out,
        ];
        let (code, said) = json(&[&command, more].concat());
        assert!(!Path::new(&out).join("model.safetensors").exists());
        let error = &said["error"];
        let [number, message] = ["code", "message"].map(|field| error[field].as_str().unwrap().to_owned());
        (code, number, message)
    };
    let misspelt = RECIPE.replace("epochs", "epoch");
    let (code, number, message) = said(&misspelt, SCHEMA, &[]);
    assert_eq!((code, number.as_str()), (3, "P101"));
    assert!(
        message.contains("recipe.toml:") && message.contains("epoch"),
        "{message}"
    );
    let numbers = SCHEMA.replace(
        r#"{ binary = { negative = { name = "inside", labels = ["0"] }, positive = { name = "outside", labels = ["1"] } } }"#,
        r#"{ regression = { name = "side" } }"#,
    );
    let (code, number, message) = said(RECIPE, &numbers, &[]);
    assert_eq!((code, number.as_str()), (3, "P204"), "{message}");
    let narrow = SCHEMA
        .replace("input = 2", "input = 1")
        .replace(r#"["x", "y"]"#, r#"["x"]"#);
    let (code, number, message) = said(RECIPE, &narrow, &[]);
    assert_eq!((code, number.as_str()), (3, "P204"), "{message}");
    let (code, number, message) = said(RECIPE, SCHEMA, &["--device", "abacus"]);
    assert_eq!((code, number.as_str()), (3, "P107"), "{message}");
    let missing = SCHEMA.replace("\"y\"", "\"z\"");
    let (code, number, message) = said(RECIPE, &missing, &[]);
    assert_eq!((code, number.as_str()), (4, "P203"), "{message}");
}

#[test]
fn the_teacher_is_judged_beside_its_pupil_and_the_seed_can_be_another() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    let recipe = r#"
        seed = 3
        batch_size = 32
        adaptation = { activation = { trained = { degree = 2, radius = 3.0, fit = "direct", per = "channel" } } }
        [[stages]]
        name = "teacher"
        epochs = 6
        activations = "relu"
        becomes_teacher = true
        weights = { method = "adam", learning_rate = 1e-2 }
        [[stages]]
        name = "pupil"
        epochs = 6
        weights = { method = "adam", learning_rate = 1e-2 }
        distillation = { temperature = 2, weight = 1.0 }
    "#;
    // The test data's class is in a column of another name.
    let renamed = points(0.3).replacen("side", "where", 1);
    for (name, content) in [
        ("schema.toml", SCHEMA),
        ("other.toml", &SCHEMA.replace("\"side\"", "\"where\"")),
        ("wide.toml", &SCHEMA.replace("inside", "within")),
        ("net.toml", NETWORK),
        ("recipe.toml", recipe),
        ("a.csv", &points(0.0)),
        ("b.csv", &renamed),
    ] {
        std::fs::write(at(name), content).unwrap();
    }
    let run = |out: &str, more: &[&str]| {
        let (network, recipe, schema) = (at("net.toml"), at("recipe.toml"), at("schema.toml"));
        let (data, test, out) = (at("a.csv"), at("b.csv"), at(out));
        let mut command = vec![
            "train", &network, "--recipe", &recipe, "--schema", &schema, "--data", &data, "--test", &test,
            "--out", &out,
        ];
        command.extend(more);
        json(&command)
    };
    let (other, wide) = (at("other.toml"), at("wide.toml"));
    let (code, said) = run("first", &["--test-schema", &other]);
    assert_eq!(code, 0, "{said}");
    let first = &said["result"];
    // After six epochs it is no good teacher yet, but better than chance.
    assert!(first["teacher"].as_f64().unwrap() > 0.7, "{said}");
    let report = std::fs::read_to_string(temp.path().join("first/report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let parts = report["evaluations"].as_array().unwrap();
    let parts: Vec<&str> = parts.iter().map(|e| e["part"].as_str().unwrap()).collect();
    assert_eq!(parts, ["training", "held out", "test", "test (teacher)"]);
    // Data are described in the units of the file.
    let least = &report["data"][0]["description"]["elements"][0]["range"]["min"];
    assert_eq!(least.as_f64(), Some(40.0));

    let (code, said) = run("second", &["--test-schema", &other, "--seed", "4"]);
    assert_eq!(code, 0, "{said}");
    assert_ne!(first["model"], said["result"]["model"]);
    let (_, said) = run("third", &["--test-schema", &wide]);
    let message = said["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("wide.toml") && message.contains("are not those of"),
        "{said}"
    );
}
