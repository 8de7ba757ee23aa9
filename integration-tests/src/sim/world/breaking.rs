//! What breaks, and when: power cuts, kills, old disks, cut lines.

use super::seat::Late;
use super::{Bug, World};
use crate::sim::fault::{Fault, Node};
use galen_store::Image;
use std::time::Duration;

/// A lying disk writes for real at every so many turns.
const LYING: u64 = 150;

impl World<'_> {
    /// Faults that strike at a turn.
    pub(super) fn break_things(&mut self) {
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

    pub(super) fn restore(&mut self, party: usize, to: u64, power: bool) {
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
            self.lose(party);
            self.seats[party].down_until = Some(self.turn + 5);
        }
        self.seats[party].hospital.disk.put_back(&image);
        self.seats[party].over = false;
    }

    pub(super) fn disk(&self, node: Node) -> &galen_store::MemoryDisk {
        match node {
            Node::Coordinator => &self.coordinator.disk,
            Node::Party(party) => &self.seats[party].hospital.disk,
        }
    }

    /// Plans the next power cut of a machine.
    pub(super) fn arm(&self, node: Node) {
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
    pub(super) fn outage(&self, node: Node) -> u64 {
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
    pub(super) fn stop(&mut self, party: usize) {
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
    pub(super) fn fail(&mut self, node: Node, turns: u64) {
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
                self.lose(party);
                self.seats[party].down_until = Some(self.turn + turns);
            }
        }
        if self.bug == Some(Bug::LyingDisk(node))
            && let Some(image) = self.lying.take()
        {
            self.disk(node).put_back(&image);
        }
    }

    pub(super) fn is_severed(&self, party: usize) -> bool {
        self.faults.iter().any(|fault| match *fault {
            Fault::Severed {
                party: whose,
                turn,
                turns,
            } => whose == party && (turn..turn + turns).contains(&self.turn),
            _ => false,
        })
    }
}
