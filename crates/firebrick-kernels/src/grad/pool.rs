//! Pooling of images with their channels last, forward and backward.

use super::lanes;
use crate::SimdLevel;
use crate::buffer::by_blocks;
use crate::chain::Work;
use crate::simd::Simd;
use rayon::prelude::*;
use std::ops::Range;

/// The windows along one axis of the image, each within it: what padding a window covers is cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axis {
    input: usize,
    windows: Vec<Range<usize>>,
}

impl Axis {
    /// Windows of `kernel` pixels, `stride` apart, over an axis that is padded on both ends; what is left at the end is dropped.
    /// `None` if there is no window, or one that would see padding alone.
    pub fn sliding(input: usize, kernel: usize, stride: usize, padding: [usize; 2]) -> Option<Self> {
        let padded = input + padding[0] + padding[1];
        if kernel == 0 || stride == 0 || padded < kernel {
            return None;
        }
        let window = |index: usize| {
            let start = index * stride;
            start.saturating_sub(padding[0])..(start + kernel).saturating_sub(padding[0]).min(input)
        };
        let windows: Vec<_> = (0..(padded - kernel) / stride + 1).map(window).collect();
        windows.iter().all(|window| !window.is_empty()).then_some(Self { input, windows })
    }

    /// `output` windows that cover the axis, PyTorch's: from `⌊i input / output⌋` to `⌈(i + 1) input / output⌉`. `None` if either
    /// is 0.
    pub fn adaptive(input: usize, output: usize) -> Option<Self> {
        let window = |index: usize| index * input / output..((index + 1) * input).div_ceil(output);
        (input > 0 && output > 0).then(|| Self { input, windows: (0..output).map(window).collect() })
    }

    /// Pixels of the axis.
    pub fn input(&self) -> usize {
        self.input
    }

    /// How many windows there are.
    pub fn output(&self) -> usize {
        self.windows.len()
    }
}

/// What is pooled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolShape {
    /// Images.
    pub batch: usize,
    /// Channels.
    pub channels: usize,
    /// Windows along the height.
    pub height: Axis,
    /// Windows along the width.
    pub width: Axis,
}

impl PoolShape {
    /// Values of the input, `[batch, height, width, channels]`.
    pub fn input_len(&self) -> usize {
        self.batch * self.image()
    }

    /// Values of the result, `[batch, windows, windows, channels]`.
    pub fn output_len(&self) -> usize {
        self.batch * self.pooled()
    }

    fn image(&self) -> usize {
        self.height.input * self.width.input * self.channels
    }

    fn pooled(&self) -> usize {
        self.height.output() * self.row()
    }

    /// Values of a row of windows.
    fn row(&self) -> usize {
        self.width.output() * self.channels
    }

    fn check(&self, operation: &str, input: usize, output: usize) {
        assert!(self.channels > 0, "{operation}: images without channels");
        assert_eq!(input, self.input_len(), "{operation}: the input has another length");
        assert_eq!(output, self.output_len(), "{operation}: the result has another length");
    }

    /// The pixels of a window, as the ranges of their channels in an image, and their places in it.
    fn pixels(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> impl Iterator<Item = (usize, Range<usize>)> {
        let (width, channels) = (self.width.input, self.channels);
        rows.flat_map(move |row| columns.clone().map(move |column| row * width + column))
            .map(move |pixel| (pixel, pixel * channels..(pixel + 1) * channels))
    }
}

/// The mean of each window: its sum over `divisor`, or over the pixels in it where that is `None`.
///
/// # Panics
/// If `x` has another length than the shape says, or the processor lacks the level.
pub fn average_pool(level: SimdLevel, x: &[f32], shape: &PoolShape, divisor: Option<usize>) -> Vec<f32> {
    shape.check("average_pool", x.len(), shape.output_len());
    level.run(Average { x, shape, divisor })
}

/// The gradient of [`average_pool`]'s input for that of its result.
///
/// # Panics
/// As [`average_pool`], for `grad`.
pub fn average_pool_backward(
    level: SimdLevel,
    grad: &[f32],
    shape: &PoolShape,
    divisor: Option<usize>,
) -> Vec<f32> {
    shape.check("average_pool", shape.input_len(), grad.len());
    level.run(AverageBackward { grad, shape, divisor })
}

/// What [`max_pool`] returns: the result, and what [`max_pool_backward`] needs of it.
#[derive(Debug, Clone, PartialEq)]
pub struct MaxPool {
    /// The largest value of each window; NaN where it holds one.
    pub output: Vec<f32>,
    /// The pixel of the image that it came from, the first one of several; the last of several that are no numbers.
    pub pixel: Vec<u32>,
}

/// The largest value of each window.
///
/// # Panics
/// If `x` has another length than the shape says, or the processor lacks the level.
pub fn max_pool(level: SimdLevel, x: &[f32], shape: &PoolShape) -> MaxPool {
    shape.check("max_pool", x.len(), shape.output_len());
    assert!(
        u32::try_from(shape.height.input * shape.width.input).is_ok(),
        "max_pool: an image of 2^32 pixels"
    );
    level.run(Max { x, shape })
}

/// The gradient of [`max_pool`]'s input for that of its result: it goes to the pixels that won.
///
/// # Panics
/// If `grad` or `pixel` has another length than the shape says, or a pixel lies outside.
pub fn max_pool_backward(grad: &[f32], pixel: &[u32], shape: &PoolShape) -> Vec<f32> {
    shape.check("max_pool", shape.input_len(), grad.len());
    shape.check("max_pool", shape.input_len(), pixel.len());
    if shape.input_len() == 0 || grad.is_empty() {
        return vec![0.0; shape.input_len()];
    }
    let pooled = grad.par_chunks(shape.pooled()).zip(pixel.par_chunks(shape.pooled()));
    by_blocks(shape.input_len(), shape.image(), pooled, |(grad, pixel), image| {
        let windows = grad.chunks_exact(shape.channels).zip(pixel.chunks_exact(shape.channels));
        for (grad, pixel) in windows {
            for (channel, (grad, pixel)) in grad.iter().zip(pixel).enumerate() {
                image[*pixel as usize * shape.channels + channel] += grad;
            }
        }
    })
}

struct Average<'a> {
    x: &'a [f32],
    shape: &'a PoolShape,
    divisor: Option<usize>,
}

impl Work for Average<'_> {
    type Output = Vec<f32>;

    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let shape = self.shape;
        if shape.output_len() == 0 {
            return Vec::new();
        }
        let rows = (0..shape.batch * shape.height.output()).into_par_iter();
        by_blocks(shape.output_len(), shape.row(), rows, |index, output| {
            let (image, row) = (index / shape.height.output(), index % shape.height.output());
            let image = &self.x[image * shape.image()..(image + 1) * shape.image()];
            let rows = &shape.height.windows[row];
            simd.vectorize(
                #[inline(always)]
                || {
                    let windows = shape.width.windows.iter().zip(output.chunks_exact_mut(shape.channels));
                    for (columns, mean) in windows {
                        for (_, pixel) in shape.pixels(rows.clone(), columns.clone()) {
                            lanes::update(
                                simd,
                                [&image[pixel]],
                                mean,
                                #[inline(always)]
                                |[x], sum| simd.add(sum, x),
                            );
                        }
                        let scale = scale(simd, self.divisor, rows, columns);
                        lanes::update(
                            simd,
                            [],
                            mean,
                            #[inline(always)]
                            |[], sum| simd.mul(sum, scale),
                        );
                    }
                },
            );
        })
    }
}

#[inline(always)]
fn scale<S: Simd>(simd: S, divisor: Option<usize>, rows: &Range<usize>, columns: &Range<usize>) -> S::Vector {
    simd.splat(1.0 / divisor.unwrap_or(rows.len() * columns.len()) as f32)
}

struct AverageBackward<'a> {
    grad: &'a [f32],
    shape: &'a PoolShape,
    divisor: Option<usize>,
}

impl Work for AverageBackward<'_> {
    type Output = Vec<f32>;

    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let shape = self.shape;
        if shape.input_len() == 0 || self.grad.is_empty() {
            return vec![0.0; shape.input_len()];
        }
        let pooled = self.grad.par_chunks(shape.pooled());
        by_blocks(shape.input_len(), shape.image(), pooled, |grad, image| {
            simd.vectorize(
                #[inline(always)]
                || {
                    for (rows, grad) in shape.height.windows.iter().zip(grad.chunks_exact(shape.row())) {
                        let windows = shape.width.windows.iter().zip(grad.chunks_exact(shape.channels));
                        for (columns, grad) in windows {
                            let scale = scale(simd, self.divisor, rows, columns);
                            for (_, pixel) in shape.pixels(rows.clone(), columns.clone()) {
                                lanes::update(
                                    simd,
                                    [grad],
                                    &mut image[pixel],
                                    #[inline(always)]
                                    |[g], sum| simd.mul_add(g, scale, sum),
                                );
                            }
                        }
                    }
                },
            );
        })
    }
}

struct Max<'a> {
    x: &'a [f32],
    shape: &'a PoolShape,
}

impl Work for Max<'_> {
    type Output = MaxPool;

    fn run<S: Simd>(self, simd: S) -> MaxPool {
        let shape = self.shape;
        let mut output = vec![0.0; shape.output_len()];
        let mut pixel = vec![0; shape.output_len()];
        if output.is_empty() {
            return MaxPool { output, pixel };
        }
        let results = output.par_chunks_mut(shape.row()).zip(pixel.par_chunks_mut(shape.row()));
        results.enumerate().for_each(|(index, (output, pixel))| {
            let (image, row) = (index / shape.height.output(), index % shape.height.output());
            let image = &self.x[image * shape.image()..(image + 1) * shape.image()];
            let rows = &shape.height.windows[row];
            simd.vectorize(
                #[inline(always)]
                || {
                    let results =
                        output.chunks_exact_mut(shape.channels).zip(pixel.chunks_exact_mut(shape.channels));
                    for (columns, (best, place)) in shape.width.windows.iter().zip(results) {
                        best.fill(f32::NEG_INFINITY);
                        place.fill((rows.start * shape.width.input + columns.start) as u32);
                        for (pixel, channels) in shape.pixels(rows.clone(), columns.clone()) {
                            // Plain selections, which the compiler makes vectors of.
                            for ((x, best), place) in
                                image[channels].iter().zip(best.iter_mut()).zip(place.iter_mut())
                            {
                                let wins = *x > *best || x.is_nan();
                                *best = if wins { *x } else { *best };
                                *place = if wins { pixel as u32 } else { *place };
                            }
                        }
                    }
                },
            );
        });
        MaxPool { output, pixel }
    }
}

/// The mean of each row of `x`, `[rows, length]`: global average pooling where channels are not last.
///
/// # Panics
/// If `length` is 0 or `x` is no whole number of rows; or the processor lacks the level.
pub fn row_means(level: SimdLevel, x: &[f32], length: usize) -> Vec<f32> {
    assert!(
        length > 0 && x.len().is_multiple_of(length),
        "row_means: {} values in rows of {length}",
        x.len()
    );
    level.run(RowMeans { x, length })
}

struct RowMeans<'a> {
    x: &'a [f32],
    length: usize,
}

impl Work for RowMeans<'_> {
    type Output = Vec<f32>;

    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let length = self.length;
        let mut output = vec![0.0; self.x.len() / length];
        let block = super::rows::block(length);
        self.x.par_chunks(block * length).zip(output.par_chunks_mut(block)).for_each(|(x, output)| {
            simd.vectorize(
                #[inline(always)]
                || {
                    for (x, mean) in x.chunks_exact(length).zip(output) {
                        let [sum] = lanes::sums(
                            simd,
                            [x],
                            [0.0],
                            #[inline(always)]
                            |x| x,
                        );
                        *mean = sum / length as f32;
                    }
                },
            );
        });
        output
    }
}

/// The gradient of [`row_means`]' argument: each value of `grad`, over `length`, `length` times.
pub fn row_means_backward(grad: &[f32], length: usize) -> Vec<f32> {
    let mut input = vec![0.0; grad.len() * length];
    if length > 0 {
        input.par_chunks_mut(length).zip(grad).for_each(|(row, grad)| row.fill(grad / length as f32));
    }
    input
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grad::testing::{assert_close, at_every_level, on_threads, values};

    fn shapes() -> Vec<(PoolShape, Option<usize>)> {
        let mut shapes = Vec::new();
        let sliding = [
            // batch, channels, height, width, kernel, stride, padding
            (1, 1, 1, 1, 1, 1, [0, 0]),
            (2, 3, 5, 4, 2, 2, [0, 0]),
            (1, 8, 7, 9, 3, 2, [1, 1]),
            (3, 17, 6, 6, 3, 3, [0, 1]),
            (2, 33, 4, 5, 3, 1, [1, 0]),
        ];
        for (batch, channels, height, width, kernel, stride, padding) in sliding {
            let axis = |input| Axis::sliding(input, kernel, stride, padding).unwrap();
            let shape = PoolShape { batch, channels, height: axis(height), width: axis(width) };
            shapes.push((shape.clone(), None));
            shapes.push((shape, Some(kernel * kernel)));
        }
        for (batch, channels, height, width, output) in [(2, 5, 7, 5, [3, 2]), (1, 40, 2, 3, [4, 1])] {
            let height = Axis::adaptive(height, output[0]).unwrap();
            let width = Axis::adaptive(width, output[1]).unwrap();
            shapes.push((PoolShape { batch, channels, height, width }, None));
        }
        shapes
    }

    /// Calls `visit` with the place of each output and of each input of its window, and the window's pixels.
    fn each(shape: &PoolShape, mut visit: impl FnMut(usize, &[(usize, usize)])) {
        let (h, w, c) = (shape.height.input, shape.width.input, shape.channels);
        let mut output = 0;
        for image in 0..shape.batch {
            for rows in &shape.height.windows {
                for columns in &shape.width.windows {
                    for channel in 0..c {
                        let pixels = rows.clone().flat_map(|y| columns.clone().map(move |x| y * w + x));
                        let inputs: Vec<_> =
                            pixels.map(|pixel| (pixel, (image * h * w + pixel) * c + channel)).collect();
                        visit(output, &inputs);
                        output += 1;
                    }
                }
            }
        }
    }

    #[test]
    fn averages_and_spreads_at_every_level() {
        at_every_level(|level| {
            for (shape, divisor) in shapes() {
                let (x, grad) = (values(shape.input_len(), 1), values(shape.output_len(), 2));
                let (mut output, mut input) = (vec![0.0; grad.len()], vec![0.0; x.len()]);
                each(&shape, |to, from| {
                    let n = divisor.unwrap_or(from.len()) as f64;
                    output[to] = from.iter().map(|&(_, i)| f64::from(x[i])).sum::<f64>() / n;
                    from.iter().for_each(|&(_, i)| input[i] += f64::from(grad[to]) / n);
                });
                let what = format!("{level}, {shape:?}, {divisor:?}");
                assert_close(&average_pool(level, &x, &shape, divisor), &output, 1e-6, &what);
                assert_close(&average_pool_backward(level, &grad, &shape, divisor), &input, 1e-6, &what);
            }
        });
    }

    #[test]
    fn finds_the_largest_and_returns_to_it_at_every_level() {
        at_every_level(|level| {
            for (shape, _) in shapes() {
                // Few different values, so that there are ties.
                let x: Vec<f32> = values(shape.input_len(), 3).iter().map(|x| x.round()).collect();
                let grad = values(shape.output_len(), 4);
                let mut input = vec![0.0; x.len()];
                let forward = max_pool(level, &x, &shape);
                each(&shape, |to, from| {
                    let largest = from.iter().map(|&(_, i)| x[i]).fold(f32::NEG_INFINITY, f32::max);
                    let &(pixel, place) = from.iter().find(|&&(_, i)| x[i] == largest).unwrap();
                    assert_eq!((forward.output[to], forward.pixel[to]), (largest, pixel as u32), "{level}");
                    input[place] += f64::from(grad[to]);
                });
                let back = max_pool_backward(&grad, &forward.pixel, &shape);
                assert_close(&back, &input, 1e-6, &format!("{level}, {shape:?}"));
            }
        });
    }

    #[test]
    fn the_largest_of_a_window_with_nan_is_nan() {
        let axis = Axis::sliding(2, 2, 1, [0, 0]).unwrap();
        let shape = PoolShape { batch: 1, channels: 1, height: axis.clone(), width: axis };
        at_every_level(|level| {
            for place in 0..4 {
                let mut x = [1.0, 2.0, 3.0, 4.0];
                x[place] = f32::NAN;
                let forward = max_pool(level, &x, &shape);
                // What follows a NaN is not larger than it.
                assert!(
                    forward.output[0].is_nan() && forward.pixel == [place as u32],
                    "{level}: {forward:?}"
                );
            }
        });
    }

    #[test]
    fn averages_rows() {
        at_every_level(|level| {
            for (rows, length) in [(1, 1), (5, 49), (300, 7)] {
                let x = values(rows * length, 5);
                let sum = |row: &[f32]| row.iter().map(|&x| f64::from(x)).sum::<f64>() / length as f64;
                let expected: Vec<f64> = x.chunks(length).map(sum).collect();
                assert_close(&row_means(level, &x, length), &expected, 1e-6, "means");
            }
        });
        assert_eq!(row_means_backward(&[2.0, 4.0], 2), [1.0, 1.0, 2.0, 2.0]);
    }

    #[test]
    fn gives_the_same_bytes_on_any_number_of_threads() {
        let axis = || Axis::sliding(12, 3, 1, [1, 1]).unwrap();
        let shape = PoolShape { batch: 5, channels: 19, height: axis(), width: axis() };
        let (x, grad) = (values(shape.input_len(), 6), values(shape.output_len(), 7));
        at_every_level(|level| {
            let run =
                || (average_pool(level, &x, &shape, None), average_pool_backward(level, &grad, &shape, None));
            assert!(on_threads(1, run) == on_threads(3, run), "{level}");
        });
    }

    #[test]
    fn knows_windows_that_cannot_be() {
        assert_eq!(Axis::sliding(3, 5, 1, [0, 1]), None, "the kernel is larger than the image");
        assert_eq!(Axis::sliding(3, 1, 1, [1, 0]), None, "a window of padding alone");
        assert_eq!(Axis::adaptive(3, 0), None);
    }
}
