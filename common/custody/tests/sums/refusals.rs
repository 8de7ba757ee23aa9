//! Contributions that must be refused, by whom, and under which code.

use crate::federation::*;
use galen_core::{Code, Digest, PartyId};
use galen_custody::{CustodyError, OneRoundSecret, check_contribution};
use galen_rns::poly::{Coeff, Poly};
use galen_sums::blob::{BlobReader, BlobWriter, HEADER_LEN, Subject};
use galen_sums::{Authored, ContributionSet, SetFault, Source, SumsError, add, check_blob, check_header};

pub(crate) fn federation() -> Federation {
    Federation::new(Sharing(4, 3, 3), 4, vec![range(20, 1000)])
}

pub(crate) fn contributions(attempt: &Attempt<'_>) -> Vec<Contribution> {
    (0..4)
        .map(|i| attempt.contribute(i, &[i as i64 - 2; 20]))
        .collect()
}

fn check_as(attempt: &Attempt<'_>, custodian: usize, header: &Authored) -> Result<(), CustodyError> {
    let custodian = name(custodian);
    check_contribution(&attempt.round, &custodian, &attempt.secrets[&custodian], header).map(|_| ())
}

#[track_caller]
fn assert_seeds_refused(result: Result<(), CustodyError>, contributor: usize) {
    let error = result.unwrap_err();
    assert_eq!(error.code(), Code::BadSeeds);
    assert!(
        matches!(&error, CustodyError::Seeds { contributor: who, .. } if *who == name(contributor)),
        "{error}"
    );
}

#[test]
fn wrong_seeds_are_refused_and_the_contributor_is_named() {
    let federation = federation();
    let attempt = federation.announce_all(1, 0);
    let all = contributions(&attempt);
    let other = attempt.contribute(0, &[5; 20]);
    let held = attempt.round.held_by(&name(1))[0] as usize;
    let sealed_by = |contribution: &Contribution| {
        let header: galen_sums::ContributionHeader = contribution.header.statement.read_unverified().unwrap();
        header.sealed
    };

    // A hash of another seed: everyone who holds that piece sees it, the others do not.
    let lie = attempt.resign(&all[2], |header| header.seed_hashes[held].0[0] ^= 1);
    assert_seeds_refused(check_as(&attempt, 1, &lie), 2);
    for custodian in 0..4 {
        let holds = attempt.round.held_by(&name(custodian)).contains(&(held as u32));
        assert_eq!(check_as(&attempt, custodian, &lie).is_err(), holds);
    }
    // Seeds sealed to another custodian, in another contribution, by another contributor, or changed.
    let swapped = attempt.resign(&all[2], |header| {
        let (a, b) = (header.sealed[&name(0)].clone(), header.sealed[&name(1)].clone());
        header.sealed.insert(name(0), b);
        header.sealed.insert(name(1), a);
    });
    assert_seeds_refused(check_as(&attempt, 0, &swapped), 2);
    let foreign = attempt.resign(&all[0], |header| header.sealed = sealed_by(&other));
    assert_seeds_refused(check_as(&attempt, 0, &foreign), 0);
    let stolen = attempt.resign(&all[2], |header| header.sealed = sealed_by(&all[1]));
    assert_seeds_refused(check_as(&attempt, 0, &stolen), 2);
    let flipped = attempt.resign(&all[2], |header| {
        header.sealed.get_mut(&name(3)).unwrap()[40] ^= 4
    });
    assert_seeds_refused(check_as(&attempt, 3, &flipped), 2);
    assert!(check_as(&attempt, 0, &flipped).is_ok());
}

#[test]
fn a_signature_binds_every_byte_of_a_header() {
    let federation = federation();
    let attempt = federation.announce_all(1, 0);
    let header = attempt.contribute(1, &[7; 20]).header;
    let bytes = postcard::to_stdvec(&header).unwrap();
    assert!(check_header(&attempt.round, &postcard::from_bytes(&bytes).unwrap()).is_ok());
    for at in 0..bytes.len() {
        for mask in [1, 0x80] {
            let mut bad = bytes.clone();
            bad[at] ^= mask;
            let accepted = postcard::from_bytes::<Authored>(&bad)
                .is_ok_and(|header| check_header(&attempt.round, &header).is_ok());
            assert!(!accepted, "byte {at}");
        }
    }
}

#[test]
fn a_header_that_does_not_conform_is_refused() {
    let federation = federation();
    let attempt = federation.announce_all(1, 0);
    let good = attempt.contribute(1, &[7; 20]);
    type Change = fn(&mut galen_sums::ContributionHeader);
    let changes: [(Change, Code); 10] = [
        (|h| h.record.0[0] ^= 1, Code::WrongRound),
        (|h| h.base = Digest::of(b"another model"), Code::WrongBase),
        (|h| h.contributor = name(2), Code::NotConforming),
        (|h| h.ciphertext_len += 1, Code::NotConforming),
        (|h| h.seed_hashes.truncate(5), Code::NotConforming),
        (|h| h.seed_hashes.push(Digest::default()), Code::NotConforming),
        (|h| drop(h.sealed.pop_last()), Code::NotConforming),
        (
            |h| drop(h.sealed.insert(PartyId::new("stranger").unwrap(), vec![0; 144])),
            Code::NotConforming,
        ),
        (
            |h| h.sealed.get_mut(&name(0)).unwrap().truncate(143),
            Code::NotConforming,
        ),
        (
            |h| h.sealed.get_mut(&name(0)).unwrap().push(0),
            Code::NotConforming,
        ),
    ];
    for (index, (change, code)) in changes.into_iter().enumerate() {
        let refused = check_header(&attempt.round, &attempt.resign(&good, change)).unwrap_err();
        assert_eq!(refused.code(), code, "change {index}: {refused}");
    }
    // Another member's signature, and a member without the role.
    let mut borrowed = good.header.clone();
    borrowed.author = name(2);
    assert_eq!(
        check_header(&attempt.round, &borrowed).unwrap_err().code(),
        Code::BadSignature
    );
    borrowed.author = PartyId::new("stranger").unwrap();
    assert_eq!(
        check_header(&attempt.round, &borrowed).unwrap_err().code(),
        Code::RoleMissing
    );
    let federation = Federation::new(Sharing(5, 3, 3), 3, vec![range(20, 1000)]);
    let attempt = federation.announce_all(1, 0);
    let (party, mut blob) = (&federation.parties[4], Vec::new());
    let refused = galen_custody::encrypt(&attempt.round, &party.name, &party.signing, &[0; 20], &mut blob);
    assert_eq!(refused.unwrap_err().code(), Code::RoleMissing);
}

#[test]
fn another_rounds_contribution_is_refused() {
    let federation = federation();
    let (first, second) = (federation.announce_all(1, 0), federation.announce_all(2, 0));
    let old = first.contribute(0, &[9; 20]);
    // As it is.
    assert_eq!(
        check_header(&second.round, &old.header).unwrap_err().code(),
        Code::WrongRound
    );
    assert_eq!(
        check_as(&second, 0, &old.header).unwrap_err().code(),
        Code::WrongRound
    );
    let blob = check_blob(&second.round, &name(0), old.blob.as_slice());
    assert_eq!(blob.unwrap_err().code(), Code::WrongRound);
    // Under a header that its own contributor signs for the new round: the blob and the seeds give it away.
    let lie = second.resign(&old, |header| header.record = *second.round.digest());
    assert!(check_header(&second.round, &lie).is_ok());
    assert_seeds_refused(check_as(&second, 0, &lie), 0);
    // With the seeds of the new round and the ciphertexts of the old one relabelled: the remainders are garbage.
    let mut all = contributions(&second);
    let mut relabelled = old.blob.clone();
    relabelled[..HEADER_LEN].copy_from_slice(&all[0].blob[..HEADER_LEN]);
    all[0] = second.with_blob(&all[0], relabelled);
    assert_remainder_refused(second, &all);
}

#[test]
fn a_replay_in_another_attempt_is_refused() {
    let federation = federation();
    let first = federation.announce_all(1, 0);
    let mut second = federation.announce_all(1, 1);
    let old = contributions(&first);
    assert_eq!(
        check_header(&second.round, &old[0].header).unwrap_err().code(),
        Code::WrongRound
    );
    let headers: Vec<_> = old.iter().map(|c| c.header.clone()).collect();
    assert_eq!(
        ContributionSet::new(&second.round, &headers).unwrap_err().code(),
        Code::WrongRound
    );
    // The secret of the first attempt does not serve for the second, nor the other way round.
    let fresh = contributions(&second);
    let stale = check_contribution(
        &second.round,
        &name(0),
        &first.secrets[&name(0)],
        &fresh[0].header,
    );
    assert_eq!(stale.unwrap_err().code(), Code::WrongRound);
    // Within the attempt, one contributor counts once.
    let twice: Vec<_> = [0, 1, 2, 0].iter().map(|&i| fresh[i].header.clone()).collect();
    let refused = ContributionSet::new(&second.round, &twice).unwrap_err();
    assert!(matches!(refused, SumsError::Set(SetFault::Repeated(_))));
    assert!(second.finish(&names([0, 1, 2]), &fresh).is_ok());
}

#[track_caller]
fn assert_remainder_refused(mut attempt: Attempt<'_>, contributions: &[Contribution]) {
    let refused = attempt.finish(&attempt.custodians(), contributions).unwrap_err();
    assert!(matches!(refused, CustodyError::Remainder { .. }), "{refused}");
    assert_eq!(refused.code(), Code::BadRemainder);
}

/// Reads a contribution's only block, lets `change` work on it, and writes it again.
fn tamper(attempt: &Attempt<'_>, c: &Contribution, change: impl FnOnce(&mut Poly<Coeff>)) -> Contribution {
    let subject = Subject::Contribution(c.header.author.clone());
    let mut block = Poly::zero(attempt.round.ring());
    BlobReader::new(&attempt.round, &subject, c.blob.as_slice())
        .unwrap()
        .read_block(&mut block)
        .unwrap();
    change(&mut block);
    let mut blob = Vec::new();
    let mut writer = BlobWriter::new(&attempt.round, &subject, &mut blob).unwrap();
    writer.write_block(&block).unwrap();
    writer.finish().unwrap();
    attempt.with_blob(c, blob)
}

#[test]
fn a_flipped_ciphertext_bit_is_refused() {
    let federation = federation();
    let attempt = federation.announce_all(1, 0);
    let all = contributions(&attempt);
    let headers: Vec<_> = all.iter().map(|c| c.header.clone()).collect();
    let set = ContributionSet::new(&attempt.round, &headers).unwrap();
    for at in [HEADER_LEN, HEADER_LEN + 1001, all[1].blob.len() - 1] {
        let mut flipped = all[1].blob.clone();
        flipped[at] ^= 0x10;
        let sources: Vec<_> = all
            .iter()
            .zip(&headers)
            .map(|(c, header)| Source {
                contributor: header.author.clone(),
                digest: check_header(&attempt.round, header).unwrap().ciphertext,
                blob: if header.author == name(1) {
                    flipped.as_slice()
                } else {
                    c.blob.as_slice()
                },
            })
            .collect();
        let refused = add(&attempt.round, &set, &sources, Vec::new()).unwrap_err();
        assert!(refused.to_string().contains("h1"), "{refused}");
        assert!(
            [Code::BlobMismatch, Code::NotConforming].contains(&refused.code()),
            "{refused}"
        );
    }
    // The sum, damaged on its way to a receiver.
    let mut attempt = attempt;
    let mut proposal = attempt.propose(&all);
    let certificate = attempt.certify(&attempt.custodians(), &all, &proposal);
    let assignments = attempt.round.assign(&attempt.custodians()).unwrap();
    let answers = attempt.answer_all(&assignments, &all, &certificate, &proposal);
    assert!(attempt.open(0, &certificate, &proposal, &answers).is_ok());
    proposal.sum[HEADER_LEN + 7] ^= 1;
    let refused = attempt.open(0, &certificate, &proposal, &answers).unwrap_err();
    assert!(
        [Code::BlobMismatch, Code::NotConforming].contains(&refused.code()),
        "{refused}"
    );
}

#[test]
fn a_contributor_that_signs_a_changed_ciphertext_fails_the_remainder_check() {
    let federation = federation();
    let half = federation.announce_all(1, 0).round.plan().delta / 2;
    // One coefficient off by half of delta; and a block that is no encryption of anything under the dealt key.
    let changes: [fn(&mut Poly<Coeff>, u64); 2] = [
        |block, half| {
            let modulus = block.ring().moduli()[0];
            block.data_mut()[17] = modulus.add(block.data()[17], half);
        },
        |block, _| {
            block
                .data_mut()
                .iter_mut()
                .for_each(|residue| *residue = residue.wrapping_mul(3) >> 3)
        },
    ];
    for change in changes {
        let attempt = federation.announce_all(1, 0);
        let mut all = contributions(&attempt);
        all[2] = tamper(&attempt, &all[2], |block| change(block, half));
        assert_remainder_refused(attempt, &all);
    }
    // Seeds that fit their hashes, but are not the key that was encrypted under.
    let attempt = federation.announce_all(1, 0);
    let mut all = contributions(&attempt);
    let other = attempt.contribute(2, &[0; 20]);
    all[2] = attempt.with_blob(&all[2], other.blob);
    assert_remainder_refused(attempt, &all);
}

#[test]
fn values_out_of_bounds_and_filling_that_is_not_zero_are_refused() {
    let federation = federation();
    // Four contributors of values up to 1000 sum to 4000 at most; 4050 does not wrap around the modulus either.
    for (coefficient, factor) in [(3, 4050), (25, 1)] {
        let attempt = federation.announce_all(1, 0);
        let mut all = contributions(&attempt);
        let delta = attempt.round.plan().delta;
        all[0] = tamper(&attempt, &all[0], |block| {
            let modulus = block.ring().moduli()[0];
            let residue = &mut block.data_mut()[coefficient];
            *residue = modulus.add(*residue, modulus.reduce_u64(delta * factor));
        });
        assert_remainder_refused(attempt, &all);
    }
}

#[test]
fn a_secret_of_another_round_or_custodian_opens_nothing() {
    let federation = federation();
    let attempt = federation.announce_all(1, 0);
    let header = attempt.contribute(0, &[1; 20]).header;
    let fresh = OneRoundSecret::generate(attempt.round.id()).unwrap();
    let swapped = &attempt.secrets[&name(1)];
    for secret in [&fresh, swapped] {
        let refused = check_contribution(&attempt.round, &name(0), secret, &header).unwrap_err();
        assert!(matches!(refused, CustodyError::OtherSecret(_)));
    }
    assert!(check_contribution(&attempt.round, &name(1), swapped, &header).is_ok());
}
