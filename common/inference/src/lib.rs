//! Encrypted prediction: a hospital asks a model that it need not hold about patients that it does not show.
//!
//! Start with [`Program::compile`]: it turns a [`galen_models::Model`] into the fewest encrypted operations that compute its outputs,
//! chooses the smallest standard CKKS preset that gives the precision asked for, and says in a [`Plan`] what that costs. The
//! coordinator holds the program. The hospital needs only its [`Interface`], which tells nothing of the weights, and is a
//! [`Querier`]: it holds the secret key, encrypts a batch (one ciphertext per model input, one patient per slot) and decrypts
//! the answer. The coordinator calls [`Program::run`] with the hospital's [`ServingKey`] and sees neither patients nor answers.
//!
//! [`Program::compile`] bounds everything by what inputs may be, which suits tables. Networks on images have too many values for that:
//! [`Program::compile_recorded`] goes by the ranges that were seen in training, and says so in the plan.
//! [`Program::compile_file`] does one or the other by what a [`galen_models::ModelFile`] says. [`Program::compile_packed`] compiles the same model for
//! few patients, all values of whom are in one ciphertext; [`Expense`] says for how many that is faster.
//!
//! To read the code in the order of a query: `lower` (model to fewest operations, `network`, on `sparse` matrices), `circuit` (the operations laid
//! out over levels and scales, written once for ciphertexts, `encrypted`, and for their `bounds`), `choice` (of preset and layout), `packed` (the same for few patients; either
//! is a `way`), `program` and its `plan`, `interface` and `querier`, `serving` (the querier's public keys), and `evaluation` of what arrives (on a `shelf` where
//! ciphertexts wait on disk). [`Calibration`] turns a plan into seconds.

mod bounds;
mod calibration;
mod choice;
mod circuit;
mod encrypted;
mod error;
mod evaluation;
mod expense;
mod interface;
mod lower;
mod network;
mod packed;
mod plan;
mod program;
mod querier;
mod serving;
mod shelf;
mod sparse;
mod way;

pub use calibration::Calibration;
pub use choice::{Choice, Memory};
pub use circuit::Residues;
pub use error::{CompileError, RunError};
pub use expense::{Expense, LINE_BITS};
pub use interface::{Interface, InterfaceError, MAX_INTERFACE_BYTES};
pub use plan::{Plan, Precision, Sizes, Spilled};
pub use program::{Program, Recorded};
pub use querier::{AnswerError, Querier, QueryError};
pub use serving::ServingKey;
