//! What must open, and that it opens exactly.

use crate::federation::*;
use galen_core::{Code, Digest};
use galen_custody::CustodyError;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Deterministic values that fill their bounds.
fn spread(seed: i64, count: usize, bound: i64) -> Vec<i64> {
    (0..count as i64)
        .map(|i| (i * 7919 + seed * 104_729) % (bound + 1) * if i % 2 == 0 { 1 } else { -1 })
        .collect()
}

#[test]
fn any_t_of_n_custodians_open_the_exact_sum() {
    for sharing in [Sharing(3, 2, 2), Sharing(4, 3, 3), Sharing(5, 3, 3)] {
        let Sharing(n, t, _) = sharing;
        let federation = Federation::new(sharing, 4, vec![range(10, 1000)]);
        let values: Vec<Vec<i64>> = (0..4).map(|i| spread(i, 10, 1000)).collect();
        for custodians in subsets(n as usize, t as usize) {
            let mut attempt = federation.announce_all(1, 0);
            let contributions: Vec<_> = values
                .iter()
                .enumerate()
                .map(|(i, v)| attempt.contribute(i, v))
                .collect();
            let opened = attempt.finish(&names(custodians), &contributions).unwrap();
            assert_eq!(opened.values, plain_sum(&values));
        }
    }
}

#[test]
fn below_the_threshold_a_piece_is_missing_and_nothing_opens() {
    for (sharing, custodians) in [
        (Sharing(3, 2, 2), 3),
        (Sharing(4, 3, 3), 4),
        (Sharing(5, 4, 4), 5),
    ] {
        let Sharing(_, t, _) = sharing;
        let federation = Federation::new(sharing, 3, vec![range(5, 1000)]);
        let mut attempt = federation.announce_all(1, 0);
        let contributions: Vec<_> = (0..3).map(|i| attempt.contribute(i, &[i as i64; 5])).collect();
        let proposal = attempt.propose(&contributions);
        let certificate = attempt.certify(&attempt.custodians(), &contributions, &proposal);
        for coalition in subsets(custodians, t as usize - 1) {
            assert_eq!(attempt.round.assign(&names(coalition.iter().copied())), None);
            // Each member tells all that it has; what none of them has is exactly one piece.
            let mut told = BTreeMap::new();
            for index in coalition {
                for &piece in attempt.round.held_by(&name(index)) {
                    told.insert(piece, name(index));
                }
            }
            let answers: Vec<_> = told
                .iter()
                .map(|(piece, who)| {
                    attempt
                        .answer(who, &contributions, &certificate, &proposal, &[*piece])
                        .unwrap()
                })
                .collect();
            let refused = attempt.open(0, &certificate, &proposal, &answers).unwrap_err();
            assert!(
                matches!(refused, CustodyError::Pieces { times: 0, .. }),
                "{refused}"
            );
            assert_eq!(told.len() + 1, attempt.federation.roster.pieces().len());
        }
    }
}

#[test]
fn a_custodian_that_dies_after_the_certificate_is_replaced() {
    let federation = Federation::new(Sharing(5, 3, 4), 5, vec![range(100, 1 << 20)]);
    let values: Vec<Vec<i64>> = (0..5).map(|i| spread(i, 100, 1 << 20)).collect();
    let mut attempt = federation.announce_all(2, 1);
    let contributions: Vec<_> = values
        .iter()
        .enumerate()
        .map(|(i, v)| attempt.contribute(i, v))
        .collect();
    let proposal = attempt.propose(&contributions);
    let all = attempt.custodians();
    let certificate = attempt.certify(&all, &contributions, &proposal);
    let assignments = attempt.round.assign(&all).unwrap();
    let mut answers = Vec::new();
    let dead = names([1, 4]);
    for (custodian, pieces) in assignments
        .iter()
        .filter(|(custodian, _)| !dead.contains(*custodian))
    {
        answers.push(
            attempt
                .answer(custodian, &contributions, &certificate, &proposal, pieces)
                .unwrap(),
        );
    }
    let refused = attempt.open(0, &certificate, &proposal, &answers).unwrap_err();
    assert!(matches!(refused, CustodyError::Pieces { times: 0, .. }));
    // Any living holder may answer for what the dead were asked for, a piece at a time too.
    for piece in dead.iter().flat_map(|custodian| &assignments[custodian]) {
        let holder = all
            .difference(&dead)
            .find(|custodian| attempt.round.held_by(custodian).contains(piece))
            .unwrap();
        answers.push(
            attempt
                .answer(holder, &contributions, &certificate, &proposal, &[*piece])
                .unwrap(),
        );
    }
    // Every receiver reads the same, exact sum.
    for receiver in 0..5 {
        let opened = attempt.open(receiver, &certificate, &proposal, &answers).unwrap();
        assert_eq!(opened.values, plain_sum(&values));
    }
    let living = names([0, 2]);
    assert_eq!(attempt.round.assign(&living), None);
}

/// Opens the sum of one attempt as every receiver, from the answers of these custodians.
fn secrets(
    attempt: &mut Attempt<'_>,
    contributions: &[Contribution],
    answering: [[usize; 3]; 2],
) -> Vec<(Vec<i64>, Digest)> {
    let proposal = attempt.propose(contributions);
    let certificate = attempt.certify(&attempt.custodians(), contributions, &proposal);
    let mut found = Vec::new();
    for custodians in answering {
        let assignments = attempt.round.assign(&names(custodians)).unwrap();
        let answers = attempt.answer_all(&assignments, contributions, &certificate, &proposal);
        for receiver in 0..4 {
            let opened = attempt.open(receiver, &certificate, &proposal, &answers).unwrap();
            found.push((opened.values, opened.opening_secret));
        }
    }
    found
}

#[test]
fn receivers_share_a_secret_that_follows_from_the_keys_and_not_from_the_sum() {
    let federation = Federation::new(Sharing(5, 3, 4), 4, vec![range(10, 1000)]);
    let values: Vec<Vec<i64>> = (0..4).map(|i| spread(i, 10, 1000)).collect();
    let mut of_attempts = Vec::new();
    for number in 0..2 {
        let mut attempt = federation.announce_all(1, number);
        let contributions: Vec<_> = values
            .iter()
            .enumerate()
            .map(|(i, v)| attempt.contribute(i, v))
            .collect();
        // The pieces may come from any custodians: a receiver that was away opens from other answers.
        let found = secrets(&mut attempt, &contributions, [[0, 1, 2], [2, 3, 4]]);
        assert!(found.iter().all(|other| *other == found[0]));
        assert_eq!(found[0].0, plain_sum(&values));
        of_attempts.push(found[0].1);
    }
    // Equal sums under other keys: another secret.
    assert_ne!(of_attempts[0], of_attempts[1]);
}

#[test]
fn what_is_opened_is_not_printed() {
    let federation = Federation::new(Sharing(3, 2, 2), 3, vec![range(3, 1000)]);
    let mut attempt = federation.announce_all(1, 0);
    let contributions: Vec<_> = (0..3).map(|i| attempt.contribute(i, &[207; 3])).collect();
    let opened = attempt.finish(&attempt.custodians(), &contributions).unwrap();
    assert_eq!(opened.values, [621; 3]);
    assert_eq!(format!("{opened:?}"), "Opened(3 values)");
}

#[test]
fn a_custodian_absent_from_the_announcement_is_not_needed() {
    let federation = Federation::new(Sharing(4, 3, 3), 4, vec![range(8, 50)]);
    let mut attempt = federation.announce(galen_sums::RoundId { round: 1, attempt: 0 }, [0, 2, 3]);
    let values: Vec<Vec<i64>> = (0..4).map(|i| spread(i, 8, 50)).collect();
    let contributions: Vec<_> = values
        .iter()
        .enumerate()
        .map(|(i, v)| attempt.contribute(i, v))
        .collect();
    let opened = attempt.finish(&attempt.custodians(), &contributions).unwrap();
    assert_eq!(opened.values, plain_sum(&values));
}

#[test]
fn a_smaller_set_opens_without_the_missing_contributor() {
    let federation = Federation::new(Sharing(4, 3, 3), 5, vec![range(8, 50)]);
    let mut attempt = federation.announce_all(1, 0);
    let values: Vec<Vec<i64>> = [0, 2, 4].iter().map(|&i| spread(i, 8, 50)).collect();
    let contributions: Vec<_> = [0, 2, 4]
        .iter()
        .zip(&values)
        .map(|(&i, v)| attempt.contribute(i, v))
        .collect();
    let opened = attempt.finish(&attempt.custodians(), &contributions).unwrap();
    assert_eq!(opened.values, plain_sum(&values));
}

#[test]
fn the_sum_does_not_depend_on_the_order_of_the_contributions() {
    let federation = Federation::new(Sharing(3, 2, 2), 4, vec![range(5000, 1 << 30)]);
    let attempt = federation.announce_all(1, 0);
    let mut contributions: Vec<_> = (0..4)
        .map(|i| attempt.contribute(i, &spread(i as i64, 5000, 1 << 30)))
        .collect();
    let forward = attempt.propose(&contributions);
    contributions.reverse();
    let backward = attempt.propose(&contributions);
    assert_eq!(forward.sum, backward.sum);
    assert_eq!(forward.digest, backward.digest);
}

/// Contributions at the bounds, alternating in sign by position, so that sums reach both ends.
fn at_the_limits(sharing: Sharing, contributors: usize, max_abs: u64) -> (usize, f64, f64) {
    let federation = Federation::new(sharing, contributors, vec![range(6, max_abs), range(4, 1)]);
    let mut attempt = federation.announce_all(1, 0);
    let values: Vec<i64> = (0..10)
        .map(|i| if i < 6 { max_abs as i64 } else { 1 } * if i % 2 == 0 { 1 } else { -1 })
        .collect();
    let contributions: Vec<_> = (0..contributors)
        .map(|i| attempt.contribute(i, &values))
        .collect();
    let opened = attempt.finish(&attempt.custodians(), &contributions).unwrap();
    let expected: Vec<i64> = values.iter().map(|value| value * contributors as i64).collect();
    assert_eq!(opened.values, expected);
    let plan = attempt.round.plan();
    assert!(opened.max_noise <= plan.noise_bound);
    (plan.primes.len(), opened.noise_rms(plan), plan.bytes_per_value())
}

/// The root mean square over 4096 coefficients lies within 7% of `4.6 sqrt(C)`: six standard deviations of it are
/// `6 / sqrt(2 * 4096) = 6.6%`.
fn assert_rms(measured: f64, contributors: usize) {
    let ratio = measured / (4.6 * (contributors as f64).sqrt());
    assert!((0.93..1.07).contains(&ratio), "{ratio}");
}

#[test]
fn exact_at_the_limits_with_a_thousand_contributors() {
    let (primes, rms, bytes) = at_the_limits(Sharing(4, 3, 3), 1000, 1 << 38);
    assert_eq!(primes, 2);
    assert!(bytes <= 8.0);
    assert_rms(rms, 1000);
}

#[test]
fn exact_at_the_limits_with_126_pieces() {
    let (primes, rms, _) = at_the_limits(Sharing(9, 5, 7), 100, (1 << 30) - 1);
    assert_eq!(primes, 1);
    assert_rms(rms, 100);
}

#[test]
fn exact_at_the_largest_values_that_any_plan_takes() {
    let (primes, _, _) = at_the_limits(Sharing(3, 2, 2), 3, ((1 << 62) - 1) / 3);
    assert_eq!(primes, 2);
}

#[test]
fn the_noise_follows_the_formula_whatever_the_number_of_pieces() {
    for sharing in [Sharing(3, 2, 2), Sharing(5, 3, 3), Sharing(9, 5, 7)] {
        for contributors in [3, 9] {
            let (_, rms, _) = at_the_limits(sharing, contributors, 1 << 20);
            assert_rms(rms, contributors);
        }
    }
}

#[test]
fn values_beyond_the_plan_are_refused_before_anything_is_written() {
    let federation = Federation::new(Sharing(3, 2, 2), 3, vec![range(2, 100), range(1, 5)]);
    let attempt = federation.announce_all(1, 0);
    let party = &federation.parties[0];
    for (values, index) in [
        ([101, 0, 0], 0),
        ([0, -101, 0], 1),
        ([0, 0, 6], 2),
        ([0, 0, i64::MIN], 2),
    ] {
        let mut out = Vec::new();
        let refused = galen_custody::encrypt(&attempt.round, &party.name, &party.signing, &values, &mut out);
        assert!(matches!(refused, Err(CustodyError::ValueRange { index: at, .. }) if at == index));
        assert!(out.is_empty());
    }
    for values in [&[0i64; 2][..], &[0; 4]] {
        let refused = galen_custody::encrypt(&attempt.round, &party.name, &party.signing, values, Vec::new());
        assert_eq!(refused.unwrap_err().code(), Code::NotConforming);
    }
}

#[test]
fn two_encryptions_of_the_same_values_share_nothing() {
    let federation = Federation::new(Sharing(3, 2, 2), 3, vec![range(4096, 100)]);
    let attempt = federation.announce_all(1, 0);
    let (a, b) = (
        attempt.contribute(0, &[1; 4096]),
        attempt.contribute(0, &[1; 4096]),
    );
    let same = a.blob[76..]
        .iter()
        .zip(&b.blob[76..])
        .filter(|(x, y)| x == y)
        .count();
    // Independent bytes agree once in 256; twice that is far beyond chance.
    assert!(same < a.blob.len() / 128, "{same}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn random_values_round_trip(
        bits in 1u32..45,
        seeds in proptest::collection::vec(any::<u64>(), 3..7),
        count in 1usize..9000,
    ) {
        let bound = (1u64 << bits) - 1;
        let federation = Federation::new(Sharing(3, 2, 2), seeds.len(), vec![range(count as u32, bound)]);
        let values: Vec<Vec<i64>> = seeds
            .iter()
            .map(|&seed| {
                let mut state = seed | 1;
                (0..count)
                    .map(|_| {
                        state ^= state << 13;
                        state ^= state >> 7;
                        state ^= state << 17;
                        let magnitude = (state >> 1 & bound) as i64;
                        if state & 1 == 0 { magnitude } else { -magnitude }
                    })
                    .collect()
            })
            .collect();
        let mut attempt = federation.announce_all(7, 2);
        let contributions: Vec<_> = values.iter().enumerate().map(|(i, v)| attempt.contribute(i, v)).collect();
        let opened = attempt.finish(&names([0, 2]), &contributions).unwrap();
        prop_assert_eq!(opened.values, plain_sum(&values));
    }
}
