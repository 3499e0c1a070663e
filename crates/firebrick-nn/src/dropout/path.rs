use burn::module::Module;
use burn::nn::Dropout;
use burn::tensor::Tensor;

use super::{acts, dropout, kept, scaled};
use crate::LayerError;

/// Drops a residual branch for whole samples: stochastic depth (Huang et al. 2016, arXiv:1603.09382), timm's `DropPath` and torchvision's
/// `StochasticDepth(mode="row")`.
#[derive(Module, Debug)]
pub struct DropPath {
    dropout: Dropout,
}

impl DropPath {
    /// Drops a sample's branch with probability `p`.
    ///
    /// # Errors
    /// [`LayerError`] unless `p` is in `[0, 1)`.
    pub fn new(p: f64) -> Result<Self, LayerError> {
        Ok(Self { dropout: dropout("DropPath", p)? })
    }

    /// The branch's result `[batch, ..]`, to be added to what goes past it.
    pub fn forward<const D: usize>(&self, branch: Tensor<D>) -> Tensor<D> {
        if !acts(&self.dropout, &branch) {
            return branch;
        }
        let kept = kept(&self.dropout, &branch, |axis| axis == 0);
        self.apply(branch, kept)
    }

    /// `branch · kept / (1 - p)`, with a mask `[batch, 1, ..]` of ones and zeros.
    pub fn apply<const D: usize>(&self, branch: Tensor<D>, kept: Tensor<D>) -> Tensor<D> {
        scaled(&self.dropout, branch, kept)
    }
}
