//! The shape of a network and the order of its parameters.

mod error;
mod parameter;
mod resolve;
mod text;
mod transcribe;

pub use error::SpecError;
pub use galen_core::network::{Extent, Granularity, Layer, Shape};
pub use parameter::{Parameter, ParameterKind};
pub use resolve::Site;
pub(crate) use resolve::output as output_shape;

use galen_core::Transcript;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Largest number of values between two layers.
pub const MAX_VALUES: usize = 1 << 20;
/// Largest number of layers, nested ones included.
pub const MAX_LAYERS: usize = 256;
/// Largest number of parameters.
pub const MAX_PARAMETERS: usize = 1 << 26;
/// Largest degree of an activation.
pub const MAX_DEGREE: usize = 32;
/// How deep additions may be nested.
pub const MAX_DEPTH: usize = 4;

/// A feed-forward network: an input of a fixed shape through `layers`, in order.
///
/// ```
/// # use galen_models::{ModelSpec, Shape};
/// let cryptonets: ModelSpec = toml::from_str(r#"
///     input = [1, 28, 28]
///     layers = [
///         { conv2d = { channels = 5, kernel = 5, stride = 2, padding = 1 } },
///         "square",
///         "flatten",
///         { dense = { outputs = 100 } },
///         "square",
///         { dense = { outputs = 10 } },
///     ]
/// "#)?;
/// cryptonets.check()?;
/// assert_eq!(cryptonets.resolve()?[0].output, Shape::Image([5, 13, 13]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Shape of one patient's input.
    pub input: Shape,
    /// The layers.
    pub layers: Vec<Layer>,
}

impl ModelSpec {
    /// Residual blocks of the given widths, then a dense layer with one output: the logit of class 1.
    pub fn residual_mlp(inputs: usize, hidden: &[usize], scale: f64, power: u32) -> Result<Self, SpecError> {
        let blocks = hidden.iter().map(|&outputs| Layer::Residual {
            outputs,
            scale,
            power,
        });
        let layers = blocks.chain([Layer::Dense { outputs: 1 }]).collect();
        let spec = Self {
            input: Shape::Features(inputs),
            layers,
        };
        spec.check()?;
        Ok(spec)
    }

    /// Whether every layer is possible; errors name the first one that is not.
    pub fn check(&self) -> Result<(), SpecError> {
        self.resolve().map(drop)
    }

    /// Every layer in its place, with shapes and parameters. Errors as [`ModelSpec::check`].
    pub fn resolve(&self) -> Result<Vec<Site<'_>>, SpecError> {
        resolve::resolve(self)
    }

    /// Whether polynomials compute every layer: without ReLU, sigmoid, tanh, sign and maxima.
    pub fn is_polynomial(&self) -> bool {
        fn all(layers: &[Layer]) -> bool {
            layers.iter().all(|layer| match layer {
                Layer::Add { body, shortcut } => all(body) && all(shortcut),
                Layer::Relu | Layer::Sigmoid | Layer::Tanh | Layer::Sign | Layer::MaxPool { .. } => false,
                _ => true,
            })
        }
        all(&self.layers)
    }

    /// Number of input values.
    pub fn inputs(&self) -> usize {
        self.input.len()
    }

    /// Number of outputs of the last layer; 0 if the network is impossible.
    pub fn outputs(&self) -> usize {
        let sites = self.resolve().unwrap_or_default();
        sites.last().map_or(0, |last| last.output.len())
    }

    /// The parameter blocks in flat order; none if the network is impossible. A dense layer has `weight` and `bias`, a residual
    /// block has `linear.weight` (A), `linear.bias` (a), `power.weight` (B) and `power.bias` (b).
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut all = Vec::new();
        for site in self.resolve().unwrap_or_default() {
            site.collect(&mut all);
        }
        all
    }

    /// Number of parameters.
    pub fn parameter_count(&self) -> usize {
        self.parameters().iter().map(Parameter::len).sum()
    }

    /// The JSON schema of a network's file, for editors and other programs.
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }

    /// Appends everything that distinguishes this network from another one.
    pub(crate) fn transcribe(&self, transcript: Transcript) -> Transcript {
        transcribe::transcribe(transcript, self.input, &self.layers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_tile_the_flat_vector() {
        let spec = ModelSpec::residual_mlp(5, &[4, 3], 0.1, 2).unwrap();
        let blocks = spec.parameters();
        let mut next = 0;
        for block in &blocks {
            assert_eq!(block.offset, next);
            next += block.len();
        }
        assert_eq!(next, 2 * (4 * 5 + 4) + 2 * (3 * 4 + 3) + 3 + 1);
        assert_eq!(next, spec.parameter_count());
        let names: Vec<&str> = blocks.iter().map(|b| b.name.as_str()).collect();
        assert_eq!(names[0], "layer0.linear.weight");
        assert_eq!(names[3], "layer0.power.bias");
        assert_eq!(names[9], "layer2.bias");
        assert_eq!(blocks[2].shape, [4, 5]);
    }

    #[test]
    fn impossible_networks_are_refused() {
        let spec = |input, layers| ModelSpec { input, layers };
        let text = |input, layers| spec(input, layers).check().unwrap_err().to_string();
        let (row, image) = (Shape::Features(4), Shape::Image([3, 8, 8]));
        let dense = |outputs| Layer::Dense { outputs };
        let conv = |kernel, padding, groups| Layer::Conv2d {
            channels: 6,
            kernel: Extent::Square(kernel),
            stride: Extent::ONE,
            padding: Extent::Square(padding),
            groups,
        };
        assert!(text(Shape::Features(0), vec![dense(1)]).contains("inputs, got 0"));
        assert!(text(Shape::Image([usize::MAX, 2, 2]), vec![Layer::Square]).contains("inputs"));
        assert!(text(row, vec![]).contains("got 0"));
        assert!(text(row, vec![Layer::Square; MAX_LAYERS + 1]).contains("257"));
        assert!(text(row, vec![dense(4), dense(0)]).starts_with("layer1 has 0 outputs"));
        assert!(text(row, vec![dense(1 << 20), dense(1 << 20)]).contains("layer1"));
        assert!(text(row, vec![conv(3, 0, 1)]).contains("needs an image"));
        assert!(text(image, vec![dense(3)]).contains("flatten"));
        for (kernel, padding) in [(9, 0), (0, 0), (2, 2)] {
            assert!(text(image, vec![conv(kernel, padding, 1)]).contains("window"));
        }
        assert!(text(image, vec![conv(3, 0, 2)]).contains("groups 2"));
        let residual = |scale, power| Layer::Residual {
            outputs: 1,
            scale,
            power,
        };
        assert!(text(row, vec![residual(0.0, 2)]).contains("scale 0"));
        assert!(text(row, vec![residual(0.1, 1)]).contains("power 1"));
        let per = Granularity::Layer;
        assert!(text(row, vec![Layer::Polynomial { degree: 33, per }]).contains("degree 33"));
        let fixed = |coefficients| Layer::FixedPolynomial { coefficients };
        assert!(text(row, vec![fixed(vec![1.0])]).contains("number of coefficients 1"));
        assert!(text(row, vec![fixed(vec![1.0, f64::NAN])]).contains("NaN"));
        assert!(text(row, vec![Layer::BatchNorm { epsilon: 0.0 }]).contains("epsilon"));
        assert!(text(row, vec![Layer::Dropout { rate: 1.0 }]).contains("rate 1"));
        let add = |body, shortcut| Layer::Add { body, shortcut };
        assert!(text(row, vec![add(vec![], vec![])]).contains("empty body"));
        assert!(text(row, vec![add(vec![dense(3)], vec![])]).contains("adds 3 from its body to 4"));
        let nested = (0..5).fold(Layer::Square, |inner, _| add(vec![inner], vec![]));
        assert!(text(row, vec![nested]).contains("nested deeper"));
    }

    #[test]
    fn activations_by_table_are_found_wherever_they_are() {
        let spec = |layers| ModelSpec {
            input: Shape::Features(3),
            layers,
        };
        assert!(spec(vec![Layer::Dense { outputs: 2 }, Layer::Square]).is_polynomial());
        let inside = Layer::Add {
            body: vec![Layer::Square],
            shortcut: vec![Layer::Relu],
        };
        assert!(!spec(vec![inside]).is_polynomial());
    }

    #[test]
    fn shapes_and_parameters_of_an_image_network() {
        let spec: ModelSpec = toml::from_str(
            r#"
            input = [2, 9, 7]
            layers = [
                { conv2d = { channels = 4, kernel = [3, 2], stride = [2, 1], padding = [1, 0], groups = 2 } },
                { batch_norm = {} },
                { polynomial = { degree = 2, per = "channel" } },
                { add = { body = [{ conv2d = { channels = 6, kernel = 1 } }, "square"], shortcut = [{ conv2d = { channels = 6, kernel = 1 } }] } },
                { average_pool = { kernel = 2 } },
                { polynomial = { degree = 3, per = "element" } },
                { hermite = {} },
                "flatten",
                { dense = { outputs = 2 } },
            ]
            "#,
        )
        .unwrap();
        let shapes: Vec<String> = spec
            .resolve()
            .unwrap()
            .iter()
            .map(|site| site.output.to_string())
            .collect();
        assert_eq!(
            shapes,
            [
                "4x5x6", "4x5x6", "4x5x6", "6x5x6", "6x2x3", "6x2x3", "6x2x3", "36", "2"
            ]
        );
        let blocks = spec.parameters();
        let described: Vec<(&str, &[usize])> = blocks
            .iter()
            .map(|b| (b.name.as_str(), b.shape.as_slice()))
            .collect();
        assert_eq!(described[0], ("layer0.weight", &[4, 1, 3, 2][..]));
        assert_eq!(described[2], ("layer1.scale", &[4][..]));
        assert_eq!(described[6], ("layer2.coefficients", &[3, 4][..]));
        assert_eq!(described[7], ("layer3.body0.weight", &[6, 4, 1, 1][..]));
        assert_eq!(described[9], ("layer3.shortcut0.weight", &[6, 4, 1, 1][..]));
        assert_eq!(described[11], ("layer5.coefficients", &[4, 36][..]));
        assert_eq!(described[17], ("layer6.second.variance", &[6][..]));
        let mut next = 0;
        for block in &blocks {
            assert_eq!(block.offset, next);
            next += block.len();
        }
        assert_eq!(next, spec.parameter_count());
    }

    /// Different networks have different names, and one network has one name however its file is written.
    #[test]
    fn digests_tell_networks_apart() {
        let digest = |text: &str| {
            let spec: ModelSpec = toml::from_str(text).unwrap();
            let transcript = Transcript::new("test");
            spec.transcribe(transcript).digest()
        };
        let conv = |rest: &str| {
            format!("input = [1, 8, 8]\nlayers = [{{ conv2d = {{ channels = 2, kernel = 3{rest} }} }}]")
        };
        let plain = digest(&conv(""));
        assert_eq!(plain, digest(&conv(", stride = [1, 1], padding = 0, groups = 1")));
        for other in [", stride = 2", ", padding = 1", ", stride = [1, 2]"] {
            assert_ne!(plain, digest(&conv(other)), "{other}");
        }
        let layers = |layers: &str| digest(&format!("input = 4\nlayers = [{layers}]"));
        let nested = layers("{ add = { body = [\"square\"] } }, \"square\"");
        assert_ne!(nested, layers("{ add = { body = [\"square\", \"square\"] } }"));
        assert_ne!(layers("\"square\""), layers("\"relu\""));
    }
}
