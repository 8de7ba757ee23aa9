//! Sums of many products at once.
//!
//! A sum is reduced once for many of its terms instead of once for each, and what both parts of a result read is loaded once. What
//! comes out is the same as from one product after the other.

use crate::ciphertext::{Ciphertext, Plaintext};
use crate::context::check_scale;
use crate::error::CkksError;
use crate::evaluate::{Evaluator, check_levels, check_linear, check_scales, header};
use crate::extended::{Extended, ExtendedPlaintext};
use crate::noise::Budget;
use galen_rns::kernel::Kernels;
use galen_rns::poly::{Eval, Poly};
use rayon::prelude::*;

/// Words per tile: those of some tens of operands stay in the second-level cache.
const TILE: usize = 512;

impl Evaluator {
    /// `sum of a * b` over pairs of ciphertexts of degree 1, as one of degree 2, to be relinearised once. All are of one level
    /// and key, and all products of one scale.
    ///
    /// # Errors
    /// [`CkksError::Count`] if there are none, [`CkksError::ScaleMismatch`], and those of [`Self::multiply`].
    pub fn sum_of_products(&self, pairs: &[(&Ciphertext, &Ciphertext)]) -> Result<Ciphertext, CkksError> {
        let &(first, _) = pairs.first().ok_or(NO_PRODUCTS)?;
        let mut budgets = Vec::with_capacity(pairs.len());
        for (a, b) in pairs {
            for factor in [a, b] {
                self.check_pair(first, factor)?;
                check_linear(factor)?;
            }
            budgets.push(a.budget.product(&b.budget));
        }
        let budget = self.sum_budget(first.level, &budgets)?;
        let slots = pairs.iter().map(|(a, b)| a.slots.max(b.slots)).max().unwrap_or(1);
        let ring = self.context().ring(first.level)?;
        let [mut d0, mut d1, mut d2] = [Poly::zero(ring), Poly::zero(ring), Poly::zero(ring)];
        let [a0, a1] = [0, 1].map(|part| pairs.iter().map(|(a, _)| &a.parts[part]).collect::<Vec<_>>());
        let [b0, b1] = [0, 1].map(|part| pairs.iter().map(|(_, b)| &b.parts[part]).collect::<Vec<_>>());
        add_inner_products(&a0, [&b0, &b1], [&mut d0, &mut d1]);
        add_inner_products(&a1, [&b0, &b1], [&mut d1, &mut d2]);
        Ok(Ciphertext {
            budget,
            slots,
            parts: vec![d0, d1, d2],
            ..header(first)
        })
    }

    /// `sum of a * plaintext` over pairs with ciphertexts of degree 1. All are of one level and key, and all products of one
    /// scale.
    ///
    /// # Errors
    /// [`CkksError::Count`] if there are none, [`CkksError::ScaleMismatch`], [`CkksError::CiphertextDegree`], and those of
    /// [`Self::mul_plain`].
    pub fn sum_of_plain_products(
        &self,
        pairs: &[(&Ciphertext, &Plaintext)],
    ) -> Result<Ciphertext, CkksError> {
        self.sum_of_plain_products_by_rows(pairs, f64::INFINITY)
    }

    /// [`Self::sum_of_plain_products`], where whoever encoded states that the absolute values of all plaintexts in any one slot add up to at most
    /// `row`. Diagonals of a matrix are large in different slots, so this bounds magnitude and noise by far less than the
    /// largest value of each plaintext does ([`Budget::sum_of_products`]).
    ///
    /// # Errors
    /// Those of [`Self::sum_of_plain_products`].
    pub fn sum_of_plain_products_by_rows(
        &self,
        pairs: &[(&Ciphertext, &Plaintext)],
        row: f64,
    ) -> Result<Ciphertext, CkksError> {
        let &(first, _) = pairs.first().ok_or(NO_PRODUCTS)?;
        let mut budgets = Vec::with_capacity(pairs.len());
        for (a, plaintext) in pairs {
            self.check_pair(first, a)?;
            check_linear(a)?;
            if plaintext.preset != first.preset {
                return Err(CkksError::PresetMismatch);
            }
            check_levels(first.level, plaintext.level)?;
            let scale = a.budget.scale * plaintext.budget.scale;
            check_scale(scale)?;
            check_scales(first.budget.scale * pairs[0].1.budget.scale, scale)?;
            budgets.push((&a.budget, &plaintext.budget));
        }
        let budget = Budget::sum_of_products(budgets, row).ok_or(NO_PRODUCTS)?;
        self.check_budget(first.level, &budget)?;
        let slots = pairs.iter().map(|(a, _)| a.slots).max().unwrap_or(1);
        let ring = self.context().ring(first.level)?;
        let [mut d0, mut d1] = [Poly::zero(ring), Poly::zero(ring)];
        let x: Vec<_> = pairs.iter().map(|(_, plaintext)| &plaintext.poly).collect();
        let [a0, a1] = [0, 1].map(|part| pairs.iter().map(|(a, _)| &a.parts[part]).collect::<Vec<_>>());
        add_inner_products(&x, [&a0, &a1], [&mut d0, &mut d1]);
        Ok(Ciphertext {
            budget,
            slots,
            parts: vec![d0, d1],
            ..header(first)
        })
    }

    /// `sum of a * plaintext` over QP. All are of one level and key, and all products of one scale.
    ///
    /// # Errors
    /// [`CkksError::Count`] if there are none, [`CkksError::ScaleMismatch`], and those of [`Self::mul_extended`].
    pub fn sum_of_extended_products(
        &self,
        pairs: &[(&Extended, &ExtendedPlaintext)],
    ) -> Result<Extended, CkksError> {
        let &(first, _) = pairs.first().ok_or(NO_PRODUCTS)?;
        let mut budgets = Vec::with_capacity(pairs.len());
        for (a, plaintext) in pairs {
            self.check_pair(&first.header, &a.header)?;
            if plaintext.preset != first.header.preset {
                return Err(CkksError::PresetMismatch);
            }
            check_levels(first.level(), plaintext.level())?;
            budgets.push(a.budget().product(plaintext.budget()));
        }
        let budget = self.sum_budget(first.level(), &budgets)?;
        let slots = pairs.iter().map(|(a, _)| a.header.slots).max().unwrap_or(1);
        let ring = first.parts[0].ring();
        let [mut d0, mut d1] = [Poly::zero(ring), Poly::zero(ring)];
        let x: Vec<_> = pairs.iter().map(|(_, plaintext)| &plaintext.poly).collect();
        let [a0, a1] = [0, 1].map(|part| pairs.iter().map(|(a, _)| &a.parts[part]).collect::<Vec<_>>());
        add_inner_products(&x, [&a0, &a1], [&mut d0, &mut d1]);
        Ok(Extended {
            header: Ciphertext {
                budget,
                slots,
                ..header(&first.header)
            },
            parts: [d0, d1],
        })
    }

    /// The budget of a sum of products, each of which and all of which together have to fit.
    fn sum_budget(&self, level: usize, products: &[Budget]) -> Result<Budget, CkksError> {
        let mut sum: Option<Budget> = None;
        for product in products {
            check_scale(product.scale)?;
            sum = Some(match sum {
                Some(sum) => {
                    check_scales(sum.scale, product.scale)?;
                    sum.sum(product)
                }
                None => *product,
            });
        }
        let sum = sum.ok_or(NO_PRODUCTS)?;
        self.check_budget(level, &sum)?;
        Ok(sum)
    }
}

const NO_PRODUCTS: CkksError = CkksError::Count {
    count: 0,
    min: 1,
    max: usize::MAX,
};

/// `out[i] += sum of x[k] * y[i][k]`, all over the ring of the outputs. Primes are worked on in the current rayon pool.
fn add_inner_products(x: &[&Poly<Eval>], y: [&[&Poly<Eval>]; 2], out: [&mut Poly<Eval>; 2]) {
    let ring = out[0].ring().clone();
    let n = ring.degree();
    let [first, second] = out.map(|poly| poly.data_mut().par_chunks_mut(n));
    first
        .zip(second)
        .enumerate()
        .for_each(|(prime, (first, second))| {
            let m = &ring.moduli()[prime];
            let [x, b, a] =
                [x, y[0], y[1]].map(|polys| polys.iter().map(|p| p.residues(prime)).collect::<Vec<_>>());
            for (index, (first, second)) in first.chunks_mut(TILE).zip(second.chunks_mut(TILE)).enumerate() {
                let start = index * TILE;
                let end = start + first.len();
                let [x, b, a] =
                    [&x, &b, &a].map(|rows| rows.iter().map(|row| &row[start..end]).collect::<Vec<_>>());
                Kernels::active().inner_products_add(m, &x, &b, &a, [first, second]);
            }
        });
}
