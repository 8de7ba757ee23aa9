//! Constants of a graph, and the attributes of its operators.

use super::OnnxError;
use super::coefficient::Coefficient;
use super::proto::{Operator, Tensor, element};
use crate::spec::Shape;

/// A constant tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Constant {
    pub(super) dims: Vec<usize>,
    pub(super) values: Vec<f64>,
}

impl Constant {
    pub(super) fn scalar(value: f64) -> Self {
        Self {
            dims: Vec::new(),
            values: vec![value],
        }
    }

    pub(super) fn list(values: Vec<f64>) -> Self {
        Self {
            dims: vec![values.len()],
            values,
        }
    }

    /// Reads a tensor; errors name it.
    pub(super) fn read(tensor: &Tensor) -> Result<Self, OnnxError> {
        let malformed = |detail: &str| OnnxError::Malformed {
            detail: format!("tensor {}: {detail}", tensor.name),
        };
        if tensor.data_location != 0 {
            return Err(malformed(
                "its values are in another file; save the model as a single file",
            ));
        }
        let raw = &tensor.raw_data;
        let use_raw = !raw.is_empty();
        let values: Vec<f64> = match tensor.data_type {
            element::FLOAT if use_raw => chunks(raw).map(|b| f64::from(f32::from_le_bytes(b))).collect(),
            element::FLOAT => tensor.float_data.iter().map(|&v| f64::from(v)).collect(),
            element::DOUBLE if use_raw => chunks(raw).map(f64::from_le_bytes).collect(),
            element::DOUBLE => tensor.double_data.clone(),
            element::INT64 if use_raw => chunks(raw).map(|b| i64::from_le_bytes(b) as f64).collect(),
            element::INT64 => tensor.int64_data.iter().map(|&v| v as f64).collect(),
            element::INT32 if use_raw => chunks(raw).map(|b| f64::from(i32::from_le_bytes(b))).collect(),
            element::INT32 => tensor.int32_data.iter().map(|&v| f64::from(v)).collect(),
            other => {
                return Err(malformed(&format!(
                    "element type {other}; possible are float, double, int32 and int64"
                )));
            }
        };
        let dims: Option<Vec<usize>> = tensor.dims.iter().map(|&d| usize::try_from(d).ok()).collect();
        let dims = dims.ok_or_else(|| malformed("a negative dimension"))?;
        let size = dims.iter().fold(1usize, |n, &d| n.saturating_mul(d));
        if size != values.len() {
            return Err(malformed(&format!(
                "{} values, its shape has {size}",
                values.len()
            )));
        }
        Ok(Self { dims, values })
    }

    /// Spread over values of a shape by the rules of broadcasting, where the graph's tensors have a batch before `sides`.
    pub(super) fn spread(&self, shape: Shape, sides: &[usize]) -> Result<Coefficient, String> {
        let dims: Vec<usize> = match self.dims.len().checked_sub(sides.len()) {
            // More dimensions than the values: the batch, and nothing else.
            Some(extra) if self.dims[..extra].iter().all(|&d| d == 1) && extra <= 1 => {
                self.dims[extra..].to_vec()
            }
            Some(_) => return Err(format!("a constant of shape {:?} changes the shape", self.dims)),
            None => {
                let missing = sides.len() - self.dims.len();
                std::iter::repeat_n(1, missing)
                    .chain(self.dims.iter().copied())
                    .collect()
            }
        };
        if dims.iter().zip(sides).any(|(&d, &side)| d != 1 && d != side) {
            return Err(format!(
                "a constant of shape {:?} does not fit values of {shape}",
                self.dims
            ));
        }
        if self.values.len() == 1 {
            return Ok(Coefficient::all(self.values[0]));
        }
        let mut all = Vec::with_capacity(shape.len());
        for element in 0..shape.len() {
            let (mut rest, mut index, mut step) = (element, 0, 1);
            for (&d, &side) in dims.iter().zip(sides).rev() {
                if d != 1 {
                    index += rest % side * step;
                    step *= d;
                }
                rest /= side;
            }
            all.push(self.values[index]);
        }
        Ok(Coefficient::of_elements(all, shape))
    }
}

fn chunks<const N: usize>(raw: &[u8]) -> impl Iterator<Item = [u8; N]> {
    raw.as_chunks::<N>().0.iter().copied()
}

impl Operator {
    /// The node's name, or that of its output.
    pub(super) fn label(&self) -> String {
        match self.output.first() {
            Some(output) if self.name.is_empty() => output.clone(),
            _ => self.name.clone(),
        }
    }

    pub(super) fn refuse(&self, why: impl Into<String>) -> OnnxError {
        OnnxError::Node {
            operator: self.op_type.clone(),
            node: self.label(),
            why: why.into(),
        }
    }

    pub(super) fn integer(&self, name: &str) -> Option<i64> {
        self.attribute.iter().find(|a| a.name == name).map(|a| a.i)
    }

    /// A number with the digits that people wrote: the shortest decimal that is this `f32`.
    pub(super) fn float(&self, name: &str) -> Option<f64> {
        let found = self.attribute.iter().find(|a| a.name == name)?;
        Some(shortest(found.f))
    }

    /// Sizes; an error if one is negative.
    pub(super) fn sizes(&self, name: &str) -> Result<Option<Vec<usize>>, OnnxError> {
        let Some(found) = self.attribute.iter().find(|a| a.name == name) else {
            return Ok(None);
        };
        let sizes: Option<Vec<usize>> = found.ints.iter().map(|&i| usize::try_from(i).ok()).collect();
        sizes
            .map(Some)
            .ok_or_else(|| self.refuse(format!("{name} is negative")))
    }

    pub(super) fn integers(&self, name: &str) -> Option<&[i64]> {
        self.attribute
            .iter()
            .find(|a| a.name == name)
            .map(|a| a.ints.as_slice())
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        let found = self.attribute.iter().find(|a| a.name == name)?;
        Some(String::from_utf8_lossy(&found.s).into_owned())
    }
}

/// The `f64` that is written with the fewest digits among those that round to an `f32`.
pub(super) fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}
