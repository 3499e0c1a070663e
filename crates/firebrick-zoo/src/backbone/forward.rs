//! The forward pass: steps of the graph, one after another, each result dropped behind its last reader.

use burn::nn::Linear;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use firebrick_autodiff::{
    Arrangement, AttentionOptions, ConvGeometry, adaptive_average_pool, arrange, average_pool, conv2d,
    global_average_pool, layer_norm, linear, max_pool, self_attention,
};
use firebrick_nn::dropout::DropPath;
use firebrick_nn::{Activation, ChainLayer, Residual, ResidualBlock, dense, forward_chain};

use super::{AttentionLayer, Backbone, Layer};
use crate::graph::{Conv, Op, Residue, Step, Value};

/// A value on its way through the network.
#[derive(Clone, Debug)]
pub(super) enum Flow {
    Map(Tensor<4>),
    Tokens(Tensor<3>),
    Vector(Tensor<2>),
}

impl Flow {
    pub(super) fn into_map(self) -> Tensor<4> {
        match self {
            Self::Map(map) => map,
            other => panic!("expected a feature map, this place has {other:?}"),
        }
    }

    fn into_tokens(self) -> Tensor<3> {
        match self {
            Self::Tokens(tokens) => tokens,
            other => panic!("expected tokens, this place has {other:?}"),
        }
    }

    pub(super) fn into_vector(self) -> Tensor<2> {
        match self {
            Self::Vector(vector) => vector,
            other => panic!("expected a vector, this place has {other:?}"),
        }
    }

    /// What there is at a stage; tokens come as a map of one column.
    fn from_stage(map: Tensor<4>, tokens: bool) -> Self {
        match tokens {
            true => Self::Tokens(map.squeeze_dim::<3>(3).swap_dims(1, 2)),
            false => Self::Map(map),
        }
    }

    /// What is handed out at a stage; tokens as a map of one column.
    pub(super) fn into_stage(self) -> Tensor<4> {
        match self {
            Self::Tokens(tokens) => tokens.swap_dims(1, 2).unsqueeze_dim(3),
            other => other.into_map(),
        }
    }

    /// The same function of maps, tokens and vectors, over their channels as the last axis.
    fn over_channels(self, over: impl OverChannels) -> Self {
        match self {
            // Channels are last in memory already, so that these are views.
            Self::Map(map) => Self::Map(over.apply(map.permute([0, 2, 3, 1])).permute([0, 3, 1, 2])),
            Self::Tokens(tokens) => Self::Tokens(over.apply(tokens)),
            Self::Vector(vector) => Self::Vector(over.apply(vector)),
        }
    }

    /// The same function of any rank.
    fn pointwise(self, over: impl OverChannels) -> Self {
        match self {
            Self::Map(map) => Self::Map(over.apply(map)),
            Self::Tokens(tokens) => Self::Tokens(over.apply(tokens)),
            Self::Vector(vector) => Self::Vector(over.apply(vector)),
        }
    }
}

/// A function of tensors of any rank.
trait OverChannels {
    fn apply<const D: usize>(&self, x: Tensor<D>) -> Tensor<D>;
}

struct Dense<'a>(&'a Linear, Activation);
impl OverChannels for Dense<'_> {
    fn apply<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        dense(self.0, x, self.1)
    }
}

struct Norm<'a>(&'a burn::nn::LayerNorm, f64);
impl OverChannels for Norm<'_> {
    fn apply<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let gamma = self.0.gamma.val();
        let beta = self.0.beta.as_ref().map_or_else(|| gamma.zeros_like(), |beta| beta.val());
        layer_norm(x, gamma, beta, self.1)
    }
}

struct Factors(Tensor<1>);
impl OverChannels for Factors {
    fn apply<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        x * self.0.clone().unsqueeze()
    }
}

impl OverChannels for Activation {
    fn apply<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.forward(x)
    }
}

struct Path(f64);
impl OverChannels for Path {
    fn apply<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        DropPath::new(self.0).expect("the options were checked").forward(x)
    }
}

struct Drop(f64);
impl OverChannels for Drop {
    fn apply<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        burn::nn::DropoutConfig::new(self.0).init().forward(x)
    }
}

impl Backbone {
    /// Computes these values, and nothing that they do not need.
    pub(super) fn run(&self, input: Tensor<4>, wanted: &[Value]) -> Vec<Flow> {
        let nodes = &self.graph.nodes;
        let needed = self.needed(wanted);
        // How many readers a value still has.
        let mut readers = vec![0usize; nodes.len()];
        let steps = || self.steps.iter().filter(|step| needed[step.result()]);
        let reads = |step: &Step| match step {
            Step::Node(node) => nodes[*node].inputs.clone(),
            Step::Chain(links) => {
                let added = links.iter().filter_map(|link| match link.residue {
                    Residue::Value(added) => Some(added),
                    Residue::None | Residue::Input | Residue::Projection(_) | Residue::Append(_) => None,
                });
                std::iter::once(links[0].input(&self.graph)).chain(added).collect()
            }
        };
        steps().flat_map(reads).chain(wanted.iter().copied()).for_each(|value| readers[value.0] += 1);

        let mut values: Vec<Option<Flow>> = vec![None; nodes.len()];
        values[self.start.0] = Some(Flow::from_stage(input, self.graph.is_tokens(self.start)));
        // The last reader gets the value itself.
        let mut take = |values: &mut Vec<Option<Flow>>, value: Value| {
            readers[value.0] -= 1;
            let flow = if readers[value.0] == 0 { values[value.0].take() } else { values[value.0].clone() };
            flow.expect("a value is computed before it is read")
        };
        for step in steps() {
            let inputs: Vec<Flow> = reads(step).into_iter().map(|value| take(&mut values, value)).collect();
            values[step.result()] = Some(self.step(step, inputs));
        }
        wanted.iter().map(|value| take(&mut values, *value)).collect()
    }

    fn step(&self, step: &Step, inputs: Vec<Flow>) -> Flow {
        let mut inputs = inputs.into_iter();
        match step {
            Step::Node(node) => self.node(*node, inputs.collect()),
            Step::Chain(links) => {
                let mut next = || inputs.next().expect("a chain's input, and what is added").into_map();
                let x = next();
                let blocks = links.iter().map(|link| ResidualBlock {
                    layers: link.convs.iter().map(|&node| self.chain_layer(node)).collect(),
                    residual: match link.residue {
                        Residue::None => Residual::None,
                        Residue::Input => Residual::Input,
                        Residue::Projection(node) => Residual::Projection(self.chain_layer(node)),
                        Residue::Value(_) => Residual::Tensor(next()),
                        Residue::Append(_) => Residual::Append,
                    },
                });
                Flow::Map(forward_chain(blocks.collect(), x))
            }
        }
    }

    fn chain_layer(&self, node: usize) -> ChainLayer<'_> {
        match (&self.graph.nodes[node].op, self.layer_of(node)) {
            (_, Some(Layer::ConvNormAct(layer))) => ChainLayer::ConvNormAct(layer),
            (Op::BatchNorm { activation, .. }, Some(Layer::BatchNorm(norm))) => {
                ChainLayer::Norm(norm, *activation)
            }
            (Op::Conv(conv), Some(Layer::Conv(layer))) => {
                ChainLayer::Conv(layer, conv.padding, conv.activation)
            }
            other => unreachable!("a chain has no {other:?}"),
        }
    }

    fn node(&self, index: usize, inputs: Vec<Flow>) -> Flow {
        let op = &self.graph.nodes[index].op;
        let mut inputs = inputs.into_iter();
        let mut next = || inputs.next().expect("the builder gave every input");
        let x = next();
        match (op, self.layer_of(index)) {
            (Op::Conv(conv), Some(Layer::Conv(layer))) => match x {
                Flow::Vector(x) => Flow::Vector(one_pixel(layer, x, conv.activation)),
                x => {
                    let added = inputs.next().map(Flow::into_map);
                    Flow::Map(convolve(conv, layer, x.into_map(), added))
                }
            },
            (Op::LayerNorm { epsilon, .. }, Some(Layer::LayerNorm(norm))) => {
                x.over_channels(Norm(norm, *epsilon))
            }
            (Op::Linear { activation, .. }, Some(Layer::Linear(layer))) => {
                x.over_channels(Dense(layer, *activation))
            }
            (Op::Attention(settings), Some(Layer::Attention(layer))) => {
                Flow::Tokens(layer.forward(x.into_tokens(), settings.heads))
            }
            (Op::WindowAttention(settings), Some(Layer::WindowAttention(layer))) => {
                Flow::Map(layer.forward(x.into_map(), settings))
            }
            (Op::LayerScale { .. }, Some(Layer::Scale(scale))) => x.over_channels(Factors(scale.val())),
            (Op::LayerScale { channels, .. }, Some(Layer::SpatialScale(scale))) => {
                x.over_channels(Factors(scale.val().reshape([*channels])))
            }
            (Op::Prefix { .. }, Some(Layer::Tokens(prefix))) => {
                let (x, prefix) = (x.into_tokens(), prefix.val());
                let [batch, _, width] = x.dims();
                let count = prefix.dims()[1];
                Flow::Tokens(Tensor::cat(vec![prefix.expand([batch, count, width]), x], 1))
            }
            (Op::Positions { .. }, Some(Layer::Tokens(positions))) => {
                Flow::Tokens(x.into_tokens() + positions.val())
            }
            (Op::Activation(activation), _) => x.pointwise(*activation),
            (Op::MaxPool(window), _) => Flow::Map(max_pool(x.into_map(), *window)),
            (Op::AveragePool(window, count), _) => Flow::Map(average_pool(x.into_map(), *window, *count)),
            (Op::AdaptiveAveragePool(size), _) => Flow::Map(adaptive_average_pool(x.into_map(), *size)),
            (Op::GlobalAveragePool, _) => Flow::Vector(match x {
                Flow::Map(map) => global_average_pool(map),
                Flow::Tokens(tokens) => tokens.mean_dim(1).squeeze_dim(1),
                Flow::Vector(vector) => vector,
            }),
            (Op::Flatten, _) => Flow::Vector(match x {
                Flow::Tokens(tokens) => tokens.flatten(1, 2),
                x => x.into_map().flatten(1, 3),
            }),
            (Op::Tokens, _) => {
                let map = x.into_map();
                let [batch, channels, height, width] = map.dims();
                Flow::Tokens(map.permute([0, 2, 3, 1]).reshape([batch, height * width, channels]))
            }
            (Op::Map { skip, size }, _) => {
                let tokens = x.into_tokens();
                let [batch, count, width] = tokens.dims();
                let map = tokens.slice([0..batch, *skip..count]);
                Flow::Map(map.reshape([batch, size[0], size[1], width]).permute([0, 3, 1, 2]))
            }
            (Op::Token(place), _) => {
                let tokens = x.into_tokens();
                let [batch, _, width] = tokens.dims();
                Flow::Vector(tokens.slice([0..batch, *place..place + 1]).reshape([batch, width]))
            }
            (Op::Concat, _) => {
                // Channels are last in memory: so each pixel's are copied in one piece.
                let maps = std::iter::once(x).chain(inputs).map(|map| map.into_map().permute([0, 2, 3, 1]));
                Flow::Map(Tensor::cat(maps.collect(), 3).permute([0, 3, 1, 2]))
            }
            (Op::Add(activation), _) => match (x, next()) {
                (Flow::Map(a), Flow::Map(b)) => Flow::Map(activation.forward(a + b)),
                (Flow::Tokens(a), Flow::Tokens(b)) => Flow::Tokens(activation.forward(a + b)),
                (a, b) => Flow::Vector(activation.forward(a.into_vector() + b.into_vector())),
            },
            (Op::Scale, _) => {
                let (map, gate) = (x.into_map(), next().into_vector());
                let [batch, channels, _, _] = map.dims();
                Flow::Map(map * gate.reshape([batch, channels, 1, 1]))
            }
            (Op::DropPath(p), _) if tracks(&x) => x.pointwise(Path(*p)),
            (Op::Dropout(p), _) if tracks(&x) => x.pointwise(Drop(*p)),
            (Op::DropPath(_) | Op::Dropout(_), _) => x,
            (Op::Squares, _) => Flow::Map(squares(x.into_map())),
            (op, layer) => unreachable!("{op:?} with {layer:?}"),
        }
    }
}

/// Whether gradients are wanted, which is when things are dropped.
fn tracks(x: &Flow) -> bool {
    match x {
        Flow::Map(map) => map.device().is_autodiff(),
        Flow::Tokens(tokens) => tokens.device().is_autodiff(),
        Flow::Vector(vector) => vector.device().is_autodiff(),
    }
}

/// A convolution without BatchNorm, with what is added to it before its activation.
fn convolve(conv: &Conv, layer: &Conv2d, x: Tensor<4>, added: Option<Tensor<4>>) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let padding = conv.padding.resolve([height, width], conv.kernel, conv.stride);
    let geometry = ConvGeometry { stride: conv.stride, padding, groups: conv.groups };
    let (weight, bias) = (layer.weight.val(), layer.bias.as_ref().map(|bias| bias.val()));
    match conv.activation.fused() {
        Some(fused) => conv2d(x, weight, bias, added, geometry, fused),
        None => {
            let none = firebrick_autodiff::Activation::None;
            conv.activation.forward(conv2d(x, weight, bias, added, geometry, none))
        }
    }
}

/// A convolution of a map of one pixel.
fn one_pixel(layer: &Conv2d, x: Tensor<2>, activation: Activation) -> Tensor<2> {
    let [outputs, inputs, height, width] = layer.weight.dims();
    assert_eq!([height, width], [1, 1], "a convolution of one pixel has a kernel of one pixel");
    let weight = layer.weight.val().reshape([outputs, inputs]).transpose();
    let bias = layer.bias.as_ref().map(|bias| bias.val());
    match activation.fused() {
        Some(fused) => linear(x, weight, bias, fused),
        None => activation.forward(linear(x, weight, bias, firebrick_autodiff::Activation::None)),
    }
}

/// The four pixels of each square as channels of one.
fn squares(x: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    let [rows, columns] = [height.div_ceil(2), width.div_ceil(2)];
    let corners = (0..rows * columns).flat_map(|square| {
        [[0, 0], [1, 0], [0, 1], [1, 1]].map(|[down, right]| {
            let [y, x] = [square / columns * 2 + down, square % columns * 2 + right];
            (y < height && x < width).then_some(y * width + x)
        })
    });
    let order = Arrangement::new(height * width, corners);
    let pixels = x.permute([0, 2, 3, 1]).reshape([batch, height * width, channels]);
    arrange(pixels, &order).reshape([batch, rows, columns, 4 * channels]).permute([0, 3, 1, 2])
}

impl AttentionLayer {
    /// `[batch, tokens, width]` to the same.
    pub fn forward(&self, x: Tensor<3>, heads: usize) -> Tensor<3> {
        let qkv = dense(&self.qkv, x, Activation::None);
        let context = self_attention(qkv, heads, AttentionOptions::default());
        dense(&self.output, context, Activation::None)
    }
}
