//! Squeeze-and-excitation: channels scaled by factors that are computed from their means.

use firebrick_nn::Activation;

use super::{Conv, GraphBuilder, Value};

/// Squeeze-and-excitation (Hu et al. 2018, arXiv:1709.01507) as torchvision has it, both layers 1x1 convolutions with bias.
#[derive(Clone, Debug, PartialEq)]
pub struct SqueezeExcite {
    /// Of the tensors, without `.fc1.weight` and so on.
    pub name: String,
    /// Of the map.
    pub channels: usize,
    /// Width between the two layers.
    pub squeezed: usize,
    /// After the first layer.
    pub activation: Activation,
    /// After the second, which gives the factors.
    pub gate: Activation,
}

impl GraphBuilder {
    /// A map times `gate(fc2(activation(fc1(mean over its pixels))))`.
    pub fn squeeze_excite(&mut self, x: Value, settings: SqueezeExcite) -> Value {
        let SqueezeExcite { name, channels, squeezed, activation, gate } = settings;
        let means = self.global_average_pool(x);
        let reduce = Conv::new(format!("{name}.fc1"), channels, squeezed, 1).bias().activation(activation);
        let expand = Conv::new(format!("{name}.fc2"), squeezed, channels, 1).bias().activation(gate);
        let reduced = self.conv(means, reduce);
        let factors = self.conv(reduced, expand);
        self.scale(x, factors)
    }
}
