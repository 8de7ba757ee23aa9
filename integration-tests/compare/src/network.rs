//! The CryptoNets network on a full batch, with weights and images that every library gets alike.

#[path = "../../../common/ckks/benches/cryptonets/network.rs"]
mod layers;

use crate::clock::{CLOCK, now_ns};
use crate::protocol::Network;
use anyhow::{Context as _, Result, ensure};
use galen_ckks::CkksError;
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::context::Context;
use galen_ckks::keys::SecretKey;
use galen_ckks::preset::Preset;
use galen_measure::peak_mib;
use galen_rns::threads::Threads;
use layers::{CLASSES, CryptoNets, EncryptedCryptoNets, PIXELS};
use rayon::prelude::*;
use serde::Serialize;
use std::fs;
use std::time::Instant;

const MAPS: usize = 5;
const TAPS: usize = 25;
const PLACES: usize = 13 * 13;
const HIDDEN: usize = 100;

/// What the stages cost.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    parameters: String,
    log2_qp: u32,
    security_bound: Option<u32>,
    /// What times are of.
    clock: &'static str,
    /// At the client: encode and encrypt the batch.
    encrypt_s: f64,
    /// What the client sends.
    upload_bytes: usize,
    /// At the server, in order, of the median run.
    stages_s: Vec<(&'static str, f64)>,
    /// At the server: the whole network, of the median run.
    server_s: f64,
    /// At the server: least and most of the runs.
    server_range_s: [f64; 2],
    runs: usize,
    /// At the client.
    decrypt_s: f64,
    peak_mib: Option<f64>,
}

/// CPU time with one thread, else wall clock.
struct Watch {
    wall: Option<Instant>,
    start_ns: f64,
}

impl Watch {
    fn start(threads: usize) -> Self {
        Self {
            wall: (threads > 1).then(Instant::now),
            start_ns: now_ns(),
        }
    }

    fn seconds(&self) -> f64 {
        match self.wall {
            Some(start) => start.elapsed().as_secs_f64(),
            None => (now_ns() - self.start_ns) / 1e9,
        }
    }
}

fn doubles(task: &Network, name: &str, count: usize) -> Result<Vec<f64>> {
    let path = task.folder.join(name);
    let bytes = fs::read(&path).with_context(|| format!("{}", path.display()))?;
    let (values, rest) = bytes.as_chunks::<8>();
    ensure!(
        rest.is_empty() && values.len() == count,
        "{name} has {} bytes, not {count} doubles",
        bytes.len()
    );
    Ok(values.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect())
}

/// Encrypts a batch, evaluates it, decrypts.
pub(crate) fn run(task: &Network) -> Result<Report> {
    let threads = Threads::new(task.threads)?;
    threads.install(|| run_in_pool(task))
}

fn run_in_pool(task: &Network) -> Result<Report> {
    let weights = [
        doubles(task, "conv", MAPS * TAPS)?,
        doubles(task, "dense1", HIDDEN * MAPS * PLACES)?,
        doubles(task, "dense2", CLASSES * HIDDEN)?,
    ];
    let biases = [
        doubles(task, "conv_bias", MAPS)?,
        doubles(task, "bias1", HIDDEN)?,
        doubles(task, "bias2", CLASSES)?,
    ];
    let images = doubles(task, "images", PIXELS * task.batch)?;
    let preset = Preset::new(task.parameters.spec())?;
    let context = Context::new(&preset)?;
    ensure!(
        task.batch <= context.slots(),
        "{} images do not fit in {} slots",
        task.batch,
        context.slots()
    );
    let network = EncryptedCryptoNets::new(&context, &CryptoNets::new(weights, biases)?)?;
    let key = SecretKey::generate(&context)?;
    let relin = key.relin_key()?;

    let watch = Watch::start(task.threads);
    let pixels = images
        .par_chunks_exact(task.batch)
        .map(|slots| key.encrypt(&network.encode(slots)?))
        .collect::<Result<Vec<_>, CkksError>>()?;
    let encrypt_s = watch.seconds();
    let upload_bytes = pixels.first().context("no pixels")?.to_bytes()?.len() * pixels.len();

    let pixels: Vec<&Ciphertext> = pixels.iter().collect();
    let (mut runs, mut logits) = (Vec::new(), Vec::new());
    for _ in 0..task.runs.max(1) {
        let (mut stages, mut before) = (Vec::new(), 0.0);
        let watch = Watch::start(task.threads);
        logits = network.run(&relin, &pixels, &mut |stage| {
            let now = watch.seconds();
            stages.push((stage, now - before));
            before = now;
        })?;
        runs.push((watch.seconds(), stages));
    }
    runs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let server_range_s = [runs[0].0, runs[runs.len() - 1].0];
    let (server_s, stages_s) = runs[runs.len() / 2].clone();

    let watch = Watch::start(task.threads);
    let decoded = logits
        .par_iter()
        .map(|logit| context.decode(&key.decrypt(logit)?))
        .collect::<Result<Vec<_>, CkksError>>()?;
    let decrypt_s = watch.seconds();
    let bytes: Vec<u8> = decoded
        .iter()
        .flat_map(|logit| logit.iter().take(task.batch))
        .flat_map(|value| value.to_le_bytes())
        .collect();
    fs::write(task.folder.join("logits"), bytes)?;
    Ok(Report {
        parameters: preset.name().to_owned(),
        log2_qp: preset.log2_qp(),
        security_bound: preset.security_bound(),
        clock: if task.threads > 1 { "wall clock" } else { CLOCK },
        encrypt_s,
        upload_bytes,
        stages_s,
        server_s,
        server_range_s,
        runs: runs.len(),
        decrypt_s,
        peak_mib: peak_mib(),
    })
}
