use burn::module::Module;
use burn::nn::Dropout;
use burn::tensor::Tensor;

use super::{acts, dropout, kept};
use crate::LayerError;

/// Dropout for SELU (Klambauer et al. 2017, arXiv:1706.02515): what is dropped takes SELU's least value, and an affine map brings mean 0 and
/// variance 1 back. PyTorch's and Keras' `AlphaDropout`.
#[derive(Module, Debug)]
pub struct AlphaDropout {
    dropout: Dropout,
}

/// `-λ α` of SELU.
const LEAST: f64 = -1.758_099_340_847_376_6;

impl AlphaDropout {
    /// Drops each value with probability `p`.
    ///
    /// # Errors
    /// [`LayerError`] unless `p` is in `[0, 1)`.
    pub fn new(p: f64) -> Result<Self, LayerError> {
        Ok(Self { dropout: dropout("AlphaDropout", p)? })
    }

    /// Any shape to itself.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        if !acts(&self.dropout, &x) {
            return x;
        }
        let kept = kept(&self.dropout, &x, |_| true);
        self.apply(x, kept)
    }

    /// `a (x · kept - λ α (1 - kept)) + b` with `a = ((1 - p) (1 + p (λ α)²))^-½` and `b = a p λ α`, with a mask of ones and zeros of the shape of `x`.
    pub fn apply<const D: usize>(&self, x: Tensor<D>, kept: Tensor<D>) -> Tensor<D> {
        let p = self.dropout.prob;
        let scale = ((1.0 - p) * (1.0 + p * LEAST * LEAST)).powf(-0.5);
        let shift = -scale * p * LEAST;
        let dropped = (kept.clone().neg() + 1.0) * LEAST;
        (x * kept + dropped) * scale + shift
    }
}
