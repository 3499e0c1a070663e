//! Scaled dot-product attention (Vaswani et al. 2017), forward and backward, in memory that grows with the number of tokens.
//!
//! Scores are computed a tile of queries and a tile of keys at a time and never stored: the softmax goes on from tile to tile
//! (Milakov and Gimelshein 2018), and the backward pass computes the tile again from the logarithm of the row's sum (Dao et al.
//! 2022). A head of one sequence is one thread's work.

use super::lanes;
use super::matmul::{Packed, Part, Strided};
use crate::SimdLevel;
use crate::chain::Work;
use crate::simd::Simd;
use rayon::prelude::*;
use std::ops::Range;

/// Queries and keys of a tile; whole panels at each level.
const TILE: usize = 64;

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

/// What is added to the scores.
#[derive(Debug, Clone, Copy)]
pub struct ScoreBias<'a> {
    /// Rows of as many values as there are keys; [`MASKED`] for what shall not be seen.
    pub values: &'a [f32],
    /// Values from one sequence, head and query to the next; 0 where they share.
    pub strides: [usize; 3],
}

/// What [`attention`] returns: the result, and what [`attention_backward`] needs of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// `[batch, heads, queries, value_width]`.
    pub output: Vec<f32>,
    /// The logarithm of the sum of each query's weights: `[batch, heads, queries]`.
    pub logsumexp: Vec<f32>,
}

/// What [`attention`] has returned, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct AttentionResult<'a> {
    /// As [`Attention::output`].
    pub output: &'a [f32],
    /// As [`Attention::logsumexp`].
    pub logsumexp: &'a [f32],
}

impl Attention {
    /// The result, borrowed.
    pub fn borrow(&self) -> AttentionResult<'_> {
        AttentionResult { output: &self.output, logsumexp: &self.logsumexp }
    }
}

/// The gradients of [`attention`]'s arguments, each dense, `[batch, heads, tokens, features]`.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionGradients {
    /// Of the queries.
    pub query: Vec<f32>,
    /// Of the keys.
    pub key: Vec<f32>,
    /// Of the values.
    pub value: Vec<f32>,
}

/// `softmax(query · keyᵀ * scale + bias) · value` for each sequence and head. The result is `[batch, heads, queries, value_width]`.
///
/// # Panics
/// If the lengths do not fit together, or the processor lacks the level.
pub fn attention(
    level: SimdLevel,
    shape: AttentionShape,
    query: Tokens<'_>,
    key: Tokens<'_>,
    value: Tokens<'_>,
    bias: Option<ScoreBias<'_>>,
) -> Attention {
    check(&shape, query, key, value, bias);
    level.run(Forward { shape, query, key, value, bias })
}

/// The gradients of the queries, keys and values for the gradient `grad` of what [`attention`] gave as `forward`; of the bias there
/// is none.
///
/// # Panics
/// As [`attention`].
#[expect(clippy::too_many_arguments, reason = "they are attention's own")]
pub fn attention_backward(
    level: SimdLevel,
    shape: AttentionShape,
    grad: &[f32],
    query: Tokens<'_>,
    key: Tokens<'_>,
    value: Tokens<'_>,
    bias: Option<ScoreBias<'_>>,
    forward: AttentionResult<'_>,
) -> AttentionGradients {
    check(&shape, query, key, value, bias);
    let queries = shape.batch * shape.heads * shape.queries;
    assert_eq!(grad.len(), queries * shape.value_width, "attention: the gradient is as large as the result");
    assert_eq!(forward.output.len(), grad.len(), "attention: the result of other queries");
    assert_eq!(forward.logsumexp.len(), queries, "attention: the sums of other queries");
    level.run(Backward { inputs: Forward { shape, query, key, value, bias }, grad, forward })
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
    let reaches = |what: &str, values: &[f32], strides: [usize; 3], tokens: usize, row: usize| {
        let last: usize = strides.iter().zip([batch, heads, tokens]).map(|(s, n)| s * (n - 1)).sum();
        assert!(last + row <= values.len(), "attention: the {what} end before their last row");
    };
    reaches("queries", query.values, query.strides, queries, width);
    reaches("keys", key.values, key.strides, keys, width);
    reaches("values", value.values, value.strides, keys, value_width);
    if let Some(bias) = bias {
        reaches("biases", bias.values, bias.strides, queries, keys);
    }
}

impl<'a> Tokens<'a> {
    /// The tokens of a head: a matrix of one row a token.
    fn head(self, sequence: usize, head: usize) -> Strided<'a> {
        let at = sequence * self.strides[0] + head * self.strides[1];
        Strided { values: &self.values[at..], row: self.strides[2], column: 1 }
    }
}

struct Forward<'a> {
    shape: AttentionShape,
    query: Tokens<'a>,
    key: Tokens<'a>,
    value: Tokens<'a>,
    bias: Option<ScoreBias<'a>>,
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
    /// How many of the tile's keys a query sees.
    fn seen(&self, query: usize) -> usize {
        let count = self.keys.len();
        if self.shape.causal { count.min((query + 1).saturating_sub(self.keys.start)) } else { count }
    }

    /// The scores of the tile, `[queries, TILE]`: scaled and biased where they are seen.
    #[inline(always)]
    fn scores<S: Simd>(&self, simd: S, query: Strided<'_>, keys: &Packed, scores: &mut [f32]) {
        let panel = keys.panel();
        Part {
            left: &query.values[self.queries.start * query.row..],
            left_row: query.row,
            rows: self.queries.len(),
            right: keys,
            depth: 0..self.shape.width,
            panels: self.keys.start / panel..self.keys.end.div_ceil(panel),
            result_row: TILE,
        }
        .set(simd, scores);
        let scale = simd.splat(self.shape.scale);
        for (query, scores) in self.queries.clone().zip(scores.chunks_exact_mut(TILE)) {
            let seen = &mut scores[..self.seen(query)];
            match self.bias {
                Some((bias, row)) => {
                    let bias = &bias[query * row + self.keys.start..][..seen.len()];
                    lanes::update(simd, [bias], seen, |[bias], score| simd.mul_add(score, scale, bias));
                }
                None => lanes::update(simd, [], seen, |[], score| simd.mul(score, scale)),
            }
        }
    }
}

impl<'a> Forward<'a> {
    fn heads(&self) -> usize {
        self.shape.batch * self.shape.heads
    }

    /// The tiles of keys that a tile of queries sees.
    fn tiles(&self, head: usize, queries: Range<usize>) -> impl Iterator<Item = Tile<'a>> {
        let shape = self.shape;
        let end = if shape.causal { shape.keys.min(queries.end) } else { shape.keys };
        let (sequence, head) = (head / shape.heads, head % shape.heads);
        let bias = self.bias.map(|ScoreBias { values, strides }| {
            (&values[sequence * strides[0] + head * strides[1]..], strides[2])
        });
        (0..end).step_by(TILE).map(move |first| Tile {
            shape,
            queries: queries.clone(),
            keys: first..end.min(first + TILE),
            bias,
        })
    }

    fn matrices(&self, head: usize) -> [Strided<'a>; 3] {
        let (sequence, head) = (head / self.shape.heads, head % self.shape.heads);
        [self.query, self.key, self.value].map(|tokens| tokens.head(sequence, head))
    }

    /// Attends with one head of one sequence.
    fn head<S: Simd>(&self, simd: S, head: usize, output: &mut [f32], logsumexp: &mut [f32]) {
        let AttentionShape { queries, keys, width, value_width, .. } = self.shape;
        let [query, key, value] = self.matrices(head);
        let keys_packed = Packed::new::<S>(key.transposed(), width, keys);
        let values = Packed::new::<S>(value, keys, value_width);
        let mut scores = vec![0.0; TILE * TILE];
        let mut sums = vec![0.0; TILE * values.width()];
        for first in (0..queries).step_by(TILE) {
            let rows = first..queries.min(first + TILE);
            let mut largest = [f32::NEG_INFINITY; TILE];
            let mut total = [0.0; TILE];
            sums.fill(0.0);
            for tile in self.tiles(head, rows.clone()) {
                simd.vectorize(
                    #[inline(always)]
                    || {
                        tile.scores(simd, query, &keys_packed, &mut scores);
                        let state = largest.iter_mut().zip(total.iter_mut());
                        let state = state.zip(sums.chunks_exact_mut(values.width()));
                        for ((query, scores), ((largest, total), sums)) in
                            rows.clone().zip(scores.chunks_exact_mut(TILE)).zip(state)
                        {
                            let (seen, hidden) = scores.split_at_mut(tile.seen(query));
                            hidden.fill(0.0);
                            let before = *largest;
                            *largest = before.max(lanes::largest(simd, seen));
                            if *largest > before {
                                let shrink = (before - *largest).exp();
                                *total *= shrink;
                                let shrink = simd.splat(shrink);
                                lanes::update(simd, [], sums, |[], sum| simd.mul(sum, shrink));
                            }
                            let minus = simd.splat(-*largest);
                            lanes::update(simd, [], seen, |[], score| simd.exp(simd.add(score, minus)));
                            let [sum] = lanes::sums(simd, [seen], [0.0], |weight| weight);
                            *total += sum;
                        }
                    },
                );
                Part {
                    left: &scores,
                    left_row: TILE,
                    rows: rows.len(),
                    right: &values,
                    depth: tile.keys.clone(),
                    panels: 0..values.panels(),
                    result_row: values.width(),
                }
                .add(simd, &mut sums);
            }
            for (row, sums) in rows.clone().zip(sums.chunks_exact(values.width())) {
                let at = row - first;
                logsumexp[row] = largest[at] + total[at].ln();
                let output = &mut output[row * value_width..(row + 1) * value_width];
                output.iter_mut().zip(sums).for_each(|(output, sum)| *output = sum / total[at]);
            }
        }
    }
}

impl Work for Forward<'_> {
    type Output = Attention;

    fn run<S: Simd>(self, simd: S) -> Attention {
        let AttentionShape { queries, value_width, .. } = self.shape;
        let mut output = vec![0.0; self.heads() * queries * value_width];
        let mut logsumexp = vec![0.0; self.heads() * queries];
        (output.par_chunks_mut(queries * value_width))
            .zip(logsumexp.par_chunks_mut(queries))
            .enumerate()
            .for_each(|(head, (output, logsumexp))| self.head(simd, head, output, logsumexp));
        Attention { output, logsumexp }
    }
}

struct Backward<'a> {
    inputs: Forward<'a>,
    grad: &'a [f32],
    forward: AttentionResult<'a>,
}

impl Backward<'_> {
    /// The gradients of one head of one sequence. With weights `P`, `dP = grad · valueᵀ` and `D = sum(grad * output)`:
    /// `dV = Pᵀ · grad`, `dS = P * (dP - D)`, `dQ = scale * dS · K`, `dK = scale * dSᵀ · Q`.
    fn head<S: Simd>(
        &self,
        simd: S,
        head: usize,
        query_to: &mut [f32],
        key_to: &mut [f32],
        value_to: &mut [f32],
    ) {
        let AttentionShape { queries, keys, width, value_width, scale, .. } = self.inputs.shape;
        let [query, key, value] = self.inputs.matrices(head);
        let keys_across = Packed::new::<S>(key.transposed(), width, keys);
        let values_across = Packed::new::<S>(value.transposed(), value_width, keys);
        let keys_down = Packed::new::<S>(key, keys, width);
        let of_head = head * queries * value_width..(head + 1) * queries * value_width;
        let (grad, output) = (&self.grad[of_head.clone()], &self.forward.output[of_head]);
        let logsumexp = &self.forward.logsumexp[head * queries..(head + 1) * queries];

        let mut weights = vec![0.0; TILE * TILE];
        let mut slopes = vec![0.0; TILE * TILE];
        let mut turned = vec![0.0; TILE * TILE];
        let mut query_sums = vec![0.0; TILE * keys_down.width()];
        let grad_width = value_width.next_multiple_of(keys_down.panel());
        let mut key_sums = vec![0.0; keys * keys_down.width()];
        let mut value_sums = vec![0.0; keys * grad_width];
        for first in (0..queries).step_by(TILE) {
            let rows = first..queries.min(first + TILE);
            let count = rows.len();
            let grad = &grad[first * value_width..rows.end * value_width];
            let output = &output[first * value_width..rows.end * value_width];
            let query_tile = Strided { values: &query.values[first * query.row..], ..query };
            let queries_packed = Packed::new::<S>(query_tile, count, width);
            let grad_packed = Packed::new::<S>(Strided::rows(grad, value_width), count, value_width);
            let mut products = [0.0; TILE];
            simd.vectorize(
                #[inline(always)]
                || {
                    let both = grad.chunks_exact(value_width).zip(output.chunks_exact(value_width));
                    for (product, (grad, output)) in products.iter_mut().zip(both) {
                        [*product] = lanes::sums(simd, [grad, output], [0.0; 2], |[g, y]| [simd.mul(g, y)]);
                    }
                },
            );
            query_sums.fill(0.0);
            for tile in self.inputs.tiles(head, rows.clone()) {
                let panel = values_across.panel();
                Part {
                    left: grad,
                    left_row: value_width,
                    rows: count,
                    right: &values_across,
                    depth: 0..value_width,
                    panels: tile.keys.start / panel..tile.keys.end.div_ceil(panel),
                    result_row: TILE,
                }
                .set(simd, &mut slopes);
                simd.vectorize(
                    #[inline(always)]
                    || {
                        tile.scores(simd, query, &keys_across, &mut weights);
                        let both = weights.chunks_exact_mut(TILE).zip(slopes.chunks_exact_mut(TILE));
                        for (row, (weights, slopes)) in rows.clone().zip(both) {
                            let (seen, hidden) = weights.split_at_mut(tile.seen(row));
                            let (slopes, hidden_slopes) = slopes.split_at_mut(seen.len());
                            hidden.fill(0.0);
                            hidden_slopes.fill(0.0);
                            let minus = simd.splat(-logsumexp[row]);
                            lanes::update(simd, [], seen, |[], score| simd.exp(simd.add(score, minus)));
                            let minus = simd.splat(-products[row - first]);
                            lanes::update(simd, [&*seen], slopes, |[weight], slope| {
                                simd.mul(weight, simd.add(slope, minus))
                            });
                        }
                    },
                );
                for (from, right, sums, row) in [
                    (&weights, &grad_packed, &mut value_sums, grad_width),
                    (&slopes, &queries_packed, &mut key_sums, keys_down.width()),
                ] {
                    turn(from, &mut turned);
                    Part {
                        left: &turned,
                        left_row: TILE,
                        rows: tile.keys.len(),
                        right,
                        depth: 0..count,
                        panels: 0..right.panels(),
                        result_row: row,
                    }
                    .add(simd, &mut sums[tile.keys.start * row..]);
                }
                Part {
                    left: &slopes,
                    left_row: TILE,
                    rows: count,
                    right: &keys_down,
                    depth: tile.keys.clone(),
                    panels: 0..keys_down.panels(),
                    result_row: keys_down.width(),
                }
                .add(simd, &mut query_sums);
            }
            unfill(
                &query_sums,
                keys_down.width(),
                scale,
                &mut query_to[first * width..rows.end * width],
                width,
            );
        }
        unfill(&key_sums, keys_down.width(), scale, key_to, width);
        unfill(&value_sums, grad_width, 1.0, value_to, value_width);
    }
}

/// Exchanges the rows and columns of a tile.
fn turn(from: &[f32], to: &mut [f32]) {
    for (row, to) in to.chunks_exact_mut(TILE).enumerate() {
        for (column, to) in to.iter_mut().enumerate() {
            *to = from[column * TILE + row];
        }
    }
}

/// Rows of `filled` values, scaled, into rows of `width`.
fn unfill(from: &[f32], filled: usize, scale: f32, to: &mut [f32], width: usize) {
    for (from, to) in from.chunks_exact(filled).zip(to.chunks_exact_mut(width)) {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = scale * from);
    }
}

impl Work for Backward<'_> {
    type Output = AttentionGradients;

    fn run<S: Simd>(self, simd: S) -> AttentionGradients {
        let AttentionShape { queries, keys, width, value_width, .. } = self.inputs.shape;
        let heads = self.inputs.heads();
        let mut query = vec![0.0; heads * queries * width];
        let mut key = vec![0.0; heads * keys * width];
        let mut value = vec![0.0; heads * keys * value_width];
        (query.par_chunks_mut(queries * width))
            .zip(key.par_chunks_mut(keys * width).zip(value.par_chunks_mut(keys * value_width)))
            .enumerate()
            .for_each(|(head, (query, (key, value)))| self.head(simd, head, query, key, value));
        AttentionGradients { query, key, value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grad::testing::{assert_close, at_every_level, on_threads, values};

    struct Case {
        shape: AttentionShape,
        query: Vec<f32>,
        key: Vec<f32>,
        value: Vec<f32>,
        grad: Vec<f32>,
        bias: Vec<f32>,
        bias_strides: [usize; 3],
    }

    impl Case {
        /// Sizes: batch, heads, queries, keys, width, value width.
        fn new(sizes: [usize; 6], causal: bool, bias_strides: [usize; 3]) -> Self {
            let [batch, heads, queries, keys, width, value_width] = sizes;
            let scale = 1.0 / (width as f32).sqrt();
            let of = |tokens: usize, width: usize, seed| values(batch * heads * tokens * width, seed);
            let mut bias = values(batch * heads * queries * keys, 5);
            // A quarter is masked, but for the first key, which everybody sees.
            for (place, bias) in bias.iter_mut().enumerate() {
                if *bias > 1.0 && place % keys != 0 {
                    *bias = MASKED;
                }
            }
            Self {
                shape: AttentionShape { batch, heads, queries, keys, width, value_width, scale, causal },
                query: of(queries, width, 1),
                key: of(keys, width, 2),
                value: of(keys, value_width, 3),
                grad: of(queries, value_width, 4),
                bias,
                bias_strides,
            }
        }

        fn bias(&self) -> Option<ScoreBias<'_>> {
            let used = self.bias_strides != [usize::MAX; 3];
            used.then_some(ScoreBias { values: &self.bias, strides: self.bias_strides })
        }

        fn run(&self, level: SimdLevel) -> (Attention, AttentionGradients) {
            let tokens = |values, count: usize, width: usize| {
                let head = count * width;
                Tokens { values, strides: [self.shape.heads * head, head, width] }
            };
            let AttentionShape { queries, keys, width, value_width, .. } = self.shape;
            let query = tokens(&self.query, queries, width);
            let (key, value) = (tokens(&self.key, keys, width), tokens(&self.value, keys, value_width));
            let forward = attention(level, self.shape, query, key, value, self.bias());
            let back = attention_backward(
                level,
                self.shape,
                &self.grad,
                query,
                key,
                value,
                self.bias(),
                forward.borrow(),
            );
            (forward, back)
        }

        /// The definition and its derivative, in f64: output, and the gradients of queries, keys and values.
        fn reference(&self) -> [Vec<f64>; 4] {
            let AttentionShape { batch, heads, queries, keys, width, value_width, scale, causal } =
                self.shape;
            let f = |values: &[f32], row: usize, width: usize, i: usize| f64::from(values[row * width + i]);
            let mut output = vec![0.0; self.grad.len()];
            let mut dq = vec![0.0; self.query.len()];
            let mut dk = vec![0.0; self.key.len()];
            let mut dv = vec![0.0; self.value.len()];
            for head in 0..batch * heads {
                for i in 0..queries {
                    let q = head * queries + i;
                    let last = if causal { keys.min(i + 1) } else { keys };
                    let score = |j: usize| {
                        let k = head * keys + j;
                        let dot: f64 =
                            (0..width).map(|w| f(&self.query, q, width, w) * f(&self.key, k, width, w)).sum();
                        let bias = self.bias().map_or(0.0, |bias| {
                            let [b, h, r] = bias.strides;
                            f64::from(bias.values[head / heads * b + head % heads * h + i * r + j])
                        });
                        dot * f64::from(scale) + bias
                    };
                    let scores: Vec<f64> = (0..last).map(score).collect();
                    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let sum: f64 = scores.iter().map(|s| (s - most).exp()).sum();
                    let p: Vec<f64> = scores.iter().map(|s| (s - most).exp() / sum).collect();
                    let dp: Vec<f64> = (0..last)
                        .map(|j| {
                            (0..value_width)
                                .map(|w| {
                                    f(&self.grad, q, value_width, w)
                                        * f(&self.value, head * keys + j, value_width, w)
                                })
                                .sum()
                        })
                        .collect();
                    let mean: f64 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
                    for j in 0..last {
                        let k = head * keys + j;
                        for w in 0..value_width {
                            output[q * value_width + w] += p[j] * f(&self.value, k, value_width, w);
                            dv[k * value_width + w] += p[j] * f(&self.grad, q, value_width, w);
                        }
                        let ds = p[j] * (dp[j] - mean) * f64::from(scale);
                        for w in 0..width {
                            dq[q * width + w] += ds * f(&self.key, k, width, w);
                            dk[k * width + w] += ds * f(&self.query, q, width, w);
                        }
                    }
                }
            }
            [output, dq, dk, dv]
        }
    }

    const NO_BIAS: [usize; 3] = [usize::MAX; 3];

    #[test]
    fn equals_the_definition_at_every_level() {
        let cases = [
            Case::new([1, 1, 1, 1, 1, 1], false, NO_BIAS),
            Case::new([2, 3, 5, 7, 4, 4], false, NO_BIAS),
            Case::new([1, 2, 70, 131, 17, 9], false, NO_BIAS),
            Case::new([1, 2, 130, 130, 32, 32], true, NO_BIAS),
            Case::new([1, 1, 9, 100, 8, 40], true, NO_BIAS),
            Case::new([1, 1, 100, 9, 8, 8], true, NO_BIAS),
            Case::new([2, 2, 66, 65, 5, 6], false, [2 * 66 * 65, 66 * 65, 65]),
            Case::new([2, 2, 66, 66, 5, 6], true, [66, 0, 0]),
        ];
        at_every_level(|level| {
            for case in &cases {
                let [output, query, key, value] = case.reference();
                let (forward, back) = case.run(level);
                let what = format!("{level}, {:?}", case.shape);
                assert_close(&forward.output, &output, 5e-6, &what);
                assert_close(&back.query, &query, 2e-5, &what);
                assert_close(&back.key, &key, 2e-5, &what);
                assert_close(&back.value, &value, 2e-5, &what);
            }
        });
    }

    #[test]
    fn reads_tokens_in_any_order() {
        // Heads and tokens exchanged in memory, as a projection leaves them.
        let case = Case::new([2, 3, 6, 6, 8, 8], false, NO_BIAS);
        let (tokens, heads, width) = (6, 3, 8);
        let exchange = |values: &[f32]| {
            let mut exchanged = vec![0.0; values.len()];
            for (row, values) in values.chunks(width).enumerate() {
                let (token, head, batch) = (row % tokens, row / tokens % heads, row / tokens / heads);
                exchanged[((batch * tokens + token) * heads + head) * width..][..width]
                    .copy_from_slice(values);
            }
            exchanged
        };
        let [query, key, value] = [&case.query, &case.key, &case.value].map(|values| exchange(values));
        let strides = [tokens * heads * width, width, heads * width];
        let of = |values| Tokens { values, strides };
        let level = SimdLevel::Scalar;
        let forward = attention(level, case.shape, of(&query), of(&key), of(&value), None);
        assert_eq!(forward, case.run(level).0);
    }

    #[test]
    fn gives_the_same_bytes_on_any_number_of_threads() {
        let case = Case::new([2, 4, 90, 80, 16, 16], false, NO_BIAS);
        at_every_level(|level| {
            assert!(on_threads(1, || case.run(level)) == on_threads(3, || case.run(level)), "{level}");
        });
    }
}
