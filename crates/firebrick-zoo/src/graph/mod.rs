//! A network as data: nodes, each an operation on the results of nodes before it.
//!
//! An architecture of the zoo is a function that builds a [`Graph`]. Everything else is made from the graph, once for all
//! architectures: the [`Backbone`](crate::Backbone) with its parameters and its forward pass, the table of shapes and costs, the
//! names its tensors have in published files, the plan that the CPU kernels run, and what is cut off when a part is frozen.

mod build;
mod chain;
mod cost;
mod names;
mod node;
mod shape;
mod squeeze_excite;

pub use build::GraphBuilder;
pub(crate) use chain::{Residue, Step, steps};
pub use node::{Attention, Conv, Node, NormNames, Op, WindowAttention};
pub use shape::{Shape, ShapeError};
pub use squeeze_excite::SqueezeExcite;

use crate::AttentionPool;

/// The result of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub(crate) usize);

/// A named place in a network, behind which it can be cut: only this value is used by what comes after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Name, e.g. `layer3`.
    pub name: String,
    /// What there is at this place. Tokens, `[batch, tokens, width]`, are handed out and taken in as maps of one column, `[batch, width,
    /// tokens, 1]`.
    pub value: Value,
}

/// A backbone as data; see [`GraphBuilder`].
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) stages: Vec<Stage>,
    pub(crate) map: Value,
    pub(crate) pooled: Value,
    pub(crate) features: usize,
    pub(crate) head: String,
    pub(crate) image_size: Option<[usize; 2]>,
    pub(crate) over_pixels: bool,
    pub(crate) passed_over: Vec<String>,
    pub(crate) attention_pool: Option<AttentionPool>,
}

impl Graph {
    /// The nodes, each behind those that it reads.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The places where the network can be cut, first to last.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// The stage that a parameter is computed for, by its path in a backbone of this graph or in a classifier
    /// (`backbone.blocks.3.layers.0.conv.weight`): the first one that is not before it. `None` for what is behind the last stage, and for
    /// other paths. For a learning rate a stage.
    pub fn stage_of(&self, path: &str) -> Option<&str> {
        let path = path.strip_prefix("backbone.").unwrap_or(path);
        let mut parts = path.strip_prefix("blocks.")?.split('.');
        let block: usize = parts.next()?.parse().ok()?;
        let place: usize = parts.next().filter(|part| *part == "layers").and(parts.next())?.parse().ok()?;
        let node = self.nodes.iter().position(|node| node.layer == Some([block, place]))?;
        let behind = self.stages.iter().filter(|stage| stage.value.0 >= node);
        behind.min_by_key(|stage| stage.value).map(|stage| stage.name.as_str())
    }

    /// The last feature map, `[channels, height, width]`.
    pub fn map(&self) -> Value {
        self.map
    }

    /// What the head reads, a vector.
    pub fn pooled(&self) -> Value {
        self.pooled
    }

    /// Length of the vector that the head reads, or of each pixel's part of it for a head over pixels.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Published name of the layer that gives the logits, e.g. `fc` or `classifier.1`.
    pub fn head(&self) -> &str {
        &self.head
    }

    /// Whether the head is one over pixels; see [`GraphBuilder::head_over_pixels`].
    pub fn head_over_pixels(&self) -> bool {
        self.over_pixels
    }

    /// Whether a published file's tensor of this name is none of the network's; see [`GraphBuilder::pass_over`].
    pub fn passes_over(&self, name: &str) -> bool {
        self.passed_over.iter().any(|prefix| name.starts_with(prefix))
    }

    /// Channels of the images.
    pub fn channels(&self) -> usize {
        match self.nodes[0].op {
            Op::Input { channels } => channels,
            _ => unreachable!("the builder begins with the input"),
        }
    }

    /// `[height, width]` of the images, for architectures with parameters for each place; none where any size will do.
    pub fn image_size(&self) -> Option<[usize; 2]> {
        self.image_size
    }

    /// The shape of every node's result for images of `[height, width]` pixels.
    ///
    /// # Errors
    ///
    /// [`ShapeError`] names the node that has nothing to work on, e.g. a window larger than what is left of a small image.
    pub fn shapes(&self, size: [usize; 2]) -> Result<Vec<Shape>, ShapeError> {
        let mut shapes: Vec<Shape> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let inputs: Vec<Shape> = node.inputs.iter().map(|input| shapes[input.0]).collect();
            shapes.push(shape::output(&node.op, &inputs, size)?);
        }
        Ok(shapes)
    }

    /// Whether a value is tokens.
    pub(crate) fn is_tokens(&self, mut value: Value) -> bool {
        loop {
            let node = &self.nodes[value.0];
            match node.op {
                Op::Tokens | Op::Prefix { .. } | Op::Positions { .. } | Op::Attention(_) => return true,
                Op::LayerNorm { .. }
                | Op::Linear { .. }
                | Op::Activation(_)
                | Op::Add(_)
                | Op::LayerScale { .. }
                | Op::DropPath(_)
                | Op::Dropout(_) => value = node.inputs[0],
                _ => return false,
            }
        }
    }

    /// How many nodes read each node's result; the network's results count as read once more.
    pub(crate) fn readers(&self) -> Vec<usize> {
        let mut readers = vec![0; self.nodes.len()];
        let results = [self.map, self.pooled].into_iter().chain(self.stages.iter().map(|stage| stage.value));
        for value in self.nodes.iter().flat_map(|node| node.inputs.iter().copied()).chain(results) {
            readers[value.0] += 1;
        }
        readers
    }
}
