//! NPZ archives of NumPy: named arrays whose first dimension counts the samples.

use crate::error::{DatasetError, Place, Problem};
use crate::labels::Labels;
use crate::limits::Limits;
use crate::npy::{self, Array};
use crate::{Dataset, Groups, Inputs, Targets};
use galen_core::samples::{Schema, Target};
use galen_models::Shape;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use zip::ZipArchive;

/// Bytes that hold the header of any array that is read here.
const HEADER: u64 = 1 << 16;

/// An array with its name.
struct Named {
    name: String,
    array: Array,
}

/// Reads the arrays that `source.inputs`, `source.target`, `source.patient` and `source.site` name. Inputs of images may have their
/// channels last, and no channel dimension if there is one channel; a target may have a second dimension of 1. Unsigned bytes of
/// images become 0 to 1; other numbers stay as they are.
pub(crate) fn load(path: &Path, schema: &Schema, limits: &Limits) -> Result<Dataset, DatasetError> {
    let file = File::open(path).map_err(|error| DatasetError::file(path, Problem::Read(error)))?;
    let mut archive =
        ZipArchive::new(BufReader::new(file)).map_err(|error| not_npz(path, &error.to_string()))?;
    let source = &schema.source;
    let name = |entry: &Option<String>, what: &str| {
        let what = format!("source.{what} of the schema, the name of an array,");
        entry
            .clone()
            .ok_or_else(|| DatasetError::file(path, Problem::Missing { what }))
    };
    let (inputs, target) = (name(&source.inputs, "inputs")?, name(&source.target, "target")?);
    let mut read = |name: &str, each: usize| read(path, &mut archive, name, each, limits);
    let inputs = read(&inputs, schema.input.len())?;
    let count = inputs.array.dimensions.first().copied().unwrap_or(0);
    let values = arrange(path, schema.input, &inputs)?;
    let target = column(path, count, read(&target, 1)?)?;
    let targets = match schema.target {
        Target::Regression { .. } => Targets::Numbers(target.array.values),
        _ => {
            let known = Labels::new(&schema.target);
            let class = |(index, label): (usize, &f64)| {
                known.class(&label.to_string()).ok_or_else(|| {
                    let labels = known.list();
                    let place = Place::Array(target.name.clone(), Some(index));
                    DatasetError::at(path, place, Problem::NotAClass { labels })
                })
            };
            let classes = target.array.values.iter().enumerate().map(class);
            Targets::Classes(classes.collect::<Result<_, _>>()?)
        }
    };
    let mut groups = |entry: &Option<String>| -> Result<Option<Groups>, DatasetError> {
        let Some(name) = entry else { return Ok(None) };
        let found = column(path, count, read(name, 1)?)?;
        Ok(Some(Groups::new(found.array.values.iter().map(f64::to_string))))
    };
    let (patients, sites) = (groups(&source.patient)?, groups(&source.site)?);
    Dataset::new(schema.clone(), values, targets, patients, sites)
        .map_err(|problem| DatasetError::at(path, Place::Array(inputs.name, None), problem))
}

/// The inputs alone: the array that `source.inputs` names, or the only array; `source.patient` names the patients' array.
pub(crate) fn inputs(path: &Path, schema: &Schema, limits: &Limits) -> Result<Inputs, DatasetError> {
    let file = File::open(path).map_err(|error| DatasetError::file(path, Problem::Read(error)))?;
    let mut archive =
        ZipArchive::new(BufReader::new(file)).map_err(|error| not_npz(path, &error.to_string()))?;
    let name = match &schema.source.inputs {
        Some(name) => name.clone(),
        None => {
            let names: Vec<String> = archive
                .file_names()
                .filter_map(Result::ok)
                .map(|n| n.trim_end_matches(".npy").to_owned())
                .collect();
            let [only] = names.as_slice() else {
                let what = "source.inputs of the schema, the name of one of several arrays,".into();
                return Err(DatasetError::file(path, Problem::Missing { what }));
            };
            only.clone()
        }
    };
    let inputs = read(path, &mut archive, &name, schema.input.len(), limits)?;
    let count = inputs.array.dimensions.first().copied().unwrap_or(0);
    let values = arrange(path, schema.input, &inputs)?;
    let names = match &schema.source.patient {
        Some(name) => {
            let found = column(path, count, read(path, &mut archive, name, 1, limits)?)?;
            found.array.values.iter().map(f64::to_string).collect()
        }
        None => (1..=count).map(|number| number.to_string()).collect(),
    };
    Inputs::new(path, schema, values, names)
}

fn not_npz(path: &Path, reason: &str) -> DatasetError {
    let reason = reason.to_owned();
    DatasetError::file(
        path,
        Problem::Format {
            format: "NPZ",
            reason,
        },
    )
}

/// Reads an array of numbers with at most so many values per sample.
fn read(
    path: &Path,
    archive: &mut ZipArchive<BufReader<File>>,
    name: &str,
    each: usize,
    limits: &Limits,
) -> Result<Named, DatasetError> {
    let fail = |problem| DatasetError::at(path, Place::Array(name.to_owned(), None), problem);
    let format = |reason: &str| {
        fail(Problem::Format {
            format: "an array of numbers",
            reason: reason.to_owned(),
        })
    };
    let Some(index) = archive.index_for_name(&format!("{name}.npy")) else {
        let names = archive.file_names().filter_map(Result::ok);
        let mut known: Vec<String> = names.map(|n| n.trim_end_matches(".npy").to_owned()).collect();
        known.sort_unstable();
        let what = format!("the array (there are {})", known.join(", "));
        return Err(fail(Problem::Missing { what }));
    };
    let entry = archive
        .by_index(index)
        .map_err(|error| not_npz(path, &error.to_string()))?;
    // What is unpacked is counted, since the size in the archive's directory can be anything.
    let mut entry = entry.take(limits.file_bytes.saturating_add(1));
    let mut bytes = Vec::new();
    let unpack = |error: std::io::Error| format(&error.to_string());
    // The header alone decides whether the rest is wanted.
    entry
        .by_ref()
        .take(HEADER)
        .read_to_end(&mut bytes)
        .map_err(unpack)?;
    let header = npy::header(&bytes).map_err(format)?;
    let Some((&count, rest)) = header.dimensions.split_first() else {
        return Err(format("it is a single number"));
    };
    let found = rest.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let found = found.ok_or_else(|| format("its shape overflows"))?;
    if found > each {
        return Err(fail(Problem::Size {
            what: "values per sample",
            expected: each.to_string(),
            found: found.to_string(),
        }));
    }
    limits.check(path, count, found)?;
    entry.read_to_end(&mut bytes).map_err(unpack)?;
    if bytes.len() as u64 > limits.file_bytes {
        let (what, limit) = ("bytes", limits.file_bytes);
        return Err(fail(Problem::Limit { what, limit }));
    }
    Ok(Named {
        name: name.to_owned(),
        array: npy::array(&bytes, header).map_err(format)?,
    })
}

/// An array of one number per sample.
fn column(path: &Path, count: usize, named: Named) -> Result<Named, DatasetError> {
    let dimensions = &named.array.dimensions;
    if *dimensions == [count] || *dimensions == [count, 1] {
        return Ok(named);
    }
    let problem = Problem::Size {
        what: "shape",
        expected: format!("[{count}]"),
        found: format!("{dimensions:?}"),
    };
    Err(DatasetError::at(path, Place::Array(named.name, None), problem))
}

/// Brings inputs into the order of the shape.
fn arrange(path: &Path, shape: Shape, named: &Named) -> Result<Vec<f32>, DatasetError> {
    let array = &named.array;
    let rest = array.dimensions.get(1..).unwrap_or(&[]);
    let scale = if array.bytes && matches!(shape, Shape::Image(_)) {
        255.0
    } else {
        1.0
    };
    let number = |&value: &f64| (value / scale) as f32;
    match shape {
        Shape::Features(n) if rest == [n] => {}
        Shape::Image([c, h, w]) if rest == [c, h, w] || (c == 1 && rest == [h, w]) => {}
        // A signal in time may be a row of numbers.
        Shape::Image([1, 1, w]) if rest == [w] => {}
        Shape::Image([c, h, w]) if rest == [h, w, c] => {
            let mut values = Vec::with_capacity(array.values.len());
            for sample in array.values.chunks_exact(c * h * w) {
                for channel in 0..c {
                    values.extend(sample.iter().skip(channel).step_by(c).map(number));
                }
            }
            return Ok(values);
        }
        _ => {
            let problem = Problem::Size {
                what: "shape of a sample",
                expected: shape.to_string(),
                found: rest.iter().map(usize::to_string).collect::<Vec<_>>().join("x"),
            };
            return Err(DatasetError::at(
                path,
                Place::Array(named.name.clone(), None),
                problem,
            ));
        }
    }
    Ok(array.values.iter().map(number).collect())
}
