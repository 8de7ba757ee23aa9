//! Arithmetic of polynomials over RNS moduli: primes, NTT, basis conversion, sampling and bit packing.
//!
//! A lattice scheme computes in `Z_Q[X]/(X^N + 1)`. Here `Q` is a product of primes below `2^50`, and an
//! element is kept as its residues modulo each of them (a residue number system, RNS). This crate knows
//! nothing of schemes, keys or scales: `galen-ckks` and `galen-sums` build those on top of it.
//!
//! Where to start: [`ring::Ring`] names a degree and its primes, [`poly::Poly`] is an element of it,
//! [`xof::Xof`] with [`sampling`] draws one from a seed, and [`packing`] writes one down.
//!
//! | module | idea |
//! |---|---|
//! | [`modulus`] | residues modulo one prime |
//! | [`primes`] | primes that allow a negacyclic transform |
//! | [`ntt`] | the transform of one degree modulo one prime |
//! | [`kernel`] | the inner loops, for AVX-512 IFMA, AVX2 and portable |
//! | [`vectorise`] | plain loops compiled for several instruction sets |
//! | [`ring`], [`poly`] | degree and primes; elements in either domain |
//! | [`basis`] | from one set of primes to another: composition, conversion, division |
//! | [`automorphism`] | `X -> X^g`, which rotates slots |
//! | [`xof`], [`sampling`] | the one XOF, and integer-only samplers over it |
//! | [`threads`] | how many threads computations use |
//! | [`words`] | memory that begins at a cache line |
//! | [`packing`] | residues in `ceil(log2 q)` bits each |
//!
//! Everything that ends up in bytes or hashes is integer arithmetic, so that bytes agree on every platform.
//!
//! ```
//! use galen_rns::{poly::{Coeff, Poly}, primes::ntt_primes, ring::Ring};
//!
//! let ring = Ring::new(16, &ntt_primes(16, 40, 2, &[])?)?;
//! let mut x = [0i64; 16];
//! x[15] = 1;
//! let mut a = Poly::<Coeff>::from_i64(&ring, &x)?.into_eval();
//! let b = a.clone();
//! a.mul_assign(&b)?;
//! // X^15 * X^15 = X^30 = -X^14
//! let mut expected = [0i64; 16];
//! expected[14] = -1;
//! assert_eq!(a.into_coeff(), Poly::from_i64(&ring, &expected)?);
//! # Ok::<(), galen_rns::error::RnsError>(())
//! ```

pub mod automorphism;
pub mod basis;
pub mod error;
pub mod kernel;
pub mod modulus;
pub mod ntt;
pub mod packing;
pub mod poly;
pub mod primes;
pub mod ring;
pub mod sampling;
pub mod threads;
pub mod vectorise;
pub mod words;
pub mod xof;

pub use error::RnsError;
