//! Scaled dot-product attention (Vaswani et al. 2017).

use crate::backend::{DiffBackend, InputGradients, Kernels};
use crate::check;
use crate::host::{Host, HostBackend};
use crate::list::TensorList;
use crate::record::{self, Step};
use crate::saved::Saved;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata};
use burn::tensor::{Bool, Tensor, TensorData};
use firebrick_kernels::SimdLevel;
use firebrick_kernels::grad::{self, AttentionShape, MASKED, ScoreBias, Tokens};
use std::borrow::Cow;

/// What an attention may see, and how scores are scaled.
#[derive(Debug, Clone, Default)]
pub struct AttentionOptions {
    /// `[batch or 1, heads or 1, queries or 1, keys]`: true where a key is hidden from a query, as in burn. A query from which all
    /// are hidden gets zeros. Nothing is hidden by default.
    pub mask: Option<Tensor<4, Bool>>,
    /// Hides the keys behind `i` from query `i`; with `mask`, both hide. False by default.
    pub causal: bool,
    /// What scores are multiplied with before the softmax; `1 / sqrt(width)` by default.
    pub scale: Option<f64>,
}

/// `softmax(query · keyᵀ * scale) · value`.
///
/// - `query`: `[batch, heads, queries, width]`
/// - `key`: `[batch, heads, keys, width]`
/// - `value`: `[batch, heads, keys, value width]`
/// - result: `[batch, heads, queries, value width]`
///
/// On the CPU backends no matrix of scores is stored, so memory grows with the number of tokens, not with its square. Tokens and
/// heads may lie in either order.
///
/// # Panics
/// If a tensor is empty, or the shapes do not fit together.
pub fn attention(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>, options: AttentionOptions) -> Tensor<4> {
    let [batch, heads, queries, width] = query.dims();
    let [_, _, keys, value_width] = value.dims();
    check::not_empty("attention", &query.dims());
    check::not_empty("attention", &value.dims());
    check::shape("attention", "key", &key.dims(), &[batch, heads, keys, width]);
    check::shape("attention", "value", &value.dims(), &[batch, heads, keys, value_width]);
    let scale = options.scale.unwrap_or(1.0 / (width as f64).sqrt());
    let mut tensors = vec![];
    if let Some(mask) = options.mask {
        let dims = mask.dims();
        let fits = dims.iter().zip([batch, heads, queries]).all(|(&dim, full)| dim == 1 || dim == full);
        assert!(
            fits && dims[3] == keys,
            "attention: the mask has the shape {dims:?}, not {:?} or 1 in the first three places",
            [batch, heads, queries, keys]
        );
        let options = (&query.device(), query.dtype());
        let bias = Tensor::<4>::zeros(dims, options).mask_fill(mask, MASKED);
        tensors.push(bias.into_dispatch());
    }
    let mut inputs = vec![query.into_dispatch(), key.into_dispatch(), value.into_dispatch()];
    inputs.append(&mut tensors);
    let output = <Dispatch as DiffBackend>::attention(TensorList(inputs), scale, options.causal);
    Tensor::from_dispatch(output)
}

fn reference<B: Backend>(tensors: Vec<FloatTensor<B>>, scale: f64, causal: bool) -> FloatTensor<B> {
    let mut tensors = tensors.into_iter();
    let mut next = || tensors.next().expect("queries, keys and values");
    let (query, key, value) = (next(), next(), next());
    let (queries, keys) = (query.shape()[2], key.shape()[2]);
    let device = query.device();
    let dtype = query.dtype();
    let scores = B::float_matmul(query, B::float_swap_dims(key, 2, 3));
    let mut scores = B::float_mul_scalar(scores, scale.into());
    if let Some(bias) = tensors.next() {
        scores = B::float_add(scores, bias);
    }
    if causal {
        let hidden = (0..queries * keys).map(|at| if at % keys > at / keys { MASKED } else { 0.0 });
        let hidden: Vec<f32> = hidden.collect();
        let data = TensorData::new(hidden, [1, 1, queries, keys]).convert_dtype(dtype);
        scores = B::float_add(scores, B::float_from_data(data, &device));
    }
    let largest = B::float_detach(B::float_max_dim(scores.clone(), 3));
    // 1 for a query that sees something, whose scores are nowhere near the mask's, else 0.
    let seeing = B::float_add_scalar(largest.clone(), (-f64::from(MASKED) / 2.0).into());
    let seeing = B::float_clamp(B::float_mul_scalar(seeing, 1e-29.into()), 0.0.into(), 1.0.into());
    let weights = B::float_exp(B::float_sub(scores, largest));
    let sum = B::float_sum_dim(weights.clone(), 3);
    B::float_mul(B::float_matmul(B::float_div(weights, sum), value), seeing)
}

/// The order of the axes in which tokens are read: heads and tokens in either order, features dense.
fn token_order(tokens: &Host) -> [usize; 4] {
    let exchanged = [0, 2, 1, 3];
    if !tokens.is_in(&[0, 1, 2, 3]) && tokens.is_in(&exchanged) { exchanged } else { [0, 1, 2, 3] }
}

/// Tokens with the memory that holds them.
struct Read<'a> {
    values: Cow<'a, [f32]>,
    strides: [usize; 3],
    dims: [usize; 4],
}

impl<'a> Read<'a> {
    fn new(tokens: &'a Host<'_>) -> Self {
        let order = token_order(tokens);
        let dims: [usize; 4] = tokens.shape().try_into().expect("four axes");
        let mut strides = [0; 4];
        let mut stride = 1;
        for axis in order.into_iter().rev() {
            strides[axis] = stride;
            stride *= dims[axis];
        }
        Self { values: tokens.in_order(&order), strides: [strides[0], strides[1], strides[2]], dims }
    }

    fn tokens(&self) -> Tokens<'_> {
        Tokens { values: &self.values, strides: self.strides }
    }

    /// As what is added to scores: axes of length 1 are shared.
    fn bias(&self) -> ScoreBias<'_> {
        let strides = std::array::from_fn(|axis| if self.dims[axis] == 1 { 0 } else { self.strides[axis] });
        ScoreBias { values: &self.values, strides }
    }
}

fn hosts<B: HostBackend>(tensors: &[FloatTensor<B>]) -> Option<Vec<Host<'_>>> {
    tensors.iter().map(B::host).collect()
}

fn shape_of(query: &Read, value: &Read, scale: f64, causal: bool) -> AttentionShape {
    let [batch, heads, queries, width] = query.dims;
    let [_, _, keys, value_width] = value.dims;
    AttentionShape { batch, heads, queries, keys, width, value_width, scale: scale as f32, causal }
}

fn host_forward<B: HostBackend>(
    tensors: &[FloatTensor<B>],
    scale: f64,
    causal: bool,
) -> Option<(FloatTensor<B>, Vec<f32>)> {
    let device = tensors[0].device();
    let hosts = hosts::<B>(tensors)?;
    let read: Vec<Read> = hosts.iter().map(Read::new).collect();
    let shape = shape_of(&read[0], &read[2], scale, causal);
    let bias = read.get(3).map(Read::bias);
    let [query, key, value] = [0, 1, 2].map(|index: usize| read[index].tokens());
    let result = grad::attention(SimdLevel::in_use(), shape, query, key, value, bias);
    let dims = [shape.batch, shape.heads, shape.queries, shape.value_width];
    Some((B::from_host(result.output, &dims, &[0, 1, 2, 3], &device), result.logsumexp))
}

#[derive(Debug, Clone)]
struct AttentionStep<B: Backend> {
    tensors: Vec<FloatTensor<B>>,
    output: FloatTensor<B>,
    scale: f64,
    causal: bool,
    saved: Saved<B>,
}

impl<B: Kernels> AttentionStep<B> {
    fn on_the_host(&self, grad: &FloatTensor<B>, wanted: &[bool]) -> Option<InputGradients<B>> {
        let device = grad.device();
        let logsumexp: &Vec<f32> = self.saved.as_host()?;
        let hosts = hosts::<B>(&self.tensors)?;
        let read: Vec<Read> = hosts.iter().map(Read::new).collect();
        let (grad, output) = (B::host(grad)?, B::host(&self.output)?);
        let shape = shape_of(&read[0], &read[2], self.scale, self.causal);
        let forward = grad::AttentionResult { output: &output.row_major(), logsumexp };
        let [query, key, value] = [0, 1, 2].map(|index: usize| read[index].tokens());
        let back = grad::attention_backward(
            SimdLevel::in_use(),
            shape,
            &grad.row_major(),
            query,
            key,
            value,
            read.get(3).map(Read::bias),
            forward,
        );
        let mut gradients: InputGradients<B> = [back.query, back.key, back.value]
            .into_iter()
            .zip(&read)
            .zip(wanted)
            .map(|((values, read), wanted)| {
                wanted.then(|| B::from_host(values, &read.dims, &[0, 1, 2, 3], &device))
            })
            .collect();
        // The mask is no parameter: the function on tensors makes it.
        gradients.resize_with(wanted.len(), || None);
        Some(gradients)
    }
}

impl<B: Kernels> Step<B> for AttentionStep<B> {
    fn gradients(self, grad: FloatTensor<B>, wanted: &[bool]) -> InputGradients<B> {
        self.on_the_host(&grad, wanted).expect("the result was computed from f32 in memory")
    }
}

pub(crate) fn run<B: Kernels>(tensors: Vec<FloatTensor<B>>, scale: f64, causal: bool) -> FloatTensor<B> {
    match host_forward::<B>(&tensors, scale, causal) {
        Some((output, _)) => output,
        None => reference::<B>(tensors, scale, causal),
    }
}

pub(crate) fn record<B: Kernels, C: CheckpointStrategy>(
    tensors: Vec<FloatTensor<Autodiff<B, C>>>,
    scale: f64,
    causal: bool,
) -> FloatTensor<Autodiff<B, C>> {
    let plain: Vec<_> = tensors.iter().map(|tensor| tensor.primitive().clone()).collect();
    match host_forward::<B>(&plain, scale, causal) {
        None => reference::<Autodiff<B, C>>(tensors, scale, causal),
        Some((output, logsumexp)) => {
            let saved = Saved::host(logsumexp);
            let step = AttentionStep { tensors: plain, output: output.clone(), scale, causal, saved };
            record::known::<B, C, _>(tensors, output, step)
        }
    }
}
