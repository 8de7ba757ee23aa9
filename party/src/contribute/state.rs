//! The states of one contribution (design, section 4): Drawn -> Sent -> Certified | Burned -> Erased. Pure.

use serde::{Deserialize, Serialize};

/// Where a contribution stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Encrypted and kept here; perhaps sent, but nothing is known of it.
    Drawn,
    /// The coordinator said that it is stored there.
    Sent,
    /// Custodians agreed on a set that holds it.
    Certified,
    /// Its attempt ended without it; these bytes are never sent again.
    Burned,
    /// Its bytes can no longer be read here.
    Erased,
}

/// What happens to a contribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The coordinator accepted it.
    Accepted,
    /// It is part of an opened sum.
    Opened,
    /// Its attempt is over and did not open it.
    Passed,
    /// Its bytes were erased.
    Erased,
}

/// A step that a contribution cannot take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a contribution that is {from:?} cannot become {event:?}")]
pub struct Impossible {
    from: State,
    event: Event,
}

impl State {
    /// The state after an event. A repeated event changes nothing.
    pub fn after(self, event: Event) -> Result<Self, Impossible> {
        use State::*;
        match (self, event) {
            (Drawn | Sent, Event::Accepted) => Ok(Sent),
            // A crash may have come between the coordinator's answer and the note of it.
            (Drawn | Sent | Certified, Event::Opened) => Ok(Certified),
            // Erasing does not wait until this party has opened the sum itself.
            (Erased, Event::Opened) => Ok(Erased),
            (Drawn | Sent | Burned, Event::Passed) => Ok(Burned),
            (Certified | Burned | Erased, Event::Erased) => Ok(Erased),
            (from, event) => Err(Impossible { from, event }),
        }
    }

    /// Whether its bytes may be sent.
    pub fn may_be_sent(self) -> bool {
        matches!(self, Self::Drawn | Self::Sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use State::*;

    /// Every state with every event.
    #[test]
    fn the_whole_table() {
        let events = [Event::Accepted, Event::Opened, Event::Passed, Event::Erased];
        let table = [
            (Drawn, [Some(Sent), Some(Certified), Some(Burned), None]),
            (Sent, [Some(Sent), Some(Certified), Some(Burned), None]),
            (Certified, [None, Some(Certified), None, Some(Erased)]),
            (Burned, [None, None, Some(Burned), Some(Erased)]),
            (Erased, [None, Some(Erased), None, Some(Erased)]),
        ];
        for (state, expected) in table {
            for (event, expected) in events.into_iter().zip(expected) {
                assert_eq!(state.after(event).ok(), expected, "{state:?} {event:?}");
            }
            assert_eq!(state.may_be_sent(), matches!(state, Drawn | Sent));
        }
    }
}
