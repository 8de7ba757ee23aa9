//! A hospital's CSV file, checked against the study's schema.

use galen_core::study::{Column, ColumnKind, DataSchema};
use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::path::Path;

/// Patients of one hospital.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Per patient, one entry per feature column of the schema (numeric and categorical, in the schema's order); `None` where
    /// missing.
    pub features: Vec<Vec<Option<f64>>>,
    /// Per patient, whether the class is 1.
    pub labels: Vec<bool>,
}

impl Table {
    /// Number of patients.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no patients.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// What is wrong with a file, and where.
#[derive(Debug)]
pub struct DataError {
    /// The file.
    pub file: String,
    /// Line, from 1.
    pub line: u64,
    /// Name of the column in the schema (or in the file, if the schema does not have it); `None` if the trouble is with the
    /// file or the line as a whole.
    pub column: Option<String>,
    /// What is wrong.
    pub problem: DataProblem,
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        if let Some(column) = &self.column {
            write!(f, "column \"{column}\": ")?;
        }
        write!(f, "{}", self.problem)
    }
}

impl std::error::Error for DataError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.problem.source()
    }
}

/// What can be wrong with a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataProblem {
    /// The file cannot be opened.
    #[error("cannot be opened: {0}")]
    Open(#[source] std::io::Error),
    /// The bytes are not CSV in UTF-8, or cannot be read.
    #[error("is not readable as CSV: {0}")]
    Csv(#[source] csv::Error),
    /// There is nothing in the file.
    #[error("the file is empty, this column was expected first")]
    Empty,
    /// There is a header line and nothing else.
    #[error("no patients follow the header line")]
    NoPatients,
    /// The header line does not name a column of the schema.
    #[error("missing from the header line")]
    ColumnMissing,
    /// The header line names a column twice.
    #[error("stands twice in the header line")]
    ColumnRepeated,
    /// The header line names a column that the schema does not have.
    #[error("is not in the study's schema (a column to skip needs kind = \"ignored\" there)")]
    ColumnUnknown,
    /// The line ends before this column.
    #[error("the line has {found} fields, {expected} are needed; it ends before this column")]
    TooFewFields {
        /// Fields on the line.
        found: usize,
        /// Fields needed.
        expected: usize,
    },
    /// The line goes on after this column, the last one.
    #[error("the line has {found} fields, {expected} are needed; it goes on after this column, the last one")]
    TooManyFields {
        /// Fields on the line.
        found: usize,
        /// Fields needed.
        expected: usize,
    },
    /// A cell that is neither a number nor a sign for "missing".
    #[error("\"{text}\" is not a number (missing values are written {missing})")]
    NotANumber {
        /// The cell.
        text: String,
        /// The study's signs for "missing".
        missing: String,
    },
    /// A number outside the column's range.
    #[error("{value} is outside {min} to {max}")]
    OutOfRange {
        /// The number.
        value: f64,
        /// Smallest allowed.
        min: f64,
        /// Largest allowed.
        max: f64,
    },
    /// A number that is not among the column's values.
    #[error("{value} is not one of {values:?}")]
    NotACategory {
        /// The number.
        value: f64,
        /// The column's values.
        values: Vec<f64>,
    },
    /// A class that the study does not know.
    #[error("{value} is not a class: class 0 is {negative:?}, class 1 is {positive:?}")]
    NotAClass {
        /// The number.
        value: f64,
        /// Values of class 0.
        negative: Vec<f64>,
        /// Values of class 1.
        positive: Vec<f64>,
    },
    /// A patient without a class.
    #[error("the class is missing")]
    ClassMissing,
    /// More patients than the study allows.
    #[error("more than {max_rows} patients, which is the study's data.max_rows")]
    TooManyRows {
        /// The study's limit.
        max_rows: u32,
    },
    /// The schema itself cannot be used.
    #[error("the study's schema has no target column")]
    NoTarget,
}

/// Reads a hospital's CSV file. The first thing wrong with it is an error; nothing is skipped or repaired.
pub fn load_csv(path: &Path, schema: &DataSchema) -> Result<Table, DataError> {
    let name = path.display().to_string();
    match std::fs::File::open(path) {
        Ok(file) => read_csv(file, &name, schema),
        Err(error) => Err(DataError {
            file: name,
            line: 1,
            column: None,
            problem: DataProblem::Open(error),
        }),
    }
}

/// Reads CSV from anywhere; `file` is its name in errors.
pub fn read_csv(mut source: impl Read, file: &str, schema: &DataSchema) -> Result<Table, DataError> {
    let fail = |line: u64, column: Option<&str>, problem| DataError {
        file: file.to_owned(),
        line,
        column: column.map(str::to_owned),
        problem,
    };
    let columns = &schema.column;
    if columns.iter().all(|c| c.kind != ColumnKind::Target) {
        return Err(fail(1, None, DataProblem::NoTarget));
    }
    let mut bytes = Vec::new();
    if let Err(error) = source.read_to_end(&mut bytes) {
        return Err(fail(1, None, DataProblem::Csv(error.into())));
    }
    // Wrong field counts are found here rather than by the CSV reader, which could not name the column.
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(bytes.as_slice());
    let mut records = reader.records();
    let mut order: Vec<usize> = (0..columns.len()).collect();
    if schema.header {
        let header = match records.next() {
            Some(Ok(header)) => header,
            Some(Err(error)) => return Err(unreadable(file, &bytes, error)),
            None => return Err(fail(1, first_name(columns), DataProblem::Empty)),
        };
        let line = line_of(&bytes, header.position());
        order =
            header_order(&header, columns).map_err(|(column, problem)| fail(line, Some(&column), problem))?;
    }
    let mut table = Table::default();
    for record in records {
        let record = record.map_err(|error| unreadable(file, &bytes, error))?;
        let line = line_of(&bytes, record.position());
        if table.len() >= schema.max_rows as usize {
            let max_rows = schema.max_rows;
            return Err(fail(line, None, DataProblem::TooManyRows { max_rows }));
        }
        let (found, expected) = (record.len(), columns.len());
        if found != expected {
            let at = if found < expected { found } else { expected - 1 };
            let column = order
                .iter()
                .position(|&place| place == at)
                .map(|c| columns[c].name.as_str());
            let problem = if found < expected {
                DataProblem::TooFewFields { found, expected }
            } else {
                DataProblem::TooManyFields { found, expected }
            };
            return Err(fail(line, column, problem));
        }
        let mut features = Vec::with_capacity(columns.len());
        let mut label = false;
        for (column, &place) in columns.iter().zip(&order) {
            let text = record.get(place).unwrap_or("");
            let cell =
                read_cell(text, column, schema).map_err(|problem| fail(line, Some(&column.name), problem))?;
            match cell {
                Cell::Feature(value) => features.push(value),
                Cell::Class(value) => label = value,
                Cell::Ignored => {}
            }
        }
        table.features.push(features);
        table.labels.push(label);
    }
    if table.is_empty() {
        let (line, problem) = if schema.header {
            (2, DataProblem::NoPatients)
        } else {
            (1, DataProblem::Empty)
        };
        return Err(fail(line, first_name(columns), problem));
    }
    Ok(table)
}

fn first_name(columns: &[Column]) -> Option<&str> {
    columns.first().map(|c| c.name.as_str())
}

/// The line on which a record starts. The reader gives the end of the record before, so that empty lines in between, which it
/// skips, are still to be counted.
fn line_of(bytes: &[u8], position: Option<&csv::Position>) -> u64 {
    let Some(position) = position else { return 1 };
    let rest = bytes.get(position.byte() as usize..).unwrap_or(&[]);
    let skipped = rest.iter().take_while(|b| matches!(b, b'\r' | b'\n'));
    position.line() + skipped.filter(|&&b| b == b'\n').count() as u64
}

fn unreadable(file: &str, bytes: &[u8], error: csv::Error) -> DataError {
    DataError {
        file: file.to_owned(),
        line: line_of(bytes, error.position()),
        column: None,
        problem: DataProblem::Csv(error),
    }
}

/// Per column of the schema, its place in the file.
fn header_order(header: &csv::StringRecord, columns: &[Column]) -> Result<Vec<usize>, (String, DataProblem)> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (place, name) in header.iter().enumerate() {
        // Spreadsheets put a byte order mark before the first name.
        let name = name.trim_start_matches('\u{feff}');
        if columns.iter().all(|c| c.name != name) {
            return Err((name.to_owned(), DataProblem::ColumnUnknown));
        }
        if places.insert(name, place).is_some() {
            return Err((name.to_owned(), DataProblem::ColumnRepeated));
        }
    }
    let place = |column: &Column| {
        let found = places.get(column.name.as_str()).copied();
        found.ok_or_else(|| (column.name.clone(), DataProblem::ColumnMissing))
    };
    columns.iter().map(place).collect()
}

enum Cell {
    Feature(Option<f64>),
    Class(bool),
    Ignored,
}

fn read_cell(text: &str, column: &Column, schema: &DataSchema) -> Result<Cell, DataProblem> {
    if column.kind == ColumnKind::Ignored {
        return Ok(Cell::Ignored);
    }
    let class = column.kind == ColumnKind::Target;
    if schema.missing.iter().any(|m| m == text) {
        return if class {
            Err(DataProblem::ClassMissing)
        } else {
            Ok(Cell::Feature(None))
        };
    }
    let number = text.parse::<f64>().ok().filter(|v| v.is_finite());
    let value = number.ok_or_else(|| DataProblem::NotANumber {
        text: text.to_owned(),
        missing: format!("{:?}", schema.missing),
    })?;
    if class {
        return if schema.target.positive.contains(&value) {
            Ok(Cell::Class(true))
        } else if schema.target.negative.contains(&value) {
            Ok(Cell::Class(false))
        } else {
            Err(DataProblem::NotAClass {
                value,
                negative: schema.target.negative.clone(),
                positive: schema.target.positive.clone(),
            })
        };
    }
    if column.missing_values.contains(&value) {
        return Ok(Cell::Feature(None));
    }
    match column.kind {
        ColumnKind::Categorical if !column.values.contains(&value) => Err(DataProblem::NotACategory {
            value,
            values: column.values.clone(),
        }),
        ColumnKind::Numeric => {
            let min = column.min.unwrap_or(f64::NEG_INFINITY);
            let max = column.max.unwrap_or(f64::INFINITY);
            if (min..=max).contains(&value) {
                Ok(Cell::Feature(Some(value)))
            } else {
                Err(DataProblem::OutOfRange { value, min, max })
            }
        }
        _ => Ok(Cell::Feature(Some(value))),
    }
}
