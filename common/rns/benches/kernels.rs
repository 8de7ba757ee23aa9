//! Rates of the kernels, one thread: `cargo bench -p galen-rns --bench kernels`.
//!
//! The matrix products are compared with the peak of the two instructions that they are made of, measured in the same
//! run by a loop that does nothing else.
#![allow(clippy::print_stdout, reason = "printing is what this is for")]

use galen_measure::{machine, peak_mib, thread_time};
use galen_rns::RnsError;
use galen_rns::basis::{BasisConverter, ModDown};
use galen_rns::kernel::{self, Backend, Kernels, WeightMatrix};
use galen_rns::modulus::Modulus;
use galen_rns::primes::ntt_primes;
use galen_rns::ring::Ring;
use galen_rns::words::Words;
use std::hint::black_box;

/// Primes of an element in the vector operations: as many as a chain of six levels has.
const PRIMES: usize = 7;

fn main() -> Result<(), RnsError> {
    println!("{}; one thread is used", machine());
    println!("{}", kernel::describe());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    if let Ok(pool) = pool {
        pool.install(measure)?;
    }
    if let Some(mib) = peak_mib() {
        println!("peak memory: {mib:.0} MiB");
    }
    Ok(())
}

fn measure() -> Result<(), RnsError> {
    let available: Vec<Kernels> = Backend::ALL
        .into_iter()
        .filter_map(|b| Kernels::on(b).ok())
        .collect();
    for degree in [8192, 16384] {
        for &kernels in &available {
            vectors(kernels, degree)?;
        }
        conversion(degree)?;
    }
    for degree in [8192, 16384] {
        for &kernels in &available {
            products(kernels, degree)?;
        }
    }
    println!("one tile, modular multiply-adds per second, fastest (middle) of the runs");
    available.into_iter().try_for_each(tile)
}

/// Nanoseconds that this thread has computed: what other programs take of the processor meanwhile does not count.
fn clock() -> f64 {
    thread_time().as_secs_f64() * 1e9
}

/// Nanoseconds of the fastest and the middle one of some runs.
fn time(runs: usize, mut run: impl FnMut()) -> (f64, f64) {
    let mut times: Vec<f64> = (0..runs)
        .map(|_| {
            let start = clock();
            run();
            clock() - start
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[0], times[runs / 2])
}

/// Fills vectors with values below `bound`, the same in each run.
fn fill(state: &mut u64, length: usize, bound: u64) -> Vec<u64> {
    let mut next = || {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (*state >> 8) % bound
    };
    (0..length).map(|_| next()).collect()
}

/// Elementwise operations on all primes of an element.
fn vectors(kernels: Kernels, n: usize) -> Result<(), RnsError> {
    let ring = Ring::new(n, &ntt_primes(n, 40, PRIMES, &[])?)?;
    let moduli = ring.moduli();
    let mut state = 1;
    let mut element = || {
        let rows = moduli.iter().flat_map(|m| fill(&mut state, n, m.value()));
        Words::from_slice(&rows.collect::<Vec<u64>>())
    };
    let (a, b, c, d) = (element(), element(), element(), element());
    let mut out = [element(), element(), element()];
    let row = |x: &'static str| x;
    println!(
        "N = {n}, {PRIMES} primes, {}: ns per word, fastest (middle)",
        kernels.backend()
    );
    let words = (n * PRIMES) as f64;
    let report = |name: &str, (fastest, middle): (f64, f64), words: f64| {
        println!("  {name:<34} {:>7.3} ({:.3})", fastest / words, middle / words);
    };
    let range = |i: usize| i * n..(i + 1) * n;
    let each = |f: &mut dyn FnMut(&Modulus, core::ops::Range<usize>)| {
        time(200, || {
            for (i, m) in moduli.iter().enumerate() {
                f(m, range(i));
            }
        })
    };
    let [x, y, z] = &mut out;
    let t = each(&mut |m, r| kernels.add_assign(m, &mut x[r.clone()], &a[r]));
    report(row("add in place"), t, words);
    let t = each(&mut |m, r| kernels.add_into(m, &a[r.clone()], &b[r.clone()], &mut x[r]));
    report(row("add"), t, words);
    let t = each(&mut |m, r| kernels.sub_into(m, &a[r.clone()], &b[r.clone()], &mut x[r]));
    report(row("subtract"), t, words);
    let t = each(&mut |m, r| kernels.neg_assign(m, &mut x[r]));
    report(row("negate in place"), t, words);
    let t = each(&mut |m, r| kernels.mul_assign(m, &mut x[r.clone()], &a[r]));
    report(row("multiply in place"), t, words);
    let t = each(&mut |m, r| kernels.mul_into(m, &a[r.clone()], &b[r.clone()], &mut x[r]));
    report(row("multiply"), t, words);
    let t = each(&mut |m, r| kernels.mul_add_assign(m, &mut x[r.clone()], &a[r.clone()], &b[r]));
    report(row("multiply and add"), t, words);
    let t = each(&mut |m, r| kernels.mul_scalar_into(m, &a[r.clone()], 12345, &mut x[r]));
    report(row("multiply by a scalar"), t, words);
    let t = each(&mut |m, r| kernels.sub_mul_scalar_assign(m, &mut x[r.clone()], &a[r], 12345));
    report(row("subtract, multiply by a scalar"), t, words);
    let t = each(&mut |m, r| {
        let out = [&mut x[r.clone()], &mut y[r.clone()], &mut z[r.clone()]];
        kernels.tensor(m, [&a[r.clone()], &b[r.clone()]], [&c[r.clone()], &d[r]], out);
    });
    report(row("tensor, per word of three results"), t, 3.0 * words);
    let t = each(&mut |m, r| {
        let out = [&mut x[r.clone()], &mut y[r.clone()], &mut z[r.clone()]];
        kernels.square_tensor(m, [&a[r.clone()], &b[r]], out);
    });
    report(row("square, per word of three results"), t, 3.0 * words);
    for digits in [3, 6] {
        // Digits and a key as large as those of a key switch: the rows of one prime after those of another.
        let digit: Vec<Words> = (0..digits).map(|_| element()).collect();
        let key: Vec<[Words; 2]> = (0..digits).map(|_| [element(), element()]).collect();
        let t = each(&mut |m, r| {
            let mut slices = [[&[][..]; 6]; 3];
            for (i, (digit, [first, second])) in digit.iter().zip(&key).enumerate() {
                slices[0][i] = &digit[r.clone()];
                slices[1][i] = &first[r.clone()];
                slices[2][i] = &second[r.clone()];
            }
            let [xs, bs, r#as] = slices.each_ref().map(|s| &s[..digits]);
            kernels.inner_products(m, xs, bs, r#as, [&mut x[r.clone()], &mut y[r]]);
        });
        let name = format!("inner products, {digits} digits, per product");
        report(&name, t, 2.0 * digits as f64 * words);
    }
    black_box(&out);
    Ok(())
}

/// Conversion between bases and division, on the backend in use.
fn conversion(n: usize) -> Result<(), RnsError> {
    println!("N = {n}, {}: fastest (middle)", kernel::active());
    let mut scratch = Vec::new();
    for (from, to) in [(1, 7), (2, 7), (3, 6), (4, 8)] {
        let primes = ntt_primes(n, 45, from + to, &[])?;
        let (source, target) = (Ring::new(n, &primes[..from])?, Ring::new(n, &primes[from..])?);
        let converter = BasisConverter::new(source.moduli(), target.moduli())?;
        let mut state = 1;
        let rows = source
            .moduli()
            .iter()
            .flat_map(|m| fill(&mut state, n, m.value()));
        let input = Words::from_slice(&rows.collect::<Vec<u64>>());
        let mut out = Words::zero(n * to);
        converter.convert_with(&input, &mut out, &mut scratch)?;
        let (fastest, middle) = time(200, || {
            // The lengths were accepted once.
            let _ = black_box(converter.convert_with(&input, &mut out, &mut scratch));
        });
        let words = (n * to) as f64;
        println!(
            "  {:<34} {:>7.3} ({:.3}) ns per word of result",
            format!("conversion from {from} primes to {to}"),
            fastest / words,
            middle / words
        );
    }
    for (keep, drop) in [(6, 1), (6, 3), (13, 7)] {
        let primes = ntt_primes(n, 45, keep + drop, &[])?;
        let (kept, dropped) = (Ring::new(n, &primes[..keep])?, Ring::new(n, &primes[keep..])?);
        let down = ModDown::new(&kept, &dropped)?;
        let mut state = 1;
        let rows = down
            .full()
            .moduli()
            .iter()
            .flat_map(|m| fill(&mut state, n, m.value()));
        let x = Words::from_slice(&rows.collect::<Vec<u64>>());
        let mut out = [Words::zero(n * keep), Words::zero(n * keep)];
        let (fastest, middle) = time(100, || {
            let [first, second] = &mut out;
            let _ = black_box(down.apply_eval_batch(&[&x, &x], &mut [first, second], &mut scratch));
        });
        let mut transform = |index: usize, forward: bool| {
            let (ntt, row) = (down.full().ntt(index), &mut out[0][..n]);
            let run = || {
                if forward {
                    ntt.forward(row)
                } else {
                    ntt.inverse(row)
                }
            };
            time(100, run).0
        };
        let transforms = 2.0
            * ((0..keep).map(|i| transform(i, true)).sum::<f64>()
                + (keep..keep + drop).map(|i| transform(i, false)).sum::<f64>());
        println!(
            "  {:<34} {:>7.1} ({:.1}) us, of which {:.1} in transforms",
            format!("division of a pair, {keep} + {drop} primes"),
            fastest / 1e3,
            middle / 1e3,
            transforms / 1e3
        );
    }
    Ok(())
}

/// A matrix product on a tile that lies in the cache, as one layer of several that are computed tile by tile.
fn tile(kernels: Kernels) -> Result<(), RnsError> {
    const POSITIONS: usize = 64;
    let modulus = Modulus::new(ntt_primes(8192, 50, 1, &[])?[0])?;
    let mut state = 1;
    for (rows, cols) in [(100usize, 845usize), (845, 25)] {
        let inputs = Words::from_slice(&fill(&mut state, cols * POSITIONS, modulus.value()));
        let inputs: Vec<&[u64]> = inputs.chunks_exact(POSITIONS).collect();
        let mut out = Words::zero(rows * POSITIONS);
        let mut out: Vec<&mut [u64]> = out.chunks_exact_mut(POSITIONS).collect();
        let weights = fill(&mut state, rows * cols, modulus.value());
        let matrix = WeightMatrix::dense_on(kernels, &modulus, cols, &weights)?;
        matrix.apply_serial(&inputs, &mut out)?;
        let (mut peaks, mut times) = (Vec::new(), Vec::new());
        for _ in 0..50 {
            peaks.extend(peak::rate());
            times.push(time(1, || drop(black_box(matrix.apply_serial(&inputs, &mut out)))).0);
        }
        report_rate(
            kernels,
            &format!("{rows} x {cols}, {POSITIONS} in the cache"),
            rows * cols * POSITIONS,
            &mut times,
            &peaks,
        );
    }
    Ok(())
}

/// Prints multiply-adds per second, and their share of the peak where the kernel is made of its instructions.
fn report_rate(kernels: Kernels, name: &str, products: usize, times: &mut [f64], peaks: &[f64]) {
    times.sort_by(f64::total_cmp);
    let (fastest, middle) = (times[0], times[times.len() / 2]);
    let peak = peaks.iter().copied().fold(0.0, f64::max);
    let products = products as f64;
    let share = if kernels.backend() == Backend::Ifma && peak > 0.0 {
        format!(
            ", {:.1}% of the peak {peak:.2} G/s",
            100.0 * products / fastest / peak
        )
    } else {
        String::new()
    };
    println!(
        "  {name:<34} {:>7.2} ({:.2}) G/s{share}",
        products / fastest,
        products / middle
    );
}

/// Matrix products: shapes of a network's layers.
fn products(kernels: Kernels, n: usize) -> Result<(), RnsError> {
    let modulus = Modulus::new(ntt_primes(n, 50, 1, &[])?[0])?;
    let mut state = 1;
    println!(
        "N = {n}, {}, modular multiply-adds per second, fastest (middle) of the runs",
        kernels.backend()
    );
    let runs = match kernels.backend() {
        Backend::Ifma => 15,
        _ => 5,
    };
    for (rows, cols, support) in [
        (100usize, 845usize, None),
        (845, 25, None),
        (10, 100, None),
        (845, 784, Some(25)),
    ] {
        let inputs: Vec<Words> = (0..cols)
            .map(|_| Words::from_slice(&fill(&mut state, n, modulus.value())))
            .collect();
        let inputs: Vec<&[u64]> = inputs.iter().map(|input| &**input).collect();
        let mut out = vec![Words::zero(n); rows];
        let mut out: Vec<&mut [u64]> = out.iter_mut().map(|out| &mut **out).collect();
        let (name, terms, matrix) = match support {
            None => {
                let weights = fill(&mut state, rows * cols, modulus.value());
                let matrix = WeightMatrix::dense_on(kernels, &modulus, cols, &weights)?;
                (format!("{rows} x {cols}"), rows * cols, matrix)
            }
            Some(support) => {
                // 5 maps of 13 x 13 windows of 5 x 5 with stride 2 and padding 1; 28 x 28 inputs.
                let window = |place: usize| {
                    let (y, x) = (place / 13 * 2, place % 13 * 2);
                    (0..support)
                        .map(move |k| (y + k / 5, x + k % 5))
                        .filter(|&(y, x)| (1..=28).contains(&y) && (1..=28).contains(&x))
                        .map(|(y, x)| (y - 1) * 28 + x - 1)
                };
                let list: Vec<Vec<(usize, u64)>> = (0..rows)
                    .map(|row| {
                        let indices = window(row % 169);
                        let weight = fill(&mut state, 1, modulus.value())[0];
                        indices.map(|index| (index, weight)).collect()
                    })
                    .collect();
                let terms = list.iter().map(Vec::len).sum();
                let matrix = WeightMatrix::sparse_on(kernels, &modulus, cols, &list)?;
                (format!("{rows} x {support} of {cols}"), terms, matrix)
            }
        };
        matrix.apply(&inputs, &mut out)?;
        let (mut peaks, mut times) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            peaks.extend(peak::rate());
            times.push(time(1, || drop(black_box(matrix.apply(&inputs, &mut out)))).0);
        }
        report_rate(kernels, &name, terms * n, &mut times, &peaks);
        if kernels.backend() == Backend::Portable && support.is_none() {
            let weights = fill(&mut state, rows.min(4) * cols, modulus.value());
            let (fastest, _) = time(3, || {
                for (row, out) in weights.chunks_exact(cols).zip(out.iter_mut()) {
                    out.fill(0);
                    for (&w, x) in row.iter().zip(&inputs) {
                        for (sum, &x) in out.iter_mut().zip(*x) {
                            *sum = modulus.mul_add(x, w, *sum);
                        }
                    }
                }
            });
            let products = (weights.len() * n) as f64;
            println!(
                "  {:<34} {:>7.2} G/s",
                format!("{name}, row by row, naive"),
                products / fastest
            );
        }
    }
    Ok(())
}

#[cfg(target_arch = "x86_64")]
mod peak {
    //! The most multiply-adds that the CPU makes: a low and a high 52-bit half each, registers only.

    use core::arch::x86_64::__m512i;
    use pulp::{NullaryFnOnce, cast};
    use std::hint::black_box;

    pulp::simd_type! {
        struct Ifma {
            pub avx512f: "avx512f",
            pub avx512ifma: "avx512ifma",
        }
    }

    /// Chains of either kind: more than latency times throughput, and few enough for registers.
    const CHAINS: usize = 6;
    /// Steps of each chain per round.
    const STEPS: usize = 4;
    const ROUNDS: u64 = 50_000;

    struct Chains(Ifma, [u64; 2]);

    impl NullaryFnOnce for Chains {
        type Output = u64;

        #[inline(always)]
        fn call(self) -> u64 {
            let Self(simd, [x, w]) = self;
            let splat = |value: u64| simd.avx512f._mm512_set1_epi64(value as i64);
            let (x, w) = (splat(x), splat(w));
            let (mut low, mut high): ([__m512i; CHAINS], [__m512i; CHAINS]) = ([x; CHAINS], [w; CHAINS]);
            for _ in 0..ROUNDS {
                for _ in 0..STEPS {
                    for chain in 0..CHAINS {
                        low[chain] = simd.avx512ifma._mm512_madd52lo_epu64(low[chain], x, w);
                        high[chain] = simd.avx512ifma._mm512_madd52hi_epu64(high[chain], x, w);
                    }
                }
            }
            let mut sum = x;
            for chain in 0..CHAINS {
                sum = simd.avx512f._mm512_add_epi64(sum, low[chain]);
                sum = simd.avx512f._mm512_add_epi64(sum, high[chain]);
            }
            cast::<__m512i, [u64; 8]>(sum)[0]
        }
    }

    /// Billions of multiply-adds per second, where there are such instructions.
    pub(super) fn rate() -> Option<f64> {
        let simd = Ifma::try_new()?;
        let start = super::clock();
        black_box(simd.vectorize(Chains(
            simd,
            black_box([0x000f_1234_5678_9abc, 0x000e_dcba_9876_5432]),
        )));
        Some((ROUNDS * 8 * (STEPS * CHAINS) as u64) as f64 / (super::clock() - start))
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod peak {
    pub(super) fn rate() -> Option<f64> {
        None
    }
}
