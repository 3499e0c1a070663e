//! Convolution as a step of its own, with the global average of its result where that is all that is wanted.

use super::step::{BAND_BYTES, Image, Step, Task, pieces};
use super::window::{RowConv, Source};
use crate::buffer::Shared;
use crate::layout::Blocked;
use crate::params::FoldedConv;
use crate::pool::average;
use crate::simd::Simd;

/// A dense or grouped convolution.
#[derive(Debug)]
pub(crate) struct ConvStep {
    conv: RowConv,
    /// The convolution's own result.
    result: Blocked,
    /// Rows computed at a time.
    band: usize,
    /// The second input is added before the activation.
    residual: bool,
    /// Only the average of the result over the pixels is kept.
    average: bool,
}

impl ConvStep {
    pub(crate) fn new(
        conv: &FoldedConv,
        source: Source,
        size: [usize; 2],
        residual: bool,
        average: bool,
        lanes: usize,
    ) -> Self {
        let [height, width] = size;
        let result = Blocked { channels: conv.shape.out_channels, height, width, lanes };
        let input_row = conv.shape.in_channels * source.size()[1] * conv.shape.stride[0];
        let row = match RowConv::scratch_per_row(conv, source) {
            0 => input_row,
            copied => copied,
        } * size_of::<f32>();
        let band = if average { height } else { (BAND_BYTES / row.max(1)).clamp(1, height) };
        Self { conv: RowConv::new(conv, source, size, band, lanes), result, band, residual, average }
    }

    /// Splits over rows where there are enough of them, else over channels.
    fn splits_rows(&self, split: usize) -> bool {
        !self.average && self.result.height >= 4 * split
    }
}

impl<S: Simd> Step<S> for ConvStep {
    fn output(&self) -> Blocked {
        if self.average { Blocked { height: 1, width: 1, ..self.result } } else { self.result }
    }

    fn name(&self) -> String {
        let average = if self.average { ", average" } else { "" };
        let residual = if self.residual { ", residual" } else { "" };
        format!("conv {}{residual}{average}", self.conv.name())
    }

    fn scratch_len(&self) -> usize {
        self.conv.scratch_len() + if self.average { 3 * self.result.plane() } else { 0 }
    }

    fn tasks(&self, split: usize) -> Vec<usize> {
        let most = if self.splits_rows(split) { self.result.height } else { self.conv.panels().len() };
        vec![if split == 1 { 1 } else { most.min(2 * split) }]
    }

    unsafe fn run(&self, simd: S, task: Task, image: Image<'_>, scratch: &mut [f32]) {
        let (rows, panels) = if self.splits_rows(task.split) {
            (task.share(self.result.height), 0..self.conv.panels().len())
        } else {
            (0..self.result.height, task.share(self.conv.panels().len()))
        };
        let (padded, tile) = scratch.split_at_mut(self.conv.scratch_len());
        for band in pieces(rows, self.band) {
            self.conv.prepare(image.input, band.clone(), padded);
            for panel in &self.conv.panels()[panels.clone()] {
                let plane = self.result.plane();
                let first = panel.first_plane;
                let from = first * plane + band.start * self.result.row();
                let residual = self.residual.then(|| &image.inputs.get(1)[from..]);
                // SAFETY: this task alone writes these planes of these rows, and `tile` is its own.
                unsafe {
                    if self.average {
                        let result = Shared::new(tile);
                        self.conv.run(
                            simd,
                            panel,
                            image.input,
                            padded,
                            band.clone(),
                            result,
                            plane,
                            None,
                            residual,
                        );
                        let output = image.output.write(first * S::LANES, panel.vectors * S::LANES);
                        average(simd, tile, self.result.pixels(), output);
                    } else {
                        let result = image.output.from(from);
                        self.conv.run(
                            simd,
                            panel,
                            image.input,
                            padded,
                            band.clone(),
                            result,
                            plane,
                            None,
                            residual,
                        );
                    }
                }
            }
        }
    }
}
