//! What goes wrong in a schedule: a list, drawn from the seed, that can be printed, cut down and run again.

use super::choice::Choice;
use super::shape::Shape;
use galen_store::Cut;

/// A machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// The coordinator.
    Coordinator,
    /// A party, by its number in the study.
    Party(usize),
}

/// Something that goes wrong. Requests of a party and durable writes of a disk are counted from 1; turns are the steps of the simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A request is lost, and the connection with it.
    Lost {
        /// Whose.
        party: usize,
        /// Which.
        request: u64,
    },
    /// A request takes effect; the answer is lost, and the connection with it.
    Unanswered {
        /// Whose.
        party: usize,
        /// Which.
        request: u64,
    },
    /// A request is under way for this many turns.
    Delayed {
        /// Whose.
        party: usize,
        /// Which.
        request: u64,
        /// How long.
        turns: u64,
    },
    /// A request arrives once more, this many turns later.
    Repeated {
        /// Whose.
        party: usize,
        /// Which.
        request: u64,
        /// How much later.
        turns: u64,
    },
    /// A party cannot reach the coordinator.
    Severed {
        /// Who.
        party: usize,
        /// From when on.
        turn: u64,
        /// For how long.
        turns: u64,
    },
    /// The power fails at a durable write.
    Crash {
        /// Where.
        node: Node,
        /// At which of the disk's writes.
        write: u64,
        /// Before or after it.
        cut: Cut,
        /// How long the machine is off.
        turns: u64,
    },
    /// A party's process is killed and started again; its machine stays on.
    Killed {
        /// Whose.
        party: usize,
        /// When.
        turn: u64,
        /// How long it is not there.
        turns: u64,
    },
    /// A party's machine is switched off and on again, whatever it is doing.
    Reboot {
        /// Whose.
        party: usize,
        /// When.
        turn: u64,
        /// How long it is off.
        turns: u64,
    },
    /// A party's disk is put back to what it was.
    Restored {
        /// Whose.
        party: usize,
        /// To when.
        to: u64,
        /// When.
        turn: u64,
        /// Whether the machine is switched off for it.
        power: bool,
    },
    /// A party leaves and never comes back.
    Gone {
        /// Who.
        party: usize,
        /// When.
        turn: u64,
    },
    /// Nobody does anything for longer than the study's patience.
    Pause {
        /// When.
        turn: u64,
    },
}

/// A schedule takes about this many turns when nothing goes wrong.
const TURNS: u64 = 900;
/// A party makes about this many requests, and its disk about as many writes.
const REQUESTS: u64 = 45;
/// The coordinator's disk makes about this many writes.
const WRITES: u64 = 260;

/// The faults of a seed.
pub fn faults(choice: &Choice, shape: &Shape) -> Vec<Fault> {
    let count = choice.below("faults", 0, 15);
    let mut losses = 0;
    let mut faults = Vec::new();
    for number in 0..count {
        let at = |what: &str, low: u64, high: u64| choice.between(what, number, low, high);
        let party = at("party", 0, shape.parties as u64 - 1) as usize;
        let request = at("request", 1, REQUESTS);
        let turn = at("turn", 1, TURNS);
        let turns = at("turns", 1, 150);
        let cut = *choice.one("cut", number, &[Cut::Before, Cut::After]);
        // Parties that are lost for good, or for a round, are few enough for the others to go on.
        let spare = losses < shape.spare();
        let fault = match at("kind", 0, 99) {
            0..=11 => Fault::Lost { party, request },
            12..=25 => Fault::Unanswered { party, request },
            26..=35 => Fault::Delayed {
                party,
                request,
                turns,
            },
            36..=47 => Fault::Repeated {
                party,
                request,
                turns,
            },
            48..=54 => Fault::Severed { party, turn, turns },
            55..=66 => Fault::Crash {
                node: Node::Party(party),
                write: at("write", 1, 2 * REQUESTS),
                cut,
                turns,
            },
            67..=79 => Fault::Crash {
                node: Node::Coordinator,
                write: at("write", 1, WRITES),
                cut,
                turns: turns / 3,
            },
            80..=81 => Fault::Killed { party, turn, turns },
            82..=84 => Fault::Reboot { party, turn, turns },
            85..=91 if spare => {
                losses += 1;
                let to = choice.below("to", number, turn);
                let power = choice.percent("power", number, 50);
                Fault::Restored {
                    party,
                    to,
                    turn,
                    power,
                }
            }
            92..=94 if spare => {
                losses += 1;
                Fault::Gone { party, turn }
            }
            _ => Fault::Pause { turn },
        };
        faults.push(fault);
    }
    faults
}

/// A node as it stands in a program.
pub(super) fn code_of(node: Node) -> String {
    format!("Node::{node:?}")
}

impl Fault {
    /// The fault as it stands in a program.
    pub fn code(&self) -> String {
        let text = format!("Fault::{self:?}");
        text.replace("node: ", "node: Node::")
            .replace("cut: ", "cut: Cut::")
    }
}
