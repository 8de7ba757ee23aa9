//! Simulated federations: hundreds of schedules of faults, and proof that the simulation can fail.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use galen_integration_tests::sim::shrink::Failure;
use galen_integration_tests::sim::{Bug, Fault, Invariant, Node, Schedule};

const SEEDS: std::ops::Range<u64> = 0..80;

/// The long run is `cargo run --release --bin simulate -- --count 1000`.
#[test]
fn every_invariant_holds_in_every_schedule() {
    let mut failures = String::new();
    let (mut faults, mut closed) = (0, Vec::new());
    for seed in SEEDS {
        let schedule = Schedule::of(seed);
        faults += schedule.faults.len();
        let Some(failure) = Failure::of(&schedule).unwrap() else {
            continue;
        };
        let mut violations = failure.outcome.violations.iter();
        if violations.all(|violation| violation.invariant == Invariant::Completes) {
            closed.push(failure.to_string());
        } else {
            failures.push_str(&failure.shrink().unwrap().to_string());
        }
    }
    assert!(failures.is_empty(), "{failures}");
    // Custodians whose votes are split, so that their attempt is neither certified nor given up, close a study that could have gone on.
    let most = (SEEDS.end - SEEDS.start) as usize / 20;
    assert!(closed.len() <= most, "{closed:#?}");
    assert!(faults > 450, "only {faults} faults");
}

/// Hundreds of lies, and no sum is opened that should not be.
#[test]
fn a_coordinator_that_lies_gains_nothing() {
    let mut failures = String::new();
    let mut lies = 0;
    for seed in 0..40 {
        let schedule = Schedule::of_lies(seed);
        lies += schedule.lies.len();
        if let Some(failure) = Failure::of(&schedule).unwrap() {
            failures.push_str(&failure.shrink().unwrap().to_string());
        }
    }
    assert!(failures.is_empty(), "{failures}");
    assert!(lies > 150, "only {lies} lies");
}

/// Two coordinators with one key, and as many cheaters on both sides as the study stands.
#[test]
fn a_coordinator_that_leads_two_lives_gains_nothing() {
    let mut failures = String::new();
    for seed in 0..20 {
        if let Some(failure) = Failure::of(&Schedule::of_fork(seed)).unwrap() {
            failures.push_str(&failure.shrink().unwrap().to_string());
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

/// The same with more cheaters than that: two sums of one round are opened, and the simulation says so. It would notice.
#[test]
fn too_many_cheaters_open_two_sums() {
    let found = (0..300).find_map(|seed| {
        let mut schedule = Schedule::of_fork(seed);
        let shape = schedule.shape();
        let fork = schedule.fork.as_mut().unwrap();
        fork.turn = 1;
        fork.cheaters = (0..2 * shape.agreement as usize - shape.parties).collect();
        fork.second = (fork.cheaters.len()..shape.parties).step_by(2).collect();
        (fork.cheaters.len() > shape.cheaters()).then_some(())?;
        schedule.crossings.clear();
        Failure::of(&schedule).unwrap()
    });
    let failure = found.expect("the simulation notices nothing");
    let invariants: Vec<Invariant> = failure.outcome.violations.iter().map(|v| v.invariant).collect();
    assert!(invariants.contains(&Invariant::OpenedOnce), "{failure}");
}

/// Seed, study and turns are the same whenever a schedule is run.
#[test]
fn a_schedule_runs_the_same_way_twice() {
    for seed in 1000..1006 {
        let schedule = Schedule::of(seed);
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

/// A program that is broken on purpose is found, and what remains of the schedule are the faults that it takes.
#[test]
#[ignore = "searches for a seed, which takes minutes"]
fn a_disk_that_lies_is_found_and_the_schedule_shrunk() {
    let broken = |node: Node| {
        (0..200).find_map(|seed| {
            let mut schedule = Schedule::of(seed);
            schedule.bug = Some(Bug::LyingDisk(node));
            // What a study without the bug might do as well proves nothing.
            Failure::of(&schedule).unwrap().filter(|failure| {
                let mut violations = failure.outcome.violations.iter();
                violations.all(|violation| violation.invariant != Invariant::Completes)
            })
        })
    };
    for node in [Node::Coordinator, Node::Party(0)] {
        let failure = broken(node).unwrap_or_else(|| panic!("{node:?}: the simulation notices nothing"));
        let before = failure.schedule.faults.len();
        let shrunk = failure.shrink().unwrap();
        // Without a power cut the disk's lie does not show.
        let cuts = |fault: &Fault| matches!(fault, Fault::Crash { .. } | Fault::Reboot { .. });
        assert!(shrunk.schedule.faults.len() <= before, "{shrunk}");
        assert!(shrunk.schedule.faults.iter().any(cuts), "{shrunk}");
        let again = Failure::of(&shrunk.schedule)
            .unwrap()
            .expect("what was printed fails again");
        assert!(again.to_string().contains("Schedule {"), "{again}");
    }
}
