//! Plain loops compiled for several instruction sets, chosen at run time.
//!
//! For loops that a compiler vectorises well by itself. All copies are the same source, and floating-point contraction is not
//! a thing that the compiler does unasked, so results are the same whichever runs.

use crate::kernel::{Backend, active};
pub use pulp::NullaryFnOnce as Loop;

/// Runs a loop, compiled for AVX-512 or AVX2 where that is the backend in use.
///
/// What it calls must be `#[inline(always)]`, [`Loop::call`] included, or it is not compiled with it.
#[inline]
pub fn vectorised<L: Loop>(body: L) -> L::Output {
    #[cfg(target_arch = "x86_64")]
    match active() {
        Backend::Ifma => {
            if let Some(simd) = pulp::x86::V4::try_new() {
                return simd.vectorize(body);
            }
        }
        Backend::Avx2 => {
            if let Some(simd) = pulp::x86::V3::try_new() {
                return simd.vectorize(body);
            }
        }
        Backend::Portable => {}
    }
    body.call()
}
