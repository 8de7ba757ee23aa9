//! The hospital's patients: read once, checked against the study's schema, split. They never leave this process.

use crate::error::PartyError;
use galen_core::PartyId;
use galen_core::study::Study;
use galen_training::{DataError, DataProblem, Divided, Records, Table};
use std::path::Path;

/// Patients to learn from and patients to evaluate on.
pub struct Patients {
    /// To learn from.
    pub train: Records,
    /// Held out.
    pub held_out: Records,
    /// For each held-out patient, its number in the data, from 1; of a folder in the order of the sorted paths.
    pub held_out_numbers: Vec<usize>,
}

impl std::fmt::Debug for Patients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Patients(..)")
    }
}

impl From<Divided> for Patients {
    fn from(divided: Divided) -> Self {
        Self {
            train: divided.train,
            held_out: divided.held_out,
            held_out_numbers: divided.held_out_indices.iter().map(|index| index + 1).collect(),
        }
    }
}

impl Patients {
    /// Reads the table or the images and splits them as the study says.
    pub fn load(path: &Path, study: &Study, party: &PartyId) -> Result<Self, PartyError> {
        Ok(Divided::load(path, study, party)?.into())
    }

    /// Splits a table as the study says.
    pub fn split(table: &Table, study: &Study, party: &PartyId) -> Self {
        Divided::of_table(table.clone(), study, party).into()
    }

    /// Number of patients of class 0 and of class 1.
    pub fn classes(&self) -> [usize; 2] {
        let [train, held_out] = [self.train.classes(), self.held_out.classes()];
        [train[0] + held_out[0], train[1] + held_out[1]]
    }
}

/// An error in the table, without the cell's value: what is said here may end up in a log or a status file.
pub fn discreet(error: &DataError) -> String {
    let problem = match &error.problem {
        DataProblem::NotANumber { missing, .. } => {
            format!("the cell is not a number (missing values are written {missing})")
        }
        DataProblem::OutOfRange { min, max, .. } => format!("the number is outside {min} to {max}"),
        DataProblem::NotACategory { values, .. } => format!("the number is not one of {values:?}"),
        DataProblem::NotAClass {
            negative, positive, ..
        } => {
            format!("the number is not a class: class 0 is {negative:?}, class 1 is {positive:?}")
        }
        other => other.to_string(),
    };
    match &error.column {
        Some(column) => format!("{}:{}: column \"{column}\": {problem}", error.file, error.line),
        None => format!("{}:{}: {problem}", error.file, error.line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use galen_training::{Values, load_csv};

    #[test]
    fn errors_name_file_line_and_column_but_no_value() {
        let study = testing::study();
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a.csv");
        let cases = [
            ("age,sex,sick\n50,1,0\n987654,1,0\n", ":3: ", "age", "987654"),
            ("age,sex,sick\n50,1,0\n51,Schmidt,0\n", ":3: ", "sex", "Schmidt"),
            ("age,sex,sick\n50,7777,0\n", ":2: ", "sex", "7777"),
            ("age,sex,sick\n50,1,4242\n", ":2: ", "sick", "4242"),
            ("age,sick\n50,1\n", ":1: ", "sex", "50"),
            ("", ":1: ", "age", "none"),
        ];
        for (text, line, column, value) in cases {
            std::fs::write(&path, text).unwrap();
            let error = Patients::load(&path, &study, &testing::name("a")).unwrap_err();
            let said = error.to_string();
            let (file, column) = (path.display().to_string() + line, format!("column \"{column}\""));
            assert!(said.contains(&file) && said.contains(&column), "{said}");
            assert!(!said.contains(value), "{said}");
            assert_eq!(
                (error.code().as_str(), error.exit()),
                ("P201", crate::error::Exit::Data)
            );
        }
    }

    #[test]
    fn held_out_patients_keep_their_numbers() {
        let study = testing::study();
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a.csv");
        testing::write_table(&path, 40, 1);
        let patients = Patients::load(&path, &study, &testing::name("a")).unwrap();
        let all = load_csv(&path, &study.data).unwrap();
        assert_eq!(patients.held_out.len(), patients.held_out_numbers.len());
        assert!(!patients.held_out.is_empty() && !patients.train.is_empty());
        let Values::Table(held_out) = &patients.held_out.values else {
            panic!("a table becomes rows")
        };
        for (cells, number) in held_out.iter().zip(&patients.held_out_numbers) {
            assert_eq!(cells, &all.features[number - 1]);
        }
        assert!(!format!("{patients:?}").chars().any(|c| c.is_ascii_digit()));
    }

    #[test]
    fn images_that_do_not_fit_the_study_are_errors_that_show_no_value() {
        let mut study = testing::images();
        let temp = tempfile::tempdir().unwrap();
        let path = testing::write_images(temp.path(), 12, 0);
        let mut said = |change: fn(&mut Study)| {
            change(&mut study);
            let error = Patients::load(&path, &study, &testing::name("a")).unwrap_err();
            assert_eq!(error.exit(), crate::error::Exit::Data);
            (error.code(), error.to_string())
        };
        let (code, text) = said(|study| study.data.range = Some([0.0, 0.5]));
        assert!(
            text.contains("sample 1, channel \"0\", row 1, column 2: the value is outside 0 to 0.5"),
            "{text}"
        );
        assert_eq!(code, "P206");
        let (code, text) = said(|study| study.data.max_rows = 11);
        assert!(
            text.ends_with("more than 11 samples, which is the study's data.max_rows"),
            "{text}"
        );
        assert_eq!(code, "P206");
        let (code, text) = said(|study| {
            study.data.max_rows = 12;
            study.data.samples.as_mut().unwrap().input = galen_models::Shape::Image([1, 4, 5]);
        });
        assert!(text.contains("scans-images-idx3-ubyte"), "{text}");
        assert_eq!(code, "P203");
    }
}
