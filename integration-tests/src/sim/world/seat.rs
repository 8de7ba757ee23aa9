//! A party's place in the world, and its messages under way.

use crate::sim::hospital::Hospital;
use crate::sim::wire::Message;
use galen_net::protocol::Request;

/// A party's place in the world.
pub(super) struct Seat {
    /// Which party; twins of cheaters come after all parties.
    pub(super) member: usize,
    /// Which coordinator it is connected to.
    pub(super) side: usize,
    pub(super) hospital: Hospital,
    /// Requests so far, those that only ask what there is to do left out.
    pub(super) requests: u64,
    pub(super) flight: Option<Flight>,
    /// Whether the process has something to do: it has just started or got an answer.
    pub(super) ready: bool,
    /// When the machine is started again.
    pub(super) down_until: Option<u64>,
    pub(super) gone: bool,
    /// Whether it lost its power or its disk, and its custodian has not introduced itself since.
    pub(super) lost: bool,
    pub(super) over: bool,
    /// How often it is chosen.
    pub(super) weight: u64,
}

impl Seat {
    /// The seat of a machine that is not started yet.
    pub(super) fn new(member: usize, side: usize, weight: u64) -> Self {
        Self {
            member,
            side,
            hospital: Hospital::new(),
            requests: 0,
            flight: None,
            ready: false,
            down_until: Some(0),
            gone: false,
            lost: false,
            over: false,
            weight,
        }
    }
}

/// A message under way.
pub(super) struct Flight {
    pub(super) message: Message,
    /// Kept for the record.
    pub(super) request: Option<Request>,
    pub(super) lost: bool,
    pub(super) unanswered: bool,
    pub(super) arrives: u64,
    pub(super) sent_ms: u64,
}

/// A message that arrives after its sender has stopped waiting.
pub(super) struct Late {
    pub(super) party: usize,
    pub(super) side: usize,
    pub(super) message: Message,
    pub(super) at: u64,
}
