//! A quantised model asked about the first images of a labelled set, exactly.

use super::{ASKER, LONG, MODEL, coordinator, scene, shown};
use anyhow::{Context, ensure};
use galen_data::{Limits, Schema};
use galen_exact::{Interface, Reveal};
use galen_integration_tests::federation::COORDINATOR;
use galen_integration_tests::scene::small_heart;
use std::path::Path;
use std::time::Instant;

/// Asks for the scores of `count` images, and compares them with those of the plain integers.
pub(crate) fn ask(model: &Path, data: &Path, schema: &Path, count: usize) -> anyhow::Result<()> {
    let bytes = std::fs::read(model)?;
    let interface = Interface::from_bytes(&bytes)?;
    let schema: Schema = galen_core::config::load(schema)?;
    let set = galen_data::load(data, None, &schema, &Limits::default())?;
    let truth = set.classes().context("the set has no classes")?;
    let galen_models::Shape::Image([1, height, width]) = interface.subject().input else {
        anyhow::bail!("no model of grey images");
    };
    let mut scene = scene(&small_heart(600)?)?;
    let path = shown(model);
    let began = Instant::now();
    let add = ["model", "add", &path, "--name", MODEL, "--reveal", "scores"];
    let added = scene.command(COORDINATOR, add)?.result_within(LONG)?;
    println!(
        "added in {:.1} s: {}",
        began.elapsed().as_secs_f64(),
        added["programs"][0]["plan"]
    );

    let values: Vec<&[f32]> = set.values().chunks(height * width).take(count).collect();
    let count = values.len();
    let mut idx = vec![0, 0, 8, 3];
    for side in [count, height, width] {
        idx.extend((side as u32).to_be_bytes());
    }
    idx.extend(
        values
            .iter()
            .flat_map(|image| image.iter().map(|v| (v * 255.0).round() as u8)),
    );
    let images = scene.dir().join("images.idx");
    std::fs::write(&images, idx)?;
    let before = coordinator(&mut scene)?.1;
    let began = Instant::now();
    let images = shown(&images);
    let asked = scene
        .command(ASKER, ["query", MODEL, "--data", &images])?
        .result_within(LONG)?;
    let wall = began.elapsed().as_secs_f64();
    let cpu = coordinator(&mut scene)?.1 - before;

    let rows = asked["table"]["rows"].as_array().context("no rows")?;
    ensure!(rows.len() == count, "{} rows", rows.len());
    let circuit = interface.quantised().circuit(Reveal::Scores)?;
    let (mut right, mut exact) = (0, 0);
    for ((image, row), class) in values.iter().zip(rows).zip(truth) {
        let image: Vec<f64> = image.iter().map(|&v| f64::from(v)).collect();
        let plain = circuit.evaluate(&interface.quantised().encode(&[image])?[0])?;
        right += usize::from(row[1].as_str().and_then(|label| label.parse().ok()) == Some(*class));
        let of = |index: usize| -> anyhow::Result<f64> {
            Ok(row[2 + plain.len() + index]
                .as_str()
                .context("no score")?
                .parse()?)
        };
        let mut equal = true;
        for (index, score) in plain.iter().enumerate() {
            // Scores are shown in the model's own units, rounded to less than half of the smallest difference.
            equal &= (of(index)? / interface.quantised().scale()).round() as i64 == *score;
        }
        exact += usize::from(equal);
    }
    println!(
        "{count} images in {wall:.1} s, {:.2} s each; {:.2} s of processor time of the coordinator each; {exact} as in plain integers, {right} right; sent {:.2} MiB, received {:.2} MiB, \
         coordinator's peak {:.0} MiB",
        wall / count as f64,
        cpu / count as f64,
        asked["bytes_sent"].as_f64().unwrap_or(0.0) / f64::from(1 << 20),
        asked["bytes_received"].as_f64().unwrap_or(0.0) / f64::from(1 << 20),
        coordinator(&mut scene)?.3
    );
    scene.end()
}
