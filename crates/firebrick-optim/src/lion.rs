//! Lion.

use burn::optim::{LearningRate, Optimizer};
use burn::tensor::{Device, Tensor};

use crate::measure::blend;
use crate::slots::Slots;

/// Lion (Chen et al. 2023, algorithm 2), as Keras'.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Lion {
    pub(crate) beta_1: f64,
    pub(crate) beta_2: f64,
    pub(crate) weight_decay: f64,
}

impl Optimizer for Lion {
    type State<const D: usize> = Slots<D>;

    fn step<const D: usize>(
        &self,
        learning_rate: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Slots<D>>,
    ) -> (Tensor<D>, Option<Slots<D>>) {
        let (time, _, [m]) = Slots::next(state, &grad);
        let sign = blend(m.clone(), grad.clone(), self.beta_1).sign();
        let m = blend(m, grad, self.beta_2);
        let tensor = tensor * (1.0 - learning_rate * self.weight_decay) - sign * learning_rate;
        (tensor, Slots::of(time, [m]))
    }

    fn to_device<const D: usize>(state: Slots<D>, device: &Device) -> Slots<D> {
        state.moved_to(device)
    }
}
