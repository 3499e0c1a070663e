//! The outputs of a network beside what they should have been.

use firebrick_nn::Network;

use crate::evaluate::floats;
use crate::metrics::{ClassificationReport, softmax_rows};
use crate::{Batches, TrainError};

/// What a network says of some samples, and the truth.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// The true class of each sample.
    pub labels: Vec<usize>,
    /// `[samples][classes]`, before any softmax.
    pub logits: Vec<Vec<f32>>,
}

/// The logits of `network` for one epoch of `batches`, with the labels: `4 (classes + 2)` bytes a sample.
///
/// # Errors
///
/// Whatever the batches give.
pub fn score<const D: usize, N: Network<D>>(
    network: &N,
    batches: &mut dyn Batches<D>,
) -> Result<Scores, TrainError> {
    let network = network.valid();
    let mut scores = Scores::default();
    for batch in batches.epoch(0) {
        let batch = batch?;
        let logits = network.forward(batch.inputs);
        let classes = logits.dims()[1];
        scores.logits.extend(floats(logits).chunks(classes).map(<[f32]>::to_vec));
        scores.labels.extend(batch.labels);
    }
    Ok(scores)
}

impl Scores {
    /// Several views of the same samples as one: the logarithm of the mean of their probabilities. One view stays as it is.
    ///
    /// # Errors
    ///
    /// [`TrainError::Metric`] if there is no view, or they are not of the same samples and classes.
    pub fn mean(views: &[Self]) -> Result<Self, TrainError> {
        let refused =
            |reason: &str| TrainError::Metric { metric: "mean of views", reason: reason.to_owned() };
        let [first, rest @ ..] = views else { return Err(refused("there are no views")) };
        let shape = |scores: &Self| scores.logits.iter().map(Vec::len).collect::<Vec<_>>();
        if rest.iter().any(|view| view.labels != first.labels || shape(view) != shape(first)) {
            return Err(refused("the views are not of the same samples and classes"));
        }
        if rest.is_empty() {
            return Ok(first.clone());
        }
        let probabilities: Vec<_> = views.iter().map(|view| softmax_rows(&view.logits)).collect();
        let logits = (0..first.logits.len()).map(|sample| {
            let class = |class: usize| {
                let sum: f64 = probabilities.iter().map(|view| view[sample][class]).sum();
                // A class of no probability keeps a logit that is a number.
                (sum / views.len() as f64).max(f64::from(f32::MIN_POSITIVE)).ln() as f32
            };
            (0..first.logits[sample].len()).map(class).collect()
        });
        Ok(Self { labels: first.labels.clone(), logits: logits.collect() })
    }

    /// Every figure, overall and by class; `names` are the classes' in the order of the logits.
    ///
    /// # Errors
    ///
    /// [`TrainError::Metric`] if there are no samples, a label that no logit stands for, or logits that are no numbers.
    pub fn report(&self, names: &[String]) -> Result<ClassificationReport, TrainError> {
        ClassificationReport::new(names, &softmax_rows(&self.logits), &self.labels)
    }

    /// Mean cross-entropy, `1/n Σ (log Σⱼ exp zⱼ - z_label)`, in `f64`; `scikit-learn`'s `log_loss` of the softmax.
    ///
    /// # Errors
    ///
    /// [`TrainError::Metric`] if there are no samples, or a label that no logit stands for.
    pub fn cross_entropy(&self) -> Result<f64, TrainError> {
        let refused = |reason: String| TrainError::Metric { metric: "cross-entropy", reason };
        if self.labels.is_empty() {
            return Err(refused("there are no samples".to_owned()));
        }
        let mut sum = 0.0;
        for (row, &label) in self.logits.iter().zip(&self.labels) {
            let own = *row.get(label).ok_or_else(|| {
                refused(format!("a sample has class {label}, the network has {} classes", row.len()))
            })?;
            let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let exp: f64 = row.iter().map(|&logit| f64::from(logit - highest).exp()).sum();
            sum += exp.ln() + f64::from(highest) - f64::from(own);
        }
        Ok(sum / self.labels.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use firebrick_nn::HeadConfig;

    use burn::tensor::Tensor;

    use super::*;
    use crate::{DeviceChoice, InMemory, evaluate};

    #[test]
    fn scores_agree_with_the_evaluation() {
        let device = DeviceChoice::NdArray.open().expect("built in");
        let inputs = Tensor::<2>::from_floats([[0.0, 1.0], [1.0, 0.5], [-2.0, 3.0], [4.0, 4.0]], &device);
        let mut batches = InMemory::new(inputs, vec![0, 1, 2, 1], 3).expect("four rows");
        let network = HeadConfig::new(2, 3).init(3, &device);
        let names = ["a", "b", "c"].map(str::to_owned);

        let evaluation = evaluate(&network, &mut batches).expect("four rows");
        let scores = score(&network, &mut batches).expect("four rows");
        let report = scores.report(&names).expect("four rows");
        assert_eq!(report.accuracy, evaluation.accuracy);
        assert_eq!(report.confusion.counts(), evaluation.confusion);
        assert!((scores.cross_entropy().expect("four rows") - evaluation.loss).abs() < 1e-6);

        assert!(scores.report(&names[..2]).is_err());
        let wrong = Scores { labels: vec![3], logits: vec![vec![0.0; 3]] };
        assert!(wrong.cross_entropy().is_err() && wrong.report(&names).is_err());
        assert!(Scores::default().cross_entropy().is_err());
    }

    #[test]
    fn views_are_averaged_as_probabilities() {
        let view = |logits: [f32; 2]| Scores { labels: vec![1], logits: vec![logits.to_vec()] };
        // Probabilities of 1/2 and of 9/10: 7/10 in the mean.
        let mean = Scores::mean(&[view([0.0, 0.0]), view([0.0, 9f32.ln()])]).expect("two views");
        assert!((mean.cross_entropy().expect("one row") + 0.7f64.ln()).abs() < 1e-6);
        let sure = Scores::mean(&[view([0.0, 500.0]), view([0.0, 400.0])]).expect("two views");
        assert!(sure.logits[0].iter().all(|logit| logit.is_finite()), "{sure:?}");
        assert_eq!(Scores::mean(&[view([1.0, 2.0])]).expect("one view"), view([1.0, 2.0]));
        assert!(Scores::mean(&[]).is_err());
        let other = Scores { labels: vec![0], ..view([0.0, 0.0]) };
        assert!(Scores::mean(&[view([0.0, 0.0]), other]).is_err());
        let wider = Scores { logits: vec![vec![0.0; 3]], ..view([0.0, 0.0]) };
        assert!(Scores::mean(&[view([0.0, 0.0]), wider]).is_err());
    }
}
