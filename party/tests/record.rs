//! `party model record`, as its user meets it.

#![allow(clippy::unwrap_used)]

use galen_inference::{CompileError, Program};
use galen_models::ModelFile;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn heart(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../configs/models/heart")
        .join(file)
}

fn record(arguments: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_party"))
        .args(["model", "record"])
        .args(arguments)
        .output()
        .unwrap()
}

/// A model from elsewhere says nothing of patients, and cannot be compiled; recorded, it can, and says of its training data what training
/// itself would have.
#[test]
fn an_imported_model_can_be_compiled_once_it_was_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let trained = ModelFile::from_safetensors(&std::fs::read(heart("model.safetensors")).unwrap()).unwrap();
    let mut bare = ModelFile::from(trained.model.clone());
    bare.annotations.standardisation = trained.annotations.standardisation.clone();
    let (from, to) = (
        dir.path().join("bare.safetensors"),
        dir.path().join("recorded.safetensors"),
    );
    std::fs::write(&from, bare.to_safetensors().unwrap()).unwrap();
    assert!(matches!(
        Program::compile_file(&bare, 8),
        Err(CompileError::NotRecorded)
    ));

    let (data, schema) = (heart("train.csv"), heart("data.toml"));
    let flags = ["--data", "--schema", "--out"].map(Path::new);
    let arguments = [&from, flags[0], &data, flags[1], &schema, flags[2], &to];
    let output = record(&arguments);
    assert!(output.status.success(), "{output:?}");
    let recorded = ModelFile::from_safetensors(&std::fs::read(&to).unwrap()).unwrap();
    assert_eq!(recorded.model, trained.model);
    assert_eq!(recorded.annotations.classes, trained.annotations.classes);
    for seen in &recorded.annotations.activations {
        assert_eq!(seen.moments.len(), seen.channels.len());
        assert!(seen.moments.iter().all(|m| m.values > 100), "{seen:?}");
    }
    let program = Program::compile_file(&recorded, 8).unwrap();
    assert_eq!(program.ranges().len(), 13);

    // Nothing is overwritten, and a table without a schema is asked for one.
    let again = record(&arguments);
    assert!(!again.status.success());
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(said.contains("not overwritten"), "{said}");
    let other = dir.path().join("other.safetensors");
    let without = record(&[&from, flags[0], &data, flags[2], &other]);
    let said = String::from_utf8(without.stderr).unwrap();
    assert!(said.contains("--schema") && !other.exists(), "{said}");
}
