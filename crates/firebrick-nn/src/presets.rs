//! Burn's norms with the settings that PyTorch and Keras give them, where these differ.

/// Keras 3's defaults.
pub mod keras {
    use burn::nn::{BatchNormConfig, GroupNormConfig, LayerNormConfig};

    /// `BatchNormalization`: momentum 0.99, which burn and PyTorch write as 0.01, and epsilon 1e-3.
    pub fn batch_norm(channels: usize) -> BatchNormConfig {
        BatchNormConfig::new(channels).with_momentum(0.01).with_epsilon(1e-3)
    }

    /// `LayerNormalization`: epsilon 1e-3.
    pub fn layer_norm(width: usize) -> LayerNormConfig {
        LayerNormConfig::new(width).with_epsilon(1e-3)
    }

    /// `GroupNormalization`: epsilon 1e-3.
    pub fn group_norm(groups: usize, channels: usize) -> GroupNormConfig {
        GroupNormConfig::new(groups, channels).with_epsilon(1e-3)
    }
}

/// PyTorch's defaults.
pub mod torch {
    use burn::nn::{BatchNormConfig, GroupNormConfig, LayerNormConfig};

    /// `BatchNorm1d` to `3d`: momentum 0.1 and epsilon 1e-5. PyTorch's running variance takes in the unbiased variance of the batch, burn's the
    /// biased one; [`ConvNormAct`](crate::ConvNormAct) does as PyTorch.
    pub fn batch_norm(channels: usize) -> BatchNormConfig {
        BatchNormConfig::new(channels).with_momentum(0.1).with_epsilon(1e-5)
    }

    /// `LayerNorm`: epsilon 1e-5.
    pub fn layer_norm(width: usize) -> LayerNormConfig {
        LayerNormConfig::new(width).with_epsilon(1e-5)
    }

    /// `GroupNorm`: epsilon 1e-5.
    pub fn group_norm(groups: usize, channels: usize) -> GroupNormConfig {
        GroupNormConfig::new(groups, channels).with_epsilon(1e-5)
    }
}
