//! Shutting down without cutting off what is under way.

use std::sync::Arc;
use tokio::sync::watch;

/// Lets exchanges in until it is closed, and knows when the last one has left.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<watch::Sender<State>>);

#[derive(Clone, Copy, Debug, Default)]
struct State {
    closed: bool,
    inside: usize,
}

/// Held by an exchange while it is under way.
#[derive(Debug)]
pub(crate) struct Pass(Gate);

impl Gate {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(State::default())))
    }

    /// A pass, unless the gate is closed.
    pub(crate) fn enter(&self) -> Option<Pass> {
        let entered = self.0.send_if_modified(|state| {
            if !state.closed {
                state.inside += 1;
            }
            !state.closed
        });
        entered.then(|| Pass(self.clone()))
    }

    pub(crate) fn close(&self) {
        self.0.send_modify(|state| state.closed = true);
    }

    /// Waits until the gate is closed.
    pub(crate) async fn closed(&self) {
        self.wait(|state| state.closed).await;
    }

    /// Waits until nobody is inside.
    pub(crate) async fn empty(&self) {
        self.wait(|state| state.inside == 0).await;
    }

    async fn wait(&self, condition: impl FnMut(&State) -> bool) {
        // An error means that the sender is gone, but `self` holds it.
        let _ = self.0.subscribe().wait_for(condition).await;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.0.send_modify(|state| state.inside -= 1);
    }
}
