//! Runs simulated schedules and prints their seeds and how many there were; a failing one is shrunk and printed so that it can be pasted
//! into a test.

#![allow(clippy::print_stdout, reason = "a command line tool")]

use clap::Parser;
use galen_integration_tests::sim::Schedule;
use galen_integration_tests::sim::shrink::Failure;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Runs simulated federations under faults and checks that all invariants hold.
#[derive(Debug, Parser)]
struct Options {
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// How many seeds, one after the other.
    #[arg(long, default_value_t = 100)]
    count: u64,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: u64,
    /// The coordinator lies.
    #[arg(long)]
    lies: bool,
    /// The coordinator leads two lives, and parties cheat.
    #[arg(long, conflicts_with = "lies")]
    forks: bool,
    /// Contributors cheat.
    #[arg(long, conflicts_with_all = ["lies", "forks"])]
    contributors: bool,
    /// Shows one schedule turn by turn: that of the first seed.
    #[arg(long)]
    trace: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    if options.trace {
        let schedule = schedule(options.first, &options);
        println!("{:?}\n{schedule}", schedule.shape());
        let outcome = schedule.run_traced()?;
        for line in &outcome.trace {
            println!("{line}");
        }
        for violation in &outcome.violations {
            println!("{violation}");
        }
        println!("{:?} after {} turns", outcome.closed, outcome.turns);
        return Ok(exit(outcome.violations.is_empty()));
    }
    let begun = Instant::now();
    let next = AtomicU64::new(options.first);
    let end = options.first.saturating_add(options.count);
    let totals = Mutex::new(Totals::default());
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let work = || -> anyhow::Result<()> {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    return Ok(());
                }
                let schedule = schedule(seed, &options);
                let outcome = schedule.run()?;
                let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
                totals.note(&schedule, &outcome);
                if !outcome.violations.is_empty() {
                    drop(totals);
                    report(&schedule)?;
                }
            }
        };
        let workers: Vec<_> = (0..options.threads.max(1)).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker
                .join()
                .map_err(|_| anyhow::anyhow!("a schedule panicked"))??;
        }
        Ok(())
    })?;
    let totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "seeds {} to {}: {} schedules with {} faults, {} lies and {} spoilt contributions in {} turns, {:.1} s ({:.0} ms each)",
        options.first,
        end.saturating_sub(1),
        totals.schedules,
        totals.faults,
        totals.lies,
        totals.spoils,
        totals.turns,
        seconds,
        1000.0 * seconds / totals.schedules.max(1) as f64
    );
    for (end, count) in &totals.ends {
        println!("{count:>7}  {end}");
    }
    println!(
        "{} schedules in which an invariant does not hold",
        totals.failures
    );
    Ok(exit(totals.failures == 0))
}

#[derive(Default)]
struct Totals {
    schedules: u64,
    faults: usize,
    lies: usize,
    spoils: usize,
    turns: u64,
    failures: u64,
    ends: BTreeMap<String, u64>,
}

impl Totals {
    fn note(&mut self, schedule: &Schedule, outcome: &galen_integration_tests::sim::Outcome) {
        self.schedules += 1;
        self.faults += schedule.faults.len();
        self.lies += schedule.lies.len();
        self.spoils += schedule.spoils.len();
        self.turns += outcome.turns;
        self.failures += u64::from(!outcome.violations.is_empty());
        let end = match &outcome.closed {
            Some((true, _)) => "all rounds published".to_owned(),
            // Names and numbers left out, so that like ends count together.
            Some((false, reason)) => {
                let words: Vec<&str> = reason
                    .split_whitespace()
                    .filter(|word| {
                        let bare = word.trim_matches(['(', ')', ':', ';', ',']);
                        bare.len() > 1 && bare.chars().all(char::is_alphabetic)
                    })
                    .take(10)
                    .collect();
                format!("closed: {}", words.join(" "))
            }
            None => "not over".to_owned(),
        };
        *self.ends.entry(end).or_default() += 1;
    }
}

fn schedule(seed: u64, options: &Options) -> Schedule {
    if options.lies {
        Schedule::of_lies(seed)
    } else if options.forks {
        Schedule::of_fork(seed)
    } else if options.contributors {
        Schedule::of_contributors(seed)
    } else {
        Schedule::of(seed)
    }
}

fn report(schedule: &Schedule) -> anyhow::Result<()> {
    println!("seed {} fails:", schedule.seed);
    match Failure::of(schedule)? {
        Some(failure) => {
            let failure = failure.shrink()?;
            println!(
                "{failure}\nshrunk in {} runs from {} faults, {} lies and {} spoilt contributions",
                failure.runs,
                schedule.faults.len(),
                schedule.lies.len(),
                schedule.spoils.len()
            );
        }
        None => println!("it did not fail again: it depends on something beside the seed\n{schedule}"),
    }
    Ok(())
}

fn exit(holds: bool) -> ExitCode {
    if holds {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
