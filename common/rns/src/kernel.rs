//! The inner loops: pointwise arithmetic modulo one prime, sums of products, and matrix products.
//!
//! Each is written once over registers of residues (`lanes`) and exists for three sets of instructions, see
//! [`Backend`]. The choice is made at run time, so one build runs everywhere, and results are the same residues bit for
//! bit. [`Kernels`] has the operations; sums of products are reduced once at their end.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod backend;
#[cfg(target_arch = "x86_64")]
mod ifma;
mod integer;
mod lanes;
mod matrix;
mod mirrored;
mod pieces;
mod pointwise;
mod portable;
mod prefetch;
pub(crate) mod stream;
mod sums;

pub use backend::{Backend, BackendError, ENVIRONMENT_VARIABLE, active, describe, select};
pub use integer::{IntegerMatrix, Product};
pub(crate) use lanes::{Constant, FRACTION, Reciprocal};
pub use matrix::{WeightMatrix, matrix_product, sparse_matrix_product};

use crate::modulus::Modulus;
use backend::Token;
use lanes::Loop;
use pieces::PieceLoop;

/// The operations on one backend.
#[derive(Debug, Clone, Copy)]
pub struct Kernels(Token);

impl Kernels {
    /// On the backend in use, see [`active`].
    #[inline]
    #[must_use]
    pub fn active() -> Self {
        Self(Token::active())
    }

    /// On a stated backend.
    ///
    /// # Errors
    /// [`BackendError::Unsupported`].
    pub fn on(backend: Backend) -> Result<Self, BackendError> {
        Token::detect(backend)
            .map(Self)
            .ok_or(BackendError::Unsupported { backend })
    }

    /// The backend.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.0.backend()
    }

    #[inline]
    fn run<P: Loop>(&self, modulus: &Modulus, inner: P) {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Token::Ifma(simd) => simd.vectorize(ifma::Job { simd, modulus, inner }),
            #[cfg(target_arch = "x86_64")]
            Token::Avx2(simd) => simd.vectorize(avx2::Job { simd, modulus, inner }),
            Token::Portable => inner.run(portable::Portable(modulus)),
        }
    }

    /// [`Self::run`] for a loop over pieces. A CPU that has the first backend has all that the second one needs.
    #[inline]
    fn run_pieces<P: PieceLoop>(&self, modulus: &Modulus, inner: P) {
        #[cfg(target_arch = "x86_64")]
        {
            let simd = match self.0 {
                Token::Ifma(_) => pulp::x86::V3::try_new(),
                Token::Avx2(simd) => Some(simd),
                Token::Portable => None,
            };
            if let Some(simd) = simd {
                let job = avx2::Job { simd, modulus, inner };
                return simd.vectorize(avx2::pieces::PieceJob(job));
            }
        }
        inner.run(portable::Portable(modulus));
    }
}

/// [`Kernels::linear_combination`] on the backend in use.
///
/// # Panics
/// If an input is shorter than `out`.
pub fn linear_combination(modulus: &Modulus, inputs: &[&[u64]], weights: &[u64], out: &mut [u64]) {
    Kernels::active().linear_combination(modulus, inputs, weights, out);
}

/// [`Kernels::mul_assign`] on the backend in use.
pub fn mul_assign(modulus: &Modulus, lhs: &mut [u64], rhs: &[u64]) {
    Kernels::active().mul_assign(modulus, lhs, rhs);
}

/// [`Kernels::mul_add_assign`] on the backend in use.
pub fn mul_add_assign(modulus: &Modulus, acc: &mut [u64], lhs: &[u64], rhs: &[u64]) {
    Kernels::active().mul_add_assign(modulus, acc, lhs, rhs);
}
