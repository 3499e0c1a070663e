//! The contrastive loss of SimCLR.

use burn::tensor::{Bool, Int, Tensor};

use super::cosine::unit;
use super::{LossError, Reduction, reduce};

/// Normalised temperature-scaled cross-entropy: two views of a sample find each other among all views of a batch by the cosine of their
/// embeddings (Chen et al. 2020, arXiv:2002.05709, eq. 1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NtXent {
    /// `τ`, greater than 0; 0.5 by default, the paper's for CIFAR-10.
    pub temperature: f64,
}

impl Default for NtXent {
    fn default() -> Self {
        Self { temperature: 0.5 }
    }
}

impl NtXent {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`LossError`] names the setting that is wrong.
    pub fn validate(&self) -> Result<(), LossError> {
        let fits = self.temperature.is_finite() && self.temperature > 0.0;
        LossError::unless(fits, "temperature", self.temperature, "a number greater than 0")
    }

    /// The loss of two lists of embeddings `[batch, width]`, row `i` of both from sample `i`, reduced to `[1]`.
    pub fn forward(&self, first: Tensor<2>, second: Tensor<2>, reduction: Reduction) -> Tensor<1> {
        reduce(self.forward_no_reduction(first, second), &reduction)
    }

    /// The loss of each view, those of `first` before those of `second`: `[2 batch]`.
    pub fn forward_no_reduction(&self, first: Tensor<2>, second: Tensor<2>) -> Tensor<1> {
        let [batch, _] = first.dims();
        let device = first.device();
        let views = unit(Tensor::cat(vec![first, second], 0));
        let cosines = views.clone().matmul(views.transpose()) / self.temperature;
        // A view does not look for itself. No cosine over a temperature comes near this, and its exponential is zero.
        let itself = Tensor::<2, Bool>::diag_mask([2 * batch, 2 * batch], 0, &device).bool_not();
        let logits = cosines.mask_fill(itself, -1e30);
        let other = Tensor::<1, Int>::arange(0..batch as i64, &device);
        let partners = Tensor::cat(vec![other.clone() + batch as i64, other], 0);
        firebrick_autodiff::cross_entropy(logits, partners)
    }
}
