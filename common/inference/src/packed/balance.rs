//! Values of one size.
//!
//! A bound on a ciphertext is one on its largest slot, and a diagonal is as large as its largest weight, so values of unlike sizes cost room and
//! precision where they share a ciphertext: the largest weight meets the largest value. So every value between two layers is made smaller or
//! larger by a power of two until it is at most about 1, and the weights that read it make up for that. The network computes the same.

use crate::circuit::Size;
use crate::network::{Network, Node};
use crate::sparse::Sparse;

/// The same outputs of values of one size, and how large those are.
pub(super) fn balanced(network: &Network, sizes: &[Vec<Size>]) -> (Network, Vec<Vec<Size>>) {
    let last = network.nodes.len().saturating_sub(1);
    let mut factors: Vec<Vec<f64>> = Vec::with_capacity(network.nodes.len());
    let mut nodes = Vec::with_capacity(network.nodes.len());
    for (id, node) in network.nodes.iter().enumerate() {
        let (own, node) = match node {
            Node::Input { len } => (vec![1.0; *len], node.clone()),
            Node::Square { of } => (factors[*of].iter().map(|f| f * f).collect(), node.clone()),
            Node::Sum { terms, constants, .. } => {
                let unit = |size: &Size| match size.largest {
                    largest if id == last || !(largest > 0.0 && largest.is_finite()) => 1.0,
                    largest => (-largest.log2().round()).clamp(-100.0, 100.0).exp2(),
                };
                let own: Vec<f64> = sizes[id].iter().map(unit).collect();
                let mut terms = terms.clone();
                for term in &mut terms {
                    let inverse = factors[term.node].iter().map(|f| 1.0 / f);
                    term.map = term.map.after(&Sparse::diagonal(inverse)).scaled(&own);
                }
                let constants = constants.iter().zip(&own).map(|(c, f)| c * f).collect();
                let sum = Node::Sum {
                    terms,
                    constants,
                    limits: None,
                };
                (own, sum)
            }
        };
        factors.push(own);
        nodes.push(node);
    }
    let scaled = |(sizes, factors): (&Vec<Size>, &Vec<f64>)| {
        let pairs = sizes.iter().zip(factors);
        pairs.map(|(size, &factor)| size.times(factor)).collect()
    };
    let sizes = sizes.iter().zip(&factors).map(scaled).collect();
    (Network { nodes }, sizes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::circuit::sizes;
    use crate::lower::lower;
    use galen_models::{Model, ModelSpec, Range};

    #[test]
    fn a_balanced_network_computes_the_same_from_values_of_one_size() {
        let spec: ModelSpec = toml::from_str(
            r#"
            input = 4
            layers = [
                { dense = { outputs = 5 } }, "square", { residual = { outputs = 3, scale = 0.3, power = 2 } },
                { dense = { outputs = 2 } },
            ]"#,
        )
        .unwrap();
        let mut params = Model::initial(spec.clone(), 2).unwrap().params().to_vec();
        // A neuron that is a thousand times larger than the others.
        params[..4].iter_mut().for_each(|w| *w *= 1000.0);
        let model = Model::new(spec, params).unwrap();
        let network = lower(&model, &|_| None).unwrap();
        let before = sizes(&network, &[Range::new(-1.0, 1.0); 4], None);
        let (balanced, after) = balanced(&network, &before);
        let row = [0.5, -0.25, 1.0, -1.0];
        for (a, b) in balanced.evaluate(&row).iter().zip(network.evaluate(&row)) {
            assert!((a - b).abs() <= 1e-9 * b.abs().max(1.0), "{a} {b}");
        }
        let last = after.len() - 1;
        let largest = |sizes: &Vec<Size>| sizes.iter().map(|s| s.largest).fold(0.0, f64::max);
        assert!(before[..last].iter().map(largest).fold(0.0, f64::max) > 1e3);
        assert!(after[..last].iter().map(largest).fold(0.0, f64::max) <= 2.0);
        assert_eq!(before[last], after[last]);
    }
}
