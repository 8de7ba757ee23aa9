//! The whole transform of lengths that have a square: the passes, and the last three halvings joined with the reordering.

use super::eight::{Complex8, Group, WIDTH, zip};
use super::passes::{BLOCK, Direction, passes};
use super::{SpecialFft, reverse_bits};
use galen_rns::vectorise::Loop;

impl SpecialFft {
    #[inline(always)]
    fn factor(&self, half: usize, index: usize) -> Complex8 {
        Complex8::splat(self.re[half - 1 + index], self.im[half - 1 + index])
    }
}

/// Rows to columns.
#[inline(always)]
fn turn(rows: &[Group; WIDTH]) -> [Group; WIDTH] {
    let mut columns = [[0.0; WIDTH]; WIDTH];
    for (i, row) in rows.iter().enumerate() {
        for (column, &x) in columns.iter_mut().zip(row) {
            column[i] = x;
        }
    }
    columns
}

const REVERSED: [usize; WIDTH] = [0, 4, 2, 6, 1, 5, 3, 7];

/// The row of eight that begins at `at`.
#[inline(always)]
fn row(values: &[f64], at: usize) -> Group {
    values[at..].first_chunk().copied().unwrap_or_default()
}

#[inline(always)]
fn put(values: &mut [f64], at: usize, group: Group) {
    values[at..at + WIDTH].copy_from_slice(&group);
}

pub(super) struct ToCoefficients<'a> {
    pub(super) fft: &'a SpecialFft,
    pub(super) re: &'a mut [f64],
    pub(super) im: &'a mut [f64],
    pub(super) factor: f64,
    pub(super) out_re: &'a mut [f64],
    pub(super) out_im: &'a mut [f64],
}

impl Loop for ToCoefficients<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self {
            fft,
            re,
            im,
            factor,
            out_re,
            out_im,
        } = self;
        let length = fft.length;
        let (re, im) = (&mut re[..length], &mut im[..length]);
        for pass in passes(length).filter(|pass| 2 * pass.0 > BLOCK) {
            fft.pass(Direction::Coefficients, pass, re, im);
        }
        let block = BLOCK.min(length);
        for (re, im) in re.chunks_exact_mut(block).zip(im.chunks_exact_mut(block)) {
            for pass in passes(length).filter(|pass| 2 * pass.0 <= BLOCK) {
                fft.pass(Direction::Coefficients, pass, re, im);
            }
        }
        let run = length / WIDTH;
        let scale = [factor; WIDTH];
        for middle in 0..run / WIDTH {
            let mut rows = [[[0.0; WIDTH]; WIDTH]; 2];
            for lane in 0..WIDTH {
                let at = REVERSED[lane] * run + middle * WIDTH;
                (rows[0][lane], rows[1][lane]) = (row(re, at), row(im, at));
            }
            let (turned_re, turned_im) = (turn(&rows[0]), turn(&rows[1]));
            let mut x: [Complex8; WIDTH] = core::array::from_fn(|i| Complex8 {
                re: turned_re[i],
                im: turned_im[i],
            });
            for half in [4, 2, 1] {
                for start in (0..WIDTH).step_by(2 * half) {
                    for j in start..start + half {
                        let (mut a, mut b) = (x[j], x[j + half]);
                        Complex8::split(&mut a, &mut b, &fft.factor(half, j - start));
                        (x[j], x[j + half]) = (a, b);
                    }
                }
            }
            let to = reverse_bits(middle, run / WIDTH) * WIDTH;
            for (i, x) in x.iter().enumerate() {
                let at = REVERSED[i] * run + to;
                put(out_re, at, zip(&x.re, &scale, |x, y| x * y));
                if !out_im.is_empty() {
                    put(out_im, at, zip(&x.im, &scale, |x, y| x * y));
                }
            }
        }
    }
}

pub(super) struct ToEvaluations<'a> {
    pub(super) fft: &'a SpecialFft,
    pub(super) in_re: &'a [f64],
    pub(super) in_im: &'a [f64],
    pub(super) re: &'a mut [f64],
    pub(super) im: &'a mut [f64],
}

impl Loop for ToEvaluations<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self {
            fft,
            in_re,
            in_im,
            re,
            im,
        } = self;
        let length = fft.length;
        let (re, im) = (&mut re[..length], &mut im[..length]);
        let run = length / WIDTH;
        for middle in 0..run / WIDTH {
            let mut x = [Complex8::splat(0.0, 0.0); WIDTH];
            for (i, x) in x.iter_mut().enumerate() {
                let at = REVERSED[i] * run + middle * WIDTH;
                (x.re, x.im) = (row(in_re, at), row(in_im, at));
            }
            for half in [1, 2, 4] {
                for start in (0..WIDTH).step_by(2 * half) {
                    for j in start..start + half {
                        let (mut a, mut b) = (x[j], x[j + half]);
                        Complex8::join(&mut a, &mut b, &fft.factor(half, j - start));
                        (x[j], x[j + half]) = (a, b);
                    }
                }
            }
            let (turned_re, turned_im) = (turn(&x.map(|x| x.re)), turn(&x.map(|x| x.im)));
            let to = reverse_bits(middle, run / WIDTH) * WIDTH;
            for lane in 0..WIDTH {
                let at = REVERSED[lane] * run + to;
                put(re, at, turned_re[lane]);
                put(im, at, turned_im[lane]);
            }
        }
        let block = BLOCK.min(length);
        for (re, im) in re.chunks_exact_mut(block).zip(im.chunks_exact_mut(block)) {
            for pass in passes(length).rev().filter(|pass| 2 * pass.0 <= BLOCK) {
                fft.pass(Direction::Evaluations, pass, re, im);
            }
        }
        for pass in passes(length).rev().filter(|pass| 2 * pass.0 > BLOCK) {
            fft.pass(Direction::Evaluations, pass, re, im);
        }
    }
}
