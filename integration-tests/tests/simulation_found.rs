//! Schedules that the simulation found to fail, shrunk; each stands for a mistake that was made once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use galen_integration_tests::sim::shrink::Failure;
use galen_integration_tests::sim::{Fault, Node, Schedule};
use galen_store::Cut;

#[track_caller]
fn holds(schedule: &Schedule) {
    if let Some(failure) = Failure::of(schedule).unwrap() {
        panic!("{failure}");
    }
}

/// A custodian's disk is put back at the end of a round. It had introduced itself anew when the next round was announced, and was confirmed
/// only then by custodians that took part in it already: so it sat out that round too, which could not spare it.
#[test]
fn a_custodian_that_comes_back_at_the_end_of_a_round_takes_part_in_the_next() {
    holds(&Schedule {
        faults: vec![
            Fault::Restored {
                party: 0,
                to: 347,
                turn: 695,
                power: false,
            },
            Fault::Reboot {
                party: 4,
                turn: 400,
                turns: 80,
            },
            Fault::Crash {
                node: Node::Party(3),
                write: 33,
                cut: Cut::Before,
                turns: 125,
            },
            Fault::Crash {
                node: Node::Coordinator,
                write: 86,
                cut: Cut::Before,
                turns: 11,
            },
        ],
        ..Schedule::of(523)
    });
}

/// The same two rounds later, and with the power lost.
#[test]
fn a_custodian_that_loses_its_power_at_the_end_of_a_round_takes_part_in_the_next() {
    holds(&Schedule {
        faults: vec![
            Fault::Crash {
                node: Node::Coordinator,
                write: 136,
                cut: Cut::After,
                turns: 27,
            },
            Fault::Restored {
                party: 0,
                to: 254,
                turn: 773,
                power: true,
            },
            Fault::Severed {
                party: 3,
                turn: 92,
                turns: 7,
            },
            Fault::Lost {
                party: 1,
                request: 31,
            },
            Fault::Pause { turn: 293 },
            Fault::Crash {
                node: Node::Party(1),
                write: 60,
                cut: Cut::Before,
                turns: 50,
            },
        ],
        ..Schedule::of(581)
    });
}
