//! Decision trees, single or boosted: import from XGBoost's JSON dump, and their quantised form.

use crate::circuit::{Circuit, CircuitError, Sum};
use crate::features::{Code, Encoder, Feature, FeatureError};
use crate::quantised::Quantised;
use serde::Deserialize;

/// Most nodes of a forest.
pub const MAX_NODES: usize = 1 << 20;
/// Deepest tree.
pub const MAX_DEPTH: usize = 24;
/// Largest dump that is read.
pub const MAX_DUMP_BYTES: usize = 64 << 20;

/// A node of a tree.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// What the tree adds to its class's score.
    Leaf(f64),
    /// Asks whether a feature is below a threshold.
    Split {
        /// Index of the feature.
        feature: usize,
        /// The threshold.
        threshold: f64,
        /// Where values below it go.
        below: Box<Node>,
        /// Where values from it on go.
        from: Box<Node>,
    },
}

/// Trees whose leaves add up to scores, one per class, or one in all.
#[derive(Clone, Debug, PartialEq)]
pub struct Forest {
    features: usize,
    scores: usize,
    base: f64,
    trees: Vec<Node>,
}

/// Trees that cannot be read or evaluated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// No JSON, or none of this form.
    #[error("the dump is not XGBoost's JSON (line {line}, column {column}): {detail}")]
    Json {
        /// Line of the dump.
        line: usize,
        /// Column of the dump.
        column: usize,
        /// What the reader says.
        detail: String,
    },
    /// Too many bytes, nodes or levels.
    #[error("the forest has too many {what}, at most {max} are possible")]
    Size {
        /// What there is too much of.
        what: &'static str,
        /// How much there may be.
        max: usize,
    },
    /// A split that names no feature.
    #[error("tree {tree}: a split names the feature {name:?}, which is not among the {features} features")]
    Feature {
        /// The tree.
        tree: usize,
        /// The name.
        name: String,
        /// Number of features.
        features: usize,
    },
    /// A node that is no numeric split and no leaf.
    #[error("tree {tree}, node {node}: {what}")]
    Node {
        /// The tree.
        tree: usize,
        /// The node's id.
        node: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Trees that do not divide among the classes.
    #[error("{trees} trees cannot be divided among {scores} scores")]
    Scores {
        /// Trees.
        trees: usize,
        /// Scores.
        scores: usize,
    },
    /// The thresholds.
    #[error(transparent)]
    Thresholds(#[from] FeatureError),
    /// The circuit.
    #[error(transparent)]
    Circuit(#[from] CircuitError),
}

#[derive(Deserialize)]
struct Dumped {
    #[serde(default)]
    nodeid: u64,
    split: Option<SplitName>,
    split_condition: Option<serde_json::Value>,
    yes: Option<u64>,
    no: Option<u64>,
    children: Option<Vec<Dumped>>,
    leaf: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum SplitName {
    Index(usize),
    Name(String),
}

impl Forest {
    /// From trees; those of one round belong to scores 0, 1, ... in turn. `base` is added to every score.
    pub fn new(features: usize, scores: usize, base: f64, trees: Vec<Node>) -> Result<Self, TreeError> {
        if scores == 0 || trees.is_empty() || !trees.len().is_multiple_of(scores) {
            let trees = trees.len();
            return Err(TreeError::Scores { trees, scores });
        }
        let mut nodes = 0;
        for (tree, root) in trees.iter().enumerate() {
            check(root, tree, features, 0, &mut nodes)?;
        }
        Ok(Self {
            features,
            scores,
            base,
            trees,
        })
    }

    /// Reads what `Booster.get_dump(dump_format="json")` or `dump_model` gives: an array of trees. `names` are the features, in order;
    /// splits name one of them, or `f0`, `f1` and so on. `scores` is 1, or the number of classes of `multi:softprob`. `base` is the
    /// base score as a margin, which the dump leaves out. Missing values have no way: they must be filled in before.
    pub fn from_xgboost(json: &str, names: &[&str], scores: usize, base: f64) -> Result<Self, TreeError> {
        if json.len() > MAX_DUMP_BYTES {
            return Err(TreeError::Size {
                what: "bytes",
                max: MAX_DUMP_BYTES,
            });
        }
        let dumped: Vec<Dumped> = serde_json::from_str(json).map_err(|error| TreeError::Json {
            line: error.line(),
            column: error.column(),
            detail: error.to_string(),
        })?;
        let trees: Result<Vec<Node>, TreeError> = dumped
            .into_iter()
            .enumerate()
            .map(|(tree, root)| node(root, tree, names, 0))
            .collect();
        Self::new(names.len(), scores, base, trees?)
    }

    /// Number of features.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Number of trees.
    pub fn trees(&self) -> usize {
        self.trees.len()
    }

    /// The scores of one row, in `f64`.
    pub fn evaluate(&self, row: &[f64]) -> Vec<f64> {
        let mut scores = vec![self.base; self.scores];
        for (index, root) in self.trees.iter().enumerate() {
            let mut node = root;
            scores[index % self.scores] += loop {
                match node {
                    Node::Leaf(value) => break value,
                    Node::Split {
                        feature,
                        threshold,
                        below,
                        from,
                    } => {
                        node = if row[*feature] < *threshold { below } else { from };
                    }
                }
            };
        }
        scores
    }

    /// The forest on integers: leaves are rounded such that scores have `score_bits` bits, thresholds stay as they are.
    ///
    /// A querier's features become the answers to all comparisons that the forest makes, which cost no bootstrap. Trees of few nodes are one
    /// table of their answers; larger ones are cut into parts, each one table of its own answers and of the number of answers on the
    /// way to it that are otherwise, 0 on its way and more elsewhere: the path costs of Tai, Ma, Zhao and Chow
    /// ("Privacy-preserving decision trees evaluation via linear functions", ESORICS 2017).
    pub fn quantise(&self, score_bits: u32) -> Result<Quantised, TreeError> {
        let mut thresholds: Vec<Vec<f64>> = vec![Vec::new(); self.features];
        self.trees.iter().for_each(|tree| collect(tree, &mut thresholds));
        for list in &mut thresholds {
            list.sort_by(f64::total_cmp);
            list.dedup();
        }
        let features = thresholds
            .iter()
            .map(|list| Feature::new(list.clone(), Code::Thermometer));
        let encoder = Encoder::new(features.collect())?;
        let offsets = encoder.offsets();
        let wire = |feature: usize, threshold: f64| {
            offsets[feature] + thresholds[feature].partition_point(|&t| t < threshold)
        };
        let mut spans = vec![0.0; self.scores];
        for (index, tree) in self.trees.iter().enumerate() {
            let (min, max) = extremes(tree);
            spans[index % self.scores] += max - min;
        }
        let span = spans.into_iter().fold(0.0f64, f64::max).max(1e-9);
        let per_unit = (1u64 << score_bits.min(32)) as f64 * 0.9 / span;
        let wired: Vec<Wired> = self
            .trees
            .iter()
            .map(|tree| {
                let (min, _) = extremes(tree);
                wire_up(tree, &wire, &|leaf| ((leaf - min) * per_unit).round() as i64)
            })
            .collect();
        let build = |entries: usize| -> Result<(Circuit, Vec<Sum>), TreeError> {
            let mut circuit = Circuit::new(encoder.ranges())?;
            let mut scores = vec![Sum::default(); self.scores];
            for (index, tree) in wired.iter().enumerate() {
                part(
                    &mut circuit,
                    tree,
                    &mut Vec::new(),
                    entries,
                    &mut scores[index % self.scores],
                )?;
            }
            Ok((circuit, scores))
        };
        let (mut circuit, mut scores) = build(WIDE)?;
        if circuit.lookups().len() > FEW {
            (circuit, scores) = build(NARROW)?;
        }
        for (class, score) in scores.iter_mut().enumerate() {
            let own = self.trees.iter().skip(class).step_by(self.scores);
            let least: f64 = own.map(|tree| extremes(tree).0).sum();
            score.constant += ((self.base + least) * per_unit).round() as i64;
        }
        Ok(Quantised::new(encoder, circuit, scores, 1.0 / per_unit))
    }
}

/// Entries of a part's table. The wider is read with less margin, which many bootstraps together cannot afford.
const WIDE: usize = 32;
const NARROW: usize = 16;
const FEW: usize = 48;

fn check(
    node: &Node,
    tree: usize,
    features: usize,
    depth: usize,
    nodes: &mut usize,
) -> Result<(), TreeError> {
    *nodes += 1;
    if *nodes > MAX_NODES {
        return Err(TreeError::Size {
            what: "nodes",
            max: MAX_NODES,
        });
    }
    if depth > MAX_DEPTH {
        return Err(TreeError::Size {
            what: "levels",
            max: MAX_DEPTH,
        });
    }
    let wrong = |what| {
        Err(TreeError::Node {
            tree,
            node: *nodes as u64 - 1,
            what,
        })
    };
    match node {
        Node::Leaf(value) if !value.is_finite() => wrong("a leaf must be a finite number"),
        Node::Leaf(_) => Ok(()),
        Node::Split { threshold, .. } if !threshold.is_finite() => {
            wrong("a threshold must be a finite number")
        }
        Node::Split { feature, .. } if *feature >= features => Err(TreeError::Feature {
            tree,
            name: feature.to_string(),
            features,
        }),
        Node::Split { below, from, .. } => {
            check(below, tree, features, depth + 1, nodes)?;
            check(from, tree, features, depth + 1, nodes)
        }
    }
}

fn node(dumped: Dumped, tree: usize, names: &[&str], depth: usize) -> Result<Node, TreeError> {
    let id = dumped.nodeid;
    let wrong = |what| TreeError::Node { tree, node: id, what };
    if depth > MAX_DEPTH {
        return Err(TreeError::Size {
            what: "levels",
            max: MAX_DEPTH,
        });
    }
    if let Some(leaf) = dumped.leaf {
        return Ok(Node::Leaf(leaf));
    }
    let split = dumped.split.ok_or_else(|| wrong("neither a leaf nor a split"))?;
    let unknown = |name: String| TreeError::Feature {
        tree,
        name,
        features: names.len(),
    };
    let feature = match split {
        SplitName::Index(index) if index < names.len() => index,
        SplitName::Index(index) => return Err(unknown(index.to_string())),
        SplitName::Name(name) => {
            let numbered = || {
                name.strip_prefix('f')?
                    .parse()
                    .ok()
                    .filter(|&i: &usize| i < names.len())
            };
            let named = names.iter().position(|known| *known == name);
            named.or_else(numbered).ok_or_else(|| unknown(name.clone()))?
        }
    };
    let threshold = dumped
        .split_condition
        .and_then(|value| value.as_f64())
        .ok_or_else(|| wrong("only splits at a number are supported, not categories or indicators"))?;
    let (Some(yes), Some(no), Some(children)) = (dumped.yes, dumped.no, dumped.children) else {
        return Err(wrong("a split needs yes, no and children"));
    };
    let Ok([first, second]) = <[Dumped; 2]>::try_from(children) else {
        return Err(wrong("a split needs two children"));
    };
    let (below, from) = match (first.nodeid, second.nodeid) {
        ids if ids == (yes, no) => (first, second),
        ids if ids == (no, yes) => (second, first),
        _ => return Err(wrong("yes and no must name the children")),
    };
    Ok(Node::Split {
        feature,
        threshold,
        below: Box::new(node(below, tree, names, depth + 1)?),
        from: Box::new(node(from, tree, names, depth + 1)?),
    })
}

fn collect(node: &Node, thresholds: &mut [Vec<f64>]) {
    if let Node::Split {
        feature,
        threshold,
        below,
        from,
    } = node
    {
        thresholds[*feature].push(*threshold);
        collect(below, thresholds);
        collect(from, thresholds);
    }
}

/// The smallest and the largest leaf.
fn extremes(node: &Node) -> (f64, f64) {
    match node {
        Node::Leaf(value) => (*value, *value),
        Node::Split { below, from, .. } => {
            let (a, b) = (extremes(below), extremes(from));
            (a.0.min(b.0), a.1.max(b.1))
        }
    }
}

/// A tree over the answers to comparisons: wires that are 1 from the threshold on.
enum Wired {
    Leaf(i64),
    Split(usize, Box<Wired>, Box<Wired>),
}

fn wire_up(node: &Node, wire: &dyn Fn(usize, f64) -> usize, quantise: &dyn Fn(f64) -> i64) -> Wired {
    match node {
        Node::Leaf(value) => Wired::Leaf(quantise(*value)),
        Node::Split {
            feature,
            threshold,
            below,
            from,
        } => {
            let (below, from) = (wire_up(below, wire, quantise), wire_up(from, wire, quantise));
            match (&below, &from) {
                // Rounding made both sides equal.
                (Wired::Leaf(a), Wired::Leaf(b)) if a == b => below,
                _ => Wired::Split(wire(*feature, *threshold), Box::new(below), Box::new(from)),
            }
        }
    }
}

impl Wired {
    fn wires(&self, all: &mut Vec<usize>) {
        if let Self::Split(wire, below, from) = self {
            if !all.contains(wire) {
                all.push(*wire);
            }
            below.wires(all);
            from.wires(all);
        }
    }

    fn value(&self, answers: &dyn Fn(usize) -> bool) -> i64 {
        match self {
            Self::Leaf(value) => *value,
            Self::Split(wire, below, from) if answers(*wire) => from.value(answers),
            Self::Split(_, below, _) => below.value(answers),
        }
    }
}

/// Adds a subtree to a score: in one table if that is small enough, else its halves. `path` are the answers on the way to it.
fn part(
    circuit: &mut Circuit,
    tree: &Wired,
    path: &mut Vec<(usize, bool)>,
    entries: usize,
    score: &mut Sum,
) -> Result<(), CircuitError> {
    if let Wired::Leaf(value) = tree {
        if *value == 0 {
            return Ok(());
        }
        if path.is_empty() {
            score.constant += value;
            return Ok(());
        }
    }
    let mut wires = Vec::new();
    tree.wires(&mut wires);
    let small = wires.len() < entries.ilog2() as usize + 1 && (path.len() + 1) << wires.len() <= entries;
    match tree {
        Wired::Split(wire, below, from) if !small => {
            for (answer, side) in [(false, below), (true, from)] {
                match path.iter().find(|(known, _)| known == wire) {
                    // Answered already: the other side is never reached.
                    Some(&(_, known)) if known != answer => {}
                    Some(_) => part(circuit, side, path, entries, score)?,
                    None => {
                        path.push((*wire, answer));
                        part(circuit, side, path, entries, score)?;
                        path.pop();
                    }
                }
            }
            Ok(())
        }
        _ => {
            let bits = wires.len() as u32;
            let mut sum = Sum::default();
            sum.terms
                .extend(wires.iter().enumerate().map(|(i, &wire)| (wire, 1i64 << i)));
            for &(wire, answer) in path.iter() {
                let weight = 1i64 << bits;
                sum.terms.push((wire, if answer { -weight } else { weight }));
                sum.constant += if answer { weight } else { 0 };
            }
            let table = |v: i64| {
                let answers = |wire: usize| {
                    let place = wires.iter().position(|&w| w == wire).unwrap_or(0);
                    (v >> place) & 1 == 1
                };
                if v >> bits == 0 { tree.value(&answers) } else { 0 }
            };
            let wire = circuit.lookup(sum, 0, table)?;
            score.terms.push((wire, 1));
            Ok(())
        }
    }
}
