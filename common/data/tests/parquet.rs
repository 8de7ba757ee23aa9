//! Parquet files: what is read, and what is said of wrong ones.

// Helpers outside of test functions may fail the test too.
#![allow(clippy::unwrap_used)]

use galen_data::{Limits, Schema, load};
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int32Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::path::Path;
use std::sync::Arc;

const COLUMNS: &str = "message table {
    optional double chol;
    required int32 age;
    required boolean smoker;
    optional binary site (UTF8);
    required int32 num;
    required binary photo;
}";

fn schema(elements: &str) -> Schema {
    toml::from_str(&format!(
        r#"
        input = 3
        elements = {elements}
        target = {{ binary = {{ negative = {{ name = "healthy", labels = ["0"] }}, positive = {{ name = "ill", labels = ["1", "2"] }} }} }}
        source = {{ target = "num", site = "site" }}
        "#
    ))
    .unwrap()
}

fn plain() -> Schema {
    schema(r#"["age", "chol", "smoker"]"#)
}

/// Three patients; the second one's cholesterol is null, the third one's NaN, its site is `last` if there is one.
fn write(path: &Path, compression: Compression, last: Option<&str>) {
    let columns = Arc::new(parse_message_type(COLUMNS).unwrap());
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let file = std::fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, columns, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let text = |text: &str| ByteArray::from(text);
    let mut next = 0;
    while let Some(mut column) = group.next_column().unwrap() {
        match next {
            0 => column
                .typed::<DoubleType>()
                .write_batch(&[210.25, f64::NAN], Some(&[1, 0, 1]), None),
            1 => column.typed::<Int32Type>().write_batch(&[40, 50, 60], None, None),
            2 => column
                .typed::<BoolType>()
                .write_batch(&[true, false, true], None, None),
            3 => {
                let mut names = vec![text("A"), text("B")];
                names.extend(last.map(text));
                column.typed::<ByteArrayType>().write_batch(
                    &names,
                    Some(&[1, 1, i16::from(last.is_some())]),
                    None,
                )
            }
            4 => column.typed::<Int32Type>().write_batch(&[0, 2, 1], None, None),
            _ => column
                .typed::<ByteArrayType>()
                .write_batch(&[text("x"), text("y"), text("z")], None, None),
        }
        .unwrap();
        column.close().unwrap();
        next += 1;
    }
    group.close().unwrap();
    writer.close().unwrap();
}

fn read(path: &Path, schema: &Schema, limits: &Limits) -> Result<galen_data::Dataset, String> {
    load(path, None, schema, limits)
        .map_err(|e| e.to_string().replace(&path.display().to_string(), "a.parquet"))
}

#[test]
fn named_columns_are_read_whatever_their_type_and_codec() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let codecs = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        Compression::LZ4_RAW,
        Compression::ZSTD(ZstdLevel::default()),
    ];
    for codec in codecs {
        write(&path, codec, Some("A"));
        let data = read(&path, &plain(), &Limits::default()).unwrap();
        assert_eq!(data.classes(), Some(&[0, 1, 1][..]), "{codec:?}");
        assert_eq!(data.sample(0), [40.0, 210.25, 1.0]);
        for (index, [age, smoker]) in [(1, [50.0, 0.0]), (2, [60.0, 1.0])] {
            let sample = data.sample(index);
            assert!(sample[1].is_nan(), "{sample:?}");
            assert_eq!([sample[0], sample[2]], [age, smoker]);
        }
        assert_eq!(data.sites().unwrap().of(), [0, 1, 0]);
    }
}

#[test]
fn what_does_not_fit_is_named_with_row_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    write(&path, Compression::SNAPPY, None);
    let said = |schema: &Schema, limits: &Limits| read(&path, schema, limits).unwrap_err();
    let limits = Limits::default();
    assert_eq!(
        said(&plain(), &limits),
        "a.parquet: row 3, column \"site\": the site is missing"
    );
    assert_eq!(
        said(&schema(r#"["age", "chol", "weight"]"#), &limits),
        "a.parquet: the column \"weight\" is missing"
    );
    assert_eq!(
        said(&schema(r#"["age", "chol", "photo"]"#), &limits),
        "a.parquet: row 1, column \"photo\": is not a column of numbers, texts or booleans: it holds bytes, dates, decimals or nested \
         values"
    );
    let few = Limits { samples: 2, ..limits };
    assert_eq!(
        said(&plain(), &few),
        "a.parquet: has samples above the limit of 2"
    );
    let small = Limits {
        file_bytes: 10,
        ..limits
    };
    assert_eq!(
        said(&plain(), &small),
        "a.parquet: has bytes above the limit of 10"
    );
}

/// Files cut short at any place, and with any byte changed, are errors or data, but no panic ends the program.
#[test]
fn damaged_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    write(&path, Compression::SNAPPY, Some("A"));
    let whole = std::fs::read(&path).unwrap();
    for len in (0..whole.len()).step_by(7) {
        std::fs::write(&path, &whole[..len]).unwrap();
        let said = read(&path, &plain(), &Limits::default()).unwrap_err();
        assert!(said.starts_with("a.parquet: is not Parquet: "), "{len}: {said}");
    }
    for place in (0..whole.len()).step_by(3) {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x55;
        std::fs::write(&path, &damaged).unwrap();
        let _either = read(&path, &plain(), &Limits::default());
    }
}
