//! Buffers that operations borrow and give back, so that none of them allocates once a few have run.

use core::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};
use zeroize::Zeroize;

/// Buffers kept at most; one operation borrows fewer than eight.
const KEPT: usize = 64;

/// Idle buffers, for any number of threads.
#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<Vec<Vec<u64>>>,
}

impl core::fmt::Debug for Pool {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Pool")
    }
}

impl Pool {
    /// A buffer of this many words, with stale contents (never secret ones).
    pub(crate) fn take(&self, length: usize) -> Buffer<'_> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // The smallest that is large enough, else the largest, which then grows.
        let fitting = idle
            .iter()
            .enumerate()
            .filter(|(_, words)| words.len() >= length)
            .min_by_key(|(_, words)| words.len());
        let chosen = fitting.or_else(|| idle.iter().enumerate().max_by_key(|(_, words)| words.len()));
        let mut words = match chosen.map(|(index, _)| index) {
            Some(index) => idle.swap_remove(index),
            None => Vec::new(),
        };
        drop(idle);
        if words.len() < length {
            // A new one, not a longer one: nothing that is stale has to be copied.
            words = vec![0; length];
        }
        Buffer {
            pool: self,
            words,
            length,
            secret: false,
        }
    }

    /// The same for secrets: wiped when it is given back.
    pub(crate) fn take_secret(&self, length: usize) -> Buffer<'_> {
        let mut buffer = self.take(length);
        buffer.secret = true;
        buffer
    }
}

/// A borrowed buffer; goes back when dropped.
pub(crate) struct Buffer<'a> {
    pool: &'a Pool,
    words: Vec<u64>,
    length: usize,
    secret: bool,
}

impl Buffer<'_> {
    /// The buffer as a vector for callees that let it grow.
    pub(crate) fn as_vec(&mut self) -> &mut Vec<u64> {
        &mut self.words
    }
}

impl Deref for Buffer<'_> {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        &self.words[..self.length]
    }
}

impl DerefMut for Buffer<'_> {
    fn deref_mut(&mut self) -> &mut [u64] {
        &mut self.words[..self.length]
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        let mut words = core::mem::take(&mut self.words);
        if self.secret {
            words[..self.length].zeroize();
        }
        if words.is_empty() {
            return;
        }
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(words);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_and_secrets_are_wiped() {
        let pool = Pool::default();
        let first = {
            let mut buffer = pool.take_secret(100);
            buffer.fill(7);
            buffer.as_ptr()
        };
        {
            let again = pool.take(50);
            assert_eq!((again.as_ptr(), again.len()), (first, 50));
            assert!(again.iter().all(|&x| x == 0));
            let other = pool.take(50);
            assert_ne!(other.as_ptr(), first);
        }
        let largest = pool.take(100);
        assert_eq!(largest.as_ptr(), first);
    }
}
