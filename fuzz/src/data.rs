//! Data sets as they lie on a hospital's disk: IDX, CSV and NPZ files against a declared schema.

use crate::memory::bounded;
use crate::{choose, scratch_dir};
use galen_data::{Dataset, Format, Limits, Normalisation, Schema, Targets, load, partition};
use galen_models::Shape;
use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::LazyLock;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Small, so that an input of some bytes can be above each of them.
const LIMITS: Limits = Limits {
    samples: 300,
    values: 1 << 12,
    file_bytes: 1 << 18,
};

/// What a reader may hold beside a multiple of its input where that may be compressed: limits are in bytes of what comes out.
const UNPACKED: usize = 64 * LIMITS.file_bytes as usize;

/// Names of the arrays of an archive.
const ARRAYS: [&str; 4] = ["x", "y", "record", "site"];

/// A table with gaps, a row of numbers, an image, an image of two channels whose target is a number.
static SCHEMAS: LazyLock<[Schema; 4]> = LazyLock::new(|| {
    const SOURCE: &str = r#"source = { inputs = "x", target = "y", patient = "record" }"#;
    const CLASSES: &str = r#"{ classes = { classes = ["N", "S", "V"] } }"#;
    let named = |input: &str, target: &str| format!("input = {input}\ntarget = {target}\n{SOURCE}");
    [
        r#"
        input = 2
        elements = ["age", "chol"]
        target = { binary = { negative = { name = "healthy", labels = ["0"] }, positive = { name = "ill", labels = ["1", "2"] } } }
        source = { inputs = "x", target = "y", site = "site", missing = ["?", ""] }
        "#
        .to_owned(),
        named("3", CLASSES),
        named("[1, 2, 3]", CLASSES),
        named("[2, 1, 2]", r#"{ regression = { name = "score", unit = "points" } }"#),
    ]
    .map(|text| toml::from_str(&text).unwrap())
});

/// Loads a file, and does with the data set what its reader does.
fn read(path: &Path, format: Format, schema: &Schema, data: &[u8], fixed: usize) {
    match bounded(data, fixed, 128, || load(path, Some(format), schema, &LIMITS)) {
        Ok(set) => used(&set, schema),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// What a data set promises, and everything that is made from one.
fn used(data: &Dataset, schema: &Schema) {
    let (count, each) = (data.len(), schema.input.len());
    assert!((1..=LIMITS.samples).contains(&count) && count * each <= LIMITS.values);
    assert_eq!(data.values().len(), count * each);
    let gaps = matches!(schema.input, Shape::Features(_));
    assert!(
        data.values()
            .iter()
            .all(|v| v.is_finite() || (gaps && v.is_nan()))
    );
    let classes = schema.target.classes().len();
    match data.targets() {
        Targets::Classes(numbers) => assert!(numbers.iter().all(|&class| (class as usize) < classes)),
        Targets::Numbers(numbers) => assert!(classes == 0 && numbers.iter().all(|v| v.is_finite())),
    }
    for groups in [data.patients(), data.sites()].into_iter().flatten() {
        let known = groups.names().len();
        assert!(groups.of().len() == count && groups.of().iter().all(|&of| (of as usize) < known));
    }
    let all: Vec<usize> = (0..count).collect();
    let bits = |set: &Dataset| set.values().iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
    let again = data.select(&all);
    assert!(bits(&again) == bits(data) && again.targets() == data.targets());
    assert!(again.patients() == data.patients() && again.sites() == data.sites());

    let described = data.describe();
    let counted: u64 = described.classes.iter().map(|class| class.samples).sum();
    assert!(described.samples == count as u64 && (classes == 0 || counted == described.samples));
    assert!(!described.to_string().is_empty());
    Normalisation::fit(data).standardised(data).unwrap();

    let whole = |parts: &mut dyn Iterator<Item = &Vec<usize>>| {
        let mut indices: Vec<usize> = parts.flatten().copied().collect();
        indices.sort_unstable();
        assert_eq!(indices, all);
    };
    if let Ok(parts) = partition::hold_out(data, 0.3, 1) {
        whole(&mut [parts.train, parts.held_out].iter());
    }
    if let Ok(folds) = partition::k_fold(data, 3, 1) {
        for parts in &folds {
            whole(&mut [&parts.train, &parts.held_out].into_iter());
        }
        whole(&mut folds.iter().map(|parts| &parts.held_out));
    }
    if let Ok(sites) = partition::by_site(data) {
        whole(&mut sites.iter().map(|(_, indices)| indices));
    }
    if let Ok(hospitals) = partition::dirichlet(data, 3, 0.5, 1) {
        whole(&mut hospitals.iter());
    }
    let _ = partition::imbalance(data, &vec![0.5; classes], 1);
}

/// A schema by the low bits of a byte, whether the file is compressed by the next one.
fn selected(data: &[u8]) -> Option<(&'static Schema, bool, &[u8])> {
    let (&first, rest) = data.split_first()?;
    Some((&SCHEMAS[usize::from(first & 3)], first & 4 != 0, rest))
}

/// The first part of the input, whose length is in its first two bytes, and the rest.
fn cut(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = data.split_first_chunk::<2>()?;
    Some(rest.split_at(rest.len().min(usize::from(u16::from_le_bytes(*length)))))
}

fn written(name: &str, packed: bool, content: &[u8]) -> std::path::PathBuf {
    let path = scratch_dir().join(format!("{name}{}", if packed { ".gz" } else { "" }));
    fs::write(&path, content).unwrap();
    path
}

/// IDX files: the labels, and then the images.
fn idx(data: &[u8]) {
    let Some((schema, packed, rest)) = selected(data) else {
        return;
    };
    let Some((labels, images)) = cut(rest) else {
        return;
    };
    written("labels-idx1", packed, labels);
    let path = written("images-idx3", packed, images);
    let fixed = if packed { UNPACKED } else { 1 << 17 };
    read(&path, Format::Idx, schema, data, fixed);
}

/// A CSV file.
fn csv(data: &[u8]) {
    let Some((schema, packed, text)) = selected(data) else {
        return;
    };
    let path = written("samples.csv", packed, text);
    let fixed = if packed { UNPACKED } else { 1 << 17 };
    read(&path, Format::Csv, schema, data, fixed);
}

/// An NPZ archive as it is.
fn npz(data: &[u8]) {
    let Some((schema, _, bytes)) = selected(data) else {
        return;
    };
    let path = written("archive.npz", false, bytes);
    read(&path, Format::Npz, schema, data, UNPACKED);
}

/// The arrays of an NPZ archive that is made here, because archives have checksums and a fuzzer cannot make them fit.
fn npy(data: &[u8]) {
    let Some((schema, _, mut rest)) = selected(data) else {
        return;
    };
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for name in ARRAYS {
        let Some((array, more)) = cut(rest) else { break };
        zip.start_file(format!("{name}.npy"), options).unwrap();
        zip.write_all(array).unwrap();
        rest = more;
    }
    let path = written("arrays.npz", false, &zip.finish().unwrap().into_inner());
    read(&path, Format::Npz, schema, data, UNPACKED);
}

/// Data sets: IDX, CSV, NPZ, and the arrays in NPZ.
pub fn sets(data: &[u8]) {
    choose(&[idx, csv, npz, npy], data);
}
