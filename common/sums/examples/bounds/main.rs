//! Recomputes every bound that `docs/sums-proof.md` states, and fails where one does not hold:
//! `cargo run --release -p galen-sums --example bounds`.
//!
//! The page contains what this prints, word for word; a test compares the two. [`gaussian`] is about the sampler, [`lattice`]
//! about the hardness of ring-LWE, [`claims`] puts the two together with the planner.

// A program that prints a table.
#![allow(clippy::print_stdout)]

mod claims;
mod gaussian;
mod lattice;

use std::process::ExitCode;

fn main() -> ExitCode {
    let claims = match claims::all() {
        Ok(claims) => claims,
        Err(error) => {
            println!("the planner refuses an input of the page: {error}");
            return ExitCode::FAILURE;
        }
    };
    print!("{}", claims::report(&claims));
    match claims.iter().filter(|claim| !claim.holds()).count() {
        0 => ExitCode::SUCCESS,
        broken => {
            println!("{broken} stated bounds do not hold");
            ExitCode::FAILURE
        }
    }
}
