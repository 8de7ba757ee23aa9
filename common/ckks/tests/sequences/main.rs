//! Long random sequences of operations against a plaintext twin.
//!
//! A handful of ciphertexts is operated on at random; beside each lies its twin, the slot values as plain `f64` with the level, scale,
//! degree and magnitude that the documentation says the ciphertext must have. After every step: the result has exactly
//! the twin's level, scale, degree and slots; it decrypts to the twin's values within the noise bound that it states
//! itself; and where the evaluator refuses, the twin finds the reason that the error names. What comes out at the end has gone through
//! bytes several times on the way.
//!
//! A failure names its seed and step: `GALEN_SEQUENCE=preset:seed cargo test --release -p galen-ckks --test sequences replay -- --ignored`
//! runs that sequence again and prints its steps.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a failure is the test result"
)]

mod plans;
mod random;
mod steps;
mod twin;
mod world;

use galen_ckks::context::Context;
use galen_ckks::preset::{Preset, PresetSpec};
use galen_rns::ring::RingKind;
use std::collections::BTreeMap;
use std::sync::Arc;
use world::World;

/// Presets without security whose rings are small and chains long: nearly all time goes into operations that may differ.
fn context(name: &str) -> Arc<Context> {
    let like = *Preset::by_name("n8192_q50_3x38_p1x50").unwrap().spec();
    let preset = match name {
        "tiny" => Preset::insecure_for_tests(PresetSpec {
            degree: 64,
            levels: 3,
            ..like
        }),
        "deep" => Preset::insecure_for_tests(PresetSpec {
            degree: 512,
            levels: 9,
            scale_bits: 40,
            special: 2,
            digit: 2,
            ..like
        }),
        "digits" => Preset::insecure_for_tests(PresetSpec {
            degree: 256,
            levels: 6,
            scale_bits: 45,
            special: 2,
            digit: 1,
            ..like
        }),
        "real" => Preset::insecure_for_tests(PresetSpec {
            ring: RingKind::ConjugateInvariant,
            degree: 128,
            levels: 5,
            ..like
        }),
        secure => Preset::by_name(secure),
    };
    Context::new(&preset.unwrap()).unwrap()
}

/// Runs a sequence; a panic names it.
fn run(name: &str, context: &Arc<Context>, seed: u64, steps: usize, trace: bool) -> World {
    struct Blame<'a>(&'a str, u64, usize);
    impl Drop for Blame<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                println!("in step {} of GALEN_SEQUENCE={}:{}", self.2, self.0, self.1);
            }
        }
    }
    let mut world = World::new(name, context, seed, trace);
    let mut blame = Blame(name, seed, 0);
    for step in 0..steps {
        blame.2 = step;
        if trace {
            print!("{step} ");
        }
        world.step();
    }
    world
}

/// Several sequences of one preset, and what they did.
fn sequences(name: &str, seeds: std::ops::Range<u64>, steps: usize) {
    let context = context(name);
    let mut total: BTreeMap<&'static str, (f64, u64, u64)> = BTreeMap::new();
    for seed in seeds.clone() {
        let world = run(name, &context, seed, steps, false);
        assert_eq!(world.name, name);
        for (operation, (share, done, refused)) in world.record {
            let entry = total.entry(operation).or_default();
            *entry = (entry.0.max(share), entry.1 + done, entry.2 + refused);
        }
    }
    let all: u64 = total.values().map(|(_, done, refused)| done + refused).sum();
    println!("{name}: {} sequences, {all} operations", seeds.end - seeds.start);
    for (operation, (share, done, refused)) in &total {
        println!("  {operation}: {done} done, {refused} refused, largest error is {share:.3} of its bound");
        assert!(
            *done > 0 || *operation == "conjugate",
            "{operation} was never done"
        );
    }
    assert!(
        total.len() >= 17,
        "an operation was never tried: {:?}",
        total.keys()
    );
}

#[test]
fn short_sequences_tiny() {
    sequences("tiny", 0..10, 400);
}

#[test]
fn short_sequences_deep() {
    sequences("deep", 0..4, 400);
}

#[test]
fn short_sequences_small_digits() {
    sequences("digits", 0..4, 300);
}

#[test]
fn short_sequences_real_ring() {
    sequences("real", 0..4, 300);
}

#[test]
fn short_sequences_n8192() {
    sequences("n8192_q50_3x38_p1x50", 0..1, 400);
}

#[test]
#[ignore = "minutes"]
fn long_sequences_small_rings() {
    for name in ["tiny", "deep", "digits", "real"] {
        sequences(name, 1000..1100, 3000);
    }
}

#[test]
#[ignore = "minutes"]
fn long_sequences_secure_rings() {
    for name in [
        "n8192_q50_3x38_p1x50",
        "n16384_q50_5x45_p3x50",
        "n16384_q50_6x45_p2x50",
        "n32768_q50_12x45_p4x50",
    ] {
        sequences(name, 1000..1002, 1000);
    }
}

/// The sequence that `GALEN_SEQUENCE` names, with its steps.
#[test]
#[ignore = "for a failure of the others"]
fn replay() {
    let Ok(named) = std::env::var("GALEN_SEQUENCE") else {
        return;
    };
    let (name, seed) = named.rsplit_once(':').unwrap();
    run(name, &context(name), seed.parse().unwrap(), 3000, true);
}
