//! Models for the query service, and members that speak to it by themselves.

use crate::scene::Scene;
use anyhow::{Context, bail, ensure};
use galen_core::{Code, Digest, Signed};
use galen_models::random::Stream;
use galen_models::{Model, ModelFile, ModelSpec, Range, Standardisation};
use galen_net::protocol::{BlobKind, Request, Response};
use galen_net::{Client, Identity, NetError, Peer, Tuning};
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// A network on three features with random weights: two classes, inputs standardised.
pub fn tabular(seed: u64) -> anyhow::Result<ModelFile> {
    let spec: ModelSpec = toml::from_str(
        r#"
        input = 3
        layers = [{ dense = { outputs = 4 } }, "square", { dense = { outputs = 1 } }]"#,
    )?;
    let mut file = ModelFile::from(Model::initial(spec, seed)?);
    file.annotations.title = "illness".into();
    file.annotations.classes = vec!["well".into(), "ill".into()];
    file.annotations.inputs = vec![Range::new(-4.0, 4.0)];
    file.annotations.standardisation = Some(Standardisation {
        mean: vec![50.0, 0.5, 200.0],
        std: vec![10.0, 0.5, 50.0],
    });
    Ok(file)
}

/// A deeper network on three features, which takes a larger preset.
pub fn deep() -> anyhow::Result<ModelFile> {
    let spec: ModelSpec = toml::from_str(
        r#"
        input = 3
        layers = [
            { dense = { outputs = 2 } },
            "square",
            { dense = { outputs = 2 } },
            "square",
            { dense = { outputs = 2 } },
        ]"#,
    )?;
    let mut file = ModelFile::from(Model::initial(spec, 5)?);
    file.annotations.inputs = vec![Range::new(-1.0, 1.0)];
    Ok(file)
}

/// A network of ReLU on three features with random weights, which only tables compute: two classes, inputs standardised.
pub fn rectified(seed: u64) -> anyhow::Result<ModelFile> {
    let spec: ModelSpec = toml::from_str(
        r#"
        input = 3
        layers = [{ dense = { outputs = 3 } }, "relu", { dense = { outputs = 1 } }]"#,
    )?;
    let annotations = tabular(seed)?.annotations;
    let mut file = ModelFile::from(Model::initial(spec, seed)?);
    file.annotations = annotations;
    Ok(file)
}

/// A network on small images with random weights and recorded ranges.
pub fn image() -> anyhow::Result<ModelFile> {
    recorded(
        r#"
        input = [1, 6, 6]
        layers = [
            { conv2d = { channels = 2, kernel = 3, stride = 2 } },
            "square",
            "flatten",
            { dense = { outputs = 3 } },
        ]"#,
    )
}

/// A network of two convolutions on images of 12 x 12, of which more is held at one time than any one task reads and writes.
pub fn larger_image() -> anyhow::Result<ModelFile> {
    recorded(
        r#"
        input = [1, 12, 12]
        layers = [
            { conv2d = { channels = 8, kernel = 3 } },
            "square",
            { average_pool = { kernel = 2 } },
            { conv2d = { channels = 8, kernel = 1 } },
            "square",
            "flatten",
            { dense = { outputs = 3 } },
        ]"#,
    )
}

/// A network of random weights that has seen eight images.
fn recorded(network: &str) -> anyhow::Result<ModelFile> {
    let spec: ModelSpec = toml::from_str(network)?;
    let inputs = spec.inputs();
    let mut file = ModelFile::from(Model::initial(spec, 3)?);
    let mut stream = Stream::new("served images", 1, &[]);
    let rows: Vec<Vec<f64>> = (0..8)
        .map(|_| (0..inputs).map(|_| stream.unit()).collect())
        .collect();
    file.record(&rows)?;
    file.annotations.inputs = vec![Range::new(0.0, 1.0)];
    Ok(file)
}

/// A CSV file of patients `p0`, `p1` and so on for the tabular network, and its schema; returns both paths and the standardised rows.
pub fn patients(
    file: &ModelFile,
    dir: &Path,
    count: usize,
) -> anyhow::Result<(PathBuf, PathBuf, Vec<Vec<f64>>)> {
    let mut stream = Stream::new("served patients", count as u64, &[]);
    let (mut text, mut rows) = (String::from("id,chol,age,sex\n"), Vec::with_capacity(count));
    for patient in 0..count {
        let age = (30.0 + 40.0 * stream.unit()).round();
        let sex = stream.below(2);
        let chol = (120.0 + 160.0 * stream.unit()).round();
        text.push_str(&format!("p{patient},{chol},{age},{sex}\n"));
        let mut row = vec![age, sex as f64, chol];
        let standardisation = file.annotations.standardisation.as_ref();
        standardisation
            .context("no statistics")?
            .apply(file.model.spec().input, &mut row);
        rows.push(row);
    }
    let (csv, schema) = (dir.join("patients.csv"), dir.join("schema.toml"));
    std::fs::write(&csv, text)?;
    std::fs::write(
        &schema,
        r#"
        input = 3
        elements = ["age", "sex", "chol"]
        target = { binary = { negative = "well", positive = "ill" } }
        source = { patient = "id" }"#,
    )?;
    Ok((csv, schema, rows))
}

/// A connection with a hospital's keys, on which anything can be said.
pub struct Raw {
    /// The connection.
    pub peer: Peer,
}

impl Raw {
    /// Connects as a hospital.
    pub async fn connect(scene: &Scene, party: &str) -> anyhow::Result<Self> {
        let home = scene.home(party);
        let identity = Identity::load(&home.join("keys"))?;
        let frozen = scene.frozen();
        let client = Client::new(
            scene.address().to_string(),
            &identity,
            frozen.coordinator().certificate,
            frozen.digest(),
            Tuning::default(),
        )?;
        let peer = client.connect_patiently(|_, _| {}).await?;
        let consent: Signed = postcard::from_bytes(&std::fs::read(home.join("consent.bin"))?)?;
        ensure!(
            peer.call(&Request::Hello { consent }).await? == Response::Ok,
            "the consent was not accepted"
        );
        Ok(Self { peer })
    }

    /// Sends a blob.
    pub async fn put(&self, kind: BlobKind, bytes: &[u8]) -> Result<Digest, NetError> {
        let digest = Digest::of(bytes);
        let (len, bytes) = (bytes.len() as u64, bytes.to_vec());
        let open = move |offset: u64| {
            let mut cursor = Cursor::new(bytes.clone());
            cursor.set_position(offset);
            Ok(cursor)
        };
        self.peer.put(digest, len, kind, open, |_, _| {}).await?;
        Ok(digest)
    }

    /// The code with which a request is refused.
    pub async fn refused(&self, request: Request) -> anyhow::Result<Code> {
        code(self.peer.call(&request).await)
    }
}

/// The code of a refusal, which this must be.
pub fn code<T: std::fmt::Debug>(answer: Result<T, NetError>) -> anyhow::Result<Code> {
    match answer {
        Err(NetError::Refused(refusal)) => Ok(refusal.code),
        other => bail!("not refused: {other:?}"),
    }
}
