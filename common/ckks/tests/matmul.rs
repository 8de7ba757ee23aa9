//! Products of encrypted matrices against products in the clear.
#![allow(clippy::unwrap_used, reason = "a failure is the test result")]

mod common;

use common::{preset, values};
use galen_ckks::CkksError;
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::context::Context;
use galen_ckks::evaluate::Evaluator;
use galen_ckks::keys::SecretKey;
use galen_ckks::matmul::{BlockMatrix, CiphertextMatrix, PackedProduct};
use galen_ckks::preset::{Preset, PresetSpec};
use galen_rns::ring::RingKind;
use galen_rns::threads::Threads;
use std::sync::Arc;

type Matrix = Vec<Vec<f64>>;

fn small(ring: RingKind) -> Arc<Context> {
    let spec = PresetSpec {
        ring,
        degree: 256,
        base_bits: 50,
        levels: 3,
        scale_bits: 40,
        special: 2,
        special_bits: 50,
        digit: 2,
    };
    Context::new(&Preset::insecure_for_tests(spec).unwrap()).unwrap()
}

fn matrix(rows: usize, columns: usize, salt: u64) -> Matrix {
    (0..rows)
        .map(|i| values(columns, 1000 * salt + i as u64))
        .collect()
}

fn times(a: &Matrix, b: &Matrix) -> Matrix {
    let dot = |row: &[f64], j: usize| row.iter().zip(b).map(|(x, row)| x * row[j]).sum();
    a.iter()
        .map(|row| (0..b[0].len()).map(|j| dot(row, j)).collect())
        .collect()
}

fn largest(a: &Matrix, b: &Matrix) -> f64 {
    assert_eq!((a.len(), a[0].len()), (b.len(), b[0].len()));
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    pairs.map(|(x, y)| (x - y).abs()).fold(0.0, f64::max)
}

struct World {
    context: Arc<Context>,
    ev: Evaluator,
    key: SecretKey,
}

impl World {
    fn new(context: Arc<Context>) -> Self {
        Self {
            ev: Evaluator::new(&context),
            key: SecretKey::from_seed(&context, &[4; 32]).unwrap(),
            context,
        }
    }

    fn encrypt(&self, product: &PackedProduct, matrices: &[Matrix]) -> BlockMatrix {
        let blocks = product.encode(&self.context, matrices, 1.0).unwrap();
        blocks.encrypt(|plain| self.key.encrypt(plain)).unwrap()
    }

    fn decode(&self, ct: &Ciphertext) -> Result<Vec<f64>, CkksError> {
        self.context.decode(&self.key.decrypt(ct)?)
    }
}

#[test]
fn packed_products() {
    for kind in [RingKind::Cyclotomic, RingKind::ConjugateInvariant] {
        let w = World::new(small(kind));
        let relin = w.key.relin_key().unwrap();
        for (d, rows, middle, columns) in [
            (1, 1, 1, 1),
            (2, 2, 2, 2),
            (4, 4, 4, 4),
            (4, 3, 2, 4),
            (8, 8, 8, 8),
            (8, 5, 7, 1),
            (4, 6, 5, 9),
            (2, 1, 5, 3),
        ] {
            let product = PackedProduct::new(&w.context, d, 3).unwrap();
            assert_eq!(product.lanes(), w.context.slots() / (d * d));
            let mut rotations = product.rotations();
            assert!(rotations.len() <= 3 * d + 2 * d.ilog2() as usize + 4);
            rotations.push(1);
            let keys = w.key.galois_keys(&rotations).unwrap();
            // All lanes but the last one, or the only one.
            let lanes = (product.lanes() - 1).max(1) as u64;
            let a: Vec<Matrix> = (0..lanes).map(|lane| matrix(rows, middle, lane)).collect();
            let b: Vec<Matrix> = (0..lanes)
                .map(|lane| matrix(middle, columns, 100 + lane))
                .collect();
            let (ca, cb) = (w.encrypt(&product, &a), w.encrypt(&product, &b));
            let c = w.ev.packed_product(&product, &ca, &cb, &relin, &keys).unwrap();
            assert_eq!((c.rows(), c.columns()), (rows, columns));
            assert_eq!(c.blocks().len(), rows.div_ceil(d) * columns.div_ceil(d));
            let mut bound = 0.0f64;
            for block in c.blocks() {
                assert_eq!((block.level(), block.degree()), (1, 1));
                assert_eq!(block.scale(), w.context.scale(1).unwrap());
                assert!(block.magnitude_bound() <= middle as f64);
                bound = bound.max(block.noise_bound() / block.scale());
            }
            assert!(bound < 1e-4, "{bound}");
            let got = product.decode(&c, |ct| w.decode(ct)).unwrap();
            for (lane, got) in got.iter().enumerate() {
                let zero = vec![vec![0.0; columns]; rows];
                let exact = a.get(lane).map_or(zero, |a| times(a, &b[lane]));
                let error = largest(got, &exact);
                assert!(
                    error <= bound && error < 1e-6,
                    "{d}: {rows} x {middle} x {columns}: {error}"
                );
            }
        }
    }
}

/// Results are operands again: two levels each.
#[test]
fn packed_products_at_128_bits() {
    let w = World::new(preset("n16384_q50_6x45_p2x50"));
    let relin = w.key.relin_key().unwrap();
    let first = PackedProduct::new(&w.context, 16, 5).unwrap();
    let second = PackedProduct::new(&w.context, 16, 3).unwrap();
    let keys = w.key.galois_keys(&first.rotations()).unwrap();
    let lanes = first.lanes();
    assert_eq!(lanes, 32);
    let a: Vec<Matrix> = (0..lanes).map(|lane| matrix(16, 16, lane as u64)).collect();
    let ca = w.encrypt(&first, &a);
    let square = w.ev.packed_product(&first, &ca, &ca, &relin, &keys).unwrap();
    let cube = w.ev.packed_product(&second, &square, &ca, &relin, &keys).unwrap();
    assert_eq!(cube.blocks()[0].level(), 1);
    let bound = cube.blocks()[0].noise_bound() / cube.blocks()[0].scale();
    let got = second.decode(&cube, |ct| w.decode(ct)).unwrap();
    for (got, a) in got.iter().zip(&a) {
        let error = largest(got, &times(&times(a, a), a));
        assert!(error <= bound && error < 1e-4, "{error} {bound}");
    }
}

#[test]
fn packed_refusals() {
    let w = World::new(small(RingKind::Cyclotomic));
    assert_eq!(
        PackedProduct::new(&w.context, 3, 3).unwrap_err(),
        CkksError::NotPowerOfTwo { count: 3 }
    );
    assert!(matches!(
        PackedProduct::new(&w.context, 16, 3),
        Err(CkksError::Count { count: 256, .. })
    ));
    assert_eq!(
        PackedProduct::new(&w.context, 4, 1).unwrap_err(),
        CkksError::Levels {
            needed: 2,
            available: 1
        }
    );
    assert!(matches!(
        PackedProduct::new(&w.context, 4, 9),
        Err(CkksError::LevelRange { .. })
    ));
    let product = PackedProduct::new(&w.context, 4, 3).unwrap();
    let encode = |m: &[Matrix]| product.encode(&w.context, m, 1.0);
    assert!(matches!(encode(&[]), Err(CkksError::Count { .. })));
    assert!(matches!(encode(&[vec![]]), Err(CkksError::Count { .. })));
    assert!(matches!(encode(&[vec![vec![]]]), Err(CkksError::Count { .. })));
    assert!(matches!(
        encode(&[matrix(2, 2, 1), matrix(2, 3, 1)]),
        Err(CkksError::Count { .. })
    ));
    assert!(matches!(
        encode(&vec![matrix(1, 1, 1); product.lanes() + 1]),
        Err(CkksError::Count { .. })
    ));
    assert!(matches!(
        encode(&[vec![vec![2.0]]]),
        Err(CkksError::Magnitude { .. })
    ));
    let relin = w.key.relin_key().unwrap();
    let keys = w.key.galois_keys(&product.rotations()).unwrap();
    let (a, b) = (
        w.encrypt(&product, &[matrix(2, 3, 1)]),
        w.encrypt(&product, &[matrix(2, 3, 1)]),
    );
    assert_eq!(
        w.ev.packed_product(&product, &a, &b, &relin, &keys).unwrap_err(),
        CkksError::Count {
            count: 2,
            min: 3,
            max: 3
        }
    );
    let b = w.encrypt(&product, &[matrix(3, 3, 1)]);
    let fewer = w.key.galois_keys(&product.rotations()[1..]).unwrap();
    assert!(matches!(
        w.ev.packed_product(&product, &a, &b, &relin, &fewer),
        Err(CkksError::MissingRotation { .. })
    ));
}

#[test]
fn batches() {
    let w = World::new(small(RingKind::Cyclotomic));
    let relin = w.key.relin_key().unwrap();
    let slots = w.context.slots();
    for (rows, middle, columns) in [(1, 1, 1), (2, 3, 4), (3, 1, 2), (1, 8, 1)] {
        let operand = |rows: usize, columns: usize, salt: u64| -> (Vec<Vec<f64>>, CiphertextMatrix) {
            let x: Vec<Vec<f64>> = (0..rows * columns)
                .map(|k| values(slots, salt + k as u64))
                .collect();
            let encrypted = x
                .iter()
                .map(|x| w.key.encrypt(&w.context.encode(x, 1.0).unwrap()).unwrap())
                .collect();
            (x, CiphertextMatrix::new(rows, columns, encrypted).unwrap())
        };
        let ((x, a), (y, b)) = (operand(rows, middle, 1), operand(middle, columns, 500));
        let c = w.ev.matrix_product(&a, &b, &relin).unwrap();
        assert_eq!((c.rows(), c.columns()), (rows, columns));
        for i in 0..rows {
            for j in 0..columns {
                let ct = c.get(i, j).unwrap();
                assert_eq!((ct.level(), ct.degree()), (2, 1));
                assert_eq!(ct.scale(), w.context.scale(2).unwrap());
                let bound = ct.noise_bound() / ct.scale();
                assert!(bound < 1e-6);
                for (slot, got) in w.decode(ct).unwrap().iter().enumerate() {
                    let exact: f64 = (0..middle)
                        .map(|k| x[i * middle + k][slot] * y[k * columns + j][slot])
                        .sum();
                    assert!((got - exact).abs() <= bound);
                }
            }
        }
        assert!(c.get(rows, 0).is_none() && c.get(0, columns).is_none());
    }
}

/// Elements of any levels, scales and degrees.
#[test]
fn batches_align() {
    let w = World::new(small(RingKind::Cyclotomic));
    let relin = w.key.relin_key().unwrap();
    let x = values(w.context.slots(), 1);
    let fresh = w.key.encrypt(&w.context.encode(&x, 1.0).unwrap()).unwrap();
    let square = w.ev.square(&fresh).unwrap();
    let a = CiphertextMatrix::new(1, 2, vec![fresh.clone(), square.clone()]).unwrap();
    let b = CiphertextMatrix::new(2, 1, vec![fresh.clone(), fresh.clone()]).unwrap();
    let c = w.ev.matrix_product(&a, &b, &relin).unwrap();
    let ct = &c.elements()[0];
    assert_eq!((ct.level(), ct.scale()), (1, w.context.scale(1).unwrap()));
    for (got, x) in w.decode(ct).unwrap().iter().zip(&x) {
        assert!((got - (x * x + x * x * x)).abs() < 1e-6);
    }
    assert!(matches!(
        w.ev.matrix_product(&a, &a, &relin),
        Err(CkksError::Count {
            count: 1,
            min: 2,
            max: 2
        })
    ));
    assert!(CiphertextMatrix::new(0, 1, vec![]).is_err());
    assert!(CiphertextMatrix::new(1, 0, vec![]).is_err());
    assert!(CiphertextMatrix::new(2, 2, vec![fresh]).is_err());
}

/// Many products at once are what they are one after the other, bit for bit.
#[test]
fn sums_of_products() {
    for kind in [RingKind::Cyclotomic, RingKind::ConjugateInvariant] {
        let w = World::new(small(kind));
        let level = w.context.max_level();
        let scale = w.context.scale(level).unwrap();
        let encode = |salt: u64| w.context.encode(&values(w.context.slots(), salt), 1.0).unwrap();
        let cts: Vec<Ciphertext> = (0..40).map(|k| w.key.encrypt(&encode(k)).unwrap()).collect();
        for count in [1, 2, 17, 40] {
            let pairs: Vec<_> = cts[..count].iter().zip(cts.iter().rev()).collect();
            let mut expected = w.ev.multiply(pairs[0].0, pairs[0].1).unwrap();
            for (a, b) in &pairs[1..] {
                w.ev.multiply_add_assign(&mut expected, a, b).unwrap();
            }
            assert_eq!(w.ev.sum_of_products(&pairs).unwrap(), expected);

            let plaintexts: Vec<_> = (0..count as u64).map(|k| encode(100 + k)).collect();
            let pairs: Vec<_> = cts[..count].iter().zip(&plaintexts).collect();
            let mut expected = w.ev.mul_plain(pairs[0].0, pairs[0].1).unwrap();
            for (a, plaintext) in &pairs[1..] {
                w.ev.add_assign(&mut expected, &w.ev.mul_plain(a, plaintext).unwrap())
                    .unwrap();
            }
            assert_eq!(w.ev.sum_of_plain_products(&pairs).unwrap(), expected);

            let extended: Vec<_> = cts[..count].iter().map(|ct| w.ev.extend(ct).unwrap()).collect();
            let plaintexts: Vec<_> = (0..count as u64)
                .map(|k| {
                    let x = values(w.context.slots(), 200 + k);
                    w.context.encode_extended(&x, 1.0, level, scale).unwrap()
                })
                .collect();
            let pairs: Vec<_> = extended.iter().zip(&plaintexts).collect();
            let mut expected = w.ev.mul_extended(pairs[0].0, pairs[0].1).unwrap();
            for (a, plaintext) in &pairs[1..] {
                w.ev.mul_add_extended(&mut expected, a, plaintext).unwrap();
            }
            let sum = w.ev.sum_of_extended_products(&pairs).unwrap();
            assert_eq!(w.ev.reduce(&sum).unwrap(), w.ev.reduce(&expected).unwrap());
        }
        let lower = w.ev.drop_level(&cts[0], 1).unwrap();
        let square = w.ev.square(&cts[0]).unwrap();
        assert!(matches!(
            w.ev.sum_of_products(&[]),
            Err(CkksError::Count { count: 0, .. })
        ));
        assert!(matches!(
            w.ev.sum_of_products(&[(&cts[0], &cts[1]), (&lower, &lower)]),
            Err(CkksError::LevelMismatch { .. })
        ));
        assert!(matches!(
            w.ev.sum_of_products(&[(&cts[0], &square)]),
            Err(CkksError::CiphertextDegree { .. })
        ));
        let other = w.context.encode_at(&[1.0], 1.0, level, 2.0 * scale).unwrap();
        let first = encode(1);
        assert!(matches!(
            w.ev.sum_of_plain_products(&[(&cts[0], &first), (&cts[0], &other)]),
            Err(CkksError::ScaleMismatch { .. })
        ));
        assert!(w.ev.sum_of_plain_products(&[]).is_err() && w.ev.sum_of_extended_products(&[]).is_err());
    }
}

/// Byte for byte the same with one thread and with three.
#[test]
fn threads_change_nothing() {
    let w = World::new(small(RingKind::Cyclotomic));
    let relin = w.key.relin_key().unwrap();
    let product = PackedProduct::new(&w.context, 4, 3).unwrap();
    let keys = w.key.galois_keys(&product.rotations()).unwrap();
    let (a, b) = (
        w.encrypt(&product, &[matrix(6, 5, 1)]),
        w.encrypt(&product, &[matrix(5, 7, 2)]),
    );
    let batch = CiphertextMatrix::new(2, 2, a.blocks().to_vec()).unwrap();
    let run = |threads: usize| {
        Threads::new(threads).unwrap().install(|| {
            (
                w.ev.packed_product(&product, &a, &b, &relin, &keys).unwrap(),
                w.ev.matrix_product(&batch, &batch, &relin).unwrap(),
            )
        })
    };
    assert!(run(1) == run(3));
}

/// Plaintexts that are large in different slots: their sum is bounded by the largest slot, and the real error is within that.
#[test]
fn sums_of_products_are_bounded_by_rows() {
    for kind in [RingKind::Cyclotomic, RingKind::ConjugateInvariant] {
        let w = World::new(small(kind));
        let slots = w.context.slots();
        let count = 32;
        let inputs: Vec<Vec<f64>> = (0..count).map(|k| values(slots, k)).collect();
        let weight = |k: u64, slot: usize| if slot as u64 % count == k { 1.0 } else { 0.01 };
        let cts: Vec<Ciphertext> = inputs
            .iter()
            .map(|x| w.key.encrypt(&w.context.encode(x, 1.0).unwrap()).unwrap())
            .collect();
        let plaintexts: Vec<_> = (0..count)
            .map(|k| {
                let weights: Vec<f64> = (0..slots).map(|slot| weight(k, slot)).collect();
                w.context.encode(&weights, 1.0).unwrap()
            })
            .collect();
        let pairs: Vec<_> = cts.iter().zip(&plaintexts).collect();
        let row = 1.0 + 0.01 * (count - 1) as f64;
        let by_products = w.ev.sum_of_plain_products(&pairs).unwrap();
        let by_rows = w.ev.sum_of_plain_products_by_rows(&pairs, row).unwrap();
        assert_eq!(by_rows.parts(), by_products.parts());
        assert!(by_rows.magnitude_bound() <= row && by_products.magnitude_bound() > 20.0);
        assert!(by_rows.noise_bound() < by_products.noise_bound());
        let found = w.context.decode(&w.key.decrypt(&by_rows).unwrap()).unwrap();
        let bound = by_rows.noise_bound() / by_rows.scale();
        let mut largest = 0.0f64;
        for (slot, found) in found.iter().enumerate() {
            let products = (0..count).zip(&inputs).map(|(k, x)| weight(k, slot) * x[slot]);
            largest = largest.max((found - products.sum::<f64>()).abs());
        }
        assert!(largest <= bound && largest > bound / 1000.0, "{largest} {bound}");
        // A smaller bound on noise is taken as it is, one that does not fit is refused.
        let quieter = by_rows.clone().with_noise_bound(&w.context, 1.0).unwrap();
        assert_eq!(quieter.noise_bound(), 1.0);
        assert!(matches!(
            by_rows.with_noise_bound(&w.context, 1e300),
            Err(CkksError::Overflow { .. })
        ));
    }
}
