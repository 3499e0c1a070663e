//! Categorical cross-entropy from logits.

use burn::tensor::{Int, Tensor};

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
