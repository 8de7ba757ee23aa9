//! Affine maps of images, and smooth displacements.

use galen_models::random::Stream;

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

    /// Applies the map to one plane of the given height and width, with bilinear interpolation; outside is `fill`. A displacement
    /// moves the places of the result before the map does.
    pub(super) fn apply(
        &self,
        size: [usize; 2],
        displacement: Option<&Displacement>,
        from: &[f32],
        to: &mut [f32],
        fill: f32,
    ) {
        let [height, width] = size;
        let centre = [(height as f64 - 1.0) / 2.0, (width as f64 - 1.0) / 2.0];
        let [[yy, yx], [xy, xx]] = self.linear;
        let (step_y, step_x) = (yx as f32, xx as f32);
        let (climb_y, climb_x) = (yy as f32, xy as f32);
        for (row, line) in to.chunks_exact_mut(width).enumerate() {
            let (v, u) = (row as f64 - centre[0], -centre[1]);
            let y = (yy * v + yx * u + self.offset[0] + centre[0]) as f32;
            let x = (xy * v + xx * u + self.offset[1] + centre[1]) as f32;
            let moved = displacement.map_or(&[][..], |d| &d.0[row * width..(row + 1) * width]);
            for (column, pixel) in line.iter_mut().enumerate() {
                let [down, right] = moved.get(column).copied().unwrap_or_default();
                let at = column as f32 + right;
                let (y, x) = (y + climb_y * down, x + climb_x * down);
                *pixel = sample(size, from, y + step_y * at, x + step_x * at, fill);
            }
        }
    }
}

/// How far each place of a result is moved (down, right) before its value is fetched, in pixels.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Displacement(Vec<[f32; 2]>);

impl Displacement {
    /// The uniform cubic B-spline of control points `spacing` pixels apart, each moved by up to `reach` pixels in both directions.
    pub(super) fn elastic(
        [height, width]: [usize; 2],
        reach: f64,
        spacing: f64,
        stream: &mut Stream,
    ) -> Self {
        let (rows, columns) = (splines(height, spacing), splines(width, spacing));
        // The last window begins at the last pixel's, and has four points.
        let points = |places: &[(usize, [f32; 4])]| places.last().map_or(0, |(first, _)| first + 4);
        let (down, across) = (points(&rows), points(&columns));
        let mut draw = || (reach * stream.symmetric()) as f32;
        let control: Vec<[f32; 2]> = (0..down * across).map(|_| [draw(), draw()]).collect();
        let mix = |weights: &[f32; 4], at: &dyn Fn(usize) -> [f32; 2]| {
            weights.iter().enumerate().fold([0.0; 2], |sum, (k, weight)| {
                let [y, x] = at(k);
                [sum[0] + weight * y, sum[1] + weight * x]
            })
        };
        let mut moves = Vec::with_capacity(height * width);
        for (top, weights) in &rows {
            let line: Vec<[f32; 2]> = (0..across)
                .map(|column| mix(weights, &|k| control[(top + k) * across + column]))
                .collect();
            moves.extend(
                columns
                    .iter()
                    .map(|(left, weights)| mix(weights, &|k| line[left + k])),
            );
        }
        Self(moves)
    }
}

/// For each pixel of an axis, the first of its four control points and the weights of the four.
fn splines(extent: usize, spacing: f64) -> Vec<(usize, [f32; 4])> {
    (0..extent)
        .map(|pixel| {
            let place = pixel as f64 / spacing;
            let (first, t) = (place.floor(), place.fract());
            let (back, square) = (1.0 - t, t * t);
            let weights = [
                back * back * back,
                3.0 * square * t - 6.0 * square + 4.0,
                -3.0 * square * t + 3.0 * square + 3.0 * t + 1.0,
                square * t,
            ];
            (first as usize, weights.map(|w| (w / 6.0) as f32))
        })
        .collect()
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
        map.apply(SIZE, None, &IMAGE, &mut out, 0.0);
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

    #[test]
    fn splines_sum_to_one_and_join_smoothly() {
        let spacing = 2.5;
        for (_, weights) in splines(40, spacing) {
            assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            assert!(weights.iter().all(|&w| w >= 0.0));
        }
        // Points on a line give that line: each pixel moves by its own place, one control point later.
        let line = splines(40, spacing);
        for (pixel, (first, weights)) in line.iter().enumerate() {
            let place: f32 = (0..4).map(|k| weights[k] * (first + k) as f32).sum();
            assert!((place - 1.0 - pixel as f32 / spacing as f32).abs() < 1e-5);
        }
    }

    #[test]
    fn a_displacement_is_applied_to_places_of_the_result() {
        // Everything is fetched from one pixel below: in the turned image, the left.
        let displacement = Displacement(vec![[1.0, 0.0]; 9]);
        let mut out = [0.0; 9];
        Map::identity().apply(SIZE, Some(&displacement), &IMAGE, &mut out, 0.0);
        assert_eq!(out, [4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 0.0, 0.0, 0.0]);
        let quarter = Map::identity().rotate(std::f64::consts::FRAC_PI_2);
        quarter.apply(SIZE, Some(&displacement), &IMAGE, &mut out, 0.0);
        near(out, [2.0, 5.0, 8.0, 1.0, 4.0, 7.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn an_elastic_displacement_is_bounded_smooth_and_not_rigid() {
        let mut stream = Stream::new("elastic", 0, &[]);
        let Displacement(moves) = Displacement::elastic([30, 20], 3.0, 6.0, &mut stream);
        assert_eq!(moves.len(), 600);
        assert!(moves.iter().flatten().all(|m| m.abs() <= 3.0));
        let (mut step, mut most, mut least) = (0f32, f32::MIN, f32::MAX);
        for row in moves.chunks_exact(20) {
            for pair in row.windows(2) {
                step = step.max((pair[1][0] - pair[0][0]).abs());
            }
            most = row.iter().fold(most, |m, v| m.max(v[0]));
            least = row.iter().fold(least, |m, v| m.min(v[0]));
        }
        // The slope of such a spline is at most the largest difference of neighbouring points (twice the reach) over the spacing.
        assert!(step <= 1.0, "{step}");
        assert!(most - least > 1.0, "{least} {most}");
    }
}
