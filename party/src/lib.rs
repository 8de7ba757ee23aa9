//! A hospital's side of a Galen study: the daemon `party serve` and the commands around it.
//!
//! The daemon reads the hospital's table, which never leaves it, and takes part in the study's rounds: it sends encrypted
//! contributions, keeps pieces of the others' one-round keys as a custodian, opens the sums, and derives from them, by itself, the
//! model that all hospitals end up with. `party query` then has encrypted patients evaluated by the coordinator.
//!
//! In the order of the path from a CSV file to a prediction:
//!
//! | module | idea |
//! |---|---|
//! | [`home`], [`identity`], [`config`], [`consent`] | the folder, the keys, the configuration, the signed study |
//! | [`backup`], [`restored`] | the keys encrypted under a passphrase, and a party that came back from them |
//! | [`succession`], [`handover`] | from a study to its successor; the derived state for a hospital that joins |
//! | [`data`] | the hospital's table, checked and split |
//! | [`steps`] | what is due, given the own state and the coordinator's view; pure |
//! | [`party`] | asks [`steps`], has each step carried out |
//! | [`daemon`], [`link`], [`carrier`] | connects, polls, talks to the coordinator |
//! | [`rounds`] | verifying a round record |
//! | [`audit`] | the own copy of the audit log, without which no record is acted upon |
//! | [`contribute`] | computing a round's values, encrypting them once, sending those bytes |
//! | [`custody`] | one-round keys, judging a set, key sums |
//! | [`vault`] | what must be unreadable when a round is over |
//! | [`authentic`] | whether a sum is that of the contributions |
//! | [`opening`], [`mod@derive`] | opening a sum, and what follows from it |
//! | [`sealed`] | derived state and opened sums on disk |
//! | [`query`] | encrypted patients in, probabilities out |
//! | [`status`], [`traffic`] | what the daemon says of itself |
//!
//! The commands themselves are in [`cli`].

pub mod audit;
pub mod authentic;
pub mod backup;
pub mod carrier;
pub mod cli;
pub mod config;
pub mod consent;
pub mod consequence;
pub mod contribute;
pub mod custody;
pub mod daemon;
pub mod data;
pub mod derive;
pub mod error;
pub mod handover;
pub mod home;
pub mod identity;
pub mod link;
pub mod opening;
pub mod party;
mod perform;
pub mod query;
pub mod restored;
pub mod rounds;
pub mod sealed;
pub mod sinks;
pub mod status;
pub mod steps;
pub mod succession;
#[cfg(test)]
mod testing;
pub mod traffic;
pub mod train;
pub mod vault;

pub use error::{Exit, PartyError};
