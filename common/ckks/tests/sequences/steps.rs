//! One random operation at a time.

use crate::twin::{Expected, Obstacle, Pair, Twin, map};
use crate::world::{World, complex};
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::context::Target;
use galen_ckks::error::CkksError;

impl World {
    /// One random operation; its result takes the place of a random ciphertext.
    pub(crate) fn step(&mut self) {
        let a = self.pick();
        let ev = self.ev.clone();
        let result = match self.random.below(21) {
            0 => Some(self.fresh()),
            1 | 2 => {
                let b = self.pick_for(&a.twin, true);
                self.settle("add", Self::plan_sum(&a, &b, 1.0), ev.add(&a.ct, &b.ct))
            }
            3 => {
                let b = self.pick_for(&a.twin, true);
                self.settle("sub", Self::plan_sum(&a, &b, -1.0), ev.sub(&a.ct, &b.ct))
            }
            4 => {
                let values = a.twin.values.iter().map(|x| -x).collect();
                let twin = Twin {
                    values,
                    ..a.twin.clone()
                };
                self.settle(
                    "neg",
                    Ok(Expected {
                        twin,
                        noise: a.ct.noise_bound(),
                    }),
                    ev.neg(&a.ct),
                )
            }
            5 | 6 => self.with_plaintext(&a),
            7 => self.add_scalar(&a),
            8 | 19 => self.weighted(&a),
            9 => {
                let plan = Self::plan_product(&a, &a);
                self.settle("square", plan, ev.square(&a.ct))
            }
            10 => {
                let b = self.pick_for(&a.twin, false);
                let plan = Self::plan_product(&a, &b);
                self.settle("multiply", plan, ev.multiply(&a.ct, &b.ct))
            }
            11 => {
                // What is linear already stays as it is.
                let switched = self.switching(a.twin.level) + self.rounding(1);
                let noise = a.ct.noise_bound() + if a.twin.degree == 2 { switched } else { 0.0 };
                let plan = Ok(Expected {
                    twin: Twin {
                        degree: 1,
                        ..a.twin.clone()
                    },
                    noise,
                });
                self.settle("relinearise", plan, ev.relinearise(&a.ct, &self.relin))
            }
            12 | 13 => {
                let plan = self.plan_rescale(&a);
                self.settle("rescale", plan, ev.rescale(&a.ct))
            }
            14 => {
                let level = self.random.below(self.context.max_level() + 1);
                self.settle(
                    "drop level",
                    Self::plan_drop(&a, level),
                    ev.drop_level(&a.ct, level),
                )
            }
            15 => {
                let mut out = self.pick().ct;
                let plan = self.plan_relin_rescale(&a);
                let result = ev.relin_rescale_into(&a.ct, &self.relin, &mut out).map(|()| out);
                self.settle("relinearise and rescale", plan, result)
            }
            16 | 17 => self.rotate(&a),
            18 => {
                // Of real values, conjugation changes only the noise.
                let noise = a.ct.noise_bound() + self.switching(a.twin.level) + self.rounding(1);
                let plan = if a.twin.degree == 2 {
                    Err(Obstacle::Degree)
                } else if !complex(&self.context) {
                    Err(Obstacle::RealRing)
                } else {
                    Ok(Expected {
                        twin: a.twin.clone(),
                        noise,
                    })
                };
                self.settle("conjugate", plan, ev.conjugate(&a.ct, &self.galois))
            }
            _ => {
                let bytes = a.ct.to_bytes().unwrap();
                let read = Ciphertext::from_bytes(&self.context, &bytes);
                assert_eq!(read.as_ref(), Ok(&a.ct));
                let expected = Expected {
                    twin: a.twin.clone(),
                    noise: a.ct.noise_bound(),
                };
                self.settle("bytes", Ok(expected), read)
            }
        };
        if let Some(pair) = result {
            let at = self.random.below(self.alive.len());
            self.alive[at] = pair;
        }
        self.replace_spent();
    }

    /// One rotation, alone, hoisted or into a ciphertext that was something else; sometimes one without a key.
    fn rotate(&mut self, a: &Pair) -> Option<Pair> {
        let ev = self.ev.clone();
        let slots = self.context.slots() as i64;
        let known = self.random.below(self.steps.len());
        let steps = if self.random.chance(10) {
            5
        } else {
            self.steps[known]
        };
        let turn = steps.rem_euclid(slots);
        let has_key = self.steps.iter().any(|known| known.rem_euclid(slots) == turn);
        assert_eq!(self.galois.has_rotation(steps), has_key);
        let mut values = a.twin.values.clone();
        values.rotate_left(turn as usize);
        let plan = if a.twin.degree == 2 {
            Err(Obstacle::Degree)
        } else if !has_key {
            Err(Obstacle::NoKey)
        } else {
            Ok(Expected {
                twin: Twin {
                    values,
                    slots: self.context.slots(),
                    ..a.twin.clone()
                },
                noise: a.ct.noise_bound() + self.switching(a.twin.level) + self.rounding(1),
            })
        };
        let result = match self.random.below(3) {
            0 => ev.rotate(&a.ct, steps, &self.galois),
            1 => ev
                .hoist(&a.ct)
                .and_then(|hoisted| ev.rotate_from(&hoisted, steps, &self.galois)),
            _ => {
                let mut out = self.pick().ct;
                ev.rotate_into(&a.ct, steps, &self.galois, &mut out).map(|()| out)
            }
        };
        self.settle("rotate", plan, result)
    }

    fn with_plaintext(&mut self, a: &Pair) -> Option<Pair> {
        let magnitude = (2.0 * self.random.unit()).exp2();
        let slots = self.count();
        let values = self.values(slots, magnitude);
        let nominal = self.context.scale(a.twin.level).unwrap();
        let adding = self.random.chance(50);
        let scale = if adding && self.random.chance(85) {
            a.twin.scale
        } else {
            nominal
        };
        let plain = match self.context.encode_at(&values, magnitude, a.twin.level, scale) {
            Ok(plain) => plain,
            // Scaled up to near the modulus, not every plaintext fits.
            Err(CkksError::Overflow {
                needed_bits,
                available_bits,
            }) => {
                let needed = (scale * magnitude).log2() + 1.0;
                assert!(needed_bits >= available_bits && (needed_bits - needed).abs() < 1.0);
                return None;
            }
            Err(error) => panic!("encode: {error}"),
        };
        let mut padded = values;
        padded.resize(self.context.slots(), 0.0);
        let twin = Twin {
            values: padded,
            level: a.twin.level,
            scale,
            degree: 1,
            magnitude,
            slots,
        };
        let noise = plain.budget().noise;
        let ev = self.ev.clone();
        if adding {
            let plan = if scale == a.twin.scale {
                Ok(Expected {
                    twin: Twin {
                        values: map(&a.twin.values, &twin.values, |x, y| x + y),
                        magnitude: a.twin.magnitude + magnitude,
                        slots: a.twin.slots.max(slots),
                        ..a.twin.clone()
                    },
                    noise: a.ct.noise_bound() + noise,
                })
            } else {
                Err(Obstacle::Scale)
            };
            return self.settle("add plaintext", plan, ev.add_plain(&a.ct, &plain));
        }
        let plan = Self::product(&a.twin, a.ct.noise_bound(), &twin, noise).map(|mut expected| {
            expected.twin.degree = a.twin.degree;
            expected.twin.slots = a.twin.slots;
            expected
        });
        self.settle("multiply by plaintext", plan, ev.mul_plain(&a.ct, &plain))
    }

    fn add_scalar(&mut self, a: &Pair) -> Option<Pair> {
        let value = self.random.weight();
        // The constant stands in every slot, also in those that hold nothing.
        let twin = Twin {
            values: a.twin.values.iter().map(|x| x + value).collect(),
            magnitude: a.twin.magnitude + value.abs(),
            ..a.twin.clone()
        };
        let noise = a.ct.noise_bound() + 0.5 + (value * a.twin.scale).abs() * (-50f64).exp2();
        self.settle(
            "add scalar",
            Ok(Expected { twin, noise }),
            self.ev.clone().add_scalar(&a.ct, value),
        )
    }

    fn weighted(&mut self, a: &Pair) -> Option<Pair> {
        let mut operands = vec![a.clone()];
        for _ in 0..self.random.below(4) {
            let b = self.pick();
            operands.push(b);
        }
        let lowest = operands.iter().map(|a| a.twin.level).min().unwrap();
        let level = if self.random.chance(90) {
            lowest - self.random.below(lowest.min(2) + 1)
        } else {
            self.context.max_level()
        };
        let nominal = self.context.product_target(level).unwrap();
        // At least 2^20 above every operand's scale, so that weights have that precision, or the nominal product.
        let highest = operands.iter().fold(1f64, |m, a| m.max(a.twin.scale));
        let scale = if self.random.chance(60) {
            nominal.scale
        } else {
            highest * (1u64 << 20) as f64
        };
        let target = Target { level, scale };
        let weights: Vec<f64> = operands.iter().map(|_| self.random.weight()).collect();
        let plan = self.plan_weighted(&operands, &weights, target);
        let cts: Vec<&Ciphertext> = operands.iter().map(|a| &a.ct).collect();
        self.settle(
            "weighted sum",
            plan,
            self.ev.clone().mac_scalars(&cts, &weights, target),
        )
    }

    /// What has no precision left, or no level and a scale with which nothing works, makes place for something fresh.
    fn replace_spent(&mut self) {
        for at in 0..self.alive.len() {
            let ct = &self.alive[at].ct;
            let spent = ct.precision_bits() < 2.0 || (ct.level() == 0 && self.random.chance(10));
            if spent || self.alive[at].twin.magnitude == 0.0 {
                self.alive[at] = self.fresh();
            }
        }
    }
}
