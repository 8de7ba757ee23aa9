//! A coordinator that leads two lives, and parties that play along in both.
//!
//! From some turn on there are two real coordinators with one key, which begin from the same disk and know nothing of each other. Each
//! honest party is connected to one of them, and now and then to the other. The cheaters are there twice as well: each has a twin with its
//! keys and its disk, so that what it signed on one side does not bind it on the other. Whatever anybody posts on one side may be posted on the
//! other too. So every honest program is shown a world that is consistent in itself, and two certificates for two sets are what must not
//! come out.

use super::choice::Choice;
use super::shape::Shape;

/// Two lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// When they part.
    pub turn: u64,
    /// The parties that cheat.
    pub cheaters: Vec<usize>,
    /// The parties that are on the second side at first.
    pub second: Vec<usize>,
}

/// A party is connected to the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// Who.
    pub party: usize,
    /// When.
    pub turn: u64,
}

/// The fork of a seed, with as many cheaters as the study stands, and who crosses when.
pub fn fork(choice: &Choice, shape: &Shape) -> (Fork, Vec<Crossing>) {
    let most = shape.cheaters() as u64;
    let count = most - choice.below("fewer cheaters", 0, most + 1) / 2;
    let mut cheaters: Vec<usize> = (0..shape.parties).collect();
    cheaters.sort_by_key(|party| choice.below("cheater", *party as u64, 1 << 30));
    cheaters.truncate(count as usize);
    let honest = (0..shape.parties).filter(|party| !cheaters.contains(party));
    let second = honest
        .filter(|party| choice.percent("side", *party as u64, 45))
        .collect();
    let fork = Fork {
        turn: choice.between("fork", 0, 1, 700),
        cheaters,
        second,
    };
    let crossing = |number: u64| Crossing {
        party: choice.below("crosses", number, shape.parties as u64) as usize,
        turn: fork.turn + choice.between("crossing", number, 1, 900),
    };
    let crossings = (0..choice.below("crossings", 0, 5)).map(crossing).collect();
    (fork, crossings)
}
