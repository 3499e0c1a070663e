//! Softmax along an axis.

use crate::backend::{DiffBackend, InputGradients, Kernels};
use crate::check;
use crate::host::HostBackend;
use crate::record::{self, Step};
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata};
use burn::tensor::Tensor;
use firebrick_kernels::{SimdLevel, grad};

/// `exp(x) / sum(exp(x))` along the axis `dim`; the result has the shape of `x`. Only the result is kept for the backward pass.
///
/// # Panics
/// If `x` is empty or has no such axis.
pub fn softmax<const D: usize>(x: Tensor<D>, dim: usize) -> Tensor<D> {
    check::not_empty("softmax", &x.dims());
    assert!(dim < D, "softmax: a tensor of {D} axes has no axis {dim}");
    let last = x.swap_dims(dim, D - 1).into_dispatch();
    Tensor::<D>::from_dispatch(<Dispatch as DiffBackend>::softmax(last)).swap_dims(dim, D - 1)
}

fn reference<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let last = x.rank() - 1;
    let largest = B::float_detach(B::float_max_dim(x.clone(), last));
    let weights = B::float_exp(B::float_sub(x, largest));
    let sum = B::float_sum_dim(weights.clone(), last);
    B::float_div(weights, sum)
}

fn host_forward<B: HostBackend>(x: &FloatTensor<B>) -> Option<FloatTensor<B>> {
    let device = x.device();
    let x = B::host(x)?;
    let order = x.order_with_last_dense();
    let length = *x.shape().last().expect("a tensor has an axis");
    let output = grad::softmax(SimdLevel::in_use(), &x.in_order(&order), length);
    Some(B::from_host(output, x.shape(), &order, &device))
}

#[derive(Debug, Clone)]
struct SoftmaxStep<B: Backend> {
    output: FloatTensor<B>,
}

impl<B: Kernels> Step<B> for SoftmaxStep<B> {
    fn gradients(self, grad: FloatTensor<B>, wanted: &[bool]) -> InputGradients<B> {
        let device = grad.device();
        let of_host = || {
            let (output, grad) = (B::host(&self.output)?, B::host(&grad)?);
            let order = output.order_with_last_dense();
            let length = *output.shape().last().expect("a tensor has an axis");
            let (grad, values) = (grad.in_order(&order), output.in_order(&order));
            let input = grad::softmax_backward(SimdLevel::in_use(), &grad, &values, length);
            Some(B::from_host(input, output.shape(), &order, &device))
        };
        vec![wanted[0].then(|| of_host().expect("the result was computed from f32 in memory"))]
    }
}

pub(crate) fn run<B: Kernels>(x: FloatTensor<B>) -> FloatTensor<B> {
    host_forward::<B>(&x).unwrap_or_else(|| reference::<B>(x))
}

pub(crate) fn record<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    match host_forward::<B>(x.primitive()) {
        None => reference::<Autodiff<B, C>>(x),
        Some(output) => record::known::<B, C, _>(vec![x], output.clone(), SoftmaxStep { output }),
    }
}
