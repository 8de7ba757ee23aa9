//! The choice of preset, level and scales of a packed circuit.

use super::balance::balanced;
use super::circuit::{Bits, PackedCircuit};
use super::plains::{Known, Numbers};
use super::structure::Structure;
use super::{Packed, Packing};
use crate::bounds::Bounds;
use crate::choice::{Choice, Compilation, Found, Layout, flooded};
use crate::circuit::Size;
use crate::error::CompileError;
use crate::network::Network;
use crate::way::Way;
use galen_ckks::CkksError;
use galen_ckks::context::Context;
use galen_ckks::preset::Preset;
use galen_models::{ModelSpec, Range};
use rayon::prelude::*;
use std::cmp::Reverse;
use std::sync::Arc;

/// Bits of scales and weights that are tried. Weights are encoded in all slots, whose rounding is some 2^8 units.
const LEAST: [u32; 13] = [20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 42, 44];
const WEIGHTS: [u32; 12] = [12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34];
/// Encoded matrices of more bytes than this are not kept from batch to batch: some are needed twice a day, and their memory all day.
const KEPT: u64 = 1 << 30;
/// Candidates that are tried at the same time. Not the number of threads, on which nothing may depend.
const TOGETHER: usize = 8;

struct Candidate {
    context: Arc<Context>,
    structure: Arc<Structure>,
    level: usize,
    bits: Bits,
    cost: u64,
}

impl Compilation<'_> {
    /// The cheapest way to evaluate some patients in one ciphertext, in the smallest ring that has any.
    ///
    /// # Errors
    /// [`CompileError::NoPreset`] if none is precise enough, or no ring has the slots for the widest layer; [`CompileError::Memory`].
    pub(crate) fn packed(&self, spec: &ModelSpec) -> Result<Found, CompileError> {
        let (network, sizes) = self.settled();
        self.of_equal(&network, sizes).packed_cheapest(spec)
    }

    /// The network that is packed: where values were recorded, one with values of one size. Bounds for all inputs leave little between the sizes
    /// of a table's values, and smaller values have fewer bits at the same scale.
    fn settled(&self) -> (Network, Vec<Vec<Size>>) {
        if self.guaranteed {
            (self.network.clone(), self.sizes.clone())
        } else {
            balanced(self.network, &self.sizes)
        }
    }

    fn packed_cheapest(&self, spec: &ModelSpec) -> Result<Found, CompileError> {
        let mut presets = Preset::all();
        presets.sort_by_key(Preset::degree);
        let mut reason = "no ring has slots for its widest layer".to_owned();
        let mut nearest = f64::NEG_INFINITY;
        // What fits in few slots is the same with more of them.
        let mut structure = self.structure(spec, presets.last().map_or(0, Preset::degree));
        for ring in presets.chunk_by(|a, b| a.degree() == b.degree()) {
            let mut candidates = Vec::new();
            for preset in ring {
                let context = Context::new(preset)?;
                let fitting = structure.clone().filter(|s| s.width <= context.slots());
                let Some(fitting) = fitting.or_else(|| self.structure(spec, context.slots())) else {
                    continue;
                };
                candidates.extend(self.packed_candidates(&context, &fitting));
                structure = structure.or(Some(fitting));
            }
            // Stable: of equally cheap ones, the one for most patients, and then the first.
            candidates.sort_by_key(|c| (c.cost, Reverse(c.context.slots() / c.structure.width)));
            for some in candidates.chunks(TOGETHER) {
                let tried: Vec<Result<Found, CkksError>> = some
                    .par_iter()
                    .map(|c| self.packed_under(&c.context, &c.structure, (c.level, c.bits), None))
                    .collect();
                for (candidate, result) in some.iter().zip(tried) {
                    match result {
                        Ok(found) => {
                            return found.within(self.memory).map_err(|needed| self.too_large(needed));
                        }
                        Err(error) => {
                            // The one that came nearest says most.
                            let bits = match error {
                                CkksError::Precision { planned_bits, .. } => planned_bits,
                                _ => f64::NEG_INFINITY,
                            };
                            if bits >= nearest {
                                nearest = bits;
                                reason = format!("{}: {error}", candidate.context.preset().name());
                            }
                        }
                    }
                }
            }
        }
        Err(self.none(self.network.depth(), reason))
    }

    /// The one that was found before.
    pub(crate) fn packed_as(
        &self,
        spec: &ModelSpec,
        choice: &Choice,
        bits: Bits,
        (width, kept): (usize, bool),
    ) -> Result<Found, CompileError> {
        let stale = |reason: String| CompileError::Stale {
            preset: choice.preset().to_owned(),
            reason,
        };
        let context = Preset::by_name(choice.preset()).and_then(|preset| Context::new(&preset));
        let context = context.map_err(|error| stale(error.to_string()))?;
        let (network, sizes) = self.settled();
        let equal = self.of_equal(&network, sizes);
        let structure = equal
            .structure(spec, width.min(context.slots()))
            .filter(|s| s.width == width);
        let structure = structure.ok_or_else(|| stale(format!("a patient does not take {width} slots")))?;
        let found = equal.packed_under(&context, &structure, (choice.level(), bits), Some(kept));
        found.map_err(|error| stale(error.to_string()))
    }

    fn structure(&self, spec: &ModelSpec, slots: usize) -> Option<Arc<Structure>> {
        let found = Structure::new(spec, self.network, &self.sizes, slots);
        found.filter(|s| s.width >= 2).map(Arc::new)
    }

    fn packed_candidates(&self, context: &Arc<Context>, structure: &Arc<Structure>) -> Vec<Candidate> {
        let levels = 1..=context.preset().max_level();
        let bits = LEAST
            .iter()
            .flat_map(|&least| WEIGHTS.iter().rev().map(move |&weights| Bits { least, weights }));
        let all: Vec<(usize, Bits)> = levels
            .flat_map(|level| bits.clone().map(move |bits| (level, bits)))
            .collect();
        let each = |(level, bits): (usize, Bits)| {
            let circuit = PackedCircuit::new(context, self.network, structure, level, bits).ok()?;
            Some(Candidate {
                context: Arc::clone(context),
                structure: Arc::clone(structure),
                level,
                bits,
                cost: circuit.work(context.degree(), true).cost,
            })
        };
        all.into_par_iter().filter_map(each).collect()
    }

    /// The program with inputs at `level`; errors with what stands against it. Without a word on whether encoded matrices are `kept`, they are
    /// where memory allows it.
    fn packed_under(
        &self,
        context: &Arc<Context>,
        structure: &Structure,
        (level, bits): (usize, Bits),
        kept: Option<bool>,
    ) -> Result<Found, CkksError> {
        let bounds = Bounds::new(context, self.guaranteed);
        let mut circuit = PackedCircuit::new(context, self.network, structure, level, bits)?;
        if !self.guaranteed {
            let noises = circuit.expected(context, self.network, &self.sizes, |l| bounds.switching(l));
            circuit = circuit.with_expected(noises);
        }
        let largest = self.ranges.iter().map(Range::magnitude).fold(0.0, f64::max);
        let input = bounds.fresh(level, circuit.input_scale(), largest)?;
        let encode = |numbers: &Numbers<'_>| bounds.encoded(numbers);
        let bare = circuit.run(&bounds, &Known::Encoded(&encode), &input, &mut |_, _| {})?;
        let (flooding_bits, answers) = flooded(&bounds, &[bare], 0, self.precision_bits, self.guaranteed)?;
        let packing = Packing {
            width: structure.width,
            order: structure.order,
        };
        let bytes = circuit.bytes(context.degree());
        let allowed = self.memory.max_bytes.saturating_sub(bytes.ciphertexts);
        let kept = kept.unwrap_or(bytes.matrices <= KEPT.min(allowed));
        let way = Way::Packed(Box::new(Packed::new(circuit, packing, kept)));
        let choice = Choice::new(
            context.preset().name(),
            level,
            Layout::Packed {
                least: bits.least,
                weights: bits.weights,
                width: structure.width,
                kept,
            },
        );
        Ok(self.found(context, way, answers, flooding_bits, choice))
    }
}
