//! Random choices that follow from a seed.

use galen_rns::xof::Xof;

/// The source of all choices of one sequence.
pub(crate) struct Random(Xof);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Xof::new(&[3; 32], &[b"sequences", &seed.to_le_bytes()]))
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.0.next_u64() % bound as u64) as usize
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// In -1..1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// A magnitude from 2^-6 to 2^6, of either sign, and sometimes zero.
    pub(crate) fn weight(&mut self) -> f64 {
        let (sign, exponent) = (self.unit(), 6.0 * self.unit());
        if self.chance(5) {
            0.0
        } else {
            sign.signum() * exponent.exp2()
        }
    }
}
