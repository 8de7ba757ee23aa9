//! Exact decisions: quantised models registered and asked through the real daemon and the real commands, over the network.

use anyhow::{Context, bail, ensure};
use galen_core::{Code, Digest};
use galen_exact::{
    Forest, Interface, MAX_PATIENTS, Node, Outcome, Precision, Program, Quantised, Querier, Reveal,
    quantise_recorded,
};
use galen_integration_tests::federation::COORDINATOR;
use galen_integration_tests::scene::{Scene, small_heart};
use galen_integration_tests::served::{Raw, patients, rectified, tabular};
use galen_models::{Shape, Subject};
use galen_net::protocol::{BlobKind, KeyState, QueryState, Request, Response};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_quickstart");
const ASKER: &str = "zurich";

/// A coordinator; no round is ever run, since nobody else's daemon is started.
fn scene() -> anyhow::Result<Scene> {
    let mut scene = Scene::new(EXECUTABLE, &small_heart(60)?)?;
    scene.start(COORDINATOR)?;
    Ok(scene)
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Registers the bytes of a model's file; returns what the command says.
fn add(scene: &mut Scene, bytes: &[u8], file: &str, more: &[&str]) -> anyhow::Result<Value> {
    let path = shown(&scene.dir().join(file));
    std::fs::write(&path, bytes)?;
    let added = scene.run(COORDINATOR, &[&["model", "add", &path][..], more].concat())?;
    ensure!(added["served"] == true, "{added}");
    Ok(added)
}

/// Two trees on two features.
fn trees() -> anyhow::Result<Quantised> {
    let split = |feature, threshold, below, from| Node::Split {
        feature,
        threshold,
        below: Box::new(Node::Leaf(below)),
        from: Box::new(Node::Leaf(from)),
    };
    let trees = vec![split(0, 50.5, -1.0, 2.0), split(1, 200.0, 0.5, -1.5)];
    Ok(Forest::new(2, 1, 0.0, trees)?.quantise(8)?)
}

fn subject(inputs: usize) -> Subject {
    Subject {
        model: Digest::of(b"trees"),
        title: "illness".into(),
        classes: vec!["well".into(), "ill".into()],
        input: Shape::Features(inputs),
        standardisation: None,
    }
}

/// The cells of a table of results after the patient's name, as they should be.
fn cells(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Label(1) => "ill".into(),
        Outcome::Label(_) => "well".into(),
        Outcome::Decision(true) => "yes".into(),
        Outcome::Decision(false) => "no".into(),
        Outcome::Scores(scores) => format!("{scores:?}"),
    }
}

/// One name for a network of polynomials under CKKS and one of ReLU under TFHE, asked in both ways.
#[test]
fn exact_answers_are_those_of_the_plain_integers() -> anyhow::Result<()> {
    let mut scene = scene()?;
    let (batches, file) = (tabular(1)?, rectified(2)?);
    add(&mut scene, &batches.to_safetensors()?, "heart.safetensors", &[])?;
    // A network of ReLU is quantised by itself.
    let reveal = [
        "--reveal",
        "label",
        "--reveal",
        "decision",
        "--reveal",
        "scores",
        "--threshold",
        "0.25",
    ];
    let name = ["--name", "heart"];
    let added = add(
        &mut scene,
        &file.to_safetensors()?,
        "relu.safetensors",
        &[&name[..], &reveal].concat(),
    )?;
    ensure!(
        added["engine"] == "tfhe" && added["programs"][1]["reveal"] == "decision",
        "{added}"
    );
    ensure!(
        added["programs"][0]["plan"]["log2_failure"]
            .as_f64()
            .is_some_and(|f| f <= -40.0),
        "{added}"
    );
    let version = added["version"].as_str().context("no version")?.to_owned();
    let listed = scene.run(ASKER, &["query", "--list"])?;
    let current = |model: &Value| model["name"] == "heart" && model["current"] == true;
    ensure!(
        listed["models"]
            .as_array()
            .is_some_and(|all| all.iter().filter(|m| current(m)).count() == 2),
        "{listed}"
    );

    let (csv, schema, rows) = patients(&file, scene.dir(), 3)?;
    let [data, schema] = [shown(&csv), shown(&schema)];
    let ask = |scene: &mut Scene, more: &[&str]| {
        scene.run(
            ASKER,
            &[&["query", "heart", "--data", &data, "--schema", &schema], more].concat(),
        )
    };
    let ranges = file
        .annotations
        .input_ranges(file.model.spec())
        .context("no ranges")?;
    let quantised = quantise_recorded(&file.model, &ranges, Precision::ALL[0])?;
    let threshold = quantised.units(0.25);
    let plan = ask(&mut scene, &["--engine", "tfhe", "--dry-run"])?;
    ensure!(
        plan["engine"] == "tfhe" && plan["key"] == "missing" && plan["reveal"] == "label",
        "{plan}"
    );
    let cases = [
        (&["--engine", "tfhe"][..], Reveal::Label),
        // Less than scores, and whoever leaves the engine open gets the one that can.
        (&["--reveal", "decision"], Reveal::Decision { threshold }),
        (&["--reveal", "scores", "--engine", "tfhe"], Reveal::Scores),
    ];
    for (more, reveal) in cases {
        let asked = ask(&mut scene, more)?;
        ensure!(asked["version"] == version.as_str(), "{asked}");
        for (patient, row) in rows.iter().enumerate() {
            let outcome = quantised.evaluate(reveal, row)?;
            let line = &asked["table"]["rows"][patient];
            ensure!(line[0] == format!("p{patient}"), "{line}");
            match outcome {
                Outcome::Scores(scores) => {
                    let score: f64 = line[3].as_str().context("no score")?.parse()?;
                    ensure!((score - scores[0]).abs() < 1e-3, "{line}: {scores:?}");
                }
                outcome => ensure!(line[1] == cells(&outcome), "{line}: {outcome:?}"),
            }
        }
    }
    let asked = ask(&mut scene, &[])?;
    ensure!(asked["engine"] == "ckks", "{asked}");
    let failure = scene.command(
        ASKER,
        [
            "query", "heart", "--data", &data, "--schema", &schema, "--engine", "ckks", "--reveal", "label",
        ],
    );
    let failure = failure?.failure()?;
    ensure!(failure.log.contains("only tfhe reveals"), "{}", failure.log);
    scene.end()
}

/// Queries are cut where the operator says, go on after a kill of either side, and reveal nothing that the operator does not allow.
#[test]
fn a_quantised_file_is_asked_and_goes_on_where_it_was_interrupted() -> anyhow::Result<()> {
    let mut scene = scene()?;
    let quantised = trees()?;
    let interface = Interface::new(subject(2), quantised.clone(), vec![Reveal::Label], MAX_PATIENTS)?;
    let added = add(
        &mut scene,
        &interface.to_bytes()?,
        "trees.json",
        &["--max-patients", "2"],
    )?;
    ensure!(added["max_patients"] == 2, "{added}");
    let (csv, schema) = (scene.dir().join("new.csv"), scene.dir().join("schema.toml"));
    std::fs::write(&csv, "chol,age\n210,40\n180,60\n250,70\n")?;
    std::fs::write(
        &schema,
        "input = 2\nelements = [\"age\", \"chol\"]\ntarget = { binary = { negative = \"well\", positive = \"ill\" } }\n",
    )?;
    let [data, schema] = [shown(&csv), shown(&schema)];
    let ask = ["query", "trees", "--data", &data, "--schema", &schema];
    scene.run_killed_at(ASKER, &ask, "party.query.submitted")?;
    scene.run_killed_at(ASKER, &ask, "party.query.answered")?;
    scene.restart_coordinator()?;
    let asked = scene.run(ASKER, &ask)?;
    ensure!(asked["answered_before"] == 1 && asked["batches"] == 2, "{asked}");
    for (patient, row) in [[40.0, 210.0], [60.0, 180.0], [70.0, 250.0]].iter().enumerate() {
        let outcome = quantised.evaluate(Reveal::Label, row)?;
        let line = &asked["table"]["rows"][patient];
        ensure!(line[1] == cells(&outcome), "{line}: {outcome:?}");
    }
    let failure = scene
        .command(ASKER, [&ask[..], &["--reveal", "scores"]].concat())?
        .failure()?;
    ensure!(failure.log.contains("only: label"), "{}", failure.log);
    scene.end()
}

#[test]
fn bad_exact_queries_are_refused_and_the_service_goes_on() -> anyhow::Result<()> {
    let mut scene = scene()?;
    let interface = Interface::new(subject(2), trees()?, vec![Reveal::Label], 2)?;
    let bytes = interface.to_bytes()?;
    add(&mut scene, &bytes, "trees.json", &["--max-patients", "2"])?;
    add(
        &mut scene,
        &tabular(1)?.to_safetensors()?,
        "heart.safetensors",
        &[],
    )?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(ask_badly(&scene, &interface, Digest::of(&bytes)))?;
    scene.end()
}

async fn ask_badly(scene: &Scene, interface: &Interface, model: Digest) -> anyhow::Result<()> {
    let (raw, other) = (
        Raw::connect(scene, "zurich").await?,
        Raw::connect(scene, "budapest").await?,
    );
    let program = |reveal| -> anyhow::Result<Arc<Program>> { Ok(Arc::new(interface.program(reveal)?)) };
    let label = program(Reveal::Label)?;
    let querier = Querier::generate(&label)?;
    let rows = interface.quantised().encode(&[[40.0, 210.0], [60.0, 180.0]])?;
    let good = querier.encrypt(&rows)?.to_bytes();
    let key = querier.serving_key().to_bytes();
    let query = |key, batch| Request::Query { model, key, batch };

    // Keys that are cut short, or of no parameter set.
    let refused_key = async |bytes: &[u8]| -> anyhow::Result<Code> {
        let key = raw.put(BlobKind::EvaluationKey, bytes).await?;
        raw.refused(Request::KeyStatus { key }).await
    };
    ensure!(refused_key(&key[..key.len() - 1]).await? == Code::BadQuery);
    let mut strange = key.clone();
    strange[6] ^= 1;
    ensure!(refused_key(&strange).await? == Code::BadQuery);
    let name = raw.put(BlobKind::EvaluationKey, &key).await?;
    let state = raw.peer.call(&Request::KeyStatus { key: name }).await?;
    ensure!(state == Response::Key(KeyState::Present), "{state:?}");

    // Cut short, too long, of too many patients, of another program, no query, and another party's.
    let put = async |bytes: &[u8]| raw.put(BlobKind::Batch, bytes).await;
    let many = querier.encrypt(&[rows[0].clone(), rows[0].clone(), rows[1].clone()])?;
    let scores = Querier::generate(&program(Reveal::Scores)?)?.encrypt(&rows)?;
    for wrong in [
        good[..good.len() - 1].to_vec(),
        [good.as_slice(), &[0]].concat(),
        many.to_bytes(),
        scores.to_bytes(),
        vec![7; good.len()],
    ] {
        let wrong = put(&wrong).await?;
        ensure!(raw.refused(query(name, wrong)).await? == Code::BadQuery);
    }
    let batch = put(&good).await?;
    ensure!(other.refused(query(name, batch)).await? == Code::NoKey);
    ensure!(raw.refused(query(Digest::of(b"none"), batch)).await? == Code::NoKey);

    // Of the right length under a foreign key, or saying that it holds another number of patients.
    let foreign = Querier::generate(&label)?.encrypt(&rows)?.to_bytes();
    let mut lying = good.clone();
    lying[70] ^= 3;
    for wrong in [foreign, lying] {
        let wrong = put(&wrong).await?;
        match evaluate(&raw, query(name, wrong), wrong).await? {
            QueryState::Failed(refusal) => ensure!(refusal.code == Code::BadQuery, "{refusal}"),
            state => bail!("{state:?}"),
        }
    }
    // After all that, the good one.
    let QueryState::Done { answer } = evaluate(&raw, query(name, batch), batch).await? else {
        bail!("the good query is not answered");
    };
    let sink = galen_party::sinks::MemorySink::new(answer, 1 << 30);
    raw.peer.get(answer, sink.clone(), |_, _| {}).await?;
    let outputs = querier.decrypt(&sink.take(), 2)?;
    let outcomes = interface.quantised().outcomes(Reveal::Label, &outputs);
    for (row, outcome) in [[40.0, 210.0], [60.0, 180.0]].iter().zip(outcomes) {
        ensure!(outcome == interface.quantised().evaluate(Reveal::Label, row)?);
    }
    raw.peer.close();
    other.peer.close();
    Ok(())
}

/// Asks and waits for the end.
async fn evaluate(raw: &Raw, query: Request, batch: Digest) -> anyhow::Result<QueryState> {
    raw.peer.call(&query).await?;
    loop {
        match raw.peer.call(&Request::QueryStatus { batch }).await? {
            Response::Query(QueryState::Queued { .. } | QueryState::Running { .. }) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Response::Query(state) => return Ok(state),
            other => bail!("{other:?}"),
        }
    }
}
