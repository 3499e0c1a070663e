//! The parameters of one node.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, LayerNorm, LayerNormConfig, Linear};
use burn::tensor::{Device, Tensor};
use firebrick_nn::{ConvNormAct, ConvNormActConfig, Initializer, seed_of};

use super::WindowAttentionLayer;
use crate::graph::{Attention, Conv, Op};

/// What is learnt of one node of a graph.
#[derive(Module, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a network has hundreds of layers; their tensors are what takes memory"
)]
pub enum Layer {
    /// A convolution without BatchNorm.
    Conv(Conv2d),
    /// A convolution and its BatchNorm.
    ConvNormAct(ConvNormAct),
    /// A BatchNorm alone.
    BatchNorm(BatchNorm),
    /// A LayerNorm.
    LayerNorm(LayerNorm),
    /// A dense layer.
    Linear(Linear),
    /// Self-attention.
    Attention(AttentionLayer),
    /// Self-attention within windows.
    WindowAttention(WindowAttentionLayer),
    /// A class token or positions, `[1, tokens, width]`.
    Tokens(Param<Tensor<3>>),
    /// LayerScale, `[channels]`.
    Scale(Param<Tensor<1>>),
    /// LayerScale, `[channels, 1, 1]`.
    SpatialScale(Param<Tensor<3>>),
}

/// The layers of self-attention.
#[derive(Module, Debug)]
pub struct AttentionLayer {
    /// To queries, keys and values, `[width, 3 width]`.
    pub qkv: Linear,
    /// From the heads, side by side.
    pub output: Linear,
}

impl Layer {
    /// The parameters of an operation that has some.
    pub(super) fn new(op: &Op, seed: u64, device: &Device) -> Self {
        match op {
            Op::Conv(conv) => match &conv.norm {
                Some(_) => Self::ConvNormAct(conv_norm_act(conv, seed, device)),
                None => Self::Conv(plain(conv, seed, device)),
            },
            Op::BatchNorm { channels, epsilon, momentum, .. } => Self::BatchNorm(
                BatchNormConfig::new(*channels).with_epsilon(*epsilon).with_momentum(*momentum).init(device),
            ),
            Op::LayerNorm { width, epsilon, .. } => {
                Self::LayerNorm(LayerNormConfig::new(*width).with_epsilon(*epsilon).init(device))
            }
            Op::Linear { inputs, outputs, bias, initializer, .. } => {
                Self::Linear(linear([*inputs, *outputs], *bias, *initializer, seed, device))
            }
            Op::Attention(Attention { width, initializer, .. }) => Self::Attention(AttentionLayer {
                qkv: linear([*width, 3 * width], true, *initializer, seed_of(seed, 0), device),
                output: linear([*width, *width], true, *initializer, seed_of(seed, 1), device),
            }),
            Op::WindowAttention(settings) => {
                Self::WindowAttention(WindowAttentionLayer::new(settings, seed, device))
            }
            Op::Prefix { count, width, .. } => {
                Self::Tokens(Initializer::Zeros.init([1, *count, *width], *width, *width, seed, device))
            }
            // Dosovitskiy et al. 2021 draw positions with a deviation of 0.02.
            Op::Positions { prefix, grid, width, .. } => {
                Self::Tokens(Initializer::Normal { std: 0.02 }.init(
                    [1, prefix + grid[0] * grid[1], *width],
                    *width,
                    *width,
                    seed,
                    device,
                ))
            }
            Op::LayerScale { channels, value, spatial, .. } => {
                let constant = Initializer::Constant { value: *value };
                if *spatial {
                    Self::SpatialScale(constant.init([*channels, 1, 1], 1, 1, seed, device))
                } else {
                    Self::Scale(constant.init([*channels], 1, 1, seed, device))
                }
            }
            other => unreachable!("{other:?} has no parameters"),
        }
    }
}

fn conv_norm_act(conv: &Conv, seed: u64, device: &Device) -> ConvNormAct {
    let norm = conv.norm.as_ref().expect("a convolution with BatchNorm");
    let [down, across] = conv.stride;
    assert_eq!(down, across, "{}: strides differ", conv.name);
    let config = ConvNormActConfig::new(conv.inputs, conv.outputs, 1)
        .with_kernel(conv.kernel)
        .with_stride(down)
        .with_padding(conv.padding)
        .with_groups(conv.groups)
        .with_activation(conv.activation)
        .with_norm_epsilon(norm.epsilon)
        .with_norm_momentum(norm.momentum)
        .with_initializer(conv.initializer);
    let mut layer = if conv.bias { config.with_bias() } else { config }.init(seed, device);
    if !norm.scale {
        layer.norm.gamma = layer.norm.gamma.set_require_grad(false);
    }
    layer
}

fn plain(conv: &Conv, seed: u64, device: &Device) -> Conv2d {
    let mut layer = Conv2dConfig::new([conv.inputs, conv.outputs], conv.kernel)
        .with_stride(conv.stride)
        .with_dilation([1, 1])
        .with_groups(conv.groups)
        .with_padding(conv.padding.for_burn())
        .with_bias(conv.bias)
        .init(device);
    let area = conv.kernel[0] * conv.kernel[1];
    let inputs = conv.inputs / conv.groups;
    let shape = [conv.outputs, inputs, conv.kernel[0], conv.kernel[1]];
    layer.weight = conv.initializer.init(shape, inputs * area, conv.outputs * area, seed, device);
    layer.bias = conv.bias.then(|| Initializer::Zeros.init([conv.outputs], 1, 1, seed, device));
    layer
}

pub(super) fn linear(
    widths: [usize; 2],
    bias: bool,
    initializer: Initializer,
    seed: u64,
    device: &Device,
) -> Linear {
    let [inputs, outputs] = widths;
    Linear {
        weight: initializer.init(widths, inputs, outputs, seed, device),
        bias: bias.then(|| Initializer::Zeros.init([outputs], inputs, outputs, seed, device)),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tensor;

    use super::*;
    use crate::graph::GraphBuilder;

    #[test]
    fn a_norm_that_does_not_scale_learns_no_factor() {
        let mut b = GraphBuilder::new(3);
        let conv =
            Conv::new("conv", 3, 4, 3).norm("bn").activation(firebrick_nn::Activation::Relu).unscaled();
        let x = b.conv(b.input(), conv);
        let pooled = b.global_average_pool(x);
        let graph = b.finish(x, pooled, 4, "fc");
        assert_eq!(graph.parameters(), 4 * 27 + 4);
        let names: Vec<_> = graph.tensors().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["conv.weight", "bn.bias", "bn.running_mean", "bn.running_var"]);

        #[allow(deprecated)]
        let device = Device::ndarray().autodiff();
        let backbone = graph.init(1, &device);
        let pixels: Vec<f32> = (0..2 * 3 * 8 * 8).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
        let images = Tensor::<1>::from_floats(pixels.as_slice(), &device).reshape([2, 3, 8, 8]);
        let gradients = backbone.pooled(images).sum().backward();
        let Some(Layer::ConvNormAct(layer)) = backbone.layer("conv") else { panic!("a convolution") };
        assert!(layer.conv.weight.val().grad(&gradients).is_some());
        assert!(layer.norm.beta.val().grad(&gradients).is_some());
        assert!(layer.norm.gamma.val().grad(&gradients).is_none());
    }
}
