//! A network with its parameters.

use crate::random::Stream;
use crate::spec::{ModelSpec, ParameterKind, SpecError};
use galen_core::{Digest, Transcript};

/// What trained activations start from, whatever their degree: x/2 + 0.0978 x^2, the fit of degree 2 to ReLU on [-3, 3] by the method
/// of CryptoDL (Hesamifard et al., arXiv 1711.05189): 0.2934984 / 3 for the square.
const INITIAL_COEFFICIENTS: [f64; 3] = [0.0, 0.5, 0.2934984 / 3.0];

/// A network with its parameters: what a training round starts from and what it ends in.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    spec: ModelSpec,
    params: Vec<f64>,
}

/// A model that cannot be built, read or evaluated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The network itself is impossible.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The number of parameters does not fit the network.
    #[error("the network has {expected} parameters, {found} were given")]
    ParameterCount {
        /// What the network needs.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// Another number of private parameters than the network has.
    #[error("the network has {expected} private parameters, {found} were given")]
    PrivateCount {
        /// What the network has.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// A parameter is infinite or not a number.
    #[error("parameter {index} is {value}")]
    NotFinite {
        /// Index in flat order.
        index: usize,
        /// Its value.
        value: f64,
    },
    /// A row of another width than the network's inputs.
    #[error("row {row} has {found} values, the network takes {expected}")]
    RowWidth {
        /// Index of the row.
        row: usize,
        /// The network's inputs.
        expected: usize,
        /// The row's values.
        found: usize,
    },
    /// The evaluator of logits needs a network with one output.
    #[error("the network has {outputs} outputs, a logit needs exactly one")]
    Outputs {
        /// The network's outputs.
        outputs: usize,
    },
    /// Not a safetensors file, or one that does not hold exactly one Galen model.
    #[error("not a model file: {detail}")]
    Malformed {
        /// What is wrong with it.
        detail: String,
    },
    /// The model cannot be written.
    #[error("the model cannot be encoded: {detail}")]
    Encoding {
        /// What the encoder said.
        detail: String,
    },
}

impl Model {
    /// Joins a network with its parameters in flat order (see [`ModelSpec::parameters`]).
    pub fn new(spec: ModelSpec, params: Vec<f64>) -> Result<Self, ModelError> {
        spec.check()?;
        let expected = spec.parameter_count();
        if params.len() != expected {
            return Err(ModelError::ParameterCount {
                expected,
                found: params.len(),
            });
        }
        if let Some((index, &value)) = params.iter().enumerate().find(|(_, value)| !value.is_finite()) {
            return Err(ModelError::NotFinite { index, value });
        }
        Ok(Self { spec, params })
    }

    /// The model from which a study starts: weights uniform in +-sqrt(6 / (inputs + outputs)) of their layer (Glorot and Bengio
    /// 2010), biases zero, normalisations neutral, activations near ReLU. The same seed gives the same bytes on every platform.
    pub fn initial(spec: ModelSpec, seed: u64) -> Result<Self, ModelError> {
        spec.check()?;
        let mut stream = Stream::new("galen initial model v1", seed, &[]);
        let mut params = Vec::with_capacity(spec.parameter_count());
        for block in spec.parameters() {
            let (inputs, outputs) = block.fans();
            let limit = (6.0 / (inputs + outputs) as f64).sqrt();
            let sets = block.shape.last().copied().unwrap_or(1);
            params.extend((0..block.len()).map(|i| match block.kind {
                ParameterKind::Weight => limit * stream.symmetric(),
                ParameterKind::Coefficient => INITIAL_COEFFICIENTS.get(i / sets).copied().unwrap_or(0.0),
                ParameterKind::Scale | ParameterKind::Variance => 1.0,
                ParameterKind::Bias | ParameterKind::Shift | ParameterKind::Mean => 0.0,
            }));
        }
        Self::new(spec, params)
    }

    /// The network.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The parameters in flat order; all finite.
    pub fn params(&self) -> &[f64] {
        &self.params
    }

    /// SHA-256 that names this model: network and exact parameter bits.
    pub fn digest(&self) -> Digest {
        let bytes: Vec<u8> = self.params.iter().flat_map(|p| p.to_le_bytes()).collect();
        self.spec
            .transcribe(Transcript::new("galen model v1"))
            .field(&bytes)
            .digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ModelSpec {
        ModelSpec::residual_mlp(3, &[4, 2], 0.1, 2).unwrap()
    }

    #[test]
    fn the_initial_model_follows_from_its_seed() {
        let model = Model::initial(spec(), 7).unwrap();
        assert_eq!(model, Model::initial(spec(), 7).unwrap());
        assert_ne!(model, Model::initial(spec(), 8).unwrap());
        for block in spec().parameters() {
            let values = block.of(model.params());
            if block.name.ends_with("bias") {
                assert!(values.iter().all(|&v| v == 0.0), "{}", block.name);
            } else {
                let limit = (6.0 / (block.shape[0] + block.shape[1]) as f64).sqrt();
                assert!(values.iter().all(|v| v.abs() <= limit), "{}", block.name);
                assert!(values.iter().any(|v| v.abs() > limit / 4.0), "{}", block.name);
            }
        }
    }

    /// The name of a model must never change between versions: parties compare it.
    #[test]
    fn the_digest_is_stable_and_sees_every_change() {
        let params: Vec<f64> = (0..spec().parameter_count()).map(|i| i as f64 / 8.0).collect();
        let model = Model::new(spec(), params.clone()).unwrap();
        assert_eq!(model.digest().to_hex(), KNOWN_DIGEST);
        for i in 0..params.len() {
            let mut other = params.clone();
            other[i] = f64::from_bits(other[i].to_bits() ^ 1);
            assert_ne!(Model::new(spec(), other).unwrap().digest(), model.digest());
        }
        let scaled = ModelSpec::residual_mlp(3, &[4, 2], 0.2, 2).unwrap();
        assert_ne!(Model::new(scaled, params).unwrap().digest(), model.digest());
    }

    const KNOWN_DIGEST: &str = "59542dcd53ce32e5307620be1a91b6f3beb5578ec18f768d996c6d33cd5fa725";

    #[test]
    fn wrong_parameters_are_refused() {
        let n = spec().parameter_count();
        assert!(matches!(
            Model::new(spec(), vec![0.0; n - 1]),
            Err(ModelError::ParameterCount { expected, found }) if expected == n && found == n - 1
        ));
        let mut params = vec![0.0; n];
        params[5] = f64::NAN;
        assert!(matches!(
            Model::new(spec(), params),
            Err(ModelError::NotFinite { index: 5, .. })
        ));
    }
}
