use super::*;
use galen_core::study::{Column, ColumnKind, DataSchema, EvaluationPlan, ServingPlan, Target};
use galen_core::study::{ModelPlan, Receivers, Release, SumsPolicy, TrainingPlan};
use proptest::prelude::*;

/// A study of two numeric columns (four inputs) with this network, recipe and whatever else `[training]` has.
fn study(layers: &str, training: &str) -> Study {
    let numeric = |name: &str| Column {
        name: name.into(),
        kind: ColumnKind::Numeric,
        min: Some(0.0),
        max: Some(1.0),
        values: vec![],
        missing_values: vec![],
    };
    #[derive(serde::Deserialize)]
    struct Network {
        layers: Vec<crate::Layer>,
    }
    let network: Network = toml::from_str(&format!("layers = {layers}")).unwrap();
    let training: TrainingPlan = toml::from_str(&format!(
        "local_epochs = 1\nclip = 2.0\nfraction_bits = 24\n{training}"
    ))
    .unwrap();
    Study {
        format: 1,
        name: galen_core::PartyId::new("test").unwrap(),
        title: String::new(),
        seed: 3,
        party: Vec::new(),
        sums: SumsPolicy {
            threshold: 2,
            agreement: 2,
            min_contributors: 3,
            quorum: 3,
            patience_s: 10,
            give_up_s: 100,
            max_attempts: 5,
            receivers: Receivers::Contributors,
        },
        data: DataSchema {
            header: true,
            missing: vec![],
            max_rows: 500,
            held_out: 0.3,
            column: vec![numeric("a"), numeric("b")],
            target: Target {
                negative: vec![0.0],
                positive: vec![1.0],
            },
            samples: None,
            range: None,
        },
        model: ModelPlan {
            layers: network.layers,
            ..ModelPlan::default()
        },
        training,
        evaluation: EvaluationPlan { bins: 8 },
        serving: ServingPlan {
            release: Release::Contributors,
            precision_bits: 12,
        },
    }
}

const DENSE: &str = "[{ dense = { outputs = 1 } }]";
const NORMALISED: &str = "[{ dense = { outputs = 2 } }, { batch_norm = {} }, { polynomial = { degree = 2, per = \"channel\" } }, { dense = { outputs = 1 } }]";

fn recipe(stages: &str) -> String {
    format!("[recipe]\nbatch_size = 8\n{stages}")
}

const ONE_STAGE: &str = "[[recipe.stages]]\nname = \"one\"\nepochs = 4\nweights = { learning_rate = 0.1 }\n";

const THREE_STAGES: &str = r#"
[[recipe.stages]]
name = "teacher"
epochs = 2
activations = "relu"
becomes_teacher = true
weights = { learning_rate = 0.1 }
[[recipe.stages]]
name = "transition"
epochs = 3
activations = { transition = { epochs_per_change = 2 } }
weights = { learning_rate = 0.1 }
distillation = {}
[[recipe.stages]]
name = "again"
epochs = 1
from_scratch = true
least_leading = 0.5
weights = { learning_rate = 0.1 }
"#;

fn course(layers: &str, training: &str) -> Course {
    Course::of(&study(layers, training)).unwrap()
}

/// The sum of a single hospital's contribution: a local model that is `step` away from the base.
fn sum(course: &Course, base: &Model, step: &[f64]) -> Vec<i64> {
    let params = base.params().iter().zip(step).map(|(b, s)| b + s).collect();
    let local = Model::new(base.spec().clone(), params).unwrap();
    course.contribution(base, &local, 500).unwrap()
}

/// Steps that the model makes when the average step is `steps[round]` in each round.
fn moves(course: &Course, steps: &[Vec<f64>]) -> (Vec<Vec<f64>>, Vec<Learned>) {
    let (mut moves, mut all) = (Vec::new(), Vec::<Learned>::new());
    for (round, step) in steps.iter().enumerate() {
        let base = course.base(round as u32, all.last(), None).unwrap();
        let sum = sum(course, &base, step);
        let next = course.apply(round as u32, all.last(), &sum).unwrap();
        let moved = next.params.iter().zip(base.params()).map(|(a, b)| a - b);
        moves.push(moved.collect());
        all.push(next);
    }
    (moves, all)
}

fn close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (f, e) in found.iter().zip(expected) {
        // Contributions are rounded to 2^-24.
        assert!((f - e).abs() < 1e-5, "{found:?} {expected:?}");
    }
}

/// A dense layer on four inputs has five parameters.
fn steps() -> Vec<Vec<f64>> {
    vec![
        vec![0.5, -0.25, 0.0, 0.125, 0.0],
        vec![0.25, 0.25, 0.0, -0.125, 0.5],
    ]
}

/// v = 0.5 v + step, and the model moves by 0.8 v.
#[test]
fn momentum_by_hand() {
    let text = format!(
        "server = {{ momentum = {{ learning_rate = 0.8, momentum = 0.5 }} }}\n{}",
        recipe(ONE_STAGE)
    );
    let (moves, all) = moves(&course(DENSE, &text), &steps());
    close(&moves[0], &[0.4, -0.2, 0.0, 0.1, 0.0]);
    close(&moves[1], &[0.4, 0.1, 0.0, -0.05, 0.4]);
    close(&all[1].server.first, &[0.5, 0.125, 0.0, -0.0625, 0.5]);
    assert!(all[1].server.second.is_empty());
}

/// Algorithm 2 of arXiv 2003.00295 for one coordinate: steps 0.5 and 0.25, beta1 = 0.5, beta2 = 0.75, tau = 0.1, eta = 0.2, v from tau^2:
/// m = 0.25, v = 0.0075 + 0.0625 = 0.07, move = 0.05 / (sqrt(0.07) + 0.1); then m = 0.25, v = 0.0525 + 0.015625 = 0.068125.
#[test]
fn adam_by_hand() {
    let text = format!(
        "server = {{ adam = {{ learning_rate = 0.2, beta1 = 0.5, beta2 = 0.75, tau = 0.1 }} }}\n{}",
        recipe(ONE_STAGE)
    );
    let (moves, all) = moves(&course(DENSE, &text), &steps());
    let first = 0.05 / (0.07f64.sqrt() + 0.1);
    let second = 0.05 / (0.068125f64.sqrt() + 0.1);
    assert!((moves[0][0] - first).abs() < 1e-6, "{moves:?}");
    assert!((moves[1][0] - second).abs() < 1e-6, "{moves:?}");
    // Without a step in any round nothing moves.
    assert_eq!((moves[0][2], moves[1][2]), (0.0, 0.0));
    assert!((all[1].server.second[0] - 0.068125).abs() < 1e-6);
}

/// With one hospital FedAvgM is gradient descent with momentum whose gradient is minus the local step: three pooled steps of heavy ball.
#[test]
fn one_hospital_with_momentum_is_the_pooled_optimiser() {
    let text = format!(
        "server = {{ momentum = {{ learning_rate = 0.5, momentum = 0.9 }} }}\n{}",
        recipe(ONE_STAGE)
    );
    let course = course(DENSE, &text);
    // The local step is one gradient step of rate 0.1 on the quadratic |w - target|^2 / 2.
    let target = [1.0, -1.0, 0.5, 0.0, 0.25];
    let gradient = |w: &[f64]| -> Vec<f64> { w.iter().zip(target).map(|(w, t)| w - t).collect() };
    let (mut pooled, mut velocity) = (course.first().params().to_vec(), vec![0.0; 5]);
    let mut learned = None;
    for round in 0..3 {
        let base = course.base(round, learned.as_ref(), None).unwrap();
        let step: Vec<f64> = gradient(base.params()).iter().map(|g| -0.1 * g).collect();
        learned = Some(
            course
                .apply(round, learned.as_ref(), &sum(&course, &base, &step))
                .unwrap(),
        );
        for (i, g) in gradient(&pooled).into_iter().enumerate() {
            velocity[i] = 0.9 * velocity[i] - 0.1 * g;
            pooled[i] += 0.5 * velocity[i];
        }
    }
    close(&learned.unwrap().params, &pooled);
}

#[test]
fn no_strategy_moves_further_than_the_clip() {
    for server in [
        "{ momentum = { learning_rate = 10.0, momentum = 0.99 } }",
        "{ adam = { learning_rate = 10.0, tau = 0.001 } }",
    ] {
        let text = format!("server = {server}\n{}", recipe(ONE_STAGE));
        let (moves, _) = moves(&course(DENSE, &text), &[steps(), steps()].concat());
        for moved in moves {
            let norm = moved.iter().map(|m| m * m).sum::<f64>().sqrt();
            assert!(norm <= 2.0 * (1.0 + 1e-12), "{norm}");
            assert!(norm > 1.9, "{norm}");
        }
    }
}

/// Whatever a later round depends on, the state's name tells: the memory of the server and the teacher, not only the model.
#[test]
fn the_digest_binds_model_server_and_teacher() {
    let momentum = format!("server = {{ momentum = {{}} }}\n{}", recipe(THREE_STAGES));
    let course_of = course(NORMALISED, &momentum);
    let count = course_of.network().parameter_count();
    let (_, all) = moves(&course_of, &[vec![0.01; count], vec![0.01; count]]);
    let whole = &all[1];
    assert!(whole.teacher.is_some() && !whole.server.first.is_empty());
    let digest = whole.digest(&course_of).unwrap();
    let changes: [fn(&mut Learned); 5] = [
        |l| l.params[0] = f64::from_bits(l.params[0].to_bits() ^ 1),
        |l| l.server.first[0] = f64::from_bits(l.server.first[0].to_bits() ^ 1),
        |l| l.server.second = std::mem::take(&mut l.server.first),
        |l| l.teacher.as_mut().unwrap()[0] += 1e-9,
        |l| l.teacher = None,
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let mut other = whole.clone();
        change(&mut other);
        assert_ne!(other.digest(&course_of), Some(digest), "{i}");
    }
    // A plain average has nothing else, and is named as its model.
    let plain = course(DENSE, &recipe(ONE_STAGE));
    let (_, all) = moves(&plain, &steps());
    let model = plain.model(Some(&all[1]), None).unwrap();
    assert_eq!(all[1].digest(&plain), Some(model.digest()));
    let mut short = all[1].clone();
    short.params.pop();
    assert_eq!(short.digest(&plain), None);
}

#[test]
fn rounds_have_their_places_in_the_stages() {
    let course = course(NORMALISED, &recipe(THREE_STAGES));
    assert_eq!(course.rounds(), 6);
    let places: Vec<(usize, u32, bool)> = (0..6)
        .map(|round| {
            let place = course.place(round).unwrap();
            (place.index, place.round, place.is_last())
        })
        .collect();
    let expected = [
        (0, 0, false),
        (0, 1, true),
        (1, 0, false),
        (1, 1, false),
        (1, 2, true),
        (2, 0, true),
    ];
    assert_eq!(places, expected);
    assert!(course.place(6).is_none());
    assert!(course.teacher_stage(1).is_none());
    for round in 2..6 {
        assert_eq!(course.teacher_stage(round).unwrap().name, "teacher");
    }
}

#[test]
fn teachers_new_beginnings_and_leading_coefficients() {
    let course = course(NORMALISED, &recipe(THREE_STAGES));
    let count = course.network().parameter_count();
    let (_, all) = moves(&course, &vec![vec![0.01; count]; 6]);
    assert_eq!(all[0].teacher, None);
    assert!(
        all[1..]
            .iter()
            .all(|learned| learned.teacher.as_ref() == Some(&all[1].params))
    );
    let teacher = course.teacher(Some(&all[4]), None).unwrap().unwrap();
    assert_eq!(teacher.params(), all[1].params);
    // The last stage begins with other random weights and with the first coefficients.
    let base = course.base(5, Some(&all[4]), None).unwrap();
    let mut seen = 0;
    for block in course.network().parameters() {
        let (now, first) = (block.of(base.params()), block.of(course.first().params()));
        match block.kind {
            ParameterKind::Weight => assert_ne!(now, first),
            _ => assert_eq!(now, first, "{}", block.name),
        }
        if block.kind == ParameterKind::Coefficient {
            // Two sets of c0, c1, c2; the last ones are 0.0978... and may not stay below 0.5.
            assert_eq!(block.of(&all[5].params)[4..], [0.5, 0.5]);
            assert!(block.of(&all[4].params)[4] < 0.5);
            seen += 1;
        }
    }
    assert_eq!(seen, 1);
}

#[test]
fn server_memory_starts_anew_with_a_stage() {
    let text = format!(
        "server = {{ momentum = {{ momentum = 0.9 }} }}\n{}",
        recipe(THREE_STAGES)
    );
    let course = course(NORMALISED, &text);
    let count = course.network().parameter_count();
    let (moves, _) = moves(&course, &vec![vec![0.01; count]; 3]);
    // The first weight: 0.01, then 0.01 * 1.9, and in the next stage 0.01 again.
    let first: Vec<f64> = moves.iter().map(|moved| moved[0]).collect();
    close(&first, &[0.01, 0.019, 0.01]);
}

/// Statistics go by their plain average, and by a limit of their own.
#[test]
fn statistics_of_normalisations_are_averaged_by_themselves() {
    let text = format!(
        "server = {{ momentum = {{ momentum = 0.9 }} }}\n{}",
        recipe(ONE_STAGE)
    );
    let course = course(NORMALISED, &text);
    let blocks = course.network().parameters();
    let step: Vec<f64> = blocks
        .iter()
        .flat_map(|block| {
            let each = match block.kind {
                ParameterKind::Mean => 0.5,
                ParameterKind::Variance => -30.0,
                _ => 0.01,
            };
            vec![each; block.len()]
        })
        .collect();
    let (moves, all) = moves(&course, &[step.clone(), step]);
    let of = |kind: ParameterKind, moved: &[f64]| {
        let block = blocks.iter().find(|b| b.kind == kind).unwrap();
        block.of(moved)[0]
    };
    // The weights are far below the limit although the statistics are far above it.
    assert!((of(ParameterKind::Weight, &moves[0]) - 0.01).abs() < 1e-6);
    assert!((of(ParameterKind::Weight, &moves[1]) - 0.019).abs() < 1e-6);
    let factor = 2.0 / (2.0 * (0.25f64 + 900.0)).sqrt();
    for moved in &moves {
        assert!((of(ParameterKind::Mean, moved) - 0.5 * factor).abs() < 1e-6);
    }
    // 1 - 1.41... would be negative.
    assert_eq!(of(ParameterKind::Variance, &all[1].params), 0.0);
}

#[test]
fn private_parameters_stay_where_they_are() {
    for (private, kept, names) in [
        (
            "[\"normalisations\"]",
            8,
            vec!["layer1.scale", "layer1.shift", "layer1.mean", "layer1.variance"],
        ),
        ("[\"statistics\"]", 4, vec!["layer1.mean", "layer1.variance"]),
        (
            "[\"layer3\", \"statistics\"]",
            7,
            vec!["layer1.mean", "layer1.variance", "layer3.weight", "layer3.bias"],
        ),
    ] {
        let course = course(
            NORMALISED,
            &format!("private = {private}\n{}", recipe(THREE_STAGES)),
        );
        let count = course.network().parameter_count();
        assert_eq!(course.sharing().private_names(), names);
        assert_eq!(course.values(), count - kept + 1);
        assert!(!course.sharing().is_whole());
        let base = course.first();
        let values = sum(&course, base, &vec![0.01; count]);
        assert_eq!(values.len(), course.values());
        let learned = course.apply(0, None, &values).unwrap();
        let (before, after) = (base.params(), &learned.params);
        let moved = before.iter().zip(after).filter(|(a, b)| a != b).count();
        assert_eq!(moved, count - kept);
        assert_eq!(
            course.sharing().private_of(before),
            course.sharing().private_of(after)
        );
        // The hospital's own come into its model, and the teacher has those of its time.
        let first = course.personal(0, None, Some(vec![7.0; kept])).unwrap();
        let second = course.personal(1, Some(&first), None).unwrap();
        let third = course.personal(2, Some(&second), Some(vec![8.0; kept])).unwrap();
        assert_eq!((&first.teacher, &second.teacher), (&None, &Some(vec![7.0; kept])));
        let learned = course.taken(1, Some(&learned), &course.model(Some(&learned), None).unwrap());
        let own = course.model(Some(&learned), Some(&third)).unwrap();
        assert_eq!(course.sharing().private_of(own.params()), vec![8.0; kept]);
        let teacher = course.teacher(Some(&learned), Some(&third)).unwrap().unwrap();
        assert_eq!(course.sharing().private_of(teacher.params()), vec![7.0; kept]);
        // Who was in no set yet has what all began with.
        let absent = course.personal(0, None, None).unwrap();
        assert_eq!(absent.params, course.sharing().private_of(before));
        let short = Personal {
            params: vec![0.0; kept - 1],
            teacher: None,
        };
        assert!(matches!(
            course.model(None, Some(&short)),
            Err(ModelError::PrivateCount { .. })
        ));
    }
    let all = course(NORMALISED, &recipe(ONE_STAGE));
    assert_eq!(all.personal(0, None, Some(vec![])), None);
}

#[test]
fn impossible_studies_are_refused_by_field() {
    type Change = fn(&mut Study);
    let none: Change = |_| {};
    let cases: [(&str, String, Change, &str, &str); 9] = [
        (
            "[{ dense = { outputs = 0 } }]",
            recipe(ONE_STAGE),
            none,
            "model.layers",
            "layer0 has 0 outputs",
        ),
        (
            "[{ dense = { outputs = 2 } }]",
            recipe(ONE_STAGE),
            none,
            "model.layers",
            "2 outputs",
        ),
        (
            "[\"sign\", { dense = { outputs = 1 } }]",
            recipe(ONE_STAGE),
            none,
            "model.layers",
            "layer0 (sign) has no gradient",
        ),
        (
            "[{ dense = { outputs = 3 } }, \"relu\", { dense = { outputs = 1 } }]",
            recipe(ONE_STAGE),
            |s| s.serving.release = Release::Coordinator,
            "model.layers",
            "layer1 (relu) is no polynomial",
        ),
        (
            "[\"relu\", { dense = { outputs = 1 } }]",
            format!(
                "[recipe]\nbatch_size = 8\nadaptation = {{ activation = {{ residue = {{ scale = 0.1, power = 2 }} }} }}\n{ONE_STAGE}"
            ),
            none,
            "training.recipe.adaptation",
            "has no dense layer",
        ),
        (
            NORMALISED,
            recipe(&THREE_STAGES.replace("epochs = 3", "epochs = 1")),
            none,
            "training.recipe",
            "stage \"transition\" has epochs = 1",
        ),
        (
            DENSE,
            format!("private = [\"layer1\"]\n{}", recipe(ONE_STAGE)),
            none,
            "training.private[0]",
            "names no parameters",
        ),
        (
            DENSE,
            format!("private = [\"statistics\"]\n{}", recipe(ONE_STAGE)),
            none,
            "training.private[0]",
            "layer0",
        ),
        (
            DENSE,
            format!("private = [\"layer0\"]\n{}", recipe(ONE_STAGE)),
            none,
            "training.private",
            "nothing to share",
        ),
    ];
    for (layers, training, change, field, part) in cases {
        let mut study = study(layers, &training);
        change(&mut study);
        let problems = Course::check(&study);
        let named = problems
            .iter()
            .any(|p| p.field == field && p.message.contains(part));
        assert!(named, "{field} {part}: {problems:?}");
        assert!(Course::of(&study).unwrap_err().to_string().contains(part));
    }
    assert_eq!(Course::check(&study(NORMALISED, &recipe(THREE_STAGES))), []);
}

proptest! {
    /// The planner of the sums is told this bound, whatever is shared and whatever was trained.
    #[test]
    fn contributions_stay_within_the_planned_bound(
        step in proptest::collection::vec(-50.0f64..50.0, 27),
        rows in 1usize..=500,
        private in proptest::sample::subsequence(vec!["normalisations", "statistics", "layer0", "layer3"], 0..3),
    ) {
        let names: Vec<String> = private.iter().map(|name| format!("\"{name}\"")).collect();
        let course = course(NORMALISED, &format!("private = [{}]\n{}", names.join(", "), recipe(ONE_STAGE)));
        prop_assert_eq!(course.network().parameter_count(), 27);
        let base = course.first();
        let params = base.params().iter().zip(&step).map(|(b, s)| b + s).collect();
        let local = Model::new(base.spec().clone(), params).unwrap();
        let values = course.contribution(base, &local, rows).unwrap();
        prop_assert_eq!(values.len(), course.values());
        prop_assert!(values.iter().all(|v| v.unsigned_abs() <= course.average().max_abs()));
    }
}
