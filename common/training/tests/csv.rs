//! What is wrong with a hospital's file is said with file, line and column.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use galen_core::study::{Column, ColumnKind, DataSchema, Target};
use galen_training::{DataProblem, load_csv, read_csv};

fn schema(header: bool) -> DataSchema {
    let column = |name: &str, kind| Column {
        name: name.into(),
        kind,
        min: None,
        max: None,
        values: vec![],
        missing_values: vec![],
    };
    DataSchema {
        header,
        missing: vec!["?".into(), String::new()],
        max_rows: 4,
        held_out: 0.3,
        column: vec![
            column("id", ColumnKind::Ignored),
            Column {
                min: Some(0.0),
                max: Some(120.0),
                missing_values: vec![0.0],
                ..column("age", ColumnKind::Numeric)
            },
            Column {
                values: vec![0.0, 1.0],
                ..column("sex", ColumnKind::Categorical)
            },
            column("class", ColumnKind::Target),
        ],
        target: Target {
            negative: vec![0.0],
            positive: vec![1.0, 2.0],
        },
        samples: None,
        range: None,
    }
}

fn error(header: bool, text: &[u8]) -> galen_training::DataError {
    read_csv(text, "ward.csv", &schema(header)).unwrap_err()
}

#[test]
fn cells_become_features_and_labels() {
    let text = b"a7, 50.5 ,1,2\r\n,0,?,0\r\n\r\n\"x,y\",,0.0,1.0\r\n";
    let table = read_csv(&text[..], "ward.csv", &schema(false)).unwrap();
    assert_eq!(
        table.features,
        [
            vec![Some(50.5), Some(1.0)],
            vec![None, None],
            vec![None, Some(0.0)]
        ]
    );
    assert_eq!(table.labels, [true, false, true]);
}

#[test]
fn a_header_line_may_order_columns_as_it_likes() {
    let text = "\u{feff}class,age,id,sex\n1,30,x,0\n";
    let table = read_csv(text.as_bytes(), "ward.csv", &schema(true)).unwrap();
    assert_eq!(table.features, [[Some(30.0), Some(0.0)]]);
    assert_eq!(table.labels, [true]);
}

#[test]
fn every_error_names_file_line_and_column() {
    // Header line or not, text, line, column, and what the message must say.
    let cases: &[(bool, &str, u64, &str, &str)] = &[
        (false, "", 1, "id", "empty"),
        (false, "\n\n", 1, "id", "empty"),
        (true, "", 1, "id", "empty"),
        (true, "id,age,sex,class\n", 2, "id", "no patients"),
        (
            true,
            "id,age,class\n1,50,1\n",
            1,
            "sex",
            "missing from the header",
        ),
        (true, "id,age,sex,class,age\n", 1, "age", "twice"),
        (
            true,
            "id,age,sex,class,bmi\n",
            1,
            "bmi",
            "not in the study's schema",
        ),
        (
            true,
            "id,age,sex,class\n1,old,1,1\n",
            2,
            "age",
            "\"old\" is not a number",
        ),
        (
            true,
            "class,sex,age,id\n1,1,old,1\n",
            2,
            "age",
            "\"old\" is not a number",
        ),
        (
            false,
            "1,50,1,1\n2,fifty,1,0\n",
            2,
            "age",
            "\"fifty\" is not a number",
        ),
        (
            false,
            "1,50,1,1\n\n\n2,5O,1,0\n",
            4,
            "age",
            "\"5O\" is not a number",
        ),
        (
            false,
            "\r\n1,50,1,1\r\n\r\n2,5O,1,0\r\n",
            4,
            "age",
            "\"5O\" is not a number",
        ),
        (
            true,
            "\r\nid,age,sex,class\r\n2,5O,1,0\r\n",
            3,
            "age",
            "\"5O\" is not a number",
        ),
        (
            false,
            "\"1\n1\",50,1,1\n2,5O,1,0",
            3,
            "age",
            "\"5O\" is not a number",
        ),
        (false, "1,inf,1,1\n", 1, "age", "not a number"),
        (false, "1,NaN,1,1\n", 1, "age", "not a number"),
        (false, "1,50,m,1\n", 1, "sex", "\"m\" is not a number"),
        (false, "1,50,1,sick\n", 1, "class", "\"sick\" is not a number"),
        (
            false,
            "1,50,1,1\n2,121,1,1\n",
            2,
            "age",
            "121 is outside 0 to 120",
        ),
        (false, "1,-1,1,1\n", 1, "age", "-1 is outside 0 to 120"),
        (false, "1,50,2,1\n", 1, "sex", "2 is not one of [0.0, 1.0]"),
        (false, "1,50,1,3\n", 1, "class", "3 is not a class"),
        (false, "1,50,1,?\n", 1, "class", "class is missing"),
        (false, "1,50,1,\n", 1, "class", "class is missing"),
        (false, "1,50,1,1\n2,50\n", 2, "sex", "2 fields, 4 are needed"),
        (
            true,
            "class,sex,age,id\n1,1,50\n",
            2,
            "id",
            "3 fields, 4 are needed",
        ),
        (
            false,
            "1,50,1,1\n2,50,1,1,9\n",
            2,
            "class",
            "5 fields, 4 are needed",
        ),
    ];
    for &(header, text, line, column, says) in cases {
        let error = error(header, text.as_bytes());
        let message = error.to_string();
        assert_eq!(error.line, line, "{text:?}: {message}");
        assert_eq!(error.column.as_deref(), Some(column), "{text:?}: {message}");
        let start = format!("ward.csv:{line}: column \"{column}\": ");
        assert!(message.starts_with(&start), "{text:?}: {message}");
        assert!(message.contains(says), "{text:?}: {message}");
    }
}

#[test]
fn errors_of_whole_lines_and_files_name_what_there_is() {
    let many = error(false, b"1,50,1,1\n".repeat(5).as_slice());
    assert!(matches!(many.problem, DataProblem::TooManyRows { max_rows: 4 }));
    assert!(many.to_string().starts_with("ward.csv:5: "), "{many}");
    let binary = error(false, b"1,50,1,1\n2,\xff,1,1\n");
    assert!(matches!(binary.problem, DataProblem::Csv(_)));
    assert!(binary.to_string().starts_with("ward.csv:2: "), "{binary}");
    let absent = load_csv(std::path::Path::new("/nonexistent/ward.csv"), &schema(false)).unwrap_err();
    assert!(matches!(absent.problem, DataProblem::Open(_)));
    assert!(
        absent.to_string().starts_with("/nonexistent/ward.csv:1: "),
        "{absent}"
    );
}

#[test]
fn exactly_as_many_rows_as_allowed() {
    let table = read_csv(&b"1,50,1,1\n".repeat(4)[..], "ward.csv", &schema(false)).unwrap();
    assert_eq!(table.len(), 4);
}

#[test]
fn a_file_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ward.csv");
    std::fs::write(&path, "1,50,1,1\n2,x,1,1\n").unwrap();
    let message = load_csv(&path, &schema(false)).unwrap_err().to_string();
    let start = format!("{}:2: column \"age\": ", path.display());
    assert!(message.starts_with(&start), "{message}");
}
