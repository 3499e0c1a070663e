//! Pooling of images.

use crate::backend::{DiffBackend, InputGradients, Kernels};
use crate::check;
use crate::host::{CHANNELS_LAST, Host, HostBackend};
use crate::record::{self, Step};
use crate::saved::Saved;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata};
use burn::tensor::Tensor;
use firebrick_kernels::SimdLevel;
use firebrick_kernels::grad::{self, Axis, PoolShape};

/// Windows that slide over an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Height and width.
    pub kernel: [usize; 2],
    /// Pixels from one window to the next, down and across.
    pub stride: [usize; 2],
    /// Pixels around the image, above and below, left and right; at most half the kernel.
    pub padding: [usize; 2],
    /// Whether what is left at the lower and right edge gets a window that hangs over it, PyTorch's `ceil_mode`; it is dropped otherwise.
    pub ceil: bool,
}

impl Window {
    /// How many windows there are along an axis of `input` pixels, PyTorch's rule; none if there is none. The one that hangs over the edge may
    /// be the only one.
    pub fn count(&self, axis: usize, input: usize) -> Option<usize> {
        let (kernel, stride, padding) = (self.kernel[axis], self.stride[axis], self.padding[axis]);
        let hanging = if self.ceil { stride.saturating_sub(1) } else { 0 };
        let count = (input + 2 * padding + hanging).checked_sub(kernel)?.checked_div(stride)? + 1;
        // A window that would start beyond the last pixel is none.
        let is_beyond = self.ceil && (count - 1) * stride >= input + padding;
        Some(count - usize::from(is_beyond)).filter(|count| *count > 0)
    }

    /// The windows along an axis of `input` pixels; none if there is none.
    fn along(&self, axis: usize, input: usize) -> Option<Axis> {
        let (kernel, stride, padding) = (self.kernel[axis], self.stride[axis], self.padding[axis]);
        let covered = (self.count(axis, input)? - 1) * stride + kernel;
        let behind = covered.saturating_sub(input + padding).max(padding);
        Axis::sliding(input, kernel, stride, [padding, behind])
    }
}

/// How a window's values become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The largest.
    Max(Window),
    /// The mean.
    Average(Window, CountPadding),
    /// The means of so many windows, down and across, that cover the image.
    Adaptive([usize; 2]),
}

/// What a mean at the edge is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountPadding {
    /// The whole window, padding being zeros; PyTorch's default.
    Yes,
    /// The pixels in it; Keras' `padding="same"`.
    No,
}

/// The largest value of each window; NaN where the window holds one. Padding never wins.
///
/// - `x`: `[batch, channels, height, width]`; read without a copy where its memory has the channels last
/// - result: `[batch, channels, (height + 2 padding - kernel) / stride + 1, likewise]`, rounded as the window says; channels last in memory
///
/// The gradient goes to the first of several equal ones.
///
/// # Panics
/// If `x` is empty, there is no window, or the padding is more than half the kernel.
pub fn max_pool(x: Tensor<4>, window: Window) -> Tensor<4> {
    pool(x, Pooling::Max(window))
}

/// The mean of each window; shapes as in [`max_pool`].
///
/// # Panics
/// As [`max_pool`].
pub fn average_pool(x: Tensor<4>, window: Window, count_padding: CountPadding) -> Tensor<4> {
    pool(x, Pooling::Average(window, count_padding))
}

/// The means of `output` windows, down and across, that cover the image: from `⌊i size / output⌋` to `⌈(i + 1) size / output⌉`, as
/// PyTorch's.
///
/// - `x`: `[batch, channels, height, width]`
/// - result: `[batch, channels, output[0], output[1]]`
///
/// # Panics
/// If `x` or `output` is empty.
pub fn adaptive_average_pool(x: Tensor<4>, output: [usize; 2]) -> Tensor<4> {
    pool(x, Pooling::Adaptive(output))
}

/// The mean of each channel: `[batch, channels, height, width]` to `[batch, channels]`.
///
/// # Panics
/// If `x` is empty.
pub fn global_average_pool(x: Tensor<4>) -> Tensor<2> {
    let [batch, channels, _, _] = x.dims();
    pool(x, Pooling::Adaptive([1, 1])).reshape([batch, channels])
}

fn pool(x: Tensor<4>, pooling: Pooling) -> Tensor<4> {
    let dims = x.dims();
    check::not_empty("pool", &dims);
    if let Pooling::Max(window) | Pooling::Average(window, _) = pooling {
        let half = window.padding.iter().zip(window.kernel).all(|(padding, kernel)| 2 * padding <= kernel);
        assert!(half, "pool: the padding is more than half the kernel: {window:?}");
        let counted = matches!(pooling, Pooling::Average(Window { ceil: true, .. }, CountPadding::Yes));
        assert!(!counted, "pool: a mean that counts padding has no windows that hang over the edge");
    }
    assert!(shape_of(&dims, pooling).is_some(), "pool: {pooling:?} of images of {:?}", &dims[2..]);
    Tensor::from_dispatch(<Dispatch as DiffBackend>::pool(x.into_dispatch(), pooling))
}

/// The kernels' view of it, `None` if there is no window.
fn shape_of(dims: &[usize], pooling: Pooling) -> Option<PoolShape> {
    let axis = |which: usize| {
        let input = dims[2 + which];
        match pooling {
            Pooling::Max(window) | Pooling::Average(window, _) => window.along(which, input),
            Pooling::Adaptive(output) => Axis::adaptive(input, output[which]),
        }
    };
    Some(PoolShape { batch: dims[0], channels: dims[1], height: axis(0)?, width: axis(1)? })
}

/// What a window's sum is divided by, if not by its pixels.
fn divisor_of(pooling: Pooling) -> Option<usize> {
    match pooling {
        Pooling::Average(window, CountPadding::Yes) => Some(window.kernel[0] * window.kernel[1]),
        _ => None,
    }
}

fn reference<B: Backend>(x: FloatTensor<B>, pooling: Pooling) -> FloatTensor<B> {
    match pooling {
        Pooling::Max(Window { kernel, stride, padding, ceil }) => {
            B::max_pool2d(x, kernel, stride, padding, [1, 1], ceil)
        }
        Pooling::Average(Window { kernel, stride, padding, ceil }, count) => {
            B::avg_pool2d(x, kernel, stride, padding, count == CountPadding::Yes, ceil)
        }
        Pooling::Adaptive([1, 1]) => B::float_mean_dim(B::float_mean_dim(x, 3), 2),
        Pooling::Adaptive(output) => B::adaptive_avg_pool2d(x, output),
    }
}

/// What the kernel keeps.
enum Kept {
    /// One mean a channel, of images whose channels are not last.
    Rows,
    Averages(PoolShape),
    /// The pixels that won.
    Largest(PoolShape, Vec<u32>),
}

/// Whether the channels' means are those of rows in memory.
fn in_rows(x: &Host, pooling: Pooling) -> bool {
    pooling == Pooling::Adaptive([1, 1]) && x.is_in(&[0, 1, 2, 3]) && !x.is_in(&CHANNELS_LAST)
}

fn host_forward<B: HostBackend>(x: &FloatTensor<B>, pooling: Pooling) -> Option<(FloatTensor<B>, Saved<B>)> {
    let device = x.device();
    let x = B::host(x)?;
    let dims = x.shape();
    let level = SimdLevel::in_use();
    if in_rows(&x, pooling) {
        let means = grad::row_means(level, &x.row_major(), dims[2] * dims[3]);
        let output = B::from_host(means, &[dims[0], dims[1], 1, 1], &[0, 1, 2, 3], &device);
        return Some((output, Saved::host(Kept::Rows)));
    }
    let shape = shape_of(dims, pooling)?;
    let values = x.in_order(&CHANNELS_LAST);
    let pooled = [dims[0], dims[1], shape.height.output(), shape.width.output()];
    let (output, kept) = match pooling {
        Pooling::Max(_) => {
            let result = grad::max_pool(level, &values, &shape);
            (result.output, Kept::Largest(shape, result.pixel))
        }
        _ => (grad::average_pool(level, &values, &shape, divisor_of(pooling)), Kept::Averages(shape)),
    };
    Some((B::from_host(output, &pooled, &CHANNELS_LAST, &device), Saved::host(kept)))
}

#[derive(Debug, Clone)]
struct PoolStep<B: Backend> {
    dims: [usize; 4],
    pooling: Pooling,
    saved: Saved<B>,
}

impl<B: Kernels> PoolStep<B> {
    fn on_the_host(&self, grad: &FloatTensor<B>) -> Option<FloatTensor<B>> {
        let device = grad.device();
        let grad = B::host(grad)?;
        let level = SimdLevel::in_use();
        let (values, order) = match self.saved.as_host()? {
            Kept::Rows => {
                let pixels = self.dims[2] * self.dims[3];
                (grad::row_means_backward(&grad.row_major(), pixels), [0, 1, 2, 3])
            }
            Kept::Averages(shape) => {
                let grad = grad.in_order(&CHANNELS_LAST);
                let divisor = divisor_of(self.pooling);
                (grad::average_pool_backward(level, &grad, shape, divisor), CHANNELS_LAST)
            }
            Kept::Largest(shape, pixel) => {
                let grad = grad.in_order(&CHANNELS_LAST);
                (grad::max_pool_backward(&grad, pixel, shape), CHANNELS_LAST)
            }
        };
        Some(B::from_host(values, &self.dims, &order, &device))
    }
}

impl<B: Kernels> Step<B> for PoolStep<B> {
    fn gradients(self, grad: FloatTensor<B>, wanted: &[bool]) -> InputGradients<B> {
        vec![wanted[0].then(|| self.on_the_host(&grad).expect("the result was computed from f32 in memory"))]
    }
}

pub(crate) fn run<B: Kernels>(x: FloatTensor<B>, pooling: Pooling) -> FloatTensor<B> {
    match host_forward::<B>(&x, pooling) {
        Some((output, _)) => output,
        None => reference::<B>(x, pooling),
    }
}

pub(crate) fn record<B: Kernels, C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<B, C>>,
    pooling: Pooling,
) -> FloatTensor<Autodiff<B, C>> {
    match host_forward::<B>(x.primitive(), pooling) {
        None => reference::<Autodiff<B, C>>(x, pooling),
        Some((output, saved)) => {
            let step = PoolStep { dims: x.shape().dims(), pooling, saved };
            record::known::<B, C, _>(vec![x], output, step)
        }
    }
}
