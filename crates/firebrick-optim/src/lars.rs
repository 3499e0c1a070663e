//! LARS.

use burn::optim::{LearningRate, Optimizer};
use burn::tensor::{Device, Tensor};

use crate::measure::{norm, ratio_or_one};
use crate::slots::Slots;

/// LARS (You et al. 2017, algorithm 1): the local rate is inside the velocity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Lars {
    pub(crate) momentum: f64,
    pub(crate) weight_decay: f64,
    pub(crate) trust_coefficient: f64,
}

impl Optimizer for Lars {
    type State<const D: usize> = Slots<D>;

    fn step<const D: usize>(
        &self,
        learning_rate: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Slots<D>>,
    ) -> (Tensor<D>, Option<Slots<D>>) {
        let (time, _, [velocity]) = Slots::next(state, &grad);
        let size = norm(tensor.clone());
        let below = norm(grad.clone()) + size.clone() * self.weight_decay;
        let local = ratio_or_one(size * self.trust_coefficient, below);
        let step = (grad + tensor.clone() * self.weight_decay) * local * learning_rate;
        let velocity = velocity * self.momentum + step;
        (tensor - velocity.clone(), Slots::of(time, [velocity]))
    }

    fn to_device<const D: usize>(state: Slots<D>, device: &Device) -> Slots<D> {
        state.moved_to(device)
    }
}
