//! Encrypted sums under one-round keys, secret half: everything that only a hospital may do.
//!
//! The public half, `galen-sums`, says what a round is and moves ciphertexts; the coordinator links only that. This crate
//! draws keys, encrypts, keeps and sums key pieces, and opens sums. A party plays up to three parts in a round:
//!
//! | part | module | what it does |
//! |---|---|---|
//! | contributor | [`contribute`] | encrypts its values under a fresh key and deals the key in pieces ([`seeds`]) |
//! | custodian | [`custodian`] | gives out a one-round key, checks seeds, endorses ONE set, answers with summed pieces |
//! | receiver | [`open`] | opens the answers with its long-term key ([`identity`]) and reads the sum |
//!
//! [`cross_check`] names the custodian whose answer was wrong, once an opening has failed.
//!
//! [`ledger`] is what a custodian has committed itself to: a pure state machine that the daemon persists before it
//! acts. Start with [`contribute::encrypt`], then [`custodian`], then [`open::open_sum`]: that is a value's way.
//! `benches/million.rs` takes all steps of a round in one function.
//!
//! # Erasure
//! Secrets are overwritten when they are dropped: seeds, keys, noise, key sums and private keys. A contributor stores
//! none at all. A custodian stores one small [`custodian::OneRoundSecret`] per attempt, and a receiver its long-term
//! key. Once every custodian has erased the former, the seeds in the contributions' headers cannot be opened by
//! anyone. Overwriting memory reaches what this crate owns; it does not reach copies in registers, in a hash
//! function's state or on a swapped page.
//!
//! What is argued about security, and what is not yet, is in `docs/sums-proof.md`.

// Unit tests use the federation of the integration tests, which names this crate.
#[cfg(test)]
extern crate self as galen_custody;

pub mod contribute;
pub mod cross_check;
pub mod custodian;
pub mod error;
pub mod identity;
pub mod key_sum;
pub mod ledger;
pub mod letter;
pub mod open;
pub mod rehearsal;
mod seal;
pub mod seeds;

pub use contribute::encrypt;
pub use cross_check::{Finding, check_keys, find_liars};
pub use custodian::{OneRoundSecret, OpenedSeeds, answer, check_contribution, check_set, endorse};
pub use error::CustodyError;
pub use identity::ReceiverKey;
pub use key_sum::KeySum;
pub use ledger::{LedgerError, LedgerState, Phase, Vote, Vouch};
pub use open::{Opened, open_answers, open_sum};
