//! Reading an interface that somebody else wrote.

use super::{Batches, Document, FORMAT, Interface};
use crate::choice::{MAX_FLOODING, MAX_SHIFT};
use crate::plan::Precision;
use galen_ckks::CkksError;
use galen_ckks::codec::{MAX_SET, MAX_SET_BYTES};
use galen_ckks::context::Context;
use galen_ckks::noise::{Budget, NoiseModel};
use galen_ckks::preset::Preset;
use galen_models::{Range, Shape, SubjectError};

/// Longest document that is read.
pub const MAX_INTERFACE_BYTES: usize = 8 << 20;
/// Smallest and largest binary logarithm of the scale of inputs.
const SCALE_BITS: std::ops::RangeInclusive<f64> = 16.0..=60.0;
/// Fewest and most bits after the binary point to which outputs are rounded.
const ROUNDED_BITS: std::ops::RangeInclusive<u32> = 1..=24;

/// An interface that must not be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InterfaceError {
    /// More bytes than any interface has.
    #[error("the interface has {0} bytes, at most {MAX_INTERFACE_BYTES} are read")]
    TooLong(usize),
    /// Not an interface.
    #[error("this is no interface: {0}")]
    Malformed(String),
    /// Another version of the document.
    #[error("an interface of version {0}; this program reads version {FORMAT}: update it")]
    Version(u32),
    /// A preset that is not standard.
    #[error("\"{0}\" is no standard preset; only those have 128-bit security")]
    Preset(String),
    /// An entry that cannot be, or could do harm.
    #[error("{field}: {problem}")]
    Entry {
        /// The entry.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

fn refuse<T>(field: &'static str, problem: impl Into<String>) -> Result<T, InterfaceError> {
    Err(InterfaceError::Entry {
        field,
        problem: problem.into(),
    })
}

fn no_room(field: &'static str) -> impl Fn(CkksError) -> InterfaceError {
    move |error| InterfaceError::Entry {
        field,
        problem: error.to_string(),
    }
}

/// Only the version of a document.
#[derive(serde::Deserialize)]
struct Version {
    galen_interface: u32,
}

pub(super) fn read(bytes: &[u8]) -> Result<Interface, InterfaceError> {
    if bytes.len() > MAX_INTERFACE_BYTES {
        return Err(InterfaceError::TooLong(bytes.len()));
    }
    let malformed = |error: serde_json::Error| InterfaceError::Malformed(error.to_string());
    let version: Version = serde_json::from_slice(bytes).map_err(malformed)?;
    if version.galen_interface != FORMAT {
        return Err(InterfaceError::Version(version.galen_interface));
    }
    let document: Document = serde_json::from_slice(bytes).map_err(malformed)?;
    check_subject(&document)?;
    let Batches {
        preset, level, scale, ..
    } = &document.batches;
    let known = Preset::by_name(preset).map_err(|_| InterfaceError::Preset(preset.clone()))?;
    if *level > known.max_level() {
        return refuse(
            "batches.level",
            format!("{level}, the preset has {}", known.max_level()),
        );
    }
    if !SCALE_BITS.contains(&scale.log2()) {
        return refuse("batches.scale", "not between 2^16 and 2^60");
    }
    let ranges = ranges(&document)?;
    check_numbers(&document)?;
    let context = Context::new(&known).map_err(no_room("batches.preset"))?;
    let mut places = None;
    if let Some(packing) = &document.batches.packing {
        places = packing.places(ranges.len(), context.slots());
        let room = places
            .as_ref()
            .is_some_and(|_| document.answers.outputs <= packing.width);
        if !room {
            return refuse("batches.packing", "inputs or outputs have no place in it");
        }
    }
    let interface = Interface {
        document,
        context,
        ranges,
        places,
    };
    interface.check_inputs().map_err(no_room("batches"))?;
    check_answers(&interface)?;
    let sizes = interface.sizes();
    if sizes.batch > MAX_SET_BYTES || sizes.answer > MAX_SET_BYTES {
        return refuse("batches", format!("a batch of {} bytes", sizes.batch));
    }
    Ok(interface)
}

fn check_subject(document: &Document) -> Result<(), InterfaceError> {
    let (subject, outputs) = (&document.subject, document.answers.outputs);
    for (field, count) in [
        ("answers.outputs", outputs),
        ("subject.input", subject.input.len()),
    ] {
        if !(1..=MAX_SET).contains(&count) {
            return refuse(field, format!("{count}, 1 to {MAX_SET} are possible"));
        }
    }
    let checked = subject.check(outputs);
    checked.or_else(|SubjectError { field, problem }| refuse(field, problem))
}

/// One range for each input.
fn ranges(document: &Document) -> Result<Vec<Range>, InterfaceError> {
    let input = document.subject.input;
    let given = &document.batches.ranges;
    let bad = |r: &Range| !(r.min.is_finite() && r.max.is_finite() && r.min <= r.max);
    if given.iter().any(bad) {
        return refuse("batches.ranges", "a range that is empty or not finite");
    }
    let area = match (given.len(), input) {
        (1, _) => input.len(),
        (n, _) if n == input.len() => 1,
        (n, Shape::Image(_)) if n == input.channels() => input.area(),
        (n, _) => return refuse("batches.ranges", format!("{n} ranges for an input of {input}")),
    };
    Ok(given
        .iter()
        .flat_map(|&range| std::iter::repeat_n(range, area))
        .collect())
}

fn check_numbers(document: &Document) -> Result<(), InterfaceError> {
    let answers = &document.answers;
    if answers.shift > MAX_SHIFT {
        return refuse("answers.shift", format!("{}, at most {MAX_SHIFT}", answers.shift));
    }
    if !ROUNDED_BITS.contains(&answers.rounded_bits) {
        return refuse(
            "answers.rounded_bits",
            format!("{}, 1 to 24 are possible", answers.rounded_bits),
        );
    }
    if answers.flooding_bits.is_some_and(|bits| bits > MAX_FLOODING) {
        return refuse("answers.flooding_bits", format!("more than {MAX_FLOODING}"));
    }
    if !(0.0..=64.0).contains(&answers.precision_bits) {
        return refuse("answers.precision_bits", "not between 0 and 64");
    }
    let positive = |x: f64| x.is_finite() && x > 0.0;
    if !(positive(answers.scale) && positive(answers.noise)) {
        return refuse("answers", "scale and noise must be positive and finite");
    }
    if !(answers.magnitude.is_finite() && answers.magnitude >= 0.0) {
        return refuse("answers.magnitude", "not a finite number from 0 on");
    }
    Ok(())
}

/// Answers fit the last modulus; they have at least the noise of a fresh zero, below which nothing is rounded.
fn check_answers(interface: &Interface) -> Result<(), InterfaceError> {
    let (answers, context) = (&interface.document.answers, &interface.context);
    let budget = Budget {
        scale: answers.scale,
        magnitude: answers.magnitude,
        noise: answers.noise,
    };
    let room = context.log2_q(0).map_err(no_room("batches.preset"))?;
    budget.check_fits(room).map_err(no_room("answers"))?;
    let ring = context.preset().spec().ring;
    let floor = NoiseModel::of_kind(ring, context.degree()).fresh_public();
    if answers.noise < floor {
        return refuse("answers.noise", "less than that of re-randomisation");
    }
    let finest = (answers.scale / floor).log2() - f64::from(answers.shift);
    let promised = (answers.scale / answers.noise).log2() - f64::from(answers.shift);
    let bits = f64::from(answers.rounded_bits);
    let fine = match answers.precision {
        Precision::Guaranteed => bits > promised + 1e-6,
        Precision::Expected => bits > finest + 1e-6,
    };
    if fine {
        return refuse(
            "answers.rounded_bits",
            "finer than the noise of an answer: its rounding would hide nothing",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Program, Querier};
    use galen_models::{Model, ModelFile, ModelSpec};
    use serde_json::{Value, json};

    fn document() -> Value {
        let spec: ModelSpec = toml::from_str(
            r#"
            input = [2, 1, 2]
            layers = ["flatten", { dense = { outputs = 3 } }, "square", { dense = { outputs = 3 } }]"#,
        )
        .unwrap();
        let mut file = ModelFile::from(Model::initial(spec, 1).unwrap());
        file.annotations.inputs = vec![Range::new(-1.0, 1.0), Range::new(0.0, 2.0)];
        file.annotations.classes = ["a", "b", "c"].map(str::to_owned).to_vec();
        file.annotations.title = "letters".into();
        let program = Program::compile_file(&file, 10).unwrap();
        let bytes = program.interface().to_bytes().unwrap();
        let read = Interface::from_bytes(&bytes).unwrap();
        assert_eq!(read, *program.interface());
        assert_eq!(read.to_bytes().unwrap(), bytes);
        assert_eq!(read.ranges(), program.ranges());
        assert_eq!(read.subject().model, file.model.digest());
        let (sizes, plan) = (read.sizes(), program.plan());
        assert_eq!(
            (sizes.batch, sizes.key, sizes.answer),
            (plan.batch_bytes, plan.serving_key_bytes, plan.answer_bytes)
        );
        assert!(
            read.largest_output() >= plan.logit_bound && read.largest_output() <= 1.13 * plan.logit_bound
        );
        // The same answers, by the interface alone.
        let querier = Querier::generate(&read).unwrap();
        let rows = [[0.5, -0.5, 1.0, 2.0], [0.0, 1.0, 0.0, 0.5]];
        let batch = querier.encrypt_batch(&rows).unwrap().to_bytes().unwrap();
        let key = querier.serving_key().unwrap().to_bytes().unwrap();
        let answer = program.answer(&key, &batch, &mut |_, _| {}).unwrap();
        let outputs = querier.outputs(&answer, 2).unwrap();
        let plain = file.model.forward(&rows).unwrap();
        for (found, expected) in outputs.iter().flatten().zip(plain.rows().flatten()) {
            assert!((found - expected).abs() < 2e-3);
        }
        serde_json::from_slice(&bytes).unwrap()
    }

    /// Whatever a coordinator may say that is not so, or that could cost more than a wrong answer.
    #[test]
    fn a_false_interface_is_refused() {
        let good = document();
        let cases: Vec<(&str, Value)> = vec![
            ("/batches/preset", json!("insecure_n1024_q50_2x40_p1x50")),
            ("/batches/preset", json!("n4096_q50_6x45_p2x50")),
            ("/batches/level", json!(99)),
            ("/batches/level", json!(-1)),
            ("/batches/scale", json!(1.0)),
            ("/batches/scale", json!(1e300)),
            ("/batches/scale", json!(-1e9)),
            ("/batches/scale", json!(2f64.powi(61))),
            ("/batches/ranges", json!([])),
            ("/batches/ranges", json!([{"min": 1.0, "max": 0.0}])),
            ("/batches/ranges", json!([{"min": 0.0, "max": 1e40}])),
            (
                "/batches/ranges",
                json!([{"min": 0.0, "max": 1.0}, {"min": 0.0, "max": 1.0}, {"min": 0.0, "max": 1.0}]),
            ),
            ("/subject/input", json!([1, 1, 1u64 << 40])),
            ("/subject/input", json!(0)),
            ("/subject/classes", json!(["a", "b"])),
            ("/subject/classes", json!(["a", "b", "c\nd"])),
            ("/subject/title", json!("x".repeat(1000))),
            ("/subject/standardisation", json!({"mean": [0.0], "std": [0.0]})),
            (
                "/subject/standardisation",
                json!({"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}),
            ),
            ("/answers/outputs", json!(0)),
            ("/answers/outputs", json!(1u64 << 40)),
            ("/answers/scale", json!(0.0)),
            ("/answers/scale", json!(1e30)),
            ("/answers/magnitude", json!(1e30)),
            ("/answers/noise", json!(1e-9)),
            ("/answers/noise", json!(0.0)),
            ("/answers/shift", json!(60)),
            ("/answers/rounded_bits", json!(0)),
            ("/answers/rounded_bits", json!(40)),
            ("/answers/rounded_bits", json!(24)),
            ("/answers/precision_bits", json!(1000.0)),
            ("/answers/flooding_bits", json!(31)),
            ("/galen_interface", json!(2)),
        ];
        for (place, value) in cases {
            let mut changed = good.clone();
            *changed.pointer_mut(place).unwrap() = value.clone();
            let bytes = serde_json::to_vec(&changed).unwrap();
            let read = Interface::from_bytes(&bytes);
            assert!(read.is_err(), "{place} = {value} was taken");
        }
        let mut more = good.clone();
        more["batches"]["weights"] = json!([1.0]);
        assert!(Interface::from_bytes(&serde_json::to_vec(&more).unwrap()).is_err());
        let bytes = serde_json::to_vec(&good).unwrap();
        for end in 0..bytes.len() {
            assert!(Interface::from_bytes(&bytes[..end]).is_err());
        }
        assert_eq!(
            Interface::from_bytes(&vec![b' '; MAX_INTERFACE_BYTES + 1]),
            Err(InterfaceError::TooLong(MAX_INTERFACE_BYTES + 1))
        );
    }

    /// By expectation, too, outputs are not rounded more finely than the noise that every answer has.
    #[test]
    fn rounding_always_hides_noise() {
        let mut false_one = document();
        false_one["answers"]["precision"] = json!("expected");
        false_one["answers"]["rounded_bits"] = json!(24);
        false_one["answers"]["scale"] = json!(2f64.powi(30));
        false_one["answers"]["magnitude"] = json!(1.0);
        let read = Interface::from_bytes(&serde_json::to_vec(&false_one).unwrap());
        assert!(
            matches!(
                &read,
                Err(InterfaceError::Entry {
                    field: "answers.rounded_bits",
                    ..
                })
            ),
            "{read:?}"
        );
    }
}
