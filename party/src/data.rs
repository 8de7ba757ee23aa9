//! The hospital's patients: read once, checked against the study's schema, split. They never leave this process.

use crate::error::PartyError;
use galen_core::PartyId;
use galen_core::study::Study;
use galen_training::{DataError, DataProblem, Table, load_csv, split};
use std::path::Path;

/// Patients to learn from and patients to evaluate on.
pub struct Patients {
    /// To learn from.
    pub train: Table,
    /// Held out.
    pub held_out: Table,
    /// For each held-out patient, its number in the file, from 1.
    pub held_out_numbers: Vec<usize>,
}

impl std::fmt::Debug for Patients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Patients(..)")
    }
}

impl Patients {
    /// Reads the table and splits it as the study says.
    pub fn load(path: &Path, study: &Study, party: &PartyId) -> Result<Self, PartyError> {
        Ok(Self::split(&load_csv(path, &study.data)?, study, party))
    }

    /// Splits a table as the study says.
    pub fn split(table: &Table, study: &Study, party: &PartyId) -> Self {
        // Which patients are held out depends on the classes only, so numbers can stand in for the patients.
        let numbers = Table {
            features: (1..=table.len())
                .map(|number| vec![Some(number as f64)])
                .collect(),
            labels: table.labels.clone(),
        };
        let numbers = split(&numbers, study.data.held_out, study.seed, party).held_out;
        let numbers = numbers
            .features
            .iter()
            .map(|cells| cells[0].unwrap_or_default() as usize)
            .collect();
        let parts = split(table, study.data.held_out, study.seed, party);
        Self {
            train: parts.train,
            held_out: parts.held_out,
            held_out_numbers: numbers,
        }
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
        for (cells, number) in patients.held_out.features.iter().zip(&patients.held_out_numbers) {
            assert_eq!(cells, &all.features[number - 1]);
        }
        assert!(!format!("{patients:?}").chars().any(|c| c.is_ascii_digit()));
    }
}
