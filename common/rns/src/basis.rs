//! From one set of primes to another: composition of residues, conversion, and division by some of the primes.

mod composition;
mod conversion;
mod division;
#[cfg(test)]
mod tests;

pub use composition::{Composer, compose_centered};
pub use conversion::{BasisConverter, MAX_CONVERTED};
pub use division::ModDown;
