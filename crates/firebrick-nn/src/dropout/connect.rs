use burn::module::Module;
use burn::nn::{Dropout, Linear};
use burn::tensor::Tensor;

use super::dropout;
use crate::{Activation, LayerError, dense};

/// A dense layer whose weights, rather than its outputs, are dropped in training (Wan et al. 2013). One mask serves the whole batch; in
/// evaluation the weights are their mean.
#[derive(Module, Debug)]
pub struct DropConnect {
    /// The layer.
    pub linear: Linear,
    dropout: Dropout,
}

impl DropConnect {
    /// Drops each weight of `linear` with probability `p`; the bias stays.
    ///
    /// # Errors
    /// [`LayerError`] unless `p` is in `[0, 1)`.
    pub fn new(linear: Linear, p: f64) -> Result<Self, LayerError> {
        Ok(Self { linear, dropout: dropout("DropConnect", p)? })
    }

    /// `[..., inputs]` to `[..., outputs]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        if !super::acts(&self.dropout, &x) {
            return dense(&self.linear, x, Activation::None);
        }
        let weight = self.linear.weight.val();
        // Beside the weights, whatever the axes of the input.
        let kept = super::kept(&self.dropout, &weight, |_| true);
        self.apply(x, kept)
    }

    /// `x (W · kept / (1 - p)) + b`, with a mask `[inputs, outputs]` of ones and zeros.
    pub fn apply<const D: usize>(&self, x: Tensor<D>, kept: Tensor<2>) -> Tensor<D> {
        let weight = super::scaled(&self.dropout, self.linear.weight.val(), kept);
        let bias = self.linear.bias.as_ref().map(|bias| bias.val());
        firebrick_autodiff::linear(x, weight, bias, firebrick_autodiff::Activation::None)
    }
}
