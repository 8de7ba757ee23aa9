//! Whole rounds in memory: what opens, what is refused, what is gone afterwards.

// Helpers outside of test functions may fail the test too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod adding;
mod agreement;
mod erasure;
mod federation;
mod fingerprints;
mod insight;
mod long_lived_key;
mod malformed;
mod measured;
mod openings;
mod refusals;
mod vectors;
