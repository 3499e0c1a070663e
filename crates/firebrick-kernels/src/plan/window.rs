//! A convolution that computes some rows of its output at a time, for whichever step needs them.

use crate::buffer::Shared;
use crate::layout::Blocked;
use crate::pack::{PackedConv, Panel, Window, run_of};
use crate::params::{ConvShape, FoldedConv};
use crate::product::{Addressing, Pixels, Product, Start};
use crate::simd::Simd;
use std::ops::Range;

/// The form in which a convolution finds its input.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source {
    /// The blocked layout.
    Blocked(Blocked),
    /// `[height, width, channels]`, as an image arrives from outside.
    Nhwc { channels: usize, height: usize, width: usize },
}

impl Source {
    pub(crate) fn size(&self) -> [usize; 2] {
        match *self {
            Source::Blocked(layout) => [layout.height, layout.width],
            Source::Nhwc { height, width, .. } => [height, width],
        }
    }

    pub(crate) fn channels(&self) -> usize {
        match *self {
            Source::Blocked(layout) => layout.channels,
            Source::Nhwc { channels, .. } => channels,
        }
    }

    /// Planes, and values of a pixel in each.
    fn planes(&self) -> (usize, usize) {
        match *self {
            Source::Blocked(layout) => (layout.planes(), layout.lanes),
            Source::Nhwc { channels, .. } => (1, channels),
        }
    }
}

/// A dense or grouped convolution over a source.
#[derive(Debug)]
pub(crate) struct RowConv {
    conv: PackedConv,
    shape: ConvShape,
    source: Source,
    /// Height and width of the result.
    size: [usize; 2],
    /// Copies the rows with their padding first; `None` for a pointwise convolution, which reads the source in place.
    padded: Option<Padded>,
}

/// The copy of some input rows with zeros around them, `[planes, rows, columns, values]`; or of those of their pixels that a kernel of
/// one tap visits.
#[derive(Debug)]
struct Padded {
    shape: ConvShape,
    /// Whether only the pixels that are visited are copied.
    gathered: bool,
    /// Rows of a plane of the copy.
    rows: usize,
    /// Values of a row of the copy.
    row: usize,
    pixels: Pixels,
    /// Where the results go if they lie without gaps.
    contiguous: Pixels,
}

impl RowConv {
    /// A convolution of which at most `most_rows` rows of output are asked for at a time.
    pub(crate) fn new(
        conv: &FoldedConv,
        source: Source,
        size: [usize; 2],
        most_rows: usize,
        lanes: usize,
    ) -> Self {
        let shape = conv.shape;
        if let (true, Source::Blocked(layout)) = (shape.is_pointwise(), source) {
            let window =
                Window::Blocked { plane: layout.plane(), row: 0, run: run_of(shape.in_channels, lanes) };
            return Self { conv: PackedConv::new(conv, window, lanes), shape, source, size, padded: None };
        }
        let (_, values) = source.planes();
        let gathered = is_gathered(conv, source);
        let columns = source.size()[1] + shape.padding[1].iter().sum::<usize>();
        let (rows, columns, stride) = match gathered {
            true => (most_rows, size[1], [1, 1]),
            false => ((most_rows - 1) * shape.stride[0] + shape.kernel[0], columns, shape.stride),
        };
        let row = columns * values;
        let window = match source {
            Source::Nhwc { .. } => Window::Nhwc { row },
            Source::Blocked(_) => {
                Window::Blocked { plane: rows * row, row, run: run_of(shape.in_channels, lanes) }
            }
        };
        let pixels = (0..most_rows * size[1]).map(|pixel| {
            let (y, x) = (pixel / size[1], pixel % size[1]);
            (y * stride[0] * row + x * stride[1] * values) as u32
        });
        let padded = Padded {
            shape,
            gathered,
            rows,
            row,
            pixels: Pixels::new(pixels.collect()),
            contiguous: Pixels::new((0..most_rows * size[1]).map(|pixel| (pixel * lanes) as u32).collect()),
        };
        Self { conv: PackedConv::new(conv, window, lanes), shape, source, size, padded: Some(padded) }
    }

    /// Its sizes in a few words.
    pub(crate) fn name(&self) -> String {
        let ConvShape { in_channels, out_channels, kernel, stride, groups, .. } = self.shape;
        let [height, width] = self.size;
        let groups = if groups == 1 { String::new() } else { format!(", {groups} groups") };
        format!(
            "{}x{}/{} {in_channels} -> {out_channels} at {height}x{width}{groups}",
            kernel[0], kernel[1], stride[0]
        )
    }

    /// The values of input that one row of output takes up in scratch memory, for choosing `most_rows`.
    pub(crate) fn scratch_per_row(conv: &FoldedConv, source: Source) -> usize {
        let (planes, values) = source.planes();
        let width = source.size()[1] + conv.shape.padding[1].iter().sum::<usize>();
        match (conv.shape.is_pointwise(), source) {
            (true, Source::Blocked(_)) => 0,
            _ if is_gathered(conv, source) => planes * values * width.div_ceil(conv.shape.stride[1]),
            _ => planes * values * width * conv.shape.stride[0],
        }
    }

    pub(crate) fn scratch_len(&self) -> usize {
        self.padded.as_ref().map_or(0, |padded| self.source.planes().0 * padded.rows * padded.row)
    }

    pub(crate) fn panels(&self) -> &[Panel] {
        self.conv.panels()
    }

    /// Puts what the output rows `rows` need into `scratch`.
    pub(crate) fn prepare(&self, input: &[f32], rows: Range<usize>, scratch: &mut [f32]) {
        let Some(padded) = &self.padded else { return };
        if rows.is_empty() {
            return;
        }
        let [height, width] = self.source.size();
        let (planes, values) = self.source.planes();
        if padded.gathered {
            let stride = padded.shape.stride;
            for plane in 0..planes {
                let copy = &mut scratch[plane * padded.rows * padded.row..][..rows.len() * padded.row];
                for (y, to) in rows.clone().zip(copy.chunks_exact_mut(padded.row)) {
                    let from = &input[(plane * height + y * stride[0]) * width * values..][..width * values];
                    let from = from.chunks_exact(values).step_by(stride[1]);
                    for (to, from) in to.chunks_exact_mut(values).zip(from) {
                        to.copy_from_slice(from);
                    }
                }
            }
            return;
        }
        let [[top, _], [left, _]] = padded.shape.padding;
        let needed = (rows.len() - 1) * padded.shape.stride[0] + padded.shape.kernel[0];
        for plane in 0..planes {
            let copy = &mut scratch[plane * padded.rows * padded.row..][..needed * padded.row];
            for (index, to) in copy.chunks_exact_mut(padded.row).enumerate() {
                match (rows.start * padded.shape.stride[0] + index).checked_sub(top) {
                    Some(y) if y < height => {
                        let from = &input[(plane * height + y) * width * values..][..width * values];
                        let (before, rest) = to.split_at_mut(left * values);
                        let (middle, after) = rest.split_at_mut(width * values);
                        before.fill(0.0);
                        middle.copy_from_slice(from);
                        after.fill(0.0);
                    }
                    _ => to.fill(0.0),
                }
            }
        }
    }

    /// What to fetch while a panel of some rows is computed: the next panel's weights, or a share of the next rows of an image
    /// that comes from outside and which nobody has touched before.
    fn upcoming<'a>(&'a self, panel: &Panel, input: &'a [f32], rows: &Range<usize>) -> &'a [f32] {
        match (&self.padded, self.source) {
            (Some(padded), Source::Nhwc { channels, width, .. }) => {
                let row = padded.shape.stride[0] * width * channels;
                let next = input.get(rows.end * row..).unwrap_or_default();
                let next = &next[..next.len().min(rows.len() * row)];
                let share = next.len().div_ceil(self.panels().len()).max(1);
                next.chunks(share).nth(panel.index).unwrap_or_default()
            }
            _ => self.conv.upcoming(panel, 0, self.conv.runs(panel).count()),
        }
    }

    /// Computes one panel of the rows for which `scratch` was prepared.
    ///
    /// The result's first pixel is the first of `rows`; `scatter` says where each goes, or they lie without gaps. The residual lies
    /// as the result does.
    ///
    /// # Safety
    /// Nobody else uses the elements that are written.
    #[expect(
        clippy::too_many_arguments,
        reason = "the operands of one product; a struct would be built to be taken apart"
    )]
    pub(crate) unsafe fn run<S: Simd>(
        &self,
        simd: S,
        panel: &Panel,
        input: &[f32],
        scratch: &[f32],
        rows: Range<usize>,
        result: Shared<'_>,
        result_plane: usize,
        scatter: Option<&Pixels>,
        residual: Option<&[f32]>,
    ) {
        let (left, addressing) = match (&self.padded, self.source) {
            (Some(padded), _) => {
                (scratch, Addressing::Tables(&padded.pixels, scatter.unwrap_or(&padded.contiguous)))
            }
            (None, source) => {
                let addressing = scatter.map_or(Addressing::Contiguous, Addressing::Scatter);
                (&input[rows.start * source.size()[1] * S::LANES..], addressing)
            }
        };
        let runs = self.conv.runs(panel);
        let product = Product {
            left,
            runs,
            first_run: 0,
            run_count: runs.count(),
            right: self.conv.weights(panel, 0, runs.count()),
            vectors: panel.vectors,
            start: Start::Bias(self.conv.bias(panel)),
            residual,
            finish: self.conv.finish,
            result,
            result_plane,
            next_result: 0,
            addressing,
            upcoming: self.upcoming(panel, input, &rows).into(),
            pixels: rows.len() * self.size[1],
        };
        // SAFETY: handed on to the caller.
        unsafe { product.run(simd) }
    }
}

/// Whether a convolution visits single pixels and leaves others out, so that the former are copied side by side.
fn is_gathered(conv: &FoldedConv, source: Source) -> bool {
    let ConvShape { kernel, stride, padding, .. } = conv.shape;
    let blocked = matches!(source, Source::Blocked(_));
    blocked && kernel == [1, 1] && stride != [1, 1] && padding == [[0; 2]; 2]
}
