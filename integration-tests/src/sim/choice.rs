//! Everything that chance decides, as a function of the seed.
//!
//! There is no generator whose state the choices share: each is a hash of the seed, of what is chosen and of its number. So a fault that is
//! taken out of a schedule leaves all other choices as they were, which is what makes shrinking work.

use galen_core::Transcript;

/// A source of choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    seed: u64,
}

impl Choice {
    /// The choices of a seed.
    pub fn of(seed: u64) -> Self {
        Self { seed }
    }

    /// A number below `below`, which is at least 1.
    pub fn below(&self, what: &str, number: u64, below: u64) -> u64 {
        let digest = Transcript::new("galen simulation choice v1")
            .number(self.seed)
            .field(what.as_bytes())
            .number(number)
            .digest();
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest.0[..8]);
        u64::from_le_bytes(bytes) % below.max(1)
    }

    /// A number between the two, both included.
    pub fn between(&self, what: &str, number: u64, low: u64, high: u64) -> u64 {
        low + self.below(what, number, high.saturating_sub(low) + 1)
    }

    /// One of these, which are not empty.
    pub fn one<'a, T>(&self, what: &str, number: u64, of: &'a [T]) -> &'a T {
        &of[self.below(what, number, of.len() as u64) as usize]
    }

    /// Whether something happens that happens `often` times in a hundred.
    pub fn percent(&self, what: &str, number: u64, often: u64) -> bool {
        self.below(what, number, 100) < often
    }
}
