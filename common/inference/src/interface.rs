//! What a querier needs in order to ask a model that it does not have.
//!
//! An interface is a JSON document. Whoever reads one takes it from a coordinator that may lie, so everything in it is checked before it is
//! used: only standard presets, which have 128-bit security; levels, scales and ranges that encryption has room for; rounding that is no
//! finer than the noise of re-randomisation. A false interface costs correct answers. It does not cost the key, whose ciphertexts are safe
//! whatever they hold and at whatever scale, nor a patient, whose values are nowhere in what an encryption shows.
//!
//! Of the weights it tells bounds on outputs and their noise, rounded up to an eighth of their power of two, and nothing else.

mod check;

use crate::bounds::{Bound, Bounds};
use crate::choice::key_set;
use crate::evaluation::TOLERANCE;
use crate::packed::{Packing, Places};
use crate::plan::{Plan, Precision, Sizes};
use crate::way::Way;
use galen_ckks::CkksError;
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::context::Context;
use galen_ckks::noise::Budget;
use galen_models::{Range, Shape, Subject};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub use check::{InterfaceError, MAX_INTERFACE_BYTES};

/// Version of the document.
const FORMAT: u32 = 1;

/// What batches are like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Batches {
    preset: String,
    level: usize,
    scale: f64,
    /// One for all values, or one for each channel, or one for each value.
    ranges: Vec<Range>,
    /// How all values of some patients are packed into one ciphertext, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    packing: Option<Packing>,
}

/// What answers are like: ciphertexts of level 0 and degree 1, one for each output, or one in all if batches are packed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answers {
    outputs: usize,
    scale: f64,
    /// Largest value of a slot; outputs are larger by 2^`shift`.
    magnitude: f64,
    noise: f64,
    shift: u32,
    /// Bits after the binary point of outputs to which they are rounded.
    rounded_bits: u32,
    precision: Precision,
    /// Bits after the binary point of outputs that are right.
    precision_bits: f64,
    flooding_bits: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    galen_interface: u32,
    subject: Subject,
    batches: Batches,
    answers: Answers,
}

/// What a querier needs to know of a program, checked.
#[derive(Clone, Debug)]
pub struct Interface {
    document: Document,
    context: Arc<Context>,
    /// One for each input.
    ranges: Vec<Range>,
    /// Where inputs lie in a packed batch.
    places: Option<Places>,
}

impl PartialEq for Interface {
    fn eq(&self, other: &Self) -> bool {
        self.document == other.document
    }
}

impl Interface {
    pub(crate) fn of_program(
        context: &Arc<Context>,
        way: &Way,
        subject: Subject,
        ranges: &[Range],
        answers: &[Bound],
        plan: &Plan,
    ) -> Self {
        let largest = |of: fn(&Budget) -> f64| answers.iter().map(|a| of(&a.budget)).fold(0.0, f64::max);
        let scale = largest(|b| b.scale);
        let (magnitude, noise) = (largest(|b| b.magnitude), largest(|b| b.noise));
        // Not beyond what the rounding needs, and the modulus holds.
        let most = scale * (-f64::from(plan.rounded_bits + way.shift())).exp2();
        let noise = match plan.precision {
            Precision::Guaranteed => coarse(noise).min(most).max(noise),
            Precision::Expected => coarse(noise),
        };
        let room = context.log2_q(0).unwrap_or(0.0);
        let fits = |magnitude, noise| {
            let budget = Budget {
                scale,
                magnitude,
                noise,
            };
            budget.check_fits(room).is_ok()
        };
        let exact = (magnitude, largest(|b| b.noise));
        let (magnitude, noise) = match (coarse(magnitude), noise) {
            (m, n) if fits(m, n) => (m, n),
            _ => exact,
        };
        let document = Document {
            galen_interface: FORMAT,
            batches: Batches {
                preset: context.preset().name().to_owned(),
                level: way.level(),
                scale: way.input_scale(),
                ranges: compact(subject.input, ranges),
                packing: way.packing(),
            },
            answers: Answers {
                outputs: way.outputs(),
                scale,
                magnitude,
                noise,
                shift: way.shift(),
                rounded_bits: plan.rounded_bits,
                precision: plan.precision,
                precision_bits: (plan.precision_bits * 8.0).floor() / 8.0,
                flooding_bits: plan.flooding_bits,
            },
            subject,
        };
        Self {
            document,
            context: Arc::clone(context),
            ranges: ranges.to_vec(),
            places: way
                .packing()
                .and_then(|packing| packing.places(ranges.len(), context.slots())),
        }
    }

    /// As bytes: JSON. Their digest names the version of the model.
    ///
    /// # Errors
    /// None but those of the encoder.
    pub fn to_bytes(&self) -> Result<Vec<u8>, InterfaceError> {
        serde_json::to_vec(&self.document).map_err(|error| InterfaceError::Malformed(error.to_string()))
    }

    /// From bytes. Refuses whatever could do a querier harm, and says what.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InterfaceError> {
        check::read(bytes)
    }

    /// What the model predicts from what.
    pub fn subject(&self) -> &Subject {
        &self.document.subject
    }

    /// The tables of the preset.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Name of the CKKS preset.
    pub fn preset(&self) -> &str {
        &self.document.batches.preset
    }

    /// Level of a batch's ciphertexts: multiplications that follow each other.
    pub fn level(&self) -> usize {
        self.document.batches.level
    }

    /// Scale of a batch's ciphertexts.
    pub(crate) fn scale(&self) -> f64 {
        self.document.batches.scale
    }

    /// The public range of every input, as it enters the model.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// Ciphertexts of a batch: one for each input, or one in all if it is packed.
    pub fn inputs(&self) -> usize {
        match self.places {
            Some(_) => 1,
            None => self.ranges.len(),
        }
    }

    /// Slots of a patient, where all values of some patients are packed into one ciphertext.
    pub fn packed_width(&self) -> Option<usize> {
        self.document.batches.packing.map(|packing| packing.width)
    }

    /// Where the inputs of a patient lie in a packed batch.
    pub(crate) fn places(&self) -> Option<&Places> {
        self.places.as_ref()
    }

    /// The name of the keys that batches are evaluated under; see [`ServingKey::key_set`](crate::ServingKey::key_set).
    pub fn key_set(&self) -> String {
        key_set(self.preset(), self.packed_width())
    }

    /// Patients of a batch, at most.
    pub fn max_patients(&self) -> usize {
        self.context.slots() / self.packed_width().unwrap_or(1)
    }

    /// Outputs of the model.
    pub fn outputs(&self) -> usize {
        self.document.answers.outputs
    }

    /// Binary places by which answers are smaller than outputs.
    pub(crate) fn shift(&self) -> u32 {
        self.document.answers.shift
    }

    /// Bits after the binary point to which outputs are rounded.
    pub fn rounded_bits(&self) -> u32 {
        self.document.answers.rounded_bits
    }

    /// Bits after the binary point of the outputs that are right.
    pub fn precision_bits(&self) -> f64 {
        self.document.answers.precision_bits
    }

    /// What the precision is promised by.
    pub fn precision(&self) -> Precision {
        self.document.answers.precision
    }

    /// Bits of flooding of an answer, if it is flooded.
    pub fn flooding_bits(&self) -> Option<u32> {
        self.document.answers.flooding_bits
    }

    /// No output is larger; an answer beyond is refused.
    pub fn largest_output(&self) -> f64 {
        self.document.answers.magnitude * f64::from(self.shift()).exp2()
    }

    /// Bytes of batches, keys and answers.
    pub fn sizes(&self) -> Sizes {
        let ciphertexts = (self.inputs(), self.answers());
        Sizes::new(&self.context, self.level(), ciphertexts, self.packed_width())
    }

    /// Ciphertexts of an answer.
    fn answers(&self) -> usize {
        match self.places {
            Some(_) => 1,
            None => self.outputs(),
        }
    }

    /// An answer that states no other bounds than those that are promised.
    pub(crate) fn stated(&self, answer: Ciphertext) -> Result<Ciphertext, CkksError> {
        let promised = &self.document.answers;
        answer.with_looser_bounds(&self.context, promised.magnitude, promised.noise)
    }

    /// Whether an answer's ciphertexts are like those that are promised.
    pub(crate) fn accepts(&self, answers: &[Ciphertext]) -> bool {
        let promised = &self.document.answers;
        let like = |answer: &Ciphertext| {
            answer.level() == 0
                && answer.degree() == 1
                && answer.scale() == promised.scale
                && answer.magnitude_bound() <= promised.magnitude * TOLERANCE
                && answer.noise_bound() <= promised.noise * TOLERANCE
        };
        answers.len() == self.answers() && answers.iter().all(like)
    }

    /// Encryption of a value of every input has room.
    fn check_inputs(&self) -> Result<(), CkksError> {
        let bounds = Bounds::new(&self.context, false);
        let largest = self.ranges.iter().map(Range::magnitude).fold(0.0, f64::max);
        bounds.fresh(self.level(), self.scale(), largest).map(drop)
    }
}

/// Rounded up to an eighth of its power of two.
fn coarse(x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    let unit = (x.log2().floor() - 3.0).exp2();
    (x / unit).ceil() * unit
}

/// One range for all inputs or one for each channel, if they are the same throughout.
fn compact(shape: Shape, ranges: &[Range]) -> Vec<Range> {
    let same = |part: &[Range]| part.windows(2).all(|pair| pair[0] == pair[1]);
    let first = |part: &[Range]| part.first().copied();
    if same(ranges) {
        return first(ranges).into_iter().collect();
    }
    let planes = ranges.chunks(shape.area().max(1));
    if planes.clone().all(same) {
        return planes.filter_map(first).collect();
    }
    ranges.to_vec()
}
