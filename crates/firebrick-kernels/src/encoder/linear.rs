//! Linear layers over the tokens of a block.

use crate::buffer::Shared;
use crate::pack::{PackedConv, Window};
use crate::params::FoldedConv;
use crate::product::{Addressing, Pixels, Product, Start};
use crate::simd::Simd;

/// A linear layer between rows of features, one row a token, each filled up with zeros to whole vectors.
#[derive(Debug)]
pub(crate) struct TokenLinear {
    conv: PackedConv,
    /// Where the rows of a block begin on both sides.
    rows: [Pixels; 2],
    output_len: usize,
    lanes: usize,
}

impl TokenLinear {
    /// Packs the layer for blocks of at most `most_rows` tokens.
    pub(crate) fn new(linear: &FoldedConv, most_rows: usize, lanes: usize) -> Self {
        let shape = &linear.shape;
        let [input_len, output_len] =
            [shape.in_channels, shape.out_channels].map(|len| len.next_multiple_of(lanes));
        Self {
            conv: PackedConv::new(linear, Window::Blocked { plane: lanes, row: 0, run: lanes }, lanes),
            rows: [input_len, output_len].map(|len| row_starts(most_rows, len)),
            output_len,
            lanes,
        }
    }

    /// Values of a row of the result.
    pub(crate) fn output_len(&self) -> usize {
        self.output_len
    }

    /// Computes `rows` tokens and adds `residual`, if any, before the activation.
    pub(crate) fn run<S: Simd>(
        &self,
        simd: S,
        rows: usize,
        input: &[f32],
        residual: Option<&[f32]>,
        output: &mut [f32],
    ) {
        let output = Shared::new(output);
        for panel in self.conv.panels() {
            let first = panel.first_plane * self.lanes;
            let runs = self.conv.runs(panel);
            let product = Product {
                left: input,
                runs,
                first_run: 0,
                run_count: runs.count(),
                right: self.conv.weights(panel, 0, runs.count()),
                vectors: panel.vectors,
                start: Start::Bias(self.conv.bias(panel)),
                residual: residual.map(|residual| &residual[first..]),
                finish: self.conv.finish,
                result: output.from(first),
                result_plane: self.lanes,
                next_result: 0,
                addressing: Addressing::Tables(&self.rows[0], &self.rows[1]),
                pixels: rows,
                upcoming: self.conv.upcoming(panel, 0, runs.count()).into(),
            };
            // SAFETY: `output` is borrowed mutably, and the panels follow one another.
            unsafe { product.run(simd) };
        }
    }
}

/// The offsets of `count` rows of `len` values.
pub(crate) fn row_starts(count: usize, len: usize) -> Pixels {
    Pixels::every(len, count)
}
