//! The coordinator's two lives, and who is connected to which.

use super::World;
use super::seat::Seat;
use crate::sim::coordinator::Coordinator;
use crate::sim::fork::Fork;
use galen_net::NetError;

impl World<'_> {
    /// The coordinator of a side.
    pub(super) fn coordinator(&mut self, side: usize) -> &mut Coordinator {
        match &mut self.second {
            Some(second) if side == 1 => second,
            _ => &mut self.coordinator,
        }
    }

    /// The coordinator begins to lead two lives.
    pub(super) fn part(&mut self, fork: &Fork) {
        self.note(|| "from here on there are two coordinators".into());
        let mut second = Coordinator::new();
        second.disk.put_back(&self.coordinator.disk.image());
        if let Err(error) = second.start(self.cast, &self.time) {
            self.stops.push((
                None,
                format!("turn {}: the second coordinator: {error:#}", self.turn),
            ));
            return;
        }
        self.second = Some(second);
        for &party in &fork.second {
            self.cross(party);
        }
        for &party in &fork.cheaters {
            let primary = &self.seats[party];
            let mut twin = Seat::new(party, 1, primary.weight);
            let primary = &primary.hospital;
            twin.hospital.disk.put_back(&primary.disk.image());
            twin.hospital.remember_as(primary);
            self.seats.push(twin);
        }
    }

    /// A party is connected to the other side; what it waits for is lost.
    pub(super) fn cross(&mut self, party: usize) {
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
}
