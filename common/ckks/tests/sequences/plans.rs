//! What the twin expects of each operation: its result and a bound on its noise, by the documentation and the table in `noise`, or why
//! it is impossible.

use crate::twin::{Expected, LARGEST_INTEGER, Obstacle, Pair, Plan, Twin, map};
use crate::world::{World, complex};
use galen_ckks::context::Target;

impl World {
    /// What the variance of a coefficient counts in a slot, and the tail factors of one, two and three Gaussian factors: the table
    /// in `noise`, for either kind of ring.
    pub(crate) fn gaussian(&self) -> (f64, [f64; 3]) {
        let n = self.context.degree() as f64;
        if complex(&self.context) {
            (n, [6.0, 20.0, 90.0])
        } else {
            (2.0 * n, [8.5, 36.0, 255.0])
        }
    }

    /// Noise of rounding all parts of a ciphertext of this degree.
    pub(crate) fn rounding(&self, degree: usize) -> f64 {
        let (n, tails) = self.gaussian();
        let linear = tails[0] * (n / 12.0).sqrt() + tails[1] * n * (1.0f64 / 18.0).sqrt();
        if degree < 2 {
            linear
        } else {
            linear + tails[2] * n.powf(1.5) * (1.0f64 / 12.0).sqrt() * 2.0 / 3.0
        }
    }

    /// Noise of switching a key at a level, without the rounding: digits below D_j against the special modulus P.
    pub(crate) fn switching(&self, level: usize) -> f64 {
        let (n, tails) = self.gaussian();
        let spec = self.context.preset().spec();
        let log2 = |primes: &[u64]| primes.iter().map(|&p| (p as f64).log2()).sum::<f64>();
        let special = log2(self.context.preset().special_primes());
        let digits = self.context.preset().primes()[..=level].chunks(spec.digit);
        let squares: f64 = digits.map(|digit| (2.0 * (log2(digit) - special)).exp2()).sum();
        tails[1] * n * 3.19 * (squares / 12.0).sqrt()
    }

    pub(crate) fn plan_sum(a: &Pair, b: &Pair, sign: f64) -> Plan {
        if a.twin.level != b.twin.level {
            return Err(Obstacle::Level);
        }
        if a.twin.scale != b.twin.scale {
            return Err(Obstacle::Scale);
        }
        Ok(Expected {
            twin: Twin {
                values: map(&a.twin.values, &b.twin.values, |x, y| x + sign * y),
                degree: a.twin.degree.max(b.twin.degree),
                magnitude: a.twin.magnitude + b.twin.magnitude,
                slots: a.twin.slots.max(b.twin.slots),
                ..a.twin.clone()
            },
            noise: a.ct.noise_bound() + b.ct.noise_bound(),
        })
    }

    pub(crate) fn plan_product(a: &Pair, b: &Pair) -> Plan {
        if a.twin.level != b.twin.level {
            return Err(Obstacle::Level);
        }
        if a.twin.degree != 1 || b.twin.degree != 1 {
            return Err(Obstacle::Degree);
        }
        Self::product(&a.twin, a.ct.noise_bound(), &b.twin, b.ct.noise_bound())
    }

    pub(crate) fn product(a: &Twin, a_noise: f64, b: &Twin, b_noise: f64) -> Plan {
        let scale = a.scale * b.scale;
        if scale.log2() > 500.0 {
            return Err(Obstacle::ScaleRange);
        }
        let magnitude = a.magnitude * b.magnitude;
        Ok(Expected {
            twin: Twin {
                values: map(&a.values, &b.values, |x, y| x * y),
                level: a.level,
                scale,
                degree: 2,
                magnitude,
                slots: a.slots.max(b.slots),
            },
            noise: a.scale * a.magnitude * b_noise
                + b.scale * b.magnitude * a_noise
                + a_noise * b_noise
                + scale * magnitude * (-50f64).exp2(),
        })
    }

    pub(crate) fn plan_rescale(&self, a: &Pair) -> Plan {
        if a.twin.level == 0 {
            return Err(Obstacle::NoLevel);
        }
        let prime = self.context.preset().primes()[a.twin.level] as f64;
        let scale = a.twin.scale / prime;
        if scale < 1.0 {
            return Err(Obstacle::ScaleRange);
        }
        Ok(Expected {
            noise: a.ct.noise_bound() / prime
                + self.rounding(a.twin.degree)
                + scale * a.twin.magnitude * (-50f64).exp2(),
            twin: Twin {
                level: a.twin.level - 1,
                scale,
                ..a.twin.clone()
            },
        })
    }

    pub(crate) fn plan_drop(a: &Pair, level: usize) -> Plan {
        if level > a.twin.level {
            return Err(Obstacle::LevelRange);
        }
        Ok(Expected {
            twin: Twin {
                level,
                ..a.twin.clone()
            },
            noise: a.ct.noise_bound(),
        })
    }

    pub(crate) fn plan_weighted(&self, operands: &[Pair], weights: &[f64], target: Target) -> Plan {
        if let Some(low) = operands.iter().find(|a| a.twin.level < target.level) {
            assert!(low.twin.level < target.level);
            return Err(Obstacle::LevelRange);
        }
        let mut twin = Twin {
            values: vec![0.0; self.context.slots()],
            level: target.level,
            scale: target.scale,
            degree: 1,
            magnitude: 0.0,
            slots: 1,
        };
        let mut noise = 0.0;
        for (a, &weight) in operands.iter().zip(weights) {
            twin.values = map(&twin.values, &a.twin.values, |sum, x| sum + weight * x);
            twin.degree = twin.degree.max(a.twin.degree);
            twin.magnitude += weight.abs() * a.twin.magnitude;
            twin.slots = twin.slots.max(a.twin.slots);
            let exact = weight * target.scale / a.twin.scale;
            if exact.abs() >= LARGEST_INTEGER {
                return Err(Obstacle::Number);
            }
            let rounding = 0.5f64.min(exact.abs() + 0.5) + exact.abs() * (-50f64).exp2();
            noise += (exact.abs() + 0.5) * a.ct.noise_bound() + rounding * a.twin.scale * a.twin.magnitude;
        }
        Ok(Expected { twin, noise })
    }

    pub(crate) fn plan_relin_rescale(&self, a: &Pair) -> Plan {
        let mut plan = self.plan_rescale(a)?;
        if a.twin.degree == 1 {
            return Ok(plan);
        }
        let prime = self.context.preset().primes()[a.twin.level] as f64;
        plan.twin.degree = 1;
        plan.noise = (a.ct.noise_bound() + self.switching(a.twin.level)) / prime
            + self.rounding(1)
            + plan.twin.scale * a.twin.magnitude * (-50f64).exp2();
        Ok(plan)
    }
}
