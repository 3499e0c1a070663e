//! Layer normalisation over the last axis (Ba, Kiros and Hinton 2016), forward and backward.

use super::{lanes, rows};
use crate::SimdLevel;
use crate::buffer::by_blocks;
use crate::chain::Work;
use crate::simd::Simd;
use rayon::prelude::*;

/// What [`layer_norm`] returns: the result, and what [`layer_norm_backward`] needs of it.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerNorm {
    /// `[rows, length]`.
    pub output: Vec<f32>,
    /// The mean of each row.
    pub mean: Vec<f32>,
    /// `1 / sqrt(variance + epsilon)` of each row, the variance being the biased one.
    pub rstd: Vec<f32>,
}

/// The gradients of [`layer_norm`]'s arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerNormGradients {
    /// `[rows, length]`.
    pub input: Vec<f32>,
    /// `[length]`.
    pub gamma: Vec<f32>,
    /// `[length]`.
    pub beta: Vec<f32>,
}

/// `y = (x - mean) / sqrt(variance + epsilon) * gamma + beta` of each row of `x`, `[rows, length]`.
///
/// # Panics
/// If `gamma` is empty, `beta` has another length, or `x` is no whole number of rows; or the processor lacks the level.
pub fn layer_norm(level: SimdLevel, x: &[f32], gamma: &[f32], beta: &[f32], epsilon: f32) -> LayerNorm {
    level.run(Forward { x, gamma, beta, epsilon })
}

/// The gradients of [`layer_norm`], of which `mean` and `rstd` are, for the gradient `grad` of its output.
///
/// # Panics
/// As [`layer_norm`], or if `grad`, `mean` or `rstd` has another length than there.
pub fn layer_norm_backward(
    level: SimdLevel,
    grad: &[f32],
    x: &[f32],
    gamma: &[f32],
    mean: &[f32],
    rstd: &[f32],
) -> LayerNormGradients {
    level.run(Backward { grad, x, gamma, mean, rstd })
}

/// `(x - mean) * rstd`.
#[inline(always)]
fn normal<S: Simd>(simd: S, x: S::Vector, minus_mean: S::Vector, rstd: S::Vector) -> S::Vector {
    simd.mul(simd.add(x, minus_mean), rstd)
}

fn check(x: &[f32], gamma: &[f32]) -> usize {
    let length = gamma.len();
    assert!(
        length > 0 && x.len().is_multiple_of(length),
        "layer_norm: {} values are no rows of {length}",
        x.len()
    );
    x.len() / length
}

struct Forward<'a> {
    x: &'a [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
    epsilon: f32,
}

impl Work for Forward<'_> {
    type Output = LayerNorm;

    fn run<S: Simd>(self, simd: S) -> LayerNorm {
        let (rows, length) = (check(self.x, self.gamma), self.gamma.len());
        assert_eq!(self.beta.len(), length, "layer_norm: beta is as long as gamma");
        let (mut mean, mut rstd) = (vec![0.0; rows], vec![0.0; rows]);
        let block = rows::block(length);
        let statistics = mean.par_chunks_mut(block).zip(rstd.par_chunks_mut(block));
        let inputs = self.x.par_chunks(block * length).zip(statistics);
        let output = by_blocks(self.x.len(), block * length, inputs, |(x, (mean, rstd)), output| {
            simd.vectorize(
                #[inline(always)]
                || {
                    let x = x.chunks_exact(length).zip(output.chunks_exact_mut(length));
                    for ((x, output), (mean, rstd)) in x.zip(mean.iter_mut().zip(rstd)) {
                        (*mean, *rstd) = self.row(simd, x, output);
                    }
                },
            );
        });
        LayerNorm { output, mean, rstd }
    }
}

impl Forward<'_> {
    /// Normalises a row; its mean and reciprocal standard deviation.
    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, x: &[f32], output: &mut [f32]) -> (f32, f32) {
        let length = x.len() as f32;
        let [sum] = lanes::sums(
            simd,
            [x],
            [0.0],
            #[inline(always)]
            |x| x,
        );
        let mean = sum / length;
        // A second pass over the row, which is in the cache: the difference of large numbers would lose the variance.
        let minus_mean = simd.splat(-mean);
        let [squares] = lanes::sums(
            simd,
            [x],
            [mean],
            #[inline(always)]
            |[x]| {
                let centred = simd.add(x, minus_mean);
                [simd.mul(centred, centred)]
            },
        );
        let rstd = 1.0 / (squares / length + self.epsilon).sqrt();
        let scale = simd.splat(rstd);
        lanes::map(
            simd,
            [x, self.gamma, self.beta],
            output,
            #[inline(always)]
            |[x, gamma, beta]| simd.mul_add(simd.mul(simd.add(x, minus_mean), scale), gamma, beta),
        );
        (mean, rstd)
    }
}

struct Backward<'a> {
    grad: &'a [f32],
    x: &'a [f32],
    gamma: &'a [f32],
    mean: &'a [f32],
    rstd: &'a [f32],
}

impl Work for Backward<'_> {
    type Output = LayerNormGradients;

    fn run<S: Simd>(self, simd: S) -> LayerNormGradients {
        let (rows, length) = (check(self.x, self.gamma), self.gamma.len());
        assert_eq!(self.grad.len(), self.x.len(), "layer_norm: the gradient is as large as the input");
        assert!(self.mean.len() == rows && self.rstd.len() == rows, "layer_norm: a mean and rstd a row");
        let block = rows::summing_block(rows, length);
        let mut partial = vec![0.0; rows.div_ceil(block) * 2 * length];
        let partials = partial.par_chunks_mut(2 * length).enumerate();
        let input = by_blocks(self.x.len(), block * length, partials, |(index, partial), input| {
            let (gamma, beta) = partial.split_at_mut(length);
            simd.vectorize(
                #[inline(always)]
                || {
                    let rows = rows::rows_of(index, block, rows);
                    for (row, input) in rows.zip(input.chunks_exact_mut(length)) {
                        self.row(simd, row, input, gamma, beta);
                    }
                },
            );
        });
        let (mut gamma, mut beta) = (vec![0.0; length], vec![0.0; length]);
        for partial in partial.chunks_exact(2 * length) {
            let (partial_gamma, partial_beta) = partial.split_at(length);
            gamma.iter_mut().zip(partial_gamma).for_each(|(sum, value)| *sum += value);
            beta.iter_mut().zip(partial_beta).for_each(|(sum, value)| *sum += value);
        }
        LayerNormGradients { input, gamma, beta }
    }
}

impl Backward<'_> {
    /// A row's gradient, and what it adds to those of `gamma` and `beta`.
    ///
    /// With `n = (x - mean) * rstd` and `g = grad * gamma`: `rstd * (g - mean(g) - n * mean(g * n))`.
    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, row: usize, input: &mut [f32], gamma: &mut [f32], beta: &mut [f32]) {
        let length = input.len();
        let at = row * length..(row + 1) * length;
        let (grad, x) = (&self.grad[at.clone()], &self.x[at]);
        let (minus_mean, rstd) = (simd.splat(-self.mean[row]), simd.splat(self.rstd[row]));
        let [sum, product] = lanes::sums(
            simd,
            [grad, x, self.gamma],
            [0.0; 3],
            #[inline(always)]
            |[grad, x, gamma]| {
                let g = simd.mul(grad, gamma);
                [g, simd.mul(g, normal(simd, x, minus_mean, rstd))]
            },
        );
        let minus_sum = simd.splat(-sum / length as f32);
        let minus_product = simd.splat(-product / length as f32);
        lanes::map(
            simd,
            [grad, x, self.gamma],
            input,
            #[inline(always)]
            |[grad, x, gamma]| {
                let g = simd.mul_add(grad, gamma, minus_sum);
                simd.mul(rstd, simd.mul_add(normal(simd, x, minus_mean, rstd), minus_product, g))
            },
        );
        lanes::update(
            simd,
            [grad, x],
            gamma,
            #[inline(always)]
            |[grad, x], sum| simd.mul_add(grad, normal(simd, x, minus_mean, rstd), sum),
        );
        lanes::update(
            simd,
            [grad],
            beta,
            #[inline(always)]
            |[grad], sum| simd.add(grad, sum),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grad::testing::{assert_close, at_every_level, on_threads, values};

    const EPSILON: f32 = 1e-5;

    /// The definition and its derivative, in f64.
    fn reference(
        grad: &[f32],
        x: &[f32],
        gamma: &[f32],
        beta: &[f32],
    ) -> (Vec<f64>, Vec<f64>, Vec<f64>, Vec<f64>) {
        let length = gamma.len();
        let (mut output, mut input) = (Vec::new(), Vec::new());
        let (mut dgamma, mut dbeta) = (vec![0.0; length], vec![0.0; length]);
        for (grad, x) in grad.chunks(length).zip(x.chunks(length)) {
            let n = length as f64;
            let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
            let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
            let rstd = 1.0 / (variance + f64::from(EPSILON)).sqrt();
            let normal: Vec<f64> = x.iter().map(|&x| (f64::from(x) - mean) * rstd).collect();
            let g: Vec<f64> = grad.iter().zip(gamma).map(|(&d, &g)| f64::from(d) * f64::from(g)).collect();
            let mean_g = g.iter().sum::<f64>() / n;
            let mean_gn = g.iter().zip(&normal).map(|(g, n)| g * n).sum::<f64>() / n;
            for i in 0..length {
                output.push(normal[i] * f64::from(gamma[i]) + f64::from(beta[i]));
                input.push(rstd * (g[i] - mean_g - normal[i] * mean_gn));
                dgamma[i] += f64::from(grad[i]) * normal[i];
                dbeta[i] += f64::from(grad[i]);
            }
        }
        (output, input, dgamma, dbeta)
    }

    #[test]
    fn equals_the_definition_at_every_level_and_width() {
        at_every_level(|level| {
            for (rows, length) in [(1, 1), (3, 2), (2, 7), (5, 8), (4, 17), (3, 64), (130, 33), (700, 100)] {
                let (x, grad) = (values(rows * length, 1), values(rows * length, 2));
                let (gamma, beta) = (values(length, 3), values(length, 4));
                let (output, input, dgamma, dbeta) = reference(&grad, &x, &gamma, &beta);
                let forward = layer_norm(level, &x, &gamma, &beta, EPSILON);
                let back = layer_norm_backward(level, &grad, &x, &gamma, &forward.mean, &forward.rstd);
                let what = format!("{level}, {rows} x {length}");
                assert_close(&forward.output, &output, 2e-5, &what);
                // Two values can lie so near each other that their distance is all rounding.
                let tolerance = if length == 2 { 1e-2 } else { 5e-5 };
                assert_close(&back.input, &input, tolerance, &what);
                assert_close(&back.gamma, &dgamma, 1e-4, &what);
                assert_close(&back.beta, &dbeta, 1e-4, &what);
            }
        });
    }

    #[test]
    fn keeps_the_variance_of_values_far_from_zero() {
        at_every_level(|level| {
            let x: Vec<f32> = (0..32).map(|i| 4096.0 + (i % 4) as f32).collect();
            let (gamma, beta) = (vec![1.0; 32], vec![0.0; 32]);
            let forward = layer_norm(level, &x, &gamma, &beta, 0.0);
            assert_eq!(forward.mean, [4097.5]);
            assert_close(&forward.rstd, &[1.0 / 1.25f64.sqrt()], 1e-6, "rstd");
        });
    }

    #[test]
    fn gives_the_same_bytes_on_any_number_of_threads() {
        let (rows, length) = (1000, 129);
        let (x, grad) = (values(rows * length, 5), values(rows * length, 6));
        let (gamma, beta) = (values(length, 7), values(length, 8));
        at_every_level(|level| {
            let run = || {
                let forward = layer_norm(level, &x, &gamma, &beta, EPSILON);
                let back = layer_norm_backward(level, &grad, &x, &gamma, &forward.mean, &forward.rstd);
                (forward, back)
            };
            let alone = on_threads(1, run);
            assert!(alone == on_threads(2, run) && alone == on_threads(5, run), "{level}");
        });
    }

    #[test]
    #[should_panic(expected = "7 values are no rows of 2")]
    fn refuses_half_a_row() {
        layer_norm(SimdLevel::Scalar, &[0.0; 7], &[1.0; 2], &[0.0; 2], EPSILON);
    }
}
