//! The backward pass: every tile's weights once more, from the logarithms of the rows' sums.

use super::{AttentionGradients, AttentionResult, AttentionShape, Forward, TILE};
use crate::chain::Work;
use crate::grad::lanes;
use crate::grad::matmul::{Packed, Part, Strided};
use crate::simd::Simd;
use rayon::prelude::*;

pub(super) struct Backward<'a> {
    pub(super) inputs: Forward<'a>,
    pub(super) grad: &'a [f32],
    pub(super) forward: AttentionResult<'a>,
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
        let keys_across = Packed::new(simd, key.transposed(), width, keys);
        let values_across = Packed::new(simd, value.transposed(), value_width, keys);
        let keys_down = Packed::new(simd, key, keys, width);
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
            let queries_packed = Packed::new(simd, query_tile, count, width);
            let grad_packed = Packed::new(simd, Strided::rows(grad, value_width), count, value_width);
            let mut products = [0.0; TILE];
            simd.vectorize(
                #[inline(always)]
                || {
                    let both = grad.chunks_exact(value_width).zip(output.chunks_exact(value_width));
                    for (product, (grad, output)) in products.iter_mut().zip(both) {
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
                            if logsumexp[row] == f32::INFINITY {
                                // It sees nothing. exp would give its smallest value, which is not zero.
                                seen.fill(0.0);
                                slopes.fill(0.0);
                                continue;
                            }
                            let minus = simd.splat(-logsumexp[row]);
                            lanes::update(
                                simd,
                                [],
                                seen,
                                #[inline(always)]
                                |[], score| simd.exp(simd.add(score, minus)),
                            );
                            let minus = simd.splat(-products[row - first]);
                            lanes::update(
                                simd,
                                [&*seen],
                                slopes,
                                #[inline(always)]
                                |[weight], slope| simd.mul(weight, simd.add(slope, minus)),
                            );
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
