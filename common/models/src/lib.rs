//! What a model is, without cryptography and without a training framework.
//!
//! Start with [`ModelSpec`] (the network's shape) and [`Model`] (a shape with its parameters, evaluated in `f64`: the reference
//! for the trainer and for encrypted evaluation). [`metrics`] judges scores.
//!
//! Everything that hospitals add up under encryption is a vector of integers, and its meaning is fixed here, one module per
//! purpose of a round: [`statistics`] (for imputation and standardisation), [`fedavg`] (model updates) and [`histogram`]
//! (evaluation). Each says how one hospital's data becomes values, how large a value can get, and what the sum means. A [`Course`] joins
//! what a study says about training: network, recipe, what is shared, and what is done with the average.

mod adaptation;
pub mod agenda;
mod annotations;
pub mod course;
mod ensemble;
mod evaluate;
pub mod fedavg;
pub mod fixed;
mod fold;
pub mod histogram;
pub mod metrics;
mod model;
mod onnx;
pub mod random;
mod spec;
pub mod statistics;
mod subject;
mod summary;
mod tensors;
mod tree;
mod weights;

pub use adaptation::{AdaptationError, ApproximationError, Original, approximate};
pub use annotations::{Annotations, Standardisation};
pub use course::{Course, CourseError, Learned, Personal};
pub use ensemble::EnsembleError;
pub use evaluate::{ActivationRange, Evaluation, Forward, Moments, Range};
pub use fedavg::FedAvg;
pub use fixed::CodecError;
pub use histogram::Histograms;
pub use metrics::Roc;
pub use model::{Model, ModelError};
pub use onnx::OnnxError;
pub use spec::{
    Extent, Granularity, Layer, MAX_DEGREE, MAX_DEPTH, MAX_LAYERS, MAX_PARAMETERS, MAX_VALUES, ModelSpec,
    Parameter, ParameterKind, Shape, Site, SpecError,
};
pub use statistics::{ColumnStatistics, Statistics};
pub use subject::{Subject, SubjectError};
pub use summary::{Cost, LayerSummary, Summary};
pub use tensors::TensorsError;
pub use weights::{MAX_FILE_BYTES, ModelFile};
