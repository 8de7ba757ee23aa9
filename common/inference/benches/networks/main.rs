//! Encrypted networks on images: what a full batch costs, and whether it is right: `cargo bench -p galen-inference --bench networks`.
//!
//! Arguments: `--network NAME,NAME` (cryptonets, mnist, cifar; the first two without), `--model FILE` (a model file with recorded ranges in place of
//! those), `--images FILE` (uncompressed IDX, as many pixels as the network takes; noise without one), `--bits N` (precision of the logits after the
//! binary point, 8 without), `--threads N,N` (1,2 without), `--packing slots|packed|both` (a patient in every slot, few patients in
//! one ciphertext; slots without; of a packed one the first evaluation, which encodes matrices, is told apart). Named networks have random weights of the size that training starts from, so their
//! figures are of time, memory and precision, and not of accuracy. Ends with an error if an answer is not what the network computes in clear.
#![allow(clippy::print_stdout, reason = "printing is what this is for")]

use galen_ckks::codec::CiphertextSet;
use galen_inference::{Precision, Program, Querier};
use galen_measure::{machine, peak_mib, process_time};
use galen_models::random::Stream;
use galen_models::{Model, ModelFile, ModelSpec, Range};
use galen_rns::kernel::describe;
use galen_rns::threads::Threads;
use std::error::Error;
use std::time::Instant;

/// The networks that have names.
const NETWORKS: [(&str, &str); 3] = [
    ("cryptonets", include_str!("cryptonets.toml")),
    ("mnist", include_str!("mnist.toml")),
    ("cifar", include_str!("cifar.toml")),
];
/// Images on which activations are recorded, and patients whose answers are compared.
const LOOKED_AT: usize = 64;

struct Options {
    networks: Vec<String>,
    model: Option<String>,
    images: Option<String>,
    bits: u32,
    threads: Vec<usize>,
    packing: String,
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut options = Options {
        networks: vec!["cryptonets".to_owned(), "mnist".to_owned()],
        model: None,
        images: None,
        bits: 8,
        threads: vec![1, 2],
        packing: "slots".to_owned(),
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--network" => options.networks = value()?.split(',').map(str::to_owned).collect(),
            "--model" => options.model = Some(value()?),
            "--images" => options.images = Some(value()?),
            "--bits" => options.bits = value()?.parse()?,
            "--threads" => options.threads = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--packing" => options.packing = value()?,
            // What cargo adds.
            "--bench" => {}
            _ => return Err(format!("unknown argument {arg}").into()),
        }
    }
    Ok(options)
}

/// Rows of pixels between 0 and 1, `count` of them.
fn images(file: Option<&str>, pixels: usize, count: usize) -> Result<Vec<Vec<f64>>, Box<dyn Error>> {
    let Some(file) = file else {
        let mut stream = Stream::new("networks benchmark", 1, &[]);
        let mut row = || (0..pixels).map(|_| stream.unit()).collect();
        return Ok((0..count).map(|_| row()).collect());
    };
    const HEAD: usize = 16;
    let bytes = std::fs::read(file).map_err(|error| format!("{file}: {error}"))?;
    let all = bytes.get(HEAD..).unwrap_or_default();
    if all.len() < pixels {
        return Err(format!("{file} has no image of {pixels} pixels").into());
    }
    let rows = all.chunks_exact(pixels).cycle().take(count);
    Ok(rows
        .map(|row| row.iter().map(|&p| f64::from(p) / 255.0).collect())
        .collect())
}

/// A network with random weights and the ranges of its activations on some images.
fn named(name: &str, seen: Option<&str>) -> Result<ModelFile, Box<dyn Error>> {
    let (_, text) = NETWORKS
        .iter()
        .find(|(known, _)| *known == name)
        .ok_or(format!("no network is called {name}"))?;
    let spec: ModelSpec = toml::from_str(text)?;
    let rows = images(seen, spec.inputs(), LOOKED_AT)?;
    let mut file = ModelFile::from(Model::initial(spec, 1)?);
    file.record(&rows)?;
    file.annotations.inputs = vec![Range::new(0.0, 1.0)];
    Ok(file)
}

fn measure(name: &str, file: &ModelFile, options: &Options) -> Result<(), Box<dyn Error>> {
    let (slots, packed) = match options.packing.as_str() {
        "slots" => (true, false),
        "packed" => (false, true),
        "both" => (true, true),
        other => return Err(format!("no packing is called {other}").into()),
    };
    if slots {
        let begin = Instant::now();
        let program = Program::compile_file(file, options.bits)?;
        measure_program(name, file, options, program, begin)?;
    }
    if packed {
        let begin = Instant::now();
        let program = Program::compile_packed(file, options.bits, u64::MAX)?;
        measure_program(&format!("{name}, packed"), file, options, program, begin)?;
    }
    Ok(())
}

fn measure_program(
    name: &str,
    file: &ModelFile,
    options: &Options,
    program: Program,
    begin: Instant,
) -> Result<(), Box<dyn Error>> {
    let plan = program.plan();
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    println!(
        "\n{name}: {} parameters, compiled in {:.2} s",
        file.model.params().len(),
        begin.elapsed().as_secs_f64()
    );
    println!(
        "  {} (N = {}, log2 QP = {} of {} at 128-bit security), {} levels, {} patients in a batch",
        plan.preset, plan.degree, plan.log2_qp, plan.security_bound, plan.levels, plan.max_patients
    );
    println!(
        "  {} squares, {} relinearisations, {} scalar products, {} products with plaintexts, {} rotations; batch {:.2} MiB, key {:.1} MiB, answer {:.2} MiB, at most {:.0} MiB at a time",
        plan.squares,
        plan.relinearisations,
        plan.multiply_adds,
        plan.products,
        plan.rotations,
        mib(plan.batch_bytes),
        mib(plan.serving_key_bytes),
        mib(plan.answer_bytes),
        plan.peak_bytes as f64 / f64::from(1 << 20)
    );
    let promised = match plan.precision {
        Precision::Guaranteed => "guaranteed",
        Precision::Expected => "expected",
    };
    println!(
        "  {:.1} bits after the binary point {promised}",
        plan.precision_bits
    );

    let patients = plan.max_patients;
    let rows = images(options.images.as_deref(), file.model.spec().inputs(), patients)?;
    let querier = Querier::generate(program.interface())?;
    let key = querier.serving_key()?;
    let begin = Instant::now();
    let batch = querier.encrypt_batch(&rows)?;
    println!("  encrypted in {:.2} s", begin.elapsed().as_secs_f64());
    if plan.kept_bytes > 0 {
        let begin = Instant::now();
        program.run(&key, batch.ciphertexts(), &mut |_, _| {})?;
        println!(
            "  {:.0} MiB of matrices are encoded with the first evaluation: {:.2} s",
            plan.kept_bytes as f64 / f64::from(1 << 20),
            begin.elapsed().as_secs_f64()
        );
    }
    for &threads in &options.threads {
        let (begin, cpu) = (Instant::now(), process_time());
        let answers =
            Threads::new(threads)?.install(|| program.run(&key, batch.ciphertexts(), &mut |_, _| {}))?;
        let (wall, cpu) = (
            begin.elapsed().as_secs_f64(),
            (process_time() - cpu).as_secs_f64(),
        );
        let hourly = |seconds: f64| patients as f64 * 3600.0 / seconds;
        println!(
            "  {threads} thread(s): {wall:.2} s ({cpu:.2} s of processor time), {:.4} ms an image, {:.3} million images an hour",
            1e3 * wall / patients as f64,
            hourly(wall) / 1e6
        );
        let answer = CiphertextSet::new(answers)?.to_bytes()?;
        let outputs = querier.outputs(&answer, patients)?;
        let looked_at = rows.len().min(LOOKED_AT);
        let expected = file.model.forward(&rows[..looked_at])?;
        let pairs = || outputs.iter().flatten().zip(expected.rows().flatten());
        let error = pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let logits = pairs().fold(Range::EMPTY, |mut range, (_, b)| {
            range.include(*b);
            range
        });
        println!(
            "  largest error of {looked_at} patients {error:.2e}, {:.1e} of the range of the logits",
            error / (logits.max - logits.min)
        );
        // Half a step of rounding, and the noise that was asked for.
        if error > 1.5 * (-f64::from(options.bits)).exp2() {
            return Err(format!("{name}: an answer is off by {error}").into());
        }
    }
    if let Some(peak) = peak_mib() {
        println!("  peak memory so far, querier and coordinator together: {peak:.0} MiB");
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = options()?;
    println!("{}; {}", machine(), describe());
    if let Some(path) = &options.model {
        let bytes = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
        return measure(path, &ModelFile::from_safetensors(&bytes)?, &options);
    }
    for name in &options.networks {
        measure(name, &named(name, options.images.as_deref())?, &options)?;
    }
    Ok(())
}
