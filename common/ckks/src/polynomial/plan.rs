//! How a polynomial is taken apart: which powers are computed, and how their products with quotients add up.
//!
//! Paterson and Stockmeyer's recursion (SIAM J. Comput. 2, 1973) as it is used for Chebyshev series by Bossuat, Mouchet,
//! Troncoso-Pastoriza and Hubaux (ePrint 2020/1203, section 3): `p = q T_m + r` with m the largest power of two up to
//! the degree, down to sums of baby powers. Unlike there the recursion keeps track of levels itself: a sum of baby powers is
//! taken where they have the level for it, and divided further where they do not, so that the depth is minimal for every degree. The
//! remainder is of the same scale and level as the product, so it is divided again in place, and one relinearisation and one
//! rescaling serve the whole sum.

use crate::chebyshev;
use std::collections::BTreeSet;

/// `sum of quotients * powers + sum of weights * powers + constant`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// Quotients, which are evaluated and rescaled, with the power that each multiplies.
    pub(super) products: Vec<(Node, usize)>,
    /// Powers and their weights.
    pub(super) linear: Vec<(usize, f64)>,
    pub(super) constant: f64,
    /// Bound on the absolute values on `-1..1`; infinite in the power basis.
    pub(super) magnitude: f64,
}

/// All that is known before anything is encrypted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub(super) chebyshev: bool,
    /// `ceil(log2(degree + 1))`.
    pub(super) depth: usize,
    /// Powers to compute, the first excepted, in ascending order.
    pub(super) powers: Vec<usize>,
    pub(super) root: Node,
}

/// `ceil(log2(x))`.
fn ceil_log2(x: usize) -> usize {
    x.next_power_of_two().trailing_zeros() as usize
}

/// The two powers whose product is power i, at least 2: the larger is a power of two, for the least depth.
pub(super) fn factors(i: usize) -> (usize, usize) {
    let large = i.next_power_of_two() / 2;
    (large, i - large)
}

impl Plan {
    /// The cheapest plan of minimal depth. Coefficients are finite, the last one is not zero unless it is the only one.
    pub(super) fn new(chebyshev: bool, coefficients: &[f64]) -> Self {
        let depth = ceil_log2(coefficients.len());
        let candidate = |log_baby: usize, bounds: bool| {
            let splitter = Splitter {
                chebyshev,
                baby: 1 << log_baby,
                bounds,
            };
            let root = splitter.split(coefficients.to_vec(), depth.saturating_sub(1));
            let mut needed = BTreeSet::new();
            root.add_powers(&mut needed);
            Self {
                chebyshev,
                depth,
                powers: closure(chebyshev, needed),
                root,
            }
        };
        let cost = |&log_baby: &usize| {
            let plan = candidate(log_baby, false);
            (plan.multiplications(), plan.relinearisations())
        };
        candidate((1..=depth).min_by_key(cost).unwrap_or(1), chebyshev)
    }

    pub(super) fn multiplications(&self) -> usize {
        self.powers.len() + self.root.products()
    }

    pub(super) fn relinearisations(&self) -> usize {
        self.powers.len() + self.root.relinearisations()
    }

    /// Whether a variable whose scale is off the nominal one by this factor can be taken as it is. The scale of power i is
    /// off by the i-th power, which is harmless within two bits. With no powers above the first there is no such effect:
    /// weights absorb any factor.
    pub(super) fn absorbs(&self, ratio: f64) -> bool {
        let bits = ratio.log2().abs();
        match self.powers.last() {
            Some(&largest) => bits * largest as f64 <= MAX_RATIO_BITS,
            None => self.depth == 0 || bits <= MAX_FIRST_RATIO_BITS,
        }
    }
}

/// A power may be this many bits off the nominal scale.
const MAX_RATIO_BITS: f64 = 2.0;
/// A first power may be this many bits off the nominal scale if nothing but weights multiply it.
const MAX_FIRST_RATIO_BITS: f64 = 20.0;

/// All powers that are needed to compute some, the first excepted.
fn closure(chebyshev: bool, mut needed: BTreeSet<usize>) -> Vec<usize> {
    let mut all = BTreeSet::new();
    while let Some(i) = needed.pop_last() {
        if i < 2 || !all.insert(i) {
            continue;
        }
        let (large, small) = factors(i);
        needed.extend([large, small]);
        if chebyshev {
            needed.insert(large - small);
        }
    }
    all.into_iter().collect()
}

struct Splitter {
    chebyshev: bool,
    /// Powers below this one are babies; powers of two besides.
    baby: usize,
    /// Whether to bound the values of every sum.
    bounds: bool,
}

impl Splitter {
    /// `room` is the number of levels between the variable and the sum before its rescaling: power i is there if
    /// `i <= 2^room`, and the degree is below `2^(room + 1)`.
    fn split(&self, mut p: Vec<f64>, room: usize) -> Node {
        let mut node = Node {
            products: Vec::new(),
            linear: Vec::new(),
            constant: 0.0,
            magnitude: if self.bounds {
                chebyshev::bound(&p)
            } else {
                f64::INFINITY
            },
        };
        loop {
            while p.len() > 1 && p.last() == Some(&0.0) {
                p.pop();
            }
            let degree = p.len() - 1;
            let there = |i: usize| (i < self.baby || i.is_power_of_two()) && i <= 1 << room;
            if (1..=degree).all(|i| p[i] == 0.0 || there(i)) {
                break;
            }
            // The largest power of two up to the degree.
            let m = 1 << degree.ilog2();
            let (quotient, remainder) = if self.chebyshev {
                chebyshev::divide(&p, m)
            } else {
                (p[m..].to_vec(), p[..m].to_vec())
            };
            if let [c] = quotient[..] {
                node.linear.push((m, c));
            } else {
                node.products.push((self.split(quotient, room - 1), m));
            }
            p = remainder;
        }
        node.constant = p[0];
        node.linear
            .extend(p.iter().copied().enumerate().skip(1).filter(|(_, c)| *c != 0.0));
        node
    }
}

impl Node {
    fn add_powers(&self, needed: &mut BTreeSet<usize>) {
        needed.extend(self.linear.iter().map(|(i, _)| i));
        for (quotient, m) in &self.products {
            needed.insert(*m);
            quotient.add_powers(needed);
        }
    }

    fn products(&self) -> usize {
        self.products
            .iter()
            .map(|(quotient, _)| 1 + quotient.products())
            .sum()
    }

    fn relinearisations(&self) -> usize {
        let below: usize = self.products.iter().map(|(q, _)| q.relinearisations()).sum();
        below + usize::from(!self.products.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dense(degree: usize) -> Vec<f64> {
        (0..=degree).map(|k| 1.0 + k as f64 / 100.0).collect()
    }

    /// `2^b - 2` babies, `D - b` powers of two, `2^(D-b) - 1` divisions, and `b - 1` more for the top part, whose
    /// babies come a level too late.
    fn theory(depth: usize) -> usize {
        (1..=depth)
            .map(|b| (1 << b) + (1 << (depth - b)) + depth - 4)
            .min()
            .unwrap()
    }

    #[test]
    fn products_are_as_many_as_the_theory_says() {
        for chebyshev in [false, true] {
            for depth in 2..=10 {
                let plan = Plan::new(chebyshev, &dense((1 << depth) - 1));
                assert_eq!(plan.multiplications(), theory(depth), "depth {depth}");
                assert_eq!(plan.depth, depth);
            }
            for degree in 2..200 {
                let plan = Plan::new(chebyshev, &dense(degree));
                assert!(plan.multiplications() <= theory(plan.depth), "degree {degree}");
                assert!(plan.relinearisations() <= plan.multiplications());
            }
        }
    }

    #[test]
    fn parity_saves_products() {
        for chebyshev in [false, true] {
            for degree in 7..200usize {
                let all = Plan::new(chebyshev, &dense(degree));
                let mut half = dense(degree);
                half.iter_mut()
                    .enumerate()
                    .filter(|(k, _)| k % 2 != degree % 2)
                    .for_each(|(_, c)| *c = 0.0);
                let half = Plan::new(chebyshev, &half);
                assert!(half.multiplications() <= all.multiplications(), "degree {degree}");
                if degree >= 31 {
                    assert!(half.multiplications() < all.multiplications(), "degree {degree}");
                }
                assert!(
                    half.powers
                        .iter()
                        .all(|i| i % 2 == degree % 2 || i.is_power_of_two())
                );
            }
        }
        let keep = |degree: usize, f: fn(usize) -> bool| -> Vec<f64> {
            let p = dense(degree).into_iter().enumerate();
            p.map(|(k, c)| if f(k) { c } else { 0.0 }).collect()
        };
        // A constant does not disturb an odd polynomial: powers 3, 5, 7 and powers of two, divisions as ever.
        let sigmoid = Plan::new(true, &keep(63, |k| k % 2 == 1 || k == 0));
        assert_eq!(sigmoid.powers, [2, 3, 4, 5, 7, 8, 16, 32]);
        assert_eq!(sigmoid.multiplications(), 17);
        // An even one of degree 62 is one of degree 31 in the second power.
        let even = Plan::new(true, &keep(62, |k| k % 2 == 0));
        assert_eq!(even.multiplications(), 1 + theory(5));
    }

    #[test]
    fn few_powers_take_few_products() {
        for (indices, products) in [
            (&[0][..], 0),
            (&[1], 0),
            (&[2], 1),
            (&[1, 16], 4),
            (&[3], 2),
            (&[0, 1, 2, 3], 2),
            (&[15], 6),
        ] {
            let mut p = vec![0.0; indices.iter().max().unwrap() + 1];
            indices.iter().for_each(|&i| p[i] = 1.0);
            for chebyshev in [false, true] {
                let plan = Plan::new(chebyshev, &p);
                assert!(
                    plan.multiplications() <= products,
                    "{indices:?}: {}",
                    plan.multiplications()
                );
            }
        }
    }

    /// Evaluating as the plan says gives the polynomial, every quantity has its level, and bounds hold.
    #[test]
    fn plans_add_up() {
        for chebyshev in [false, true] {
            for degree in 0..130 {
                let p: Vec<f64> = (0..=degree)
                    .map(|k| ((k * k + 3 * k + degree) % 11) as f64 - 4.5)
                    .collect();
                let plan = Plan::new(chebyshev, &p);
                for t in [-1.0, -0.6, 0.1, 0.8] {
                    let power = |i: usize| -> f64 {
                        if chebyshev {
                            (i as f64 * f64::acos(t)).cos()
                        } else {
                            t.powi(i as i32)
                        }
                    };
                    let expected: f64 = p.iter().enumerate().map(|(i, c)| c * power(i)).sum();
                    let got = value(&plan.root, &power, plan.depth.saturating_sub(1), &plan.powers);
                    assert!((got - expected).abs() < 1e-9, "degree {degree}");
                }
            }
        }
    }

    fn value(node: &Node, power: &dyn Fn(usize) -> f64, room: usize, powers: &[usize]) -> f64 {
        let there = |i: usize| {
            assert!(i == 1 || powers.contains(&i));
            assert!(ceil_log2(i) <= room, "power {i} is not there yet");
            power(i)
        };
        let mut sum = node.constant;
        for (i, c) in &node.linear {
            sum += c * there(*i);
        }
        for (quotient, m) in &node.products {
            sum += value(quotient, power, room - 1, powers) * there(*m);
        }
        assert!(sum.abs() <= node.magnitude);
        sum
    }
}
