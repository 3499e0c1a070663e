//! Batches of one tensor.

use burn::tensor::{Device, Int, Tensor, TensorData};
use firebrick_data::shuffled;

use crate::{Batch, Batches, TrainError};

/// Inputs that fit into the device's memory, e.g. features computed once, or the rows of a table.
#[derive(Clone, Debug)]
pub struct InMemory<const D: usize> {
    inputs: Tensor<D>,
    labels: Vec<usize>,
    batch_size: usize,
    shuffle: Option<u64>,
}

impl<const D: usize> InMemory<D> {
    /// Batches of `inputs` `[samples, ..]` in their order.
    ///
    /// # Errors
    ///
    /// [`TrainError::Batches`] if there are none, or not as many labels; [`TrainError::OutOfRange`] if
    /// `batch_size` is 0.
    pub fn new(inputs: Tensor<D>, labels: Vec<usize>, batch_size: usize) -> Result<Self, TrainError> {
        let samples = inputs.dims()[0];
        if samples == 0 || samples != labels.len() {
            return Err(TrainError::Batches(format!(
                "there are {samples} inputs and {} labels",
                labels.len()
            )));
        }
        if batch_size == 0 {
            return Err(TrainError::OutOfRange {
                field: "batch_size",
                value: "0".to_owned(),
                range: "at least 1",
            });
        }
        Ok(Self { inputs, labels, batch_size, shuffle: None })
    }

    pub(crate) fn device(&self) -> Device {
        self.inputs.device()
    }

    /// Shuffles every epoch anew; the order depends on `seed` and the epoch alone.
    pub fn shuffled(mut self, seed: u64) -> Self {
        self.shuffle = Some(seed);
        self
    }
}

impl<const D: usize> Batches<D> for InMemory<D> {
    fn num_batches(&self) -> usize {
        self.labels.len().div_ceil(self.batch_size)
    }

    fn num_samples(&self) -> usize {
        self.labels.len()
    }

    fn epoch<'a>(&'a mut self, epoch: usize) -> Box<dyn Iterator<Item = Result<Batch<D>, TrainError>> + 'a> {
        let samples = self.labels.len();
        let order = match self.shuffle {
            Some(seed) => shuffled(samples, seed, epoch as u64),
            None => (0..samples).collect(),
        };
        let device = self.inputs.device();
        Box::new((0..self.num_batches()).map(move |batch| {
            let first = batch * self.batch_size;
            let rows = &order[first..(first + self.batch_size).min(samples)];
            let indices: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
            let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, [rows.len()]), &device);
            Ok(Batch::new(
                self.inputs.clone().select(0, indices),
                rows.iter().map(|&row| self.labels[row]).collect(),
            ))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DeviceChoice;

    fn batches() -> InMemory<2> {
        let device = DeviceChoice::NdArray.open().expect("built in");
        let inputs = Tensor::from_floats([[0.0], [1.0], [2.0], [3.0], [4.0]], &device);
        InMemory::new(inputs, (0..5).collect(), 2).expect("five rows")
    }

    fn read(batches: &mut InMemory<2>, epoch: usize) -> Vec<Vec<usize>> {
        let read = batches.epoch(epoch).map(|batch| {
            let batch = batch.expect("in memory");
            let rows: Vec<f32> = batch.inputs.into_data().try_to_vec().expect("f32");
            assert_eq!(rows.iter().map(|&row| row as usize).collect::<Vec<_>>(), batch.labels);
            batch.labels
        });
        read.collect()
    }

    #[test]
    fn the_last_batch_may_be_short() {
        assert_eq!(read(&mut batches(), 0), [vec![0, 1], vec![2, 3], vec![4]]);
        assert_eq!(batches().num_batches(), 3);
    }

    #[test]
    fn epochs_are_shuffled_apart_and_again_the_same() {
        let mut batches = batches().shuffled(3);
        let first = read(&mut batches, 0);
        assert_eq!(read(&mut batches, 0), first);
        assert_ne!(read(&mut batches, 1), first);
        let mut all = first.concat();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn nonsense_is_refused() {
        let device = DeviceChoice::NdArray.open().expect("built in");
        let inputs = Tensor::<2>::zeros([2, 1], &device);
        assert!(InMemory::new(inputs.clone(), vec![0], 2).is_err());
        assert!(InMemory::new(inputs, vec![0, 0], 0).is_err());
    }
}
