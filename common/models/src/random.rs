//! Reproducible random numbers: the same seed and label give the same numbers on every platform.

use galen_core::Digest;
use galen_core::Transcript;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A ChaCha20 stream for one purpose. Not for secrets: seeds of studies are public.
pub struct Stream(ChaCha20Rng);

impl Stream {
    /// The stream named by a label (what it is for) and by its distinguishing fields.
    pub fn new(label: &str, seed: u64, fields: &[&[u8]]) -> Self {
        let transcript = Transcript::new(label).number(seed);
        let Digest(key) = fields.iter().fold(transcript, |t, field| t.field(field)).digest();
        Self(ChaCha20Rng::from_seed(key))
    }

    /// The generator behind the stream, for the distributions of the rand crates.
    pub fn generator(&mut self) -> &mut ChaCha20Rng {
        &mut self.0
    }

    /// A uniform number in [0, 1): 53 random bits over 2^53, exact in every `f64`.
    pub fn unit(&mut self) -> f64 {
        const STEP: f64 = 1.0 / (1u64 << 53) as f64;
        (self.0.next_u64() >> 11) as f64 * STEP
    }

    /// A uniform number in [-1, 1).
    pub fn symmetric(&mut self) -> f64 {
        2.0 * self.unit() - 1.0
    }

    /// A uniform index below `n`, without bias; `n` must be positive, 0 gives 0.
    pub fn below(&mut self, n: usize) -> usize {
        let n = n.max(1) as u64;
        // The largest multiple of n that fits: what lies above it is drawn again.
        let limit = u64::MAX - u64::MAX % n;
        loop {
            let draw = self.0.next_u64();
            if draw < limit {
                return (draw % n) as usize;
            }
        }
    }

    /// Shuffles by Fisher and Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_label_seed_and_fields() {
        let first = |label, seed, fields: &[&[u8]]| Stream::new(label, seed, fields).unit();
        let base = first("a", 1, &[b"x"]);
        assert_eq!(base, first("a", 1, &[b"x"]));
        for other in [
            first("b", 1, &[b"x"]),
            first("a", 2, &[b"x"]),
            first("a", 1, &[b"y"]),
            first("a", 1, &[]),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn a_shuffle_is_a_permutation_and_every_place_is_reached() {
        let mut stream = Stream::new("shuffle", 0, &[]);
        let mut seen = [[false; 5]; 5];
        for _ in 0..500 {
            let mut items = [0, 1, 2, 3, 4];
            stream.shuffle(&mut items);
            for (place, &item) in items.iter().enumerate() {
                seen[place][item] = true;
            }
            items.sort_unstable();
            assert_eq!(items, [0, 1, 2, 3, 4]);
        }
        assert!(seen.iter().flatten().all(|&s| s));
    }

    #[test]
    fn uniform_numbers_fill_their_interval() {
        let mut stream = Stream::new("uniform", 0, &[]);
        let draws: Vec<f64> = (0..10_000).map(|_| stream.symmetric()).collect();
        assert!(draws.iter().all(|x| (-1.0..1.0).contains(x)));
        let mean = draws.iter().sum::<f64>() / 10_000.0;
        let square = draws.iter().map(|x| x * x).sum::<f64>() / 10_000.0;
        assert!(
            mean.abs() < 0.03 && (square - 1.0 / 3.0).abs() < 0.02,
            "{mean} {square}"
        );
    }
}
