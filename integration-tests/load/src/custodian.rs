//! A custodian's work per round, and its memory.

use crate::machine;
use crate::offline::{self, Offline};
use crate::study::{Scene, Shape};
use anyhow::{Context, ensure};
use galen_core::Digest;
use galen_custody::ledger::Vote;
use galen_custody::{
    OneRoundSecret, OpenedSeeds, answer, check_contribution, check_keys, encrypt, endorse, find_liars,
    open_answers,
};
use galen_sums::{Authored, ContributionSet, Endorsement, Round, ValueRange, check_certificate};
use std::collections::BTreeSet;
use std::time::Duration;

/// Measures and prints.
pub(crate) fn measure(contributors: usize) -> anyhow::Result<()> {
    println!("machine: {}", machine::describe());
    let dir = tempfile::Builder::new().prefix("galen-load-").tempdir()?;
    let shape = Shape {
        contributors,
        custodians: 9,
        threshold: 5,
        agreement: 7,
        patience_s: 60,
        training_rounds: 1,
        connections: galen_net::Tuning::default().connections,
    };
    let scene = Scene::new(shape, dir.path())?;
    println!("{}", scene.describe()?);
    println!("A custodian sees headers and never ciphertexts, so the contributions here are short.");

    let range = ValueRange {
        count: 8,
        max_abs: 100,
        fraction_bits: 0,
    };
    let Offline {
        round,
        secrets,
        mut ledgers,
    } = Offline::announce(&scene, range)?;
    let (id, custodians) = (round.id(), offline::custodians(&scene));
    let headers = scene
        .keys
        .iter()
        .map(|keys| Ok(encrypt(&round, &keys.name, &keys.signing, &[7; 8], Vec::new())?))
        .collect::<anyhow::Result<Vec<Authored>>>()?;
    let set = ContributionSet::new(&round, &headers)?;
    let certified = Endorsement::of(&set, Digest::of(b"sum"));

    // Only t custodians are left to answer, so that each answers for as many pieces as can be.
    let alive: BTreeSet<_> = custodians[..shape.threshold as usize]
        .iter()
        .map(|keys| keys.name.clone())
        .collect();
    let assignments = round.assign(&alive).context("no assignment")?;
    let (mut endorsing, mut answering) = (Duration::ZERO, Duration::ZERO);
    let mut endorsements = Vec::new();
    for ((keys, secret), ledger) in custodians.iter().zip(&secrets).zip(&mut ledgers) {
        let (time, said) = timed(|| {
            let opened = open_seeds(&round, keys, secret, &headers)?;
            *ledger = ledger.sign(id, &Vote::of(&round, &set, certified.sum))?;
            let (name, signing) = (&keys.name, &keys.signing);
            Ok(endorse(
                &round,
                name,
                signing,
                ledger,
                &set,
                &opened,
                certified.sum,
            )?)
        })?;
        endorsing = endorsing.max(time);
        endorsements.push(said);
    }
    let certificate = check_certificate(&round, &endorsements)?;
    let mut answers = Vec::new();
    for ((keys, secret), ledger) in custodians.iter().zip(&secrets).zip(&mut ledgers) {
        *ledger = ledger.answer(id, &certified)?;
        let Some(pieces) = assignments.get(&keys.name) else {
            continue;
        };
        // The seeds are opened again, as in a daemon that keeps none.
        let (time, said) = timed(|| {
            let opened = open_seeds(&round, keys, secret, &headers)?;
            let (name, signing) = (&keys.name, &keys.signing);
            Ok(answer(
                &round,
                name,
                signing,
                ledger,
                &certificate,
                &set,
                &opened,
                pieces,
            )?)
        })?;
        answering = answering.max(time);
        answers.push(said);
    }
    let mut checking = Duration::ZERO;
    let mut checks = Vec::new();
    for ((keys, secret), ledger) in custodians.iter().zip(&secrets).zip(&ledgers) {
        let (time, said) = timed(|| {
            let opened = open_seeds(&round, keys, secret, &headers)?;
            let answered = assignments.get(&keys.name).map_or(&[][..], Vec::as_slice);
            let (name, signing) = (&keys.name, &keys.signing);
            Ok(check_keys(
                &round,
                name,
                signing,
                ledger,
                &certificate,
                &set,
                &opened,
                answered,
            )?)
        })?;
        checking = checking.max(time);
        checks.push(said);
    }
    let me = &scene.keys[0];
    let (opening, _) = timed(|| {
        Ok(open_answers(
            &round,
            &certificate,
            &set,
            &me.name,
            &me.receiver,
            &answers,
        )?)
    })?;
    let (finding, findings) = timed(|| {
        Ok(find_liars(
            &round,
            &certificate,
            &set,
            &me.name,
            &me.receiver,
            &answers,
            &checks,
        )?)
    })?;
    ensure!(findings.is_empty(), "honest custodians were named: {findings:?}");

    let most = assignments.values().map(Vec::len).max().unwrap_or(0);
    let seconds = |time: Duration| time.as_secs_f64();
    println!(
        "processor time of the busiest custodian: {:.3} s per round ({:.3} to check {} headers and endorse, {:.3} to open the seeds again and answer \
         for {most} pieces)",
        seconds(endorsing + answering),
        seconds(endorsing),
        headers.len(),
        seconds(answering)
    );
    println!(
        "after a failed opening: {:.3} s to check the {} pieces that it holds; a receiver takes {:.3} s to compare all checks, and {:.3} s to open \
         the answers",
        seconds(checking),
        round.held_by(&custodians[0].name).len(),
        seconds(finding),
        seconds(opening)
    );
    println!(
        "peak memory of all {} hospitals in this one process: {:.1} MiB",
        scene.keys.len(),
        galen_measure::peak_mib().unwrap_or(f64::NAN)
    );
    Ok(())
}

fn open_seeds(
    round: &Round,
    keys: &crate::study::Keys,
    secret: &OneRoundSecret,
    headers: &[Authored],
) -> anyhow::Result<Vec<OpenedSeeds>> {
    let check = |header| Ok(check_contribution(round, &keys.name, secret, header)?);
    headers.iter().map(check).collect()
}

/// Processor time of this thread for some work.
pub(crate) fn timed<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(Duration, T)> {
    let start = galen_measure::thread_time();
    let result = work()?;
    Ok((galen_measure::thread_time() - start, result))
}
