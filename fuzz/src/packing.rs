//! Packed residues: the first byte is the width, the rest the packed values.

use crate::memory::bounded;
use galen_rns::modulus::Modulus;
use galen_rns::packing::{pack, packed_len, unpack, unpack_residues};
use galen_rns::primes::ntt_primes;
use std::sync::LazyLock;

/// For each width, a prime of that many bits.
static PRIMES: LazyLock<Vec<Option<Modulus>>> = LazyLock::new(|| {
    let prime = |bits| ntt_primes(16, bits, 1, &[]).ok()?.first().copied();
    (0..=64).map(|bits| Modulus::new(prime(bits)?).ok()).collect()
});

/// [`unpack`] and [`unpack_residues`].
pub fn residues(data: &[u8]) {
    let Some((&width, packed)) = data.split_first() else {
        return;
    };
    let bits = u32::from(width);
    let count = if bits == 0 {
        packed.len()
    } else {
        8 * packed.len() / bits as usize
    };
    let mut values = vec![0; count];
    let read = bounded(data, 0, 0, || unpack(packed, bits, &mut values));
    if read.is_ok() {
        assert!(packed_len(count, bits) == packed.len() && (1..=64).contains(&bits));
        let mut again = Vec::new();
        pack(&values, bits, &mut again).unwrap();
        assert_eq!(again, packed);
    }
    if let Some(Some(prime)) = PRIMES.get(usize::from(width)) {
        let in_range = read.is_ok() && values.iter().all(|&x| x < prime.value());
        let mut residues = vec![0; count];
        assert_eq!(unpack_residues(packed, prime, &mut residues).is_ok(), in_range);
        assert!(!in_range || residues == values);
    }
}
