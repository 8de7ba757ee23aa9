//! Images in files of their own: folders with a subfolder for each class, and tables that name files.

// Helpers outside of test functions may fail the test too.
#![allow(clippy::unwrap_used)]

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use galen_data::{Dataset, Limits, Schema, load};
use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage};
use std::path::Path;

fn schema(text: &str) -> Schema {
    toml::from_str(text).unwrap()
}

fn gray(source: &str) -> Schema {
    schema(&format!(
        "input = [1, 2, 4]\ntarget = {{ binary = {{ negative = \"healthy\", positive = \"ill\" }} }}\n[source]\n{source}"
    ))
}

fn write(path: &Path, image: impl Into<DynamicImage>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image.into().save(path).unwrap();
}

/// A gray image whose value is 10 times the column plus the line.
fn ramp(width: u32, height: u32) -> GrayImage {
    GrayImage::from_fn(width, height, |x, y| Luma([(10 * x + y) as u8]))
}

fn read(path: &Path, schema: &Schema) -> Result<Dataset, String> {
    let said = load(path, None, schema, &Limits::default());
    said.map_err(|error| error.to_string().replace(&path.display().to_string(), "DIR"))
}

/// A DICOM image of sixteen bits: stored values 0, 100, 200, ..., which rescaling turns into -1000, -900, ...
fn dicom(path: &Path, photometric: &str, frames: u32, extra: &[(dicom_core::Tag, VR, &str)]) {
    let number = |tag, value: u16| DataElement::new(tag, VR::US, PrimitiveValue::from(value));
    let text = |tag, vr, value: &str| DataElement::new(tag, vr, PrimitiveValue::from(value));
    let pixels: Vec<u16> = (0..8 * frames as u16).map(|i| 100 * (i % 8)).collect();
    let mut object = InMemDicomObject::from_element_iter([
        text(tags::SOP_CLASS_UID, VR::UI, uids::SECONDARY_CAPTURE_IMAGE_STORAGE),
        text(tags::SOP_INSTANCE_UID, VR::UI, "1.2.3"),
        number(tags::ROWS, 2),
        number(tags::COLUMNS, 4),
        number(tags::SAMPLES_PER_PIXEL, 1),
        number(tags::BITS_ALLOCATED, 16),
        number(tags::BITS_STORED, 16),
        number(tags::HIGH_BIT, 15),
        number(tags::PIXEL_REPRESENTATION, 0),
        text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, photometric),
        text(tags::NUMBER_OF_FRAMES, VR::IS, &frames.to_string()),
        text(tags::RESCALE_INTERCEPT, VR::DS, "-1000"),
        text(tags::RESCALE_SLOPE, VR::DS, "1"),
        DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(pixels.into())),
    ]);
    for &(tag, vr, value) in extra {
        object.put(text(tag, vr, value));
    }
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let meta = FileMetaTableBuilder::new().transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN);
    object.with_meta(meta).unwrap().write_to_file(path).unwrap();
}

#[test]
fn the_subfolder_is_the_class_and_the_order_is_that_of_the_names() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write(&at("ill/b/2.png"), ramp(4, 2));
    write(&at("healthy/9.png"), GrayImage::from_pixel(4, 2, Luma([255])));
    write(&at("ill/a.png"), GrayImage::from_pixel(4, 2, Luma([51])));
    std::fs::write(at("ill/.DS_Store"), "x").unwrap();
    let data = read(folder.path(), &gray("")).unwrap();
    assert_eq!(data.classes(), Some(&[0, 1, 1][..]));
    assert_eq!(data.sample(0), [1.0; 8]);
    assert_eq!(data.sample(1), [0.2; 8]);
    let expected = [0, 10, 20, 30, 1, 11, 21, 31].map(|v: u8| f32::from(v) / 255.0);
    for (found, expected) in data.sample(2).iter().zip(expected) {
        assert!((found - expected).abs() < 1e-6, "{:?}", data.sample(2));
    }
}

#[test]
fn colours_are_planes_and_lossy_images_are_read_too() {
    let folder = tempfile::tempdir().unwrap();
    let image = RgbImage::from_fn(2, 2, |x, y| Rgb([255 * x as u8, 255 * y as u8, 0]));
    write(&folder.path().join("a/1.png"), image);
    write(
        &folder.path().join("b/1.jpg"),
        RgbImage::from_pixel(2, 2, Rgb([255, 255, 255])),
    );
    let colours = schema("input = [3, 2, 2]\ntarget = { classes = { classes = [\"a\", \"b\"] } }");
    let data = read(folder.path(), &colours).unwrap();
    assert_eq!(
        data.sample(0),
        [0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    );
    assert!(data.sample(1).iter().all(|v| *v > 0.95));
}

#[test]
fn images_of_another_size_are_brought_to_the_schema_s_as_it_says() {
    let folder = tempfile::tempdir().unwrap();
    // White left half, black right half, twice as high as wide in relation to the shape.
    let image = GrayImage::from_fn(8, 8, |x, _| Luma([if x < 4 { 255 } else { 0 }]));
    write(&folder.path().join("ill/1.png"), image);
    let said = read(folder.path(), &gray("")).unwrap_err();
    assert_eq!(
        said,
        "DIR/ill/1.png: height and width (source.fit of the schema says how others are brought to it): 8x8 found, 2x4 expected"
    );
    let fit = |name: &str| {
        let data = read(folder.path(), &gray(&format!("fit = \"{name}\""))).unwrap();
        data.sample(0).iter().map(|v| v.round()).collect::<Vec<_>>()
    };
    assert_eq!(fit("stretch"), [1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
    assert_eq!(fit("crop"), [1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
    // A square of 2x2 in the middle, black beside it.
    assert_eq!(fit("pad"), [0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn dicom_attributes_tell_patient_site_and_target() {
    let folder = tempfile::tempdir().unwrap();
    let of = |patient, site, age| {
        [
            (tags::PATIENT_ID, VR::LO, patient),
            (tags::INSTITUTION_NAME, VR::LO, site),
            (tags::PATIENT_WEIGHT, VR::DS, age),
        ]
    };
    dicom(
        &folder.path().join("x/1"),
        "MONOCHROME2",
        1,
        &of("p1", "north", "61.5"),
    );
    dicom(
        &folder.path().join("x/2.dcm"),
        "MONOCHROME2",
        1,
        &of("p2", "south", "80"),
    );
    dicom(
        &folder.path().join("x/3.dcm"),
        "MONOCHROME1",
        1,
        &of("p1", "north", "61.5"),
    );
    let mut asked = schema(
        r#"
        input = [1, 2, 4]
        target = { regression = { name = "weight", unit = "kg" } }
        source = { target = "PatientWeight", patient = "PatientID", site = "InstitutionName", window = [-650.0, 700.0] }
        "#,
    );
    let data = read(folder.path(), &asked).unwrap();
    assert_eq!(data.numbers(), Some(&[61.5, 80.0, 61.5][..]));
    assert_eq!(data.patients().unwrap().of(), [0, 1, 0]);
    assert_eq!(data.sites().unwrap().names(), ["north", "south"]);
    // The window reaches from -1000 to -300: eight values from 0 to 1.
    for (index, found) in data.sample(0).iter().enumerate() {
        let expected = index as f32 / 7.0;
        assert!((found - expected).abs() < 2e-3, "{:?}", data.sample(0));
        let turned = data.sample(2)[index];
        assert!((turned - (1.0 - expected)).abs() < 2e-3, "{:?}", data.sample(2));
    }
    // Without a window, from the darkest to the brightest.
    asked.source.window = Some([-900.0, 200.0]);
    let narrow = read(folder.path(), &asked).unwrap();
    assert!(
        narrow.sample(0)[3..].iter().all(|v| *v > 0.99),
        "{:?}",
        narrow.sample(0)
    );
    asked.source.window = None;
    let whole = read(folder.path(), &asked).unwrap();
    assert!(whole.sample(0)[0] < 0.01 && whole.sample(0)[7] > 0.99);
    asked.source.site = Some("StationName".into());
    let said = read(folder.path(), &asked).unwrap_err();
    assert_eq!(said, "DIR/x/1: the DICOM attribute StationName is missing");
}

#[test]
fn tables_name_files_with_their_targets_and_sites() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write(&at("scans/1.png"), GrayImage::from_pixel(4, 2, Luma([255])));
    dicom(&at("scans/2.dcm"), "MONOCHROME2", 1, &[]);
    std::fs::write(
        at("list.csv"),
        "file,finding,ward\nscans/2.dcm,ill,A\nscans/1.png,healthy,B\n",
    )
    .unwrap();
    let by_table = gray("files = \"file\"\ntarget = \"finding\"\nsite = \"ward\"");
    let data = read(&at("list.csv"), &by_table).unwrap();
    assert_eq!(data.classes(), Some(&[1, 0][..]));
    assert_eq!(data.sample(1), [1.0; 8]);
    assert_eq!(data.sites().unwrap().names(), ["A", "B"]);
    std::fs::remove_file(at("scans/1.png")).unwrap();
    let error = load(&at("list.csv"), None, &by_table, &Limits::default()).unwrap_err();
    assert_eq!(error.file, at("scans/1.png"));
}

#[test]
fn what_is_no_image_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ill/1.png");
    let refused = |text: &str| {
        let said = read(folder.path(), &gray("")).unwrap_err();
        assert!(
            said.starts_with("DIR/ill/1.png: ") && said.contains(text),
            "{said}"
        );
    };
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "patient 17").unwrap();
    refused("is not an image in PNG, JPEG or DICOM: its first bytes are of no such format");
    // The first half of an image, of either kind.
    let mut bytes = std::io::Cursor::new(Vec::new());
    DynamicImage::from(ramp(4, 2))
        .write_to(&mut bytes, ImageFormat::Png)
        .unwrap();
    let bytes = bytes.into_inner();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    refused("is not an image in PNG, JPEG or DICOM");
    dicom(&path, "MONOCHROME2", 1, &[]);
    let whole = std::fs::read(&path).unwrap();
    assert!(read(folder.path(), &gray("")).is_ok());
    for len in [140, whole.len() / 2, whole.len() - 3] {
        std::fs::write(&path, &whole[..len]).unwrap();
        refused("is not a DICOM image");
    }
    dicom(&path, "MONOCHROME2", 3, &[]);
    refused("frames: 3 found, 1 expected");
    std::fs::remove_file(&path).unwrap();
    let said = read(folder.path(), &gray("")).unwrap_err();
    assert_eq!(said, "DIR: there is no sample");
    write(&folder.path().join("1.png"), ramp(4, 2));
    let said = read(folder.path(), &gray("")).unwrap_err();
    assert!(said.contains("a folder with the name of its class"), "{said}");
    std::fs::remove_file(folder.path().join("1.png")).unwrap();
    write(&folder.path().join("sick/1.png"), ramp(4, 2));
    let said = read(folder.path(), &gray("")).unwrap_err();
    assert_eq!(
        said,
        "DIR/sick/1.png: target: is not a label of any class of the schema; its labels are healthy, ill"
    );
}

/// A file that announces pixels for gigabytes is refused before they are made room for.
#[test]
fn an_image_that_says_that_it_is_huge_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ill/1.dcm");
    dicom(
        &path,
        "MONOCHROME2",
        1,
        &[(tags::NUMBER_OF_FRAMES, VR::IS, "999999999")],
    );
    let said = read(folder.path(), &gray("")).unwrap_err();
    assert_eq!(
        said,
        "DIR/ill/1.dcm: has bytes of pixels above the limit of 536870912"
    );
    std::fs::remove_file(&path).unwrap();
    // A PNG of 60,000 x 60,000: the header of a small one, with another size and the checksum that goes with it.
    let mut bytes = std::io::Cursor::new(Vec::new());
    DynamicImage::from(ramp(4, 2))
        .write_to(&mut bytes, ImageFormat::Png)
        .unwrap();
    let mut bytes = bytes.into_inner();
    bytes[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    let sum = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&sum.to_be_bytes());
    std::fs::write(folder.path().join("ill/1.png"), bytes).unwrap();
    let said = read(folder.path(), &gray("")).unwrap_err();
    assert!(
        said.contains("is not an image") && said.contains("limit"),
        "{said}"
    );
}

/// The checksum of PNG's chunks (ISO 3309).
fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    };
    !bytes.iter().fold(!0, step)
}
