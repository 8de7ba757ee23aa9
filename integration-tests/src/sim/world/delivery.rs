//! Messages: sent, lost, repeated, overtaken, answered.

use super::seat::{Flight, Late};
use super::{Bug, World};
use crate::sim::fault::{Fault, Node};
use crate::sim::wire::{Answer, Message};
use galen_core::{Clock, PartyId};
use galen_net::NetError;
use galen_net::protocol::{Request, Response, Statement};

/// How long a party rests before it connects again.
const REST: u64 = 12;

impl World<'_> {
    /// A party has sent something and waits for the answer.
    pub(super) fn send(&mut self, party: usize) {
        let name = self.member(party);
        let now = self.clock.now_ms();
        let Some(message) = self.seats[party].hospital.line().take_sent() else {
            return;
        };
        let message = self.cheated(party, message);
        let mut flight = Flight {
            request: None,
            lost: false,
            unanswered: false,
            arrives: self.turn + 1,
            sent_ms: now,
            message,
        };
        if let Message::Call(request) = &flight.message {
            let encrypted = self.encrypted(party, request);
            self.recorder.sent(name, request, encrypted);
            flight.request = Some(request.clone());
            if self.bug == Some(Bug::Backup(party)) && is_contribution(request) {
                self.backup = Some(self.seats[party].hospital.disk.image());
            }
        }
        let seat = &mut self.seats[party];
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

    pub(super) fn arrive(&mut self, party: usize) {
        let Some(flight) = self.seats[party].flight.take() else {
            return;
        };
        let name = self.member(party);
        let text = flight.message.name();
        let answer = if matches!(flight.message, Message::Rest) {
            Ok(Response::Ok)
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
                if matches!(request, Request::Post(Statement::Incarnation(_))) && self.seats[party].lost {
                    self.lose(party);
                    self.seats[party].lost = false;
                }
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

    /// The coordinator's answer, or what a lying one makes of it.
    pub(super) fn ask(
        &mut self,
        party: usize,
        name: &PartyId,
        message: Message,
        request: Option<&Request>,
    ) -> Answer {
        let side = self.seats[party].side;
        if self.bug == Some(Bug::FalseWord(party)) && request.is_some_and(is_contribution) {
            return Ok(Response::Ok);
        }
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

fn is_contribution(request: &Request) -> bool {
    matches!(request, Request::Post(Statement::Contribution(_)))
}

fn outcome(answer: &Answer) -> String {
    match answer {
        Ok(Response::View(view)) => match &view.attempt {
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
