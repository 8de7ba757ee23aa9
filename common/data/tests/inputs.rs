//! Samples without targets, in every format that needs no other library to write.

#![allow(clippy::unwrap_used)]

use galen_data::{Inputs, Limits, Schema, load_inputs};
use galen_models::Shape;
use std::path::Path;

fn read(path: &Path, schema: &Schema) -> Result<Inputs, String> {
    load_inputs(path, None, schema, &Limits::default()).map_err(|e| e.to_string())
}

fn table() -> Schema {
    toml::from_str(
        r#"
        input = 2
        elements = ["age", "chol"]
        target = { binary = { negative = "healthy", positive = "ill" } }
        source = { target = "num", site = "site", patient = "id", missing = ["?"] }"#,
    )
    .unwrap()
}

#[test]
fn tables_need_no_target_and_no_site() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new.csv");
    std::fs::write(&path, "id,chol,age\np7,200,50\np9,?,61\n").unwrap();
    let inputs = read(&path, &table()).unwrap();
    assert_eq!(inputs.names(), ["p7", "p9"]);
    assert_eq!(inputs.sample(0), [50.0, 200.0]);
    assert!(inputs.sample(1)[0] == 61.0 && inputs.sample(1)[1].is_nan());
    assert!(inputs.sample(2).is_empty());
    // A target that is there is not looked at, nor is it an input.
    std::fs::write(&path, "id,num,chol,age,site\np7,what,200,50,here\n").unwrap();
    let mut schema = table();
    assert_eq!(read(&path, &schema).unwrap().sample(0), [50.0, 200.0]);
    schema.elements.clear();
    assert_eq!(read(&path, &schema).unwrap().sample(0), [200.0, 50.0]);
    // Without patients, rows are numbered.
    schema.source.patient = None;
    std::fs::write(&path, "chol,age\n200,50\n1,2\n").unwrap();
    assert_eq!(read(&path, &schema).unwrap().names(), ["1", "2"]);
    let said = read(&path, &table()).unwrap_err();
    assert!(said.contains("\"id\" is missing"), "{said}");
}

#[test]
fn images_need_only_their_shape() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.idx");
    let bytes = [
        &[0u8, 0, 8, 3][..],
        &2u32.to_be_bytes(),
        &1u32.to_be_bytes(),
        &2u32.to_be_bytes(),
        &[0, 255, 51, 102],
    ];
    std::fs::write(&path, bytes.concat()).unwrap();
    let schema = Schema::of_inputs(Shape::Image([1, 1, 2]));
    let inputs = read(&path, &schema).unwrap();
    assert_eq!(inputs.names(), ["1", "2"]);
    assert_eq!(
        (inputs.sample(0), inputs.sample(1)),
        (&[0.0, 1.0][..], &[0.2, 0.4][..])
    );
    let other = Schema::of_inputs(Shape::Image([1, 2, 2]));
    assert!(read(&path, &other).is_err());
    let folder = dir.path().join("images");
    std::fs::create_dir_all(folder.join("b")).unwrap();
    let picture = image::GrayImage::from_pixel(2, 1, image::Luma([255]));
    picture.save(folder.join("b/2.png")).unwrap();
    picture.save(folder.join("1.png")).unwrap();
    let inputs = read(&folder, &schema).unwrap();
    assert_eq!(inputs.names(), ["1.png", "b/2.png"]);
    assert_eq!(inputs.sample(1), [1.0, 1.0]);
}
