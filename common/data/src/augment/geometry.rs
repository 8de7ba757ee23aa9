//! Affine maps of images.

/// From places of the result to places of the original, both measured from the centre: `original = linear * result + offset`, with
/// vertical before horizontal coordinates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Map {
    linear: [[f64; 2]; 2],
    offset: [f64; 2],
}

impl Map {
    /// Nothing moves.
    pub(super) fn identity() -> Self {
        Self {
            linear: [[1.0, 0.0], [0.0, 1.0]],
            offset: [0.0; 2],
        }
    }

    /// This map after a step, given by where the step takes a place of the result from.
    fn then(self, back: [[f64; 2]; 2], shift: [f64; 2]) -> Self {
        let dot = |row: [f64; 2], column: [f64; 2]| row[0] * column[0] + row[1] * column[1];
        let column = |j: usize| [back[0][j], back[1][j]];
        Self {
            linear: self.linear.map(|row| [dot(row, column(0)), dot(row, column(1))]),
            offset: [0, 1].map(|i| self.offset[i] + dot(self.linear[i], shift)),
        }
    }

    /// Then left becomes right.
    pub(super) fn flip(self) -> Self {
        self.then([[1.0, 0.0], [0.0, -1.0]], [0.0; 2])
    }

    /// Then the image moves down and right, by pixels.
    pub(super) fn shift(self, down: f64, right: f64) -> Self {
        self.then([[1.0, 0.0], [0.0, 1.0]], [-down, -right])
    }

    /// Then it grows by a positive factor.
    pub(super) fn scale(self, factor: f64) -> Self {
        self.then([[1.0 / factor, 0.0], [0.0, 1.0 / factor]], [0.0; 2])
    }

    /// Then it turns by an angle in radians, counter-clockwise as seen.
    pub(super) fn rotate(self, angle: f64) -> Self {
        let (sin, cos) = angle.sin_cos();
        self.then([[cos, sin], [-sin, cos]], [0.0; 2])
    }

    /// Then rows are displaced in proportion to their height, by an angle in radians.
    pub(super) fn shear(self, angle: f64) -> Self {
        self.then([[1.0, 0.0], [-angle.tan(), 1.0]], [0.0; 2])
    }

    /// Applies the map to one plane of the given height and width, with bilinear interpolation; outside is `fill`.
    pub(super) fn apply(&self, size: [usize; 2], from: &[f32], to: &mut [f32], fill: f32) {
        let [height, width] = size;
        let centre = [(height as f64 - 1.0) / 2.0, (width as f64 - 1.0) / 2.0];
        let [[yy, yx], [xy, xx]] = self.linear;
        let (step_y, step_x) = (yx as f32, xx as f32);
        for (row, line) in to.chunks_exact_mut(width).enumerate() {
            let (v, u) = (row as f64 - centre[0], -centre[1]);
            let y = (yy * v + yx * u + self.offset[0] + centre[0]) as f32;
            let x = (xy * v + xx * u + self.offset[1] + centre[1]) as f32;
            for (column, pixel) in line.iter_mut().enumerate() {
                let at = column as f32;
                *pixel = sample(size, from, y + step_y * at, x + step_x * at, fill);
            }
        }
    }
}

/// The value at a place between pixels.
#[inline]
fn sample([height, width]: [usize; 2], plane: &[f32], y: f32, x: f32, fill: f32) -> f32 {
    let (top, left) = (y.floor(), x.floor());
    let (dy, dx) = (y - top, x - left);
    let (row, column) = (top as isize, left as isize);
    let (h, w) = (height as isize, width as isize);
    let [a, b, c, d] = if row >= 0 && column >= 0 && row + 1 < h && column + 1 < w {
        let at = row as usize * width + column as usize;
        [plane[at], plane[at + 1], plane[at + width], plane[at + width + 1]]
    } else if row < -1 || column < -1 || row >= h || column >= w {
        return fill;
    } else {
        let pixel = |r: isize, c: isize| {
            if (0..h).contains(&r) && (0..w).contains(&c) {
                plane[r as usize * width + c as usize]
            } else {
                fill
            }
        };
        [
            pixel(row, column),
            pixel(row, column + 1),
            pixel(row + 1, column),
            pixel(row + 1, column + 1),
        ]
    };
    let upper = a + dx * (b - a);
    let lower = c + dx * (d - c);
    upper + dy * (lower - upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: [usize; 2] = [3, 3];
    const IMAGE: [f32; 9] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];

    fn apply(map: Map) -> [f32; 9] {
        let mut out = [0.0; 9];
        map.apply(SIZE, &IMAGE, &mut out, 0.0);
        out
    }

    fn near(found: [f32; 9], expected: [f32; 9]) {
        assert!(
            found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-4),
            "{found:?} is not {expected:?}"
        );
    }

    #[test]
    fn whole_steps_move_pixels_exactly() {
        assert_eq!(apply(Map::identity()), IMAGE);
        assert_eq!(
            apply(Map::identity().flip()),
            [3.0, 2.0, 1.0, 6.0, 5.0, 4.0, 9.0, 8.0, 7.0]
        );
        assert_eq!(
            apply(Map::identity().shift(1.0, -1.0)),
            [0.0, 0.0, 0.0, 2.0, 3.0, 0.0, 5.0, 6.0, 0.0]
        );
    }

    #[test]
    fn a_quarter_turn_is_counter_clockwise() {
        let quarter = std::f64::consts::FRAC_PI_2;
        near(
            apply(Map::identity().rotate(quarter)),
            [3.0, 6.0, 9.0, 2.0, 5.0, 8.0, 1.0, 4.0, 7.0],
        );
    }

    #[test]
    fn between_pixels_values_are_interpolated() {
        near(
            apply(Map::identity().shift(0.0, 0.5)),
            [0.5, 1.5, 2.5, 2.0, 4.5, 5.5, 3.5, 7.5, 8.5],
        );
        // Twice the size: the corners are half-way between the centre and the old corners.
        let [a, b, ..] = apply(Map::identity().scale(2.0));
        assert!((a - 3.0).abs() < 1e-5 && (b - 3.5).abs() < 1e-5);
    }

    #[test]
    fn a_shear_moves_rows_in_proportion() {
        let one = std::f64::consts::FRAC_PI_4;
        near(
            apply(Map::identity().shear(one)),
            [2.0, 3.0, 0.0, 4.0, 5.0, 6.0, 0.0, 7.0, 8.0],
        );
    }

    #[test]
    fn steps_apply_in_their_order() {
        let quarter = std::f64::consts::FRAC_PI_2;
        // First a pixel to the right, then the turn: what came from the left edge is at the bottom.
        near(
            apply(Map::identity().shift(0.0, 1.0).rotate(quarter)),
            [2.0, 5.0, 8.0, 1.0, 4.0, 7.0, 0.0, 0.0, 0.0],
        );
    }
}
