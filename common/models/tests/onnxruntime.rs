//! Exported ONNX files in onnxruntime against the evaluator. `integration-tests/onnx/run` makes the Python environment and runs it.

// Helpers outside of test functions may fail the test too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use galen_models::random::Stream;
use galen_models::{Model, ModelSpec, ParameterKind};
use std::path::{Path, PathBuf};
use std::process::Command;

const ROWS: usize = 16;

fn model(spec: ModelSpec) -> Model {
    let mut stream = Stream::new("onnxruntime test", 1, &[]);
    let mut params = Vec::new();
    for block in spec.parameters() {
        let (inputs, outputs) = block.fans();
        let limit = (6.0 / (inputs + outputs) as f64).sqrt();
        params.extend((0..block.len()).map(|_| match block.kind {
            ParameterKind::Weight => limit * stream.symmetric(),
            ParameterKind::Variance => 0.5 + stream.unit(),
            _ => 0.5 * stream.symmetric(),
        }));
    }
    Model::new(spec, params).unwrap()
}

/// What onnxruntime computes: the script reads and writes little-endian `f32`.
fn in_onnxruntime(python: &str, folder: &Path, bytes: &[u8], rows: &[Vec<f64>]) -> Vec<f64> {
    let (file, input, output) = (
        folder.join("model.onnx"),
        folder.join("input"),
        folder.join("output"),
    );
    std::fs::write(&file, bytes).unwrap();
    let flat: Vec<u8> = rows
        .iter()
        .flatten()
        .flat_map(|&v| (v as f32).to_le_bytes())
        .collect();
    std::fs::write(&input, flat).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integration-tests/onnx/infer.py");
    let status = Command::new(python)
        .arg(script)
        .args([&file, &input, &output])
        .status()
        .unwrap();
    assert!(status.success(), "onnxruntime failed");
    let read = std::fs::read(&output).unwrap();
    read.as_chunks::<4>()
        .0
        .iter()
        .map(|b| f64::from(f32::from_le_bytes(*b)))
        .collect()
}

#[test]
#[ignore = "needs Python with onnxruntime: integration-tests/onnx/run"]
fn onnxruntime_computes_the_same() {
    let python =
        std::env::var("GALEN_ONNX_PYTHON").expect("GALEN_ONNX_PYTHON names a Python that has onnxruntime");
    let folder = tempfile::tempdir().unwrap();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/models/examples");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(examples)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    for path in paths {
        let name = path.file_stem().unwrap().display().to_string();
        let original = model(ModelSpec::load_toml(&path).unwrap());
        let bytes = original.to_onnx().unwrap();
        let mut stream = Stream::new("onnxruntime rows", 1, &[]);
        let inputs = original.spec().inputs();
        // Numbers that `f32` holds exactly, so that both sides see the same.
        let mut number = || f64::from(stream.symmetric() as f32);
        let rows: Vec<Vec<f64>> = (0..ROWS)
            .map(|_| (0..inputs).map(|_| number()).collect())
            .collect();
        let theirs = in_onnxruntime(&python, folder.path(), &bytes, &rows);
        let ours = original.forward(&rows).unwrap().into_values();
        let back = Model::from_onnx(&bytes)
            .unwrap()
            .forward(&rows)
            .unwrap()
            .into_values();
        let scale = ours.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
        let largest = |other: &[f64]| {
            assert_eq!(other.len(), ours.len(), "{name}");
            ours.iter()
                .zip(other)
                .fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()))
                / scale
        };
        let (runtime, again) = (largest(&theirs), largest(&back));
        println!(
            "{name}: largest output {scale:.3}, onnxruntime differs by {runtime:.1e}, the file read again by {again:.1e}"
        );
        assert!(runtime < 2e-5, "{name}: {runtime}");
        assert!(again < 2e-5, "{name}: {again}");
    }
}
