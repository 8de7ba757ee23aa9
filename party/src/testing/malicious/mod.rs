//! A coordinator that wants to read what it must not, alone, with custodians that sign anything, and with contributors that rush.
//!
//! The parties are the real ones, each on a disk of its own; what the coordinator says, these tests make up. Each test plays one
//! attack, and a comment says which line of defence stops it. `docs/malicious-coordinator.md` lists them all.

mod agreement;
mod attempts;
mod contributions;
mod culprit;
mod custodians;
mod disks;
mod latecomer;
mod lies;
mod log;
mod play;
mod records;
mod sums;

use super::federation::Federation;
use crate::contribute::Parcel;
use crate::error::PartyError;
use crate::opening::{Evidence, NotOpened, Opening, Verified};
use crate::testing;
use galen_core::study::Purpose;
use galen_core::{Digest, Signed};
use galen_sums::authored::ENDORSEMENT;
use galen_sums::{Authored, ContributionSet, Endorsement, Round, RoundId, RoundRecord};
use std::fmt::{Debug, Display};

const ID: RoundId = RoundId { round: 0, attempt: 0 };

/// Parties that all contribute and all keep pieces.
fn federation(parties: usize, threshold: u32, agreement: u32) -> Federation {
    Federation::of(testing::study_of(parties, parties, threshold, agreement))
}

/// Sums of these mean something: patients of both classes, count, sum and squares of a column.
fn values(index: usize) -> Vec<i64> {
    vec![10 + index as i64, 5, 12, 1 << 20, 3 << 20]
}

/// The sum of [`values`] over the first so many.
fn sum_of(parties: i64) -> Vec<i64> {
    let first = (0..parties).map(|index| 10 + index).sum();
    vec![
        first,
        5 * parties,
        12 * parties,
        parties << 20,
        3 * (parties << 20),
    ]
}

/// The state that the first round starts from.
fn base(federation: &Federation) -> Digest {
    crate::derive::Derived::initial(&federation.study).digest()
}

fn headers(parcels: &[Parcel]) -> Vec<Authored> {
    parcels.iter().map(|parcel| parcel.header.clone()).collect()
}

/// What a custodian signs that does not care what it signs.
fn sign_anything(federation: &Federation, index: usize, said: &Endorsement) -> Authored {
    let (identity, study) = (&federation.members[index].identity, federation.study.digest());
    Authored::sign(&identity.signing, &identity.name, ENDORSEMENT, &study, said).unwrap()
}

fn endorsement(round: &Round, headers: &[Authored], sum: Digest) -> Endorsement {
    Endorsement::of(&ContributionSet::new(round, headers).unwrap(), sum)
}

/// The record that an honest coordinator would make, changed, and signed by the coordinator.
fn changed_record(federation: &Federation, id: RoundId, change: impl FnOnce(&mut RoundRecord)) -> Signed {
    let purpose = federation.rounds.purpose(id.round).unwrap();
    let keys = federation.announce(id);
    let honest = federation.record(id, base(federation), purpose, keys);
    change_record(federation, &honest, change)
}

fn change_record(federation: &Federation, honest: &Signed, change: impl FnOnce(&mut RoundRecord)) -> Signed {
    let mut record: RoundRecord = honest.read_unverified().unwrap();
    change(&mut record);
    record.sign(&federation.coordinator).unwrap()
}

/// The honest record.
fn honest_record(federation: &Federation, id: RoundId, purpose: Purpose) -> Signed {
    federation.record(id, base(federation), purpose, federation.announce(id))
}

#[track_caller]
fn refused<T: Debug, E: Display>(result: Result<T, E>, part: &str) {
    match result {
        Ok(accepted) => panic!("accepted: {accepted:?}"),
        Err(error) => assert!(error.to_string().contains(part), "{part}\n{error}"),
    }
}

/// What a receiver makes of a sum that the coordinator serves, leaving its fingerprints aside.
fn open(
    federation: &Federation,
    receiver: usize,
    round: &Round,
    sum: Digest,
    evidence: &Evidence,
    blob: &[u8],
) -> Result<Opening, NotOpened> {
    let before = crate::derive::Derived::initial(&federation.study);
    let (study, identity) = (federation.study.study(), &federation.members[receiver].identity);
    Verified::new(round, sum, evidence.clone())?.open(round, identity, study, &before, blob)
}

/// Refused by the party's own code, not by the daemon's plumbing.
#[track_caller]
fn stands_aside<T: Debug>(result: Result<T, PartyError>) {
    assert!(matches!(result, Err(PartyError::StandsAside(_))), "{result:?}");
}
