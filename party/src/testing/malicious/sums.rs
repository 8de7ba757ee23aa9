//! Sums that are not those of the contributions. Custodians cannot see it: receivers must.

use super::*;
use crate::authentic::{self, Fetched};
use galen_core::PartyId;
use galen_net::protocol::BlobKind;
use galen_rns::poly::Poly;
use galen_store::Store;
use galen_sums::blob::{BlobReader, BlobWriter, Subject};
use galen_sums::statement::OpeningFault;
use galen_sums::{Challenge, ContributionHeader, FingerprintStatement, fingerprint};
use std::collections::BTreeSet;

/// Ciphertexts under another subject, with `shift` added to the first coefficient.
pub(super) fn rewrite(round: &Round, from: &Subject, to: &Subject, blob: &[u8], shift: i128) -> Vec<u8> {
    let mut out = Vec::new();
    let mut reader = BlobReader::new(round, from, blob).unwrap();
    let mut writer = BlobWriter::new(round, to, &mut out).unwrap();
    let mut block = Poly::zero(round.ring());
    for index in 0..round.plan().blocks() {
        reader.read_block(&mut block).unwrap();
        if index == 0 {
            for (at, modulus) in round.ring().moduli().iter().enumerate() {
                let first = &mut block.residues_mut(at)[0];
                *first = modulus.add(*first, modulus.reduce_i128(shift));
            }
        }
        writer.write_block(&block).unwrap();
    }
    writer.finish().unwrap();
    out
}

/// Another's ciphertexts under a name.
pub(super) fn relabel(round: &Round, from: &PartyId, to: &PartyId, blob: &[u8]) -> Vec<u8> {
    let [from, to] = [from, to].map(|name| Subject::Contribution(name.clone()));
    rewrite(round, &from, &to, blob, 0)
}

/// Adds these ciphertexts, however often they occur, and calls it the sum of the set of `headers`.
pub(super) fn add(
    _: &Federation,
    round: &Round,
    headers: &[Authored],
    parcels: &[impl std::borrow::Borrow<Parcel>],
) -> (Vec<u8>, Digest) {
    let set = ContributionSet::new(round, headers).unwrap();
    let mut out = Vec::new();
    let mut readers: Vec<_> = parcels
        .iter()
        .map(|parcel| {
            let parcel: &Parcel = parcel.borrow();
            let subject = Subject::Contribution(parcel.header.author.clone());
            BlobReader::new(round, &subject, &parcel.ciphertext[..]).unwrap()
        })
        .collect();
    let mut writer = BlobWriter::new(round, &Subject::Sum(set.digest()), &mut out).unwrap();
    for _ in 0..round.plan().blocks() {
        let mut total = Poly::zero(round.ring());
        let mut block = Poly::zero(round.ring());
        for reader in &mut readers {
            reader.read_block(&mut block).unwrap();
            total.add_assign(&block).unwrap();
        }
        writer.write_block(&total).unwrap();
    }
    let digest = writer.finish().unwrap();
    (out, digest)
}

/// What custodians sign about an honest set with the sum that the coordinator names.
pub(super) fn evidence(
    federation: &Federation,
    round: &Round,
    headers: &[Authored],
    sum: Digest,
) -> Evidence {
    let endorsements = federation.endorse(round, headers, sum);
    Evidence {
        headers: headers.to_vec(),
        answers: federation.answer(round, headers, &endorsements),
        endorsements,
        fingerprints: Vec::new(),
    }
}

/// Everybody's signed fingerprint of what it sent.
fn fingerprints(
    federation: &Federation,
    round: &Round,
    fixed: &Endorsement,
    parcels: &[Parcel],
) -> Vec<Authored> {
    let sign = |(member, parcel): (&super::super::federation::Member, &Parcel)| {
        let header: ContributionHeader = parcel.header.statement.read_unverified().unwrap();
        authentic::own_fingerprint(round, fixed, &member.identity, &header, &parcel.ciphertext[..]).unwrap()
    };
    federation.members.iter().zip(parcels).map(sign).collect()
}

/// A receiver's store with the sum and, once it has fetched them, the contributions.
struct Desk {
    _temp: tempfile::TempDir,
    store: Store,
    fetched: Fetched,
}

impl Desk {
    fn new(sum: &[u8]) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(temp.path()).unwrap();
        store
            .blobs()
            .put_bytes(sum, BlobKind::Sum as u16, &testing::name("coordinator"))
            .unwrap();
        Self {
            _temp: temp,
            store,
            fetched: Fetched::default(),
        }
    }

    fn fetch(&mut self, parcels: &[Parcel]) {
        for parcel in parcels {
            let owner = &testing::name("coordinator");
            let kind = BlobKind::Contribution as u16;
            self.store
                .blobs()
                .put_bytes(&parcel.ciphertext, kind, owner)
                .unwrap();
            self.fetched
                .add(parcel.header.statement.read_unverified().unwrap());
        }
    }

    fn check(&self, round: &Round, verified: &Verified) -> Result<(), String> {
        match authentic::check(
            round,
            verified,
            self.store.blobs(),
            &self.fetched,
            &mut BTreeSet::new(),
        ) {
            Ok(unchecked) => {
                assert!(unchecked.is_empty(), "{unchecked:?}");
                Ok(())
            }
            Err(NotOpened::Round(unopened)) => {
                assert_eq!(unopened.fault(), OpeningFault::Sum);
                Err(unopened.detail())
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// Attack: the coordinator adds a number of its own to the sum that it has custodians endorse.
#[test]
fn a_shifted_sum_is_refused_by_every_receiver_and_the_coordinator_is_to_blame() {
    let federation = federation(4, 3, 3);
    let round = federation.statistics_round(0, base(&federation));
    let parcels = federation.contribute(&round, values);
    let all = headers(&parcels);
    let (honest, _) = federation.add(&round, &parcels);
    let subject = Subject::Sum(ContributionSet::new(&round, &all).unwrap().digest());
    // Five patients more than there are.
    let shifted = rewrite(
        &round,
        &subject,
        &subject,
        &honest,
        5 * i128::from(round.plan().delta),
    );
    let sum = Digest::of(&shifted);
    let mut evidence = evidence(&federation, &round, &all, sum);
    let fixed = endorsement(&round, &all, sum);
    evidence.fingerprints = fingerprints(&federation, &round, &fixed, &parcels);
    for receiver in 0..4 {
        // It would open, to another number: nothing but the fingerprints tells.
        let opening = open(&federation, receiver, &round, sum, &evidence, &shifted).unwrap();
        let mut expected = sum_of(4);
        expected[0] += 5;
        assert_eq!(opening.sum.values, expected);
        // Line of defence: fingerprints under a challenge that is known only once the sum is fixed.
        let verified = Verified::new(&round, sum, evidence.clone()).unwrap();
        let mut desk = Desk::new(&shifted);
        assert!(
            desk.check(&round, &verified)
                .unwrap_err()
                .contains("do not add up")
        );
        // With the contributions themselves nobody but the coordinator is left to blame.
        desk.fetch(&parcels);
        let blame = desk.check(&round, &verified).unwrap_err();
        assert!(
            blame.contains("do not add up to the sum that the coordinator served"),
            "{blame}"
        );
    }
}

/// Attack: a member signs a fingerprint that makes an honest sum look wrong, or a wrong one right.
#[test]
fn a_member_that_signs_a_false_fingerprint_is_named() {
    let federation = federation(4, 3, 3);
    let round = federation.statistics_round(0, base(&federation));
    let parcels = federation.contribute(&round, values);
    let all = headers(&parcels);
    let (blob, sum) = federation.add(&round, &parcels);
    let mut evidence = evidence(&federation, &round, &all, sum);
    let fixed = endorsement(&round, &all, sum);
    let signed = fingerprints(&federation, &round, &fixed, &parcels);
    evidence.fingerprints = signed.clone();
    Desk::new(&blob)
        .check(&round, &Verified::new(&round, sum, evidence.clone()).unwrap())
        .unwrap();
    // The second gives out the first one's fingerprint as its own.
    let copied: FingerprintStatement = signed[0].statement.read_unverified().unwrap();
    let cheat = &federation.members[1].identity;
    let challenge = Challenge::new(&fixed);
    evidence.fingerprints[1] =
        FingerprintStatement::sign(&round, &challenge, &cheat.name, &cheat.signing, &copied.values).unwrap();
    let verified = Verified::new(&round, sum, evidence.clone()).unwrap();
    let mut desk = Desk::new(&blob);
    assert!(
        desk.check(&round, &verified)
            .unwrap_err()
            .contains("do not add up")
    );
    // Who was away until the contributions were deleted cannot tell whose word is false. It counts nobody's, and keeps the names.
    let unvouched = verified.without_fingerprints();
    let mut liars = BTreeSet::new();
    let unchecked =
        authentic::check(&round, &unvouched, desk.store.blobs(), &desk.fetched, &mut liars).unwrap();
    assert!(liars.is_empty());
    assert_eq!(unchecked, verified.members().cloned().collect());
    // Line of defence: receivers compute the fingerprints of what they fetch, and need nobody's word for it: the honest sum opens.
    desk.fetch(&parcels);
    desk.check(&round, &verified).unwrap();
    let headers: Vec<ContributionHeader> = parcels
        .iter()
        .map(|parcel| parcel.header.statement.read_unverified().unwrap())
        .collect();
    let computed = headers.iter().zip(&parcels).map(|(header, parcel)| {
        let own = fingerprint::of_contribution(&round, &challenge, header, &parcel.ciphertext[..]);
        (header.contributor.clone(), own.unwrap())
    });
    let computed = computed.collect();
    let of_sum = fingerprint::of_sum(&round, &challenge, &blob[..]).unwrap();
    let (set, signed_now) = (verified.set(), verified.fingerprints());
    refused(
        galen_sums::check_sum(&round, set, &challenge, signed_now, &computed, &of_sum),
        "\"b\" signed a fingerprint that is not the one",
    );
    // Nor does a fingerprint of another sum or set count, or one under another's name.
    let other = endorsement(&round, &all, Digest::of(b"another sum"));
    for wrong in [
        fingerprints(&federation, &round, &other, &parcels)[1].clone(),
        Authored {
            author: cheat.name.clone(),
            statement: signed[0].statement.clone(),
        },
    ] {
        assert!(galen_sums::check_fingerprint(&round, &challenge, &wrong).is_err());
        evidence.fingerprints[1] = wrong;
        let verified = Verified::new(&round, sum, evidence.clone()).unwrap();
        assert!(Desk::new(&blob).check(&round, &verified).is_err());
    }
}
