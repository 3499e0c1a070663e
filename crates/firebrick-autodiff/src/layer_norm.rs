//! Layer normalisation over the last axis (Ba, Kiros and Hinton 2016).

use crate::backend::{DiffBackend, InputGradients, Kernels};
use crate::check;
use crate::host::HostBackend;
use crate::record::{self, Step};
use crate::saved::Saved;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata};
use burn::tensor::{Shape, Tensor};
use firebrick_kernels::SimdLevel;
use firebrick_kernels::grad;

/// Layer normalisation over the last axis: `(x - mean) / sqrt(variance + epsilon) * gamma + beta`, with the mean and the biased
/// variance of each row.
///
/// - `x`: `[..., length]`
/// - `gamma`, `beta`: `[length]`
/// - `epsilon`: PyTorch's default is `1e-5`
/// - result: as `x`
///
/// # Panics
/// If `x` is empty, or `gamma` or `beta` has another length than the last axis.
pub fn layer_norm<const D: usize>(
    x: Tensor<D>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> Tensor<D> {
    let dims = x.dims();
    check::not_empty("layer_norm", &dims);
    check::shape("layer_norm", "gamma", &gamma.dims(), &dims[D - 1..]);
    check::shape("layer_norm", "beta", &beta.dims(), &dims[D - 1..]);
    Tensor::from_dispatch(<Dispatch as DiffBackend>::layer_norm(
        x.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        epsilon,
    ))
}

/// `[length]` as an operand of `x`.
fn as_row<B: Backend>(parameter: FloatTensor<B>, x: &FloatTensor<B>) -> FloatTensor<B> {
    let mut dims = vec![1; x.rank()];
    dims[x.rank() - 1] = parameter.shape()[0];
    B::float_reshape(parameter, Shape::from(dims))
}

pub(crate) fn reference_forward<B: Backend>(
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    epsilon: f64,
) -> (FloatTensor<B>, Saved<B>) {
    let last = x.rank() - 1;
    let (gamma, beta) = (as_row::<B>(gamma, &x), as_row::<B>(beta, &x));
    let mean = B::float_mean_dim(x.clone(), last);
    let centred = B::float_sub(x, mean.clone());
    let variance = B::float_mean_dim(B::float_mul(centred.clone(), centred.clone()), last);
    let rstd = B::float_recip(B::float_sqrt(B::float_add_scalar(variance, epsilon.into())));
    let normal = B::float_mul(centred, rstd.clone());
    let output = B::float_add(B::float_mul(normal, gamma), beta);
    (output, Saved::Tensors(vec![mean, rstd]))
}

/// With `n = (x - mean) * rstd` and `g = grad * gamma`: `rstd * (g - mean(g) - n * mean(g * n))`.
pub(crate) fn reference_backward<B: Backend>(
    grad: FloatTensor<B>,
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    saved: Saved<B>,
    wanted: &[bool],
) -> InputGradients<B> {
    let [mean, rstd] = saved.into_tensors();
    let (last, length) = (x.rank() - 1, gamma.shape()[0]);
    let gamma = as_row::<B>(gamma, &x);
    let normal = B::float_mul(B::float_sub(x, mean), rstd.clone());
    let input = wanted[0].then(|| {
        let g = B::float_mul(grad.clone(), gamma);
        let mean_g = B::float_mean_dim(g.clone(), last);
        let mean_gn = B::float_mean_dim(B::float_mul(g.clone(), normal.clone()), last);
        let centred = B::float_sub(B::float_sub(g, mean_g), B::float_mul(normal.clone(), mean_gn));
        B::float_mul(centred, rstd)
    });
    let over_rows = |values: FloatTensor<B>| {
        let rows = values.shape().num_elements() / length;
        let sum = B::float_sum_dim(B::float_reshape(values, Shape::from([rows, length])), 0);
        B::float_reshape(sum, Shape::from([length]))
    };
    let gamma = wanted[1].then(|| over_rows(B::float_mul(grad.clone(), normal)));
    let beta = wanted[2].then(|| over_rows(grad));
    vec![input, gamma, beta]
}

/// What the kernel keeps: the order of `x`' axes in which it went through the rows, and the rows' statistics.
struct Rows {
    order: Vec<usize>,
    mean: Vec<f32>,
    rstd: Vec<f32>,
}

pub(crate) fn host_forward<B: HostBackend>(
    x: &FloatTensor<B>,
    gamma: &FloatTensor<B>,
    beta: &FloatTensor<B>,
    epsilon: f64,
) -> Option<(FloatTensor<B>, Saved<B>)> {
    let device = x.device();
    let (x, gamma, beta) = (B::host(x)?, B::host(gamma)?, B::host(beta)?);
    let order = x.order_with_last_dense();
    let forward = grad::layer_norm(
        SimdLevel::in_use(),
        &x.in_order(&order),
        &gamma.row_major(),
        &beta.row_major(),
        epsilon as f32,
    );
    let output = B::from_host(forward.output, x.shape(), &order, &device);
    Some((output, Saved::host(Rows { order, mean: forward.mean, rstd: forward.rstd })))
}

pub(crate) fn host_backward<B: HostBackend>(
    grad: &FloatTensor<B>,
    x: &FloatTensor<B>,
    gamma: &FloatTensor<B>,
    saved: &Saved<B>,
    wanted: &[bool],
) -> Option<InputGradients<B>> {
    let device = x.device();
    let Rows { order, mean, rstd } = saved.as_host()?;
    let (grad, x, gamma) = (B::host(grad)?, B::host(x)?, B::host(gamma)?);
    let back = grad::layer_norm_backward(
        SimdLevel::in_use(),
        &grad.in_order(order),
        &x.in_order(order),
        &gamma.row_major(),
        mean,
        rstd,
    );
    let parameter = |values| B::from_host(values, gamma.shape(), &[0], &device);
    Some(vec![
        wanted[0].then(|| B::from_host(back.input, x.shape(), order, &device)),
        wanted[1].then(|| parameter(back.gamma)),
        wanted[2].then(|| parameter(back.beta)),
    ])
}

#[derive(Debug, Clone)]
struct LayerNormStep<B: Backend> {
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    saved: Saved<B>,
}

impl<B: Kernels> Step<B> for LayerNormStep<B> {
    fn gradients(self, grad: FloatTensor<B>, wanted: &[bool]) -> InputGradients<B> {
        B::layer_norm_backward(grad, self.x, self.gamma, self.saved, wanted)
    }
}

pub(crate) fn record<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    gamma: FloatTensor<Autodiff<B, C>>,
    beta: FloatTensor<Autodiff<B, C>>,
    epsilon: f64,
) -> FloatTensor<Autodiff<B, C>> {
    let (output, ()) = record::record::<B, C, _, _>(vec![x, gamma, beta], |tensors, _| {
        let [x, gamma, beta] = tensors.try_into().expect("three inputs");
        let (output, saved) = B::layer_norm_forward(x.clone(), gamma.clone(), beta, epsilon);
        (output, LayerNormStep { x, gamma, saved }, ())
    });
    output
}
