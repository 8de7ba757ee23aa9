//! Rounds: state, transitions, and the engine that drives and persists them.
//!
//! [`state`] is what is persisted, [`transition`] takes in what happened to an attempt and [`decide`] says what is next, [`steps`] that of the study around
//! it, [`verify`] what must hold for a statement before it becomes an event, [`audit`] the log of all of it, [`bisect`] and
//! [`blame`] find who spoils sums, and [`engine`] joins them with the store.

pub mod adding;
pub mod audit;
pub mod bisect;
pub mod blame;
pub mod decide;
pub mod engine;
pub mod state;
pub mod steps;
#[cfg(test)]
mod tests;
pub mod transition;
pub mod verify;
pub mod view;
