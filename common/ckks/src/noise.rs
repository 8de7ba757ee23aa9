//! What is known of a ciphertext without its key: scale, and bounds on message and noise.
//!
//! With decryption `c0 + c1 s + c2 s^2 = scale * z + e` (mod Q), where z has the exact real values in its slots, a
//! [`Budget`] bounds |z| and |e| in the canonical embedding, that is in every slot. So the error of every decoded
//! value is at most `noise / scale`, and no coefficient exceeds `scale * magnitude + noise` (a coefficient is an
//! average of slots times roots of unity).
//!
//! Noise is bounded with probability above `1 - 2^-35` per operation over keys and randomness, not in the worst
//! case. As usual (Gentry, Halevi and Smart, ePrint 2012/099, appendix A.5; Cheon, Kim, Kim and Song, ePrint
//! 2016/421, section 3.5) a slot of a random polynomial with independent coefficients of variance v is taken as a
//! complex Gaussian U with `E|U|^2 = N v`:
//!
//! - One polynomial: `Pr(|U| > a sqrt(N v)) = exp(-a^2)`, and `a = 6` gives `2^-51.9` per slot.
//! - One with the symmetry of an encoding of real values, whose slots are real: `Pr(|U| > a sqrt(N v)) =
//!   erfc(a / sqrt(2))`, and `a = 8.5` gives `2^-55`.
//! - A product of two: `Pr(|U V| > a) = 2 a K_1(2 a) ~ sqrt(pi a) exp(-2 a)` in units of the deviations, `a = 20`
//!   gives `2^-54.7`.
//! - `U S^2`: `Pr = integral of exp(-x - a^2 / x^2)`, at most about `exp(-1.5 (2 a^2)^(1/3))`; `a = 90` gives
//!   `2^-54`.
//!
//! Over at most 2^16 slots each stays below `2^-35`. Between operations bounds add up by the triangle
//! inequality, without assuming that noises are independent: features that went through one layer share noise.
//!
//! In the conjugate-invariant ring every slot is real: `a_0 + sum of a_i (zeta^i + zeta^-i)` is a real Gaussian of
//! variance `2 N v` (all but the constant coefficient count `4 cos^2`, 2 on average). There `a = 8.5` for one
//! polynomial; for a product of two `Pr = (2 / pi) integral of K_0 ~ sqrt(2 / (pi a)) exp(-a)`, and `a = 36` gives
//! `2^-54.8`; for `U S^2` at most about `exp(-3/4 (2 a^2)^(1/3))`, and `a = 255` gives `2^-54.8`. In what follows N is
//! then 2N and the tail factors 6, 20 and 90 are these.
//!
//! | operation | bound on the added noise |
//! |---|---|
//! | encoding | rounding N coefficients by at most 1/2, variance 1/12, real slots: `8.5 sqrt(N/12)` in either ring's N; the FFT in doubles: `2^-46` of the message |
//! | encryption, secret key | e: `6 sigma sqrt(N)` |
//! | encryption, public key | `e u + e_0 + e_1 s`, u and s of variance 2/3: `20 N sigma sqrt(4/3) + 6 sigma sqrt(N)` |
//! | flooding, deviation d | `6 d sqrt(N)` |
//! | sum | sum of the noises |
//! | weighted sum | `sum abs(w_k) noise_k` for integer weights w_k, and `abs(w_k - exact) scale_k magnitude_k` for their rounding |
//! | product | `m_1 e_2 + m_2 e_1 + e_1 e_2` |
//! | sum of products with plaintexts, which add up to `r` in any slot | `r max e_k` (times the plaintexts' scale) and `m_k e` for the plaintexts' rounding, or the sum of products |
//! | key switching | digits uniform below D_j: `20 N sigma sqrt(sum D_j^2 / 12) / P`, which counts where P is smaller than a digit, and one rounding |
//! | relinearisation, rotation, conjugation | that of key switching; slots move with their noise |
//! | relinearisation and rescaling in one | `(noise + 20 N sigma sqrt(sum D_j^2 / 12) / P) / q`, and one rounding |
//! | rounding in a division | `r_0 + r_1 s (+ r_2 s^2)`, variance 1/12: `6 sqrt(N/12) + 20 N sqrt(1/18) (+ 90 N^1.5 sqrt(1/12) 2/3)` |
//! | rescaling | noise / q, and one rounding |
//! | stating a scale | scales are doubles, the stated one is off by some units of 2^-53: `2^-50` of the message |

use crate::error::CkksError;
use galen_rns::ring::RingKind;

/// Tail factors of one, two and three complex Gaussian factors; see the module documentation.
const TAIL: [f64; 3] = [6.0, 20.0, 90.0];
/// Those of real ones.
const REAL_TAILS: [f64; 3] = [REAL_TAIL, 36.0, 255.0];
/// Tail factor of a real Gaussian.
const REAL_TAIL: f64 = 8.5;
/// Standard deviation of errors, the distribution `Gaussian::SIGMA_3_19`.
const SIGMA: f64 = 3.19;
/// Variance of a uniform ternary value.
const TERNARY: f64 = 2.0 / 3.0;
/// Variance of a rounding error, uniform in -1/2..1/2.
const ROUNDING: f64 = 1.0 / 12.0;
/// Relative error of the embedding in doubles: each of up to 15 stages and the division adds units of 2^-53.
const EMBEDDING_ERROR: f64 = 1.0 / (1u64 << 46) as f64;
/// Relative error of a scale computed in doubles by a few operations.
const SCALE_ERROR: f64 = 1.0 / (1u64 << 50) as f64;
/// Largest scale: far above what fits in any preset of practical depth, and finite as a double when squared.
pub const MAX_LOG2_SCALE: f64 = 500.0;

/// Scale, and bounds on message and noise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// Integers per unit of a slot value.
    pub scale: f64,
    /// Bound on the absolute slot values, as stated by whoever encoded, and what operations make of it.
    pub magnitude: f64,
    /// Bound on the noise in the canonical embedding, in integers (not divided by the scale).
    pub noise: f64,
}

impl Budget {
    /// Planned bits after the binary point: slot errors are below `2^-precision_bits`.
    #[must_use]
    pub fn precision_bits(&self) -> f64 {
        (self.scale / self.noise).log2()
    }

    /// Bits that a modulus must have to hold message, noise and sign.
    #[must_use]
    pub fn needed_bits(&self) -> f64 {
        (self.scale * self.magnitude + self.noise).log2() + 1.0
    }

    /// Refuses what does not fit in a modulus of `available_bits`.
    ///
    /// # Errors
    /// [`CkksError::Overflow`].
    pub fn check_fits(&self, available_bits: f64) -> Result<(), CkksError> {
        let needed_bits = self.needed_bits();
        // NaN (bounds that ran to infinity) must be refused too, so the test is for what is accepted.
        if needed_bits < available_bits {
            return Ok(());
        }
        Err(CkksError::Overflow {
            needed_bits,
            available_bits,
        })
    }

    /// Refuses fewer planned bits than requested.
    ///
    /// # Errors
    /// [`CkksError::Precision`].
    pub fn check_precision(&self, requested_bits: f64) -> Result<(), CkksError> {
        let planned_bits = self.precision_bits();
        if planned_bits >= requested_bits {
            return Ok(());
        }
        Err(CkksError::Precision {
            planned_bits,
            requested_bits,
        })
    }

    /// The sum or difference of two with the same scale.
    #[must_use]
    pub fn sum(&self, other: &Self) -> Self {
        Self {
            scale: self.scale,
            magnitude: self.magnitude + other.magnitude,
            noise: self.noise + other.noise,
        }
    }

    /// The product of two; its scale is the product of scales.
    #[must_use]
    pub fn product(&self, other: &Self) -> Self {
        let scale = self.scale * other.scale;
        let magnitude = self.magnitude * other.magnitude;
        let cross = self.scale * self.magnitude * other.noise + other.scale * other.magnitude * self.noise;
        Self {
            scale,
            magnitude,
            noise: cross + self.noise * other.noise + SCALE_ERROR * scale * magnitude,
        }
    }

    /// The sum of products of ciphertexts (first) with plaintexts (second), all of one scale, where the absolute values of all plaintexts in any one
    /// slot add up to at most `row`; nothing if there are none. With plaintexts `s_k w_k + r_k` and ciphertexts `t_k z_k + e_k`, a slot's noise is
    /// `sum s_k w_k e_k + sum r_k (t_k z_k + e_k)`, of which the first sum is at most `row` times the largest `s_k e_k`. Where adding up
    /// [`Self::product`] bounds it better, that counts.
    #[must_use]
    pub fn sum_of_products<'a>(
        products: impl IntoIterator<Item = (&'a Self, &'a Self)>,
        row: f64,
    ) -> Option<Self> {
        let mut sum: Option<Self> = None;
        let (mut magnitude, mut noise, mut rounding) = (0.0, 0.0, 0.0);
        for (a, plain) in products {
            let product = a.product(plain);
            sum = Some(sum.map_or(product, |sum| sum.sum(&product)));
            magnitude = a.magnitude.max(magnitude);
            noise = (plain.scale * a.noise).max(noise);
            rounding += plain.noise * (a.scale * a.magnitude + a.noise);
        }
        sum.map(|sum| Self {
            magnitude: sum.magnitude.min(row * magnitude),
            noise: sum
                .noise
                .min(row * noise + rounding + SCALE_ERROR * sum.scale * row * magnitude),
            ..sum
        })
    }

    /// The part of a weighted sum of scale `scale` that this one contributes with the integer weight `integer`, which
    /// stands for `weight`, the exact factor being `exact = weight * scale / self.scale`.
    #[must_use]
    pub fn weighted(&self, weight: f64, integer: f64, exact: f64, scale: f64) -> Self {
        let message = self.scale * self.magnitude;
        let rounding = (integer - exact).abs() + SCALE_ERROR * exact.abs();
        Self {
            scale,
            magnitude: weight.abs() * self.magnitude,
            noise: integer.abs() * self.noise + rounding * message,
        }
    }

    /// Plus the constant `value`, as the integer nearest to `value * scale`.
    #[must_use]
    pub fn plus_constant(&self, value: f64) -> Self {
        let rounding = 0.5 + SCALE_ERROR * (value * self.scale).abs();
        Self {
            magnitude: self.magnitude + value.abs(),
            noise: self.noise + rounding,
            ..*self
        }
    }

    /// Divided by `divisor` with a rounding of `rounding`, the result being stated to have `scale`.
    #[must_use]
    pub fn divided(&self, divisor: f64, rounding: f64, scale: f64) -> Self {
        let stated = (self.scale / divisor - scale).abs() + SCALE_ERROR * scale;
        Self {
            scale,
            magnitude: self.magnitude,
            noise: self.noise / divisor + rounding + stated * self.magnitude,
        }
    }

    /// With more noise.
    #[must_use]
    pub fn plus_noise(&self, noise: f64) -> Self {
        Self {
            noise: self.noise + noise,
            ..*self
        }
    }
}

/// The bounds of fresh noise and of roundings for one ring kind and degree.
#[derive(Debug, Clone, Copy)]
pub struct NoiseModel {
    /// What the variance of a coefficient is multiplied by in a slot: N, or 2N in the conjugate-invariant ring.
    spread: f64,
    tails: [f64; 3],
}

impl NoiseModel {
    /// For the cyclotomic ring of degree N.
    #[must_use]
    pub fn new(degree: usize) -> Self {
        Self::of_kind(RingKind::Cyclotomic, degree)
    }

    /// For a ring of this kind and degree N.
    #[must_use]
    pub fn of_kind(kind: RingKind, degree: usize) -> Self {
        match kind {
            RingKind::Cyclotomic => Self {
                spread: degree as f64,
                tails: TAIL,
            },
            RingKind::ConjugateInvariant => Self {
                spread: 2.0 * degree as f64,
                tails: REAL_TAILS,
            },
        }
    }

    /// One polynomial with coefficients of this variance.
    fn single(&self, variance: f64) -> f64 {
        self.tails[0] * (self.spread * variance).sqrt()
    }

    /// A product of two such polynomials, or a sum of products with this product of variances.
    fn double(&self, variances: f64) -> f64 {
        self.tails[1] * self.spread * variances.sqrt()
    }

    /// The rounding of an encoding, whose largest absolute scaled value is `message`.
    #[must_use]
    pub fn encoding(&self, message: f64) -> f64 {
        // Real slots make coefficients antisymmetric, rounding errors with them, and the error in slots real.
        REAL_TAIL * (self.spread * ROUNDING).sqrt() + EMBEDDING_ERROR * message
    }

    /// Encryption under the secret key.
    #[must_use]
    pub fn fresh_secret(&self) -> f64 {
        self.single(SIGMA * SIGMA)
    }

    /// Encryption under the public key.
    #[must_use]
    pub fn fresh_public(&self) -> f64 {
        self.double(2.0 * SIGMA * SIGMA * TERNARY) + self.single(SIGMA * SIGMA)
    }

    /// Coefficients that are sums of twelve uniform integers of this many bits.
    #[must_use]
    pub fn flooding(&self, bits: u32) -> f64 {
        let deviation = (1u64 << bits.min(63)) as f64;
        self.single(deviation * deviation)
    }

    /// Rounding every component of a ciphertext of this degree to integers.
    #[must_use]
    pub fn rounding(&self, ciphertext_degree: usize) -> f64 {
        let linear = self.single(ROUNDING) + self.double(ROUNDING * TERNARY);
        if ciphertext_degree < 2 {
            return linear;
        }
        // Square roots round the same everywhere, other powers need not: bounds are part of bytes.
        linear + self.tails[2] * self.spread * (self.spread * ROUNDING).sqrt() * TERNARY
    }

    /// What switching one component with digits below the given moduli and special modulus `special` adds before the
    /// rounding of the division by `special`, in units after it. Where a digit is larger than `special`, this is as many
    /// times larger.
    #[must_use]
    pub fn digits(&self, digit_moduli: &[f64], special: f64) -> f64 {
        let squares: f64 = digit_moduli.iter().map(|d| (d / special) * (d / special)).sum();
        self.double(squares * ROUNDING * SIGMA * SIGMA)
    }

    /// [`Self::digits`] and the rounding: all that switching adds.
    #[must_use]
    pub fn key_switch(&self, digit_moduli: &[f64], special: f64) -> f64 {
        self.digits(digit_moduli, special) + self.rounding(1)
    }
}
