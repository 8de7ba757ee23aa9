//! Primes `q` with `q = 1 mod 2N`: those that have a primitive 2N-th root of unity, which a negacyclic
//! transform of length N needs.

use crate::error::RnsError;
use crate::modulus::MAX_BITS;
use crate::ntt::check_degree;

/// Witnesses that make Miller-Rabin exact for every `n < 2^64` (Sorenson and Webster, "Strong pseudoprimes
/// to twelve prime bases", Math. Comp. 86, 2017: the first twelve primes suffice below `3.18 * 10^23`).
const WITNESSES: [u64; 12] = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37];

fn mul_mod(a: u64, b: u64, n: u64) -> u64 {
    ((u128::from(a) * u128::from(b)) % u128::from(n)) as u64
}

fn pow_mod(a: u64, mut exponent: u64, n: u64) -> u64 {
    let (mut base, mut result) = (a % n, 1);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = mul_mod(result, base, n);
        }
        base = mul_mod(base, base, n);
        exponent >>= 1;
    }
    result
}

/// Whether `n` is a prime: deterministic Miller-Rabin, exact for every `u64`.
#[must_use]
pub fn is_prime(n: u64) -> bool {
    if n < 2 {
        return false;
    }
    for p in WITNESSES {
        if n.is_multiple_of(p) {
            return n == p;
        }
    }
    let twos = (n - 1).trailing_zeros();
    let odd = (n - 1) >> twos;
    WITNESSES.iter().all(|&witness| {
        let mut x = pow_mod(witness, odd, n);
        if x == 1 || x == n - 1 {
            return true;
        }
        (1..twos).any(|_| {
            x = mul_mod(x, x, n);
            x == n - 1
        })
    })
}

/// The `count` largest primes below `2^bits` that are 1 modulo `2 * degree` and not in `skip`, in descending
/// order. Below rather than around `2^bits`, so that a residue packs into exactly `bits` bits.
///
/// # Errors
/// [`RnsError::InvalidDegree`], [`RnsError::InvalidWidth`] (bits above 50), or [`RnsError::NotEnoughPrimes`]
/// where fewer than `count` such primes have exactly `bits` bits.
pub fn ntt_primes(degree: usize, bits: u32, count: usize, skip: &[u64]) -> Result<Vec<u64>, RnsError> {
    check_degree(degree)?;
    let step = 2 * degree as u64;
    if !(2..=MAX_BITS).contains(&bits) {
        return Err(RnsError::InvalidWidth {
            bits,
            min: 2,
            max: MAX_BITS,
        });
    }
    let lowest = 1u64 << (bits - 1);
    let mut found = Vec::with_capacity(count.min(1024));
    // The largest number below 2^bits that is 1 mod step, then down in steps.
    let mut candidate = (((1u64 << bits) - 1) / step) * step + 1;
    if candidate >> bits != 0 {
        candidate = candidate.saturating_sub(step);
    }
    while found.len() < count && candidate > lowest {
        if is_prime(candidate) && !skip.contains(&candidate) {
            found.push(candidate);
        }
        candidate = candidate.saturating_sub(step);
    }
    if found.len() < count {
        return Err(RnsError::NotEnoughPrimes {
            bits,
            wanted: count,
            found: found.len(),
            order: step,
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_a_sieve() {
        let n = 20_000usize;
        let mut composite = vec![false; n];
        for i in 2..n {
            if !composite[i] {
                (2 * i..n).step_by(i).for_each(|j| composite[j] = true);
            }
        }
        for (i, &c) in composite.iter().enumerate().skip(2) {
            assert_eq!(is_prime(i as u64), !c, "{i}");
        }
        assert!(!is_prime(0) && !is_prime(1));
    }

    #[test]
    fn hard_composites() {
        // Strong pseudoprimes to many of the first prime bases (OEIS A014233), and Carmichael numbers.
        for n in [
            3_215_031_751,
            3_474_749_660_383,
            341_550_071_728_321,
            3_825_123_056_546_413_051,
            561,
            41_041,
        ] {
            assert!(!is_prime(n), "{n}");
        }
        assert!(is_prime((1 << 61) - 1));
        assert!(is_prime(18_446_744_073_709_551_557));
    }

    #[test]
    fn primes_are_the_largest_of_their_form() {
        for (degree, bits) in [(16, 20), (4096, 36), (16384, 45), (32768, 50)] {
            let primes = ntt_primes(degree, bits, 4, &[]).unwrap();
            let step = 2 * degree as u64;
            let mut expected = Vec::new();
            let mut n = (1u64 << bits) - 1;
            while expected.len() < 4 {
                if n % step == 1 && is_prime(n) {
                    expected.push(n);
                }
                n -= 1;
            }
            assert_eq!(primes, expected);
            let rest = ntt_primes(degree, bits, 2, &primes[..2]).unwrap();
            assert_eq!(rest, primes[2..]);
        }
    }

    #[test]
    fn refuses_what_does_not_exist() {
        assert!(matches!(
            ntt_primes(16384, 15, 1, &[]),
            Err(RnsError::NotEnoughPrimes { found: 0, .. })
        ));
        assert!(matches!(
            ntt_primes(4096, 18, 50, &[]),
            Err(RnsError::NotEnoughPrimes { .. })
        ));
        assert!(matches!(
            ntt_primes(4096, 51, 1, &[]),
            Err(RnsError::InvalidWidth { bits: 51, .. })
        ));
        assert!(matches!(
            ntt_primes(4095, 30, 1, &[]),
            Err(RnsError::InvalidDegree { .. })
        ));
    }
}
