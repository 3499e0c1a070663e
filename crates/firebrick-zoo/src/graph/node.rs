//! The operations of a graph.

use firebrick_autodiff::{CountPadding, Window};
use firebrick_nn::{Activation, Initializer, Padding};

use super::Value;
use crate::PositionResampling;

/// An operation and what it reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What is done.
    pub op: Op,
    /// What it is done to.
    pub inputs: Vec<Value>,
    /// Where its parameters are: block, and place in the block; none without parameters.
    pub(crate) layer: Option<[usize; 2]>,
}

/// An operation. Maps are `[batch, channels, height, width]`, tokens `[batch, tokens, width]`, vectors `[batch, features]`; names are
/// those of tensors in published files.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// The images.
    Input {
        /// Of an image.
        channels: usize,
    },
    /// A convolution with what follows it. A second input is added before the activation. On a vector it is a map of one pixel.
    Conv(Conv),
    /// BatchNorm that follows no convolution, and an activation.
    BatchNorm {
        /// Of the four tensors, without `.weight` and so on.
        name: String,
        /// Of the map.
        channels: usize,
        /// Added to the variance.
        epsilon: f64,
        /// The weight of the newest batch in the running statistics.
        momentum: f64,
        /// Applied last.
        activation: Activation,
    },
    /// LayerNorm over the channels of every pixel, or over tokens or a vector.
    LayerNorm {
        /// Of both tensors.
        name: String,
        /// What is normalised over.
        width: usize,
        /// Added to the variance.
        epsilon: f64,
    },
    /// A dense layer over the channels of every pixel, over tokens or a vector.
    Linear {
        /// Of both tensors.
        name: String,
        /// Width before.
        inputs: usize,
        /// Width after.
        outputs: usize,
        /// Whether there is a bias.
        bias: bool,
        /// Applied last.
        activation: Activation,
        /// Of the weights.
        initializer: Initializer,
    },
    /// Multi-head self-attention over tokens.
    Attention(Attention),
    /// Multi-head self-attention within windows of a map.
    WindowAttention(WindowAttention),
    /// An activation alone.
    Activation(Activation),
    /// The largest value of windows of a map.
    MaxPool(Window),
    /// The mean of windows of a map.
    AveragePool(Window, CountPadding),
    /// The means of so many windows, down and across, that cover the map.
    AdaptiveAveragePool([usize; 2]),
    /// A map's or the tokens' mean, a vector.
    GlobalAveragePool,
    /// A map to a vector, channel by channel, or tokens to one, token by token.
    Flatten,
    /// A map to tokens, row by row.
    Tokens,
    /// Tokens, but the first `skip`, back to a map of `[height, width]`.
    Map {
        /// Class tokens and the like.
        skip: usize,
        /// Of the map.
        size: [usize; 2],
    },
    /// Learnt tokens `[1, count, width]` put before the others.
    Prefix {
        /// Of the tensor.
        name: String,
        /// How many.
        count: usize,
        /// Of a token.
        width: usize,
    },
    /// A learnt `[1, prefix + rows * columns, width]` added to the tokens.
    Positions {
        /// Of the tensor.
        name: String,
        /// How many belong to class tokens and the like, which are first.
        prefix: usize,
        /// `[rows, columns]` of the others.
        grid: [usize; 2],
        /// Of a token.
        width: usize,
        /// How those of a checkpoint for another grid are made to fit.
        resampling: PositionResampling,
    },
    /// One of the tokens, a vector.
    Token(usize),
    /// Channels behind channels.
    Concat,
    /// The sum of two values, and an activation.
    Add(Activation),
    /// A map times a factor a channel: the second input is a vector.
    Scale,
    /// A learnt factor a channel (LayerScale).
    LayerScale {
        /// Of the tensor.
        name: String,
        /// How many.
        channels: usize,
        /// First value.
        value: f32,
        /// Whether the published tensor is `[channels, 1, 1]` rather than `[channels]`.
        spatial: bool,
    },
    /// Drops whole samples in training with this probability (stochastic depth).
    DropPath(f64),
    /// Drops values in training with this probability.
    Dropout(f64),
    /// Squares of 2 x 2 pixels side by side as channels of one: top left, bottom left, top right, bottom right; an odd side gets a line
    /// of zeros. The patch merging of Swin.
    Squares,
}

/// A convolution, its BatchNorm and activation.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// Of weight and bias.
    pub name: String,
    /// The BatchNorm that follows.
    pub norm: Option<NormNames>,
    /// Channels before.
    pub inputs: usize,
    /// Channels after.
    pub outputs: usize,
    /// Height and width.
    pub kernel: [usize; 2],
    /// Down and across.
    pub stride: [usize; 2],
    /// Zeros around the input.
    pub padding: Padding,
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// Whether there is a bias.
    pub bias: bool,
    /// Applied last.
    pub activation: Activation,
    /// Of the weights.
    pub initializer: Initializer,
}

impl Conv {
    /// From `inputs` to `outputs` channels with a square kernel: stride 1, half the kernel as padding, no bias, norm or activation.
    pub fn new(name: impl Into<String>, inputs: usize, outputs: usize, kernel: usize) -> Self {
        Self {
            name: name.into(),
            norm: None,
            inputs,
            outputs,
            kernel: [kernel; 2],
            stride: [1; 2],
            padding: Padding::half([kernel; 2]),
            groups: 1,
            bias: false,
            activation: Activation::None,
            initializer: Initializer::KaimingNormalFanOut,
        }
    }

    /// With a kernel of `[height, width]`, and half of it as padding.
    pub fn kernel(mut self, kernel: [usize; 2]) -> Self {
        self.kernel = kernel;
        self.padding = Padding::half(kernel);
        self
    }

    /// With this stride down and across.
    pub fn stride(mut self, stride: usize) -> Self {
        self.stride = [stride; 2];
        self
    }

    /// With this padding.
    pub fn padding(mut self, padding: Padding) -> Self {
        self.padding = padding;
        self
    }

    /// In groups of channels; `inputs` groups make it depthwise.
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// With a bias.
    pub fn bias(mut self) -> Self {
        self.bias = true;
        self
    }

    /// Followed by a BatchNorm with PyTorch's epsilon 1e-5 and momentum 0.1.
    pub fn norm(self, name: impl Into<String>) -> Self {
        self.norm_with(name, 1e-5, 0.1)
    }

    /// Followed by a BatchNorm; `momentum` is the weight of the newest batch.
    pub fn norm_with(mut self, name: impl Into<String>, epsilon: f64, momentum: f64) -> Self {
        self.norm = Some(NormNames { name: name.into(), epsilon, momentum, scale: true });
        self
    }

    /// With a BatchNorm, if there is one, that does not scale what it has normalised: Keras' `scale=False`.
    pub fn unscaled(mut self) -> Self {
        self.norm = self.norm.map(|norm| NormNames { scale: false, ..norm });
        self
    }

    /// Followed by an activation.
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// With first weights from this distribution; He's normal by fan-out otherwise.
    pub fn initializer(mut self, initializer: Initializer) -> Self {
        self.initializer = initializer;
        self
    }

    /// A filter a channel.
    pub(crate) fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.inputs && self.groups == self.outputs
    }
}

/// A BatchNorm behind a convolution.
#[derive(Clone, Debug, PartialEq)]
pub struct NormNames {
    /// Of the four tensors, without `.weight` and so on.
    pub name: String,
    /// Added to the variance.
    pub epsilon: f64,
    /// The weight of the newest batch in the running statistics.
    pub momentum: f64,
    /// Whether there is a learnt factor a channel; it stays 1 otherwise, and is none of the published tensors.
    pub scale: bool,
}

/// Multi-head self-attention.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// Of the weight and the bias of the layer that gives queries, keys and values.
    pub qkv: [String; 2],
    /// Of the output layer's tensors, without `.weight` and so on.
    pub output: String,
    /// Of a token.
    pub width: usize,
    /// A divisor of the width.
    pub heads: usize,
    /// Of the weights.
    pub initializer: Initializer,
}

/// Self-attention within windows of a map, with a learnt bias for how far a key is from the query (Liu et al. 2021, arXiv:2103.14030).
#[derive(Clone, Debug, PartialEq)]
pub struct WindowAttention {
    /// Of the places of a window.
    pub attention: Attention,
    /// Of the table of biases, `[(2 h - 1) (2 w - 1), heads]`.
    pub table: String,
    /// `[height, width]` of a window, places.
    pub window: [usize; 2],
    /// By how much the windows are moved, down and across.
    pub shift: [usize; 2],
}

impl WindowAttention {
    /// `[height, width]` of a map of this size, padded to whole windows.
    pub(crate) fn padded(&self, size: [usize; 2]) -> [usize; 2] {
        [0, 1].map(|axis| size[axis].next_multiple_of(self.window[axis]))
    }

    /// By how much the windows of a padded map are moved: not at all where there is one.
    pub(crate) fn shift_in(&self, padded: [usize; 2]) -> [usize; 2] {
        [0, 1].map(|axis| if self.window[axis] >= padded[axis] { 0 } else { self.shift[axis] })
    }

    /// Rows of the table.
    pub(crate) fn offsets(&self) -> usize {
        (2 * self.window[0] - 1) * (2 * self.window[1] - 1)
    }
}
