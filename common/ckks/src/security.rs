//! The gate: how large the modulus may be for a ring degree.

use crate::error::CkksError;

/// Largest `log2(QP)` for 128-bit classical security with a uniform ternary secret and error of standard
/// deviation 3.19: Bossuat et al., "Security Guidelines for Implementing Homomorphic Encryption", ePrint 2024/463
/// (IACR CiC 1(4):26), table 5.2. `QP` includes the special primes of key switching.
pub const LOG2_QP_BOUNDS: [(usize, u32); 5] = [
    (1 << 12, 106),
    (1 << 13, 214),
    (1 << 14, 430),
    (1 << 15, 868),
    (1 << 16, 1747),
];

/// The bound for a ring degree.
///
/// # Errors
/// [`CkksError::DegreeNotInTable`].
pub fn bound(degree: usize) -> Result<u32, CkksError> {
    LOG2_QP_BOUNDS
        .iter()
        .find(|(n, _)| *n == degree)
        .map(|&(_, bits)| bits)
        .ok_or(CkksError::DegreeNotInTable { degree })
}

/// Accepts a modulus of `log2_qp` bits (rounded up) for a degree.
///
/// # Errors
/// [`CkksError::DegreeNotInTable`] or [`CkksError::Insecure`].
pub fn check(degree: usize, log2_qp: u32) -> Result<(), CkksError> {
    let bound = bound(degree)?;
    if log2_qp <= bound {
        return Ok(());
    }
    Err(CkksError::Insecure {
        degree,
        log2_qp,
        bound,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_itself_passes_and_one_more_bit_does_not() {
        for (degree, bits) in [
            (4096, 106),
            (8192, 214),
            (16384, 430),
            (32768, 868),
            (65536, 1747),
        ] {
            assert_eq!(bound(degree), Ok(bits));
            assert_eq!(check(degree, bits), Ok(()));
            let refused = CkksError::Insecure {
                degree,
                log2_qp: bits + 1,
                bound: bits,
            };
            assert_eq!(check(degree, bits + 1), Err(refused));
        }
        for degree in [0, 64, 2048, 4097, 1 << 17] {
            assert_eq!(check(degree, 1), Err(CkksError::DegreeNotInTable { degree }));
        }
    }
}
