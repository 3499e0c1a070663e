//! The angle between outputs and targets.

use burn::tensor::Tensor;

use super::{Reduction, reduce};

/// `1 - cos(x, t)`: with a class's one-hot target the cosine loss of Barz & Denzler 2020 (arXiv:1901.09054), and Keras'
/// `CosineSimilarity` plus one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CosineLoss;

impl CosineLoss {
    /// The loss of two lists of vectors `[batch, width]`, reduced to `[1]`.
    pub fn forward(&self, values: Tensor<2>, targets: Tensor<2>, reduction: Reduction) -> Tensor<1> {
        reduce(self.forward_no_reduction(values, targets), &reduction)
    }

    /// The loss of each vector, `[batch]`.
    pub fn forward_no_reduction(&self, values: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
        (unit(values) * unit(targets)).sum_dim(1).neg().add_scalar(1.0).squeeze_dim(1)
    }
}

/// Each row at length one; one of length zero stays.
pub(super) fn unit(x: Tensor<2>) -> Tensor<2> {
    // Within the root, so that its derivative at zero is finite.
    let length = x.clone().square().sum_dim(1).clamp_min(1e-24).sqrt();
    x / length
}
