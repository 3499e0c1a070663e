//! Adadelta.

use burn::optim::{LearningRate, Optimizer};
use burn::tensor::{Device, Tensor};

use crate::measure::blend;
use crate::slots::Slots;

/// Adadelta (Zeiler 2012), as PyTorch's and Keras'.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Adadelta {
    pub(crate) rho: f64,
    pub(crate) epsilon: f64,
}

impl Optimizer for Adadelta {
    type State<const D: usize> = Slots<D>;

    fn step<const D: usize>(
        &self,
        learning_rate: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Slots<D>>,
    ) -> (Tensor<D>, Option<Slots<D>>) {
        let (time, _, [squares, steps]) = Slots::next(state, &grad);
        let squares = blend(squares, grad.clone() * grad.clone(), self.rho);
        let step = (steps.clone() + self.epsilon).sqrt() / (squares.clone() + self.epsilon).sqrt() * grad;
        let steps = blend(steps, step.clone() * step.clone(), self.rho);
        (tensor - step * learning_rate, Slots::of(time, [squares, steps]))
    }

    fn to_device<const D: usize>(state: Slots<D>, device: &Device) -> Slots<D> {
        state.moved_to(device)
    }
}
