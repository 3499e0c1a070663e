//! Categorical cross-entropy from logits.

use burn::tensor::{Int, Tensor};

use super::{LossError, Reduction, beside, class_weights, reduce};

/// Mean categorical cross-entropy of a batch: `-1/n Σᵢ log softmax(logitsᵢ)[targetᵢ]`.
///
/// Taken from logits through the log-sum-exp, so it stays finite where a probability would round to zero.
/// It is PyTorch's `CrossEntropyLoss` and Keras' `CategoricalCrossentropy(from_logits=True)` with their defaults.
///
/// - `logits`: `[batch, classes]`
/// - `targets`: `[batch]`, class indices in `0..classes`
/// - result: `[1]`
///
/// # Panics
/// If the batch is empty or the batches differ; on the CPU backends also if a target is no class.
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    firebrick_autodiff::cross_entropy(logits, targets).mean()
}

/// Categorical cross-entropy with everything that PyTorch's `CrossEntropyLoss` has.
///
/// With the target's shares `t` of the classes (1 and 0 for a class index), `t' = (1 - ε) t + ε / classes` and weights `w`, a sample's
/// loss is `-Σ_c w_c t'_c log softmax(logits)_c`. The mean of hard targets is weighted, `Σ lossᵢ / Σ w_{yᵢ}`, that of soft ones is over
/// the samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CrossEntropy {
    /// `ε` in `[0, 1]`, the share that is spread over all classes (Szegedy et al. 2016, arXiv:1512.00567); 0 by default.
    pub label_smoothing: f64,
    /// A weight a class, at least 0; all 1 by default.
    pub class_weights: Option<Vec<f32>>,
}

impl CrossEntropy {
    /// Checks the settings for a network of `classes` outputs.
    ///
    /// # Errors
    /// [`LossError`] names the setting that is wrong.
    pub fn validate(&self, classes: usize) -> Result<(), LossError> {
        let fits = (0.0..=1.0).contains(&self.label_smoothing);
        LossError::unless(fits, "label_smoothing", self.label_smoothing, "a number from 0 to 1")?;
        self.class_weights.as_deref().map_or(Ok(()), |weights| class_weights::check(weights, classes))
    }

    /// The loss of class indices `[batch]` and logits `[batch, classes]`, reduced to `[1]`.
    pub fn forward(&self, logits: Tensor<2>, targets: Tensor<1, Int>, reduction: Reduction) -> Tensor<1> {
        let Some(weights) = &self.class_weights else {
            return reduce(self.forward_no_reduction(logits, targets), &reduction);
        };
        let weights = beside(weights, &logits).select(0, targets.clone());
        let losses = self.forward_no_reduction(logits, targets);
        match reduction {
            Reduction::Mean | Reduction::Auto => losses.sum() / weights.sum(),
            _ => reduce(losses, &reduction),
        }
    }

    /// The loss of each sample, `[batch]`.
    pub fn forward_no_reduction(&self, logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
        if self.label_smoothing == 0.0 && self.class_weights.is_none() {
            return firebrick_autodiff::cross_entropy(logits, targets);
        }
        let shares = targets.one_hot::<2>(logits.dims()[1]).float().cast(logits.dtype());
        self.forward_soft_no_reduction(logits, shares)
    }

    /// The loss of shares of the classes `[batch, classes]`, which sum to one, reduced to `[1]`.
    pub fn forward_soft(&self, logits: Tensor<2>, shares: Tensor<2>, reduction: Reduction) -> Tensor<1> {
        reduce(self.forward_soft_no_reduction(logits, shares), &reduction)
    }

    /// The loss of shares of the classes `[batch, classes]`, of each sample, `[batch]`.
    pub fn forward_soft_no_reduction(&self, logits: Tensor<2>, shares: Tensor<2>) -> Tensor<1> {
        let classes = logits.dims()[1];
        let mut shares = match self.label_smoothing {
            0.0 => shares,
            smoothing => shares * (1.0 - smoothing) + smoothing / classes as f64,
        };
        if let Some(weights) = &self.class_weights {
            shares = shares * beside(weights, &logits).unsqueeze();
        }
        firebrick_autodiff::soft_cross_entropy(logits, shares)
    }
}

/// The cross-entropy of probabilities `[batch, classes]` with shares of the classes, of each sample, `[batch]`.
///
/// The rows are brought to a sum of one and kept within 1e-7 of 0 and 1, as Keras' `CategoricalCrossentropy` does. Where there are
/// logits, take them instead ([`CrossEntropy`]): a probability has lost what a confident logit knows.
pub fn cross_entropy_from_probabilities(probabilities: Tensor<2>, shares: Tensor<2>) -> Tensor<1> {
    let sums = probabilities.clone().sum_dim(1);
    let log = (probabilities / sums).clamp(1e-7, 1.0 - 1e-7).log();
    (shares * log).sum_dim(1).neg().squeeze_dim(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[allow(deprecated)]
    fn device() -> Device {
        Device::ndarray()
    }

    /// The definition, log Σ exp - logit of the target, taken in f64 and averaged.
    #[test]
    fn equals_the_log_sum_exp_formula() {
        let logits = [[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]];
        let targets = [2usize, 0];
        let expected = logits
            .iter()
            .zip(targets)
            .map(|(row, t): (&[f64; 3], usize)| row.iter().map(|v| v.exp()).sum::<f64>().ln() - row[t])
            .sum::<f64>()
            / 2.0;
        let loss =
            cross_entropy(Tensor::from_floats(logits, &device()), Tensor::from_ints([2, 0], &device()));
        assert!((f64::from(loss.into_scalar::<f32>()) - expected).abs() < 1e-6);
    }

    #[test]
    fn stays_finite_for_a_hopeless_logit() {
        let logits = Tensor::<2>::from_floats([[1000.0, -1000.0]], &device());
        let loss = cross_entropy(logits, Tensor::from_ints([1], &device())).into_scalar::<f32>();
        assert_eq!(loss, 2000.0);
    }

    /// d loss / d logits = (softmax - onehot) / batch.
    #[test]
    fn its_gradient_is_softmax_minus_onehot() {
        let device = device().autodiff();
        let logits = Tensor::<2>::from_floats([[0.2, -0.4, 1.0]], &device).require_grad();
        let grads = cross_entropy(logits.clone(), Tensor::from_ints([1], &device)).backward();
        let got = logits
            .grad(&grads)
            .expect("logits require gradients")
            .into_data()
            .try_to_vec::<f32>()
            .expect("f32");
        let exp: Vec<f64> = [0.2f64, -0.4, 1.0].iter().map(|v| v.exp()).collect();
        let sum: f64 = exp.iter().sum();
        for (i, g) in got.iter().enumerate() {
            let want = exp[i] / sum - f64::from(u8::from(i == 1));
            assert!((f64::from(*g) - want).abs() < 1e-6, "{i}: {g} != {want}");
        }
    }
}
