//! Convolution, batch normalisation, activation: the brick of convolutional backbones.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor};

use crate::{Activation, ChainLayer, Initializer, LayerSummary};

/// Pixels of zeros around the input of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// `[[top, bottom], [left, right]]`.
    Explicit([[usize; 2]; 2]),
    /// As many as make the result `ceil(size / stride)` long, the odd one at the bottom and right: TensorFlow's `SAME`. For an even
    /// size and a stride of 2 these are others than PyTorch's.
    Same,
}

impl Padding {
    /// `(kernel - 1) / 2` on every side, as PyTorch's models have it.
    pub fn half([height, width]: [usize; 2]) -> Self {
        Self::Explicit([[(height - 1) / 2; 2], [(width - 1) / 2; 2]])
    }

    /// The same on every side.
    pub fn all(side: usize) -> Self {
        Self::Explicit([[side; 2]; 2])
    }

    /// The padding of an input of `[height, width]` pixels: `[[top, bottom], [left, right]]`.
    pub fn resolve(self, size: [usize; 2], kernel: [usize; 2], stride: [usize; 2]) -> [[usize; 2]; 2] {
        match self {
            Self::Explicit(sides) => sides,
            Self::Same => [0, 1].map(|axis| {
                let windows = size[axis].div_ceil(stride[axis]);
                let total = ((windows.max(1) - 1) * stride[axis] + kernel[axis]).saturating_sub(size[axis]);
                [total / 2, total - total / 2]
            }),
        }
    }

    /// Height and width of the result, rounded down; none where the kernel is larger than the padded input.
    pub fn output(self, size: [usize; 2], kernel: [usize; 2], stride: [usize; 2]) -> Option<[usize; 2]> {
        let sides = self.resolve(size, kernel, stride);
        let out = |axis: usize| {
            let padded = size[axis] + sides[axis][0] + sides[axis][1];
            Some(padded.checked_sub(kernel[axis])? / stride[axis] + 1)
        };
        Some([out(0)?, out(1)?])
    }

    /// As burn writes it.
    pub fn for_burn(self) -> PaddingConfig2d {
        match self {
            Self::Explicit([[top, bottom], [left, right]]) => {
                PaddingConfig2d::Explicit(top, left, bottom, right)
            }
            Self::Same => PaddingConfig2d::Same,
        }
    }
}

/// Configuration of a [`ConvNormAct`].
#[derive(Clone, Debug)]
pub struct ConvNormActConfig {
    channels_in: usize,
    channels_out: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: Padding,
    groups: usize,
    bias: bool,
    activation: Activation,
    norm_epsilon: f64,
    norm_momentum: f64,
    initializer: Initializer,
}

impl ConvNormActConfig {
    /// A convolution from `channels_in` to `channels_out` with a square `kernel`, stride 1, one group,
    /// padding `(kernel - 1) / 2` on each side, no activation, and BatchNorm with PyTorch's epsilon 1e-5 and
    /// momentum 0.1 (the weight of the newest batch).
    pub fn new(channels_in: usize, channels_out: usize, kernel: usize) -> Self {
        Self {
            channels_in,
            channels_out,
            kernel: [kernel; 2],
            stride: [1; 2],
            padding: Padding::half([kernel; 2]),
            groups: 1,
            bias: false,
            activation: Activation::None,
            norm_epsilon: 1e-5,
            norm_momentum: 0.1,
            initializer: Initializer::KaimingNormalFanOut,
        }
    }

    /// Sets the kernel's height and width; the padding becomes half of them.
    pub fn with_kernel(mut self, kernel: [usize; 2]) -> Self {
        self.kernel = kernel;
        self.padding = Padding::half(kernel);
        self
    }

    /// Sets the stride of both axes.
    pub fn with_stride(mut self, stride: usize) -> Self {
        self.stride = [stride; 2];
        self
    }

    /// Sets the padding.
    pub fn with_padding(mut self, padding: Padding) -> Self {
        self.padding = padding;
        self
    }

    /// Sets what is added to the norm's variance.
    pub fn with_norm_epsilon(mut self, epsilon: f64) -> Self {
        self.norm_epsilon = epsilon;
        self
    }

    /// Sets the weight of the newest batch in the norm's running statistics.
    pub fn with_norm_momentum(mut self, momentum: f64) -> Self {
        self.norm_momentum = momentum;
        self
    }

    /// Sets how the convolution's first weights are drawn; normal by He's fan-out by default.
    pub fn with_initializer(mut self, initializer: Initializer) -> Self {
        self.initializer = initializer;
        self
    }

    /// Sets the number of groups; `channels_in` groups make a depthwise convolution.
    pub fn with_groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// Gives the convolution a bias, zero at first, as torchvision's VGG has it before its norms. The norm takes it away again: it only
    /// moves the running mean, its gradient is zero and none is computed.
    pub fn with_bias(mut self) -> Self {
        self.bias = true;
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
        let mut conv = Conv2dConfig::new([self.channels_in, self.channels_out], self.kernel)
            .with_stride(self.stride)
            .with_dilation([1, 1])
            .with_groups(self.groups)
            .with_padding(self.padding.for_burn())
            .with_bias(false)
            .init(device);
        conv.bias = self.bias.then(|| Initializer::Zeros.init([self.channels_out], 1, 1, seed, device));
        let area = self.kernel[0] * self.kernel[1];
        let (group_in, group_out) = (self.channels_in / self.groups, self.channels_out / self.groups);
        conv.weight = self.initializer.init(
            [self.channels_out, group_in, self.kernel[0], self.kernel[1]],
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
        ConvNormAct { conv, norm, activation: self.activation, padding: self.padding }
    }
}

/// Convolution, as a rule without bias, BatchNorm (Ioffe & Szegedy 2015, arXiv:1502.03167), activation.
#[derive(Module, Debug)]
pub struct ConvNormAct {
    /// The convolution, weights `[out, in / groups, kernel, kernel]`.
    pub conv: Conv2d,
    /// The normalisation over `out` channels.
    pub norm: BatchNorm,
    /// The non-linearity after it.
    #[module(skip)]
    pub activation: Activation,
    /// Around the convolution's input.
    #[module(skip)]
    pub padding: Padding,
}

impl ConvNormAct {
    /// `[batch, in, height, width]` to `[batch, out, h, w]`, with half of the kernel as padding `ceil(height / stride)` and likewise.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        ChainLayer::ConvNormAct(self).forward(x)
    }

    /// Adds this block's row to `rows` and returns its output shape for an input `[channels, height, width]`.
    pub fn summarize(&self, name: &str, input: [usize; 3], rows: &mut Vec<LayerSummary>) -> [usize; 3] {
        let [out, group_in, kernel_height, kernel_width] = self.conv.weight.lazy_shape().dims();
        let kernel = [kernel_height, kernel_width];
        let stride = self.conv.stride[0];
        let [height, width] =
            self.padding.output([input[1], input[2]], kernel, self.conv.stride).unwrap_or([0, 0]);
        let weights = (out * group_in * kernel_height * kernel_width) as u64;
        // Of the norm, and the bias.
        let values_a_channel = if self.conv.bias.is_some() { 3 } else { 2 };
        let depthwise = self.conv.groups == input[0] && self.conv.groups > 1;
        let activation = match self.activation {
            Activation::None => String::new(),
            other => format!(" + {other:?}"),
        };
        rows.push(LayerSummary {
            name: name.to_owned(),
            kind: format!(
                "{}Conv2d {kernel_height}x{kernel_width} s{stride} + BatchNorm{activation}",
                if depthwise { "Depthwise" } else { "" }
            ),
            output: vec![out, height, width],
            parameters: weights + values_a_channel * out as u64,
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
    fn a_bias_before_the_norm_moves_the_running_mean_and_nothing_else_in_training() {
        #[allow(deprecated)]
        let device = Device::ndarray().autodiff();
        let config =
            ConvNormActConfig::new(3, 4, 3).with_norm_momentum(1.0).with_activation(Activation::Relu);
        let plain = config.init(5, &device);
        let mut biased = config.with_bias().init(5, &device);
        let bias = Tensor::<1>::from_floats([1.0, -2.0, 0.5, 3.0], &device);
        biased.conv.bias = Some(burn::module::Param::from_tensor(bias.clone()));
        device.seed(1);
        let x = Tensor::<4>::random([2, 3, 5, 5], burn::tensor::Distribution::Default, &device);
        let difference = |a: Tensor<4>, b: Tensor<4>| (a - b).abs().max().into_scalar::<f32>();
        assert_eq!(difference(plain.forward(x.clone()), biased.forward(x.clone())), 0.0);
        let means = [&plain, &biased].map(|block| block.norm.running_mean.value_sync());
        let [without, with] = means.map(|mean| mean.inner());
        assert!((with - without - bias.inner()).abs().max().into_scalar::<f32>() < 1e-6);
        // So that the same comes out with the running statistics, where the convolution adds it.
        let (plain, biased) = (plain.valid(), biased.valid());
        let x = x.inner();
        let scale = plain.forward(x.clone()).max().into_scalar::<f32>();
        assert!(difference(plain.forward(x.clone()), biased.forward(x)) < 1e-5 * scale);
    }
}
