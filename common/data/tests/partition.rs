//! Divisions are complete, disjoint, stratified, keep patients together, and follow from the seed.

// Helpers outside of test functions may fail the test too.
#![allow(clippy::unwrap_used)]

use galen_data::partition::{PartitionError, by_site, dirichlet, even, hold_out, imbalance, k_fold};
use galen_data::{Class, Dataset, Groups, Schema, Source, Target, Targets};
use galen_models::Shape;
use proptest::prelude::*;

fn data(classes: &[u32], patients: Option<Vec<usize>>) -> Dataset {
    let class = |name: &str| Class {
        name: name.into(),
        labels: Vec::new(),
    };
    let schema = Schema {
        input: Shape::Features(1),
        elements: Vec::new(),
        target: Target::Classes {
            classes: vec![class("a"), class("b"), class("c")],
        },
        source: Source::default(),
    };
    let values = (0..classes.len()).map(|i| i as f32).collect();
    let patients = patients.map(|of| Groups::new(of.iter().map(|p| format!("p{p}"))));
    Dataset::new(schema, values, Targets::Classes(classes.to_vec()), patients, None).unwrap()
}

fn sorted(parts: &[&[usize]]) -> Vec<usize> {
    let mut all = parts.concat();
    all.sort_unstable();
    all
}

fn count(data: &Dataset, part: &[usize], class: u32) -> usize {
    part.iter()
        .filter(|&&i| data.classes().unwrap()[i] == class)
        .count()
}

/// Whether some patient has samples in both parts.
fn torn(data: &Dataset, a: &[usize], b: &[usize]) -> bool {
    let of = data.patients().unwrap().of();
    a.iter().any(|&i| b.iter().any(|&j| of[i] == of[j]))
}

proptest! {
    #[test]
    fn held_out_samples_are_a_fraction_of_each_class(
        classes in proptest::collection::vec(0u32..3, 1..80),
        fraction in 0.05f64..0.95,
        seed in any::<u64>(),
    ) {
        let data = data(&classes, None);
        let parts = hold_out(&data, fraction, seed).unwrap();
        prop_assert_eq!(sorted(&[&parts.train, &parts.held_out]), (0..classes.len()).collect::<Vec<_>>());
        for class in 0..3 {
            let all = classes.iter().filter(|&&c| c == class).count();
            prop_assert_eq!(count(&data, &parts.held_out, class), (all as f64 * fraction).round() as usize);
        }
        prop_assert_eq!(&parts, &hold_out(&data, fraction, seed).unwrap());
    }

    #[test]
    fn folds_hold_everybody_out_once(
        samples in proptest::collection::vec((0u32..3, 0usize..20), 30..80),
        folds in 2usize..6,
        seed in any::<u64>(),
    ) {
        let (classes, patients): (Vec<u32>, Vec<usize>) = samples.into_iter().unzip();
        let data = data(&classes, Some(patients));
        if data.patients().unwrap().names().len() < folds {
            return Ok(());
        }
        let all: Vec<usize> = (0..classes.len()).collect();
        let parts = k_fold(&data, folds, seed).unwrap();
        let held_out: Vec<&[usize]> = parts.iter().map(|p| p.held_out.as_slice()).collect();
        prop_assert_eq!(sorted(&held_out), all.clone());
        for part in &parts {
            prop_assert_eq!(sorted(&[&part.train, &part.held_out]), all.clone());
            prop_assert!(!part.held_out.is_empty() && !torn(&data, &part.train, &part.held_out));
        }
    }

    #[test]
    fn simulated_hospitals_share_everybody(
        classes in proptest::collection::vec(0u32..3, 10..80),
        hospitals in 2usize..10,
        alpha in 0.01f64..100.0,
        seed in any::<u64>(),
    ) {
        let data = data(&classes, None);
        let parts = dirichlet(&data, hospitals, alpha, seed).unwrap();
        prop_assert_eq!(parts.len(), hospitals);
        prop_assert!(parts.iter().all(|p| !p.is_empty()));
        let parts: Vec<&[usize]> = parts.iter().map(Vec::as_slice).collect();
        prop_assert_eq!(sorted(&parts), (0..classes.len()).collect::<Vec<_>>());
    }
}

/// Every patient's first sample is of the common class; those with the rare one are divided all the same.
#[test]
fn patients_with_a_rare_class_are_held_out_too() {
    // Twenty patients of six samples; each fifth one has two samples of class 1 at the end.
    let classes: Vec<u32> = (0..120)
        .map(|i| u32::from(i / 6 % 5 == 0 && i % 6 >= 4))
        .collect();
    let data = data(&classes, Some((0..120).map(|i| i / 6).collect()));
    for seed in 0..8 {
        let parts = hold_out(&data, 0.25, seed).unwrap();
        assert!(!torn(&data, &parts.train, &parts.held_out));
        assert_eq!(parts.held_out.len(), 30);
        assert_eq!(count(&data, &parts.held_out, 1), 2, "seed {seed}");
    }
}

#[test]
fn even_hospitals_have_as_many_of_each_class() {
    let classes: Vec<u32> = (0..100).map(|i| u32::from(i % 10 < 2)).collect();
    let patients = (0..100).map(|i| i / 2).collect();
    let data = data(&classes, Some(patients));
    let parts = even(&data, 5, 1).unwrap();
    let all: Vec<&[usize]> = parts.iter().map(Vec::as_slice).collect();
    assert_eq!(sorted(&all), (0..100).collect::<Vec<_>>());
    for (i, part) in all.iter().enumerate() {
        assert_eq!((part.len(), count(&data, part, 1)), (20, 4));
        assert!(all[..i].iter().all(|other| !torn(&data, part, other)));
    }
    assert_eq!(parts, even(&data, 5, 1).unwrap());
    assert_ne!(parts, even(&data, 5, 2).unwrap());
    let error = PartitionError::Parts {
        parts: 51,
        available: 50,
    };
    assert_eq!(even(&data, 51, 1), Err(error));
}

#[test]
fn small_alpha_separates_classes_and_large_alpha_mixes_them() {
    let classes: Vec<u32> = (0..3000).map(|i| i % 3).collect();
    let data = data(&classes, None);
    // Mean over hospitals of the share of their most frequent class.
    let purity = |alpha| {
        let parts = dirichlet(&data, 5, alpha, 3).unwrap();
        let of = |part: &Vec<usize>| {
            let most = (0..3).map(|c| count(&data, part, c)).max().unwrap();
            most as f64 / part.len() as f64
        };
        parts.iter().map(of).sum::<f64>() / 5.0
    };
    assert!(purity(0.05) > 0.75, "{}", purity(0.05));
    assert!(purity(1000.0) < 0.4, "{}", purity(1000.0));
    assert_ne!(dirichlet(&data, 5, 1.0, 1), dirichlet(&data, 5, 1.0, 2));
    assert_eq!(dirichlet(&data, 5, 0.0, 1), Err(PartitionError::Alpha));
    let parts = PartitionError::Parts {
        parts: 1,
        available: 3000,
    };
    assert_eq!(dirichlet(&data, 1, 1.0, 1), Err(parts));
}

#[test]
fn rare_classes_are_as_rare_as_asked() {
    let classes: Vec<u32> = (0..300).map(|i| i % 3).collect();
    let data = data(&classes, None);
    let kept = imbalance(&data, &[1.0, 0.1, 0.001], 5).unwrap();
    assert_eq!([0, 1, 2].map(|c| count(&data, &kept, c)), [100, 10, 1]);
    assert!(kept.windows(2).all(|w| w[0] < w[1]));
    let keep = PartitionError::Keep { classes: 3, found: 2 };
    assert_eq!(imbalance(&data, &[1.0, 1.0], 5), Err(keep));
}

#[test]
fn sites_are_parts() {
    let base = data(&[0, 1, 2, 0], None);
    assert_eq!(by_site(&base), Err(PartitionError::NoSites));
    let sites = Groups::new(["x", "y", "x", "z"].map(String::from));
    let values = base.values().to_vec();
    let sited = Dataset::new(
        base.schema().clone(),
        values,
        base.targets().clone(),
        None,
        Some(sites),
    )
    .unwrap();
    let parts = by_site(&sited).unwrap();
    let expected = [("x", vec![0, 2]), ("y", vec![1]), ("z", vec![3])];
    assert_eq!(parts, expected.map(|(name, part)| (name.to_owned(), part)));
    let chosen = sited.select(&[3, 0]);
    assert_eq!(chosen.sites().unwrap().names(), ["z", "x"]);
    assert_eq!(
        (chosen.values(), chosen.classes().unwrap()),
        (&[3.0, 0.0][..], &[0, 0][..])
    );
}
