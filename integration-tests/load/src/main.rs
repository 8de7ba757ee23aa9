//! What rounds of a million parameters cost, with a real coordinator in a process of its own and simulated hospitals on loopback
//! QUIC: `cargo run --release -p galen-load -- coordinator`, or `round`, or `custodian`.
//!
//! A simulated hospital speaks the protocol and computes all that is encrypted; it has no tables, trains nothing and keeps its state in
//! memory.

// A program for people: it prints.
#![allow(clippy::print_stdout)]

mod coordinator;
mod custodian;
mod custody;
mod fingerprint;
mod hospital;
mod machine;
mod offline;
mod opening;
mod round;
mod shared;
mod study;
mod under_load;

use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;

/// First argument that makes this process the coordinator of a measurement.
const ROLE: &str = "@coordinator";

/// Measures rounds of large updates.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The coordinator's memory and time with few and with many contributors.
    Coordinator {
        /// The smaller number of contributors.
        #[arg(long, default_value_t = 10)]
        few: usize,
        /// The larger one.
        #[arg(long, default_value_t = 200)]
        many: usize,
        /// Most connections that the coordinator has at a time.
        #[arg(long, default_value_t = galen_net::Tuning::default().connections)]
        connections: usize,
    },
    /// Seconds from announcement to published model, with 10 contributors and 5 custodians (t = 3, g = 4).
    Round {
        /// Number of contributors.
        #[arg(long, default_value_t = 10)]
        contributors: usize,
        /// How many rounds of each kind.
        #[arg(long, default_value_t = 3)]
        repeat: u32,
    },
    /// What fingerprints of a million values cost.
    Fingerprint,
    /// A custodian's work and memory, with 9 custodians (t = 5) and 50 contributors.
    Custodian {
        /// Number of contributors.
        #[arg(long, default_value_t = 50)]
        contributors: usize,
    },
}

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    if args.nth(1).is_some_and(|word| word == ROLE) {
        return galen_coordinator::cli::main_from([OsString::from("coordinator")].into_iter().chain(args));
    }
    let result = match Cli::parse().command {
        Command::Coordinator {
            few,
            many,
            connections,
        } => under_load::measure(few, many, connections),
        Command::Round { contributors, repeat } => round::measure(contributors, repeat),
        Command::Fingerprint => fingerprint::measure(),
        Command::Custodian { contributors } => custodian::measure(contributors),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
