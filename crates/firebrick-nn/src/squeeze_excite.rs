//! Channels weighed by what is on the whole image.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use crate::{Activation, Initializer, LayerError, dense, seed_of};

/// Squeeze and excitation (Hu et al. 2018, arXiv:1709.01507): the mean of each channel, two dense layers, and a gate that each channel is
/// multiplied with.
#[derive(Module, Debug)]
pub struct SqueezeExcite {
    /// To `squeezed` values.
    pub reduce: Linear,
    /// Back to a value a channel.
    pub expand: Linear,
    /// Between the two; ReLU in the paper, SiLU in EfficientNet.
    #[module(skip)]
    pub activation: Activation,
    /// After them; sigmoid in the paper, hard-sigmoid in MobileNetV3.
    #[module(skip)]
    pub gate: Activation,
}

impl SqueezeExcite {
    /// With the paper's ReLU and sigmoid, and Glorot's uniform weights from `seed`.
    ///
    /// # Errors
    /// [`LayerError`] for no channels or none in between.
    pub fn new(channels: usize, squeezed: usize, seed: u64, device: &Device) -> Result<Self, LayerError> {
        LayerError::unless(channels > 0, "SqueezeExcite", "channels", channels, "at least 1")?;
        LayerError::unless(squeezed > 0, "SqueezeExcite", "squeezed", squeezed, "at least 1")?;
        let layer = |from: usize, to: usize, index| {
            let mut layer = LinearConfig::new(from, to).init(device);
            layer.weight =
                Initializer::GlorotUniform.init([from, to], from, to, seed_of(seed, index), device);
            layer.bias = Some(Initializer::Zeros.init([to], from, to, 0, device));
            layer
        };
        Ok(Self {
            reduce: layer(channels, squeezed, 0),
            expand: layer(squeezed, channels, 1),
            activation: Activation::Relu,
            gate: Activation::Sigmoid,
        })
    }

    /// `[batch, channels, height, width]` to the same shape.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, channels, _, _] = x.dims();
        let squeezed = firebrick_autodiff::global_average_pool(x.clone());
        let excited = dense(&self.reduce, squeezed, self.activation);
        let gate = self.gate.forward(dense(&self.expand, excited, Activation::None));
        x * gate.reshape([batch, channels, 1, 1])
    }
}
