//! Scaled dot-product attention (Vaswani et al. 2017), forward and backward, in memory that grows with the number of tokens.
//!
//! Scores are computed a tile of queries and a tile of keys at a time and never stored: the softmax goes on from tile to tile
//! (Milakov and Gimelshein 2018), and the backward pass computes the tile again from the logarithm of the row's sum (Dao et al.
//! 2022). A head of one sequence is one thread's work.

mod backward;

use super::lanes;
use super::matmul::{Packed, Part, Strided};
use crate::SimdLevel;
use crate::chain::Work;
use crate::simd::Simd;
use backward::Backward;
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

/// `softmax(query · keyᵀ * scale + bias) · value` for each sequence and head. The result is `[batch, heads, queries, value_width]`;
/// zeros for a query from which every key is [`MASKED`].
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
                    seen,
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
        let keys_packed = Packed::new(simd, key.transposed(), width, keys);
        let values = Packed::new(simd, value, keys, value_width);
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
                                lanes::update(
                                    simd,
                                    [],
                                    sums,
                                    #[inline(always)]
                                    |[], sum| simd.mul(sum, shrink),
                                );
                            }
                            let minus = simd.splat(-*largest);
                            lanes::update(
                                simd,
                                [],
                                seen,
                                #[inline(always)]
                                |[], score| simd.exp(simd.add(score, minus)),
                            );
                            let [sum] = lanes::sums(
                                simd,
                                [seen],
                                [0.0],
                                #[inline(always)]
                                |weight| weight,
                            );
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
                let output = &mut output[row * value_width..(row + 1) * value_width];
                if largest[at] < MASKED / 2.0 {
                    // Nothing is seen: zeros, and no weight in the backward pass.
                    logsumexp[row] = f32::INFINITY;
                    continue;
                }
                logsumexp[row] = largest[at] + total[at].ln();
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

#[cfg(test)]
mod tests;
