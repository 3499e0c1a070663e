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
}

impl<const D: usize> Batch<D> {
    /// The labels as a tensor `[batch]` on `device`.
    pub fn targets(&self, device: &Device) -> Tensor<1, Int> {
        let labels: Vec<i32> = self.labels.iter().map(|&label| label as i32).collect();
        Tensor::from_data(TensorData::new(labels, [self.labels.len()]), device)
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
