//! Images of handwritten digits, or what resembles them.

use super::network::PIXELS;
use galen_rns::xof::Xof;
use std::error::Error;

/// Images of 28x28 pixels from 0 to 1, one after the other.
pub(crate) fn read_idx(path: &str, count: usize) -> Result<Vec<f64>, Box<dyn Error>> {
    let bytes = std::fs::read(path)?;
    let field = |at: usize| -> Option<usize> {
        let field: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_be_bytes(field) as usize)
    };
    if [field(0), field(8), field(12)] != [Some(0x803), Some(28), Some(28)] {
        return Err(format!("{path} is not an uncompressed IDX file of images of 28 x 28 bytes").into());
    }
    let pixels = bytes
        .get(16..16 + count * PIXELS)
        .ok_or_else(|| format!("{path} has fewer than {count} images"))?;
    Ok(pixels.iter().map(|&x| f64::from(x) / 255.0).collect())
}

/// Images of a few strokes each.
pub(crate) fn strokes(count: usize) -> Vec<f64> {
    let mut xof = Xof::new(&[0; 32], &[b"cryptonets images"]);
    let mut unit = || (xof.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let mut images = vec![0.0f64; count * PIXELS];
    for image in images.chunks_exact_mut(PIXELS) {
        for _ in 0..3 {
            let [x0, y0, x1, y1] = [(); 4].map(|()| 5.0 + 17.0 * unit());
            let (dx, dy) = (x1 - x0, y1 - y0);
            let squared = (dx * dx + dy * dy).max(1e-9);
            for (index, pixel) in image.iter_mut().enumerate() {
                let (x, y) = ((index % 28) as f64 - x0, (index / 28) as f64 - y0);
                let along = ((x * dx + y * dy) / squared).clamp(0.0, 1.0);
                let (off_x, off_y) = (x - along * dx, y - along * dy);
                // A pen of about two pixels with soft edges, in steps of 1/255.
                let ink = (2.0 - (off_x * off_x + off_y * off_y).sqrt()).clamp(0.0, 1.0);
                *pixel = pixel.max((ink * 255.0).round() / 255.0);
            }
        }
    }
    images
}
