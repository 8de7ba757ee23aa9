//! Models as trees of layers with their own parameters: what is convenient to rewrite.

use crate::model::{Model, ModelError};
use crate::spec::{Layer, ModelSpec, Shape, Site};

/// A layer with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    /// The layer; an addition's body and shortcut are empty here and stand beside it.
    pub(crate) layer: Layer,
    /// The values of its own parameter blocks, in flat order.
    pub(crate) blocks: Vec<Vec<f64>>,
    /// The body of an addition.
    pub(crate) body: Vec<Node>,
    /// The shortcut of an addition.
    pub(crate) shortcut: Vec<Node>,
}

impl Node {
    /// A layer that is no addition.
    pub(crate) fn new(layer: Layer, blocks: Vec<Vec<f64>>) -> Self {
        Self {
            layer,
            blocks,
            body: Vec::new(),
            shortcut: Vec::new(),
        }
    }

    /// An addition.
    pub(crate) fn add(body: Vec<Self>, shortcut: Vec<Self>) -> Self {
        let layer = Layer::Add {
            body: Vec::new(),
            shortcut: Vec::new(),
        };
        Self {
            layer,
            blocks: Vec::new(),
            body,
            shortcut,
        }
    }

    fn nested(&self) -> impl Iterator<Item = &Self> {
        self.body.iter().chain(&self.shortcut)
    }

    /// The layer and those within it.
    pub(crate) fn layers(&self) -> usize {
        1 + self.nested().map(Self::layers).sum::<usize>()
    }

    /// How deep additions are nested in it; 0 for a layer that is none.
    pub(crate) fn depth(&self) -> usize {
        let own = usize::from(matches!(self.layer, Layer::Add { .. }));
        own + self.nested().map(Self::depth).max().unwrap_or(0)
    }

    /// The parameters of the layer and of those within it.
    pub(crate) fn weights(&self) -> usize {
        let own: usize = self.blocks.iter().map(Vec::len).sum();
        own + self.nested().map(Self::weights).sum::<usize>()
    }

    /// The layers and parameters of a sequence of nodes, in flat order.
    fn take_apart(nodes: Vec<Self>, params: &mut Vec<f64>) -> Vec<Layer> {
        let mut layers = Vec::with_capacity(nodes.len());
        for node in nodes {
            node.blocks.iter().for_each(|block| params.extend(block));
            layers.push(match node.layer {
                Layer::Add { .. } => Layer::Add {
                    body: Self::take_apart(node.body, params),
                    shortcut: Self::take_apart(node.shortcut, params),
                },
                layer => layer,
            });
        }
        layers
    }
}

/// The layers of a model.
pub(crate) fn grow(model: &Model) -> Result<Vec<Node>, ModelError> {
    Ok(sequence(&model.spec().resolve()?, model.params()))
}

fn sequence(sites: &[Site<'_>], params: &[f64]) -> Vec<Node> {
    let node = |site: &Site<'_>| {
        if let Layer::Add { .. } = site.layer {
            return Node::add(sequence(&site.body, params), sequence(&site.shortcut, params));
        }
        let blocks = site.parameters.iter().map(|block| block.of(params).to_vec());
        Node::new(site.layer.clone(), blocks.collect())
    };
    sites.iter().map(node).collect()
}

/// The model of some layers; errors if they do not fit each other.
pub(crate) fn fell(input: Shape, nodes: Vec<Node>) -> Result<Model, ModelError> {
    let mut params = Vec::new();
    let layers = Node::take_apart(nodes, &mut params);
    Model::new(ModelSpec { input, layers }, params)
}
