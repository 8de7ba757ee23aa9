//! The encrypted operations of a folded model, written once for everything that can be computed with.

use crate::fold::{Affine, Folded};
use galen_ckks::CkksError;
use galen_ckks::context::{Context, Target};

/// What a circuit computes with: ciphertexts ([`Evaluator`](galen_ckks::evaluate::Evaluator) with a key) or only their bounds.
pub(crate) trait Arithmetic {
    /// A vector with one entry per patient.
    type Value;
    /// Weighted sums, one per row of weights.
    fn linear(
        &self,
        inputs: &[&Self::Value],
        rows: &[&[f64]],
        target: Target,
    ) -> Result<Vec<Self::Value>, CkksError>;
    /// The sum.
    fn add(&self, a: &Self::Value, b: &Self::Value) -> Result<Self::Value, CkksError>;
    /// The difference.
    fn sub(&self, a: &Self::Value, b: &Self::Value) -> Result<Self::Value, CkksError>;
    /// Plus a constant.
    fn add_scalar(&self, a: &Self::Value, constant: f64) -> Result<Self::Value, CkksError>;
    /// The square, of degree 2.
    fn square(&self, a: &Self::Value) -> Result<Self::Value, CkksError>;
    /// Back to degree 1.
    fn relinearise(&self, a: &Self::Value) -> Result<Self::Value, CkksError>;
    /// One level down.
    fn rescale(&self, a: &Self::Value) -> Result<Self::Value, CkksError>;
}

/// A folded model laid out over the levels of a context; its result is smaller than the logit by 2^`shift`.
#[derive(Clone, Debug)]
pub(crate) struct Circuit {
    folded: Folded,
    /// Binary places by which the result is smaller than the logit, so that it fits the modulus of level 0.
    pub(crate) shift: u32,
}

/// How much a circuit does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) squares: u32,
    pub(crate) relinearisations: u32,
    pub(crate) multiply_adds: u64,
}

impl Circuit {
    /// The circuit of a folded model.
    pub(crate) fn new(folded: &Folded, shift: u32) -> Self {
        let folded = Folded {
            output: folded.output.shifted(shift),
            ..folded.clone()
        };
        Self { folded, shift }
    }

    /// Levels from inputs to result, which is at level 0: one for what is squared and one for its square, per block.
    pub(crate) fn levels(folded: &Folded) -> usize {
        let last = if folded.output.inner.rows.is_empty() { 1 } else { 2 };
        2 * folded.blocks.len() + last
    }

    /// What there is to do.
    pub(crate) fn work(&self) -> Work {
        let mut work = Work::default();
        let mut inputs = self.folded.inputs;
        for block in &self.folded.blocks {
            let units = block.linear.len();
            work.squares += units as u32;
            work.relinearisations += units as u32;
            work.multiply_adds += 2 * (units * inputs) as u64;
            inputs = units;
        }
        let units = self.folded.output.inner.rows.len();
        work.squares += units as u32;
        work.relinearisations += u32::from(units > 0);
        work.multiply_adds += ((units + 1) * inputs) as u64;
        work
    }

    /// Steps that `progress` counts: every square and the end of every stage.
    fn steps(&self) -> u32 {
        self.work().squares + self.folded.blocks.len() as u32 + 1
    }

    /// Runs the circuit on one value per model input, at level [`Circuit::levels`] and nominal scale. The result has level 0 and
    /// degree 1. `progress` gets steps done and steps in all.
    pub(crate) fn run<A: Arithmetic>(
        &self,
        context: &Context,
        arithmetic: &A,
        inputs: &[A::Value],
        progress: &mut dyn FnMut(u32, u32),
    ) -> Result<A::Value, CkksError> {
        let total = self.steps();
        let mut done = 0;
        let mut step = || {
            done += 1;
            progress(done, total);
        };
        let mut level = Self::levels(&self.folded);
        let mut produced: Vec<A::Value> = Vec::new();
        for (index, block) in self.folded.blocks.iter().enumerate() {
            let x: Vec<&A::Value> = if index == 0 {
                inputs.iter()
            } else {
                produced.iter()
            }
            .collect();
            let rows: Vec<&[f64]> = block.linear.iter().map(Vec::as_slice).collect();
            // Read at the level of the squares, with weights scaled such that both have the same scale.
            let linear = arithmetic.linear(&x, &rows, context.product_target(level - 1)?)?;
            let mut next = Vec::with_capacity(linear.len());
            for (u, v) in inner(context, arithmetic, &x, &block.inner, level)?
                .iter()
                .zip(&linear)
            {
                let y = arithmetic.add(v, &arithmetic.square(u)?)?;
                next.push(arithmetic.rescale(&arithmetic.relinearise(&y)?)?);
                step();
            }
            produced = next;
            level -= 2;
            step();
        }
        let output = &self.folded.output;
        let x: Vec<&A::Value> = if self.folded.blocks.is_empty() {
            inputs.iter()
        } else {
            produced.iter()
        }
        .collect();
        // The level of the squares; without squares there is one level only.
        let target = context.product_target(1)?;
        let rows = [output.linear.as_slice()];
        let mut sum = arithmetic
            .linear(&x, &rows, target)?
            .pop()
            .ok_or(CkksError::Count {
                count: 0,
                min: 1,
                max: 1,
            })?;
        if !output.inner.rows.is_empty() {
            let units = inner(context, arithmetic, &x, &output.inner, level)?;
            for (u, &negative) in units.iter().zip(&output.negative) {
                let square = arithmetic.square(u)?;
                sum = if negative {
                    arithmetic.sub(&sum, &square)?
                } else {
                    arithmetic.add(&sum, &square)?
                };
                step();
            }
            // Once, for the sum of all squares.
            sum = arithmetic.relinearise(&sum)?;
        }
        let result = arithmetic.rescale(&arithmetic.add_scalar(&sum, output.constant)?)?;
        step();
        Ok(result)
    }
}

/// What is squared: an affine layer from `level`, one level down and at the nominal scale there.
fn inner<A: Arithmetic>(
    context: &Context,
    arithmetic: &A,
    x: &[&A::Value],
    affine: &Affine,
    level: usize,
) -> Result<Vec<A::Value>, CkksError> {
    let rows: Vec<&[f64]> = affine.rows.iter().map(Vec::as_slice).collect();
    let sums = arithmetic.linear(x, &rows, context.product_target(level)?)?;
    let finish = |(sum, &constant): (A::Value, &f64)| {
        // Added before the rescaling, where the scale is finest.
        arithmetic.rescale(&arithmetic.add_scalar(&sum, constant)?)
    };
    sums.into_iter().zip(&affine.constants).map(finish).collect()
}
