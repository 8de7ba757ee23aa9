//! IDX files: made here, broken here, and MNIST where it lies.

// Helpers outside of test functions may fail the test too.
#![allow(clippy::unwrap_used)]

#[path = "support/public.rs"]
mod public;

use flate2::{Compression, write::GzEncoder};
use galen_data::{Format, Limits, Schema, load};
use std::io::Write;
use std::path::{Path, PathBuf};

fn schema() -> Schema {
    toml::from_str(
        r#"
        input = [1, 2, 3]
        target = { classes = { classes = ["zero", "one", "two"] } }
        "#,
    )
    .unwrap()
}

fn idx(kind: u8, dimensions: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, kind, dimensions.len() as u8];
    dimensions.iter().for_each(|d| file.extend(d.to_be_bytes()));
    file.extend(bytes);
    file
}

fn images() -> Vec<u8> {
    idx(8, &[2, 2, 3], &[0, 51, 102, 153, 204, 255, 5, 4, 3, 2, 1, 0])
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    if name.ends_with(".gz") {
        let mut packed = GzEncoder::new(std::fs::File::create(&path).unwrap(), Compression::default());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap();
    } else {
        std::fs::write(&path, bytes).unwrap();
    }
    path
}

#[test]
fn plain_and_compressed_files_give_the_same_samples() {
    let folder = tempfile::tempdir().unwrap();
    let plain = write(folder.path(), "a-images-idx3-ubyte", &images());
    write(folder.path(), "a-labels-idx1-ubyte.gz", &idx(8, &[2], &[2, 0]));
    let packed = write(folder.path(), "a-images-idx3-ubyte.gz", &images());
    let data = load(&plain, None, &schema(), &Limits::default()).unwrap();
    assert_eq!(
        data,
        load(&packed, Some(Format::Idx), &schema(), &Limits::default()).unwrap()
    );
    assert_eq!(data.classes(), Some(&[2, 0][..]));
    assert_eq!(data.sample(0), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
    assert_eq!((data.len(), data.patients(), data.sites()), (2, None, None));
}

#[test]
fn what_is_wrong_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let case = |images: &[u8], labels: &[u8]| {
        let path = write(folder.path(), "images-idx3", images);
        write(folder.path(), "labels-idx1", labels);
        load(&path, Some(Format::Idx), &schema(), &Limits::default())
            .unwrap_err()
            .to_string()
    };
    let labels = idx(8, &[2], &[0, 1]);
    let said = case(&images()[..15], &labels);
    assert!(
        said.ends_with("images-idx3: is not IDX: it ends within the header"),
        "{said}"
    );
    let said = case(&images()[..20], &labels);
    assert!(
        said.ends_with("its length does not follow from its header"),
        "{said}"
    );
    let said = case(&idx(8, &[u32::MAX; 4], &[]), &labels);
    assert!(said.ends_with("its dimensions overflow"), "{said}");
    let said = case(&idx(8, &[2, 3, 2], &[0; 12]), &labels);
    assert!(
        said.ends_with("shape of a sample: 3x2 found, 1x2x3 expected"),
        "{said}"
    );
    let said = case(&images(), &idx(8, &[3], &[0, 1, 2]));
    assert!(
        said.ends_with("labels-idx1: labels: [3] found, 2 expected"),
        "{said}"
    );
    let said = case(&images(), &idx(8, &[2], &[0, 3]));
    assert!(
        said.ends_with("labels-idx1: sample 1: is not a label of any class of the schema; its labels are 0, zero, 1, one, 2, two"),
        "{said}"
    );
    let said = case(&idx(8, &[0, 2, 3], &[]), &idx(8, &[0], &[]));
    assert!(said.ends_with("there is no sample"), "{said}");
    let missing = load(
        &folder.path().join("none-ubyte"),
        None,
        &schema(),
        &Limits::default(),
    );
    assert!(missing.unwrap_err().to_string().contains("source.labels"));
}

#[test]
fn a_small_file_that_unpacks_to_a_large_one_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "images-idx3.gz", &vec![0; 1 << 20]);
    write(folder.path(), "labels-idx1.gz", &[]);
    assert!(std::fs::metadata(&path).unwrap().len() < 2000);
    let limits = Limits {
        file_bytes: 1000,
        ..Limits::default()
    };
    let said = load(&path, Some(Format::Idx), &schema(), &limits)
        .unwrap_err()
        .to_string();
    assert!(
        said.ends_with("images-idx3.gz: has bytes above the limit of 1000"),
        "{said}"
    );
    let few = Limits {
        samples: 1,
        ..Limits::default()
    };
    let plain = write(folder.path(), "images-idx3", &images());
    write(folder.path(), "labels-idx1", &idx(8, &[2], &[0, 1]));
    let said = load(&plain, Some(Format::Idx), &schema(), &few)
        .unwrap_err()
        .to_string();
    assert!(
        said.ends_with("images-idx3: has samples above the limit of 1"),
        "{said}"
    );
    // Labels too are numbers only once it is known that there are not too many.
    let plain = write(folder.path(), "images-idx3", &idx(8, &[1, 2, 3], &[0; 6]));
    let said = load(&plain, Some(Format::Idx), &schema(), &few)
        .unwrap_err()
        .to_string();
    assert!(
        said.ends_with("labels-idx1: has samples above the limit of 1"),
        "{said}"
    );
}

#[test]
fn mnist() {
    let Some(folder) = public::find("mnist") else {
        return;
    };
    let schema: Schema = toml::from_str(
        r#"
        input = [1, 28, 28]
        target = { classes = { classes = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"] } }
        "#,
    )
    .unwrap();
    let test = load(
        &folder.join("t10k-images-idx3-ubyte.gz"),
        None,
        &schema,
        &Limits::default(),
    )
    .unwrap();
    assert_eq!(test.len(), 10_000);
    let classes = test.classes().unwrap();
    let counts: Vec<usize> = (0..10)
        .map(|c| classes.iter().filter(|&&k| k == c).count())
        .collect();
    assert_eq!(counts, [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]);
}
