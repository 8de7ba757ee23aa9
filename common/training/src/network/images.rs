//! Convolutions and poolings of images that lie one after the other, as GPUs are quick at.

use super::Pooling;
use super::windows::Window;
use burn::tensor::Tensor;
use burn::tensor::module::{avg_pool2d, conv2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions};

/// A batch of columns, one per patient, as images: patient, channel, row, column.
fn images(x: Tensor<2>, [channels, height, width]: [usize; 3]) -> Tensor<4> {
    let patients = x.dims()[1];
    let x: Tensor<4> = x.reshape([channels, height, width, patients]);
    x.permute([3, 0, 1, 2])
}

/// The reverse of [`images`].
fn columns(y: Tensor<4>) -> Tensor<2> {
    let [patients, channels, height, width] = y.dims();
    y.permute([1, 2, 3, 0])
        .reshape([channels * height * width, patients])
}

/// A convolution with one row of `weight` per output channel; `bias` is a column.
pub(super) fn convolution(
    window: &Window,
    groups: usize,
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Tensor<2>,
) -> Tensor<2> {
    let (inputs, outputs) = (window.input[0], window.output[0]);
    let [height, width] = window.kernel;
    let weight: Tensor<4> = weight.reshape([outputs, inputs / groups, height, width]);
    let bias: Tensor<1> = bias.reshape([outputs]);
    let options = ConvOptions::new(window.stride, window.padding, [1, 1], groups);
    columns(conv2d(images(x, window.input), weight, Some(bias), options))
}

/// A pooling; where it takes a mean or sum, the margin counts as 0.
pub(super) fn pool(window: &Window, kind: Pooling, x: Tensor<2>) -> Tensor<2> {
    let x = images(x, window.input);
    let mean = AvgPoolOptions::new(window.kernel)
        .with_stride(window.stride)
        .with_padding(window.padding);
    let pooled = match kind {
        Pooling::Mean => avg_pool2d(x, mean),
        Pooling::Sum => avg_pool2d(x, mean) * (window.kernel[0] * window.kernel[1]) as f64,
        Pooling::Maximum => {
            let maximum = MaxPoolOptions::new(window.kernel).with_stride(window.stride);
            max_pool2d(x, maximum)
        }
    };
    columns(pooled)
}

#[cfg(test)]
mod tests {
    use crate::device::Device;
    use crate::network::{Network, Pass, read};
    use galen_models::random::Stream;
    use galen_models::{Model, ModelSpec};

    /// Outputs and gradients are those of gathered windows, for groups, strides, margins and every pooling.
    #[test]
    fn images_are_as_gathered_windows() {
        let spec: ModelSpec = toml::from_str(
            r#"
            input = [2, 9, 8]
            layers = [
                { conv2d = { channels = 4, kernel = [3, 2], stride = [2, 1], padding = [1, 0], groups = 2 } },
                "square",
                { average_pool = { kernel = 2, padding = 1, stride = 1 } },
                { max_pool = { kernel = [2, 1] } },
                { sum_pool = { kernel = [1, 2] } },
                { conv2d = { channels = 3, kernel = 2 } },
                "flatten",
                { dense = { outputs = 2 } },
            ]
            "#,
        )
        .unwrap();
        let model = Model::initial(spec, 5).unwrap();
        let mut stream = Stream::new("images", 1, &[]);
        let rows: Vec<f32> = (0..3 * 144).map(|_| stream.symmetric() as f32).collect();
        let run = |by_images: bool| {
            let device = Device {
                by_images,
                ..Device::cpu()
            };
            let network = Network::new(&device, &model).unwrap();
            let leaves: Vec<_> = network
                .constants()
                .into_iter()
                .map(|p| p.require_grad())
                .collect();
            let outcome = network
                .forward(network.batch(&rows, 144), &leaves, Pass::evaluation())
                .unwrap();
            let mut gradients = outcome.outputs.clone().square().sum().backward();
            let mut all = read(outcome.outputs).unwrap();
            for leaf in &leaves {
                all.extend(read(leaf.grad_remove(&mut gradients).unwrap()).unwrap());
            }
            all
        };
        let (gathered, images) = (run(false), run(true));
        assert_eq!(gathered.len(), images.len());
        for (a, b) in gathered.iter().zip(&images) {
            assert!((a - b).abs() <= 1e-4 * (1.0 + a.abs()), "{a} {b}");
        }
        assert!(gathered.iter().filter(|g| g.abs() > 1e-3).count() > 40);
    }
}
