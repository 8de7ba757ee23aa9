//! IDX files: big-endian arrays with a header of their dimensions, as MNIST is distributed.

use crate::error::{DatasetError, Place, Problem};
use crate::labels::Labels;
use crate::limits::Limits;
use crate::{Dataset, Inputs, Targets};
use galen_core::samples::{Schema, Target};
use galen_models::Shape;
use std::path::{Path, PathBuf};

/// An array of an IDX file.
struct Array {
    dimensions: Vec<usize>,
    values: Values,
}

enum Values {
    Bytes(Vec<u8>),
    Numbers(Vec<f64>),
}

impl Values {
    fn number(&self, index: usize) -> f64 {
        match self {
            Self::Bytes(bytes) => f64::from(bytes[index]),
            Self::Numbers(numbers) => numbers[index],
        }
    }
}

/// Reads images and labels. The labels file is the schema's `source.labels`, or the one whose name has `labels-idx1` where that of the
/// images has `images-idx3`. Unsigned bytes of images become 0 to 1; other numbers stay as they are.
pub(crate) fn load(path: &Path, schema: &Schema, limits: &Limits) -> Result<Dataset, DatasetError> {
    let beside = labels_file(path, schema)?;
    let inputs = read(path, limits)?;
    let labels = read(&beside, limits)?;
    let Some((&count, shape)) = inputs.dimensions.split_first() else {
        return Err(not_idx(path, "it has no dimension"));
    };
    check_shape(path, shape, schema)?;
    if labels.dimensions != [count] {
        return Err(DatasetError::file(
            &beside,
            Problem::Size {
                what: "labels",
                expected: count.to_string(),
                found: format!("{:?}", labels.dimensions),
            },
        ));
    }
    let values = numbers_of(inputs.values, schema);
    let targets = match schema.target {
        Target::Regression { .. } => Targets::Numbers((0..count).map(|i| labels.values.number(i)).collect()),
        _ => {
            let known = Labels::new(&schema.target);
            let mut classes = Vec::with_capacity(count);
            for index in 0..count {
                let label = labels.values.number(index).to_string();
                classes.push(known.class(&label).ok_or_else(|| {
                    let problem = Problem::NotAClass { labels: known.list() };
                    DatasetError::at(&beside, Place::Sample(index), problem)
                })?);
            }
            Targets::Classes(classes)
        }
    };
    Dataset::new(schema.clone(), values, targets, None, None)
        .map_err(|problem| DatasetError::file(path, problem))
}

/// The inputs alone, numbered from 1.
pub(crate) fn inputs(path: &Path, schema: &Schema, limits: &Limits) -> Result<Inputs, DatasetError> {
    let inputs = read(path, limits)?;
    let Some((&count, shape)) = inputs.dimensions.split_first() else {
        return Err(not_idx(path, "it has no dimension"));
    };
    check_shape(path, shape, schema)?;
    let names = (1..=count).map(|number| number.to_string()).collect();
    Inputs::new(path, schema, numbers_of(inputs.values, schema), names)
}

fn numbers_of(values: Values, schema: &Schema) -> Vec<f32> {
    let image = matches!(schema.input, Shape::Image(_));
    match values {
        Values::Bytes(bytes) if image => bytes.iter().map(|&b| f32::from(b) / 255.0).collect(),
        Values::Bytes(bytes) => bytes.iter().map(|&b| f32::from(b)).collect(),
        Values::Numbers(numbers) => numbers.iter().map(|&v| v as f32).collect(),
    }
}

fn labels_file(path: &Path, schema: &Schema) -> Result<PathBuf, DatasetError> {
    if let Some(labels) = &schema.source.labels {
        return Ok(path.parent().unwrap_or(Path::new("")).join(labels));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if !name.contains("images-idx3") {
        let what =
            "the labels file (source.labels of the schema, since the name has no \"images-idx3\")".into();
        return Err(DatasetError::file(path, Problem::Missing { what }));
    }
    let beside = path.with_file_name(name.replace("images-idx3", "labels-idx1"));
    if beside.exists() {
        return Ok(beside);
    }
    // One of the two may be compressed.
    let other = match beside.extension() {
        Some(gz) if gz.eq_ignore_ascii_case("gz") => beside.with_extension(""),
        _ => PathBuf::from(format!("{}.gz", beside.display())),
    };
    Ok(if other.exists() { other } else { beside })
}

/// A black and white image may be stored without its one channel.
fn check_shape(path: &Path, found: &[usize], schema: &Schema) -> Result<(), DatasetError> {
    let fits = match schema.input {
        Shape::Features(n) => found == [n],
        Shape::Image([c, h, w]) => found == [c, h, w] || (c == 1 && found == [h, w]),
    };
    if fits {
        return Ok(());
    }
    let problem = Problem::Size {
        what: "shape of a sample",
        expected: schema.input.to_string(),
        found: found.iter().map(usize::to_string).collect::<Vec<_>>().join("x"),
    };
    Err(DatasetError::file(path, problem))
}

fn not_idx(path: &Path, reason: &str) -> DatasetError {
    let reason = reason.to_owned();
    DatasetError::file(
        path,
        Problem::Format {
            format: "IDX",
            reason,
        },
    )
}

/// Reads a file, whose numbers are made only if there are not too many: each takes up to eight times its bytes.
fn read(path: &Path, limits: &Limits) -> Result<Array, DatasetError> {
    let bytes = limits.read(path)?;
    let header = header(&bytes).map_err(|reason| not_idx(path, reason))?;
    let (samples, rest) = header.dimensions.split_first().unwrap_or((&0, &[]));
    let each = rest.iter().fold(1usize, |n, &d| n.saturating_mul(d));
    limits.check(path, *samples, each)?;
    Ok(header.array())
}

/// What a file says of its numbers, and their bytes.
struct Header<'a> {
    kind: u8,
    dimensions: Vec<usize>,
    bytes: &'a [u8],
}

fn header(bytes: &[u8]) -> Result<Header<'_>, &'static str> {
    let ([0, 0, kind, rank], mut rest) = bytes
        .split_first_chunk::<4>()
        .ok_or("it is shorter than a header")?
    else {
        return Err("the first two bytes are not zero");
    };
    if *rank == 0 || *rank > 4 {
        return Err("the number of dimensions is not 1 to 4");
    }
    let mut dimensions = Vec::new();
    let mut count = 1usize;
    for _ in 0..*rank {
        let (size, tail) = rest.split_first_chunk::<4>().ok_or("it ends within the header")?;
        let size = u32::from_be_bytes(*size) as usize;
        count = count.checked_mul(size).ok_or("its dimensions overflow")?;
        dimensions.push(size);
        rest = tail;
    }
    let width = match kind {
        0x08 | 0x09 => 1,
        0x0B => 2,
        0x0C | 0x0D => 4,
        0x0E => 8,
        _ => return Err("the type of its numbers is unknown"),
    };
    if count.checked_mul(width) != Some(rest.len()) {
        return Err("its length does not follow from its header");
    }
    Ok(Header {
        kind: *kind,
        dimensions,
        bytes: rest,
    })
}

impl Header<'_> {
    fn array(self) -> Array {
        let bytes = self.bytes;
        let values = match self.kind {
            0x08 => Values::Bytes(bytes.to_vec()),
            0x09 => Values::Numbers(bytes.iter().map(|&b| f64::from(b.cast_signed())).collect()),
            0x0B => numbers(bytes, |b| f64::from(i16::from_be_bytes(b))),
            0x0C => numbers(bytes, |b| f64::from(i32::from_be_bytes(b))),
            0x0D => numbers(bytes, |b| f64::from(f32::from_be_bytes(b))),
            _ => numbers(bytes, f64::from_be_bytes),
        };
        Array {
            dimensions: self.dimensions,
            values,
        }
    }
}

fn numbers<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f64) -> Values {
    Values::Numbers(bytes.as_chunks::<N>().0.iter().map(|&b| number(b)).collect())
}
