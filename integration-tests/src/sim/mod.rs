//! Deterministic simulation: a whole federation in one process, with a clock, a network and disks that a seed plays with.
//!
//! The nodes are the real ones: [`galen_coordinator::rounds::engine::Engine`] behind its desk, and [`galen_party::party::Party`], with real
//! cryptography and real training on a few patients. What is simulated is what is around them: a [`galen_store::MemoryDisk`] for each, a
//! [`galen_core::ManualClock`], and [`wire`], which carries their messages.
//!
//! | module | idea |
//! |---|---|
//! | [`choice`] | chance, as a function of the seed |
//! | [`shape`] | the study of a seed |
//! | [`fault`] | what goes wrong, as a list |
//! | [`cheat`], [`fork`] | how the coordinator lies, and how it leads two lives |
//! | [`spoil`] | how contributors cheat |
//! | [`wire`], [`coordinator`], [`hospital`] | network and machines |
//! | [`world`] | who acts next |
//! | [`record`], [`span`], [`invariants`] | what happened, what sums tell together, and what must hold |
//! | [`shrink`] | from a failing list of faults to a minimal one |
//!
//! A schedule depends on its seed and its list of faults, on nothing else that decides anything: keys and ciphertexts are drawn from the
//! operating system, but no choice looks at them.

pub mod cheat;
pub mod choice;
pub mod coordinator;
pub mod fault;
pub mod fork;
pub mod hospital;
pub mod invariants;
pub mod record;
pub mod shape;
pub mod shrink;
pub mod span;
pub mod spoil;
pub mod wire;
pub mod world;

pub use cheat::{Change, Lie};
pub use fault::{Fault, Node};
pub use fork::{Crossing, Fork};
pub use invariants::{Invariant, Violation};
pub use spoil::{Deed, Spoil};
pub use world::Bug;

use choice::Choice;
use invariants::Held;
use shape::{Cast, Shape};
use std::fmt;
use world::World;

/// A schedule: everything that decides what happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The seed, which chooses the study and who acts when.
    pub seed: u64,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// What the coordinator lies about.
    pub lies: Vec<Lie>,
    /// Whether the coordinator leads two lives.
    pub fork: Option<Fork>,
    /// Which parties are connected to its other life, and when.
    pub crossings: Vec<Crossing>,
    /// Whether there are up to eight hospitals, of which four or five keep pieces.
    pub crowd: bool,
    /// How contributors cheat.
    pub spoils: Vec<Spoil>,
    /// What is wrong with the programs, if the simulation itself is tested.
    pub bug: Option<Bug>,
}

/// How a schedule ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What does not hold.
    pub violations: Vec<Violation>,
    /// Turns that it took.
    pub turns: u64,
    /// Whether the study was completed, and why it ended.
    pub closed: Option<(bool, String)>,
    /// What happened, turn by turn, if it was asked for.
    pub trace: Vec<String>,
}

impl Schedule {
    /// The schedule of a seed.
    pub fn of(seed: u64) -> Self {
        let choice = Choice::of(seed);
        Self {
            seed,
            faults: fault::faults(&choice, &Shape::of(&choice)),
            lies: Vec::new(),
            fork: None,
            crossings: Vec::new(),
            crowd: false,
            spoils: Vec::new(),
            bug: None,
        }
    }

    /// The schedule of a seed in which the coordinator lies, and a few things go wrong besides.
    pub fn of_lies(seed: u64) -> Self {
        let mut schedule = Self::of(seed);
        schedule.faults.truncate(4);
        schedule.lies = cheat::lies(&Choice::of(seed), &schedule.shape());
        schedule
    }

    /// The schedule of a seed in which the coordinator leads two lives and parties cheat, and a few things go wrong besides.
    pub fn of_fork(seed: u64) -> Self {
        let mut schedule = Self::of(seed);
        schedule.faults.truncate(5);
        let (fork, crossings) = fork::fork(&Choice::of(seed), &schedule.shape());
        (schedule.fork, schedule.crossings) = (Some(fork), crossings);
        schedule
    }

    /// The schedule of a seed in which contributors cheat, and a few things go wrong besides.
    pub fn of_contributors(seed: u64) -> Self {
        let choice = Choice::of(seed);
        let shape = Shape::of_crowd(&choice);
        let mut faults = fault::faults(&choice, &shape);
        faults.truncate(3);
        Self {
            faults,
            crowd: true,
            spoils: spoil::spoils(&choice, &shape),
            ..Self::of(seed)
        }
    }

    /// The study of the seed.
    pub fn shape(&self) -> Shape {
        let choice = Choice::of(self.seed);
        if self.crowd {
            Shape::of_crowd(&choice)
        } else {
            Shape::of(&choice)
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// If the simulation itself cannot be set up.
    pub fn run(&self) -> anyhow::Result<Outcome> {
        self.play(false)
    }

    /// Runs it and tells what happens turn by turn.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_traced(&self) -> anyhow::Result<Outcome> {
        self.play(true)
    }

    fn play(&self, trace: bool) -> anyhow::Result<Outcome> {
        let cast = Cast::new(self.shape())?;
        // For the parties' blocking work; the world itself waits for every step.
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let _entered = runtime.enter();
        let mut world = World::new(&cast, self, trace)?;
        world.run();
        let honest = self.lies.is_empty() && self.fork.is_none();
        let harmless = self.spoils.iter().all(|spoil| spoil.deed.is_harmless());
        let held = Held {
            liveness: honest,
            completion: honest && harmless,
            one_set: honest && harmless,
        };
        Ok(Outcome {
            violations: invariants::check(&world, held),
            turns: world.turn,
            closed: world.closed(),
            trace: world.trace(),
        })
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Schedule {{")?;
        writeln!(f, "    seed: {},", self.seed)?;
        writeln!(f, "    faults: vec![")?;
        for fault in &self.faults {
            writeln!(f, "        {},", fault.code())?;
        }
        writeln!(f, "    ],")?;
        writeln!(f, "    lies: vec![")?;
        for lie in &self.lies {
            let text = format!("{lie:?}").replace("change: ", "change: Change::");
            writeln!(f, "        {text},")?;
        }
        writeln!(f, "    ],")?;
        match &self.fork {
            None => writeln!(f, "    fork: None,")?,
            Some(fork) => writeln!(
                f,
                "    fork: Some(Fork {{ turn: {}, cheaters: vec!{:?}, second: vec!{:?} }}),",
                fork.turn, fork.cheaters, fork.second
            )?,
        }
        writeln!(f, "    crossings: vec!{:?},", self.crossings)?;
        writeln!(f, "    crowd: {},", self.crowd)?;
        writeln!(f, "    spoils: vec![")?;
        for spoil in &self.spoils {
            let text = format!("{spoil:?}").replace("deed: ", "deed: Deed::");
            writeln!(f, "        {text},")?;
        }
        writeln!(f, "    ],")?;
        match self.bug {
            None => writeln!(f, "    bug: None,")?,
            Some(Bug::LyingDisk(node)) => {
                writeln!(f, "    bug: Some(Bug::LyingDisk({})),", fault::code_of(node))?;
            }
            Some(bug) => writeln!(f, "    bug: Some(Bug::{bug:?}),")?,
        }
        write!(f, "}}")
    }
}
