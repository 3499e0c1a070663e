//! A linear layer with its activation, forward and backward.

use super::matmul::{Sizes, Strided, product};
use super::one_row::one_row;
use super::{lanes, rows};
use crate::activation::Finish;
use crate::buffer::by_blocks;
use crate::chain::Work;
use crate::simd::Simd;
use crate::{Activation, SimdLevel};
use rayon::prelude::*;
use std::borrow::Cow;

/// The weight of a linear layer.
#[derive(Debug, Clone, Copy)]
pub struct Weight<'a> {
    /// `inputs * outputs` values.
    pub values: &'a [f32],
    /// Features that go in.
    pub inputs: usize,
    /// Features that come out.
    pub outputs: usize,
    /// Whether the values are `[outputs, inputs]`, as PyTorch has them, and not `[inputs, outputs]`, as burn has.
    pub outputs_first: bool,
}

impl<'a> Weight<'a> {
    /// `[inputs, outputs]`.
    fn matrix(&self) -> Strided<'a> {
        match self.outputs_first {
            true => Strided::rows(self.values, self.inputs).transposed(),
            false => Strided::rows(self.values, self.outputs),
        }
    }
}

/// What [`linear`] returns: the result, and what [`linear_backward`] needs of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// `[rows, outputs]`.
    pub output: Vec<f32>,
    /// What the activation was applied to, where its derivative cannot be told from its result.
    pub before: Option<Vec<f32>>,
}

/// The gradients of [`linear`]'s arguments that were asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearGradients {
    /// `[rows, inputs]`.
    pub input: Option<Vec<f32>>,
    /// In the weight's own order.
    pub weight: Option<Vec<f32>>,
    /// `[outputs]`.
    pub bias: Option<Vec<f32>>,
}

/// `activation(x · weight + bias)` of each row of `x`, `[rows, inputs]`.
///
/// # Panics
/// If the lengths do not fit together, or the processor lacks the level.
pub fn linear(
    level: SimdLevel,
    x: &[f32],
    weight: Weight<'_>,
    bias: Option<&[f32]>,
    activation: Activation,
) -> Linear {
    check(x, weight);
    assert!(bias.is_none_or(|bias| bias.len() == weight.outputs), "linear: a bias for each output");
    level.run(Forward { x, weight, bias, activation })
}

/// The gradients of `x`, `weight` and `bias`, where `wanted`, for the gradient `grad` of [`linear`]'s result.
///
/// The activation's derivative is read from `at`: what [`linear`] returned as `before` if it did, else its result. Without an
/// activation it is not looked at.
///
/// # Panics
/// As [`linear`].
pub fn linear_backward(
    level: SimdLevel,
    grad: &[f32],
    x: &[f32],
    weight: Weight<'_>,
    activation: Activation,
    at: &[f32],
    wanted: [bool; 3],
) -> LinearGradients {
    let rows = check(x, weight);
    assert_eq!(grad.len(), rows * weight.outputs, "linear: the gradient is as large as the result");
    assert!(
        activation == Activation::None || at.len() == grad.len(),
        "linear: what the activation was applied to, or its result, is as large as the gradient"
    );
    level.run(Backward { grad, x, weight, activation, at, wanted })
}

fn check(x: &[f32], weight: Weight<'_>) -> usize {
    let Weight { values, inputs, outputs, .. } = weight;
    assert!(inputs > 0 && outputs > 0, "linear: a layer of {inputs} inputs and {outputs} outputs");
    assert_eq!(values.len(), inputs * outputs, "linear: the weight has another length");
    assert!(x.len().is_multiple_of(inputs), "linear: {} values are no rows of {inputs}", x.len());
    x.len() / inputs
}

struct Forward<'a> {
    x: &'a [f32],
    weight: Weight<'a>,
    bias: Option<&'a [f32]>,
    activation: Activation,
}

impl Work for Forward<'_> {
    type Output = Linear;

    fn run<S: Simd>(self, simd: S) -> Linear {
        let Weight { inputs, outputs, .. } = self.weight;
        let sizes = Sizes { rows: self.x.len() / inputs, depth: inputs, columns: outputs };
        let finish = Finish::of(self.activation);
        let plain = Finish { curve: None, ..finish };
        let result = match sizes.rows {
            1 => one_row(simd, self.x, self.weight, self.bias, plain),
            _ => product(simd, sizes, Strided::rows(self.x, inputs), self.weight.matrix(), self.bias, plain),
        };
        let Some(curve) = finish.curve else {
            return Linear { output: result, before: None };
        };
        let block = rows::block(1);
        let output = by_blocks(result.len(), block, result.par_chunks(block), |before, output| {
            simd.vectorize(
                #[inline(always)]
                || {
                    lanes::map(
                        simd,
                        [before],
                        output,
                        #[inline(always)]
                        |[x]| curve.apply(simd, x),
                    )
                },
            );
        });
        Linear { output, before: Some(result) }
    }
}

struct Backward<'a> {
    grad: &'a [f32],
    x: &'a [f32],
    weight: Weight<'a>,
    activation: Activation,
    at: &'a [f32],
    wanted: [bool; 3],
}

impl Work for Backward<'_> {
    type Output = LinearGradients;

    fn run<S: Simd>(self, simd: S) -> LinearGradients {
        let Weight { inputs, outputs, outputs_first, .. } = self.weight;
        let rows = self.x.len() / inputs;
        let grad = self.before_activation(simd);
        let (x, g) = (Strided::rows(self.x, inputs), Strided::rows(&grad, outputs));
        let plain = Finish::NOTHING;
        let input = self.wanted[0].then(|| {
            let sizes = Sizes { rows, depth: outputs, columns: inputs };
            product(simd, sizes, g, self.weight.matrix().transposed(), None, plain)
        });
        let weight = self.wanted[1].then(|| match outputs_first {
            true => {
                let sizes = Sizes { rows: outputs, depth: rows, columns: inputs };
                product(simd, sizes, g.transposed(), x, None, plain)
            }
            false => {
                let sizes = Sizes { rows: inputs, depth: rows, columns: outputs };
                product(simd, sizes, x.transposed(), g, None, plain)
            }
        });
        let bias = self.wanted[2].then(|| column_sums(simd, &grad, outputs));
        LinearGradients { input, weight, bias }
    }
}

impl Backward<'_> {
    /// The gradient before the activation.
    fn before_activation<S: Simd>(&self, simd: S) -> Cow<'_, [f32]> {
        let finish = Finish::of(self.activation);
        let bounded = finish.lowest > f32::NEG_INFINITY || finish.highest < f32::INFINITY;
        if finish.curve.is_none() && !bounded {
            return Cow::Borrowed(self.grad);
        }
        let block = rows::block(1);
        let both = self.grad.par_chunks(block).zip(self.at.par_chunks(block));
        let before = by_blocks(self.grad.len(), block, both, |(grad, at), before| {
            simd.vectorize(
                #[inline(always)]
                || match finish.curve {
                    Some(curve) => {
                        lanes::map(
                            simd,
                            [grad, at],
                            before,
                            #[inline(always)]
                            |[g, x]| simd.mul(g, curve.derivative(simd, x)),
                        );
                    }
                    None => {
                        let (low, high) = (simd.splat(finish.lowest), simd.splat(finish.highest));
                        lanes::map(
                            simd,
                            [grad, at],
                            before,
                            #[inline(always)]
                            |[g, y]| simd.between(low, y, high, g),
                        );
                    }
                },
            );
        });
        Cow::Owned(before)
    }
}

/// The sum of each column of `[rows, columns]`.
fn column_sums<S: Simd>(simd: S, values: &[f32], columns: usize) -> Vec<f32> {
    let rows = values.len() / columns;
    let block = rows::summing_block(rows, columns);
    let mut partial = vec![0.0; rows.div_ceil(block) * columns];
    let blocks = values.par_chunks(block * columns);
    blocks.zip(partial.par_chunks_mut(columns)).for_each(|(values, sums)| {
        simd.vectorize(
            #[inline(always)]
            || {
                for row in values.chunks_exact(columns) {
                    lanes::update(
                        simd,
                        [row],
                        sums,
                        #[inline(always)]
                        |[x], sum| simd.add(sum, x),
                    );
                }
            },
        );
    });
    let mut sums = vec![0.0; columns];
    for partial in partial.chunks_exact(columns) {
        sums.iter_mut().zip(partial).for_each(|(sum, value)| *sum += value);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grad::testing::{assert_close, at_every_level, on_threads, values};
    use crate::reference::activate;

    const ACTIVATIONS: [Activation; 9] = [
        Activation::None,
        Activation::Relu,
        Activation::Relu6,
        Activation::Silu,
        Activation::HardSwish,
        Activation::Gelu,
        Activation::Sigmoid,
        Activation::HardSigmoid,
        Activation::Tanh,
    ];

    /// The activation's slope, by differences so small that the kinks, where no value lies, do not matter.
    fn slope(activation: Activation, x: f64) -> f64 {
        const H: f64 = 1e-6;
        (activate(activation, x + H) - activate(activation, x - H)) / (2.0 * H)
    }

    fn at_of(forward: &Linear) -> &[f32] {
        forward.before.as_deref().unwrap_or(&forward.output)
    }

    #[test]
    fn equals_the_definition_at_every_level() {
        at_every_level(|level| {
            for (index, (rows, inputs, outputs)) in
                [(1, 1, 1), (3, 5, 2), (2, 8, 16), (9, 33, 17), (130, 20, 40), (4, 600, 10)]
                    .into_iter()
                    .enumerate()
            {
                for (which, activation) in ACTIVATIONS.into_iter().enumerate() {
                    let outputs_first = (index + which) % 2 == 0;
                    let (x, weights) = (values(rows * inputs, 1), values(inputs * outputs, 2));
                    let (bias, grad) = (values(outputs, 3), values(rows * outputs, 4));
                    let weight = Weight { values: &weights, inputs, outputs, outputs_first };
                    let at =
                        |i: usize, o: usize| if outputs_first { o * inputs + i } else { i * outputs + o };
                    let mut expected = vec![0.0; rows * outputs];
                    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; weights.len()]);
                    let mut db = vec![0.0; outputs];
                    for row in 0..rows {
                        for o in 0..outputs {
                            let terms = (0..inputs)
                                .map(|i| f64::from(x[row * inputs + i]) * f64::from(weights[at(i, o)]));
                            let z = f64::from(bias[o]) + terms.sum::<f64>();
                            expected[row * outputs + o] = activate(activation, z);
                            let g = f64::from(grad[row * outputs + o]) * slope(activation, z);
                            db[o] += g;
                            for i in 0..inputs {
                                dx[row * inputs + i] += g * f64::from(weights[at(i, o)]);
                                dw[at(i, o)] += g * f64::from(x[row * inputs + i]);
                            }
                        }
                    }
                    let what = format!("{level}, {rows} x {inputs} -> {outputs}, {activation:?}");
                    let forward = linear(level, &x, weight, Some(&bias), activation);
                    assert_close(&forward.output, &expected, 1e-5, &what);
                    let back =
                        linear_backward(level, &grad, &x, weight, activation, at_of(&forward), [true; 3]);
                    assert_close(&back.input.unwrap(), &dx, 2e-5, &what);
                    assert_close(&back.weight.unwrap(), &dw, 2e-5, &what);
                    assert_close(&back.bias.unwrap(), &db, 2e-5, &what);
                }
            }
        });
    }

    #[test]
    fn computes_what_is_wanted_alone() {
        let weight = Weight { values: &[2.0], inputs: 1, outputs: 1, outputs_first: false };
        let forward = linear(SimdLevel::Scalar, &[3.0], weight, None, Activation::None);
        assert_eq!(forward, Linear { output: vec![6.0], before: None });
        let wanted = [false, true, false];
        let back = linear_backward(SimdLevel::Scalar, &[1.0], &[3.0], weight, Activation::None, &[], wanted);
        assert_eq!(back, LinearGradients { input: None, weight: Some(vec![3.0]), bias: None });
    }

    #[test]
    fn gives_the_same_bytes_on_any_number_of_threads() {
        let (x, weights, grad) = (values(500 * 40, 1), values(40 * 70, 2), values(500 * 70, 3));
        let weight = Weight { values: &weights, inputs: 40, outputs: 70, outputs_first: true };
        at_every_level(|level| {
            let run = || {
                let forward = linear(level, &x, weight, None, Activation::Gelu);
                let back =
                    linear_backward(level, &grad, &x, weight, Activation::Gelu, at_of(&forward), [true; 3]);
                (forward, back)
            };
            assert!(on_threads(1, run) == on_threads(3, run), "{level}");
        });
    }
}
