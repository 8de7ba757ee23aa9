//! The layers of a network and the shapes between them, as people write them in files. What they compute, and which sequences of them
//! are possible, is `galen_models`' business.

mod layer;
mod shape;
mod text;

pub use layer::{Granularity, Layer};
pub use shape::{Extent, Shape};
