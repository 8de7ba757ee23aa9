//! One model asked in both ways, a patient in every slot and few patients packed into one ciphertext: the real daemon and the real commands.

use anyhow::{Context, ensure};
use galen_core::{Code, Digest};
use galen_inference::{Program, Querier};
use galen_integration_tests::federation::COORDINATOR;
use galen_integration_tests::scene::{Scene, small_heart};
use galen_integration_tests::served::Raw;
use galen_models::random::Stream;
use galen_models::{Model, ModelFile, ModelSpec, Range};
use galen_net::protocol::{BlobKind, KeyState, Request, Response};
use serde_json::Value;
use std::path::Path;

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_quickstart");
const ASKER: &str = "zurich";
/// Height and width of an image.
const SIDE: usize = 14;
/// Right bits of a score, and what rounding adds.
const ALLOWED: f64 = 1.5 / 256.0;

/// Convolution, squares, dense layers: small digits, with random weights.
fn digits() -> anyhow::Result<ModelFile> {
    let spec: ModelSpec = toml::from_str(
        r#"
        input = [1, 14, 14]
        layers = [
            { conv2d = { channels = 3, kernel = 5, stride = 2, padding = 1 } },
            "square",
            "flatten",
            { dense = { outputs = 20 } },
            "square",
            { dense = { outputs = 3 } },
        ]"#,
    )?;
    let mut file = ModelFile::from(Model::initial(spec, 3)?);
    let mut stream = Stream::new("packed images", 1, &[]);
    let mut row = || (0..SIDE * SIDE).map(|_| stream.unit()).collect();
    let rows: Vec<Vec<f64>> = (0..16).map(|_| row()).collect();
    file.record(&rows)?;
    file.annotations.inputs = vec![Range::new(0.0, 1.0)];
    Ok(file)
}

/// Writes images as IDX; returns their pixels as the model takes them.
fn images(path: &Path, count: usize) -> anyhow::Result<Vec<Vec<f64>>> {
    let pixels: Vec<u8> = (0..count * SIDE * SIDE).map(|i| (i * 29 % 251) as u8).collect();
    let sizes = [count, SIDE, SIDE].map(|n| (n as u32).to_be_bytes()).concat();
    std::fs::write(path, [&[0u8, 0, 8, 3][..], &sizes, &pixels].concat())?;
    let row = |image: &[u8]| image.iter().map(|&p| f64::from(p) / 255.0).collect();
    Ok(pixels.chunks(SIDE * SIDE).map(row).collect())
}

/// The scores of a report's table.
fn scores(asked: &Value) -> anyhow::Result<Vec<Vec<f64>>> {
    let rows = asked["table"]["rows"].as_array().context("no rows")?;
    let row = |row: &Value| -> anyhow::Result<Vec<f64>> {
        (5..8)
            .map(|at| Ok(row[at].as_str().context("no score")?.parse()?))
            .collect()
    };
    rows.iter().map(row).collect()
}

fn largest_difference(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn both_ways_give_the_same_answers() -> anyhow::Result<()> {
    let mut scene = Scene::new(EXECUTABLE, &small_heart(60)?)?;
    scene.start(COORDINATOR)?;
    let file = digits()?;
    let path = scene.dir().join("digits.safetensors");
    std::fs::write(&path, file.to_safetensors()?)?;
    let path = path.to_string_lossy().into_owned();
    // Whether it is faster here or not.
    let added = scene.run(
        COORDINATOR,
        &["model", "add", &path, "--name", "digits", "--packing", "packed"],
    )?;
    ensure!(added["served"] == true, "{added}");
    let plan = &added;
    let (slots, packed) = (&plan["plan"], &plan["packed"]["plan"]);
    ensure!(
        slots["packed_width"].is_null() && slots["inputs"] == 196,
        "{plan}"
    );
    ensure!(packed["packed_width"].is_u64() && packed["inputs"] == 1, "{plan}");
    ensure!(plan["packed"]["faster_up_to_patients"].is_u64(), "{plan}");
    let version = |name: &str| added[name].as_str().map(str::to_owned).context("no version");
    let [slots, packed] = [version("version")?, version("packed_version")?];
    let listed = scene.run(ASKER, &["query", "--list"])?;
    let current = |at: usize| {
        (
            &listed["models"][at]["version"],
            &listed["models"][at]["packed"],
            &listed["models"][at]["current"],
        )
    };
    ensure!(
        current(0) == (&slots.as_str().into(), &false.into(), &true.into()),
        "{listed}"
    );
    ensure!(
        current(1) == (&packed.as_str().into(), &true.into(), &true.into()),
        "{listed}"
    );

    // The plan of a query shows both, and takes the one with less time in all.
    let idx = scene.dir().join("x.idx");
    let rows = images(&idx, 3)?;
    let data = idx.to_string_lossy().into_owned();
    let ask = |scene: &mut Scene, more: &[&str]| {
        scene.run(ASKER, &[&["query", "digits", "--data", &data], more].concat())
    };
    let dry = ask(&mut scene, &["--dry-run"])?;
    let ways = dry["ways"].as_array().context("no ways")?;
    ensure!(ways.len() == 2 && dry["key"] == "missing", "{dry}");
    let seconds = |way: &Value| way["seconds"].as_f64().unwrap_or(f64::NAN);
    let fastest = usize::from(seconds(&ways[1]) < seconds(&ways[0]));
    ensure!(
        ways[fastest]["taken"] == true && ways[1 - fastest]["taken"] == false,
        "{dry}"
    );
    ensure!(
        dry["version"] == ways[fastest]["version"]
            && dry["why"].as_str().is_some_and(|w| w.contains("in all")),
        "{dry}"
    );
    ensure!(
        ways[0]["upload_bytes"].as_u64() > ways[1]["upload_bytes"].as_u64(),
        "{dry}"
    );

    // Both ways, and the one that is taken by itself, against the plain network and one another.
    let plain: Vec<Vec<f64>> = file.model.forward(&rows)?.rows().map(<[f64]>::to_vec).collect();
    let mut answers = Vec::new();
    for (packing, wanted) in [("slots", Some(&slots)), ("packed", Some(&packed)), ("auto", None)] {
        let asked = ask(&mut scene, &["--packing", packing])?;
        ensure!(
            wanted.is_none_or(|wanted| asked["version"] == wanted.as_str()),
            "{asked}"
        );
        let found = scores(&asked)?;
        ensure!(found.len() == rows.len(), "{asked}");
        let error = largest_difference(&found, &plain);
        ensure!(error <= ALLOWED, "{packing}: off by {error}");
        answers.push(found);
    }
    ensure!(largest_difference(&answers[0], &answers[1]) <= 2.0 * ALLOWED);
    for packing in ["slots", "packed"] {
        let dry = ask(&mut scene, &["--packing", packing, "--dry-run"])?;
        ensure!(
            dry["key"] == "present" && dry["ways"].as_array().is_some_and(|w| w.len() == 1),
            "{dry}"
        );
    }

    // More patients than one packed batch holds, after a restart, which makes the program again.
    scene.restart_coordinator()?;
    let most = dry["ways"][1]["max_patients"].as_u64().context("no size")? as usize;
    let rows = images(&idx, most + 1)?;
    let asked = ask(&mut scene, &["--packing", "packed"])?;
    ensure!(asked["batches"] == 2, "{asked}");
    let plain: Vec<Vec<f64>> = file.model.forward(&rows)?.rows().map(<[f64]>::to_vec).collect();
    let error = largest_difference(&scores(&asked)?, &plain);
    ensure!(error <= ALLOWED, "off by {error}");

    tokio::runtime::Runtime::new()?.block_on(ask_badly(&scene, &file, packed.parse()?))?;

    // A name stands for both.
    scene.run(COORDINATOR, &["model", "remove", "digits"])?;
    scene.wait_for("the model is gone", |_, snapshot| {
        let models = snapshot.coordinator.as_ref().map(|status| &status.models);
        Ok(models.is_some_and(Vec::is_empty))
    })?;
    scene.end()
}

/// Keys of the other way, and keys that are cut short or too long, are refused with a code.
async fn ask_badly(scene: &Scene, file: &ModelFile, version: Digest) -> anyhow::Result<()> {
    let raw = Raw::connect(scene, "budapest").await?;
    let packed = Program::compile_packed(file, 8, u64::MAX)?;
    ensure!(
        Digest::of(&packed.interface().to_bytes()?) == version,
        "another version is offered"
    );
    let querier = Querier::generate(packed.interface())?;
    let batch = querier.encrypt_batch(&[vec![0.5; SIDE * SIDE]])?.to_bytes()?;
    let batch = raw.put(BlobKind::Batch, &batch).await?;
    let query = |key| Request::Query {
        model: version,
        key,
        batch,
    };

    let slots = Program::compile_file(file, 8)?;
    let other = Querier::generate(slots.interface())?.serving_key()?.to_bytes()?;
    let other = raw.put(BlobKind::EvaluationKey, &other).await?;
    ensure!(raw.refused(query(other)).await? == Code::BadQuery);

    let whole = querier.serving_key()?.to_bytes()?;
    for bad in [
        whole[..whole.len() - 1].to_vec(),
        [whole.as_slice(), &[0]].concat(),
        whole[..whole.len() / 2].to_vec(),
    ] {
        let key = raw.put(BlobKind::EvaluationKey, &bad).await?;
        ensure!(raw.refused(Request::KeyStatus { key }).await? == Code::BadQuery);
    }
    ensure!(raw.refused(query(Digest::of(b"no key"))).await? == Code::NoKey);
    let key = raw.put(BlobKind::EvaluationKey, &whole).await?;
    ensure!(raw.peer.call(&Request::KeyStatus { key }).await? == Response::Key(KeyState::Present));
    raw.peer.close();
    Ok(())
}
