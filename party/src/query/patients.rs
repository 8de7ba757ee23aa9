//! Patients to be evaluated by the study's own model: the hospital's held-out ones, those of a CSV file in which the class may be left
//! out, or images without classes.

use crate::data::Patients;
use crate::error::PartyError;
use galen_core::PartyId;
use galen_core::study::{ColumnKind, DataSchema, Study};
use galen_data::{Format, Limits, load_inputs};
use galen_training::{Records, read_csv};
use std::path::{Path, PathBuf};

/// Where patients come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A CSV file with the study's columns.
    Csv(PathBuf),
    /// Images as the study describes them.
    Images {
        /// A file, or a folder.
        data: PathBuf,
        /// How they are stored, if the name does not tell.
        stored_as: Option<Format>,
    },
    /// The held-out part of the hospital's data.
    HeldOut {
        /// The data.
        data: PathBuf,
    },
}

/// Patients with their numbers in the data.
pub struct Cohort {
    /// What is known of them. The labels mean nothing unless `labelled`.
    pub records: Records,
    /// Their numbers in the data, from 1.
    pub numbers: Vec<usize>,
    /// What tells images apart: the patients that the data name, or paths in a folder, or numbers. `None` for a table.
    pub names: Option<Vec<String>>,
    /// Whether the labels are the patients' true classes.
    pub labelled: bool,
}

impl std::fmt::Debug for Cohort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cohort(..)")
    }
}

/// Reads patients.
pub fn load(source: &Source, study: &Study, party: &PartyId) -> Result<Cohort, PartyError> {
    match source {
        Source::HeldOut { data } => {
            let patients = Patients::load(data, study, party)?;
            Ok(Cohort {
                names: names(data, &patients.held_out_numbers, study)?,
                records: patients.held_out,
                numbers: patients.held_out_numbers,
                labelled: true,
            })
        }
        Source::Csv(path) if study.data.samples.is_none() => {
            let bytes = std::fs::read(path).map_err(PartyError::file(path))?;
            let table = read_csv(
                with_class(&bytes, &study.data).as_slice(),
                &path.display().to_string(),
                &study.data,
            )?;
            Ok(Cohort {
                numbers: (1..=table.len()).collect(),
                names: None,
                records: table.into(),
                labelled: false,
            })
        }
        Source::Csv(_) => Err(PartyError::Mismatched(
            "--csv takes rows of a table, but this study is on images: give a file or folder of them with --data".into(),
        )),
        Source::Images { data, stored_as } => {
            let Some(samples) = &study.data.samples else {
                return Err(PartyError::Mismatched(
                    "--data without a MODEL takes images, but this study is on tables: give a CSV file with its columns with --csv".into(),
                ));
            };
            let (records, names) = Records::of_inputs(data, *stored_as, samples, &study.data)?;
            Ok(Cohort {
                numbers: (1..=records.len()).collect(),
                names: Some(names),
                records,
                labelled: false,
            })
        }
    }
}

/// Names of the images with these numbers; `None` for a table.
fn names(data: &Path, numbers: &[usize], study: &Study) -> Result<Option<Vec<String>>, PartyError> {
    let Some(samples) = &study.data.samples else {
        return Ok(None);
    };
    let inputs = load_inputs(data, None, samples, &Limits::default())?;
    let name = |number: &usize| inputs.names().get(number.saturating_sub(1)).cloned();
    Ok(numbers.iter().map(name).collect())
}

/// Puts a class into every line of a table that lacks it, so that the reader of complete tables can read it. Lines stay where they
/// are, for its messages. Bytes that are not CSV are left to that reader.
fn with_class(bytes: &[u8], schema: &DataSchema) -> Vec<u8> {
    rewritten(bytes, schema).unwrap_or_else(|| bytes.to_vec())
}

fn rewritten(bytes: &[u8], schema: &DataSchema) -> Option<Vec<u8>> {
    let target = schema
        .column
        .iter()
        .position(|column| column.kind == ColumnKind::Target)?;
    let class = schema.target.negative.first()?.to_string();
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(bytes);
    let mut records = reader.records();
    let mut lines = Lines::default();
    // Where the class stands, or is to be put in.
    let mut place = target;
    let mut present = None;
    if schema.header {
        let header = records.next()?.ok()?;
        let name = &schema.column.get(target)?.name;
        let found = header.iter().position(|cell| cell == name);
        place = found.unwrap_or(header.len());
        present = Some(found.is_some());
        lines.write(&header, &put(&header, place, found.is_some(), name))?;
    }
    for record in records {
        let record = record.ok()?;
        let has = present.unwrap_or(record.len() >= schema.column.len());
        lines.write(&record, &put(&record, place, has, &class))?;
    }
    lines.put_last(0);
    Some(lines.out)
}

/// CSV lines under construction. The reader skips blank lines and counts them to the record that follows; they are put back
/// before it, so that its messages name the lines of the file.
#[derive(Default)]
struct Lines {
    out: Vec<u8>,
    /// The last record, with the line at which the reader says that it begins.
    last: Option<(u64, Vec<u8>)>,
}

impl Lines {
    fn write(&mut self, record: &csv::StringRecord, cells: &[&str]) -> Option<()> {
        let line = record.position().map_or(0, csv::Position::line);
        self.put_last(line);
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(cells).ok()?;
        self.last = Some((line, writer.into_inner().ok()?));
        Some(())
    }

    /// Appends the last record, which ends before line `next`.
    fn put_last(&mut self, next: u64) {
        let Some((line, text)) = self.last.take() else {
            return;
        };
        let lines = text.iter().filter(|byte| **byte == b'\n').count() as u64;
        let blank = next.saturating_sub(line).saturating_sub(lines);
        self.out.extend((0..blank).map(|_| b'\n'));
        self.out.extend(text);
    }
}

/// The cells of a line with `text` as the cell at `place`: in its stead if there is one, else put in.
fn put<'a>(record: &'a csv::StringRecord, place: usize, replace: bool, text: &'a str) -> Vec<&'a str> {
    let mut cells: Vec<&str> = record.iter().collect();
    match cells.get_mut(place) {
        Some(cell) if replace => *cell = text,
        // A line that is too short to have a class stays so, and is refused by the reader.
        None if replace => {}
        _ => cells.insert(place.min(cells.len()), text),
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use galen_training::Values;

    fn csv(text: &str) -> Result<Cohort, PartyError> {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("new.csv");
        std::fs::write(&path, text).unwrap();
        load(&Source::Csv(path), &testing::study(), &testing::name("a"))
    }

    #[test]
    fn the_class_may_be_there_missing_or_left_out() {
        let expected = vec![vec![Some(50.0), Some(1.0)], vec![None, Some(0.0)]];
        for text in [
            "age,sex\n50,1\n?,0\n",
            "age,sex,sick\n50,1,1\n?,0,?\n",
            "sick,sex,age\n,1,50\n,0,?\n",
            "sex,age\n1,50\n0,?\n",
        ] {
            let cohort = csv(text).unwrap();
            assert_eq!(cohort.records.values, Values::Table(expected.clone()), "{text}");
            assert_eq!(cohort.names, None);
            assert_eq!(cohort.numbers, [1, 2]);
            assert!(!cohort.labelled);
        }
    }

    #[test]
    fn errors_name_the_line_of_the_file() {
        for (text, place) in [
            ("age,sex\n50,1\n51,x\n", "new.csv:3: column \"sex\""),
            ("age,sex\n\n\n50,1\n51,x\n", "new.csv:5: column \"sex\""),
            ("age\n50\n", "new.csv:1: column \"sex\""),
            ("age,sex\n50\n", "new.csv:2: column"),
            ("", "new.csv:1: column \"age\""),
        ] {
            let said = csv(text).unwrap_err().to_string();
            assert!(said.contains(place), "{said}");
        }
    }

    #[test]
    fn images_need_no_classes_and_are_numbered() {
        let (study, temp) = (testing::images(), tempfile::tempdir().unwrap());
        let data = testing::write_images(temp.path(), 12, 0);
        let labels = temp.path().join("scans-labels-idx1-ubyte");
        let held_out = load(
            &Source::HeldOut { data: data.clone() },
            &study,
            &testing::name("a"),
        )
        .unwrap();
        assert!(held_out.labelled && held_out.records.len() == 4);
        let names: Vec<String> = held_out.numbers.iter().map(usize::to_string).collect();
        assert_eq!(held_out.names, Some(names));
        std::fs::remove_file(labels).unwrap();
        let stored_as = None;
        let source = Source::Images { data, stored_as };
        let all = load(&source, &study, &testing::name("a")).unwrap();
        assert!(!all.labelled && all.records.len() == 12);
        let indices: Vec<usize> = held_out.numbers.iter().map(|number| number - 1).collect();
        assert_eq!(all.records.select(&indices).values, held_out.records.values);
    }

    #[test]
    fn tables_and_images_are_not_taken_for_each_other() {
        let csv = Source::Csv("new.csv".into());
        let images = Source::Images {
            data: "new.npz".into(),
            stored_as: None,
        };
        for (source, study, instead) in [
            (csv, testing::images(), "with --data"),
            (images, testing::study(), "with --csv"),
        ] {
            let error = load(&source, &study, &testing::name("a")).unwrap_err();
            assert!(error.to_string().contains(instead), "{error}");
            assert_eq!(
                (error.code().as_str(), error.exit()),
                ("P207", crate::error::Exit::Data)
            );
        }
    }
}
