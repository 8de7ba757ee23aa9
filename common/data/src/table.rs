//! CSV files with a header line.

use crate::error::{DatasetError, Place, Problem};
use crate::limits::Limits;
use crate::rows::{Cell, Rows};
use crate::{Dataset, Inputs};
use galen_core::samples::Schema;
use std::path::Path;

/// Reads a CSV file (comma-separated, UTF-8, quotes as in RFC 4180; `.csv.gz` is decompressed). Spaces around cells do not count.
pub(crate) fn load(path: &Path, schema: &Schema, limits: &Limits) -> Result<Dataset, DatasetError> {
    rows(path, (schema, true), limits)?.finish()
}

/// The same of rows that need no target.
pub(crate) fn inputs(path: &Path, schema: &Schema, limits: &Limits) -> Result<Inputs, DatasetError> {
    rows(path, (schema, false), limits)?.inputs()
}

fn rows<'a>(
    path: &'a Path,
    schema: (&'a Schema, bool),
    limits: &'a Limits,
) -> Result<Rows<'a>, DatasetError> {
    let bytes = limits.read(path)?;
    let unreadable = |line: u64, error: csv::Error| {
        let problem = Problem::Format {
            format: "CSV",
            reason: reason(&error),
        };
        DatasetError::at(path, Place::Line(line, None), problem)
    };
    // Wrong field counts are found here, where the line of the record is known exactly.
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(bytes.as_slice());
    let mut record = csv::StringRecord::new();
    let mut next = |record: &mut csv::StringRecord| {
        let line = line_at(&bytes, reader.position());
        let more = reader
            .read_record(record)
            .map_err(|error| unreadable(line, error))?;
        Ok::<_, DatasetError>((more, line))
    };
    let (more, header) = next(&mut record)?;
    if !more {
        return Err(DatasetError::file(path, Problem::Empty));
    }
    // Spreadsheets put a byte order mark before the first name.
    let name = |text: &str| text.trim_start_matches('\u{feff}').to_owned();
    let names: Vec<String> = record.iter().map(name).collect();
    let mut rows = Rows::new(path, &Place::Line(header, None), &names, schema, limits)?;
    loop {
        let (more, line) = next(&mut record)?;
        if !more {
            return Ok(rows);
        }
        if record.len() != names.len() {
            let problem = Problem::Size {
                what: "fields on the line",
                expected: names.len().to_string(),
                found: record.len().to_string(),
            };
            return Err(DatasetError::at(path, Place::Line(line, None), problem));
        }
        let place = |column| Place::Line(line, column);
        rows.push(place, |column| {
            record.get(column).map_or(Cell::Missing, Cell::Text)
        })?;
    }
}

/// The line on which the next record starts: the reader stands at the end of the one before, and skips empty lines.
fn line_at(bytes: &[u8], position: &csv::Position) -> u64 {
    let rest = bytes.get(position.byte() as usize..).unwrap_or(&[]);
    let skipped = rest.iter().take_while(|b| matches!(b, b'\r' | b'\n'));
    position.line() + skipped.filter(|&&b| b == b'\n').count() as u64
}

/// What is wrong, without the content.
fn reason(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Utf8 { err, .. } => format!("field {} is not UTF-8", err.field() + 1),
        _ => "it cannot be read".to_owned(),
    }
}
