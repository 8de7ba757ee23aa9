//! Weights that were trained elsewhere, as safetensors files.

use crate::model::{Model, ModelError};
use crate::spec::{ModelSpec, Parameter, ParameterKind, Site};
use crate::weights::MAX_FILE_BYTES;
use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::{BTreeMap, BTreeSet};

/// Weights that do not fit a network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TensorsError {
    /// Not a safetensors file.
    #[error("not a safetensors file: {detail}")]
    Malformed {
        /// What is wrong with it.
        detail: String,
    },
    /// A layer for which there are no weights.
    #[error("no tensors are left for {layer}; name them in a mapping, such as {layer} = \"fc1\"")]
    Missing {
        /// The layer, or the parameter.
        layer: String,
    },
    /// A tensor that a mapping names does not exist.
    #[error("{parameter} should be {tensor}, which the file does not have; it has {}", available.join(", "))]
    NotThere {
        /// Our parameter.
        parameter: String,
        /// Their tensor.
        tensor: String,
        /// What the file has.
        available: Vec<String>,
    },
    /// A mapping names something that the network does not have.
    #[error("the mapping names {name}, which is neither a layer nor a parameter of the network")]
    Unknown {
        /// What it names.
        name: String,
    },
    /// A tensor of another shape or element type.
    #[error("{tensor} is {found}, {parameter} needs {expected}")]
    Tensor {
        /// Our parameter.
        parameter: String,
        /// Their tensor.
        tensor: String,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// Tensors that belong to no layer.
    #[error("tensors that belong to no layer: {}", tensors.join(", "))]
    Left {
        /// Their names.
        tensors: Vec<String>,
    },
    /// The network or its parameters cannot be.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl Model {
    /// Joins a network with weights from another framework's safetensors file, in `f32` or `f64`.
    ///
    /// Names are PyTorch's: modules with `weight` and `bias`, batch normalisations also with `running_mean` and `running_var`. A missing
    /// bias is 0. `mapping` says where a layer's tensors are, such as `layer0` = `features.0` or `layer3.body0` = `conv1`, or where
    /// one parameter is, `layer0.weight` = `fc.w`. Layers that it does not name take the remaining modules one by one, in the order
    /// of their names, numbers compared as numbers: right for the modules of a `Sequential`, which are numbered. Every tensor must
    /// find its place, and every place its tensor.
    pub fn from_tensors(
        spec: ModelSpec,
        bytes: &[u8],
        mapping: &BTreeMap<String, String>,
    ) -> Result<Self, TensorsError> {
        let malformed = |detail: String| TensorsError::Malformed { detail };
        if bytes.len() > MAX_FILE_BYTES {
            return Err(malformed(format!(
                "{} bytes, at most {MAX_FILE_BYTES} are taken",
                bytes.len()
            )));
        }
        let file = SafeTensors::deserialize(bytes).map_err(|e| malformed(e.to_string()))?;
        let mut params = vec![0.0; spec.parameter_count()];
        let mut modules = Vec::new();
        let sites = spec.resolve().map_err(ModelError::from)?;
        collect(&sites, &mut modules);
        check_names(mapping, &modules)?;
        let names: BTreeSet<&str> = file
            .names()
            .into_iter()
            .filter(|name| !name.ends_with("num_batches_tracked"))
            .collect();
        let mut taken: BTreeSet<String> = BTreeSet::new();
        // What the mapping names is not there for others.
        let mut free: Vec<String> = names.iter().map(|name| module(name).to_owned()).collect();
        free.sort_by_key(|name| natural(name));
        free.dedup();
        free.retain(|prefix| !mapping.values().any(|to| to == prefix || module(to) == prefix));
        let mut free = free.into_iter();
        for (path, parameters) in &modules {
            let prefix = match mapping.get(path) {
                Some(prefix) => Some(prefix.clone()),
                None if parameters.iter().all(|p| mapping.contains_key(&p.name)) => None,
                None => Some(
                    free.next()
                        .ok_or_else(|| TensorsError::Missing { layer: path.clone() })?,
                ),
            };
            for parameter in parameters {
                let own = parameter.name[path.len()..].trim_start_matches('.');
                let tensor = match (mapping.get(&parameter.name), &prefix) {
                    (Some(tensor), _) => tensor.clone(),
                    (None, Some(prefix)) => joined(prefix, theirs(own, parameter.kind)),
                    (None, None) => {
                        return Err(TensorsError::Missing {
                            layer: parameter.name.clone(),
                        });
                    }
                };
                if !names.contains(tensor.as_str()) {
                    if parameter.kind == ParameterKind::Bias && !mapping.contains_key(&parameter.name) {
                        continue;
                    }
                    return Err(TensorsError::NotThere {
                        parameter: parameter.name.clone(),
                        tensor,
                        available: names.iter().map(|&n| n.to_owned()).collect(),
                    });
                }
                let view = file.tensor(&tensor).map_err(|e| malformed(e.to_string()))?;
                let values = values(parameter, &tensor, &view)?;
                params[parameter.offset..parameter.offset + values.len()].copy_from_slice(&values);
                taken.insert(tensor);
            }
        }
        let left: Vec<String> = names
            .iter()
            .filter(|n| !taken.contains(**n))
            .map(|&n| n.to_owned())
            .collect();
        if !left.is_empty() {
            return Err(TensorsError::Left { tensors: left });
        }
        Ok(Self::new(spec, params)?)
    }
}

/// The layers that have parameters, with those of their modules: a residual block consists of two.
fn collect(sites: &[Site<'_>], all: &mut Vec<(String, Vec<Parameter>)>) {
    for site in sites {
        let mut parts: Vec<(String, Vec<Parameter>)> = Vec::new();
        for parameter in &site.parameters {
            let part = match module(&parameter.name) {
                part if part.ends_with(".linear") || part.ends_with(".power") => part,
                _ => &site.path,
            };
            match parts.last_mut().filter(|(name, _)| name == part) {
                Some((_, parameters)) => parameters.push(parameter.clone()),
                None => parts.push((part.to_owned(), vec![parameter.clone()])),
            }
        }
        all.extend(parts);
        collect(&site.body, all);
        collect(&site.shortcut, all);
    }
}

fn check_names(
    mapping: &BTreeMap<String, String>,
    modules: &[(String, Vec<Parameter>)],
) -> Result<(), TensorsError> {
    let known = |name: &String| {
        let mut parameters = modules.iter().flat_map(|(_, all)| all);
        modules.iter().any(|(path, _)| path == name) || parameters.any(|p| &p.name == name)
    };
    match mapping.keys().find(|name| !known(name)) {
        Some(name) => Err(TensorsError::Unknown { name: name.clone() }),
        None => Ok(()),
    }
}

/// A tensor's name without its last part.
fn module(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(module, _)| module)
}

fn joined(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}.{name}")
    }
}

/// PyTorch's name of a parameter.
fn theirs(own: &str, kind: ParameterKind) -> &str {
    match (own, kind) {
        ("scale", _) => "weight",
        ("shift", _) => "bias",
        ("mean", _) => "running_mean",
        ("variance", _) => "running_var",
        _ => own,
    }
}

/// A name as text and numbers, so that 10 comes after 9.
fn natural(name: &str) -> Vec<(String, u64)> {
    let part = |part: &str| match part.parse() {
        Ok(number) => (String::new(), number),
        Err(_) => (part.to_owned(), 0),
    };
    name.split('.').map(part).collect()
}

/// The values of a tensor for a parameter.
fn values(parameter: &Parameter, tensor: &str, view: &TensorView<'_>) -> Result<Vec<f64>, TensorsError> {
    let sides = |shape: &[usize]| -> Vec<usize> { shape.iter().copied().filter(|&side| side != 1).collect() };
    let wrong = || TensorsError::Tensor {
        parameter: parameter.name.clone(),
        tensor: tensor.to_owned(),
        found: format!("{:?} of shape {:?}", view.dtype(), view.shape()),
        expected: format!("F16, BF16, F32 or F64 of shape {:?}", parameter.shape),
    };
    if sides(view.shape()) != sides(&parameter.shape) {
        return Err(wrong());
    }
    match view.dtype() {
        Dtype::F64 => Ok(view
            .data()
            .as_chunks::<8>()
            .0
            .iter()
            .map(|b| f64::from_le_bytes(*b))
            .collect()),
        Dtype::F32 => {
            let (values, _) = view.data().as_chunks::<4>();
            Ok(values.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect())
        }
        Dtype::F16 => {
            let (values, _) = view.data().as_chunks::<2>();
            Ok(values.iter().map(|b| f16::from_le_bytes(*b).to_f64()).collect())
        }
        Dtype::BF16 => {
            let (values, _) = view.data().as_chunks::<2>();
            Ok(values.iter().map(|b| bf16::from_le_bytes(*b).to_f64()).collect())
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: &str = r#"
        input = [1, 4, 4]
        layers = [
            { conv2d = { channels = 2, kernel = 3 } },
            { batch_norm = {} },
            "square",
            "flatten",
            { dense = { outputs = 3 } },
        ]"#;

    fn file(tensors: &[(&str, &[usize], f32)]) -> Vec<u8> {
        let data: Vec<Vec<u8>> = tensors
            .iter()
            .map(|(_, shape, first)| {
                let count: usize = shape.iter().product();
                (0..count)
                    .flat_map(|i| (first + i as f32).to_le_bytes())
                    .collect()
            })
            .collect();
        let views = tensors.iter().zip(&data).map(|((name, shape, _), data)| {
            (*name, TensorView::new(Dtype::F32, shape.to_vec(), data).unwrap())
        });
        safetensors::serialize(views, None).unwrap()
    }

    /// Names of a `Sequential`, some of them above 9, and a convolution without bias.
    const SEQUENTIAL: [(&str, &[usize], f32); 8] = [
        ("2.weight", &[2, 1, 3, 3], 0.0),
        ("9.weight", &[2], 100.0),
        ("9.bias", &[2], 200.0),
        ("9.running_mean", &[2], 300.0),
        ("9.running_var", &[2], 400.0),
        ("9.num_batches_tracked", &[1], 1.0),
        ("10.weight", &[3, 8], 500.0),
        ("10.bias", &[3], 600.0),
    ];

    fn spec() -> ModelSpec {
        toml::from_str(NETWORK).unwrap()
    }

    #[test]
    fn modules_are_taken_in_their_order() {
        let model = Model::from_tensors(spec(), &file(&SEQUENTIAL), &BTreeMap::new()).unwrap();
        let first = |name: &str| {
            let blocks = model.spec().parameters();
            blocks.iter().find(|b| b.name == name).unwrap().of(model.params())[1]
        };
        assert_eq!(first("layer0.weight"), 1.0);
        assert_eq!(first("layer0.bias"), 0.0);
        assert_eq!(first("layer1.scale"), 101.0);
        assert_eq!(first("layer1.shift"), 201.0);
        assert_eq!(first("layer1.mean"), 301.0);
        assert_eq!(first("layer1.variance"), 401.0);
        assert_eq!(first("layer4.weight"), 501.0);
        assert_eq!(first("layer4.bias"), 601.0);
    }

    /// Numbers that all types hold are the same from each of them.
    #[test]
    fn shorter_numbers_are_read_too() {
        let spec: ModelSpec = toml::from_str("input = 3\nlayers = [{ dense = { outputs = 1 } }]").unwrap();
        let weights = [0.5f32, -1.75, 96.0];
        type Bytes = fn(f32) -> Vec<u8>;
        let types: [(Dtype, Bytes); 4] = [
            (Dtype::F16, |x| f16::from_f32(x).to_le_bytes().to_vec()),
            (Dtype::BF16, |x| bf16::from_f32(x).to_le_bytes().to_vec()),
            (Dtype::F32, |x| x.to_le_bytes().to_vec()),
            (Dtype::F64, |x| f64::from(x).to_le_bytes().to_vec()),
        ];
        for (dtype, bytes) in types {
            let data: Vec<u8> = weights.iter().flat_map(|&x| bytes(x)).collect();
            let bias = bytes(0.25);
            let views = [
                ("0.weight", TensorView::new(dtype, vec![1, 3], &data).unwrap()),
                ("0.bias", TensorView::new(dtype, vec![1], &bias).unwrap()),
            ];
            let file = safetensors::serialize(views, None).unwrap();
            let model = Model::from_tensors(spec.clone(), &file, &BTreeMap::new()).unwrap();
            assert_eq!(model.params(), [0.5, -1.75, 96.0, 0.25], "{dtype:?}");
        }
        let data = [1u8; 3];
        let views = [("0.weight", TensorView::new(Dtype::U8, vec![1, 3], &data).unwrap())];
        let file = safetensors::serialize(views, None).unwrap();
        let refused = Model::from_tensors(spec, &file, &BTreeMap::new()).unwrap_err();
        assert!(refused.to_string().contains("U8"), "{refused}");
    }

    #[test]
    fn a_mapping_names_modules_and_tensors() {
        let renamed = |name: &str| {
            let (module, rest) = name.split_once('.').unwrap();
            let module = match module {
                "2" => "stem",
                "9" => "bn",
                _ => "classifier",
            };
            format!("{module}.{rest}")
        };
        let names: Vec<String> = SEQUENTIAL.iter().map(|(name, ..)| renamed(name)).collect();
        let tensors: Vec<(&str, &[usize], f32)> = names
            .iter()
            .zip(SEQUENTIAL)
            .map(|(name, (_, shape, first))| (name.as_str(), shape, first))
            .collect();
        let mapping = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(a, b)| (a.to_string(), b.to_string()))
                .collect()
        };
        let all = [
            ("layer0", "stem"),
            ("layer1", "bn"),
            ("layer4.weight", "classifier.weight"),
            ("layer4.bias", "classifier.bias"),
        ];
        let expected = Model::from_tensors(spec(), &file(&SEQUENTIAL), &BTreeMap::new()).unwrap();
        assert_eq!(
            Model::from_tensors(spec(), &file(&tensors), &mapping(&all)).unwrap(),
            expected
        );
        let refused = |pairs: &[(&str, &str)]| {
            Model::from_tensors(spec(), &file(&tensors), &mapping(pairs))
                .unwrap_err()
                .to_string()
        };
        // In the order of names, the normalisation would come first.
        assert!(
            refused(&[]).contains("bn.weight is F32 of shape [2]"),
            "{}",
            refused(&[])
        );
        assert!(refused(&[("layer2", "stem")]).contains("names layer2"));
        assert!(refused(&[("layer0", "trunk")]).contains("trunk.weight, which the file does not have"));
    }

    #[test]
    fn everything_finds_its_place() {
        let said = |tensors: &[(&str, &[usize], f32)]| {
            Model::from_tensors(spec(), &file(tensors), &BTreeMap::new())
                .unwrap_err()
                .to_string()
        };
        let mut more = SEQUENTIAL.to_vec();
        more.push(("11.weight", &[1], 0.0));
        assert!(
            said(&more).contains("belong to no layer: 11.weight"),
            "{}",
            said(&more)
        );
        assert!(said(&SEQUENTIAL[..6]).contains("no tensors are left for layer4"));
        assert!(Model::from_tensors(spec(), b"nothing", &BTreeMap::new()).is_err());
    }

    #[test]
    fn a_residual_block_has_two_modules() {
        let spec = ModelSpec::residual_mlp(2, &[3], 0.1, 2).unwrap();
        let tensors: [(&str, &[usize], f32); 6] = [
            ("0.weight", &[3, 2], 0.0),
            ("0.bias", &[3], 10.0),
            ("1.weight", &[3, 2], 20.0),
            ("1.bias", &[3], 30.0),
            ("2.weight", &[1, 3], 40.0),
            ("2.bias", &[1], 50.0),
        ];
        let model = Model::from_tensors(spec, &file(&tensors), &BTreeMap::new()).unwrap();
        assert_eq!(model.params()[..2], [0.0, 1.0]);
        assert_eq!(model.params()[9..11], [20.0, 21.0]);
        assert_eq!(model.params()[18..], [40.0, 41.0, 42.0, 50.0]);
    }
}
