//! Writing past the caches.
//!
//! A result of megabytes that is written once and read later does not stay in the near caches anyway. Written past them, its
//! memory is not read first, and what else is there stays: a sum of ciphertexts at N = 2^15 moves a quarter less.
#![allow(unsafe_code, reason = "these stores take a pointer")]

#[cfg(target_arch = "x86_64")]
use super::ifma::Ifma;

/// Results of at least this many bytes are written past the caches: twice a second-level cache.
pub(crate) const FROM: usize = 2 << 20;

/// Stores a register of eight words.
///
/// Other threads see it in order only after [`finish`].
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn store(_simd: Ifma, chunk: &mut [u64; 8], word: core::arch::x86_64::__m512i) {
    let place = core::ptr::from_mut(chunk);
    if place.addr().is_multiple_of(64) {
        // SAFETY: the pointer is that of an exclusive reference to 64 bytes, aligned to 64; the token proves that the
        // CPU has the instruction.
        unsafe { core::arch::x86_64::_mm512_stream_si512(place.cast(), word) };
    } else {
        *chunk = pulp::cast(word);
    }
}

/// Orders what was stored before against what other threads do after.
#[inline(always)]
pub(super) fn finish() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a fence has no preconditions; every x86-64 CPU has it.
    unsafe {
        core::arch::x86_64::_mm_sfence();
    }
}
