//! Times and sizes of the operations, one line each: `cargo bench -p galen-ckks [-- PRESET...]`.
#![allow(clippy::print_stdout, reason = "printing is what this is for")]

use galen_ckks::CkksError;
use galen_ckks::context::Context;
use galen_ckks::evaluate::Evaluator;
use galen_ckks::keys::SecretKey;
use galen_ckks::preset::Preset;
use std::hint::black_box;
use std::time::Instant;

/// Inputs of the weighted sum.
const FEATURES: usize = 30;

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split(": ").nth(1))
            .unwrap_or("unknown")
            .to_owned()
    };
    let ifma = if field("flags").contains("avx512ifma") {
        "with"
    } else {
        "without"
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{}, {cores} cores, {ifma} AVX-512 IFMA; one thread is used",
        field("model name")
    )
}

/// Median of `runs` runs.
fn time<T>(name: &str, runs: usize, mut run: impl FnMut() -> Result<T, CkksError>) -> Result<(), CkksError> {
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let start = Instant::now();
        black_box(run()?);
        times.push(start.elapsed());
    }
    times.sort_unstable();
    println!("  {name:<34} {:>10.3} ms", times[runs / 2].as_secs_f64() * 1e3);
    Ok(())
}

fn measure(preset: &Preset) -> Result<(), CkksError> {
    let bound = preset.security_bound().unwrap_or_default();
    println!("{}: log2(QP) = {} of {bound}", preset.name(), preset.log2_qp());
    let start = Instant::now();
    let ctx = Context::new(preset)?;
    println!(
        "  {:<34} {:>10.3} ms",
        "tables",
        start.elapsed().as_secs_f64() * 1e3
    );
    let sk = SecretKey::generate(&ctx)?;
    let pk = sk.public_key()?;
    let rlk = sk.relin_key()?;
    let ev = Evaluator::new(&ctx);
    let level = ctx.max_level();
    let target = ctx.product_target(level)?;
    let values: Vec<f64> = (0..ctx.slots()).map(|i| (i % 200) as f64 / 100.0 - 1.0).collect();
    let plain = ctx.encode(&values, 1.0)?;
    let ct = sk.encrypt(&plain)?;
    let public = pk.encrypt(&plain)?;
    let inputs = (0..FEATURES)
        .map(|_| sk.encrypt(&plain))
        .collect::<Result<Vec<_>, _>>()?;
    let inputs: Vec<_> = inputs.iter().collect();
    let weights: Vec<f64> = (0..FEATURES).map(|k| k as f64 / 100.0 - 0.1).collect();
    let rows = vec![weights.as_slice(); FEATURES];
    let square = ev.square(&ct)?;
    let product = ev.relinearise(&square, &rlk)?;

    time("relinearisation key", 5, || sk.relin_key())?;
    time("encode", 21, || ctx.encode(&values, 1.0))?;
    time("decode", 21, || ctx.decode(&plain))?;
    time("encrypt, secret key", 21, || sk.encrypt(&plain))?;
    time("encrypt, public key", 21, || pk.encrypt(&plain))?;
    time("decrypt", 21, || sk.decrypt(&ct))?;
    time(&format!("weighted sum of {FEATURES}"), 21, || {
        ev.mac_scalars(&inputs, &weights, target)
    })?;
    time(&format!("layer {FEATURES} x {FEATURES}"), 3, || {
        ev.linear(&inputs, &rows, target)
    })?;
    time("add", 21, || ev.add(&ct, &public))?;
    time("square", 21, || ev.square(&ct))?;
    time("relinearise", 21, || ev.relinearise(&square, &rlk))?;
    time("rescale", 21, || ev.rescale(&product))?;
    time("square, relinearise, rescale", 21, || {
        ev.rescale(&ev.relinearise(&ev.square(&ct)?, &rlk)?)
    })?;
    let bytes = ct.to_bytes()?;
    time("serialise, secret key", 21, || ct.to_bytes())?;
    time("deserialise, secret key", 21, || {
        galen_ckks::ciphertext::Ciphertext::from_bytes(&ctx, &bytes)
    })?;

    let answer = ev.drop_level(&public, 0)?;
    for (name, length) in [
        ("public key", pk.to_bytes()?.len()),
        ("relinearisation key", rlk.to_bytes()?.len()),
        ("ciphertext, secret key", bytes.len()),
        ("ciphertext, public key", public.to_bytes()?.len()),
        ("answer at level 0", answer.to_bytes()?.len()),
    ] {
        println!("  {name:<34} {length:>10} bytes");
    }
    Ok(())
}

fn main() -> Result<(), CkksError> {
    let names: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    println!("{}", machine());
    for preset in Preset::all() {
        if names.is_empty() || names.iter().any(|name| name == preset.name()) {
            measure(&preset)?;
        }
    }
    Ok(())
}
