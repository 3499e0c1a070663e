//! The inverted residual, depth first: expand, depthwise and project for a band of rows at a time.
//!
//! The expanded tensor of an inverted residual is six times its input. Here it never exists: a few channels of a band of rows
//! are expanded into memory that stays in the cache, the depthwise convolution reads them there, and the projection adds
//! their share to the result.

use super::filter::{Filter, FilterScratch};
use super::step::{BAND_BYTES, Image, Step, Task, pieces};
use super::window::Source;
use crate::activation::Finish;
use crate::buffer::Shared;
use crate::layout::Blocked;
use crate::pack::{PackedConv, Panel};
use crate::params::FoldedConv;
use crate::product::{Addressing, Product, Runs, Start};
use crate::simd::Simd;
use std::ops::Range;

/// Channels to project at a time, so that a panel's weights for them, 16 to 32 KiB, stay in the first-level cache.
const PANEL_CHANNELS: usize = 256;

/// An optional expansion, a depthwise convolution, and an optional projection with the residual.
#[derive(Debug)]
pub(crate) struct BlockStep {
    filter: Filter,
    project: Option<Projection>,
    output: Blocked,
}

/// The projection and how it reads the filter's result.
#[derive(Debug)]
struct Projection {
    conv: PackedConv,
    residual: bool,
    /// The filter's groups whose share is projected at once.
    chunks: Vec<Range<usize>>,
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

impl BlockStep {
    /// `expanded` and `filtered` are the depthwise convolution's input and result.
    pub(crate) fn new(layers: &BlockLayers<'_>, expanded: Blocked, filtered: Blocked) -> Self {
        let filter = Filter::new(layers.expand, layers.depthwise, expanded, filtered);
        let channels = layers.project.map_or(filtered.channels, |conv| conv.shape.out_channels);
        let project = layers.project.map(|conv| Projection::new(conv, layers.residual, &filter));
        Self { filter, project, output: Blocked { channels, ..filtered } }
    }

    /// Values of memory for a chunk of the filter's result.
    fn chunk_len(&self) -> usize {
        self.project.as_ref().map_or(0, |project| project.band.count() * self.band_plane())
    }

    /// Values of a plane of a band of the filter's result.
    fn band_plane(&self) -> usize {
        self.filter.band_rows() * self.filter.output().row()
    }

    /// Splits over rows unless a task would have so few that those which two tasks both expand weigh too much.
    fn splits_rows(&self, split: usize) -> bool {
        split == 1 || self.project.is_none() || self.output.height >= 6 * split
    }

    /// Expands and filters some rows of output, band by band, without projecting them.
    ///
    /// # Safety
    /// Nobody else uses these rows of the output.
    unsafe fn filter_rows<S: Simd>(
        &self,
        simd: S,
        rows: Range<usize>,
        image: Image<'_>,
        scratch: &mut FilterScratch<'_>,
    ) {
        let plane = self.output.plane();
        for band in self.filter.bands(rows) {
            self.filter.prepare(image.input, &band, scratch);
            for (group, planes) in self.filter.groups().iter().enumerate() {
                let result = image.output.from(planes.start * plane + band.rows.start * self.output.row());
                // SAFETY: handed on to the caller.
                unsafe { self.filter.run(simd, image.input, &band, group, scratch, result, plane) };
            }
        }
    }

    /// Expands, filters and projects some rows of output, band by band.
    ///
    /// # Safety
    /// Nobody else uses these rows of the output.
    unsafe fn project_rows<S: Simd>(
        &self,
        simd: S,
        project: &Projection,
        rows: Range<usize>,
        image: Image<'_>,
        scratch: &mut FilterScratch<'_>,
        filtered: &mut [f32],
    ) {
        let groups = self.filter.groups();
        for band in self.filter.bands(rows) {
            self.filter.prepare(image.input, &band, scratch);
            for chunk in &project.chunks {
                let planes = groups[chunk.start].start..groups[chunk.end - 1].end;
                for group in chunk.clone() {
                    let to = (groups[group].start - planes.start) * self.band_plane();
                    let result = Shared::new(filtered).from(to);
                    // SAFETY: the memory is borrowed exclusively.
                    unsafe {
                        self.filter.run(simd, image.input, &band, group, scratch, result, self.band_plane());
                    }
                }
                for panel in project.conv.panels() {
                    let to = panel.first_plane * self.output.plane() + band.rows.start * self.output.row();
                    let product = Product {
                        left: filtered,
                        runs: &project.band,
                        first_run: 0,
                        pixels: band.rows.len() * self.output.width,
                        ..self.product(project, panel, planes.clone(), image, to)
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
    unsafe fn filter_groups<S: Simd>(
        &self,
        simd: S,
        groups: Range<usize>,
        image: Image<'_>,
        scratch: &mut FilterScratch<'_>,
    ) {
        let filtered = self.filter.output();
        for band in self.filter.bands(0..filtered.height) {
            self.filter.prepare(image.input, &band, scratch);
            for group in groups.clone() {
                let to =
                    self.filter.groups()[group].start * filtered.plane() + band.rows.start * filtered.row();
                let result = image.shared.from(to);
                // SAFETY: handed on to the caller.
                unsafe {
                    self.filter.run(simd, image.input, &band, group, scratch, result, filtered.plane())
                };
            }
        }
    }

    /// Projects the shared memory into one panel of the output.
    ///
    /// # Safety
    /// Nobody writes the shared memory, and nobody else uses these planes of the output.
    unsafe fn project_panel<S: Simd>(&self, simd: S, project: &Projection, panel: &Panel, image: Image<'_>) {
        for planes in pieces(0..self.filter.output().planes(), PANEL_CHANNELS / S::LANES) {
            let to = panel.first_plane * self.output.plane();
            let product = self.product(project, panel, planes, image, to);
            // SAFETY: handed on to the caller, who also answers for reading the shared memory.
            unsafe { Product { left: image.shared.read(), ..product }.run(simd) };
        }
    }

    /// The share of the filter's planes `planes` in a panel of the output, from the output's element `to` on.
    fn product<'a>(
        &self,
        project: &'a Projection,
        panel: &Panel,
        planes: Range<usize>,
        image: Image<'a>,
        to: usize,
    ) -> Product<'a> {
        let conv = &project.conv;
        let last = planes.end == self.filter.output().planes();
        Product {
            left: &[],
            runs: &project.image,
            first_run: planes.start,
            run_count: planes.len(),
            right: conv.weights(panel, planes.start, planes.len()),
            vectors: panel.vectors,
            start: if planes.start == 0 { Start::Bias(conv.bias(panel)) } else { Start::Partial },
            residual: (last && project.residual).then(|| &image.input[to..]),
            finish: if last { conv.finish } else { Finish::NOTHING },
            result: image.output.from(to),
            result_plane: self.output.plane(),
            next_result: 0,
            addressing: Addressing::Contiguous,
            pixels: self.output.pixels(),
            upcoming: conv.upcoming(panel, planes.start, planes.len()).into(),
        }
    }
}

impl Projection {
    fn new(conv: &FoldedConv, residual: bool, filter: &Filter) -> Self {
        let filtered = filter.output();
        let (groups, lanes) = (filter.groups(), filtered.lanes);
        let band_plane = filter.band_rows() * filtered.row();
        let group_bytes = filter.widest_group() * band_plane * size_of::<f32>();
        let most_groups = (BAND_BYTES / group_bytes).min(PANEL_CHANNELS / (filter.widest_group() * lanes));
        let chunks: Vec<_> = pieces(0..groups.len(), most_groups.max(1)).collect();
        let planes = |chunk: &Range<usize>| groups[chunk.end - 1].end - groups[chunk.start].start;
        let most_planes = chunks.iter().map(planes).max().unwrap_or(1);
        Self {
            conv: PackedConv::pointwise(conv, filtered.plane(), lanes),
            residual,
            band: Runs::planes(most_planes, band_plane, lanes),
            image: Runs::planes(filtered.planes(), filtered.plane(), lanes),
            chunks,
        }
    }
}

impl<S: Simd> Step<S> for BlockStep {
    fn output(&self) -> Blocked {
        self.output
    }

    fn name(&self) -> String {
        let (Blocked { channels, height, width, .. }, hidden) = (self.output, self.filter.output().channels);
        let expand = if self.filter.expands() { "expanded, " } else { "" };
        format!("depthwise {expand}{hidden} -> {channels} at {height}x{width}")
    }

    fn shared_len(&self) -> usize {
        if self.project.is_some() { self.filter.output().len() } else { 0 }
    }

    fn scratch_len(&self) -> usize {
        self.filter.scratch_len() + self.chunk_len()
    }

    fn tasks(&self, split: usize) -> Vec<usize> {
        match &self.project {
            Some(project) if !self.splits_rows(split) => {
                // Panels are few and long: a task each, or the threads would not end together.
                vec![self.filter.groups().len().min(4 * split), project.conv.panels().len()]
            }
            _ => vec![self.output.height.min(split)],
        }
    }

    unsafe fn run(&self, simd: S, task: Task, image: Image<'_>, scratch: &mut [f32]) {
        let (mut scratch, rest) = self.filter.split_scratch(scratch);
        let scratch = &mut scratch;
        // SAFETY: the shares of a phase's tasks are disjoint, whether rows, groups or panels; what one phase leaves in the shared
        // memory is read in the next.
        unsafe {
            match &self.project {
                None => self.filter_rows(simd, task.share(self.output.height), image, scratch),
                Some(project) if self.splits_rows(task.split) => {
                    let rows = task.share(self.output.height);
                    self.project_rows(simd, project, rows, image, scratch, &mut rest[..self.chunk_len()]);
                }
                Some(_) if task.phase == 0 => {
                    self.filter_groups(simd, task.share(self.filter.groups().len()), image, scratch);
                }
                Some(project) => {
                    for panel in &project.conv.panels()[task.share(project.conv.panels().len())] {
                        self.project_panel(simd, project, panel, image);
                    }
                }
            }
        }
    }
}
