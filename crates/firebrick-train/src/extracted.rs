//! A frozen network in front of the trained one.
//!
//! What is frozen is a part of the data: its outputs are computed without autodiff, by a network in evaluation
//! mode, and only what comes after it is trained. Where inputs never change from epoch to epoch, [`extract`]
//! computes them once.

use burn::tensor::Tensor;

use crate::{Batch, Batches, InMemory, TrainError};

/// Batches whose inputs are the outputs of a function of another's: a frozen network, augmentation before it.
pub struct Extracted<S, F> {
    source: S,
    function: F,
}

impl<S, F> Extracted<S, F> {
    /// Batches of `function` of the inputs of `source`, computed anew in every epoch.
    ///
    /// `function` must give one row for each input and must not depend on the batch they come in.
    pub fn new<const I: usize, const O: usize>(source: S, function: F) -> Self
    where
        S: Batches<I>,
        F: Fn(Tensor<I>) -> Tensor<O>,
    {
        Self { source, function }
    }
}

/// Inputs of rank 4 (images) to rows of features or to feature maps.
impl<const O: usize, S: Batches<4>, F: Fn(Tensor<4>) -> Tensor<O>> Batches<O> for Extracted<S, F> {
    fn num_batches(&self) -> usize {
        self.source.num_batches()
    }

    fn num_samples(&self) -> usize {
        self.source.num_samples()
    }

    fn epoch<'a>(&'a mut self, epoch: usize) -> Box<dyn Iterator<Item = Result<Batch<O>, TrainError>> + 'a> {
        let function = &self.function;
        Box::new(self.source.epoch(epoch).map(move |batch| {
            let Batch { inputs, labels, mix } = batch?;
            Ok(Batch { inputs: function(inputs), labels, mix })
        }))
    }
}

/// Computes `function` of every input of the source's first epoch and keeps the results in memory.
///
/// Give it a source that is not shuffled; shuffle the result. `progress` is told of samples done and in all;
/// when it returns `false` the work stops and the result is `None`.
///
/// # Errors
///
/// Whatever the source gives; [`TrainError::Batches`] if it gives nothing.
pub fn extract(
    source: &mut impl Batches<4>,
    function: impl Fn(Tensor<4>) -> Tensor<2>,
    batch_size: usize,
    mut progress: impl FnMut(usize, usize) -> bool,
) -> Result<Option<InMemory<2>>, TrainError> {
    let total = source.num_samples();
    let mut outputs = Vec::new();
    let mut all_labels = Vec::new();
    for batch in source.epoch(0) {
        let Batch { inputs, labels, .. } = batch?;
        outputs.push(function(inputs));
        all_labels.extend(labels);
        if !progress(all_labels.len(), total) {
            return Ok(None);
        }
    }
    if outputs.is_empty() {
        return Err(TrainError::Batches("there is nothing to compute features of".to_owned()));
    }
    InMemory::new(Tensor::cat(outputs, 0), all_labels, batch_size).map(Some)
}
