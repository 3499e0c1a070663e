//! Adam and AdamW, with bias corrections in f64.

use burn::optim::{LearningRate, Optimizer, RecordState, StateSink, StateSource};
use burn::tensor::{Device, Tensor};
use firebrick_autodiff::{AdamStep, adam_update};

/// Adam (Kingma & Ba 2015) or, with a weight decay, AdamW (Loshchilov & Hutter 2019): all numbers but the learning rate.
///
/// It replaces burn's, which takes its bias corrections in f32: of `1 - 0.999^t`, four digits are left for small `t`. On the CPU
/// backends a step is one pass over memory, in place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Adam {
    pub(crate) beta_1: f64,
    pub(crate) beta_2: f64,
    pub(crate) epsilon: f64,
    pub(crate) weight_decay: f64,
}

/// The moments of a parameter.
#[derive(Debug, Clone)]
pub(crate) struct AdamState<const D: usize> {
    /// Steps taken.
    time: u64,
    moments: [Tensor<D>; 2],
}

const TIME: &str = "time";
const MOMENTS: [&str; 2] = ["moment_1", "moment_2"];

impl<const D: usize> RecordState for AdamState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_scalar(prefix, TIME, self.time.into());
        for (name, moment) in MOMENTS.into_iter().zip(&self.moments) {
            out.push_tensor(prefix, name, moment.clone().into_data());
        }
    }

    fn state_unflatten(prefix: &str, source: &mut StateSource, device: &Device) -> Option<Self> {
        let time = source.take_scalar(prefix, TIME)?.try_into().ok()?;
        let mut moment = |name| Some(Tensor::from_data(source.take_tensor(prefix, name)?, device));
        Some(Self { time, moments: [moment(MOMENTS[0])?, moment(MOMENTS[1])?] })
    }
}

impl Optimizer for Adam {
    type State<const D: usize> = AdamState<D>;

    fn step<const D: usize>(
        &self,
        learning_rate: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<AdamState<D>>,
    ) -> (Tensor<D>, Option<AdamState<D>>) {
        let state =
            state.unwrap_or_else(|| AdamState { time: 0, moments: [grad.zeros_like(), grad.zeros_like()] });
        let step = AdamStep {
            learning_rate,
            beta_1: self.beta_1,
            beta_2: self.beta_2,
            epsilon: self.epsilon,
            weight_decay: self.weight_decay,
            time: state.time + 1,
        };
        let (tensor, moments) = adam_update(tensor, grad, state.moments, &step);
        (tensor, Some(AdamState { time: step.time, moments }))
    }

    fn to_device<const D: usize>(state: AdamState<D>, device: &Device) -> AdamState<D> {
        AdamState { moments: state.moments.map(|moment| moment.to_device(device)), ..state }
    }
}
