//! A model compiled for encrypted batches.

#[cfg(test)]
use crate::bounds::Bound;
use crate::choice::{Choice, Compilation, Found, Memory};
use crate::error::CompileError;
use crate::interface::Interface;
use crate::lower::{Unsupported, lower};
use crate::network::Network;
use crate::plan::Plan;
use crate::way::Way;
use galen_ckks::context::Context;
use galen_models::{ActivationRange, Annotations, Model, ModelFile, Range, Subject};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What was recorded of a model when it was trained: where the inputs of its activations lie.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recorded {
    /// The place of an activation's layer (see [`Site::path`](galen_models::Site)), and what entered it.
    pub activations: HashMap<String, ActivationRange>,
}

impl Recorded {
    /// What a [`ModelFile`] or an evaluation recorded.
    pub fn of(activations: &[ActivationRange]) -> Self {
        Self {
            activations: activations.iter().map(|a| (a.path.clone(), a.clone())).collect(),
        }
    }
}

/// A model compiled for encrypted batches under one preset. Equal arguments compile to equal programs.
#[derive(Debug)]
pub struct Program {
    pub(crate) context: Arc<Context>,
    pub(crate) way: Way,
    pub(crate) ranges: Vec<Range>,
    /// What is known of the answers as they leave the coordinator.
    #[cfg(test)]
    pub(crate) answers: Vec<Bound>,
    pub(crate) plan: Plan,
    pub(crate) choice: Choice,
    pub(crate) interface: Interface,
    /// The folder in which ciphertexts wait.
    pub(crate) scratch: PathBuf,
}

impl Program {
    /// Compiles a model for inputs within public `ranges`, one per input, such that `precision_bits` bits after the binary point of
    /// the outputs are right by the static noise bound. Chooses the smallest standard preset, all of which have 128-bit
    /// security.
    pub fn compile(model: &Model, ranges: &[Range], precision_bits: u32) -> Result<Self, CompileError> {
        let network = Self::lower(model, ranges, &Recorded::default())?;
        let compilation = Compilation::guaranteed(&network, ranges, precision_bits)?;
        let found = compilation.smallest()?;
        Self::new(model, &Annotations::default(), ranges, found)
    }

    /// Compiles a model whose activations were `recorded` in training, such that `precision_bits` bits after the binary point of the
    /// outputs are expected to be right (see [`Precision::Expected`](crate::Precision::Expected)). Bounds over all possible inputs are out of reach for networks
    /// with many values; what patients look like is within reach. Takes the cheapest way per patient among all standard presets and
    /// layouts of scales.
    pub fn compile_recorded(
        model: &Model,
        ranges: &[Range],
        precision_bits: u32,
        recorded: &Recorded,
    ) -> Result<Self, CompileError> {
        let network = Self::lower(model, ranges, recorded)?;
        let compilation = Compilation::expected(&network, ranges, precision_bits)?;
        let found = compilation.cheapest(&|_, _| {})?;
        Self::new(model, &Annotations::default(), ranges, found)
    }

    /// Compiles a model file by what it says of its inputs and activations: by the recorded ranges if there are any, see
    /// [`Self::compile_recorded`]; otherwise by what the inputs may be, see [`Self::compile`].
    pub fn compile_file(file: &ModelFile, precision_bits: u32) -> Result<Self, CompileError> {
        Self::compile_watched(file, precision_bits, Memory::UNLIMITED, &|_, _| {})
    }

    /// [`Self::compile_file`] for at most so many bytes of ciphertexts at one time ([`Plan::peak_bytes`]), which tells `progress` the candidates
    /// that were tried and how many there are at most at this moment. Where ciphertexts may wait on disk, the cheapest way is taken
    /// whatever it holds.
    pub fn compile_watched(
        file: &ModelFile,
        precision_bits: u32,
        memory: Memory,
        progress: &dyn Fn(u32, u32),
    ) -> Result<Self, CompileError> {
        Self::of_file(file, precision_bits, |compilation| {
            let compilation = compilation.within(memory);
            if compilation.is_guaranteed() {
                compilation.smallest()
            } else {
                compilation.cheapest(progress)
            }
        })
    }

    /// A model file compiled for few patients at a time: all values of some patients are in one ciphertext, and matrices are products with
    /// rotations of it. By what the file says, as in [`Self::compile_file`]; takes the least work in the smallest ring that is precise enough.
    ///
    /// # Errors
    /// [`CompileError::NoPreset`] also where no ring has slots for the widest layer of a patient; [`CompileError::Memory`] for more than
    /// `max_bytes` of encoded matrices and ciphertexts.
    pub fn compile_packed(
        file: &ModelFile,
        precision_bits: u32,
        max_bytes: u64,
    ) -> Result<Self, CompileError> {
        Self::of_file(file, precision_bits, |compilation| {
            compilation
                .within(Memory {
                    max_bytes,
                    spill: false,
                })
                .packed(file.model.spec())
        })
    }

    /// The program that [`Self::compile_file`] or [`Self::compile_packed`] chose before: only that one is laid out and checked.
    ///
    /// # Errors
    /// [`CompileError::Stale`] if the choice does not fit the file: it was made for another one, or by another version of the compiler.
    pub fn from_choice(file: &ModelFile, precision_bits: u32, choice: &Choice) -> Result<Self, CompileError> {
        Self::of_file(file, precision_bits, |compilation| {
            compilation.chosen(file.model.spec(), choice)
        })
    }

    fn of_file(
        file: &ModelFile,
        precision_bits: u32,
        find: impl FnOnce(Compilation<'_>) -> Result<Found, CompileError>,
    ) -> Result<Self, CompileError> {
        let annotations = &file.annotations;
        let ranges = annotations
            .input_ranges(file.model.spec())
            .ok_or(CompileError::NotRecorded)?;
        let recorded = Recorded::of(&annotations.activations);
        let network = Self::lower(&file.model, &ranges, &recorded)?;
        let compilation = if annotations.activations.is_empty() {
            Compilation::guaranteed(&network, &ranges, precision_bits)?
        } else {
            Compilation::expected(&network, &ranges, precision_bits)?
        };
        let found = find(compilation)?;
        Self::new(&file.model, annotations, &ranges, found)
    }

    fn new(
        model: &Model,
        annotations: &Annotations,
        ranges: &[Range],
        found: Found,
    ) -> Result<Self, CompileError> {
        let Found {
            context,
            way,
            answers,
            plan,
            choice,
        } = found;
        let subject = Subject::of(model, annotations);
        let interface = Interface::of_program(&context, &way, subject, ranges, &answers, &plan);
        Ok(Self {
            interface,
            context,
            way,
            ranges: ranges.to_vec(),
            #[cfg(test)]
            answers,
            plan,
            choice,
            scratch: std::env::temp_dir(),
        })
    }

    /// The same with another folder for ciphertexts that wait on disk than the system's for temporary files. It is made when it is needed; each
    /// batch has a folder of its own in it, which is removed when its evaluation ends.
    #[must_use]
    pub fn with_scratch(self, folder: &Path) -> Self {
        Self {
            scratch: folder.to_path_buf(),
            ..self
        }
    }

    fn lower(model: &Model, ranges: &[Range], recorded: &Recorded) -> Result<Network, CompileError> {
        let expected = model.spec().inputs();
        if ranges.len() != expected {
            return Err(CompileError::Ranges {
                expected,
                found: ranges.len(),
            });
        }
        let bad = |r: &Range| !(r.min.is_finite() && r.max.is_finite() && r.min <= r.max);
        if let Some((input, range)) = ranges.iter().enumerate().find(|(_, r)| bad(r)) {
            return Err(CompileError::Range {
                input,
                min: range.min,
                max: range.max,
            });
        }
        lower(model, &|place| recorded.activations.get(place))
            .map_err(|Unsupported { layer, why }| CompileError::Unsupported { layer, why })
    }

    /// The tables of the preset.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// What the program needs, costs and promises.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The public range of every input.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// Level of a batch's ciphertexts.
    pub(crate) fn level(&self) -> usize {
        self.way.level()
    }

    /// Scale of a batch's ciphertexts.
    pub(crate) fn input_scale(&self) -> f64 {
        self.way.input_scale()
    }

    /// What a querier needs to know, and nothing else.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// What was chosen at compilation; [`Self::from_choice`] makes this program from it again.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }
}
