//! Cross-entropy of tokens, for language models.

use burn::tensor::{Int, Tensor};

/// The mean over all tokens that count of `-log softmax(logits)[target]`: PyTorch's `CrossEntropyLoss(ignore_index=ignored)` over the
/// flattened tokens, with 0 in place of its NaN where no token counts.
///
/// - `logits`: `[batch, tokens, vocabulary]`
/// - `targets`: `[batch, tokens]`, ids in `0..vocabulary`, or `ignored` (transformers' is -100) for padding
/// - result: `[1]`
///
/// # Panics
/// If the logits are empty or the shapes differ; on the CPU backends also if a target is neither an id nor `ignored`.
pub fn token_cross_entropy(logits: Tensor<3>, targets: Tensor<2, Int>, ignored: i64) -> Tensor<1> {
    let [batch, tokens, vocabulary] = logits.dims();
    assert_eq!(targets.dims(), [batch, tokens], "token_cross_entropy: a target for each token");
    let rows = batch * tokens;
    let targets = targets.reshape([rows]);
    let passed_over = targets.clone().equal_elem(ignored);
    let losses = firebrick_autodiff::cross_entropy(
        logits.reshape([rows, vocabulary]),
        targets.mask_fill(passed_over.clone(), 0),
    );
    let counts = passed_over.bool_not().float().cast(losses.dtype());
    (losses * counts.clone()).sum() / counts.sum().clamp_min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    #[allow(deprecated)]
    fn device() -> Device {
        Device::ndarray()
    }

    fn logits() -> Vec<f32> {
        (0..24).map(|i| ((i * 7 % 11) as f32 - 5.0) / 3.0).collect()
    }

    /// log Σ exp - logit of the target, in f64, averaged over those that count.
    #[test]
    fn is_the_mean_over_the_tokens_that_count() {
        let targets = [2i64, -100, 0, 3, -100, 1];
        let rows: Vec<f64> = logits()
            .chunks(4)
            .zip(targets)
            .filter(|&(_, target)| target >= 0)
            .map(|(row, target)| {
                row.iter().map(|&v| f64::from(v).exp()).sum::<f64>().ln() - f64::from(row[target as usize])
            })
            .collect();
        let expected = rows.iter().sum::<f64>() / 4.0;

        let device = device().autodiff();
        let x = Tensor::<3>::from_data(TensorData::new(logits(), [2, 3, 4]), &device).require_grad();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(targets.to_vec(), [2, 3]), &device);
        let loss = token_cross_entropy(x.clone(), ids, -100);
        let gradient = x.grad(&loss.clone().backward()).expect("a gradient").into_data();
        assert!((f64::from(loss.into_scalar::<f32>()) - expected).abs() < 1e-6);
        let gradient: Vec<f32> = gradient.try_to_vec().expect("f32");
        for (row, target) in gradient.chunks(4).zip(targets) {
            assert_eq!(row.iter().all(|&g| g == 0.0), target < 0, "{row:?}");
        }
    }

    #[test]
    fn nothing_that_counts_is_no_loss() {
        let x = Tensor::<3>::from_data(TensorData::new(logits(), [2, 3, 4]), &device());
        let loss = token_cross_entropy(x, Tensor::full([2, 3], -100, &device()), -100);
        assert_eq!(loss.into_scalar::<f32>(), 0.0);
    }
}
