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

/// How one phase of an input row is reached by the rows and columns of the result.
///
/// With a stride of `s`, the pixels `phase, phase + s, ...` of a row are reached through the same columns of the kernel: every
/// `s`-th from `first` on. The result's columns that these taps lead to lie side by side, the first tap's last.
#[derive(Debug, Clone, Copy)]
struct Phase {
    /// Pixels of an input row.
    pixels: usize,
    /// The kernel's first column, and how many there are.
    first: usize,
    taps: usize,
    /// The result's column that the last tap of the first pixel leads to, counted from the padded row's beginning.
    column: usize,
}

impl Filter {
    pub(crate) fn new(conv: ConvShape, batch: usize, input: Blocked, output: Blocked) -> Self {
        Self { conv, batch, input, output, zeros: Buffer::zeroed(input.lanes) }
    }

    fn taps(&self) -> usize {
        self.conv.kernel[0] * self.conv.kernel[1]
    }

    /// `[planes, kernel height, kernel width, LANES]`.
    fn pack(&self, weight: &[f32]) -> Buffer {
        let (lanes, taps) = (self.input.lanes, self.taps());
        let mut packed = Buffer::zeroed(self.input.planes() * taps * lanes);
        for (channel, weight) in weight.chunks_exact(taps).enumerate() {
            for (tap, &weight) in weight.iter().enumerate() {
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
        Self::bands(self.input.height, 2 * self.input.row() + self.arriving_row())
    }

    /// Zeros left and right of a row of the result, so that every tap of every pixel leads somewhere.
    fn margins(&self) -> [usize; 2] {
        let [left, stride] = [self.conv.padding[1][0], self.conv.stride[1]];
        let before = (self.conv.kernel[1] - 1).saturating_sub(left).div_ceil(stride);
        let furthest = (self.input.width - 1 + left) / stride;
        [before, (furthest + 1).saturating_sub(self.output.width)]
    }

    /// Values of a row of the result with its margins.
    fn arriving_row(&self) -> usize {
        (self.output.width + self.margins().iter().sum::<usize>()) * self.input.lanes
    }

    /// Rows of the result that a band of input rows is reached by, some of them possibly outside of it.
    fn arriving_rows(&self, band: &Range<usize>) -> Range<isize> {
        let [above, stride] = [self.conv.padding[0][0], self.conv.stride[0]].map(|value| value as isize);
        let first = band.start as isize + above - (self.conv.kernel[0] as isize - 1);
        (first + stride - 1).div_euclid(stride)..(band.end as isize - 1 + above) / stride + 1
    }

    fn phases(&self) -> Vec<Phase> {
        let [left, stride] = [self.conv.padding[1][0], self.conv.stride[1]];
        let before = self.margins()[0] as isize;
        (0..stride.min(self.input.width))
            .map(|phase| {
                let first = (phase + left) % stride;
                let taps = self.conv.kernel[1].saturating_sub(first).div_ceil(stride);
                let column = (phase + left - first) / stride;
                Phase {
                    pixels: (self.input.width - phase).div_ceil(stride),
                    first,
                    taps,
                    column: if taps == 0 {
                        0
                    } else {
                        (column as isize + before - (taps as isize - 1)) as usize
                    },
                }
            })
            .collect()
    }

    /// The raw result for the whole batch, and its moments.
    pub(crate) fn forward<S: Simd>(&self, simd: S, input: Operand<'_>, weight: &[f32]) -> (Pooled, Parts) {
        let lanes = S::LANES;
        let weight = self.pack(weight);
        let bands = self.forward_bands();
        let longest = bands.clone().map(|band| band.len()).max().unwrap_or(1);
        let rows = (longest - 1) * self.conv.stride[0] + self.conv.kernel[0];
        let counts = (0..self.batch).flat_map(|_| bands.clone()).map(|band| band.len() * self.output.width);
        let mut parts = Parts::new(counts.collect(), self.output.planes() * lanes);
        let mut y = Pooled::take(self.batch * self.output.len());
        let (shared, figures) = (Shared::new(&mut y), parts.shared());
        (0..self.batch * self.output.planes()).into_par_iter().with_max_len(8).for_each_init(
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
        let packed = self.pack(weight);
        let bands = self.backward_bands();
        let longest = bands.clone().map(|band| band.len()).max().unwrap_or(1);
        let most_rows = bands.clone().map(|band| self.arriving_rows(&band).len()).max().unwrap_or(0);
        let phases = self.phases();
        // A part for every image, summed in their order below.
        let mut partials = Pooled::take(self.batch * planes * taps * lanes);
        partials.par_chunks_exact_mut(taps * lanes).enumerate().for_each_init(
            || Scratch {
                arriving: Pooled::take(most_rows * self.arriving_row()),
                seen: Pooled::take(longest * self.input.row()),
                phase: [Pooled::take(self.input.row()), Pooled::take(self.input.row())],
                gradient: Pooled::take(if departing.is_some() { 0 } else { longest * self.input.row() }),
            },
            |scratch, (unit, sums)| {
                let (image, plane) = (unit / planes, unit % planes);
                let Scratch { arriving: rows, seen, phase, gradient: unasked } = scratch;
                sums.fill(0.0);
                for (index, band) in bands.clone().enumerate() {
                    let pixels = band.start * self.input.width..band.end * self.input.width;
                    let len = pixels.len() * lanes;
                    input.read(simd, image, plane, &pixels, &mut seen[..len]);
                    self.gather(simd, &arriving, image, plane, &band, rows);
                    let gradient = match &departing {
                        // SAFETY: units are disjoint, and so are the bands of one.
                        Some(departing) => unsafe {
                            departing.at(image, pixels.start).write(plane * self.input.plane(), len)
                        },
                        None => &mut unasked[..len],
                    };
                    let weight = &packed[plane * taps * lanes..][..taps * lanes];
                    self.band(simd, &band, &phases, weight, rows, &seen[..len], phase, gradient, sums);
                    if let Some(departing) = &departing {
                        // SAFETY: as above.
                        unsafe {
                            departing.finish(simd, image * bands.len() + index, image, plane, &pixels);
                        }
                    }
                }
            },
        );
        let mut gradient = vec![0.0; weight.len()];
        for image in partials.chunks_exact(planes * taps * lanes) {
            for (index, gradient) in gradient.iter_mut().enumerate() {
                let (channel, tap) = (index / taps, index % taps);
                *gradient += image[(channel / lanes * taps + tap) * lanes + channel % lanes];
            }
        }
        gradient
    }

    /// Reads the rows of the gradient that reach a band of input rows, with zeros around them.
    fn gather<S: Simd>(
        &self,
        simd: S,
        arriving: &Arriving<'_>,
        image: usize,
        plane: usize,
        band: &Range<usize>,
        rows: &mut [f32],
    ) {
        let [before, _] = self.margins().map(|columns| columns * S::LANES);
        let width = self.output.width;
        for (row, values) in self.arriving_rows(band).zip(rows.chunks_exact_mut(self.arriving_row())) {
            match usize::try_from(row) {
                Ok(row) if row < self.output.height => {
                    let end = before + width * S::LANES;
                    values[..before].fill(0.0);
                    values[end..].fill(0.0);
                    arriving.read(
                        simd,
                        image,
                        plane,
                        &(row * width..(row + 1) * width),
                        &mut values[before..end],
                    );
                }
                _ => values.fill(0.0),
            }
        }
    }

    /// The input's gradient at a band of rows, and its part of the weight's.
    #[expect(clippy::too_many_arguments, reason = "two operands, two results, a place in them, and memory")]
    fn band<S: Simd>(
        &self,
        simd: S,
        band: &Range<usize>,
        phases: &[Phase],
        weight: &[f32],
        arriving: &[f32],
        seen: &[f32],
        scratch: &mut [Pooled; 2],
        gradient: &mut [f32],
        sums: &mut [f32],
    ) {
        let lanes = S::LANES;
        let [stride, columns] = self.conv.stride;
        let first_row = self.arriving_rows(band).start;
        for (offset, row) in band.clone().enumerate() {
            let at = offset * self.input.row()..(offset + 1) * self.input.row();
            let (seen, gradient) = (&seen[at.clone()], &mut gradient[at]);
            let above = row + self.conv.padding[0][0];
            // The kernel's rows that lead to rows of the result.
            let kernel_rows = || {
                (above % stride..self.conv.kernel[0]).step_by(stride).map(|tap| {
                    let row = (above as isize - tap as isize) / stride as isize - first_row;
                    (tap, row as usize * self.arriving_row())
                })
            };
            let [phase_seen, phase_gradient] = scratch;
            for (index, phase) in phases.iter().enumerate() {
                let len = phase.pixels * lanes;
                let (seen, result): (&[f32], &mut [f32]) = if columns == 1 {
                    (seen, &mut *gradient)
                } else {
                    for (to, from) in phase_seen
                        .chunks_exact_mut(lanes)
                        .zip(seen.chunks_exact(lanes).skip(index).step_by(columns))
                    {
                        to.copy_from_slice(from);
                    }
                    (&phase_seen[..len], &mut phase_gradient[..len])
                };
                result.fill(0.0);
                for (tap, from) in kernel_rows() {
                    let line = Line {
                        arriving: &arriving[from..][..self.arriving_row()],
                        column: phase.column,
                        weight: &weight[tap * self.conv.kernel[1] * lanes..],
                        first: phase.first,
                        step: columns,
                        seen,
                    };
                    line.run(simd, phase.taps, result, &mut sums[tap * self.conv.kernel[1] * lanes..]);
                }
                if columns > 1 {
                    for (from, to) in phase_gradient
                        .chunks_exact(lanes)
                        .zip(gradient.chunks_exact_mut(lanes).skip(index).step_by(columns))
                    {
                        to.copy_from_slice(from);
                    }
                }
            }
        }
    }
}

/// Memory of one thread on the way back.
struct Scratch {
    /// Rows of the gradient at the result, with zeros around them.
    arriving: Pooled,
    /// Rows of the input.
    seen: Pooled,
    /// One phase of a row of the input, and of its gradient.
    phase: [Pooled; 2],
    /// The input's gradient, where nobody asks for it.
    gradient: Pooled,
}

/// One row of the kernel over one row of pixels: both gradients that come of it.
struct Line<'a> {
    /// A row of the gradient at the result with its margins.
    arriving: &'a [f32],
    /// The place in it of the first pixel's last tap.
    column: usize,
    /// `[kernel width, LANES]`: this row of the kernel.
    weight: &'a [f32],
    /// The first tap's column in the kernel, and the distance to the next.
    first: usize,
    step: usize,
    /// The input's pixels.
    seen: &'a [f32],
}

impl Line<'_> {
    /// Adds to the input's gradient, `[pixels, LANES]`, and to the weight's, `[kernel width, LANES]`.
    ///
    /// # Panics
    /// If an operand is too short.
    fn run<S: Simd>(&self, simd: S, taps: usize, gradient: &mut [f32], sums: &mut [f32]) {
        if taps == 0 {
            return;
        }
        let pixels = self.seen.len() / S::LANES;
        assert!(gradient.len() >= pixels * S::LANES);
        assert!((self.column + pixels + taps - 1) * S::LANES <= self.arriving.len());
        let last = (self.first + (taps - 1) * self.step + 1) * S::LANES;
        assert!(last <= self.weight.len() && last <= sums.len());
        // More taps are taken a few at a time, the last ones of the kernel first in `arriving`.
        let mut tap = 0;
        while tap < taps {
            let count = match taps - tap {
                left @ 1..=3 => left,
                4 => 2,
                _ => 3,
            };
            let column = self.column + taps - tap - count;
            let first = self.first + tap * self.step;
            // SAFETY: the asserts cover the last address of each operand.
            unsafe {
                match count {
                    1 => self.pixels::<S, 1>(simd, column, first, gradient, sums),
                    2 => self.pixels::<S, 2>(simd, column, first, gradient, sums),
                    _ => self.pixels::<S, 3>(simd, column, first, gradient, sums),
                }
            }
            tap += count;
        }
    }

    /// `T` taps from kernel column `first` on; the last one of the first pixel leads to `column`.
    ///
    /// # Safety
    /// The operands are as long as [`Line::run`] asserts.
    #[inline(never)]
    unsafe fn pixels<S: Simd, const T: usize>(
        &self,
        simd: S,
        column: usize,
        first: usize,
        gradient: &mut [f32],
        sums: &mut [f32],
    ) {
        simd.vectorize(
            #[inline(always)]
            || {
                let lanes = S::LANES;
                let pixels = self.seen.len() / lanes;
                // SAFETY: taps and pixels lie within the operands, whose lengths the caller has checked.
                unsafe {
                    let tap_at = |tap: usize| (first + tap * self.step) * lanes;
                    let weights: [S::Vector; T] =
                        std::array::from_fn(|tap| simd.load(self.weight.as_ptr().add(tap_at(tap))));
                    // Two sets of sums, so that an addition need not wait for the one before.
                    let mut found = [[simd.splat(0.0); T]; 2];
                    let mut pixel = 0;
                    while pixel + 4 <= pixels {
                        self.tile::<S, T, 4>(simd, column, pixel, &weights, gradient, &mut found);
                        pixel += 4;
                    }
                    while pixel < pixels {
                        self.tile::<S, T, 1>(simd, column, pixel, &weights, gradient, &mut found);
                        pixel += 1;
                    }
                    for tap in 0..T {
                        let at = sums.as_mut_ptr().add(tap_at(tap));
                        simd.store(at, simd.add(simd.load(at), simd.add(found[0][tap], found[1][tap])));
                    }
                }
            },
        );
    }

    /// `M` pixels from `pixel` on.
    ///
    /// # Safety
    /// As [`Line::pixels`]; the pixels exist.
    #[inline(always)]
    unsafe fn tile<S: Simd, const T: usize, const M: usize>(
        &self,
        simd: S,
        column: usize,
        pixel: usize,
        weights: &[S::Vector; T],
        gradient: &mut [f32],
        found: &mut [[S::Vector; T]; 2],
    ) {
        let lanes = S::LANES;
        // SAFETY: handed on to the caller.
        unsafe {
            let seen = self.seen.as_ptr().add(pixel * lanes);
            let window = self.arriving.as_ptr().add((column + pixel) * lanes);
            let result = gradient.as_mut_ptr().add(pixel * lanes);
            let seen: [S::Vector; M] = std::array::from_fn(|m| simd.load(seen.add(m * lanes)));
            let mut results: [S::Vector; M] = std::array::from_fn(|m| simd.load(result.add(m * lanes)));
            for offset in 0..M + T - 1 {
                let value = simd.load(window.add(offset * lanes));
                for m in 0..M {
                    // The first tap leads furthest to the right.
                    if offset >= m && offset - m < T {
                        let tap = T - 1 - (offset - m);
                        results[m] = simd.mul_add(value, weights[tap], results[m]);
                        found[m % 2][tap] = simd.mul_add(value, seen[m], found[m % 2][tap]);
                    }
                }
            }
            for m in 0..M {
                simd.store(result.add(m * lanes), results[m]);
            }
        }
    }
}
