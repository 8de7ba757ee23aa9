//! Varied images, so that a network sees each image differently in every epoch.
//!
//! How an image is varied follows from the seed, the epoch and the image's number alone, so results do not depend on the order or on
//! the number of threads.

mod geometry;

use crate::Dataset;
use galen_models::Shape;
use galen_models::random::Stream;
use geometry::Map;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How far images may be varied. Everything is off by default; each number is the largest deviation, drawn uniformly.
///
/// The geometric ones (flip, crop, rotation, shear, scale, shift) are composed to one affine map, so an image is interpolated once.
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

    /// Images of a data set as they look in an epoch, one after the other in the order of `indices`.
    pub fn batch(
        &self,
        data: &Dataset,
        indices: &[usize],
        seed: u64,
        epoch: u64,
    ) -> Result<Vec<f32>, AugmentError> {
        self.check()?;
        let Shape::Image(shape) = data.schema().input else {
            return Err(AugmentError::NoImage);
        };
        if let Some(&index) = indices.iter().find(|&&i| i >= data.len()) {
            let samples = data.len();
            return Err(AugmentError::Index { index, samples });
        }
        let each = data.schema().input.len();
        let mut values = vec![0.0; indices.len() * each];
        values
            .par_chunks_mut(each)
            .zip(indices)
            .for_each(|(out, &i)| self.vary(shape, data.sample(i), out, &mut stream(seed, epoch, i)));
        Ok(values)
    }

    /// One image of `shape` (channels, height, width), varied by draws from `stream`, into `out` of the same length. The numbers must
    /// be in range ([`Augmentation::check`]).
    pub fn vary(&self, shape: [usize; 3], image: &[f32], out: &mut [f32], stream: &mut Stream) {
        let [_, height, width] = shape;
        let map = self.map(height, width, stream);
        let planes = || image.chunks_exact(height * width);
        for (from, to) in planes().zip(out.chunks_exact_mut(height * width)) {
            match &map {
                Some(map) => map.apply([height, width], from, to, self.fill),
                None => to.copy_from_slice(from),
            }
        }
        if self.brightness > 0.0 || self.contrast > 0.0 {
            let factor = (1.0 + self.contrast * stream.symmetric()) as f32;
            let offset = (self.brightness * stream.symmetric()) as f32;
            let mean = (out.iter().map(|&v| f64::from(v)).sum::<f64>() / out.len() as f64) as f32;
            out.iter_mut()
                .for_each(|v| *v = mean + factor * (*v - mean) + offset);
        }
        if self.erase > 0.0 && stream.unit() < self.erase {
            self.erase(height, width, out, stream);
        }
    }

    /// The affine map of an image; `None` if there is nothing geometric to do.
    fn map(&self, height: usize, width: usize, stream: &mut Stream) -> Option<Map> {
        let affine = self.rotate > 0.0 || self.shift > 0.0 || self.scale > 0.0 || self.shear > 0.0;
        if !affine && self.flip == 0.0 && self.crop == 0 {
            return None;
        }
        let mut map = Map::identity();
        if self.flip > 0.0 && stream.unit() < self.flip {
            map = map.flip();
        }
        if self.crop > 0 {
            let margin = f64::from(self.crop);
            let mut offset = || stream.below(2 * self.crop as usize + 1) as f64 - margin;
            map = map.shift(offset(), offset());
        }
        if affine {
            let angle = (self.rotate * stream.symmetric()).to_radians();
            let shear = (self.shear * stream.symmetric()).to_radians();
            let factor = 1.0 + self.scale * stream.symmetric();
            let vertical = self.shift * stream.symmetric() * height as f64;
            let horizontal = self.shift * stream.symmetric() * width as f64;
            map = map
                .scale(factor)
                .shear(shear)
                .rotate(angle)
                .shift(vertical, horizontal);
        }
        Some(map)
    }

    /// Erases a rectangle of a random area and an aspect ratio of 0.3 to 1/0.3; gives up after ten that do not fit.
    fn erase(&self, height: usize, width: usize, out: &mut [f32], stream: &mut Stream) {
        const ASPECT: f64 = 0.3;
        let [smallest, largest] = self.erase_area;
        for _ in 0..10 {
            let area = (smallest + (largest - smallest) * stream.unit()) * (height * width) as f64;
            let aspect = ASPECT + (1.0 / ASPECT - ASPECT) * stream.unit();
            let (h, w) = (
                (area * aspect).sqrt().round() as usize,
                (area / aspect).sqrt().round() as usize,
            );
            if (1..=height).contains(&h) && (1..=width).contains(&w) {
                let (top, left) = (stream.below(height - h + 1), stream.below(width - w + 1));
                for plane in out.chunks_exact_mut(height * width) {
                    for row in plane.chunks_exact_mut(width).skip(top).take(h) {
                        row[left..left + w].fill(self.fill);
                    }
                }
                return;
            }
        }
    }
}

/// The random numbers of one image in one epoch.
fn stream(seed: u64, epoch: u64, index: usize) -> Stream {
    let fields: [&[u8]; 2] = [&epoch.to_be_bytes(), &(index as u64).to_be_bytes()];
    Stream::new("galen augmentation v1", seed, &fields)
}

#[cfg(test)]
mod tests;
