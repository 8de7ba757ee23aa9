//! Ciphertexts beside their twins, and the comparison of the two after every step.

use crate::random::Random;
use crate::twin::{Obstacle, Pair, Plan, Twin};
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::context::Context;
use galen_ckks::error::CkksError;
use galen_ckks::evaluate::Evaluator;
use galen_ckks::galois::GaloisKeys;
use galen_ckks::keys::{PublicKey, RelinKey, SecretKey};
use galen_rns::ring::RingKind;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Ciphertexts that are alive at a time.
const ALIVE: usize = 8;

/// The ciphertexts of one sequence, their keys, and what was done.
pub(crate) struct World {
    pub(crate) name: String,
    pub(crate) context: Arc<Context>,
    pub(crate) ev: Evaluator,
    pub(crate) key: SecretKey,
    pub(crate) public: PublicKey,
    pub(crate) relin: RelinKey,
    pub(crate) galois: GaloisKeys,
    pub(crate) steps: Vec<i64>,
    pub(crate) alive: Vec<Pair>,
    pub(crate) random: Random,
    pub(crate) trace: bool,
    /// Largest error as a share of the stated bound, for each operation, and how often it was done and refused.
    pub(crate) record: BTreeMap<&'static str, (f64, u64, u64)>,
}

impl World {
    pub(crate) fn new(name: &str, context: &Arc<Context>, seed: u64, trace: bool) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let key = SecretKey::from_seed(context, &bytes).unwrap();
        let slots = context.slots() as i64;
        // Rotations that overlap, that wrap around, and the other way.
        let steps = vec![1, 3, slots / 2, -1, slots - 3];
        let galois = if complex(context) {
            key.galois_keys_and_conjugation(&steps).unwrap()
        } else {
            key.galois_keys(&steps).unwrap()
        };
        let mut world = Self {
            name: name.to_owned(),
            context: Arc::clone(context),
            ev: Evaluator::new(context).with_min_precision(-1000.0),
            public: key.public_key().unwrap(),
            relin: key.relin_key().unwrap(),
            galois,
            steps,
            key,
            alive: Vec::new(),
            random: Random::new(seed),
            trace,
            record: BTreeMap::new(),
        };
        for _ in 0..ALIVE {
            let fresh = world.fresh();
            world.alive.push(fresh);
        }
        world
    }

    pub(crate) fn values(&mut self, count: usize, magnitude: f64) -> Vec<f64> {
        (0..count).map(|_| magnitude * self.random.unit()).collect()
    }

    pub(crate) fn count(&mut self) -> usize {
        let slots = self.context.slots();
        if self.random.chance(70) {
            slots
        } else {
            1 + self.random.below(slots)
        }
    }

    /// A fresh encryption, mostly at the top.
    pub(crate) fn fresh(&mut self) -> Pair {
        let top = self.context.max_level();
        let level = if self.random.chance(70) {
            top
        } else {
            self.random.below(top + 1)
        };
        let magnitude = (3.0 * self.random.unit()).exp2().min(4.0);
        let slots = self.count();
        let values = self.values(slots, magnitude);
        let scale = self.context.scale(level).unwrap();
        let plain = self.context.encode_at(&values, magnitude, level, scale).unwrap();
        let ct = if self.random.chance(50) {
            self.key.encrypt(&plain).unwrap()
        } else {
            self.public.encrypt(&plain).unwrap()
        };
        let mut padded = values;
        padded.resize(self.context.slots(), 0.0);
        let twin = Twin {
            values: padded,
            level,
            scale,
            degree: 1,
            magnitude,
            slots,
        };
        let pair = Pair { ct, twin };
        self.check("encrypt", &pair);
        pair
    }

    /// Level, scale, degree and slots exactly; values within the ciphertext's own bound.
    pub(crate) fn check(&mut self, operation: &'static str, pair: &Pair) {
        let Pair { ct, twin } = pair;
        assert_eq!(
            (ct.level(), ct.degree(), ct.slots()),
            (twin.level, twin.degree, twin.slots),
            "{operation}"
        );
        // The same formula in doubles gives the same bits.
        assert_eq!(ct.scale(), twin.scale, "{operation}: scale");
        assert!(
            ct.magnitude_bound() <= twin.magnitude * (1.0 + 1e-9),
            "{operation}: magnitude {} above {}",
            ct.magnitude_bound(),
            twin.magnitude
        );
        let largest = twin.values.iter().fold(0f64, |m, x| m.max(x.abs()));
        assert!(
            largest <= ct.magnitude_bound() * (1.0 + 1e-9),
            "{operation}: values above their bound"
        );
        assert!(ct.budget().needed_bits() < self.context.log2_q(ct.level()).unwrap());

        let plain = self.key.decrypt(ct).unwrap();
        let decoded = self.context.decode(&plain).unwrap();
        // Decoding gives the slots in use; what is in the others must not matter to anyone.
        let error = decoded
            .iter()
            .zip(&twin.values)
            .fold(0f64, |m, (a, b)| m.max((a - b).abs()));
        let share = error * ct.scale() / ct.noise_bound();
        assert!(
            share <= 1.0,
            "{operation}: error 2^{:.2} above its bound 2^{:.2}",
            error.log2(),
            (ct.noise_bound() / ct.scale()).log2()
        );
        let entry = self.record.entry(operation).or_default();
        entry.0 = entry.0.max(share);
        entry.1 += 1;
    }

    /// Compares what the evaluator did with what the twin expects.
    pub(crate) fn settle(
        &mut self,
        operation: &'static str,
        plan: Plan,
        result: Result<Ciphertext, CkksError>,
    ) -> Option<Pair> {
        if self.trace {
            let outcome = match &result {
                Ok(ct) => format!("level {} scale 2^{:.2}", ct.level(), ct.scale().log2()),
                Err(error) => error.to_string(),
            };
            println!("{operation}: {outcome}");
        }
        match (plan, result) {
            (Ok(expected), Ok(ct)) => {
                let pair = Pair {
                    ct,
                    twin: expected.twin,
                };
                self.check(operation, &pair);
                assert!(
                    pair.ct.noise_bound() <= expected.noise * (1.0 + 1e-6),
                    "{operation}: states noise 2^{:.3}, the operands explain 2^{:.3}",
                    pair.ct.noise_bound().log2(),
                    expected.noise.log2()
                );
                Some(pair)
            }
            (plan, Err(error)) => {
                self.record.entry(operation).or_default().2 += 1;
                self.agree(operation, plan, &error);
                None
            }
            (Err(obstacle), Ok(_)) => panic!("{operation}: done in spite of {obstacle:?}"),
        }
    }

    /// A refusal must name what the twin sees.
    pub(crate) fn agree(&self, operation: &str, plan: Plan, error: &CkksError) {
        let seen = match (&plan, error) {
            (Err(Obstacle::Level), CkksError::LevelMismatch { .. })
            | (Err(Obstacle::Scale), CkksError::ScaleMismatch { .. })
            | (Err(Obstacle::Degree), CkksError::CiphertextDegree { .. })
            | (Err(Obstacle::NoLevel), CkksError::NoLevelLeft)
            | (Err(Obstacle::LevelRange), CkksError::LevelRange { .. })
            | (Err(Obstacle::ScaleRange), CkksError::InvalidScale { .. })
            | (Err(Obstacle::NoKey), CkksError::MissingRotation { .. })
            | (Err(Obstacle::Number), CkksError::InvalidNumber { .. })
            | (Err(Obstacle::RealRing), CkksError::NoConjugation) => true,
            (
                Ok(expected),
                CkksError::Overflow {
                    needed_bits,
                    available_bits,
                },
            ) => {
                let twin = &expected.twin;
                let largest = twin.scale * twin.magnitude;
                let needed = (largest + expected.noise).log2() + 1.0;
                *available_bits == self.context.log2_q(twin.level).unwrap()
                    && needed_bits >= available_bits
                    && *needed_bits <= needed + 1e-6
                    && *needed_bits >= largest.log2() + 1.0 - 1e-6
            }
            _ => false,
        };
        if !seen {
            let plan = plan.map(|e| (e.twin.level, e.twin.scale.log2(), e.twin.magnitude, e.noise));
            panic!("{operation}: refused with \"{error}\", the twin has {plan:?}");
        }
    }

    pub(crate) fn pick(&mut self) -> Pair {
        let at = self.random.below(self.alive.len());
        self.alive[at].clone()
    }

    /// Mostly one that fits the first; else any.
    pub(crate) fn pick_for(&mut self, a: &Twin, same_scale: bool) -> Pair {
        let fits: Vec<usize> = (0..self.alive.len())
            .filter(|&i| {
                let b = &self.alive[i].twin;
                b.level == a.level && (!same_scale || b.scale == a.scale)
            })
            .collect();
        if fits.is_empty() || self.random.chance(15) {
            return self.pick();
        }
        let at = fits[self.random.below(fits.len())];
        self.alive[at].clone()
    }
}

pub(crate) fn complex(context: &Context) -> bool {
    context.preset().spec().ring == RingKind::Cyclotomic
}
