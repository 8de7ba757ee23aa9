//! Studies on images, in one process: the shipped one, and data of every kind of file.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use galen_core::PartyId;
use galen_core::network::Shape;
use galen_core::study::{DataSchema, Study};
use galen_models::{Course, metrics};
use galen_training::baseline::{self, Hospital};
use galen_training::{Device, Divided, LoadError, SamplesError, Values};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../configs/studies/pneumonia")
}

fn pneumonia() -> Study {
    let study: Study = galen_core::config::load(&folder().join("study.toml")).unwrap();
    assert_eq!(study.check(), []);
    assert_eq!(Course::check(&study), []);
    study
}

fn name(text: &str) -> PartyId {
    PartyId::new(text).unwrap()
}

/// Held-out images of all hospitals are told apart far better than by always naming the larger class, and about as well as if the images had
/// been in one place.
#[test]
fn the_shipped_study_on_images_learns() {
    let study = pneumonia();
    let load = |member: &galen_core::study::Member| {
        let file = folder().join(format!("{}.npz", member.name));
        Hospital::load(&study, &member.name, &file).unwrap()
    };
    let hospitals: Vec<Hospital> = study.party.iter().map(load).collect();
    for hospital in &hospitals {
        assert_eq!((hospital.train.len(), hospital.held_out.len()), (280, 120));
    }
    let device = Device::cpu();
    let run = baseline::federated(&study, &device, &hospitals).unwrap();
    let pooled = baseline::pooled(&study, &device, &hospitals).unwrap();
    let auc = run.auc(&hospitals).unwrap().unwrap();
    let (mut scores, mut labels) = (Vec::new(), Vec::new());
    for hospital in &hospitals {
        scores.extend(run.probabilities(&hospital.name, &hospital.held_out).unwrap());
        labels.extend(&hospital.held_out.labels);
    }
    let balanced = |positive: bool| {
        let of_class = scores
            .iter()
            .zip(&labels)
            .filter(|(_, label)| **label == positive);
        let right = of_class
            .clone()
            .filter(|(score, _)| (**score >= 0.5) == positive)
            .count();
        right as f64 / of_class.count() as f64
    };
    let balanced = (balanced(true) + balanced(false)) / 2.0;
    let accuracy = metrics::accuracy(&scores, &labels).unwrap();
    let pooled = pooled.auc(&hospitals).unwrap().unwrap();
    println!("federated {auc:.4}, pooled {pooled:.4}, accuracy {accuracy:.3}, balanced {balanced:.3}");
    assert!(auc > 0.93 && auc > pooled - 0.03, "{auc} {pooled}");
    assert!(balanced > 0.85, "{balanced}");
}

/// The images of one class are bright above, those of the other below.
fn pixels(index: usize) -> [u8; 4] {
    let shade = (index * 13 % 50) as u8;
    match index % 2 {
        0 => [200 + shade, 190 + shade, shade, 2 * shade],
        _ => [shade, shade / 2, 205 + shade, 180 + shade],
    }
}

fn schema(source: &str) -> Study {
    let mut study = pneumonia();
    study.data = toml::from_str(&format!(
        "max_rows = 50\nheld_out = 0.25\n[samples]\ninput = [1, 2, 2]\n\
         target = {{ binary = {{ negative = {{ name = \"above\", labels = [\"0\", \"above\"] }}, positive = {{ name = \"below\", labels = [\"1\", \"below\"] }} }} }}\n\
         source = {{ {source} }}\n"
    ))
    .unwrap();
    assert_eq!(study.check(), []);
    study
}

/// Twenty images as PNG files in folders of their classes.
fn png(dir: &Path) -> PathBuf {
    let root = dir.join("scans");
    for index in 0..20 {
        let class = root.join(["above", "below"][index % 2]);
        std::fs::create_dir_all(&class).unwrap();
        let image = image::GrayImage::from_raw(2, 2, pixels(index).to_vec()).unwrap();
        image.save(class.join(format!("{index:02}.png"))).unwrap();
    }
    root
}

/// The same as IDX, in the order of the sorted paths of the folder.
fn idx(dir: &Path) -> PathBuf {
    let order = || (0..20).step_by(2).chain((1..20).step_by(2));
    let images: Vec<u8> = order().flat_map(pixels).collect();
    let labels: Vec<u8> = order().map(|index| (index % 2) as u8).collect();
    let file = |sides: &[u8], bytes: &[u8]| {
        let sides = sides.iter().flat_map(|&side| [0, 0, 0, side]);
        [0, 0, 8, sides.clone().count() as u8 / 4]
            .into_iter()
            .chain(sides)
            .chain(bytes.iter().copied())
            .collect::<Vec<u8>>()
    };
    std::fs::write(dir.join("s-images-idx3-ubyte"), file(&[20, 2, 2], &images)).unwrap();
    std::fs::write(dir.join("s-labels-idx1-ubyte"), file(&[20], &labels)).unwrap();
    dir.join("s-images-idx3-ubyte")
}

/// A table that names the files of the folder, with four images of each patient.
fn listed(dir: &Path, root: &Path) -> PathBuf {
    let mut text = String::from("image,class,patient\n");
    for index in 0..20 {
        let class = ["above", "below"][index % 2];
        let file = root.join(class).join(format!("{index:02}.png"));
        text.push_str(&format!("{},{class},p{}\n", file.display(), index / 2 % 5));
    }
    let path = dir.join("scans.csv");
    std::fs::write(&path, text).unwrap();
    path
}

/// Whatever the files are, the same images give the same records and are divided alike.
#[test]
fn a_folder_and_idx_give_the_same_records() {
    let dir = tempfile::tempdir().unwrap();
    let study = schema("");
    let [from_folder, from_idx] =
        [png(dir.path()), idx(dir.path())].map(|path| Divided::load(&path, &study, &name("a")).unwrap());
    assert_eq!(from_folder, from_idx);
    let (train, held_out) = (&from_folder.train, &from_folder.held_out);
    assert_eq!((train.classes(), held_out.classes()), ([7, 7], [3, 3]));
    let Values::Images { input, values } = &held_out.values else {
        panic!("images stay images")
    };
    assert_eq!((*input, values.len()), (Shape::Image([1, 2, 2]), 24));
    // The first ten in the order of paths are those with even numbers.
    for (place, &index) in from_folder.held_out_indices.iter().enumerate() {
        let number = if index < 10 {
            2 * index
        } else {
            2 * (index - 10) + 1
        };
        let expected = pixels(number).map(|byte| f32::from(byte) / 255.0);
        assert_eq!(values[4 * place..4 * place + 4], expected);
        assert_eq!(held_out.labels[place], number % 2 == 1);
    }
    let other = Divided::load(&dir.path().join("scans"), &study, &name("b")).unwrap();
    assert_ne!(other.held_out_indices, from_folder.held_out_indices);
}

/// Where the data tell patients apart, all images of one are in the same part.
#[test]
fn images_of_a_patient_stay_together() {
    let dir = tempfile::tempdir().unwrap();
    let path = listed(dir.path(), &png(dir.path()));
    let mut parts = BTreeMap::new();
    for party in ["a", "b", "c", "d"] {
        let study = schema("files = \"image\", target = \"class\", patient = \"patient\"");
        let divided = Divided::load(&path, &study, &name(party)).unwrap();
        // A quarter of five patients is one, and has four images.
        let patients: Vec<usize> = divided
            .held_out_indices
            .iter()
            .map(|index| index / 2 % 5)
            .collect();
        assert_eq!(patients.len(), 4, "{party}: {patients:?}");
        assert!(patients.iter().all(|patient| *patient == patients[0]));
        parts.insert(patients[0], party);
    }
    assert!(
        parts.len() > 1,
        "parties do not hold out by the same draw: {parts:?}"
    );
}

#[test]
fn images_that_do_not_fit_the_study_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = png(dir.path());
    let load = |change: &dyn Fn(&mut DataSchema)| {
        let mut study = schema("");
        change(&mut study.data);
        Divided::load(&path, &study, &name("a")).unwrap_err()
    };
    assert!(matches!(
        load(&|data| data.max_rows = 19),
        LoadError::Samples(SamplesError::TooMany { max_rows: 19, .. })
    ));
    // The first image of the folder has 200 of 255 in its first pixel.
    let error = load(&|data| data.range = Some([0.0, 0.7])).to_string();
    assert!(
        error.ends_with("scans: sample 1, channel \"0\", row 1, column 1: the value is outside 0 to 0.7, the study's data.range"),
        "{error}"
    );
    std::fs::create_dir(path.join("beside")).unwrap();
    std::fs::rename(path.join("above/04.png"), path.join("beside/04.png")).unwrap();
    let error = load(&|_| {});
    assert!(matches!(error, LoadError::Dataset(_)), "{error}");
    assert!(
        error
            .to_string()
            .contains("04.png: target: is not a label of any class"),
        "{error}"
    );
}
