//! Linear layers, over all images of a batch at once, so that their weights are read once.

use crate::buffer::Shared;
use crate::layout::Blocked;
use crate::pack::PackedConv;
use crate::params::FoldedConv;
use crate::product::{Addressing, Pixels, Product, Start, Upcoming};
use crate::simd::Simd;
use std::ops::Range;

/// A linear layer between feature vectors whose lengths are filled up to whole vectors.
#[derive(Debug)]
pub(crate) struct LinearStep {
    conv: PackedConv,
    input_len: usize,
    output_len: usize,
    lanes: usize,
}

impl LinearStep {
    pub(crate) fn new(linear: &FoldedConv, lanes: usize) -> Self {
        let length = |channels| Blocked { channels, height: 1, width: 1, lanes }.len();
        Self {
            conv: PackedConv::linear(linear, lanes),
            input_len: length(linear.shape.in_channels),
            output_len: length(linear.shape.out_channels),
            lanes,
        }
    }

    /// Values of a result.
    pub(crate) fn output_len(&self) -> usize {
        self.output_len
    }

    /// Panels of output channels, which are independent.
    pub(crate) fn panels(&self) -> usize {
        self.conv.panels().len()
    }

    /// Where the images of a batch lie on both sides.
    pub(crate) fn rows(&self, batch: usize) -> [Pixels; 2] {
        [self.input_len, self.output_len].map(|len| Pixels::every(len, batch))
    }

    /// Computes some panels for `[batch, input_len]`.
    ///
    /// # Safety
    /// Nobody else uses these panels of the output.
    pub(crate) unsafe fn run<S: Simd>(
        &self,
        simd: S,
        panels: Range<usize>,
        batch: usize,
        rows: &[Pixels; 2],
        input: &[f32],
        output: Shared<'_>,
    ) {
        for panel in &self.conv.panels()[panels] {
            let runs = self.conv.runs(panel);
            let product = Product {
                left: input,
                runs,
                first_run: 0,
                run_count: runs.count(),
                right: self.conv.weights(panel, 0, runs.count()),
                vectors: panel.vectors,
                start: Start::Bias(self.conv.bias(panel)),
                residual: None,
                finish: self.conv.finish,
                result: output.from(panel.first_plane * self.lanes),
                result_plane: self.lanes,
                next_result: 0,
                addressing: Addressing::Tables(&rows[0], &rows[1]),
                pixels: batch,
                // A batch is too few tiles to spread a panel's weights over; they are read in order, which the processor foresees.
                upcoming: Upcoming::NOTHING,
            };
            // SAFETY: handed on to the caller.
            unsafe { product.run(simd) };
        }
    }
}
