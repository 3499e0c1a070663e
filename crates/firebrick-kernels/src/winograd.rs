//! 3x3 convolution with a quarter of the multiplications: Winograd's minimal filtering F(4x4, 3x3), as Lavin and Gray 2015 apply it to
//! convolutional networks.
//!
//! A tile of 4x4 results depends on 6x6 pixels. Pixels and weights are each transformed to 36 values, for the points 0, 1, -1, 2, -2
//! and infinity; the transformed values of all channels are multiplied place by place, 36 matrix products; and what comes out is
//! transformed back to 4x4 results. The transforms' factors are small, so that an element's error stays some 3e-6 of the
//! largest result. A value that is not finite spreads to all results of the tiles that see it.
//!
//! The way back is the transposed of each step: results' gradients are transformed to 36 values by the transposed of what makes results, and
//! multiplied with the transformed pixels for the weights' gradients, with the transformed weights for the pixels'.

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

/// Transforms tiles of the results' gradients, the transposed of [`transform_products`]; places and tiles as in [`transform_pixels`].
///
/// # Safety
/// Nobody else uses what is written.
///
/// # Panics
/// If an operand is too short.
pub(crate) unsafe fn transform_gradients<S: Simd>(
    simd: S,
    tiles: &Tiles,
    values: &[f32],
    [height, width]: [usize; 2],
    result: Shared<'_>,
    stride: usize,
) {
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
                let mut columns = [[zero; TILE]; SIDE];
                for column in 0..TILE.min(width.saturating_sub(x)) {
                    let mut g = [zero; TILE];
                    for k in 0..TILE.min(height.saturating_sub(y)) {
                        let at = (y + k) * row + (x + column) * S::LANES;
                        // SAFETY: the pixel lies within the plane, by the loops' ends.
                        g[k] = unsafe { simd.load(values.as_ptr().add(at)) };
                    }
                    let t = gradient_transform(simd, g);
                    for k in 0..SIDE {
                        columns[k][column] = t[k];
                    }
                }
                // SAFETY: the assert covers the last place of the last tile.
                let to = unsafe { result.as_mut_ptr().add(index * S::LANES) };
                for k in 0..SIDE {
                    let t = gradient_transform(simd, columns[k]);
                    for column in 0..SIDE {
                        // SAFETY: as above.
                        unsafe { simd.store(to.add((k * SIDE + column) * stride), t[column]) };
                    }
                }
            }
        },
    );
}

/// Transforms products into gradients of the pixels, the transposed of [`transform_pixels`], and adds them to `gradient`, a plane of this
/// size with this padding before it.
///
/// # Panics
/// If an operand is too short.
pub(crate) fn add_pixel_gradients<S: Simd>(
    simd: S,
    tiles: &Tiles,
    products: &[f32],
    stride: usize,
    gradient: &mut [f32],
    [height, width]: [usize; 2],
    [top, left]: [usize; 2],
) {
    let count = tiles.range.len();
    assert!(count > 0 && (PLACES - 1) * stride + count * S::LANES <= products.len());
    assert!(gradient.len() >= height * width * S::LANES);
    simd.vectorize(
        #[inline(always)]
        || {
            let row = width * S::LANES;
            let zero = simd.splat(0.0);
            for (index, tile) in tiles.range.clone().enumerate() {
                let (y, x) = (tile / tiles.columns * TILE, tile % tiles.columns * TILE);
                // SAFETY: the assert covers the last place of the last tile.
                let from = unsafe { products.as_ptr().add(index * S::LANES) };
                let mut columns = [[zero; SIDE]; SIDE];
                for column in 0..SIDE {
                    let mut m = [zero; SIDE];
                    for k in 0..SIDE {
                        // SAFETY: as above.
                        m[k] = unsafe { simd.load(from.add((k * SIDE + column) * stride)) };
                    }
                    let t = pixel_gradient_transform(simd, m);
                    for k in 0..SIDE {
                        columns[k][column] = t[k];
                    }
                }
                for k in 0..SIDE {
                    let to_y = (y + k).wrapping_sub(top);
                    if to_y >= height {
                        continue;
                    }
                    let t = pixel_gradient_transform(simd, columns[k]);
                    for column in 0..SIDE {
                        let to_x = (x + column).wrapping_sub(left);
                        if to_x < width {
                            // SAFETY: the pixel lies within the plane, as was just compared.
                            unsafe {
                                let at = gradient.as_mut_ptr().add(to_y * row + to_x * S::LANES);
                                simd.store(at, simd.add(simd.load(at), t[column]));
                            }
                        }
                    }
                }
            }
        },
    );
}

/// Transforms a vector of filters, `[9, LANES]`: value `place` goes to `place * stride`.
///
/// # Safety
/// Nobody else uses what is written.
///
/// # Panics
/// If an operand is too short.
pub(crate) unsafe fn transform_filters<S: Simd>(simd: S, taps: &[f32], result: Shared<'_>, stride: usize) {
    assert!(taps.len() >= 9 * S::LANES && (PLACES - 1) * stride + S::LANES <= result.len());
    simd.vectorize(
        #[inline(always)]
        || {
            let mut columns = [[simd.splat(0.0); 3]; SIDE];
            for column in 0..3 {
                // SAFETY: nine vectors are there.
                let g =
                    [0, 3, 6].map(|row| unsafe { simd.load(taps.as_ptr().add((row + column) * S::LANES)) });
                let t = filter_transform(simd, g);
                for k in 0..SIDE {
                    columns[k][column] = t[k];
                }
            }
            for k in 0..SIDE {
                let t = filter_transform(simd, columns[k]);
                for column in 0..SIDE {
                    // SAFETY: the assert covers the last place.
                    unsafe { simd.store(result.as_mut_ptr().add((k * SIDE + column) * stride), t[column]) };
                }
            }
        },
    );
}

/// The gradients of a vector of filters, `[9, LANES]`, from those of their transformed values, the transposed of [`transform_filters`].
///
/// # Panics
/// If an operand is too short.
pub(crate) fn filter_gradients<S: Simd>(simd: S, values: &[f32], stride: usize, taps: &mut [f32]) {
    assert!(taps.len() >= 9 * S::LANES && (PLACES - 1) * stride + S::LANES <= values.len());
    simd.vectorize(
        #[inline(always)]
        || {
            let mut columns = [[simd.splat(0.0); SIDE]; 3];
            for column in 0..SIDE {
                let mut m = [simd.splat(0.0); SIDE];
                for k in 0..SIDE {
                    // SAFETY: the assert covers the last place.
                    m[k] = unsafe { simd.load(values.as_ptr().add((k * SIDE + column) * stride)) };
                }
                let t = filter_gradient_transform(simd, m);
                for k in 0..3 {
                    columns[k][column] = t[k];
                }
            }
            for k in 0..3 {
                let t = filter_gradient_transform(simd, columns[k]);
                for column in 0..3 {
                    // SAFETY: nine vectors fit.
                    unsafe { simd.store(taps.as_mut_ptr().add((k * 3 + column) * S::LANES), t[column]) };
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

/// `A g`.
#[inline(always)]
fn gradient_transform<S: Simd>(simd: S, g: [S::Vector; TILE]) -> [S::Vector; SIDE] {
    let [minus_1, two, four] = [-1.0, 2.0, 4.0].map(|factor| simd.splat(factor));
    let (even, odd) = (simd.add(g[0], g[2]), simd.add(g[1], g[3]));
    let even_2 = simd.mul_add(g[2], four, g[0]);
    let odd_2 = simd.mul(simd.mul_add(g[3], four, g[1]), two);
    [
        g[0],
        simd.add(even, odd),
        simd.mul_add(odd, minus_1, even),
        simd.add(even_2, odd_2),
        simd.mul_add(odd_2, minus_1, even_2),
        g[3],
    ]
}

/// `B m`.
#[inline(always)]
fn pixel_gradient_transform<S: Simd>(simd: S, m: [S::Vector; SIDE]) -> [S::Vector; SIDE] {
    let [minus_1, two, minus_2] = [-1.0, 2.0, -2.0].map(|factor| simd.splat(factor));
    let [four, minus_4, minus_5] = [4.0, -4.0, -5.0].map(|factor| simd.splat(factor));
    let sum = simd.add(m[1], m[2]);
    let difference = simd.mul_add(m[2], minus_1, m[1]);
    let sum_2 = simd.add(m[3], m[4]);
    let difference_2 = simd.mul_add(m[4], minus_1, m[3]);
    [
        simd.mul(m[0], four),
        simd.mul_add(m[5], four, simd.mul_add(difference, minus_4, simd.mul(difference_2, minus_2))),
        simd.mul_add(m[0], minus_5, simd.mul_add(sum, minus_4, simd.mul(sum_2, minus_1))),
        simd.mul_add(m[5], minus_5, simd.mul_add(difference_2, two, difference)),
        simd.add(m[0], simd.add(sum, sum_2)),
        m[5],
    ]
}

/// `G g`.
#[inline(always)]
fn filter_transform<S: Simd>(simd: S, g: [S::Vector; 3]) -> [S::Vector; SIDE] {
    let [quarter, minus_sixth, minus_1] = [1.0 / 4.0, -1.0 / 6.0, -1.0].map(|factor| simd.splat(factor));
    let [sixth, twelfth, twenty_fourth] =
        [1.0 / 6.0, 1.0 / 12.0, 1.0 / 24.0].map(|factor| simd.splat(factor));
    let even = simd.add(g[0], g[2]);
    let even_2 = simd.mul_add(g[0], twenty_fourth, simd.mul(g[2], sixth));
    let odd_2 = simd.mul(g[1], twelfth);
    [
        simd.mul(g[0], quarter),
        simd.mul(simd.add(even, g[1]), minus_sixth),
        simd.mul(simd.mul_add(g[1], minus_1, even), minus_sixth),
        simd.add(even_2, odd_2),
        simd.mul_add(odd_2, minus_1, even_2),
        g[2],
    ]
}

/// `G^T m`.
#[inline(always)]
fn filter_gradient_transform<S: Simd>(simd: S, m: [S::Vector; SIDE]) -> [S::Vector; 3] {
    let [quarter, minus_sixth, minus_1] = [1.0 / 4.0, -1.0 / 6.0, -1.0].map(|factor| simd.splat(factor));
    let [sixth, twelfth, twenty_fourth] =
        [1.0 / 6.0, 1.0 / 12.0, 1.0 / 24.0].map(|factor| simd.splat(factor));
    let sum = simd.add(m[1], m[2]);
    let difference = simd.mul_add(m[2], minus_1, m[1]);
    let sum_2 = simd.add(m[3], m[4]);
    let difference_2 = simd.mul_add(m[4], minus_1, m[3]);
    [
        simd.mul_add(m[0], quarter, simd.mul_add(sum, minus_sixth, simd.mul(sum_2, twenty_fourth))),
        simd.mul_add(difference, minus_sixth, simd.mul(difference_2, twelfth)),
        simd.add(simd.mul_add(sum, minus_sixth, simd.mul(sum_2, sixth)), m[5]),
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

    /// `<f(a), b> = <a, g(b)>` for every pair of transposed transforms.
    #[test]
    fn the_way_back_is_the_transposed() {
        let simd = Scalar::<1>;
        let numbers = |count: usize, step: usize| -> Vec<f32> {
            (0..count).map(|i| ((i * step) % 17) as f32 - 8.0).collect()
        };
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let close = |what: &str, a: f64, b: f64| {
            assert!((a - b).abs() < 1e-5 * a.abs().max(100.0), "{what}: {a}, {b}")
        };
        // An image that tiles do not fill, with another padding above than left.
        let (size, padding) = ([7, 6], [1, 0]);
        let result_size = [7, 4];
        let tiles = Tiles { range: 0..2, columns: 1 };
        let stride = 2;

        let (pixels, products) = (numbers(42, 5), numbers(PLACES * stride, 7));
        let mut there = vec![0.0; PLACES * stride];
        let input = Pixels { values: &pixels, size, padding };
        // SAFETY: the memory is borrowed exclusively, here and below.
        unsafe { transform_pixels(simd, &tiles, input, Shared::new(&mut there), stride) };
        let mut back = vec![0.0; 42];
        add_pixel_gradients(simd, &tiles, &products, stride, &mut back, size, padding);
        close("pixels", dot(&there, &products), dot(&pixels, &back));

        let gradients = numbers(28, 11);
        let mut there = vec![0.0; 28];
        let results = Results {
            values: Shared::new(&mut there),
            size: result_size,
            bias: &[0.0],
            residual: None,
            finish: Finish::NOTHING,
        };
        // SAFETY: as above.
        unsafe { transform_products(simd, &tiles, &products, stride, &results) };
        let mut back = vec![0.0; PLACES * stride];
        // SAFETY: as above.
        unsafe {
            transform_gradients(simd, &tiles, &gradients, result_size, Shared::new(&mut back), stride);
        }
        close("results", dot(&there, &gradients), dot(&products, &back));

        let filter = numbers(9, 5);
        let mut there = vec![0.0; PLACES];
        // SAFETY: as above.
        unsafe { transform_filters(simd, &filter, Shared::new(&mut there), 1) };
        for (value, expected) in there.iter().zip(transform_filter(&filter)) {
            close("a filter", f64::from(*value), expected);
        }
        let mut back = vec![0.0; 9];
        filter_gradients(simd, &products[..PLACES], 1, &mut back);
        close("filters", dot(&there, &products[..PLACES]), dot(&filter, &back));
    }
}
