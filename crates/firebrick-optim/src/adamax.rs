//! Adamax.

use burn::optim::{LearningRate, Optimizer};
use burn::tensor::{Device, Tensor};

use crate::measure::blend;
use crate::slots::Slots;

/// Adam with the infinity norm (Kingma & Ba 2015, algorithm 2), as PyTorch's: `ε` is added to `|g|`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Adamax {
    pub(crate) beta_1: f64,
    pub(crate) beta_2: f64,
    pub(crate) epsilon: f64,
}

impl Optimizer for Adamax {
    type State<const D: usize> = Slots<D>;

    fn step<const D: usize>(
        &self,
        learning_rate: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Slots<D>>,
    ) -> (Tensor<D>, Option<Slots<D>>) {
        let (time, _, [m, u]) = Slots::next(state, &grad);
        let m = blend(m, grad.clone(), self.beta_1);
        let u = (u * self.beta_2).max_pair(grad.abs() + self.epsilon);
        let rate = learning_rate / (1.0 - self.beta_1.powf(time as f64));
        (tensor - m.clone() / u.clone() * rate, Slots::of(time, [m, u]))
    }

    fn to_device<const D: usize>(state: Slots<D>, device: &Device) -> Slots<D> {
        state.moved_to(device)
    }
}
