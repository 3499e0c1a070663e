//! A depthwise convolution over a band of rows at a time, and the convolution before it that makes those rows.
//!
//! The rows of a band are made for a few channels, in memory that stays in the cache, with the zeros of the padding around
//! them. Neighbouring bands share rows; those are kept instead of made again.

use super::step::{BAND_BYTES, pieces};
use super::window::{RowConv, Source};
use crate::buffer::Shared;
use crate::depthwise::Depthwise;
use crate::layout::Blocked;
use crate::pack::{PackedDepthwise, panels_of};
use crate::params::{ConvShape, FoldedConv};
use crate::product::Pixels;
use crate::simd::Simd;
use std::ops::Range;

/// An optional convolution, the expansion, and a depthwise convolution.
#[derive(Debug)]
pub(crate) struct Filter {
    /// Makes the depthwise convolution's input; `None` if that is the step's input.
    expand: Option<RowConv>,
    depthwise: PackedDepthwise,
    window: ConvShape,
    /// The depthwise convolution's input.
    expanded: Blocked,
    /// Its result.
    filtered: Blocked,
    /// Planes that are computed together.
    groups: Vec<Range<usize>>,
    /// Most rows of the result in a band.
    band: usize,
    /// Where the pixels of expanded rows go between the zeros at the rows' ends.
    scatter: Pixels,
}

/// Some rows of the result, and whether a band of the same task goes before or follows.
#[derive(Debug, Clone)]
pub(crate) struct Band {
    pub(crate) rows: Range<usize>,
    first: bool,
    last: bool,
}

/// The expanded rows under a band, counted from the first.
struct Under {
    height: usize,
    /// Rows at the beginning that the band before has left.
    reused: usize,
    /// Rows to be made. What lies between the reused ones and these, and behind these, is padding.
    fresh: Range<usize>,
    /// The rows to be made as rows of the image.
    image: Range<usize>,
}

/// The memory of a filter, cut from a task's scratch memory.
pub(crate) struct FilterScratch<'a> {
    /// The expansion's padded input.
    padded: &'a mut [f32],
    /// One group of the expanded band, `[planes, rows, columns, LANES]`.
    expanded: &'a mut [f32],
    /// The last rows of every expanded plane of the band before, `[planes, rows, columns, LANES]`.
    kept: &'a mut [f32],
}

impl Filter {
    pub(crate) fn new(
        expand: Option<(&FoldedConv, Source)>,
        depthwise: &FoldedConv,
        expanded: Blocked,
        filtered: Blocked,
    ) -> Self {
        let lanes = expanded.lanes;
        let window = depthwise.shape;
        let groups: Vec<_> =
            panels_of(expanded.planes(), 2).map(|(first, count)| first..first + count).collect();
        let row = (expanded.width + window.padding[1].iter().sum::<usize>()) * lanes;
        let padded_row = expand.map_or(0, |(conv, source)| RowConv::scratch_per_row(conv, source));
        let bytes_per_row = (widest(&groups) * row + padded_row) * window.stride[0] * size_of::<f32>();
        // The other half is for the result.
        let band = (BAND_BYTES / 2 / bytes_per_row).clamp(1, filtered.height);

        let rows = (band - 1) * window.stride[0] + window.kernel[0];
        let scatter = (0..rows * expanded.width).map(|pixel| {
            let (y, x) = (pixel / expanded.width, pixel % expanded.width);
            (y * row + (window.padding[1][0] + x) * lanes) as u32
        });
        let size = [expanded.height, expanded.width];
        Self {
            expand: expand.map(|(conv, source)| RowConv::new(conv, source, size, rows.min(size[0]), lanes)),
            depthwise: PackedDepthwise::new(depthwise, lanes),
            window,
            expanded,
            filtered,
            groups,
            band,
            scatter: Pixels::new(scatter.collect()),
        }
    }

    /// The result.
    pub(crate) fn output(&self) -> Blocked {
        self.filtered
    }

    /// Planes that are computed together.
    pub(crate) fn groups(&self) -> &[Range<usize>] {
        &self.groups
    }

    /// Whether the depthwise convolution's input is made here.
    pub(crate) fn expands(&self) -> bool {
        self.expand.is_some()
    }

    /// Planes of the largest group.
    pub(crate) fn widest_group(&self) -> usize {
        widest(&self.groups)
    }

    /// Most rows of a band.
    pub(crate) fn band_rows(&self) -> usize {
        self.band
    }

    /// Cuts a task's rows into bands.
    pub(crate) fn bands(&self, rows: Range<usize>) -> impl Iterator<Item = Band> {
        pieces(rows.clone(), self.band).map(move |piece| {
            let (first, last) = (piece.start == rows.start, piece.end == rows.end);
            Band { rows: piece, first, last }
        })
    }

    /// Values of an expanded row with its padding.
    fn row(&self) -> usize {
        (self.expanded.width + self.window.padding[1].iter().sum::<usize>()) * self.expanded.lanes
    }

    /// Values of an expanded plane of the largest band.
    fn plane(&self) -> usize {
        ((self.band - 1) * self.window.stride[0] + self.window.kernel[0]) * self.row()
    }

    /// Expanded rows that neighbouring bands share.
    fn shared_rows(&self) -> usize {
        self.window.kernel[0].saturating_sub(self.window.stride[0])
    }

    fn lengths(&self) -> [usize; 3] {
        [
            self.expand.as_ref().map_or(0, RowConv::scratch_len),
            self.widest_group() * self.plane(),
            self.expanded.planes() * self.shared_rows() * self.row(),
        ]
        // Each part begins on a cache line.
        .map(|len| len.next_multiple_of(16))
    }

    pub(crate) fn scratch_len(&self) -> usize {
        self.lengths().iter().sum()
    }

    /// Takes the filter's memory from the beginning of `scratch`; also returns what is left.
    pub(crate) fn split_scratch<'a>(&self, scratch: &'a mut [f32]) -> (FilterScratch<'a>, &'a mut [f32]) {
        let [padded, expanded, kept] = self.lengths();
        let (padded, rest) = scratch.split_at_mut(padded);
        let (expanded, rest) = rest.split_at_mut(expanded);
        let (kept, rest) = rest.split_at_mut(kept);
        (FilterScratch { padded, expanded, kept }, rest)
    }

    fn under(&self, band: &Band) -> Under {
        let [stride, top] = [self.window.stride[0], self.window.padding[0][0]].map(|value| value as isize);
        let height = (band.rows.len() - 1) * self.window.stride[0] + self.window.kernel[0];
        let reused = if band.first { 0 } else { self.shared_rows() };
        let start = band.rows.start as isize * stride - top;
        let in_image = |row: isize| row.clamp(0, self.expanded.height as isize) as usize;
        let image = in_image(start + reused as isize)..in_image(start + height as isize);
        let fresh = if image.is_empty() {
            height..height
        } else {
            let place = |row: usize| (row as isize - start) as usize;
            place(image.start)..place(image.end)
        };
        Under { height, reused, fresh, image }
    }

    /// Prepares a band, before its groups are computed; bands in order.
    pub(crate) fn prepare(&self, input: &[f32], band: &Band, scratch: &mut FilterScratch<'_>) {
        let under = self.under(band);
        if let Some(conv) = &self.expand {
            conv.prepare(input, under.image, scratch.padded);
        }
        // The padding stays as it is while groups are made between it.
        let row = self.row();
        let [left, right] = self.window.padding[1].map(|columns| columns * self.expanded.lanes);
        for plane in scratch.expanded.chunks_exact_mut(self.plane()).take(self.widest_group()) {
            if band.first {
                for row_values in plane.chunks_exact_mut(row) {
                    row_values[..left].fill(0.0);
                    row_values[row - right..].fill(0.0);
                }
            }
            plane[under.reused * row..under.fresh.start * row].fill(0.0);
            plane[under.fresh.end * row..under.height * row].fill(0.0);
        }
    }

    /// Computes one group of a band that was prepared into `result`: `[planes, rows, columns, LANES]`, with `result_plane`
    /// values from plane to plane.
    ///
    /// # Safety
    /// Nobody else uses the elements of the result that are written.
    #[expect(clippy::too_many_arguments, reason = "an operation with two operands, a place and its memory")]
    pub(crate) unsafe fn run<S: Simd>(
        &self,
        simd: S,
        input: &[f32],
        band: &Band,
        group: usize,
        scratch: &mut FilterScratch<'_>,
        result: Shared<'_>,
        result_plane: usize,
    ) {
        let under = self.under(band);
        let (row, plane) = (self.row(), self.plane());
        let kept = self.shared_rows() * row;
        let planes = self.groups[group].clone();
        if under.reused > 0 {
            for (expanded, index) in scratch.expanded.chunks_exact_mut(plane).zip(planes.clone()) {
                expanded[..kept].copy_from_slice(&scratch.kept[index * kept..][..kept]);
            }
        }
        self.expand(simd, input, group, &under, scratch);
        for (expanded, index) in scratch.expanded.chunks_exact(plane).zip(planes.clone()) {
            let job = Depthwise {
                input: &expanded[..under.height * row],
                row_length: row,
                weight: self.depthwise.weight(index),
                bias: self.depthwise.bias(index),
                kernel: self.window.kernel,
                stride: self.window.stride,
                finish: self.depthwise.finish,
                size: [band.rows.len(), self.filtered.width],
            };
            let len = band.rows.len() * self.filtered.row();
            // SAFETY: handed on to the caller.
            job.run(simd, unsafe { result.write((index - planes.start) * result_plane, len) });
            if !band.last {
                scratch.kept[index * kept..][..kept].copy_from_slice(&job.input[under.height * row - kept..]);
            }
        }
    }

    /// Makes the fresh rows of a group.
    fn expand<S: Simd>(
        &self,
        simd: S,
        input: &[f32],
        group: usize,
        under: &Under,
        scratch: &mut FilterScratch<'_>,
    ) {
        if under.image.is_empty() {
            return;
        }
        let (row, plane) = (self.row(), self.plane());
        let first = under.fresh.start * row;
        if let Some(conv) = &self.expand {
            let panel = &conv.panels()[group];
            let result = Shared::new(scratch.expanded).from(first);
            let (padded, rows) = (&*scratch.padded, under.image.clone());
            // SAFETY: the scratch memory is borrowed exclusively.
            unsafe { conv.run(simd, panel, input, padded, rows, result, plane, Some(&self.scatter), None) };
            return;
        }
        let left = self.window.padding[1][0] * S::LANES;
        for (expanded, index) in scratch.expanded.chunks_exact_mut(plane).zip(self.groups[group].clone()) {
            let from = index * self.expanded.plane() + under.image.start * self.expanded.row();
            let from = input[from..].chunks_exact(self.expanded.row()).take(under.image.len());
            for (to, from) in expanded[first..].chunks_exact_mut(row).zip(from) {
                to[left..][..from.len()].copy_from_slice(from);
            }
        }
    }
}

fn widest(groups: &[Range<usize>]) -> usize {
    groups.iter().map(ExactSizeIterator::len).max().unwrap_or(1)
}
