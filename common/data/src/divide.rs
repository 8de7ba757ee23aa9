//! Writing a table out in parts: simulated hospitals as files.

use crate::error::{DatasetError, Problem};
use crate::limits::Limits;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A part that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The part's name.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
}

/// The part's name as a file name: what is neither a letter, a digit, `-` nor `_` becomes `-`.
fn file_name(name: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || c == '_' { c } else { '-' };
    let name: String = name.chars().map(plain).collect();
    if name.is_empty() { "-".into() } else { name }
}

/// Writes the rows of a CSV file with a header line (`.csv`, `.csv.gz`) out as one CSV file for each part, in the folder `out`, which is made.
/// Cells are as they were, columns that no schema reads included. `parts` are names and rows, counted from 0 without the header.
///
/// Nothing is overwritten: all files are made before the first is filled, and those made are removed if one cannot be.
///
/// # Errors
/// If the file is no CSV file, a row is missing, two parts would have one file, or a file exists or cannot be written.
pub fn write_parts(
    path: &Path,
    parts: &[(String, Vec<usize>)],
    out: &Path,
    limits: &Limits,
) -> Result<Vec<Written>, DatasetError> {
    let bytes = limits.read(path)?;
    let unreadable = |_: csv::Error| {
        let problem = Problem::Format {
            format: "CSV",
            reason: "it cannot be read".into(),
        };
        DatasetError::file(path, problem)
    };
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(bytes.as_slice());
    let mut records = Vec::new();
    for record in reader.byte_records() {
        records.push(record.map_err(unreadable)?);
    }
    let (header, rows) = records
        .split_first()
        .ok_or_else(|| DatasetError::file(path, Problem::Empty))?;
    let mut texts = Vec::new();
    for (_, indices) in parts {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_byte_record(header).map_err(unreadable)?;
        for &index in indices {
            let row = rows.get(index).ok_or_else(|| {
                let problem = Problem::Size {
                    what: "rows",
                    expected: format!("more than {index}"),
                    found: rows.len().to_string(),
                };
                DatasetError::file(path, problem)
            })?;
            writer.write_byte_record(row).map_err(unreadable)?;
        }
        let text = writer.into_inner();
        texts.push(text.map_err(|error| unwritable(path, error.into_error()))?);
    }
    fs::create_dir_all(out).map_err(|error| unwritable(out, error))?;
    let mut made: Vec<(Written, File)> = Vec::new();
    let result = make(parts, out, &mut made).and_then(|()| {
        for ((written, file), text) in made.iter_mut().zip(&texts) {
            let filled = file.write_all(text).and_then(|()| file.sync_all());
            filled.map_err(|error| unwritable(&written.file, error))?;
        }
        Ok(())
    });
    if let Err(error) = result {
        for (written, _) in &made {
            // What cannot be removed stays; the first error is the one to tell.
            let _ = fs::remove_file(&written.file);
        }
        return Err(error);
    }
    Ok(made.into_iter().map(|(written, _)| written).collect())
}

fn unwritable(file: &Path, error: io::Error) -> DatasetError {
    DatasetError::file(file, Problem::Write(error))
}

fn make(
    parts: &[(String, Vec<usize>)],
    out: &Path,
    made: &mut Vec<(Written, File)>,
) -> Result<(), DatasetError> {
    for (name, _) in parts {
        let file = out.join(file_name(name)).with_extension("csv");
        let handle = File::create_new(&file).map_err(|error| {
            let error = match error.kind() {
                io::ErrorKind::AlreadyExists => io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "exists already and is not overwritten; name another folder",
                ),
                _ => error,
            };
            unwritable(&file, error)
        })?;
        let name = name.clone();
        made.push((Written { name, file }, handle));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(list: &[(&str, &[usize])]) -> Vec<(String, Vec<usize>)> {
        list.iter()
            .map(|(name, rows)| ((*name).to_owned(), rows.to_vec()))
            .collect()
    }

    #[test]
    fn rows_go_where_they_belong_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let table = dir.path().join("all.csv");
        fs::write(&table, "age,note,sick\n1,\"a, b\",0\n\n2,,1\n3, c ,1\n").unwrap();
        let out = dir.path().join("sites");
        let limits = Limits::default();
        let division = parts(&[("St. Mary's", &[0, 2]), ("north", &[1])]);
        let written = write_parts(&table, &division, &out, &limits).unwrap();
        assert_eq!(written[0].file, out.join("St--Mary-s.csv"));
        assert_eq!(
            fs::read_to_string(&written[0].file).unwrap(),
            "age,note,sick\n1,\"a, b\",0\n3, c ,1\n"
        );
        assert_eq!(
            fs::read_to_string(&written[1].file).unwrap(),
            "age,note,sick\n2,,1\n"
        );
        // Nothing is overwritten, and what was made for the same attempt goes away again.
        let other = parts(&[("new", &[0]), ("north", &[1])]);
        let error = write_parts(&table, &other, &out, &limits)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("north.csv") && error.contains("not overwritten"),
            "{error}"
        );
        assert!(!out.join("new.csv").exists());
        assert_eq!(
            fs::read_to_string(out.join("north.csv")).unwrap(),
            "age,note,sick\n2,,1\n"
        );
    }

    #[test]
    fn rows_that_are_not_there_and_names_that_meet_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let table = dir.path().join("all.csv");
        fs::write(&table, "age\n1\n").unwrap();
        let out = dir.path().join("sites");
        let limits = Limits::default();
        let error = write_parts(&table, &parts(&[("a", &[1])]), &out, &limits).unwrap_err();
        assert!(error.to_string().contains("rows"), "{error}");
        assert!(write_parts(&table, &parts(&[("a b", &[0]), ("a-b", &[0])]), &out, &limits).is_err());
        assert!(!out.join("a-b.csv").exists());
        fs::write(&table, "").unwrap();
        assert!(write_parts(&table, &parts(&[("a", &[])]), &out, &limits).is_err());
    }
}
