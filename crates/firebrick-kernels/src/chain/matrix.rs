//! Convolutions that mix channels, as products: pointwise ones of the pixels themselves, others of gathered windows.

use super::memory::Pooled;
use super::moments::{Parts, moments};
use super::operand::{Arriving, Departing, Operand};
use super::outer::Outer;
use super::patches::Patches;
use super::tiles::{Tiles, chunks};
use crate::activation::Finish;
use crate::buffer::{Shared, by_blocks};
use crate::layout::Blocked;
use crate::pack::{self, Elements, PackedConv};
use crate::params::ConvShape;
use crate::product::{Addressing, Product, Start};
use crate::simd::Simd;
use rayon::prelude::*;
use std::ops::Range;

/// What a tile's operands and results may take of the second-level cache.
const TILE_BYTES: usize = 160 << 10;
/// Fewer pixels would not be worth reading the weights for.
const FEWEST_PIXELS: usize = 48;
/// With more, a plane of the tile would fill the first-level cache.
const MOST_PIXELS: usize = 256;

/// Pieces that threads take of a batch: rayon would make them a quarter of it, and threads would wait for the last.
const MOST_LEAVES: usize = 32;

/// A convolution that mixes channels.
#[derive(Debug)]
pub(crate) struct Matrix {
    conv: ConvShape,
    /// `None` for a pointwise convolution.
    patches: Option<Patches>,
    batch: usize,
    input: Blocked,
    output: Blocked,
}

/// Memory of one thread.
struct Scratch {
    /// The input of a tile, `[columns, pixels]`.
    matrix: Pooled,
    /// The gradient arriving at a tile, `[output channels, pixels]`.
    arriving: Pooled,
    /// The gradient of a tile's gathered windows.
    windows: Pooled,
    /// An input image as the convolution sees it, and its gradient.
    image: Pooled,
    image_gradient: Pooled,
}

impl Matrix {
    pub(crate) fn new(conv: ConvShape, batch: usize, input: Blocked, output: Blocked) -> Self {
        let patches = (!conv.is_pointwise()).then(|| Patches::new(&conv, input, output));
        Self { conv, patches, batch, input, output }
    }

    /// Blocks of columns of the left matrix.
    fn columns(&self) -> usize {
        self.patches.as_ref().map_or(self.input.planes(), Patches::planes)
    }

    /// Where an output channel has the weight of each column.
    fn places(&self) -> Vec<Option<usize>> {
        match &self.patches {
            Some(patches) => patches.weights(self.conv.kernel),
            None => pack::places(self.conv.in_channels, 1, self.input.planes() * self.input.lanes),
        }
    }

    fn tiles(&self, values_per_pixel: usize) -> Tiles {
        let most = (TILE_BYTES / size_of::<f32>() / values_per_pixel).clamp(FEWEST_PIXELS, MOST_PIXELS);
        Tiles::new(self.batch, self.output.pixels(), most)
    }

    fn forward_tiles(&self) -> Tiles {
        self.tiles((self.columns() + self.output.planes()) * self.output.lanes)
    }

    fn backward_tiles(&self) -> Tiles {
        self.tiles((2 * self.columns() + self.output.planes()) * self.output.lanes)
    }

    /// What is computed in one piece: tiles where the input is read pixel by pixel, else images.
    fn units(&self, tiles: &Tiles) -> usize {
        if self.patches.is_some() { self.batch } else { tiles.count() }
    }

    fn tiles_of(&self, unit: usize, tiles: &Tiles) -> Range<usize> {
        match self.patches {
            Some(_) => unit * tiles.per_image()..(unit + 1) * tiles.per_image(),
            None => unit..unit + 1,
        }
    }

    /// Whether the input can be multiplied where it lies.
    fn in_place(&self, input: &Operand<'_>) -> bool {
        self.patches.is_none() && input.norm.is_none()
    }

    fn scratch(&self, input: &Operand<'_>, tiles: &Tiles, backward: bool, departing: bool) -> Scratch {
        let tile = |planes: usize, needed: bool| {
            Pooled::take(if needed { planes * tiles.largest() * self.output.lanes } else { 0 })
        };
        let image = |needed: bool| Pooled::take(if needed { self.input.len() } else { 0 });
        let gathers = self.patches.is_some();
        Scratch {
            matrix: tile(self.columns(), !self.in_place(input)),
            arriving: tile(self.output.planes(), backward),
            windows: tile(self.columns(), gathers && departing),
            image: image(gathers && input.norm.is_some()),
            image_gradient: image(gathers && departing),
        }
    }

    /// The image that windows are gathered from.
    fn see<'a, S: Simd>(
        &self,
        simd: S,
        input: &Operand<'a>,
        image: usize,
        scratch: &'a mut [f32],
    ) -> &'a [f32] {
        if self.patches.is_none() || input.norm.is_none() {
            return input.image(image);
        }
        let whole = 0..self.input.pixels();
        for (plane, values) in scratch.chunks_exact_mut(self.input.plane()).enumerate() {
            input.read(simd, image, plane, &whole, values);
        }
        scratch
    }

    /// The left matrix of a tile, and the distance of its planes.
    fn left<'a, S: Simd>(
        &self,
        simd: S,
        input: &Operand<'a>,
        seen: &'a [f32],
        (image, pixels): (usize, &Range<usize>),
        matrix: &'a mut [f32],
        plane: usize,
    ) -> (&'a [f32], usize) {
        if self.in_place(input) {
            return (&seen[pixels.start * S::LANES..], self.input.plane());
        }
        match &self.patches {
            Some(patches) => patches.gather(seen, pixels, matrix, plane),
            None => {
                for (index, values) in matrix.chunks_exact_mut(plane).enumerate() {
                    input.read(simd, image, index, pixels, &mut values[..pixels.len() * S::LANES]);
                }
            }
        }
        (matrix, plane)
    }

    /// The raw result for the whole batch, and its moments.
    pub(crate) fn forward<S: Simd>(&self, simd: S, input: Operand<'_>, weight: &[f32]) -> (Pooled, Parts) {
        let lanes = S::LANES;
        let tiles = self.forward_tiles();
        let plane = if self.in_place(&input) { self.input.plane() } else { tiles.largest() * lanes };
        let outputs = self.conv.out_channels;
        let rows = pack::places(outputs, weight.len() / outputs, outputs);
        let elements = Elements { values: weight, rows: &rows, columns: &self.places() };
        let packed = PackedConv::matrix(elements, plane, lanes);

        let mut y = Pooled::take(self.batch * self.output.len());
        let mut parts = Parts::new(tiles.counts(), self.output.planes() * lanes);
        let (shared, figures) = (Shared::new(&mut y), parts.shared());
        let most = self.units(&tiles).div_ceil(MOST_LEAVES);
        (0..self.units(&tiles)).into_par_iter().with_max_len(most).for_each_init(
            || self.scratch(&input, &tiles, false, false),
            |scratch, unit| {
                let Scratch { matrix, image: seen, .. } = scratch;
                let seen = self.see(simd, &input, tiles.get(self.tiles_of(unit, &tiles).start).0, seen);
                for tile in self.tiles_of(unit, &tiles) {
                    let (image, pixels) = tiles.get(tile);
                    let (left, _) = self.left(simd, &input, seen, (image, &pixels), matrix, plane);
                    let result = shared.from(image * self.output.len() + pixels.start * lanes);
                    // SAFETY: tiles are disjoint, and each belongs to one unit.
                    unsafe {
                        multiply(simd, left, &packed, result, self.output.plane(), pixels.len());
                        for plane in 0..self.output.planes() {
                            let values = result.write(plane * self.output.plane(), pixels.len() * lanes);
                            simd.vectorize(
                                #[inline(always)]
                                || {
                                    let (mean, squares) = moments(simd, values);
                                    figures.put(simd, tile, plane, mean, squares);
                                },
                            );
                        }
                    }
                }
            },
        );
        (y, parts)
    }

    /// Pixels behind each tile of the sums that [`backward`](Self::backward) makes over the input's gradient.
    pub(crate) fn backward_counts(&self) -> Vec<usize> {
        match self.patches {
            Some(_) => vec![self.input.pixels(); self.batch],
            None => self.backward_tiles().counts(),
        }
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
        let lanes = S::LANES;
        let tiles = self.backward_tiles();
        let plane = tiles.largest() * lanes;
        let columns = self.columns();
        let transposed = departing.as_ref().map(|_| {
            let outputs = self.conv.out_channels;
            let of_outputs = pack::places(outputs, weight.len() / outputs, self.output.planes() * lanes);
            let elements = Elements { values: weight, rows: &self.places(), columns: &of_outputs };
            PackedConv::matrix(elements, plane, lanes)
        });

        let partial = Outer::result_len(self.output.planes(), columns, lanes);
        let chunks = chunks(self.units(&tiles));
        let mut partials = Pooled::take(chunks.len() * partial);
        let tasks: Vec<_> = chunks.zip(partials.chunks_exact_mut(partial)).collect();
        tasks.into_par_iter().with_max_len(1).for_each(|(units, sums)| {
            sums.fill(0.0);
            let mut scratch = self.scratch(&input, &tiles, true, departing.is_some());
            for unit in units {
                let Scratch { matrix, arriving: dy, windows, image: seen, image_gradient } = &mut scratch;
                let first = tiles.get(self.tiles_of(unit, &tiles).start).0;
                let seen = self.see(simd, &input, first, seen);
                image_gradient.fill(0.0);
                for tile in self.tiles_of(unit, &tiles) {
                    let (image, pixels) = tiles.get(tile);
                    for (index, values) in dy.chunks_exact_mut(plane).enumerate() {
                        arriving.read(simd, image, index, &pixels, &mut values[..pixels.len() * lanes]);
                    }
                    let (right, right_plane) = self.left(simd, &input, seen, (image, &pixels), matrix, plane);
                    let job = Outer {
                        left: dy,
                        left_plane: plane,
                        left_planes: self.output.planes(),
                        right,
                        right_plane,
                        right_planes: columns,
                        starts: &[(0, 0)],
                        pixels: pixels.len(),
                        left_step: lanes,
                        right_step: lanes,
                        result_row: columns * lanes,
                    };
                    job.add_to(simd, sums);
                    let (Some(departing), Some(transposed)) = (&departing, &transposed) else { continue };
                    match &self.patches {
                        Some(patches) => {
                            let result = Shared::new(windows);
                            // SAFETY: the memory is this thread's own.
                            unsafe { multiply(simd, dy, transposed, result, plane, pixels.len()) };
                            patches.scatter(simd, windows, plane, &pixels, image_gradient);
                        }
                        None => {
                            let result = departing.at(image, pixels.start);
                            // SAFETY: tiles are disjoint, and each belongs to one unit.
                            unsafe {
                                multiply(simd, dy, transposed, result, self.input.plane(), pixels.len());
                                for plane in 0..self.input.planes() {
                                    departing.finish(simd, tile, image, plane, &pixels);
                                }
                            }
                        }
                    }
                }
                if let (Some(departing), Some(_)) = (&departing, &self.patches) {
                    let whole = 0..self.input.pixels();
                    // SAFETY: images are disjoint, and each belongs to one unit.
                    unsafe {
                        departing.at(first, 0).write(0, self.input.len()).copy_from_slice(image_gradient);
                        for plane in 0..self.input.planes() {
                            departing.finish(simd, first, first, plane, &whole);
                        }
                    }
                }
            }
        });
        self.gather_weight(&partials, partial, weight.len())
    }

    /// Sums the chunks' parts in their order, into PyTorch's layout.
    fn gather_weight(&self, partials: &[f32], partial: usize, len: usize) -> Vec<f32> {
        let width = self.columns() * self.input.lanes;
        let per_output = len / self.conv.out_channels;
        let places = self.patches.as_ref().map(|patches| patches.weights(self.conv.kernel));
        by_blocks(len, per_output, (0..self.conv.out_channels).into_par_iter(), |output, gradient| {
            for partial in partials.chunks_exact(partial) {
                let row = &partial[output * width..][..width];
                match &places {
                    None => gradient.iter_mut().zip(row).for_each(|(sum, value)| *sum += value),
                    Some(places) => {
                        for (place, value) in places.iter().zip(row) {
                            if let Some(place) = *place {
                                gradient[place] += value;
                            }
                        }
                    }
                }
            }
        })
    }
}

/// The product of neighbouring pixels and packed weights.
///
/// # Safety
/// Nobody else uses the elements of the result that are written.
unsafe fn multiply<S: Simd>(
    simd: S,
    left: &[f32],
    packed: &PackedConv,
    result: Shared<'_>,
    result_plane: usize,
    pixels: usize,
) {
    // SAFETY: handed on to the caller.
    unsafe { multiply_at(simd, left, packed, result, result_plane, Addressing::Contiguous, pixels) }
}

/// The product of pixels, wherever they are, and packed weights.
///
/// # Safety
/// Nobody else uses the elements of the result that are written.
pub(super) unsafe fn multiply_at<S: Simd>(
    simd: S,
    left: &[f32],
    packed: &PackedConv,
    result: Shared<'_>,
    result_plane: usize,
    addressing: Addressing<'_>,
    pixels: usize,
) {
    for panel in packed.panels() {
        let runs = packed.runs(panel);
        let product = Product {
            left,
            runs,
            first_run: 0,
            run_count: runs.count(),
            right: packed.weights(panel, 0, runs.count()),
            vectors: panel.vectors,
            start: Start::Bias(packed.bias(panel)),
            residual: None,
            finish: Finish::NOTHING,
            result: result.from(panel.first_plane * result_plane),
            result_plane,
            next_result: 0,
            addressing,
            pixels,
            upcoming: packed.upcoming(panel, 0, runs.count()).into(),
        };
        // SAFETY: handed on to the caller.
        unsafe { product.run(simd) };
    }
}
