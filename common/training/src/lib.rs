//! What a hospital does with its patients before anything is encrypted.
//!
//! In the order in which a hospital's data become a model: [`Divided`] holds patients out of what [`load_csv`] or `galen_data` read and
//! checked against the study's schema, and gives [`Records`]; [`Preprocessor`] turns them into model inputs, those of tables standardised with the
//! statistics that the federation added up; [`train`] improves a model on them with burn, on the [`Device`] that the party's configuration names.
//!
//! Networks of any specification, images among them, are [`Network`]s that [`fit`] trains on [`Examples`] by a [recipe](recipes::Recipe): a
//! program of stages in a file, which can be interrupted and continued; [`record`] writes into the model's file what its encrypted evaluation is
//! planned by (`docs/training.md`).
//!
//! [`federated`] is a hospital's part of a training round, by a study's simple plan or by its recipe.
//!
//! [`baseline`] runs the whole study in one process, unencrypted: what the federation's results are compared with.
//!
//! Everything is reproducible from the study's public seed. On one machine and the CPU, equal input gives equal bits.

pub mod baseline;
mod device;
mod examples;
pub mod federated;
mod fit;
mod loss;
mod network;
mod optimise;
mod preprocess;
pub mod recipes;
mod record;
mod records;
mod split;
mod table;
mod train;

pub use device::{Device, DeviceError};
pub use examples::{Examples, ExamplesError, Targets};
pub use fit::{CheckpointError, Epoch, Event, FitError, Options, Outcome, Score, fit};
pub use network::{Network, NetworkError};
pub use preprocess::{LIMIT, PreprocessError, Preprocessor};
pub use recipes::{Distillation, Group, Method, Objective, Penalty, Plateau, Reach, Schedule};
pub use record::{evaluate, record};
pub use records::{Divided, LoadError, Records, SamplesError, Values};
pub use split::{split, split_samples};
pub use table::{DataError, DataProblem, Table, load_csv, read_csv};
pub use train::{Order, Progress, TrainError, train};
