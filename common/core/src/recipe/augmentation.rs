//! How training images are varied.

use serde::{Deserialize, Serialize};

/// How far images may be varied. Everything is off by default; each number is the largest deviation, drawn uniformly.
///
/// The geometric ones (flip, crop, rotation, shear, scale, shift, elastic) are composed to one map, so an image is interpolated once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// Rotation about the centre, in degrees to either side; 0 to 180.
    pub rotate: f64,
    /// Shift in either direction, as a fraction of height and width; 0 to 1.
    pub shift: f64,
    /// Relative change of size: a factor from `1 - scale` to `1 + scale`; 0 to 0.9.
    pub scale: f64,
    /// Horizontal shear, in degrees to either side; 0 to 60.
    pub shear: f64,
    /// Elastic distortion: how far each control point of a smooth displacement (a uniform cubic B-spline in both directions) may move,
    /// in pixels to either side; 0 to 1024. Simard, Steinkraus and Platt, "Best practices for convolutional neural networks", ICDAR
    /// 2003, is the case for it; the splines are those of Rueckert et al., IEEE Trans. Med. Imaging 18 (1999), equation 1.
    pub elastic: f64,
    /// Pixels between those control points; 1 to 1024.
    pub elastic_spacing: f64,
    /// Probability of a horizontal flip; 0 to 1.
    pub flip: f64,
    /// Margin that is added around the image before a window of the image's size is cut out somewhere, in pixels.
    pub crop: u32,
    /// What is added to all values of an image, to either side, in units of the values; at least 0.
    pub brightness: f64,
    /// Relative change of the deviation from the image's mean: a factor from `1 - contrast` to `1 + contrast`; 0 to 1.
    pub contrast: f64,
    /// Probability that a rectangle is erased (Zhong et al., "Random erasing data augmentation", AAAI 2020, algorithm 1); 0 to 1.
    pub erase: f64,
    /// Smallest and largest area of the erased rectangle, as fractions of the image.
    pub erase_area: [f64; 2],
    /// Value of what comes into view from outside the image, and of what is erased. For standardised images the value of black, say.
    pub fill: f32,
}

impl Default for Augmentation {
    fn default() -> Self {
        Self {
            rotate: 0.0,
            shift: 0.0,
            scale: 0.0,
            shear: 0.0,
            elastic: 0.0,
            elastic_spacing: 8.0,
            flip: 0.0,
            crop: 0,
            brightness: 0.0,
            contrast: 0.0,
            erase: 0.0,
            erase_area: [0.02, 0.33],
            fill: 0.0,
        }
    }
}

/// What cannot be done.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AugmentError {
    /// A number outside its range.
    #[error("augmentation: {field} is outside {min} to {max}")]
    Range {
        /// The field.
        field: &'static str,
        /// Smallest allowed.
        min: f64,
        /// Largest allowed.
        max: f64,
    },
    /// Vectors of features have no geometry.
    #[error("augmentation: the samples are vectors of features, images are needed")]
    NoImage,
    /// A sample that the data set does not have.
    #[error("augmentation: sample {index} of a data set of {samples}")]
    Index {
        /// The sample.
        index: usize,
        /// Samples of the data set.
        samples: usize,
    },
}

impl Augmentation {
    /// Checks the ranges.
    pub fn check(&self) -> Result<(), AugmentError> {
        let [smallest, largest] = self.erase_area;
        let ranges = [
            ("rotate", self.rotate, 0.0, 180.0),
            ("shift", self.shift, 0.0, 1.0),
            ("scale", self.scale, 0.0, 0.9),
            ("shear", self.shear, 0.0, 60.0),
            ("elastic", self.elastic, 0.0, 1024.0),
            ("elastic_spacing", self.elastic_spacing, 1.0, 1024.0),
            ("flip", self.flip, 0.0, 1.0),
            ("crop", f64::from(self.crop), 0.0, 1024.0),
            ("brightness", self.brightness, 0.0, 1e6),
            ("contrast", self.contrast, 0.0, 1.0),
            ("erase", self.erase, 0.0, 1.0),
            ("erase_area[0]", smallest, 0.001, 1.0),
            ("erase_area[1]", largest, smallest, 1.0),
            ("fill", f64::from(self.fill), -1e6, 1e6),
        ];
        for (field, value, min, max) in ranges {
            // A NaN is in no range.
            if !(min..=max).contains(&value) {
                return Err(AugmentError::Range { field, min, max });
            }
        }
        Ok(())
    }
}
