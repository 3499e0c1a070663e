//! RAdam.

use burn::optim::{LearningRate, Optimizer};
use burn::tensor::{Device, Tensor};

use crate::measure::blend;
use crate::slots::Slots;

/// Rectified Adam (Liu et al. 2020), as PyTorch's: no second moment until its variance is tractable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RAdam {
    pub(crate) beta_1: f64,
    pub(crate) beta_2: f64,
    pub(crate) epsilon: f64,
}

impl Optimizer for RAdam {
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
        let longest = 2.0 / (1.0 - self.beta_2) - 1.0;
        let correction = 1.0 - self.beta_2.powf(t);
        let length = longest - 2.0 * t * (1.0 - correction) / correction;
        let rate = learning_rate / (1.0 - self.beta_1.powf(t));
        let step = if length > 5.0 {
            let rectified = ((length - 4.0) * (length - 2.0) * longest
                / ((longest - 4.0) * (longest - 2.0) * length))
                .sqrt();
            m.clone() / (v.clone().sqrt() + self.epsilon) * (rate * rectified * correction.sqrt())
        } else {
            m.clone() * rate
        };
        (tensor - step, Slots::of(time, [m, v]))
    }

    fn to_device<const D: usize>(state: Slots<D>, device: &Device) -> Slots<D> {
        state.moved_to(device)
    }
}
