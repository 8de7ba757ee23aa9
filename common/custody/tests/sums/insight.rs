//! What someone sees who holds custodians' one-round private keys: the seeds of their pieces, and what those take off a
//! ciphertext. Written from the documented formats, without the crate's own opening of seeds.

use crate::federation::*;
use galen_custody::seeds::{chi, seed_hash};
use galen_rns::basis::Composer;
use galen_rns::poly::{Coeff, Poly};
use galen_sums::blob::{BlobReader, BlobWriter, Subject};
use galen_sums::{Round, check_header};
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, single_shot_open};
use std::collections::BTreeMap;

/// Key pieces of one contributor: each piece's polynomial.
pub(crate) type Pieces = BTreeMap<u32, Vec<i64>>;

/// The pieces that these custodians find in a contribution.
pub(crate) fn pieces(
    attempt: &Attempt<'_>,
    contribution: &Contribution,
    custodians: impl IntoIterator<Item = usize>,
) -> Pieces {
    let round = &attempt.round;
    let header = check_header(round, &contribution.header).unwrap();
    let degree = round.plan().degree as usize;
    let mut found = Pieces::new();
    for custodian in custodians.into_iter().map(name) {
        // The private key ends the stored form.
        let stored = attempt.secrets[&custodian].to_bytes();
        let private =
            <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(&stored[stored.len() - 32..]).unwrap();
        let (encapsulated, sealed) = header.sealed[&custodian].split_at(32);
        let fields = [
            &round.digest().0[..],
            header.contributor.as_str().as_bytes(),
            custodian.as_str().as_bytes(),
        ];
        let bound: Vec<u8> = fields
            .iter()
            .flat_map(|field| [&(field.len() as u64).to_le_bytes()[..], field].concat())
            .collect();
        let seeds = single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &private,
            &Deserializable::from_bytes(encapsulated).unwrap(),
            b"galen sums sealed seeds v1",
            sealed,
            &bound,
        )
        .unwrap();
        for (&piece, seed) in round.held_by(&custodian).iter().zip(seeds.as_chunks().0) {
            let hash = seed_hash(seed, round.digest(), &header.contributor, piece);
            assert_eq!(hash, header.seed_hashes[piece as usize]);
            let mut polynomial = vec![0; degree];
            chi(seed, round.digest(), &header.contributor, piece, &mut polynomial);
            found.insert(piece, polynomial);
        }
    }
    found
}

/// The sum of polynomials.
pub(crate) fn sum<'p>(polynomials: impl IntoIterator<Item = &'p Vec<i64>>) -> Vec<i64> {
    polynomials
        .into_iter()
        .fold(vec![0; 4096], |mut sum, polynomial| {
            sum.iter_mut().zip(polynomial).for_each(|(s, p)| *s += p);
            sum
        })
}

/// The blocks of a blob.
pub(crate) fn read(round: &Round, subject: &Subject, blob: &[u8]) -> Vec<Poly<Coeff>> {
    let mut reader = BlobReader::new(round, subject, blob).unwrap();
    (0..round.plan().blocks())
        .map(|_| {
            let mut block = Poly::zero(round.ring());
            reader.read_block(&mut block).unwrap();
            block
        })
        .collect()
}

/// A blob of these blocks.
pub(crate) fn write(round: &Round, subject: &Subject, blocks: &[Poly<Coeff>]) -> Vec<u8> {
    let mut blob = Vec::new();
    let mut writer = BlobWriter::new(round, subject, &mut blob).unwrap();
    blocks.iter().for_each(|block| writer.write_block(block).unwrap());
    writer.finish().unwrap();
    blob
}

/// What is left of blocks when `a_j` times a key is taken off, as centred integers. `round` says which `a_j`.
pub(crate) fn decrypt(round: &Round, blocks: &[Poly<Coeff>], key: &[i64]) -> Vec<i128> {
    let key = Poly::<Coeff>::from_i64(round.ring(), key).unwrap().into_eval();
    let composer = Composer::new(round.ring().moduli()).unwrap();
    let mut left = Vec::new();
    for (index, block) in (0..).zip(blocks) {
        let mut mask = round.common_polynomial(index);
        mask.mul_assign(&key).unwrap();
        let mut block = block.clone();
        block.sub_assign(&mask.into_coeff()).unwrap();
        let rows: Vec<&[u64]> = (0..round.ring().moduli().len())
            .map(|i| block.residues(i))
            .collect();
        left.extend((0..4096).map(|at| {
            let residues: Vec<u64> = rows.iter().map(|row| row[at]).collect();
            composer.compose_centered(&residues).unwrap()
        }));
    }
    left
}

/// The multiple of delta next to each number, and what remains.
pub(crate) fn split(round: &Round, numbers: &[i128]) -> (Vec<i64>, Vec<i64>) {
    let delta = i128::from(round.plan().delta);
    numbers
        .iter()
        .map(|number| {
            let value = (number + delta / 2).div_euclid(delta);
            (value as i64, (number - value * delta) as i64)
        })
        .unzip()
}

/// Blocks of a contribution.
pub(crate) fn ciphertext(attempt: &Attempt<'_>, contribution: &Contribution) -> Vec<Poly<Coeff>> {
    let subject = Subject::Contribution(contribution.header.author.clone());
    read(&attempt.round, &subject, &contribution.blob)
}

/// Pearson's statistic of counts against expected numbers.
pub(crate) fn chi_square(counts: &[u64], expected: &[f64]) -> f64 {
    counts
        .iter()
        .zip(expected)
        .map(|(&count, expected)| (count as f64 - expected).powi(2) / expected)
        .sum()
}

/// Counts of remainders in 16 equal parts of the range of delta, against equal numbers. Of uniform ones this is above 100
/// with probability below `10^-13` (15 degrees of freedom).
pub(crate) fn evenness(round: &Round, remainders: &[i64]) -> f64 {
    let delta = round.plan().delta as i64;
    let mut counts = [0; 16];
    for remainder in remainders {
        counts[((remainder + delta / 2) * 16 / delta).clamp(0, 15) as usize] += 1;
    }
    chi_square(&counts, &[remainders.len() as f64 / 16.0; 16])
}
