//! The simulation can fail: for each invariant there are schedules in which it does not hold, and it is said so.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use galen_integration_tests::sim::shrink::Failure;
use galen_integration_tests::sim::{Bug, Deed, Fault, Fork, Invariant, Node, Schedule, Spoil};
use galen_store::Cut;

/// No end that a schedule would see.
const FOR_EVER: u64 = 1 << 40;

/// Runs schedules, each made to violate an invariant, until one does. A few are tried: what the seed chooses may be in the way.
#[track_caller]
fn notices(invariant: Invariant, schedules: impl Iterator<Item = Schedule>) -> Failure {
    let fails = |schedule: Schedule| {
        let failure = Failure::of(&schedule).unwrap()?;
        let mut violations = failure.outcome.violations.iter();
        violations
            .any(|violation| violation.invariant == invariant)
            .then_some(failure)
    };
    schedules
        .take(60)
        .find_map(fails)
        .unwrap_or_else(|| panic!("{invariant:?} is said to hold where it does not"))
}

/// The schedule of a seed without its faults.
fn calm(seed: u64) -> Schedule {
    Schedule {
        faults: Vec::new(),
        ..Schedule::of(seed)
    }
}

fn broken(seed: u64, bug: Bug) -> Schedule {
    Schedule {
        bug: Some(bug),
        ..calm(seed)
    }
}

fn severed(party: usize, turn: u64) -> Fault {
    Fault::Severed {
        party,
        turn,
        turns: FOR_EVER,
    }
}

/// One of four hospitals is there in name only, and another one is cut off: sums are over two.
#[test]
fn a_sum_over_too_few_is_noticed() {
    let schedules = (0..200).filter_map(|seed| {
        let mut schedule = broken(seed, Bug::Sham(3));
        let shape = schedule.shape();
        schedule.faults.push(severed(0, 200));
        (shape.parties == 4 && shape.agreement == 3 && shape.quorum == 3).then_some(schedule)
    });
    notices(Invariant::EnoughContributors, schedules);
}

/// With one cheater more than a study stands, two lives open two sums of one round: the cheaters and one honest party on each side are
/// enough.
#[test]
fn two_sums_of_a_round_are_noticed() {
    let schedules = (0..200).filter_map(|seed| {
        let shape = calm(seed).shape();
        let cheaters = 2 * shape.agreement as usize - shape.parties;
        let fork = Fork {
            turn: 1,
            cheaters: (0..cheaters).collect(),
            second: (cheaters..shape.parties).step_by(2).collect(),
        };
        let enough = cheaters > shape.cheaters() && shape.quorum as usize <= cheaters + 1;
        enough.then_some(Schedule {
            fork: Some(fork),
            ..calm(seed)
        })
    });
    notices(Invariant::OpenedOnce, schedules);
}

/// A contributor encrypts something else than the oracle believes.
#[test]
fn a_sum_that_is_not_that_of_the_values_is_noticed() {
    let schedules = (0..).map(|number| Schedule {
        spoils: vec![Spoil {
            party: 0,
            contribution: 2,
            deed: Deed::Range {
                which: 2 * number + 1,
            },
        }],
        ..broken(number, Bug::Unrecorded)
    });
    notices(Invariant::EqualsOracle, schedules);
}

#[test]
fn an_acknowledged_contribution_that_is_not_counted_is_noticed() {
    notices(
        Invariant::CountedOnce,
        (0..).map(|seed| broken(seed, Bug::FalseWord(0))),
    );
}

#[test]
fn a_secret_that_outlives_the_study_is_noticed() {
    notices(Invariant::Erased, (0..).map(|seed| broken(seed, Bug::Backup(1))));
}

#[test]
fn a_study_that_does_not_end_is_noticed() {
    let cut_off = |seed| Schedule {
        faults: vec![severed(2, 500)],
        ..calm(seed)
    };
    notices(Invariant::Ends, (0..).map(cut_off));
}

/// Nobody is lost; most are cut off for longer than the study waits.
#[test]
fn a_study_that_is_given_up_too_early_is_noticed() {
    let cut_off = |seed| Schedule {
        faults: (0..3).map(|party| severed(party, 300)).collect(),
        ..calm(seed)
    };
    notices(Invariant::Completes, (0..).map(cut_off));
}

#[test]
fn an_honest_party_that_is_blamed_is_noticed() {
    let blamed = |seed| Schedule {
        spoils: vec![Spoil {
            party: 0,
            contribution: 1,
            deed: Deed::Hash { which: seed },
        }],
        ..broken(seed, Bug::Trusted)
    };
    notices(Invariant::Named, (0..).map(blamed));
}

/// A coordinator's disk that says "durable" too early: what a power cut takes away is missed, and what remains of the schedule is the cut.
/// (At a party such a disk is one that is put back, which a study stands.)
#[test]
fn a_disk_that_lies_is_noticed_and_its_schedule_shrunk() {
    let is_cut = |fault: &Fault| matches!(fault, Fault::Crash { .. });
    let lying = |seed| {
        let mut schedule = Schedule::of(seed);
        let harmless = |fault: &Fault| matches!(fault, Fault::Delayed { .. } | Fault::Repeated { .. });
        schedule.faults.retain(harmless);
        // Where the writes that are lost hold a published round, which the parties remember, differs from study to study.
        schedule.faults.push(Fault::Crash {
            node: Node::Coordinator,
            write: 90 + 10 * (seed % 12),
            cut: Cut::After,
            turns: 5,
        });
        schedule.bug = Some(Bug::LyingDisk(Node::Coordinator));
        schedule
    };
    let failure = notices(Invariant::Runs, (0..).map(lying));
    let honest = Schedule {
        bug: None,
        ..failure.schedule.clone()
    };
    assert!(Failure::of(&honest).unwrap().is_none(), "{honest}");
    let before = failure.schedule.faults.len();
    let shrunk = failure.shrink().unwrap();
    assert!(shrunk.schedule.faults.iter().any(is_cut), "{shrunk}");
    assert!(shrunk.schedule.faults.len() <= before, "{shrunk}");
    let again = Failure::of(&shrunk.schedule).unwrap();
    let again = again.expect("what is printed fails again").to_string();
    assert!(again.contains("Schedule {") && again.contains("bug: Some(Bug::LyingDisk(Node::Coordinator))"));
}
