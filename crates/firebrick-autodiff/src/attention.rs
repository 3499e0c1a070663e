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
use burn::tensor::{Bool, Shape, Slice, Tensor, TensorData};
use firebrick_kernels::SimdLevel;
use firebrick_kernels::grad::{self, AttentionShape, MASKED, RowOrder, ScoreBias, Tokens};
use std::borrow::Cow;

/// What an attention may see, and how scores are scaled.
#[derive(Debug, Clone, Default)]
pub struct AttentionOptions {
    /// `[batch or a divisor, heads or 1, queries or 1, keys]`: true where a key is hidden from a query, as in burn. A query from which all
    /// are hidden gets zeros. Where there are fewer than `batch`, they begin anew behind the last one. Nothing is hidden by default.
    pub mask: Option<Tensor<4, Bool>>,
    /// `[batch or a divisor, heads, queries, keys]`: added to the scaled scores, and learnt, e.g. a bias for relative positions. Likewise
    /// begun anew. None by default.
    pub bias: Option<Tensor<4>>,
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
    let bias = options.added_to_scores(&query, [batch, heads, queries, keys]);
    let form = options.form(width, None);
    let mut inputs = vec![query.into_dispatch(), key.into_dispatch(), value.into_dispatch()];
    inputs.extend(bias.map(Tensor::into_dispatch));
    Tensor::from_dispatch(<Dispatch as DiffBackend>::attention(TensorList(inputs), form))
}

/// The same for tokens that attend to each other, with queries, keys and values as one linear layer computes them:
///
/// - `qkv`: `[batch, tokens, 3 * heads * width]`, the queries of all heads first, then their keys, then their values
/// - result: `[batch, tokens, heads * width]`
///
/// On the CPU backends nothing is cut apart, nor are gradients put together.
///
/// # Panics
/// If the tensor is empty, its last axis is no multiple of `3 * heads`, or the mask does not fit.
pub fn self_attention(qkv: Tensor<3>, heads: usize, options: AttentionOptions) -> Tensor<3> {
    let dims = qkv.dims();
    check::not_empty("self_attention", &dims);
    let [batch, tokens, features] = dims;
    assert!(
        heads > 0 && features.is_multiple_of(3 * heads),
        "self_attention: {features} features are no queries, keys and values of {heads} heads"
    );
    let bias = options.added_to_scores(&qkv, [batch, heads, tokens, tokens]);
    let form = options.form(features / 3 / heads, Some(heads));
    let inputs = std::iter::once(qkv.into_dispatch()).chain(bias.map(Tensor::into_dispatch)).collect();
    Tensor::from_dispatch(<Dispatch as DiffBackend>::attention(TensorList(inputs), form))
}

/// How an attention is computed, and of what.
#[derive(Debug, Clone, Copy)]
pub struct AttentionForm {
    scale: f64,
    causal: bool,
    /// The heads of a tensor that holds queries, keys and values; nothing for three tensors.
    packed: Option<usize>,
    /// Whether what is added to the scores is learnt.
    learnt: bool,
}

impl AttentionOptions {
    fn form(&self, width: usize, packed: Option<usize>) -> AttentionForm {
        let scale = self.scale.unwrap_or(1.0 / (width as f64).sqrt());
        AttentionForm { scale, causal: self.causal, packed, learnt: self.bias.is_some() }
    }

    /// What is added to the scores for bias and mask; `like` tells device and type, `full` is the scores' shape.
    fn added_to_scores<const D: usize>(&self, like: &Tensor<D>, full: [usize; 4]) -> Option<Tensor<4>> {
        let mask = self.mask.as_ref().map(|mask| bias(mask, like, full));
        let Some(learnt) = self.bias.clone() else { return mask };
        let dims = learnt.dims();
        assert!(
            dims[0] > 0 && full[0].is_multiple_of(dims[0]) && dims[1..] == full[1..],
            "attention: the bias has the shape {dims:?}, not {full:?} or a divisor in the first place"
        );
        let Some(mask) = mask else { return Some(learnt) };
        let [of_learnt, of_mask] = [dims[0], mask.dims()[0]];
        let most = of_learnt.max(of_mask);
        // Each as often as makes them one length.
        let again = |tensor: Tensor<4>, rows: usize| {
            if rows == 1 { tensor } else { tensor.repeat_dim(0, most / rows) }
        };
        assert!(
            most.is_multiple_of(of_learnt) && most.is_multiple_of(of_mask),
            "attention: a bias for {of_learnt} sequences and a mask for {of_mask}"
        );
        Some(again(learnt, of_learnt) + again(mask, of_mask))
    }
}

/// What is added to the scores for a mask; `like` tells device and type, `full` is the scores' shape.
fn bias<const D: usize>(mask: &Tensor<4, Bool>, like: &Tensor<D>, full: [usize; 4]) -> Tensor<4> {
    let dims = mask.dims();
    let fits = dims[0] > 0 && full[0].is_multiple_of(dims[0]);
    let fits = fits && [1, 2].into_iter().all(|axis| dims[axis] == 1 || dims[axis] == full[axis]);
    assert!(
        fits && dims[3] == full[3],
        "attention: the mask has the shape {dims:?}, not {full:?}, 1 in the second and third place or a divisor in the first"
    );
    Tensor::zeros(dims, (&like.device(), like.dtype())).mask_fill(mask.clone(), MASKED)
}

fn reference<B: Backend>(tensors: Vec<FloatTensor<B>>, form: AttentionForm) -> FloatTensor<B> {
    let AttentionForm { scale, causal, packed, .. } = form;
    let Some(heads) = packed else { return reference_of::<B>(tensors, scale, causal) };
    let mut tensors = tensors.into_iter();
    let qkv = tensors.next().expect("queries, keys and values");
    let [batch, count, features] = [0, 1, 2].map(|axis| qkv.shape()[axis]);
    let width = features / 3 / heads;
    let qkv = B::float_reshape(qkv, Shape::from([batch, count, 3, heads, width]));
    let qkv = B::float_permute(qkv, &[2, 0, 3, 1, 4]);
    let part = |part: usize| {
        let slices = [part..part + 1, 0..batch, 0..heads, 0..count, 0..width].map(Slice::from);
        B::float_reshape(B::float_slice(qkv.clone(), &slices), Shape::from([batch, heads, count, width]))
    };
    let all = [part(0), part(1), part(2)].into_iter().chain(tensors).collect();
    let context = reference_of::<B>(all, scale, causal);
    B::float_reshape(B::float_swap_dims(context, 1, 2), Shape::from([batch, count, heads * width]))
}

fn reference_of<B: Backend>(tensors: Vec<FloatTensor<B>>, scale: f64, causal: bool) -> FloatTensor<B> {
    let mut tensors = tensors.into_iter();
    let mut next = || tensors.next().expect("queries, keys and values");
    let (query, key, value) = (next(), next(), next());
    let (queries, keys) = (query.shape()[2], key.shape()[2]);
    let device = query.device();
    let dtype = query.dtype();
    let scores = B::float_matmul(query, B::float_swap_dims(key, 2, 3));
    let mut scores = B::float_mul_scalar(scores, scale.into());
    if let Some(bias) = tensors.next() {
        let (full, dims) = (scores.shape(), bias.shape());
        let period = dims[0];
        let apart =
            |shape: &Shape, rows: usize| Shape::from([shape[0] / rows, rows, shape[1], shape[2], shape[3]]);
        let sum = B::float_add(
            B::float_reshape(scores, apart(&full, period)),
            B::float_reshape(bias, apart(&dims, period)),
        );
        scores = B::float_reshape(sum, full);
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

/// Tokens, `[batch, heads, tokens, width]`, with the memory that holds them: heads and tokens in either order, features dense.
struct Read<'a> {
    values: Cow<'a, [f32]>,
    order: RowOrder,
    dims: [usize; 4],
}

/// The axes of tokens in this order, slowest first.
fn axes(order: RowOrder) -> [usize; 4] {
    match order {
        RowOrder::HeadsFirst => [0, 1, 2, 3],
        RowOrder::TokensFirst => [0, 2, 1, 3],
    }
}

impl<'a> Read<'a> {
    fn new(tokens: &'a Host<'_>) -> Self {
        let lies = |order| tokens.is_in(&axes(order));
        let exchanged = !lies(RowOrder::HeadsFirst) && lies(RowOrder::TokensFirst);
        let order = if exchanged { RowOrder::TokensFirst } else { RowOrder::HeadsFirst };
        let dims = tokens.shape().try_into().expect("four axes");
        Self { values: tokens.in_order(&axes(order)), order, dims }
    }

    fn tokens(&self) -> Tokens<'_> {
        let [_, heads, tokens, width] = self.dims;
        Tokens { values: &self.values, strides: self.order.strides(heads, tokens, width) }
    }

    /// As what is added to scores: axes of length 1 are shared.
    fn bias(&self, learnt: bool) -> ScoreBias<'_> {
        let strides = self.tokens().strides;
        let strides = std::array::from_fn(|axis| if self.dims[axis] == 1 { 0 } else { strides[axis] });
        ScoreBias { values: &self.values, strides, period: self.dims[0], learnt }
    }
}

/// What the kernels read.
struct Operands<'a> {
    shape: AttentionShape,
    tokens: Form<'a>,
    bias: Option<Read<'a>>,
}

enum Form<'a> {
    Apart([Read<'a>; 3]),
    /// `[batch, tokens, 3, heads, width]`.
    Packed(Cow<'a, [f32]>),
}

impl<'a> Operands<'a> {
    fn new(hosts: &'a [Host<'_>], form: AttentionForm) -> Self {
        let AttentionForm { scale, causal, packed, .. } = form;
        let scale = scale as f32;
        let Some(heads) = packed else {
            let read = [0, 1, 2].map(|index: usize| Read::new(&hosts[index]));
            let ([batch, heads, queries, width], [_, _, keys, value_width]) = (read[0].dims, read[2].dims);
            let shape = AttentionShape { batch, heads, queries, keys, width, value_width, scale, causal };
            return Self { shape, tokens: Form::Apart(read), bias: hosts.get(3).map(Read::new) };
        };
        let [batch, count, features] = [0, 1, 2].map(|axis| hosts[0].shape()[axis]);
        let width = features / 3 / heads;
        let (queries, keys, value_width) = (count, count, width);
        let shape = AttentionShape { batch, heads, queries, keys, width, value_width, scale, causal };
        Self { shape, tokens: Form::Packed(hosts[0].row_major()), bias: hosts.get(1).map(Read::new) }
    }

    /// The order of the rows of the result.
    fn order(&self) -> RowOrder {
        match &self.tokens {
            Form::Apart([query, _, _]) => query.order,
            Form::Packed(_) => RowOrder::TokensFirst,
        }
    }

    fn forward(&self) -> grad::Attention {
        let [query, key, value] = match &self.tokens {
            Form::Apart(read) => read.each_ref().map(Read::tokens),
            Form::Packed(qkv) => grad::packed_tokens(qkv, &self.shape),
        };
        let bias = self.bias.as_ref().map(|bias| bias.bias(false));
        grad::attention(SimdLevel::in_use(), self.shape, query, key, value, bias, self.order())
    }
}

fn hosts<B: HostBackend>(tensors: &[FloatTensor<B>]) -> Option<Vec<Host<'_>>> {
    tensors.iter().map(B::host).collect()
}

fn host_forward<B: HostBackend>(
    tensors: &[FloatTensor<B>],
    form: AttentionForm,
) -> Option<(FloatTensor<B>, Vec<f32>)> {
    let device = tensors[0].device();
    let hosts = hosts::<B>(tensors)?;
    let operands = Operands::new(&hosts, form);
    let AttentionShape { batch, heads, queries, value_width, .. } = operands.shape;
    let result = operands.forward();
    let output = match operands.tokens {
        Form::Apart(_) => {
            let dims = [batch, heads, queries, value_width];
            B::from_host(result.output, &dims, &axes(operands.order()), &device)
        }
        Form::Packed(_) => {
            B::from_host(result.output, &[batch, queries, heads * value_width], &[0, 1, 2], &device)
        }
    };
    Some((output, result.logsumexp))
}

#[derive(Debug, Clone)]
struct AttentionStep<B: Backend> {
    tensors: Vec<FloatTensor<B>>,
    output: FloatTensor<B>,
    form: AttentionForm,
    saved: Saved<B>,
}

impl<B: Kernels> AttentionStep<B> {
    fn on_the_host(&self, grad: &FloatTensor<B>, wanted: &[bool]) -> Option<InputGradients<B>> {
        let device = grad.device();
        let level = SimdLevel::in_use();
        let logsumexp: &Vec<f32> = self.saved.as_host()?;
        let hosts = hosts::<B>(&self.tensors)?;
        let operands = Operands::new(&hosts, self.form);
        let (grad, output) = (B::host(grad)?, B::host(&self.output)?);
        let learnt = self.form.learnt && wanted.last() == Some(&true);
        let (shape, bias) = (operands.shape, operands.bias.as_ref().map(|bias| bias.bias(learnt)));
        let (mut gradients, of_bias): (InputGradients<B>, _) = match &operands.tokens {
            Form::Apart(read) => {
                let [query, key, value] = read.each_ref().map(Read::tokens);
                let (grad, output) = (Read::new(&grad), Read::new(&output));
                let forward = grad::AttentionResult { output: output.tokens(), logsumexp };
                let orders = [read[0].order, read[1].order];
                let back = grad::attention_backward(
                    level,
                    shape,
                    grad.tokens(),
                    query,
                    key,
                    value,
                    bias,
                    forward,
                    orders,
                );
                let of_bias = back.bias;
                let each =
                    [(back.query, orders[0]), (back.key, orders[1]), (back.value, orders[1])].into_iter();
                let gradients = each.zip(read).zip(wanted).map(|(((values, order), read), wanted)| {
                    wanted.then(|| B::from_host(values, &read.dims, &axes(order), &device))
                });
                (gradients.collect(), of_bias)
            }
            Form::Packed(qkv) => {
                let (grad, output) = (grad.row_major(), output.row_major());
                let strides = RowOrder::TokensFirst.strides(shape.heads, shape.queries, shape.value_width);
                let [grad, output] = [&grad, &output].map(|values| Tokens { values, strides });
                let forward = grad::AttentionResult { output, logsumexp };
                let (back, of_bias) = grad::packed_attention_backward(level, shape, grad, qkv, bias, forward);
                (vec![wanted[0].then(|| B::from_host(back, hosts[0].shape(), &[0, 1, 2], &device))], of_bias)
            }
        };
        if let Some(values) = of_bias {
            let dims = operands.bias.as_ref().map(|bias| bias.dims)?;
            gradients.push(Some(B::from_host(values, &dims, &[0, 1, 2, 3], &device)));
        }
        // A mask alone is no parameter: the function on tensors makes it.
        gradients.resize_with(wanted.len(), || None);
        Some(gradients)
    }
}

impl<B: Kernels> Step<B> for AttentionStep<B> {
    fn gradients(self, grad: FloatTensor<B>, wanted: &[bool]) -> InputGradients<B> {
        self.on_the_host(&grad, wanted).expect("the result was computed from f32 in memory")
    }
}

pub(crate) fn run<B: Kernels>(tensors: Vec<FloatTensor<B>>, form: AttentionForm) -> FloatTensor<B> {
    match host_forward::<B>(&tensors, form) {
        Some((output, _)) => output,
        None => reference::<B>(tensors, form),
    }
}

pub(crate) fn record<B: Kernels, C: CheckpointStrategy>(
    tensors: Vec<FloatTensor<Autodiff<B, C>>>,
    form: AttentionForm,
) -> FloatTensor<Autodiff<B, C>> {
    let plain: Vec<_> = tensors.iter().map(|tensor| tensor.primitive().clone()).collect();
    match host_forward::<B>(&plain, form) {
        None => reference::<Autodiff<B, C>>(tensors, form),
        Some((output, logsumexp)) => {
            let saved = Saved::host(logsumexp);
            let step = AttentionStep { tensors: plain, output: output.clone(), form, saved };
            record::known::<B, C, _>(tensors, output, step)
        }
    }
}
