//! Mean absolute error.

use burn::tensor::Tensor;

use super::Reduction;

/// `|a - b|`, PyTorch's `L1Loss`; in the form of burn's [`MseLoss`](super::MseLoss).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaeLoss;

impl MaeLoss {
    /// The loss of two tensors of one shape, reduced to `[1]`.
    pub fn forward<const D: usize>(
        &self,
        values: Tensor<D>,
        targets: Tensor<D>,
        reduction: Reduction,
    ) -> Tensor<1> {
        let batch = values.dims()[0];
        let losses = self.forward_no_reduction(values, targets);
        match reduction {
            Reduction::Mean | Reduction::Auto => losses.mean(),
            Reduction::Sum => losses.sum(),
            Reduction::BatchMean => losses.sum().div_scalar(batch as f64),
        }
    }

    /// The loss of each element.
    pub fn forward_no_reduction<const D: usize>(&self, values: Tensor<D>, targets: Tensor<D>) -> Tensor<D> {
        (values - targets).abs()
    }
}
