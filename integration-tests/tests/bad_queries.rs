//! Queries that are not what they should be: refused with their codes, and the next good one is answered.

use anyhow::{Context, bail, ensure};
use galen_core::{Code, Digest};
use galen_inference::{Interface, Querier};
use galen_integration_tests::federation::COORDINATOR;
use galen_integration_tests::scene::{Scene, small_heart};
use galen_integration_tests::served::{Raw, code, deep, tabular};
use galen_net::protocol::{BlobKind, KeyState, QueryState, Request, Response};
use std::time::Duration;

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_quickstart");

/// What an asker has of a model.
struct Asked {
    version: Digest,
    querier: Querier,
    key: Vec<u8>,
}

async fn offers(raw: &Raw) -> anyhow::Result<Vec<(String, Digest)>> {
    match raw.peer.call(&Request::Models).await? {
        Response::Models(models) => Ok(models.into_iter().map(|m| (m.name, m.version)).collect()),
        other => bail!("{other:?}"),
    }
}

async fn asked(raw: &Raw, scene: &Scene, name: &str) -> anyhow::Result<Asked> {
    let offers = offers(raw).await?;
    let (_, version) = offers.iter().find(|(n, _)| n == name).context("not offered")?;
    // Compiled here too, which gives the same interface.
    let bytes = std::fs::read(scene.dir().join(format!("{name}.safetensors")))?;
    let file = galen_models::ModelFile::from_safetensors(&bytes)?;
    let program = galen_inference::Program::compile_file(&file, 8)?;
    let interface = program.interface().to_bytes()?;
    ensure!(Digest::of(&interface) == *version, "another version is offered");
    let querier = Querier::generate(&Interface::from_bytes(&interface)?)?;
    let key = querier.serving_key()?.to_bytes()?;
    Ok(Asked {
        version: *version,
        querier,
        key,
    })
}

/// Asks and waits for the end.
async fn evaluate(raw: &Raw, model: Digest, key: Digest, batch: Digest) -> anyhow::Result<QueryState> {
    raw.peer.call(&Request::Query { model, key, batch }).await?;
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

#[test]
fn bad_queries_are_refused_and_the_service_goes_on() -> anyhow::Result<()> {
    let mut scene = Scene::new(EXECUTABLE, &small_heart(60)?)?;
    scene.start(COORDINATOR)?;
    for (name, file) in [("heart", tabular(1)?), ("deep", deep()?)] {
        let path = scene.dir().join(format!("{name}.safetensors"));
        std::fs::write(&path, file.to_safetensors()?)?;
        scene.run(
            COORDINATOR,
            &["model", "add", &path.to_string_lossy(), "--name", name],
        )?;
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(ask_badly(&scene))?;
    // The daemon is the same process all along, and says what happened.
    let asker: galen_core::PartyId = "zurich".parse()?;
    scene.wait_for("the figures are those of what was asked", |_, snapshot| {
        let status = snapshot.coordinator.as_ref();
        let counts = status.and_then(|status| status.queries_by_party.get(&asker));
        Ok(counts.is_some_and(|counts| (counts.failed, counts.done) == (4, 1)))
    })?;
    scene.end()
}

async fn ask_badly(scene: &Scene) -> anyhow::Result<()> {
    let (raw, other) = (
        Raw::connect(scene, "zurich").await?,
        Raw::connect(scene, "budapest").await?,
    );
    let heart = asked(&raw, scene, "heart").await?;
    let deep = asked(&raw, scene, "deep").await?;
    ensure!(
        heart.querier.interface().preset() != deep.querier.interface().preset(),
        "the models are to have different presets"
    );
    let batch = heart.querier.encrypt_batch(&[[0.5, -0.5, 1.0]])?.to_bytes()?;
    let good = raw.put(BlobKind::Batch, &batch).await?;
    let nothing = Digest::of(b"nothing");
    let query = |model, key, batch| Request::Query { model, key, batch };

    // Keys that are none, are cut short, or do not belong together.
    let refused_key = async |bytes: &[u8]| -> anyhow::Result<Code> {
        let key = raw.put(BlobKind::EvaluationKey, bytes).await?;
        raw.refused(Request::KeyStatus { key }).await
    };
    ensure!(refused_key(b"no key").await? == Code::BadQuery);
    ensure!(refused_key(&heart.key[..heart.key.len() - 1]).await? == Code::BadQuery);
    let stranger = Querier::generate(heart.querier.interface())?;
    let strange = stranger.serving_key()?.to_bytes()?;
    // The second half is an object of its own.
    let magic = heart.key.first_chunk::<4>().context("an empty key")?;
    let half = 1 + heart
        .key
        .windows(4)
        .skip(1)
        .position(|w| w == magic)
        .context("one half")?;
    ensure!(refused_key(&[&heart.key[..half], &strange[half..]].concat()).await? == Code::BadQuery);
    // No key at all, and that of another preset.
    ensure!(raw.refused(query(heart.version, nothing, good)).await? == Code::NoKey);
    let other_preset = raw.put(BlobKind::EvaluationKey, &deep.key).await?;
    ensure!(raw.refused(query(heart.version, other_preset, good)).await? == Code::BadQuery);

    let key = raw.put(BlobKind::EvaluationKey, &heart.key).await?;
    let state = raw.peer.call(&Request::KeyStatus { key }).await?;
    ensure!(state == Response::Key(KeyState::Present), "{state:?}");
    // Another version, no batch, another party's batch and key.
    ensure!(raw.refused(query(nothing, key, good)).await? == Code::UnknownModel);
    ensure!(raw.refused(query(heart.version, key, nothing)).await? == Code::BlobUnknown);
    ensure!(other.refused(query(heart.version, key, good)).await? == Code::NoKey);
    let theirs = other.put(BlobKind::EvaluationKey, &strange).await?;
    ensure!(other.refused(query(heart.version, theirs, good)).await? == Code::BlobUnknown);
    ensure!(other.refused(Request::QueryStatus { batch: good }).await? == Code::BlobUnknown);

    // Too long for a batch at all, and too long or short for this model's.
    let huge = raw.peer.put(
        nothing,
        1 << 40,
        BlobKind::Batch,
        |_| Ok(std::io::empty()),
        |_, _| {},
    );
    ensure!(code(huge.await)? == Code::BlobTooLarge);
    for wrong in [
        batch[..batch.len() - 1].to_vec(),
        [batch.as_slice(), &[0]].concat(),
    ] {
        let wrong = raw.put(BlobKind::Batch, &wrong).await?;
        ensure!(raw.refused(query(heart.version, key, wrong)).await? == Code::BadQuery);
    }

    // Of the right length: no ciphertexts, another preset in the header, damaged, under a foreign key.
    let mut relabelled = batch.clone();
    relabelled[7..39].copy_from_slice(&deep.key[7..39]);
    let mut damaged = batch.clone();
    // A level that no input has.
    damaged[43 + 32] ^= 1;
    let foreign = stranger.encrypt_batch(&[[0.5, -0.5, 1.0]])?.to_bytes()?;
    for wrong in [vec![7; batch.len()], relabelled, damaged, foreign] {
        let wrong = raw.put(BlobKind::Batch, &wrong).await?;
        match evaluate(&raw, heart.version, key, wrong).await? {
            QueryState::Failed(refusal) => ensure!(refusal.code == Code::BadQuery, "{refusal}"),
            state => bail!("{state:?}"),
        }
    }

    // After all that, the good one; its answer is only for its asker, and goes when it was fetched.
    let QueryState::Done { answer } = evaluate(&raw, heart.version, key, good).await? else {
        bail!("the good query is not answered");
    };
    let fetched = async |raw: &Raw| {
        let sink = galen_party::sinks::MemorySink::new(answer, 1 << 30);
        raw.peer.get(answer, sink.clone(), |_, _| {}).await?;
        Ok::<_, galen_net::NetError>(sink.take())
    };
    ensure!(code(fetched(&other).await)? == Code::BlobForbidden);
    let bytes = fetched(&raw).await?;
    ensure!(heart.querier.outputs(&bytes, 1)?.len() == 1);
    ensure!(other.refused(Request::Acknowledge { batch: good }).await? == Code::BlobUnknown);
    ensure!(raw.peer.call(&Request::Acknowledge { batch: good }).await? == Response::Ok);
    ensure!(code(fetched(&raw).await)? == Code::BlobUnknown);

    // A key that takes the place of an earlier one makes that stale.
    let newer = raw.put(BlobKind::EvaluationKey, &strange).await?;
    let state = async |key| raw.peer.call(&Request::KeyStatus { key }).await;
    ensure!(state(newer).await? == Response::Key(KeyState::Present));
    ensure!(state(key).await? == Response::Key(KeyState::Stale));
    let batch = heart.querier.encrypt_batch(&[[0.0, 0.0, 0.0]])?.to_bytes()?;
    let batch = raw.put(BlobKind::Batch, &batch).await?;
    ensure!(raw.refused(query(heart.version, key, batch)).await? == Code::NoKey);
    raw.peer.close();
    other.peer.close();
    Ok(())
}
