//! A trained model, asked about a labelled set through the service.

use super::{MODEL, add, scene, shown};
use anyhow::{Context, ensure};
use galen_data::{Limits, Schema};
use galen_integration_tests::scene::small_heart;
use galen_models::ModelFile;
use galen_models::metrics::largest;
use std::path::Path;

pub(crate) fn ask(model: &Path, data: &Path, schema: &Path) -> anyhow::Result<()> {
    let file = ModelFile::from_safetensors(&std::fs::read(model)?)?;
    let described: Schema = galen_core::config::load(schema)?;
    let set = galen_data::load(data, None, &described, &Limits::default())?;
    let labels = set.classes().context("the set has no classes")?;
    let spec = file.model.spec();
    ensure!(
        spec.outputs() > 1,
        "a model with an output for each class is expected"
    );
    let row = |values: &[f32]| {
        let mut row: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
        if let Some(standardisation) = &file.annotations.standardisation {
            standardisation.apply(spec.input, &mut row);
        }
        row
    };
    let rows: Vec<Vec<f64>> = set.values().chunks(spec.inputs()).map(row).collect();
    let plain = file.model.forward(&rows)?;
    let plain: Vec<f64> = plain.rows().flatten().copied().collect();

    let mut scene = scene(&small_heart(600)?)?;
    add(&mut scene, &file)?;
    let out = scene.dir().join("out.csv");
    let (data, schema, written) = (shown(data), shown(schema), shown(&out));
    let args = [
        "query", MODEL, "--data", &data, "--schema", &schema, "--out", &written,
    ];
    super::ask(
        &mut scene,
        &args,
        "first, with the key and the program to be made",
    )?;
    super::ask(&mut scene, &args, "again")?;
    let classes = spec.outputs();
    let mut scores: Vec<f64> = Vec::with_capacity(plain.len());
    for line in std::fs::read_to_string(&out)?.lines().skip(1) {
        // Identifier, label, and a probability for each class come first.
        for cell in line.split(',').skip(2 + classes) {
            scores.push(cell.parse()?);
        }
    }
    ensure!(scores.len() == plain.len(), "{} scores", scores.len());
    let (found, expected) = (largest(&scores, classes), largest(&plain, classes));
    let count = |a: &[u32], b: &[u32]| a.iter().zip(b).filter(|(a, b)| a == b).count();
    let (encrypted, in_plain) = (count(&found, labels), count(&expected, labels));
    let alike = count(&found, &expected);
    let error = scores.iter().zip(&plain).map(|(a, b)| (a - b).abs());
    let error = error.fold(0.0, f64::max);
    println!(
        "  of {} images {encrypted} right encrypted, {in_plain} in plain numbers, {alike} the same; largest error of a score {error:.1e}",
        labels.len()
    );
    scene.end()
}
