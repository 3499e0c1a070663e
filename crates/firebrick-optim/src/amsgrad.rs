//! AMSGrad.

use burn::optim::{LearningRate, Optimizer};
use burn::tensor::{Device, Tensor};

use crate::measure::blend;
use crate::slots::Slots;

/// Adam whose second moment never shrinks (Reddi et al. 2018), as PyTorch's `Adam(amsgrad=True)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AmsGrad {
    pub(crate) beta_1: f64,
    pub(crate) beta_2: f64,
    pub(crate) epsilon: f64,
}

impl Optimizer for AmsGrad {
    type State<const D: usize> = Slots<D>;

    fn step<const D: usize>(
        &self,
        learning_rate: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Slots<D>>,
    ) -> (Tensor<D>, Option<Slots<D>>) {
        let (time, _, [m, v, greatest]) = Slots::next(state, &grad);
        let m = blend(m, grad.clone(), self.beta_1);
        let v = blend(v, grad.clone() * grad, self.beta_2);
        let greatest = greatest.max_pair(v.clone());
        let t = time as f64;
        let root = greatest.clone().sqrt() / (1.0 - self.beta_2.powf(t)).sqrt() + self.epsilon;
        let tensor = tensor - m.clone() / root * (learning_rate / (1.0 - self.beta_1.powf(t)));
        (tensor, Slots::of(time, [m, v, greatest]))
    }

    fn to_device<const D: usize>(state: Slots<D>, device: &Device) -> Slots<D> {
        state.moved_to(device)
    }
}
