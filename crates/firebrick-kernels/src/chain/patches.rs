//! Windows of an image as rows of a matrix: how a convolution with a larger kernel becomes a product.

use crate::grad::{read, write};
use crate::layout::Blocked;
use crate::params::ConvShape;
use crate::simd::Simd;
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
            let whole = cell.channels == lanes && cell.column.is_multiple_of(lanes);
            self.visit(cell, pixels, |rows, from| {
                if whole {
                    let to = cell.column / lanes * plane;
                    let to = matrix[to + rows.start * lanes..to + rows.end * lanes].chunks_exact_mut(lanes);
                    match from {
                        Some((from, step)) => {
                            to.zip(image[from..].chunks(step))
                                .for_each(|(to, from)| to.copy_from_slice(&from[..lanes]));
                        }
                        None => to.for_each(|to| to.fill(0.0)),
                    }
                    return;
                }
                for lane in 0..cell.channels {
                    let column = cell.column + lane;
                    let to = column / lanes * plane + column % lanes;
                    let to = matrix[to + rows.start * lanes..].iter_mut().step_by(lanes).take(rows.len());
                    match from {
                        Some((from, step)) => {
                            to.zip(image[from + lane..].iter().step_by(step))
                                .for_each(|(to, from)| *to = *from);
                        }
                        None => to.for_each(|to| *to = 0.0),
                    }
                }
            });
        }
    }

    /// Adds the matrix's rows to the places of the image that they were gathered from.
    pub(crate) fn scatter<S: Simd>(
        &self,
        simd: S,
        matrix: &[f32],
        plane: usize,
        pixels: &Range<usize>,
        image: &mut [f32],
    ) {
        let lanes = self.input.lanes;
        for cell in &self.cells {
            let whole = cell.channels == S::LANES && cell.column.is_multiple_of(S::LANES);
            self.visit(cell, pixels, |rows, to| {
                let Some((to, step)) = to else { return };
                if whole {
                    let from = &matrix[cell.column / lanes * plane..][rows.start * lanes..rows.end * lanes];
                    simd.vectorize(
                        #[inline(always)]
                        || {
                            for (from, to) in from.chunks_exact(S::LANES).zip(image[to..].chunks_mut(step)) {
                                let sum = simd.add(read(simd, to), read(simd, from));
                                write(simd, to, sum);
                            }
                        },
                    );
                    return;
                }
                for lane in 0..cell.channels {
                    let column = cell.column + lane;
                    let from = column / lanes * plane + column % lanes;
                    let from = matrix[from + rows.start * lanes..].iter().step_by(lanes).take(rows.len());
                    from.zip(image[to + lane..].iter_mut().step_by(step)).for_each(|(from, to)| *to += *from);
                }
            });
        }
    }

    /// Cuts the matrix's rows into pieces whose places of the cell lie side by side in a row of the image. Calls `work` with the
    /// piece, its first place and the distance of the places, `None` in the padding.
    #[inline(always)]
    fn visit(
        &self,
        cell: &Cell,
        pixels: &Range<usize>,
        mut work: impl FnMut(Range<usize>, Option<(usize, usize)>),
    ) {
        let Blocked { height, width, lanes, .. } = self.input;
        let [stride_y, stride_x] = self.stride;
        // The output's columns whose place is in the image.
        let first = self.before[1].saturating_sub(cell.tap[1]).div_ceil(stride_x);
        let end = (width + self.before[1]).saturating_sub(cell.tap[1]).div_ceil(stride_x);
        let mut pixel = pixels.start;
        while pixel < pixels.end {
            let (row, column) = (pixel / self.output_width, pixel % self.output_width);
            let columns = column..(self.output_width).min(column + pixels.end - pixel);
            // Underflow wraps to a number that lies outside of every image.
            let y = (row * stride_y + cell.tap[0]).wrapping_sub(self.before[0]);
            let base = pixel - pixels.start;
            let inside = if y < height {
                first.clamp(columns.start, columns.end)..end.clamp(columns.start, columns.end)
            } else {
                columns.end..columns.end
            };
            let rows = |from: usize, to: usize| base + from - columns.start..base + to - columns.start;
            let inside = inside.start..inside.end.max(inside.start);
            if inside.start > columns.start {
                work(rows(columns.start, inside.start), None);
            }
            if !inside.is_empty() {
                let x = inside.start * stride_x + cell.tap[1] - self.before[1];
                let place = cell.plane * self.input.plane() + (y * width + x) * lanes;
                work(rows(inside.start, inside.end), Some((place, stride_x * lanes)));
            }
            if inside.end < columns.end {
                work(rows(inside.end, columns.end), None);
            }
            pixel += columns.len();
        }
    }
}
