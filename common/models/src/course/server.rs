//! What is done with the opened average, and what is remembered for the next one.

use super::sharing::Sharing;
use galen_core::study::Server;
use serde::{Deserialize, Serialize};

/// What a server strategy remembers from one round of a stage to the next: a value for each shared parameter that has a gradient. Empty
/// before the first round, and for a plain average.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerState {
    /// The velocity of FedAvgM, or the first moment of FedAdam.
    pub first: Vec<f64>,
    /// The second moment of FedAdam.
    pub second: Vec<f64>,
}

impl ServerState {
    /// Takes the average step of a round in; gives the step that the model makes, no longer than `clip`. Both are vectors of shared
    /// values; statistics of normalisations go through unchanged.
    ///
    /// Every operation is one that IEEE 754 rounds exactly, in a fixed order, so all parties get the same bits.
    pub(super) fn advance(
        &mut self,
        server: &Server,
        sharing: &Sharing,
        step: &[f64],
        clip: f64,
    ) -> Vec<f64> {
        let mut applied = step.to_vec();
        if *server == Server::Average {
            return applied;
        }
        let trained = sharing.statistics().filter(|is| !is).count();
        let places = || {
            sharing
                .statistics()
                .enumerate()
                .filter(|(_, is)| !is)
                .map(|(i, _)| i)
        };
        match *server {
            Server::Average => {}
            Server::Momentum {
                learning_rate,
                momentum,
            } => {
                self.first.resize(trained, 0.0);
                for (i, velocity) in places().zip(&mut self.first) {
                    *velocity = momentum * *velocity + step[i];
                    applied[i] = learning_rate * *velocity;
                }
            }
            Server::Adam {
                learning_rate,
                beta1,
                beta2,
                tau,
            } => {
                self.first.resize(trained, 0.0);
                self.second.resize(trained, tau * tau);
                for (i, (first, second)) in places().zip(self.first.iter_mut().zip(&mut self.second)) {
                    *first = beta1 * *first + (1.0 - beta1) * step[i];
                    *second = beta2 * *second + (1.0 - beta2) * (step[i] * step[i]);
                    applied[i] = learning_rate * *first / (second.sqrt() + tau);
                }
            }
        }
        sharing.clip(&mut applied, clip);
        applied
    }
}
