//! The world of a schedule: who acts next, what arrives, what breaks.
//!
//! One thing happens per turn: the coordinator does what is due, a message arrives, a party goes on with its answer, a machine starts. The
//! seed chooses which. Time is a clock that the world moves: a little per turn, more when nobody can do anything.

use super::Schedule;
use super::cheat::{Liar, Lie};
use super::choice::Choice;
use super::coordinator::{Coordinator, may_wait};
use super::fault::{Fault, Node};
use super::fork::{Crossing, Fork};
use super::hospital::{Ended, Hospital};
use super::record::Recorder;
use super::shape::Cast;
use super::wire::{Answer, Message};
use galen_core::{Clock, ManualClock, PartyId};
use galen_net::NetError;
use galen_net::protocol::Request;
use galen_party::PartyError;
use galen_party::party::End;
use galen_party::rounds::Rounds;
use galen_store::Image;
use std::sync::Arc;
use std::time::Duration;

/// A program that is not what it should be, to see that the simulation notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A disk that says "durable" too early: a power cut takes the last writes away.
    LyingDisk(Node),
}

/// After so many turns a study that is not over will not end any more.
const TURNS: u64 = 40_000;
/// After so many turns lies have had their effect.
const TURNS_OF_LIES: u64 = 4_000;
/// How long a poll waits, in milliseconds.
const POLL_MS: u64 = 15_000;
/// How long a process that ended with an error stays down.
const STOPPED: u64 = 40;
/// How long a party rests before it connects again.
const REST: u64 = 12;
/// A lying disk writes for real at every so many turns.
const LYING: u64 = 150;

/// A party's place in the world.
struct Seat {
    /// Which party; twins of cheaters come after all parties.
    member: usize,
    /// Which coordinator it is connected to.
    side: usize,
    hospital: Hospital,
    /// Requests so far, those that only ask what there is to do left out.
    requests: u64,
    flight: Option<Flight>,
    /// Whether the process has something to do: it has just started or got an answer.
    ready: bool,
    /// When the machine is started again.
    down_until: Option<u64>,
    gone: bool,
    over: bool,
    /// How often it is chosen.
    weight: u64,
}

/// A message under way.
struct Flight {
    message: Message,
    /// Kept for the record.
    request: Option<Request>,
    lost: bool,
    unanswered: bool,
    arrives: u64,
    sent_ms: u64,
}

/// A message that arrives after its sender has stopped waiting.
struct Late {
    party: usize,
    side: usize,
    message: Message,
    at: u64,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Drive(usize),
    Start(Node),
    StartTwin(usize),
    Go(usize),
    Arrive(usize),
    ArriveLate(usize),
}

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
    pub(super) recorder: Recorder,
    pub(super) turn: u64,
    /// Processes that ended with an error that no crash explains.
    pub(super) stops: Vec<String>,
    trace: Option<Vec<String>>,
}

impl<'a> World<'a> {
    /// The beginning of a schedule.
    pub fn new(cast: &'a Cast, schedule: &'a Schedule, trace: bool) -> anyhow::Result<Self> {
        let choice = Choice::of(schedule.seed);
        let clock = Arc::new(ManualClock::at(1_700_000_000_000));
        let seat = |party: usize| Seat {
            member: party,
            side: 0,
            hospital: Hospital::new(),
            requests: 0,
            flight: None,
            ready: false,
            down_until: Some(0),
            gone: false,
            over: false,
            weight: choice.between("weight", party as u64, 1, 4),
        };
        let world = Self {
            cast,
            choice,
            faults: &schedule.faults,
            bug: schedule.bug,
            lies: &schedule.lies,
            fork: schedule.fork.as_ref(),
            crossings: &schedule.crossings,
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
        while self.turn < turns && !self.is_over() {
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
    }

    /// Whether nobody has anything left to do.
    pub fn is_over(&self) -> bool {
        let second = self.second.as_ref();
        let two = second.is_some_and(|second| second.state().is_none_or(|state| state.closed.is_none()));
        !two && self.seats.iter().all(|seat| seat.gone || seat.over) && self.closed().is_some()
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
        self.fork.is_some_and(|fork| fork.cheaters.contains(&party))
    }

    /// The names of the cheaters.
    pub fn cheaters(&self) -> Vec<&PartyId> {
        let members = self.cast.members.iter().enumerate();
        members
            .filter(|(party, _)| self.cheats(*party))
            .map(|(_, member)| member.name())
            .collect()
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

    /// The coordinator of a side.
    fn coordinator(&mut self, side: usize) -> &mut Coordinator {
        match &mut self.second {
            Some(second) if side == 1 => second,
            _ => &mut self.coordinator,
        }
    }

    /// The coordinator begins to lead two lives.
    fn part(&mut self, fork: &Fork) {
        self.note(|| "from here on there are two coordinators".into());
        let mut second = Coordinator::new();
        second.disk.put_back(&self.coordinator.disk.image());
        if let Err(error) = second.start(self.cast, &self.time) {
            self.stops
                .push(format!("turn {}: the second coordinator: {error:#}", self.turn));
            return;
        }
        self.second = Some(second);
        for &party in &fork.second {
            self.cross(party);
        }
        for &party in &fork.cheaters {
            let mut twin = Seat {
                member: party,
                side: 1,
                hospital: Hospital::new(),
                requests: 0,
                flight: None,
                ready: false,
                down_until: Some(self.turn),
                gone: false,
                over: false,
                weight: self.seats[party].weight,
            };
            let primary = &self.seats[party].hospital;
            twin.hospital.disk.put_back(&primary.disk.image());
            twin.hospital.remember_as(primary);
            self.seats.push(twin);
        }
    }

    /// A party is connected to the other side; what it waits for is lost.
    fn cross(&mut self, party: usize) {
        if self.second.is_none() {
            return;
        }
        let seat = &mut self.seats[party];
        seat.side = 1 - seat.side;
        let side = seat.side;
        if seat.flight.take().is_some() {
            seat.hospital.line().answer(Err(NetError::Cancelled));
            seat.ready = true;
        }
        self.note(|| format!("party {party} is connected to side {side}"));
    }

    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Faults that strike at a turn.
    fn break_things(&mut self) {
        let turn = self.turn;
        if let Some(Bug::LyingDisk(node)) = self.bug
            && turn.is_multiple_of(LYING)
        {
            self.lying = Some(self.disk(node).image());
        }
        if let Some(fork) = self.fork.filter(|fork| fork.turn == turn) {
            self.part(fork);
        }
        for crossing in self.crossings.iter().filter(|crossing| crossing.turn == turn) {
            self.cross(crossing.party);
        }
        for fault in self.faults {
            match *fault {
                Fault::Restored { party, to, .. } if to == turn => {
                    let image = self.seats[party].hospital.disk.image();
                    self.images.push((party, image));
                }
                Fault::Restored {
                    party,
                    to,
                    turn: at,
                    power,
                } if at == turn => self.restore(party, to, power),
                Fault::Reboot {
                    party,
                    turn: at,
                    turns,
                } if at == turn => self.fail(Node::Party(party), turns),
                Fault::Killed {
                    party,
                    turn: at,
                    turns,
                } if at == turn && self.seats[party].hospital.runs() => {
                    self.note(|| format!("the process of party {party} is killed"));
                    self.stop(party);
                    self.seats[party].down_until = Some(turn + turns);
                }
                Fault::Gone { party, turn: at } if at == turn => {
                    self.note(|| format!("party {party} leaves for ever"));
                    self.stop(party);
                    self.seats[party].gone = true;
                    self.seats[party].down_until = None;
                }
                Fault::Pause { turn: at } if at == turn => {
                    self.note(|| "everything stands still".into());
                    let patience = self.cast.study.study().sums.patience_s;
                    self.clock.advance(Duration::from_secs(u64::from(patience) + 1));
                }
                _ => {}
            }
        }
    }

    fn restore(&mut self, party: usize, to: u64, power: bool) {
        if self.seats[party].gone {
            return;
        }
        let taken = self.images.iter().position(|(whose, _)| *whose == party);
        let image = taken.map_or_else(Image::default, |at| self.images.remove(at).1);
        self.note(|| format!("the disk of party {party} is put back to turn {to}"));
        if power {
            self.fail(Node::Party(party), 5);
        } else {
            self.stop(party);
            self.seats[party].down_until = Some(self.turn + 5);
        }
        self.seats[party].hospital.disk.put_back(&image);
        self.seats[party].over = false;
    }

    fn disk(&self, node: Node) -> &galen_store::MemoryDisk {
        match node {
            Node::Coordinator => &self.coordinator.disk,
            Node::Party(party) => &self.seats[party].hospital.disk,
        }
    }

    /// Plans the next power cut of a machine.
    fn arm(&self, node: Node) {
        let written = self.disk(node).writes();
        let crashes = self.faults.iter().filter_map(|fault| match *fault {
            Fault::Crash {
                node: whose,
                write,
                cut,
                ..
            } if whose == node && write > written => Some((write, cut)),
            _ => None,
        });
        if let Some((write, cut)) = crashes.min_by_key(|(write, _)| *write) {
            self.disk(node).cut_at(write - written, cut);
        }
    }

    /// How long the machine is off that has just lost its power.
    fn outage(&self, node: Node) -> u64 {
        let written = self.disk(node).writes();
        let crash = self.faults.iter().find_map(|fault| match *fault {
            Fault::Crash {
                node: whose,
                write,
                turns,
                ..
            } if whose == node && write == written => Some(turns),
            _ => None,
        });
        crash.unwrap_or(1)
    }

    /// A party's process is gone. What it sent last may arrive all the same.
    fn stop(&mut self, party: usize) {
        let seat = &mut self.seats[party];
        let unsent = seat.hospital.stop();
        let message = seat.flight.take().map(|flight| flight.message).or(unsent);
        seat.ready = false;
        if let Some(message) = message.filter(|message| !message.is_idle())
            && self.choice.percent("ghost", self.turn, 60)
        {
            let at = self.turn + self.choice.below("ghost at", self.turn, 60);
            let side = self.seats[party].side;
            self.late.push(Late {
                party,
                side,
                message,
                at,
            });
        }
    }

    /// A machine loses its power, or has lost it.
    fn fail(&mut self, node: Node, turns: u64) {
        if let Node::Party(party) = node
            && self.seats[party].gone
        {
            return;
        }
        let name = self.name(node);
        self.note(|| format!("{name} loses its power for {turns} turns"));
        self.disk(node).cut_now();
        match node {
            Node::Coordinator => {
                self.coordinator.stop();
                self.coordinator_down_until = Some(self.turn + turns);
            }
            Node::Party(party) => {
                self.stop(party);
                self.seats[party].down_until = Some(self.turn + turns);
            }
        }
        if self.bug == Some(Bug::LyingDisk(node))
            && let Some(image) = self.lying.take()
        {
            self.disk(node).put_back(&image);
        }
    }

    fn choose(&self) -> Option<Action> {
        let due = |until: Option<u64>| until.is_some_and(|until| until <= self.turn);
        let mut actions: Vec<(Action, u64)> = Vec::new();
        if due(self.coordinator_down_until) {
            actions.push((Action::Start(Node::Coordinator), 2));
        }
        if self.coordinator.is_due(self.now_ms()) {
            actions.push((Action::Drive(0), 3));
        }
        if self
            .second
            .as_ref()
            .is_some_and(|second| second.is_due(self.now_ms()))
        {
            actions.push((Action::Drive(1), 3));
        }
        let versions = [
            self.coordinator.version(),
            self.second.as_ref().and_then(Coordinator::version),
        ];
        let parties = self.cast.members.len();
        for (party, seat) in self.seats.iter().enumerate() {
            if due(seat.down_until) {
                let start = if party < parties {
                    Action::Start(Node::Party(party))
                } else {
                    Action::StartTwin(party)
                };
                actions.push((start, seat.weight));
            }
            if seat.ready {
                actions.push((Action::Go(party), seat.weight));
            }
            let arrives = seat.flight.as_ref().is_some_and(|flight| {
                let waits = may_wait(&flight.message, versions[seat.side])
                    && self.now_ms() < flight.sent_ms + POLL_MS
                    && !self.is_severed(party);
                flight.arrives <= self.turn && !waits
            });
            if arrives {
                actions.push((Action::Arrive(party), seat.weight));
            }
        }
        for (index, late) in self.late.iter().enumerate() {
            if late.at <= self.turn {
                actions.push((Action::ArriveLate(index), 1));
            }
        }
        let total = actions.iter().map(|(_, weight)| weight).sum::<u64>();
        let mut at = self.choice.below("act", self.turn, total.max(1));
        actions.into_iter().find_map(|(action, weight)| {
            let here = at < weight;
            at = at.saturating_sub(weight);
            here.then_some(action)
        })
    }

    fn is_severed(&self, party: usize) -> bool {
        self.faults.iter().any(|fault| match *fault {
            Fault::Severed {
                party: whose,
                turn,
                turns,
            } => whose == party && (turn..turn + turns).contains(&self.turn),
            _ => false,
        })
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Drive(side) => {
                let now = self.now_ms();
                let driven = self.coordinator(side).drive(now);
                self.note(|| "the coordinator does what is due".into());
                self.after_coordinator();
                if let Err(error) = driven
                    && self.coordinator.runs()
                {
                    self.stops
                        .push(format!("turn {}: coordinator: {error}", self.turn));
                }
            }
            Action::Start(Node::Coordinator) => self.start_coordinator(),
            Action::Start(Node::Party(party)) | Action::StartTwin(party) => self.start_party(party),
            Action::Go(party) => self.go(party),
            Action::Arrive(party) => self.arrive(party),
            Action::ArriveLate(index) => {
                let late = self.late.remove(index);
                let name = self.member(late.party);
                self.note(|| format!("{name}: {} arrives late", late.message.name()));
                let _ = self.coordinator(late.side).answer(name, late.message);
                self.after_coordinator();
            }
        }
    }

    /// Sees whether the coordinator lost its power over what it did.
    fn after_coordinator(&mut self) {
        if self.coordinator.disk.is_off() && self.coordinator.runs() {
            let turns = self.outage(Node::Coordinator);
            self.fail(Node::Coordinator, turns);
        }
    }

    fn start_coordinator(&mut self) {
        self.coordinator.disk.start();
        self.arm(Node::Coordinator);
        self.coordinator_down_until = None;
        let started = self.coordinator.start(self.cast, &self.time);
        self.note(|| "the coordinator starts".into());
        if let Err(error) = started {
            if !self.coordinator.disk.is_off() {
                self.stops.push(format!(
                    "turn {}: the coordinator cannot start: {error:#}",
                    self.turn
                ));
            }
            self.coordinator_down_until = Some(self.turn + self.outage(Node::Coordinator));
        }
    }

    fn start_party(&mut self, party: usize) {
        let seat = &mut self.seats[party];
        seat.hospital.switch_on();
        seat.down_until = None;
        if party < self.cast.members.len() {
            self.arm(Node::Party(party));
        }
        let seat = &mut self.seats[party];
        let member = &self.cast.members[seat.member];
        match seat.hospital.start(self.cast, member, &self.time) {
            Ok(()) => seat.ready = true,
            Err(error) => {
                let off = seat.hospital.disk.is_off();
                seat.down_until = Some(self.turn + STOPPED);
                if !off {
                    let text = format!("turn {}: {} cannot start: {error}", self.turn, member.name());
                    self.stops.push(text);
                }
            }
        }
        let name = self.name(Node::Party(party));
        self.note(|| format!("{name} starts"));
    }

    fn go(&mut self, party: usize) {
        let seat = &mut self.seats[party];
        seat.ready = false;
        let ended = seat.hospital.run();
        if seat.hospital.disk.is_off() {
            let turns = self.outage(Node::Party(party));
            self.fail(Node::Party(party), turns);
            return;
        }
        match ended {
            None => self.send(party),
            Some(ended) => self.end(party, ended),
        }
    }

    fn end(&mut self, party: usize, ended: Ended) {
        let name = self.member(party);
        let seat = &mut self.seats[party];
        let text = match ended {
            Ok(End::Completed(_) | End::Stopped) => {
                seat.over = true;
                format!("{name} has completed the study")
            }
            Err(PartyError::Closed(reason)) => {
                seat.over = true;
                format!("{name}: the study is closed: {reason}")
            }
            Err(error) => {
                seat.down_until = Some(self.turn + STOPPED);
                let text = format!("{name} stops: {error}");
                self.stops.push(format!("turn {}: {text}", self.turn));
                text
            }
        };
        self.note(|| text);
    }

    /// A party has sent something and waits for the answer.
    fn send(&mut self, party: usize) {
        let name = self.member(party);
        let now = self.clock.now_ms();
        let seat = &mut self.seats[party];
        let Some(message) = seat.hospital.line().take_sent() else {
            return;
        };
        let mut flight = Flight {
            request: None,
            lost: false,
            unanswered: false,
            arrives: self.turn + 1,
            sent_ms: now,
            message,
        };
        if let Message::Call(request) = &flight.message {
            self.recorder.sent(name, request, seat.hospital.vault().as_ref());
            flight.request = Some(request.clone());
        }
        if matches!(flight.message, Message::Rest) {
            flight.arrives = self.turn + REST;
        }
        if !flight.message.is_idle() {
            seat.requests += 1;
            let number = seat.requests;
            for fault in self.faults {
                match *fault {
                    Fault::Lost {
                        party: whose,
                        request,
                    } if (whose, request) == (party, number) => {
                        flight.lost = true;
                    }
                    Fault::Unanswered {
                        party: whose,
                        request,
                    } if (whose, request) == (party, number) => {
                        flight.unanswered = true;
                    }
                    Fault::Delayed {
                        party: whose,
                        request,
                        turns,
                    } if (whose, request) == (party, number) => flight.arrives = self.turn + turns,
                    Fault::Repeated {
                        party: whose,
                        request,
                        turns,
                    } if (whose, request) == (party, number) => {
                        let again = flight.message.again();
                        self.late.extend(again.map(|message| Late {
                            party,
                            side: seat.side,
                            message,
                            at: self.turn + turns,
                        }));
                    }
                    _ => {}
                }
            }
        }
        // What is said on one side may be said on the other, too.
        if self.second.is_some()
            && self.choice.percent("leak", self.turn, 60)
            && let Some(message) = flight.message.again().filter(|message| !message.is_idle())
        {
            self.late.push(Late {
                party,
                side: 1 - seat.side,
                message,
                at: self.turn + self.choice.below("leak at", self.turn, 80),
            });
        }
        seat.flight = Some(flight);
    }

    fn arrive(&mut self, party: usize) {
        let Some(flight) = self.seats[party].flight.take() else {
            return;
        };
        let name = self.member(party);
        let text = flight.message.name();
        let answer = if matches!(flight.message, Message::Rest) {
            Ok(galen_net::Response::Ok)
        } else if flight.lost || self.is_severed(party) {
            Err(NetError::Cancelled)
        } else {
            let answer = self.ask(party, name, flight.message, flight.request.as_ref());
            self.after_coordinator();
            let side = self.seats[party].side;
            let arrives = self.coordinator(side).runs() && !flight.unanswered;
            if let (Ok(response), Some(request)) = (&answer, &flight.request)
                && arrives
            {
                self.recorder.answered(name, request, response);
            }
            if arrives { answer } else { Err(NetError::Cancelled) }
        };
        self.note(|| format!("{name}: {text}: {}", outcome(&answer)));
        let seat = &mut self.seats[party];
        seat.hospital.line().answer(answer);
        seat.ready = true;
        if seat.hospital.disk.is_off() {
            let turns = self.outage(Node::Party(party));
            self.fail(Node::Party(party), turns);
        }
    }
}

impl World<'_> {
    /// The coordinator's answer, or what a lying one makes of it.
    fn ask(&mut self, party: usize, name: &PartyId, message: Message, request: Option<&Request>) -> Answer {
        let side = self.seats[party].side;
        if self.lies.is_empty() {
            return self.coordinator(side).answer(name, message);
        }
        let message = match message {
            Message::Get { digest, sink } => match self.liar.changes_blob(self.lies, party) {
                Some(which) => {
                    self.note(|| format!("{name} gets a spoilt blob"));
                    return self.coordinator(side).spoil(name, &digest, sink, which);
                }
                None => Message::Get { digest, sink },
            },
            message => message,
        };
        let answer = self.coordinator(side).answer(name, message);
        let Some(request) = request else { return answer };
        if let Ok(response) = &answer {
            // What the liar knows may be said to somebody later.
            self.recorder.answered(name, request, response);
        }
        let (answer, lied) = self.liar.change(self.lies, party, request, answer);
        if lied {
            self.note(|| format!("{name} is lied to"));
        }
        answer
    }
}

fn outcome(answer: &Answer) -> String {
    match answer {
        Ok(galen_net::Response::View(view)) => match &view.attempt {
            Some(attempt) => format!(
                "{}/{} {:?}, waiting for {:?}",
                attempt.round,
                attempt.attempt,
                attempt.phase,
                attempt.awaiting.iter().map(PartyId::as_str).collect::<Vec<_>>()
            ),
            None => format!("{:?}", view.study),
        },
        Ok(_) => "ok".into(),
        Err(error) => error.to_string(),
    }
}
