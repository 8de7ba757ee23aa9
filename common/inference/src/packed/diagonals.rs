//! Matrices as generalised diagonals.
//!
//! A vector whose elements lie in the slots below its *period*, a power of two, and that repeats with that period, is multiplied by a matrix as
//! `sum of diagonal_i * rotation by i` (Halevi and Shoup, CRYPTO 2014, section 4.3). A result whose period is shorter than that of the vector takes as
//! many diagonals as its own period has, and is then added up over the rest by rotations that double (the hybrid of Juvekar, Vaikuntanathan and
//! Chandrakasan, USENIX Security 2018, section 4.3). Either way, every slot of the result holds an element of it or zero, and nothing else: there is nothing to mask.

use crate::sparse::Sparse;
use std::collections::{BTreeMap, BTreeSet};

/// A rotation costs about as much as this many products with a plaintext.
pub(crate) const ROTATION: usize = 30;

/// A vector's places among the slots of a patient.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Places {
    /// The slot of each element.
    pub(crate) slots: Vec<usize>,
    /// The power of two that it repeats with.
    pub(crate) period: usize,
}

impl Places {
    pub(crate) fn new(slots: Vec<usize>) -> Self {
        let period = slots.iter().map(|s| s + 1).max().unwrap_or(1).next_power_of_two();
        Self { slots, period }
    }
}

/// A matrix by its diagonals: for each rotation, the slots at which its diagonal is not zero, with the weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Diagonals {
    pub(crate) by_steps: BTreeMap<usize, Vec<(usize, f64)>>,
}

impl Diagonals {
    /// Of a matrix between vectors at these places. Slots are those below the longer one of the two periods.
    pub(crate) fn new(map: &Sparse, from: &Places, to: &Places) -> Self {
        let mut by_steps: BTreeMap<usize, Vec<(usize, f64)>> = BTreeMap::new();
        each(map, from, to, |steps, slot, weight| {
            by_steps.entry(steps).or_default().push((slot, weight));
        });
        Self { by_steps }
    }

    /// The rotations of [`Self::new`] alone.
    pub(crate) fn steps(map: &Sparse, from: &Places, to: &Places) -> BTreeSet<usize> {
        let mut seen = vec![false; from.period.min(to.period)];
        each(map, from, to, |steps, _, _| seen[steps] = true);
        let steps = seen.iter().enumerate().filter(|(_, seen)| **seen);
        steps.map(|(steps, _)| steps).collect()
    }
}

/// The largest absolute weight of a diagonal.
pub(crate) fn largest(diagonal: &[(usize, f64)]) -> f64 {
    diagonal.iter().map(|(_, w)| w.abs()).fold(0.0, f64::max)
}

/// Calls `f` with rotation, slot and weight of every element that is not zero.
fn each(map: &Sparse, from: &Places, to: &Places, mut f: impl FnMut(usize, usize, f64)) {
    let (input, output) = (from.period, to.period);
    for (row, &to) in map.rows().iter().zip(&to.slots) {
        for &(column, weight) in row.iter().filter(|(_, w)| *w != 0.0) {
            let from = from.slots[column];
            // Periods are powers of two, so that these are remainders of differences.
            let steps = from.wrapping_sub(to) & (input.min(output) - 1);
            let slot = if output >= input {
                to
            } else {
                from.wrapping_sub(steps) & (input - 1)
            };
            f(steps, slot, weight);
        }
    }
}

/// In which rotations a sum of diagonals is computed, with keys for powers of two alone: baby steps of the vectors, each from an earlier one, and
/// from the largest giant step down to none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rotations {
    /// Length of a giant step, a power of two.
    pub(crate) giant: usize,
    /// Baby steps of each vector, those from which others are made included, ascending.
    pub(crate) babies: Vec<BTreeSet<usize>>,
    /// Giant steps, in elements.
    pub(crate) giants: BTreeSet<usize>,
    /// Rotations that add up parts: by these numbers of elements.
    pub(crate) folds: Vec<usize>,
}

impl Rotations {
    /// The cheapest ones for the rotations that the matrices of a sum take. Parts of `span` are added up to `period`.
    pub(crate) fn new(steps: &[BTreeSet<usize>], span: usize, period: usize) -> Self {
        let doubled = core::iter::successors(Some(period), |step| Some(2 * step));
        let folds: Vec<usize> = doubled.take_while(|&step| step < span).collect();
        let with = |giant: usize| {
            let babies = |steps: &BTreeSet<usize>| {
                let mut all = BTreeSet::new();
                for step in steps {
                    let mut baby = step % giant;
                    while baby != 0 && all.insert(baby) {
                        baby = parent(baby);
                    }
                }
                all
            };
            Self {
                giant,
                babies: steps.iter().map(babies).collect(),
                giants: steps.iter().flatten().map(|step| step - step % giant).collect(),
                folds: folds.clone(),
            }
        };
        let lengths = core::iter::successors(Some(1), |giant| Some(2 * giant));
        let candidates = lengths.take_while(|&giant| giant <= span);
        candidates
            .map(with)
            .min_by_key(Self::count)
            .unwrap_or_else(|| with(1))
    }

    /// Rotations in all.
    pub(crate) fn count(&self) -> usize {
        self.babies.iter().map(BTreeSet::len).sum::<usize>() + self.alone()
    }

    /// Those that follow one another: giant steps and folds.
    pub(crate) fn alone(&self) -> usize {
        self.giant_hops().iter().map(Vec::len).sum::<usize>() + self.folds.len()
    }

    /// From the largest giant step to the next one, and so on, and from the last one to none: the powers of two to rotate by.
    pub(crate) fn giant_hops(&self) -> Vec<Vec<usize>> {
        let next = self.giants.iter().rev().skip(1).chain([&0]);
        let gaps = self.giants.iter().rev().zip(next).map(|(from, to)| from - to);
        gaps.map(powers).collect()
    }

    /// Rotations that a baby step has gone through.
    pub(crate) fn hops(&self, steps: usize) -> u32 {
        (steps % self.giant).count_ones()
    }
}

/// The baby step from which one is made: by a rotation of the lowest power of two in it.
pub(crate) fn parent(baby: usize) -> usize {
    baby & baby.wrapping_sub(1)
}

/// The powers of two that a number is made of.
fn powers(number: usize) -> Vec<usize> {
    let bits = (0..usize::BITS).map(|bit| 1usize << bit);
    bits.filter(|bit| number & bit != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_models::random::Stream;

    /// Rotations of a repeating vector times the diagonals, added up, are the product; everything beside its elements is zero.
    #[test]
    fn diagonals_are_their_matrix() {
        let mut stream = Stream::new("diagonals", 1, &[]);
        for (rows, columns, spread) in [
            (3, 11, 1),
            (11, 3, 1),
            (16, 16, 1),
            (5, 9, 3),
            (1, 13, 2),
            (7, 1, 5),
        ] {
            let weights: Vec<f64> = (0..rows * columns).map(|_| stream.symmetric()).collect();
            let map = Sparse::dense(columns, &weights);
            let from = Places::new((0..columns).map(|i| i * spread).collect());
            let to = Places::new((0..rows).map(|i| (rows - 1 - i) * spread).collect());
            let x: Vec<f64> = (0..columns).map(|_| stream.symmetric()).collect();
            let width = 64;
            let mut slots = vec![0.0; width];
            for (value, place) in x.iter().zip(&from.slots) {
                slots
                    .iter_mut()
                    .skip(*place)
                    .step_by(from.period)
                    .for_each(|s| *s = *value);
            }
            let diagonals = Diagonals::new(&map, &from, &to);
            let steps: BTreeSet<usize> = diagonals.by_steps.keys().copied().collect();
            assert_eq!(steps, Diagonals::steps(&map, &from, &to));
            let span = from.period.max(to.period);
            let mut sums = vec![0.0; width];
            for (&steps, diagonal) in &diagonals.by_steps {
                for &(slot, weight) in diagonal {
                    for at in (slot..width).step_by(span) {
                        sums[at] += weight * slots[(at + steps) % width];
                    }
                }
            }
            let rotations = Rotations::new(&[steps], span, to.period);
            for &fold in &rotations.folds {
                sums = (0..width)
                    .map(|at| sums[at] + sums[(at + fold) % width])
                    .collect();
            }
            let mut expected = vec![0.0; to.period];
            map.times(&x)
                .iter()
                .zip(&to.slots)
                .for_each(|(y, &slot)| expected[slot] = *y);
            for (at, sum) in sums.iter().enumerate() {
                assert!(
                    (sum - expected[at % to.period]).abs() < 1e-12,
                    "{rows} x {columns}, slot {at}"
                );
            }
        }
    }

    #[test]
    fn rotations_are_sums_of_powers_of_two_from_those_before() {
        let steps: BTreeSet<usize> = (0..1024).collect();
        let rotations = Rotations::new(&[steps], 1024, 1024);
        assert_eq!((rotations.giant, rotations.count()), (32, 62));
        for &baby in &rotations.babies[0] {
            assert!(parent(baby) == 0 || rotations.babies[0].contains(&parent(baby)));
            assert!((baby - parent(baby)).is_power_of_two());
        }
        let total: usize = rotations.giant_hops().iter().flatten().sum();
        assert_eq!(Some(&total), rotations.giants.last());
    }
}
