//! Values of a fixed width packed bit by bit, lowest bit first, padded with zeros to a whole byte.

use crate::error::RnsError;
use crate::modulus::Modulus;

/// Widest value.
pub const MAX_WIDTH: u32 = 64;

fn check_width(bits: u32) -> Result<(), RnsError> {
    if (1..=MAX_WIDTH).contains(&bits) {
        return Ok(());
    }
    Err(RnsError::InvalidWidth {
        bits,
        min: 1,
        max: MAX_WIDTH,
    })
}

fn mask(bits: u32) -> u64 {
    u64::MAX >> (MAX_WIDTH - bits)
}

/// Bytes that `count` values of `bits` bits take. Saturates where that is more than fits in memory.
#[must_use]
pub fn packed_len(count: usize, bits: u32) -> usize {
    usize::try_from((count as u128 * u128::from(bits)).div_ceil(8)).unwrap_or(usize::MAX)
}

/// Appends `values`, `bits` bits each (1 to 64), to `out`.
///
/// # Errors
/// [`RnsError::InvalidWidth`], or [`RnsError::ResidueRange`] (with the modulus `2^bits`) where a value has more
/// bits; nothing is appended then.
pub fn pack(values: &[u64], bits: u32, out: &mut Vec<u8>) -> Result<(), RnsError> {
    check_width(bits)?;
    if let Some(index) = values.iter().position(|&x| x > mask(bits)) {
        return Err(RnsError::ResidueRange {
            index,
            modulus: mask(bits).wrapping_add(1),
        });
    }
    out.reserve(packed_len(values.len(), bits));
    let mut pending = 0u128;
    let mut held = 0;
    for &value in values {
        pending |= u128::from(value) << held;
        held += bits;
        if held >= 64 {
            out.extend_from_slice(&(pending as u64).to_le_bytes());
            pending >>= 64;
            held -= 64;
        }
    }
    out.extend_from_slice(&pending.to_le_bytes()[..held.div_ceil(8) as usize]);
    Ok(())
}

/// Reads `out.len()` values of `bits` bits each (1 to 64).
///
/// # Errors
/// [`RnsError::InvalidWidth`]; [`RnsError::Length`] if `bytes` is not exactly that long;
/// [`RnsError::Padding`] if a bit after the last value is set.
pub fn unpack(bytes: &[u8], bits: u32, out: &mut [u64]) -> Result<(), RnsError> {
    check_width(bits)?;
    let expected = packed_len(out.len(), bits);
    if bytes.len() != expected {
        return Err(RnsError::Length {
            expected,
            actual: bytes.len(),
        });
    }
    let narrow = read_narrow(bytes, bits, out);
    for (index, value) in out.iter_mut().enumerate().skip(narrow) {
        let at = index * bits as usize;
        let rest = bytes.get(at / 8..).unwrap_or_default();
        let mut word = [0u8; 16];
        word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        *value = (u128::from_le_bytes(word) >> (at % 8)) as u64 & mask(bits);
    }
    let used = out.len() * bits as usize % 8;
    if used > 0 && bytes.last().is_some_and(|last| last >> used != 0) {
        return Err(RnsError::Padding);
    }
    Ok(())
}

/// Reads the values that lie within eight whole bytes each, from the first on; returns how many. A value of up to 57 bits does, wherever in its
/// first byte it begins, save at the end of the bytes.
fn read_narrow(bytes: &[u8], bits: u32, out: &mut [u64]) -> usize {
    if bits > 57 {
        return 0;
    }
    let mut at = 0;
    for (index, value) in out.iter_mut().enumerate() {
        let Some(word) = bytes.get(at / 8..).and_then(|rest| rest.first_chunk()) else {
            return index;
        };
        *value = u64::from_le_bytes(*word) >> (at % 8) & mask(bits);
        at += bits as usize;
    }
    out.len()
}

/// Reads `out.len()` residues of `modulus`, `modulus.bits()` bits each.
///
/// # Errors
/// Those of [`unpack`], or [`RnsError::ResidueRange`] where a value is not below the modulus.
pub fn unpack_residues(bytes: &[u8], modulus: &Modulus, out: &mut [u64]) -> Result<(), RnsError> {
    unpack(bytes, modulus.bits(), out)?;
    match out.iter().position(|&x| x >= modulus.value()) {
        Some(index) => Err(RnsError::ResidueRange {
            index,
            modulus: modulus.value(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bit `i` of the stream is bit `i % 8` of byte `i / 8`.
    fn bit(bytes: &[u8], i: usize) -> u64 {
        u64::from(bytes[i / 8] >> (i % 8) & 1)
    }

    proptest! {
        #[test]
        fn round_trip(bits in 1u32..=64, raw in proptest::collection::vec(any::<u64>(), 0..70), prefix: u8) {
            let values: Vec<u64> = raw.iter().map(|x| x & mask(bits)).collect();
            let mut bytes = vec![prefix];
            pack(&values, bits, &mut bytes).unwrap();
            prop_assert_eq!(bytes[0], prefix);
            let bytes = &bytes[1..];
            prop_assert_eq!(bytes.len(), packed_len(values.len(), bits));
            for (i, &value) in values.iter().enumerate() {
                let read = (0..bits as usize).fold(0, |x, j| x | bit(bytes, i * bits as usize + j) << j);
                prop_assert_eq!(read, value);
            }
            let mut back = vec![0; values.len()];
            unpack(bytes, bits, &mut back).unwrap();
            prop_assert_eq!(back, values);
        }

        #[test]
        fn refuses_other_lengths_and_padding(bits in 1u32..=64, count in 0usize..40, wrong in 0usize..400) {
            let length = packed_len(count, bits);
            let mut out = vec![0; count];
            if wrong != length {
                prop_assert_eq!(
                    unpack(&vec![0; wrong], bits, &mut out),
                    Err(RnsError::Length { expected: length, actual: wrong })
                );
            }
            for used in count * bits as usize..8 * length {
                let mut bytes = vec![0u8; length];
                bytes[used / 8] |= 1 << (used % 8);
                prop_assert_eq!(unpack(&bytes, bits, &mut out), Err(RnsError::Padding));
            }
        }
    }

    #[test]
    fn refuses_wide_values_and_widths() {
        let mut out = vec![9];
        assert_eq!(
            pack(&[1, 8, 3], 3, &mut out),
            Err(RnsError::ResidueRange { index: 1, modulus: 8 })
        );
        assert_eq!(out, [9]);
        for bits in [0, 65] {
            assert!(matches!(
                pack(&[], bits, &mut out),
                Err(RnsError::InvalidWidth { .. })
            ));
            assert!(matches!(
                unpack(&[], bits, &mut []),
                Err(RnsError::InvalidWidth { .. })
            ));
        }
    }

    #[test]
    fn refuses_residues_out_of_range() {
        let modulus = Modulus::new(97).unwrap();
        let mut bytes = Vec::new();
        pack(&[96, 97], 7, &mut bytes).unwrap();
        let mut out = [0; 2];
        assert_eq!(
            unpack_residues(&bytes, &modulus, &mut out),
            Err(RnsError::ResidueRange {
                index: 1,
                modulus: 97
            })
        );
        bytes.clear();
        pack(&[0, 96], 7, &mut bytes).unwrap();
        unpack_residues(&bytes, &modulus, &mut out).unwrap();
        assert_eq!(out, [0, 96]);
    }

    #[test]
    fn lengths_saturate() {
        assert_eq!(packed_len(usize::MAX, 64), usize::MAX);
        assert_eq!(packed_len(3, 50), 19);
        assert_eq!(packed_len(0, 50), 0);
    }
}
