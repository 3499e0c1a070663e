//! Categorical cross-entropy from logits, with hard and soft targets.

use crate::backend::{DiffBackend, InputGradients, Kernels};
use crate::check;
use crate::host::HostBackend;
use crate::record::{self, Step};
use crate::saved::Saved;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata};
use burn::tensor::{Int, Shape, Tensor, read_sync};
use firebrick_kernels::{SimdLevel, grad};

/// The cross-entropy of each row with its class: `logsumexp(logits) - logits[target]`.
///
/// It stays finite where a probability would round to zero. The mean over the batch is PyTorch's `CrossEntropyLoss` with its
/// defaults.
///
/// - `logits`: `[batch, classes]`
/// - `targets`: `[batch]`, class indices in `0..classes`
/// - result: `[batch]`
///
/// # Panics
/// If `logits` is empty or the batches differ; on the CPU backends also if a class is out of range.
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    check::not_empty("cross_entropy", &logits.dims());
    check::shape("cross_entropy", "targets", &targets.dims(), &logits.dims()[..1]);
    let loss = <Dispatch as DiffBackend>::cross_entropy(logits.into_dispatch(), targets.into_dispatch());
    Tensor::from_dispatch(loss)
}

/// The cross-entropy of each row with the share of each class in it: `sum(target * (logsumexp(logits) - logits))`. For label
/// smoothing, mixed images and distillation; a gradient flows to the targets too.
///
/// - `logits`, `targets`: `[batch, classes]`
/// - result: `[batch]`
///
/// # Panics
/// If `logits` is empty or the shapes differ.
pub fn soft_cross_entropy(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    check::not_empty("soft_cross_entropy", &logits.dims());
    check::shape("soft_cross_entropy", "targets", &targets.dims(), &logits.dims());
    let loss = <Dispatch as DiffBackend>::soft_cross_entropy(logits.into_dispatch(), targets.into_dispatch());
    Tensor::from_dispatch(loss)
}

/// `logsumexp(logits) - logits`, `[batch, classes]`.
fn surprise<B: Backend>(logits: FloatTensor<B>) -> FloatTensor<B> {
    let largest = B::float_detach(B::float_max_dim(logits.clone(), 1));
    let shifted = B::float_sub(logits, largest);
    let sum = B::float_sum_dim(B::float_exp(shifted.clone()), 1);
    B::float_sub(B::float_log(sum), shifted)
}

fn reference<B: Backend>(logits: FloatTensor<B>, targets: IntTensor<B>) -> FloatTensor<B> {
    let batch = logits.shape()[0];
    let targets = B::int_reshape(targets, Shape::from([batch, 1]));
    B::float_reshape(B::float_gather(1, surprise::<B>(logits), targets), Shape::from([batch]))
}

fn soft_reference<B: Backend>(logits: FloatTensor<B>, targets: FloatTensor<B>) -> FloatTensor<B> {
    let batch = logits.shape()[0];
    let loss = B::float_sum_dim(B::float_mul(targets, surprise::<B>(logits)), 1);
    B::float_reshape(loss, Shape::from([batch]))
}

/// The classes, read from the tensor.
fn classes_of<B: Backend>(targets: &IntTensor<B>) -> Vec<usize> {
    let data = read_sync(B::int_into_data(targets.clone())).unwrap_or_else(|e| panic!("cross_entropy: {e}"));
    let classes = data.try_to_vec_as::<i64>().expect("integers");
    let class = |(row, class): (usize, i64)| {
        usize::try_from(class).unwrap_or_else(|_| panic!("cross_entropy: target {row} is class {class}"))
    };
    classes.into_iter().enumerate().map(class).collect()
}

/// What the kernel keeps.
struct Rows {
    /// The target classes, if they are no tensor.
    classes: Vec<usize>,
    logsumexp: Vec<f32>,
}

fn host_forward<B: HostBackend>(
    logits: &FloatTensor<B>,
    targets: &IntTensor<B>,
) -> Option<(FloatTensor<B>, Saved<B>)> {
    let device = logits.device();
    let logits = B::host(logits)?;
    let classes = classes_of::<B>(targets);
    let targets = grad::Targets::Classes(&classes);
    let result = grad::cross_entropy(SimdLevel::in_use(), &logits.row_major(), logits.shape()[1], targets);
    let loss = B::from_host(result.loss, &logits.shape()[..1], &[0], &device);
    Some((loss, Saved::host(Rows { classes, logsumexp: result.logsumexp })))
}

fn soft_host_forward<B: HostBackend>(
    logits: &FloatTensor<B>,
    targets: &FloatTensor<B>,
) -> Option<(FloatTensor<B>, Saved<B>)> {
    let device = logits.device();
    let (logits, targets) = (B::host(logits)?, B::host(targets)?);
    let shares = targets.row_major();
    let targets = grad::Targets::Shares(&shares);
    let result = grad::cross_entropy(SimdLevel::in_use(), &logits.row_major(), logits.shape()[1], targets);
    let loss = B::from_host(result.loss, &logits.shape()[..1], &[0], &device);
    Some((loss, Saved::host(Rows { classes: Vec::new(), logsumexp: result.logsumexp })))
}

#[derive(Debug, Clone)]
struct CrossEntropyStep<B: Backend> {
    logits: FloatTensor<B>,
    /// The shares of soft targets.
    shares: Option<FloatTensor<B>>,
    saved: Saved<B>,
}

impl<B: Kernels> CrossEntropyStep<B> {
    fn on_the_host(&self, grad: &FloatTensor<B>, wanted: &[bool]) -> Option<InputGradients<B>> {
        let device = grad.device();
        let Rows { classes, logsumexp } = self.saved.as_host()?;
        let (grad, logits) = (B::host(grad)?, B::host(&self.logits)?);
        let (grad, values) = (grad.row_major(), logits.row_major());
        let shares = match &self.shares {
            Some(shares) => Some(B::host(shares)?),
            None => None,
        };
        let shares = shares.as_ref().map(|shares| shares.row_major());
        let targets = match &shares {
            Some(shares) => grad::Targets::Shares(shares),
            None => grad::Targets::Classes(classes),
        };
        let tensor = |values| B::from_host(values, logits.shape(), &[0, 1], &device);
        let count = logits.shape()[1];
        let mut gradients = vec![wanted[0].then(|| {
            let level = SimdLevel::in_use();
            tensor(grad::cross_entropy_backward(level, &grad, &values, count, targets, logsumexp))
        })];
        if shares.is_some() {
            gradients.push(
                wanted[1]
                    .then(|| tensor(grad::cross_entropy_shares_backward(&grad, &values, count, logsumexp))),
            );
        }
        Some(gradients)
    }
}

impl<B: Kernels> Step<B> for CrossEntropyStep<B> {
    fn gradients(self, grad: FloatTensor<B>, wanted: &[bool]) -> InputGradients<B> {
        self.on_the_host(&grad, wanted).expect("the loss was computed from f32 in memory")
    }
}

pub(crate) fn run<B: Kernels>(logits: FloatTensor<B>, targets: IntTensor<B>) -> FloatTensor<B> {
    match host_forward::<B>(&logits, &targets) {
        Some((loss, _)) => loss,
        None => reference::<B>(logits, targets),
    }
}

pub(crate) fn run_soft<B: Kernels>(logits: FloatTensor<B>, targets: FloatTensor<B>) -> FloatTensor<B> {
    match soft_host_forward::<B>(&logits, &targets) {
        Some((loss, _)) => loss,
        None => soft_reference::<B>(logits, targets),
    }
}

pub(crate) fn record<B: Kernels, C: CheckpointStrategy>(
    logits: FloatTensor<Autodiff<B, C>>,
    targets: IntTensor<B>,
) -> FloatTensor<Autodiff<B, C>> {
    match host_forward::<B>(logits.primitive(), &targets) {
        None => reference::<Autodiff<B, C>>(logits, targets),
        Some((loss, saved)) => {
            let step = CrossEntropyStep { logits: logits.primitive().clone(), shares: None, saved };
            record::known::<B, C, _>(vec![logits], loss, step)
        }
    }
}

pub(crate) fn record_soft<B: Kernels, C: CheckpointStrategy>(
    logits: FloatTensor<Autodiff<B, C>>,
    targets: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    match soft_host_forward::<B>(logits.primitive(), targets.primitive()) {
        None => soft_reference::<Autodiff<B, C>>(logits, targets),
        Some((loss, saved)) => {
            let shares = Some(targets.primitive().clone());
            let step = CrossEntropyStep { logits: logits.primitive().clone(), shares, saved };
            record::known::<B, C, _>(vec![logits, targets], loss, step)
        }
    }
}
