//! Encrypted prediction: a hospital asks a model that it need not hold about patients that it does not show.
//!
//! Start with [`Program::compile`]: it turns a [`galen_models::Model`] into the fewest encrypted operations that compute its logit,
//! chooses the smallest standard CKKS preset that gives the precision asked for, and says in a [`Plan`] what that costs. Both
//! sides compile the same program. The hospital is a [`Querier`]: it holds the secret key, encrypts a batch (one ciphertext
//! per model input, one patient per slot) and decrypts the answer into probabilities. The coordinator calls
//! [`Program::run`] with the hospital's [`ServingKey`] and sees neither.
//!
//! To read the code in the order of a query: `fold` (model to fewest operations), `circuit` (the operations, written once for
//! ciphertexts, `encrypted`, and for their `bounds`), `program` and its `plan` (choice of preset, evaluation), `querier`, `serving` (the querier's public keys).

mod bounds;
mod circuit;
mod encrypted;
mod fold;
mod plan;
mod program;
mod querier;
mod serving;

pub use plan::Plan;
pub use program::{CompileError, Program, RunError};
pub use querier::{AnswerError, Querier, QueryError};
pub use serving::ServingKey;
