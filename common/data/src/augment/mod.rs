//! Varied images, so that a network sees each image differently in every epoch.
//!
//! How an image is varied follows from the seed, the epoch and the image's number alone, so results do not depend on the order or on
//! the number of threads.

mod geometry;

use crate::Dataset;
pub use galen_core::recipe::{AugmentError, Augmentation};
use galen_models::Shape;
use galen_models::random::Stream;
use geometry::{Displacement, Map};
use rayon::prelude::*;

/// Varying images by the numbers of an [`Augmentation`].
pub trait Vary {
    /// Images of a data set as they look in an epoch, one after the other in the order of `indices`.
    fn batch(
        &self,
        data: &Dataset,
        indices: &[usize],
        seed: u64,
        epoch: u64,
    ) -> Result<Vec<f32>, AugmentError>;

    /// One image of `shape` (channels, height, width), varied by draws from `stream`, into `out` of the same length. The numbers must
    /// be in range ([`Augmentation::check`]).
    fn vary(&self, shape: [usize; 3], image: &[f32], out: &mut [f32], stream: &mut Stream);
}

impl Vary for Augmentation {
    fn batch(
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

    fn vary(&self, shape: [usize; 3], image: &[f32], out: &mut [f32], stream: &mut Stream) {
        let [_, height, width] = shape;
        let map = map(self, height, width, stream);
        let displacement = (self.elastic > 0.0)
            .then(|| Displacement::elastic([height, width], self.elastic, self.elastic_spacing, stream));
        let map = map.or_else(|| displacement.is_some().then(Map::identity));
        let planes = || image.chunks_exact(height * width);
        for (from, to) in planes().zip(out.chunks_exact_mut(height * width)) {
            match &map {
                Some(map) => map.apply([height, width], displacement.as_ref(), from, to, self.fill),
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
            erase(self, height, width, out, stream);
        }
    }
}

/// The affine map of an image; `None` if there is nothing geometric to do.
fn map(settings: &Augmentation, height: usize, width: usize, stream: &mut Stream) -> Option<Map> {
    let affine =
        settings.rotate > 0.0 || settings.shift > 0.0 || settings.scale > 0.0 || settings.shear > 0.0;
    if !affine && settings.flip == 0.0 && settings.crop == 0 {
        return None;
    }
    let mut map = Map::identity();
    if settings.flip > 0.0 && stream.unit() < settings.flip {
        map = map.flip();
    }
    if settings.crop > 0 {
        let margin = f64::from(settings.crop);
        let mut offset = || stream.below(2 * settings.crop as usize + 1) as f64 - margin;
        map = map.shift(offset(), offset());
    }
    if affine {
        let angle = (settings.rotate * stream.symmetric()).to_radians();
        let shear = (settings.shear * stream.symmetric()).to_radians();
        let factor = 1.0 + settings.scale * stream.symmetric();
        let vertical = settings.shift * stream.symmetric() * height as f64;
        let horizontal = settings.shift * stream.symmetric() * width as f64;
        map = map
            .scale(factor)
            .shear(shear)
            .rotate(angle)
            .shift(vertical, horizontal);
    }
    Some(map)
}

/// Erases a rectangle of a random area and an aspect ratio of 0.3 to 1/0.3; gives up after ten that do not fit.
fn erase(settings: &Augmentation, height: usize, width: usize, out: &mut [f32], stream: &mut Stream) {
    const ASPECT: f64 = 0.3;
    let [smallest, largest] = settings.erase_area;
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
                    row[left..left + w].fill(settings.fill);
                }
            }
            return;
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
