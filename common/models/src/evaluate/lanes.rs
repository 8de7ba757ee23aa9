//! Linear layers on eight patients at a time.
//!
//! A layer's values are stored as [`Lanes`]: value by value, eight patients side by side. Every loop runs over the lanes innermost, so
//! that it becomes vector instructions, while each patient's sums are taken in the order of the inputs. A result therefore depends
//! neither on the vector width of the processor nor on the patients beside it.

/// Patients evaluated together.
pub(super) const LANES: usize = 8;

/// One value of each of [`LANES`] patients.
pub(super) type Lanes = [f64; LANES];

/// Outputs computed together, so that an input is loaded once for all of them and additions need not wait for each other.
const BLOCK: usize = 4;

/// Calls `work` compiled for the widest vector instructions of this processor. None of them rounds differently: products and sums are
/// never fused.
fn widest<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// A window that moves over an image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Height and width of the image.
    pub(super) input: [usize; 2],
    /// Height and width of the result.
    pub(super) output: [usize; 2],
    /// Height and width of the window.
    pub(super) kernel: [usize; 2],
    /// Step.
    pub(super) stride: [usize; 2],
    /// Margin of zeros.
    pub(super) padding: [usize; 2],
}

impl Window {
    /// Along one side, at one place: the first row of the image under the window, and the rows of the window that lie on the image.
    #[inline(always)]
    fn overlap(&self, side: usize, place: usize) -> (usize, std::ops::Range<usize>) {
        let start = place * self.stride[side];
        let first = self.padding[side].saturating_sub(start).min(self.kernel[side]);
        let end = (self.input[side] + self.padding[side]).saturating_sub(start);
        let last = end.min(self.kernel[side]).max(first);
        ((start + first).saturating_sub(self.padding[side]), first..last)
    }

    /// Number of pairs of a place and a row or column of the window that lies on the image, per side: what one pair of channels
    /// multiplies is their product.
    pub(crate) fn taps(&self) -> usize {
        let along = |side: usize| -> usize {
            (0..self.output[side])
                .map(|place| self.overlap(side, place).1.len())
                .sum()
        };
        along(0) * along(1)
    }
}

/// `acc_j += sum over i of rows_j[i] * x[i]`, in the order of i.
#[inline(always)]
fn accumulate<const B: usize>(acc: &mut [Lanes; B], rows: [&[f64]; B], x: &[Lanes]) {
    let rows = rows.map(|row| &row[..x.len()]);
    for (i, x) in x.iter().enumerate() {
        for (acc, row) in acc.iter_mut().zip(rows) {
            let weight = row[i];
            for (a, x) in acc.iter_mut().zip(x) {
                *a += weight * x;
            }
        }
    }
}

/// `weight x + bias`; `weight` has one row per output.
pub(super) fn dense(weight: &[f64], bias: &[f64], x: &[Lanes]) -> Vec<Lanes> {
    widest(
        #[inline(always)]
        || {
            let mut out = Vec::with_capacity(bias.len());
            let row = |o: usize| &weight[o * x.len()..(o + 1) * x.len()];
            let whole = bias.len() / BLOCK * BLOCK;
            for o in (0..whole).step_by(BLOCK) {
                let mut acc = [[0.0; LANES]; BLOCK];
                accumulate(&mut acc, [row(o), row(o + 1), row(o + 2), row(o + 3)], x);
                out.extend(acc);
            }
            for o in whole..bias.len() {
                let mut acc = [[0.0; LANES]; 1];
                accumulate(&mut acc, [row(o)], x);
                out.extend(acc);
            }
            for (out, bias) in out.iter_mut().zip(bias) {
                out.iter_mut().for_each(|v| *v += bias);
            }
            out
        },
    )
}

/// A bank of filters: `weight[o][i][y][x]` with `inputs` channels per group, all groups one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filters<'a> {
    pub(super) weight: &'a [f64],
    pub(super) bias: &'a [f64],
    /// Input channels of a group.
    pub(super) inputs: usize,
    pub(super) groups: usize,
}

/// Cross-correlation plus bias.
pub(super) fn conv2d(filters: Filters<'_>, window: Window, x: &[Lanes]) -> Vec<Lanes> {
    let channels = filters.bias.len();
    let area = window.output[0] * window.output[1];
    let mut out = vec![[0.0; LANES]; channels * area];
    widest(
        #[inline(always)]
        || {
            let per_group = channels / filters.groups.max(1);
            for group in 0..filters.groups {
                let (start, end) = (group * per_group, (group + 1) * per_group);
                let whole = start + per_group / BLOCK * BLOCK;
                for o in (start..whole).step_by(BLOCK) {
                    correlate::<BLOCK>(filters, window, group, o, x, &mut out);
                }
                for o in whole..end {
                    correlate::<1>(filters, window, group, o, x, &mut out);
                }
            }
        },
    );
    out
}

/// The output channels from `first` on, all of one group.
#[inline(always)]
fn correlate<const B: usize>(
    filters: Filters<'_>,
    window: Window,
    group: usize,
    first: usize,
    x: &[Lanes],
    out: &mut [Lanes],
) {
    let [kernel_height, kernel_width] = window.kernel;
    let [height, width] = window.input;
    let size = filters.inputs * kernel_height * kernel_width;
    let area = window.output[0] * window.output[1];
    for place_y in 0..window.output[0] {
        let (top, rows) = window.overlap(0, place_y);
        for place_x in 0..window.output[1] {
            let (left, columns) = window.overlap(1, place_x);
            let mut acc = [[0.0; LANES]; B];
            for channel in 0..filters.inputs {
                let plane = (group * filters.inputs + channel) * height;
                for (i, row) in rows.clone().enumerate() {
                    let pixel = (plane + top + i) * width + left;
                    let tap = (channel * kernel_height + row) * kernel_width + columns.start;
                    let weights: [&[f64]; B] =
                        std::array::from_fn(|j| &filters.weight[(first + j) * size + tap..]);
                    accumulate(&mut acc, weights, &x[pixel..pixel + columns.len()]);
                }
            }
            for (j, acc) in acc.iter().enumerate() {
                let bias = filters.bias[first + j];
                let place = (first + j) * area + place_y * window.output[1] + place_x;
                out[place] = acc.map(|v| v + bias);
            }
        }
    }
}

/// Folds the values under each window, from `start`, in the order of rows and columns; the margin is left out.
pub(super) fn pool(
    channels: usize,
    window: Window,
    x: &[Lanes],
    start: f64,
    fold: impl Fn(f64, f64) -> f64 + Copy,
) -> Vec<Lanes> {
    let [height, width] = window.input;
    widest(
        #[inline(always)]
        || {
            let mut out = Vec::with_capacity(channels * window.output[0] * window.output[1]);
            for channel in 0..channels {
                for place_y in 0..window.output[0] {
                    let (top, rows) = window.overlap(0, place_y);
                    for place_x in 0..window.output[1] {
                        let (left, columns) = window.overlap(1, place_x);
                        let mut acc = [start; LANES];
                        for row in top..top + rows.len() {
                            let pixel = (channel * height + row) * width + left;
                            for x in &x[pixel..pixel + columns.len()] {
                                for (a, x) in acc.iter_mut().zip(x) {
                                    *a = fold(*a, *x);
                                }
                            }
                        }
                        out.push(acc);
                    }
                }
            }
            out
        },
    )
}
