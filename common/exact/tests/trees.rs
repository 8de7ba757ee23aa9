//! Trees: reading XGBoost's dump, the quantised form against the trees themselves, and encrypted against plain.
#![allow(clippy::unwrap_used, reason = "a failure is the test result")]

mod common;

use common::{Numbers, evaluate};
use galen_exact::{Forest, Node, Outcome, Reveal, TreeError};
use std::sync::Arc;

const DUMP: &str = r#"[
  { "nodeid": 0, "depth": 0, "split": "age", "split_condition": 50.5, "yes": 1, "no": 2, "missing": 2, "children": [
    { "nodeid": 1, "depth": 1, "split": "f1", "split_condition": -1, "yes": 3, "no": 4, "missing": 3, "children": [
      { "nodeid": 3, "leaf": 0.5 },
      { "nodeid": 4, "leaf": -0.25 }
    ]},
    { "nodeid": 2, "leaf": 1.5 }
  ]},
  { "nodeid": 0, "leaf": -0.125 }
]"#;

#[test]
fn a_dump_by_hand() {
    let forest = Forest::from_xgboost(DUMP, &["age", "pressure"], 1, 0.25).unwrap();
    assert_eq!((forest.features(), forest.trees()), (2, 2));
    assert_eq!(forest.evaluate(&[50.4, -1.5]), [0.625]);
    // Equal to a threshold is not below it.
    assert_eq!(forest.evaluate(&[50.4, -1.0]), [-0.125]);
    assert_eq!(forest.evaluate(&[50.5, -9.0]), [1.625]);
}

#[test]
fn dumps_that_cannot_be_read() {
    let read = |json: &str| Forest::from_xgboost(json, &["a"], 1, 0.0);
    assert!(matches!(read("[{"), Err(TreeError::Json { line: 1, .. })));
    assert!(matches!(
        read("[]"),
        Err(TreeError::Scores { trees: 0, scores: 1 })
    ));
    let split = |name: &str, condition: &str, rest: &str| {
        format!(r#"[{{"nodeid":0,"split":{name},"split_condition":{condition},"yes":1,"no":2{rest}}}]"#)
    };
    let children = r#","children":[{"nodeid":1,"leaf":1},{"nodeid":2,"leaf":2}]"#;
    assert!(read(&split("\"a\"", "1.5", children)).is_ok());
    assert!(read(&split("0", "1.5", children)).is_ok());
    assert!(matches!(
        read(&split("\"b\"", "1.5", children)),
        Err(TreeError::Feature { tree: 0, .. })
    ));
    assert!(matches!(
        read(&split("7", "1.5", children)),
        Err(TreeError::Feature { .. })
    ));
    assert!(matches!(
        read(&split("\"a\"", "[1,2]", children)),
        Err(TreeError::Node { node: 0, .. })
    ));
    assert!(matches!(
        read(&split("\"a\"", "1.5", "")),
        Err(TreeError::Node { .. })
    ));
    let strangers = r#","children":[{"nodeid":1,"leaf":1},{"nodeid":3,"leaf":2}]"#;
    assert!(matches!(
        read(&split("\"a\"", "1.5", strangers)),
        Err(TreeError::Node { .. })
    ));
    assert!(Forest::from_xgboost(DUMP, &["age", "pressure"], 3, 0.0).is_err());
    let mut deep = Node::Leaf(0.0);
    for _ in 0..40 {
        deep = Node::Split {
            feature: 0,
            threshold: 1.0,
            below: Box::new(deep),
            from: Box::new(Node::Leaf(1.0)),
        };
    }
    assert!(matches!(
        Forest::new(1, 1, 0.0, vec![deep]),
        Err(TreeError::Size { what: "levels", .. })
    ));
}

/// A full tree with random features, thresholds and leaves.
fn tree(numbers: &mut Numbers, depth: usize, features: u64) -> Node {
    if depth == 0 {
        return Node::Leaf(numbers.below(2001) as f64 / 1000.0 - 1.0);
    }
    Node::Split {
        feature: numbers.below(features) as usize,
        threshold: numbers.below(9) as f64 / 2.0 - 2.0,
        below: Box::new(tree(numbers, depth - 1, features)),
        from: Box::new(tree(numbers, depth - 1, features)),
    }
}

fn rows(numbers: &mut Numbers, features: usize, count: usize) -> Vec<Vec<f64>> {
    let value = |numbers: &mut Numbers| numbers.below(25) as f64 / 4.0 - 3.0;
    (0..count)
        .map(|_| (0..features).map(|_| value(numbers)).collect())
        .collect()
}

/// With leaves that are whole units, quantised trees of any depth are the trees.
#[test]
fn quantised_trees_differ_by_rounding_only() {
    let mut numbers = Numbers::new(3);
    for (depth, trees, scores) in [(1, 4, 1), (2, 3, 1), (3, 6, 2), (4, 3, 3), (6, 2, 1)] {
        let all = (0..trees).map(|_| tree(&mut numbers, depth, 4)).collect();
        let forest = Forest::new(4, scores, 0.3, all).unwrap();
        let quantised = forest.quantise(16).unwrap();
        let half = quantised.scale() / 2.0;
        let bound = half * (trees / scores + 1) as f64 + 1e-9;
        for row in rows(&mut numbers, 4, 200) {
            let exact = forest.evaluate(&row);
            let Outcome::Scores(found) = quantised.evaluate(Reveal::Scores, &row).unwrap() else {
                panic!("scores were asked for");
            };
            for (a, b) in exact.iter().zip(&found) {
                assert!((a - b).abs() <= bound, "{depth} {trees}: {a} {b}");
            }
        }
    }
}

#[test]
fn encrypted_trees_equal_plain_ones() {
    let mut numbers = Numbers::new(5);
    let all = (0..6).map(|_| tree(&mut numbers, 3, 5)).collect();
    let quantised = Forest::new(5, 3, 0.0, all).unwrap().quantise(6).unwrap();
    for reveal in [Reveal::Scores, Reveal::Label] {
        let program = Arc::new(quantised.program(reveal).unwrap());
        let rows = rows(&mut numbers, 5, 4);
        let coded: Vec<Vec<i64>> = rows
            .iter()
            .map(|row| quantised.encoder().encode(row).unwrap())
            .collect();
        for (row, outputs) in rows.iter().zip(evaluate(&program, &coded)) {
            let expected = quantised.evaluate(reveal, row).unwrap();
            assert_eq!(quantised.outcome(reveal, &outputs), expected);
        }
    }
}
