use burn::module::Module;
use burn::nn::Dropout;
use burn::tensor::Tensor;

use super::{acts, dropout, kept, scaled};
use crate::LayerError;

/// Drops whole channels (Tompson et al. 2015, arXiv:1411.4280): PyTorch's `Dropout1d` to `3d`, Keras' `SpatialDropout1D` to `3D`.
#[derive(Module, Debug)]
pub struct SpatialDropout {
    dropout: Dropout,
}

impl SpatialDropout {
    /// Drops a channel with probability `p`.
    ///
    /// # Errors
    /// [`LayerError`] unless `p` is in `[0, 1)`.
    pub fn new(p: f64) -> Result<Self, LayerError> {
        Ok(Self { dropout: dropout("SpatialDropout", p)? })
    }

    /// `[batch, channels, ..]` to the same shape.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        if !acts(&self.dropout, &x) {
            return x;
        }
        let kept = kept(&self.dropout, &x, |axis| axis < 2);
        self.apply(x, kept)
    }

    /// `x · kept / (1 - p)`, with a mask `[batch, channels, 1, ..]` of ones and zeros.
    pub fn apply<const D: usize>(&self, x: Tensor<D>, kept: Tensor<D>) -> Tensor<D> {
        scaled(&self.dropout, x, kept)
    }
}
