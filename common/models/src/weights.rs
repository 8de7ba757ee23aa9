//! Models as safetensors files.

use crate::model::{Model, ModelError};
use crate::spec::ModelSpec;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::HashMap;

/// Key of the metadata entry that holds the network as JSON. It is the only entry, so that the bytes are canonical.
const SPEC_KEY: &str = "galen_model_v1";
/// No model file is longer than this.
pub const MAX_FILE_BYTES: usize = 1 << 30;

impl Model {
    /// The model as a safetensors file: one `f64` tensor per parameter block, the network as JSON in the metadata.
    ///
    /// Equal models give equal bytes. Errors only if the encoder fails.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, ModelError> {
        let encoding = |detail: String| ModelError::Encoding { detail };
        let spec = serde_json::to_string(self.spec()).map_err(|e| encoding(e.to_string()))?;
        let bytes: Vec<u8> = self.params().iter().flat_map(|p| p.to_le_bytes()).collect();
        let mut tensors = Vec::new();
        for block in self.spec().parameters() {
            let data = &bytes[8 * block.offset..8 * (block.offset + block.len())];
            let view = TensorView::new(Dtype::F64, block.shape.to_vec(), data)
                .map_err(|e| encoding(e.to_string()))?;
            tensors.push((block.name, view));
        }
        let metadata = HashMap::from([(SPEC_KEY.to_owned(), spec)]);
        safetensors::serialize(tensors, Some(metadata)).map_err(|e| encoding(e.to_string()))
    }

    /// Reads a safetensors file. Refuses anything but exactly the tensors of the network that its metadata names, with finite
    /// values.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, ModelError> {
        let malformed = |detail: String| ModelError::Malformed { detail };
        if bytes.len() > MAX_FILE_BYTES {
            return Err(malformed(format!(
                "{} bytes, at most {MAX_FILE_BYTES} are taken",
                bytes.len()
            )));
        }
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| malformed(e.to_string()))?;
        let spec = header.metadata().as_ref().and_then(|m| m.get(SPEC_KEY));
        let spec = spec.ok_or_else(|| malformed(format!("no \"{SPEC_KEY}\" in its metadata")))?;
        let spec: ModelSpec = serde_json::from_str(spec).map_err(|e| malformed(e.to_string()))?;
        spec.check()?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| malformed(e.to_string()))?;
        let blocks = spec.parameters();
        if tensors.len() != blocks.len() {
            return Err(malformed(format!(
                "{} tensors, the network has {}",
                tensors.len(),
                blocks.len()
            )));
        }
        let mut params = Vec::new();
        for block in &blocks {
            let tensor = tensors
                .tensor(&block.name)
                .map_err(|e| malformed(e.to_string()))?;
            if tensor.dtype() != Dtype::F64 || tensor.shape() != block.shape {
                return Err(malformed(format!(
                    "tensor {} is {:?} of shape {:?}, expected F64 of shape {:?}",
                    block.name,
                    tensor.dtype(),
                    tensor.shape(),
                    block.shape
                )));
            }
            let (values, _) = tensor.data().as_chunks::<8>();
            params.extend(values.iter().map(|b| f64::from_le_bytes(*b)));
        }
        Self::new(spec, params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Layer, Shape};
    use proptest::prelude::*;

    fn model() -> Model {
        Model::initial(ModelSpec::residual_mlp(3, &[4, 2], 0.1, 2).unwrap(), 3).unwrap()
    }

    #[test]
    fn a_file_gives_the_same_model_and_the_same_bytes() {
        let bytes = model().to_safetensors().unwrap();
        let back = Model::from_safetensors(&bytes).unwrap();
        assert_eq!(back, model());
        assert_eq!(back.digest(), model().digest());
        assert_eq!(back.to_safetensors().unwrap(), bytes);
    }

    #[test]
    fn every_shortened_file_is_refused() {
        let bytes = model().to_safetensors().unwrap();
        for length in 0..bytes.len() {
            assert!(Model::from_safetensors(&bytes[..length]).is_err(), "{length}");
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(Model::from_safetensors(&longer).is_err());
    }

    fn file(spec: &str, key: &str, dtype: Dtype, names: &[&str]) -> Vec<u8> {
        let data = vec![0u8; 8];
        let shape = if dtype == Dtype::F64 {
            vec![1, 1]
        } else {
            vec![2, 1]
        };
        let tensors = names
            .iter()
            .map(|n| (*n, TensorView::new(dtype, shape.clone(), &data).unwrap()));
        let metadata = HashMap::from([(key.to_owned(), spec.to_owned())]);
        safetensors::serialize(tensors, Some(metadata)).unwrap()
    }

    #[test]
    fn files_of_something_else_are_refused() {
        let spec = serde_json::to_string(&ModelSpec {
            input: Shape::Features(1),
            layers: vec![Layer::Dense { outputs: 1 }],
        })
        .unwrap();
        let names = ["layer0.weight", "layer0.bias"];
        let good = file(&spec, SPEC_KEY, Dtype::F64, &names);
        assert!(Model::from_safetensors(&good).is_ok());
        let wide = spec.replace("\"input\":1", "\"input\":2");
        let huge = spec.replace("\"input\":1", "\"input\":99999999999");
        let odd = spec.replace("dense", "convolution");
        for (what, bytes) in [
            ("another key", file(&spec, "other", Dtype::F64, &names)),
            ("another type", file(&spec, SPEC_KEY, Dtype::F32, &names)),
            ("a tensor missing", file(&spec, SPEC_KEY, Dtype::F64, &names[..1])),
            (
                "a tensor too many",
                file(&spec, SPEC_KEY, Dtype::F64, &[names[0], names[1], "x"]),
            ),
            (
                "another name",
                file(&spec, SPEC_KEY, Dtype::F64, &[names[0], "x"]),
            ),
            ("another shape", file(&wide, SPEC_KEY, Dtype::F64, &names)),
            ("an impossible width", file(&huge, SPEC_KEY, Dtype::F64, &names)),
            ("an unknown layer", file(&odd, SPEC_KEY, Dtype::F64, &names)),
            ("no JSON", file("{", SPEC_KEY, Dtype::F64, &names)),
        ] {
            assert!(Model::from_safetensors(&bytes).is_err(), "{what}");
        }
        let mut infinite = good;
        let end = infinite.len();
        infinite[end - 8..].copy_from_slice(&f64::INFINITY.to_le_bytes());
        assert!(matches!(
            Model::from_safetensors(&infinite),
            Err(ModelError::NotFinite { .. })
        ));
    }

    proptest! {
        /// Damage is refused or gives a well-formed model; it never panics.
        #[test]
        fn damaged_bytes_never_panic(at in 0usize..600, mask in 1u8..) {
            let mut bytes = model().to_safetensors().unwrap();
            let at = at % bytes.len();
            bytes[at] ^= mask;
            if let Ok(read) = Model::from_safetensors(&bytes) {
                prop_assert!(read.params().iter().all(|p| p.is_finite()));
                let header = bytes.len() - 8 * model().params().len();
                prop_assert!(at < header || read.digest() != model().digest());
            }
        }

        #[test]
        fn noise_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Model::from_safetensors(&bytes).is_err());
        }
    }
}
