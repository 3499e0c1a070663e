//! A convolution's windows read where they lie: from an input with its padding around it, and from a gradient with the padding that
//! the convolution back needs.

use super::memory::Pooled;
use super::operand::{Arriving, Operand};
use crate::Activation;
use crate::layout::Blocked;
use crate::pack::{self, Elements, PackedConv};
use crate::params::{ConvShape, FoldedConv};
use crate::product::{self, Pixels, Runs};
use crate::simd::Simd;
use std::ops::Range;

/// How many times the image a field may be.
const MOST_PADDING: usize = 4;

/// An image with zeros around it, and perhaps between its pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    /// With the zeros.
    pub(crate) whole: Blocked,
    inner: Blocked,
    /// From the field's first value to the image's.
    first: usize,
    /// From one pixel of the image to the next, down and across.
    step: [usize; 2],
}

impl Field {
    fn new(inner: Blocked, padding: [[usize; 2]; 2]) -> Self {
        Self::spread(inner, padding, [1, 1])
    }

    fn spread(inner: Blocked, [[top, bottom], [left, right]]: [[usize; 2]; 2], step: [usize; 2]) -> Self {
        let height = top + (inner.height - 1) * step[0] + 1 + bottom;
        let width = left + (inner.width - 1) * step[1] + 1 + right;
        let whole = Blocked { height, width, ..inner };
        Self { whole, inner, first: (top * width + left) * inner.lanes, step }
    }

    pub(crate) fn is_padded(&self) -> bool {
        self.whole != self.inner
    }

    /// Calls `read` with a block of channels, some pixels of the image, and their place in the field.
    fn fill(&self, to: &mut [f32], mut read: impl FnMut(usize, &Range<usize>, &mut [f32])) {
        let Blocked { height, width, .. } = self.inner;
        // Without zeros between them, all rows are one.
        let (rows, length) = if self.is_padded() { (height, width) } else { (1, height * width) };
        let lanes = self.inner.lanes;
        let mut spread = Pooled::take(if self.step[1] > 1 { length * lanes } else { 0 });
        for (plane, to) in to.chunks_exact_mut(self.whole.plane()).enumerate() {
            for row in 0..rows {
                let to = &mut to[self.first + row * self.step[0] * self.whole.row()..];
                let pixels = row * length..(row + 1) * length;
                if self.step[1] == 1 {
                    read(plane, &pixels, &mut to[..length * lanes]);
                    continue;
                }
                read(plane, &pixels, &mut spread);
                for (to, from) in to.chunks_mut(self.step[1] * lanes).zip(spread.chunks_exact(lanes)) {
                    to[..lanes].copy_from_slice(from);
                }
            }
        }
    }
}

/// A convolution whose channels fill vectors, or one in groups.
///
/// Vectors of channels that several groups share are multiplied as if they were one group: the weights between groups are zero. The way
/// back of groups is a convolution for any stride, over a gradient whose pixels stand as far apart as the windows do. A dense one with a
/// stride would multiply too many zeros; of a network with groups these are few of the products.
#[derive(Debug)]
pub(crate) struct Window {
    conv: ConvShape,
    /// The input as the convolution reads it.
    pub(crate) seen: Field,
    /// The gradient of its result as the convolution back reads it.
    pub(crate) arriving: Field,
    input: Blocked,
    output: Blocked,
}

/// Pieces of rows of gradient and input that meet: where they begin, and their length.
pub(crate) struct Meetings {
    /// Of the gradient and of the input, from the first image's first value on.
    pub(crate) starts: Vec<(usize, usize)>,
    pub(crate) pixels: usize,
    /// From one pixel to the next, of the gradient and of the input.
    pub(crate) steps: [usize; 2],
}

impl Window {
    /// `None` for a dense convolution of few channels, whose vectors would be mostly empty, and for groups with more padding than a kernel
    /// reaches.
    pub(crate) fn new(conv: ConvShape, input: Blocked, output: Blocked) -> Option<Self> {
        let dense = conv.groups == 1;
        let narrow = conv.in_channels < input.lanes || conv.out_channels < input.lanes;
        if dense && narrow && !conv.is_pointwise() {
            return None;
        }
        let seen = Field::new(input, conv.padding);
        let unpadded = Field::new(output, [[0; 2]; 2]);
        let this = Self { conv, seen, arriving: unpadded, input, output };
        let arriving = match this.padding_back() {
            Some(padding) => Field::spread(output, padding, conv.stride),
            None if dense => unpadded,
            None => return None,
        };
        let this = Self { arriving, ..this };
        // Around an image of few pixels would be nothing but zeros.
        let full = |field: &Field| field.whole.len() <= MOST_PADDING * field.inner.len();
        (!dense || full(&this.seen) && full(&this.arriving)).then_some(this)
    }

    /// The padding with which the input's gradient is a convolution of the result's; `None` where it is none.
    fn padding_back(&self) -> Option<[[usize; 2]; 2]> {
        let ConvShape { kernel, stride, padding, groups, .. } = self.conv;
        if groups == 1 && stride != [1, 1] {
            return None;
        }
        let sizes = [[self.input.height, self.output.height], [self.input.width, self.output.width]];
        let of_axis = |axis: usize| {
            let [input, output] = sizes[axis];
            let before = (kernel[axis] - 1).checked_sub(padding[axis][0])?;
            // Every pixel of the input begins a window.
            let after = (input + padding[axis][0]).checked_sub((output - 1) * stride[axis] + 1)?;
            Some([before, after])
        };
        Some([of_axis(0)?, of_axis(1)?])
    }

    /// The blocks of input channels that a block of output channels reads.
    pub(crate) fn reads(&self, plane: usize) -> Range<usize> {
        let ConvShape { in_channels, out_channels, groups, .. } = self.conv;
        let lanes = self.input.lanes;
        let (inputs, outputs) = (in_channels / groups, out_channels / groups);
        let last = ((plane + 1) * lanes).min(out_channels) - 1;
        let (first, end) = (plane * lanes / outputs * inputs, (last / outputs + 1) * inputs);
        first / lanes..end.div_ceil(lanes)
    }

    /// Most blocks of input channels that a block of output channels reads.
    pub(crate) fn most_read(&self) -> usize {
        (0..self.output.planes()).map(|plane| self.reads(plane).len()).max().unwrap_or(0)
    }

    /// Cuts blocks of output channels into those that read the same.
    pub(crate) fn reading_alike(&self, planes: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let together = if self.conv.groups == 1 { planes.len() } else { 1 };
        let end = planes.end;
        planes.step_by(together.max(1)).map(move |first| first..(first + together).min(end))
    }

    /// Whether [`pack_back`](Self::pack_back) computes the input's gradient.
    pub(crate) fn goes_back(&self) -> bool {
        self.padding_back().is_some()
    }

    fn taps(&self) -> impl Iterator<Item = [usize; 2]> + use<> {
        let [height, width] = self.conv.kernel;
        (0..height).flat_map(move |y| (0..width).map(move |x| [y, x]))
    }

    /// Fills the seen field of an image; zeros must be there.
    pub(crate) fn see<S: Simd>(&self, simd: S, input: &Operand<'_>, image: usize, to: &mut [f32]) {
        self.seen.fill(to, |plane, pixels, to| input.read(simd, image, plane, pixels, to));
    }

    /// Fills the arriving field of an image; zeros must be there.
    pub(crate) fn arrive<S: Simd>(&self, simd: S, arriving: &Arriving<'_>, image: usize, to: &mut [f32]) {
        self.arriving.fill(to, |plane, pixels, to| arriving.read(simd, image, plane, pixels, to));
    }

    /// The weight, `[out, in / groups, kernel height, kernel width]`, for the way there: a run for each block of input channels and tap.
    pub(crate) fn pack(&self, weight: &[f32]) -> PackedConv {
        let ConvShape { in_channels, out_channels, kernel: [height, width], groups, .. } = self.conv;
        if groups > 1 {
            return self.pack_groups(self.conv, weight.to_vec(), &self.seen);
        }
        let (lanes, taps) = (self.input.lanes, height * width);
        let places: Vec<Option<usize>> = columns(self.input.planes(), taps, lanes)
            .map(|(channel, tap)| (channel < in_channels).then_some(channel * taps + tap))
            .collect();
        let runs = self.runs(&self.seen, self.input.planes());
        let rows = pack::places(out_channels, in_channels * taps, out_channels);
        PackedConv::of_runs(Elements { values: weight, rows: &rows, columns: &places }, runs, lanes)
    }

    /// The weight for the way back, its taps in reverse: a run for each block of output channels and tap.
    pub(crate) fn pack_back(&self, weight: &[f32]) -> PackedConv {
        let ConvShape { in_channels, out_channels, kernel: [height, width], groups, .. } = self.conv;
        if groups > 1 {
            let shape = ConvShape { in_channels: out_channels, out_channels: in_channels, ..self.conv };
            return self.pack_groups(shape, self.transposed(weight), &self.arriving);
        }
        let (lanes, taps) = (self.input.lanes, height * width);
        let places: Vec<Option<usize>> = columns(self.output.planes(), taps, lanes)
            .map(|(output, tap)| {
                (output < out_channels).then_some(output * in_channels * taps + taps - 1 - tap)
            })
            .collect();
        let runs = self.runs(&self.arriving, self.output.planes());
        // With the channels that fill the last vector up, whose gradients shall be zero.
        let rows = pack::places(in_channels, taps, self.input.planes() * lanes);
        PackedConv::of_runs(Elements { values: weight, rows: &rows, columns: &places }, runs, lanes)
    }

    /// A convolution in groups that reads a field: for each vector of outputs, a run for each block of its groups' inputs and tap.
    fn pack_groups(&self, shape: ConvShape, weight: Vec<f32>, field: &Field) -> PackedConv {
        let (plane, row, run) = (field.whole.plane(), field.whole.row(), field.whole.lanes);
        let bias = vec![0.0; shape.out_channels];
        let conv = FoldedConv { weight, bias, shape, activation: Activation::None };
        PackedConv::new(&conv, pack::Window::Blocked { plane, row, run }, run)
    }

    /// The weight of the convolution back: `[in, out / groups, kernel height, kernel width]`, its taps in reverse.
    fn transposed(&self, weight: &[f32]) -> Vec<f32> {
        let ConvShape { in_channels, out_channels, kernel: [height, width], groups, .. } = self.conv;
        let (inputs, outputs, taps) = (in_channels / groups, out_channels / groups, height * width);
        let mut transposed = vec![0.0; weight.len()];
        for (output, weight) in weight.chunks_exact(inputs * taps).enumerate() {
            for (input, weight) in weight.chunks_exact(taps).enumerate() {
                let channel = output / outputs * inputs + input;
                let to = &mut transposed[(channel * outputs + output % outputs) * taps..][..taps];
                to.iter_mut().zip(weight.iter().rev()).for_each(|(to, from)| *to = *from);
            }
        }
        transposed
    }

    fn runs(&self, field: &Field, planes: usize) -> Runs {
        let whole = field.whole;
        let tap = |[y, x]: [usize; 2]| y * whole.row() + x * whole.lanes;
        let offsets =
            (0..planes).flat_map(|plane| self.taps().map(move |at| plane * whole.plane() + tap(at)));
        Runs::new(offsets.map(product::offset).collect(), whole.lanes)
    }

    /// Where the windows of some pixels of the results begin in the seen fields, and where the results go. Pixels count on from image
    /// to image; both from the first value of the first pixel's image.
    pub(crate) fn places(&self, pixels: Range<usize>) -> [Pixels; 2] {
        let [y, x] = self.conv.stride;
        places(&self.output, self.seen.whole, [y, x], pixels)
    }

    /// Likewise of the input's gradients in the arriving fields.
    pub(crate) fn places_back(&self, pixels: Range<usize>) -> [Pixels; 2] {
        places(&self.input, self.arriving.whole, [1, 1], pixels)
    }

    /// What meets in the weight's gradient at the tap in the first row and column, in these images.
    pub(crate) fn meetings(&self, images: Range<usize>) -> Meetings {
        let (seen, arriving) = (&self.seen.whole, &self.arriving.whole);
        let Blocked { height, width, lanes, .. } = self.output;
        let [stride_y, stride_x] = self.conv.stride;
        let joined = !self.seen.is_padded() && !self.arriving.is_padded() && self.conv.is_pointwise();
        let (rows, pixels) = if joined { (1, height * width) } else { (height, width) };
        let starts = images.flat_map(|image| {
            (0..rows).map(move |row| {
                let row_of_left = row * self.arriving.step[0] * arriving.row();
                let left = image * arriving.len() + self.arriving.first + row_of_left;
                (left, image * seen.len() + row * stride_y * seen.row())
            })
        });
        Meetings {
            starts: starts.collect(),
            pixels,
            steps: [self.arriving.step[1], stride_x].map(|step| step * lanes),
        }
    }

    /// The distance of each tap from the first one in the seen field.
    pub(crate) fn tap_offsets(&self) -> impl Iterator<Item = usize> {
        let whole = self.seen.whole;
        self.taps().map(move |[y, x]| y * whole.row() + x * whole.lanes)
    }

    /// Whether sums lie in the weight's own order: those of one tap, without groups, whose channels fill vectors.
    pub(crate) fn is_in_order(&self) -> bool {
        let ConvShape { in_channels, out_channels, kernel, groups, .. } = self.conv;
        let fill = |channels: usize| channels.is_multiple_of(self.input.lanes);
        kernel == [1, 1] && groups == 1 && fill(in_channels) && fill(out_channels)
    }

    /// Adds sums `[lanes or fewer outputs, taps, most_read, LANES]` of a block of outputs to the weight, in its order.
    pub(crate) fn unpack(&self, plane: usize, sums: &[f32], weight: &mut [f32]) {
        let ConvShape { in_channels, out_channels, kernel: [height, width], groups, .. } = self.conv;
        let lanes = self.input.lanes;
        let (taps, read) = (height * width, self.most_read() * lanes);
        let (inputs, outputs) = (in_channels / groups, out_channels / groups);
        let of_outputs = sums.chunks_exact(taps * read).zip(weight.chunks_exact_mut(inputs * taps));
        for (index, (sums, weight)) in of_outputs.enumerate() {
            // Of the block's sums, those of this output's group.
            let first = (plane * lanes + index) / outputs * inputs - self.reads(plane).start * lanes;
            for (channel, weight) in weight.chunks_exact_mut(taps).enumerate() {
                for (tap, weight) in weight.iter_mut().enumerate() {
                    *weight += sums[tap * read + first + channel];
                }
            }
        }
    }
}

/// Channel and tap of each value of the runs, in their order.
fn columns(planes: usize, taps: usize, lanes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..planes * taps)
        .flat_map(move |run| (0..lanes).map(move |lane| (run / taps * lanes + lane, run % taps)))
}

fn places(of: &Blocked, field: Blocked, [y, x]: [usize; 2], pixels: Range<usize>) -> [Pixels; 2] {
    let first = pixels.start / of.pixels();
    let each = pixels.map(|pixel| {
        let (image, pixel) = (pixel / of.pixels() - first, pixel % of.pixels());
        let (row, column) = (pixel / of.width, pixel % of.width);
        let read = image * field.len() + row * y * field.row() + column * x * field.lanes;
        (product::offset(read), product::offset(image * of.len() + pixel * of.lanes))
    });
    let (read, written) = each.unzip();
    [Pixels::new(read), Pixels::new(written)]
}
