//! Fingerprints of whole contributions and their sums.

use crate::federation::*;
use galen_core::{Code, Digest};
use galen_sums::authored::FINGERPRINT;
use galen_sums::blob::HEADER_LEN;
use galen_sums::fingerprint::{of_contribution, of_sum};
use galen_sums::{
    Authored, Challenge, Endorsement, Fingerprint, FingerprintFault, FingerprintStatement, SumsError,
    check_fingerprint, check_header, check_sum,
};
use std::collections::BTreeMap;

struct Scene<'f> {
    attempt: Attempt<'f>,
    contributions: Vec<Contribution>,
    proposal: Proposal,
}

/// Two blocks, and one prime or two.
fn federation(bits: u32) -> Federation {
    Federation::new(Sharing(3, 2, 2), 4, vec![range(5000, 1 << bits)])
}

fn scene(federation: &Federation) -> Scene<'_> {
    let attempt = federation.announce_all(1, 0);
    let contributions: Vec<_> = (0..4i64)
        .map(|i| attempt.contribute(i as usize, &vec![i * 7 - 9; 5000]))
        .collect();
    let proposal = attempt.propose(&contributions);
    Scene {
        attempt,
        contributions,
        proposal,
    }
}

impl Scene<'_> {
    /// The challenge for a sum blob that may be another than the honest one.
    fn challenge(&self, sum: &[u8]) -> Challenge {
        Challenge::new(&Endorsement::of(&self.proposal.set, Digest::of(sum)))
    }

    fn own(&self, index: usize, challenge: &Challenge) -> Fingerprint {
        let contribution = &self.contributions[index];
        let header = check_header(&self.attempt.round, &contribution.header).unwrap();
        of_contribution(
            &self.attempt.round,
            challenge,
            &header,
            contribution.blob.as_slice(),
        )
        .unwrap()
    }

    fn sign(&self, index: usize, challenge: &Challenge, fingerprint: &Fingerprint) -> Authored {
        let party = &self.attempt.federation.parties[index];
        FingerprintStatement::sign(
            &self.attempt.round,
            challenge,
            &party.name,
            &party.signing,
            fingerprint,
        )
        .unwrap()
    }

    fn statements(&self, challenge: &Challenge) -> Vec<Authored> {
        (0..4)
            .map(|index| self.sign(index, challenge, &self.own(index, challenge)))
            .collect()
    }

    /// What a receiver finds that fetches this sum, with statements of some members and the blobs of the others.
    fn check(&self, sum: &[u8], stated: std::ops::Range<usize>) -> Result<(), SumsError> {
        let challenge = self.challenge(sum);
        let statements = self.statements(&challenge);
        let computed = (0..4)
            .filter(|index| !stated.contains(index))
            .map(|index| (name(index), self.own(index, &challenge)))
            .collect();
        let found = of_sum(&self.attempt.round, &challenge, sum).unwrap();
        let (round, set) = (&self.attempt.round, &self.proposal.set);
        check_sum(round, set, &challenge, &statements[stated], &computed, &found)
    }
}

fn is_sum_fault(result: Result<(), SumsError>) -> bool {
    matches!(result, Err(SumsError::Fingerprint(FingerprintFault::Sum)))
}

#[test]
fn the_contributions_vouch_for_their_sum_and_for_no_other() {
    for (bits, primes) in [(10, 1), (40, 2)] {
        let federation = federation(bits);
        let scene = scene(&federation);
        let plan = scene.attempt.round.plan();
        assert_eq!(plan.primes.len(), primes);
        let sum = &scene.proposal.sum;
        for stated in [0..4, 0..0, 1..3] {
            scene.check(sum, stated).unwrap();
        }
        // Any changed residue: the first bit of a coefficient, somewhere in each block and prime.
        let block = plan.bits_per_value() as usize * 4096 / 8;
        for at in [0, block / 3, block - 40, block, block + 77, 2 * block - 8] {
            let mut wrong = sum.clone();
            wrong[HEADER_LEN + at] ^= 1;
            assert!(is_sum_fault(scene.check(&wrong, 0..4)), "{at}");
            assert!(is_sum_fault(scene.check(&wrong, 0..0)), "{at}");
        }
        // The blocks of the sum in another order.
        let mut swapped = sum[..HEADER_LEN].to_vec();
        swapped.extend_from_slice(&sum[HEADER_LEN + block..]);
        swapped.extend_from_slice(&sum[HEADER_LEN..HEADER_LEN + block]);
        assert!(is_sum_fault(scene.check(&swapped, 0..4)));
        // A sum without one of them, under the name of the whole set.
        let three = scene.attempt.propose(&scene.contributions[..3]).sum;
        let mut renamed = sum[..HEADER_LEN].to_vec();
        renamed.extend_from_slice(&three[HEADER_LEN..]);
        assert!(is_sum_fault(scene.check(&renamed, 0..4)));
        let refused = scene.check(&renamed, 0..2).unwrap_err();
        assert_eq!(refused.code(), Code::WrongSum);
    }
}

#[test]
fn other_statements_than_one_s_own_for_this_sum_are_refused() {
    let federation = federation(10);
    let scene = scene(&federation);
    let round = &scene.attempt.round;
    let challenge = scene.challenge(&scene.proposal.sum);
    let own = scene.own(0, &challenge);
    let statement = scene.sign(0, &challenge, &own);
    assert_eq!(check_fingerprint(round, &challenge, &statement).unwrap(), own);

    // Under another name.
    let mut copied = statement.clone();
    copied.author = name(1);
    let refused = check_fingerprint(round, &challenge, &copied).unwrap_err();
    assert_eq!(refused.code(), Code::BadSignature);
    // Signed by the copier, but still in the other's name.
    let party = &federation.parties[1];
    let said: FingerprintStatement = statement.statement.read_unverified().unwrap();
    let study = federation.roster.study();
    let copied = Authored::sign(&party.signing, &party.name, FINGERPRINT, study, &said).unwrap();
    let refused = check_fingerprint(round, &challenge, &copied).unwrap_err();
    assert!(matches!(refused, SumsError::Header { .. }), "{refused}");
    // By someone outside of the study.
    let mut stranger = statement.clone();
    stranger.author = galen_core::PartyId::new("stranger").unwrap();
    let refused = check_fingerprint(round, &challenge, &stranger).unwrap_err();
    assert_eq!(refused.code(), Code::RoleMissing);

    // For another sum, another set, another round.
    let other = scene.challenge(b"another sum");
    let refused = check_fingerprint(round, &other, &statement).unwrap_err();
    assert_eq!(refused.code(), Code::SetRefused);
    let smaller = scene.attempt.propose(&scene.contributions[..3]).set;
    let other = Challenge::new(&Endorsement::of(&smaller, scene.proposal.digest));
    assert_eq!(
        check_fingerprint(round, &other, &statement).unwrap_err().code(),
        Code::SetRefused
    );
    let later = federation.announce_all(2, 0);
    assert!(check_fingerprint(&later.round, &challenge, &statement).is_err());

    // A fingerprint of the wrong form.
    let changes: [fn(&mut Vec<u64>); 3] = [
        |values| values.truncate(1),
        |values| values.push(0),
        |values| values[0] = u64::MAX,
    ];
    for change in changes {
        let mut said = said.clone();
        let bytes = postcard::to_stdvec(&said.values).unwrap();
        let mut values: Vec<u64> = postcard::from_bytes(&bytes).unwrap();
        change(&mut values);
        said.values = postcard::from_bytes(&postcard::to_stdvec(&values).unwrap()).unwrap();
        let party = &federation.parties[0];
        let signed = Authored::sign(&party.signing, &party.name, FINGERPRINT, study, &said).unwrap();
        let refused = check_fingerprint(round, &challenge, &signed).unwrap_err();
        assert_eq!(refused.code(), Code::NotConforming);
    }
}

#[test]
fn members_must_be_there_once_and_a_false_statement_is_found_by_computing() {
    let federation = federation(10);
    let scene = scene(&federation);
    let (round, set) = (&scene.attempt.round, &scene.proposal.set);
    let challenge = scene.challenge(&scene.proposal.sum);
    let sum = of_sum(round, &challenge, scene.proposal.sum.as_slice()).unwrap();
    let honest = scene.statements(&challenge);
    let none = BTreeMap::new();
    let fault = |statements: &[Authored], computed: &BTreeMap<_, _>| match check_sum(
        round, set, &challenge, statements, computed, &sum,
    ) {
        Err(SumsError::Fingerprint(fault)) => Some(fault),
        other => {
            other.unwrap();
            None
        }
    };
    assert_eq!(fault(&honest, &none), None);
    assert_eq!(
        fault(&honest[1..], &none),
        Some(FingerprintFault::Missing(name(0)))
    );
    let repeated = [&honest[..], &honest[..1]].concat();
    assert_eq!(fault(&repeated, &none), Some(FingerprintFault::Repeated(name(0))));

    // A member signs the fingerprint of another's contribution as its own: the coordinator looks guilty.
    let mut lie = honest.clone();
    lie[2] = scene.sign(2, &challenge, &scene.own(1, &challenge));
    assert_eq!(fault(&lie, &none), Some(FingerprintFault::Sum));
    // The receiver fetches the contributions: the blobs' digests stand in the signed headers.
    let all: BTreeMap<_, _> = (0..4)
        .map(|index| (name(index), scene.own(index, &challenge)))
        .collect();
    assert_eq!(fault(&lie, &all), Some(FingerprintFault::False(name(2))));
    assert_eq!(fault(&honest, &all), None);
    assert_eq!(fault(&[], &all), None);
    // What is not the member's blob is no evidence.
    let header = check_header(round, &scene.contributions[0].header).unwrap();
    let refused = of_contribution(round, &challenge, &header, scene.contributions[1].blob.as_slice());
    assert!(matches!(refused, Err(SumsError::Blob { .. })));
    let mut damaged = scene.contributions[0].blob.clone();
    damaged[HEADER_LEN + 9] ^= 1;
    let refused = of_contribution(round, &challenge, &header, damaged.as_slice());
    assert_eq!(refused.unwrap_err().code(), Code::BlobMismatch);

    // Members of the study that are not in the set have nothing to say.
    let smaller = scene.attempt.propose(&scene.contributions[..3]);
    let challenge = Challenge::new(&Endorsement::of(&smaller.set, smaller.digest));
    let sum = of_sum(round, &challenge, smaller.sum.as_slice()).unwrap();
    let statements = scene.statements(&challenge);
    check_sum(round, &smaller.set, &challenge, &statements[..3], &none, &sum).unwrap();
    let stranger = check_sum(round, &smaller.set, &challenge, &statements, &none, &sum).unwrap_err();
    assert!(matches!(stranger, SumsError::Fingerprint(FingerprintFault::Stranger(who)) if who == name(3)));
    let computed = BTreeMap::from([(name(3), scene.own(3, &challenge))]);
    let stranger = check_sum(round, &smaller.set, &challenge, &statements[..3], &computed, &sum);
    assert!(matches!(
        stranger,
        Err(SumsError::Fingerprint(FingerprintFault::Stranger(_)))
    ));
}
