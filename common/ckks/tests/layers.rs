//! Layers on batches: against single weighted sums, against plain arithmetic, over streams, and with any number of threads.
#![allow(clippy::unwrap_used, reason = "a failure is the test result")]

mod common;

use common::{tiny, values};
use galen_ckks::CkksError;
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::context::{Context, Target};
use galen_ckks::evaluate::Evaluator;
use galen_ckks::keys::SecretKey;
use galen_ckks::linear::{Convolution, LinearMap, QuadraticMap};
use galen_rns::threads::Threads;
use proptest::prelude::*;
use std::sync::Arc;

struct World {
    context: Arc<Context>,
    evaluator: Evaluator,
    key: SecretKey,
}

fn world() -> World {
    let context = tiny(3, 1);
    World {
        evaluator: Evaluator::new(&context).with_min_precision(-1000.0),
        key: SecretKey::from_seed(&context, &[5; 32]).unwrap(),
        context,
    }
}

impl World {
    /// Ciphertexts of values in -1..1, and the values.
    fn inputs(&self, count: usize, level: usize, scale: f64) -> (Vec<Ciphertext>, Vec<Vec<f64>>) {
        (0..count as u64)
            .map(|index| {
                let slots = values(self.context.slots(), index);
                let plain = self.context.encode_at(&slots, 1.0, level, scale).unwrap();
                let seed = [index as u8 + 1; 32];
                (self.key.encrypt_with_seed(&plain, &seed).unwrap(), slots)
            })
            .unzip()
    }

    fn decrypt(&self, ct: &Ciphertext) -> Vec<f64> {
        self.context.decode(&self.key.decrypt(ct).unwrap()).unwrap()
    }

    fn target(&self, level: usize) -> Target {
        self.context.product_target(level).unwrap()
    }

    /// Decrypts to `expected`, one vector per ciphertext, within the stated bounds.
    fn check(&self, cts: &[Ciphertext], expected: &[Vec<f64>]) {
        assert_eq!(cts.len(), expected.len());
        for (ct, expected) in cts.iter().zip(expected) {
            let bound = ct.noise_bound() / ct.scale() + 1e-12;
            for (got, want) in self.decrypt(ct).iter().zip(expected) {
                assert!((got - want).abs() <= bound, "{got} {want} {bound}");
                assert!(want.abs() <= ct.magnitude_bound());
            }
        }
    }
}

fn refs(cts: &[Ciphertext]) -> Vec<&Ciphertext> {
    cts.iter().collect()
}

/// The map on every slot of known values, which are one vector per input.
fn clear(map: &LinearMap, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let slots: Vec<Vec<f64>> = (0..inputs[0].len())
        .map(|slot| {
            map.apply_clear(&inputs.iter().map(|x| x[slot]).collect::<Vec<_>>())
                .unwrap()
        })
        .collect();
    (0..map.outputs())
        .map(|output| slots.iter().map(|slot| slot[output]).collect())
        .collect()
}

fn small_convolution(maps: usize) -> LinearMap {
    let shape = Convolution {
        channels: 1,
        image: [5, 4],
        maps,
        kernel: [3, 3],
        stride: [2, 2],
        padding: [1, 1],
    };
    LinearMap::convolution(&shape, &values(9 * maps, 77)).unwrap()
}

#[test]
fn a_convolution_is_its_weighted_sums() {
    let world = world();
    let map = small_convolution(2);
    let (inputs, slots) = world.inputs(map.inputs(), 3, world.context.scale(3).unwrap());
    let sums = world
        .evaluator
        .apply(&map, &refs(&inputs), world.target(3))
        .unwrap();
    world.check(&sums, &clear(&map, &slots));
    for (output, sum) in sums.iter().enumerate() {
        let (read, weights): (Vec<&Ciphertext>, Vec<f64>) =
            map.row(output).map(|(input, w)| (&inputs[input], w)).unzip();
        let single = world
            .evaluator
            .mac_scalars(&read, &weights, world.target(3))
            .unwrap();
        assert_eq!(*sum, single, "{output}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Any matrix, inputs of several levels, scales and degrees, and destinations that held something else.
    #[test]
    fn layers_are_their_weighted_sums(
        rows in proptest::collection::vec(proptest::collection::vec((0usize..6, -3.0f64..3.0), 0..6), 1..9),
        level in 0usize..=2,
        stale in 0usize..12,
    ) {
        let world = world();
        let ev = &world.evaluator;
        let mut inputs = world.inputs(4, 3, world.context.scale(3).unwrap()).0;
        inputs.extend(world.inputs(1, 2, 1e9).0);
        inputs.push(ev.square(&inputs[4]).unwrap());
        let rows: Vec<Vec<(usize, f64)>> = rows
            .into_iter()
            .map(|mut row| {
                row.sort_by_key(|&(input, _)| input);
                row.dedup_by_key(|&mut (input, _)| input);
                row
            })
            .collect();
        let map = LinearMap::sparse(inputs.len(), &rows).unwrap();
        let target = Target { level, scale: 2f64.powi(if level == 0 { 42 } else { 75 }) };
        let mut outputs: Vec<Ciphertext> = inputs.iter().cycle().take(stale).cloned().collect();
        ev.apply_into(&map, &refs(&inputs), target, &mut outputs).unwrap();
        prop_assert_eq!(outputs.len(), rows.len());
        for (output, row) in outputs.iter().zip(&rows) {
            // In one degree throughout, so with all inputs named.
            let mut weights = vec![0.0; inputs.len()];
            row.iter().for_each(|&(input, w)| weights[input] = w);
            let all = ev.mac_scalars(&refs(&inputs), &weights, target).unwrap();
            prop_assert!(output.parts() == all.parts());
            prop_assert_eq!(output.degree(), 2);
            // A weight of zero adds neither message nor noise.
            prop_assert_eq!(output.budget(), all.budget());
        }
    }

    /// Bit for bit and bound for bound the same as one layer after the other.
    #[test]
    fn a_quadratic_map_is_layer_square_layer(
        hidden in 1usize..8,
        outputs in 1usize..5,
        salt: u64,
    ) {
        let world = world();
        let ev = &world.evaluator;
        let (inputs, slots) = world.inputs(5, 3, 1e8);
        let constants = values(hidden, salt ^ 1);
        let inner = LinearMap::dense(5, values(5 * hidden, salt)).unwrap();
        let outer = LinearMap::dense(hidden, values(hidden * outputs, salt ^ 2)).unwrap();
        let target = Target { level: 2, scale: 2f64.powi(95) };
        let inner_scale = 2f64.powi(41);
        let map = QuadraticMap::new(inner.clone(), constants.clone(), outer.clone()).unwrap();
        let mut fused = inputs[..3].to_vec();
        ev.apply_quadratic_into(&map, &refs(&inputs), inner_scale, target, &mut fused).unwrap();

        let sums = ev.apply(&inner, &refs(&inputs), Target { scale: inner_scale, ..target }).unwrap();
        let squares: Vec<Ciphertext> = sums
            .iter()
            .zip(&constants)
            .map(|(sum, &c)| ev.square(&ev.add_scalar(sum, c).unwrap()).unwrap())
            .collect();
        let layered = ev.apply(&outer, &refs(&squares), target).unwrap();
        prop_assert!(fused == layered);

        let mut units = clear(&inner, &slots);
        for (unit, c) in units.iter_mut().zip(&constants) {
            unit.iter_mut().for_each(|u| *u = (*u + c) * (*u + c));
        }
        world.check(&fused, &clear(&outer, &units));
    }

    /// In blocks of any size, and what is done with complete sums in their order.
    #[test]
    fn streams_give_what_layers_give(block in 0usize..25, dense: bool, by_place: bool) {
        let world = world();
        let ev = &world.evaluator;
        let mut map = if dense {
            LinearMap::dense(20, values(60, 3)).unwrap()
        } else {
            small_convolution(2)
        };
        if by_place {
            // From map by map to place by place.
            let half = map.outputs().div_ceil(2);
            let order = (0..map.outputs()).map(|i| i / 2 + i % 2 * half);
            let rows: Vec<Vec<(usize, f64)>> = order.map(|row| map.row(row).collect()).collect();
            map = LinearMap::sparse(map.inputs(), &rows).unwrap();
        }
        let inputs = world.inputs(20, 3, world.context.scale(3).unwrap()).0;
        let target = world.target(2);
        let expected: Vec<Ciphertext> = ev
            .apply(&map, &refs(&inputs), target)
            .unwrap()
            .iter()
            .map(|sum| ev.rescale(sum).unwrap())
            .collect();
        let mut got = Vec::new();
        ev.stream(
            &map,
            target,
            block,
            inputs.iter().cloned().map(Ok::<_, CkksError>),
            |index, sum| {
                assert_eq!(sum.scale(), target.scale);
                assert!(index < map.outputs());
                ev.rescale(&sum)
            },
            |sum| {
                got.push(sum);
                Ok(())
            },
        )
        .unwrap();
        prop_assert!(got == expected);
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    let world = world();
    let ev = &world.evaluator;
    let conv = small_convolution(3);
    let outer = LinearMap::dense(conv.outputs(), values(conv.outputs() * 4, 9)).unwrap();
    let map = QuadraticMap::new(conv.clone(), values(conv.outputs(), 8), outer.clone()).unwrap();
    let inputs = world.inputs(conv.inputs(), 3, 1e8).0;
    let target = Target {
        level: 3,
        scale: 2f64.powi(95),
    };
    let bytes =
        |cts: &[Ciphertext]| -> Vec<Vec<u8>> { cts.iter().map(|ct| ct.to_bytes().unwrap()).collect() };
    let results: Vec<_> = [1, 2, 3]
        .into_iter()
        .map(|count| {
            Threads::new(count).unwrap().install(|| {
                assert_eq!(galen_rns::threads::current(), count);
                let layer = ev.apply(&conv, &refs(&inputs), world.target(3)).unwrap();
                let quadratic = ev
                    .apply_quadratic(&map, &refs(&inputs), 2f64.powi(41), target)
                    .unwrap();
                let mut streamed = Vec::new();
                let source = inputs.iter().cloned().map(Ok::<_, CkksError>);
                let sink = |sum| {
                    streamed.push(sum);
                    Ok(())
                };
                ev.stream(&conv, world.target(3), 7, source, |_, sum| ev.square(&sum), sink)
                    .unwrap();
                [bytes(&layer), bytes(&quadratic), bytes(&streamed)]
            })
        })
        .collect();
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0], results[2]);
}

#[test]
fn refusals() {
    let world = world();
    let ev = &world.evaluator;
    let (inputs, _) = world.inputs(3, 2, world.context.scale(2).unwrap());
    let map = LinearMap::dense(3, vec![0.5; 6]).unwrap();
    let target = world.target(2);
    let count = |result: Result<Vec<Ciphertext>, CkksError>| matches!(result, Err(CkksError::Count { .. }));
    assert!(count(ev.apply(&map, &refs(&inputs[..2]), target)));
    assert!(count(ev.apply(&map, &[], target)));
    assert!(count(ev.linear(&refs(&inputs), &[&[1.0; 2]], target)));
    assert!(matches!(
        ev.apply(&map, &refs(&inputs), world.target(3)),
        Err(CkksError::LevelRange { level: 3, max: 2 })
    ));
    let wide = Target {
        scale: 2f64.powi(140),
        ..target
    };
    // After an error the destination is what it was.
    let mut outputs = inputs.clone();
    let result = ev.apply_into(&map, &refs(&inputs), wide, &mut outputs);
    assert!(matches!(result, Err(CkksError::Overflow { .. })), "{result:?}");
    assert!(outputs == inputs);
    let strict = ev.clone().with_min_precision(60.0);
    let result = strict.apply(&map, &refs(&inputs), target);
    assert!(matches!(result, Err(CkksError::Precision { .. })), "{result:?}");
    let mut foreign = inputs.clone();
    let other = SecretKey::from_seed(&world.context, &[6; 32]).unwrap();
    let plain = world.context.encode(&[1.0], 1.0).unwrap();
    foreign[1] = other.encrypt(&plain).unwrap();
    let result = ev.apply(&map, &refs(&foreign), target);
    assert!(matches!(result, Err(CkksError::KeyMismatch)), "{result:?}");

    let squares: Vec<Ciphertext> = inputs.iter().map(|ct| ev.square(ct).unwrap()).collect();
    let quadratic = QuadraticMap::new(
        map.clone(),
        vec![0.0; 2],
        LinearMap::dense(2, vec![1.0; 2]).unwrap(),
    )
    .unwrap();
    let result = ev.apply_quadratic(&quadratic, &refs(&squares), 1e12, target);
    assert!(
        matches!(result, Err(CkksError::CiphertextDegree { degree: 2, needed: 1 })),
        "{result:?}"
    );
    let result = ev.apply_quadratic(&quadratic, &refs(&inputs), 1e30, target);
    assert!(matches!(result, Err(CkksError::Overflow { .. })), "{result:?}");
    for (constants, outer) in [(1, 2), (2, 3)] {
        let outer = LinearMap::dense(outer, vec![1.0; outer]).unwrap();
        assert!(QuadraticMap::new(map.clone(), vec![0.0; constants], outer).is_err());
    }

    let stream = |inputs: &[Ciphertext], target| {
        let source = inputs.iter().cloned().map(Ok::<_, CkksError>);
        ev.stream(&map, target, 2, source, |_, sum| Ok(sum), |_| Ok(()))
    };
    assert_eq!(stream(&inputs, target), Ok(()));
    let four: Vec<Ciphertext> = inputs.iter().chain(&inputs[..1]).cloned().collect();
    for wrong in [&inputs[..2], &four, &[]] {
        assert!(matches!(stream(wrong, target), Err(CkksError::Count { .. })));
    }
    assert_eq!(stream(&foreign, target), Err(CkksError::KeyMismatch));
    assert!(matches!(stream(&inputs, wide), Err(CkksError::Overflow { .. })));
    let mixed = [inputs[0].clone(), inputs[1].clone(), squares[2].clone()];
    assert!(matches!(
        stream(&mixed, target),
        Err(CkksError::CiphertextDegree { .. })
    ));
}
