//! What can go wrong in this crate.

use thiserror::Error;

/// Errors of ring arithmetic, sampling and packing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RnsError {
    /// The value is not a prime, or not in the range of moduli.
    #[error("{value} is not a prime in 3..2^50")]
    InvalidModulus {
        /// The refused value.
        value: u64,
    },
    /// An integer weight is larger than a matrix of integers takes.
    #[error("weight {index} is {weight}, beyond what a matrix of integers takes")]
    Weight {
        /// Its index in the matrix or row.
        index: usize,
        /// The weight.
        weight: i32,
    },
    /// The ring degree is not a power of two in the supported range.
    #[error("degree {degree} is not a power of two in {min}..={max}")]
    InvalidDegree {
        /// The refused degree.
        degree: usize,
        /// Smallest degree.
        min: usize,
        /// Largest degree.
        max: usize,
    },
    /// The prime has no primitive 2N-th root of unity.
    #[error("modulus {modulus} is not 1 modulo {order}")]
    NoTransform {
        /// The prime.
        modulus: u64,
        /// Twice the ring degree.
        order: u64,
    },
    /// Fewer primes of the wanted size exist than were asked for.
    #[error("only {found} of {wanted} primes below 2^{bits} are 1 modulo {order}")]
    NotEnoughPrimes {
        /// Bit size asked for.
        bits: u32,
        /// Number asked for.
        wanted: usize,
        /// Number found.
        found: usize,
        /// Twice the ring degree.
        order: u64,
    },
    /// A bit width is outside of its range.
    #[error("bit width {bits} is not in {min}..={max}")]
    InvalidWidth {
        /// The refused width.
        bits: u32,
        /// Smallest width.
        min: u32,
        /// Largest width.
        max: u32,
    },
    /// The same prime occurs twice in one basis.
    #[error("modulus {modulus} occurs twice")]
    RepeatedModulus {
        /// The prime.
        modulus: u64,
    },
    /// A basis has no primes, or more than the operation supports.
    #[error("{count} moduli, expected {min}..={max}")]
    ModulusCount {
        /// Number given.
        count: usize,
        /// Smallest number.
        min: usize,
        /// Largest number.
        max: usize,
    },
    /// Two operands belong to different rings.
    #[error("operands belong to different rings")]
    RingMismatch,
    /// A slice has the wrong number of elements.
    #[error("expected {expected} elements, got {actual}")]
    Length {
        /// Number expected.
        expected: usize,
        /// Number given.
        actual: usize,
    },
    /// A residue is not below its modulus.
    #[error("residue at index {index} is not below the modulus {modulus}")]
    ResidueRange {
        /// Position of the residue.
        index: usize,
        /// The prime.
        modulus: u64,
    },
    /// An automorphism `X -> X^g` needs an odd g.
    #[error("{element} is not odd")]
    GaloisElement {
        /// The refused g.
        element: u64,
    },
    /// The transform modulo this prime returns values at other points, or in another order, than that of the ring's
    /// first prime.
    #[error("the transform modulo {modulus} has another order")]
    TransformOrder {
        /// The prime.
        modulus: u64,
    },
    /// Bits after the last packed value are not zero.
    #[error("padding bits are not zero")]
    Padding,
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness")]
    Randomness,
}

/// Refuses a slice of another length than is needed.
pub(crate) fn check_length(expected: usize, actual: usize) -> Result<(), RnsError> {
    if expected == actual {
        Ok(())
    } else {
        Err(RnsError::Length { expected, actual })
    }
}
