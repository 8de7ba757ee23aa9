use crate::evaluate::tests::{NETWORKS, random_model, random_rows};
use crate::spec::Layer;
use crate::{Model, ModelSpec};

/// The folded model computes the same on random patients.
fn folded(model: &Model) -> Model {
    let folded = model.folded().unwrap();
    let rows = random_rows(model, 9);
    let (all, same) = (model.forward(&rows).unwrap(), folded.forward(&rows).unwrap());
    for (a, b) in all.rows().flatten().zip(same.rows().flatten()) {
        assert!(
            (a - b).abs() <= 1e-10 * a.abs().max(1.0),
            "{a} {b}: {:?}",
            folded.spec()
        );
    }
    folded
}

fn kinds(spec: &ModelSpec) -> Vec<&'static str> {
    spec.layers.iter().map(Layer::name).collect()
}

#[test]
fn every_network_stays_the_same_function() {
    for (n, text) in NETWORKS.iter().enumerate() {
        let model = random_model(text, 40 + n as u64);
        let once = folded(&model);
        assert!(
            once.spec()
                .layers
                .iter()
                .all(|l| !matches!(l, Layer::Dropout { .. } | Layer::Hermite { .. }))
        );
        // Nothing is left to do.
        assert_eq!(kinds(folded(&once).spec()), kinds(once.spec()));
    }
}

/// What is left of a network, and that it computes the same.
fn left(input: &str, layers: &str) -> Vec<&'static str> {
    let model = random_model(&format!("input = {input}\nlayers = [{layers}]"), 3);
    kinds(folded(&model).spec())
}

#[test]
fn normalisations_go_into_their_neighbours() {
    let norm = "{ batch_norm = { epsilon = 0.1 } }";
    let conv = |rest: &str| format!("{{ conv2d = {{ channels = 4, kernel = 3{rest} }} }}");
    let image = "[4, 6, 5]";
    assert_eq!(
        left(image, &format!("{}, {norm}, \"square\"", conv(", padding = 1"))),
        ["conv2d", "square"]
    );
    assert_eq!(
        left(image, &format!("\"relu\", {norm}, {}", conv(", groups = 2"))),
        ["relu", "conv2d"]
    );
    assert_eq!(
        left(image, &format!("\"relu\", {norm}, {}", conv(", padding = 1"))),
        ["relu", "batch_norm", "conv2d"]
    );
    assert_eq!(
        left(
            image,
            &format!("\"relu\", {norm}, \"flatten\", {{ dense = {{ outputs = 3 }} }}")
        ),
        ["relu", "flatten", "dense"]
    );
    assert_eq!(
        left(
            "5",
            &format!("{norm}, {{ residual = {{ outputs = 3, scale = 0.3, power = 3 }} }}")
        ),
        ["residual"]
    );
    for activation in [
        "\"square\"",
        "{ power = { scale = 0.2, power = 3 } }",
        "{ fixed_polynomial = { coefficients = [0.3, 0.5, 0.2, 0.1] } }",
        "{ polynomial = { degree = 2, per = \"layer\" } }",
        "{ polynomial = { degree = 3, per = \"channel\" } }",
        "{ polynomial = { degree = 4, per = \"element\" } }",
        "{ hermite = {} }",
    ] {
        assert_eq!(
            left(image, &format!("{norm}, {activation}")),
            ["polynomial"],
            "{activation}"
        );
    }
    assert_eq!(left(image, &format!("{norm}, \"relu\"")), ["batch_norm", "relu"]);
    let high = "{ polynomial = { degree = 5, per = \"layer\" } }";
    assert_eq!(
        left(image, &format!("{norm}, {high}")),
        ["batch_norm", "polynomial"]
    );
}

#[test]
fn dropout_leaves_nothing_behind() {
    let dropout = "{ dropout = { rate = 0.5 } }";
    assert_eq!(left("3", dropout), ["dropout"]);
    assert_eq!(
        left("3", &format!("{dropout}, \"square\", {dropout}")),
        ["square"]
    );
    assert_eq!(
        left("3", &format!("{{ add = {{ body = [{dropout}] }} }}")),
        ["fixed_polynomial"]
    );
    assert_eq!(
        left(
            "3",
            &format!("{{ add = {{ body = [{dropout}], shortcut = [\"square\"] }} }}")
        ),
        ["add"]
    );
}

#[test]
fn pools_are_sums_and_go_into_filters() {
    let pool = "{ average_pool = { kernel = 2 } }";
    let conv = "{ conv2d = { channels = 6, kernel = 3, padding = 1, groups = 2 } }";
    let image = "[2, 9, 8]";
    assert_eq!(
        left(image, &format!("{conv}, {pool}, \"relu\"")),
        ["conv2d", "relu"]
    );
    assert_eq!(
        left(
            image,
            &format!("\"square\", {pool}, \"flatten\", {{ dense = {{ outputs = 3 }} }}")
        ),
        ["square", "sum_pool", "flatten", "dense"]
    );
    assert_eq!(
        left(image, &format!("\"square\", {pool}, {conv}")),
        ["square", "sum_pool", "conv2d"]
    );
    assert_eq!(
        left(
            image,
            &format!("{{ power = {{ scale = 0.5, power = 2 }} }}, {pool}, \"relu\"")
        ),
        ["power", "sum_pool", "relu"]
    );
    assert_eq!(
        left(image, &format!("\"relu\", {pool}, \"tanh\"")),
        ["relu", "average_pool", "tanh"]
    );
    // Overlapping windows would make the filter larger and save no places.
    let dense_pool = "{ average_pool = { kernel = 3, stride = 1 } }";
    assert_eq!(
        left(image, &format!("{conv}, {dense_pool}")),
        ["conv2d", "sum_pool"]
    );
    let strided = "{ conv2d = { channels = 3, kernel = [3, 2], stride = [2, 1], padding = [2, 1] } }";
    assert_eq!(
        left(image, &format!("{strided}, {{ batch_norm = {{}} }}, {pool}")),
        ["conv2d"]
    );
}
