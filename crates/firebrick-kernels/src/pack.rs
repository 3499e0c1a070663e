//! Weights in the order in which the kernels read them.

use crate::activation::Finish;
use crate::buffer::Buffer;
use crate::chain::Pooled;
use crate::layout::Blocked;
use crate::params::{ConvShape, FoldedConv};
use crate::product::{self, Runs};
use rayon::prelude::*;
use std::ops::Range;

/// Weights up to this size stay in the second-level cache while their layer runs.
const CACHED_BYTES: usize = 64 << 10;

/// Up to three vectors of output channels that are computed together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panel {
    /// Its place among the convolution's panels.
    pub(crate) index: usize,
    pub(crate) first_plane: usize,
    pub(crate) vectors: usize,
    /// Where its weights begin.
    weights: usize,
    /// Which runs it reads.
    runs: usize,
}

/// A convolution or linear layer whose weights are packed for one geometry of the input.
#[derive(Debug)]
pub(crate) struct PackedConv {
    panels: Vec<Panel>,
    /// From the pool: training packs anew in every step.
    weights: Pooled,
    bias: Buffer,
    runs: Vec<Runs>,
    pub(crate) finish: Finish,
    lanes: usize,
}

/// How the input of a convolution lies in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Window {
    /// `[planes, rows, columns, LANES]`: values from plane to plane and from row to row, and channels that are read at a time.
    Blocked { plane: usize, row: usize, run: usize },
    /// `[rows, columns, channels]`: values from row to row.
    Nhwc { row: usize },
}

/// A value of the input that a weight belongs to: channel, row and column of the kernel. `None` is padding.
type Tap = Option<[usize; 3]>;

/// A matrix of weights, wherever they lie: an element is the value at the sum of its row's and its column's place, or zero where either
/// has none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Elements<'a> {
    pub(crate) values: &'a [f32],
    /// One for each output channel.
    pub(crate) rows: &'a [Option<usize>],
    pub(crate) columns: &'a [Option<usize>],
}

impl Elements<'_> {
    /// Packs `width` rows from `first` on, as many as there are: in `to`, `[columns, width]`, they lie side by side.
    fn pack(&self, first: usize, columns: &[Option<usize>], to: &mut [f32], width: usize) {
        let rows = &self.rows[first..self.rows.len().min(first + width)];
        if let Some(at) = side_by_side(columns) {
            for (lane, row) in rows.iter().enumerate() {
                let to = to.iter_mut().skip(lane).step_by(width);
                match row {
                    Some(row) => {
                        let from = &self.values[row + at..][..columns.len()];
                        to.zip(from).for_each(|(to, from)| *to = *from);
                    }
                    None => to.for_each(|to| *to = 0.0),
                }
            }
        } else if let Some(at) = side_by_side(rows) {
            for (column, to) in columns.iter().zip(to.chunks_exact_mut(width)) {
                match column {
                    Some(column) => {
                        to[..rows.len()].copy_from_slice(&self.values[column + at..][..rows.len()])
                    }
                    None => to[..rows.len()].fill(0.0),
                }
            }
        } else {
            for (lane, row) in rows.iter().enumerate() {
                let to = to.iter_mut().skip(lane).step_by(width);
                for (to, column) in to.zip(columns) {
                    *to = row.zip(*column).map_or(0.0, |(row, column)| self.values[row + column]);
                }
            }
        }
        to.chunks_exact_mut(width).for_each(|to| to[rows.len()..].fill(0.0));
    }
}

/// The first place, if the others follow it one by one.
fn side_by_side(places: &[Option<usize>]) -> Option<usize> {
    let first = (*places.first()?)?;
    places.iter().zip(first..).all(|(place, at)| *place == Some(at)).then_some(first)
}

/// The places of `count` rows or columns that begin `step` values apart, and none for those up to `all`.
pub(crate) fn places(count: usize, step: usize, all: usize) -> Vec<Option<usize>> {
    (0..all).map(|index| (index < count).then_some(index * step)).collect()
}

impl PackedConv {
    /// Packs a convolution that reads its input through `window`.
    pub(crate) fn new(conv: &FoldedConv, window: Window, lanes: usize) -> Self {
        // Pairs make tiles of many pixels, which reuse each weight the most.
        let width = if conv.shape.groups == 1 { 2 } else { width_for_groups(&conv.shape, lanes) };
        Self::with_panels(conv, window, lanes, width)
    }

    fn with_panels(conv: &FoldedConv, window: Window, lanes: usize, width: usize) -> Self {
        let shape = &conv.shape;
        let planes = shape.out_channels.div_ceil(lanes);
        let mut packed = Self {
            panels: Vec::new(),
            weights: Pooled::take(0),
            bias: Buffer::zeroed(planes * lanes),
            runs: Vec::new(),
            finish: Finish::of(conv.activation),
            lanes,
        };
        packed.bias[..shape.out_channels].copy_from_slice(&conv.bias);

        let mut weights = Vec::new();
        let mut dense: Option<Vec<Tap>> = None;
        for (first_plane, vectors) in panels_of(planes, width) {
            let channels = first_plane * lanes..((first_plane + vectors) * lanes).min(shape.out_channels);
            let taps = match &dense {
                Some(taps) => taps.clone(),
                None => {
                    let (runs, taps) = runs_of(shape, window, lanes, channels.clone());
                    packed.runs.push(runs);
                    if shape.groups == 1 {
                        dense = Some(taps.clone());
                    }
                    taps
                }
            };
            let index = packed.panels.len();
            packed.panels.push(Panel {
                index,
                first_plane,
                vectors,
                weights: weights.len(),
                runs: packed.runs.len() - 1,
            });
            for tap in &taps {
                weights.extend((0..vectors * lanes).map(|lane| match tap {
                    Some(tap) => weight_at(conv, channels.start + lane, *tap),
                    None => 0.0,
                }));
            }
        }
        packed.weights = Pooled::from_slice(&weights);
        packed
    }

    /// Packs a pointwise convolution over planes of input that are `plane` values apart, to be read plane by plane.
    pub(crate) fn pointwise(conv: &FoldedConv, plane: usize, lanes: usize) -> Self {
        debug_assert!(conv.shape.is_pointwise());
        Self::new(conv, Window::Blocked { plane, row: 0, run: lanes }, lanes)
    }

    /// Packs a matrix whose columns are the channels of planes that are `plane` values apart.
    pub(crate) fn matrix(elements: Elements<'_>, plane: usize, lanes: usize) -> Self {
        let planes = elements.columns.len() / lanes;
        Self::of_runs(elements, Runs::planes(planes, plane, lanes), lanes)
    }

    /// Packs a matrix whose columns are read in runs of a vector each, on several threads.
    pub(crate) fn of_runs(elements: Elements<'_>, runs: Runs, lanes: usize) -> Self {
        /// Columns that are packed at a time, so that neither side leaves the cache.
        const TOGETHER: usize = 16;
        let output_planes = elements.rows.len().div_ceil(lanes);
        let columns = elements.columns.len();
        assert_eq!(columns, runs.count() * lanes, "a column for each value that is read");
        let mut packed = Self {
            panels: Vec::new(),
            weights: Pooled::take(output_planes * lanes * columns),
            bias: Buffer::zeroed(output_planes * lanes),
            runs: vec![runs],
            finish: Finish::NOTHING,
            lanes,
        };
        let (mut first_weight, mut rest) = (0, &mut packed.weights[..]);
        let mut tasks = Vec::new();
        for (first_plane, vectors) in panels_of(output_planes, 2) {
            let index = packed.panels.len();
            packed.panels.push(Panel { index, first_plane, vectors, weights: first_weight, runs: 0 });
            let (values, behind) = rest.split_at_mut(columns * vectors * lanes);
            tasks.push((first_plane * lanes, vectors * lanes, values));
            (first_weight, rest) = (first_weight + columns * vectors * lanes, behind);
        }
        tasks.into_par_iter().with_max_len(1).for_each(|(first, width, values)| {
            let blocks = elements.columns.chunks(TOGETHER).zip(values.chunks_mut(TOGETHER * width));
            blocks.for_each(|(columns, values)| elements.pack(first, columns, values, width));
        });
        packed
    }

    /// Packs a linear layer between feature vectors.
    pub(crate) fn linear(conv: &FoldedConv, lanes: usize) -> Self {
        // For a single image, the sums of a panel are all that runs side by side.
        Self::with_panels(conv, Window::Blocked { plane: lanes, row: 0, run: lanes }, lanes, 3)
    }

    pub(crate) fn panels(&self) -> &[Panel] {
        &self.panels
    }

    pub(crate) fn bias(&self, panel: &Panel) -> &[f32] {
        &self.bias[panel.first_plane * self.lanes..][..panel.vectors * self.lanes]
    }

    pub(crate) fn runs(&self, panel: &Panel) -> &Runs {
        &self.runs[panel.runs]
    }

    /// The panel's weights for `count` runs from `first` on.
    pub(crate) fn weights(&self, panel: &Panel, first: usize, count: usize) -> &[f32] {
        let run = self.runs(panel).length() * panel.vectors * self.lanes;
        &self.weights[panel.weights + first * run..][..count * run]
    }

    /// What the panel after this one reads of the same runs; nothing if it is likely to be in the cache anyway.
    pub(crate) fn upcoming(&self, panel: &Panel, first: usize, count: usize) -> &[f32] {
        match self.panels.get(panel.index + 1) {
            Some(next) if size_of_val(&*self.weights) > CACHED_BYTES => {
                let count = count.min(self.runs(next).count().saturating_sub(first));
                self.weights(next, first, count)
            }
            _ => &[],
        }
    }
}

/// Cuts planes into panels of `width` planes, 1 to 3, and as few of another width as it takes to leave none of several alone.
pub(crate) fn panels_of(planes: usize, width: usize) -> impl Iterator<Item = (usize, usize)> {
    debug_assert!((1..=3).contains(&width));
    let mut first = 0;
    std::iter::from_fn(move || {
        let vectors = match planes - first {
            0 => return None,
            _ if width == 1 => 1,
            left @ 1..=3 => left,
            4 => 2,
            _ => width,
        };
        first += vectors;
        Some((first - vectors, vectors))
    })
}

fn weight_at(conv: &FoldedConv, output: usize, [input, y, x]: [usize; 3]) -> f32 {
    let shape = &conv.shape;
    if output >= shape.out_channels {
        return 0.0;
    }
    let per_group = shape.in_channels / shape.groups;
    if input / per_group != output / (shape.out_channels / shape.groups) {
        return 0.0;
    }
    let [height, width] = shape.kernel;
    conv.weight[((output * per_group + input % per_group) * height + y) * width + x]
}

/// Channels to read at a time: half a plane where that leaves out a half that only fills the last plane up, as with 24 channels
/// in planes of 16.
pub(crate) fn run_of(channels: usize, lanes: usize) -> usize {
    match channels % lanes {
        rest if rest > 0 && 2 * rest <= lanes => lanes / 2,
        _ => lanes,
    }
}

/// The input channels of the groups to which some output channels belong, from and to whole halves of a vector.
fn channels_of_groups(shape: &ConvShape, lanes: usize, channels: Range<usize>) -> Range<usize> {
    let (inputs, outputs) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
    let groups = channels.start / outputs..(channels.end - 1) / outputs + 1;
    let half = lanes / 2;
    groups.start * inputs / half * half..(groups.end * inputs).next_multiple_of(half)
}

/// The panels' width, 1 or 2 vectors, for which the fewest products are with zeros between groups.
fn width_for_groups(shape: &ConvShape, lanes: usize) -> usize {
    let work = |width: usize| -> usize {
        let panels = panels_of(shape.out_channels.div_ceil(lanes), width);
        let of_panel = |(first, vectors): (usize, usize)| {
            let channels = first * lanes..((first + vectors) * lanes).min(shape.out_channels);
            channels_of_groups(shape, lanes, channels).len() * vectors
        };
        panels.map(of_panel).sum()
    };
    // A single vector reads a pixel for each product, which takes about a tenth longer.
    if 11 * work(1) < 10 * work(2) { 1 } else { 2 }
}

/// The runs that the output channels `channels` read, and the tap of each of their values.
fn runs_of(shape: &ConvShape, window: Window, lanes: usize, channels: Range<usize>) -> (Runs, Vec<Tap>) {
    let [height, width] = shape.kernel;
    let mut offsets = Vec::new();
    let mut taps = Vec::new();
    let length = match window {
        Window::Nhwc { row } => {
            for y in 0..height {
                offsets.push(y * row);
                let columns =
                    (0..width).flat_map(|x| (0..shape.in_channels).map(move |channel| Some([channel, y, x])));
                taps.extend(columns);
            }
            width * shape.in_channels
        }
        Window::Blocked { plane, row, run } if shape.groups == 1 => {
            for first in (0..shape.in_channels).step_by(run) {
                for y in 0..height {
                    for x in 0..width {
                        offsets.push(first / lanes * plane + y * row + x * lanes + first % lanes);
                        let channels = first..first + run;
                        taps.extend(
                            channels.map(|channel| (channel < shape.in_channels).then_some([channel, y, x])),
                        );
                    }
                }
            }
            run
        }
        // The channels of the groups to which the panel's outputs belong, and a few beside them; the weights are zero where the
        // groups differ.
        Window::Blocked { plane, row, .. } => {
            let run = lanes / 2;
            for first in channels_of_groups(shape, lanes, channels).step_by(run) {
                for y in 0..height {
                    for x in 0..width {
                        offsets.push(first / lanes * plane + y * row + x * lanes + first % lanes);
                        let channels = first..first + run;
                        taps.extend(
                            channels.map(|channel| (channel < shape.in_channels).then_some([channel, y, x])),
                        );
                    }
                }
            }
            run
        }
    };
    let offsets = offsets.into_iter().map(product::offset).collect();
    (Runs::new(offsets, length), taps)
}

/// Depthwise weights, `[planes, kernel height, kernel width, LANES]`, and biases, `[planes, LANES]`.
#[derive(Debug)]
pub(crate) struct PackedDepthwise {
    weights: Buffer,
    bias: Buffer,
    pub(crate) finish: Finish,
    taps: usize,
    lanes: usize,
}

impl PackedDepthwise {
    pub(crate) fn new(conv: &FoldedConv, lanes: usize) -> Self {
        let channels = conv.shape.out_channels;
        let taps = conv.shape.kernel[0] * conv.shape.kernel[1];
        let as_image = Blocked { channels, height: 1, width: taps, lanes };
        let mut weights = Buffer::zeroed(as_image.len());
        for channel in 0..channels {
            for tap in 0..taps {
                let to = (channel / lanes * taps + tap) * lanes + channel % lanes;
                weights[to] = conv.weight[channel * taps + tap];
            }
        }
        let mut bias = Buffer::zeroed(as_image.planes() * lanes);
        bias[..channels].copy_from_slice(&conv.bias);
        Self { weights, bias, finish: Finish::of(conv.activation), taps, lanes }
    }

    pub(crate) fn weight(&self, plane: usize) -> &[f32] {
        let len = self.taps * self.lanes;
        &self.weights[plane * len..][..len]
    }

    pub(crate) fn bias(&self, plane: usize) -> &[f32] {
        &self.bias[plane * self.lanes..][..self.lanes]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_every_plane_once() {
        for (planes, width) in (0..40).flat_map(|planes| [(planes, 2), (planes, 3)]) {
            let panels: Vec<_> = panels_of(planes, width).collect();
            let covered: Vec<_> =
                panels.iter().flat_map(|&(first, vectors)| first..first + vectors).collect();
            assert_eq!(covered, (0..planes).collect::<Vec<_>>());
            assert!(panels.iter().all(|&(_, vectors)| vectors <= 3 && (vectors > 1 || planes == 1)));
            assert!(panels.iter().filter(|&&(_, vectors)| vectors != width).count() <= 2);
        }
    }
}
