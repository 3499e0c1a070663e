//! The inverted residual, depth first: expand, depthwise and project for a band of rows at a time.
//!
//! The expanded tensor of an inverted residual is six times its input. Here it never exists: a few channels of a band of rows
//! are expanded into memory that stays in the cache, the depthwise convolution reads them there, and the projection adds
//! their share to the result. Of the rows that the next band needs again, only the last few are kept.

use super::step::{BAND_BYTES, Image, Step, Task, pieces};
use super::window::{RowConv, Source};
use crate::activation::Finish;
use crate::buffer::Shared;
use crate::depthwise::Depthwise;
use crate::layout::Blocked;
use crate::pack::{PackedConv, PackedDepthwise, panels_of};
use crate::params::{ConvShape, FoldedConv};
use crate::product::{Addressing, Pixels, Product, Runs, Start};
use crate::simd::Simd;
use std::ops::Range;

/// An optional convolution, a depthwise convolution, and an optional projection with the residual.
#[derive(Debug)]
pub(crate) struct BlockStep {
    expand: Option<RowConv>,
    depthwise: PackedDepthwise,
    window: ConvShape,
    project: Option<Projection>,
    residual: bool,
    /// The depthwise convolution's input.
    expanded: Blocked,
    /// Its result.
    filtered: Blocked,
    /// The step's result.
    output: Blocked,
    /// Planes of the expanded tensor that are computed together.
    groups: Vec<Range<usize>>,
    /// The groups whose share is projected at once.
    chunks: Vec<Range<usize>>,
    /// Rows of output in a band.
    band: usize,
    /// Where the pixels of an expanded row go between the zeros at its ends.
    scatter: Pixels,
}

/// The projection and how it reads the depthwise convolution's result.
#[derive(Debug)]
struct Projection {
    conv: PackedConv,
    /// Over the planes of one chunk of a band.
    band: Runs,
    /// Over the planes of the whole image.
    image: Runs,
}

/// The layers of a block.
#[derive(Debug)]
pub(crate) struct BlockLayers<'a> {
    pub(crate) expand: Option<(&'a FoldedConv, Source)>,
    pub(crate) depthwise: &'a FoldedConv,
    pub(crate) project: Option<&'a FoldedConv>,
    pub(crate) residual: bool,
}

/// Memory for the work on a band.
struct Scratch<'a> {
    /// The convolution's padded input.
    padded: &'a mut [f32],
    /// One group of the expanded band, `[planes, rows, columns, LANES]`, with zeros around it.
    expanded: &'a mut [f32],
    /// The last rows of every expanded plane of the band before, `[planes, rows, columns, LANES]`.
    kept: &'a mut [f32],
    /// One chunk of the depthwise convolution's result, `[planes, pixels, LANES]`.
    filtered: &'a mut [f32],
}

impl BlockStep {
    /// `expanded` and `filtered` are the depthwise convolution's input and result.
    pub(crate) fn new(layers: &BlockLayers<'_>, expanded: Blocked, filtered: Blocked) -> Self {
        let lanes = expanded.lanes;
        let window = layers.depthwise.shape;
        let row = (expanded.width + window.padding[1].iter().sum::<usize>()) * lanes;
        let groups: Vec<_> =
            panels_of(expanded.planes()).map(|(first, vectors)| first..first + vectors).collect();
        let widest = groups.iter().map(ExactSizeIterator::len).max().unwrap_or(1);

        // Half of the memory for a group of the expanded band, half for its share of the depthwise result.
        let padded_row = layers.expand.map_or(0, |(conv, source)| RowConv::scratch_per_row(conv, source));
        let expanded_row = (widest * row + padded_row) * window.stride[0] * size_of::<f32>();
        let band = (BAND_BYTES / 2 / expanded_row).clamp(1, filtered.height);
        let group_bytes = widest * band * filtered.row() * size_of::<f32>();
        let chunk = (BAND_BYTES / group_bytes).clamp(1, groups.len());
        let chunks: Vec<_> = pieces(0..groups.len(), chunk).collect();
        let chunk_planes =
            chunks.iter().map(|chunk| groups[chunk.end - 1].end - groups[chunk.start].start).max();

        let rows = (band - 1) * window.stride[0] + window.kernel[0];
        let scatter = (0..rows * expanded.width).map(|pixel| {
            let (y, x) = (pixel / expanded.width, pixel % expanded.width);
            (y * row + (window.padding[1][0] + x) * lanes) as u32
        });
        let project = layers.project.map(|conv| {
            let conv = PackedConv::pointwise(conv, filtered.plane(), lanes);
            let band = conv.runs_with_plane(chunk_planes.unwrap_or(1), band * filtered.row());
            let image = conv.runs_with_plane(filtered.planes(), filtered.plane());
            Projection { conv, band, image }
        });
        Self {
            expand: layers.expand.map(|(conv, source)| {
                RowConv::new(
                    conv,
                    source,
                    [expanded.height, expanded.width],
                    rows.min(expanded.height),
                    lanes,
                )
            }),
            depthwise: PackedDepthwise::new(layers.depthwise, lanes),
            window,
            output: Blocked {
                channels: layers.project.map_or(filtered.channels, |conv| conv.shape.out_channels),
                ..filtered
            },
            project,
            residual: layers.residual,
            expanded,
            filtered,
            groups,
            chunks,
            band,
            scatter: Pixels::new(scatter.collect()),
        }
    }

    /// Values of an expanded row with its zeros.
    fn expanded_row(&self) -> usize {
        (self.expanded.width + self.window.padding[1].iter().sum::<usize>()) * self.expanded.lanes
    }

    /// Most rows of the expanded tensor under a band.
    fn expanded_rows(&self) -> usize {
        (self.band - 1) * self.window.stride[0] + self.window.kernel[0]
    }

    /// Expanded rows that two neighbouring bands share.
    fn kept_rows(&self) -> usize {
        self.window.kernel[0].saturating_sub(self.window.stride[0])
    }

    fn lengths(&self) -> [usize; 4] {
        let widest = self.groups.iter().map(ExactSizeIterator::len).max().unwrap_or(1);
        let chunk = self.project.as_ref().map_or(0, |project| project.band.count());
        [
            self.expand.as_ref().map_or(0, RowConv::scratch_len),
            widest * self.expanded_rows() * self.expanded_row(),
            self.expanded.planes() * self.kept_rows() * self.expanded_row(),
            chunk * self.band * self.filtered.row(),
        ]
        // Each part begins on a cache line.
        .map(|len| len.next_multiple_of(16))
    }

    /// Splits over rows unless a task would have so few that those which two tasks both expand weigh too much.
    fn splits_rows(&self, split: usize) -> bool {
        split == 1 || self.project.is_none() || self.filtered.height >= 12 * split
    }

    /// Expands the rows under `band` for the planes of `group` and filters them into `result`, `[planes, band, columns, LANES]`
    /// with `result_plane` values from plane to plane. `first` and `last` say whether a band goes before or follows.
    ///
    /// # Safety
    /// Nobody else uses the elements of the result that are written.
    #[expect(clippy::too_many_arguments, reason = "one band's place in the loops around it")]
    unsafe fn filter<S: Simd>(
        &self,
        simd: S,
        input: &[f32],
        band: Range<usize>,
        [first, last]: [bool; 2],
        group: usize,
        scratch: &mut Scratch<'_>,
        result: Shared<'_>,
        result_plane: usize,
    ) {
        let planes = self.groups[group].clone();
        let row = self.expanded_row();
        let plane = self.expanded_rows() * row;
        let kept = self.kept_rows() * row;
        let rows = self.rows_under(&band);
        let height = (rows.end - rows.start) as usize;
        let reused = if first { 0 } else { self.kept_rows() };
        let image_rows = self.fresh_rows(&band, first);
        // The same rows, counted from the band's first; rows before and after them are zeros.
        let fresh = if image_rows.is_empty() {
            height..height
        } else {
            let place = |row: usize| (row as isize - rows.start) as usize;
            place(image_rows.start)..place(image_rows.end)
        };

        let [left, right] = self.window.padding[1].map(|columns| columns * S::LANES);
        for (index, plane_index) in planes.clone().enumerate() {
            let expanded = &mut scratch.expanded[index * plane..][..height * row];
            if reused > 0 {
                expanded[..kept].copy_from_slice(&scratch.kept[plane_index * kept..][..kept]);
            }
            expanded[reused * row..fresh.start * row].fill(0.0);
            expanded[fresh.end * row..].fill(0.0);
            for expanded in expanded[fresh.start * row..fresh.end * row].chunks_exact_mut(row) {
                expanded[..left].fill(0.0);
                expanded[row - right..].fill(0.0);
            }
        }
        if !image_rows.is_empty() {
            match &self.expand {
                Some(conv) => {
                    let panel = &conv.panels()[group];
                    let result = Shared::new(scratch.expanded).from(fresh.start * row);
                    // SAFETY: the scratch memory is borrowed exclusively.
                    unsafe {
                        conv.run(
                            simd,
                            panel,
                            input,
                            scratch.padded,
                            image_rows,
                            result,
                            plane,
                            Some(&self.scatter),
                        );
                    }
                }
                None => {
                    for (index, plane_index) in planes.clone().enumerate() {
                        let from =
                            plane_index * self.expanded.plane() + image_rows.start * self.expanded.row();
                        let from = input[from..].chunks_exact(self.expanded.row());
                        let to = scratch.expanded[index * plane + fresh.start * row..].chunks_exact_mut(row);
                        for (from, to) in from.zip(to).take(image_rows.len()) {
                            to[left..row - right].copy_from_slice(from);
                        }
                    }
                }
            }
        }

        for (index, plane_index) in planes.enumerate() {
            let expanded = &scratch.expanded[index * plane..][..height * row];
            let job = Depthwise {
                input: expanded,
                row_length: row,
                weight: self.depthwise.weight(plane_index),
                bias: self.depthwise.bias(plane_index),
                kernel: self.window.kernel,
                stride: self.window.stride,
                finish: self.depthwise.finish,
                size: [band.len(), self.filtered.width],
            };
            // SAFETY: handed on to the caller.
            let result = unsafe { result.write(index * result_plane, band.len() * self.filtered.row()) };
            job.run(simd, result);
            if !last {
                scratch.kept[plane_index * kept..][..kept].copy_from_slice(&expanded[height * row - kept..]);
            }
        }
    }

    /// The expanded rows under a band of output; those outside the image are zeros.
    fn rows_under(&self, band: &Range<usize>) -> Range<isize> {
        let [stride, top] = [self.window.stride[0], self.window.padding[0][0]].map(|value| value as isize);
        let start = band.start as isize * stride - top;
        start..start + (band.len() as isize - 1) * stride + self.window.kernel[0] as isize
    }

    /// The rows of the image under a band that the band before has not left.
    fn fresh_rows(&self, band: &Range<usize>, first: bool) -> Range<usize> {
        let rows = self.rows_under(band);
        let reused = if first { 0 } else { self.kept_rows() as isize };
        let height = self.expanded.height as isize;
        let start = (rows.start + reused).clamp(0, height);
        start as usize..rows.end.clamp(start, height) as usize
    }

    /// Prepares the convolution's input for the rows under a band.
    fn prepare(&self, input: &[f32], band: &Range<usize>, first: bool, scratch: &mut Scratch<'_>) {
        if let Some(conv) = &self.expand {
            conv.prepare(input, self.fresh_rows(band, first), scratch.padded);
        }
    }

    /// Expands, filters and projects some rows of output, band by band.
    ///
    /// # Safety
    /// Nobody else uses these rows of the output.
    unsafe fn run_rows<S: Simd>(
        &self,
        simd: S,
        rows: Range<usize>,
        image: Image<'_>,
        scratch: &mut Scratch<'_>,
    ) {
        let band_plane = self.band * self.filtered.row();
        for band in pieces(rows.clone(), self.band) {
            let ends = [band.start == rows.start, band.end == rows.end];
            self.prepare(image.input, &band, ends[0], scratch);
            let first_pixel = band.start * self.filtered.row();
            let Some(project) = &self.project else {
                for (group, planes) in self.groups.iter().enumerate() {
                    let plane = self.filtered.plane();
                    let result = image.output.from(planes.start * plane + first_pixel);
                    // SAFETY: handed on to the caller.
                    unsafe {
                        self.filter(simd, image.input, band.clone(), ends, group, scratch, result, plane)
                    };
                }
                continue;
            };
            for (index, chunk) in self.chunks.iter().enumerate() {
                let first_plane = self.groups[chunk.start].start;
                let planes = self.groups[chunk.end - 1].end - first_plane;
                // The chunk's memory is taken out of the scratch, because `filter` borrows the rest.
                let filtered = std::mem::take(&mut scratch.filtered);
                for group in chunk.clone() {
                    let to = (self.groups[group].start - first_plane) * band_plane;
                    let result = Shared::new(filtered).from(to);
                    // SAFETY: the memory is borrowed exclusively.
                    unsafe {
                        self.filter(simd, image.input, band.clone(), ends, group, scratch, result, band_plane)
                    };
                }
                scratch.filtered = filtered;
                let last = index + 1 == self.chunks.len();
                for panel in project.conv.panels() {
                    let to = panel.first_plane * self.output.plane() + first_pixel;
                    let product = Product {
                        left: scratch.filtered,
                        runs: &project.band,
                        first_run: 0,
                        run_count: planes,
                        right: project.conv.weights(panel, first_plane, planes),
                        vectors: panel.vectors,
                        start: if index == 0 {
                            Start::Bias(project.conv.bias(panel))
                        } else {
                            Start::Partial
                        },
                        residual: (last && self.residual).then(|| &image.input[to..]),
                        finish: if last { project.conv.finish } else { Finish::NOTHING },
                        result: image.output.from(to),
                        result_plane: self.output.plane(),
                        addressing: Addressing::Contiguous,
                        pixels: band.len() * self.filtered.width,
                    };
                    // SAFETY: handed on to the caller.
                    unsafe { product.run(simd) };
                }
            }
        }
    }

    /// Expands and filters some groups of channels over the whole image, into the memory that the tasks share.
    ///
    /// # Safety
    /// Nobody else uses these planes of the shared memory.
    unsafe fn run_groups<S: Simd>(
        &self,
        simd: S,
        groups: Range<usize>,
        image: Image<'_>,
        scratch: &mut Scratch<'_>,
    ) {
        let rows = 0..self.filtered.height;
        for band in pieces(rows.clone(), self.band) {
            let ends = [band.start == rows.start, band.end == rows.end];
            self.prepare(image.input, &band, ends[0], scratch);
            for group in groups.clone() {
                let plane = self.filtered.plane();
                let to = self.groups[group].start * plane + band.start * self.filtered.row();
                // SAFETY: handed on to the caller.
                unsafe {
                    self.filter(
                        simd,
                        image.input,
                        band.clone(),
                        ends,
                        group,
                        scratch,
                        image.shared.from(to),
                        plane,
                    )
                };
            }
        }
    }

    /// Projects the shared memory into one panel of the output.
    ///
    /// # Safety
    /// Nobody writes the shared memory, and nobody else uses these planes of the output.
    unsafe fn run_panel<S: Simd>(&self, simd: S, project: &Projection, panel: usize, image: Image<'_>) {
        let panel = &project.conv.panels()[panel];
        let to = panel.first_plane * self.output.plane();
        // As many planes at a time as keep the panel's weights in the first-level cache.
        let chunk = 256 / S::LANES;
        for planes in pieces(0..self.filtered.planes(), chunk) {
            let last = planes.end == self.filtered.planes();
            let product = Product {
                // SAFETY: handed on to the caller.
                left: unsafe { image.shared.read() },
                runs: &project.image,
                first_run: planes.start,
                run_count: planes.len(),
                right: project.conv.weights(panel, planes.start, planes.len()),
                vectors: panel.vectors,
                start: if planes.start == 0 { Start::Bias(project.conv.bias(panel)) } else { Start::Partial },
                residual: (last && self.residual).then(|| &image.input[to..]),
                finish: if last { project.conv.finish } else { Finish::NOTHING },
                result: image.output.from(to),
                result_plane: self.output.plane(),
                addressing: Addressing::Contiguous,
                pixels: self.output.pixels(),
            };
            // SAFETY: handed on to the caller.
            unsafe { product.run(simd) };
        }
    }
}

impl<S: Simd> Step<S> for BlockStep {
    fn output(&self) -> Blocked {
        self.output
    }

    fn shared_len(&self) -> usize {
        if self.project.is_some() { self.filtered.len() } else { 0 }
    }

    fn scratch_len(&self) -> usize {
        self.lengths().iter().sum()
    }

    fn tasks(&self, split: usize) -> Vec<usize> {
        match &self.project {
            Some(project) if !self.splits_rows(split) => {
                vec![self.groups.len().min(4 * split), project.conv.panels().len().min(4 * split)]
            }
            _ => vec![self.output.height.min(split)],
        }
    }

    unsafe fn run(&self, simd: S, task: Task, image: Image<'_>, scratch: &mut [f32]) {
        let [padded, expanded, kept, filtered] = self.lengths();
        let (padded, rest) = scratch.split_at_mut(padded);
        let (expanded, rest) = rest.split_at_mut(expanded);
        let (kept, rest) = rest.split_at_mut(kept);
        let mut scratch = Scratch { padded, expanded, kept, filtered: &mut rest[..filtered] };
        match &self.project {
            Some(project) if !self.splits_rows(task.split) => match task.phase {
                // SAFETY: the tasks' groups are disjoint.
                0 => unsafe { self.run_groups(simd, task.share(self.groups.len()), image, &mut scratch) },
                _ => {
                    for panel in task.share(project.conv.panels().len()) {
                        // SAFETY: the tasks' panels are disjoint, and the phase that writes the shared memory is over.
                        unsafe { self.run_panel(simd, project, panel, image) };
                    }
                }
            },
            // SAFETY: the tasks' rows are disjoint.
            _ => unsafe { self.run_rows(simd, task.share(self.output.height), image, &mut scratch) },
        }
    }
}
