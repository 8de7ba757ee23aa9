//! Simulated federations: hundreds of schedules, in which everything must hold.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use galen_integration_tests::sim::Schedule;
use galen_integration_tests::sim::shrink::Failure;

/// Runs the schedules of these seeds, and shows each that fails with no more in it than it takes.
fn hold(seeds: std::ops::Range<u64>, of: fn(u64) -> Schedule) -> Vec<Schedule> {
    let schedules: Vec<Schedule> = seeds.map(of).collect();
    let mut failures = String::new();
    for schedule in &schedules {
        if let Some(failure) = Failure::of(schedule).unwrap() {
            failures.push_str(&failure.shrink().unwrap().to_string());
        }
    }
    assert!(failures.is_empty(), "{failures}");
    schedules
}

/// The long run is `cargo run --release --bin simulate -- --count 1000`.
#[test]
fn every_invariant_holds_whatever_breaks() {
    let schedules = hold(0..120, Schedule::of);
    let faults: usize = schedules.iter().map(|schedule| schedule.faults.len()).sum();
    assert!(faults > 700, "only {faults} faults");
}

/// Hundreds of lies, and no sum is opened that should not be.
#[test]
fn a_coordinator_that_lies_gains_nothing() {
    let schedules = hold(0..40, Schedule::of_lies);
    let lies: usize = schedules.iter().map(|schedule| schedule.lies.len()).sum();
    assert!(lies > 150, "only {lies} lies");
}

/// Two coordinators with one key, and as many cheaters on both sides as the study stands.
#[test]
fn a_coordinator_that_leads_two_lives_gains_nothing() {
    hold(0..20, Schedule::of_fork);
}

/// Sums are exact or do not open, nobody is blamed for another one's deeds, and the study ends.
#[test]
fn contributors_that_cheat_spoil_nothing_unseen() {
    let schedules = hold(0..30, Schedule::of_contributors);
    let spoils: usize = schedules.iter().map(|schedule| schedule.spoils.len()).sum();
    assert!(spoils > 250, "only {spoils} spoilt contributions");
}

/// Seed, study and turns are the same whenever a schedule is run.
#[test]
fn a_schedule_runs_the_same_way_twice() {
    let schedules = (1000..1004).map(Schedule::of);
    for schedule in schedules.chain((1000..1003).map(Schedule::of_contributors)) {
        let seed = schedule.seed;
        let [first, second] = [schedule.run_traced(), schedule.run_traced()].map(Result::unwrap);
        let plain = |trace: &[String]| trace.iter().map(|line| without_digests(line)).collect::<Vec<_>>();
        for (first, second) in plain(&first.trace).into_iter().zip(plain(&second.trace)) {
            assert_eq!(first, second, "seed {seed}");
        }
        assert_eq!(first.trace.len(), second.trace.len(), "seed {seed}");
        assert!(first.trace.len() > 100);
    }
}

/// Digests differ from run to run, because keys do.
fn without_digests(line: &str) -> String {
    let is_digest = |word: &&str| word.len() >= 8 && word.chars().all(|c| c.is_ascii_hexdigit());
    line.split([' ', ':'])
        .filter(|word| !is_digest(word))
        .collect::<Vec<_>>()
        .join(" ")
}
