//! The pieces of a contributor's one-round key, as seeds.
//!
//! A piece is a 32-byte seed `k`; the polynomial that it stands for is `chi(k)`, a discrete Gaussian of sigma 4.6 per
//! coefficient, expanded under the round record, the contributor and the piece, so that no seed means anything
//! elsewhere. The key is the sum of all its pieces' polynomials.

use crate::error::CustodyError;
use crate::seal::fill_random;
use galen_core::{Digest, PartyId, Transcript};
use galen_rns::poly::{Coeff, Eval, Poly};
use galen_rns::sampling::gaussian;
use galen_rns::xof::Xof;
use galen_sums::Round;
use galen_sums::contribution::SEED_LEN;
use galen_sums::plan::KEY_AND_NOISE;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Expands a seed to the coefficients of its polynomial.
pub fn chi(seed: &[u8; SEED_LEN], record: &Digest, contributor: &PartyId, piece: u32, out: &mut [i64]) {
    let domain: [&[u8]; 4] = [
        b"galen sums key piece v1",
        &record.0,
        contributor.as_str().as_bytes(),
        &piece.to_le_bytes(),
    ];
    gaussian(&KEY_AND_NOISE, &mut Xof::new(seed, &domain), out);
}

/// The hash by which a contributor commits to a seed. A seed has 256 bits of entropy, so its hash tells nothing of it.
pub fn seed_hash(seed: &[u8; SEED_LEN], record: &Digest, contributor: &PartyId, piece: u32) -> Digest {
    Transcript::new("galen sums seed hash v1")
        .field(&record.0)
        .field(contributor.as_str().as_bytes())
        .number(piece.into())
        .field(seed)
        .digest()
}

/// Seeds of some pieces of one contributor's key in one round. Overwritten on drop; Debug prints none of it.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Seeds {
    #[zeroize(skip)]
    record: Digest,
    #[zeroize(skip)]
    contributor: PartyId,
    #[zeroize(skip)]
    pieces: Vec<u32>,
    // Drawn and opened into this one buffer, which never moves or grows.
    bytes: Zeroizing<Vec<u8>>,
}

impl Seeds {
    /// Draws a seed for every piece.
    ///
    /// # Errors
    /// [`CustodyError::Random`].
    pub fn draw(round: &Round, contributor: &PartyId) -> Result<Self, CustodyError> {
        let pieces: Vec<u32> = (0..round.roster().pieces().len() as u32).collect();
        let mut bytes = Zeroizing::new(vec![0; pieces.len() * SEED_LEN]);
        fill_random(&mut bytes)?;
        Ok(Self {
            record: *round.digest(),
            contributor: contributor.clone(),
            pieces,
            bytes,
        })
    }

    /// Seeds of these pieces from their bytes, if there are as many.
    pub(crate) fn read(
        round: &Round,
        contributor: &PartyId,
        pieces: &[u32],
        bytes: Zeroizing<Vec<u8>>,
    ) -> Option<Self> {
        let fits = bytes.len() == pieces.len() * SEED_LEN;
        fits.then(|| Self {
            record: *round.digest(),
            contributor: contributor.clone(),
            pieces: pieces.to_vec(),
            bytes,
        })
    }

    /// Whose key these are pieces of.
    pub fn contributor(&self) -> &PartyId {
        &self.contributor
    }

    /// Digest of the round record.
    pub fn record(&self) -> &Digest {
        &self.record
    }

    fn iter(&self) -> impl Iterator<Item = (u32, &[u8; SEED_LEN])> {
        self.pieces.iter().copied().zip(self.bytes.as_chunks().0)
    }

    /// Each piece with the hash of its seed.
    pub fn hashes(&self) -> impl Iterator<Item = (u32, Digest)> {
        self.iter()
            .map(|(piece, seed)| (piece, seed_hash(seed, &self.record, &self.contributor, piece)))
    }

    /// The seeds of these pieces, one after the other; nothing if one is not here.
    pub(crate) fn bytes_of(&self, pieces: &[u32]) -> Option<Zeroizing<Vec<u8>>> {
        let mut out = Zeroizing::new(Vec::with_capacity(pieces.len() * SEED_LEN));
        for wanted in pieces {
            let (_, seed) = self.iter().find(|(piece, _)| piece == wanted)?;
            out.extend_from_slice(seed);
        }
        Some(out)
    }

    /// Adds the polynomials of these pieces to `sum`; false, and `sum` is of no use, if a piece is not here.
    pub(crate) fn add_to(&self, pieces: &[u32], sum: &mut [i64]) -> bool {
        let mut polynomial = Zeroizing::new(vec![0; sum.len()]);
        for wanted in pieces {
            let Some((piece, seed)) = self.iter().find(|(piece, _)| piece == wanted) else {
                return false;
            };
            chi(seed, &self.record, &self.contributor, piece, &mut polynomial);
            for (sum, coefficient) in sum.iter_mut().zip(polynomial.iter()) {
                *sum += coefficient;
            }
        }
        true
    }

    /// The key: the sum of the polynomials of all pieces that are here.
    pub(crate) fn key(&self, round: &Round) -> Result<Zeroizing<Poly<Eval>>, CustodyError> {
        let mut sum = Zeroizing::new(vec![0; round.plan().degree as usize]);
        self.add_to(&self.pieces, &mut sum);
        Ok(Zeroizing::new(
            Poly::<Coeff>::from_i64(round.ring(), &sum)?.into_eval(),
        ))
    }
}

impl std::fmt::Debug for Seeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Seeds(of {}, {} pieces)", self.contributor, self.pieces.len())
    }
}
