//! CSV files: what is read, and what is said of wrong ones.

// Helpers outside of test functions may fail the test too.
#![allow(clippy::unwrap_used)]

use galen_data::{Limits, Schema, load};

fn schema() -> Schema {
    toml::from_str(
        r#"
        input = 2
        elements = ["age", "chol"]
        target = { binary = { negative = { name = "healthy", labels = ["0"] }, positive = { name = "ill", labels = ["1", "2"] } } }
        source = { target = "num", site = "site", patient = "id", missing = ["?"] }
        "#,
    )
    .unwrap()
}

fn read(text: &str, schema: &Schema) -> Result<galen_data::Dataset, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    std::fs::write(&path, text).unwrap();
    load(&path, None, schema, &Limits::default())
        .map_err(|e| e.to_string().replace(&path.display().to_string(), "a.csv"))
}

#[test]
fn named_columns_are_read_in_any_order_and_others_are_not() {
    let text =
        "\u{feff}id,num,extra,chol,site,age\r\n\r\n7,0,x,?,A,40\r\n8,2.0,y,210.5,B, 50 \r\n7,1,,200,A,41\r\n";
    let data = read(text, &schema()).unwrap();
    assert_eq!(data.classes(), Some(&[0, 1, 1][..]));
    assert_eq!(data.sample(1), [50.0, 210.5]);
    assert!(data.sample(0)[0] == 40.0 && data.sample(0)[1].is_nan());
    assert_eq!(
        (data.sites().unwrap().names(), data.sites().unwrap().of()),
        (&["A".into(), "B".into()][..], &[0, 1, 0][..])
    );
    assert_eq!(data.patients().unwrap().of(), [0, 1, 0]);
}

#[test]
fn without_names_all_other_columns_are_inputs() {
    let schema: Schema = toml::from_str(
        r#"
        input = [1, 1, 3]
        target = { regression = { name = "score", unit = "points" } }
        source = { target = "y" }
        "#,
    )
    .unwrap();
    let data = read("X1,X2,y,X3\n1,2,0.5,3\n", &schema).unwrap();
    assert_eq!(
        (data.sample(0), data.numbers()),
        (&[1.0, 2.0, 3.0][..], Some(&[0.5][..]))
    );
    // A gap in a signal is no missing feature.
    let said = read("X1,X2,y,X3\n1,,0.5,3\n", &schema).unwrap_err();
    assert!(
        said.starts_with("a.csv:2: column \"X2\": is not a finite number"),
        "{said}"
    );
    let said = read("X1,X2,y\n1,2,0.5\n", &schema).unwrap_err();
    assert_eq!(said, "a.csv:1: columns of inputs: 2 found, 3 expected");
}

#[test]
fn errors_name_line_and_column_and_no_value() {
    let cases = [
        ("", "a.csv: there is no sample"),
        ("id,num,chol,site,age\n", "a.csv: there is no sample"),
        ("id,num,chol,site\n", "a.csv:1: the column \"age\" is missing"),
        (
            "id,id,num,chol,site,age\n",
            "a.csv:1: the column \"id\" stands twice",
        ),
        (
            "id,num,chol,site,age\n1,0,1,A,1\n\n2,0,987x,A,1\n",
            "a.csv:4: column \"chol\": is not a finite number",
        ),
        (
            "id,num,chol,site,age\n1,0,inf,A,1\n",
            "a.csv:2: column \"chol\": is not a finite number",
        ),
        (
            "id,num,chol,site,age\n1,987,1,A,1\n",
            "a.csv:2: column \"num\": is not a label of any class of the schema; its labels are 0, 1, 2",
        ),
        (
            "id,num,chol,site,age\n1,?,1,A,1\n",
            "a.csv:2: column \"num\": the target is missing",
        ),
        (
            "id,num,chol,site,age\n1,0,1,?,1\n",
            "a.csv:2: column \"site\": the site is missing",
        ),
        (
            "id,num,chol,site,age\n1,0,1\n",
            "a.csv:2: fields on the line: 3 found, 5 expected",
        ),
    ];
    for (text, expected) in cases {
        let said = read(text, &schema()).unwrap_err();
        assert!(said.starts_with(expected), "{said}");
        assert!(!said.contains("987"), "{said}");
    }
    let mut untargeted = schema();
    untargeted.source.target = None;
    assert!(read("a\n", &untargeted).unwrap_err().contains("source.target"));
}
