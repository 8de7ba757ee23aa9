//! Matrices with few elements, as the linear layers of networks are.

use galen_ckks::CkksError;
use galen_ckks::linear::LinearMap;

/// The elements of a row: columns, ascending, with their weights.
type Row = Vec<(usize, f64)>;

/// A matrix that lists the elements of each row, columns ascending.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sparse {
    inputs: usize,
    rows: Vec<Row>,
}

/// Rows that read the same columns are a dense matrix if there are at least this many; fewer are joined with others.
const MIN_BLOCK: usize = 8;

/// A window that slides over an image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Channels, height and width of what it slides over.
    pub(crate) image: [usize; 3],
    /// Height and width of the window.
    pub(crate) kernel: [usize; 2],
    /// Steps.
    pub(crate) stride: [usize; 2],
    /// Margins of zeros.
    pub(crate) padding: [usize; 2],
}

impl Window {
    /// Height and width of the result.
    fn places(&self) -> [usize; 2] {
        let [_, height, width] = self.image;
        let along = |i: usize, size: usize| {
            (size + 2 * self.padding[i]).saturating_sub(self.kernel[i]) / self.stride[i].max(1) + 1
        };
        [along(0, height), along(1, width)]
    }

    /// Calls `f` with the position in the kernel and the position in a channel of everything under the window at a place.
    fn under(&self, place: [usize; 2], mut f: impl FnMut(usize, usize)) {
        let [_, height, width] = self.image;
        for ky in 0..self.kernel[0] {
            for kx in 0..self.kernel[1] {
                // Positions in the margin wrap round to more than the size.
                let y = (place[0] * self.stride[0] + ky).wrapping_sub(self.padding[0]);
                let x = (place[1] * self.stride[1] + kx).wrapping_sub(self.padding[1]);
                if y < height && x < width {
                    f(ky * self.kernel[1] + kx, y * width + x);
                }
            }
        }
    }
}

impl Sparse {
    /// A diagonal matrix.
    pub(crate) fn diagonal(elements: impl IntoIterator<Item = f64>) -> Self {
        let rows: Vec<Row> = elements
            .into_iter()
            .enumerate()
            .map(|(i, w)| if w == 0.0 { vec![] } else { vec![(i, w)] })
            .collect();
        Self {
            inputs: rows.len(),
            rows,
        }
    }

    /// The identity.
    pub(crate) fn identity(size: usize) -> Self {
        Self::diagonal(std::iter::repeat_n(1.0, size))
    }

    /// A matrix of one row: columns, ascending, with their elements.
    pub(crate) fn row(inputs: usize, row: Row) -> Self {
        Self {
            inputs,
            rows: vec![row],
        }
    }

    /// A dense matrix, row by row. `inputs` is positive.
    pub(crate) fn dense(inputs: usize, weights: &[f64]) -> Self {
        let row = |weights: &[f64]| weights.iter().copied().enumerate().collect();
        Self {
            inputs,
            rows: weights.chunks_exact(inputs).map(row).collect(),
        }
    }

    /// A convolution. `weights` holds, for each map, each channel of its group and each row of the kernel, the weights of that row.
    pub(crate) fn convolution(window: &Window, maps: usize, groups: usize, weights: &[f64]) -> Self {
        let [channels, height, width] = window.image;
        let [down, along] = window.places();
        let area = window.kernel[0] * window.kernel[1];
        let (seen, per_group) = (channels / groups, maps / groups);
        let mut rows = Vec::with_capacity(maps * down * along);
        for map in 0..maps {
            let first = map / per_group * seen;
            for place in (0..down).flat_map(|y| (0..along).map(move |x| [y, x])) {
                let mut row = Vec::with_capacity(seen * area);
                for channel in 0..seen {
                    let kernel = (map * seen + channel) * area;
                    window.under(place, |k, at| {
                        row.push(((first + channel) * height * width + at, weights[kernel + k]));
                    });
                }
                rows.push(row);
            }
        }
        Self {
            inputs: channels * height * width,
            rows,
        }
    }

    /// The sum of each window in each channel.
    pub(crate) fn sum_pool(window: &Window) -> Self {
        let [channels, height, width] = window.image;
        let [down, along] = window.places();
        let mut rows = Vec::with_capacity(channels * down * along);
        for channel in 0..channels {
            for place in (0..down).flat_map(|y| (0..along).map(move |x| [y, x])) {
                let mut row = Vec::new();
                window.under(place, |_, at| row.push((channel * height * width + at, 1.0)));
                rows.push(row);
            }
        }
        Self {
            inputs: channels * height * width,
            rows,
        }
    }

    /// Number of columns.
    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// The rows: columns, ascending, with their elements.
    pub(crate) fn rows(&self) -> &[Vec<(usize, f64)>] {
        &self.rows
    }

    /// Number of elements.
    pub(crate) fn terms(&self) -> usize {
        self.rows.iter().map(Vec::len).sum()
    }

    /// Whether each row has at most its diagonal element.
    pub(crate) fn is_diagonal(&self) -> bool {
        let on = |(i, row): (usize, &Row)| row.iter().all(|&(j, _)| i == j);
        self.inputs == self.rows.len() && self.rows.iter().enumerate().all(on)
    }

    /// Whether all elements are 1 or -1, so that no precision is needed to multiply by them.
    pub(crate) fn is_unit(&self) -> bool {
        self.rows.iter().flatten().all(|&(_, w)| w.abs() == 1.0)
    }

    /// Whether all elements are 1, and there is one in each row.
    pub(crate) fn is_ones(&self) -> bool {
        self.rows.iter().all(|row| row.len() == 1 && row[0].1 == 1.0)
    }

    /// Matrices with the same number of rows, side by side.
    pub(crate) fn beside(matrices: &[&Self], rows: usize) -> Self {
        let mut joined = Self {
            inputs: 0,
            rows: vec![Vec::new(); rows],
        };
        for matrix in matrices {
            for (row, more) in joined.rows.iter_mut().zip(&matrix.rows) {
                row.extend(more.iter().map(|&(j, w)| (joined.inputs + j, w)));
            }
            joined.inputs += matrix.inputs;
        }
        joined
    }

    /// Some of the rows.
    pub(crate) fn of_rows(&self, rows: &[usize]) -> Self {
        Self {
            inputs: self.inputs,
            rows: rows.iter().map(|&i| self.rows[i].clone()).collect(),
        }
    }

    /// All rows in blocks of up to `size`, such that rows of a block read the same columns where possible: the channels of a
    /// convolution at one place, which are then a dense matrix over what lies under the window. Blocks and what is in them follow the
    /// order in which rows are `wanted`, which names every row once.
    pub(crate) fn blocks(&self, size: usize, wanted: &[usize]) -> Vec<Vec<usize>> {
        let columns = |i: usize| self.rows[i].iter().map(|&(j, _)| j);
        let mut order = wanted.to_vec();
        // Stable: rows that read the same stay in their order.
        order.sort_by(|&a, &b| columns(a).cmp(columns(b)));
        let mut turn = vec![0; self.rows.len()];
        wanted.iter().enumerate().for_each(|(at, &row)| turn[row] = at);
        let mut groups: Vec<&[usize]> = order.chunk_by(|&a, &b| columns(a).eq(columns(b))).collect();
        groups.sort_by_key(|group| group.first().map(|&row| turn[row]));
        let mut blocks: Vec<Vec<usize>> = Vec::new();
        for alike in groups {
            for part in alike.chunks(size) {
                match blocks.last_mut() {
                    // Few rows are not worth a block of their own.
                    Some(last) if last.len() + part.len() <= size && part.len() < MIN_BLOCK => {
                        last.extend(part)
                    }
                    _ => blocks.push(part.to_vec()),
                }
            }
        }
        blocks
    }

    /// The columns that have elements, ascending (the first one if none has), and the matrix with only those.
    pub(crate) fn packed(&self) -> (Vec<usize>, Self) {
        let mut place = vec![usize::MAX; self.inputs];
        self.rows.iter().flatten().for_each(|&(j, _)| place[j] = 0);
        let mut columns: Vec<usize> = (0..self.inputs).filter(|&j| place[j] == 0).collect();
        if columns.is_empty() {
            columns.push(0);
        }
        columns.iter().enumerate().for_each(|(i, &j)| place[j] = i);
        let row = |row: &Row| row.iter().map(|&(j, w)| (place[j], w)).collect();
        let packed = Self {
            inputs: columns.len(),
            rows: self.rows.iter().map(row).collect(),
        };
        (columns, packed)
    }

    /// The diagonal elements of a diagonal matrix; zero where there is none.
    pub(crate) fn elements(&self) -> Vec<f64> {
        self.rows
            .iter()
            .map(|row| row.first().map_or(0.0, |&(_, w)| w))
            .collect()
    }

    /// This matrix times `before`.
    pub(crate) fn after(&self, before: &Self) -> Self {
        if before.is_diagonal() {
            let scales = before.elements();
            let row = |row: &Row| {
                let scaled = row.iter().map(|&(j, w)| (j, w * scales[j]));
                scaled.filter(|&(_, w)| w != 0.0).collect()
            };
            return Self {
                inputs: before.inputs,
                rows: self.rows.iter().map(row).collect(),
            };
        }
        let mut sums = vec![0.0; before.inputs];
        let mut seen = vec![false; before.inputs];
        let mut rows = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            let mut columns = Vec::new();
            for &(j, w) in row {
                for &(k, v) in &before.rows[j] {
                    if !seen[k] {
                        seen[k] = true;
                        columns.push(k);
                    }
                    sums[k] += w * v;
                }
            }
            columns.sort_unstable();
            let taken = columns.iter().map(|&k| {
                seen[k] = false;
                (k, std::mem::take(&mut sums[k]))
            });
            rows.push(taken.collect());
        }
        Self {
            inputs: before.inputs,
            rows,
        }
    }

    /// The number of elements of this matrix times `before`, without computing it.
    pub(crate) fn terms_after(&self, before: &Self) -> usize {
        let mut last = vec![usize::MAX; before.inputs];
        let mut count = 0;
        for (i, row) in self.rows.iter().enumerate() {
            for &(k, _) in row.iter().flat_map(|&(j, _)| &before.rows[j]) {
                if last[k] != i {
                    last[k] = i;
                    count += 1;
                }
            }
        }
        count
    }

    /// With each row times its factor.
    pub(crate) fn scaled(mut self, factors: &[f64]) -> Self {
        for (row, factor) in self.rows.iter_mut().zip(factors) {
            row.iter_mut().for_each(|(_, w)| *w *= factor);
        }
        self
    }

    /// The sum of two matrices of the same shape.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        let row = |(a, b): (&Row, &Row)| {
            let mut sum: Vec<(usize, f64)> = Vec::with_capacity(a.len() + b.len());
            let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
            loop {
                let next = match (a.peek(), b.peek()) {
                    (Some(&&(i, v)), Some(&&(j, w))) if i == j => {
                        b.next();
                        a.next();
                        (i, v + w)
                    }
                    (Some(&&(i, _)), Some(&&(j, _))) if i > j => *b.next().unwrap_or(&(j, 0.0)),
                    (Some(&&x), _) => {
                        a.next();
                        x
                    }
                    (None, Some(&&x)) => {
                        b.next();
                        x
                    }
                    (None, None) => return sum,
                };
                sum.push(next);
            }
        };
        Self {
            inputs: self.inputs,
            rows: self.rows.iter().zip(&other.rows).map(row).collect(),
        }
    }

    /// The matrix times a vector.
    pub(crate) fn times(&self, x: &[f64]) -> Vec<f64> {
        let dot = |row: &Row| row.iter().map(|&(j, w)| w * x[j]).sum();
        self.rows.iter().map(dot).collect()
    }

    /// As a layer for ciphertexts.
    pub(crate) fn to_map(&self) -> Result<LinearMap, CkksError> {
        let full = |row: &Row| row.len() == self.inputs;
        if self.rows.iter().all(full) {
            let weights = self.rows.iter().flatten().map(|&(_, w)| w).collect();
            return LinearMap::dense(self.inputs, weights);
        }
        LinearMap::sparse(self.inputs, &self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_every_row_once_and_channels_of_a_place_together() {
        let window = Window {
            image: [2, 6, 5],
            kernel: [3, 3],
            stride: [1, 2],
            padding: [1, 0],
        };
        let map = Sparse::convolution(&window, 9, 1, &vec![1.0; 9 * 2 * 9]);
        assert_eq!(map.rows().len(), 9 * 6 * 2);
        let natural: Vec<usize> = (0..108).collect();
        let blocks = map.blocks(16, &natural);
        assert_eq!(blocks.len(), 12);
        for block in &blocks {
            let (_, part) = map.of_rows(block).packed();
            assert!(part.rows().iter().all(|row| row.len() == part.inputs()));
        }
        let mut all = blocks.concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..108));
        // Rows that share nothing are joined.
        assert_eq!(Sparse::identity(40).blocks(16, &natural[..40]).len(), 3);
        // In the order in which they are wanted.
        let backwards: Vec<usize> = (0..40).rev().collect();
        assert_eq!(Sparse::identity(40).blocks(16, &backwards).concat(), backwards);
    }
    use galen_models::random::Stream;

    fn random(rows: usize, columns: usize, share: f64, seed: u64) -> Sparse {
        let mut stream = Stream::new("sparse test", seed, &[]);
        let mut row = || -> Vec<(usize, f64)> {
            let all = (0..columns).map(|j| (j, stream.symmetric(), stream.unit()));
            all.filter(|&(_, _, u)| u < share)
                .map(|(j, w, _)| (j, w))
                .collect()
        };
        Sparse {
            inputs: columns,
            rows: (0..rows).map(|_| row()).collect(),
        }
    }

    fn close(a: &[f64], b: &[f64]) {
        assert_eq!(a.len(), b.len());
        a.iter()
            .zip(b)
            .for_each(|(a, b)| assert!((a - b).abs() < 1e-12, "{a} {b}"));
    }

    #[test]
    fn products_and_sums_act_as_their_factors_one_after_the_other() {
        for seed in 0..20 {
            let a = random(4, 5, 0.5, seed);
            let b = random(5, 6, 0.5, seed + 100);
            let c = random(4, 6, 0.5, seed + 200);
            let x: Vec<f64> = (0..6).map(|i| i as f64 - 2.5).collect();
            let product = a.after(&b);
            close(&product.times(&x), &a.times(&b.times(&x)));
            assert_eq!(product.terms(), a.terms_after(&b));
            let sum: Vec<f64> = product
                .times(&x)
                .iter()
                .zip(c.times(&x))
                .map(|(p, q)| p + q)
                .collect();
            close(&product.plus(&c).times(&x), &sum);
            let d = Sparse::diagonal([2.0, 0.0, -1.0, 0.5, 3.0]);
            assert!(d.is_diagonal() && !d.is_unit());
            let y: Vec<f64> = (0..5).map(|i| i as f64 + 1.0).collect();
            close(&a.after(&d).times(&y), &a.times(&d.times(&y)));
            assert!(
                product
                    .rows()
                    .iter()
                    .all(|row| row.is_sorted_by(|a, b| a.0 < b.0))
            );
        }
    }
}
