//! AdaGrad.

use burn::optim::{LearningRate, Optimizer};
use burn::tensor::{Device, Tensor};

use crate::slots::Slots;

/// AdaGrad (Duchi et al. 2011): `ε` outside the root as PyTorch's, or inside as Keras'.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AdaGrad {
    pub(crate) initial_accumulator: f64,
    pub(crate) epsilon: f64,
    pub(crate) epsilon_in_root: bool,
}

impl Optimizer for AdaGrad {
    type State<const D: usize> = Slots<D>;

    fn step<const D: usize>(
        &self,
        learning_rate: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Slots<D>>,
    ) -> (Tensor<D>, Option<Slots<D>>) {
        let first = state.is_none();
        let (time, _, [sum]) = Slots::next(state, &grad);
        let sum = if first { sum + self.initial_accumulator } else { sum };
        let sum = sum + grad.clone() * grad.clone();
        let root = match self.epsilon_in_root {
            true => (sum.clone() + self.epsilon).sqrt(),
            false => sum.clone().sqrt() + self.epsilon,
        };
        (tensor - grad / root * learning_rate, Slots::of(time, [sum]))
    }

    fn to_device<const D: usize>(state: Slots<D>, device: &Device) -> Slots<D> {
        state.moved_to(device)
    }
}
