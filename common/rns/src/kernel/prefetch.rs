//! Asking for memory before it is needed.
//!
//! Key switching reads some megabytes of keys per operation, each residue once. The hardware's prefetchers stop at the
//! border of a page; what a loop asks for itself crosses it.
#![allow(unsafe_code, reason = "the prefetch instruction takes a pointer")]

/// Words of a cache line.
pub(super) const LINE: usize = 8;

/// Asks for the cache line of `values[at]`, if there is one.
#[inline(always)]
pub(super) fn prefetch(values: &[u64], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(word) = values.get(at) {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the pointer is that of a reference; the instruction is a hint that neither reads nor faults, and every
        // x86-64 CPU has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(word).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, at);
}
