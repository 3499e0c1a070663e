//! The softmax of attention, kept while tile after tile of keys arrives.

use super::attention::KEY_TILE;
use super::norm::{lanes_of, leading_ones, sum_of};
use crate::simd::Simd;

/// The score of a masked key, and the largest of no scores: far below every score, and still a number to calculate with.
pub(crate) const LOWEST: f32 = -1e30;

/// The smallest power of two that is not denormal; weights below it become it.
const LEAST_EXPONENT: f32 = -126.0;

/// What a tile of queries has seen so far.
#[derive(Debug)]
pub(crate) struct Seen<'a> {
    /// `[rows]`: the largest score; [`LOWEST`] at first.
    pub(crate) largest: &'a mut [f32],
    /// `[rows]`: the sum of the weights.
    pub(crate) sum: &'a mut [f32],
    pub(crate) rows: usize,
    /// `[rows, features]`: the weighted values, which are scaled down when a larger score than all before turns up.
    pub(crate) output: &'a mut [f32],
}

impl Seen<'_> {
    /// Turns the scores of a tile of keys, `[rows, KEY_TILE]` of which the first `vectors` vectors are filled, into weights: two to
    /// the power of score minus the largest score.
    ///
    /// A row's keys from `limit(row)` on weigh nothing, nor do those for which `keep` holds 0. `again` says that there was a tile
    /// before this.
    pub(crate) fn add<S: Simd>(
        self,
        simd: S,
        scores: &mut [f32],
        vectors: usize,
        limit: impl Fn(usize) -> usize,
        keep: Option<&[f32]>,
        again: bool,
    ) {
        let kept = keep.map(|keep| {
            let mut kept = [0.0; KEY_TILE];
            let count = keep.len().min(KEY_TILE);
            kept[..count].copy_from_slice(&keep[..count]);
            kept
        });
        let kept = kept.as_ref();
        let features = self.output.len() / self.rows;
        let rows = scores.chunks_exact_mut(KEY_TILE).zip(self.output.chunks_exact_mut(features));
        simd.vectorize(
            #[inline(always)]
            || {
                let state = self.largest.iter_mut().zip(self.sum).take(self.rows);
                for (row, ((scores, output), (largest, sum))) in rows.zip(state).enumerate() {
                    let scores = &mut scores[..vectors * S::LANES];
                    let limit = limit(row).min(scores.len());
                    let before = *largest;
                    *largest = match kept {
                        Some(kept) => mask(simd, scores, limit, kept, before),
                        None => mask_behind(simd, scores, limit, before),
                    };
                    let added = raise(simd, scores, limit, kept, *largest);
                    if again {
                        let scale = power_of(simd, before - *largest);
                        *sum *= scale;
                        scale_by(simd, output, scale);
                    }
                    *sum += added;
                }
            },
        );
    }
}

/// Replaces the scores of masked keys; returns the largest of the others and `before`.
#[inline(always)]
fn mask<S: Simd>(simd: S, scores: &mut [f32], limit: usize, kept: &[f32; KEY_TILE], before: f32) -> f32 {
    for (scores, kept) in
        scores[..limit.next_multiple_of(S::LANES)].chunks_exact_mut(S::LANES).zip(kept.chunks_exact(S::LANES))
    {
        // SAFETY: both chunks are one vector long.
        unsafe {
            let absent = simd.add(simd.load(kept.as_ptr()), simd.splat(-1.0));
            let score = simd.mul_add(absent, simd.splat(-LOWEST), simd.load(scores.as_ptr()));
            simd.store(scores.as_mut_ptr(), score);
        }
    }
    mask_behind(simd, scores, limit, before)
}

/// Replaces the scores from `limit` on in the vector that `limit` divides; returns the largest before it and `before`.
#[inline(always)]
fn mask_behind<S: Simd>(simd: S, scores: &mut [f32], limit: usize, before: f32) -> f32 {
    let mut largest = simd.splat(before);
    let (whole, rest) = scores.split_at_mut(limit / S::LANES * S::LANES);
    // SAFETY: the chunks are one vector long, and so is what follows whole vectors before a limit that is none.
    unsafe {
        for scores in whole.chunks_exact(S::LANES) {
            largest = simd.at_least(largest, simd.load(scores.as_ptr()));
        }
        if !limit.is_multiple_of(S::LANES) {
            let absent = simd.add(leading_ones(simd, limit % S::LANES), simd.splat(-1.0));
            let score = simd.mul_add(absent, simd.splat(-LOWEST), simd.load(rest.as_ptr()));
            simd.store(rest.as_mut_ptr(), score);
            largest = simd.at_least(largest, score);
        }
    }
    lanes_of(simd, largest)[..S::LANES].iter().fold(before, |a, &b| a.max(b))
}

/// Turns scores into weights; returns their sum.
#[inline(always)]
fn raise<S: Simd>(
    simd: S,
    scores: &mut [f32],
    limit: usize,
    kept: Option<&[f32; KEY_TILE]>,
    largest: f32,
) -> f32 {
    let (shift, least) = (simd.splat(-largest), simd.splat(LEAST_EXPONENT));
    let mut sum = simd.splat(0.0);
    // SAFETY: the chunks are one vector long.
    unsafe {
        for (index, scores) in scores.chunks_exact_mut(S::LANES).enumerate() {
            let first = index * S::LANES;
            if first >= limit {
                simd.store(scores.as_mut_ptr(), simd.splat(0.0));
                continue;
            }
            let score = simd.add(simd.load(scores.as_ptr()), shift);
            let mut weight = simd.exp2(simd.at_least(least, score));
            if limit - first < S::LANES {
                weight = simd.mul(weight, leading_ones(simd, limit - first));
            }
            if let Some(kept) = kept {
                weight = simd.mul(weight, simd.load(kept[first..first + S::LANES].as_ptr()));
            }
            simd.store(scores.as_mut_ptr(), weight);
            sum = simd.add(sum, weight);
        }
    }
    sum_of(simd, sum)
}

/// Two to the power of `exponent`, which is not positive.
#[inline(always)]
fn power_of<S: Simd>(simd: S, exponent: f32) -> f32 {
    let exponent = simd.at_least(simd.splat(LEAST_EXPONENT), simd.splat(exponent));
    lanes_of(simd, simd.exp2(exponent))[0]
}

#[inline(always)]
fn scale_by<S: Simd>(simd: S, values: &mut [f32], scale: f32) {
    let scale = simd.splat(scale);
    for values in values.chunks_exact_mut(S::LANES) {
        // SAFETY: the chunk is one vector long.
        unsafe { simd.store(values.as_mut_ptr(), simd.mul(simd.load(values.as_ptr()), scale)) };
    }
}
