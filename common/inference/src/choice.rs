//! The choice of preset, level and layout of scales.

use crate::bounds::{Bound, Bounds};
use crate::circuit::{Blocks, Circuit, Failure, Scales, Size, TooLow, sizes};
use crate::error::CompileError;
use crate::network::Network;
use crate::packed::Bits;
use crate::plan::{Plan, Precision};
use crate::way::Way;
use galen_ckks::CkksError;
use galen_ckks::context::Context;
use galen_ckks::preset::Preset;
use galen_models::{ModelSpec, Range};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::Arc;

/// The result is made smaller by at most this many binary places to fit the last modulus.
pub(crate) const MAX_SHIFT: u32 = 24;
/// Flooding beyond this hides nothing more (statistical security 40 for 2^16 answers, by the rule of
/// [`rerandomise`](galen_ckks::keys::PublicKey::rerandomise)).
pub(crate) const MAX_FLOODING: u32 = 30;
/// Values are taken to lie within the recorded ranges, made wider by this factor about their middle. A patient outside still gets an answer:
/// what must not overflow are coefficients, each an average over all patients of a batch; precision is what is lost.
const MARGIN: f64 = 2.0;
/// Candidates that are tried at the same time. Not the number of threads, on which nothing may depend.
const TOGETHER: usize = 8;

/// What a model was compiled to: with it, a program is made again without trying anything else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    preset: String,
    level: usize,
    scales: Layout,
    /// Bytes of ciphertexts in memory where others wait on disk.
    spill: Option<u64>,
}

/// How slots and scales are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Layout {
    /// A patient in every slot; [`Scales::Nominal`].
    Nominal,
    /// The same; [`Scales::Waterline`].
    Waterline { least: u32, weights: u32 },
    /// All values of some patients in one ciphertext, which takes this many slots for each, with encoded matrices kept or not.
    Packed {
        least: u32,
        weights: u32,
        width: usize,
        kept: bool,
    },
}

impl From<Scales> for Layout {
    fn from(scales: Scales) -> Self {
        match scales {
            Scales::Nominal => Self::Nominal,
            Scales::Waterline { least, weights } => Self::Waterline { least, weights },
        }
    }
}

impl Choice {
    /// Name of the CKKS preset.
    pub fn preset(&self) -> &str {
        &self.preset
    }

    /// Whether batches hold all values of some patients in one ciphertext.
    pub fn is_packed(&self) -> bool {
        matches!(self.scales, Layout::Packed { .. })
    }

    /// The name of the keys that batches are evaluated under; see [`ServingKey::key_set`](crate::ServingKey::key_set).
    pub fn key_set(&self) -> String {
        match self.scales {
            Layout::Packed { width, .. } => key_set(&self.preset, Some(width)),
            _ => key_set(&self.preset, None),
        }
    }

    pub(crate) fn new(preset: &str, level: usize, scales: Layout) -> Self {
        Self {
            preset: preset.to_owned(),
            level,
            scales,
            spill: None,
        }
    }

    pub(crate) fn level(&self) -> usize {
        self.level
    }
}

/// How much memory the ciphertexts of a batch may take while it is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes at one time, at most.
    pub max_bytes: u64,
    /// What does not fit waits on disk; otherwise what does not fit is refused.
    pub spill: bool,
}

impl Memory {
    /// As much as it takes.
    pub const UNLIMITED: Self = Self {
        max_bytes: u64::MAX,
        spill: false,
    };
}

/// What a network is compiled for.
pub(crate) struct Compilation<'a> {
    pub(crate) network: &'a Network,
    blocks: Vec<Arc<Blocks>>,
    pub(crate) sizes: Vec<Vec<Size>>,
    pub(crate) ranges: &'a [Range],
    pub(crate) precision_bits: u32,
    pub(crate) guaranteed: bool,
    pub(crate) memory: Memory,
}

/// A program without its model.
pub(crate) struct Found {
    pub(crate) context: Arc<Context>,
    pub(crate) way: Way,
    pub(crate) answers: Vec<Bound>,
    pub(crate) plan: Plan,
    pub(crate) choice: Choice,
}

impl Found {
    /// Bytes for which the plan holds without a disk, or that its largest task needs with one.
    pub(crate) fn within(mut self, memory: Memory) -> Result<Self, u64> {
        let Memory { max_bytes, spill } = memory;
        if self.plan.peak_bytes <= max_bytes {
            return Ok(self);
        }
        if !spill {
            return Err(self.plan.peak_bytes);
        }
        // All of a packed batch is in use at any time.
        let Way::Slots(circuit, spilled) = &mut self.way else {
            return Err(self.plan.peak_bytes);
        };
        let planned = circuit.spill(self.plan.degree, max_bytes);
        let planned = planned.map_err(|TooLow { needed }| needed)?;
        self.plan = self.plan.spilling(&planned);
        self.choice.spill = Some(max_bytes);
        *spilled = Some(planned);
        Ok(self)
    }
}

/// One way to lay a network out.
struct Candidate {
    context: Arc<Context>,
    level: usize,
    scales: Scales,
    /// [`Plan::cost`] for each patient of a full batch.
    cost: f64,
}

impl<'a> Compilation<'a> {
    /// Precision by bounds that hold for all inputs within their ranges.
    pub(crate) fn guaranteed(
        network: &'a Network,
        ranges: &'a [Range],
        precision_bits: u32,
    ) -> Result<Self, CkksError> {
        Self::new(network, ranges, precision_bits, None)
    }

    /// Precision as it is expected of inputs like those that were recorded.
    pub(crate) fn expected(
        network: &'a Network,
        ranges: &'a [Range],
        precision_bits: u32,
    ) -> Result<Self, CkksError> {
        Self::new(network, ranges, precision_bits, Some(MARGIN))
    }

    /// By what was recorded, with a margin, if there is one.
    fn new(
        network: &'a Network,
        ranges: &'a [Range],
        precision_bits: u32,
        margin: Option<f64>,
    ) -> Result<Self, CkksError> {
        Ok(Self {
            blocks: Blocks::all(network)?,
            sizes: sizes(network, ranges, margin),
            network,
            ranges,
            precision_bits,
            guaranteed: margin.is_none(),
            memory: Memory::UNLIMITED,
        })
    }

    /// The same for a network that computes the same, for packing alone.
    pub(crate) fn of_equal<'b>(&self, network: &'b Network, sizes: Vec<Vec<Size>>) -> Compilation<'b>
    where
        'a: 'b,
    {
        Compilation {
            network,
            blocks: Vec::new(),
            sizes,
            ranges: self.ranges,
            precision_bits: self.precision_bits,
            guaranteed: self.guaranteed,
            memory: self.memory,
        }
    }

    /// Leaves out what needs more memory for ciphertexts than this.
    pub(crate) fn within(self, memory: Memory) -> Self {
        Self { memory, ..self }
    }

    pub(crate) fn is_guaranteed(&self) -> bool {
        self.guaranteed
    }

    /// Under the smallest preset that does.
    pub(crate) fn smallest(&self) -> Result<Found, CompileError> {
        let mut reason = "none has that many levels".to_owned();
        let levels = self.network.depth().max(1);
        for preset in Preset::all().iter().filter(|p| p.max_level() >= levels) {
            let context = Context::new(preset)?;
            match self.under(&context, levels, Scales::Nominal) {
                Ok(found) => return found.within(self.memory).map_err(|least| self.too_large(least)),
                Err(error) => reason = format!("{}: {error}", preset.name()),
            }
        }
        Err(self.none(levels, reason))
    }

    /// The cheapest way for a patient, among those in the smallest ring that has any: larger rings hold more patients at the same cost
    /// for each, and are for more levels.
    ///
    /// What a candidate costs is known from its layout; whether it is precise enough takes much longer to find out. So candidates are
    /// tried in the order of their costs, and the first one that does is taken. `progress` is told how many were tried, of how many.
    pub(crate) fn cheapest(&self, progress: &dyn Fn(u32, u32)) -> Result<Found, CompileError> {
        let mut reason = "none has that many levels".to_owned();
        let mut presets = Preset::all();
        presets.sort_by_key(Preset::degree);
        for ring in presets.chunk_by(|a, b| a.degree() == b.degree()) {
            let mut candidates = Vec::new();
            for preset in ring {
                candidates.extend(self.candidates(&Context::new(preset)?));
            }
            // Stable: of equally cheap ones the first is taken.
            candidates.sort_by(|a, b| a.cost.total_cmp(&b.cost));
            // What fails for another reason than too little room does not do better with more levels.
            let mut hopeless: HashSet<(String, Scales)> = HashSet::new();
            let mut too_large: Option<u64> = None;
            let total = candidates.len() as u32;
            for (start, some) in (0u32..).step_by(TOGETHER).zip(candidates.chunks(TOGETHER)) {
                progress(start, total);
                let kind = |c: &Candidate| (c.context.preset().name().to_owned(), c.scales);
                let tried: Vec<Option<Result<Found, CkksError>>> = some
                    .par_iter()
                    .map(|c| {
                        let hope = !hopeless.contains(&kind(c));
                        hope.then(|| self.under(&c.context, c.level, c.scales))
                    })
                    .collect();
                for (candidate, result) in some.iter().zip(tried) {
                    let kind = kind(candidate);
                    match result {
                        // Not if a cheaper one of this chunk has shown it to be hopeless: which ones are tried together must not matter.
                        Some(Ok(found)) if !hopeless.contains(&kind) => match found.within(self.memory) {
                            Ok(found) => return Ok(found),
                            Err(needed) => {
                                too_large = Some(too_large.map_or(needed, |least| least.min(needed)));
                            }
                        },
                        Some(Err(CkksError::NoLevelLeft | CkksError::Overflow { .. })) | None => {}
                        Some(Err(error)) => {
                            reason = format!("{}: {error}", kind.0);
                            hopeless.insert(kind);
                        }
                        Some(Ok(_)) => {}
                    }
                }
            }
            // Larger rings have larger ciphertexts.
            if let Some(least) = too_large {
                return Err(self.too_large(least));
            }
        }
        Err(self.none(self.network.depth(), reason))
    }

    pub(crate) fn too_large(&self, least: u64) -> CompileError {
        CompileError::Memory {
            needed_mib: least.div_ceil(1 << 20),
            allowed_mib: self.memory.max_bytes >> 20,
            advice: if self.memory.spill {
                "even with all others on disk: allow more"
            } else {
                "allow more, let what does not fit wait on disk"
            },
        }
    }

    /// The one that was found before.
    pub(crate) fn chosen(&self, spec: &ModelSpec, choice: &Choice) -> Result<Found, CompileError> {
        let scales = match choice.scales {
            Layout::Nominal => Scales::Nominal,
            Layout::Waterline { least, weights } => Scales::Waterline { least, weights },
            Layout::Packed {
                least,
                weights,
                width,
                kept,
            } => return self.packed_as(spec, choice, Bits { least, weights }, (width, kept)),
        };
        let stale = |reason| CompileError::Stale {
            preset: choice.preset.clone(),
            reason,
        };
        let found = Preset::by_name(&choice.preset)
            .and_then(|preset| Context::new(&preset))
            .and_then(|context| self.under(&context, choice.level, scales))
            .map_err(|error| stale(error.to_string()))?;
        let Some(max_bytes) = choice.spill else {
            return Ok(found);
        };
        let spilling = Memory {
            max_bytes,
            spill: true,
        };
        let too_low = |needed| {
            stale(format!(
                "{needed} bytes of memory are needed, {max_bytes} were allowed"
            ))
        };
        found.within(spilling).map_err(too_low)
    }

    pub(crate) fn none(&self, levels: usize, reason: String) -> CompileError {
        CompileError::NoPreset {
            levels,
            precision_bits: self.precision_bits,
            reason,
        }
    }

    /// Every layout under a preset that has the levels for it.
    fn candidates(&self, context: &Arc<Context>) -> Vec<Candidate> {
        let each = |(scales, level): (Scales, usize)| {
            let circuit = self.circuit(context, level, scales, 0).ok()?;
            let cost = circuit.work(context.degree()).cost as f64 / context.slots() as f64;
            Some(Candidate {
                context: Arc::clone(context),
                level,
                scales,
                cost,
            })
        };
        let all: Vec<(Scales, usize)> = Scales::choices()
            .flat_map(|scales| {
                let nominal = scales == Scales::Nominal;
                let least = if nominal { self.network.depth() } else { 1 };
                (least..=context.preset().max_level()).map(move |level| (scales, level))
            })
            .collect();
        all.into_par_iter().filter_map(each).collect()
    }

    fn circuit(
        &self,
        context: &Context,
        level: usize,
        scales: Scales,
        shift: u32,
    ) -> Result<Circuit, CkksError> {
        let given = (self.blocks.as_slice(), self.sizes.as_slice());
        Circuit::new(context, self.network, given, level, scales, shift)
    }

    /// The program under a preset, with inputs at `level`; errors with what stands against it.
    fn under(&self, context: &Arc<Context>, level: usize, scales: Scales) -> Result<Found, CkksError> {
        let bounds = Bounds::new(context, self.guaranteed);
        // The last modulus leaves a few bits above the scale; results that could be larger are computed smaller.
        let (mut shift, mut needed) = (0, f64::INFINITY);
        let (circuit, bare) = loop {
            let circuit = self.circuit(context, level, scales, shift)?;
            let fresh = |r: &Range| bounds.fresh(level, circuit.input_scale(), r.magnitude());
            let inputs = self
                .ranges
                .iter()
                .map(fresh)
                .collect::<Result<Vec<Bound>, CkksError>>()?;
            // The fresh zero of re-randomisation must fit as well.
            let fitting = circuit.run(&bounds, &inputs, &mut |_, _| {}).and_then(|bare| {
                let rerandomised = |b| bounds.rerandomised(b, None).map(drop);
                bare.iter().try_for_each(rerandomised).map_err(|error| Failure {
                    error,
                    in_results: true,
                })?;
                Ok(bare)
            });
            match fitting {
                Ok(bare) => break (circuit, bare),
                // Only if it is the results that do not fit does a shift help; a place of it makes them smaller by at most a bit.
                Err(Failure {
                    in_results: true,
                    error:
                        CkksError::Overflow {
                            needed_bits,
                            available_bits,
                        },
                }) if shift < MAX_SHIFT && needed_bits < needed => {
                    let places = (needed_bits - available_bits).ceil().max(1.0);
                    shift = (shift + places.min(f64::from(MAX_SHIFT)) as u32).min(MAX_SHIFT);
                    needed = needed_bits;
                }
                Err(failure) => return Err(failure.error),
            }
        };
        let (flooding_bits, answers) = flooded(&bounds, &bare, shift, self.precision_bits, self.guaranteed)?;
        let choice = Choice::new(context.preset().name(), level, scales.into());
        Ok(self.found(context, Way::Slots(circuit, None), answers, flooding_bits, choice))
    }

    /// A way that does, with its plan.
    pub(crate) fn found(
        &self,
        context: &Arc<Context>,
        way: Way,
        answers: Vec<Bound>,
        flooding_bits: Option<u32>,
        choice: Choice,
    ) -> Found {
        let precision = if self.guaranteed {
            Precision::Guaranteed
        } else {
            Precision::Expected
        };
        let precision_bits = least_bits(&answers, self.guaranteed) - f64::from(way.shift());
        let plan = Plan::new(
            context,
            &way,
            self.network.inputs(),
            &answers,
            (precision, precision_bits, self.precision_bits),
            flooding_bits,
        );
        Found {
            context: Arc::clone(context),
            way,
            answers,
            plan,
            choice,
        }
    }
}

/// Answers as they are given away, flooded as far as the precision asked for leaves room, if it does.
pub(crate) fn flooded(
    bounds: &Bounds,
    bare: &[Bound],
    shift: u32,
    precision_bits: u32,
    guaranteed: bool,
) -> Result<(Option<u32>, Vec<Bound>), CkksError> {
    let enough = |flooding: Option<u32>| {
        let answers = bare
            .iter()
            .map(|b| bounds.rerandomised(b, flooding))
            .collect::<Result<Vec<Bound>, CkksError>>()?;
        let planned_bits = least_bits(&answers, guaranteed) - f64::from(shift);
        let requested_bits = f64::from(precision_bits);
        if planned_bits >= requested_bits {
            return Ok(answers);
        }
        Err(CkksError::Precision {
            planned_bits,
            requested_bits,
        })
    };
    let (mut flooding_bits, mut answers) = (None, enough(None)?);
    for bits in 0..=MAX_FLOODING {
        let Ok(flooded) = enough(Some(bits)) else { break };
        (flooding_bits, answers) = (Some(bits), flooded);
    }
    Ok((flooding_bits, answers))
}

/// Names a set of serving keys: the preset, and the slots of a patient where batches are packed.
pub(crate) fn key_set(preset: &str, width: Option<usize>) -> String {
    match width {
        Some(width) => format!("{preset}_w{width}"),
        None => preset.to_owned(),
    }
}

/// The bits after the binary point of the least precise answer.
fn least_bits(answers: &[Bound], guaranteed: bool) -> f64 {
    let bits = |b: &Bound| {
        if guaranteed {
            b.budget.precision_bits()
        } else {
            b.expected_bits()
        }
    };
    answers.iter().map(bits).fold(f64::INFINITY, f64::min)
}
