//! NPZ archives: made here, and the public sets where they lie.

// Helpers outside of test functions may fail the test too.
#![allow(clippy::unwrap_used)]

#[path = "support/public.rs"]
mod public;

use galen_data::{Dataset, Limits, Schema, load};
use std::io::{Cursor, Write};
use std::path::Path;
use zip::write::SimpleFileOptions;

/// A number as NumPy writes it, with its type.
trait Number: Copy {
    const KIND: &'static str;
    fn bytes(self) -> Vec<u8>;
}

macro_rules! number {
    ($($type:ty, $kind:literal;)*) => {$(
        impl Number for $type {
            const KIND: &'static str = $kind;
            fn bytes(self) -> Vec<u8> {
                self.to_le_bytes().to_vec()
            }
        }
    )*};
}
number! { u8, "|u1"; i16, "<i2"; u64, "<u8"; f32, "<f4"; f64, "<f8"; }

fn array<T: Number>(shape: &[usize], values: &[T]) -> Vec<u8> {
    let shape: String = shape.iter().map(|d| format!("{d}, ")).collect();
    let text = format!(
        "{{'descr': '{}', 'fortran_order': False, 'shape': ({shape}), }}\n",
        T::KIND
    );
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.extend(values.iter().flat_map(|v| v.bytes()));
    bytes
}

fn archive(arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in arrays {
        let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        zip.start_file(format!("{name}.npy"), options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn schema(input: &str, target: &str) -> Schema {
    let source = r#"source = { inputs = "x", target = "y", patient = "record" }"#;
    toml::from_str(&format!("input = {input}\ntarget = {target}\n{source}")).unwrap()
}

fn read(bytes: &[u8], schema: &Schema, limits: &Limits) -> Result<Dataset, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npz");
    std::fs::write(&path, bytes).unwrap();
    load(&path, None, schema, limits).map_err(|e| e.to_string().replace(&path.display().to_string(), "a.npz"))
}

const CLASSES: &str = r#"{ classes = { classes = ["N", "S", "V"] } }"#;

#[test]
fn signals_and_images_are_arranged_as_the_schema_says() {
    let rest = [
        ("y", array(&[2, 1], &[2u8, 0])),
        ("record", array(&[2], &[100i16, 101])),
    ];
    let with = |x: Vec<u8>| archive(&[&[("x", x)], &rest[..]].concat());
    // A signal of 16-bit integers keeps its numbers.
    let signal = with(array(&[2, 3], &[-5i16, 0, 700, 1, 2, 3]));
    let data = read(&signal, &schema("[1, 1, 3]", CLASSES), &Limits::default()).unwrap();
    assert_eq!(
        (data.sample(0), data.classes()),
        (&[-5.0, 0.0, 700.0][..], Some(&[2, 0][..]))
    );
    assert_eq!(data.patients().unwrap().names(), ["100", "101"]);
    // Bytes with the channel last: 1 x 2 pixels of two channels.
    let image = with(array(&[2, 1, 2, 2], &[0u8, 51, 102, 153, 255, 0, 255, 0]));
    let data = read(&image, &schema("[2, 1, 2]", CLASSES), &Limits::default()).unwrap();
    assert_eq!(data.sample(0), [0.0, 0.4, 0.2, 0.6]);
    assert_eq!(data.sample(1), [1.0, 1.0, 0.0, 0.0]);
    // Floating-point features and a number to predict.
    let y = r#"{ regression = { name = "score" } }"#;
    let table = archive(&[
        ("x", array(&[2, 2], &[0.5f64, -1.0, 2.0, f64::NAN])),
        ("y", array(&[2], &[1.5f32, 2.5])),
        ("record", array(&[2], &[1u64, 1])),
    ]);
    let data = read(&table, &schema("2", y), &Limits::default()).unwrap();
    assert!(data.sample(1)[0] == 2.0 && data.sample(1)[1].is_nan());
    assert_eq!(data.numbers(), Some(&[1.5, 2.5][..]));
}

#[test]
fn errors_name_the_array_and_the_sample() {
    let x = || ("x", array(&[2, 3], &[1.0f32; 6]));
    let record = || ("record", array(&[2], &[1u8; 2]));
    let classes = schema("3", CLASSES);
    let case = |arrays: &[(&str, Vec<u8>)]| read(&archive(arrays), &classes, &Limits::default()).unwrap_err();
    let said = case(&[x(), record()]);
    assert_eq!(
        said,
        "a.npz: array \"y\": the array (there are record, x) is missing"
    );
    let said = case(&[x(), record(), ("y", array(&[2], &[0u8, 9]))]);
    assert!(
        said.starts_with("a.npz: array \"y\" at sample 1: is not a label of any class"),
        "{said}"
    );
    let said = case(&[x(), record(), ("y", array(&[3], &[0u8; 3]))]);
    assert_eq!(said, "a.npz: array \"y\": shape: [3] found, [2] expected");
    let said = case(&[("x", array(&[2, 4], &[1.0f32; 8]))]);
    assert_eq!(said, "a.npz: array \"x\": values per sample: 4 found, 3 expected");
    let mut cut = array(&[2, 3], &[1.0f32; 6]);
    cut.truncate(cut.len() - 5);
    let said = case(&[("x", cut)]);
    assert_eq!(
        said,
        "a.npz: array \"x\": is not an array of numbers: its length does not follow from its header"
    );
    let said = read(b"PK nonsense", &classes, &Limits::default()).unwrap_err();
    assert!(said.starts_with("a.npz: is not NPZ: "), "{said}");
}

#[test]
fn an_archive_that_unpacks_to_more_than_allowed_is_stopped() {
    let classes = schema("3", CLASSES);
    let many = archive(&[("x", array(&[100_000, 3], &vec![0u8; 300_000]))]);
    assert!(many.len() < 5000);
    let samples = Limits {
        samples: 1000,
        ..Limits::default()
    };
    let said = read(&many, &classes, &samples).unwrap_err();
    assert_eq!(said, "a.npz: has samples above the limit of 1000");
    let bytes = Limits {
        file_bytes: 1000,
        ..Limits::default()
    };
    let said = read(&many, &classes, &bytes).unwrap_err();
    assert_eq!(said, "a.npz: array \"x\": has bytes above the limit of 1000");
}

fn public(path: &Path, text: &str) -> Dataset {
    load(path, None, &toml::from_str(text).unwrap(), &Limits::default()).unwrap()
}

#[test]
fn heartbeats_and_chest_images_are_what_their_authors_say() {
    if let Some(path) = public::find("ecg-mitbih/mitbih_beats_DS2.npz") {
        let beats = public(
            &path,
            r#"
            input = [1, 1, 128]
            target = { classes = { classes = ["N", "S", "V", "F", "Q"] } }
            source = { inputs = "beats", target = "label", patient = "record" }
            "#,
        );
        let described = beats.describe();
        let counts: Vec<u64> = described.classes.iter().map(|c| c.samples).collect();
        assert_eq!(counts, [44240, 1837, 3220, 388, 7]);
        assert_eq!(described.patients, Some(22));
    }
    if let Some(path) = public::find("pneumoniamnist/pneumoniamnist.npz") {
        let images = public(
            &path,
            r#"
            input = [1, 28, 28]
            target = { binary = { negative = { name = "normal", labels = ["0"] }, positive = { name = "pneumonia", labels = ["1"] } } }
            source = { inputs = "test_images", target = "test_labels" }
            "#,
        );
        let counts: Vec<u64> = images.describe().classes.iter().map(|c| c.samples).collect();
        assert_eq!(counts, [234, 390]);
        assert!(images.values().iter().all(|v| (0.0..=1.0).contains(v)));
    }
}
