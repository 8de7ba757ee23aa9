//! Why keys live for one round: what a malformed contribution and a retry do to sums under a long-lived collective key, and what
//! the same contribution does here.
//!
//! [`LongLived`] is a scheme that nobody should use: contributors encrypt to a public key whose secret half is the sum of the
//! custodians' shares, and custodians open a sum `(C0, C1)` by telling `C1 s_k` each, hidden under wide noise. A ciphertext is a pair
//! `(b u + e + delta m, a u + e')` with `b = a s + e''`, and decrypts as `c0 - c1 s`.

use crate::federation::*;
use crate::insight;
use galen_custody::CustodyError;
use galen_rns::basis::Composer;
use galen_rns::poly::{Coeff, Eval, Poly};
use galen_rns::primes::ntt_primes;
use galen_rns::ring::Ring;
use galen_rns::sampling::{Gaussian, flooding, gaussian};
use galen_rns::xof::{Xof, random_seed};
use galen_sums::blob::Subject;
use std::sync::Arc;

const DEGREE: usize = 4096;
/// Scale of the values, far above all noise: log2 Q is close to 100.
const DELTA: i128 = 1 << 50;
/// Width of the noise that hides a custodian's share, in bits.
const FLOODING: u32 = 20;
/// What the attacker adds: K, a constant. Above all noise, and K times a key is far below delta.
const MULTIPLE: i64 = 1 << 35;

struct LongLived {
    ring: Arc<Ring>,
    shares: Vec<Vec<i64>>,
    public: (Poly<Eval>, Poly<Eval>),
    randomness: Xof,
}

/// A ciphertext, or a sum of some.
#[derive(Clone)]
struct Pair(Poly<Coeff>, Poly<Coeff>);

impl LongLived {
    fn new(custodians: usize) -> Self {
        let ring = Ring::new(DEGREE, &ntt_primes(DEGREE, 50, 2, &[]).unwrap()).unwrap();
        let mut randomness = Xof::new(&random_seed().unwrap(), &[b"toy"]);
        let shares: Vec<Vec<i64>> = (0..custodians).map(|_| short(&mut randomness)).collect();
        let a = Poly::<Eval>::uniform(&ring, &mut randomness);
        let mut b = product(&ring, &a, &insight::sum(&shares));
        b.add_assign(&small(&ring, &mut randomness)).unwrap();
        Self {
            public: (b.into_eval(), a),
            ring,
            shares,
            randomness,
        }
    }

    fn encrypt(&mut self, values: &[i64]) -> Pair {
        let ephemeral = short(&mut self.randomness);
        let mut half = |of: &Poly<Eval>| {
            let mut half = product(&self.ring, of, &ephemeral);
            half.add_assign(&small(&self.ring, &mut self.randomness)).unwrap();
            half
        };
        let (mut c0, c1) = (half(&self.public.0), half(&self.public.1));
        for (index, modulus) in self.ring.moduli().iter().enumerate() {
            for (residue, &value) in c0.residues_mut(index).iter_mut().zip(values) {
                *residue = modulus.add(*residue, modulus.reduce_i128(DELTA * i128::from(value)));
            }
        }
        Pair(c0, c1)
    }

    fn add<'p>(&self, ciphertexts: impl IntoIterator<Item = &'p Pair>) -> Pair {
        let mut sum = Pair(Poly::zero(&self.ring), Poly::zero(&self.ring));
        for Pair(c0, c1) in ciphertexts {
            sum.0.add_assign(c0).unwrap();
            sum.1.add_assign(c1).unwrap();
        }
        sum
    }

    /// What every custodian tells to open a sum.
    fn answers(&mut self, sum: &Pair) -> Vec<Poly<Coeff>> {
        let c1 = sum.1.clone().into_eval();
        let mut answers = Vec::new();
        for share in &self.shares {
            let mut flood = vec![0; DEGREE];
            flooding(FLOODING, &mut self.randomness, &mut flood).unwrap();
            let mut answer = product(&self.ring, &c1, share);
            answer
                .add_assign(&Poly::<Coeff>::from_i64(&self.ring, &flood).unwrap())
                .unwrap();
            answers.push(answer);
        }
        answers
    }

    /// The opened sum and what remains of it modulo delta: every receiver sees both.
    fn open(&self, sum: &Pair, answers: &[Poly<Coeff>]) -> (Vec<i64>, Vec<i64>) {
        let mut plain = sum.0.clone();
        answers
            .iter()
            .for_each(|answer| plain.sub_assign(answer).unwrap());
        let numbers = centred(&plain);
        let values: Vec<i128> = numbers
            .iter()
            .map(|x| (x + DELTA / 2).div_euclid(DELTA))
            .collect();
        let rest = numbers.iter().zip(&values).map(|(x, value)| x - value * DELTA);
        (
            values.iter().map(|&value| value as i64).collect(),
            rest.clone().map(|rest| rest as i64).collect(),
        )
    }

    /// Decrypts one ciphertext with a key, without any custodian.
    fn decrypt(&self, ciphertext: &Pair, key: &[i64]) -> (Vec<i64>, Vec<i64>) {
        let c1 = ciphertext.1.clone().into_eval();
        self.open(ciphertext, &[product(&self.ring, &c1, key)])
    }
}

fn short(randomness: &mut Xof) -> Vec<i64> {
    let mut out = vec![0; DEGREE];
    gaussian(&Gaussian::SIGMA_3_19, randomness, &mut out);
    out
}

fn small(ring: &Arc<Ring>, randomness: &mut Xof) -> Poly<Coeff> {
    Poly::from_i64(ring, &short(randomness)).unwrap()
}

fn product(ring: &Arc<Ring>, left: &Poly<Eval>, right: &[i64]) -> Poly<Coeff> {
    let mut product = left.clone();
    product
        .mul_assign(&Poly::<Coeff>::from_i64(ring, right).unwrap().into_eval())
        .unwrap();
    product.into_coeff()
}

fn centred(polynomial: &Poly<Coeff>) -> Vec<i128> {
    let composer = Composer::new(polynomial.ring().moduli()).unwrap();
    (0..DEGREE)
        .map(|at| {
            let residues = [polynomial.residues(0)[at], polynomial.residues(1)[at]];
            composer.compose_centered(&residues).unwrap()
        })
        .collect()
}

/// The nearest multiples of K.
fn multiples(numbers: &[i64]) -> Vec<i64> {
    numbers
        .iter()
        .map(|x| (x + MULTIPLE / 2).div_euclid(MULTIPLE))
        .collect()
}

/// Adds the constant K to the second half: the malformed contribution "(0, K)".
fn malform(ciphertext: &Pair) -> Pair {
    let mut malformed = ciphertext.clone();
    let mut constant = vec![0; DEGREE];
    constant[0] = MULTIPLE;
    let ring = Arc::clone(malformed.1.ring());
    malformed
        .1
        .add_assign(&Poly::<Coeff>::from_i64(&ring, &constant).unwrap())
        .unwrap();
    malformed
}

fn values(contributor: usize) -> Vec<i64> {
    (0..DEGREE as i64)
        .map(|at| (at * 7919 + contributor as i64 * 104_729) % 2001 - 1000)
        .collect()
}

#[test]
fn under_a_long_lived_key_one_malformed_contribution_hands_out_the_key_and_the_sum_stays_exact() {
    let mut toy = LongLived::new(4);
    let honest: Vec<Pair> = (0..3).map(|i| toy.encrypt(&values(i))).collect();
    let attacker = toy.encrypt(&values(3));
    let attacker = malform(&attacker);
    let sum = toy.add(honest.iter().chain([&attacker]));
    let answers = toy.answers(&sum);
    let (opened, rest) = toy.open(&sum, &answers);
    // Nobody notices: the sum is what it should be.
    assert_eq!(opened, plain_sum(&[values(0), values(1), values(2), values(3)]));
    // C0 - (C1 + K) s: what remains modulo delta is noise less K times the key.
    let key: Vec<i64> = multiples(&rest).iter().map(|multiple| -multiple).collect();
    assert_eq!(key, insight::sum(&toy.shares));
    // It reads every contribution, of this round and of every other.
    for (i, ciphertext) in honest.iter().enumerate() {
        assert_eq!(toy.decrypt(ciphertext, &key).0, values(i));
    }
    let later = toy.encrypt(&values(9));
    assert_eq!(toy.decrypt(&later, &key).0, values(9));
}

#[test]
fn under_a_long_lived_key_a_retry_with_another_set_leaks_every_share() {
    let mut toy = LongLived::new(4);
    let honest: Vec<Pair> = (0..3).map(|i| toy.encrypt(&values(i))).collect();
    let attacker = toy.encrypt(&values(3));
    // A well-formed contribution, and the same with (0, K) after a "lost link": the second set differs in nothing else.
    let (first, second) = (
        toy.add(honest.iter().chain([&attacker])),
        toy.add(honest.iter().chain([&malform(&attacker)])),
    );
    let (before, after) = (toy.answers(&first), toy.answers(&second));
    for ((before, mut after), share) in before.iter().zip(after).zip(&toy.shares) {
        after.sub_assign(before).unwrap();
        let difference: Vec<i64> = centred(&after).iter().map(|&x| x as i64).collect();
        assert_eq!(&multiples(&difference), share);
    }
    // Without one hospital in the second set, the sums' difference is its values.
    let third = toy.add(honest[1..].iter().chain([&attacker]));
    let answers = [toy.answers(&first), toy.answers(&third)];
    let (with, without) = (toy.open(&first, &answers[0]).0, toy.open(&third, &answers[1]).0);
    let difference: Vec<i64> = with
        .iter()
        .zip(without)
        .map(|(with, without)| with - without)
        .collect();
    assert_eq!(difference, values(0));
}

/// Four contributors of a block of values, far below their bound.
fn one_round() -> Federation {
    Federation::new(Sharing(5, 3, 4), 4, vec![range(DEGREE as u32, 1 << 24)])
}

#[test]
fn under_one_round_keys_the_same_contribution_yields_nothing_but_a_failed_remainder_check() {
    let federation = one_round();
    let mut attempt = federation.announce_all(1, 0);
    let mut all: Vec<_> = (0..4).map(|i| attempt.contribute(i, &values(i))).collect();
    let round = attempt.round.clone();
    let plan = round.plan().clone();
    // There is no second half to add K to: it is the common a_j. Encrypting under a_j + K adds K times the sender's own key,
    // the only one that the sum multiplies it with.
    let own_key = insight::sum(insight::pieces(&attempt, &all[3], 0..5).values());
    let multiple = plan.delta as i64 / 4;
    let shift: Vec<i64> = own_key.iter().map(|s| multiple * s).collect();
    let mut blocks = insight::ciphertext(&attempt, &all[3]);
    blocks[0]
        .add_assign(&Poly::<Coeff>::from_i64(round.ring(), &shift).unwrap())
        .unwrap();
    let subject = Subject::Contribution(name(3));
    all[3] = attempt.with_blob(&all[3], insight::write(&round, &subject, &blocks));

    let refused = attempt.finish(&attempt.custodians(), &all).unwrap_err();
    // Which remainders are too large follows from the sender's own key: the noise of the others is below an eighth of delta.
    let predicted = own_key.iter().filter(|s| **s % 4 != 0).count() as u64;
    assert!(
        matches!(refused, CustodyError::Remainder { bad, block: 0 } if bad == predicted),
        "{refused} {predicted}"
    );
    assert!(predicted > DEGREE as u64 / 2);
    // Its Debug and Display say no more than that.
    let shown = format!("{refused} {refused:?}");
    assert!(shown.len() < 300, "{shown}");
}

#[test]
fn the_opened_key_of_a_round_decrypts_its_sum_and_nothing_else() {
    let federation = one_round();
    let mut attempt = federation.announce_all(1, 0);
    let all: Vec<_> = (0..4).map(|i| attempt.contribute(i, &values(i))).collect();
    let keys: Vec<Vec<i64>> = all
        .iter()
        .map(|c| insight::sum(insight::pieces(&attempt, c, 0..5).values()))
        .collect();
    // What every receiver learns: the sum of the keys. One that contributed itself takes its own off.
    let opened = insight::sum(&keys);
    let without_own: Vec<i64> = opened.iter().zip(&keys[3]).map(|(sum, own)| sum - own).collect();
    let other = federation.announce_all(2, 0);
    let later: Vec<_> = (0..4).map(|i| other.contribute(i, &values(i))).collect();

    let proposal = attempt.propose(&all);
    let sum = insight::read(
        &attempt.round,
        &Subject::Sum(proposal.set.digest()),
        &proposal.sum,
    );
    let (read, noise) = insight::split(&attempt.round, &insight::decrypt(&attempt.round, &sum, &opened));
    assert_eq!(read, plain_sum(&[values(0), values(1), values(2), values(3)]));
    let limit = attempt.round.plan().noise_bound as i64;
    assert!(noise.iter().all(|noise| noise.abs() <= limit));

    let spread = |round: &galen_sums::Round, blocks: &[Poly<Coeff>], key: &[i64]| {
        let (_, noise) = insight::split(round, &insight::decrypt(round, blocks, key));
        insight::evenness(round, &noise)
    };
    // The right key on the sum: as far from even as can be.
    assert!(spread(&attempt.round, &sum, &opened) > 10_000.0);
    for contribution in &all[..3] {
        let blocks = insight::ciphertext(&attempt, contribution);
        for key in [&opened, &without_own] {
            assert!(spread(&attempt.round, &blocks, key) < 100.0);
        }
    }
    for contribution in &later {
        let blocks = insight::ciphertext(&other, contribution);
        for key in keys.iter().chain([&opened]) {
            assert!(spread(&other.round, &blocks, key) < 100.0);
        }
    }
    let later_sum = other.propose(&later);
    let blocks = insight::read(
        &other.round,
        &Subject::Sum(later_sum.set.digest()),
        &later_sum.sum,
    );
    assert!(spread(&other.round, &blocks, &opened) < 100.0);

    // A coordinator that passes one contribution, or another round's sum, off as the sum to be opened: custodians do not see the
    // ciphertexts, and endorse. The receivers' remainder check fails.
    let set = proposal.set.clone();
    for blocks in [insight::ciphertext(&attempt, &all[0]), blocks] {
        let mut attempt = federation.announce_all(3, 0);
        let fresh: Vec<_> = (0..4).map(|i| attempt.contribute(i, &values(i))).collect();
        let mut proposal = attempt.propose(&fresh);
        let blob = insight::write(&attempt.round, &Subject::Sum(proposal.set.digest()), &blocks);
        proposal.digest = galen_core::Digest::of(&blob);
        proposal.sum = blob;
        let everyone = attempt.custodians();
        let certificate = attempt.certify(&everyone, &fresh, &proposal);
        let assignments = attempt.round.assign(&everyone).unwrap();
        let answers = attempt.answer_all(&assignments, &fresh, &certificate, &proposal);
        let refused = attempt.open(0, &certificate, &proposal, &answers).unwrap_err();
        // Of 4096 coefficients at most one in four passes by chance: half of them would be 37 standard deviations away.
        assert!(
            matches!(refused, CustodyError::Remainder { bad, block: 0 } if bad > 2048),
            "{refused}"
        );
    }
    // The round's own sum still opens.
    let everyone = attempt.custodians();
    let certificate = attempt.certify(&everyone, &all, &proposal);
    let assignments = attempt.round.assign(&everyone).unwrap();
    let answers = attempt.answer_all(&assignments, &all, &certificate, &proposal);
    assert_eq!(set, proposal.set);
    assert_eq!(
        attempt.open(0, &certificate, &proposal, &answers).unwrap().values,
        read
    );
}
