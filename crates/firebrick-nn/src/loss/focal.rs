//! Focal loss: what is classified well already counts little.

use burn::tensor::{Tensor, activation};

use super::{LossError, Reduction, reduce};

/// `(1 - p)^γ`, with a derivative that is finite where the base is zero.
fn modulation(rest: Tensor<2>, gamma: f64) -> Tensor<2> {
    if gamma == 0.0 { rest.ones_like() } else { rest.clamp_min(1e-30).powf_scalar(gamma) }
}

fn check(alpha: f64, gamma: f64) -> Result<(), LossError> {
    let fits = alpha.is_finite() && alpha > 0.0;
    LossError::unless(fits, "alpha", alpha, "a number greater than 0")?;
    LossError::unless(gamma.is_finite() && gamma >= 0.0, "gamma", gamma, "a number of at least 0")
}

/// Focal loss over a softmax: `-Σ_c t_c α (1 - p_c)^γ log p_c`, Keras' `CategoricalFocalCrossentropy`, after
/// Lin et al. 2017 (arXiv:1708.02002, eq. 5).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Focal {
    /// A factor, greater than 0; 0.25 by default.
    pub alpha: f64,
    /// How little the easy ones count, at least 0; 2 by default.
    pub gamma: f64,
}

impl Default for Focal {
    fn default() -> Self {
        Self { alpha: 0.25, gamma: 2.0 }
    }
}

impl Focal {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`LossError`] names the setting that is wrong.
    pub fn validate(&self) -> Result<(), LossError> {
        check(self.alpha, self.gamma)
    }

    /// The loss of logits and shares of the classes, both `[batch, classes]`, reduced to `[1]`.
    pub fn forward(&self, logits: Tensor<2>, shares: Tensor<2>, reduction: Reduction) -> Tensor<1> {
        reduce(self.forward_no_reduction(logits, shares), &reduction)
    }

    /// The loss of each sample, `[batch]`.
    pub fn forward_no_reduction(&self, logits: Tensor<2>, shares: Tensor<2>) -> Tensor<1> {
        let log = activation::log_softmax(logits, 1);
        let rest = log.clone().exp().neg() + 1.0;
        let losses = shares * modulation(rest, self.gamma) * log;
        losses.sum_dim(1).squeeze_dim(1).mul_scalar(-self.alpha)
    }
}

/// Focal loss over sigmoids: `α_t (1 - p_t)^γ · binary cross-entropy`, torchvision's `sigmoid_focal_loss`. A sample's loss is the mean
/// over its outputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BinaryFocal {
    /// The weight of positive targets, in `(0, 1)`; negative ones weigh `1 - α`. 0.25 by default.
    pub alpha: f64,
    /// How little the easy ones count, at least 0; 2 by default.
    pub gamma: f64,
}

impl Default for BinaryFocal {
    fn default() -> Self {
        Self { alpha: 0.25, gamma: 2.0 }
    }
}

impl BinaryFocal {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`LossError`] names the setting that is wrong.
    pub fn validate(&self) -> Result<(), LossError> {
        check(self.alpha, self.gamma)?;
        LossError::unless(self.alpha < 1.0, "alpha", self.alpha, "a number between 0 and 1")
    }

    /// The loss of logits and targets in `[0, 1]`, both `[batch, outputs]`, reduced to `[1]`.
    pub fn forward(&self, logits: Tensor<2>, targets: Tensor<2>, reduction: Reduction) -> Tensor<1> {
        reduce(self.forward_no_reduction(logits, targets), &reduction)
    }

    /// The loss of each sample, `[batch]`.
    pub fn forward_no_reduction(&self, logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
        let softplus = activation::softplus(logits.clone().neg(), 1.0);
        // The sigmoid, by way of its logarithm: burn's own rounds f64 to f32.
        let p = softplus.clone().neg().exp();
        let not = targets.clone().neg() + 1.0;
        let entropy = not.clone() * logits + softplus;
        let rest = p.clone() * not.clone() + (p.neg() + 1.0) * targets.clone();
        let alpha = targets * self.alpha + not * (1.0 - self.alpha);
        (alpha * modulation(rest, self.gamma) * entropy).mean_dim(1).squeeze_dim(1)
    }
}
