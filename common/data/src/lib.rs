//! Samples to learn from, whatever files they come in.
//!
//! A [`Dataset`] is inputs of one [`Shape`](galen_models::Shape), a target for each, and where known the patient and the site that it
//! comes from. [`load`] makes one from a file and a [`Schema`], which says what is expected: everything that does not fit is
//! an error that names the place, and nothing is returned of a data set that is wrong somewhere. What errors say never shows the content
//! of a cell.
//!
//! [`load_inputs`] reads samples without targets, which are only to be evaluated, with what tells them apart.
//!
//! [`partition`] divides the samples, [`write_parts`] writes a table out in parts, [`Normalisation`] standardises them, and [`augment`] varies images.
//!
//! Everything that is drawn follows from a seed, the same on any number of threads.

pub mod augment;
mod dataset;
mod describe;
mod dicom;
mod divide;
mod error;
mod folder;
mod idx;
mod inputs;
mod labels;
mod limits;
mod load;
mod normalise;
mod npy;
mod npz;
mod parquet;
pub mod partition;
mod picture;
mod rows;
mod table;

pub use dataset::{Dataset, Groups, Targets};
pub use describe::{ClassCount, Description, ElementRange, SiteCount, ValueRange};
pub use divide::{Written, write_parts};
pub use error::{DatasetError, Place, Problem};
pub use galen_core::samples::{
    Class, Fit, MAX_CLASSES, MAX_SAMPLE_VALUES, Schema, SchemaError, Source, Target,
};
pub use inputs::Inputs;
pub use limits::Limits;
pub use load::{Format, load, load_inputs};
pub use normalise::{Normalisation, NormalisationError};
