//! A linear layer with its activation.

use crate::activate::activate;
use crate::backend::{DiffBackend, InputGradients, Kernels};
use crate::check;
use crate::host::{Host, HostBackend};
use crate::list::TensorList;
use crate::record::{self, Step};
use crate::saved::Saved;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata};
use burn::tensor::{Shape, Tensor};
use firebrick_kernels::{Activation, SimdLevel, grad};
use std::borrow::Cow;

/// `activation(x · weight + bias)` over the last axis.
///
/// - `x`: `[..., inputs]`
/// - `weight`: `[inputs, outputs]`, as burn's `Linear` has it; PyTorch's, transposed, is read without a copy
/// - `bias`: `[outputs]`
/// - result: `[..., outputs]`
///
/// What the activation was applied to is kept for the backward pass only if its derivative needs it.
///
/// # Panics
/// If `x` is empty, or `weight` or `bias` has another shape.
pub fn linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    activation: Activation,
) -> Tensor<D> {
    let dims = x.dims();
    check::not_empty("linear", &dims);
    let [inputs, outputs] = weight.dims();
    check::shape("linear", "weight", &[inputs, outputs], &[dims[D - 1], outputs]);
    let mut tensors = vec![x.into_dispatch(), weight.into_dispatch()];
    if let Some(bias) = bias {
        check::shape("linear", "bias", &bias.dims(), &[outputs]);
        tensors.push(bias.into_dispatch());
    }
    Tensor::from_dispatch(<Dispatch as DiffBackend>::linear(TensorList(tensors), activation))
}

fn reference<B: Backend>(tensors: Vec<FloatTensor<B>>, activation: Activation) -> FloatTensor<B> {
    let mut tensors = tensors.into_iter();
    let (x, weight) = (tensors.next().expect("an input"), tensors.next().expect("a weight"));
    let mut dims: Vec<usize> = x.shape().to_vec();
    let (inputs, outputs) = (weight.shape()[0], weight.shape()[1]);
    let rows = x.shape().num_elements() / inputs;
    let mut y = B::float_matmul(B::float_reshape(x, Shape::from([rows, inputs])), weight);
    if let Some(bias) = tensors.next() {
        y = B::float_add(y, B::float_reshape(bias, Shape::from([1, outputs])));
    }
    *dims.last_mut().expect("a tensor has an axis") = outputs;
    B::float_reshape(activate::<B>(y, activation), Shape::from(dims))
}

/// The weight as the kernels take it; `values` are its own.
fn weight_of<'a>(weight: &Host, values: &'a [f32], outputs_first: bool) -> grad::Weight<'a> {
    let (inputs, outputs) = (weight.shape()[0], weight.shape()[1]);
    grad::Weight { values, inputs, outputs, outputs_first }
}

/// The order in which a weight is read: PyTorch's if it lies so, else burn's.
fn weight_order(weight: &Host) -> ([usize; 2], bool) {
    let transposed = !weight.is_in(&[0, 1]) && weight.is_in(&[1, 0]);
    (if transposed { [1, 0] } else { [0, 1] }, transposed)
}

fn host_forward<B: HostBackend>(
    tensors: &[FloatTensor<B>],
    activation: Activation,
) -> Option<(FloatTensor<B>, Saved<B>)> {
    let device = tensors[0].device();
    let (x, weight) = (B::host(&tensors[0])?, B::host(&tensors[1])?);
    let bias = match tensors.get(2) {
        Some(bias) => Some(B::host(bias)?),
        None => None,
    };
    let bias = bias.as_ref().map(|bias| bias.row_major());
    let order = x.order_with_last_dense();
    let (weight_order, transposed) = weight_order(&weight);
    let values = weight.in_order(&weight_order);
    let weight = weight_of(&weight, &values, transposed);
    let level = SimdLevel::in_use();
    let result = grad::linear(level, &x.in_order(&order), weight, bias.as_deref(), activation);
    let mut shape = x.shape().to_vec();
    *shape.last_mut().expect("a tensor has an axis") = weight.outputs;
    let output = B::from_host(result.output, &shape, &order, &device);
    let saved = match result.before {
        Some(before) => Saved::host(before),
        None => Saved::Tensors(vec![output.clone()]),
    };
    Some((output, saved))
}

#[derive(Debug, Clone)]
struct LinearStep<B: Backend> {
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    has_bias: bool,
    activation: Activation,
    saved: Saved<B>,
}

impl<B: Kernels> LinearStep<B> {
    fn on_the_host(&self, grad: &FloatTensor<B>, wanted: &[bool]) -> Option<InputGradients<B>> {
        let device = grad.device();
        let (grad, x, weight) = (B::host(grad)?, B::host(&self.x)?, B::host(&self.weight)?);
        let order = x.order_with_last_dense();
        let (weight_order, transposed) = weight_order(&weight);
        let values = weight.in_order(&weight_order);
        let of_kernel = weight_of(&weight, &values, transposed);
        let at = match &self.saved {
            Saved::Tensors(output) => Some(B::host(output.first()?)?),
            Saved::Host(_) => None,
        };
        let at = match (&at, self.saved.as_host::<Vec<f32>>()) {
            (Some(output), _) => output.in_order(&order),
            (None, before) => Cow::Borrowed(&before?[..]),
        };
        let bias_wanted = self.has_bias && wanted[2];
        let back = grad::linear_backward(
            SimdLevel::in_use(),
            &grad.in_order(&order),
            &x.in_order(&order),
            of_kernel,
            self.activation,
            &at,
            [wanted[0], wanted[1], bias_wanted],
        );
        let mut gradients = vec![
            back.input.map(|values| B::from_host(values, x.shape(), &order, &device)),
            back.weight.map(|values| B::from_host(values, weight.shape(), &weight_order, &device)),
        ];
        if self.has_bias {
            gradients.push(back.bias.map(|values| B::from_host(values, &weight.shape()[1..], &[0], &device)));
        }
        Some(gradients)
    }
}

impl<B: Kernels> Step<B> for LinearStep<B> {
    fn gradients(self, grad: FloatTensor<B>, wanted: &[bool]) -> InputGradients<B> {
        self.on_the_host(&grad, wanted).expect("the result was computed from f32 in memory")
    }
}

pub(crate) fn run<B: Kernels>(tensors: Vec<FloatTensor<B>>, activation: Activation) -> FloatTensor<B> {
    match host_forward::<B>(&tensors, activation) {
        Some((output, _)) => output,
        None => reference::<B>(tensors, activation),
    }
}

pub(crate) fn record<B: Kernels, C: CheckpointStrategy>(
    tensors: Vec<FloatTensor<Autodiff<B, C>>>,
    activation: Activation,
) -> FloatTensor<Autodiff<B, C>> {
    let plain: Vec<_> = tensors.iter().map(|tensor| tensor.primitive().clone()).collect();
    let Some((output, saved)) = host_forward::<B>(&plain, activation) else {
        return reference::<Autodiff<B, C>>(tensors, activation);
    };
    let mut plain = plain.into_iter();
    let (x, weight) = (plain.next().expect("an input"), plain.next().expect("a weight"));
    let step = LinearStep { x, weight, has_bias: tensors.len() == 3, activation, saved };
    record::known::<B, C, _>(tensors, output, step)
}
