//! Scaled dot-product attention (Vaswani et al. 2017), forward and backward, in memory that grows with the number of tokens.
//!
//! Scores are computed a tile of queries and a tile of keys at a time and never stored: the softmax goes on from tile to tile
//! (Milakov and Gimelshein 2018), and the backward pass computes the tile again from the logarithm of the row's sum (Dao et al.
//! 2022). A head of one sequence is one thread's work.

mod backward;

use super::lanes;
use super::matmul::{Packed, Part, Strided};
use crate::SimdLevel;
use crate::buffer::Shared;
use crate::chain::{Pooled, Work};
use crate::params::volume;
use crate::simd::Simd;
use backward::Backward;
use rayon::prelude::*;
use std::ops::Range;

/// Queries of a tile, at most.
const QUERIES: usize = 64;

/// Keys of a tile, at most: with [`QUERIES`], scores of 64 KiB.
const KEYS: usize = 256;

/// Columns of a panel are a divisor of this at each level.
const WHOLE_PANELS: usize = 32;

/// Values behind a row of scores, so that the rows of a column do not meet in the same lines of the cache.
const ROW_GAP: usize = 16;

/// Ranges of equal length, at most `most`, which together are `0..len`; each but the last a multiple of `unit` long.
fn even(len: usize, most: usize, unit: usize) -> impl Iterator<Item = Range<usize>> {
    let each = len.div_ceil(len.div_ceil(most)).next_multiple_of(unit);
    (0..len).step_by(each).map(move |first| first..len.min(first + each))
}

/// What a mask adds to a score that shall not count: far below every score, and still a number to calculate with.
pub const MASKED: f32 = -1e30;

/// The sizes of an attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape {
    /// Sequences.
    pub batch: usize,
    /// Heads.
    pub heads: usize,
    /// Queries of a sequence.
    pub queries: usize,
    /// Keys, and values, of a sequence.
    pub keys: usize,
    /// Features of a query and of a key.
    pub width: usize,
    /// Features of a value.
    pub value_width: usize,
    /// What the products are multiplied with before the softmax; usually `1 / sqrt(width)`.
    pub scale: f32,
    /// Whether query `i` sees the keys `0..=i` only.
    pub causal: bool,
}

/// Rows of features: for each sequence, head and token one, dense in memory.
#[derive(Debug, Clone, Copy)]
pub struct Tokens<'a> {
    /// Where they are.
    pub values: &'a [f32],
    /// Values from one sequence, head and token to the next.
    pub strides: [usize; 3],
}

/// The order in which the rows of a dense tensor of tokens lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOrder {
    /// `[batch, heads, tokens, features]`.
    HeadsFirst,
    /// `[batch, tokens, heads, features]`, as a linear layer leaves them and takes them.
    TokensFirst,
}

impl RowOrder {
    /// Values from one sequence, head and token to the next.
    pub fn strides(self, heads: usize, tokens: usize, width: usize) -> [usize; 3] {
        match self {
            Self::HeadsFirst => [heads * tokens * width, tokens * width, width],
            Self::TokensFirst => [heads * tokens * width, width, heads * width],
        }
    }
}

/// Where the rows of a result go, disjoint ones.
#[derive(Clone, Copy)]
struct Places<'a> {
    to: Shared<'a>,
    strides: [usize; 3],
    width: usize,
}

impl Places<'_> {
    /// Puts down the row of a token: the first values of `row`.
    ///
    /// # Safety
    /// Nobody else uses it.
    unsafe fn put(&self, sequence: usize, head: usize, token: usize, row: &[f32]) {
        let at = sequence * self.strides[0] + head * self.strides[1] + token * self.strides[2];
        // SAFETY: handed on to the caller.
        unsafe { self.to.put(at, &row[..self.width]) };
    }
}

/// What is added to the scores.
#[derive(Debug, Clone, Copy)]
pub struct ScoreBias<'a> {
    /// Rows of as many values as there are keys; [`MASKED`] or -∞ for what shall not be seen.
    pub values: &'a [f32],
    /// Values from one sequence, head and query to the next; 0 where they share.
    pub strides: [usize; 3],
    /// Sequences after which it begins anew, as with the windows of every image of a batch: a divisor of the batch.
    pub period: usize,
    /// Whether the backward pass gives its gradient. It then stores the scores' gradients.
    pub learnt: bool,
}

impl ScoreBias<'_> {
    /// Where the values of a sequence's head begin.
    fn start(&self, sequence: usize, head: usize) -> usize {
        sequence % self.period * self.strides[0] + head * self.strides[1]
    }
}

/// What [`attention`] returns: the result, and what [`attention_backward`] needs of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// `[batch, heads, queries, value_width]`, in the order that was asked for.
    pub output: Vec<f32>,
    /// The logarithm of the sum of each query's weights: `[batch, heads, queries]`.
    pub logsumexp: Vec<f32>,
}

/// What [`attention`] has returned, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct AttentionResult<'a> {
    /// As [`Attention::output`].
    pub output: Tokens<'a>,
    /// As [`Attention::logsumexp`].
    pub logsumexp: &'a [f32],
}

/// The gradients of [`attention`]'s arguments, each dense, `[batch, heads, tokens, features]` in the order that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionGradients {
    /// Of the queries.
    pub query: Vec<f32>,
    /// Of the keys.
    pub key: Vec<f32>,
    /// Of the values.
    pub value: Vec<f32>,
    /// Of a [learnt](ScoreBias::learnt) bias: `[period, heads, queries, keys]`, whatever it shares.
    pub bias: Option<Vec<f32>>,
}

/// `softmax(query · keyᵀ * scale + bias) · value` for each sequence and head. The result is `[batch, heads, queries, value_width]`, its rows in
/// the given order; zeros for a query from which every key is [`MASKED`] or -∞ away.
///
/// # Panics
/// If the lengths do not fit together, a size is 0 or too large, or the processor lacks the level.
pub fn attention(
    level: SimdLevel,
    shape: AttentionShape,
    query: Tokens<'_>,
    key: Tokens<'_>,
    value: Tokens<'_>,
    bias: Option<ScoreBias<'_>>,
    order: RowOrder,
) -> Attention {
    check(&shape, query, key, value, bias);
    level.run(Forward { shape, query, key, value, bias, order })
}

/// The gradients of the queries, keys, values and a learnt bias for the gradient `grad` of what [`attention`] gave as `forward`. The queries' has its rows in the first of the orders, those of keys and values in the second.
///
/// # Panics
/// As [`attention`].
#[expect(clippy::too_many_arguments, reason = "they are attention's own")]
pub fn attention_backward(
    level: SimdLevel,
    shape: AttentionShape,
    grad: Tokens<'_>,
    query: Tokens<'_>,
    key: Tokens<'_>,
    value: Tokens<'_>,
    bias: Option<ScoreBias<'_>>,
    forward: AttentionResult<'_>,
    orders: [RowOrder; 2],
) -> AttentionGradients {
    let AttentionShape { batch, heads, queries, keys, width, value_width, .. } = shape;
    let inputs = Forward { shape, query, key, value, bias, order: orders[0] };
    check_backward(&inputs, grad, forward);
    let len = |tokens: usize, width: usize| batch * heads * tokens * width;
    let sizes = [(queries, width, orders[0]), (keys, width, orders[1]), (keys, value_width, orders[1])];
    let mut gradients = sizes.map(|(tokens, width, _)| Vec::with_capacity(len(tokens, width)));
    let [query, key, value] = gradients.each_mut();
    let to =
        [(query, sizes[0]), (key, sizes[1]), (value, sizes[2])].map(|(vector, (tokens, width, order))| {
            Places {
                to: Shared::spare(vector, len(tokens, width)),
                strides: order.strides(heads, tokens, width),
                width,
            }
        });
    let bias = backward(level, inputs, grad, forward, to);
    for (vector, (tokens, width, _)) in gradients.iter_mut().zip(sizes) {
        // SAFETY: the rows of the orders fill the vector, and every row has been written.
        unsafe { vector.set_len(len(tokens, width)) };
    }
    let [query, key, value] = gradients;
    AttentionGradients { query, key, value, bias }
}

/// The queries, keys and values of self-attention as one linear layer computes them: `[batch, tokens, 3, heads, width]`.
pub fn packed_tokens<'a>(qkv: &'a [f32], shape: &AttentionShape) -> [Tokens<'a>; 3] {
    let row = shape.heads * shape.width;
    let strides = packed_strides(shape);
    [0, 1, 2].map(|part| Tokens { values: qkv.get(part * row..).unwrap_or_default(), strides })
}

fn packed_strides(shape: &AttentionShape) -> [usize; 3] {
    let row = 3 * shape.heads * shape.width;
    [shape.queries * row, shape.width, row]
}

/// Computes the gradients `to` their places, and returns that of a learnt bias.
fn backward(
    level: SimdLevel,
    inputs: Forward<'_>,
    grad: Tokens<'_>,
    forward: AttentionResult<'_>,
    to: [Places<'_>; 3],
) -> Option<Vec<f32>> {
    let AttentionShape { batch, heads, queries, keys, .. } = inputs.shape;
    let period = inputs.bias.filter(|bias| bias.learnt).map(|bias| bias.period);
    let matrix = queries * keys;
    let mut slopes = Pooled::zeroed(if period.is_some() { batch * heads * matrix } else { 0 });
    level.run(Backward { inputs, grad, forward, to, slopes: Shared::new(&mut slopes) });
    let period = period?;
    let mut gradient = vec![0.0; period * heads * matrix];
    gradient.par_chunks_exact_mut(matrix).enumerate().for_each(|(index, sum)| {
        for slopes in slopes.chunks_exact(matrix).skip(index).step_by(period * heads) {
            sum.iter_mut().zip(slopes).for_each(|(sum, slope)| *sum += slope);
        }
    });
    Some(gradient)
}

/// As [`attention_backward`], of [`packed_tokens`]: the gradient of all three, `[batch, tokens, 3, heads, width]`, and that of a learnt bias.
///
/// # Panics
/// As [`attention`]; if there are other keys than queries, or values of another width.
pub fn packed_attention_backward(
    level: SimdLevel,
    shape: AttentionShape,
    grad: Tokens<'_>,
    qkv: &[f32],
    bias: Option<ScoreBias<'_>>,
    forward: AttentionResult<'_>,
) -> (Vec<f32>, Option<Vec<f32>>) {
    let AttentionShape { batch, heads, queries, keys, width, value_width, .. } = shape;
    assert!(queries == keys && width == value_width, "attention: {shape:?} cannot be packed");
    let [query, key, value] = packed_tokens(qkv, &shape);
    let inputs = Forward { shape, query, key, value, bias, order: RowOrder::TokensFirst };
    check_backward(&inputs, grad, forward);
    let len = batch * queries * 3 * heads * width;
    let mut gradient = Vec::with_capacity(len);
    let all = Shared::spare(&mut gradient, len);
    let strides = packed_strides(&shape);
    let to = [0, 1, 2].map(|part| Places { to: all.from(part * heads * width), strides, width });
    let bias = backward(level, inputs, grad, forward, to);
    // SAFETY: the rows of the three fill the vector, and every row has been written.
    unsafe { gradient.set_len(len) };
    (gradient, bias)
}

fn check_backward(inputs: &Forward<'_>, grad: Tokens<'_>, forward: AttentionResult<'_>) {
    let shape = inputs.shape;
    check(&shape, inputs.query, inputs.key, inputs.value, inputs.bias);
    for (what, tokens) in [("gradients", grad), ("results", forward.output)] {
        reaches(&shape, what, tokens.values, tokens.strides, shape.queries, shape.value_width);
    }
    let queries = shape.batch * shape.heads * shape.queries;
    assert_eq!(forward.logsumexp.len(), queries, "attention: the sums of other queries");
}

/// Panics unless the last row of the tokens lies within the values.
fn reaches(
    shape: &AttentionShape,
    what: &str,
    values: &[f32],
    strides: [usize; 3],
    tokens: usize,
    row: usize,
) {
    let counts = [shape.batch, shape.heads, tokens];
    // A sum that wraps around could be small.
    let end = strides.iter().zip(counts).try_fold(row, |end, (stride, count)| {
        stride.checked_mul(count - 1).and_then(|last| end.checked_add(last))
    });
    assert!(end.is_some_and(|end| end <= values.len()), "attention: the {what} end before their last row");
}

fn check(
    shape: &AttentionShape,
    query: Tokens<'_>,
    key: Tokens<'_>,
    value: Tokens<'_>,
    bias: Option<ScoreBias<'_>>,
) {
    let AttentionShape { batch, heads, queries, keys, width, value_width, .. } = *shape;
    assert!(
        [batch, heads, queries, keys, width, value_width].iter().all(|&size| size > 0),
        "attention: nothing to attend to: {shape:?}"
    );
    let learnt = bias.is_some_and(|bias| bias.learnt);
    for sizes in [
        [batch, heads, queries.max(keys), width.max(value_width), 3],
        [if learnt { batch } else { 1 }, heads, queries, keys, 1],
    ] {
        assert!(volume(&sizes) < isize::MAX as usize, "attention: too large: {shape:?}");
    }
    reaches(shape, "queries", query.values, query.strides, queries, width);
    reaches(shape, "keys", key.values, key.strides, keys, width);
    reaches(shape, "values", value.values, value.strides, keys, value_width);
    if let Some(bias) = bias {
        let ScoreBias { values, strides, period, .. } = bias;
        assert!(
            period > 0 && batch.is_multiple_of(period),
            "attention: {batch} sequences with a bias for {period}"
        );
        reaches(&AttentionShape { batch: period, ..*shape }, "biases", values, strides, queries, keys);
    }
}

impl<'a> Tokens<'a> {
    /// The tokens of a head: a matrix of one row a token.
    fn head(self, sequence: usize, head: usize) -> Strided<'a> {
        let at = sequence * self.strides[0] + head * self.strides[1];
        Strided { values: &self.values[at..], row: self.strides[2], column: 1 }
    }
}

/// From one query's scores in a tile to the next's.
fn score_row(shape: &AttentionShape) -> usize {
    shape.keys.next_multiple_of(WHOLE_PANELS).min(KEYS) + ROW_GAP
}

struct Forward<'a> {
    shape: AttentionShape,
    query: Tokens<'a>,
    key: Tokens<'a>,
    value: Tokens<'a>,
    bias: Option<ScoreBias<'a>>,
    order: RowOrder,
}

/// A tile of queries and keys of a head.
struct Tile<'a> {
    shape: AttentionShape,
    queries: Range<usize>,
    keys: Range<usize>,
    /// The head's bias: values from its first query on, and the distance to the next query.
    bias: Option<(&'a [f32], usize)>,
}

impl Tile<'_> {
    /// From one query's scores to the next's.
    fn row(&self) -> usize {
        score_row(&self.shape)
    }

    /// How many of the tile's keys a query sees.
    fn seen(&self, query: usize) -> usize {
        let count = self.keys.len();
        if self.shape.causal { count.min((query + 1).saturating_sub(self.keys.start)) } else { count }
    }

    /// The scores of the tile, a [`row`](Self::row) a query: scaled and biased where they are seen, and garbage up to the next whole vector.
    #[inline(always)]
    fn scores<S: Simd>(&self, simd: S, query: Strided<'_>, keys: &Packed, scores: &mut [f32]) {
        let panel = keys.panel();
        Part {
            left: query.from(self.queries.start, 0),
            rows: self.queries.len(),
            right: keys,
            depth: 0..self.shape.width,
            panels: self.keys.start / panel..self.keys.end.div_ceil(panel),
            result_row: self.row(),
        }
        .set(simd, scores);
        let scale = simd.splat(self.shape.scale);
        for (query, scores) in self.queries.clone().zip(scores.chunks_exact_mut(self.row())) {
            let seen = self.seen(query);
            match self.bias {
                Some((bias, row)) => {
                    let seen = &mut scores[..seen];
                    let bias = &bias[query * row + self.keys.start..][..seen.len()];
                    lanes::update(
                        simd,
                        [bias],
                        seen,
                        #[inline(always)]
                        |[bias], score| simd.mul_add(score, scale, bias),
                    );
                }
                None => lanes::update(
                    simd,
                    [],
                    &mut scores[..seen.next_multiple_of(S::LANES)],
                    #[inline(always)]
                    |[], score| simd.mul(score, scale),
                ),
            }
        }
    }
}

impl<'a> Forward<'a> {
    fn heads(&self) -> usize {
        self.shape.batch * self.shape.heads
    }

    /// The sequence and the head within it.
    fn place(&self, head: usize) -> (usize, usize) {
        (head / self.shape.heads, head % self.shape.heads)
    }

    /// The tiles of keys that a tile of queries sees.
    fn tiles(&self, head: usize, queries: Range<usize>) -> impl Iterator<Item = Tile<'a>> {
        let shape = self.shape;
        let end = if shape.causal { shape.keys.min(queries.end) } else { shape.keys };
        let (sequence, head) = self.place(head);
        let bias = self.bias.map(|bias| (&bias.values[bias.start(sequence, head)..], bias.strides[2]));
        even(end, KEYS, WHOLE_PANELS).map(move |keys| Tile { shape, queries: queries.clone(), keys, bias })
    }

    fn matrices(&self, head: usize) -> [Strided<'a>; 3] {
        let (sequence, head) = self.place(head);
        [self.query, self.key, self.value].map(|tokens| tokens.head(sequence, head))
    }

    /// Attends with one head of one sequence, whose rows of the output nobody else uses.
    fn head<S: Simd>(&self, simd: S, head: usize, output: Places<'_>, logsumexp: &mut [f32]) {
        let AttentionShape { queries, keys, width, value_width, .. } = self.shape;
        let [query, key, value] = self.matrices(head);
        let keys_packed = Packed::new(simd, key.transposed(), width, keys);
        let values = Packed::new(simd, value, keys, value_width);
        let (sequence, head_of) = self.place(head);
        let row = score_row(&self.shape);
        let mut scores = vec![0.0; QUERIES * row];
        let mut sums = vec![0.0; QUERIES * values.width()];
        for rows in even(queries, QUERIES, 1) {
            let mut largest = [f32::NEG_INFINITY; QUERIES];
            let mut total = [0.0; QUERIES];
            sums.fill(0.0);
            for tile in self.tiles(head, rows.clone()) {
                simd.vectorize(
                    #[inline(always)]
                    || {
                        tile.scores(simd, query, &keys_packed, &mut scores);
                        let state = largest.iter_mut().zip(total.iter_mut());
                        let state = state.zip(sums.chunks_exact_mut(values.width()));
                        for ((query, scores), ((largest, total), sums)) in
                            rows.clone().zip(scores.chunks_exact_mut(row)).zip(state)
                        {
                            let seen = tile.seen(query);
                            // Whole vectors: a shorter one takes longer.
                            let whole = seen.next_multiple_of(S::LANES);
                            scores[seen..whole].fill(f32::NEG_INFINITY);
                            let before = *largest;
                            *largest = before.max(lanes::largest(simd, &scores[..whole]));
                            if *largest > before {
                                let shrink = (before - *largest).exp();
                                *total *= shrink;
                                let shrink = simd.splat(shrink);
                                lanes::update(
                                    simd,
                                    [],
                                    sums,
                                    #[inline(always)]
                                    |[], sum| simd.mul(sum, shrink),
                                );
                            }
                            // While nothing is seen, there is nothing to take from the scores, which stay infinite.
                            let minus = if *largest == f32::NEG_INFINITY { 0.0 } else { -*largest };
                            let minus = simd.splat(minus);
                            lanes::update(
                                simd,
                                [],
                                &mut scores[..whole],
                                #[inline(always)]
                                |[], score| simd.exp(simd.add(score, minus)),
                            );
                            scores[seen..tile.keys.len().next_multiple_of(S::LANES)].fill(0.0);
                            let [sum] = lanes::sums(
                                simd,
                                [&scores[..whole]],
                                [0.0],
                                #[inline(always)]
                                |weight| weight,
                            );
                            *total += sum;
                        }
                    },
                );
                Part {
                    left: Strided::rows(&scores, row),
                    rows: rows.len(),
                    right: &values,
                    depth: tile.keys.clone(),
                    panels: 0..values.panels(),
                    result_row: values.width(),
                }
                .add(simd, &mut sums);
            }
            for (at, (row, sums)) in rows.clone().zip(sums.chunks_exact_mut(values.width())).enumerate() {
                if largest[at] < MASKED / 2.0 && !total[at].is_nan() {
                    // Nothing is seen: zeros, and no weight in the backward pass. Scores that are no numbers stay visible instead.
                    logsumexp[row] = f32::INFINITY;
                    sums.fill(0.0);
                } else {
                    logsumexp[row] = largest[at] + total[at].ln();
                    sums.iter_mut().for_each(|sum| *sum /= total[at]);
                }
                // SAFETY: this head has its rows to itself.
                unsafe { output.put(sequence, head_of, row, sums) };
            }
        }
    }
}

impl Work for Forward<'_> {
    type Output = Attention;

    fn run<S: Simd>(self, simd: S) -> Attention {
        let AttentionShape { heads, queries, value_width, .. } = self.shape;
        let len = self.heads() * queries * value_width;
        let mut output = Vec::with_capacity(len);
        let places = Places {
            to: Shared::spare(&mut output, len),
            strides: self.order.strides(heads, queries, value_width),
            width: value_width,
        };
        let mut logsumexp = vec![0.0; self.heads() * queries];
        logsumexp
            .par_chunks_mut(queries)
            .with_max_len(1)
            .enumerate()
            .for_each(|(head, logsumexp)| self.head(simd, head, places, logsumexp));
        // SAFETY: the rows of the order fill the vector, and every row has been written.
        unsafe { output.set_len(len) };
        Attention { output, logsumexp }
    }
}

#[cfg(test)]
mod tests;
