//! Linear transforms of ciphertexts against products of matrices and vectors in the clear.
#![allow(clippy::unwrap_used, reason = "a failure is the test result")]

mod common;

use common::{preset, values};
use galen_ckks::CkksError;
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::context::{Context, Target};
use galen_ckks::evaluate::Evaluator;
use galen_ckks::keys::SecretKey;
use galen_ckks::preset::{Preset, PresetSpec};
use galen_ckks::transform::LinearTransform;
use galen_rns::ring::RingKind;
use std::sync::Arc;

fn small(ring: RingKind) -> Arc<Context> {
    let spec = PresetSpec {
        ring,
        degree: 128,
        base_bits: 50,
        levels: 3,
        scale_bits: 40,
        special: 2,
        special_bits: 50,
        digit: 2,
    };
    Context::new(&Preset::insecure_for_tests(spec).unwrap()).unwrap()
}

const KINDS: [RingKind; 2] = [RingKind::Cyclotomic, RingKind::ConjugateInvariant];

fn matrix(rows: usize, columns: usize, salt: u64) -> Vec<Vec<f64>> {
    (0..rows)
        .map(|i| {
            values(columns, 1000 * salt + i as u64)
                .iter()
                .map(|x| x / 4.0)
                .collect()
        })
        .collect()
}

fn times(rows: &[Vec<f64>], x: &[f64]) -> Vec<f64> {
    rows.iter()
        .map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum())
        .collect()
}

fn largest(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max)
}

/// Applies a transform, checks level, scale, bounds and all slots against the clear one, and returns the slots.
fn check(
    context: &Arc<Context>,
    key: &SecretKey,
    t: &LinearTransform,
    slots: &[f64],
) -> (Ciphertext, Vec<f64>) {
    let ev = Evaluator::new(context);
    let rotations = t.rotations();
    // A key for a rotation that nobody asks for, so that there is always one.
    let keys = key.galois_keys(&[&rotations[..], &[1]].concat()).unwrap();
    let encoded = t.encode(context, context.max_level()).unwrap();
    let ct = key
        .encrypt_with_seed(&context.encode(slots, 1.0).unwrap(), &[3; 32])
        .unwrap();
    let y = ev.transform(&ct, &encoded, &keys).unwrap();
    assert_eq!((y.level(), y.degree()), (context.max_level() - 1, 1));
    assert_eq!(y.scale(), context.scale(y.level()).unwrap());
    let got = context.decode(&key.decrypt(&y).unwrap()).unwrap();
    let expected = t.apply(slots).unwrap();
    let error = largest(&got, &expected);
    let bound = y.noise_bound() / y.scale();
    assert!(error <= bound, "{error} above {bound}");
    assert!(bound < 1e-5, "{bound}");
    assert!(
        expected
            .iter()
            .all(|x| x.abs() <= y.magnitude_bound() * (1.0 + 1e-12))
    );
    (y, got)
}

#[test]
fn matrices_of_all_shapes() {
    for kind in KINDS {
        let context = small(kind);
        let key = SecretKey::from_seed(&context, &[2; 32]).unwrap();
        let all = context.slots();
        for (rows, columns, stride) in [
            (1, 1, 1),
            (1, 7, 1),
            (5, 1, 2),
            (4, 4, 1),
            (3, 5, 4),
            (16, 16, 2),
            (16, 3, 1),
            (3, 30, 2),
            (13, 32, 1),
            (32, 10, 1),
            (all, all, 1),
            (all / 4, all / 4, 4),
            (2, all, 1),
        ] {
            let m = matrix(rows, columns, 7);
            let t = LinearTransform::matrix_with_stride(&context, &m, stride).unwrap();
            assert_eq!((t.rows(), t.columns()), (rows, columns));
            assert!(t.diagonal_count() <= rows.min(columns).next_power_of_two());
            let lanes: Vec<Vec<f64>> = (0..stride as u64).map(|lane| values(columns, lane)).collect();
            let slots = t.pack_lanes(&lanes).unwrap();
            if stride == 1 {
                assert_eq!(slots, t.pack(&lanes[0]).unwrap());
            }
            let (_, got) = check(&context, &key, &t, &slots);
            for (lane, x) in lanes.iter().enumerate() {
                let y = t.unpack(&got, lane).unwrap();
                assert!(
                    largest(&y, &times(&m, x)) < 1e-6,
                    "{rows} x {columns}, stride {stride}"
                );
            }
        }
    }
}

/// The result of one layer is packed as the input of the next.
#[test]
fn layers_follow_each_other() {
    let context = small(RingKind::Cyclotomic);
    let key = SecretKey::from_seed(&context, &[2; 32]).unwrap();
    let (a, b, c) = (matrix(12, 30, 1), matrix(30, 12, 2), matrix(3, 30, 3));
    let layers: Vec<LinearTransform> = [&a, &b, &c]
        .iter()
        .map(|m| LinearTransform::matrix(&context, m).unwrap())
        .collect();
    let rotations: Vec<i64> = layers.iter().flat_map(LinearTransform::rotations).collect();
    let keys = key.galois_keys(&rotations).unwrap();
    let x = values(30, 4);
    let ev = Evaluator::new(&context);
    let mut ct = key
        .encrypt(&context.encode(&layers[0].pack(&x).unwrap(), 1.0).unwrap())
        .unwrap();
    for (t, level) in layers.iter().zip([3, 2, 1]) {
        ct = ev
            .transform(&ct, &t.encode(&context, level).unwrap(), &keys)
            .unwrap();
    }
    assert_eq!(ct.level(), 0);
    let got = layers[2]
        .unpack(&context.decode(&key.decrypt(&ct).unwrap()).unwrap(), 0)
        .unwrap();
    assert!(largest(&got, &times(&c, &times(&b, &times(&a, &x)))) < 1e-5);
}

#[test]
fn few_diagonals_take_few_rotations() {
    for kind in KINDS {
        let context = small(kind);
        let key = SecretKey::from_seed(&context, &[2; 32]).unwrap();
        let n = context.slots() as i64;
        for (steps, most) in [
            (vec![], 0),
            (vec![0], 0),
            (vec![3], 1),
            (vec![-1, 0, 1], 2),
            (vec![-3, -2, -1, 0, 1, 2, 3], 6),
            ((0..n).collect(), 22),
            ((0..n).step_by(8).collect(), 8),
            (vec![0, n + 5, 5], 1),
        ] {
            let diagonals: Vec<(i64, Vec<f64>)> = steps
                .iter()
                .map(|&s| {
                    (
                        s,
                        values(n as usize, s as u64)
                            .iter()
                            .map(|x| x / n as f64)
                            .collect(),
                    )
                })
                .collect();
            let t = LinearTransform::diagonals(&context, &diagonals, 1).unwrap();
            assert!(t.rotations().len() <= most, "{steps:?}: {:?}", t.rotations());
            let x = values(n as usize, 9);
            // By definition, besides what `apply` says.
            let expected: Vec<f64> = (0..n)
                .map(|k| {
                    let term = |(s, d): &(i64, Vec<f64>)| d[k as usize] * x[(k + s).rem_euclid(n) as usize];
                    diagonals.iter().map(term).sum()
                })
                .collect();
            let (_, got) = check(&context, &key, &t, &x);
            assert!(largest(&got, &expected) < 1e-6, "{steps:?}");
        }
        // Diagonals of zeros are none.
        let zeros = LinearTransform::diagonals(&context, &[(1, vec![0.0; 8]), (2, vec![1.0; 8])], 1).unwrap();
        assert_eq!((zeros.diagonal_count(), zeros.rotations()), (1, vec![2]));
    }
}

/// Operands of higher levels and of other scales are brought to where the transform is.
#[test]
fn levels_and_scales() {
    let context = small(RingKind::Cyclotomic);
    let key = SecretKey::from_seed(&context, &[2; 32]).unwrap();
    let relin = key.relin_key().unwrap();
    let ev = Evaluator::new(&context);
    let m = matrix(8, 8, 1);
    let t = LinearTransform::matrix(&context, &m).unwrap();
    let keys = key.galois_keys(&t.rotations()).unwrap();
    let encoded = t.encode(&context, 2).unwrap();
    assert_eq!((encoded.level(), encoded.takes_degree_2()), (2, false));
    let x = values(8, 4);
    let slots = t.pack(&x).unwrap();
    let fresh = key.encrypt(&context.encode(&slots, 1.0).unwrap()).unwrap();
    let square = ev.relinearise(&ev.square(&fresh).unwrap(), &relin).unwrap();
    let lower = ev.transform(&fresh, &encoded, &keys).unwrap();
    let squares: Vec<f64> = x.iter().map(|x| x * x).collect();
    for (ct, x) in [
        (&fresh, &x),
        (&square, &squares),
        (&ev.rescale(&square).unwrap(), &squares),
    ] {
        let y = ev.transform(ct, &encoded, &keys).unwrap();
        assert_eq!((y.level(), y.scale()), (1, context.scale(1).unwrap()));
        let got = t
            .unpack(&context.decode(&key.decrypt(&y).unwrap()).unwrap(), 0)
            .unwrap();
        assert!(largest(&got, &times(&m, x)) < 1e-6);
    }

    assert_eq!(
        ev.transform(&lower, &encoded, &keys).unwrap_err(),
        CkksError::LevelRange { level: 2, max: 1 }
    );
    let off = ev.drop_level(&fresh, 2).unwrap();
    assert!(matches!(
        ev.transform(&off, &encoded, &keys),
        Err(CkksError::ScaleMismatch { .. })
    ));
    let degree2 = ev.rescale(&ev.square(&fresh).unwrap()).unwrap();
    assert_eq!(
        ev.transform(&degree2, &encoded, &keys).unwrap_err(),
        CkksError::CiphertextDegree { degree: 2, needed: 1 }
    );
    let fewer = key.galois_keys(&t.rotations()[1..]).unwrap();
    assert!(matches!(
        ev.transform(&fresh, &encoded, &fewer),
        Err(CkksError::MissingRotation { steps: 1, .. })
    ));
    assert_eq!(t.encode(&context, 0).unwrap_err(), CkksError::NoLevelLeft);
}

#[test]
fn shapes_that_do_not_fit() {
    let context = small(RingKind::Cyclotomic);
    let n = context.slots();
    let refused =
        |rows: &[Vec<f64>], stride| LinearTransform::matrix_with_stride(&context, rows, stride).unwrap_err();
    assert!(matches!(refused(&[], 1), CkksError::Count { count: 0, .. }));
    assert!(matches!(refused(&[vec![]], 1), CkksError::Count { count: 0, .. }));
    assert!(matches!(
        refused(&[vec![1.0], vec![]], 1),
        CkksError::Count { count: 0, .. }
    ));
    assert!(matches!(
        refused(&matrix(1, n + 1, 1), 1),
        CkksError::Count { .. }
    ));
    assert!(matches!(refused(&matrix(1, n, 1), 2), CkksError::Count { .. }));
    assert_eq!(
        refused(&matrix(1, 2, 1), 3),
        CkksError::NotPowerOfTwo { count: 3 }
    );
    assert!(matches!(refused(&matrix(1, 2, 1), 0), CkksError::Count { .. }));
    assert!(matches!(
        refused(&[vec![0.0, f64::NAN]], 1),
        CkksError::InvalidNumber { index: 1, .. }
    ));
    assert_eq!(
        LinearTransform::diagonals(&context, &[(0, vec![1.0; 3])], 1).unwrap_err(),
        CkksError::NotPowerOfTwo { count: 3 }
    );
    let t = LinearTransform::matrix(&context, &matrix(3, 5, 1)).unwrap();
    assert!(t.pack(&[0.0; 4]).is_err());
    assert!(t.pack_lanes(&[]).is_err());
    assert!(t.unpack(&vec![0.0; n], 1).is_err());
    assert!(t.unpack(&[0.0; 2], 0).is_err());
    assert!(t.apply(&[0.0; 2]).is_err());
}

/// A square of degree 2 through a layer of weighted sums, relinearised after it: the values of relinearising first, with one key
/// switch for each output instead of each input. What needs no rotation takes degree 2 in a packed vector too.
#[test]
fn degree_2_through_linear_layers() {
    let context = small(RingKind::Cyclotomic);
    let key = SecretKey::from_seed(&context, &[2; 32]).unwrap();
    let relin = key.relin_key().unwrap();
    let ev = Evaluator::new(&context);
    let (inputs, outputs) = (12, 2);
    let x: Vec<Vec<f64>> = (0..inputs).map(|k| values(context.slots(), k)).collect();
    let cts: Vec<Ciphertext> = x
        .iter()
        .map(|x| key.encrypt(&context.encode(x, 1.0).unwrap()).unwrap())
        .collect();
    let m = matrix(outputs, inputs as usize, 5);
    let rows: Vec<&[f64]> = m.iter().map(Vec::as_slice).collect();
    // Weights of 40 bits on top of the scale of squares, and two rescalings that land on the nominal scale of level 1.
    let [_, _, q2, q3] = context.preset().primes() else {
        panic!()
    };
    let scale = context.scale(1).unwrap();
    let target = Target {
        level: 3,
        scale: scale * *q2 as f64 * *q3 as f64,
    };
    let pipeline = |first: bool| -> (Vec<Ciphertext>, usize) {
        let mut switches = 0;
        let mut relinearise = |ct: Ciphertext| {
            switches += ct.degree() - 1;
            ev.relinearise(&ct, &relin).unwrap()
        };
        let squares: Vec<Ciphertext> = cts
            .iter()
            .map(|ct| {
                let square = ev.square(ct).unwrap();
                if first { relinearise(square) } else { square }
            })
            .collect();
        let sums = ev
            .linear(&squares.iter().collect::<Vec<_>>(), &rows, target)
            .unwrap();
        assert!(sums.iter().all(|sum| sum.degree() == if first { 1 } else { 2 }));
        let results = sums.into_iter().map(|sum| {
            let once = ev.rescale(&relinearise(sum)).unwrap();
            ev.rescale_to(&once, scale).unwrap()
        });
        (results.collect(), switches)
    };
    let ((early, many), (late, few)) = (pipeline(true), pipeline(false));
    assert_eq!((many, few), (inputs as usize, outputs));
    for ((early, late), row) in early.iter().zip(&late).zip(&m) {
        assert_eq!((early.level(), early.scale()), (late.level(), late.scale()));
        let [early_slots, late_slots] =
            [early, late].map(|ct| context.decode(&key.decrypt(ct).unwrap()).unwrap());
        for (slot, (a, b)) in early_slots.iter().zip(&late_slots).enumerate() {
            let exact: f64 = row.iter().zip(&x).map(|(w, x)| w * x[slot] * x[slot]).sum();
            assert!((a - exact).abs() <= early.noise_bound() / early.scale());
            assert!((b - exact).abs() <= late.noise_bound() / late.scale());
            assert!((a - b).abs() < 1e-7);
        }
    }

    let diagonal = values(context.slots(), 77);
    let t = LinearTransform::diagonals(&context, &[(0, diagonal.clone())], 1).unwrap();
    let encoded = t.encode(&context, context.max_level() - 1).unwrap();
    assert!(encoded.takes_degree_2() && t.rotations().is_empty());
    let keys = key.galois_keys(&[1]).unwrap();
    let y = ev
        .transform(&ev.square(&cts[0]).unwrap(), &encoded, &keys)
        .unwrap();
    assert_eq!(y.degree(), 2);
    let got = context.decode(&key.decrypt(&y).unwrap()).unwrap();
    for ((got, w), x) in got.iter().zip(&diagonal).zip(&x[0]) {
        assert!((got - w * x * x).abs() < 1e-6);
    }
}

/// The dense layer of one-image inference: 256 values to 64.
#[test]
fn dense_256_to_64_at_128_bits() {
    let context = preset("n8192_q50_3x38_p1x50");
    let key = SecretKey::from_seed(&context, &[2; 32]).unwrap();
    let m: Vec<Vec<f64>> = (0..64)
        .map(|i| values(256, i).iter().map(|x| x / 16.0).collect())
        .collect();
    let t = LinearTransform::matrix(&context, &m).unwrap();
    assert!(t.rotations().len() <= 24, "{}", t.rotations().len());
    let x = values(256, 99);
    let ev = Evaluator::new(&context);
    let keys = key.galois_keys(&t.rotations()).unwrap();
    let encoded = t.encode(&context, context.max_level()).unwrap();
    let ct = key
        .encrypt(&context.encode(&t.pack(&x).unwrap(), 1.0).unwrap())
        .unwrap();
    let y = ev.transform(&ct, &encoded, &keys).unwrap();
    let got = t
        .unpack(&context.decode(&key.decrypt(&y).unwrap()).unwrap(), 0)
        .unwrap();
    let error = largest(&got, &times(&m, &x));
    assert!(error <= y.noise_bound() / y.scale() && error < 1e-4, "{error}");
    assert!(y.precision_bits() > 8.0, "{}", y.precision_bits());
}
