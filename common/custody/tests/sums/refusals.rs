//! What must be refused, by whom, and under which code.

use crate::federation::*;
use galen_core::{Code, Digest, PartyId, SigningKey};
use galen_custody::{CustodyError, OneRoundSecret, check_contribution, check_set, endorse};
use galen_rns::poly::{Coeff, Poly};
use galen_sums::blob::{BlobReader, BlobWriter, HEADER_LEN, Subject};
use galen_sums::plan::PlanInputs;
use galen_sums::record::OneRoundKey;
use galen_sums::{
    AnswerHeader, Authored, BlobError, ContributionSet, Endorsement, PlanError, Round, RoundId, SetFault,
    Source, SumsError, add, authored, check_answer, check_blob, check_certificate, check_header,
};
use std::collections::BTreeSet;

fn federation() -> Federation {
    Federation::new(Sharing(4, 3, 3), 4, vec![range(20, 1000)])
}

fn contributions(attempt: &Attempt<'_>) -> Vec<Contribution> {
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
                reader: if header.author == name(1) {
                    flipped.as_slice()
                } else {
                    c.blob.as_slice()
                },
            })
            .collect();
        let refused = add(&attempt.round, &set, sources, Vec::new()).unwrap_err();
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
fn malformed_blobs_of_every_kind_are_refused() {
    let federation = Federation::new(Sharing(3, 2, 2), 3, vec![range(5000, 1 << 40)]);
    let attempt = federation.announce_all(1, 0);
    let good = attempt.contribute(0, &[3; 5000]).blob;
    let plan = attempt.round.plan();
    assert_eq!(plan.primes.len(), 2);
    let refuse = |blob: &[u8]| match check_blob(&attempt.round, &name(0), blob).unwrap_err() {
        SumsError::Blob { source, .. } => source,
        other => panic!("{other}"),
    };
    assert!(check_blob(&attempt.round, &name(0), good.as_slice()).is_ok());

    for length in (0..HEADER_LEN).chain([HEADER_LEN, HEADER_LEN + 1, good.len() / 2, good.len() - 1]) {
        assert!(
            matches!(refuse(&good[..length]), BlobError::Truncated),
            "{length}"
        );
    }
    let mut longer = good.clone();
    longer.push(0);
    assert!(matches!(refuse(&longer), BlobError::TooLong));
    let changed = |at: usize| {
        let mut bad = good.clone();
        bad[at] ^= 1;
        refuse(&bad)
    };
    assert!((0..8).all(|at| matches!(changed(at), BlobError::Magic)));
    assert!(matches!(changed(8), BlobError::Version(0)));
    assert!(matches!(changed(9), BlobError::Version(257)));
    assert!((10..12).all(|at| matches!(changed(at), BlobError::Kind { expected: 1, .. })));
    assert!((12..44).all(|at| matches!(changed(at), BlobError::Record)));
    assert!((44..76).all(|at| matches!(changed(at), BlobError::Subject)));
    // All ones is not below any prime of its width, for the first and the last residue of each prime of each block. (Blocks
    // of 4096 residues end on a byte whatever the width, so there is no padding.)
    let mut at = HEADER_LEN;
    for block in 0..plan.blocks() {
        for modulus in attempt.round.ring().moduli() {
            let length = 512 * modulus.bits() as usize;
            for start in [at, at + length - 8] {
                let mut bad = good.clone();
                bad[start..start + 8].fill(0xff);
                assert!(matches!(refuse(&bad), BlobError::Residues { block: b, .. } if b == block));
            }
            at += length;
        }
    }
    assert_eq!(at, good.len());
    // Another contributor's blob, and a sum in the place of a contribution.
    let other = attempt.contribute(1, &[3; 5000]).blob;
    assert!(matches!(refuse(&other), BlobError::Subject));
    let all: Vec<_> = (0..3).map(|i| attempt.contribute(i, &[1; 5000])).collect();
    assert!(matches!(
        refuse(&attempt.propose(&all).sum),
        BlobError::Kind {
            found: 2,
            expected: 1
        }
    ));
}

#[test]
fn a_blob_takes_exactly_its_blocks() {
    let federation = federation();
    let attempt = federation.announce_all(1, 0);
    let subject = Subject::Contribution(name(0));
    let zero = Poly::<Coeff>::zero(attempt.round.ring());
    let empty = BlobWriter::new(&attempt.round, &subject, Vec::new()).unwrap();
    assert!(matches!(empty.finish(), Err(BlobError::Blocks { .. })));
    let mut writer = BlobWriter::new(&attempt.round, &subject, Vec::new()).unwrap();
    writer.write_block(&zero).unwrap();
    assert!(matches!(writer.write_block(&zero), Err(BlobError::Blocks { .. })));
    let blob = attempt.contribute(0, &[0; 20]).blob;
    let reader = BlobReader::new(&attempt.round, &subject, blob.as_slice()).unwrap();
    assert!(matches!(reader.finish(), Err(BlobError::Blocks { .. })));
}

#[test]
fn sets_that_are_too_small_or_not_the_custodians_are_refused() {
    let federation = federation();
    let mut attempt = federation.announce_all(1, 0);
    let all = contributions(&attempt);
    let headers: Vec<_> = all.iter().map(|c| c.header.clone()).collect();
    let few = ContributionSet::new(&attempt.round, &headers[..2]).unwrap_err();
    assert!(matches!(
        few,
        SumsError::Set(SetFault::TooFew { members: 2, min: 3 })
    ));
    assert_eq!(few.code(), Code::SetRefused);

    let set = ContributionSet::new(&attempt.round, &headers).unwrap();
    let smaller = ContributionSet::new(&attempt.round, &headers[..3]).unwrap();
    let opened = attempt.open_seeds(&name(0), &all).unwrap();
    assert!(check_set(&attempt.round, &set, &opened).is_ok());
    assert!(
        check_set(&attempt.round, &set, &opened[..3]).is_err(),
        "a member without seeds"
    );
    assert!(
        check_set(&attempt.round, &smaller, &opened).is_err(),
        "seeds without a member"
    );
    let mut other = set.clone();
    other.members.insert(name(1), Digest::of(b"another header"));
    assert!(check_set(&attempt.round, &other, &opened).is_err());
    let mut stranger = set.clone();
    stranger
        .members
        .insert(PartyId::new("stranger").unwrap(), Digest::of(b"x"));
    assert_eq!(
        check_set(&attempt.round, &stranger, &opened).unwrap_err().code(),
        Code::SetRefused
    );
    let mut elsewhere = set.clone();
    elsewhere.record = Digest::of(b"another record");
    assert!(check_set(&attempt.round, &elsewhere, &opened).is_err());

    // Endorsing needs the ledger's commitment, and only to this.
    let party = &federation.parties[0];
    let sum = Digest::of(b"sum");
    let (round, ledger) = (&attempt.round, &attempt.ledgers[&name(0)]);
    let early = endorse(round, &party.name, &party.signing, ledger, &set, &opened, sum);
    assert_eq!(early.unwrap_err().code(), Code::WrongPhase);
    let committed = ledger.sign(round.id(), &Endorsement::of(&set, sum)).unwrap();
    assert!(endorse(round, &party.name, &party.signing, &committed, &set, &opened, sum).is_ok());
    let another = endorse(
        round,
        &party.name,
        &party.signing,
        &committed,
        &set,
        &opened,
        Digest::of(b"other"),
    );
    assert_eq!(another.unwrap_err().code(), Code::Conflict);
    let smaller = endorse(
        round,
        &party.name,
        &party.signing,
        &committed,
        &smaller,
        &opened[..3],
        sum,
    );
    assert_eq!(smaller.unwrap_err().code(), Code::Conflict);
    attempt.ledgers.clear();
}

#[test]
fn certificates_need_g_distinct_custodians_of_one_mind() {
    let federation = federation();
    let attempt = federation.announce_all(1, 0);
    let all = contributions(&attempt);
    let proposal = attempt.propose(&all);
    let endorsement = Endorsement::of(&proposal.set, proposal.digest);
    let sign = |index: usize, endorsement: &Endorsement| {
        let party = &federation.parties[index];
        let study = federation.roster.study();
        Authored::sign(
            &party.signing,
            &party.name,
            authored::ENDORSEMENT,
            study,
            endorsement,
        )
        .unwrap()
    };
    let votes: Vec<_> = (0..4).map(|i| sign(i, &endorsement)).collect();
    let round = &attempt.round;
    assert_eq!(check_certificate(round, &votes).unwrap().endorsers().len(), 4);
    assert!(check_certificate(round, &votes[..3]).is_ok());
    let few = check_certificate(round, &votes[1..3]).unwrap_err();
    assert!(matches!(few, SumsError::Certificate { found: 2, needed: 3 }));
    let twice = [votes[0].clone(), votes[1].clone(), votes[1].clone()];
    assert!(matches!(
        check_certificate(round, &twice),
        Err(SumsError::Endorsement(_))
    ));
    let other = Endorsement {
        sum: Digest::of(b"other"),
        ..endorsement.clone()
    };
    let split = [votes[0].clone(), votes[1].clone(), sign(2, &other)];
    assert!(matches!(
        check_certificate(round, &split),
        Err(SumsError::Endorsement(_))
    ));
    let elsewhere = Endorsement {
        record: Digest::of(b"other"),
        ..endorsement
    };
    let old: Vec<_> = (0..3).map(|i| sign(i, &elsewhere)).collect();
    assert_eq!(
        check_certificate(round, &old).unwrap_err().code(),
        Code::WrongRound
    );
    let mut forged = votes[..3].to_vec();
    forged[2].author = name(3);
    assert_eq!(
        check_certificate(round, &forged).unwrap_err().code(),
        Code::BadSignature
    );
}

#[test]
fn answers_for_wrong_pieces_are_refused() {
    let federation = federation();
    let mut attempt = federation.announce_all(1, 0);
    let all = contributions(&attempt);
    let proposal = attempt.propose(&all);
    let everyone = attempt.custodians();
    let certificate = attempt.certify(&everyone, &all, &proposal);
    let held = attempt.round.held_by(&name(0)).to_vec();
    let lacking = (0..6).find(|piece| !held.contains(piece)).unwrap();
    for pieces in [
        vec![],
        vec![lacking],
        vec![held[1], held[0]],
        vec![held[0], held[0]],
        vec![6],
    ] {
        let refused = attempt
            .answer(&name(0), &all, &certificate, &proposal, &pieces)
            .unwrap_err();
        assert_eq!(refused.code(), Code::NotConforming, "{pieces:?}");
    }
    // A custodian that signs such an answer all the same.
    let good = attempt
        .answer(&name(0), &all, &certificate, &proposal, &held)
        .unwrap();
    let resign = |change: &dyn Fn(&mut AnswerHeader)| {
        let mut header: AnswerHeader = good.statement.read_unverified().unwrap();
        change(&mut header);
        let party = &federation.parties[0];
        let study = federation.roster.study();
        Authored::sign(&party.signing, &party.name, authored::ANSWER, study, &header).unwrap()
    };
    let check = |answer: &Authored| check_answer(&attempt.round, &certificate, answer).map(|_| ());
    assert!(check(&good).is_ok());
    type Change<'a> = (&'a dyn Fn(&mut AnswerHeader), Code);
    let changes: [Change<'_>; 9] = [
        (&|a| a.pieces.clear(), Code::NotConforming),
        (&|a| a.pieces = vec![lacking], Code::NotConforming),
        (&|a| a.pieces.reverse(), Code::NotConforming),
        (&|a| a.custodian = name(1), Code::NotConforming),
        (&|a| a.record = Digest::of(b"x"), Code::WrongRound),
        (&|a| a.set = Digest::of(b"x"), Code::SetRefused),
        (&|a| a.sum = Digest::of(b"x"), Code::SetRefused),
        (&|a| drop(a.sealed.pop_first()), Code::NotConforming),
        (
            &|a| a.sealed.get_mut(&name(2)).unwrap().clear(),
            Code::NotConforming,
        ),
    ];
    for (index, (change, code)) in changes.into_iter().enumerate() {
        assert_eq!(check(&resign(change)).unwrap_err().code(), code, "change {index}");
    }
    // A polynomial that is said to cover other pieces than it was sealed for does not open.
    let fewer = resign(&|a| a.pieces = vec![held[0]]);
    let mut answers = vec![fewer];
    let rest: BTreeSet<u32> = (0..6).filter(|piece| *piece != held[0]).collect();
    for piece in rest {
        let holder = (1..4)
            .map(name)
            .find(|c| attempt.round.held_by(c).contains(&piece))
            .unwrap();
        answers.push(
            attempt
                .answer(&holder, &all, &certificate, &proposal, &[piece])
                .unwrap(),
        );
    }
    let refused = attempt.open(1, &certificate, &proposal, &answers).unwrap_err();
    assert!(
        matches!(&refused, CustodyError::Answer { custodian, .. } if *custodian == name(0)),
        "{refused}"
    );
    // An honest answer in its place opens; covering a piece twice does not.
    answers[0] = attempt
        .answer(&name(0), &all, &certificate, &proposal, &[held[0]])
        .unwrap();
    assert!(attempt.open(1, &certificate, &proposal, &answers).is_ok());
    answers.push(
        attempt
            .answer(&name(0), &all, &certificate, &proposal, &[held[0]])
            .unwrap(),
    );
    let twice = attempt.open(1, &certificate, &proposal, &answers).unwrap_err();
    assert!(matches!(twice, CustodyError::Pieces { times: 2, .. }));
}

#[test]
fn an_answer_for_another_set_is_refused_by_the_ledger_and_by_the_receiver() {
    let federation = federation();
    let mut attempt = federation.announce_all(1, 0);
    let all = contributions(&attempt);
    let (proposal, other) = (attempt.propose(&all), attempt.propose(&all[..3]));
    let certificate = attempt.certify(&names([0, 1, 2]), &all, &proposal);
    // Custodian 3 missed the endorsement and may still answer for the certified set, but for no other.
    let pieces = attempt.round.held_by(&name(3)).to_vec();
    let late = attempt.answer(&name(3), &all, &certificate, &proposal, &pieces);
    assert!(late.is_ok());
    let refused = attempt
        .answer(&name(3), &all[..3], &certificate, &other, &pieces)
        .unwrap_err();
    assert_eq!(refused.code(), Code::SetRefused);
    let mut rival = federation.announce_all(1, 0);
    rival.round = attempt.round.clone();
    rival.secrets = std::mem::take(&mut attempt.secrets);
    // These custodians forget their ledgers and certify the smaller set too; one with its ledger does not join.
    let id = attempt.round.id();
    for (custodian, secret) in &rival.secrets {
        let fresh = galen_custody::LedgerState::default()
            .announce(id, secret.public())
            .unwrap();
        rival.ledgers.insert(custodian.clone(), fresh);
    }
    let second = rival.certify(&names([0, 1, 2]), &all[..3], &other);
    let kept = &attempt.ledgers[&name(3)];
    assert_eq!(
        kept.sign(id, second.endorsement()).unwrap_err().code(),
        Code::Conflict
    );
    assert_eq!(
        kept.answer(id, second.endorsement()).unwrap_err().code(),
        Code::Conflict
    );
    // And a receiver takes no answer for the one in the place of the other.
    let answer = rival.answer(
        &name(0),
        &all[..3],
        &second,
        &other,
        rival.round.clone().held_by(&name(0)),
    );
    let refused = attempt
        .open(0, &certificate, &proposal, &[answer.unwrap()])
        .unwrap_err();
    assert_eq!(refused.code(), Code::SetRefused);
}

#[test]
fn records_that_do_not_hold_are_refused() {
    let federation = federation();
    let id = RoundId { round: 1, attempt: 0 };
    let attempt = federation.announce_all(1, 0);
    let keys = attempt.round.record().custodians.clone();
    let open_with = |key: &SigningKey, record: galen_sums::RoundRecord, inputs: &PlanInputs| {
        Round::open(&federation.roster, &record.sign(key).unwrap(), inputs).map(|_| ())
    };
    let open = |record| open_with(&federation.coordinator, record, &federation.inputs);
    let record = |keys: &[Authored]| federation.record(id, keys.to_vec());
    assert!(open(record(&keys)).is_ok());
    assert!(open(record(&keys[..3])).is_ok());

    let stranger = SigningKey::generate().unwrap();
    let refused = open_with(&stranger, record(&keys), &federation.inputs).unwrap_err();
    assert_eq!(refused.code(), Code::BadSignature);
    let refused = open(record(&keys[..2])).unwrap_err();
    assert!(matches!(refused, SumsError::Custodians(_)));
    let repeated = [&keys[..], &keys[..1]].concat();
    assert!(matches!(open(record(&repeated)), Err(SumsError::Custodians(_))));

    // Keys of another attempt, under another name, by a stranger, or shared.
    let later = federation.announce_all(1, 1).round.record().custodians.clone();
    assert_eq!(open(record(&later)).unwrap_err().code(), Code::WrongRound);
    let sign = |index: usize, custodian: usize, key: [u8; 32]| {
        let statement = OneRoundKey {
            round: id,
            custodian: name(custodian),
            key,
            incarnation: None,
        };
        let party = &federation.parties[index];
        Authored::sign(
            &party.signing,
            &party.name,
            authored::ONE_ROUND_KEY,
            federation.roster.study(),
            &statement,
        )
        .unwrap()
    };
    let renamed = [keys[0].clone(), keys[1].clone(), sign(2, 3, [9; 32])];
    assert_eq!(open(record(&renamed)).unwrap_err().code(), Code::WrongRound);
    let shared = [sign(0, 0, [9; 32]), sign(1, 1, [9; 32]), sign(2, 2, [8; 32])];
    assert!(matches!(open(record(&shared)), Err(SumsError::Custodians(_))));
    let mut unknown = keys.clone();
    unknown[0].author = PartyId::new("stranger").unwrap();
    assert_eq!(open(record(&unknown)).unwrap_err().code(), Code::RoleMissing);
    let mut forged = keys.clone();
    forged[0].author = name(1);
    forged.remove(1);
    assert_eq!(open(record(&forged)).unwrap_err().code(), Code::BadSignature);

    // A plan that lies by a bit, and a plan for other inputs.
    let mut lie = record(&keys);
    lie.plan.delta *= 2;
    assert!(matches!(open(lie), Err(SumsError::Plan(PlanError::Delta { .. }))));
    let mut lie = record(&keys);
    lie.plan.noise_bound *= 2;
    assert_eq!(open(lie).unwrap_err().code(), Code::NotConforming);
    let mut other = federation.inputs.clone();
    other.ranges[0].max_abs -= 1;
    let refused = open_with(&federation.coordinator, record(&keys), &other).unwrap_err();
    assert!(matches!(refused, SumsError::Plan(PlanError::Inputs)));

    // Another study's record under this coordinator's key.
    let mut foreign = record(&keys);
    foreign.study = Digest::of(b"another study");
    assert_eq!(open(foreign.clone()).unwrap_err().code(), Code::BadSignature);
    let signed = federation
        .coordinator
        .sign(authored::ROUND_RECORD, federation.roster.study(), &foreign)
        .unwrap();
    let refused = Round::open(&federation.roster, &signed, &federation.inputs).unwrap_err();
    assert_eq!(refused.code(), Code::WrongStudy);
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
