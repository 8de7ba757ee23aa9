//! Bytes: what is written is read back, and nothing else is read at all.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure is the test result")]

mod common;

use common::{tiny, values};
use galen_ckks::CkksError;
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::codec::CiphertextSet;
use galen_ckks::context::Context;
use galen_ckks::error::Malformed;
use galen_ckks::evaluate::Evaluator;
use galen_ckks::keys::{PublicKey, RelinKey, SecretKey};
use proptest::prelude::*;
use std::sync::Arc;

/// Offsets in a ciphertext, as documented.
const VERSION: usize = 4;
const TAG: usize = 6;
const PRESET: usize = 7;
const KEY: usize = 39;
const LEVEL: usize = 71;
const DEGREE: usize = 72;
const SEEDED: usize = 73;
const SLOTS: usize = 74;
const SCALE: usize = 78;
const MAGNITUDE: usize = 86;
const NOISE: usize = 94;
const BODY: usize = 102;

fn context() -> Arc<Context> {
    tiny(2, 1)
}

fn key(context: &Arc<Context>) -> SecretKey {
    SecretKey::from_seed(context, &[1; 32]).unwrap()
}

/// One of each: seeded, with two parts, with three.
fn ciphertexts(context: &Arc<Context>) -> Vec<Ciphertext> {
    let key = key(context);
    let plain = context.encode(&values(20, 1), 1.0).unwrap();
    let seeded = key.encrypt_with_seed(&plain, &[2; 32]).unwrap();
    let public = key
        .public_key()
        .unwrap()
        .encrypt_with_seed(&plain, &[3; 32])
        .unwrap();
    let square = Evaluator::new(context).square(&public).unwrap();
    vec![seeded, public, square]
}

fn refuse(context: &Arc<Context>, bytes: &[u8]) -> Malformed {
    match Ciphertext::from_bytes(context, bytes) {
        Err(CkksError::Malformed(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn with(bytes: &[u8], at: usize, new: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}

#[test]
fn round_trips() {
    let context = context();
    let key = key(&context);
    let cts = ciphertexts(&context);
    for ct in &cts {
        let bytes = ct.to_bytes().unwrap();
        let back = Ciphertext::from_bytes(&context, &bytes).unwrap();
        assert_eq!(back, *ct);
        assert_eq!(back.to_bytes().unwrap(), bytes);
        assert_eq!(
            key.decrypt(&back).unwrap().poly(),
            key.decrypt(ct).unwrap().poly()
        );
    }
    // 50 + 40 + 40 bits per coefficient, a seed for the second part.
    let part = 64 * 130 / 8;
    let lengths: Vec<usize> = cts.iter().map(|ct| ct.to_bytes().unwrap().len()).collect();
    assert_eq!(lengths, [BODY + part + 32, BODY + 2 * part, BODY + 3 * part]);

    assert_eq!(lengths[2], Ciphertext::max_bytes(&context));

    let set = CiphertextSet::new(cts.clone()).unwrap();
    let bytes = set.to_bytes().unwrap();
    let back = CiphertextSet::from_bytes(&context, &bytes).unwrap();
    assert_eq!(back.ciphertexts(), cts);
    assert_eq!(back.into_ciphertexts(), cts);

    let public = key.public_key().unwrap();
    let back = PublicKey::from_bytes(&context, &public.to_bytes().unwrap()).unwrap();
    assert_eq!(
        (back.digest(), back.to_bytes()),
        (public.digest(), public.to_bytes())
    );
    let plain = context.encode(&[0.25], 1.0).unwrap();
    assert_eq!(
        back.encrypt_with_seed(&plain, &[4; 32]),
        public.encrypt_with_seed(&plain, &[4; 32])
    );

    let relin = key.relin_key().unwrap();
    let back = RelinKey::from_bytes(&context, &relin.to_bytes().unwrap()).unwrap();
    assert_eq!(
        (back.digest(), back.to_bytes()),
        (relin.digest(), relin.to_bytes())
    );
    let ev = Evaluator::new(&context);
    assert_eq!(ev.relinearise(&cts[2], &back), ev.relinearise(&cts[2], &relin));

    let stored = key.to_secret_bytes();
    assert_eq!(stored.len(), 39 + 32);
    let back = SecretKey::from_secret_bytes(&context, &stored).unwrap();
    assert_eq!(back.digest(), key.digest());
    assert_eq!(
        back.decrypt(&cts[1]).unwrap().poly(),
        key.decrypt(&cts[1]).unwrap().poly()
    );
}

/// A seed is stored only as long as the second part is what it expands to.
#[test]
fn operations_on_seeded_ciphertexts_survive_the_trip() {
    let context = context();
    let key = key(&context);
    let ev = Evaluator::new(&context);
    let ct = ciphertexts(&context).remove(0);
    let plain = context.encode(&values(20, 2), 1.0).unwrap();
    for result in [
        ev.add(&ct, &ct).unwrap(),
        ev.sub(&ct, &ciphertexts(&context)[1]).unwrap(),
        ev.neg(&ct).unwrap(),
        ev.add_plain(&ct, &plain).unwrap(),
        ev.add_scalar(&ct, 0.5).unwrap(),
        ev.mul_plain(&ct, &plain).unwrap(),
        ev.drop_level(&ct, 1).unwrap(),
        ev.rescale(
            &ev.mac_scalars(&[&ct], &[0.5], context.product_target(2).unwrap())
                .unwrap(),
        )
        .unwrap(),
    ] {
        let back = Ciphertext::from_bytes(&context, &result.to_bytes().unwrap()).unwrap();
        assert_eq!(back, result);
        assert_eq!(
            key.decrypt(&back).unwrap().poly(),
            key.decrypt(&result).unwrap().poly()
        );
    }
}

#[test]
fn every_header_field_is_checked() {
    let context = context();
    let bytes = ciphertexts(&context)[1].to_bytes().unwrap();
    for i in 0..4 {
        assert_eq!(
            refuse(&context, &with(&bytes, i, &[bytes[i] ^ 1])),
            Malformed::Magic
        );
    }
    assert_eq!(
        refuse(&context, &with(&bytes, VERSION, &[0])),
        Malformed::Version { version: 0 }
    );
    assert_eq!(
        refuse(&context, &with(&bytes, VERSION, &[2])),
        Malformed::Version { version: 2 }
    );
    assert_eq!(
        refuse(&context, &with(&bytes, VERSION + 1, &[1])),
        Malformed::Version { version: 257 }
    );
    for tag in [0, 2, 3, 4, 5, 6, 255] {
        assert_eq!(
            refuse(&context, &with(&bytes, TAG, &[tag])),
            Malformed::Type { tag, expected: 1 }
        );
    }
    for i in PRESET..KEY {
        assert_eq!(
            refuse(&context, &with(&bytes, i, &[bytes[i] ^ 128])),
            Malformed::Preset
        );
    }
    for level in [3, 4, 255] {
        let expected = Malformed::Level {
            level: usize::from(level),
            max: 2,
        };
        assert_eq!(refuse(&context, &with(&bytes, LEVEL, &[level])), expected);
    }
    for degree in [0, 3, 255] {
        let expected = Malformed::Degree {
            degree: usize::from(degree),
        };
        assert_eq!(refuse(&context, &with(&bytes, DEGREE, &[degree])), expected);
    }
    assert_eq!(
        refuse(&context, &with(&bytes, DEGREE, &[2, 1])),
        Malformed::Degree { degree: 2 }
    );
    for value in [2, 255] {
        assert_eq!(
            refuse(&context, &with(&bytes, SEEDED, &[value])),
            Malformed::Flag { value }
        );
    }
    for slots in [0u32, 33, u32::MAX] {
        let expected = Malformed::Slots {
            slots: slots as usize,
            max: 32,
        };
        assert_eq!(
            refuse(&context, &with(&bytes, SLOTS, &slots.to_le_bytes())),
            expected
        );
    }
    let number = |at: usize, x: f64| refuse(&context, &with(&bytes, at, &x.to_bits().to_le_bytes()));
    for scale in [
        f64::NAN,
        -f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        0.0,
        -0.0,
        -1.0,
        0.99,
        1e200,
        f64::MAX,
    ] {
        assert_eq!(number(SCALE, scale), Malformed::Scale, "{scale}");
    }
    for bound in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, -1.0] {
        assert_eq!(number(MAGNITUDE, bound), Malformed::Bound, "{bound}");
        assert_eq!(number(NOISE, bound), Malformed::Bound, "{bound}");
    }
    assert_eq!(number(NOISE, 0.0), Malformed::Bound);
    for at in [SCALE, MAGNITUDE, NOISE] {
        assert_eq!(number(at, 1e100), Malformed::Overflow);
    }
}

#[test]
fn lengths_are_exact() {
    let context = context();
    for ct in ciphertexts(&context) {
        let bytes = ct.to_bytes().unwrap();
        for length in 0..bytes.len() {
            assert!(
                matches!(refuse(&context, &bytes[..length]), Malformed::Truncated { .. }),
                "{length}"
            );
        }
        for extra in [1, 7, 1000] {
            let longer = [bytes.as_slice(), &vec![0; extra]].concat();
            let max = Ciphertext::max_bytes(&context);
            let expected = if longer.len() > max {
                Malformed::TooLong {
                    length: longer.len(),
                    max,
                }
            } else {
                Malformed::Trailing { count: extra }
            };
            assert_eq!(refuse(&context, &longer), expected);
        }
    }
    // A lower level or another degree asks for another length.
    let bytes = ciphertexts(&context)[1].to_bytes().unwrap();
    assert!(matches!(
        refuse(&context, &with(&bytes, LEVEL, &[1])),
        Malformed::Trailing { .. }
    ));
    assert!(matches!(
        refuse(&context, &with(&bytes, DEGREE, &[2])),
        Malformed::Truncated { .. }
    ));
    assert!(matches!(
        refuse(&context, &with(&bytes, SEEDED, &[1])),
        Malformed::Trailing { .. }
    ));
}

#[test]
fn residues_are_below_their_primes() {
    let context = context();
    let bytes = ciphertexts(&context)[1].to_bytes().unwrap();
    // All bits of a residue set: its prime is below that. First residue, one of the second prime, the very last.
    for (at, width) in [(BODY, 7), (BODY + 64 * 50 / 8, 5), (bytes.len() - 5, 5)] {
        assert_eq!(
            refuse(&context, &with(&bytes, at, &vec![255; width])),
            Malformed::Residue
        );
    }
    let prime = context.preset().primes()[0];
    let mut exactly = [0u8; 7];
    exactly.copy_from_slice(&prime.to_le_bytes()[..7]);
    assert_eq!(
        refuse(&context, &with(&bytes, BODY, &exactly)),
        Malformed::Residue
    );
    let below = (prime - 1).to_le_bytes();
    assert!(Ciphertext::from_bytes(&context, &with(&bytes, BODY, &below[..7])).is_ok());
}

#[test]
fn the_other_objects_are_as_strict() {
    let context = context();
    let key = key(&context);
    // Larger in every respect, so that it is not the length that is refused.
    let elsewhere = tiny(3, 1);
    let objects = [
        CiphertextSet::new(ciphertexts(&context))
            .unwrap()
            .to_bytes()
            .unwrap(),
        key.public_key().unwrap().to_bytes().unwrap(),
        key.relin_key().unwrap().to_bytes().unwrap(),
        key.to_secret_bytes().to_vec(),
    ];
    let parse = |index: usize, context: &Arc<Context>, bytes: &[u8]| -> Option<CkksError> {
        match index {
            0 => CiphertextSet::from_bytes(context, bytes).err(),
            1 => PublicKey::from_bytes(context, bytes).err(),
            2 => RelinKey::from_bytes(context, bytes).err(),
            _ => SecretKey::from_secret_bytes(context, bytes).err(),
        }
    };
    for (index, bytes) in objects.iter().enumerate() {
        let why = |bytes: &[u8]| match parse(index, &context, bytes) {
            Some(CkksError::Malformed(why)) => why,
            other => panic!("object {index}: {other:?}"),
        };
        assert_eq!(parse(index, &context, bytes), None);
        assert_eq!(parse(index, &elsewhere, bytes), Some(Malformed::Preset.into()));
        assert_eq!(why(&with(bytes, 0, b"X")), Malformed::Magic);
        assert_eq!(
            why(&with(bytes, VERSION, &[9])),
            Malformed::Version { version: 9 }
        );
        assert!(matches!(
            why(&with(bytes, TAG, &[1])),
            Malformed::Type { tag: 1, .. }
        ));
        let longer = why(&[bytes.as_slice(), &[0]].concat());
        match index {
            0 => assert_eq!(longer, Malformed::Trailing { count: 1 }),
            _ => assert_eq!(
                longer,
                Malformed::TooLong {
                    length: bytes.len() + 1,
                    max: bytes.len()
                }
            ),
        }
        for length in (0..bytes.len()).step_by(3) {
            assert!(
                matches!(why(&bytes[..length]), Malformed::Truncated { .. }),
                "object {index}: {length}"
            );
        }
        if index < 3 {
            assert_eq!(
                why(&with(bytes, bytes.len() - 7, &[255; 7])),
                Malformed::Residue,
                "object {index}"
            );
        }
    }
    let why = |index: usize, bytes: &[u8]| parse(index, &context, bytes).unwrap();
    for count in [0u32, 65_537, u32::MAX] {
        let expected = Malformed::Count {
            count: count as usize,
            min: 1,
            max: 65_536,
        };
        assert_eq!(
            why(0, &with(&objects[0], KEY, &count.to_le_bytes())),
            expected.into()
        );
    }
    assert!(matches!(
        why(0, &with(&objects[0], KEY, &[4])),
        CkksError::Malformed(Malformed::Truncated { .. })
    ));
    // Another key in one of the list.
    assert_eq!(
        why(0, &with(&objects[0], KEY + 4, &[objects[0][KEY + 4] ^ 1])),
        CkksError::KeyMismatch
    );
    for count in [0, 2, 4] {
        let expected = Malformed::Count {
            count: usize::from(count),
            min: 3,
            max: 3,
        };
        assert_eq!(why(2, &with(&objects[2], KEY + 64, &[count])), expected.into());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let context = context();
        prop_assert!(Ciphertext::from_bytes(&context, &bytes).is_err());
        prop_assert!(CiphertextSet::from_bytes(&context, &bytes).is_err());
        prop_assert!(PublicKey::from_bytes(&context, &bytes).is_err());
        prop_assert!(RelinKey::from_bytes(&context, &bytes).is_err());
        prop_assert!(SecretKey::from_secret_bytes(&context, &bytes).is_err());
    }

    /// Whatever is accepted is written again as the same bytes: there is one form of everything.
    #[test]
    fn mutations_are_refused_or_canonical(
        which in 0usize..3,
        edits in proptest::collection::vec((0usize..160, any::<u8>(), any::<bool>()), 1..4),
    ) {
        let context = context();
        let mut bytes = ciphertexts(&context)[which].to_bytes().unwrap();
        for (at, value, from_end) in edits {
            let at = if from_end { bytes.len() - 1 - at } else { at };
            bytes[at] = value;
        }
        if let Ok(ct) = Ciphertext::from_bytes(&context, &bytes) {
            prop_assert_eq!(ct.to_bytes().unwrap(), bytes);
            prop_assert!(ct.noise_bound() > 0.0 && ct.budget().needed_bits() < 131.0);
        }
    }
}
