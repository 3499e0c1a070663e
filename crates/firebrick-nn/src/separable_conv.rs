//! Depthwise separable convolution.

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor};

use crate::{Initializer, LayerError, seed_of};

/// A convolution of each channel alone, then one across channels (Chollet 2017, arXiv:1610.02357): Keras' `SeparableConv2D` with depth
/// multiplier 1, whose one bias is the pointwise one's.
#[derive(Module, Debug)]
pub struct SeparableConv2d {
    /// Weights `[in, 1, kernel, kernel]`, no bias.
    pub depthwise: Conv2d,
    /// Weights `[out, in, 1, 1]`, and a bias.
    pub pointwise: Conv2d,
}

impl SeparableConv2d {
    /// A convolution of an odd `kernel` that keeps the size at stride 1, with He's normal weights from `seed`.
    ///
    /// # Errors
    /// [`LayerError`] for no channels, an even kernel or a stride of 0.
    pub fn new(
        in_channels: usize,
        out_channels: usize,
        kernel: usize,
        stride: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self, LayerError> {
        let unless = |fits, field, value: usize, expected: &str| {
            LayerError::unless(fits, "SeparableConv2d", field, value, expected)
        };
        unless(in_channels > 0, "in_channels", in_channels, "at least 1")?;
        unless(out_channels > 0, "out_channels", out_channels, "at least 1")?;
        unless(kernel % 2 == 1, "kernel", kernel, "an odd number")?;
        unless(stride > 0, "stride", stride, "at least 1")?;
        let half = kernel / 2;
        let mut depthwise = Conv2dConfig::new([in_channels, in_channels], [kernel, kernel])
            .with_stride([stride, stride])
            .with_padding(PaddingConfig2d::Explicit(half, half, half, half))
            .with_groups(in_channels)
            .with_bias(false)
            .init(device);
        let mut pointwise = Conv2dConfig::new([in_channels, out_channels], [1, 1]).init(device);
        let normal = Initializer::KaimingNormal;
        let area = kernel * kernel;
        depthwise.weight =
            normal.init([in_channels, 1, kernel, kernel], area, area, seed_of(seed, 0), device);
        pointwise.weight = normal.init(
            [out_channels, in_channels, 1, 1],
            in_channels,
            out_channels,
            seed_of(seed, 1),
            device,
        );
        pointwise.bias = Some(Initializer::Zeros.init([out_channels], 1, 1, 0, device));
        Ok(Self { depthwise, pointwise })
    }

    /// `[batch, in, height, width]` to `[batch, out, ceil(height / stride), ceil(width / stride)]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.pointwise.forward(self.depthwise.forward(x))
    }
}
