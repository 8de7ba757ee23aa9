//! Polynomials of ciphertexts.
//!
//! Scales are exact throughout: the scale of the result is stated first, and from it follow, from the root of the plan
//! down, the scale of every sum, and from the scales that the powers have, those of the quotients. All summands of a sum are
//! computed for its scale, so no sum is off by the difference of two primes.

use super::plan::{Node, Plan, factors};
use super::{Basis, Polynomial};
use crate::ciphertext::Ciphertext;
use crate::context::Target;
use crate::error::CkksError;
use crate::evaluate::Evaluator;
use crate::keys::RelinKey;
use std::borrow::Cow;
use std::collections::BTreeMap;

impl Evaluator {
    /// The levels that [`Self::polynomial`] takes of this ciphertext: [`Polynomial::levels_needed`] for one of nominal
    /// scale, one more for an unrescaled product, one less where its scale takes in the change of variable.
    ///
    /// # Errors
    /// [`CkksError::PresetMismatch`], [`CkksError::NoLevelLeft`] for an unrescaled product at level 0.
    pub fn polynomial_levels(&self, a: &Ciphertext, polynomial: &Polynomial) -> Result<usize, CkksError> {
        self.check_preset(a)?;
        let (_, radius) = polynomial.basis().variable();
        let (mut level, mut scale, mut levels) = (a.level(), a.scale(), 0);
        while let Some(lower) = self.rescaled_scale(level, scale)? {
            (level, scale, levels) = (level - 1, lower, levels + 1);
        }
        let ratio = scale * radius / self.context().scale(level)?;
        let change = usize::from(!polynomial.plan.absorbs(ratio));
        Ok(levels + change + polynomial.plan.depth)
    }

    /// The polynomial of every slot value, at the nominal scale of its level, which is [`Self::polynomial_levels`] below
    /// that of `a`.
    ///
    /// `a` may have degree 2 and may be an unrescaled product. In the Chebyshev basis all slot values must be within the
    /// interval; outside of it the values of a polynomial of high degree are too large for any modulus. What can be checked is
    /// checked: the magnitude bound of `a` may not be above that of the interval (where sums made it larger than values are,
    /// [`Ciphertext::with_magnitude_bound`] states a better one), and an interval without zero needs values in all slots.
    ///
    /// The planned precision is checked for the result, not for what comes between.
    ///
    /// # Errors
    /// [`CkksError::Levels`], [`CkksError::OutsideInterval`], [`CkksError::KeyMismatch`], [`CkksError::PresetMismatch`],
    /// [`CkksError::Overflow`], [`CkksError::Precision`].
    pub fn polynomial(
        &self,
        a: &Ciphertext,
        polynomial: &Polynomial,
        relin: &RelinKey,
    ) -> Result<Ciphertext, CkksError> {
        let (result, _) = self.polynomial_counted(a, polynomial, relin)?;
        Ok(result)
    }

    /// Also returns the number of products of ciphertexts.
    fn polynomial_counted(
        &self,
        a: &Ciphertext,
        polynomial: &Polynomial,
        relin: &RelinKey,
    ) -> Result<(Ciphertext, usize), CkksError> {
        let needed = self.polynomial_levels(a, polynomial)?;
        if needed > a.level() {
            return Err(CkksError::Levels {
                needed,
                available: a.level(),
            });
        }
        if relin.digest() != a.key {
            return Err(CkksError::KeyMismatch);
        }
        let lenient = self.clone().with_min_precision(f64::NEG_INFINITY);
        let plan = &polynomial.plan;
        let variable = lenient.variable(a, polynomial, relin)?;
        let level = variable.level() - plan.depth;
        let scale = self.context().scale(level)?;
        let mut run = Run {
            ev: &lenient,
            relin,
            plan,
            powers: BTreeMap::from([(1, variable)]),
            products: 0,
        };
        let result = if plan.depth == 0 {
            run.constant(level, scale)?
        } else {
            for &i in &plan.powers {
                let power = run.power(i)?;
                run.powers.insert(i, power);
            }
            run.rescaled(&plan.root, level, scale)?
        };
        self.check_budget(level, result.budget())?;
        Ok((result, run.products))
    }

    /// The scale after a rescaling, if the ciphertext looks like a product that has not been rescaled.
    fn rescaled_scale(&self, level: usize, scale: f64) -> Result<Option<f64>, CkksError> {
        if level == 0 {
            return Ok(None);
        }
        let lower = scale / self.context().preset().primes()[level] as f64;
        Ok((lower > self.context().scale(level - 1)? / 2.0).then_some(lower))
    }

    /// `t = (x - middle) / radius`, by restating the scale where powers can do with it, else at the cost of a level.
    fn variable(
        &self,
        a: &Ciphertext,
        polynomial: &Polynomial,
        relin: &RelinKey,
    ) -> Result<Ciphertext, CkksError> {
        let mut x = self.relinearise(a, relin)?;
        while self.rescaled_scale(x.level(), x.scale())?.is_some() {
            x = self.rescale(&x)?;
        }
        let (middle, radius) = polynomial.basis().variable();
        if let Basis::Chebyshev { low, high } = polynomial.basis() {
            let empty_slots = x.slots() < self.context().slots();
            let zero_outside = empty_slots && (low > 0.0 || high < 0.0);
            if zero_outside || x.magnitude_bound() > low.abs().max(high.abs()) {
                return Err(CkksError::OutsideInterval {
                    magnitude: if zero_outside { 0.0 } else { x.magnitude_bound() },
                    low,
                    high,
                });
            }
            if middle != 0.0 {
                x = self.add_scalar(&x, -middle)?;
            }
            // The same integers stand for values that are `radius` times smaller.
            x.budget.scale *= radius;
            x.budget.magnitude = 1.0;
            x.budget = x.budget.divided(1.0, 0.0, x.budget.scale);
        }
        let nominal = self.context().scale(x.level())?;
        if polynomial.plan.absorbs(x.scale() / nominal) {
            return Ok(x);
        }
        let below = self.context().scale(x.level() - 1)?;
        let target = Target {
            level: x.level(),
            scale: below * self.prime(x.level()),
        };
        self.rescale_to(&self.mac_scalars(&[&x], &[1.0], target)?, below)
    }

    fn prime(&self, level: usize) -> f64 {
        self.context().preset().primes()[level] as f64
    }
}

/// One evaluation.
struct Run<'a> {
    ev: &'a Evaluator,
    relin: &'a RelinKey,
    plan: &'a Plan,
    powers: BTreeMap<usize, Ciphertext>,
    products: usize,
}

impl Run<'_> {
    /// Power i; all that it is computed from are there already, because they are lower.
    fn power(&mut self, i: usize) -> Result<Ciphertext, CkksError> {
        let (large, small) = factors(i);
        let a = self.powers.get(&large).ok_or(CkksError::NoLevelLeft)?;
        // The smaller power is less deep, so it is read at the level of the larger one.
        let mut product = if large == small {
            self.ev.square(a)?
        } else {
            self.ev.multiply(a, &*self.read(small, a.level())?)?
        };
        self.products += 1;
        if self.plan.chebyshev {
            // T_(a+b) = 2 T_a T_b - T_(a-b).
            product = self.ev.mul_integer(&product, 2)?;
            if large == small {
                self.ev.add_scalar_assign(&mut product, -1.0)?;
            } else {
                let target = Target {
                    level: product.level(),
                    scale: product.scale(),
                };
                let lower = self.powers.get(&(large - small)).ok_or(CkksError::NoLevelLeft)?;
                let negated = self.ev.mac_scalars(&[lower], &[-1.0], target)?;
                self.ev.add_assign(&mut product, &negated)?;
            }
        }
        let mut power = self.ev.relin_rescale(&product, self.relin)?;
        if self.plan.chebyshev {
            power.budget.magnitude = 1.0;
        }
        Ok(power)
    }

    /// Power i as it is at a level at or below its own.
    fn read(&self, i: usize, level: usize) -> Result<Cow<'_, Ciphertext>, CkksError> {
        let power = self.powers.get(&i).ok_or(CkksError::NoLevelLeft)?;
        if power.level() == level {
            return Ok(Cow::Borrowed(power));
        }
        self.ev.drop_level(power, level).map(Cow::Owned)
    }

    /// The value of a node at this level and scale.
    fn rescaled(&mut self, node: &Node, level: usize, scale: f64) -> Result<Ciphertext, CkksError> {
        let sum = self.sum(node, level + 1, scale * self.ev.prime(level + 1))?;
        let mut value = self.ev.relin_rescale(&sum, self.relin)?;
        // The scale came from this one times the prime: what doubles round counts as noise, here as for products.
        value.budget = value.budget.divided(1.0, 0.0, scale);
        value.budget.magnitude = value.budget.magnitude.min(node.magnitude);
        Ok(value)
    }

    /// The value of a node before relinearisation and rescaling.
    fn sum(&mut self, node: &Node, level: usize, scale: f64) -> Result<Ciphertext, CkksError> {
        let mut sum: Option<Ciphertext> = None;
        if !node.linear.is_empty() {
            let powers = node
                .linear
                .iter()
                .map(|(i, _)| self.powers.get(i).ok_or(CkksError::NoLevelLeft))
                .collect::<Result<Vec<_>, _>>()?;
            let weights: Vec<f64> = node.linear.iter().map(|(_, c)| *c).collect();
            sum = Some(self.ev.mac_scalars(&powers, &weights, Target { level, scale })?);
        }
        for (quotient, m) in &node.products {
            let power_scale = self.powers.get(m).ok_or(CkksError::NoLevelLeft)?.scale();
            let quotient = self.rescaled(quotient, level, scale / power_scale)?;
            let mut product = self.ev.multiply(&quotient, &*self.read(*m, level)?)?;
            self.products += 1;
            // The product of scales is this one but for the rounding of doubles, which counts as noise.
            product.budget = product.budget.divided(1.0, 0.0, scale);
            match &mut sum {
                Some(sum) => self.ev.add_assign(sum, &product)?,
                None => sum = Some(product),
            }
        }
        let mut sum = sum.ok_or(CkksError::NoLevelLeft)?;
        if node.constant != 0.0 {
            self.ev.add_scalar_assign(&mut sum, node.constant)?;
        }
        Ok(sum)
    }

    /// A constant polynomial: nothing of the ciphertext is left but its header.
    fn constant(&self, level: usize, scale: f64) -> Result<Ciphertext, CkksError> {
        let variable = self.powers.get(&1).ok_or(CkksError::NoLevelLeft)?;
        let mut zero = self
            .ev
            .mac_scalars(&[variable], &[0.0], Target { level, scale })?;
        self.ev.add_scalar_assign(&mut zero, self.plan.root.constant)?;
        Ok(zero)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Context;
    use crate::keys::SecretKey;
    use crate::preset::{Preset, PresetSpec};
    use galen_rns::ring::RingKind;

    #[test]
    fn as_many_products_as_planned() {
        let spec = PresetSpec {
            ring: RingKind::Cyclotomic,
            degree: 64,
            base_bits: 50,
            levels: 6,
            scale_bits: 40,
            special: 2,
            special_bits: 50,
            digit: 2,
        };
        let context = Context::new(&Preset::insecure_for_tests(spec).unwrap()).unwrap();
        let key = SecretKey::from_seed(&context, &[1; 32]).unwrap();
        let relin = key.relin_key().unwrap();
        let ct = key.encrypt(&context.encode(&[0.5; 32], 1.0).unwrap()).unwrap();
        let ev = Evaluator::new(&context);
        for degree in 0..64usize {
            let series: Vec<f64> = (0..=degree).map(|k| 1.0 / (1 + k * k) as f64).collect();
            for p in [
                Polynomial::power(&series).unwrap(),
                Polynomial::chebyshev(&series, -1.0, 1.0).unwrap(),
            ] {
                let (_, products) = ev.polynomial_counted(&ct, &p, &relin).unwrap();
                assert_eq!(products, p.multiplications());
            }
        }
    }
}
