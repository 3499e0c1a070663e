//! Convolutions that mix channels and read their windows where these lie: those with a larger kernel or a stride, in groups, and pointwise
//! ones of many weights.
//!
//! Where there are few weights, an image is one thread's work, and threads have sums of the weight's gradient of their own. Where there
//! are many, those sums would be most of the memory's traffic: then the fields of the whole batch are made first, pixels of several
//! images are multiplied together, and a thread computes the gradient of some outputs' weights from all of them.

use super::matrix::multiply_at;
use super::memory::Pooled;
use super::moments::{Parts, moments};
use super::operand::{Arriving, Departing, Operand};
use super::outer::Outer;
use super::patches::Patches;
use super::tiles::chunks;
use super::window::{Field, Meetings, Window};
use crate::buffer::{Shared, by_blocks};
use crate::layout::Blocked;
use crate::pack::{self, Elements, PackedConv};
use crate::params::ConvShape;
use crate::product::Addressing;
use crate::simd::Simd;
use rayon::prelude::*;
use std::ops::Range;

/// From so many weights on, their gradient is not summed by each thread.
const MANY_WEIGHTS: usize = 1 << 18;
/// Pixels that are multiplied together: enough to be worth reading many weights for.
const TILE_PIXELS: usize = 192;
/// Pixels whose gradients and inputs stay in the second-level cache while they meet: of an image, and, of some blocks only, of the batch.
const BAND_PIXELS: usize = 512;
const BATCH_BAND_PIXELS: usize = 1536;

/// A convolution that mixes channels, of windows where they lie.
#[derive(Debug)]
pub(crate) struct Windowed {
    conv: ConvShape,
    window: Window,
    /// For the way back where it is no convolution of the same kind: the products are added to their places.
    patches: Option<Patches>,
    /// Whether the batch is worked on as a whole.
    whole: bool,
    batch: usize,
    input: Blocked,
    output: Blocked,
}

/// A weight for the way back.
enum Back<'a> {
    Window(PackedConv),
    Patches(PackedConv, &'a Patches),
}

impl Windowed {
    /// `None` where another way is the better one: for few input channels, and for pointwise convolutions of few weights. Where there are
    /// groups, for more padding than a kernel reaches, which has no other way.
    pub(crate) fn new(conv: ConvShape, batch: usize, input: Blocked, output: Blocked) -> Option<Self> {
        let weights = conv.in_channels / conv.groups * conv.out_channels * conv.kernel[0] * conv.kernel[1];
        let whole = weights >= MANY_WEIGHTS;
        if conv.is_pointwise() && !whole { None } else { Self::in_a_way(whole, conv, batch, input, output) }
    }

    fn in_a_way(whole: bool, conv: ConvShape, batch: usize, input: Blocked, output: Blocked) -> Option<Self> {
        let window = Window::new(conv, input, output)?;
        let patches = (!window.goes_back()).then(|| Patches::new(&conv, input, output));
        Some(Self { conv, window, patches, whole, batch, input, output })
    }

    /// The raw result for the whole batch, and its moments.
    pub(crate) fn forward<S: Simd>(&self, simd: S, input: Operand<'_>, weight: &[f32]) -> (Pooled, Parts) {
        let Self { window, batch, output, .. } = self;
        let packed = window.pack(weight);
        let mut y = Pooled::take(batch * output.len());
        let mut parts = Parts::new(vec![output.pixels(); *batch], output.planes() * S::LANES);
        let (shared, figures) = (Shared::new(&mut y), parts.shared());
        let tile = |seen: &[f32], pixels: Range<usize>| {
            // SAFETY: tiles are disjoint.
            unsafe { self.tile(simd, &packed, seen, &pixels, shared) };
        };
        let gather_moments = |image: usize| {
            for plane in 0..output.planes() {
                let first = image * output.len() + plane * output.plane();
                // SAFETY: the image's tiles have been written, and nobody else looks after its moments.
                unsafe {
                    let values = shared.read_part(first, output.plane());
                    let (mean, squares) = simd.vectorize(
                        #[inline(always)]
                        || moments(simd, values),
                    );
                    figures.put(simd, image, plane, mean, squares);
                }
            }
        };
        if self.whole {
            let fields = self.seen(simd, &input);
            let seen = fields.as_deref().unwrap_or(input.values);
            shared_tiles(0..batch * output.pixels()).into_par_iter().with_max_len(1).for_each(|pixels| {
                let first = pixels.start / output.pixels();
                tile(&seen[first * window.seen.whole.len()..], pixels);
            });
            (0..*batch).into_par_iter().with_max_len(1).for_each(gather_moments);
        } else {
            (0..*batch).into_par_iter().with_max_len(1).for_each_init(
                || Pooled::zeroed(window.seen.whole.len()),
                |seen, image| {
                    window.see(simd, &input, image, seen);
                    let pixels = image * output.pixels()..(image + 1) * output.pixels();
                    each_tile(pixels).into_iter().for_each(|pixels| tile(seen, pixels));
                    gather_moments(image);
                },
            );
        }
        (y, parts)
    }

    /// The results of some pixels of the batch, from the seen fields of their images.
    ///
    /// # Safety
    /// Nobody else uses them.
    unsafe fn tile<S: Simd>(
        &self,
        simd: S,
        packed: &PackedConv,
        seen: &[f32],
        pixels: &Range<usize>,
        result: Shared<'_>,
    ) {
        let first = pixels.start / self.output.pixels();
        let [read, written] = self.window.places(pixels.clone());
        let addressing = Addressing::Tables(&read, &written);
        let result = result.from(first * self.output.len());
        // SAFETY: handed on to the caller.
        unsafe { multiply_at(simd, seen, packed, result, self.output.plane(), addressing, pixels.len()) };
    }

    /// The seen fields of the whole batch; nothing where the input can be read where it lies.
    fn seen<S: Simd>(&self, simd: S, input: &Operand<'_>) -> Option<Pooled> {
        let window = &self.window;
        let in_place = !window.seen.is_padded() && input.norm.is_none();
        (!in_place).then(|| self.fields(&window.seen, |image, to| window.see(simd, input, image, to)))
    }

    /// The fields of the whole batch.
    fn fields(&self, field: &Field, fill: impl Fn(usize, &mut [f32]) + Sync) -> Pooled {
        let mut fields = Pooled::take(self.batch * field.whole.len());
        fields.par_chunks_exact_mut(field.whole.len()).with_max_len(1).enumerate().for_each(|(image, to)| {
            if field.is_padded() {
                to.fill(0.0);
            }
            fill(image, to);
        });
        fields
    }

    /// Pixels behind each image's sums that [`backward`](Self::backward) makes over the input's gradient.
    pub(crate) fn backward_counts(&self) -> Vec<usize> {
        vec![self.input.pixels(); self.batch]
    }

    /// The weight's gradient; and the input's, where it is asked for.
    pub(crate) fn backward<S: Simd>(
        &self,
        simd: S,
        input: Operand<'_>,
        arriving: Arriving<'_>,
        weight: &[f32],
        departing: Option<Departing<'_>>,
    ) -> Vec<f32> {
        let back = departing.map(|departing| (departing, self.pack_back(weight)));
        let back = back.as_ref().map(|(departing, back)| (departing, back));
        match self.whole {
            true => self.whole_batch_backward(simd, input, arriving, weight.len(), back),
            false => self.images_backward(simd, input, arriving, weight.len(), back),
        }
    }

    fn pack_back(&self, weight: &[f32]) -> Back<'_> {
        let Some(patches) = &self.patches else { return Back::Window(self.window.pack_back(weight)) };
        let (outputs, lanes) = (self.conv.out_channels, self.output.lanes);
        let of_outputs = pack::places(outputs, weight.len() / outputs, self.output.planes() * lanes);
        let elements =
            Elements { values: weight, rows: &patches.weights(self.conv.kernel), columns: &of_outputs };
        Back::Patches(PackedConv::matrix(elements, self.output.plane(), lanes), patches)
    }

    fn whole_batch_backward<S: Simd>(
        &self,
        simd: S,
        input: Operand<'_>,
        arriving: Arriving<'_>,
        weights: usize,
        back: Option<(&Departing<'_>, &Back<'_>)>,
    ) -> Vec<f32> {
        let Self { window, batch, output, .. } = self;
        let field = &window.arriving.whole;
        let dy = self.fields(&window.arriving, |image, to| window.arrive(simd, &arriving, image, to));
        let fields = self.seen(simd, &input);
        let seen = fields.as_deref().unwrap_or(input.values);

        let meetings = window.meetings(0..*batch);
        let row = self.columns();
        let per_plane = weights / self.conv.out_channels * S::LANES;
        let planes = (0..output.planes()).into_par_iter().with_max_len(1);
        let gradient = by_blocks(weights, per_plane, planes, |plane, gradient| {
            let meet = |sums: &mut [f32]| {
                let dy = &dy[plane * field.plane()..];
                self.meet(simd, (dy, plane..plane + 1), seen, &meetings, BATCH_BAND_PIXELS, sums);
            };
            if window.is_in_order() {
                return meet(gradient);
            }
            let mut sums = Pooled::zeroed(S::LANES * row);
            meet(&mut sums);
            window.unpack(plane, &sums, gradient);
        });

        let Some((departing, back)) = back else { return gradient };
        match back {
            Back::Window(packed) => {
                shared_tiles(0..batch * self.input.pixels()).into_par_iter().with_max_len(1).for_each(
                    |pixels| {
                        let first = pixels.start / self.input.pixels();
                        // SAFETY: tiles are disjoint.
                        unsafe {
                            self.tile_back(simd, packed, &dy[first * field.len()..], &pixels, departing)
                        };
                    },
                );
            }
            Back::Patches(packed, patches) => (0..*batch).into_par_iter().with_max_len(1).for_each(|image| {
                let dy = &dy[image * output.len()..][..output.len()];
                // SAFETY: images are disjoint.
                unsafe { self.scatter_back(simd, packed, patches, dy, image, departing) };
            }),
        }
        (0..*batch).into_par_iter().with_max_len(1).for_each(|image| {
            // SAFETY: images are disjoint, and their gradients have been put down.
            unsafe { self.finish(simd, image, departing) };
        });
        gradient
    }

    fn images_backward<S: Simd>(
        &self,
        simd: S,
        input: Operand<'_>,
        arriving: Arriving<'_>,
        weights: usize,
        back: Option<(&Departing<'_>, &Back<'_>)>,
    ) -> Vec<f32> {
        let Self { window, batch, output, .. } = self;
        let (row, planes) = (self.columns(), output.planes());
        let meetings = window.meetings(0..1);
        let partial = planes * S::LANES * row;
        let chunks = chunks(*batch);
        let mut partials = Pooled::take(chunks.len() * partial);
        let tasks: Vec<_> = chunks.zip(partials.chunks_exact_mut(partial)).collect();
        tasks.into_par_iter().with_max_len(1).for_each(|(images, sums)| {
            sums.fill(0.0);
            let mut seen = Pooled::zeroed(window.seen.whole.len());
            let mut dy = Pooled::zeroed(window.arriving.whole.len());
            for image in images {
                window.see(simd, &input, image, &mut seen);
                window.arrive(simd, &arriving, image, &mut dy);
                self.meet(simd, (&dy, 0..planes), &seen, &meetings, BAND_PIXELS, sums);
                let Some((departing, back)) = back else { continue };
                // SAFETY: images are disjoint, and each belongs to one task.
                unsafe {
                    match back {
                        Back::Window(packed) => {
                            let pixels = image * self.input.pixels()..(image + 1) * self.input.pixels();
                            for pixels in each_tile(pixels) {
                                self.tile_back(simd, packed, &dy, &pixels, departing);
                            }
                        }
                        Back::Patches(packed, patches) => {
                            self.scatter_back(simd, packed, patches, &dy, image, departing);
                        }
                    }
                    self.finish(simd, image, departing);
                }
            }
        });

        let per_plane = weights / self.conv.out_channels * S::LANES;
        let planes = (0..planes).into_par_iter().with_max_len(1);
        by_blocks(weights, per_plane, planes, |plane, gradient| {
            for partial in partials.chunks_exact(partial) {
                window.unpack(plane, &partial[plane * S::LANES * row..][..S::LANES * row], gradient);
            }
        })
    }

    /// Values of a row of the weight's gradient while it is summed: `[taps, input planes that an output reads, LANES]`.
    fn columns(&self) -> usize {
        self.conv.kernel[0] * self.conv.kernel[1] * self.window.most_read() * self.input.lanes
    }

    /// Adds up the gradient of the weights of some blocks of outputs, where their arriving fields meet the seen ones at each tap: a band
    /// of about so many pixels at a time. `dy` begins with the first of these blocks; `sums` is `[outputs, columns]`.
    fn meet<S: Simd>(
        &self,
        simd: S,
        (dy, planes): (&[f32], Range<usize>),
        seen: &[f32],
        meetings: &Meetings,
        band: usize,
        sums: &mut [f32],
    ) {
        let Window { seen: field, arriving, .. } = &self.window;
        let (row, width) = (self.columns(), self.window.most_read() * S::LANES);
        let [left_step, right_step] = meetings.steps;
        for starts in meetings.starts.chunks((band / meetings.pixels).max(1)) {
            for alike in self.window.reading_alike(planes.clone()) {
                let reads = self.window.reads(alike.start);
                let place = alike.start - planes.start;
                for (tap, offset) in self.window.tap_offsets().enumerate() {
                    let job = Outer {
                        left: &dy[place * arriving.whole.plane()..],
                        left_plane: arriving.whole.plane(),
                        left_planes: alike.len(),
                        right: &seen[reads.start * field.whole.plane() + offset..],
                        right_plane: field.whole.plane(),
                        right_planes: reads.len(),
                        starts,
                        pixels: meetings.pixels,
                        left_step,
                        right_step,
                        result_row: row,
                    };
                    job.add_to(simd, &mut sums[place * S::LANES * row + tap * width..]);
                }
            }
        }
    }

    /// The input's gradient at some pixels of the batch, from the arriving fields of their images.
    ///
    /// # Safety
    /// Nobody else uses them.
    unsafe fn tile_back<S: Simd>(
        &self,
        simd: S,
        packed: &PackedConv,
        dy: &[f32],
        pixels: &Range<usize>,
        departing: &Departing<'_>,
    ) {
        let first = pixels.start / self.input.pixels();
        let [read, written] = self.window.places_back(pixels.clone());
        let addressing = Addressing::Tables(&read, &written);
        let result = departing.at(first, 0);
        // SAFETY: handed on to the caller.
        unsafe { multiply_at(simd, dy, packed, result, self.input.plane(), addressing, pixels.len()) };
    }

    /// The input's gradient of an image, by adding the products of its pixels to the places of their windows.
    ///
    /// # Safety
    /// Nobody else uses the image.
    unsafe fn scatter_back<S: Simd>(
        &self,
        simd: S,
        packed: &PackedConv,
        patches: &Patches,
        dy: &[f32],
        image: usize,
        departing: &Departing<'_>,
    ) {
        let lanes = S::LANES;
        // SAFETY: handed on to the caller.
        let to = unsafe { departing.at(image, 0).write(0, self.input.len()) };
        to.fill(0.0);
        let most = TILE_PIXELS.min(self.output.pixels());
        let mut windows = Pooled::take(patches.planes() * most * lanes);
        for pixels in each_tile(0..self.output.pixels()) {
            let plane = pixels.len() * lanes;
            let result = Shared::new(&mut windows);
            let dy = &dy[pixels.start * lanes..];
            // SAFETY: the memory is this thread's own.
            unsafe { multiply_at(simd, dy, packed, result, plane, Addressing::Contiguous, pixels.len()) };
            patches.scatter(simd, &windows, plane, &pixels, to);
        }
    }

    /// Carries an image's gradient through the activation before.
    ///
    /// # Safety
    /// Nobody else uses the image.
    unsafe fn finish<S: Simd>(&self, simd: S, image: usize, departing: &Departing<'_>) {
        let whole = 0..self.input.pixels();
        for plane in 0..self.input.planes() {
            // SAFETY: handed on to the caller.
            unsafe { departing.finish(simd, image, image, plane, &whole) };
        }
    }
}

/// Pieces of at most [`TILE_PIXELS`] pixels, nearly equal.
fn each_tile(pixels: Range<usize>) -> Vec<Range<usize>> {
    let count = pixels.len().div_ceil(TILE_PIXELS);
    in_pieces(pixels, count)
}

/// Likewise, as many for each thread: the last stages of a network are a few pieces, and some threads would wait for the others'. A pixel's
/// value is the same in any piece.
fn shared_tiles(pixels: Range<usize>) -> Vec<Range<usize>> {
    let count = pixels.len().div_ceil(TILE_PIXELS).next_multiple_of(rayon::current_num_threads());
    let count = count.min(pixels.len());
    in_pieces(pixels, count)
}

fn in_pieces(pixels: Range<usize>, count: usize) -> Vec<Range<usize>> {
    let at = |index: usize| pixels.start + pixels.len() * index / count;
    (0..count).map(|index| at(index)..at(index + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::Finish;
    use crate::chain::Work;
    use crate::chain::matrix::Matrix;
    use crate::chain::norm::{Norm, NormGradient};
    use crate::chain::winograd::Winograd;
    use crate::grad::testing::{assert_close, at_every_level, values};
    use crate::{Activation, SimdLevel};

    /// A convolution in the way of `Matrix`, which has tests of its own, in both ways of this file, and back in Winograd's where there is one.
    /// One in groups is for `Matrix` a dense one with zeros between them.
    struct Case {
        conv: ConvShape,
        batch: usize,
        size: [usize; 2],
        /// Whether what it reads goes through a norm.
        normed: bool,
    }

    /// Result, mean of the moments, gradients of weight and input, and the sums over the latter.
    type Figures = [Vec<f32>; 5];

    impl Work for &Case {
        type Output = Vec<Figures>;

        fn run<S: Simd>(self, simd: S) -> Vec<Figures> {
            let Case { conv, batch, size: [height, width], normed } = *self;
            let lanes = S::LANES;
            let input = Blocked { channels: conv.in_channels, height, width, lanes };
            let [height, width] = conv.output_size(0, [height, width]).unwrap();
            let output = Blocked { channels: conv.out_channels, height, width, lanes };
            let blocked = |layout: &Blocked, seed: u64| -> Vec<f32> {
                let mut to = vec![0.0; batch * layout.len()];
                let from = values(batch * layout.pixels() * layout.channels, seed);
                let images = to.chunks_exact_mut(layout.len());
                images.zip(from.chunks_exact(layout.pixels() * layout.channels)).for_each(|(to, from)| {
                    layout.import(from, to);
                });
                to
            };
            let (x, y) = (blocked(&input, 1), blocked(&output, 2));
            let taps = conv.kernel[0] * conv.kernel[1];
            let (inputs, outputs) = (conv.in_channels / conv.groups, conv.out_channels / conv.groups);
            let per_output = inputs * taps;
            let weight = values(conv.out_channels * per_output, 3);
            let dense = ConvShape { groups: 1, ..conv };
            // Where each weight is in the dense one.
            let place = |index: usize| {
                let (output, rest) = (index / per_output, index % per_output);
                (output * conv.in_channels + output / outputs * inputs) * taps + rest
            };
            let mut dense_weight = vec![0.0; conv.out_channels * conv.in_channels * taps];
            weight.iter().enumerate().for_each(|(index, value)| dense_weight[place(index)] = *value);
            let norm_of = |layout: &Blocked, values: &[f32]| {
                let mut parts = Parts::new(vec![layout.pixels(); batch], layout.planes() * lanes);
                let shared = parts.shared();
                for (image, values) in values.chunks_exact(layout.len()).enumerate() {
                    for (plane, values) in values.chunks_exact(layout.plane()).enumerate() {
                        let (mean, squares) = moments(simd, values);
                        // SAFETY: one thread.
                        unsafe { shared.put(simd, image, plane, mean, squares) };
                    }
                }
                let ones = vec![1.0; layout.channels];
                Norm::new(&parts, &ones, &ones, 1e-5, Finish::of(Activation::Relu), lanes)
            };
            let norm = norm_of(&input, &x);
            let operand = Operand { values: &x, layout: input, norm: normed.then_some(&norm) };
            let norm_after = norm_of(&output, &y);
            let mut parts = Parts::new(vec![batch * output.pixels()], output.planes() * lanes);
            let ones = vec![1.0; output.planes() * lanes];
            for plane in 0..output.planes() {
                let one = crate::grad::read(simd, &ones);
                // SAFETY: one thread.
                unsafe { parts.shared().put(simd, 0, plane, one, one) };
            }
            let mut gradient = Pooled::take(batch * output.len());
            gradient.copy_from_slice(&blocked(&output, 4));
            let gradient = NormGradient::new(&parts, &norm_after, gradient);
            let arriving = Arriving { y: &y, layout: output, gradient: &gradient };

            let figures = |(result, moments): (Pooled, Parts),
                           counts: Vec<usize>,
                           backward: &dyn Fn(Departing<'_>) -> Vec<f32>| {
                let mut departing = vec![0.0; batch * input.len()];
                let mut sums = Parts::new(counts, input.planes() * lanes);
                let to = Departing { operand, gradient: Shared::new(&mut departing), parts: sums.shared() };
                let weight = backward(to);
                let mean = moments.merge(conv.out_channels).into_iter().map(|(mean, _)| mean as f32);
                let sums = match normed {
                    true => sums.sum(conv.in_channels).into_iter().map(|(sum, _)| sum as f32).collect(),
                    false => Vec::new(),
                };
                [result.to_vec(), mean.collect(), weight, departing, sums]
            };
            let matrix = Matrix::new(dense, batch, input, output);
            let mut all = vec![figures(
                matrix.forward(simd, operand, &dense_weight),
                matrix.backward_counts(),
                &|to| {
                    let gradient = matrix.backward(simd, operand, arriving, &dense_weight, Some(to));
                    (0..weight.len()).map(|index| gradient[place(index)]).collect()
                },
            )];
            for whole in [false, true] {
                let windowed = Windowed::in_a_way(whole, conv, batch, input, output);
                all.extend(windowed.map(|windowed| {
                    figures(windowed.forward(simd, operand, &weight), windowed.backward_counts(), &|to| {
                        windowed.backward(simd, operand, arriving, &weight, Some(to))
                    })
                }));
            }
            let winograd = Winograd::of_any_size(conv, batch, input, output);
            all.extend(winograd.map(|winograd| {
                figures(matrix.forward(simd, operand, &weight), vec![input.pixels(); batch], &|to| {
                    winograd.backward(simd, operand, arriving, &weight, Some(to))
                })
            }));
            all
        }
    }

    fn conv(
        channels: [usize; 2],
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [[usize; 2]; 2],
    ) -> ConvShape {
        let [in_channels, out_channels] = channels;
        ConvShape { out_channels, in_channels, kernel, stride, padding, groups: 1 }
    }

    #[test]
    fn all_ways_agree_at_every_level() {
        let cases = [
            (conv([16, 16], [3, 3], [1, 1], [[1, 1]; 2]), 2, [5, 6]),
            (conv([20, 37], [3, 3], [1, 1], [[1, 1]; 2]), 3, [4, 7]),
            (conv([33, 18], [3, 3], [2, 2], [[1, 1]; 2]), 2, [7, 8]),
            (conv([18, 33], [3, 3], [1, 1], [[0, 2], [2, 1]]), 3, [9, 10]),
            (conv([17, 16], [5, 3], [1, 1], [[2, 1], [0, 1]]), 1, [9, 6]),
            (conv([16, 40], [1, 1], [2, 2], [[0; 2]; 2]), 2, [6, 5]),
            (conv([24, 24], [1, 1], [1, 1], [[0; 2]; 2]), 5, [3, 3]),
            // Whose weight's gradient is summed in its own order; also with a stride.
            (conv([32, 48], [1, 1], [1, 1], [[0; 2]; 2]), 3, [5, 7]),
            (conv([48, 16], [1, 1], [2, 2], [[0; 2]; 2]), 2, [6, 5]),
            // More pixels than a tile and than a band.
            (conv([16, 16], [3, 3], [1, 1], [[1, 1]; 2]), 2, [30, 31]),
            (conv([16, 17], [2, 2], [1, 2], [[0, 1], [1, 0]]), 2, [24, 26]),
            (ConvShape { groups: 4, ..conv([24, 48], [3, 3], [1, 1], [[1, 1]; 2]) }, 3, [7, 5]),
            (ConvShape { groups: 8, ..conv([32, 32], [3, 3], [2, 2], [[1, 1]; 2]) }, 2, [9, 8]),
            (ConvShape { groups: 2, ..conv([72, 40], [2, 3], [1, 3], [[0, 1], [2, 1]]) }, 2, [5, 20]),
        ];
        at_every_level(|level: SimdLevel| {
            for (conv, batch, size) in cases {
                for normed in [false, true] {
                    let case = Case { conv, batch, size, normed };
                    let all = level.run(&case);
                    let winograd = conv.kernel == [3, 3] && conv.stride == [1, 1] && conv.groups == 1;
                    let ways = if winograd { 4 } else { 3 };
                    assert_eq!(all.len(), ways, "{conv:?} of {size:?} was not computed in every way");
                    for (way, figures) in all.iter().enumerate().skip(1) {
                        // Winograd's transforms cost a digit.
                        let tolerance = if way == 3 { 1e-4 } else { 2e-5 };
                        // Winograd's is a way back alone: its result and moments are those that it is compared with.
                        let first = if way == 3 { 2 } else { 0 };
                        for (index, (actual, expected)) in figures.iter().zip(&all[0]).enumerate().skip(first)
                        {
                            let expected: Vec<f64> = expected.iter().map(|&value| f64::from(value)).collect();
                            let what = format!(
                                "{level}, {conv:?} of {size:?}, normed {normed}, way {way}, figure {index}"
                            );
                            assert_close(actual, &expected, tolerance, &what);
                        }
                    }
                }
            }
        });
    }

    #[test]
    fn a_field_of_mostly_zeros_is_left_to_patches() {
        let conv = conv([16, 16], [3, 3], [1, 1], [[1, 1]; 2]);
        let layout = Blocked { channels: 16, height: 1, width: 1, lanes: 16 };
        assert!(Windowed::new(conv, 1, layout, layout).is_none());
    }
}
