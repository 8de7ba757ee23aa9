//! Known answers, so that a change of any sampler, label or order of fields is noticed. They were computed by a second
//! implementation, in Python with its own tables, primes and encodings.

use crate::federation::name;
use galen_core::Digest;
use galen_custody::seeds::{chi, seed_hash};
use galen_rns::primes::ntt_primes;
use galen_rns::ring::Ring;
use galen_sums::ContributionSet;
use galen_sums::round::common_coefficients;

const SEED: [u8; 32] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28,
    29, 30, 31,
];

fn sha256_of(words: impl IntoIterator<Item = u64>) -> String {
    let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
    Digest::of(&bytes).to_hex()
}

#[test]
fn a_seed_expands_to_this_polynomial() {
    let mut polynomial = vec![0; 4096];
    chi(&SEED, &Digest::of(b"record"), &name(0), 5, &mut polynomial);
    assert_eq!(polynomial[..12], [-2, -4, -6, 3, -1, 2, 8, 4, -3, 3, 4, -1]);
    assert_eq!(
        sha256_of(polynomial.iter().map(|&c| c as u64)),
        "e8a8beba49364fde46a5e9f7e36ffa4c52e15e298f6cfe1202a81ed0bee62a87"
    );
}

#[test]
fn a_seed_means_something_else_in_every_other_place() {
    let expand = |record: &[u8], contributor, piece| {
        let mut out = vec![0; 64];
        chi(&SEED, &Digest::of(record), &name(contributor), piece, &mut out);
        (
            out,
            seed_hash(&SEED, &Digest::of(record), &name(contributor), piece),
        )
    };
    let all = [
        expand(b"a", 0, 0),
        expand(b"b", 0, 0),
        expand(b"a", 1, 0),
        expand(b"a", 0, 1),
    ];
    for (i, one) in all.iter().enumerate() {
        assert!(all[..i].iter().all(|other| one.0 != other.0 && one.1 != other.1));
    }
}

#[test]
fn a_seed_has_this_hash() {
    assert_eq!(
        seed_hash(&SEED, &Digest::of(b"record"), &name(0), 5).to_hex(),
        "ecabeb1db2d68c3401cb419f435b714b0c31145d17c8bc16d46350ba229f5678"
    );
}

#[test]
fn a_record_expands_to_these_common_polynomials() {
    let primes = [
        ntt_primes(4096, 31, 1, &[]).unwrap()[0],
        ntt_primes(4096, 27, 1, &[]).unwrap()[0],
    ];
    assert_eq!(primes, [2_147_377_153, 134_176_769]);
    let ring = Ring::new(4096, &primes).unwrap();
    let polynomial = common_coefficients(&Digest::of(b"record"), 3, &ring);
    assert_eq!(
        polynomial.residues(0)[..4],
        [67_767_322, 504_873_944, 470_198_015, 1_044_752_381]
    );
    assert_eq!(
        polynomial.residues(1)[..4],
        [41_763_817, 20_685_706, 33_976_968, 30_037_655]
    );
    assert_eq!(
        sha256_of(polynomial.data().iter().copied()),
        "28fc269d43fb1260e836c51f58db745b1370622ed37629107b59ccbd11f8910c"
    );
    assert_ne!(polynomial, common_coefficients(&Digest::of(b"record"), 4, &ring));
    assert_ne!(polynomial, common_coefficients(&Digest::of(b"other"), 3, &ring));
}

#[test]
fn a_set_has_this_digest() {
    let members = [(name(0), Digest::of(b"0")), (name(1), Digest::of(b"1"))];
    let set = ContributionSet {
        record: Digest::of(b"record"),
        members: members.into_iter().collect(),
    };
    assert_eq!(
        set.digest().to_hex(),
        "4f1c5a2cf8a83a5c8fbd55261014659f258ab5e431ce1bdbdcbf62786a7e8e1a"
    );
}
