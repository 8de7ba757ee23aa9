use super::*;
use crate::{Class, Schema, Source, Target, Targets};

fn images(count: usize, shape: [usize; 3]) -> Dataset {
    let class = |name: &str| Class {
        name: name.into(),
        labels: Vec::new(),
    };
    let schema = Schema {
        input: Shape::Image(shape),
        elements: Vec::new(),
        target: Target::Binary {
            negative: class("a"),
            positive: class("b"),
        },
        source: Source::default(),
    };
    let mut stream = Stream::new("images", 0, &[]);
    let values = (0..count * schema.input.len())
        .map(|_| stream.unit() as f32 + 0.1)
        .collect();
    Dataset::new(schema, values, Targets::Classes(vec![0; count]), None, None).unwrap()
}

fn all() -> Augmentation {
    Augmentation {
        rotate: 15.0,
        shift: 0.1,
        scale: 0.1,
        shear: 5.0,
        elastic: 2.0,
        flip: 0.5,
        crop: 2,
        brightness: 0.1,
        contrast: 0.2,
        erase: 0.5,
        ..Augmentation::default()
    }
}

#[test]
fn images_follow_from_seed_epoch_and_number_for_any_number_of_threads() {
    let data = images(70, [2, 9, 8]);
    let indices: Vec<usize> = (0..70).rev().collect();
    let in_threads = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| all().batch(&data, &indices, 1, 2).unwrap())
    };
    let base = in_threads(1);
    assert_eq!(base, in_threads(4));
    assert_eq!(base[..144], all().batch(&data, &[69], 1, 2).unwrap());
    assert_ne!(base, all().batch(&data, &indices, 1, 3).unwrap());
    assert_ne!(base, all().batch(&data, &indices, 2, 2).unwrap());
}

#[test]
fn nothing_is_changed_by_default() {
    let data = images(3, [1, 5, 4]);
    let same = Augmentation::default().batch(&data, &[0, 1, 2], 1, 0).unwrap();
    assert_eq!(same, data.values());
}

#[test]
fn a_crop_is_one_of_the_windows_of_the_padded_image() {
    let data = images(1, [1, 4, 4]);
    let crop = Augmentation {
        crop: 1,
        ..Augmentation::default()
    };
    let mut seen = std::collections::BTreeSet::new();
    for epoch in 0..200 {
        let found = crop.batch(&data, &[0], 7, epoch).unwrap();
        let window = |dy: isize, dx: isize| -> Vec<f32> {
            let inside = |v: isize| (0..4).contains(&v);
            let places = (0..4).flat_map(|y| (0..4).map(move |x| (y - dy, x - dx)));
            places
                .map(|(y, x)| {
                    if inside(y) && inside(x) {
                        data.sample(0)[(y * 4 + x) as usize]
                    } else {
                        0.0
                    }
                })
                .collect()
        };
        let windows = (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (dy, dx)));
        let matching: Vec<_> = windows.filter(|&(dy, dx)| window(dy, dx) == found).collect();
        assert_eq!(matching.len(), 1);
        seen.extend(matching);
    }
    assert_eq!(seen.len(), 9);
}

#[test]
fn a_rectangle_is_erased_in_all_channels() {
    let data = images(40, [3, 12, 10]);
    let erase = Augmentation {
        erase: 1.0,
        fill: -7.0,
        ..Augmentation::default()
    };
    let out = erase.batch(&data, &(0..40).collect::<Vec<_>>(), 0, 0).unwrap();
    for image in out.chunks_exact(360) {
        let erased: Vec<Vec<usize>> = image
            .chunks_exact(120)
            .map(|plane| (0..120).filter(|&i| plane[i] == -7.0).collect())
            .collect();
        assert!(erased[0] == erased[1] && erased[1] == erased[2]);
        let area = erased[0].len() as f64 / 120.0;
        assert!((0.01..=0.4).contains(&area), "{area}");
        let rows: std::collections::BTreeSet<_> = erased[0].iter().map(|i| i / 10).collect();
        let columns: std::collections::BTreeSet<_> = erased[0].iter().map(|i| i % 10).collect();
        assert_eq!(rows.len() * columns.len(), erased[0].len());
    }
}

#[test]
fn contrast_keeps_the_mean_and_brightness_moves_it() {
    let data = images(20, [1, 6, 6]);
    let mean = |image: &[f32]| image.iter().sum::<f32>() / image.len() as f32;
    let indices: Vec<usize> = (0..20).collect();
    let contrast = Augmentation {
        contrast: 0.5,
        ..Augmentation::default()
    };
    let brightness = Augmentation {
        brightness: 0.3,
        ..Augmentation::default()
    };
    let contrasted = contrast.batch(&data, &indices, 0, 0).unwrap();
    let brightened = brightness.batch(&data, &indices, 0, 0).unwrap();
    for i in indices {
        let (before, each) = (mean(data.sample(i)), i * 36..(i + 1) * 36);
        assert!((mean(&contrasted[each.clone()]) - before).abs() < 1e-5);
        let moved = mean(&brightened[each.clone()]) - before;
        assert!(moved.abs() <= 0.3001);
        for (a, b) in data.sample(i).iter().zip(&brightened[each]) {
            assert!((b - a - moved).abs() < 1e-5);
        }
    }
    assert_ne!(contrasted, data.values());
}

#[test]
fn what_is_out_of_range_is_named() {
    let wrong = Augmentation {
        flip: 1.5,
        ..Augmentation::default()
    };
    assert_eq!(
        wrong.check().unwrap_err().to_string(),
        "augmentation: flip is outside 0 to 1"
    );
    let nan = Augmentation {
        shift: f64::NAN,
        ..Augmentation::default()
    };
    assert!(nan.check().is_err());
    let data = images(1, [1, 2, 2]);
    let index = AugmentError::Index { index: 1, samples: 1 };
    assert_eq!(all().batch(&data, &[1], 0, 0), Err(index));
}

/// `cargo test --release -p galen-data -- --ignored --nocapture an_epoch_of_mnist` prints the seconds of CPU.
#[test]
#[ignore = "prints a time, which says nothing on a busy machine"]
fn an_epoch_of_mnist() {
    let data = images(60_000, [1, 28, 28]);
    let affine = Augmentation {
        rotate: 15.0,
        shift: 0.1,
        scale: 0.1,
        shear: 5.0,
        ..Augmentation::default()
    };
    let indices: Vec<usize> = (0..60_000).collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let start = std::time::Instant::now();
    let out = pool.install(|| affine.batch(&data, &indices, 0, 0).unwrap());
    println!("{} values in {:?}", out.len(), start.elapsed());
    assert_eq!(out.len(), data.values().len());
}
