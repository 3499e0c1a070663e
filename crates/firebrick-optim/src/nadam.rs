//! NAdam.

use burn::optim::{LearningRate, Optimizer};
use burn::tensor::{Device, Tensor};

use crate::measure::blend;
use crate::slots::Slots;

/// Adam with Nesterov momentum (Dozat 2016), as PyTorch's; with a momentum decay of 1, as Keras'.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct NAdam {
    pub(crate) beta_1: f64,
    pub(crate) beta_2: f64,
    pub(crate) epsilon: f64,
    pub(crate) momentum_decay: f64,
}

impl Optimizer for NAdam {
    type State<const D: usize> = Slots<D>;

    fn step<const D: usize>(
        &self,
        learning_rate: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Slots<D>>,
    ) -> (Tensor<D>, Option<Slots<D>>) {
        let (time, product, [m, v]) = Slots::next(state, &grad);
        let t = time as f64;
        let momentum = |t: f64| self.beta_1 * (1.0 - 0.5 * 0.96f64.powf(t * self.momentum_decay));
        let (now, next) = (momentum(t), momentum(t + 1.0));
        let product = product * now;
        let m = blend(m, grad.clone(), self.beta_1);
        let v = blend(v, grad.clone() * grad.clone(), self.beta_2);
        let root = (v.clone() / (1.0 - self.beta_2.powf(t))).sqrt() + self.epsilon;
        let step = grad * ((1.0 - now) / (1.0 - product)) + m.clone() * (next / (1.0 - product * next));
        (tensor - step / root * learning_rate, Some(Slots { time, product, tensors: vec![m, v] }))
    }

    fn to_device<const D: usize>(state: Slots<D>, device: &Device) -> Slots<D> {
        state.moved_to(device)
    }
}
