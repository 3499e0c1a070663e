//! A convolution's windows read where they lie: from an input with its padding around it, and from a gradient with the padding that
//! the convolution back needs.

use super::operand::{Arriving, Operand};
use crate::layout::Blocked;
use crate::pack::PackedConv;
use crate::params::ConvShape;
use crate::product::{Pixels, Runs};
use crate::simd::Simd;
use std::ops::Range;

/// How many times the image a field may be.
const MOST_PADDING: usize = 4;

/// An image with zeros around it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    /// With the zeros.
    pub(crate) whole: Blocked,
    inner: Blocked,
    /// From the field's first value to the image's.
    first: usize,
}

impl Field {
    fn new(inner: Blocked, [[top, bottom], [left, right]]: [[usize; 2]; 2]) -> Self {
        let (height, width) = (inner.height + top + bottom, inner.width + left + right);
        let whole = Blocked { height, width, ..inner };
        Self { whole, inner, first: (top * width + left) * inner.lanes }
    }

    pub(crate) fn is_padded(&self) -> bool {
        self.whole != self.inner
    }

    /// Calls `read` with a block of channels, some pixels of the image, and their place in the field.
    fn fill(&self, to: &mut [f32], mut read: impl FnMut(usize, &Range<usize>, &mut [f32])) {
        let Blocked { height, width, .. } = self.inner;
        // Without zeros between them, all rows are one.
        let (rows, length) = if self.is_padded() { (height, width) } else { (1, height * width) };
        for (plane, to) in to.chunks_exact_mut(self.whole.plane()).enumerate() {
            for row in 0..rows {
                let at = self.first + row * self.whole.row();
                let pixels = row * length..(row + 1) * length;
                read(plane, &pixels, &mut to[at..at + length * self.inner.lanes]);
            }
        }
    }
}

/// A convolution without groups, whose channels fill vectors.
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
    /// From one pixel of the input to the next.
    pub(crate) step: usize,
}

impl Window {
    /// `None` for a convolution of few channels, whose vectors would be mostly empty.
    pub(crate) fn new(conv: ConvShape, input: Blocked, output: Blocked) -> Option<Self> {
        let narrow = conv.in_channels < input.lanes || conv.out_channels < input.lanes;
        if narrow && !conv.is_pointwise() || conv.groups != 1 {
            return None;
        }
        let seen = Field::new(input, conv.padding);
        let unpadded = Field::new(output, [[0; 2]; 2]);
        let this = Self { conv, seen, arriving: unpadded, input, output };
        let arriving = this.padding_back().map_or(unpadded, |padding| Field::new(output, padding));
        let this = Self { arriving, ..this };
        // Around an image of few pixels would be nothing but zeros.
        let full = |field: &Field| field.whole.len() <= MOST_PADDING * field.inner.len();
        (full(&this.seen) && full(&this.arriving)).then_some(this)
    }

    /// The padding with which the input's gradient is a convolution of the result's; `None` where it is none.
    fn padding_back(&self) -> Option<[[usize; 2]; 2]> {
        let ConvShape { kernel, stride, padding, .. } = self.conv;
        let rest = |axis: usize, side: usize| (kernel[axis] - 1).checked_sub(padding[axis][side]);
        let padding = [[rest(0, 0)?, rest(0, 1)?], [rest(1, 0)?, rest(1, 1)?]];
        (stride == [1, 1]).then_some(padding)
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

    /// The weight, `[out, in, kernel height, kernel width]`, for the way there: a run for each block of input channels and tap.
    pub(crate) fn pack(&self, weight: &[f32]) -> PackedConv {
        let ConvShape { in_channels, out_channels, kernel: [height, width], .. } = self.conv;
        let (lanes, taps) = (self.input.lanes, height * width);
        let places: Vec<Option<usize>> = columns(self.input.planes(), taps, lanes)
            .map(|(channel, tap)| (channel < in_channels).then_some(channel * taps + tap))
            .collect();
        let runs = self.runs(&self.seen, self.input.planes());
        PackedConv::of_runs(out_channels, runs, lanes, |output, column| {
            places[column].map_or(0.0, |place| weight[output * in_channels * taps + place])
        })
    }

    /// The weight for the way back, its taps in reverse: a run for each block of output channels and tap.
    pub(crate) fn pack_back(&self, weight: &[f32]) -> PackedConv {
        let ConvShape { in_channels, out_channels, kernel: [height, width], .. } = self.conv;
        let (lanes, taps) = (self.input.lanes, height * width);
        let places: Vec<Option<usize>> = columns(self.output.planes(), taps, lanes)
            .map(|(output, tap)| {
                (output < out_channels).then_some(output * in_channels * taps + taps - 1 - tap)
            })
            .collect();
        let runs = self.runs(&self.arriving, self.output.planes());
        // With the channels that fill the last vector up, whose gradients shall be zero.
        PackedConv::of_runs(self.input.planes() * lanes, runs, lanes, |channel, column| {
            match places[column] {
                Some(place) if channel < in_channels => weight[place + channel * taps],
                _ => 0.0,
            }
        })
    }

    fn runs(&self, field: &Field, planes: usize) -> Runs {
        let whole = field.whole;
        let tap = |[y, x]: [usize; 2]| y * whole.row() + x * whole.lanes;
        let offsets =
            (0..planes).flat_map(|plane| self.taps().map(move |at| plane * whole.plane() + tap(at)));
        Runs::new(offsets.map(|offset| offset as u32).collect(), whole.lanes)
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
                let left = image * arriving.len() + self.arriving.first + row * arriving.row();
                (left, image * seen.len() + row * stride_y * seen.row())
            })
        });
        Meetings { starts: starts.collect(), pixels, step: stride_x * lanes }
    }

    /// The distance of each tap from the first one in the seen field.
    pub(crate) fn tap_offsets(&self) -> impl Iterator<Item = usize> {
        let whole = self.seen.whole;
        self.taps().map(move |[y, x]| y * whole.row() + x * whole.lanes)
    }

    /// Puts sums `[lanes or fewer outputs, taps, input planes, LANES]` in the order of the weight.
    pub(crate) fn unpack(&self, sums: &[f32], weight: &mut [f32]) {
        let ConvShape { in_channels, kernel: [height, width], .. } = self.conv;
        let (taps, channels) = (height * width, self.input.planes() * self.input.lanes);
        for (sums, weight) in
            sums.chunks_exact(taps * channels).zip(weight.chunks_exact_mut(in_channels * taps))
        {
            for (channel, weight) in weight.chunks_exact_mut(taps).enumerate() {
                for (tap, weight) in weight.iter_mut().enumerate() {
                    *weight += sums[tap * channels + channel];
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
        (read as u32, (image * of.len() + pixel * of.lanes) as u32)
    });
    let (read, written) = each.unzip();
    [Pixels::new(read), Pixels::new(written)]
}
