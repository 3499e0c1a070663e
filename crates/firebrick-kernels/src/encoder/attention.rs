//! Scaled dot-product attention (Vaswani et al. 2017), a tile of queries by a tile of keys at a time.
//!
//! The scores of a tile are one matrix product away from the operands, and one from the result. The softmax in between is kept as
//! a running maximum and sum of each query (Milakov and Gimelshein 2018), so that memory grows with the length of a sequence, not
//! with its square.
//!
//! Queries arrive multiplied by `log2(e) / sqrt(head width)`, which the plan folds into their weights: the softmax is then made
//! of powers of two.

use super::linear::row_starts;
use super::packed_head::{HeadShape, PackedHead};
use super::params::EncoderConfig;
use super::softmax::{LOWEST, Seen};
use crate::activation::Finish;
use crate::buffer::Shared;
use crate::product::{Addressing, Pixels, Product, Runs, Start, Upcoming};
use crate::simd::Simd;
use std::ops::Range;

/// Queries of a tile: three register tiles of twelve rows.
pub(crate) const QUERY_TILE: usize = 36;
/// Keys of a tile; a multiple of every vector's lanes. The tile's scores stay in a core's first-level cache.
pub(crate) const KEY_TILE: usize = 128;

/// For products without a bias.
static NO_BIAS: [f32; 48] = [0.0; 48];

/// Attention as the layers' shape determines it.
#[derive(Debug)]
pub(crate) struct Attention {
    width: usize,
    head_width: usize,
    causal: bool,
    lanes: usize,
    query_runs: Runs,
    weight_runs: Runs,
    query_rows: Pixels,
    score_rows: Pixels,
    output_rows: Pixels,
}

/// A sequence as the heads see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sequence<'a> {
    /// Queries, keys and values of a token, one after another; token after token.
    pub(crate) rows: &'a [f32],
    /// Values from token to token.
    pub(crate) stride: usize,
    pub(crate) tokens: usize,
    /// One past the last key that may be looked at.
    pub(crate) length: usize,
    /// 1 for the keys that may be looked at, 0 for the others; all may where it is missing.
    pub(crate) keep: Option<&'a [f32]>,
}

/// Where the heads' results go: `[tokens, stride]`, the heads of a token side by side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) rows: Shared<'a>,
    pub(crate) stride: usize,
}

impl Attention {
    /// Attention over rows of queries, keys and values that are `stride` values apart.
    pub(crate) fn new(config: &EncoderConfig, stride: usize, lanes: usize) -> Self {
        let head_width = config.head_width();
        // Whole vectors are the faster kernel's; others must not read into the next head.
        let query_runs = if head_width.is_multiple_of(lanes) {
            Runs::planes(head_width / lanes, lanes, lanes)
        } else {
            Runs::new(vec![0], head_width)
        };
        Self {
            width: config.width,
            head_width,
            causal: config.causal,
            lanes,
            query_runs,
            weight_runs: Runs::planes(KEY_TILE / lanes, lanes, lanes),
            query_rows: row_starts(QUERY_TILE, stride),
            score_rows: row_starts(QUERY_TILE, KEY_TILE),
            output_rows: row_starts(QUERY_TILE, head_width.next_multiple_of(lanes)),
        }
    }

    /// Tiles of queries of a sequence, which are independent.
    pub(crate) fn tiles(tokens: usize) -> usize {
        tokens.div_ceil(QUERY_TILE)
    }

    /// Values of scratch memory that [`run`](Self::run) needs for sequences of this length.
    pub(crate) fn scratch_len(&self, tokens: usize) -> usize {
        self.scratch_lens(tokens).iter().sum()
    }

    /// Packed keys, packed values, a tile of scores, a tile of results, two values for each of its rows.
    fn scratch_lens(&self, tokens: usize) -> [usize; 6] {
        let shape = self.shape(0);
        let [keys, values] = shape.packed_len(tokens);
        let lengths =
            [keys, values, QUERY_TILE * KEY_TILE, QUERY_TILE * shape.filled(), QUERY_TILE, QUERY_TILE];
        // Every part begins on a cache line.
        lengths.map(|length| length.next_multiple_of(16))
    }

    fn shape(&self, head: usize) -> HeadShape {
        let at = head * self.head_width;
        HeadShape {
            width: self.head_width,
            keys_at: self.width + at,
            values_at: 2 * self.width + at,
            lanes: self.lanes,
        }
    }

    /// Computes one head for some tiles of queries.
    ///
    /// # Safety
    /// Nobody else uses this head's part of these rows of `context`.
    pub(crate) unsafe fn run<S: Simd>(
        &self,
        simd: S,
        sequence: Sequence<'_>,
        head: usize,
        tiles: Range<usize>,
        context: Context<'_>,
        scratch: &mut [f32],
    ) {
        let shape = self.shape(head);
        let [key_len, value_len, score_len, output_len, row_len, _] = self.scratch_lens(sequence.tokens);
        let (keys, rest) = scratch.split_at_mut(key_len);
        let (values, rest) = rest.split_at_mut(value_len);
        let (scores, rest) = rest.split_at_mut(score_len);
        let (output, rest) = rest.split_at_mut(output_len);
        let (largest, sum) = rest.split_at_mut(row_len);

        let queries = tiles.start * QUERY_TILE..(tiles.end * QUERY_TILE).min(sequence.tokens);
        let packed = PackedHead::new(shape, sequence, self.visible(sequence, queries.end), keys, values);
        for start in queries.clone().step_by(QUERY_TILE) {
            let rows = QUERY_TILE.min(queries.end - start);
            let keys = self.visible(sequence, start + rows);
            let output = &mut output[..rows * shape.filled()];
            if keys == 0 {
                output.fill(0.0);
            }
            let (largest, sum) = (&mut largest[..rows], &mut sum[..rows]);
            largest.fill(LOWEST);
            sum.fill(0.0);
            for tile in 0..keys.div_ceil(KEY_TILE) {
                let first = tile * KEY_TILE;
                let vectors = KEY_TILE.min(keys - first).div_ceil(self.lanes);
                let left = &sequence.rows[start * sequence.stride + head * self.head_width..];
                self.scores(simd, left, rows, &packed, tile, vectors, scores);

                let seen = Seen { largest: &mut *largest, sum: &mut *sum, rows, output: &mut *output };
                let limit = |row: usize| self.visible(sequence, start + row + 1).saturating_sub(first);
                let keep = sequence.keep.map(|keep| &keep[first..sequence.length]);
                seen.add(simd, scores, vectors, limit, keep, tile > 0);

                let keys = first..first + vectors * self.lanes;
                let start = if tile > 0 { Start::Partial } else { Start::Bias(&NO_BIAS) };
                self.weigh(simd, scores, rows, vectors, &packed, keys, start, output);
            }
            for (row, (values, &sum)) in output.chunks_exact(shape.filled()).zip(&*sum).enumerate() {
                let scale = if sum == 0.0 { 0.0 } else { 1.0 / sum };
                let first = (start + row) * context.stride + head * self.head_width;
                // SAFETY: handed on to the caller.
                let to = unsafe { context.rows.write(first, self.head_width) };
                for (to, value) in to.iter_mut().zip(values) {
                    *to = value * scale;
                }
            }
        }
    }

    /// The number of keys that the queries up to `end` may look at.
    #[inline(always)]
    fn visible(&self, sequence: Sequence<'_>, end: usize) -> usize {
        if self.causal { sequence.length.min(end) } else { sequence.length }
    }

    /// The scores of `rows` queries, which begin at `left`, and at least the first `vectors` vectors of keys of a tile.
    #[expect(clippy::too_many_arguments, reason = "both operands of a product, their sizes and its result")]
    fn scores<S: Simd>(
        &self,
        simd: S,
        left: &[f32],
        rows: usize,
        packed: &PackedHead<'_>,
        tile: usize,
        vectors: usize,
        scores: &mut [f32],
    ) {
        let scores = Shared::new(scores);
        for (first, width, right) in packed.key_panels(tile).take_while(|&(first, ..)| first < vectors) {
            let product = Product {
                left,
                runs: &self.query_runs,
                first_run: 0,
                run_count: self.query_runs.count(),
                right,
                vectors: width,
                start: Start::Bias(&NO_BIAS),
                residual: None,
                finish: Finish::NOTHING,
                result: scores.from(first * S::LANES),
                result_plane: S::LANES,
                next_result: 0,
                addressing: Addressing::Tables(&self.query_rows, &self.score_rows),
                pixels: rows,
                upcoming: Upcoming::NOTHING,
            };
            // SAFETY: `scores` is borrowed mutably, and the panels follow one another.
            unsafe { product.run(simd) };
        }
    }

    /// Sums the weighted values of a tile's keys, on top of what `start` says.
    #[expect(clippy::too_many_arguments, reason = "both operands of a product, their sizes and its result")]
    fn weigh<S: Simd>(
        &self,
        simd: S,
        weights: &[f32],
        rows: usize,
        vectors: usize,
        packed: &PackedHead<'_>,
        keys: Range<usize>,
        start: Start<'_>,
        output: &mut [f32],
    ) {
        let output = Shared::new(output);
        for (first, width, right) in packed.value_panels(keys) {
            let product = Product {
                left: weights,
                runs: &self.weight_runs,
                first_run: 0,
                run_count: vectors,
                right,
                vectors: width,
                start,
                residual: None,
                finish: Finish::NOTHING,
                result: output.from(first * S::LANES),
                result_plane: S::LANES,
                next_result: 0,
                addressing: Addressing::Tables(&self.score_rows, &self.output_rows),
                pixels: rows,
                upcoming: Upcoming::NOTHING,
            };
            // SAFETY: `output` is borrowed mutably, and the panels follow one another.
            unsafe { product.run(simd) };
        }
    }
}
