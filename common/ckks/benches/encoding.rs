//! Times of encoding, decoding and samplers: `cargo bench -p galen-ckks --bench encoding`.
//!
//! The chains have the primes of SEAL's benchmark at the same degree, one of 50 bits and 2, 5 and 12 of 40, in both rings.
//! Each figure is the least of many runs, which is what the machine can do when nothing else is in its way.
#![allow(clippy::print_stdout, reason = "printing is what this is for")]

use galen_ckks::CkksError;
use galen_ckks::context::Context;
use galen_ckks::preset::{Preset, PresetSpec};
use galen_measure::{machine, peak_mib};
use galen_rns::automorphism::Automorphism;
use galen_rns::kernel;
use galen_rns::ring::RingKind;
use galen_rns::sampling::{Gaussian, gaussian, gaussian_residues, ternary, ternary_residues, uniform};
use galen_rns::xof::Xof;
use std::hint::black_box;
use std::time::Instant;

const RUNS: usize = 101;

fn least<T>(mut run: impl FnMut() -> T) -> f64 {
    let times = (0..RUNS).map(|_| {
        let start = Instant::now();
        black_box(run());
        start.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

fn line(name: &str, seconds: f64, values: usize) {
    let each = seconds * 1e9 / values as f64;
    println!("  {name:<38} {:>9.4} ms {each:>8.2} ns each", seconds * 1e3);
}

fn measure(spec: PresetSpec) -> Result<(), CkksError> {
    let preset = Preset::new(spec)?;
    let bound = preset.security_bound().unwrap_or_default();
    println!(
        "{}: log2(QP) = {} of {bound} for 128-bit security",
        preset.name(),
        preset.log2_qp()
    );
    let ctx = Context::new(&preset)?;
    let (slots, n) = (ctx.slots(), ctx.degree());
    let values: Vec<f64> = (0..slots).map(|i| (i % 200) as f64 / 100.0 - 1.0).collect();
    let mut plain = ctx.encode(&values, 1.0)?;
    line("encode", least(|| ctx.encode(&values, 1.0)), slots);
    line(
        "encode, memory reused",
        least(|| ctx.encode_into(&values, 1.0, &mut plain)),
        slots,
    );
    line("decode", least(|| ctx.decode(&plain)), slots);

    let ring = ctx.ring(ctx.max_level())?;
    let mut row = plain.poly().residues(0).to_vec();
    line(
        "transform of one prime",
        least(|| ring.ntt(0).forward(&mut row)),
        n,
    );
    line("and back", least(|| ring.ntt(0).inverse(&mut row)), n);
    let rotation = Automorphism::new(ring, spec.ring.galois_element_for_rotation(n, 1))?;
    let mut out = row.clone();
    line(
        "automorphism of one prime",
        least(|| rotation.apply_eval(&row, &mut out)),
        n,
    );

    let m = ring.moduli()[0];
    let mut xof = Xof::new(&[1; 32], &[b"benchmark"]);
    let mut bytes = vec![0; 8 * n];
    line("stream, 8 bytes each", least(|| xof.fill(&mut bytes)), n);
    line("uniform", least(|| uniform(&m, &mut xof, &mut row)), n);
    let mut signs = vec![0; n];
    line("ternary", least(|| ternary(&mut xof, &mut signs)), n);
    let mut errors = vec![0; n];
    let sigma = Gaussian::SIGMA_3_19;
    line("gaussian", least(|| gaussian(&sigma, &mut xof, &mut errors)), n);
    let mut rows = plain.poly().data().to_vec();
    line(
        "ternary, modulo all primes",
        least(|| ternary_residues(&mut xof, ring.moduli(), &mut rows)),
        n,
    );
    line(
        "gaussian, modulo all primes",
        least(|| gaussian_residues(&sigma, &mut xof, ring.moduli(), &mut rows)),
        n,
    );
    Ok(())
}

fn main() -> Result<(), CkksError> {
    println!(
        "{}; {}; one thread; least of {RUNS} runs",
        machine(),
        kernel::describe()
    );
    for ring in [RingKind::Cyclotomic, RingKind::ConjugateInvariant] {
        for (degree, levels) in [(8192, 2), (16384, 5), (32768, 12)] {
            measure(PresetSpec {
                ring,
                degree,
                base_bits: 50,
                levels,
                scale_bits: 40,
                special: 1,
                special_bits: 50,
                digit: 1,
            })?;
        }
    }
    if let Some(mib) = peak_mib() {
        println!("peak memory {mib:.0} MiB");
    }
    Ok(())
}
