//! Images per hour of the CryptoNets network on one full batch: `cargo bench -p galen-ckks --bench cryptonets`.
//!
//! Arguments: `--preset NAME`, `--images FILE` (uncompressed IDX, such as MNIST's test images; strokes are drawn without one),
//! `--threads N,N` (1,2 without), `--runs N` (3), `--layers` (also layer by layer, to tell their times apart; takes more
//! memory). Ends with an error if a result is not what the network computes in clear.
#![allow(clippy::print_stdout, reason = "printing is what this is for")]

mod images;
mod network;

use galen_ckks::CkksError;
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::context::Context;
use galen_ckks::keys::SecretKey;
use galen_ckks::preset::Preset;
use galen_ckks::set::{SetError, SetReader, SetWriter};
use galen_measure::{machine, peak_mib, process_time};
use galen_rns::kernel::describe;
use galen_rns::threads::Threads;
use network::{CLASSES, CryptoNets, EncryptedCryptoNets, PIXELS};
use rayon::prelude::*;
use std::error::Error;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::time::Instant;

const PRESET: &str = "real_n8192_q50_3x38_p1x50";
/// Ciphertexts that are written or read at a time.
const BLOCK: usize = 32;
/// Largest error allowed, as a part of the range of the logits.
const TOLERANCE: f64 = 1e-3;

struct Options {
    preset: String,
    images: Option<String>,
    threads: Vec<usize>,
    runs: usize,
    layers: bool,
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut options = Options {
        preset: PRESET.to_owned(),
        images: None,
        threads: vec![1, 2],
        runs: 3,
        layers: false,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--preset" => options.preset = value()?,
            "--images" => options.images = Some(value()?),
            "--threads" => options.threads = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--runs" => options.runs = value()?.parse::<usize>()?.max(1),
            "--layers" => options.layers = true,
            // What cargo adds.
            "--bench" => {}
            _ => return Err(format!("unknown argument {arg}").into()),
        }
    }
    Ok(options)
}

fn print_memory(when: &str) {
    if let Some(mib) = peak_mib() {
        println!("  {when:<44} {mib:>10.0} MiB");
    }
}

fn line(what: &str, seconds: f64) {
    println!("  {what:<44} {seconds:>10.3} s");
}

/// Encrypts one ciphertext per pixel into a file, which is what a client uploads.
fn upload(
    file: &File,
    context: &Context,
    network: &EncryptedCryptoNets,
    key: &SecretKey,
    batch: &[f64],
) -> Result<(), SetError> {
    let mut writer = SetWriter::new(BufWriter::new(file), context, key.digest(), PIXELS)?;
    let pixels: Vec<usize> = (0..PIXELS).collect();
    for block in pixels.chunks(BLOCK) {
        let cts = block
            .par_iter()
            .map(|&pixel| {
                let slots: Vec<f64> = batch.iter().skip(pixel).step_by(PIXELS).copied().collect();
                key.encrypt(&network.encode(&slots)?)
            })
            .collect::<Result<Vec<_>, CkksError>>()?;
        writer.push_block(&cts)?;
    }
    writer.finish().map(|_| ())
}

struct Comparison {
    largest: f64,
    range: f64,
    same_class: usize,
}

/// Compares decrypted logits with those of the network in clear, for every image.
fn compare(answers: &[Vec<f64>], network: &CryptoNets, batch: &[f64]) -> Result<Comparison, CkksError> {
    let clear = batch
        .par_chunks_exact(PIXELS)
        .map(|image| network.logits(image))
        .collect::<Result<Vec<_>, _>>()?;
    let (mut low, mut high, mut largest, mut same_class) = (f64::MAX, f64::MIN, 0.0f64, 0);
    for (slot, expected) in clear.iter().enumerate() {
        let got: Vec<f64> = answers.iter().map(|answer| answer[slot]).collect();
        for (x, y) in got.iter().zip(expected) {
            largest = largest.max((x - y).abs());
            (low, high) = (low.min(*y), high.max(*y));
        }
        let class = |logits: &[f64]| (0..CLASSES).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        same_class += usize::from(class(&got) == class(expected));
    }
    Ok(Comparison {
        largest,
        range: high - low,
        same_class,
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = options()?;
    println!("{}, kernels: {}", machine(), describe());
    let preset = Preset::by_name(&options.preset)?;
    let start = Instant::now();
    let context = Context::new(&preset)?;
    let model = CryptoNets::random(1)?;
    let network = EncryptedCryptoNets::new(&context, &model)?;
    let images = context.slots();
    println!(
        "{}: log2(QP) = {} of {} for 128-bit security; {images} images in a batch; {:?} multiply-adds",
        preset.name(),
        preset.log2_qp(),
        preset.security_bound().unwrap_or_default(),
        model.multiply_adds(),
    );
    let [pixel, convolution, dense] = network.scale_bits();
    println!("scales: pixels 2^{pixel:.1}, convolution 2^{convolution:.1}, dense 2^{dense:.1}");
    let batch = match &options.images {
        Some(path) => images::read_idx(path, images)?,
        None => images::strokes(images),
    };
    line("tables, plan and images", start.elapsed().as_secs_f64());

    println!("client, {} threads", rayon::current_num_threads());
    let start = Instant::now();
    let key = SecretKey::generate(&context)?;
    let relin = key.relin_key()?;
    line("keys", start.elapsed().as_secs_f64());
    let mut file = tempfile::tempfile()?;
    let start = Instant::now();
    upload(&file, &context, &network, &key, &batch)?;
    line("encode, encrypt and write", start.elapsed().as_secs_f64());
    let bytes = file.metadata()?.len();
    println!(
        "  {:<44} {:>10.1} MB, {:.0} bytes per image",
        "upload",
        bytes as f64 / 1e6,
        bytes as f64 / images as f64
    );
    print_memory("peak memory so far");

    println!("server");
    std::io::Seek::rewind(&mut file)?;
    let start = Instant::now();
    let mut reader = SetReader::new(BufReader::new(&file), &context)?;
    let mut pixels = Vec::with_capacity(PIXELS);
    while pixels.len() < reader.total() {
        pixels.extend(reader.read_block(BLOCK)?);
    }
    reader.finish()?;
    line("read upload, all cores", start.elapsed().as_secs_f64());
    let pixels: Vec<&Ciphertext> = pixels.iter().collect();
    let mut answer: Option<Vec<Ciphertext>> = None;
    for &count in &options.threads {
        let threads = Threads::new(count)?;
        let mut best: Option<(f64, Vec<(&'static str, f64)>)> = None;
        let (mut totals, mut computed) = (Vec::new(), f64::MAX);
        for _ in 0..options.runs {
            let mut stages = Vec::new();
            let (start, cpu) = (Instant::now(), process_time());
            let logits = threads.install(|| {
                let mut before = start;
                network.run(&relin, &pixels, &mut |stage| {
                    let now = Instant::now();
                    stages.push((stage, (now - before).as_secs_f64()));
                    before = now;
                })
            })?;
            let total = start.elapsed().as_secs_f64();
            totals.push(total);
            computed = computed.min((process_time() - cpu).as_secs_f64());
            if best.as_ref().is_none_or(|(seconds, _)| total < *seconds) {
                best = Some((total, stages));
            }
            match &answer {
                Some(answer) if *answer != logits => return Err("results depend on the threads".into()),
                _ => answer = Some(logits),
            }
        }
        totals.sort_unstable_by(f64::total_cmp);
        let (seconds, stages) = best.ok_or("no run")?;
        println!("{count} thread(s), best of {}", options.runs);
        stages.iter().for_each(|(stage, seconds)| line(stage, *seconds));
        line("server compute", seconds);
        line("median", totals[totals.len() / 2]);
        line("CPU time of all threads, least", computed);
        println!(
            "  {:<44} {:>10.2} million, {:.4} ms per image (median {:.2} million)",
            "images per hour",
            images as f64 * 3.6e-3 / seconds,
            seconds * 1e3 / images as f64,
            images as f64 * 3.6e-3 / totals[totals.len() / 2],
        );
    }
    let answer = answer.ok_or("no run")?;
    print_memory("peak memory of client and server together");

    let start = Instant::now();
    let logits = answer
        .par_iter()
        .map(|ct| context.decode(&key.decrypt(ct)?))
        .collect::<Result<Vec<_>, CkksError>>()?;
    println!("client");
    line("decrypt and decode", start.elapsed().as_secs_f64());
    let error = compare(&logits, &model, &batch)?;
    let stated = answer
        .iter()
        .map(|ct| ct.noise_bound() / ct.scale())
        .fold(0.0, f64::max);
    println!(
        "largest error {:.2e} over {images} images, logits range over {:.2}: {:.2e} of it; class as in clear for {}; static bound {stated:.1e}",
        error.largest,
        error.range,
        error.largest / error.range,
        error.same_class,
    );

    if options.layers {
        for &count in &options.threads {
            println!("layer by layer, {count} thread(s)");
            let start = Instant::now();
            let logits = Threads::new(count)?.install(|| {
                let mut before = start;
                network.run_layers(&relin, &pixels, &mut |stage| {
                    let now = Instant::now();
                    line(stage, (now - before).as_secs_f64());
                    before = now;
                })
            })?;
            line("server compute", start.elapsed().as_secs_f64());
            if logits != answer {
                return Err("layer by layer the result is another".into());
            }
        }
        print_memory("peak memory");
    }
    if error.largest <= TOLERANCE * error.range {
        return Ok(());
    }
    Err(format!("the error is above {TOLERANCE} of the range of the logits").into())
}
