//! Eight complex numbers at a time.

/// Numbers per group, and per side of a square.
pub(super) const WIDTH: usize = 8;

pub(super) type Group = [f64; WIDTH];

#[inline(always)]
pub(super) fn zip(a: &Group, b: &Group, f: impl Fn(f64, f64) -> f64) -> Group {
    let mut out = [0.0; WIDTH];
    for i in 0..WIDTH {
        out[i] = f(a[i], b[i]);
    }
    out
}

/// Eight complex numbers.
#[derive(Clone, Copy)]
pub(super) struct Complex8 {
    pub(super) re: Group,
    pub(super) im: Group,
}

impl Complex8 {
    #[inline(always)]
    pub(super) fn splat(re: f64, im: f64) -> Self {
        Self {
            re: [re; WIDTH],
            im: [im; WIDTH],
        }
    }

    #[inline(always)]
    pub(super) fn add(&self, other: &Self) -> Self {
        Self {
            re: zip(&self.re, &other.re, |x, y| x + y),
            im: zip(&self.im, &other.im, |x, y| x + y),
        }
    }

    #[inline(always)]
    pub(super) fn sub(&self, other: &Self) -> Self {
        Self {
            re: zip(&self.re, &other.re, |x, y| x - y),
            im: zip(&self.im, &other.im, |x, y| x - y),
        }
    }

    #[inline(always)]
    fn mul(&self, w: &Self) -> Self {
        let (a, b) = (
            zip(&self.re, &w.re, |x, y| x * y),
            zip(&self.im, &w.im, |x, y| x * y),
        );
        let (c, d) = (
            zip(&self.re, &w.im, |x, y| x * y),
            zip(&self.im, &w.re, |x, y| x * y),
        );
        Self {
            re: zip(&a, &b, |x, y| x - y),
            im: zip(&c, &d, |x, y| x + y),
        }
    }

    /// By the conjugate of `w`.
    #[inline(always)]
    fn mul_conj(&self, w: &Self) -> Self {
        let (a, b) = (
            zip(&self.re, &w.re, |x, y| x * y),
            zip(&self.im, &w.im, |x, y| x * y),
        );
        let (c, d) = (
            zip(&self.re, &w.im, |x, y| x * y),
            zip(&self.im, &w.re, |x, y| x * y),
        );
        Self {
            re: zip(&a, &b, |x, y| x + y),
            im: zip(&d, &c, |x, y| x - y),
        }
    }

    /// To coefficients: `x + y` and `(x - y) / w`.
    #[inline(always)]
    pub(super) fn split(x: &mut Self, y: &mut Self, w: &Self) {
        let difference = x.sub(y);
        *x = x.add(y);
        *y = difference.mul_conj(w);
    }

    /// To evaluations: `x + y w` and `x - y w`.
    #[inline(always)]
    pub(super) fn join(x: &mut Self, y: &mut Self, w: &Self) {
        let turned = y.mul(w);
        *y = x.sub(&turned);
        *x = x.add(&turned);
    }
}
