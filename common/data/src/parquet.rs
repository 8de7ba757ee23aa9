//! Parquet files: flat columns of numbers, texts and booleans.

use crate::error::{DatasetError, Place, Problem};
use crate::limits::Limits;
use crate::rows::{Cell, Rows};
use crate::{Dataset, Inputs};
use galen_core::samples::Schema;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;
use std::collections::HashMap;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Reads the columns that the schema names, as of a CSV file with the same header. Nulls and NaN are missing values, booleans are 0 and 1.
pub(crate) fn load(path: &Path, schema: &Schema, limits: &Limits) -> Result<Dataset, DatasetError> {
    read_safely(path, (schema, true), limits)?.finish()
}

/// The same of rows that need no target.
pub(crate) fn inputs(path: &Path, schema: &Schema, limits: &Limits) -> Result<Inputs, DatasetError> {
    read_safely(path, (schema, false), limits)?.inputs()
}

/// A library that reads a format as rich as this one may stumble over what it does not expect.
fn read_safely<'a>(
    path: &'a Path,
    schema: (&'a Schema, bool),
    limits: &'a Limits,
) -> Result<Rows<'a>, DatasetError> {
    catch_unwind(AssertUnwindSafe(|| read(path, schema, limits)))
        .unwrap_or_else(|_| Err(not_parquet(path, "it is damaged")))
}

fn read<'a>(
    path: &'a Path,
    schema: (&'a Schema, bool),
    limits: &'a Limits,
) -> Result<Rows<'a>, DatasetError> {
    let file = File::open(path).map_err(|error| DatasetError::file(path, Problem::Read(error)))?;
    let wrong = |error: ParquetError| not_parquet(path, reason(&error));
    let reader = SerializedFileReader::new(file).map_err(wrong)?;
    let metadata = reader.metadata();
    check_size(path, &reader, limits)?;
    let fields = metadata.file_metadata().schema().get_fields();
    let names: Vec<String> = fields.iter().map(|field| field.name().to_owned()).collect();
    let mut rows = Rows::new(path, &Place::File, &names, schema, limits)?;
    // Only the columns that are read are unpacked.
    let wanted = rows.columns();
    let mut projected = Vec::new();
    for &column in &wanted {
        let Some(field) = fields.get(column) else { continue };
        if !field.is_primitive() {
            let place = Place::Row(0, Some(field.name().to_owned()));
            return Err(DatasetError::at(path, place, not_flat("it is nested")));
        }
        projected.push(field.clone());
    }
    let projection = Type::group_type_builder(metadata.file_metadata().schema().name())
        .with_fields(projected)
        .build()
        .map_err(wrong)?;
    let places: HashMap<usize, usize> = wanted
        .iter()
        .enumerate()
        .map(|(at, &column)| (column, at))
        .collect();
    let records = RowIter::from_file(Some(projection), &reader).map_err(wrong)?;
    for (number, record) in (1u64..).zip(records) {
        let record = record.map_err(wrong)?;
        let mut cells = Vec::with_capacity(wanted.len());
        for (name, field) in record.get_column_iter() {
            let place = || Place::Row(number, Some(name.clone()));
            cells.push(text(field).map_err(|problem| DatasetError::at(path, place(), problem))?);
        }
        let place = |column| Place::Row(number, column);
        rows.push(place, |column| {
            let cell = places.get(&column).and_then(|&at| cells.get(at));
            match cell {
                Some(Some(text)) => Cell::Text(text),
                _ => Cell::Missing,
            }
        })?;
    }
    Ok(rows)
}

/// Refuses a file that says that it holds too much, before any of it is unpacked.
fn check_size(path: &Path, reader: &SerializedFileReader<File>, limits: &Limits) -> Result<(), DatasetError> {
    let metadata = reader.metadata();
    let groups = metadata.row_groups();
    let rows: i64 = groups.iter().map(|group| group.num_rows().max(0)).sum();
    limits.check(path, usize::try_from(rows).unwrap_or(usize::MAX), 1)?;
    let bytes: i64 = groups.iter().map(|group| group.total_byte_size().max(0)).sum();
    if bytes.unsigned_abs() > limits.file_bytes {
        let (what, limit) = ("bytes", limits.file_bytes);
        return Err(DatasetError::file(path, Problem::Limit { what, limit }));
    }
    Ok(())
}

/// A cell as a text that reads as the same number; `None` for a missing one.
fn text(field: &Field) -> Result<Option<String>, Problem> {
    let text = match field {
        Field::Null => return Ok(None),
        Field::Bool(value) => u8::from(*value).to_string(),
        Field::Byte(v) => v.to_string(),
        Field::Short(v) => v.to_string(),
        Field::Int(v) => v.to_string(),
        Field::Long(v) => v.to_string(),
        Field::UByte(v) => v.to_string(),
        Field::UShort(v) => v.to_string(),
        Field::UInt(v) => v.to_string(),
        Field::ULong(v) => v.to_string(),
        Field::Float16(v) if v.is_nan() => return Ok(None),
        Field::Float16(v) => v.to_string(),
        Field::Float(v) if v.is_nan() => return Ok(None),
        Field::Float(v) => v.to_string(),
        Field::Double(v) if v.is_nan() => return Ok(None),
        Field::Double(v) => v.to_string(),
        Field::Str(text) => text.clone(),
        _ => return Err(not_flat("it holds bytes, dates, decimals or nested values")),
    };
    Ok(Some(text))
}

fn not_flat(reason: &str) -> Problem {
    Problem::Format {
        format: "a column of numbers, texts or booleans",
        reason: reason.to_owned(),
    }
}

fn not_parquet(path: &Path, reason: &str) -> DatasetError {
    DatasetError::file(
        path,
        Problem::Format {
            format: "Parquet",
            reason: reason.to_owned(),
        },
    )
}

/// What is wrong, without the content.
fn reason(error: &ParquetError) -> &'static str {
    match error {
        ParquetError::NYI(_) => "it uses something that is not read here, such as a codec",
        ParquetError::EOF(_) => "it ends too early",
        _ => "it cannot be read",
    }
}
