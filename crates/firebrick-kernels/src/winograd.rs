//! 3x3 convolution with a quarter of the multiplications: Winograd's minimal filtering F(4x4, 3x3), as Lavin and Gray 2015 apply it to
//! convolutional networks.
//!
//! A tile of 4x4 results depends on 6x6 pixels. Pixels and weights are each transformed to 36 values, for the points 0, 1, -1, 2, -2
//! and infinity; the transformed values of all channels are multiplied place by place, 36 matrix products; and what comes out is
//! transformed back to 4x4 results. The transforms' factors are small, so that an element's error stays some 3e-6 of the
//! largest result. A value that is not finite spreads to all results of the tiles that see it.

#![expect(
    clippy::needless_range_loop,
    reason = "tiles are indexed in two dimensions; loops over constants unroll into registers"
)]

use crate::activation::Finish;
use crate::buffer::Shared;
use crate::simd::Simd;
use std::ops::Range;

/// The side of a tile's results.
pub(crate) const TILE: usize = 4;
/// The side of the pixels that they depend on.
const SIDE: usize = 6;
/// Values of a transformed tile.
pub(crate) const PLACES: usize = SIDE * SIDE;

/// Transformed weights of a filter, in f64: `G g G^T`.
pub(crate) fn transform_filter(filter: &[f32]) -> [f64; PLACES] {
    const G: [[f64; 3]; SIDE] = [
        [1.0 / 4.0, 0.0, 0.0],
        [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
        [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
        [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
        [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
        [0.0, 0.0, 1.0],
    ];
    std::array::from_fn(|place| {
        let (row, column) = (G[place / SIDE], G[place % SIDE]);
        let taps = (0..9).map(|tap| row[tap / 3] * column[tap % 3] * f64::from(filter[tap]));
        taps.sum()
    })
}

/// A range of tiles of an image, counted row by row.
#[derive(Debug, Clone)]
pub(crate) struct Tiles {
    pub(crate) range: Range<usize>,
    /// Tiles in a row.
    pub(crate) columns: usize,
}

/// One plane of pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pixels<'a> {
    pub(crate) values: &'a [f32],
    /// Height and width.
    pub(crate) size: [usize; 2],
    /// Rows and columns of zeros before the first.
    pub(crate) padding: [usize; 2],
}

/// One plane of results.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Results<'a> {
    pub(crate) values: Shared<'a>,
    /// Height and width.
    pub(crate) size: [usize; 2],
    /// One vector.
    pub(crate) bias: &'a [f32],
    /// Added before `finish`; addressed as the results are.
    pub(crate) residual: Option<&'a [f32]>,
    pub(crate) finish: Finish,
}

/// Transforms the tiles of a plane: value `place` of the tile `index` goes to `place * stride + index * LANES`, the first tile of the
/// range being tile 0.
///
/// # Safety
/// Nobody else uses what is written.
///
/// # Panics
/// If an operand is too short.
pub(crate) unsafe fn transform_pixels<S: Simd>(
    simd: S,
    tiles: &Tiles,
    pixels: Pixels<'_>,
    result: Shared<'_>,
    stride: usize,
) {
    let Pixels { values, size: [height, width], padding: [top, left] } = pixels;
    let count = tiles.range.len();
    assert!(values.len() >= height * width * S::LANES);
    assert!(count > 0 && (PLACES - 1) * stride + count * S::LANES <= result.len());
    simd.vectorize(
        #[inline(always)]
        || {
            let row = width * S::LANES;
            let zero = simd.splat(0.0);
            for (index, tile) in tiles.range.clone().enumerate() {
                let (y, x) = (tile / tiles.columns * TILE, tile % tiles.columns * TILE);
                let inside = y >= top && x >= left && y - top + SIDE <= height && x - left + SIDE <= width;
                let mut columns = [[zero; SIDE]; SIDE];
                for column in 0..SIDE {
                    let mut d = [zero; SIDE];
                    if inside {
                        for k in 0..SIDE {
                            let at = (y - top + k) * row + (x - left + column) * S::LANES;
                            // SAFETY: the pixel lies within the plane, as was just compared.
                            d[k] = unsafe { simd.load(values.as_ptr().add(at)) };
                        }
                    } else {
                        for k in 0..SIDE {
                            let (from_y, from_x) =
                                ((y + k).wrapping_sub(top), (x + column).wrapping_sub(left));
                            if from_y < height && from_x < width {
                                // SAFETY: as was just compared.
                                d[k] = unsafe {
                                    simd.load(values.as_ptr().add(from_y * row + from_x * S::LANES))
                                };
                            }
                        }
                    }
                    let t = pixel_transform(simd, d);
                    for k in 0..SIDE {
                        columns[k][column] = t[k];
                    }
                }
                // SAFETY: the assert covers the last place of the last tile.
                let to = unsafe { result.as_mut_ptr().add(index * S::LANES) };
                for k in 0..SIDE {
                    let t = pixel_transform(simd, columns[k]);
                    for column in 0..SIDE {
                        // SAFETY: as above.
                        unsafe { simd.store(to.add((k * SIDE + column) * stride), t[column]) };
                    }
                }
            }
        },
    );
}

/// Transforms products back into results, for the tiles that [`transform_pixels`] numbers in the same way.
///
/// # Safety
/// Nobody else uses the results of these tiles.
///
/// # Panics
/// If an operand is too short.
pub(crate) unsafe fn transform_products<S: Simd>(
    simd: S,
    tiles: &Tiles,
    products: &[f32],
    stride: usize,
    results: &Results<'_>,
) {
    let [height, width] = results.size;
    let count = tiles.range.len();
    assert!(count > 0 && (PLACES - 1) * stride + count * S::LANES <= products.len());
    assert!(results.values.len() >= height * width * S::LANES && results.bias.len() >= S::LANES);
    assert!(results.residual.is_none_or(|residual| residual.len() >= height * width * S::LANES));
    assert!(
        tiles.columns * TILE < width + TILE && tiles.range.end.div_ceil(tiles.columns) * TILE < height + TILE
    );
    simd.vectorize(
        #[inline(always)]
        || {
            let row = width * S::LANES;
            let zero = simd.splat(0.0);
            // SAFETY: the bias is one vector long.
            let bias = unsafe { simd.load(results.bias.as_ptr()) };
            for (index, tile) in tiles.range.clone().enumerate() {
                let (y, x) = (tile / tiles.columns * TILE, tile % tiles.columns * TILE);
                // SAFETY: the assert covers the last place of the last tile.
                let from = unsafe { products.as_ptr().add(index * S::LANES) };
                let mut columns = [[zero; SIDE]; TILE];
                for column in 0..SIDE {
                    let mut m = [zero; SIDE];
                    for k in 0..SIDE {
                        // SAFETY: as above.
                        m[k] = unsafe { simd.load(from.add((k * SIDE + column) * stride)) };
                    }
                    let t = product_transform(simd, m);
                    for k in 0..TILE {
                        columns[k][column] = t[k];
                    }
                }
                for k in 0..TILE.min(height - y) {
                    let t = product_transform(simd, columns[k]);
                    for column in 0..TILE.min(width - x) {
                        let at = (y + k) * row + (x + column) * S::LANES;
                        let mut value = simd.add(t[column], bias);
                        // SAFETY: the pixel lies within the plane, as the loops' ends and the asserts say; the caller excludes
                        // other users.
                        unsafe {
                            if let Some(residual) = results.residual {
                                value = simd.add(value, simd.load(residual.as_ptr().add(at)));
                            }
                            simd.store(
                                results.values.as_mut_ptr().add(at),
                                results.finish.apply(simd, value),
                            );
                        }
                    }
                }
            }
        },
    );
}

/// `B^T d`.
#[inline(always)]
fn pixel_transform<S: Simd>(simd: S, d: [S::Vector; SIDE]) -> [S::Vector; SIDE] {
    let [minus_1, minus_4, minus_5] = [-1.0, -4.0, -5.0].map(|factor| simd.splat(factor));
    let [two, minus_2, four] = [2.0, -2.0, 4.0].map(|factor| simd.splat(factor));
    let even = simd.mul_add(d[2], minus_4, d[4]);
    let odd = simd.mul_add(d[1], minus_4, d[3]);
    let even_2 = simd.mul_add(d[2], minus_1, d[4]);
    let odd_2 = simd.mul_add(d[1], minus_1, d[3]);
    [
        simd.mul_add(d[0], four, simd.mul_add(d[2], minus_5, d[4])),
        simd.add(even, odd),
        simd.mul_add(odd, minus_1, even),
        simd.mul_add(odd_2, two, even_2),
        simd.mul_add(odd_2, minus_2, even_2),
        simd.mul_add(d[1], four, simd.mul_add(d[3], minus_5, d[5])),
    ]
}

/// `A^T m`.
#[inline(always)]
fn product_transform<S: Simd>(simd: S, m: [S::Vector; SIDE]) -> [S::Vector; TILE] {
    let [minus_1, two, four, eight] = [-1.0, 2.0, 4.0, 8.0].map(|factor| simd.splat(factor));
    let sum = simd.add(m[1], m[2]);
    let difference = simd.mul_add(m[2], minus_1, m[1]);
    let sum_2 = simd.add(m[3], m[4]);
    let difference_2 = simd.mul_add(m[4], minus_1, m[3]);
    [
        simd.add(simd.add(m[0], sum), sum_2),
        simd.mul_add(difference_2, two, difference),
        simd.mul_add(sum_2, four, sum),
        simd.add(simd.mul_add(difference_2, eight, difference), m[5]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Scalar;

    /// One tile of one channel: the transforms and the products between them make the correlation that they stand for.
    #[test]
    fn the_transforms_make_a_correlation() {
        let pixels: Vec<f32> = (0..36).map(|i| ((i * 29) % 17) as f32 - 8.0).collect();
        let filter: Vec<f32> = (0..9).map(|i| ((i * 7) % 5) as f32 - 2.0).collect();
        let tiles = Tiles { range: 0..1, columns: 1 };
        let mut values = [0.0; PLACES];
        let input = Pixels { values: &pixels, size: [6, 6], padding: [0, 0] };
        // SAFETY: the memory is borrowed exclusively.
        unsafe { transform_pixels(Scalar::<1>, &tiles, input, Shared::new(&mut values), 1) };
        let weights = transform_filter(&filter);
        let products: Vec<f32> =
            values.iter().zip(weights).map(|(v, w)| (f64::from(*v) * w) as f32).collect();
        let mut output = [0.0; 16];
        let results = Results {
            values: Shared::new(&mut output),
            size: [4, 4],
            bias: &[1.0],
            residual: None,
            finish: Finish::NOTHING,
        };
        // SAFETY: as above.
        unsafe { transform_products(Scalar::<1>, &tiles, &products, 1, &results) };
        for (index, value) in output.iter().enumerate() {
            let (y, x) = (index / 4, index % 4);
            let taps = (0..9).map(|tap| pixels[(y + tap / 3) * 6 + x + tap % 3] * filter[tap]);
            let expected = taps.sum::<f32>() + 1.0;
            assert!((value - expected).abs() < 1e-3, "{index}: {value}, not {expected}");
        }
    }
}
