//! Butterflies whose partners are in different groups of eight: one or two stages in a pass over memory.

use super::SpecialFft;
use super::eight::{Complex8, WIDTH};

/// Two stages at a time, from half-length `half` down, or one where only one is left above the square.
#[inline(always)]
pub(super) fn passes(length: usize) -> impl DoubleEndedIterator<Item = (usize, bool)> {
    let stages = (length / (2 * WIDTH)).ilog2() as usize + 1;
    let single = (stages % 2 == 1).then_some((length / 2, false));
    let first = length >> (1 + stages % 2);
    single
        .into_iter()
        .chain((0..stages / 2).map(move |i| (first >> (2 * i), true)))
}

/// Numbers that the passes below some length go through together, as many as the first-level cache holds.
pub(super) const BLOCK: usize = 2048;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Coefficients,
    Evaluations,
}

impl SpecialFft {
    /// One pass over one block of numbers.
    #[inline(always)]
    pub(super) fn pass(
        &self,
        direction: Direction,
        (half, two): (usize, bool),
        re: &mut [f64],
        im: &mut [f64],
    ) {
        for (re, im) in re.chunks_exact_mut(2 * half).zip(im.chunks_exact_mut(2 * half)) {
            if two {
                self.two_stages(direction, half, re, im);
            } else {
                self.one_stage(direction, half, re, im);
            }
        }
    }

    #[inline(always)]
    fn one_stage(&self, direction: Direction, half: usize, re: &mut [f64], im: &mut [f64]) {
        let (wr, wi) = self.stage(half);
        let (wr, wi) = (wr.as_chunks::<WIDTH>().0, wi.as_chunks::<WIDTH>().0);
        let (xr, yr) = re.split_at_mut(half);
        let (xi, yi) = im.split_at_mut(half);
        let (xr, yr) = (xr.as_chunks_mut::<WIDTH>().0, yr.as_chunks_mut::<WIDTH>().0);
        let (xi, yi) = (xi.as_chunks_mut::<WIDTH>().0, yi.as_chunks_mut::<WIDTH>().0);
        for ((((xr, xi), (yr, yi)), wr), wi) in
            xr.iter_mut().zip(xi).zip(yr.iter_mut().zip(yi)).zip(wr).zip(wi)
        {
            let (mut x, mut y) = (Complex8 { re: *xr, im: *xi }, Complex8 { re: *yr, im: *yi });
            let w = Complex8 { re: *wr, im: *wi };
            match direction {
                Direction::Coefficients => Complex8::split(&mut x, &mut y, &w),
                Direction::Evaluations => Complex8::join(&mut x, &mut y, &w),
            }
            (*xr, *xi, *yr, *yi) = (x.re, x.im, y.re, y.im);
        }
    }

    /// The stages of `half` and of half that.
    #[inline(always)]
    fn two_stages(&self, direction: Direction, half: usize, re: &mut [f64], im: &mut [f64]) {
        let quarter = half / 2;
        let count = quarter / WIDTH;
        let (outer_re, outer_im) = self.stage(half);
        let (inner_re, inner_im) = self.stage(quarter);
        let (or, oi) = (outer_re.as_chunks::<WIDTH>().0, outer_im.as_chunks::<WIDTH>().0);
        let ((or0, or1), (oi0, oi1)) = (or.split_at(count), oi.split_at(count));
        let (ir, ii) = (
            &inner_re.as_chunks::<WIDTH>().0[..count],
            &inner_im.as_chunks::<WIDTH>().0[..count],
        );
        let (or1, oi1) = (&or1[..count], &oi1[..count]);
        let (re, im) = (re.as_chunks_mut::<WIDTH>().0, im.as_chunks_mut::<WIDTH>().0);
        let ((r01, r23), (i01, i23)) = (re.split_at_mut(2 * count), im.split_at_mut(2 * count));
        let ((r0, r1), (r2, r3)) = (r01.split_at_mut(count), r23.split_at_mut(count));
        let ((i0, i1), (i2, i3)) = (i01.split_at_mut(count), i23.split_at_mut(count));
        let (r3, i3) = (&mut r3[..count], &mut i3[..count]);
        for j in 0..count {
            let mut a = Complex8 { re: r0[j], im: i0[j] };
            let mut b = Complex8 { re: r1[j], im: i1[j] };
            let mut c = Complex8 { re: r2[j], im: i2[j] };
            let mut d = Complex8 { re: r3[j], im: i3[j] };
            let inner = Complex8 { re: ir[j], im: ii[j] };
            let outer = [
                Complex8 {
                    re: or0[j],
                    im: oi0[j],
                },
                Complex8 {
                    re: or1[j],
                    im: oi1[j],
                },
            ];
            match direction {
                Direction::Coefficients => {
                    Complex8::split(&mut a, &mut c, &outer[0]);
                    Complex8::split(&mut b, &mut d, &outer[1]);
                    Complex8::split(&mut a, &mut b, &inner);
                    Complex8::split(&mut c, &mut d, &inner);
                }
                Direction::Evaluations => {
                    Complex8::join(&mut a, &mut b, &inner);
                    Complex8::join(&mut c, &mut d, &inner);
                    Complex8::join(&mut a, &mut c, &outer[0]);
                    Complex8::join(&mut b, &mut d, &outer[1]);
                }
            }
            (r0[j], i0[j], r1[j], i1[j]) = (a.re, a.im, b.re, b.im);
            (r2[j], i2[j], r3[j], i3[j]) = (c.re, c.im, d.re, d.im);
        }
    }
}
