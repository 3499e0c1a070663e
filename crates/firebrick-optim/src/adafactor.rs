//! Adafactor.

use burn::optim::{LearningRate, Optimizer};
use burn::tensor::{Device, Tensor};

use crate::measure::{blend, rms};
use crate::slots::Slots;

/// Adafactor (Shazeer & Stern 2018), as PyTorch's: the second moment of a matrix is kept as a row and a column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Adafactor {
    pub(crate) beta_2_decay: f64,
    pub(crate) epsilon_1: f64,
    pub(crate) epsilon_2: f64,
    pub(crate) clip_threshold: f64,
    pub(crate) weight_decay: f64,
}

impl Optimizer for Adafactor {
    type State<const D: usize> = Slots<D>;

    fn step<const D: usize>(
        &self,
        learning_rate: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Slots<D>>,
    ) -> (Tensor<D>, Option<Slots<D>>) {
        let time = state.as_ref().map_or(1, |state| state.time + 1);
        let t = time as f64;
        let keep = 1.0 - t.powf(self.beta_2_decay);
        let rate = rms(tensor.clone()).clamp_min(self.epsilon_2) * learning_rate.min(1.0 / t.sqrt());
        let tensor = tensor * (1.0 - learning_rate * self.weight_decay);
        let squares = grad.clone() * grad.clone();
        let mut old = state.map(|state| state.tensors).unwrap_or_default().into_iter();
        let mut track = |new: Tensor<D>| {
            let old = old.next().unwrap_or_else(|| new.zeros_like());
            blend(old, new, keep)
        };
        let (variance, tensors) = if D > 1 {
            let row = track(squares.clone().mean_dim(D - 1));
            let column = track(squares.mean_dim(D - 2));
            let mean = row.clone().mean_dim(D - 2).clamp_min(self.epsilon_1);
            (row.clone() * column.clone() / mean, vec![row, column])
        } else {
            let variance = track(squares);
            (variance.clone(), vec![variance])
        };
        let step = grad / variance.clamp_min(self.epsilon_1 * self.epsilon_1).sqrt();
        let excess = (rms(step.clone()) / self.clip_threshold).clamp_min(1.0);
        (tensor - step * (rate / excess), Some(Slots { time, product: 1.0, tensors }))
    }

    fn to_device<const D: usize>(state: Slots<D>, device: &Device) -> Slots<D> {
        state.moved_to(device)
    }
}
