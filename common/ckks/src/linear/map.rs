//! The weights of a linear layer.

use crate::error::CkksError;

/// `outputs` weighted sums over `inputs` values: a matrix, dense, or with only those of its elements that are there.
///
/// Nothing in it belongs to a preset; [`Evaluator::apply`](crate::evaluate::Evaluator::apply) scales the weights for the
/// ciphertexts that it is given.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearMap {
    inputs: usize,
    /// The weights, row after row.
    weights: Vec<f64>,
    columns: Columns,
}

#[derive(Debug, Clone, PartialEq)]
enum Columns {
    /// Every row has a weight for every input.
    All,
    /// Row r has its weights at `ends[r - 1]..ends[r]`, for the inputs that `indices` names there.
    Listed { ends: Vec<usize>, indices: Vec<usize> },
}

/// A two-dimensional convolution over images that are stored channel by channel, row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    /// Channels of the image.
    pub channels: usize,
    /// Its rows and columns.
    pub image: [usize; 2],
    /// Number of kernels, which is that of the channels of the result (maps).
    pub maps: usize,
    /// Rows and columns of a kernel.
    pub kernel: [usize; 2],
    /// Rows and columns from one place of the kernel to the next.
    pub stride: [usize; 2],
    /// Rows and columns of zeros around the image, on every side.
    pub padding: [usize; 2],
}

impl Convolution {
    /// Rows and columns of each map; zero where the kernel is larger than the padded image or the stride is zero.
    #[must_use]
    pub fn places(&self) -> [usize; 2] {
        let along = |axis: usize| {
            let room = (self.image[axis] + 2 * self.padding[axis]).checked_sub(self.kernel[axis]);
            room.and_then(|room| room.checked_div(self.stride[axis]))
                .map_or(0, |steps| steps + 1)
        };
        [along(0), along(1)]
    }
}

impl LinearMap {
    /// A dense matrix, row by row: `weights.len() / inputs` outputs.
    ///
    /// # Errors
    /// [`CkksError::Count`] if there are no inputs or weights, or the last row is not complete.
    pub fn dense(inputs: usize, weights: Vec<f64>) -> Result<Self, CkksError> {
        if inputs == 0 || weights.is_empty() || !weights.len().is_multiple_of(inputs) {
            let count = weights.len();
            let whole = count.next_multiple_of(inputs.max(1)).max(inputs.max(1));
            return Err(CkksError::Count {
                count,
                min: whole,
                max: whole,
            });
        }
        Ok(Self {
            inputs,
            weights,
            columns: Columns::All,
        })
    }

    /// A sparse matrix: each row lists the inputs that it reads, in ascending order, with their weights. A row may be
    /// empty; its output is zero.
    ///
    /// # Errors
    /// [`CkksError::Count`] if there are no rows, an input is named that does not exist, or the inputs of a row do not
    /// ascend (the index of the row or input is then `count`).
    pub fn sparse(inputs: usize, rows: &[Vec<(usize, f64)>]) -> Result<Self, CkksError> {
        if inputs == 0 || rows.is_empty() {
            return Err(CkksError::Count {
                count: rows.len(),
                min: 1,
                max: usize::MAX,
            });
        }
        let terms = rows.iter().map(Vec::len).sum();
        let (mut ends, mut indices) = (Vec::with_capacity(rows.len()), Vec::with_capacity(terms));
        let mut weights = Vec::with_capacity(terms);
        for row in rows {
            let mut next = 0;
            for &(index, weight) in row {
                if index < next || index >= inputs {
                    return Err(CkksError::Count {
                        count: index,
                        min: next,
                        max: inputs - 1,
                    });
                }
                next = index + 1;
                indices.push(index);
                weights.push(weight);
            }
            ends.push(indices.len());
        }
        Ok(Self {
            inputs,
            weights,
            columns: Columns::Listed { ends, indices },
        })
    }

    /// A convolution as a sparse matrix. `weights` holds, for each map, each channel and each row of the kernel, the
    /// weights of that row; outputs are map by map, row by row. What lies in the padding is left out of the sums.
    ///
    /// # Errors
    /// [`CkksError::Count`] for another number of weights, or a convolution without any place.
    pub fn convolution(shape: &Convolution, weights: &[f64]) -> Result<Self, CkksError> {
        let [rows, columns] = shape.kernel;
        let expected = shape.maps * shape.channels * rows * columns;
        if weights.len() != expected || expected == 0 {
            return Err(CkksError::Count {
                count: weights.len(),
                min: expected,
                max: expected,
            });
        }
        let [height, width] = shape.image;
        let places = shape.places();
        let mut sums = Vec::with_capacity(shape.maps * places[0] * places[1]);
        for kernels in weights.chunks_exact(shape.channels * rows * columns) {
            for place in 0..places[0] * places[1] {
                let (top, left) = (
                    place / places[1] * shape.stride[0],
                    place % places[1] * shape.stride[1],
                );
                let mut sum = Vec::with_capacity(kernels.len());
                for (index, &weight) in kernels.iter().enumerate() {
                    let (channel, within) = (index / (rows * columns), index % (rows * columns));
                    // Above and left of the image these wrap round to more than its size.
                    let y = (top + within / columns).wrapping_sub(shape.padding[0]);
                    let x = (left + within % columns).wrapping_sub(shape.padding[1]);
                    if y < height && x < width {
                        sum.push(((channel * height + y) * width + x, weight));
                    }
                }
                sums.push(sum);
            }
        }
        Self::sparse(shape.channels * height * width, &sums)
    }

    /// Number of inputs.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Number of outputs.
    #[must_use]
    pub fn outputs(&self) -> usize {
        match &self.columns {
            Columns::All => self.weights.len() / self.inputs,
            Columns::Listed { ends, .. } => ends.len(),
        }
    }

    /// Number of weights: multiplications of a ciphertext by a scalar.
    #[must_use]
    pub fn terms(&self) -> usize {
        self.weights.len()
    }

    /// Whether every output reads every input by construction.
    #[must_use]
    pub fn is_dense(&self) -> bool {
        self.columns == Columns::All
    }

    /// What one output reads: inputs, ascending, with their weights. Nothing for an output that does not exist.
    pub fn row(&self, output: usize) -> impl Iterator<Item = (usize, f64)> {
        let range = self.range(output);
        let named = match &self.columns {
            Columns::All => None,
            Columns::Listed { indices, .. } => indices.get(range.clone()),
        };
        let weights = self.weights.get(range).unwrap_or_default();
        weights
            .iter()
            .enumerate()
            .map(move |(at, &weight)| (named.map_or(at, |indices| indices[at]), weight))
    }

    /// Where the weights of an output are among all of them.
    pub(super) fn range(&self, output: usize) -> core::ops::Range<usize> {
        match &self.columns {
            Columns::All => output * self.inputs..(output + 1) * self.inputs,
            Columns::Listed { ends, .. } => match ends.get(output) {
                Some(&end) => output.checked_sub(1).map_or(0, |last| ends[last])..end,
                None => 0..0,
            },
        }
    }

    /// The largest of the inputs that each output reads, in number of slots; 1 for an output that reads none.
    pub(super) fn widest(&self, slots: impl Fn(usize) -> usize) -> Vec<usize> {
        (0..self.outputs())
            .map(|output| self.row(output).map(|(input, _)| slots(input)).max().unwrap_or(1))
            .collect()
    }

    /// The sums for known values, in doubles: what [`Evaluator::apply`](crate::evaluate::Evaluator::apply) computes
    /// slot by slot.
    ///
    /// # Errors
    /// [`CkksError::Count`] if there are not as many values as inputs.
    pub fn apply_clear(&self, values: &[f64]) -> Result<Vec<f64>, CkksError> {
        if values.len() != self.inputs {
            return Err(CkksError::Count {
                count: values.len(),
                min: self.inputs,
                max: self.inputs,
            });
        }
        Ok((0..self.outputs())
            .map(|output| self.row(output).map(|(input, w)| w * values[input]).sum())
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_what_was_given() {
        let dense = LinearMap::dense(3, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        assert_eq!((dense.inputs(), dense.outputs(), dense.terms()), (3, 2, 6));
        assert!(dense.is_dense());
        assert_eq!(dense.row(1).collect::<Vec<_>>(), [(0, 4.0), (1, 5.0), (2, 6.0)]);
        assert_eq!(dense.row(2).count(), 0);
        let rows = [vec![(0, 1.0), (2, 2.0)], vec![], vec![(1, 3.0)]];
        let sparse = LinearMap::sparse(3, &rows).unwrap();
        assert_eq!((sparse.inputs(), sparse.outputs(), sparse.terms()), (3, 3, 3));
        assert!(!sparse.is_dense());
        for (index, row) in rows.iter().enumerate() {
            assert_eq!(&sparse.row(index).collect::<Vec<_>>(), row);
        }
        assert_eq!(sparse.row(3).count(), 0);
        assert_eq!(
            sparse.apply_clear(&[1.0, 10.0, 100.0]),
            Ok(vec![201.0, 0.0, 30.0])
        );
        assert!(sparse.apply_clear(&[1.0]).is_err());
    }

    #[test]
    fn refuses_what_is_no_matrix() {
        assert!(LinearMap::dense(0, vec![]).is_err());
        assert!(LinearMap::dense(2, vec![]).is_err());
        assert!(LinearMap::dense(2, vec![1.0; 3]).is_err());
        assert!(LinearMap::sparse(2, &[]).is_err());
        assert!(LinearMap::sparse(2, &[vec![(2, 1.0)]]).is_err());
        assert!(LinearMap::sparse(2, &[vec![(1, 1.0), (1, 1.0)]]).is_err());
        assert!(LinearMap::sparse(2, &[vec![(1, 1.0), (0, 1.0)]]).is_err());
    }

    /// Against the definition, on a padded copy of the image.
    #[test]
    fn convolution_is_that_of_the_padded_image() {
        for (stride, padding, kernel) in [
            ([2, 2], [1, 1], [5, 5]),
            ([1, 2], [0, 2], [3, 2]),
            ([3, 1], [2, 0], [1, 4]),
        ] {
            let shape = Convolution {
                channels: 2,
                image: [7, 9],
                maps: 3,
                kernel,
                stride,
                padding,
            };
            let weights: Vec<f64> = (0..3 * 2 * kernel[0] * kernel[1])
                .map(|i| (i * 37 % 23) as f64 - 11.0)
                .collect();
            let image: Vec<f64> = (0..2 * 7 * 9).map(|i| (i * 29 % 31) as f64).collect();
            let map = LinearMap::convolution(&shape, &weights).unwrap();
            let [rows, columns] = shape.places();
            assert_eq!(map.outputs(), 3 * rows * columns);
            let sums = map.apply_clear(&image).unwrap();
            let pixel = |c: usize, y: isize, x: isize| {
                let inside = (0..7).contains(&y) && (0..9).contains(&x);
                if inside {
                    image[(c * 7 + y as usize) * 9 + x as usize]
                } else {
                    0.0
                }
            };
            for m in 0..3 {
                for y in 0..rows {
                    for x in 0..columns {
                        let mut sum = 0.0;
                        for c in 0..2 {
                            for i in 0..kernel[0] {
                                for j in 0..kernel[1] {
                                    let at = ((m * 2 + c) * kernel[0] + i) * kernel[1] + j;
                                    let row = (y * stride[0] + i) as isize - padding[0] as isize;
                                    let column = (x * stride[1] + j) as isize - padding[1] as isize;
                                    sum += weights[at] * pixel(c, row, column);
                                }
                            }
                        }
                        assert_eq!(sums[(m * rows + y) * columns + x], sum);
                    }
                }
            }
            assert!(LinearMap::convolution(&shape, &weights[1..]).is_err());
        }
        // The first layer of CryptoNets: 5 maps of 13 x 13, of whose 21,125 products 645 would read padding.
        let shape = Convolution {
            channels: 1,
            image: [28, 28],
            maps: 5,
            kernel: [5, 5],
            stride: [2, 2],
            padding: [1, 1],
        };
        assert_eq!(shape.places(), [13, 13]);
        let map = LinearMap::convolution(&shape, &[0.5; 125]).unwrap();
        assert_eq!((map.outputs(), map.terms()), (845, 20_480));
        let none = Convolution {
            kernel: [31, 5],
            ..shape
        };
        assert_eq!(none.places()[0], 0);
        assert!(LinearMap::convolution(&none, &[0.5; 5 * 31 * 5]).is_err());
        assert_eq!(
            Convolution {
                stride: [0, 1],
                ..shape
            }
            .places()[0],
            0
        );
    }
}
