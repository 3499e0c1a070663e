//! How an architecture is written down.

use firebrick_autodiff::{CountPadding, Window};
use firebrick_nn::{Activation, Initializer};

use super::{Attention, Conv, Graph, Node, Op, Stage, Value};

/// Builds a [`Graph`], in the order in which the network computes.
///
/// Every method adds a node and returns its result. What the parameters belong to is counted in blocks, which [`block`](Self::block)
/// begins: layer-wise rates count them, and they are what is listed.
///
/// ```
/// use firebrick_nn::Activation;
/// use firebrick_zoo::graph::{Conv, GraphBuilder};
///
/// let mut b = GraphBuilder::new(3);
/// let x = b.input();
/// let x = b.conv(x, Conv::new("conv1", 3, 16, 3).norm("bn1").activation(Activation::Relu));
/// b.block();
/// let y = b.conv(x, Conv::new("conv2", 16, 16, 3).norm("bn2").activation(Activation::Relu));
/// let x = b.conv_add(y, x, Conv::new("conv3", 16, 16, 3).norm("bn3").activation(Activation::Relu));
/// b.stage("body", x);
/// let features = b.global_average_pool(x);
/// let graph = b.finish(x, features, 16, "fc");
/// assert_eq!(graph.features(), 16);
/// ```
#[derive(Debug)]
pub struct GraphBuilder {
    nodes: Vec<Node>,
    stages: Vec<Stage>,
    /// Layers with parameters of each block so far.
    blocks: Vec<usize>,
    image_size: Option<[usize; 2]>,
    over_pixels: bool,
    passed_over: Vec<String>,
}

impl GraphBuilder {
    /// A network for images of so many channels.
    pub fn new(channels: usize) -> Self {
        let input = Node { op: Op::Input { channels }, inputs: Vec::new(), layer: None };
        Self {
            nodes: vec![input],
            stages: Vec::new(),
            blocks: vec![0],
            image_size: None,
            over_pixels: false,
            passed_over: Vec::new(),
        }
    }

    /// The images.
    pub fn input(&self) -> Value {
        Value(0)
    }

    /// Binds the network to images of `[height, width]` pixels.
    pub fn fix_image_size(&mut self, size: [usize; 2]) {
        self.image_size = Some(size);
    }

    /// Makes the head one over pixels, see [`HeadConfig::over_pixels`](firebrick_nn::HeadConfig::over_pixels): what it reads is the map's
    /// pixels one after another.
    pub fn head_over_pixels(&mut self) {
        self.over_pixels = true;
    }

    /// Says that published files have tensors whose names begin so and that this network does without, e.g. auxiliary heads.
    pub fn pass_over(&mut self, prefix: impl Into<String>) {
        self.passed_over.push(prefix.into());
    }

    /// Begins a block, unless the current one is still empty.
    pub fn block(&mut self) {
        if self.blocks.last() != Some(&0) {
            self.blocks.push(0);
        }
    }

    /// Names the place behind `value`.
    ///
    /// # Panics
    ///
    /// [`finish`](Self::finish) does if a later node reads anything before it: that is a mistake of the architecture's.
    pub fn stage(&mut self, name: impl Into<String>, value: Value) {
        self.stages.push(Stage { name: name.into(), value });
        self.block();
    }

    /// A convolution.
    pub fn conv(&mut self, x: Value, conv: Conv) -> Value {
        self.node(Op::Conv(conv), &[x])
    }

    /// A convolution; `added` is added before its activation.
    pub fn conv_add(&mut self, x: Value, added: Value, conv: Conv) -> Value {
        self.node(Op::Conv(conv), &[x, added])
    }

    /// A convolution that ends a residual branch: dropped whole samples with probability `drop_path`, and added to `shortcut` before its
    /// activation.
    pub fn conv_residual(&mut self, x: Value, shortcut: Value, mut conv: Conv, drop_path: f64) -> Value {
        if drop_path == 0.0 {
            return self.conv_add(x, shortcut, conv);
        }
        let activation = std::mem::take(&mut conv.activation);
        let y = self.conv(x, conv);
        let y = self.drop_path(y, drop_path);
        self.add(y, shortcut, activation)
    }

    /// BatchNorm of this epsilon and momentum (the weight of the newest batch), and an activation.
    pub fn batch_norm(
        &mut self,
        x: Value,
        name: impl Into<String>,
        channels: usize,
        (epsilon, momentum): (f64, f64),
        activation: Activation,
    ) -> Value {
        self.node(Op::BatchNorm { name: name.into(), channels, epsilon, momentum, activation }, &[x])
    }

    /// LayerNorm over channels.
    pub fn layer_norm(&mut self, x: Value, name: impl Into<String>, width: usize, epsilon: f64) -> Value {
        self.node(Op::LayerNorm { name: name.into(), width, epsilon }, &[x])
    }

    /// A dense layer with a bias.
    pub fn linear(
        &mut self,
        x: Value,
        name: impl Into<String>,
        widths: [usize; 2],
        activation: Activation,
        initializer: Initializer,
    ) -> Value {
        let [inputs, outputs] = widths;
        let op = Op::Linear { name: name.into(), inputs, outputs, bias: true, activation, initializer };
        self.node(op, &[x])
    }

    /// Multi-head self-attention.
    pub fn attention(&mut self, x: Value, attention: Attention) -> Value {
        self.node(Op::Attention(attention), &[x])
    }

    /// An activation.
    pub fn activation(&mut self, x: Value, activation: Activation) -> Value {
        self.node(Op::Activation(activation), &[x])
    }

    /// The largest value of square windows.
    pub fn max_pool(&mut self, x: Value, kernel: usize, stride: usize, padding: usize, ceil: bool) -> Value {
        self.node(Op::MaxPool(square(kernel, stride, padding, ceil)), &[x])
    }

    /// The mean of square windows; padding counts as zeros, or not at all.
    pub fn average_pool(
        &mut self,
        x: Value,
        kernel: usize,
        stride: usize,
        padding: usize,
        count: CountPadding,
    ) -> Value {
        self.node(Op::AveragePool(square(kernel, stride, padding, false), count), &[x])
    }

    /// The means of so many windows, down and across.
    pub fn adaptive_average_pool(&mut self, x: Value, size: [usize; 2]) -> Value {
        self.node(Op::AdaptiveAveragePool(size), &[x])
    }

    /// The mean over all pixels or tokens.
    pub fn global_average_pool(&mut self, x: Value) -> Value {
        self.node(Op::GlobalAveragePool, &[x])
    }

    /// A map to a vector, channel by channel, or tokens to one, token by token.
    pub fn flatten(&mut self, x: Value) -> Value {
        self.node(Op::Flatten, &[x])
    }

    /// Channels behind channels.
    pub fn concat(&mut self, values: &[Value]) -> Value {
        self.node(Op::Concat, values)
    }

    /// A sum, and an activation.
    pub fn add(&mut self, a: Value, b: Value, activation: Activation) -> Value {
        self.node(Op::Add(activation), &[a, b])
    }

    /// A map times a factor a channel.
    pub fn scale(&mut self, map: Value, gate: Value) -> Value {
        self.node(Op::Scale, &[map, gate])
    }

    /// Stochastic depth; nothing where `p` is 0.
    pub fn drop_path(&mut self, x: Value, p: f64) -> Value {
        if p > 0.0 { self.node(Op::DropPath(p), &[x]) } else { x }
    }

    /// Dropout; nothing where `p` is 0.
    pub fn dropout(&mut self, x: Value, p: f64) -> Value {
        if p > 0.0 { self.node(Op::Dropout(p), &[x]) } else { x }
    }

    /// Any operation.
    pub fn node(&mut self, op: Op, inputs: &[Value]) -> Value {
        let layer = op.has_parameters().then(|| {
            let block = self.blocks.len() - 1;
            let place = self.blocks[block];
            self.blocks[block] += 1;
            [block, place]
        });
        self.nodes.push(Node { op, inputs: inputs.to_vec(), layer });
        Value(self.nodes.len() - 1)
    }

    /// The graph: its last feature map, what the head reads and how long that is, and the head's published name.
    ///
    /// # Panics
    ///
    /// If the network cannot be cut at one of its stages.
    pub fn finish(self, map: Value, pooled: Value, features: usize, head: impl Into<String>) -> Graph {
        for stage in &self.stages {
            let cut = stage.value;
            for (index, node) in self.nodes.iter().enumerate().skip(cut.0 + 1) {
                let past = node.inputs.iter().find(|input| **input < cut);
                assert!(past.is_none(), "node {index} reads past stage {}", stage.name);
            }
        }
        Graph {
            nodes: self.nodes,
            stages: self.stages,
            map,
            pooled,
            features,
            head: head.into(),
            image_size: self.image_size,
            over_pixels: self.over_pixels,
            passed_over: self.passed_over,
            attention_pool: None,
        }
    }
}

fn square(kernel: usize, stride: usize, padding: usize, ceil: bool) -> Window {
    Window { kernel: [kernel; 2], stride: [stride; 2], padding: [padding; 2], ceil }
}
