//! Who acts next, and what it does.

use super::World;
use crate::sim::coordinator::{Coordinator, may_wait};
use crate::sim::fault::Node;
use crate::sim::hospital::Ended;
use galen_party::PartyError;
use galen_party::party::End;

/// How long a poll waits, in milliseconds.
const POLL_MS: u64 = 15_000;
/// How long a process that ended with an error stays down.
const STOPPED: u64 = 40;

#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    Drive(usize),
    Start(Node),
    StartTwin(usize),
    Go(usize),
    Arrive(usize),
    ArriveLate(usize),
}

impl World<'_> {
    pub(super) fn choose(&self) -> Option<Action> {
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

    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Drive(side) => {
                let now = self.now_ms();
                let driven = self.coordinator(side).drive(now);
                self.note(|| "the coordinator does what is due".into());
                if side == 0 {
                    self.note_announced();
                }
                self.after_coordinator();
                if let Err(error) = driven
                    && self.coordinator.runs()
                {
                    self.stops
                        .push((None, format!("turn {}: coordinator: {error}", self.turn)));
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
    pub(super) fn after_coordinator(&mut self) {
        if self.coordinator.disk.is_off() && self.coordinator.runs() {
            let turns = self.outage(Node::Coordinator);
            self.fail(Node::Coordinator, turns);
        }
    }

    pub(super) fn start_coordinator(&mut self) {
        self.coordinator.disk.start();
        self.arm(Node::Coordinator);
        self.coordinator_down_until = None;
        let started = self.coordinator.start(self.cast, &self.time);
        self.note(|| "the coordinator starts".into());
        if let Err(error) = started {
            if !self.coordinator.disk.is_off() {
                let text = format!("turn {}: the coordinator cannot start: {error:#}", self.turn);
                self.stops.push((None, text));
            }
            self.coordinator_down_until = Some(self.turn + self.outage(Node::Coordinator));
        }
    }

    pub(super) fn start_party(&mut self, party: usize) {
        if self.seats[party].lost {
            self.lose(party);
        }
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
                    self.stops.push((Some(seat.member), text));
                }
            }
        }
        let name = self.name(Node::Party(party));
        self.note(|| format!("{name} starts"));
    }

    pub(super) fn go(&mut self, party: usize) {
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

    pub(super) fn end(&mut self, party: usize, ended: Ended) {
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
                self.stops
                    .push((Some(seat.member), format!("turn {}: {text}", self.turn)));
                text
            }
        };
        self.note(|| text);
    }
}
