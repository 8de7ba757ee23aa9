//! Encrypting a contribution.
//!
//! Everything secret is drawn in here and gone when [`encrypt`] returns: what remains is a signed header and a blob.
//! The caller keeps both before it sends either, and sends only these bytes again: encrypting twice for one attempt would
//! give two statements of which only one can be final.

use crate::error::CustodyError;
use crate::seal::{Context, fill_random};
use crate::seeds::Seeds;
use galen_core::{PartyId, SigningKey};
use galen_rns::modulus::Modulus;
use galen_rns::sampling::gaussian;
use galen_rns::xof::Xof;
use galen_sums::authored::CONTRIBUTION;
use galen_sums::blob::{BlobWriter, Subject};
use galen_sums::plan::KEY_AND_NOISE;
use galen_sums::{Authored, ContributionHeader, Round, SumsError};
use std::collections::BTreeMap;
use std::io::Write;
use zeroize::Zeroizing;

/// Encrypts the fixed-point values of one contributor for a round: writes the ciphertext blob to `out` and returns the
/// signed header.
///
/// # Errors
/// [`SumsError::Role`] for a party that does not contribute; [`CustodyError::ValueCount`] and
/// [`CustodyError::ValueRange`] for values that are not those of the plan, before anything is written;
/// [`SumsError::Blob`] if `out` fails.
pub fn encrypt(
    round: &Round,
    contributor: &PartyId,
    key: &SigningKey,
    values: &[i64],
    out: impl Write,
) -> Result<Authored, CustodyError> {
    if !round.roster().is_contributor(contributor) {
        return Err(SumsError::Role {
            party: contributor.clone(),
            role: "contributor",
        }
        .into());
    }
    let plan = round.plan();
    if values.len() as u64 != plan.values() {
        return Err(CustodyError::ValueCount {
            given: values.len(),
            planned: plan.values(),
        });
    }
    for (index, (value, bound)) in values.iter().zip(plan.bounds()).enumerate() {
        if value.unsigned_abs() > bound {
            return Err(CustodyError::ValueRange { index, bound });
        }
    }

    let seeds = Seeds::draw(round, contributor)?;
    let ciphertext = write_blob(round, contributor, &seeds, values, out)?;
    let mut sealed = BTreeMap::new();
    for (custodian, one_round_key) in round.custodians() {
        let pieces = round.held_by(custodian);
        // Every piece was drawn, so none is missing here.
        let text = seeds
            .bytes_of(pieces)
            .ok_or(CustodyError::Seal(custodian.clone()))?;
        let context = seeds_context(round, contributor, custodian);
        sealed.insert(custodian.clone(), context.seal(custodian, one_round_key, &text)?);
    }
    let header = ContributionHeader {
        record: *round.digest(),
        contributor: contributor.clone(),
        base: round.record().base,
        ciphertext,
        ciphertext_len: plan.blob_len(),
        seed_hashes: seeds.hashes().map(|(_, hash)| hash).collect(),
        sealed,
    };
    Ok(Authored::sign(
        key,
        contributor,
        CONTRIBUTION,
        round.roster().study(),
        &header,
    )?)
}

/// What sealed seeds belong to.
pub(crate) fn seeds_context(round: &Round, contributor: &PartyId, custodian: &PartyId) -> Context {
    let fields = [
        &round.digest().0[..],
        contributor.as_str().as_bytes(),
        custodian.as_str().as_bytes(),
    ];
    Context::new("galen sums sealed seeds v1", &fields)
}

fn write_blob(
    round: &Round,
    contributor: &PartyId,
    seeds: &Seeds,
    values: &[i64],
    out: impl Write,
) -> Result<galen_core::Digest, CustodyError> {
    let of_blob = |error| CustodyError::blob(contributor.as_str(), error);
    let degree = round.plan().degree as usize;
    let key = seeds.key(round)?;
    let mut noise_seed = Zeroizing::new([0; 32]);
    fill_random(&mut *noise_seed)?;
    let mut noise_stream = Xof::new(&noise_seed, &[b"galen sums noise v1"]);
    let mut noise = Zeroizing::new(vec![0i64; degree]);

    let mut writer =
        BlobWriter::new(round, &Subject::Contribution(contributor.clone()), out).map_err(of_blob)?;
    for (block, values) in (0..).zip(values.chunks(degree)) {
        gaussian(&KEY_AND_NOISE, &mut noise_stream, &mut noise);
        let mut masked = round.common_polynomial(block);
        masked.mul_assign(&key)?;
        let mut masked = masked.into_coeff();
        for (index, modulus) in round.ring().moduli().iter().enumerate() {
            add_message(
                modulus,
                round.plan().delta,
                values,
                &noise,
                masked.residues_mut(index),
            );
        }
        writer.write_block(&masked).map_err(of_blob)?;
    }
    writer.finish().map_err(of_blob)
}

/// Adds `noise + delta * values`; where values end, zeros are encrypted.
fn add_message(modulus: &Modulus, delta: u64, values: &[i64], noise: &[i64], residues: &mut [u64]) {
    let delta = modulus.reduce_u64(delta);
    let companion = modulus.shoup(delta);
    let values = values.iter().copied().chain(std::iter::repeat(0));
    for ((residue, &noise), value) in residues.iter_mut().zip(noise).zip(values) {
        let message = modulus.mul_shoup(modulus.reduce_i64(value), delta, companion);
        *residue = modulus.add(*residue, modulus.add(message, modulus.reduce_i64(noise)));
    }
}
