//! What the loop is fed with.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::TrainError;

/// Some inputs and the classes they belong to.
#[derive(Clone, Debug)]
pub struct Batch<const D: usize> {
    /// `[batch, ..]`, without autodiff.
    pub inputs: Tensor<D>,
    /// Class of each input.
    pub labels: Vec<usize>,
    /// What else is in the inputs; nothing as a rule.
    pub mix: Option<Mix>,
}

/// Second classes of inputs that were mixed from two.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix {
    /// Class of the other input of each.
    pub partners: Vec<usize>,
    /// Share of each input that is its own, 0 to 1.
    pub share: f64,
}

impl<const D: usize> Batch<D> {
    /// Inputs that belong to one class each.
    pub fn new(inputs: Tensor<D>, labels: Vec<usize>) -> Self {
        Self { inputs, labels, mix: None }
    }

    /// The labels as a tensor `[batch]` on `device`.
    pub fn targets(&self, device: &Device) -> Tensor<1, Int> {
        let labels: Vec<i32> = self.labels.iter().map(|&label| label as i32).collect();
        Tensor::from_data(TensorData::new(labels, [self.labels.len()]), device)
    }

    /// The share of each class in each input, `[batch, classes]` on `device`: a one, or two shares where inputs are mixed. The labels
    /// are below `classes`.
    pub fn shares(&self, classes: usize, device: &Device) -> Tensor<2> {
        let mut shares = vec![0.0f32; self.labels.len() * classes];
        for (row, &label) in shares.chunks_mut(classes).zip(&self.labels) {
            row[label] = self.mix.as_ref().map_or(1.0, |mix| mix.share as f32);
        }
        if let Some(mix) = &self.mix {
            for (row, &label) in shares.chunks_mut(classes).zip(&mix.partners) {
                row[label] += (1.0 - mix.share) as f32;
            }
        }
        Tensor::from_data(TensorData::new(shares, [self.labels.len(), classes]), device)
    }

    /// Mean entropy of the shares of classes.
    pub(crate) fn entropy(&self) -> f64 {
        let Some(mix) = &self.mix else { return 0.0 };
        let mixed = self.labels.iter().zip(&mix.partners).filter(|(own, other)| own != other).count();
        let nats = |share: f64| if share > 0.0 { -share * share.ln() } else { 0.0 };
        (nats(mix.share) + nats(1.0 - mix.share)) * mixed as f64 / self.labels.len().max(1) as f64
    }
}

/// Batches, epoch by epoch. `D` is the rank of the inputs, batch axis included.
pub trait Batches<const D: usize> {
    /// Number of batches of an epoch in which no sample is skipped.
    fn num_batches(&self) -> usize;

    /// Number of samples of an epoch in which none is skipped.
    fn num_samples(&self) -> usize;

    /// The batches of an epoch, counted from 0; the same ones whenever the same epoch is asked for.
    fn epoch<'a>(&'a mut self, epoch: usize) -> Box<dyn Iterator<Item = Result<Batch<D>, TrainError>> + 'a>;
}
