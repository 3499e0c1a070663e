//! Convolution, batch normalisation, activation: the brick of convolutional backbones.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor};
use firebrick_autodiff::{ChainMoments, ChainParameters, ChainSpec, ChainUnit, conv_chain};

use crate::{Activation, Initializer, LayerSummary};

/// Configuration of a [`ConvNormAct`].
#[derive(Clone, Debug)]
pub struct ConvNormActConfig {
    channels_in: usize,
    channels_out: usize,
    kernel: usize,
    stride: usize,
    groups: usize,
    activation: Activation,
    norm_epsilon: f64,
    norm_momentum: f64,
}

impl ConvNormActConfig {
    /// A convolution from `channels_in` to `channels_out` with a square `kernel`, stride 1, one group,
    /// padding `(kernel - 1) / 2` on each side, no activation, and BatchNorm with PyTorch's epsilon 1e-5 and
    /// momentum 0.1 (the weight of the newest batch).
    pub fn new(channels_in: usize, channels_out: usize, kernel: usize) -> Self {
        Self {
            channels_in,
            channels_out,
            kernel,
            stride: 1,
            groups: 1,
            activation: Activation::None,
            norm_epsilon: 1e-5,
            norm_momentum: 0.1,
        }
    }

    /// Sets the stride of both axes.
    pub fn with_stride(mut self, stride: usize) -> Self {
        self.stride = stride;
        self
    }

    /// Sets the number of groups; `channels_in` groups make a depthwise convolution.
    pub fn with_groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// Sets the activation.
    pub fn with_activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// Makes the block on `device`; its convolution's first weights depend on `seed` alone.
    ///
    /// # Panics
    ///
    /// If the groups do not divide both channel counts.
    pub fn init(&self, seed: u64, device: &Device) -> ConvNormAct {
        let padding = (self.kernel - 1) / 2;
        let mut conv = Conv2dConfig::new([self.channels_in, self.channels_out], [self.kernel; 2])
            .with_stride([self.stride; 2])
            .with_dilation([1, 1])
            .with_groups(self.groups)
            .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding))
            .with_bias(false)
            .init(device);
        let area = self.kernel * self.kernel;
        let (group_in, group_out) = (self.channels_in / self.groups, self.channels_out / self.groups);
        conv.weight = Initializer::KaimingNormalFanOut.init(
            [self.channels_out, group_in, self.kernel, self.kernel],
            group_in * area,
            // PyTorch's fan_out does not divide by the groups; its weights are what we are compared with.
            group_out * self.groups * area,
            seed,
            device,
        );
        let norm = BatchNormConfig::new(self.channels_out)
            .with_epsilon(self.norm_epsilon)
            .with_momentum(self.norm_momentum)
            .init(device);
        ConvNormAct { conv, norm, activation: self.activation }
    }
}

/// Convolution without bias, BatchNorm (Ioffe & Szegedy 2015, arXiv:1502.03167), activation.
#[derive(Module, Debug)]
pub struct ConvNormAct {
    /// The convolution, weights `[out, in / groups, kernel, kernel]`.
    pub conv: Conv2d,
    /// The normalisation over `out` channels.
    pub norm: BatchNorm,
    /// The non-linearity after it.
    #[module(skip)]
    pub activation: Activation,
}

impl ConvNormAct {
    /// `[batch, in, height, width]` to `[batch, out, ceil(height / stride), ceil(width / stride)]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        Self::forward_chain(&[self], false, x)
    }

    /// Runs blocks one after another, and adds `x` before the last one's activation if `residual`.
    ///
    /// The same as calling each, but for memory and time: in training, the blocks are one operation, which keeps nothing
    /// between them but the convolutions' results. The running statistics take in the batch's mean and, as PyTorch's, its
    /// unbiased variance.
    ///
    /// # Panics
    ///
    /// If there is no block, or shapes do not fit.
    pub fn forward_chain(blocks: &[&Self], residual: bool, x: Tensor<4>) -> Tensor<4> {
        let (last, before) = blocks.split_last().expect("a chain has at least one block");
        if !(x.device().is_autodiff() && blocks.iter().all(|block| block.norm.training.is_enabled())) {
            let added = residual.then(|| x.clone());
            let run = |x, block: &Self| block.activation.forward(block.norm.forward(block.conv.forward(x)));
            let y = last.norm.forward(last.conv.forward(before.iter().fold(x, |x, block| run(x, block))));
            return last.activation.forward(if let Some(added) = added { y + added } else { y });
        }
        if blocks.iter().any(|block| block.activation.fused().is_none()) {
            let alone = |x, block: &Self| block.activation.forward(Self::chain(&[block], false, x, false));
            let y = before.iter().fold(x.clone(), |x, block| alone(x, block));
            let y = Self::chain(&[last], false, y, false);
            return last.activation.forward(if residual { y + x } else { y });
        }
        Self::chain(blocks, residual, x, true)
    }

    /// Blocks as one operation, with their activations if these are `fused`.
    fn chain(blocks: &[&Self], residual: bool, x: Tensor<4>, fused: bool) -> Tensor<4> {
        let units = blocks.iter().map(|block| block.unit(fused)).collect();
        let parameters = blocks.iter().map(|block| ChainParameters {
            weight: block.conv.weight.val(),
            gamma: block.norm.gamma.val(),
            beta: block.norm.beta.val(),
        });
        let (y, moments) = conv_chain(x, parameters.collect(), &ChainSpec { units, residual });
        for (block, moments) in blocks.iter().zip(moments) {
            block.observe(moments);
        }
        y
    }

    fn unit(&self, fused: bool) -> ChainUnit {
        let [out_channels, group_in, height, width] = self.conv.weight.dims();
        ChainUnit {
            in_channels: group_in * self.conv.groups,
            out_channels,
            kernel: [height, width],
            stride: self.conv.stride,
            // What `ConvNormActConfig` gives.
            padding: [[(height - 1) / 2; 2], [(width - 1) / 2; 2]],
            groups: self.conv.groups,
            activation: self.activation.fused().filter(|_| fused).unwrap_or_default(),
            epsilon: self.norm.epsilon as f32,
        }
    }

    /// Moves the running statistics towards the batch's.
    fn observe(&self, ChainMoments { mean, variance, count }: ChainMoments) {
        let BatchNorm { running_mean, running_var, momentum, .. } = &self.norm;
        let unbiased = count as f64 / (count.max(2) - 1) as f64;
        for (running, newest) in [(running_mean, mean), (running_var, variance * unbiased)] {
            let before = running.value_sync().to_device(&newest.device());
            running.update((before * (1.0 - momentum) + newest * *momentum).detach());
        }
    }

    /// Adds this block's row to `rows` and returns its output shape for an input `[channels, height, width]`.
    pub fn summarize(&self, name: &str, input: [usize; 3], rows: &mut Vec<LayerSummary>) -> [usize; 3] {
        let [out, group_in, kernel, _] = self.conv.weight.lazy_shape().dims();
        let stride = self.conv.stride[0];
        let [height, width] = [input[1], input[2]].map(|side| side.div_ceil(stride));
        let weights = (out * group_in * kernel * kernel) as u64;
        let depthwise = self.conv.groups == input[0] && self.conv.groups > 1;
        let activation = match self.activation {
            Activation::None => String::new(),
            other => format!(" + {other:?}"),
        };
        rows.push(LayerSummary {
            name: name.to_owned(),
            kind: format!(
                "{}Conv2d {kernel}x{kernel} s{stride} + BatchNorm{activation}",
                if depthwise { "Depthwise" } else { "" }
            ),
            output: vec![out, height, width],
            parameters: weights + 2 * out as u64,
            multiply_adds: weights * (height * width) as u64,
        });
        [out, height, width]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(deprecated)]
    fn device() -> Device {
        Device::ndarray()
    }

    #[test]
    fn halves_odd_and_even_sides_upwards() {
        let block = ConvNormActConfig::new(3, 8, 3).with_stride(2).init(0, &device());
        for (side, half) in [(1, 1), (2, 1), (7, 4), (8, 4)] {
            let y = block.forward(Tensor::zeros([2, 3, side, side], &device()));
            assert_eq!(y.dims(), [2, 8, half, half]);
        }
    }

    #[test]
    fn its_summary_counts_what_its_module_holds() {
        let block = ConvNormActConfig::new(6, 6, 3).with_groups(6).with_activation(Activation::Relu6);
        let block = block.init(0, &device());
        let mut rows = Vec::new();
        let output = block.summarize("dw", [6, 10, 7], &mut rows);
        let y = block.forward(Tensor::zeros([1, 6, 10, 7], &device()));
        assert_eq!([1, output[0], output[1], output[2]], y.dims());
        assert_eq!(rows[0].parameters, 6 * 9 + 12);
        assert_eq!(rows[0].multiply_adds, 6 * 9 * 70);
        assert!(rows[0].kind.starts_with("Depthwise"), "{}", rows[0].kind);
    }

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
        let actual = ConvNormAct::forward_chain(&[&mish[0], &mish[1]], true, x);
        actual
            .into_data()
            .assert_approx_eq::<f32>(&expected.into_data(), burn::tensor::Tolerance::absolute(1e-5));
        let [a, b] = [&plain[1], &mish[1]].map(|block| block.norm.running_mean.value_sync().into_data());
        a.assert_approx_eq::<f32>(&b, burn::tensor::Tolerance::absolute(1e-6));
    }
}
