//! Levels and scales of a network's nodes.

use super::{Blocks, Scales, Size, Source, Step};
use crate::network::{Network, NodeId, Term};
use galen_ckks::CkksError;
use galen_ckks::context::{Context, Target};
use std::sync::Arc;

/// Squares are relinearised before a linear layer unless that has fewer outputs than squares by this factor: reading a third
/// component, at one more prime, costs about as much as two do.
const FEWER: usize = 2;

/// The nodes that have been laid out so far.
pub(super) struct Layout<'a> {
    pub(super) context: &'a Context,
    pub(super) network: &'a Network,
    pub(super) scales: Scales,
    /// Of squares as they are.
    pub(super) raw: Vec<Target>,
    /// Of everything of degree 1.
    pub(super) finished: Vec<Target>,
    pub(super) steps: Vec<Step>,
}

impl Layout<'_> {
    pub(super) fn push(&mut self, step: Step, raw: Target, finished: Target) {
        self.steps.push(step);
        self.raw.push(raw);
        self.finished.push(finished);
    }

    pub(super) fn square(&mut self, of: NodeId) -> Result<(), CkksError> {
        let Target { level, scale } = self.finished[of];
        let raw = Target {
            level,
            scale: scale * scale,
        };
        let (_, finished) = self.divided(raw, true)?;
        let step = Step::Square {
            of,
            divisions: None,
            raw: false,
        };
        self.push(step, raw, finished);
        Ok(())
    }

    /// The divisions after an operation that left a state, and what they leave.
    fn divided(&self, state: Target, weighted: bool) -> Result<(usize, Target), CkksError> {
        let prime = |level: usize| match (level, self.context.preset().primes().get(level)) {
            (1.., Some(&prime)) => Ok(prime as f64),
            _ => Err(CkksError::NoLevelLeft),
        };
        match self.scales {
            Scales::Nominal if weighted => {
                prime(state.level)?;
                let level = state.level - 1;
                let scale = self.context.scale(level)?;
                Ok((1, Target { level, scale }))
            }
            Scales::Nominal => Ok((0, state)),
            Scales::Waterline { least, .. } => {
                let least = f64::from(least).exp2();
                let (mut divisions, mut state) = (0, state);
                while let Ok(prime) = prime(state.level)
                    && state.scale / prime >= least
                {
                    state.level -= 1;
                    state.scale /= prime;
                    divisions += 1;
                }
                Ok((divisions, state))
            }
        }
    }

    pub(super) fn sum(
        &mut self,
        terms: &[Term],
        blocks: &Arc<Blocks>,
        constants: &[f64],
        sizes: &[Size],
    ) -> Result<(), CkksError> {
        let is_square = |t: &Term| matches!(self.steps[t.node], Step::Square { .. });
        // The level that everything can be read at if all squares are divided first.
        let floor = terms
            .iter()
            .map(|t| self.finished[t.node].level)
            .min()
            .unwrap_or(0);
        // The lowest squares with weights 1 and -1 are added up as they are, if nothing else is lower when it was divided.
        let units = terms.iter().filter(|t| is_square(t) && t.map.is_unit());
        let first = units.map(|t| self.raw[t.node]).min_by_key(|state| state.level);
        let as_they_are = |t: &Term| is_square(t) && t.map.is_unit() && Some(self.raw[t.node]) == first;
        let others = terms.iter().filter(|t| !as_they_are(t));
        let others = others
            .map(|t| self.finished[t.node].level)
            .min()
            .unwrap_or(usize::MAX);
        let joined = first.filter(|state| state.level <= others);
        let mut sources = Vec::with_capacity(terms.len());
        let (target, weighted) = match joined {
            Some(Target { level, scale }) => {
                sources.extend(terms.iter().map(|t| Source {
                    node: t.node,
                    raw: as_they_are(t),
                }));
                (Target { level, scale }, true)
            }
            None => {
                // In waterline layouts squares may also be weighted before they are divided, where that leaves fewer to divide.
                let before = |t: &Term| {
                    matches!(self.scales, Scales::Waterline { .. })
                        && terms.len() == 1
                        && is_square(t)
                        && t.map.inputs() >= FEWER * constants.len()
                };
                sources.extend(terms.iter().map(|t| Source {
                    node: t.node,
                    raw: before(t),
                }));
                let state = |s: &Source| {
                    if s.raw {
                        self.raw[s.node]
                    } else {
                        self.finished[s.node]
                    }
                };
                let level = sources.iter().map(|s| state(s).level).min().unwrap_or(floor);
                let scale = sources.iter().map(|s| state(s).scale).fold(0.0, f64::max);
                let exact =
                    terms.iter().all(|t| t.map.is_unit()) && sources.iter().all(|s| state(s).scale == scale);
                let scale = match self.scales {
                    _ if exact => scale,
                    Scales::Nominal => self.context.product_target(level)?.scale,
                    Scales::Waterline { weights, .. } => scale * f64::from(weights).exp2(),
                };
                (Target { level, scale }, !exact)
            }
        };
        let state = Target {
            level: target.level,
            scale: target.scale,
        };
        let (divisions, finished) = self.divided(state, weighted)?;
        for source in &sources {
            let squared = self.raw[source.node];
            let after = self.divided(squared, true);
            if let Step::Square { divisions, raw, .. } = &mut self.steps[source.node] {
                if source.raw {
                    *raw = true;
                } else {
                    *divisions = Some(after?.0);
                }
            }
        }
        let widths: Vec<usize> = terms.iter().map(|t| self.network.len(t.node)).collect();
        debug_assert!(terms.iter().zip(&widths).all(|(t, &w)| t.map.inputs() == w));
        let step = Step::Sum {
            sources,
            blocks: Arc::clone(blocks),
            constants: constants.to_vec(),
            sizes: sizes.to_vec(),
            target,
            divisions,
        };
        self.push(step, finished, finished);
        Ok(())
    }
}
