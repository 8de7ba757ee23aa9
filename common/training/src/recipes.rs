//! Recipes as files, and what they make of a network. They are declared in [`galen_core::recipe`], because a study may hold one;
//! [`fit()`](crate::fit()) follows them.

pub use galen_core::recipe::*;
pub use galen_models::{AdaptationError, ApproximationError, Original, approximate};
