//! Memory for residues that begins at a cache line.
//!
//! Registers of 64 bytes that straddle two lines are read and written at half the rate. The allocator aligns to 16
//! bytes, so a little more is asked for, and the beginning is skipped: transforms become a tenth faster.

use zeroize::Zeroize;

/// Bytes of a cache line, and of the widest registers.
pub const LINE: usize = 64;

/// Words that may have to be skipped.
const SLACK: usize = LINE / 8 - 1;

/// A vector of words whose first lies at a multiple of 64 bytes.
pub struct Words {
    /// At least `start + length` words.
    memory: Vec<u64>,
    start: usize,
    length: usize,
}

/// Words to skip at an address, from 0 to 7.
fn skip(address: *const u64) -> usize {
    // Where addresses mean nothing (an interpreter) any beginning does.
    address.align_offset(LINE).min(SLACK)
}

impl Words {
    /// Zeros. Large ones are pages that the operating system gives, untouched.
    #[must_use]
    pub fn zero(length: usize) -> Self {
        let memory = vec![0; length + SLACK];
        let start = skip(memory.as_ptr());
        Self {
            memory,
            start,
            length,
        }
    }

    /// Copies words.
    #[must_use]
    pub fn from_slice(words: &[u64]) -> Self {
        let mut memory = Vec::with_capacity(words.len() + SLACK);
        // The vector has its place, and nothing below exceeds its capacity.
        let start = skip(memory.as_ptr());
        memory.resize(start, 0);
        memory.extend_from_slice(words);
        Self {
            memory,
            start,
            length: words.len(),
        }
    }

    /// Changes the length: words that stay keep their values, further ones are zero. Allocates only to grow beyond the
    /// greatest length so far.
    pub fn resize(&mut self, length: usize) {
        if self.start + length > self.memory.len() {
            let mut grown = Self::zero(length);
            grown[..self.length].copy_from_slice(self);
            *self = grown;
            return;
        }
        let old = core::mem::replace(&mut self.length, length);
        if old < length {
            self[old..].fill(0);
        }
    }
}

impl core::ops::Deref for Words {
    type Target = [u64];

    #[inline]
    fn deref(&self) -> &[u64] {
        &self.memory[self.start..self.start + self.length]
    }
}

impl core::ops::DerefMut for Words {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u64] {
        &mut self.memory[self.start..self.start + self.length]
    }
}

impl Clone for Words {
    fn clone(&self) -> Self {
        Self::from_slice(self)
    }

    fn clone_from(&mut self, other: &Self) {
        self.resize(other.length);
        self.copy_from_slice(other);
    }
}

impl PartialEq for Words {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Words {}

impl Zeroize for Words {
    /// Wipes all of the memory; the length stays.
    fn zeroize(&mut self) {
        self.memory.as_mut_slice().zeroize();
    }
}

/// The first `length` words of scratch memory that begins at a cache line; it grows where it is shorter.
pub(crate) fn scratch(memory: &mut Vec<u64>, length: usize) -> &mut [u64] {
    if memory.len() < length + SLACK {
        memory.resize(length + SLACK, 0);
    }
    let start = skip(memory.as_ptr());
    &mut memory[start..start + length]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aligned(words: &[u64]) -> bool {
        words.as_ptr().addr().is_multiple_of(LINE)
    }

    #[test]
    fn they_begin_at_a_line() {
        for length in [0, 1, 7, 8, 1000, 1 << 17] {
            let words = Words::zero(length);
            assert_eq!(words.len(), length);
            assert!(words.iter().all(|&x| x == 0));
            assert!(aligned(&words) && aligned(&words.clone()));
        }
        let mut memory = Vec::new();
        for length in [100, 3, 5000] {
            let words = scratch(&mut memory, length);
            assert!(words.len() == length && aligned(words));
        }
    }

    #[test]
    fn resizing_keeps_what_stays() {
        let mut words = Words::from_slice(&[1, 2, 3, 4]);
        words.resize(2);
        assert_eq!(*words, [1, 2]);
        words.resize(4);
        assert_eq!(*words, [1, 2, 0, 0]);
        words.resize(1000);
        assert!(words[..2] == [1, 2] && words[2..].iter().all(|&x| x == 0));
        assert!(aligned(&words));
    }

    #[test]
    fn wiping_reaches_what_was_cut_off() {
        let mut words = Words::from_slice(&[7; 100]);
        words.resize(1);
        words.zeroize();
        assert_eq!(*words, [0]);
        assert!(words.memory.iter().all(|&x| x == 0));
    }

    #[test]
    fn copying_reuses_memory() {
        let mut words = Words::from_slice(&[7; 100]);
        let before = words.as_ptr();
        words.clone_from(&Words::from_slice(&[1, 2]));
        assert_eq!(*words, [1, 2]);
        assert_eq!(words.as_ptr(), before);
    }
}
