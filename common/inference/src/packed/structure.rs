//! A lowered model for one ciphertext per vector: where elements lie, the diagonals of every sum, and the rotations that they take.

use super::diagonals::{Diagonals, Places, ROTATION, Rotations};
use super::order::Order;
use crate::circuit::Size;
use crate::network::{Network, Node, NodeId, Term};
use galen_models::ModelSpec;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Layouts that are compared, at most: all, or else every vector for itself while the others stay.
const COMPARED: usize = 4096;

/// A sum of matrices times vectors, as diagonals.
#[derive(Debug)]
pub(crate) struct Linear {
    /// The vectors.
    pub(crate) nodes: Vec<NodeId>,
    /// The matrix of each.
    pub(crate) diagonals: Vec<Diagonals>,
    pub(crate) rotations: Rotations,
    /// Where the elements of the result lie.
    pub(crate) places: Places,
    /// What diagonals repeat with.
    pub(crate) span: usize,
    pub(crate) constants: Vec<f64>,
    /// No part of a sum is larger.
    pub(crate) parts: f64,
    /// By giant step, what the absolute weights of any one slot add up to, at most.
    pub(crate) rows: BTreeMap<usize, f64>,
    /// What bounds on whole ciphertexts allow the products of one giant step to add up to, at most.
    pub(crate) reach: f64,
    /// The largest constant.
    pub(crate) constant: f64,
}

impl Linear {
    /// Products with plaintexts.
    pub(crate) fn products(&self) -> usize {
        self.diagonals.iter().map(|d| d.by_steps.len()).sum()
    }

    /// Products of the giant step that has most.
    pub(crate) fn longest_step(&self) -> usize {
        let Rotations { giant, giants, .. } = &self.rotations;
        let products = |&first: &usize| -> usize {
            let own = |d: &Diagonals| d.by_steps.range(first..first + giant).count();
            self.diagonals.iter().map(own).sum()
        };
        giants.iter().map(products).max().unwrap_or(0)
    }

    /// What any part of a sum is at most.
    pub(crate) fn part(&self) -> Size {
        Size {
            largest: self.parts,
            typical: self.parts,
        }
    }
}

/// A model laid out over the slots of a patient.
#[derive(Debug)]
pub(crate) struct Structure {
    /// Slots of a patient, a power of two.
    pub(crate) width: usize,
    /// The order of the inputs.
    pub(crate) order: Order,
    /// By node; nothing for inputs and squares.
    pub(crate) sums: Vec<Option<Arc<Linear>>>,
    /// The largest element of every node, and the largest typical one.
    pub(crate) sizes: Vec<Size>,
}

impl Structure {
    /// In the orders that take the least work with at most `slots` slots for a patient; nothing if no order has a place for every element.
    pub(crate) fn new(
        spec: &ModelSpec,
        network: &Network,
        sizes: &[Vec<Size>],
        slots: usize,
    ) -> Option<Self> {
        let orders = chosen(spec, network, slots)?;
        let root = |node: NodeId| root(network, node);
        let places: Vec<&Places> = (0..network.nodes.len())
            .map(|node| &orders[root(node)].1)
            .collect();
        let width = places.iter().map(|p| p.period).max()?;
        let sum = |(id, node): (NodeId, &Node)| {
            let Node::Sum { terms, constants, .. } = node else {
                return None;
            };
            Some(Arc::new(linear(terms, constants, &places, id, sizes)))
        };
        let size = |all: &Vec<Size>| Size {
            largest: all.iter().map(|s| s.largest).fold(0.0, f64::max),
            typical: all.iter().map(|s| s.typical).fold(0.0, f64::max),
        };
        Some(Self {
            width,
            order: orders[0].0,
            sums: network.nodes.iter().enumerate().map(sum).collect(),
            sizes: sizes.iter().map(size).collect(),
        })
    }
}

fn linear(terms: &[Term], constants: &[f64], places: &[&Places], id: NodeId, sizes: &[Vec<Size>]) -> Linear {
    let to = places[id];
    let span = terms
        .iter()
        .map(|t| places[t.node].period)
        .fold(to.period, usize::max);
    let diagonals: Vec<Diagonals> = terms
        .iter()
        .map(|t| Diagonals::new(&t.map, places[t.node], to))
        .collect();
    let steps: Vec<BTreeSet<usize>> = diagonals
        .iter()
        .map(|d| d.by_steps.keys().copied().collect())
        .collect();
    let largest = |node: NodeId| sizes[node].iter().map(|s| s.largest).fold(0.0, f64::max);
    let mut rows = vec![0.0; constants.len()];
    for term in terms {
        for (sum, row) in rows.iter_mut().zip(term.map.rows()) {
            *sum += row
                .iter()
                .map(|&(j, w)| w.abs() * sizes[term.node][j].largest)
                .sum::<f64>();
        }
    }
    let rotations = Rotations::new(&steps, span, to.period);
    let rows_of_giants = rows_of_giants(&diagonals, &rotations, span);
    let largest = terms.iter().map(|t| largest(t.node)).fold(0.0, f64::max);
    Linear {
        nodes: terms.iter().map(|t| t.node).collect(),
        rotations,
        reach: rows_of_giants.values().copied().fold(0.0, f64::max) * largest,
        rows: rows_of_giants,
        diagonals,
        places: to.clone(),
        span,
        constants: constants.to_vec(),
        parts: rows.into_iter().fold(0.0, f64::max),
        constant: constants.iter().map(|c| c.abs()).fold(0.0, f64::max),
    }
}

/// What the absolute weights of one slot add up to, at most, by giant step.
fn rows_of_giants(diagonals: &[Diagonals], rotations: &Rotations, span: usize) -> BTreeMap<usize, f64> {
    let row = |&giant: &usize| {
        let mut slots = vec![0.0; span];
        for diagonals in diagonals {
            let own = diagonals.by_steps.range(giant..giant + rotations.giant);
            for &(slot, weight) in own.flat_map(|(_, elements)| elements) {
                slots[slot] += f64::abs(weight);
            }
        }
        (giant, slots.into_iter().fold(0.0, f64::max))
    };
    rotations.giants.iter().map(row).collect()
}

/// Squares lie where what is squared does.
fn root(network: &Network, node: NodeId) -> NodeId {
    match &network.nodes[node] {
        Node::Square { of } => root(network, *of),
        _ => node,
    }
}

/// The order of every node, in products with plaintexts and what rotations cost in them the cheapest that were compared.
fn chosen(spec: &ModelSpec, network: &Network, slots: usize) -> Option<Vec<(Order, Places)>> {
    let last = network.nodes.len().checked_sub(1)?;
    let mut candidates: Vec<Vec<(Order, Places)>> = Vec::new();
    for (id, node) in network.nodes.iter().enumerate() {
        let len = network.len(id);
        let orders = match node {
            Node::Square { .. } => vec![Order::Plain],
            // Whoever asks reads them in their order.
            _ if id == last => vec![Order::Plain],
            _ => Order::candidates(spec, len),
        };
        let places = |order: Order| Some((order, Places::new(order.places(len, slots)?)));
        candidates.push(orders.into_iter().filter_map(places).collect());
    }
    if candidates.iter().any(Vec::is_empty) {
        return None;
    }
    let mut costs = Costs {
        network,
        candidates: &candidates,
        known: HashMap::new(),
    };
    let combinations = candidates.iter().try_fold(1usize, |n, c| n.checked_mul(c.len()));
    let mut best = vec![0; candidates.len()];
    let mut least = costs.all(&best);
    if combinations.is_some_and(|n| n <= COMPARED) {
        let mut choice = best.clone();
        while advance(&mut choice, &candidates) {
            let cost = costs.all(&choice);
            if cost < least {
                (least, best) = (cost, choice.clone());
            }
        }
    } else {
        for id in 0..candidates.len() {
            for other in 0..candidates[id].len() {
                let before = std::mem::replace(&mut best[id], other);
                let cost = costs.all(&best);
                if cost < least {
                    least = cost;
                } else {
                    best[id] = before;
                }
            }
        }
    }
    let chosen = candidates.iter_mut().zip(best);
    Some(chosen.map(|(orders, which)| orders.swap_remove(which)).collect())
}

/// The next combination of candidates.
fn advance(choice: &mut [usize], candidates: &[Vec<(Order, Places)>]) -> bool {
    for (which, orders) in choice.iter_mut().zip(candidates) {
        *which += 1;
        if *which < orders.len() {
            return true;
        }
        *which = 0;
    }
    false
}

/// What terms cost, each computed once for each pair of orders.
struct Costs<'a> {
    network: &'a Network,
    candidates: &'a [Vec<(Order, Places)>],
    known: HashMap<(NodeId, usize, usize, usize), usize>,
}

impl Costs<'_> {
    /// Of all sums, and the width that it takes, which decides among equals.
    fn all(&mut self, choice: &[usize]) -> (usize, usize) {
        let mut cost = 0;
        for (id, node) in self.network.nodes.iter().enumerate() {
            let Node::Sum { terms, .. } = node else { continue };
            for (number, term) in terms.iter().enumerate() {
                let from = root(self.network, term.node);
                let (input, output) = (choice[from], choice[id]);
                let (from, to) = (&self.candidates[from][input].1, &self.candidates[id][output].1);
                cost += *self.known.entry((id, number, input, output)).or_insert_with(|| {
                    let steps = Diagonals::steps(&term.map, from, to);
                    let products = steps.len();
                    let span = from.period.max(to.period);
                    products + ROTATION * Rotations::new(&[steps], span, to.period).count()
                });
            }
        }
        let places = self.candidates.iter().zip(choice);
        let width = places.map(|(orders, &which)| orders[which].1.period).max();
        (cost, width.unwrap_or(0))
    }
}
