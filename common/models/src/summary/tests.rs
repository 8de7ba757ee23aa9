use super::*;

fn summary(text: &str) -> Summary {
    let spec: ModelSpec = toml::from_str(text).unwrap();
    spec.summary().unwrap()
}

fn levels_of(input: &str, layers: &str) -> Vec<Option<u32>> {
    let summary = summary(&format!("input = {input}\nlayers = [{layers}]"));
    summary.layers.iter().map(|layer| layer.levels).collect()
}

/// CryptoNets: two squares between three linear layers.
#[test]
fn cryptonets_counted_by_hand() {
    let found = summary(
        r#"
        input = [1, 28, 28]
        layers = [
            { conv2d = { channels = 5, kernel = 5, stride = 2, padding = 1 } },
            "square",
            "flatten",
            { dense = { outputs = 100 } },
            "square",
            { dense = { outputs = 10 } },
        ]"#,
    );
    assert_eq!(found.levels, Some(5));
    assert_eq!(found.parameters, 130 + 84_600 + 1_010);
    // 13 places a side of five each; the first has one on the margin, the last ends where the image ends.
    let taps = 13 * 5 - 1;
    assert_eq!(found.layers[0].cost.weight_products, 5 * taps * taps);
    assert_eq!(
        found.layers[1].cost,
        Cost {
            weight_products: 0,
            products: 845,
            relinearisations: 100
        }
    );
    assert_eq!(found.layers[3].cost.weight_products, 84_500);
    assert_eq!(found.layers[4].cost.relinearisations, 10);
    assert_eq!(found.cost.products, 945);
    let text = found.to_string();
    for words in [
        "conv2d 5 of 5x5, step 2x2, margin 1x1",
        "5x13x13",
        "84 600",
        "relinearisations",
        "85 740",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
}

#[test]
fn factors_go_where_there_are_weights() {
    let dense = "{ dense = { outputs = 4 } }";
    let quadratic = r#"{ polynomial = { degree = 2, per = "channel" } }"#;
    let norm = "{ batch_norm = {} }";
    let of = |layers: &[&str]| levels_of("4", &layers.join(", "));
    assert_eq!(of(&[dense, norm, quadratic]), [Some(1), Some(0), Some(1)]);
    assert_eq!(of(&[quadratic, norm, dense]), [Some(1), Some(0), Some(1)]);
    assert_eq!(of(&[quadratic]), [Some(2)]);
    assert_eq!(of(&[norm, "\"square\""]), [Some(1), Some(1)]);
    assert_eq!(of(&[norm, quadratic, "\"square\""]), [Some(0), Some(2), Some(1)]);
    assert_eq!(of(&["{ hermite = {} }", dense]), [Some(1), Some(1)]);
    assert_eq!(
        of(&["{ power = { scale = 0.1, power = 5 } }", dense]),
        [Some(3), Some(1)]
    );
    assert_eq!(
        of(&["{ residual = { outputs = 2, scale = 0.1, power = 3 } }"]),
        [Some(3)]
    );
    assert_eq!(of(&["\"relu\"", dense]), [None, Some(1)]);
    let pool = "{ average_pool = { kernel = 2 } }";
    assert_eq!(
        levels_of("[1, 4, 4]", &format!("\"square\", {pool}, \"flatten\", {dense}")),
        [Some(1), Some(0), Some(0), Some(1)]
    );
    assert_eq!(
        levels_of("[1, 4, 4]", &format!("\"square\", {pool}, \"square\"")),
        [Some(1), Some(1), Some(1)]
    );
    assert_eq!(levels_of("[1, 4, 4]", "{ sum_pool = { kernel = 2 } }"), [Some(0)]);
}

#[test]
fn an_addition_is_as_deep_as_its_longer_way() {
    let found = summary(
        r#"
        input = 4
        layers = [
            { add = { body = [{ dense = { outputs = 4 } }, "square", { dense = { outputs = 4 } }], shortcut = [{ dense = { outputs = 4 } }] } },
            "square",
        ]"#,
    );
    let levels: Vec<Option<u32>> = found.layers.iter().map(|layer| layer.levels).collect();
    assert_eq!(levels, [3, 1, 1, 1, 1, 1].map(Some));
    assert_eq!(found.levels, Some(4));
    assert_eq!(found.layers[1].path, "layer0.body0");
    assert!(found.to_string().contains("│ body0 dense 4"), "{found}");
    assert!(found.to_string().contains("┆ shortcut0 dense 4"), "{found}");
    let teacher = summary("input = 4\nlayers = [{ add = { body = [\"relu\"] } }]");
    assert_eq!((teacher.levels, teacher.layers[0].levels), (None, None));
    assert!(teacher.to_string().contains("no polynomial"));
}

#[test]
fn products_of_polynomials() {
    assert_eq!([1, 2, 3, 4].map(products), [0, 1, 2, 3]);
    assert!(products(31) <= 11, "{}", products(31));
    assert_eq!([2, 3, 4, 5, 8, 15].map(power_products), [1, 2, 2, 3, 3, 6]);
    assert_eq!([1, 2, 3, 4, 5, 8, 9].map(log2), [0, 1, 2, 2, 3, 3, 4]);
}
