//! Convolutions, norms and activations one after another, computed as one operation in training.

use burn::nn::BatchNorm;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use firebrick_autodiff::{
    ChainBlock, ChainMoments, ChainParameters, ChainSpec, ChainUnit, ConvGeometry, Shortcut, UnitNorm,
    conv_chain, conv2d,
};

use crate::{Activation, ConvNormAct, Padding};

/// A layer of a [`ResidualBlock`].
#[derive(Clone, Copy, Debug)]
pub enum ChainLayer<'a> {
    /// A convolution, its BatchNorm and activation.
    ConvNormAct(&'a ConvNormAct),
    /// A BatchNorm that follows no convolution, and an activation.
    Norm(&'a BatchNorm, Activation),
    /// A convolution without BatchNorm, and an activation.
    Conv(&'a Conv2d, Padding, Activation),
}

/// Layers one after another, and what their result is joined with.
#[derive(Clone, Debug)]
pub struct ResidualBlock<'a> {
    /// At least one.
    pub layers: Vec<ChainLayer<'a>>,
    /// Added before the last layer's activation, or put before its result.
    pub residual: Residual<'a>,
}

/// What a [`ResidualBlock`] joins its layers' result with.
#[derive(Clone, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "it lives for one call; how large a tensor's handle is depends on the backends"
)]
pub enum Residual<'a> {
    /// Nothing.
    None,
    /// The block's input, added.
    Input,
    /// The block's input through another layer, added.
    Projection(ChainLayer<'a>),
    /// A tensor from elsewhere, of the result's shape, added.
    Tensor(Tensor<4>),
    /// The block's input, whose channels come before the result's (Huang et al. 2017, arXiv:1608.06993).
    Append,
}

/// Runs blocks one after another: `[batch, channels, height, width]` to the same with the last block's channels and size.
///
/// The same as calling each layer, but for memory and time: in training, all blocks are one operation, which keeps nothing within
/// them but the convolutions' results. The running statistics take in the batch's mean and, as PyTorch's, its unbiased variance.
///
/// # Panics
///
/// If there is a block without layers, or shapes do not fit.
pub fn forward_chain(blocks: Vec<ResidualBlock<'_>>, x: Tensor<4>) -> Tensor<4> {
    let one = |layer: ChainLayer<'_>| layer.learns(&x) && layer.activation().fused().is_some();
    if !blocks.is_empty() && blocks.iter().flat_map(ResidualBlock::all_layers).all(one) {
        return chain(&blocks, x, true);
    }
    blocks.into_iter().fold(x, |x, block| block.forward(x))
}

/// Blocks as one operation; activations are left out unless `activated`.
fn chain(blocks: &[ResidualBlock<'_>], x: Tensor<4>, activated: bool) -> Tensor<4> {
    let [_, mut channels, height, width] = x.dims();
    let mut size = [height, width];
    let mut shortcuts = Vec::new();
    let specs = blocks.iter().map(|block| {
        let (of_input, mut input_size) = (channels, size);
        let mut unit = |layer: &ChainLayer<'_>| {
            let unit = layer.unit(channels, &mut size, activated);
            channels = unit.out_channels;
            unit
        };
        let units = block.layers.iter().map(&mut unit).collect();
        let shortcut = match &block.residual {
            Residual::None => Shortcut::None,
            Residual::Input => Shortcut::Input,
            Residual::Projection(layer) => {
                Shortcut::Projection(layer.unit(of_input, &mut input_size, activated))
            }
            Residual::Tensor(added) => {
                shortcuts.push(added.clone());
                Shortcut::Tensor
            }
            Residual::Append => {
                channels += of_input;
                Shortcut::Append
            }
        };
        ChainBlock { units, shortcut }
    });
    let spec = ChainSpec { blocks: specs.collect() };
    let layers = || blocks.iter().flat_map(ResidualBlock::all_layers);
    let parameters = layers().map(|layer| layer.parameters(&x)).collect();
    let (y, moments) = conv_chain(x, shortcuts, parameters, &spec);
    for (layer, moments) in layers().zip(moments) {
        layer.observe(moments);
    }
    y
}

impl<'a> ResidualBlock<'a> {
    /// All layers, the residual's behind the others.
    fn all_layers(&self) -> impl Iterator<Item = ChainLayer<'a>> {
        let projection = match self.residual {
            Residual::Projection(layer) => Some(layer),
            _ => None,
        };
        self.layers.iter().copied().chain(projection)
    }

    fn forward(self, x: Tensor<4>) -> Tensor<4> {
        let (added, before) = match self.residual {
            Residual::None => (None, None),
            Residual::Input => (Some(x.clone()), None),
            Residual::Projection(layer) => (Some(layer.forward(x.clone())), None),
            Residual::Tensor(added) => (Some(added), None),
            Residual::Append => (None, Some(x.clone())),
        };
        let (last, others) = self.layers.split_last().expect("a block has at least one layer");
        let y = others.iter().fold(x, |x, layer| layer.forward(x));
        let y = match added {
            Some(added) => last.activation().forward(last.normed(y) + added),
            None => last.forward(y),
        };
        match before {
            Some(before) => Tensor::cat(vec![before, y], 1),
            None => y,
        }
    }
}

impl ChainLayer<'_> {
    /// `[batch, in, height, width]` to `[batch, out, h, w]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self.activation().fused() {
            Some(_) if self.learns(&x) => self.alone(x, true),
            _ => self.activation().forward(self.normed(x)),
        }
    }

    /// What reaches the activation.
    fn normed(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            _ if self.learns(&x) => self.alone(x, false),
            Self::ConvNormAct(layer) => layer.norm.forward(layer.conv.forward(x)),
            Self::Norm(norm, _) => norm.forward(x),
            Self::Conv(conv, padding, _) => {
                let [_, _, height, width] = x.dims();
                let [_, _, rows, columns] = conv.weight.dims();
                let geometry = ConvGeometry {
                    stride: conv.stride,
                    padding: padding.resolve([height, width], [rows, columns], conv.stride),
                    groups: conv.groups,
                };
                let bias = conv.bias.as_ref().map(|bias| bias.val());
                conv2d(x, conv.weight.val(), bias, None, geometry, firebrick_autodiff::Activation::None)
            }
        }
    }

    /// As a chain of this layer.
    fn alone(self, x: Tensor<4>, activated: bool) -> Tensor<4> {
        chain(&[ResidualBlock { layers: vec![self], residual: Residual::None }], x, activated)
    }

    fn activation(&self) -> Activation {
        match self {
            Self::ConvNormAct(layer) => layer.activation,
            Self::Norm(_, activation) | Self::Conv(_, _, activation) => *activation,
        }
    }

    fn norm(&self) -> Option<&BatchNorm> {
        match self {
            Self::ConvNormAct(layer) => Some(&layer.norm),
            Self::Norm(norm, _) => Some(norm),
            Self::Conv(..) => None,
        }
    }

    /// Whether it is trained; a norm then takes the batch's statistics.
    fn learns(&self, x: &Tensor<4>) -> bool {
        x.device().is_autodiff() && self.norm().is_none_or(|norm| norm.training.is_enabled())
    }

    /// This layer for an input of so many channels and `size`, which becomes the result's.
    fn unit(&self, channels: usize, size: &mut [usize; 2], activated: bool) -> ChainUnit {
        let activation = self.activation().fused().filter(|_| activated).unwrap_or_default();
        let norm = match self.norm() {
            Some(norm) => UnitNorm::Batch { epsilon: norm.epsilon as f32 },
            None => UnitNorm::Bias,
        };
        let (conv, padding) = match self {
            Self::ConvNormAct(layer) => (&layer.conv, layer.padding),
            Self::Conv(conv, padding, _) => (*conv, *padding),
            Self::Norm(..) => {
                // A unit has a convolution: this one gives each channel back as it is.
                return ChainUnit {
                    in_channels: channels,
                    out_channels: channels,
                    kernel: [1, 1],
                    stride: [1, 1],
                    padding: [[0; 2]; 2],
                    groups: channels,
                    activation,
                    norm,
                };
            }
        };
        let [out_channels, group_in, height, width] = conv.weight.dims();
        let (kernel, stride) = ([height, width], conv.stride);
        let resolved = padding.resolve(*size, kernel, stride);
        if let Some(output) = padding.output(*size, kernel, stride) {
            *size = output;
        }
        ChainUnit {
            in_channels: group_in * conv.groups,
            out_channels,
            kernel,
            stride,
            padding: resolved,
            groups: conv.groups,
            activation,
            norm,
        }
    }

    /// The parameters of its unit; `x` tells device and type.
    fn parameters(&self, x: &Tensor<4>) -> ChainParameters {
        let gamma = self.norm().map(|norm| norm.gamma.val());
        let plain = || (x.device().inner(), x.dtype());
        match self {
            Self::ConvNormAct(layer) => {
                ChainParameters { weight: layer.conv.weight.val(), gamma, beta: layer.norm.beta.val() }
            }
            Self::Norm(norm, _) => {
                let (device, dtype) = plain();
                let [channels] = norm.gamma.dims();
                let weight = Tensor::ones([channels, 1, 1, 1], (&device, dtype));
                ChainParameters { weight, gamma, beta: norm.beta.val() }
            }
            Self::Conv(conv, _, _) => {
                let (device, dtype) = plain();
                let [outputs, _, _, _] = conv.weight.dims();
                let beta = match &conv.bias {
                    Some(bias) => bias.val(),
                    None => Tensor::zeros([outputs], (&device, dtype)),
                };
                ChainParameters { weight: conv.weight.val(), gamma, beta }
            }
        }
    }

    /// Moves the running statistics towards the batch's.
    fn observe(&self, ChainMoments { mean, variance, count }: ChainMoments) {
        let Some(norm) = self.norm() else { return };
        // The chain computes without the bias, which the norm would take away: what is left of it is a shift of the mean.
        let mean = match self {
            Self::ConvNormAct(ConvNormAct { conv: Conv2d { bias: Some(bias), .. }, .. }) => {
                mean + bias.val().detach()
            }
            _ => mean,
        };
        let BatchNorm { running_mean, running_var, momentum, .. } = norm;
        let unbiased = count as f64 / (count.max(2) - 1) as f64;
        for (running, newest) in [(running_mean, mean), (running_var, variance * unbiased)] {
            let before = running.value_sync().to_device(&newest.device());
            running.update((before * (1.0 - momentum) + newest * *momentum).detach());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConvNormActConfig;
    use burn::module::Module;
    use burn::nn::BatchNormConfig;
    use burn::nn::conv::Conv2dConfig;
    use burn::tensor::{Device, Distribution, Tolerance};

    #[test]
    fn an_activation_without_a_kernel_trains_as_one_with() {
        #[allow(deprecated)]
        let device = Device::ndarray().autodiff();
        let block = |activation, channels| {
            ConvNormActConfig::new(channels, 4, 3).with_activation(activation).init(7, &device)
        };
        let x = || Tensor::<4>::random([2, 4, 5, 5], burn::tensor::Distribution::Default, &device);
        device.seed(1);
        let x = x();
        let plain = [block(Activation::None, 4), block(Activation::None, 4)];
        let mish = [block(Activation::Mish, 4), block(Activation::Mish, 4)];
        let apply = |y| Activation::Mish.forward(y);
        let expected = apply(plain[1].forward(apply(plain[0].forward(x.clone()))) + x.clone());
        let layers = mish.iter().map(ChainLayer::ConvNormAct).collect();
        let both = ResidualBlock { layers, residual: Residual::Input };
        let actual = forward_chain(vec![both], x);
        actual
            .into_data()
            .assert_approx_eq::<f32>(&expected.into_data(), burn::tensor::Tolerance::absolute(1e-5));
        let [a, b] = [&plain[1], &mish[1]].map(|block| block.norm.running_mean.value_sync().into_data());
        a.assert_approx_eq::<f32>(&b, burn::tensor::Tolerance::absolute(1e-6));
    }

    #[test]
    fn a_dense_block_trains_and_predicts_as_its_layers_one_by_one() {
        #[allow(deprecated)]
        let device = Device::ndarray().autodiff();
        device.seed(3);
        let x = Tensor::<4>::random([3, 4, 5, 6], Distribution::Default, &device);
        let first = BatchNormConfig::new(4).init(&device);
        let bottleneck = ConvNormActConfig::new(4, 6, 1).with_activation(Activation::Relu).init(1, &device);
        let padding = Padding::half([3, 3]);
        let growth = Conv2dConfig::new([6, 3], [3, 3]).with_padding(padding.for_burn()).init(&device);
        let second = BatchNormConfig::new(7).init(&device);
        let (norm, relu) = (Activation::None, Activation::Relu);
        // Training moves the norms' running statistics: each way has norms of its own.
        let fork = |norm: &BatchNorm| norm.clone().fork(&device);
        let own = [fork(&first), fork(&second), bottleneck.norm.clone().fork(&device)];
        let mut apart = bottleneck.clone();
        apart.norm = own[2].clone();
        let blocks = |first, bottleneck, second| {
            let layers = vec![
                ChainLayer::Norm(first, relu),
                ChainLayer::ConvNormAct(bottleneck),
                ChainLayer::Conv(&growth, padding, norm),
            ];
            vec![
                ResidualBlock { layers, residual: Residual::Append },
                ResidualBlock { layers: vec![ChainLayer::Norm(second, relu)], residual: Residual::None },
            ]
        };
        let together = |x| forward_chain(blocks(&first, &bottleneck, &second), x);
        let one_by_one = |x: Tensor<4>| {
            let y = ChainLayer::Norm(&own[0], relu).forward(x.clone());
            let y = ChainLayer::Conv(&growth, padding, norm).forward(apart.forward(y));
            ChainLayer::Norm(&own[1], relu).forward(Tensor::cat(vec![x, y], 1))
        };
        let close = |a: Tensor<4>, b: Tensor<4>| {
            a.into_data().assert_approx_eq::<f32>(&b.into_data(), Tolerance::absolute(1e-5));
        };
        let y = together(x.clone());
        assert_eq!(y.dims(), [3, 7, 5, 6]);
        close(y, one_by_one(x.clone()));
        // With the running statistics that training has left.
        let plain = x.inner();
        let valid = [&first, &second].map(|norm| norm.clone().valid());
        let (bottleneck, growth) = (bottleneck.valid(), growth.clone().valid());
        let convolved = growth.forward(bottleneck.forward(relu.forward(valid[0].forward(plain.clone()))));
        let expected = relu.forward(valid[1].forward(Tensor::cat(vec![plain.clone(), convolved], 1)));
        let layers = vec![
            ChainLayer::Norm(&valid[0], relu),
            ChainLayer::ConvNormAct(&bottleneck),
            ChainLayer::Conv(&growth, padding, norm),
        ];
        let blocks = vec![
            ResidualBlock { layers, residual: Residual::Append },
            ResidualBlock { layers: vec![ChainLayer::Norm(&valid[1], relu)], residual: Residual::None },
        ];
        close(forward_chain(blocks, plain), expected);
    }
}
