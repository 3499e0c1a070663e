//! The backward pass: every tile's weights once more, from the logarithms of the rows' sums.

use super::{AttentionResult, AttentionShape, Forward, Places, QUERIES, Tokens, even, score_row};
use crate::buffer::Shared;
use crate::chain::Work;
use crate::grad::lanes;
use crate::grad::matmul::{Packed, Part, Strided};
use crate::simd::Simd;
use rayon::prelude::*;

pub(super) struct Backward<'a> {
    pub(super) inputs: Forward<'a>,
    pub(super) grad: Tokens<'a>,
    pub(super) forward: AttentionResult<'a>,
    /// Of queries, keys and values.
    pub(super) to: [Places<'a>; 3],
    /// The scores', `[batch, heads, queries, keys]`, zeros before; empty if they are not wanted.
    pub(super) slopes: Shared<'a>,
}

impl Backward<'_> {
    /// The gradients of one head of one sequence. With weights `P`, `dP = grad · valueᵀ` and `D = sum(grad * output)`:
    /// `dV = Pᵀ · grad`, `dS = P * (dP - D)`, `dQ = scale * dS · K`, `dK = scale * dSᵀ · Q`.
    fn head<S: Simd>(&self, simd: S, head: usize) {
        let AttentionShape { queries, keys, width, value_width, scale, .. } = self.inputs.shape;
        let [query, key, value] = self.inputs.matrices(head);
        let keys_across = Packed::new(simd, key.transposed(), width, keys);
        let values_across = Packed::new(simd, value.transposed(), value_width, keys);
        let keys_down = Packed::new(simd, key, keys, width);
        let (sequence, head_of) = self.inputs.place(head);
        let [grad, output] = [self.grad, self.forward.output].map(|tokens| tokens.head(sequence, head_of));
        let logsumexp = &self.forward.logsumexp[head * queries..(head + 1) * queries];

        let row = score_row(&self.inputs.shape);
        let mut weights = vec![0.0; QUERIES * row];
        let mut slopes = vec![0.0; QUERIES * row];
        let mut query_sums = vec![0.0; QUERIES * keys_down.width()];
        let grad_width = value_width.next_multiple_of(keys_down.panel());
        let mut key_sums = vec![0.0; keys * keys_down.width()];
        let mut value_sums = vec![0.0; keys * grad_width];
        for rows in even(queries, QUERIES, 1) {
            let (first, count) = (rows.start, rows.len());
            let grad = grad.from(first, 0);
            let queries_packed = Packed::new(simd, query.from(first, 0), count, width);
            let grad_packed = Packed::new(simd, grad, count, value_width);
            let mut products = [0.0; QUERIES];
            simd.vectorize(
                #[inline(always)]
                || {
                    for (index, product) in products.iter_mut().take(count).enumerate() {
                        let grad = &grad.from(index, 0).values[..value_width];
                        let output = &output.from(first + index, 0).values[..value_width];
                        [*product] = lanes::sums(
                            simd,
                            [grad, output],
                            [0.0; 2],
                            #[inline(always)]
                            |[g, y]| [simd.mul(g, y)],
                        );
                    }
                },
            );
            query_sums.fill(0.0);
            for tile in self.inputs.tiles(head, rows.clone()) {
                let panel = values_across.panel();
                Part {
                    left: grad,
                    rows: count,
                    right: &values_across,
                    depth: 0..value_width,
                    panels: tile.keys.start / panel..tile.keys.end.div_ceil(panel),
                    result_row: row,
                }
                .set(simd, &mut slopes);
                simd.vectorize(
                    #[inline(always)]
                    || {
                        tile.scores(simd, query, &keys_across, &mut weights);
                        let both = weights.chunks_exact_mut(row).zip(slopes.chunks_exact_mut(row));
                        for (query, (weights, slopes)) in rows.clone().zip(both) {
                            let end = tile.keys.len().next_multiple_of(S::LANES);
                            let (weights, slopes) = (&mut weights[..end], &mut slopes[..end]);
                            // It may see nothing, and then has no weights.
                            let hidden = logsumexp[query] == f32::INFINITY;
                            let seen = if hidden { 0 } else { tile.seen(query) };
                            let whole = seen.next_multiple_of(S::LANES);
                            let minus = simd.splat(-logsumexp[query]);
                            lanes::update(
                                simd,
                                [],
                                &mut weights[..whole],
                                #[inline(always)]
                                |[], score| simd.exp(simd.add(score, minus)),
                            );
                            weights[seen..].fill(0.0);
                            slopes[seen..].fill(0.0);
                            let minus = simd.splat(-products[query - first]);
                            lanes::update(
                                simd,
                                [&weights[..whole]],
                                &mut slopes[..whole],
                                #[inline(always)]
                                |[weight], slope| simd.mul(weight, simd.add(slope, minus)),
                            );
                        }
                    },
                );
                if self.slopes.len() > 0 {
                    for (query, slopes) in rows.clone().zip(slopes.chunks_exact(row)) {
                        let at = (head * queries + query) * keys + tile.keys.start;
                        // SAFETY: every head has its rows to itself.
                        unsafe { self.slopes.put(at, &slopes[..tile.keys.len()]) };
                    }
                }
                for (from, right, sums, width) in [
                    (&weights, &grad_packed, &mut value_sums, grad_width),
                    (&slopes, &queries_packed, &mut key_sums, keys_down.width()),
                ] {
                    Part {
                        left: Strided::rows(from, row).transposed(),
                        rows: tile.keys.len(),
                        right,
                        depth: 0..count,
                        panels: 0..right.panels(),
                        result_row: width,
                    }
                    .add(simd, &mut sums[tile.keys.start * width..]);
                }
                Part {
                    left: Strided::rows(&slopes, row),
                    rows: count,
                    right: &keys_down,
                    depth: tile.keys.clone(),
                    panels: 0..keys_down.panels(),
                    result_row: keys_down.width(),
                }
                .add(simd, &mut query_sums);
            }
            let width = keys_down.width();
            self.put(0, head, first, &mut query_sums[..count * width], width, scale);
        }
        self.put(1, head, 0, &mut key_sums, keys_down.width(), scale);
        self.put(2, head, 0, &mut value_sums, grad_width, 1.0);
    }

    /// Puts down the gradients of a head's tokens from `first` on: rows of `filled` values, to be scaled.
    fn put(&self, part: usize, head: usize, first: usize, rows: &mut [f32], filled: usize, scale: f32) {
        let (sequence, head) = self.inputs.place(head);
        for (token, row) in rows.chunks_exact_mut(filled).enumerate() {
            row.iter_mut().for_each(|value| *value *= scale);
            // SAFETY: every head has its rows to itself.
            unsafe { self.to[part].put(sequence, head, first + token, row) };
        }
    }
}

impl Work for Backward<'_> {
    type Output = ();

    fn run<S: Simd>(self, simd: S) {
        (0..self.inputs.heads()).into_par_iter().with_max_len(1).for_each(|head| self.head(simd, head));
    }
}
