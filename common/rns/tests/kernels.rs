//! Every backend that this CPU runs against big integers, on the same inputs.

#![allow(clippy::unwrap_used, reason = "a failure is the test result")]

use galen_rns::RnsError;
use galen_rns::kernel::{
    Backend, IntegerMatrix, Kernels, Product, WeightMatrix, matrix_product, sparse_matrix_product,
};
use galen_rns::modulus::Modulus;
use galen_rns::primes::ntt_primes;
use num_bigint::BigUint;
use proptest::prelude::*;

fn all() -> Vec<Kernels> {
    Backend::ALL
        .into_iter()
        .filter_map(|b| Kernels::on(b).ok())
        .collect()
}

fn modulus(bits: u32) -> Modulus {
    Modulus::new(ntt_primes(16, bits, 1, &[]).unwrap()[0]).unwrap()
}

/// Values below `bound`, now and then the extremes.
struct Values(u64);

impl Values {
    fn next(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        match self.0 >> 60 {
            0 => bound - 1,
            1 => 0,
            _ => (self.0 >> 8) % bound,
        }
    }

    fn vector(&mut self, length: usize, bound: u64) -> Vec<u64> {
        (0..length).map(|_| self.next(bound)).collect()
    }
}

fn residue(m: &Modulus, x: &BigUint) -> u64 {
    u64::try_from(x % m.value()).unwrap()
}

fn views(rows: &[Vec<u64>]) -> Vec<&[u64]> {
    rows.iter().map(Vec::as_slice).collect()
}

/// `sum of w x`, position by position.
fn weighted(m: &Modulus, terms: &[(&[u64], u64)], length: usize) -> Vec<u64> {
    (0..length)
        .map(|j| residue(m, &terms.iter().map(|(x, w)| BigUint::from(x[j]) * *w).sum()))
        .collect()
}

proptest! {
    #[test]
    fn pointwise(length in 0usize..70, skip in 0usize..8, bits in 10u32..=50, seed: u64) {
        let m = modulus(bits);
        let q = m.value();
        let mut values = Values(seed);
        // Slices that start anywhere in a cache line.
        let data: Vec<Vec<u64>> = (0..5).map(|_| values.vector(length + skip, q)).collect();
        let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|i| &data[i][skip..]);
        let w = values.next(q);
        let at = |f: &dyn Fn(usize) -> BigUint| (0..length).map(|j| residue(&m, &f(j))).collect::<Vec<u64>>();
        let big = |x: u64| BigUint::from(x);
        let tensor = [
            at(&|j| big(a[j]) * b[j]),
            at(&|j| big(a[j]) * d[j] + big(c[j]) * b[j]),
            at(&|j| big(c[j]) * d[j]),
        ];
        let square = [
            at(&|j| big(a[j]) * a[j]),
            at(&|j| big(a[j]) * c[j] * 2u32),
            at(&|j| big(c[j]) * c[j]),
        ];
        for k in all() {
            let name = k.backend();
            let assign = |x: &[u64], f: &dyn Fn(&mut [u64])| {
                let mut memory = vec![7; skip];
                memory.extend_from_slice(x);
                f(&mut memory[skip..]);
                memory[skip..].to_vec()
            };
            let sum = at(&|j| big(a[j]) + b[j]);
            prop_assert_eq!(assign(a, &|x| k.add_assign(&m, x, b)), &sum[..], "{}", name);
            prop_assert_eq!(assign(e, &|x| k.add_into(&m, a, b, x)), sum, "{}", name);
            let difference = at(&|j| big(a[j]) + (q - b[j]));
            prop_assert_eq!(assign(a, &|x| k.sub_assign(&m, x, b)), &difference[..], "{}", name);
            prop_assert_eq!(assign(e, &|x| k.sub_into(&m, a, b, x)), difference, "{}", name);
            let negated = at(&|j| big(q - a[j]));
            prop_assert_eq!(assign(a, &|x| k.neg_assign(&m, x)), &negated[..], "{}", name);
            prop_assert_eq!(assign(e, &|x| k.neg_into(&m, a, x)), negated, "{}", name);
            let product = at(&|j| big(a[j]) * b[j]);
            prop_assert_eq!(assign(a, &|x| k.mul_assign(&m, x, b)), &product[..], "{}", name);
            prop_assert_eq!(assign(e, &|x| k.mul_into(&m, a, b, x)), product, "{}", name);
            let accumulated = at(&|j| big(a[j]) * b[j] + c[j]);
            prop_assert_eq!(assign(c, &|x| k.mul_add_assign(&m, x, a, b)), accumulated, "{}", name);
            prop_assert_eq!(assign(a, &|x| k.add_scalar_assign(&m, x, w)), at(&|j| big(a[j]) + w), "{}", name);
            let scaled = at(&|j| big(a[j]) * w);
            prop_assert_eq!(assign(a, &|x| k.mul_scalar_assign(&m, x, w)), &scaled[..], "{}", name);
            prop_assert_eq!(assign(e, &|x| k.mul_scalar_into(&m, a, w, x)), scaled, "{}", name);
            let accumulated = at(&|j| big(a[j]) * w + c[j]);
            prop_assert_eq!(assign(c, &|x| k.mul_scalar_add_assign(&m, x, a, w)), accumulated, "{}", name);
            let divided = at(&|j| (big(a[j]) + (q - b[j])) * w);
            prop_assert_eq!(assign(b, &|x| k.sub_mul_scalar_assign(&m, x, a, w)), &divided[..], "{}", name);
            prop_assert_eq!(assign(e, &|x| k.sub_mul_scalar_into(&m, a, b, w, x)), divided, "{}", name);
            let added = at(&|j| (big(a[j]) + (q - b[j])) * w + c[j]);
            prop_assert_eq!(assign(c, &|x| k.sub_mul_scalar_add_assign(&m, x, a, b, w)), added, "{}", name);

            let triple = |f: &dyn Fn([&mut [u64]; 3])| {
                let mut out = [e, e, e].map(<[u64]>::to_vec);
                f(out.each_mut().map(Vec::as_mut_slice));
                out
            };
            let scale = |x: &[Vec<u64>; 3]| {
                let by = |x: &[u64]| x.iter().map(|&x| residue(&m, &(big(x) * w))).collect();
                [by(&x[0]), by(&x[1]), x[2].clone()]
            };
            prop_assert_eq!(triple(&|out| k.tensor(&m, [a, c], [b, d], out)), tensor.clone(), "{}", name);
            prop_assert_eq!(triple(&|out| k.square_tensor(&m, [a, c], out)), square.clone(), "{}", name);
            prop_assert_eq!(
                triple(&|out| k.scaled_tensor(&m, [a, c], [b, d], w, out)), scale(&tensor), "{}", name
            );
            prop_assert_eq!(
                triple(&|out| k.scaled_square_tensor(&m, [a, c], w, out)), scale(&square), "{}", name
            );
        }
    }

    #[test]
    fn sums(length in 0usize..80, terms in 0usize..20, bits in 10u32..=50, seed: u64) {
        let m = modulus(bits);
        let mut values = Values(seed);
        let x: Vec<Vec<u64>> = (0..terms).map(|_| values.vector(length + 3, 1 << 50)).collect();
        let b: Vec<Vec<u64>> = (0..terms).map(|_| values.vector(length, m.value())).collect();
        let a: Vec<Vec<u64>> = (0..terms).map(|_| values.vector(length, m.value())).collect();
        let weights = values.vector(terms, m.value());
        let start = [0, 1].map(|_| values.vector(length, m.value()));
        let pairs: Vec<(&[u64], u64)> = x.iter().map(Vec::as_slice).zip(weights.iter().copied()).collect();
        let expected = weighted(&m, &pairs, length);
        let inner = |y: &[Vec<u64>], start: &[u64]| -> Vec<u64> {
            (0..length)
                .map(|j| {
                    let sum: BigUint = x.iter().zip(y).map(|(x, y)| BigUint::from(x[j]) * y[j]).sum();
                    residue(&m, &(sum + start[j]))
                })
                .collect()
        };
        let zero = vec![0; length];
        for k in all() {
            let mut out = vec![7; length];
            k.linear_combination(&m, &views(&x), &weights, &mut out);
            prop_assert_eq!(&out, &expected, "{}", k.backend());
            let (mut first, mut second) = (vec![7; length], vec![7; length]);
            k.inner_products(&m, &views(&x), &views(&b), &views(&a), [&mut first, &mut second]);
            prop_assert_eq!([first, second], [inner(&b, &zero), inner(&a, &zero)], "{}", k.backend());
            let [mut first, mut second] = start.clone();
            k.inner_products_add(&m, &views(&x), &views(&b), &views(&a), [&mut first, &mut second]);
            prop_assert_eq!(
                [first, second], [inner(&b, &start[0]), inner(&a, &start[1])], "{}", k.backend()
            );
        }
    }

    #[test]
    fn matrices(rows in 0usize..20, cols in 1usize..12, length in 0usize..300, bits in 10u32..=50, seed: u64) {
        let m = modulus(bits);
        let mut values = Values(seed);
        let inputs: Vec<Vec<u64>> = (0..cols).map(|_| values.vector(length, 1 << 50)).collect();
        let weights = values.vector(rows * cols, m.value());
        // Some rows share their inputs, some have none or one twice.
        let lists: Vec<Vec<(usize, u64)>> = (0..rows)
            .map(|r| {
                let count = (r / 3) % 5;
                (0..count).map(|i| ((r / 6 + 2 * i) % cols, values.next(m.value()))).collect()
            })
            .collect();
        let start: Vec<Vec<u64>> = (0..rows).map(|_| values.vector(length, m.value())).collect();
        let dense: Vec<Vec<u64>> = weights
            .chunks(cols)
            .map(|row| {
                let pairs: Vec<(&[u64], u64)> =
                    inputs.iter().map(Vec::as_slice).zip(row.iter().copied()).collect();
                weighted(&m, &pairs, length)
            })
            .collect();
        let sparse: Vec<Vec<u64>> = lists
            .iter()
            .map(|row| {
                let pairs: Vec<(&[u64], u64)> = row.iter().map(|&(c, w)| (inputs[c].as_slice(), w)).collect();
                weighted(&m, &pairs, length)
            })
            .collect();
        for k in all() {
            let products = [
                (WeightMatrix::dense_on(k, &m, cols, &weights).unwrap(), &dense),
                (WeightMatrix::sparse_on(k, &m, cols, &lists).unwrap(), &sparse),
            ];
            for (matrix, expected) in products {
                prop_assert_eq!((matrix.rows(), matrix.cols()), (rows, cols));
                let mut out = vec![vec![7; length]; rows];
                matrix.apply(&views(&inputs), &mut mutable(&mut out)).unwrap();
                prop_assert_eq!(&out, expected, "{}", k.backend());
                let mut out = vec![vec![7; length]; rows];
                matrix.apply_serial(&views(&inputs), &mut mutable(&mut out)).unwrap();
                prop_assert_eq!(&out, expected, "{}", k.backend());
                let mut out = start.clone();
                matrix.apply_add(&views(&inputs), &mut mutable(&mut out)).unwrap();
                for ((out, start), expected) in out.iter().zip(&start).zip(expected) {
                    for ((&x, &s), &e) in out.iter().zip(start).zip(expected) {
                        prop_assert_eq!(x, m.add(s, e), "{}", k.backend());
                    }
                }
            }
        }
    }
}

fn mutable(rows: &mut [Vec<u64>]) -> Vec<&mut [u64]> {
    rows.iter_mut().map(Vec::as_mut_slice).collect()
}

#[test]
fn extreme_values_over_many_terms() {
    let tiny = [3, 251, 257].map(|q| Modulus::new(q).unwrap());
    for m in [20, 49, 50].map(modulus).into_iter().chain(tiny) {
        let q = m.value();
        let input = vec![(1u64 << 50) - 1; 40];
        let factor = vec![q - 1; 40];
        // Miri takes seconds for what takes microseconds.
        let terms: &[usize] = if cfg!(miri) {
            &[1, 16]
        } else {
            &[1, 15, 16, 1023, 1024, 1025, 5000]
        };
        for &terms in terms {
            let x = vec![input.as_slice(); terms];
            let y = vec![factor.as_slice(); terms];
            let weights = vec![q - 1; terms];
            let sum = BigUint::from((1u64 << 50) - 1) * (q - 1) * terms;
            let expected = residue(&m, &sum);
            let added = residue(&m, &(sum + (q - 1)));
            for k in all() {
                let mut out = vec![0; 40];
                k.linear_combination(&m, &x, &weights, &mut out);
                assert!(out.iter().all(|&x| x == expected), "{}", k.backend());
                let (mut first, mut second) = (factor.clone(), factor.clone());
                k.inner_products_add(&m, &x, &y, &y, [&mut first, &mut second]);
                assert!(
                    first.iter().chain(&second).all(|&x| x == added),
                    "{}",
                    k.backend()
                );
                for rows in 1..=7 {
                    let weights = vec![q - 1; terms * rows];
                    let matrix = WeightMatrix::dense_on(k, &m, terms, &weights).unwrap();
                    let mut out = vec![factor.clone(); rows];
                    matrix.apply_add(&x, &mut mutable(&mut out)).unwrap();
                    assert!(out.iter().flatten().all(|&x| x == added), "{}", k.backend());
                }
            }
        }
    }
}

#[test]
fn products_do_not_depend_on_threads() {
    let m = modulus(50);
    let mut values = Values(1);
    let (rows, cols, length) = (13, 40, 5000);
    let inputs: Vec<Vec<u64>> = (0..cols).map(|_| values.vector(length, 1 << 50)).collect();
    let weights = values.vector(rows * cols, m.value());
    let results: Vec<Vec<Vec<u64>>> = [1, 2, 3, 7]
        .into_iter()
        .map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let mut out = vec![vec![7; length]; rows];
            pool.install(|| matrix_product(&m, &weights, &views(&inputs), &mut mutable(&mut out)))
                .unwrap();
            out
        })
        .collect();
    assert!(results.iter().all(|out| *out == results[0]));
    let mut single = vec![0; length];
    Kernels::active().linear_combination(&m, &views(&inputs), &weights[..cols], &mut single);
    assert_eq!(results[0][0], single);
}

#[test]
fn products_without_inputs_are_zero() {
    let m = modulus(40);
    let mut out = vec![vec![7; 5]; 2];
    matrix_product(&m, &[], &[], &mut mutable(&mut out)).unwrap();
    assert_eq!(out, vec![vec![0; 5]; 2]);
    let mut out = vec![vec![7; 5]; 2];
    sparse_matrix_product(&m, &[vec![], vec![]], &[], &mut mutable(&mut out)).unwrap();
    assert_eq!(out, vec![vec![0; 5]; 2]);
}

#[test]
fn refuses_what_does_not_fit() {
    let m = modulus(40);
    let q = m.value();
    let length = |expected, actual| Err(RnsError::Length { expected, actual });
    assert_eq!(WeightMatrix::dense(&m, 2, &[1, 2, 3]).map(|_| ()), length(2, 3));
    assert_eq!(
        WeightMatrix::dense(&m, 2, &[1, q]).map(|_| ()),
        Err(RnsError::ResidueRange { index: 1, modulus: q })
    );
    assert_eq!(
        WeightMatrix::sparse(&m, 2, &[vec![(2, 1)]]).map(|_| ()),
        length(2, 3)
    );
    assert_eq!(
        WeightMatrix::sparse(&m, 2, &[vec![(0, q)]]).map(|_| ()),
        Err(RnsError::ResidueRange { index: 0, modulus: q })
    );
    let matrix = WeightMatrix::dense(&m, 2, &[1, 2]).unwrap();
    let (x, mut y, mut z) = ([1, 2, 3], [0; 3], [0; 4]);
    assert_eq!(matrix.apply(&[&x], &mut [&mut y]), length(2, 1));
    assert_eq!(matrix.apply(&[&x, &x], &mut [&mut y, &mut [0; 3]]), length(1, 2));
    assert_eq!(matrix.apply(&[&x, &x], &mut [&mut z]), length(4, 3));
    assert_eq!(matrix.apply(&[&x, &x], &mut [&mut y]), Ok(()));
    assert_eq!(y, [3, 6, 9]);
}

/// Integers of at most so many bits, now and then the extremes.
fn integers(values: &mut Values, length: usize, bits: u32) -> Vec<i32> {
    let range = 1i64 << bits;
    let next = |_| (values.next(2 * range as u64 + 1) as i64 - range) as i32;
    (0..length).map(next).collect()
}

fn present<'a>(inputs: &[&'a [u64]]) -> Vec<Option<&'a [u64]>> {
    inputs.iter().copied().map(Some).collect()
}

/// `sum of w x`, position by position.
fn weighted_integers(m: &Modulus, terms: &[(&[u64], i32)], length: usize) -> Vec<u64> {
    let residues: Vec<(&[u64], u64)> = terms
        .iter()
        .map(|&(x, w)| (x, m.reduce_i64(i64::from(w))))
        .collect();
    weighted(m, &residues, length)
}

proptest! {
    #[test]
    fn integer_matrices(
        rows in 0usize..11,
        cols in 1usize..12,
        length in 0usize..300,
        bits in prop_oneof![10u32..=50, 38u32..=41],
        weight_bits in 1u32..=27,
        seed: u64,
    ) {
        let m = modulus(bits);
        let mut values = Values(seed);
        let inputs: Vec<Vec<u64>> = (0..cols).map(|_| values.vector(length, m.value())).collect();
        let weights = integers(&mut values, rows * cols, weight_bits);
        // Some rows share their inputs, some have none or one twice, some have small weights only.
        let lists: Vec<Vec<(usize, i32)>> = (0..rows)
            .map(|r| {
                let own = integers(&mut values, (r / 3) % 5, if r % 2 == 0 { weight_bits } else { 2 });
                own.into_iter().enumerate().map(|(i, w)| ((r / 6 + 2 * i) % cols, w)).collect()
            })
            .collect();
        let dense: Vec<Vec<u64>> = weights
            .chunks(cols)
            .map(|row| {
                let terms: Vec<(&[u64], i32)> =
                    inputs.iter().map(Vec::as_slice).zip(row.iter().copied()).collect();
                weighted_integers(&m, &terms, length)
            })
            .collect();
        let sparse: Vec<Vec<u64>> = lists
            .iter()
            .map(|row| {
                let terms: Vec<(&[u64], i32)> = row.iter().map(|&(c, w)| (inputs[c].as_slice(), w)).collect();
                weighted_integers(&m, &terms, length)
            })
            .collect();
        for k in all() {
            let products = [
                (IntegerMatrix::dense_on(k, cols, &weights).unwrap(), &dense),
                (IntegerMatrix::sparse_on(k, cols, &lists).unwrap(), &sparse),
            ];
            for (matrix, expected) in products {
                prop_assert_eq!((matrix.rows(), matrix.cols()), (rows, cols));
                let mut out = vec![vec![7; length]; rows];
                let product = Product {
                    modulus: &m,
                    inputs: present(&views(&inputs)),
                    outputs: mutable(&mut out),
                };
                matrix.apply(&mut [product]).unwrap();
                prop_assert_eq!(&out, expected, "{}", k.backend());
            }
        }
    }
}

/// The largest residues and weights of either sign, over rows so long that sums of 32 and of 64 bits are folded many times.
#[test]
fn extreme_integers_over_many_terms() {
    let tiny = [3, 251, 257].map(|q| Modulus::new(q).unwrap());
    for m in [20, 38, 40, 41, 49, 50].map(modulus).into_iter().chain(tiny) {
        let q = m.value();
        let terms: &[usize] = if cfg!(miri) {
            &[1, 16]
        } else {
            &[1, 2, 7, 8, 9, 511, 512, 1025, 40_000]
        };
        // All digits as far from zero as they get, among others.
        let halves = |bits: u32, pieces: u32| (0..pieces).fold(0u64, |x, i| x | 1 << (bits * (i + 1) - 1));
        let largest = [
            q - 1,
            q / 2,
            halves(14, 3) % q,
            (halves(14, 3) - 1) % q,
            halves(13, 4) % q,
        ];
        for x in largest {
            let input = vec![x; 10];
            for &terms in terms {
                let inputs = vec![input.as_slice(); terms];
                for weight in [
                    1,
                    511,
                    512,
                    8191,
                    8192,
                    32_767,
                    -32_768,
                    32_768,
                    -32_769,
                    1 << 27,
                    -(1 << 27),
                ] {
                    let sum = BigUint::from(x) * m.reduce_i64(i64::from(weight)) * terms;
                    let expected = residue(&m, &sum);
                    let rows = 1 + terms % 5;
                    let weights = vec![weight; terms * rows];
                    for k in all() {
                        let matrix = IntegerMatrix::dense_on(k, terms, &weights).unwrap();
                        let mut out = vec![vec![0; 10]; rows];
                        let product = Product {
                            modulus: &m,
                            inputs: present(&inputs),
                            outputs: mutable(&mut out),
                        };
                        matrix.apply(&mut [product]).unwrap();
                        assert!(
                            out.iter().flatten().all(|&x| x == expected),
                            "{} {q} {x} {weight} {terms}",
                            k.backend()
                        );
                    }
                }
            }
        }
    }
}

/// Several products at once, on any number of threads.
#[test]
fn integer_products_do_not_depend_on_threads() {
    let primes = [modulus(40), modulus(50), modulus(38)];
    let mut values = Values(1);
    let (rows, cols, length) = (13, 41, 5000);
    let weights = integers(&mut values, rows * cols, 16);
    let matrix = IntegerMatrix::dense(cols, &weights).unwrap();
    let inputs: Vec<Vec<Vec<u64>>> = primes
        .iter()
        .map(|m| (0..cols).map(|_| values.vector(length, m.value())).collect())
        .collect();
    let results: Vec<Vec<Vec<Vec<u64>>>> = [1, 2, 3, 7]
        .into_iter()
        .map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let mut out = vec![vec![vec![7; length]; rows]; 3];
            let mut products: Vec<Product<'_>> = primes
                .iter()
                .zip(&inputs)
                .zip(&mut out)
                .map(|((modulus, inputs), out)| Product {
                    modulus,
                    inputs: present(&views(inputs)),
                    outputs: mutable(out),
                })
                .collect();
            pool.install(|| matrix.apply(&mut products)).unwrap();
            out
        })
        .collect();
    assert!(results.iter().all(|out| *out == results[0]));
    for ((m, inputs), out) in primes.iter().zip(&inputs).zip(&results[0]) {
        let residues: Vec<u64> = weights.iter().map(|&w| m.reduce_i64(i64::from(w))).collect();
        let mut same = vec![vec![7; length]; rows];
        matrix_product(m, &residues, &views(inputs), &mut mutable(&mut same)).unwrap();
        assert_eq!(out, &same);
    }
}

#[test]
fn integer_matrices_refuse_what_does_not_fit() {
    let length = |expected, actual| Err(RnsError::Length { expected, actual });
    assert_eq!(IntegerMatrix::dense(2, &[1, 2, 3]).map(|_| ()), length(2, 3));
    assert_eq!(
        IntegerMatrix::sparse(2, &[vec![(2, 1)]]).map(|_| ()),
        length(2, 3)
    );
    for weight in [1 + (1 << 27), i32::MIN] {
        assert_eq!(
            IntegerMatrix::dense(2, &[1, weight]).map(|_| ()),
            Err(RnsError::Weight { index: 1, weight })
        );
        assert!(IntegerMatrix::sparse(2, &[vec![(0, 1), (1, weight)]]).is_err());
    }
    let many = IntegerMatrix::MAX_COLS + 1;
    assert!(IntegerMatrix::dense(many, &vec![1; many]).is_err());
    let m = modulus(40);
    let matrix = IntegerMatrix::dense(2, &[1, -2]).unwrap();
    let (x, y) = ([1, 2, 3], [3, 1, 4]);
    let apply = |inputs: &[&[u64]], outputs: &mut [Vec<u64>]| {
        matrix.apply(&mut [Product {
            modulus: &m,
            inputs: present(inputs),
            outputs: mutable(outputs),
        }])
    };
    assert_eq!(apply(&[&x], &mut [vec![0; 3]]), length(2, 1));
    assert_eq!(apply(&[&x, &y], &mut [vec![0; 3], vec![0; 3]]), length(1, 2));
    assert_eq!(apply(&[&x, &y], &mut [vec![0; 4]]), length(4, 3));
    let mut out = [vec![0; 3]];
    assert_eq!(apply(&[&x, &y], &mut out), Ok(()));
    assert_eq!(out, [[m.value() - 5, 0, m.value() - 5]]);
    // An input that is not there counts as zeros.
    let product = Product {
        modulus: &m,
        inputs: vec![Some(&x), None],
        outputs: mutable(&mut out),
    };
    assert_eq!(matrix.apply(&mut [product]), Ok(()));
    assert_eq!(out, [x]);
}
