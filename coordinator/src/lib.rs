//! The coordinator: the operator's daemon that adds encrypted contributions and evaluates encrypted queries.
//!
//! It holds no key to anything it adds or evaluates; the crates that do (`galen-custody`, `galen-training`) are not among its
//! dependencies. Follow a round in the order of the modules: [`daemon`] accepts connections, [`requests`] answers them, [`rounds`]
//! holds the state machine that decides, persists and adds, [`serving`] evaluates queries once a model is released, and
//! [`status`] tells the operator. [`home`] is the folder in which all of it lives, [`succession`] how it goes over to a successor study, and [`cli`] the command line.

pub mod blobs;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod home;
pub mod lanes;
pub mod requests;
pub mod rounds;
pub mod serving;
pub mod status;
pub mod succession;
pub mod traffic;
