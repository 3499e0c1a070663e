//! What an optimizer remembers of a parameter.

use burn::optim::{RecordState, StateSink, StateSource};
use burn::tensor::{Device, Tensor};

/// Running tensors of a parameter, in the order of the rule that keeps them, and the steps taken.
#[derive(Debug, Clone)]
pub(crate) struct Slots<const D: usize> {
    /// Steps taken.
    pub(crate) time: u64,
    /// A running product of scalars (NAdam's momenta); 1 where a rule has none.
    pub(crate) product: f64,
    pub(crate) tensors: Vec<Tensor<D>>,
}

const TIME: &str = "time";
const PRODUCT: &str = "product";
const COUNT: &str = "count";

fn leaf(index: u64) -> String {
    format!("slot_{index}")
}

impl<const D: usize> Slots<D> {
    /// The state one step later, from nothing: `count` tensors of zeros like `like`.
    pub(crate) fn next<const N: usize>(state: Option<Self>, like: &Tensor<D>) -> (u64, f64, [Tensor<D>; N]) {
        match state {
            Some(Self { time, product, tensors }) => match tensors.try_into() {
                Ok(tensors) => (time + 1, product, tensors),
                Err(_) => (1, 1.0, core::array::from_fn(|_| like.zeros_like())),
            },
            None => (1, 1.0, core::array::from_fn(|_| like.zeros_like())),
        }
    }

    /// A state of these tensors.
    pub(crate) fn of<const N: usize>(time: u64, tensors: [Tensor<D>; N]) -> Option<Self> {
        Some(Self { time, product: 1.0, tensors: tensors.into() })
    }

    pub(crate) fn moved_to(mut self, device: &Device) -> Self {
        self.tensors = self.tensors.into_iter().map(|tensor| tensor.to_device(device)).collect();
        self
    }
}

impl<const D: usize> RecordState for Slots<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_scalar(prefix, TIME, self.time.into());
        out.push_scalar(prefix, PRODUCT, self.product.into());
        out.push_scalar(prefix, COUNT, (self.tensors.len() as u64).into());
        for (index, tensor) in (0..).zip(&self.tensors) {
            out.push_tensor(prefix, &leaf(index), tensor.clone().into_data());
        }
    }

    fn state_unflatten(prefix: &str, source: &mut StateSource, device: &Device) -> Option<Self> {
        let time = source.take_scalar(prefix, TIME)?.try_into().ok()?;
        let product = source.take_scalar(prefix, PRODUCT)?.try_into().ok()?;
        let count: u64 = source.take_scalar(prefix, COUNT)?.try_into().ok()?;
        let tensors = (0..count)
            .map(|index| Some(Tensor::from_data(source.take_tensor(prefix, &leaf(index))?, device)))
            .collect::<Option<_>>()?;
        Some(Self { time, product, tensors })
    }
}
