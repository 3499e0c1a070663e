//! Depthwise convolutions: each block of channels on its own, a band of rows at a time.

#![expect(
    clippy::needless_range_loop,
    reason = "tiles are indexed in two dimensions; loops over constants unroll into registers"
)]

use super::memory::Pooled;
use super::moments::{Parts, moments};
use super::operand::{Arriving, Departing, Operand};
use crate::activation::Finish;
use crate::buffer::{Buffer, Shared};
use crate::depthwise::Depthwise;
use crate::layout::Blocked;
use crate::params::ConvShape;
use crate::simd::Simd;
use rayon::prelude::*;
use std::ops::Range;

/// What a band's rows may take of the second-level cache.
const BAND_BYTES: usize = 96 << 10;

/// A depthwise convolution.
#[derive(Debug)]
pub(crate) struct Filter {
    conv: ConvShape,
    batch: usize,
    input: Blocked,
    output: Blocked,
    zeros: Buffer,
}

/// A band's rows of the gradient that arrives, spread out as the convolution that carries it back reads them: between the rows and
/// columns of the result lie the zeros of the stride, around them those of the padding.
struct Spread {
    rows: Pooled,
    /// Values of a row.
    row: usize,
    /// Which rows are not all zero.
    live: Vec<bool>,
}

impl Filter {
    pub(crate) fn new(conv: ConvShape, batch: usize, input: Blocked, output: Blocked) -> Self {
        Self { conv, batch, input, output, zeros: Buffer::zeroed(input.lanes) }
    }

    fn taps(&self) -> usize {
        self.conv.kernel[0] * self.conv.kernel[1]
    }

    /// `[planes, kernel height, kernel width, LANES]`; reversed on both axes for the way back.
    fn pack(&self, weight: &[f32], reversed: bool) -> Buffer {
        let (lanes, taps) = (self.input.lanes, self.taps());
        let mut packed = Buffer::zeroed(self.input.planes() * taps * lanes);
        for (channel, weight) in weight.chunks_exact(taps).enumerate() {
            for (tap, &weight) in weight.iter().enumerate() {
                let tap = if reversed { taps - 1 - tap } else { tap };
                packed[(channel / lanes * taps + tap) * lanes + channel % lanes] = weight;
            }
        }
        packed
    }

    /// Bands of `rows` rows for which a row takes `row` values.
    fn bands(rows: usize, row: usize) -> impl ExactSizeIterator<Item = Range<usize>> + Clone {
        let most = (BAND_BYTES / size_of::<f32>() / row).clamp(1, rows);
        let count = rows.div_ceil(most);
        (0..count).map(move |band| rows * band / count..rows * (band + 1) / count)
    }

    fn forward_bands(&self) -> impl ExactSizeIterator<Item = Range<usize>> + Clone {
        let row = (self.padded_row() * self.conv.stride[0]) + self.output.row();
        Self::bands(self.output.height, row)
    }

    fn padded_row(&self) -> usize {
        (self.input.width + self.conv.padding[1].iter().sum::<usize>()) * self.input.lanes
    }

    fn backward_bands(&self) -> impl ExactSizeIterator<Item = Range<usize>> + Clone {
        Self::bands(self.input.height, 3 * self.spread_row())
    }

    fn spread_row(&self) -> usize {
        (self.input.width + self.conv.kernel[1] - 1) * self.input.lanes
    }

    /// The raw result for the whole batch, and its moments.
    pub(crate) fn forward<S: Simd>(&self, simd: S, input: Operand<'_>, weight: &[f32]) -> (Pooled, Parts) {
        let lanes = S::LANES;
        let weight = self.pack(weight, false);
        let bands = self.forward_bands();
        let longest = bands.clone().map(|band| band.len()).max().unwrap_or(1);
        let rows = (longest - 1) * self.conv.stride[0] + self.conv.kernel[0];
        let counts = (0..self.batch).flat_map(|_| bands.clone()).map(|band| band.len() * self.output.width);
        let mut parts = Parts::new(counts.collect(), self.output.planes() * lanes);
        let mut y = Pooled::take(self.batch * self.output.len());
        let (shared, figures) = (Shared::new(&mut y), parts.shared());
        (0..self.batch * self.output.planes()).into_par_iter().for_each_init(
            || Pooled::take(rows * self.padded_row()),
            |padded, unit| {
                let (image, plane) = (unit / self.output.planes(), unit % self.output.planes());
                for (index, band) in bands.clone().enumerate() {
                    self.pad(simd, &input, image, plane, &band, padded);
                    let job = Depthwise {
                        input: padded,
                        row_length: self.padded_row(),
                        weight: &weight[plane * self.taps() * lanes..],
                        bias: &self.zeros,
                        kernel: self.conv.kernel,
                        stride: self.conv.stride,
                        finish: Finish::NOTHING,
                        size: [band.len(), self.output.width],
                    };
                    let first = image * self.output.len()
                        + plane * self.output.plane()
                        + band.start * self.output.row();
                    // SAFETY: units are disjoint, and so are the bands of one.
                    unsafe {
                        let result = shared.write(first, band.len() * self.output.row());
                        job.run(simd, result);
                        simd.vectorize(
                            #[inline(always)]
                            || {
                                let (mean, squares) = moments(simd, result);
                                figures.put(simd, image * bands.len() + index, plane, mean, squares);
                            },
                        );
                    }
                }
            },
        );
        (y, parts)
    }

    /// The input's rows under a band of the result, with the zeros of the padding.
    fn pad<S: Simd>(
        &self,
        simd: S,
        input: &Operand<'_>,
        image: usize,
        plane: usize,
        band: &Range<usize>,
        padded: &mut [f32],
    ) {
        let [left, right] = self.conv.padding[1].map(|columns| columns * S::LANES);
        let rows = (band.len() - 1) * self.conv.stride[0] + self.conv.kernel[0];
        for (offset, values) in padded.chunks_exact_mut(self.padded_row()).take(rows).enumerate() {
            // Underflow wraps to a number that lies outside of every image.
            let row = (band.start * self.conv.stride[0] + offset).wrapping_sub(self.conv.padding[0][0]);
            if row < self.input.height {
                let end = values.len() - right;
                values[..left].fill(0.0);
                values[end..].fill(0.0);
                let pixels = row * self.input.width..(row + 1) * self.input.width;
                input.read(simd, image, plane, &pixels, &mut values[left..end]);
            } else {
                values.fill(0.0);
            }
        }
    }

    /// Pixels behind each tile of the sums that [`backward`](Self::backward) makes over the input's gradient.
    pub(crate) fn backward_counts(&self) -> Vec<usize> {
        let bands = (0..self.batch).flat_map(|_| self.backward_bands());
        bands.map(|band| band.len() * self.input.width).collect()
    }

    /// The weight's gradient; and the input's, where it is asked for.
    pub(crate) fn backward<S: Simd>(
        &self,
        simd: S,
        input: Operand<'_>,
        arriving: Arriving<'_>,
        weight: &[f32],
        departing: Option<Departing<'_>>,
    ) -> Vec<f32> {
        let (lanes, taps, planes) = (S::LANES, self.taps(), self.input.planes());
        let weight_len = weight.len();
        let weight = self.pack(weight, true);
        let bands = self.backward_bands();
        let longest = bands.clone().map(|band| band.len()).max().unwrap_or(1);
        // A part for every image, summed in their order below.
        let mut partials = Pooled::zeroed(self.batch * planes * taps * lanes);
        partials.par_chunks_exact_mut(taps * lanes).enumerate().for_each_init(
            || {
                let rows = longest + self.conv.kernel[0] - 1;
                let spread = Spread {
                    rows: Pooled::take(rows * self.spread_row()),
                    row: self.spread_row(),
                    live: vec![false; rows],
                };
                (spread, Pooled::take(longest * self.input.row()), Pooled::take(self.output.row()))
            },
            |(spread, seen, line), (unit, sums)| {
                let (image, plane) = (unit / planes, unit % planes);
                for (index, band) in bands.clone().enumerate() {
                    let pixels = band.start * self.input.width..band.end * self.input.width;
                    let seen = &mut seen[..pixels.len() * lanes];
                    input.read(simd, image, plane, &pixels, seen);
                    self.spread(simd, &arriving, image, plane, &band, spread, line);
                    correlate(simd, seen, self.input.row(), spread, self.conv.kernel, sums);
                    let Some(departing) = &departing else { continue };
                    let job = Depthwise {
                        input: &spread.rows,
                        row_length: spread.row,
                        weight: &weight[plane * taps * lanes..],
                        bias: &self.zeros,
                        kernel: self.conv.kernel,
                        stride: [1, 1],
                        finish: Finish::NOTHING,
                        size: [band.len(), self.input.width],
                    };
                    // SAFETY: units are disjoint, and so are the bands of one.
                    unsafe {
                        let at = departing.at(image, pixels.start);
                        job.run(simd, at.write(plane * self.input.plane(), pixels.len() * lanes));
                        departing.finish(simd, image * bands.len() + index, image, plane, &pixels);
                    }
                }
            },
        );
        let mut gradient = vec![0.0; weight_len];
        for image in partials.chunks_exact(planes * taps * lanes) {
            for (index, gradient) in gradient.iter_mut().enumerate() {
                let (channel, tap) = (index / taps, index % taps);
                // The sums are of the reversed kernel.
                *gradient += image[(channel / lanes * taps + taps - 1 - tap) * lanes + channel % lanes];
            }
        }
        gradient
    }

    /// Reads the gradient under a band of input rows.
    #[expect(clippy::too_many_arguments, reason = "an operand, a place in it, and memory")]
    fn spread<S: Simd>(
        &self,
        simd: S,
        arriving: &Arriving<'_>,
        image: usize,
        plane: usize,
        band: &Range<usize>,
        spread: &mut Spread,
        line: &mut [f32],
    ) {
        let lanes = S::LANES;
        let [stride_y, stride_x] = self.conv.stride;
        let [reach_y, reach_x] = self.conv.kernel.map(|side| side - 1);
        let [above, left] = self.conv.padding.map(|[before, _]| before);
        let rows = band.len() + reach_y;
        for (offset, values) in spread.rows.chunks_exact_mut(spread.row).take(rows).enumerate() {
            // The row of the result, times the stride. Underflow wraps to a number behind every image.
            let row = (band.start + offset + above).wrapping_sub(reach_y);
            let live = row.is_multiple_of(stride_y) && row / stride_y < self.output.height;
            spread.live[offset] = live;
            values.fill(0.0);
            if !live {
                continue;
            }
            let row = row / stride_y;
            let pixels = row * self.output.width..(row + 1) * self.output.width;
            arriving.read(simd, image, plane, &pixels, line);
            // Column `x` of the result stands at `x * stride + reach - left`.
            for (x, value) in line.chunks_exact(lanes).enumerate() {
                let column = (x * stride_x + reach_x).wrapping_sub(left);
                if let Some(to) = values.chunks_exact_mut(lanes).nth(column) {
                    to.copy_from_slice(value);
                }
            }
        }
    }
}

/// Adds to `sums`, `[kernel height, kernel width, LANES]`, the products of the input and the spread gradient at each offset.
fn correlate<S: Simd>(
    simd: S,
    seen: &[f32],
    row: usize,
    spread: &Spread,
    kernel: [usize; 2],
    sums: &mut [f32],
) {
    let rows = seen.len() / row;
    assert!(seen.len() == rows * row && row.is_multiple_of(S::LANES));
    assert!(spread.row >= row + (kernel[1] - 1) * S::LANES);
    assert!(spread.rows.len() >= (rows + kernel[0] - 1) * spread.row);
    assert!(spread.live.len() >= rows + kernel[0] - 1);
    assert_eq!(sums.len(), kernel[0] * kernel[1] * S::LANES);
    // SAFETY: the asserts cover the last address of each operand.
    unsafe {
        match kernel[1] {
            3 => correlate_rows::<S, 3>(simd, seen, row, spread, kernel, sums),
            5 => correlate_rows::<S, 5>(simd, seen, row, spread, kernel, sums),
            _ => correlate_any(simd, seen, row, spread, kernel, sums),
        }
    }
}

/// # Safety
/// The operands are as long as [`correlate`] asserts, and `W` is the kernel's width.
#[inline(never)]
unsafe fn correlate_rows<S: Simd, const W: usize>(
    simd: S,
    seen: &[f32],
    row: usize,
    spread: &Spread,
    kernel: [usize; 2],
    sums: &mut [f32],
) {
    /// Neighbouring pixels that share the loads of their windows.
    const TILE: usize = 4;
    simd.vectorize(
        #[inline(always)]
        || {
            let lanes = S::LANES;
            let (rows, columns) = (seen.len() / row, row / lanes);
            for y in 0..kernel[0] {
                // Two sets of sums, so that an addition need not wait for the one before.
                let mut found = [[simd.splat(0.0); W]; 2];
                for line in 0..rows {
                    if !spread.live[line + y] {
                        continue;
                    }
                    // SAFETY: line and columns lie within the operands, whose lengths the caller has checked.
                    unsafe {
                        let seen = seen.as_ptr().add(line * row);
                        let window = spread.rows.as_ptr().add((line + y) * spread.row);
                        let mut column = 0;
                        while column + TILE <= columns {
                            let mut pixels = [simd.splat(0.0); TILE];
                            for m in 0..TILE {
                                pixels[m] = simd.load(seen.add((column + m) * lanes));
                            }
                            for offset in 0..TILE + W - 1 {
                                let value = simd.load(window.add((column + offset) * lanes));
                                for m in 0..TILE {
                                    if offset >= m && offset - m < W {
                                        let x = offset - m;
                                        found[m % 2][x] = simd.mul_add(pixels[m], value, found[m % 2][x]);
                                    }
                                }
                            }
                            column += TILE;
                        }
                        while column < columns {
                            let pixel = simd.load(seen.add(column * lanes));
                            for x in 0..W {
                                let value = simd.load(window.add((column + x) * lanes));
                                found[0][x] = simd.mul_add(pixel, value, found[0][x]);
                            }
                            column += 1;
                        }
                    }
                }
                for x in 0..W {
                    // SAFETY: the sums hold a vector for every tap.
                    unsafe {
                        let at = sums.as_mut_ptr().add((y * W + x) * lanes);
                        simd.store(at, simd.add(simd.load(at), simd.add(found[0][x], found[1][x])));
                    }
                }
            }
        },
    );
}

/// # Safety
/// The operands are as long as [`correlate`] asserts.
#[inline(never)]
unsafe fn correlate_any<S: Simd>(
    simd: S,
    seen: &[f32],
    row: usize,
    spread: &Spread,
    kernel: [usize; 2],
    sums: &mut [f32],
) {
    simd.vectorize(
        #[inline(always)]
        || {
            let lanes = S::LANES;
            for tap in 0..kernel[0] * kernel[1] {
                let (y, x) = (tap / kernel[1], tap % kernel[1]);
                let mut found = simd.splat(0.0);
                for line in 0..seen.len() / row {
                    for column in 0..row / lanes {
                        // SAFETY: line and column lie within the operands, whose lengths the caller has checked.
                        unsafe {
                            let pixel = simd.load(seen.as_ptr().add(line * row + column * lanes));
                            let window = (line + y) * spread.row + (column + x) * lanes;
                            found = simd.mul_add(pixel, simd.load(spread.rows.as_ptr().add(window)), found);
                        }
                    }
                }
                // SAFETY: the sums hold a vector for every tap.
                unsafe {
                    let at = sums.as_mut_ptr().add(tap * lanes);
                    simd.store(at, simd.add(simd.load(at), found));
                }
            }
        },
    );
}
