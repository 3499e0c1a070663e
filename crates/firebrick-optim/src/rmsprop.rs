//! RMSprop.

use burn::optim::{LearningRate, Optimizer};
use burn::tensor::{Device, Tensor};

use crate::measure::blend;
use crate::slots::Slots;

/// RMSprop (Tieleman & Hinton 2012): `ε` outside the root as PyTorch's, or inside as Keras'.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RmsProp {
    pub(crate) rho: f64,
    pub(crate) momentum: f64,
    pub(crate) epsilon: f64,
    pub(crate) epsilon_in_root: bool,
    pub(crate) centered: bool,
}

impl Optimizer for RmsProp {
    type State<const D: usize> = Slots<D>;

    fn step<const D: usize>(
        &self,
        learning_rate: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Slots<D>>,
    ) -> (Tensor<D>, Option<Slots<D>>) {
        let (time, _, [squares, mean, velocity]) = Slots::next(state, &grad);
        let squares = blend(squares, grad.clone() * grad.clone(), self.rho);
        let (mean, variance) = if self.centered {
            let mean = blend(mean, grad.clone(), self.rho);
            (mean.clone(), squares.clone() - mean.clone() * mean)
        } else {
            (mean, squares.clone())
        };
        let root = match self.epsilon_in_root {
            true => (variance + self.epsilon).sqrt(),
            false => variance.sqrt() + self.epsilon,
        };
        // The rate is inside the velocity in Keras and outside in PyTorch; they differ when it changes between steps.
        let velocity = match self.epsilon_in_root {
            true => velocity * self.momentum + grad / root * learning_rate,
            false => velocity * self.momentum + grad / root,
        };
        let step = match self.epsilon_in_root {
            true => velocity.clone(),
            false => velocity.clone() * learning_rate,
        };
        (tensor - step, Slots::of(time, [squares, mean, velocity]))
    }

    fn to_device<const D: usize>(state: Slots<D>, device: &Device) -> Slots<D> {
        state.moved_to(device)
    }
}
