//! In which order the values of a circuit are computed.
//!
//! Depth first: a value is computed when the first of those that read it is about to be, and given up after the last one. A convolution then
//! holds what lies under the windows of a few places, not all values of the layer before it. What is computed does not depend on
//! the order.

use super::{BLOCK, Step};
use crate::network::NodeId;
use std::collections::HashSet;

/// A value: an element of a node, and of squares whether as it is (of degree 2) or divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) node: NodeId,
    pub(crate) raw: bool,
    pub(crate) index: usize,
}

impl Place {
    /// An input.
    pub(crate) fn input(index: usize) -> Self {
        Self {
            node: 0,
            raw: false,
            index,
        }
    }
}

/// Which elements of a node a task computes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    /// A block of rows of a sum.
    Block(usize),
    /// Squares of these elements.
    Squares(Vec<usize>),
}

/// What is computed at once.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) node: NodeId,
    pub(super) part: Part,
    /// The values that it reads, in the order of the block's columns or of the elements.
    pub(super) reads: Vec<Place>,
    /// The values that nobody reads afterwards.
    pub(super) over: Vec<Place>,
}

/// The tasks that lead to the elements of the last node, in order.
pub(super) fn schedule(steps: &[Step]) -> Vec<Task> {
    let len = |node: NodeId| elements(steps, node);
    let mut order = Order {
        steps,
        block_of: steps.iter().map(block_of).collect(),
        done: (0..steps.len()).map(|node| vec![false; len(node)]).collect(),
        tasks: Vec::new(),
    };
    if let Some(last) = steps.len().checked_sub(1) {
        order.demand(last, (0..len(last)).collect());
    }
    let mut tasks = order.tasks;
    // From the end, whoever is met first reads a value last. What nobody reads is given up as soon as it is there.
    let mut read: HashSet<Place> = HashSet::new();
    for task in tasks.iter_mut().rev() {
        let written = task.writes(steps);
        let unread = written
            .into_iter()
            .filter(|place| place.node + 1 < steps.len() && !read.contains(place));
        task.over = unread.collect();
        let last_read = task
            .reads
            .iter()
            .filter(|place| place.node > 0 && read.insert(**place));
        task.over.extend(last_read);
    }
    tasks
}

/// Number of elements of a node.
pub(super) fn elements(steps: &[Step], node: NodeId) -> usize {
    match &steps[node] {
        Step::Sum { constants, .. } => constants.len(),
        Step::Square { of, .. } => elements(steps, *of),
        Step::Input { len } => *len,
    }
}

/// The block of each row of a sum.
fn block_of(step: &Step) -> Vec<usize> {
    let Step::Sum {
        blocks, constants, ..
    } = step
    else {
        return Vec::new();
    };
    let mut all = vec![0; constants.len()];
    for (number, block) in blocks.iter().enumerate() {
        block.rows.iter().for_each(|&row| all[row] = number);
    }
    all
}

impl Task {
    /// What it computes.
    pub(super) fn writes(&self, steps: &[Step]) -> Vec<Place> {
        let node = self.node;
        let place = |raw: bool| move |&index: &usize| Place { node, raw, index };
        match (&self.part, &steps[node]) {
            (Part::Block(number), Step::Sum { blocks, .. }) => {
                let block = blocks.get(*number);
                block.iter().flat_map(|b| &b.rows).map(place(false)).collect()
            }
            (Part::Squares(elements), Step::Square { divisions, raw, .. }) => {
                let divided = elements.iter().filter(|_| divisions.is_some()).map(place(false));
                let kept = elements.iter().filter(|_| *raw).map(place(true));
                divided.chain(kept).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// The largest size of all values that are held at one time, the inputs included, which the caller holds throughout: by the size of a value,
/// and of what a task needs beside what it reads and writes.
pub(super) fn peak(
    steps: &[Step],
    tasks: &[Task],
    size: impl Fn(&Place) -> u64,
    beside: impl Fn(&Task) -> u64,
) -> u64 {
    let inputs = steps.first().map_or(0, |_| elements(steps, 0)) as u64;
    let mut held = inputs * size(&Place::input(0));
    let mut peak = held;
    for task in tasks {
        held += task.writes(steps).iter().map(&size).sum::<u64>();
        peak = peak.max(held + beside(task));
        held -= task.over.iter().map(&size).sum::<u64>();
    }
    peak
}

struct Order<'a> {
    steps: &'a [Step],
    block_of: Vec<Vec<usize>>,
    done: Vec<Vec<bool>>,
    tasks: Vec<Task>,
}

impl Order<'_> {
    /// Sees to it that elements of a node are computed.
    fn demand(&mut self, node: NodeId, mut elements: Vec<usize>) {
        elements.retain(|&index| !self.done[node][index]);
        match &self.steps[node] {
            Step::Input { .. } => {}
            Step::Square { of, .. } => {
                for some in elements.chunks(BLOCK) {
                    self.demand(*of, some.to_vec());
                    some.iter().for_each(|&index| self.done[node][index] = true);
                    let root = |&index: &usize| Place {
                        node: *of,
                        raw: false,
                        index,
                    };
                    self.tasks.push(Task {
                        node,
                        reads: some.iter().map(root).collect(),
                        part: Part::Squares(some.to_vec()),
                        over: Vec::new(),
                    });
                }
            }
            Step::Sum { blocks, sources, .. } => {
                let mut needed: Vec<usize> = elements.iter().map(|&i| self.block_of[node][i]).collect();
                needed.sort_unstable();
                needed.dedup();
                for number in needed {
                    let Some(block) = blocks.get(number) else { continue };
                    // Where the elements of each source begin among the columns.
                    let mut begin = 0;
                    let mut reads = Vec::with_capacity(block.columns.len());
                    for source in sources {
                        let width = self.done[source.node].len();
                        let inside = |&&column: &&usize| (begin..begin + width).contains(&column);
                        let own: Vec<usize> =
                            block.columns.iter().filter(inside).map(|c| c - begin).collect();
                        reads.extend(own.iter().map(|&index| Place {
                            node: source.node,
                            raw: source.raw,
                            index,
                        }));
                        self.demand(source.node, own);
                        begin += width;
                    }
                    block.rows.iter().for_each(|&row| self.done[node][row] = true);
                    self.tasks.push(Task {
                        node,
                        part: Part::Block(number),
                        reads,
                        over: Vec::new(),
                    });
                }
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{Blocks, Circuit, Scales, sizes};
    use super::*;
    use crate::lower::lower;
    use galen_ckks::context::Context;
    use galen_ckks::preset::Preset;
    use galen_models::{Model, ModelSpec, Range};

    pub(in super::super) fn steps(layers: &str, scales: Scales) -> Vec<Step> {
        let text =
            format!("input = [1, 16, 16]\nlayers = [{layers}, \"flatten\", {{ dense = {{ outputs = 3 }} }}]");
        let spec: ModelSpec = toml::from_str(&text).unwrap();
        let network = lower(&Model::initial(spec, 1).unwrap(), &|_| None).unwrap();
        let sizes = sizes(&network, &[Range::new(0.0, 1.0); 256], None);
        let blocks = Blocks::all(&network).unwrap();
        let context = Context::new(&Preset::by_name("n32768_q50_12x40_p7x44").unwrap()).unwrap();
        let given = (blocks.as_slice(), sizes.as_slice());
        Circuit::new(&context, &network, given, 12, scales, 0)
            .unwrap()
            .steps
    }

    pub(in super::super) const STRIDES: &str = "{ conv2d = { channels = 4, kernel = 3 } }, \"square\", { conv2d = { channels = 4, kernel = 3, stride = 2 } }, \"square\"";
    pub(in super::super) const RESIDUAL: &str = "{ conv2d = { channels = 2, kernel = 3 } }, { average_pool = { kernel = 2 } }, \
        { add = { body = [{ conv2d = { channels = 2, kernel = 1 } }, \"square\"] } }, { fixed_polynomial = { coefficients = [0.1, 0.5, 0.15, 0.2] } }";

    /// Everything is computed once, before it is read, and nothing is read after it was given up; only the results are left.
    #[test]
    fn values_are_there_when_they_are_read_and_gone_afterwards() {
        for (layers, scales) in [STRIDES, RESIDUAL]
            .iter()
            .flat_map(|l| Scales::choices().map(move |s| (*l, s)))
        {
            let steps = steps(layers, scales);
            let mut held: HashSet<Place> = HashSet::new();
            let mut seen: HashSet<Place> = HashSet::new();
            for task in schedule(&steps) {
                assert!(task.reads.iter().all(|p| p.node == 0 || held.contains(p)));
                for place in task.writes(&steps) {
                    assert!(seen.insert(place) && held.insert(place));
                }
                assert!(task.over.iter().all(|place| held.remove(place)));
            }
            let last = steps.len() - 1;
            assert_eq!(held.len(), elements(&steps, last));
            assert!(held.iter().all(|place| place.node == last));
        }
    }

    #[test]
    fn a_convolution_holds_windows_not_layers() {
        let steps = steps(STRIDES, Scales::Nominal);
        let held = peak(
            &steps,
            &schedule(&steps),
            |place| u64::from(place.node > 0),
            |_| 0,
        );
        // The first layer alone has 4 x 14 x 14 values. Three rows of windows, a block's, and the features at the end are held.
        assert!(held < 4 * 14 * 14, "{held}");
        assert!(held >= 4 * 3 * 14, "{held}");
    }
}
