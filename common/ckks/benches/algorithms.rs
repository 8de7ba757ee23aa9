//! Times of the algorithms over the evaluator: `cargo bench -p galen-ckks --bench algorithms [-- PART...]`, where a part is
//! `polynomial`, `transform`, `sum`, `packed` or `batch`.
//!
//! One thread unless `GALEN_THREADS` says otherwise. Each line has the least and the median time of the runs, and the mean that
//! the thread was on a processor.
#![allow(clippy::print_stdout, reason = "printing is what this is for")]

use galen_ckks::CkksError;
use galen_ckks::context::Context;
use galen_ckks::evaluate::Evaluator;
use galen_ckks::inner_sum;
use galen_ckks::keys::SecretKey;
use galen_ckks::matmul::{CiphertextMatrix, PackedProduct};
use galen_ckks::polynomial::Polynomial;
use galen_ckks::preset::Preset;
use galen_ckks::transform::LinearTransform;
use galen_measure::{machine, peak_mib, thread_time};
use galen_rns::kernel::describe;
use galen_rns::threads::Threads;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time for one line, as far as it takes less.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Least and median time of as many runs as there is patience for, 3 to 101, and the mean time of this thread on a processor.
fn time<T>(name: &str, mut run: impl FnMut() -> Result<T, CkksError>) -> Result<(), CkksError> {
    black_box(run()?);
    let mut times = Vec::new();
    let (begin, processor) = (Instant::now(), thread_time());
    while times.len() < 3 || (times.len() < 101 && begin.elapsed() < PATIENCE) {
        let start = Instant::now();
        black_box(run()?);
        times.push(start.elapsed());
    }
    let own = (thread_time() - processor) / times.len() as u32;
    times.sort_unstable();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let (least, median) = (ms(times[0]), ms(times[times.len() / 2]));
    println!("  {name:<58} {least:>10.3} {median:>10.3} {:>10.3} ms", ms(own));
    Ok(())
}

/// A preset with its key, announced with its security.
struct Setting {
    context: Arc<Context>,
    ev: Evaluator,
    key: SecretKey,
}

impl Setting {
    fn new(name: &str) -> Result<Self, CkksError> {
        let preset = Preset::by_name(name)?;
        let bound = preset.security_bound().unwrap_or_default();
        println!("{name}: log2(QP) = {} of {bound} for 128 bits", preset.log2_qp());
        let context = Context::new(&preset)?;
        Ok(Self {
            ev: Evaluator::new(&context),
            key: SecretKey::generate(&context)?,
            context,
        })
    }

    fn slots(&self) -> Vec<f64> {
        (0..self.context.slots())
            .map(|k| (k % 200) as f64 / 100.0 - 1.0)
            .collect()
    }

    fn finish(&self) {
        if let Some(mib) = peak_mib() {
            println!("  {:<58} {mib:>10.0} MiB", "peak memory so far");
        }
    }
}

fn polynomials() -> Result<(), CkksError> {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    for (name, degrees) in [
        ("n16384_q50_6x45_p2x50", &[7usize, 15, 31][..]),
        ("n32768_q50_12x45_p4x50", &[31, 63]),
    ] {
        let s = Setting::new(name)?;
        let relin = s.key.relin_key()?;
        let x: Vec<f64> = s.slots().iter().map(|x| 8.0 * x).collect();
        let ct = s.key.encrypt(&s.context.encode(&x, 8.0)?)?;
        for &degree in degrees {
            let p = Polynomial::interpolate(sigmoid, -8.0, 8.0, degree)?;
            let y = s.ev.polynomial(&ct, &p, &relin)?;
            let decoded = s.context.decode(&s.key.decrypt(&y)?)?;
            let error = x
                .iter()
                .zip(&decoded)
                .map(|(x, y)| (p.evaluate(*x) - y).abs())
                .fold(0.0, f64::max);
            time(
                &format!(
                    "sigmoid, degree {}: {} products, {} switches, {} levels",
                    p.degree(),
                    p.multiplications(),
                    p.relinearisations(),
                    p.levels_needed()
                ),
                || s.ev.polynomial(&ct, &p, &relin),
            )?;
            println!(
                "    fit off by {:.1e}, evaluation by {error:.1e}, bound {:.1e}",
                p.max_error(sigmoid),
                y.noise_bound() / y.scale()
            );
        }
        s.finish();
    }
    Ok(())
}

/// The layer of 64 x 256 is that of one-image inference, which at N = 8192 and six primes takes TenSEAL's `mm` 2020 ms and
/// Lattigo's linear transform 77 ms, each on one thread.
fn transforms() -> Result<(), CkksError> {
    for name in [
        "n8192_q34_5x29_p1x35",
        "n8192_q50_3x38_p1x50",
        "n16384_q50_6x45_p2x50",
    ] {
        let s = Setting::new(name)?;
        for (rows, columns) in [(64usize, 256usize), (10, 64), (256, 256), (1024, 1024)] {
            let m: Vec<Vec<f64>> = (0..rows)
                .map(|i| {
                    (0..columns)
                        .map(|j| ((i * 7 + j * 3) % 23) as f64 / 23.0 - 0.5)
                        .collect()
                })
                .collect();
            let t = LinearTransform::matrix(&s.context, &m)?;
            let start = Instant::now();
            let keys = s.key.galois_keys(&t.rotations())?;
            let made = start.elapsed().as_secs_f64() * 1e3;
            let level = s.context.max_level();
            let start = Instant::now();
            let encoded = t.encode(&s.context, level)?;
            let encoding = start.elapsed().as_secs_f64() * 1e3;
            let x = t.pack(&s.slots()[..columns])?;
            let ct = s.key.encrypt(&s.context.encode(&x, 1.0)?)?;
            time(&format!("{rows} x {columns}, level {level}"), || {
                s.ev.transform(&ct, &encoded, &keys)
            })?;
            println!(
                "    {} keys of {} MiB together in {made:.0} ms, encoded in {encoding:.0} ms",
                t.rotations().len(),
                keys.to_bytes()?.len() >> 20
            );
        }
        s.finish();
    }
    Ok(())
}

fn sums() -> Result<(), CkksError> {
    let s = Setting::new("n16384_q50_6x45_p2x50")?;
    let ct = s.key.encrypt(&s.context.encode(&s.slots(), 1.0)?)?;
    for count in [256usize, 1000, s.context.slots()] {
        let keys = s.key.galois_keys(&inner_sum::rotations(&s.context, count, 1)?)?;
        time(&format!("sum of {count} slots"), || {
            s.ev.inner_sum(&ct, count, 1, &keys)
        })?;
    }
    s.finish();
    Ok(())
}

fn packed() -> Result<(), CkksError> {
    for (name, dimensions) in [
        ("n8192_q50_3x38_p1x50", &[4usize, 16, 64][..]),
        ("n16384_q50_6x45_p2x50", &[16, 64]),
    ] {
        let s = Setting::new(name)?;
        let relin = s.key.relin_key()?;
        for &d in dimensions {
            let product = PackedProduct::new(&s.context, d, s.context.max_level())?;
            let keys = s.key.galois_keys(&product.rotations())?;
            let matrices: Vec<Vec<Vec<f64>>> = (0..product.lanes())
                .map(|lane| {
                    (0..d)
                        .map(|i| {
                            (0..d)
                                .map(|j| ((lane + 5 * i + 3 * j) % 17) as f64 / 17.0 - 0.5)
                                .collect()
                        })
                        .collect()
                })
                .collect();
            let a = product
                .encode(&s.context, &matrices, 1.0)?
                .encrypt(|p| s.key.encrypt(p))?;
            time(
                &format!(
                    "{} products of {d} x {d}, {} keys",
                    product.lanes(),
                    product.rotations().len()
                ),
                || s.ev.packed_product(&product, &a, &a, &relin, &keys),
            )?;
        }
        s.finish();
    }
    Ok(())
}

fn batch() -> Result<(), CkksError> {
    let s = Setting::new("n8192_q50_3x38_p1x50")?;
    let relin = s.key.relin_key()?;
    for d in [4usize, 16] {
        let elements = (0..d * d)
            .map(|_| s.key.encrypt(&s.context.encode(&s.slots(), 1.0)?))
            .collect::<Result<Vec<_>, _>>()?;
        let a = CiphertextMatrix::new(d, d, elements)?;
        time(
            &format!("{} products of {d} x {d}, in a batch", s.context.slots()),
            || s.ev.matrix_product(&a, &a, &relin),
        )?;
    }
    s.finish();
    Ok(())
}

type Part = fn() -> Result<(), CkksError>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parts: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let threads = std::env::var("GALEN_THREADS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1);
    println!("{}; {}; {threads} threads", machine(), describe());
    let pool = Threads::new(threads)?;
    let all: [(&str, Part); 5] = [
        ("polynomial", polynomials),
        ("transform", transforms),
        ("sum", sums),
        ("packed", packed),
        ("batch", batch),
    ];
    for (name, part) in all {
        if parts.is_empty() || parts.iter().any(|chosen| chosen == name) {
            pool.install(part)?;
        }
    }
    Ok(())
}
