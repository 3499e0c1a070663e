//! LayerNorm over the channels of each pixel.

use super::step::{Image, Step, Task, pieces};
use crate::buffer::Buffer;
use crate::layout::Blocked;
use crate::simd::Simd;
use std::ops::Range;

/// Pixels that are normalised together: their channels, however many planes apart, stay in the cache from pass to pass.
const PIXELS: usize = 32;

/// `(x - mean) / sqrt(var + epsilon) * gamma + beta`, mean and variance over the channels.
#[derive(Debug)]
pub(crate) struct LayerNormStep {
    layout: Blocked,
    /// `[planes, LANES]`.
    gamma: Buffer,
    beta: Buffer,
    epsilon: f32,
}

impl LayerNormStep {
    pub(crate) fn new(gamma: &[f32], beta: &[f32], epsilon: f32, layout: Blocked) -> Self {
        let filled = |values: &[f32]| {
            let mut buffer = Buffer::zeroed(layout.planes() * layout.lanes);
            buffer[..values.len()].copy_from_slice(values);
            buffer
        };
        Self { layout, gamma: filled(gamma), beta: filled(beta), epsilon }
    }

    /// The sum of `value` over the valid channels of each pixel into `sums`, one vector a pixel, every lane the whole sum.
    #[inline(always)]
    fn sums<S: Simd>(
        &self,
        simd: S,
        input: &[f32],
        pixels: Range<usize>,
        sums: &mut [f32],
        value: impl Fn(usize, S::Vector) -> S::Vector,
    ) {
        let lanes = S::LANES;
        sums.fill(0.0);
        for plane in 0..self.layout.planes() {
            let valid = lanes.min(self.layout.channels - plane * lanes);
            let input = &input[plane * self.layout.plane() + pixels.start * lanes..][..pixels.len() * lanes];
            for (pixel, (sum, x)) in sums.chunks_exact_mut(lanes).zip(input.chunks_exact(lanes)).enumerate() {
                // SAFETY: the chunks are one vector long, and `INDEX` has sixteen values, the most that a vector has.
                unsafe {
                    let mut x = value(pixel, simd.load(x.as_ptr()));
                    if valid < lanes {
                        let index = simd.load(INDEX.as_ptr());
                        x = simd.between(simd.splat(-1.0), index, simd.splat(valid as f32), x);
                    }
                    simd.store(sum.as_mut_ptr(), simd.add(simd.load(sum.as_ptr()), x));
                }
            }
        }
        for sum in sums.chunks_exact_mut(lanes) {
            // Pairs of halves: the same order for every pixel.
            let mut width = lanes / 2;
            while width > 0 {
                for lane in 0..width {
                    sum[lane] += sum[lane + width];
                }
                width /= 2;
            }
            let total = sum[0];
            sum.fill(total);
        }
    }
}

/// A lane's number.
const INDEX: [f32; 16] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];

impl<S: Simd> Step<S> for LayerNormStep {
    fn output(&self) -> Blocked {
        self.layout
    }

    fn name(&self) -> String {
        let Blocked { channels, height, width, .. } = self.layout;
        format!("layer norm {channels} at {height}x{width}")
    }

    fn scratch_len(&self) -> usize {
        2 * PIXELS * S::LANES
    }

    fn tasks(&self, split: usize) -> Vec<usize> {
        vec![self.layout.pixels().min(split)]
    }

    unsafe fn run(&self, simd: S, task: Task, image: Image<'_>, scratch: &mut [f32]) {
        let lanes = S::LANES;
        let (means, scales) = scratch[..2 * PIXELS * lanes].split_at_mut(PIXELS * lanes);
        let of_channels = 1.0 / self.layout.channels as f32;
        let vector = |values: &[f32], index: usize| {
            let values = &values[index * lanes..][..lanes];
            // SAFETY: the slice is one vector long.
            unsafe { simd.load(values.as_ptr()) }
        };
        simd.vectorize(
            #[inline(always)]
            || {
                for pixels in pieces(task.share(self.layout.pixels()), PIXELS) {
                    let len = pixels.len() * lanes;
                    let (means, scales) = (&mut means[..len], &mut scales[..len]);
                    self.sums(
                        simd,
                        image.input,
                        pixels.clone(),
                        means,
                        #[inline(always)]
                        |_, x| x,
                    );
                    means.iter_mut().for_each(|sum| *sum *= of_channels);
                    let means = &*means;
                    self.sums(
                        simd,
                        image.input,
                        pixels.clone(),
                        scales,
                        #[inline(always)]
                        |pixel, x| {
                            let deviation = simd.mul_add(vector(means, pixel), simd.splat(-1.0), x);
                            simd.mul(deviation, deviation)
                        },
                    );
                    for scale in &mut *scales {
                        *scale = 1.0 / (*scale * of_channels + self.epsilon).sqrt();
                    }
                    for plane in 0..self.layout.planes() {
                        let at = plane * self.layout.plane() + pixels.start * lanes;
                        let (gamma, beta) = (vector(&self.gamma, plane), vector(&self.beta, plane));
                        // SAFETY: this task alone writes these pixels.
                        let output = unsafe { image.output.write(at, len) };
                        let input = &image.input[at..][..len];
                        for (pixel, output) in output.chunks_exact_mut(lanes).enumerate() {
                            let deviation =
                                simd.mul_add(vector(means, pixel), simd.splat(-1.0), vector(input, pixel));
                            let scaled = simd.mul(deviation, vector(scales, pixel));
                            // SAFETY: the chunk is one vector long.
                            unsafe { simd.store(output.as_mut_ptr(), simd.mul_add(scaled, gamma, beta)) };
                        }
                    }
                }
            },
        );
    }
}
