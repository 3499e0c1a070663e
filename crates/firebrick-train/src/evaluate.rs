//! Using a network without changing it.

use burn::tensor::Tensor;
use firebrick_nn::Network;

use crate::{Batch, Batches, Evaluation, LossConfig, TrainError};

/// Cross-entropy, accuracy and confusion of `network` on one epoch of `batches`.
///
/// # Errors
///
/// Whatever the batches give; [`TrainError::Batches`] if they give nothing or a label that no logit stands for.
pub fn evaluate<const D: usize, N: Network<D>>(
    network: &N,
    batches: &mut dyn Batches<D>,
) -> Result<Evaluation, TrainError> {
    evaluate_by(network, batches, &LossConfig::cross_entropy())
}

/// As [`evaluate`], with another loss.
///
/// # Errors
///
/// As of [`evaluate`]; [`TrainError::Loss`] for a setting that does not go with the network.
pub fn evaluate_by<const D: usize, N: Network<D>>(
    network: &N,
    batches: &mut dyn Batches<D>,
    loss: &LossConfig,
) -> Result<Evaluation, TrainError> {
    let network = network.valid();
    let mut tally = Tally::default();
    for batch in batches.epoch(0) {
        let batch = batch?;
        let logits = network.forward(batch.inputs.clone());
        tally.check_labels(&batch, logits.dims()[1])?;
        loss.validate_classes(logits.dims()[1])?;
        let value = scalar(loss.of_classes(logits.clone(), &batch));
        tally.add(&batch.labels, value, &argmax(logits));
    }
    tally.finish()
}

/// The logits of `network` for one epoch of `batches`, a row a sample.
///
/// # Errors
///
/// Whatever the batches give.
pub fn predict<const D: usize, N: Network<D>>(
    network: &N,
    batches: &mut dyn Batches<D>,
) -> Result<Vec<Vec<f32>>, TrainError> {
    let network = network.valid();
    let mut rows = Vec::new();
    for batch in batches.epoch(0) {
        let logits = network.forward(batch?.inputs);
        let classes = logits.dims()[1];
        rows.extend(floats(logits).chunks(classes).map(<[f32]>::to_vec));
    }
    Ok(rows)
}

/// Values of a tensor in row-major order, as f32 whatever the device stores.
pub(crate) fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_to_vec().expect("just converted to f32")
}

pub(crate) fn scalar(tensor: Tensor<1>) -> f64 {
    f64::from(floats(tensor)[0])
}

/// The class with the highest logit of each row; the first one where several are.
pub(crate) fn argmax(logits: Tensor<2>) -> Vec<usize> {
    let classes = logits.dims()[1];
    floats(logits)
        .chunks(classes)
        .map(|row| (0..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best }))
        .collect()
}

/// Sums over batches.
#[derive(Default)]
pub(crate) struct Tally {
    samples: usize,
    loss: f64,
    right: usize,
    confusion: Vec<Vec<u64>>,
}

impl Tally {
    /// Refuses a label that no logit stands for, before a device's gather reads past its end.
    pub(crate) fn check_labels<const D: usize>(
        &mut self,
        batch: &Batch<D>,
        classes: usize,
    ) -> Result<(), TrainError> {
        if self.confusion.is_empty() {
            self.confusion = vec![vec![0; classes]; classes];
        }
        let partners = batch.mix.iter().flat_map(|mix| &mix.partners);
        match batch.labels.iter().chain(partners).find(|&&label| label >= classes) {
            Some(label) => Err(TrainError::Batches(format!(
                "a sample has class {label}, the network has {classes} classes, 0 to {}",
                classes.saturating_sub(1)
            ))),
            None => Ok(()),
        }
    }

    /// Adds a batch: its labels, its mean loss, the classes it was taken for.
    pub(crate) fn add(&mut self, labels: &[usize], loss: f64, taken: &[usize]) {
        self.samples += labels.len();
        self.loss += loss * labels.len() as f64;
        for (&label, &class) in labels.iter().zip(taken) {
            self.right += usize::from(label == class);
            self.confusion[label][class] += 1;
        }
    }

    pub(crate) fn samples(&self) -> usize {
        self.samples
    }

    pub(crate) fn loss(&self) -> f64 {
        self.loss / self.samples.max(1) as f64
    }

    pub(crate) fn accuracy(&self) -> f64 {
        self.right as f64 / self.samples.max(1) as f64
    }

    pub(crate) fn finish(self) -> Result<Evaluation, TrainError> {
        if self.samples == 0 {
            return Err(TrainError::Batches("there are no samples to evaluate on".to_owned()));
        }
        Ok(Evaluation {
            samples: self.samples,
            loss: self.loss(),
            accuracy: self.accuracy(),
            confusion: self.confusion,
        })
    }
}
