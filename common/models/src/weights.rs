//! Models as safetensors files.

use crate::annotations::Annotations;
use crate::evaluate::Forward;
use crate::model::{Model, ModelError};
use crate::spec::ModelSpec;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Key of the metadata entry that holds the network as JSON. It is the only entry, so that the bytes are canonical.
const SPEC_KEY: &str = "galen_model_v1";
/// The same where there are annotations: an object of network and annotations.
const ANNOTATED_KEY: &str = "galen_model_v2";
/// No model file is longer than this.
pub const MAX_FILE_BYTES: usize = 1 << 30;

/// A model with what its file says about it.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelFile {
    /// The model.
    pub model: Model,
    /// What is said about it; may be empty.
    pub annotations: Annotations,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Annotated<S, A> {
    network: S,
    annotations: A,
}

impl From<Model> for ModelFile {
    /// The model without annotations.
    fn from(model: Model) -> Self {
        Self {
            model,
            annotations: Annotations::default(),
        }
    }
}

impl ModelFile {
    /// Evaluates rows of prepared inputs and records where they lie and what enters the activations, beside what is recorded already, so
    /// that a data set can be given in parts. Encrypted evaluation is planned from these ranges.
    ///
    /// A range is the extreme of one or two patients: it is as confidential as they are. Errors as [`Model::forward`].
    pub fn record<R: AsRef<[f64]> + Sync>(&mut self, rows: &[R]) -> Result<Forward, ModelError> {
        let result = self.model.forward(rows)?;
        if !rows.is_empty() {
            self.annotations
                .widen(self.model.spec().input, rows, result.activations());
        }
        Ok(result)
    }

    /// The safetensors file: one `f64` tensor per parameter block, network and annotations as JSON in the metadata. Without
    /// annotations it is the file of [`Model::to_safetensors`].
    ///
    /// Equal models and annotations give equal bytes. Errors if the annotations do not belong to the network.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, ModelError> {
        if self.annotations == Annotations::default() {
            return self.model.to_safetensors();
        }
        let encoding = |detail: String| ModelError::Encoding { detail };
        self.annotations.check(self.model.spec()).map_err(encoding)?;
        let annotated = Annotated {
            network: self.model.spec(),
            annotations: &self.annotations,
        };
        let json = serde_json::to_string(&annotated).map_err(|e| encoding(e.to_string()))?;
        write(&self.model, ANNOTATED_KEY, json)
    }

    /// Reads a file with or without annotations; refuses what [`Model::from_safetensors`] refuses, and annotations that do not
    /// belong to the network.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, ModelError> {
        let entries = entries(bytes)?;
        let Some(json) = entries.get(ANNOTATED_KEY) else {
            return Ok(Self::from(Model::from_safetensors(bytes)?));
        };
        let annotated: Annotated<ModelSpec, Annotations> =
            serde_json::from_str(json).map_err(|e| malformed(e.to_string()))?;
        let model = read(bytes, annotated.network)?;
        let annotations = annotated.annotations;
        annotations.check(model.spec()).map_err(malformed)?;
        Ok(Self { model, annotations })
    }
}

impl Model {
    /// The model as a safetensors file: one `f64` tensor per parameter block, the network as JSON in the metadata.
    ///
    /// Equal models give equal bytes. Errors only if the encoder fails.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, ModelError> {
        let json = serde_json::to_string(self.spec()).map_err(|e| ModelError::Encoding {
            detail: e.to_string(),
        })?;
        write(self, SPEC_KEY, json)
    }

    /// Reads a safetensors file without annotations. Refuses anything but exactly the tensors of the network that its metadata
    /// names, with finite values.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, ModelError> {
        let entries = entries(bytes)?;
        let json = entries
            .get(SPEC_KEY)
            .ok_or_else(|| malformed(format!("no \"{SPEC_KEY}\" in its metadata")))?;
        let spec = serde_json::from_str(json).map_err(|e| malformed(e.to_string()))?;
        read(bytes, spec)
    }
}

fn malformed(detail: String) -> ModelError {
    ModelError::Malformed { detail }
}

/// The metadata of a file of an acceptable size.
fn entries(bytes: &[u8]) -> Result<HashMap<String, String>, ModelError> {
    if bytes.len() > MAX_FILE_BYTES {
        return Err(malformed(format!(
            "{} bytes, at most {MAX_FILE_BYTES} are taken",
            bytes.len()
        )));
    }
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| malformed(e.to_string()))?;
    Ok(header.metadata().clone().unwrap_or_default())
}

fn write(model: &Model, key: &str, json: String) -> Result<Vec<u8>, ModelError> {
    let encoding = |detail: String| ModelError::Encoding { detail };
    let bytes: Vec<u8> = model.params().iter().flat_map(|p| p.to_le_bytes()).collect();
    let mut tensors = Vec::new();
    for block in model.spec().parameters() {
        let data = &bytes[8 * block.offset..8 * (block.offset + block.len())];
        let view =
            TensorView::new(Dtype::F64, block.shape.clone(), data).map_err(|e| encoding(e.to_string()))?;
        tensors.push((block.name, view));
    }
    let metadata = HashMap::from([(key.to_owned(), json)]);
    safetensors::serialize(tensors, Some(metadata)).map_err(|e| encoding(e.to_string()))
}

/// The file's tensors as the parameters of a network.
fn read(bytes: &[u8], spec: ModelSpec) -> Result<Model, ModelError> {
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
    Model::new(spec, params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::Standardisation;
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

    fn annotated() -> ModelFile {
        let mut file = ModelFile {
            annotations: Annotations {
                title: "a test".into(),
                classes: vec!["healthy".into(), "ill".into()],
                standardisation: Some(Standardisation {
                    mean: vec![1.0, 2.0, 3.0],
                    std: vec![0.5, 1.0, 2.0],
                }),
                inputs: vec![crate::Range::new(-4.0, 4.0)],
                activations: Vec::new(),
            },
            model: model(),
        };
        file.record(&[[0.1, -1.0, 2.0], [0.0, 1.0, 0.7]]).unwrap();
        file
    }

    #[test]
    fn ranges_are_recorded_in_parts() {
        let mut file = ModelFile::from(model());
        file.record(&[[0.0; 3]; 0]).unwrap();
        assert_eq!(file.annotations, Annotations::default());
        let rows = [[0.1, -1.0, 2.0], [0.0, 1.0, 0.7], [0.3, 3.0, -5.0]];
        file.record(&rows[..1]).unwrap();
        let outputs = file.record(&rows[1..]).unwrap();
        assert_eq!(outputs.len(), 2);
        let all = model().forward(&rows).unwrap();
        for (parts, all) in file.annotations.activations.iter().zip(all.activations()) {
            assert_eq!((&parts.path, &parts.channels), (&all.path, &all.channels));
            for (parts, all) in parts.moments.iter().zip(&all.moments) {
                assert_eq!(parts.values, 3);
                let [a, b] = [parts, all].map(|m| m.root_mean_square(1.0, 0.5).unwrap());
                assert!((a - b).abs() < 1e-12, "{a} {b}");
            }
        }
        let expected = [(0.0, 0.3), (-1.0, 3.0), (-5.0, 2.0)];
        let found: Vec<(f64, f64)> = file.annotations.inputs.iter().map(|r| (r.min, r.max)).collect();
        assert_eq!(found, expected);
        // One interval for all, which was declared, stays one and becomes no smaller.
        let mut declared = annotated();
        declared.record(&rows).unwrap();
        assert_eq!(declared.annotations.inputs, [crate::Range::new(-5.0, 4.0)]);
        assert!(declared.record(&[[0.0; 2]]).is_err());
    }

    #[test]
    fn annotations_travel_with_the_model() {
        let file = annotated();
        let bytes = file.to_safetensors().unwrap();
        let back = ModelFile::from_safetensors(&bytes).unwrap();
        assert_eq!(back, file);
        assert_eq!(back.to_safetensors().unwrap(), bytes);
        assert_eq!(back.model.digest(), model().digest());
        let plain = ModelFile::from(model());
        let bytes = model().to_safetensors().unwrap();
        assert_eq!(plain.to_safetensors().unwrap(), bytes);
        assert_eq!(ModelFile::from_safetensors(&bytes).unwrap(), plain);
    }

    /// Parties compare these bytes: they must not change between versions.
    #[test]
    fn the_bytes_of_a_plain_file_are_stable() {
        let params = (0..model().params().len()).map(|i| i as f64 / 8.0).collect();
        let bytes = Model::new(model().spec().clone(), params)
            .unwrap()
            .to_safetensors()
            .unwrap();
        let header = std::str::from_utf8(&bytes[8..200]).unwrap();
        let expected = r#"{"__metadata__":{"galen_model_v1":"{\"input\":3,\"layers\":[{\"residual\":{\"outputs\":4,\"scale\":0.1,\"power\":2}},"#;
        assert!(header.starts_with(expected), "{header}");
    }

    #[test]
    fn annotations_of_another_network_are_refused() {
        let refused = |change: &dyn Fn(&mut Annotations)| {
            let mut file = annotated();
            change(&mut file.annotations);
            assert!(file.annotations.check(file.model.spec()).is_err());
            assert!(file.to_safetensors().is_err());
        };
        refused(&|a| a.classes.push("dead".into()));
        refused(&|a| a.inputs = vec![crate::Range::new(0.0, 1.0); 2]);
        refused(&|a| a.inputs = vec![crate::Range::EMPTY]);
        refused(&|a| a.activations[1].path = "layer7".into());
        refused(&|a| a.activations.truncate(1));
        refused(&|a| a.activations[0].channels[0].max = f64::INFINITY);
        refused(&|a| a.standardisation.as_mut().unwrap().std[1] = 0.0);
        refused(&|a| a.standardisation.as_mut().unwrap().mean.truncate(2));
        let json =
            r#"{"network":{"input":1,"layers":[{"dense":{"outputs":1}}]},"annotations":{"classes":["a"]}}"#;
        let bytes = file(json, ANNOTATED_KEY, Dtype::F64, &["layer0.weight", "layer0.bias"]);
        let said = ModelFile::from_safetensors(&bytes).unwrap_err().to_string();
        assert!(said.contains("1 class names"), "{said}");
    }

    #[test]
    fn standardisation_goes_by_channel() {
        let shape = Shape::Image([2, 1, 2]);
        let mut values = [1.0, 2.0, f64::NAN, 4.0];
        let two = Standardisation {
            mean: vec![1.0, 2.0],
            std: vec![1.0, 0.5],
        };
        two.apply(shape, &mut values);
        assert_eq!(values, [0.0, 1.0, 0.0, 4.0]);
        let one = Standardisation {
            mean: vec![1.0],
            std: vec![2.0],
        };
        one.apply(shape, &mut values);
        assert_eq!(values, [-0.5, 0.0, -0.5, 1.5]);
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
