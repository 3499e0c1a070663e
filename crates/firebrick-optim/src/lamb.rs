//! LAMB.

use burn::optim::{LearningRate, Optimizer};
use burn::tensor::{Device, Tensor};

use crate::measure::{blend, norm, ratio_or_one};
use crate::slots::Slots;

/// LAMB (You et al. 2020, algorithm 2), with the weight decay inside the trust ratio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Lamb {
    pub(crate) beta_1: f64,
    pub(crate) beta_2: f64,
    pub(crate) epsilon: f64,
    pub(crate) weight_decay: f64,
}

impl Optimizer for Lamb {
    type State<const D: usize> = Slots<D>;

    fn step<const D: usize>(
        &self,
        learning_rate: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Slots<D>>,
    ) -> (Tensor<D>, Option<Slots<D>>) {
        let (time, _, [m, v]) = Slots::next(state, &grad);
        let t = time as f64;
        let m = blend(m, grad.clone(), self.beta_1);
        let v = blend(v, grad.clone() * grad, self.beta_2);
        let root = (v.clone() / (1.0 - self.beta_2.powf(t))).sqrt() + self.epsilon;
        let step = m.clone() / (1.0 - self.beta_1.powf(t)) / root + tensor.clone() * self.weight_decay;
        let trust = ratio_or_one(norm(tensor.clone()), norm(step.clone()));
        (tensor - step * trust * learning_rate, Slots::of(time, [m, v]))
    }

    fn to_device<const D: usize>(state: Slots<D>, device: &Device) -> Slots<D> {
        state.moved_to(device)
    }
}
