//! A network on a burn device, built from any specification.
//!
//! Between layers a batch is a matrix with one column per patient and one row per value (channels, then rows, then columns of an
//! image). In this layout a convolution is one gathering of rows and one matrix product, flattening costs nothing, and sums
//! per channel run over adjacent values; on CPUs it is several times faster than convolution of images that lie one after the other. GPUs
//! turn the batch into such images for convolutions and poolings, and back.

mod activation;
mod forward;
mod images;
mod windows;

pub(crate) use forward::Pass;

use crate::device::Device;
use activation::Activation;
use burn::tensor::{Int, Tensor, TensorData};
use galen_models::{Layer, Model, ModelError, ModelSpec, Parameter, Site};
use windows::{Window, Windows};

/// A network that cannot be trained or evaluated here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The network or its parameters are impossible.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A layer without a gradient.
    #[error("{layer} ({kind}) has no gradient and cannot be trained; train with another activation")]
    Untrainable {
        /// The layer.
        layer: String,
        /// Its kind.
        kind: &'static str,
    },
    /// The device gave no result.
    #[error("the device failed: {detail}")]
    Device {
        /// What it said.
        detail: String,
    },
}

/// A network with its parameters on a device. Computes in `f32`.
#[derive(Clone, Debug)]
pub struct Network {
    spec: ModelSpec,
    device: Device,
    blocks: Vec<Parameter>,
    /// One matrix per parameter block: its first dimension, and all others together.
    params: Vec<Tensor<2>>,
    steps: Vec<Step>,
    activations: Vec<String>,
}

/// A layer, prepared.
#[derive(Clone, Debug)]
struct Step {
    op: Op,
    /// Index of its first parameter block.
    first: usize,
    /// Channels of what enters.
    channels: usize,
}

#[derive(Clone, Debug)]
enum Op {
    Dense,
    Residual {
        scale: f64,
        power: u32,
    },
    Convolution {
        gather: Gather,
        outputs: usize,
        groups: usize,
    },
    Pool {
        gather: Gather,
        kind: Pooling,
    },
    BatchNorm {
        epsilon: f64,
    },
    Add {
        body: Vec<Step>,
        shortcut: Vec<Step>,
    },
    Dropout {
        rate: f64,
    },
    Activation {
        kind: Activation,
        index: usize,
    },
    Flatten,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Pooling {
    Mean,
    Sum,
    Maximum,
}

/// Windows whose row numbers are on the device.
#[derive(Clone, Debug)]
struct Gather {
    window: Window,
    rows: Tensor<1, Int>,
    size: usize,
    places: usize,
    margin: bool,
}

impl Network {
    /// The network of `model` on `device`.
    pub fn new(device: &Device, model: &Model) -> Result<Self, NetworkError> {
        let spec = model.spec().clone();
        let sites = spec.resolve().map_err(ModelError::Spec)?;
        let mut build = Build {
            device: device.inner.clone().autodiff(),
            blocks: 0,
            activations: Vec::new(),
        };
        let steps = build.sequence(&sites)?;
        let activations = build.activations;
        let blocks = spec.parameters();
        let mut network = Self {
            params: Vec::with_capacity(blocks.len()),
            device: device.clone(),
            spec,
            blocks,
            steps,
            activations,
        };
        network.load(model.params())?;
        Ok(network)
    }

    /// The network's shape.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The parameter blocks in flat order.
    pub fn blocks(&self) -> &[Parameter] {
        &self.blocks
    }

    /// The layer of each activation, in the order in which a batch meets them. Residual blocks count: their powers are activations.
    pub fn activations(&self) -> &[String] {
        &self.activations
    }

    /// Replaces all parameters by those of a flat vector in the specification's order.
    pub fn load(&mut self, params: &[f64]) -> Result<(), NetworkError> {
        let expected = self.spec.parameter_count();
        if params.len() != expected {
            return Err(ModelError::ParameterCount {
                expected,
                found: params.len(),
            }
            .into());
        }
        let load = |block: &Parameter| {
            let values: Vec<f32> = block.of(params).iter().map(|&p| p as f32).collect();
            Tensor::<2>::from_data(TensorData::new(values, matrix(block)), &self.device.inner)
        };
        self.params = self.blocks.iter().map(load).collect();
        Ok(())
    }

    /// The model with the present parameters. Errors if one of them is not finite, as after a divergence.
    pub fn model(&self) -> Result<Model, NetworkError> {
        let mut all = Vec::with_capacity(self.spec.parameter_count());
        for param in &self.params {
            all.extend(read(param.clone())?.into_iter().map(f64::from));
        }
        Ok(Model::new(self.spec.clone(), all)?)
    }

    pub(crate) fn params(&self) -> &[Tensor<2>] {
        &self.params
    }

    pub(crate) fn set_param(&mut self, block: usize, value: Tensor<2>) {
        self.params[block] = value;
    }

    /// A batch as the network takes it: `inputs` values per patient, one patient after the other in `rows`.
    pub(crate) fn batch(&self, rows: &[f32], inputs: usize) -> Tensor<2> {
        let patients = rows.len().checked_div(inputs).unwrap_or(0);
        let mut columns = vec![0.0; rows.len()];
        for (patient, row) in rows.chunks_exact(inputs.max(1)).enumerate() {
            for (feature, &value) in row.iter().enumerate() {
                columns[feature * patients + patient] = value;
            }
        }
        self.matrix(columns, [inputs, patients])
    }

    /// A matrix on the device, without automatic differentiation.
    pub(crate) fn plain(&self, values: Vec<f32>, shape: [usize; 2]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values, shape), &self.device.inner)
    }

    /// A matrix on the device, with automatic differentiation.
    pub(crate) fn matrix(&self, values: Vec<f32>, shape: [usize; 2]) -> Tensor<2> {
        Tensor::from_data(
            TensorData::new(values, shape),
            &self.device.inner.clone().autodiff(),
        )
    }
}

/// A parameter block as a matrix.
fn matrix(block: &Parameter) -> [usize; 2] {
    let rows = block.shape.first().copied().unwrap_or(1);
    [rows, block.len() / rows.max(1)]
}

/// The values of a tensor, row by row.
pub(crate) fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, NetworkError> {
    let failed = |detail: String| NetworkError::Device { detail };
    let data = tensor.try_into_data().map_err(|e| failed(format!("{e:?}")))?;
    data.try_to_vec().map_err(|e| failed(format!("{e:?}")))
}

/// The walk from sites to steps.
struct Build {
    device: burn::tensor::Device,
    blocks: usize,
    activations: Vec<String>,
}

impl Build {
    fn sequence(&mut self, sites: &[Site<'_>]) -> Result<Vec<Step>, NetworkError> {
        sites.iter().map(|site| self.step(site)).collect()
    }

    fn step(&mut self, site: &Site<'_>) -> Result<Step, NetworkError> {
        let first = self.blocks;
        self.blocks += site.parameters.len();
        let op = match site.layer {
            Layer::Dense { .. } => Op::Dense,
            Layer::Residual { scale, power, .. } => {
                self.activation(site);
                Op::Residual {
                    scale: *scale,
                    power: *power,
                }
            }
            Layer::Conv2d { groups, .. } => Op::Convolution {
                gather: self.gather(site)?,
                outputs: site.output.channels(),
                groups: *groups,
            },
            Layer::AveragePool { .. } => self.pool(site, Pooling::Mean)?,
            Layer::SumPool { .. } => self.pool(site, Pooling::Sum)?,
            Layer::MaxPool { .. } => self.pool(site, Pooling::Maximum)?,
            Layer::BatchNorm { epsilon } => Op::BatchNorm { epsilon: *epsilon },
            Layer::Flatten => Op::Flatten,
            Layer::Add { .. } => Op::Add {
                body: self.sequence(&site.body)?,
                shortcut: self.sequence(&site.shortcut)?,
            },
            Layer::Dropout { rate } => Op::Dropout { rate: *rate },
            other => Op::Activation {
                kind: Activation::of(other).ok_or_else(|| untrainable(site))?,
                index: self.activation(site),
            },
        };
        Ok(Step {
            op,
            first,
            channels: site.input.channels(),
        })
    }

    /// Takes note of an activation; its index.
    fn activation(&mut self, site: &Site<'_>) -> usize {
        self.activations.push(site.path.clone());
        self.activations.len() - 1
    }

    fn pool(&self, site: &Site<'_>, kind: Pooling) -> Result<Op, NetworkError> {
        Ok(Op::Pool {
            gather: self.gather(site)?,
            kind,
        })
    }

    fn gather(&self, site: &Site<'_>) -> Result<Gather, NetworkError> {
        let window = Window::of(site.layer, site.input, site.output).ok_or_else(|| untrainable(site))?;
        let windows = Windows::new(&window);
        let count = windows.rows.len();
        Ok(Gather {
            window,
            rows: Tensor::from_data(TensorData::new(windows.rows, [count]), &self.device),
            size: windows.size,
            places: windows.places,
            margin: windows.margin,
        })
    }
}

fn untrainable(site: &Site<'_>) -> NetworkError {
    NetworkError::Untrainable {
        layer: site.path.clone(),
        kind: site.layer.name(),
    }
}
