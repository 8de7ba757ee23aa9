//! The world of a schedule: who acts next, what arrives, what breaks.
//!
//! One thing happens per turn: the coordinator does what is due, a message arrives, a party goes on with its answer, a machine starts. The
//! seed chooses which. Time is a clock that the world moves: a little per turn, more when nobody can do anything.
//!
//! | module | idea |
//! |---|---|
//! | `seat` | a party's place, and its messages under way |
//! | `acting` | who acts next, and what it does |
//! | `delivery` | messages, lost, late, repeated or answered |
//! | `breaking` | power cuts, old disks, cut lines |
//! | `lives` | a coordinator that is there twice |
//! | `losses` | which parties a round has lost |
//! | `cheating` | contributors that send something else |

mod acting;
mod breaking;
mod cheating;
mod delivery;
mod lives;
mod losses;
mod seat;

use self::seat::{Late, Seat};
use super::Schedule;
use super::cheat::{Liar, Lie};
use super::choice::Choice;
use super::coordinator::Coordinator;
use super::fault::{Fault, Node};
use super::fork::{Crossing, Fork};
use super::hospital::Hospital;
use super::record::Recorder;
use super::shape::Cast;
use super::spoil::{Spoil, Spoiler};
use galen_core::{Clock, ManualClock, PartyId};
use galen_party::rounds::Rounds;
use galen_store::Image;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// A program that is not what it should be, to see that the simulation notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A disk that says "durable" too early: a power cut takes the last writes away.
    LyingDisk(Node),
    /// A party that stands for no hospital: whoever runs it knows what it contributes.
    Sham(usize),
    /// The oracle believes that spoilt contributions encrypt what was computed.
    Unrecorded,
    /// A coordinator that acknowledges a party's contributions and throws them away.
    FalseWord(usize),
    /// A copy of a party's disk, taken when it had contributed, outlives the study.
    Backup(usize),
    /// Whoever spoils contributions counts as honest.
    Trusted,
}

/// After so many turns a study that is not over will not end any more.
const TURNS: u64 = 40_000;
/// After so many turns lies have had their effect.
const TURNS_OF_LIES: u64 = 4_000;

/// After so many processes that ended with an error, where nobody cheats, it is clear that something is wrong.
const STOPS: usize = 40;

/// A federation and everything around it.
pub struct World<'a> {
    pub(super) cast: &'a Cast,
    choice: Choice,
    faults: &'a [Fault],
    bug: Option<Bug>,
    lies: &'a [Lie],
    liar: Liar,
    fork: Option<&'a Fork>,
    crossings: &'a [Crossing],
    spoils: &'a [Spoil],
    spoiler: Spoiler,
    /// The coordinator's second life.
    pub(super) second: Option<Coordinator>,
    clock: Arc<ManualClock>,
    time: Arc<dyn Clock>,
    pub(super) coordinator: Coordinator,
    coordinator_down_until: Option<u64>,
    seats: Vec<Seat>,
    late: Vec<Late>,
    images: Vec<(usize, Image)>,
    lying: Option<Image>,
    backup: Option<Image>,
    /// Parties that lost their power or their disk, with the rounds that were under way then or when they came back.
    lost: BTreeSet<(usize, u32)>,
    /// The last round whose announcement was looked at.
    announced: Option<u32>,
    pub(super) recorder: Recorder,
    pub(super) turn: u64,
    /// Processes that ended with an error that no crash explains, with the party whose process it was.
    pub(super) stops: Vec<(Option<usize>, String)>,
    trace: Option<Vec<String>>,
}

impl<'a> World<'a> {
    /// The beginning of a schedule.
    pub fn new(cast: &'a Cast, schedule: &'a Schedule, trace: bool) -> anyhow::Result<Self> {
        let choice = Choice::of(schedule.seed);
        let clock = Arc::new(ManualClock::at(1_700_000_000_000));
        let seat = |party: usize| Seat::new(party, 0, choice.between("weight", party as u64, 1, 4));
        let world = Self {
            cast,
            choice,
            faults: &schedule.faults,
            bug: schedule.bug,
            lies: &schedule.lies,
            fork: schedule.fork.as_ref(),
            crossings: &schedule.crossings,
            spoils: &schedule.spoils,
            spoiler: Spoiler::default(),
            second: None,
            liar: Liar::new(cast.members.iter().map(|member| member.name().clone()).collect()),
            time: Arc::clone(&clock) as Arc<dyn Clock>,
            clock,
            coordinator: Coordinator::new(),
            coordinator_down_until: Some(0),
            seats: (0..cast.members.len()).map(seat).collect(),
            late: Vec::new(),
            images: Vec::new(),
            lying: None,
            backup: None,
            lost: BTreeSet::new(),
            announced: None,
            recorder: Recorder::new(Rounds::of(&cast.study)?),
            turn: 0,
            stops: Vec::new(),
            trace: trace.then(Vec::new),
        };
        for node in world.nodes() {
            world.arm(node);
        }
        Ok(world)
    }

    /// Runs until the study is over for everybody, or will not end.
    pub fn run(&mut self) {
        // Liveness is not asked of a study that is lied to.
        let turns = if self.lies.is_empty() {
            TURNS
        } else {
            TURNS_OF_LIES
        };
        let honest = self.lies.is_empty() && self.fork.is_none() && self.spoils.is_empty();
        while self.turn < turns && !self.is_over() && !(honest && self.stops.len() >= STOPS) {
            self.turn += 1;
            self.break_things();
            match self.choose() {
                Some(action) => {
                    self.act(action);
                    let ms = self.choice.below("time", self.turn, 25);
                    self.clock.advance(Duration::from_millis(ms));
                }
                None => self.clock.advance(Duration::from_millis(500)),
            }
        }
        if let (Some(Bug::Backup(party)), Some(image)) = (self.bug, &self.backup) {
            self.seats[party].hospital.disk.put_back(image);
        }
    }

    /// Whether nobody has anything left to do.
    pub fn is_over(&self) -> bool {
        let second = self.second.as_ref();
        let two = second.is_some_and(|second| second.state().is_none_or(|state| state.closed.is_none()));
        let done = |seat: &Seat| seat.gone || seat.over || self.spoils(seat.member);
        !two && self.seats.iter().all(done) && self.closed().is_some()
    }

    /// How the study ended, if it did: whether it was completed, and why it ended.
    pub fn closed(&self) -> Option<(bool, String)> {
        let closed = self.coordinator.state()?.closed?;
        Some((closed.completed, closed.reason))
    }

    /// The honest hospitals with their names, and whether they left.
    pub fn hospitals(&self) -> impl Iterator<Item = (&PartyId, &Hospital, bool)> {
        let members = self.cast.members.iter().enumerate();
        let seats = members.zip(&self.seats);
        let honest = seats.filter(|((party, _), _)| !self.cheats(*party));
        honest.map(|((_, member), seat)| (member.name(), &seat.hospital, seat.gone))
    }

    fn cheats(&self, party: usize) -> bool {
        let twin = self.fork.is_some_and(|fork| fork.cheaters.contains(&party));
        twin || self.spoils(party)
    }

    /// Whether a party spoils contributions.
    pub(super) fn spoils(&self, party: usize) -> bool {
        let trusted = self.bug == Some(Bug::Trusted);
        !trusted && self.spoils.iter().any(|spoil| spoil.party == party)
    }

    /// Whether anybody spoils contributions.
    pub fn is_spoilt(&self) -> bool {
        !self.spoils.is_empty()
    }

    /// The names of the parties that cheat as custodians.
    pub fn cheaters(&self) -> Vec<&PartyId> {
        let cheaters = self.fork.iter().flat_map(|fork| &fork.cheaters);
        cheaters.map(|party| self.cast.members[*party].name()).collect()
    }

    /// The parties that can be told to be at fault without doing them wrong.
    pub fn culprits(&self) -> Vec<&PartyId> {
        let members = self.cast.members.iter().enumerate();
        members
            .filter(|(party, _)| self.cheats(*party))
            .map(|(_, member)| member.name())
            .collect()
    }

    /// The party that stands for no hospital.
    pub fn sham(&self) -> Option<&PartyId> {
        match self.bug {
            Some(Bug::Sham(party)) => Some(self.cast.members[party].name()),
            _ => None,
        }
    }

    /// What happened, turn by turn, if it was asked for.
    pub fn trace(&mut self) -> Vec<String> {
        self.trace.take().unwrap_or_default()
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        let turn = self.turn;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{turn:>5}  {}", text()));
        }
    }

    fn nodes(&self) -> Vec<Node> {
        let parties = (0..self.cast.members.len()).map(Node::Party);
        std::iter::once(Node::Coordinator).chain(parties).collect()
    }

    fn name(&self, node: Node) -> String {
        match node {
            Node::Coordinator => "coordinator".into(),
            Node::Party(party) => self.member(party).to_string(),
        }
    }

    /// The name of the party in a seat.
    fn member(&self, seat: usize) -> &'a PartyId {
        self.cast.members[self.seats[seat].member].name()
    }

    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }
}
