//! What a packed circuit costs: operations, and bytes.

use super::circuit::{PackedCircuit, Step};
use crate::circuit::{Residues, Work};

/// What evaluation holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes {
    /// Of all encoded matrices.
    pub(crate) matrices: u64,
    /// Of the matrices of the longest giant step.
    pub(crate) step: u64,
    /// Of ciphertexts at one time, at most.
    pub(crate) ciphertexts: u64,
}

impl PackedCircuit {
    /// What there is to do under a preset of this degree, where matrices were encoded before or are for each batch.
    pub(crate) fn work(&self, degree: usize, prepared: bool) -> Work {
        let (mut work, mut residues) = (Work::default(), Residues::default());
        let coefficients = (degree / 1024).max(1) as u64;
        for (step, state) in self.steps.iter().zip(&self.states) {
            match step {
                Step::Input => {}
                Step::Square { divisions, .. } => {
                    let primes = (state.level + divisions + 1) as u64 * coefficients;
                    work.squares += 1;
                    work.relinearisations += 1;
                    residues.squared += primes;
                    residues.alone += primes;
                    residues.divided += primes * divisions.saturating_sub(1) as u64;
                }
                Step::Sum(sum) => {
                    let primes = (sum.target.level + 1) as u64 * coefficients;
                    let products = sum.linear.products() as u64;
                    let rotations = sum.linear.rotations.count() as u64;
                    let alone = sum.linear.rotations.alone() as u64;
                    work.products += products;
                    work.rotations += rotations;
                    residues.products += primes * products;
                    residues.encoded += if prepared { 0 } else { primes * products };
                    residues.switched += primes * (rotations - alone);
                    residues.alone += primes * alone;
                    residues.divided += primes * sum.divisions as u64;
                }
            }
        }
        // As in `circuit`; a product with a plaintext is one of two whole residues, and reads three.
        work.cost = residues.products * 16
            + residues.encoded * 70
            + residues.squared * 30
            + (residues.switched + residues.alone) * 600
            + residues.divided * 120;
        work.residues = residues;
        work
    }

    /// What evaluation holds under a preset of this degree.
    pub(crate) fn bytes(&self, degree: usize) -> Bytes {
        let poly = |level: usize| ((level + 1) * degree * size_of::<u64>()) as u64;
        let results: u64 = self.states.iter().map(|state| 2 * poly(state.level)).sum();
        let (mut matrices, mut longest, mut peak) = (0, 0, 0);
        for step in &self.steps {
            if let Step::Sum(sum) = step {
                let (linear, poly) = (&sum.linear, poly(sum.target.level));
                matrices += (linear.products() + 1) as u64 * poly;
                longest = longest.max(linear.longest_step() as u64 * poly);
                let vectors: usize = linear.rotations.babies.iter().map(|b| b.len() + 1).sum();
                peak = peak.max(2 * (vectors + linear.rotations.giants.len()) as u64 * poly);
            }
        }
        Bytes {
            matrices,
            step: longest,
            ciphertexts: peak + results,
        }
    }
}
