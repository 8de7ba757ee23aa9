//! Named blocks of a model's parameters.

/// What a block of parameters is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParameterKind {
    /// Weights of a linear map.
    Weight,
    /// What a linear map adds.
    Bias,
    /// Coefficients of an activation.
    Coefficient,
    /// Scale of a normalisation.
    Scale,
    /// Shift of a normalisation.
    Shift,
    /// Mean that a normalisation saw in training; it has no gradient.
    Mean,
    /// Variance that a normalisation saw in training; not negative, and it has no gradient.
    Variance,
}

impl ParameterKind {
    /// Whether gradients change it.
    pub fn is_trained(self) -> bool {
        !matches!(self, Self::Mean | Self::Variance)
    }
}

/// One named block of parameters within the flat vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Unique name, such as `layer0.power.weight`.
    pub name: String,
    /// What it is.
    pub kind: ParameterKind,
    /// Its shape, stored row by row: outputs and inputs of a dense weight; output channels, input channels of a group, height and
    /// width of a filter bank; coefficient `k` of set `i` at `[k, i]`. A bias of a dense layer is a column.
    pub shape: Vec<usize>,
    /// Index of its first value in the flat vector.
    pub offset: usize,
}

impl Parameter {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no values; never so in a checked [`ModelSpec`](crate::ModelSpec).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its values within the flat vector `all`, which must belong to the same network.
    pub fn of<'a, T>(&self, all: &'a [T]) -> &'a [T] {
        &all[self.offset..self.offset + self.len()]
    }

    /// Inputs and outputs of one value of a linear map: what initial weights are scaled by.
    pub fn fans(&self) -> (usize, usize) {
        let area: usize = self.shape.iter().skip(2).product();
        let at = |i: usize| self.shape.get(i).copied().unwrap_or(1);
        (at(1) * area, at(0) * area)
    }
}
