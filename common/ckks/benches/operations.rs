//! Times and sizes of the operations, one line each: `cargo bench -p galen-ckks --bench operations [-- PRESET...]`.
//!
//! One thread; least and median of the runs, in the forms that overwrite a result of the caller's. The clock is that of
//! the thread, so that other processes on the machine count only for what they take of its caches.
#![allow(clippy::print_stdout, reason = "printing is what this is for")]

use galen_ckks::CkksError;
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::context::Context;
use galen_ckks::evaluate::Evaluator;
use galen_ckks::galois::GaloisKeys;
use galen_ckks::keys::{RelinKey, SecretKey};
use galen_ckks::preset::Preset;
use galen_measure::{machine, peak_mib, thread_time};
use galen_rns::kernel::describe;
use std::hint::black_box;
use std::time::Duration;

/// Inputs of the weighted sum.
const FEATURES: usize = 30;
/// Rotations of one ciphertext.
const ROTATIONS: [i64; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
/// Time for one operation, as far as it takes less.
const PATIENCE: Duration = Duration::from_millis(400);

/// Least and median time of as many runs as there is patience for, 3 to 201.
fn time<T>(name: &str, mut run: impl FnMut() -> Result<T, CkksError>) -> Result<(), CkksError> {
    black_box(run()?);
    let mut times = Vec::new();
    let begin = thread_time();
    while times.len() < 3 || (times.len() < 201 && thread_time() - begin < PATIENCE) {
        let start = thread_time();
        black_box(run()?);
        times.push(thread_time() - start);
    }
    times.sort_unstable();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let (least, median) = (ms(times[0]), ms(times[times.len() / 2]));
    println!("  {name:<40} {least:>10.4} {median:>10.4} ms");
    Ok(())
}

fn measure(preset: &Preset) -> Result<(), CkksError> {
    let bound = preset.security_bound().unwrap_or_default();
    println!(
        "{}: log2(QP) = {} of {bound} for 128-bit security; {} digits",
        preset.name(),
        preset.log2_qp(),
        (preset.max_level() + 1).div_ceil(preset.spec().digit)
    );
    println!("  {:<40} {:>10} {:>10}", "", "least", "median");
    time("tables", || Context::new(preset))?;
    let ctx = Context::new(preset)?;
    let sk = SecretKey::generate(&ctx)?;
    let pk = sk.public_key()?;
    let rlk = sk.relin_key()?;
    let galois = sk.galois_keys(&ROTATIONS)?;
    let ev = Evaluator::new(&ctx);
    let values: Vec<f64> = (0..ctx.slots()).map(|i| (i % 200) as f64 / 100.0 - 1.0).collect();
    let mut plain = ctx.encode(&values, 1.0)?;
    let (ct, mut public) = (sk.encrypt(&plain)?, pk.encrypt(&plain)?);
    let mut out = ev.empty();

    time("relinearisation key", || sk.relin_key())?;
    time("Galois key", || sk.galois_keys(&[1]))?;
    time("encode", || ctx.encode(&values, 1.0))?;
    time("decode", || ctx.decode(&plain))?;
    time("encrypt, secret key", || sk.encrypt_into(&plain, &mut out))?;
    time("encrypt, public key", || pk.encrypt_into(&plain, &mut public))?;
    let same = plain.clone();
    time("decrypt", || sk.decrypt_into(&public, &mut plain))?;
    let plain = same;
    time("add", || ev.add_into(&ct, &public, &mut out))?;
    products(&ev, &ct, &public, &plain, &rlk)?;
    rotations(&ev, &public, &galois)?;
    sums(&ev, &sk, &plain)?;
    codec(&ctx, &ct, &public, &rlk)?;
    let one_key = sk.galois_keys(&[1])?.to_bytes()?.len();
    println!("  {:<40} {:>10} bytes", "public key", pk.to_bytes()?.len());
    println!("  {:<40} {one_key:>10} bytes", "Galois key");
    match peak_mib() {
        Some(mib) => println!("  {:<40} {mib:>10.0} MiB", "peak memory of the process so far"),
        None => println!("  peak memory is not known here"),
    }
    Ok(())
}

fn products(
    ev: &Evaluator,
    ct: &Ciphertext,
    public: &Ciphertext,
    plain: &galen_ckks::ciphertext::Plaintext,
    rlk: &RelinKey,
) -> Result<(), CkksError> {
    let (mut out, mut out2) = (ev.empty(), ev.empty());
    let target = ev.context().product_target(ct.level())?;
    time("ct x plaintext", || ev.mul_plain_into(public, plain, &mut out))?;
    time("ct x plaintext, rescale", || {
        ev.mul_plain_rescale_into(public, plain, &mut out)
    })?;
    time("ct x scalar", || {
        ev.mul_scalar_into(public, 0.3, target, &mut out)
    })?;
    time("ct x ct, degree 2", || ev.multiply_into(ct, public, &mut out))?;
    time("relinearise", || ev.relinearise_into(&out, rlk, &mut out2))?;
    time("rescale", || ev.rescale_into(&out2, &mut out))?;
    time("ct x ct, relinearise, rescale", || {
        ev.multiply_relin_rescale_into(ct, public, rlk, &mut out)
    })?;
    time("square, relinearise, rescale", || {
        ev.square_relin_rescale_into(public, rlk, &mut out)
    })
}

fn rotations(ev: &Evaluator, ct: &Ciphertext, keys: &GaloisKeys) -> Result<(), CkksError> {
    let mut out = ev.empty();
    time("rotate by 1", || ev.rotate_into(ct, 1, keys, &mut out))?;
    let mut hoisted = ev.empty_hoisted();
    time("hoist", || ev.hoist_into(ct, &mut hoisted))?;
    time("rotate by 1, hoisted", || {
        ev.rotate_from_into(&hoisted, 1, keys, &mut out)
    })?;
    let mut sum = ev.empty_extended();
    time("rotate by 1 without division", || {
        ev.rotate_extended_into(&hoisted, 1, keys, &mut sum)
    })?;
    let mut outputs = Vec::new();
    time(&format!("{} rotations", ROTATIONS.len()), || {
        ev.rotate_hoisted_into(ct, &ROTATIONS, keys, &mut outputs)
    })
}

fn sums(ev: &Evaluator, sk: &SecretKey, plain: &galen_ckks::ciphertext::Plaintext) -> Result<(), CkksError> {
    let inputs = (0..FEATURES)
        .map(|_| sk.encrypt(plain))
        .collect::<Result<Vec<_>, _>>()?;
    let inputs: Vec<_> = inputs.iter().collect();
    let weights: Vec<f64> = (0..FEATURES).map(|k| k as f64 / 100.0 - 0.1).collect();
    let rows = vec![weights.as_slice(); FEATURES];
    let target = ev.context().product_target(plain.level())?;
    time(&format!("weighted sum of {FEATURES}"), || {
        ev.mac_scalars(&inputs, &weights, target)
    })?;
    time(&format!("layer {FEATURES} x {FEATURES}"), || {
        ev.linear(&inputs, &rows, target)
    })
}

fn codec(
    ctx: &std::sync::Arc<Context>,
    ct: &Ciphertext,
    public: &Ciphertext,
    rlk: &RelinKey,
) -> Result<(), CkksError> {
    let bytes = public.to_bytes()?;
    time("serialise", || public.to_bytes())?;
    time("deserialise", || Ciphertext::from_bytes(ctx, &bytes))?;
    for (name, length) in [
        ("relinearisation key", rlk.to_bytes()?.len()),
        ("ciphertext, secret key", ct.to_bytes()?.len()),
        ("ciphertext, public key", bytes.len()),
    ] {
        println!("  {name:<40} {length:>10} bytes");
    }
    Ok(())
}

fn main() -> Result<(), CkksError> {
    let names: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    println!("{}", machine());
    println!("kernels: {}; one thread", describe());
    for preset in Preset::all() {
        if names.is_empty() || names.iter().any(|name| name == preset.name()) {
            measure(&preset)?;
        }
    }
    Ok(())
}
