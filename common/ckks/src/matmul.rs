//! Products of encrypted matrices.
//!
//! Two forms. In a batch every element of a matrix is a ciphertext of its own, with as many matrices side by side as there are slots
//! ([`CiphertextMatrix`], [`Evaluator::matrix_product`](crate::evaluate::Evaluator::matrix_product)): one level, any shape, and
//! one relinearisation for each element of the result, however many products it sums. Packed, a whole block of d x d elements is in
//! one ciphertext ([`PackedProduct`], [`BlockMatrix`],
//! [`Evaluator::packed_product`](crate::evaluate::Evaluator::packed_product)): two levels, about `3 d` rotations and one
//! relinearisation for each block.
//!
//! ```
//! use galen_ckks::{context::Context, evaluate::Evaluator, keys::SecretKey, matmul::PackedProduct, preset::Preset};
//!
//! let ctx = Context::new(&Preset::by_name("n8192_q50_3x38_p1x50")?)?;
//! let key = SecretKey::generate(&ctx)?;
//! let relin = key.relin_key()?;
//!
//! let product = PackedProduct::new(&ctx, 4, ctx.max_level())?;
//! let keys = key.galois_keys(&product.rotations())?;
//! let a = vec![vec![0.5, -0.25, 1.0], vec![0.75, 0.0, -0.5]];
//! let b = vec![vec![1.0], vec![0.5], vec![-1.0]];
//! let a = product.encode(&ctx, &[a], 1.0)?.encrypt(|plain| key.encrypt(plain))?;
//! let b = product.encode(&ctx, &[b], 1.0)?.encrypt(|plain| key.encrypt(plain))?;
//!
//! let c = Evaluator::new(&ctx).packed_product(&product, &a, &b, &relin, &keys)?;
//! let c = product.decode(&c, |ct| ctx.decode_rounded(&key.decrypt(ct)?, 10))?;
//! assert!((c[0][0][0] + 0.625).abs() < 1e-2 && (c[0][1][0] - 1.25).abs() < 1e-2);
//! # Ok::<(), galen_ckks::error::CkksError>(())
//! ```

mod batch;
mod packed;
mod packing;

pub use batch::CiphertextMatrix;
pub use packed::PackedProduct;
pub use packing::{BlockMatrix, PlaintextBlocks};
