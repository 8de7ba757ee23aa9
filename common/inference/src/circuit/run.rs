//! The evaluation of a circuit, written once for everything that can be computed with.

use super::schedule::{Part, Task, schedule};
use super::{Circuit, Place, Shelf, Size, Spill, Step, Stored};
use galen_ckks::CkksError;
use galen_ckks::context::Target;
use galen_ckks::linear::LinearMap;
use rayon::prelude::*;
use std::collections::HashMap;

/// What a circuit computes with: ciphertexts ([`Evaluator`](galen_ckks::evaluate::Evaluator) with a key) or only their bounds.
pub(crate) trait Arithmetic: Sync {
    /// A vector with one entry per patient.
    type Value: Clone + Send + Sync;
    /// Weighted sums.
    fn apply(
        &self,
        map: &LinearMap,
        inputs: &[&Self::Value],
        target: Target,
    ) -> Result<Vec<Self::Value>, CkksError>;
    /// The square, of degree 2.
    fn square(&self, a: &Self::Value) -> Result<Self::Value, CkksError>;
    /// The square, back to degree 1, then divided by the prime of its level this many times.
    fn square_divided(&self, a: &Self::Value, divisions: usize) -> Result<Self::Value, CkksError>;
    /// Plus a constant, back to degree 1, then divided by the prime of its level this many times.
    fn finish(&self, a: Self::Value, constant: f64, divisions: usize) -> Result<Self::Value, CkksError>;
    /// The same at a lower level.
    fn at_level(&self, a: Self::Value, level: usize) -> Result<Self::Value, CkksError>;
    /// The same with better bounds on its entries.
    fn within(&self, a: Self::Value, size: Size) -> Result<Self::Value, CkksError>;
}

/// A circuit that cannot be evaluated.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: CkksError,
    /// Whether it is the results that cannot be computed, and not something on the way.
    pub(crate) in_results: bool,
}

/// The same where values wait on a shelf.
#[derive(Debug)]
pub(crate) enum StoredFailure<E> {
    Ckks(CkksError),
    Shelf(E),
}

impl Circuit {
    /// Runs the circuit on one value per model input. Results have level 0 and degree 1. `progress` gets steps done and steps in
    /// all.
    pub(crate) fn run<A: Arithmetic>(
        &self,
        arithmetic: &A,
        inputs: &[A::Value],
        progress: &mut dyn FnMut(u32, u32),
    ) -> Result<Vec<A::Value>, Failure> {
        let tasks = schedule(&self.steps);
        let total = tasks.len() as u32;
        let mut held: HashMap<Place, A::Value> = HashMap::new();
        for (task, done) in tasks.iter().zip(1..) {
            let read: Vec<&A::Value> = task
                .reads
                .iter()
                .map(|place| match place.node {
                    0 => &inputs[place.index],
                    _ => &held[place],
                })
                .collect();
            let computed = self.compute(arithmetic, task, &read).map_err(|error| Failure {
                error,
                in_results: task.node + 1 == self.steps.len(),
            })?;
            held.extend(task.writes(&self.steps).into_iter().zip(computed));
            for place in &task.over {
                held.remove(place);
            }
            progress(done, total);
        }
        let mut results: Vec<(Place, A::Value)> = held.into_iter().collect();
        results.sort_by_key(|(place, _)| place.index);
        Ok(results.into_iter().map(|(_, value)| value).collect())
    }

    /// The same with values that wait on a shelf. The inputs are [`Stored::input`].
    pub(crate) fn run_stored<A: Arithmetic, S: Shelf<A::Value>>(
        &self,
        arithmetic: &A,
        spill: &Spill,
        mut stored: Stored<A::Value, S>,
        progress: &mut dyn FnMut(u32, u32),
    ) -> Result<Vec<A::Value>, StoredFailure<S::Error>> {
        let tasks = schedule(&self.steps);
        let total = tasks.len() as u32;
        for ((task, moves), done) in tasks.iter().zip(&spill.moves).zip(1..) {
            stored.prepare(moves).map_err(StoredFailure::Shelf)?;
            let read: Vec<&A::Value> = task.reads.iter().map(|place| stored.get(place)).collect();
            let computed = self
                .compute(arithmetic, task, &read)
                .map_err(StoredFailure::Ckks)?;
            stored.enter(task.writes(&self.steps).into_iter().zip(computed));
            stored.give_up(moves).map_err(StoredFailure::Shelf)?;
            progress(done, total);
        }
        if let Some(last) = spill.moves.last() {
            stored.prepare(last).map_err(StoredFailure::Shelf)?;
        }
        Ok(stored.into_values())
    }

    /// What a task writes, in the order of [`Task::writes`].
    fn compute<A: Arithmetic>(
        &self,
        arithmetic: &A,
        task: &Task,
        read: &[&A::Value],
    ) -> Result<Vec<A::Value>, CkksError> {
        match (&task.part, &self.steps[task.node]) {
            (
                Part::Block(number),
                Step::Sum {
                    blocks,
                    constants,
                    sizes,
                    target,
                    divisions,
                    ..
                },
            ) => {
                let Some(block) = blocks.get(*number) else {
                    return Ok(Vec::new());
                };
                let last = task.node + 1 == self.steps.len();
                let finish = |index: usize, sum: A::Value| {
                    let value = arithmetic.finish(sum, constants[index], *divisions)?;
                    let value = arithmetic.within(value, sizes[index])?;
                    if last {
                        arithmetic.at_level(value, 0)
                    } else {
                        Ok(value)
                    }
                };
                let rows = block.rows.par_iter();
                if blocks.is_copy() {
                    return rows
                        .zip(read)
                        .map(|(&i, &value)| finish(i, value.clone()))
                        .collect();
                }
                let sums = arithmetic.apply(&block.map, read, *target)?;
                rows.zip(sums).map(|(&i, sum)| finish(i, sum)).collect()
            }
            (
                Part::Squares(_),
                Step::Square {
                    divisions, raw: kept, ..
                },
            ) => {
                let mut written = Vec::with_capacity(2 * read.len());
                if let Some(divisions) = divisions {
                    let divided = read.par_iter().map(|x| arithmetic.square_divided(x, *divisions));
                    written = divided.collect::<Result<_, _>>()?;
                }
                if *kept {
                    let squares = read.par_iter().map(|x| arithmetic.square(x));
                    written.extend(squares.collect::<Result<Vec<A::Value>, _>>()?);
                }
                Ok(written)
            }
            _ => Ok(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Blocks, Scales, TooLow, sizes};
    use super::*;
    use crate::lower::lower;
    use galen_ckks::context::Context;
    use galen_ckks::preset::Preset;
    use galen_models::{Model, ModelSpec, Range};
    use std::sync::Mutex;

    /// One patient in plain numbers.
    struct Plain;

    impl Arithmetic for Plain {
        type Value = f64;

        fn apply(&self, map: &LinearMap, inputs: &[&f64], _: Target) -> Result<Vec<f64>, CkksError> {
            let sum = |output| map.row(output).map(|(j, w)| w * inputs[j]).sum();
            Ok((0..map.outputs()).map(sum).collect())
        }

        fn square(&self, a: &f64) -> Result<f64, CkksError> {
            Ok(a * a)
        }

        fn square_divided(&self, a: &f64, _: usize) -> Result<f64, CkksError> {
            Ok(a * a)
        }

        fn finish(&self, a: f64, constant: f64, _: usize) -> Result<f64, CkksError> {
            Ok(a + constant)
        }

        fn at_level(&self, a: f64, _: usize) -> Result<f64, CkksError> {
            Ok(a)
        }

        fn within(&self, a: f64, size: Size) -> Result<f64, CkksError> {
            assert!(a.abs() <= size.largest * (1.0 + 1e-12), "{a} {size:?}");
            Ok(a)
        }
    }

    /// Values in a table.
    #[derive(Default)]
    struct Table(Mutex<HashMap<Place, f64>>);

    impl Shelf<f64> for Table {
        type Error = ();

        fn put(&self, place: Place, value: &f64) -> Result<(), ()> {
            let before = self.0.lock().unwrap().insert(place, *value);
            before.map_or(Ok(()), |_| Err(()))
        }

        fn get(&self, place: Place) -> Result<f64, ()> {
            self.0.lock().unwrap().get(&place).copied().ok_or(())
        }

        fn remove(&self, place: Place) -> Result<(), ()> {
            self.0.lock().unwrap().remove(&place).map(drop).ok_or(())
        }
    }

    /// What comes out where memory holds as little as it can.
    fn stored(circuit: &Circuit, row: &[f64]) -> Vec<f64> {
        let TooLow { needed } = circuit.spill(8, 0).unwrap_err();
        let spill = circuit.spill(8, needed).unwrap();
        assert!(spill.written_bytes > 0);
        let mut stored = Stored::new(Table::default());
        for (index, value) in row.iter().enumerate() {
            stored.input(&spill, index, *value).unwrap();
        }
        circuit
            .run_stored(&Plain, &spill, stored, &mut |_, _| {})
            .unwrap()
    }

    /// However scales are laid out, a circuit computes what the network says, and its bounds hold.
    #[test]
    fn circuits_compute_their_networks() {
        let spec: ModelSpec = toml::from_str(
            r#"
            input = [1, 5, 5]
            layers = [
                { conv2d = { channels = 2, kernel = 2 } },
                { fixed_polynomial = { coefficients = [0.1, 0.5, 0.15, 0.2] } },
                { average_pool = { kernel = 2 } },
                { add = { body = [{ conv2d = { channels = 2, kernel = 1 } }, "square"] } },
                "flatten",
                { dense = { outputs = 3 } },
            ]"#,
        )
        .unwrap();
        let model = Model::initial(spec, 3).unwrap();
        let network = lower(&model, &|_| None).unwrap();
        let ranges = vec![Range::new(-1.0, 1.0); 25];
        let sizes = sizes(&network, &ranges, None);
        let blocks = Blocks::all(&network).unwrap();
        let row: Vec<f64> = (0..25).map(|i| f64::from(i * 7 % 11) / 5.0 - 1.0).collect();
        let expected = network.evaluate(&row);
        let context = Context::new(&Preset::by_name("n32768_q50_12x40_p7x44").unwrap()).unwrap();
        for scales in Scales::choices() {
            for shift in [0, 2] {
                let given = (blocks.as_slice(), sizes.as_slice());
                let circuit = Circuit::new(&context, &network, given, 12, scales, shift).unwrap();
                let found = circuit.run(&Plain, &row, &mut |_, _| {}).unwrap();
                assert_eq!(stored(&circuit, &row), found);
                for (a, b) in found.iter().zip(&expected) {
                    let a = a * f64::from(shift).exp2();
                    assert!((a - b).abs() < 1e-9, "{scales:?} {shift}: {a} {b}");
                }
            }
        }
    }
}
