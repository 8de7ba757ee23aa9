//! What can go wrong in this crate.

use galen_rns::RnsError;
use thiserror::Error;

/// Errors of presets, encoding, encryption, evaluation and decoding of bytes.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum CkksError {
    /// Ring arithmetic refused.
    #[error("ring arithmetic: {0}")]
    Ring(#[from] RnsError),
    /// No standard preset has this name.
    #[error("no preset is named {name:?}")]
    UnknownPreset {
        /// The name asked for.
        name: String,
    },
    /// The published tables say nothing about this ring degree.
    #[error("the security table has no row for degree {degree}")]
    DegreeNotInTable {
        /// The ring degree.
        degree: usize,
    },
    /// The modulus is larger than 128-bit security allows.
    #[error("log2(QP) = {log2_qp} is above {bound}, the bound for degree {degree}")]
    Insecure {
        /// The ring degree.
        degree: usize,
        /// Bits of the whole modulus, special primes included.
        log2_qp: u32,
        /// Bits allowed.
        bound: u32,
    },
    /// A preset parameter is out of range.
    #[error("preset parameter {parameter} is {value}, expected {min}..={max}")]
    PresetParameter {
        /// Name of the parameter.
        parameter: &'static str,
        /// Its value.
        value: u64,
        /// Smallest value.
        min: u64,
        /// Largest value.
        max: u64,
    },
    /// The object was made under another preset.
    #[error("the object belongs to another preset")]
    PresetMismatch,
    /// The object was made under another key.
    #[error("the objects belong to different keys")]
    KeyMismatch,
    /// Operands are at different levels.
    #[error("operands are at levels {left} and {right}")]
    LevelMismatch {
        /// Level of the first.
        left: usize,
        /// Level of the second.
        right: usize,
    },
    /// Operands have different scales.
    #[error("operands have scales 2^{left} and 2^{right}")]
    ScaleMismatch {
        /// Logarithm of the first scale.
        left: f64,
        /// Logarithm of the second scale.
        right: f64,
    },
    /// The level does not exist, or is above that of the operand.
    #[error("level {level} is not in 0..={max}")]
    LevelRange {
        /// The level asked for.
        level: usize,
        /// Highest level allowed.
        max: usize,
    },
    /// There is no prime left to divide by.
    #[error("no level is left to rescale to")]
    NoLevelLeft,
    /// The operation needs another ciphertext degree.
    #[error("the ciphertext has degree {degree}, the operation needs {needed}")]
    CiphertextDegree {
        /// Degree in the secret key.
        degree: usize,
        /// Degree needed.
        needed: usize,
    },
    /// A scale is not a finite number of at least 1, or absurdly large.
    #[error("{scale} is not a usable scale")]
    InvalidScale {
        /// The refused scale.
        scale: f64,
    },
    /// A value, weight or bound is not finite, or negative where it must not be.
    #[error("number {index} is not usable: {value}")]
    InvalidNumber {
        /// Its position.
        index: usize,
        /// The refused number.
        value: f64,
    },
    /// A value is outside of the stated bound. (The value itself is not repeated: it may be private.)
    #[error("value {index} is above the stated bound {magnitude}")]
    Magnitude {
        /// Position of the value.
        index: usize,
        /// The stated bound.
        magnitude: f64,
    },
    /// Too many or too few slots or operands.
    #[error("{count} given, expected {min}..={max}")]
    Count {
        /// Number given.
        count: usize,
        /// Smallest number.
        min: usize,
        /// Largest number.
        max: usize,
    },
    /// A length or stride must be a power of two.
    #[error("{count} is not a power of two")]
    NotPowerOfTwo {
        /// The number given.
        count: usize,
    },
    /// The result would not fit in the modulus of its level.
    #[error("the result needs {needed_bits:.1} bits, its modulus has {available_bits:.1}")]
    Overflow {
        /// Bits that the bounds of the result need.
        needed_bits: f64,
        /// Bits of the modulus.
        available_bits: f64,
    },
    /// The result would have fewer bits of precision than requested.
    #[error("the result would keep {planned_bits:.1} bits of precision, {requested_bits:.1} are requested")]
    Precision {
        /// Planned bits after the binary point, in slots.
        planned_bits: f64,
        /// Bits requested.
        requested_bits: f64,
    },
    /// There is no key for this rotation.
    #[error(
        "no key for a rotation by {steps} of {slots} slots to the left among those for {available} rotations: generate \
         one with SecretKey::galois_keys(&[{steps}])"
    )]
    MissingRotation {
        /// Slots to rotate by, to the left.
        steps: usize,
        /// Slots in all.
        slots: usize,
        /// Rotations that there are keys for.
        available: usize,
    },
    /// There is no key for conjugation.
    #[error("no key for conjugation: generate one with SecretKey::galois_keys_and_conjugation")]
    MissingConjugation,
    /// The slots of the conjugate-invariant ring are real.
    #[error("the slots of this preset are real, there is nothing to conjugate")]
    NoConjugation,
    /// An interval is empty, or its ends are not finite.
    #[error("{low}..={high} is not an interval")]
    Interval {
        /// Lower end.
        low: f64,
        /// Upper end.
        high: f64,
    },
    /// The bound on the values of a ciphertext, or a slot that holds zero, is outside of the interval.
    #[error("values up to {magnitude} are not all within {low}..={high}")]
    OutsideInterval {
        /// The bound on the absolute values; 0 if it is zero itself that is outside.
        magnitude: f64,
        /// Lower end of the interval.
        low: f64,
        /// Upper end of the interval.
        high: f64,
    },
    /// The ciphertext has fewer levels left than a computation takes.
    #[error("{needed} levels are needed, the ciphertext has {available}")]
    Levels {
        /// Levels that the computation takes.
        needed: usize,
        /// Levels that are left.
        available: usize,
    },
    /// Bytes are not a valid object of the expected kind.
    #[error("malformed bytes: {0}")]
    Malformed(#[from] Malformed),
}

/// Why bytes were refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Malformed {
    /// They do not begin with the magic.
    #[error("not an object of this crate")]
    Magic,
    /// Another format version.
    #[error("format version {version} is not supported")]
    Version {
        /// The version found.
        version: u16,
    },
    /// Another type of object.
    #[error("type tag {tag}, expected {expected}")]
    Type {
        /// The tag found.
        tag: u8,
        /// The tag expected.
        expected: u8,
    },
    /// Another preset.
    #[error("another preset")]
    Preset,
    /// They end too early.
    #[error("{missing} bytes are missing")]
    Truncated {
        /// How many more were needed at that point.
        missing: usize,
    },
    /// They go on after the object.
    #[error("{count} bytes follow the object")]
    Trailing {
        /// How many.
        count: usize,
    },
    /// They are longer than any object of this kind.
    #[error("{length} bytes, at most {max} are allowed")]
    TooLong {
        /// Length found.
        length: usize,
        /// Largest length.
        max: usize,
    },
    /// The level does not exist in the preset.
    #[error("level {level} is above {max}")]
    Level {
        /// The level found.
        level: usize,
        /// The highest level.
        max: usize,
    },
    /// The ciphertext degree is not 1 or 2, or 2 where the object is seeded.
    #[error("ciphertext degree {degree}")]
    Degree {
        /// The degree found.
        degree: usize,
    },
    /// The number of slots is zero or above N/2.
    #[error("{slots} slots, expected 1..={max}")]
    Slots {
        /// The number found.
        slots: usize,
        /// The largest number.
        max: usize,
    },
    /// A flag byte is neither 0 nor 1.
    #[error("flag {value}")]
    Flag {
        /// The byte found.
        value: u8,
    },
    /// The scale is not finite, below 1 or absurdly large.
    #[error("scale out of range")]
    Scale,
    /// The noise or magnitude bound is not finite or negative.
    #[error("bound out of range")]
    Bound,
    /// By its own bounds the object does not fit in its modulus.
    #[error("bounds above the modulus")]
    Overflow,
    /// The number of digits or of listed objects is wrong.
    #[error("{count} elements, expected {min}..={max}")]
    Count {
        /// The number found.
        count: usize,
        /// Smallest number.
        min: usize,
        /// Largest number.
        max: usize,
    },
    /// A Galois element is not canonical, or not above the one before it.
    #[error("Galois element {element}")]
    GaloisElement {
        /// The element found.
        element: u64,
    },
    /// A residue is not below its prime.
    #[error("a residue is not below its prime")]
    Residue,
    /// Bits that must be zero are not.
    #[error("padding bits are not zero")]
    Padding,
}
