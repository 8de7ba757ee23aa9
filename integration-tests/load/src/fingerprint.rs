//! What fingerprints cost.

use crate::custodian::timed;
use crate::machine;
use crate::offline::Offline;
use crate::study::{Scene, Shape};
use galen_custody::encrypt;
use galen_sums::fingerprint::{of_contribution, of_sum, repetitions};
use galen_sums::{
    Challenge, ContributionSet, Endorsement, FingerprintStatement, Source, ValueRange, add, check_header,
    check_sum,
};
use std::collections::BTreeMap;

/// Values of a contribution.
const VALUES: u32 = 1_000_000;

/// Measures and prints: contributions of one prime and of two.
pub(crate) fn measure() -> anyhow::Result<()> {
    println!("machine: {}", machine::describe());
    for max_abs in [1u64 << 26, 1 << 38] {
        one(max_abs)?;
    }
    Ok(())
}

fn one(max_abs: u64) -> anyhow::Result<()> {
    let dir = tempfile::Builder::new().prefix("galen-load-").tempdir()?;
    let shape = Shape {
        contributors: 10,
        custodians: 5,
        threshold: 3,
        agreement: 4,
        patience_s: 60,
        training_rounds: 1,
        connections: galen_net::Tuning::default().connections,
    };
    let scene = Scene::new(shape, dir.path())?;
    let range = ValueRange {
        count: VALUES,
        max_abs,
        fraction_bits: 24,
    };
    let round = Offline::announce(&scene, range)?.round;
    let plan = round.plan();
    let counts: Vec<u32> = round.ring().moduli().iter().map(repetitions).collect();
    println!(
        "\n{} values, N = {}, log2 Q = {:.1} in {} prime(s), 128-bit security allows {}; repetitions per prime {counts:?}, a wrong sum passes with \
         probability below 2^-128 per try",
        plan.values(),
        plan.degree,
        plan.log2_q(),
        plan.primes.len(),
        plan.security_bound()
    );
    let (mut blobs, mut headers) = (Vec::new(), Vec::new());
    for (index, keys) in scene.keys.iter().enumerate() {
        let values = vec![index as i64; VALUES as usize];
        let mut blob = Vec::new();
        headers.push(encrypt(&round, &keys.name, &keys.signing, &values, &mut blob)?);
        blobs.push(blob);
    }
    let set = ContributionSet::new(&round, &headers)?;
    let checked = headers
        .iter()
        .map(|header| Ok(check_header(&round, header)?))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let sources: Vec<_> = checked
        .iter()
        .zip(&blobs)
        .map(|(header, blob)| Source {
            contributor: header.contributor.clone(),
            digest: header.ciphertext,
            blob: blob.as_slice(),
        })
        .collect();
    let mut sum = Vec::new();
    let digest = add(&round, &set, &sources, &mut sum)?;
    let challenge = Challenge::new(&Endorsement::of(&set, digest));
    let (mut statements, mut signing) = (Vec::new(), Vec::new());
    for ((keys, header), blob) in scene.keys.iter().zip(&checked).zip(&blobs) {
        let (time, said) = timed(|| {
            let own = of_contribution(&round, &challenge, header, blob.as_slice())?;
            Ok(FingerprintStatement::sign(
                &round,
                &challenge,
                &keys.name,
                &keys.signing,
                &own,
            )?)
        })?;
        statements.push(said);
        signing.push(time);
    }
    signing.sort_unstable();
    let (checking, ()) = timed(|| {
        let own = of_sum(&round, &challenge, sum.as_slice())?;
        Ok(check_sum(
            &round,
            &set,
            &challenge,
            &statements,
            &BTreeMap::new(),
            &own,
        )?)
    })?;
    println!(
        "processor time: {:.3} s for a contributor to read, combine and sign (median of {}), {:.3} s for a receiver to do the same with the sum and \
         check all statements",
        signing[signing.len() / 2].as_secs_f64(),
        signing.len(),
        checking.as_secs_f64()
    );
    Ok(())
}
