//! The graph that a builder collects: values, and the operations that make them.

use crate::Activation;
use crate::params::FoldedConv;
use crate::pool_window::PoolWindow;

/// A value of the graph that a [`PlanBuilder`](crate::PlanBuilder) collects: what an operation results in, or the input.
///
/// It is a name without contents, and means something to the builder that gave it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Value(pub(super) usize);

/// An operation that was checked, the values that it reads, and the shape of what it makes.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) operation: Operation,
    pub(super) inputs: Vec<usize>,
    /// Channels, height, width.
    pub(super) shape: [usize; 3],
}

#[derive(Debug)]
pub(super) enum Operation {
    /// The plan's input, which is the first node and no other.
    Input,
    /// A dense or grouped convolution. A second value is added before the activation.
    Conv(Box<FoldedConv>),
    /// An optional expansion, a depthwise convolution, an optional projection.
    Block(Box<Block>),
    Pool(PoolWindow),
    GlobalAveragePool,
    Concat,
    Elementwise(Elementwise),
    LayerNorm {
        gamma: Vec<f32>,
        beta: Vec<f32>,
        epsilon: f32,
    },
    Flatten,
    Linear(Box<FoldedConv>),
}

/// The layers of an inverted residual, or a depthwise convolution alone.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) expand: Option<FoldedConv>,
    pub(super) depthwise: FoldedConv,
    pub(super) project: Option<FoldedConv>,
    pub(super) residual: bool,
}

/// What happens to each value on its own.
#[derive(Debug, Clone)]
pub(super) enum Elementwise {
    /// `activation(a + b)`.
    Add(Activation),
    /// `x * gate`, the gate being one value a channel.
    Scale,
    /// `activation(x * scale + shift)`, a scale and a shift a channel.
    Affine { scale: Vec<f32>, shift: Vec<f32>, activation: Activation },
    /// `activation(x)`.
    Activation(Activation),
}
