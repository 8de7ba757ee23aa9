//! Which values each window of a convolution or a pooling sees.

use galen_models::{Extent, Layer, Shape};

/// The windows of one layer, as row numbers of what enters it (channels, then rows, then columns). Sorted by channel, place within
/// the window, place in the output: gathering these rows lays the windows out as the columns of a matrix.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Windows {
    /// One row number per channel, place in the window and place in the output. Where a window covers the margin it is the
    /// number of rows that enter, at which a row of zeros is to be put.
    pub(super) rows: Vec<i64>,
    /// Values of a window and channel.
    pub(super) size: usize,
    /// Places of the output.
    pub(super) places: usize,
    /// Whether some window covers the margin.
    pub(super) margin: bool,
}

/// Where the windows of one layer lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Window {
    /// Channels, rows and columns of what enters.
    pub(super) input: [usize; 3],
    /// The same of what leaves.
    pub(super) output: [usize; 3],
    /// Rows and columns of a window.
    pub(super) kernel: [usize; 2],
    /// Rows and columns from one window to the next.
    pub(super) stride: [usize; 2],
    /// Rows and columns of zeros around what enters.
    pub(super) padding: [usize; 2],
}

impl Window {
    /// The windows of a layer of kind conv2d or of a pooling; `None` for other layers, and if input and output are not images.
    pub(super) fn of(layer: &Layer, input: Shape, output: Shape) -> Option<Self> {
        let (Shape::Image(input), Shape::Image(output)) = (input, output) else {
            return None;
        };
        let of = |kernel: &Extent, stride: &Extent, padding: &Extent| Self {
            input,
            output,
            kernel: kernel.pair(),
            stride: stride.pair(),
            padding: padding.pair(),
        };
        match layer {
            Layer::Conv2d {
                kernel,
                stride,
                padding,
                ..
            } => Some(of(kernel, stride, padding)),
            Layer::AveragePool {
                kernel,
                stride,
                padding,
            }
            | Layer::SumPool {
                kernel,
                stride,
                padding,
            } => Some(of(kernel, &stride.unwrap_or(*kernel), padding)),
            Layer::MaxPool { kernel, stride } => Some(of(kernel, &stride.unwrap_or(*kernel), &Extent::ZERO)),
            _ => None,
        }
    }
}

impl Windows {
    /// The windows of a layer.
    pub(super) fn new(window: &Window) -> Self {
        let Window {
            input: [channels, height, width],
            output: [_, out_height, out_width],
            kernel,
            stride,
            padding,
        } = *window;
        let zeros = (channels * height * width) as i64;
        let (size, places) = (kernel[0] * kernel[1], out_height * out_width);
        let mut rows = Vec::with_capacity(channels * size * places);
        // The place in the input along one axis, unless it lies in the margin.
        let inside = |out: usize, k: usize, axis: usize, extent: usize| {
            (out * stride[axis] + k)
                .checked_sub(padding[axis])
                .filter(|&at| at < extent)
        };
        for channel in 0..channels {
            for (ky, kx) in (0..kernel[0]).flat_map(|y| (0..kernel[1]).map(move |x| (y, x))) {
                for (oy, ox) in (0..out_height).flat_map(|y| (0..out_width).map(move |x| (y, x))) {
                    let at = inside(oy, ky, 0, height).zip(inside(ox, kx, 1, width));
                    rows.push(at.map_or(zeros, |(y, x)| ((channel * height + y) * width + x) as i64));
                }
            }
        }
        Self {
            margin: rows.contains(&zeros),
            rows,
            size,
            places,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_with_a_margin() {
        let layer = Layer::AveragePool {
            kernel: Extent::Pair([1, 2]),
            stride: Some(Extent::Square(2)),
            padding: Extent::Pair([0, 1]),
        };
        let window = Window::of(&layer, Shape::Image([2, 1, 3]), Shape::Image([2, 1, 2]));
        let windows = window.map(|window| Windows::new(&window));
        // Columns -1 and 0, then 1 and 2, first the left value of both windows, then the right one.
        let expected = Windows {
            rows: vec![6, 1, 0, 2, 6, 4, 3, 5],
            size: 2,
            places: 2,
            margin: true,
        };
        assert_eq!(windows, Some(expected));
        assert_eq!(
            Window::of(&Layer::Square, Shape::Image([1, 1, 1]), Shape::Image([1, 1, 1])),
            None
        );
    }
}
