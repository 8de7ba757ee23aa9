//! DICOM files: one image each, with attributes that tell the patient and the hospital.

use crate::error::Problem;
use crate::picture::MAX_DECODED;
use dicom_object::{FileDicomObject, InMemDicomObject, OpenFileOptions};
use dicom_pixeldata::image::DynamicImage;
use dicom_pixeldata::{ConvertOptions, PixelDecoder, VoiLutOption, WindowLevel};

type Object = FileDicomObject<InMemDicomObject>;

/// Bytes before the mark of a file in DICOM's format (PS3.10, section 7.1).
const PREAMBLE: usize = 128;
const MARK: &[u8] = b"DICM";

/// Whether these bytes are a DICOM file.
pub(crate) fn is(bytes: &[u8]) -> bool {
    bytes.get(PREAMBLE..PREAMBLE + MARK.len()) == Some(MARK)
}

/// The image of a file, and the texts of the attributes with these keywords (`PatientID`, `InstitutionName`).
///
/// Gray values go through the file's modality and window functions (PS3.3, C.11.1 and C.11.2), with the window's center and width in
/// its place if they are given; without any, they reach from the darkest to the brightest. Inverted images (`MONOCHROME1`) are turned.
pub(crate) fn open(
    bytes: &[u8],
    attributes: &[&str],
    window: Option<[f64; 2]>,
) -> Result<(DynamicImage, Vec<Option<String>>), Problem> {
    let object = OpenFileOptions::new()
        .from_reader(bytes)
        .map_err(|_| not_readable("its attributes cannot be read"))?;
    check_size(&object)?;
    let texts = attributes.iter().map(|keyword| text(&object, keyword)).collect();
    let pixels = object.decode_pixel_data().map_err(|_| {
        // The syntax is no content of the patient's.
        let syntax = object.meta().transfer_syntax().trim_end_matches('\0').to_owned();
        not_readable(&format!(
            "its pixels cannot be decoded (transfer syntax {syntax})"
        ))
    })?;
    if pixels.number_of_frames() != 1 {
        return Err(Problem::Size {
            what: "frames",
            expected: "1".into(),
            found: pixels.number_of_frames().to_string(),
        });
    }
    let options = match window {
        Some([center, width]) => {
            ConvertOptions::new().with_voi_lut(VoiLutOption::Custom(WindowLevel { center, width }))
        }
        None => ConvertOptions::new(),
    };
    let image = pixels
        .to_dynamic_image_with_options(0, &options.force_16bit())
        .map_err(|_| not_readable("its pixels make no image"))?;
    Ok((image, texts))
}

pub(crate) fn not_readable(reason: &str) -> Problem {
    Problem::Format {
        format: "a DICOM image",
        reason: reason.to_owned(),
    }
}

/// Refuses an image that says that it is too large, before it is decoded.
fn check_size(object: &Object) -> Result<(), Problem> {
    let number = |keyword: &str, default: Option<u64>| -> Result<u64, Problem> {
        let found = object
            .element_by_name(keyword)
            .ok()
            .and_then(|element| element.to_int::<u64>().ok());
        found.or(default).ok_or_else(|| Problem::Missing {
            what: format!("the attribute {keyword}"),
        })
    };
    let factors = [
        number("Rows", None)?,
        number("Columns", None)?,
        number("SamplesPerPixel", Some(1))?,
        number("NumberOfFrames", Some(1))?,
        number("BitsAllocated", Some(16))?.div_ceil(8),
    ];
    let bytes = factors
        .iter()
        .try_fold(1u64, |all, &factor| all.checked_mul(factor));
    match bytes {
        Some(bytes) if bytes <= MAX_DECODED => Ok(()),
        _ => Err(Problem::Limit {
            what: "bytes of pixels",
            limit: MAX_DECODED,
        }),
    }
}

fn text(object: &Object, keyword: &str) -> Option<String> {
    let text = object.element_by_name(keyword).ok()?.to_str().ok()?;
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}
