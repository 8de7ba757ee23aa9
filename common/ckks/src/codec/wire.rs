//! What all objects have in common: the header, packed polynomials, and reading from the front.

use crate::context::Context;
use crate::error::{CkksError, Malformed};
use galen_rns::RnsError;
use galen_rns::packing::{pack, packed_len, unpack_residues};
use galen_rns::poly::{Eval, Poly};
use galen_rns::ring::Ring;
use std::sync::Arc;

const MAGIC: [u8; 4] = *b"GCKS";
const VERSION: u16 = 1;
pub(super) const HEADER_LEN: usize = 4 + 2 + 1 + 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Tag {
    Ciphertext = 1,
    CiphertextSet = 2,
    PublicKey = 3,
    RelinKey = 4,
    SecretKey = 5,
    GaloisKeys = 6,
}

pub(super) fn header(tag: Tag, preset: &[u8; 32]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_LEN);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.push(tag as u8);
    out.extend_from_slice(preset);
    out
}

/// Digest of the preset in a header of this version.
pub(super) fn preset_digest(bytes: &[u8]) -> Option<[u8; 32]> {
    let rest = bytes.strip_prefix(&MAGIC)?.strip_prefix(&VERSION.to_le_bytes())?;
    rest.get(1..)?.first_chunk().copied()
}

pub(super) fn poly_len(ring: &Ring) -> usize {
    ring.moduli()
        .iter()
        .map(|m| packed_len(ring.degree(), m.bits()))
        .sum()
}

pub(super) fn write_poly(poly: &Poly<Eval>, out: &mut Vec<u8>) -> Result<(), CkksError> {
    out.reserve(poly_len(poly.ring()));
    for (index, m) in poly.ring().moduli().iter().enumerate() {
        pack(poly.residues(index), m.bits(), out)?;
    }
    Ok(())
}

/// Takes fields off the front of bytes.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Checks length and header.
    pub(super) fn new(
        context: &Context,
        bytes: &'a [u8],
        expected: Tag,
        max: usize,
    ) -> Result<Self, CkksError> {
        if bytes.len() > max {
            return Err(Malformed::TooLong {
                length: bytes.len(),
                max,
            }
            .into());
        }
        let mut reader = Self { rest: bytes };
        if reader.array()? != MAGIC {
            return Err(Malformed::Magic.into());
        }
        let version = u16::from_le_bytes(reader.array()?);
        if version != VERSION {
            return Err(Malformed::Version { version }.into());
        }
        let tag = reader.u8()?;
        if tag != expected as u8 {
            return Err(Malformed::Type {
                tag,
                expected: expected as u8,
            }
            .into());
        }
        if reader.array()? != context.digest().0 {
            return Err(Malformed::Preset.into());
        }
        Ok(reader)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(Malformed::Truncated {
                missing: count - self.rest.len(),
            });
        };
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN], Malformed> {
        let mut out = [0; LEN];
        out.copy_from_slice(self.take(LEN)?);
        Ok(out)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn f64(&mut self) -> Result<f64, Malformed> {
        Ok(f64::from_bits(u64::from_le_bytes(self.array()?)))
    }

    pub(super) fn poly(&mut self, ring: &Arc<Ring>) -> Result<Poly<Eval>, CkksError> {
        // All of it must be there before memory is taken for it.
        let mut packed = self.take(poly_len(ring))?;
        let mut poly = Poly::zero(ring);
        for (index, m) in ring.moduli().iter().enumerate() {
            let (bytes, rest) = packed.split_at(packed_len(ring.degree(), m.bits()));
            packed = rest;
            unpack_residues(bytes, m, poly.residues_mut(index)).map_err(|error| match error {
                RnsError::ResidueRange { .. } => CkksError::from(Malformed::Residue),
                RnsError::Padding => Malformed::Padding.into(),
                other => other.into(),
            })?;
        }
        Ok(poly)
    }

    /// The number of digits of a key, which must be that of the preset.
    pub(super) fn digits(&mut self, context: &Context) -> Result<usize, CkksError> {
        let (count, expected) = (usize::from(self.u8()?), context.top().switching.digits.len());
        if count == expected {
            return Ok(count);
        }
        Err(Malformed::Count {
            count,
            min: expected,
            max: expected,
        }
        .into())
    }

    /// The stored halves of a key.
    pub(super) fn halves(&mut self, context: &Context, digits: usize) -> Result<Vec<Poly<Eval>>, CkksError> {
        (0..digits).map(|_| self.poly(context.key_ring())).collect()
    }

    pub(super) fn finish(self) -> Result<(), Malformed> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(Malformed::Trailing { count }),
        }
    }
}
