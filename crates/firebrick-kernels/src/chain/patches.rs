//! Windows of an image as rows of a matrix: how a convolution with a larger kernel becomes a product.

use crate::layout::Blocked;
use crate::params::ConvShape;
use std::ops::Range;

/// The geometry of a convolution whose windows are gathered.
///
/// The columns of the matrix are cells: the channels of one block at one tap. Where an image has fewer channels than a vector has
/// lanes, cells follow each other without a gap; else each is a whole vector.
#[derive(Debug)]
pub(crate) struct Patches {
    cells: Vec<Cell>,
    /// Columns of the matrix.
    columns: usize,
    stride: [usize; 2],
    /// Rows above and columns left of the image.
    before: [usize; 2],
    input: Blocked,
    output_width: usize,
}

/// Some channels at one tap.
#[derive(Debug, Clone, Copy)]
struct Cell {
    /// Row and column of the kernel.
    tap: [usize; 2],
    /// The input's block of channels, and how many of its channels there are.
    plane: usize,
    channels: usize,
    /// The matrix's first column.
    column: usize,
}

impl Patches {
    pub(crate) fn new(conv: &ConvShape, input: Blocked, output: Blocked) -> Self {
        let lanes = input.lanes;
        let mut cells = Vec::new();
        let mut column = 0;
        for plane in 0..input.planes() {
            let channels = if input.channels < lanes { input.channels } else { lanes };
            for y in 0..conv.kernel[0] {
                for x in 0..conv.kernel[1] {
                    cells.push(Cell { tap: [y, x], plane, channels, column });
                    column += channels;
                }
            }
        }
        Self {
            cells,
            columns: column,
            stride: conv.stride,
            before: conv.padding.map(|[before, _]| before),
            input,
            output_width: output.width,
        }
    }

    /// Blocks of columns.
    pub(crate) fn planes(&self) -> usize {
        self.columns.div_ceil(self.input.lanes)
    }

    /// For each column, the place of its weight among those of an output channel, `[in channels, kernel height, width]`.
    /// `None` where a block is filled up.
    pub(crate) fn weights(&self, kernel: [usize; 2]) -> Vec<Option<usize>> {
        let mut places = vec![None; self.planes() * self.input.lanes];
        for cell in &self.cells {
            for lane in 0..cell.channels {
                let channel = cell.plane * self.input.lanes + lane;
                if channel < self.input.channels {
                    let [y, x] = cell.tap;
                    places[cell.column + lane] = Some((channel * kernel[0] + y) * kernel[1] + x);
                }
            }
        }
        places
    }

    /// Gathers the windows of the output pixels `pixels` from an image: `[planes, plane / LANES pixels, LANES]`.
    pub(crate) fn gather(&self, image: &[f32], pixels: &Range<usize>, matrix: &mut [f32], plane: usize) {
        let lanes = self.input.lanes;
        if !self.columns.is_multiple_of(lanes) {
            let last = (self.planes() - 1) * plane;
            matrix[last..][..pixels.len() * lanes].fill(0.0);
        }
        for cell in &self.cells {
            self.visit(cell, pixels, |row, from| {
                for lane in 0..cell.channels {
                    let column = cell.column + lane;
                    let to = column / lanes * plane + row * lanes + column % lanes;
                    matrix[to] = from.map_or(0.0, |from| image[from + lane]);
                }
            });
        }
    }

    /// Adds the matrix's rows to the places of the image that they were gathered from.
    pub(crate) fn scatter(&self, matrix: &[f32], plane: usize, pixels: &Range<usize>, image: &mut [f32]) {
        let lanes = self.input.lanes;
        for cell in &self.cells {
            self.visit(cell, pixels, |row, to| {
                let Some(to) = to else { return };
                for lane in 0..cell.channels {
                    let column = cell.column + lane;
                    image[to + lane] += matrix[column / lanes * plane + row * lanes + column % lanes];
                }
            });
        }
    }

    /// Calls `work` with each row of the matrix and the place of the cell in the image, `None` in the padding.
    #[inline(always)]
    fn visit(&self, cell: &Cell, pixels: &Range<usize>, mut work: impl FnMut(usize, Option<usize>)) {
        for (row, pixel) in pixels.clone().enumerate() {
            let (y, x) = (pixel / self.output_width, pixel % self.output_width);
            // Underflow wraps to a number that lies outside of every image.
            let y = (y * self.stride[0] + cell.tap[0]).wrapping_sub(self.before[0]);
            let x = (x * self.stride[1] + cell.tap[1]).wrapping_sub(self.before[1]);
            let inside = y < self.input.height && x < self.input.width;
            work(
                row,
                inside
                    .then(|| cell.plane * self.input.plane() + (y * self.input.width + x) * self.input.lanes),
            );
        }
    }
}
