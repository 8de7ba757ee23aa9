//! A plausibility check of the hardness of LWE, independent of the tables that the gate rests on: the primal attack by the
//! unique shortest vector, with the geometric series assumption.
//!
//! An instance of dimension n, modulus q, secret and noise of standard deviations `s` and `e`: the lattice of Bai and
//! Galbraith (ACISP 2014) with m samples has dimension `d = n + m + 1` and volume `q^m (e/s)^n e`, and contains a vector of norm
//! about `e sqrt(d)`. BKZ of block size beta finds it once `e sqrt(beta) <= delta^(2 beta - d - 1) vol^(1/d)` (Alkim, Ducas,
//! Poeppelmann, Schwabe, USENIX Security 2016; Albrecht, Goepfert, Virdia, Wunderer, Asiacrypt 2017), where
//! `delta = ((pi beta)^(1/beta) beta / (2 pi e))^(1 / (2 (beta - 1)))` (Chen 2013). It costs one call of a sieve of
//! dimension beta, `2^(0.292 beta)` ("core-SVP"; Becker, Ducas, Gama, Laarhoven, SODA 2016), or, less pessimistically, `8 d` of
//! them at `2^(0.292 beta + 16.4)` each (Albrecht, Player, Scott, J. Math. Cryptol. 2015, with the constant of Becker et al.).
//!
//! This is no security claim. Tables and estimators consider more attacks and finer models of lattice reduction.

use std::f64::consts::{E, PI};

/// An LWE instance with any number of samples.
#[derive(Clone, Copy)]
pub(crate) struct Instance {
    pub(crate) dimension: f64,
    pub(crate) log2_modulus: f64,
    pub(crate) secret: f64,
    pub(crate) noise: f64,
}

/// What the attack takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attack {
    pub(crate) block_size: u32,
    pub(crate) lattice_dimension: f64,
}

impl Attack {
    /// log2 of one sieve.
    pub(crate) fn core_svp(&self) -> f64 {
        0.292 * f64::from(self.block_size)
    }

    /// log2 of eight tours of sieves.
    pub(crate) fn tours(&self) -> f64 {
        self.core_svp() + 16.4 + (8.0 * self.lattice_dimension).log2()
    }
}

/// ln of the root Hermite factor.
fn ln_delta(block_size: f64) -> f64 {
    ((PI * block_size).ln() / block_size + (block_size / (2.0 * PI * E)).ln()) / (2.0 * (block_size - 1.0))
}

/// The smallest block size with which the attack succeeds, with the best number of samples up to `samples`.
pub(crate) fn primal(instance: &Instance, samples: f64) -> Attack {
    let Instance {
        dimension: n,
        noise,
        secret,
        ..
    } = *instance;
    let ln_q = instance.log2_modulus * std::f64::consts::LN_2;
    let ln_scale = (noise / secret).max(1.0).ln();
    let reaches = |block_size: f64| {
        let delta = ln_delta(block_size);
        // Where d ln(delta) and the logarithm of the volume's root balance.
        let best = ((n * (ln_q - ln_scale)).max(1.0) / delta).sqrt();
        let d = best.clamp(n + 2.0, n + samples + 1.0).floor();
        let ln_volume = (d - n - 1.0) * ln_q + n * ln_scale + noise.ln();
        let slack = (2.0 * block_size - d - 1.0) * delta + ln_volume / d - block_size.ln() / 2.0 - noise.ln();
        (slack >= 0.0, d)
    };
    let limit = 20_000;
    let block_size = (50..limit)
        .find(|&beta| reaches(f64::from(beta)).0)
        .unwrap_or(limit);
    Attack {
        block_size,
        lattice_dimension: reaches(f64::from(block_size)).1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What others publish: core-SVP of 118 and 256 bits for Kyber512 and Kyber1024 (specification, round 3), and the lattice
    /// estimator's block sizes 624 for Kyber768 (`LWE.estimate.rough`; Albrecht, FHE.org 2024) and 198 for the
    /// example in the header of its `lwe_primal.py`.
    #[test]
    fn published_estimates_are_met() {
        let kyber = |n: f64, deviation: f64| {
            let instance = Instance {
                dimension: n,
                log2_modulus: 3329f64.log2(),
                secret: deviation,
                noise: deviation,
            };
            primal(&instance, n)
        };
        assert!((kyber(512.0, 1.5f64.sqrt()).core_svp() - 118.0).abs() < 1.0);
        assert!((kyber(1024.0, 1.0).core_svp() - 256.0).abs() < 1.0);
        assert!(kyber(768.0, 1.0).block_size.abs_diff(624) <= 2);
        let example = Instance {
            dimension: 384.0,
            log2_modulus: 7981f64.log2(),
            secret: 0.29,
            noise: 2f64.sqrt(),
        };
        assert!(primal(&example, f64::INFINITY).block_size.abs_diff(198) <= 2);
    }

    #[test]
    fn longer_moduli_and_less_noise_are_easier() {
        let instance = |log2_modulus, noise| Instance {
            dimension: 4096.0,
            log2_modulus,
            secret: noise,
            noise,
        };
        let block_size = |bits, noise| primal(&instance(bits, noise), f64::INFINITY).block_size;
        assert!(block_size(60.0, 2.3) > block_size(61.0, 2.3));
        assert!(block_size(60.0, 2.3) < block_size(60.0, 3.2));
    }
}
