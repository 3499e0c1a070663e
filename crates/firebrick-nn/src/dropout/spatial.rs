use burn::module::Module;
use burn::nn::Dropout;
use burn::tensor::Tensor;

use super::{dropout, factors};
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
        let factors = factors(&self.dropout, &x, |axis| axis < 2);
        x * factors
    }
}
