//! Binary cross-entropy.

use burn::tensor::{Tensor, activation};

use super::{LossError, Reduction, beside, reduce};

/// Binary cross-entropy of logits, each of which stands for itself: `-(p t log σ(x) + (1 - t) log(1 - σ(x)))`, PyTorch's
/// `BCEWithLogitsLoss`. A sample's loss is the mean over its outputs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BinaryCrossEntropy {
    /// Moves targets towards one half: `t (1 - ε) + ε / 2`, Keras'; 0 by default, at most 1.
    pub label_smoothing: f64,
    /// `p`, the weight of an output's positive targets (PyTorch's `pos_weight`); all 1 by default.
    pub positive_weights: Option<Vec<f32>>,
}

impl BinaryCrossEntropy {
    /// Checks the settings for a network of `outputs` outputs.
    ///
    /// # Errors
    /// [`LossError`] names the setting that is wrong.
    pub fn validate(&self, outputs: usize) -> Result<(), LossError> {
        let fits = (0.0..=1.0).contains(&self.label_smoothing);
        LossError::unless(fits, "label_smoothing", self.label_smoothing, "a number from 0 to 1")?;
        let Some(weights) = &self.positive_weights else { return Ok(()) };
        if weights.len() != outputs {
            let expected = format!("a weight for each of the {outputs} outputs");
            return Err(LossError::new("positive_weights", format!("a list of {}", weights.len()), expected));
        }
        match weights.iter().find(|weight| !(weight.is_finite() && **weight >= 0.0)) {
            Some(weight) => Err(LossError::new("positive_weights", weight, "numbers of at least 0")),
            None => Ok(()),
        }
    }

    /// The loss of targets in `[0, 1]` `[batch, outputs]`, reduced to `[1]`.
    pub fn forward(&self, logits: Tensor<2>, targets: Tensor<2>, reduction: Reduction) -> Tensor<1> {
        reduce(self.forward_no_reduction(logits, targets), &reduction)
    }

    /// The loss of each sample, `[batch]`.
    pub fn forward_no_reduction(&self, logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
        let weights = self.positive_weights.as_ref().map(|weights| beside(weights, &logits).unsqueeze());
        let targets = match self.label_smoothing {
            0.0 => targets,
            smoothing => targets * (1.0 - smoothing) + smoothing / 2.0,
        };
        // -log σ(x) = softplus(-x), and -log(1 - σ(x)) = softplus(-x) + x, neither of which overflows.
        let softplus = activation::softplus(logits.clone().neg(), 1.0);
        let factor = match weights {
            Some(weights) => (weights - 1.0) * targets.clone() + 1.0,
            None => targets.ones_like(),
        };
        let losses = (targets.neg() + 1.0) * logits + factor * softplus;
        losses.mean_dim(1).squeeze_dim(1)
    }
}

/// Binary cross-entropy of probabilities, kept within 1e-7 of 0 and 1 as in Keras' `BinaryCrossentropy`; of each sample, `[batch]`.
pub fn binary_cross_entropy_from_probabilities(probabilities: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    let p = probabilities.clamp(1e-7, 1.0 - 1e-7);
    let losses = targets.clone() * p.clone().log() + (targets.neg() + 1.0) * (p.neg() + 1.0).log();
    losses.mean_dim(1).neg().squeeze_dim(1)
}
