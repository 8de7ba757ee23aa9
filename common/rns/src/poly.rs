//! Elements of a ring, in coefficients or transformed.

use crate::error::RnsError;
use crate::kernel::Kernels;
use crate::ring::Ring;
use crate::sampling;
use crate::words::Words;
use crate::xof::Xof;
use core::marker::PhantomData;
use std::sync::Arc;
use zeroize::Zeroize;

mod sealed {
    pub trait Sealed {}
}

/// The form that a polynomial is in: [`Coeff`] or [`Eval`].
pub trait Domain: sealed::Sealed + Clone + Copy + Send + Sync + 'static {}

/// Coefficients, in natural order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coeff {}

/// Transformed values, which multiply one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eval {}

impl sealed::Sealed for Coeff {}
impl sealed::Sealed for Eval {}
impl Domain for Coeff {}
impl Domain for Eval {}

/// An element of a [`Ring`]: N residues for the first prime, then N for the second, and so on, each beginning at a cache
/// line.
///
/// Additions and multiplications refuse operands of another ring. A polynomial does not know whether it is
/// secret; holders of secret ones wrap them in `Zeroizing`. `Debug` prints no values.
#[derive(Clone)]
pub struct Poly<D: Domain> {
    ring: Arc<Ring>,
    data: Words,
    domain: PhantomData<D>,
}

impl<D: Domain> core::fmt::Debug for Poly<D> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Poly")
            .field("degree", &self.ring.degree())
            .field("moduli", &self.ring.moduli().len())
            .finish_non_exhaustive()
    }
}

impl<D: Domain> PartialEq for Poly<D> {
    fn eq(&self, other: &Self) -> bool {
        self.ring == other.ring && self.data == other.data
    }
}

impl<D: Domain> Eq for Poly<D> {}

impl<D: Domain> Zeroize for Poly<D> {
    fn zeroize(&mut self) {
        // The polynomial keeps its length and stays a valid zero.
        self.data.zeroize();
    }
}

impl<D: Domain> Poly<D> {
    /// Zero.
    #[must_use]
    pub fn zero(ring: &Arc<Ring>) -> Self {
        Self::wrap(ring, Words::zero(ring.degree() * ring.moduli().len()))
    }

    /// From residues, N for each prime.
    ///
    /// # Errors
    /// [`RnsError::Length`], or [`RnsError::ResidueRange`] where one is not below its prime.
    pub fn from_data(ring: &Arc<Ring>, data: Vec<u64>) -> Result<Self, RnsError> {
        let expected = ring.degree() * ring.moduli().len();
        if data.len() != expected {
            return Err(RnsError::Length {
                expected,
                actual: data.len(),
            });
        }
        for (residues, m) in data.chunks_exact(ring.degree()).zip(ring.moduli()) {
            if let Some(index) = residues.iter().position(|&x| x >= m.value()) {
                return Err(RnsError::ResidueRange {
                    index,
                    modulus: m.value(),
                });
            }
        }
        Ok(Self::wrap(ring, Words::from_slice(&data)))
    }

    fn wrap(ring: &Arc<Ring>, data: Words) -> Self {
        Self {
            ring: Arc::clone(ring),
            data,
            domain: PhantomData,
        }
    }

    /// The ring of this element.
    #[must_use]
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// All residues, N for each prime.
    #[must_use]
    pub fn data(&self) -> &[u64] {
        &self.data
    }

    /// All residues for writing; the writer keeps each below its prime.
    #[must_use]
    pub fn data_mut(&mut self) -> &mut [u64] {
        &mut self.data
    }

    /// The residues, in a vector of their own.
    #[must_use]
    pub fn into_data(self) -> Vec<u64> {
        self.data.to_vec()
    }

    /// The N residues modulo the `index`-th prime.
    ///
    /// # Panics
    /// If there is no such prime.
    #[must_use]
    pub fn residues(&self, index: usize) -> &[u64] {
        let n = self.ring.degree();
        &self.data[index * n..(index + 1) * n]
    }

    /// The N residues modulo the `index`-th prime, for writing; the writer keeps each below the prime.
    ///
    /// # Panics
    /// If there is no such prime.
    #[must_use]
    pub fn residues_mut(&mut self, index: usize) -> &mut [u64] {
        let n = self.ring.degree();
        &mut self.data[index * n..(index + 1) * n]
    }

    /// Becomes an element of `ring`, in the memory that it has as far as that goes. Residues that both rings have room for
    /// stay, whatever they mean there, and further ones are zero: the caller overwrites what is not a prefix of the same
    /// primes.
    pub fn reshape(&mut self, ring: &Arc<Ring>) {
        if !Arc::ptr_eq(&self.ring, ring) {
            self.data.resize(ring.degree() * ring.moduli().len());
            self.ring = Arc::clone(ring);
        }
    }

    /// The element of the ring over the first `count` primes with the same residues there.
    ///
    /// # Errors
    /// [`RnsError::RingMismatch`] if `ring` is not such a prefix.
    pub fn restrict(&self, ring: &Arc<Ring>) -> Result<Self, RnsError> {
        let count = ring.moduli().len();
        let same_shape = (ring.kind(), ring.degree()) == (self.ring.kind(), self.ring.degree());
        if !same_shape || self.ring.moduli().get(..count) != Some(ring.moduli()) {
            return Err(RnsError::RingMismatch);
        }
        Ok(Self::wrap(
            ring,
            Words::from_slice(&self.data[..count * ring.degree()]),
        ))
    }

    fn check(&self, other: &Self) -> Result<(), RnsError> {
        if Arc::ptr_eq(&self.ring, &other.ring) || self.ring == other.ring {
            return Ok(());
        }
        Err(RnsError::RingMismatch)
    }

    fn check_scalars(&self, scalars: &[u64]) -> Result<(), RnsError> {
        let expected = self.ring.moduli().len();
        if scalars.len() != expected {
            return Err(RnsError::Length {
                expected,
                actual: scalars.len(),
            });
        }
        for (index, (&x, m)) in scalars.iter().zip(self.ring.moduli()).enumerate() {
            if x >= m.value() {
                return Err(RnsError::ResidueRange {
                    index,
                    modulus: m.value(),
                });
            }
        }
        Ok(())
    }

    fn check_all(&self, others: &[&Self]) -> Result<(), RnsError> {
        others.iter().try_for_each(|other| self.check(other))
    }

    /// `self = other`, which must be over the same ring; reuses the memory.
    ///
    /// # Errors
    /// [`RnsError::RingMismatch`].
    pub fn copy_from(&mut self, other: &Self) -> Result<(), RnsError> {
        self.check(other)?;
        self.data.copy_from_slice(&other.data);
        Ok(())
    }

    /// `self += other`.
    ///
    /// # Errors
    /// [`RnsError::RingMismatch`].
    pub fn add_assign(&mut self, other: &Self) -> Result<(), RnsError> {
        self.check(other)?;
        let (n, kernels) = (self.ring.degree(), Kernels::active());
        let rows = self.data.chunks_exact_mut(n).zip(other.data.chunks_exact(n));
        for ((a, b), m) in rows.zip(self.ring.moduli()) {
            kernels.add_assign(m, a, b);
        }
        Ok(())
    }

    /// `out = self + other`.
    ///
    /// # Errors
    /// [`RnsError::RingMismatch`].
    pub fn add_into(&self, other: &Self, out: &mut Self) -> Result<(), RnsError> {
        self.check_all(&[other, out])?;
        let (n, kernels) = (self.ring.degree(), Kernels::active());
        let rows = self.data.chunks_exact(n).zip(other.data.chunks_exact(n));
        for (((a, b), c), m) in rows.zip(out.data.chunks_exact_mut(n)).zip(self.ring.moduli()) {
            kernels.add_part(m, a, b, c, size_of_val(self.data()));
        }
        Ok(())
    }

    /// `self -= other`.
    ///
    /// # Errors
    /// [`RnsError::RingMismatch`].
    pub fn sub_assign(&mut self, other: &Self) -> Result<(), RnsError> {
        self.check(other)?;
        let (n, kernels) = (self.ring.degree(), Kernels::active());
        let rows = self.data.chunks_exact_mut(n).zip(other.data.chunks_exact(n));
        for ((a, b), m) in rows.zip(self.ring.moduli()) {
            kernels.sub_assign(m, a, b);
        }
        Ok(())
    }

    /// `out = self - other`.
    ///
    /// # Errors
    /// [`RnsError::RingMismatch`].
    pub fn sub_into(&self, other: &Self, out: &mut Self) -> Result<(), RnsError> {
        self.check_all(&[other, out])?;
        let (n, kernels) = (self.ring.degree(), Kernels::active());
        let rows = self.data.chunks_exact(n).zip(other.data.chunks_exact(n));
        for (((a, b), c), m) in rows.zip(out.data.chunks_exact_mut(n)).zip(self.ring.moduli()) {
            kernels.sub_part(m, a, b, c, size_of_val(self.data()));
        }
        Ok(())
    }

    /// `self = -self`.
    pub fn neg_assign(&mut self) {
        let (n, kernels) = (self.ring.degree(), Kernels::active());
        for (a, m) in self.data.chunks_exact_mut(n).zip(self.ring.moduli()) {
            kernels.neg_assign(m, a);
        }
    }

    /// Multiplies by an integer, given by its residue modulo each prime.
    ///
    /// # Errors
    /// [`RnsError::Length`] or [`RnsError::ResidueRange`] if `scalars` is not that.
    pub fn mul_scalar_assign(&mut self, scalars: &[u64]) -> Result<(), RnsError> {
        self.check_scalars(scalars)?;
        let (n, kernels) = (self.ring.degree(), Kernels::active());
        for ((a, m), &w) in self.data.chunks_exact_mut(n).zip(self.ring.moduli()).zip(scalars) {
            kernels.mul_scalar_assign(m, a, w);
        }
        Ok(())
    }

    /// `out = self` times an integer, given by its residue modulo each prime.
    ///
    /// # Errors
    /// [`RnsError::RingMismatch`], or [`RnsError::Length`] or [`RnsError::ResidueRange`] of `scalars`.
    pub fn mul_scalar_into(&self, scalars: &[u64], out: &mut Self) -> Result<(), RnsError> {
        self.check(out)?;
        self.check_scalars(scalars)?;
        let (n, kernels) = (self.ring.degree(), Kernels::active());
        let rows = self.data.chunks_exact(n).zip(out.data.chunks_exact_mut(n));
        for (((a, c), m), &w) in rows.zip(self.ring.moduli()).zip(scalars) {
            kernels.mul_scalar_into(m, a, w, c);
        }
        Ok(())
    }
}

impl Poly<Coeff> {
    /// From N signed coefficients.
    ///
    /// # Errors
    /// [`RnsError::Length`].
    pub fn from_i64(ring: &Arc<Ring>, coefficients: &[i64]) -> Result<Self, RnsError> {
        Self::from_signed(ring, coefficients)
    }

    /// From N small signed coefficients.
    ///
    /// # Errors
    /// [`RnsError::Length`].
    pub fn from_i8(ring: &Arc<Ring>, coefficients: &[i8]) -> Result<Self, RnsError> {
        Self::from_signed(ring, coefficients)
    }

    fn from_signed<T: Copy + Into<i64>>(ring: &Arc<Ring>, coefficients: &[T]) -> Result<Self, RnsError> {
        let n = ring.degree();
        if coefficients.len() != n {
            return Err(RnsError::Length {
                expected: n,
                actual: coefficients.len(),
            });
        }
        let mut poly = Self::zero(ring);
        for (residues, m) in poly.data.chunks_exact_mut(n).zip(ring.moduli()) {
            residues
                .iter_mut()
                .zip(coefficients)
                .for_each(|(x, &c)| *x = m.reduce_i64(c.into()));
        }
        Ok(poly)
    }

    /// The transform of this element.
    #[must_use]
    pub fn into_eval(mut self) -> Poly<Eval> {
        let n = self.ring.degree();
        for (index, residues) in self.data.chunks_exact_mut(n).enumerate() {
            self.ring.ntt(index).forward(residues);
        }
        Poly {
            ring: self.ring,
            data: self.data,
            domain: PhantomData,
        }
    }

    /// Adds an integer, given by its residue modulo each prime, to the constant coefficient.
    ///
    /// # Errors
    /// [`RnsError::Length`] or [`RnsError::ResidueRange`] if `scalars` is not that.
    pub fn add_scalar_assign(&mut self, scalars: &[u64]) -> Result<(), RnsError> {
        self.check_scalars(scalars)?;
        let n = self.ring.degree();
        for ((a, m), &w) in self.data.chunks_exact_mut(n).zip(self.ring.moduli()).zip(scalars) {
            a[0] = m.add(a[0], w);
        }
        Ok(())
    }
}

impl Poly<Eval> {
    /// A uniform element, drawn prime after prime. (Uniform in one domain is uniform in the other.)
    #[must_use]
    pub fn uniform(ring: &Arc<Ring>, xof: &mut Xof) -> Self {
        let mut poly = Self::zero(ring);
        for (residues, m) in poly.data.chunks_exact_mut(ring.degree()).zip(ring.moduli()) {
            sampling::uniform(m, xof, residues);
        }
        poly
    }

    /// The coefficients of this element.
    #[must_use]
    pub fn into_coeff(mut self) -> Poly<Coeff> {
        let n = self.ring.degree();
        for (index, residues) in self.data.chunks_exact_mut(n).enumerate() {
            self.ring.ntt(index).inverse(residues);
        }
        Poly {
            ring: self.ring,
            data: self.data,
            domain: PhantomData,
        }
    }

    /// Adds an integer, given by its residue modulo each prime, to the constant coefficient.
    ///
    /// # Errors
    /// [`RnsError::Length`] or [`RnsError::ResidueRange`] if `scalars` is not that.
    pub fn add_scalar_assign(&mut self, scalars: &[u64]) -> Result<(), RnsError> {
        self.check_scalars(scalars)?;
        let n = self.ring.degree();
        for ((a, m), &w) in self.data.chunks_exact_mut(n).zip(self.ring.moduli()).zip(scalars) {
            // The transform of a constant is that constant everywhere.
            Kernels::active().add_scalar_assign(m, a, w);
        }
        Ok(())
    }

    /// `self *= other`.
    ///
    /// # Errors
    /// [`RnsError::RingMismatch`].
    pub fn mul_assign(&mut self, other: &Self) -> Result<(), RnsError> {
        self.check(other)?;
        let (n, kernels) = (self.ring.degree(), Kernels::active());
        let rows = self.data.chunks_exact_mut(n).zip(other.data.chunks_exact(n));
        for ((a, b), m) in rows.zip(self.ring.moduli()) {
            kernels.mul_assign(m, a, b);
        }
        Ok(())
    }

    /// `out = self * other`.
    ///
    /// # Errors
    /// [`RnsError::RingMismatch`].
    pub fn mul_into(&self, other: &Self, out: &mut Self) -> Result<(), RnsError> {
        self.check_all(&[other, out])?;
        let (n, kernels) = (self.ring.degree(), Kernels::active());
        let rows = self.data.chunks_exact(n).zip(other.data.chunks_exact(n));
        for (((a, b), c), m) in rows.zip(out.data.chunks_exact_mut(n)).zip(self.ring.moduli()) {
            kernels.mul_part(m, a, b, c, size_of_val(self.data()));
        }
        Ok(())
    }

    /// `self += lhs * rhs`.
    ///
    /// # Errors
    /// [`RnsError::RingMismatch`].
    pub fn mul_add_assign(&mut self, lhs: &Self, rhs: &Self) -> Result<(), RnsError> {
        self.check_all(&[lhs, rhs])?;
        let (n, kernels) = (self.ring.degree(), Kernels::active());
        let products = lhs.data.chunks_exact(n).zip(rhs.data.chunks_exact(n));
        let rows = self.data.chunks_exact_mut(n).zip(products);
        for ((acc, (a, b)), m) in rows.zip(self.ring.moduli()) {
            kernels.mul_add_assign(m, acc, a, b);
        }
        Ok(())
    }
}
