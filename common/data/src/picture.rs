//! From files of one image each (PNG, JPEG, DICOM) to values of a shape.

use crate::dicom;
use crate::error::{DatasetError, Problem};
use crate::limits::Limits;
use galen_core::samples::{Fit, Schema};
use galen_models::Shape;
use image::imageops::{self, FilterType};
use image::{DynamicImage, ImageReader};
use rayon::prelude::*;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Largest size of one decoded image, in bytes. A file can say any size.
pub(crate) const MAX_DECODED: u64 = 1 << 29;
/// Images that are decoded before their values are put together: bounds what is held of them.
const BATCH: usize = 256;

/// Images as values of the schema's shape, and what their files tell beside.
#[derive(Default)]
pub(crate) struct Pictures {
    /// One image after the other.
    pub(crate) values: Vec<f32>,
    /// Per image and attribute asked for: its text, if the file has it.
    pub(crate) attributes: Vec<Vec<Option<String>>>,
}

struct Picture {
    values: Vec<f32>,
    attributes: Vec<Option<String>>,
}

/// Reads files on all threads. The images come in the order of the files; the first file that cannot be read, in that order, is the
/// error.
pub(crate) fn read_all(
    files: &[PathBuf],
    attributes: &[&str],
    schema: &Schema,
    limits: &Limits,
) -> Result<Pictures, DatasetError> {
    let Some(first) = files.first() else {
        return Ok(Pictures::default());
    };
    limits.check(first, files.len(), schema.input.len())?;
    let mut pictures = Pictures::default();
    for batch in files.chunks(BATCH) {
        let read: Vec<Result<Picture, DatasetError>> = batch
            .par_iter()
            .map(|file| read(file, attributes, schema, limits))
            .collect();
        for picture in read {
            let picture = picture?;
            pictures.values.extend_from_slice(&picture.values);
            pictures.attributes.push(picture.attributes);
        }
    }
    Ok(pictures)
}

fn read(file: &Path, attributes: &[&str], schema: &Schema, limits: &Limits) -> Result<Picture, DatasetError> {
    let fail = |problem| DatasetError::file(file, problem);
    let bytes = limits.read(file)?;
    let (image, attributes) = if dicom::is(&bytes) {
        // A library that reads a format as rich as this one may stumble over what it does not expect.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            dicom::open(&bytes, attributes, schema.source.window)
        }));
        opened
            .unwrap_or_else(|_| Err(dicom::not_readable("it is damaged")))
            .map_err(fail)?
    } else {
        (decode(&bytes).map_err(fail)?, vec![None; attributes.len()])
    };
    let values = values(image, schema.input, schema.source.fit).map_err(fail)?;
    Ok(Picture { values, attributes })
}

fn decode(bytes: &[u8]) -> Result<DynamicImage, Problem> {
    let not = |reason: String| Problem::Format {
        format: "an image in PNG, JPEG or DICOM",
        reason,
    };
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(Problem::Read)?;
    if reader.format().is_none() {
        return Err(not("its first bytes are of no such format".into()));
    }
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(MAX_DECODED);
    reader.limits(limits);
    reader.decode().map_err(|error| not(error.to_string()))
}

/// Values from 0 to 1 in the order of the shape: channel by channel, line by line.
fn values(image: DynamicImage, shape: Shape, fit: Fit) -> Result<Vec<f32>, Problem> {
    let Shape::Image([channels, height, width]) = shape else {
        return Err(Problem::Size {
            what: "shape of a sample",
            expected: shape.to_string(),
            found: "an image".into(),
        });
    };
    let size = |v: usize| u32::try_from(v).unwrap_or(u32::MAX);
    let image = fitted(image, size(height), size(width), fit)?;
    match channels {
        // Sixteen bits hold whatever these formats have of gray.
        1 => {
            let gray = image.into_luma16().into_raw();
            Ok(gray.into_iter().map(|v| f32::from(v) / 65535.0).collect())
        }
        3 => {
            let pixels = image.into_rgb16().into_raw();
            let plane = |channel| {
                pixels
                    .iter()
                    .skip(channel)
                    .step_by(3)
                    .map(|&v| f32::from(v) / 65535.0)
            };
            Ok((0..3).flat_map(plane).collect())
        }
        _ => Err(Problem::Size {
            what: "channels (an image has 1 or 3)",
            expected: channels.to_string(),
            found: "1 or 3".into(),
        }),
    }
}

/// The image at this size.
fn fitted(image: DynamicImage, height: u32, width: u32, fit: Fit) -> Result<DynamicImage, Problem> {
    if (image.height(), image.width()) == (height, width) {
        return Ok(image);
    }
    match fit {
        Fit::Exact => Err(Problem::Size {
            what: "height and width (source.fit of the schema says how others are brought to it)",
            expected: format!("{height}x{width}"),
            found: format!("{}x{}", image.height(), image.width()),
        }),
        Fit::Stretch => Ok(image.resize_exact(width, height, FilterType::Triangle)),
        Fit::Crop => Ok(image.resize_to_fill(width, height, FilterType::Triangle)),
        Fit::Pad => {
            let inner = image.resize(width, height, FilterType::Triangle);
            let mut outer = DynamicImage::new(width, height, inner.color());
            let (left, top) = (
                width.saturating_sub(inner.width()) / 2,
                height.saturating_sub(inner.height()) / 2,
            );
            imageops::overlay(&mut outer, &inner, i64::from(left), i64::from(top));
            Ok(outer)
        }
    }
}
