//! The way back of 3x3 convolutions with a quarter of the multiplications; see [`crate::winograd`].
//!
//! A few images at a time: as many as stay in the last cache when they are transformed. Tiles of pixels and of the results' gradients become
//! 36 matrices each; their products are the weights' gradients, and those with the transformed weights the pixels'.
//!
//! The way there stays as it is: through the batch's statistics, a deep network makes thousands of times as much of a rounding error in its
//! results, and the transforms' is some ten times that of a sum. (ResNet-152 at 64 pixels, two images: logits 3.0e-3 from PyTorch's in f64, instead
//! of less than 2e-3, with the first stage in this form.) Gradients pass through no statistics again: they lose a digit, and keep the others.

use super::memory::Pooled;
use super::operand::{Arriving, Departing, Operand};
use super::outer::Outer;
use crate::activation::Finish;
use crate::buffer::{Shared, by_blocks};
use crate::layout::Blocked;
use crate::pack::panels_of;
use crate::params::ConvShape;
use crate::product::{Addressing, Product, Runs, Start, Upcoming};
use crate::simd::Simd;
use crate::winograd::{
    PLACES, Pixels, TILE, Tiles, add_pixel_gradients, filter_gradients, transform_filters,
    transform_gradients, transform_pixels,
};
use rayon::prelude::*;
use std::ops::Range;

/// Fewest channels on each side for which the transforms pay.
const LEAST_CHANNELS: usize = 16;
/// Fewest tiles of a batch for which four times the weights pay: few weights stay in a cache, 512 channels' on each side take 75 MB.
const LEAST_TILES: usize = 32;
const LEAST_TILES_OF_MANY_CHANNELS: usize = 64;
/// What transformed values may take of the last cache: at least those of one image.
const GROUP_BYTES: usize = 12 << 20;
/// Larger images would leave the cache.
const MOST_BYTES: usize = 24 << 20;

/// The way back of a 3x3 convolution with stride 1 that mixes channels.
#[derive(Debug)]
pub(crate) struct Winograd {
    conv: ConvShape,
    batch: usize,
    input: Blocked,
    output: Blocked,
    /// Rows and columns of an image's tiles.
    grid: [usize; 2],
    /// Images that are worked on together.
    group: usize,
}

/// Where transformed tiles lie: `[36, planes, tiles, LANES]`, with gaps.
#[derive(Debug, Clone, Copy)]
struct Places {
    planes: usize,
    tiles: usize,
    /// Values from one block of channels to the next.
    plane: usize,
    /// Values from one place to the next.
    place: usize,
}

impl Places {
    fn new(planes: usize, tiles: usize, lanes: usize) -> Self {
        // Odd numbers of vectors, lest places and planes fall into the same few lines of the cache.
        let plane = (tiles | 1) * lanes;
        Self { planes, tiles, plane, place: ((planes * (tiles | 1)) | 1) * lanes }
    }

    fn len(&self) -> usize {
        PLACES * self.place
    }
}

/// Transformed weights: for each place a matrix `[rows, columns]` in panels of one to three vectors of columns.
struct Weights {
    values: Pooled,
    /// First vector, and how many.
    panels: Vec<(usize, usize)>,
    rows: usize,
    /// Values from one place to the next.
    place: usize,
}

impl Winograd {
    /// `None` where another way is likely to be faster.
    pub(crate) fn new(conv: ConvShape, batch: usize, input: Blocked, output: Blocked) -> Option<Self> {
        Self::of_any_size(conv, batch, input, output).filter(|this| {
            let tiles = this.tiles().range.len();
            let channels = conv.in_channels.min(conv.out_channels);
            let least = (channels / 8).clamp(LEAST_TILES, LEAST_TILES_OF_MANY_CHANNELS);
            channels >= LEAST_CHANNELS
                && batch * tiles >= least
                && Self::bytes(tiles, input, output) <= MOST_BYTES
        })
    }

    /// `None` for another kernel or stride.
    pub(crate) fn of_any_size(
        conv: ConvShape,
        batch: usize,
        input: Blocked,
        output: Blocked,
    ) -> Option<Self> {
        if conv.kernel != [3, 3] || conv.stride != [1, 1] || conv.groups != 1 {
            return None;
        }
        let grid = [output.height.div_ceil(TILE), output.width.div_ceil(TILE)];
        let group = (GROUP_BYTES / Self::bytes(grid[0] * grid[1], input, output)).clamp(1, batch);
        Some(Self { conv, batch, input, output, grid, group })
    }

    /// What an image's transformed values take: pixels and gradients, and products of the larger side.
    fn bytes(tiles: usize, input: Blocked, output: Blocked) -> usize {
        let planes = input.planes() + output.planes() + input.planes().max(output.planes());
        PLACES * tiles * planes * input.lanes * size_of::<f32>()
    }

    /// Tiles of an image.
    fn tiles(&self) -> Tiles {
        Tiles { range: 0..self.grid[0] * self.grid[1], columns: self.grid[1] }
    }

    /// Nearly equal groups of images.
    fn groups(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (batch, count) = (self.batch, self.batch.div_ceil(self.group));
        (0..count).map(move |group| batch * group / count..batch * (group + 1) / count)
    }

    /// Places for the tiles of so many images.
    fn places(&self, of: &Blocked, images: usize) -> Places {
        Places::new(of.planes(), images * self.tiles().range.len(), of.lanes)
    }

    /// Calls `work` with every image of a group and block of channels, and where the image's tiles begin.
    fn each_plane(
        &self,
        places: &Places,
        images: &Range<usize>,
        lanes: usize,
        work: impl Fn(&mut Pooled, usize, usize, usize) + Sync,
    ) {
        let tiles = self.tiles().range.len();
        let most = self.input.plane().max(self.output.plane());
        (0..images.len() * places.planes).into_par_iter().for_each_init(
            || Pooled::take(most),
            |scratch, index| {
                let (image, plane) = (index / places.planes, index % places.planes);
                work(scratch, images.start + image, plane, plane * places.plane + image * tiles * lanes);
            },
        );
    }

    /// Transforms the pixels of a group.
    fn see<S: Simd>(
        &self,
        simd: S,
        input: &Operand<'_>,
        images: &Range<usize>,
        places: &Places,
        to: Shared<'_>,
    ) {
        let [[top, _], [left, _]] = self.conv.padding;
        let Blocked { height, width, .. } = self.input;
        self.each_plane(places, images, S::LANES, |scratch, image, plane, at| {
            let pixels = 0..self.input.pixels();
            let values = match input.norm {
                Some(_) => {
                    input.read(simd, image, plane, &pixels, &mut scratch[..self.input.plane()]);
                    &scratch[..]
                }
                None => input.raw(image, plane, &pixels),
            };
            let pixels = Pixels { values, size: [height, width], padding: [top, left] };
            // SAFETY: every image's tiles of a block of channels are one task's.
            unsafe { transform_pixels(simd, &self.tiles(), pixels, to.from(at), places.place) };
        });
    }

    /// Transforms the weights, `[out, in, 3, 3]`, to rows of output channels.
    fn transform<S: Simd>(&self, simd: S, weight: &[f32]) -> Weights {
        let lanes = S::LANES;
        let (outputs, inputs) = (self.conv.out_channels, self.conv.in_channels);
        let (row_planes, column_planes) = (self.output.planes(), self.input.planes());
        let rows = row_planes * lanes;
        let place = ((rows * column_planes) | 1) * lanes;
        let mut values = Pooled::take(PLACES * place);
        let shared = Shared::new(&mut values);
        let panels: Vec<(usize, usize)> = panels_of(column_planes, 2).collect();
        panels.par_iter().with_max_len(1).for_each(|&(first, vectors)| {
            let mut taps = vec![0.0; 9 * lanes];
            for row in 0..rows {
                for vector in 0..vectors {
                    for lane in 0..lanes {
                        let (output, input) = (row, (first + vector) * lanes + lane);
                        if output < outputs && input < inputs {
                            let filter = &weight[(output * inputs + input) * 9..][..9];
                            filter
                                .iter()
                                .enumerate()
                                .for_each(|(tap, value)| taps[tap * lanes + lane] = *value);
                        } else {
                            (0..9).for_each(|tap| taps[tap * lanes + lane] = 0.0);
                        }
                    }
                    let at = first * lanes * rows + (row * vectors + vector) * lanes;
                    // SAFETY: every panel is one task's.
                    unsafe { transform_filters(simd, &taps, shared.from(at), place) };
                }
            }
        });
        Weights { values, panels, rows, place }
    }

    /// Multiplies one place of transformed values by one panel of its weights.
    ///
    /// # Safety
    /// Nobody writes `from`, and nobody else uses this panel's vectors of this place of the products.
    #[expect(clippy::too_many_arguments, reason = "two operands, a result, and a place in them")]
    unsafe fn multiply<S: Simd>(
        &self,
        simd: S,
        place: usize,
        panel: usize,
        weights: &Weights,
        from: (&Places, &[f32]),
        runs: &Runs,
        products: (&Places, Shared<'_>),
        zeros: &[f32],
    ) {
        let at = |panel: usize| {
            let (first, vectors) = weights.panels[panel];
            let start = place * weights.place + first * S::LANES * weights.rows;
            &weights.values[start..][..vectors * S::LANES * weights.rows]
        };
        let (first, vectors) = weights.panels[panel];
        let product = Product {
            left: &from.1[place * from.0.place..],
            runs,
            first_run: 0,
            run_count: runs.count(),
            right: at(panel),
            vectors,
            start: Start::Bias(zeros),
            residual: None,
            finish: Finish::NOTHING,
            result: products.1.from(place * products.0.place + first * products.0.plane),
            result_plane: products.0.plane,
            next_result: 0,
            addressing: Addressing::Contiguous,
            pixels: from.0.tiles,
            upcoming: if panel + 1 < weights.panels.len() { at(panel + 1).into() } else { Upcoming::NOTHING },
        };
        // SAFETY: handed on to the caller.
        unsafe { product.run(simd) };
    }

    /// The weight's gradient; and the input's, where it is asked for, with its sums by image as [`Windowed`](super::windowed::Windowed) has them.
    pub(crate) fn backward<S: Simd>(
        &self,
        simd: S,
        input: Operand<'_>,
        arriving: Arriving<'_>,
        weight: &[f32],
        departing: Option<Departing<'_>>,
    ) -> Vec<f32> {
        let lanes = S::LANES;
        let departing = departing.map(|departing| (departing, self.transform(simd, weight)));
        let zeros = vec![0.0; 3 * lanes];
        let [seen_len, gradient_len] =
            [&self.input, &self.output].map(|layout| self.places(layout, self.group).len());
        let (mut seen, mut gradients) = (Pooled::take(seen_len), Pooled::take(gradient_len));
        let mut products = Pooled::take(if departing.is_some() { seen_len } else { 0 });
        let (row, sums_len) = (
            self.input.planes() * lanes,
            Outer::result_len(self.output.planes(), self.input.planes(), lanes),
        );
        let mut sums = Pooled::take(PLACES * sums_len);
        for images in self.groups() {
            let [of_input, of_output] =
                [&self.input, &self.output].map(|layout| self.places(layout, images.len()));
            self.see(simd, &input, &images, &of_input, Shared::new(&mut seen));
            self.arrive(simd, &arriving, &images, &of_output, Shared::new(&mut gradients));
            let runs = Runs::planes(of_output.planes, of_output.plane, lanes);
            let into = Shared::new(&mut products);
            sums.par_chunks_exact_mut(sums_len).with_max_len(1).enumerate().for_each(|(place, sums)| {
                if images.start == 0 {
                    sums.fill(0.0);
                }
                let job = Outer {
                    left: &gradients[place * of_output.place..],
                    left_plane: of_output.plane,
                    left_planes: of_output.planes,
                    right: &seen[place * of_input.place..],
                    right_plane: of_input.plane,
                    right_planes: of_input.planes,
                    starts: &[(0, 0)],
                    pixels: of_input.tiles,
                    left_step: lanes,
                    right_step: lanes,
                    result_row: row,
                };
                job.add_to(simd, sums);
                let Some((_, weights)) = &departing else { return };
                let from = (&of_output, &gradients[..]);
                for panel in 0..weights.panels.len() {
                    // SAFETY: every place is one task's.
                    unsafe {
                        self.multiply(simd, place, panel, weights, from, &runs, (&of_input, into), &zeros);
                    }
                }
            });
            if let Some((departing, _)) = &departing {
                // SAFETY: the products have been written.
                let products = unsafe { into.read() };
                self.depart(simd, &images, (&of_input, products), departing);
            }
        }
        self.weight_gradient(simd, &sums, weight.len())
    }

    /// Transforms the results' gradients of a group.
    fn arrive<S: Simd>(
        &self,
        simd: S,
        arriving: &Arriving<'_>,
        images: &Range<usize>,
        places: &Places,
        to: Shared<'_>,
    ) {
        let Blocked { height, width, .. } = self.output;
        self.each_plane(places, images, S::LANES, |scratch, image, plane, at| {
            let scratch = &mut scratch[..self.output.plane()];
            arriving.read(simd, image, plane, &(0..self.output.pixels()), scratch);
            // SAFETY: every image's tiles of a block of channels are one task's.
            unsafe {
                transform_gradients(simd, &self.tiles(), scratch, [height, width], to.from(at), places.place);
            }
        });
    }

    /// Makes the input's gradients of a group from products.
    fn depart<S: Simd>(
        &self,
        simd: S,
        images: &Range<usize>,
        (places, products): (&Places, &[f32]),
        departing: &Departing<'_>,
    ) {
        let [[top, _], [left, _]] = self.conv.padding;
        let Blocked { height, width, .. } = self.input;
        self.each_plane(places, images, S::LANES, |_, image, plane, at| {
            // SAFETY: every block of channels of every image is one task's.
            unsafe {
                let gradient = departing.at(image, 0).write(plane * self.input.plane(), self.input.plane());
                gradient.fill(0.0);
                add_pixel_gradients(
                    simd,
                    &self.tiles(),
                    &products[at..],
                    places.place,
                    gradient,
                    [height, width],
                    [top, left],
                );
                departing.finish(simd, image, image, plane, &(0..self.input.pixels()));
            }
        });
    }

    /// The weight's gradient from that of its transformed values, `[36, outputs, input planes, LANES]`.
    fn weight_gradient<S: Simd>(&self, simd: S, sums: &[f32], weights: usize) -> Vec<f32> {
        let lanes = S::LANES;
        let (row, inputs) = (self.input.planes() * lanes, self.conv.in_channels);
        let stride = sums.len() / PLACES;
        by_blocks(weights, 9 * inputs, (0..self.conv.out_channels).into_par_iter(), |output, gradient| {
            let mut taps = vec![0.0; 9 * lanes];
            for (plane, gradient) in gradient.chunks_mut(9 * lanes).enumerate() {
                filter_gradients(simd, &sums[output * row + plane * lanes..], stride, &mut taps);
                for (lane, filter) in gradient.chunks_exact_mut(9).enumerate() {
                    filter.iter_mut().enumerate().for_each(|(tap, value)| *value = taps[tap * lanes + lane]);
                }
            }
        })
    }
}
