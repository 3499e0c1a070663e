//! A 3x3 convolution in Winograd's form, as a step.
//!
//! One thread goes through the image by blocks of tiles, whose transformed values stay in its cache. Several threads share out
//! the blocks; where there are too few tiles for that, they share out the planes and the 36 products instead, so that each reads
//! only its part of the weights.

use super::step::{Image, Step, Task};
use crate::activation::Finish;
use crate::buffer::{Buffer, Shared};
use crate::layout::Blocked;
use crate::pack::{self, Elements, PackedConv};
use crate::params::FoldedConv;
use crate::product::{Addressing, Product, Runs, Start, Upcoming};
use crate::simd::Simd;
use crate::winograd::{
    PLACES, Pixels, Results, TILE, Tiles, transform_filter, transform_pixels, transform_products,
};
use std::ops::Range;

/// Bytes of transformed values of a block: with the weights that stream past, most of a second-level cache of 1 MiB.
const BLOCK_BYTES: usize = 640 << 10;
/// Fewest tiles of a block, if there are as many: each weight that is read is used so often. The weights grow with the square of the
/// channels, what a tile takes up with the channels alone, so that more channels ask for more tiles.
const LEAST_TILES: usize = 24;
/// Fewest tiles of a block of many channels, which bounds its memory.
const LEAST_TILES_OF_MANY_CHANNELS: usize = 64;
/// Fewest tiles of an image for which reading four times the weights pays.
const LEAST_OF_IMAGE: usize = 12;
/// Most tiles of an image whose planes and products are shared out, which bounds the memory for them.
const MOST_SHARED: usize = 64;
/// Fewest channels on each side for which the transforms pay.
const LEAST_CHANNELS: usize = 16;

/// A 3x3 convolution with stride 1.
#[derive(Debug)]
pub(crate) struct WinogradStep {
    /// The weights of each of the 36 products.
    places: Vec<PackedConv>,
    bias: Buffer,
    finish: Finish,
    residual: bool,
    input: Blocked,
    output: Blocked,
    padding: [usize; 2],
    /// Rows and columns of tiles.
    grid: [usize; 2],
    /// Of a block, and of the whole image.
    geometries: [Geometry; 2],
}

/// How the transformed values of some tiles lie.
#[derive(Debug)]
struct Geometry {
    /// Most tiles.
    tiles: usize,
    /// Values from one of the 36 places to the next, on both sides.
    strides: [usize; 2],
    /// The planes of a place.
    runs: Runs,
}

impl Geometry {
    fn new(tiles: usize, input: Blocked, output: Blocked) -> Self {
        let strides = [input, output].map(|layout| {
            // An odd number of cache lines, lest all places of a tile fall into the same few lines of the cache.
            ((layout.planes() * tiles * layout.lanes).div_ceil(16) | 1) * 16
        });
        let runs = Runs::planes(input.planes(), tiles * input.lanes, input.lanes);
        Self { tiles, strides, runs }
    }

    fn len(&self) -> usize {
        PLACES * self.strides.iter().sum::<usize>()
    }

    fn scratch<'a>(&'a self, memory: Shared<'a>) -> Scratch<'a> {
        let [pixels, products] = self.strides.map(|stride| PLACES * stride);
        Scratch { pixels: memory.part(0, pixels), products: memory.part(pixels, products), geometry: self }
    }
}

/// The memory of a block, or of the whole image: `[36, planes, tiles, LANES]` each.
struct Scratch<'a> {
    pixels: Shared<'a>,
    products: Shared<'a>,
    geometry: &'a Geometry,
}

impl WinogradStep {
    /// Whether this form is made for the convolution, and likely to be faster.
    pub(crate) fn suits(conv: &FoldedConv, output: Blocked) -> bool {
        let shape = &conv.shape;
        shape.kernel == [3, 3]
            && shape.stride == [1, 1]
            && shape.groups == 1
            && shape.in_channels.min(shape.out_channels) >= LEAST_CHANNELS
            && output.height.div_ceil(TILE) * output.width.div_ceil(TILE) >= LEAST_OF_IMAGE
            // An image so narrow that tiles are mostly empty.
            && output.height.min(output.width) >= TILE
    }

    pub(crate) fn new(conv: &FoldedConv, input: Blocked, output: Blocked, residual: bool) -> Self {
        let lanes = output.lanes;
        let (inputs, outputs) = (conv.shape.in_channels, conv.shape.out_channels);
        let grid = [output.height.div_ceil(TILE), output.width.div_ceil(TILE)];
        let tiles = grid[0] * grid[1];
        let bytes = PLACES * (input.planes() + output.planes()) * lanes * size_of::<f32>();
        let least = (inputs.min(outputs) / 4).clamp(LEAST_TILES, LEAST_TILES_OF_MANY_CHANNELS);
        let most = (BLOCK_BYTES / bytes).max(least).min(tiles);
        // Blocks of about the same size.
        let block = tiles.div_ceil(tiles.div_ceil(most));
        let mut weights = vec![0.0; PLACES * outputs * inputs];
        for (filter, taps) in conv.weight.chunks_exact(9).enumerate() {
            for (place, value) in transform_filter(taps).into_iter().enumerate() {
                weights[place * outputs * inputs + filter] = value as f32;
            }
        }
        let rows = pack::places(outputs, inputs, outputs);
        let columns = pack::places(inputs, 1, input.planes() * lanes);
        let places = weights
            .chunks_exact(outputs * inputs)
            .map(|values| PackedConv::matrix(Elements { values, rows: &rows, columns: &columns }, 0, lanes));
        let mut bias = Buffer::zeroed(output.planes() * lanes);
        bias[..outputs].copy_from_slice(&conv.bias);
        let [[top, _], [left, _]] = conv.shape.padding;
        Self {
            places: places.collect(),
            bias,
            finish: Finish::of(conv.activation),
            residual,
            input,
            output,
            padding: [top, left],
            grid,
            geometries: [block, tiles].map(|tiles| Geometry::new(tiles, input, output)),
        }
    }

    fn tiles(&self) -> usize {
        self.grid[0] * self.grid[1]
    }

    /// Whether planes and products are shared out rather than tiles.
    fn shares_planes(&self, split: usize) -> bool {
        split > 1 && self.tiles() <= MOST_SHARED && self.tiles() < split * LEAST_TILES
    }

    /// Transforms some planes of the input.
    ///
    /// # Safety
    /// Nobody else uses these planes of the scratch memory.
    unsafe fn pixels<S: Simd>(
        &self,
        simd: S,
        tiles: &Tiles,
        planes: Range<usize>,
        input: &[f32],
        scratch: &Scratch<'_>,
    ) {
        let stride = scratch.geometry.strides[0];
        for plane in planes {
            let values = &input[plane * self.input.plane()..][..self.input.plane()];
            let size = [self.input.height, self.input.width];
            let pixels = Pixels { values, size, padding: self.padding };
            let result = scratch.pixels.from(plane * scratch.geometry.tiles * S::LANES);
            // SAFETY: handed on to the caller.
            unsafe { transform_pixels(simd, tiles, pixels, result, stride) };
        }
    }

    /// Multiplies some of the 36 places.
    ///
    /// # Safety
    /// Nobody writes the transformed pixels, and nobody else uses these places of the products.
    unsafe fn products<S: Simd>(&self, simd: S, tiles: usize, places: Range<usize>, scratch: &Scratch<'_>) {
        let Geometry { tiles: most, strides: [from, to], runs } = scratch.geometry;
        let plane = most * S::LANES;
        for place in places {
            let weights = &self.places[place];
            // SAFETY: handed on to the caller.
            let left = unsafe { scratch.pixels.read_part(place * from, self.input.planes() * plane) };
            for panel in weights.panels() {
                let next = match weights.panels().get(panel.index + 1) {
                    Some(next) => Some((weights, next)),
                    None => self.places.get(place + 1).map(|next| (next, &next.panels()[0])),
                };
                let product = Product {
                    left,
                    runs,
                    first_run: 0,
                    run_count: runs.count(),
                    right: weights.weights(panel, 0, runs.count()),
                    vectors: panel.vectors,
                    start: Start::Bias(weights.bias(panel)),
                    residual: None,
                    finish: Finish::NOTHING,
                    result: scratch.products.from(place * to + panel.first_plane * plane),
                    result_plane: plane,
                    next_result: 0,
                    addressing: Addressing::Contiguous,
                    pixels: tiles,
                    upcoming: next.map_or(Upcoming::NOTHING, |(weights, panel)| {
                        weights.weights(panel, 0, runs.count()).into()
                    }),
                };
                // SAFETY: handed on to the caller.
                unsafe { product.run(simd) };
            }
        }
    }

    /// Makes some planes of the output.
    ///
    /// # Safety
    /// Nobody writes the products, and nobody else uses these planes of these tiles.
    unsafe fn results<S: Simd>(
        &self,
        simd: S,
        tiles: &Tiles,
        planes: Range<usize>,
        image: Image<'_>,
        scratch: &Scratch<'_>,
    ) {
        let stride = scratch.geometry.strides[1];
        // SAFETY: handed on to the caller.
        let products = unsafe { scratch.products.read() };
        for plane in planes {
            let first = plane * self.output.plane();
            let results = Results {
                values: image.output.part(first, self.output.plane()),
                size: [self.output.height, self.output.width],
                bias: &self.bias[plane * S::LANES..][..S::LANES],
                residual: self.residual.then(|| &image.inputs.get(1)[first..]),
                finish: self.finish,
            };
            let products = &products[plane * scratch.geometry.tiles * S::LANES..];
            // SAFETY: handed on to the caller.
            unsafe { transform_products(simd, tiles, products, stride, &results) };
        }
    }
}

impl<S: Simd> Step<S> for WinogradStep {
    fn output(&self) -> Blocked {
        self.output
    }

    fn name(&self) -> String {
        let Blocked { channels, height, width, .. } = self.output;
        let residual = if self.residual { ", residual" } else { "" };
        format!("winograd 3x3/1 {} -> {channels} at {height}x{width}{residual}", self.input.channels)
    }

    fn shared_len(&self) -> usize {
        if self.tiles() <= MOST_SHARED { self.geometries[1].len() } else { 0 }
    }

    fn scratch_len(&self) -> usize {
        self.geometries[0].len()
    }

    fn tasks(&self, split: usize) -> Vec<usize> {
        match split {
            1 => vec![1],
            _ if self.shares_planes(split) => {
                vec![
                    self.input.planes().min(2 * split),
                    PLACES.min(6 * split),
                    self.output.planes().min(2 * split),
                ]
            }
            _ => vec![self.tiles().min(split)],
        }
    }

    unsafe fn run(&self, simd: S, task: Task, image: Image<'_>, scratch: &mut [f32]) {
        let columns = self.grid[1];
        if self.shares_planes(task.split) {
            let tiles = Tiles { range: 0..self.tiles(), columns };
            let scratch = self.geometries[1].scratch(image.shared);
            // SAFETY: the shares of a phase's tasks are disjoint, and what a phase leaves in the shared memory is read in the next.
            unsafe {
                match task.phase {
                    0 => self.pixels(simd, &tiles, task.share(self.input.planes()), image.input, &scratch),
                    1 => self.products(simd, self.tiles(), task.share(PLACES), &scratch),
                    _ => self.results(simd, &tiles, task.share(self.output.planes()), image, &scratch),
                }
            }
            return;
        }
        let memory = Shared::new(scratch);
        let own = task.share(self.tiles());
        let blocks = own.len().div_ceil(self.geometries[0].tiles);
        for block in 0..blocks {
            let at = |block: usize| own.start + block * own.len() / blocks;
            let tiles = Tiles { range: at(block)..at(block + 1), columns };
            let scratch = self.geometries[0].scratch(memory);
            // SAFETY: the scratch memory is borrowed exclusively, and this task alone has these tiles.
            unsafe {
                self.pixels(simd, &tiles, 0..self.input.planes(), image.input, &scratch);
                self.products(simd, tiles.range.len(), 0..PLACES, &scratch);
                self.results(simd, &tiles, 0..self.output.planes(), image, &scratch);
            }
        }
    }
}
