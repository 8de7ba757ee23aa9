//! Levelled RNS-CKKS: presets, encoding, keys, ciphertexts, evaluation, noise budget and codecs.
//!
//! CKKS (Cheon, Kim, Kim and Song, ePrint 2016/421, in the RNS variant of ePrint 2018/931) computes on encrypted vectors
//! of real numbers, N/2 slots at a time (N in the conjugate-invariant ring), with a fixed number of multiplications in a
//! row. Batches have one ciphertext for each feature and one patient in each slot, and need weighted sums ([`linear`]),
//! products and [`polynomial`]s; a vector or matrix in one ciphertext needs rotations ([`rotate`]) besides, for sums over
//! slots ([`inner_sum`]), linear maps ([`transform`]) and products of matrices ([`matmul`], which has those of batches too).
//!
//! Where to start: [`preset::Preset`] names parameters, [`context::Context`] holds their tables and encodes,
//! [`keys::SecretKey`] encrypts and decrypts, [`evaluate::Evaluator`] computes, and `to_bytes` and `from_bytes` of each
//! object ([`codec`]) write it down; [`aligned`] computes without a thought of levels and scales. Two ideas carry the rest:
//!
//! - **Scales are stated, not measured.** Every level has a nominal scale ([`context::Context::scale`]), and every
//!   operation lands on exactly the scale that it was asked for. Nothing drifts with depth.
//! - **Every ciphertext carries its bounds** ([`noise::Budget`]). What would overflow the modulus, or leave fewer bits
//!   than requested, is an error before it runs.
//!
//! One residual block of a dense network, `y = A x + (B x + c)^2`:
//!
//! ```
//! use galen_ckks::{context::Context, evaluate::Evaluator, keys::SecretKey, preset::Preset};
//!
//! let ctx = Context::new(&Preset::by_name("n8192_q50_3x38_p1x50")?)?;
//! let key = SecretKey::generate(&ctx)?;
//! let relin = key.relin_key()?;
//!
//! // Two features of three patients, by the schema between -1 and 1.
//! let patients = [[0.5, -0.25, 1.0], [0.1, 0.9, -0.7]];
//! let x = patients
//!     .iter()
//!     .map(|feature| key.encrypt(&ctx.encode(feature, 1.0)?))
//!     .collect::<Result<Vec<_>, _>>()?;
//! let x: Vec<_> = x.iter().collect();
//!
//! let (a, b, c) = ([0.3, -0.8], [0.6, 0.2], 0.05);
//! let ev = Evaluator::new(&ctx).with_min_precision(10.0);
//! let level = ctx.max_level();
//! let u = ev.mac_scalars(&x, &b, ctx.product_target(level)?)?;
//! let u = ev.rescale(&ev.add_scalar(&u, c)?)?;
//! let square = ev.relinearise(&ev.square(&u)?, &relin)?;
//! // Read at the level of the square, with a weight scale that makes scales equal.
//! let v = ev.mac_scalars(&x, &a, ctx.product_target(level - 1)?)?;
//! let y = ev.rescale(&ev.add(&v, &square)?)?;
//! let answer = ev.drop_level(&y, 0)?;
//!
//! let decoded = ctx.decode_rounded(&key.decrypt(&answer)?, 10)?;
//! for (patient, got) in decoded.iter().enumerate() {
//!     let (p, q) = (patients[0][patient], patients[1][patient]);
//!     let expected: f64 = 0.3 * p - 0.8 * q + (0.6 * p + 0.2 * q + 0.05f64).powi(2);
//!     assert!((got - expected).abs() < 2e-3, "{got} {expected}");
//! }
//! # Ok::<(), galen_ckks::error::CkksError>(())
//! ```

pub mod aligned;
mod chebyshev;
pub mod ciphertext;
pub mod codec;
pub mod context;
mod embedding;
pub mod encoding;
pub mod encrypt;
pub mod error;
pub mod evaluate;
pub mod extended;
pub mod galois;
pub mod inner_sum;
mod key_switch;
pub mod keys;
mod level;
pub mod linear;
pub mod matmul;
mod multiply;
pub mod noise;
pub mod polynomial;
mod pool;
pub mod preset;
mod products;
mod rerandomise;
pub mod rotate;
pub mod security;
pub mod set;
pub mod transform;

pub use error::CkksError;
