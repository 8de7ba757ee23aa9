//! Files written and read again, and files as other frameworks write them.

use super::proto::{
    Dimension, Graph, Model as File, Operator, Side, Tensor, TensorShape, TensorType, ValueInfo, ValueType,
    element,
};
use super::*;
use crate::evaluate::tests::{NETWORKS, random_model, random_rows};
use crate::spec::{Extent, Granularity, Layer};

/// The largest difference between two models on random rows, relative to the largest output.
fn difference(a: &Model, b: &Model) -> f64 {
    let rows = random_rows(a, 9);
    let (x, y) = (
        a.forward(&rows).unwrap().into_values(),
        b.forward(&rows).unwrap().into_values(),
    );
    assert_eq!(x.len(), y.len());
    let largest = x.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
    x.iter().zip(&y).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs())) / largest
}

#[test]
fn what_is_written_is_read_again() {
    for (n, text) in NETWORKS.iter().enumerate() {
        let model = random_model(text, 70 + n as u64);
        let bytes = model.to_onnx().unwrap();
        assert_eq!(bytes, model.to_onnx().unwrap());
        let back = Model::from_onnx(&bytes).unwrap();
        assert_eq!(back.spec().input, model.spec().input);
        assert!(
            difference(&model, &back) < 1e-5,
            "network {n}: {}",
            difference(&model, &back)
        );
        // What was rounded once is not rounded again.
        let again = Model::from_onnx(&back.to_onnx().unwrap()).unwrap();
        assert_eq!(again.spec().layers.len(), back.spec().layers.len());
        assert!(difference(&back, &again) < 1e-6, "network {n}");
    }
}

#[test]
fn layers_come_back_as_what_they_were() {
    let model = random_model(NETWORKS[0], 1);
    let back = Model::from_onnx(&model.to_onnx().unwrap()).unwrap();
    assert_eq!(back.spec(), model.spec());
    let residual = random_model(
        "input = 3\nlayers = [{ residual = { outputs = 4, scale = 0.5, power = 3 } }, { dense = { outputs = 1 } }]",
        2,
    );
    let back = Model::from_onnx(&residual.to_onnx().unwrap()).unwrap();
    assert_eq!(back.spec(), residual.spec());
    for (a, b) in back.params().iter().zip(residual.params()) {
        assert_eq!(*a, f64::from(*b as f32));
    }
}

/// Of one polynomial they would have a degree that is too high.
#[test]
fn polynomials_in_a_row_stay_apart() {
    let high: Vec<String> = (0..33).map(|k| format!("{}.5e-3", k % 3 - 1)).collect();
    let text = format!(
        "input = 3\nlayers = [
            {{ fixed_polynomial = {{ coefficients = [0.25, 0.5, 0.125] }} }},
            {{ dropout = {{ rate = 0.5 }} }},
            {{ add = {{ body = [{{ fixed_polynomial = {{ coefficients = [{}] }} }}, \"square\", \"square\"] }} }},
        ]",
        high.join(", ")
    );
    let model = random_model(&text, 4);
    let back = Model::from_onnx(&model.to_onnx().unwrap()).unwrap();
    let mut expected = model.spec().layers.clone();
    expected.retain(|layer| !matches!(layer, Layer::Dropout { .. }));
    let names = |layers: &[Layer]| format!("{layers:?}").replace(|c: char| !c.is_alphabetic(), "");
    assert_eq!(names(&back.spec().layers), names(&expected));
    assert!(difference(&model, &back) < 1e-6);
}

/// A graph from lines of operator, inputs, output and settings.
struct Sketch(Graph);

impl Sketch {
    fn new(sides: &[i64]) -> Self {
        let unknown = Dimension { side: None };
        let fixed = sides.iter().map(|&n| Dimension {
            side: Some(Side::Value(n)),
        });
        let shape = TensorShape {
            dim: std::iter::once(unknown).chain(fixed).collect(),
        };
        let tensor = TensorType {
            elem_type: element::FLOAT,
            shape: Some(shape),
        };
        let input = ValueInfo {
            name: "x".into(),
            value_type: Some(ValueType {
                tensor_type: Some(tensor),
            }),
        };
        let output = ValueInfo {
            name: "y".into(),
            value_type: None,
        };
        Self(Graph {
            input: vec![input],
            output: vec![output],
            ..Graph::default()
        })
    }

    fn tensor(mut self, name: &str, dims: &[i64], values: &[f64]) -> Self {
        self.0.initializer.push(Tensor {
            name: name.into(),
            dims: dims.to_vec(),
            data_type: element::DOUBLE,
            double_data: values.to_vec(),
            ..Tensor::default()
        });
        self
    }

    fn shape(mut self, name: &str, values: &[i64]) -> Self {
        self.0.initializer.push(Tensor {
            name: name.into(),
            dims: vec![values.len() as i64],
            data_type: element::INT64,
            raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            ..Tensor::default()
        });
        self
    }

    fn node(
        mut self,
        kind: &str,
        inputs: &[&str],
        output: &str,
        settings: Vec<(&str, operators::Setting)>,
    ) -> Self {
        self.0.node.push(Operator {
            input: inputs.iter().map(|&i| i.to_owned()).collect(),
            output: vec![output.into()],
            name: format!("/{kind}/{output}"),
            op_type: kind.into(),
            attribute: settings
                .into_iter()
                .map(|(n, s)| operators::attribute(n, s))
                .collect(),
            domain: String::new(),
        });
        self
    }

    fn read(self) -> Result<Model, OnnxError> {
        let file = File {
            graph: Some(self.0),
            ..File::default()
        };
        Model::from_onnx(&file.encode_to_vec())
    }

    fn refused(self) -> String {
        self.read().unwrap_err().to_string()
    }
}

use operators::Setting::{Integer, Integers};

#[test]
fn a_matrix_product_with_a_bias_is_a_dense_layer() {
    // Weights as inputs by outputs; y = (x1 + 2 x2 + 10, 3 x1 + 4 x2 + 20).
    let model = Sketch::new(&[2])
        .tensor("w", &[2, 2], &[1.0, 3.0, 2.0, 4.0])
        .tensor("b", &[2], &[10.0, 20.0])
        .node("MatMul", &["x", "w"], "p", vec![])
        .node("Add", &["b", "p"], "y", vec![])
        .read()
        .unwrap();
    assert_eq!(model.spec().layers, [Layer::Dense { outputs: 2 }]);
    assert_eq!(model.params(), [1.0, 2.0, 3.0, 4.0, 10.0, 20.0]);
}

#[test]
fn sums_and_products_of_a_value_are_a_polynomial() {
    // 0.5 (x^2 - x) + x * x * x / 4 - 1, written piece by piece.
    let model = Sketch::new(&[3])
        .tensor("half", &[], &[0.5])
        .tensor("four", &[1], &[4.0])
        .tensor("one", &[1, 1], &[1.0])
        .node("Mul", &["x", "x"], "square", vec![])
        .node("Sub", &["square", "x"], "d", vec![])
        .node("Mul", &["half", "d"], "h", vec![])
        .node("Mul", &["square", "x"], "cube", vec![])
        .node("Div", &["cube", "four"], "q", vec![])
        .node("Add", &["h", "q"], "s", vec![])
        .node("Sub", &["s", "one"], "y", vec![])
        .read()
        .unwrap();
    let coefficients = vec![-1.0, -0.5, 0.5, 0.25];
    assert_eq!(model.spec().layers, [Layer::FixedPolynomial { coefficients }]);
    let power = Sketch::new(&[3])
        .tensor("p", &[], &[2.0])
        .tensor("c", &[3], &[1.0, 2.0, 3.0])
        .node("Pow", &["x", "p"], "s", vec![])
        .node("Mul", &["s", "c"], "y", vec![])
        .read()
        .unwrap();
    let per = Granularity::Channel;
    assert_eq!(power.spec().layers, [Layer::Polynomial { degree: 2, per }]);
    assert_eq!(power.params(), [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0]);
}

/// A block of a residual network: a convolution beside the identity, nested in another one.
#[test]
fn two_ways_are_an_addition() {
    let filter = |sketch: Sketch, name: &str| {
        let values: Vec<f64> = (0..4).map(f64::from).collect();
        sketch.tensor(name, &[2, 2, 1, 1], &values)
    };
    let sketch = filter(filter(Sketch::new(&[2, 3, 3]), "w"), "v");
    let model = sketch
        .node("Conv", &["x", "w"], "a", vec![])
        .node("Mul", &["a", "a"], "s", vec![])
        .node("Conv", &["s", "v"], "b", vec![])
        .node("Add", &["b", "s"], "inner", vec![])
        .node("Add", &["x", "inner"], "y", vec![])
        .read()
        .unwrap();
    let conv = Layer::Conv2d {
        channels: 2,
        kernel: Extent::Square(1),
        stride: Extent::ONE,
        padding: Extent::ZERO,
        groups: 1,
    };
    let inner = Layer::Add {
        body: vec![conv.clone()],
        shortcut: vec![],
    };
    let body = vec![conv, Layer::Square, inner];
    assert_eq!(
        model.spec().layers,
        [Layer::Add {
            body,
            shortcut: vec![]
        }]
    );
}

#[test]
fn images_become_vectors() {
    let flat = |sketch: Sketch| sketch.node("Relu", &["f"], "y", vec![]).read();
    let reshaped = |target: &[i64]| {
        flat(
            Sketch::new(&[2, 3, 3])
                .shape("t", target)
                .node("Reshape", &["x", "t"], "f", vec![]),
        )
    };
    for target in [[0, -1], [-1, 18], [1, -1], [1, 18]] {
        assert_eq!(
            reshaped(&target).unwrap().spec().layers,
            [Layer::Flatten, Layer::Relu]
        );
    }
    assert_eq!(reshaped(&[0, 2, 3, 3]).unwrap().spec().layers, [Layer::Relu]);
    assert!(
        reshaped(&[0, 6, 3])
            .unwrap_err()
            .to_string()
            .contains("one vector per patient")
    );
    let mean = Sketch::new(&[2, 3, 3]).shape("t", &[2, 3]).node(
        "ReduceMean",
        &["x", "t"],
        "f",
        vec![("keepdims", Integer(0))],
    );
    let layers = flat(mean).unwrap().spec().layers.clone();
    assert_eq!((layers[0].name(), layers[1].name()), ("average_pool", "flatten"));
    // A signal has one side.
    let signal = Sketch::new(&[1, 8])
        .tensor("w", &[1, 1, 3], &[1.0, 0.0, -1.0])
        .node(
            "Conv",
            &["x", "w"],
            "f",
            vec![
                ("kernel_shape", Integers(vec![3])),
                ("pads", Integers(vec![1, 1])),
            ],
        );
    let outputs = flat(signal)
        .unwrap()
        .forward(&[[0.0, 1.0, 3.0, 3.0, 2.0, 0.0, 1.0, 1.0]])
        .unwrap()
        .into_values();
    assert_eq!(outputs, [0.0, 0.0, 0.0, 1.0, 3.0, 1.0, 0.0, 1.0]);
}

#[test]
fn what_is_not_supported_is_named() {
    let said = Sketch::new(&[3])
        .node("Softmax", &["x"], "a", vec![])
        .node("Relu", &["a"], "b", vec![])
        .node("LSTM", &["b"], "y", vec![])
        .refused();
    assert!(
        said.contains("Softmax at node /Softmax/a") && said.contains("LSTM at node /LSTM/y"),
        "{said}"
    );
    let conv = |settings| {
        Sketch::new(&[1, 5, 5])
            .tensor("w", &[1, 1, 3, 3], &[0.0; 9])
            .node("Conv", &["x", "w"], "y", settings)
            .refused()
    };
    assert!(
        conv(vec![("pads", Integers(vec![1, 1, 0, 0]))])
            .contains("Conv at node /Conv/y: margins that differ")
    );
    assert!(conv(vec![("dilations", Integers(vec![2, 2]))]).contains("dilations"));
    assert!(conv(vec![("group", Integer(3))]).contains("in 3 groups"));
    let pool = Sketch::new(&[1, 5, 5]).node(
        "AveragePool",
        &["x"],
        "y",
        vec![
            ("kernel_shape", Integers(vec![3, 3])),
            ("pads", Integers(vec![1, 1, 1, 1])),
        ],
    );
    assert!(pool.refused().contains("count_include_pad"));
    let product = Sketch::new(&[3])
        .node("Relu", &["x"], "r", vec![])
        .node("Mul", &["x", "r"], "y", vec![]);
    assert!(product.refused().contains("Mul at node /Mul/y"));
    let missing = Sketch::new(&[3]).node("Relu", &["z"], "y", vec![]);
    assert!(missing.refused().contains("(z) is not computed"));
    assert!(
        Sketch::new(&[3])
            .refused()
            .contains("nothing computes the output y")
    );
    let dynamic = Sketch::new(&[-1]).node("Relu", &["x"], "y", vec![]);
    assert!(dynamic.refused().contains("fixed sizes"));
    let cut = random_model(NETWORKS[4], 1).to_onnx().unwrap();
    assert!(Model::from_onnx(&cut[..cut.len() - 7]).is_err());
    assert!(
        Model::from_onnx(b"")
            .unwrap_err()
            .to_string()
            .contains("no graph")
    );
}

/// Two operators that read the same two values double what leads to their results. A few dozen of them are a network of any size, which is
/// refused before it is made.
#[test]
fn a_small_file_does_not_become_a_large_network() {
    let mut sketch = Sketch::new(&[3])
        .node("Relu", &["x"], "a0", vec![])
        .node("Tanh", &["x"], "b0", vec![]);
    for i in 0..60 {
        let name = |letter: &str, i: usize| format!("{letter}{i}");
        let (a, b) = (name("a", i), name("b", i));
        sketch = sketch.node("Add", &[&a, &b], &name("a", i + 1), vec![]).node(
            "Sub",
            &[&a, &b],
            &name("b", i + 1),
            vec![],
        );
    }
    let said = sketch.node("Add", &["a60", "b60"], "y", vec![]).refused();
    assert!(said.contains("additions nested 4 deep"), "{said}");
    let mut chain = Sketch::new(&[3]).node("Relu", &["x"], "0", vec![]);
    for i in 0..300 {
        chain = chain.node("Relu", &[&i.to_string()], &(i + 1).to_string(), vec![]);
    }
    let said = chain.node("Relu", &["300"], "y", vec![]).refused();
    assert!(said.contains("257 layers"), "{said}");
    // Coefficients of their own for the values of an image, again and again.
    let side = 1 << 6;
    let values: Vec<f64> = (0..side * side).map(|v| v as f64).collect();
    let mut products = Sketch::new(&[1, side, side]).tensor("c", &[side, side], &values);
    for i in 0..600 {
        products = products.node("Mul", &["x", "c"], &i.to_string(), vec![]);
    }
    let said = products.node("Relu", &["0"], "y", vec![]).refused();
    assert!(
        said.contains("weights and coefficients out of its constants"),
        "{said}"
    );
}

proptest::proptest! {
    /// Damage is refused or gives some model; it never panics.
    #[test]
    fn damaged_files_never_panic(at in 0usize..100_000, mask in 1u8..) {
        let mut bytes = random_model(NETWORKS[4], 1).to_onnx().unwrap();
        let at = at % bytes.len();
        bytes[at] ^= mask;
        if let Ok(model) = Model::from_onnx(&bytes) {
            proptest::prop_assert!(model.params().iter().all(|p| p.is_finite()));
        }
    }
}
