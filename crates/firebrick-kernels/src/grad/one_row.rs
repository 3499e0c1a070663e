//! One row times a matrix: what a language model does for each further token.
//!
//! The product of many rows packs the matrix first, which pays when each value is then used many times. Here each is used once, so it is
//! read where it lies, once, and the time is that of the memory.

use super::lanes;
use super::linear::Weight;
use crate::activation::Finish;
use crate::simd::Simd;
use rayon::prelude::*;

/// Columns of a task: few enough for many tasks, and a row of them spans whole cache lines.
const COLUMNS: usize = 128;

/// Rows of the matrix that are added in one pass over the sums.
const TOGETHER: usize = 8;

/// `bounds(x · weight + bias)`, `[outputs]`, on several threads; `finish` has no curve. Sums have one order, whatever the threads.
///
/// # Panics
/// If the lengths do not fit together.
pub(super) fn one_row<S: Simd>(
    simd: S,
    x: &[f32],
    weight: Weight<'_>,
    bias: Option<&[f32]>,
    finish: Finish,
) -> Vec<f32> {
    let Weight { inputs, outputs, outputs_first, .. } = weight;
    assert!(x.len() == inputs && finish.curve.is_none());
    let mut result = bias.map_or_else(|| vec![0.0; outputs], <[f32]>::to_vec);
    result.par_chunks_mut(COLUMNS).enumerate().for_each(|(index, sums)| {
        simd.vectorize(
            #[inline(always)]
            || {
                match outputs_first {
                    true => add_dots(simd, x, weight, index * COLUMNS, sums),
                    false => add_rows(simd, x, weight, index * COLUMNS, sums),
                }
                let (low, high) = (simd.splat(finish.lowest), simd.splat(finish.highest));
                lanes::update(
                    simd,
                    [],
                    sums,
                    #[inline(always)]
                    |[], sum| simd.at_most(high, simd.at_least(low, sum)),
                );
            },
        );
    });
    result
}

/// Adds to each sum the product of `x` with a row of `[outputs, inputs]`.
#[inline(always)]
fn add_dots<S: Simd>(simd: S, x: &[f32], weight: Weight<'_>, first: usize, sums: &mut [f32]) {
    let rows = weight.values[first * weight.inputs..].chunks_exact(weight.inputs);
    for (sum, row) in sums.iter_mut().zip(rows) {
        let [dot] = lanes::sums(
            simd,
            [x, row],
            [0.0; 2],
            #[inline(always)]
            |[x, w]| [simd.mul(x, w)],
        );
        *sum += dot;
    }
}

/// Adds to the sums each row of `[inputs, outputs]`, times a value of `x`.
#[inline(always)]
fn add_rows<S: Simd>(simd: S, x: &[f32], weight: Weight<'_>, first: usize, sums: &mut [f32]) {
    let columns = sums.len();
    let row = |input: usize| &weight.values[input * weight.outputs + first..][..columns];
    let (groups, rest) = x.as_chunks::<TOGETHER>();
    for (group, x) in groups.iter().enumerate() {
        let rows: [&[f32]; TOGETHER] = std::array::from_fn(|place| row(group * TOGETHER + place));
        lanes::update(
            simd,
            rows,
            sums,
            #[inline(always)]
            |rows, mut sum| {
                for place in 0..TOGETHER {
                    sum = simd.mul_add(rows[place], simd.splat(x[place]), sum);
                }
                sum
            },
        );
    }
    for (place, &x) in rest.iter().enumerate() {
        let row = row(groups.len() * TOGETHER + place);
        lanes::update(
            simd,
            [row],
            sums,
            #[inline(always)]
            |[w], sum| simd.mul_add(w, simd.splat(x), sum),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grad::testing::{assert_close, at_every_level, on_threads, values};
    use crate::grad::{Linear, linear};
    use crate::reference::activate;
    use crate::{Activation, SimdLevel};

    fn run(
        level: SimdLevel,
        inputs: usize,
        outputs: usize,
        outputs_first: bool,
        activation: Activation,
    ) -> Linear {
        let (x, weights, bias) = (values(inputs, 1), values(inputs * outputs, 2), values(outputs, 3));
        let weight = Weight { values: &weights, inputs, outputs, outputs_first };
        let bias = (outputs % 2 == 1).then_some(&bias[..]);
        let forward = linear(level, &x, weight, bias, activation);
        let at = |i: usize, o: usize| if outputs_first { o * inputs + i } else { i * outputs + o };
        let expected: Vec<f64> = (0..outputs)
            .map(|o| {
                let terms = (0..inputs).map(|i| f64::from(x[i]) * f64::from(weights[at(i, o)]));
                activate(activation, bias.map_or(0.0, |bias| f64::from(bias[o])) + terms.sum::<f64>())
            })
            .collect();
        let what = format!("{level}, {inputs} -> {outputs}, {activation:?}");
        assert_close(&forward.output, &expected, 1e-5, &what);
        forward
    }

    #[test]
    fn equals_the_definition_over_odd_shapes_at_every_level() {
        at_every_level(|level| {
            for (inputs, outputs) in
                [(1, 1), (7, 5), (8, 128), (9, 129), (33, 131), (100, 300), (3, 400), (257, 16)]
            {
                for outputs_first in [false, true] {
                    for activation in [Activation::None, Activation::Relu6, Activation::Gelu] {
                        run(level, inputs, outputs, outputs_first, activation);
                    }
                }
            }
        });
    }

    #[test]
    fn gives_the_same_bytes_on_any_number_of_threads() {
        for outputs_first in [false, true] {
            let of = || run(SimdLevel::in_use(), 70, 500, outputs_first, Activation::None);
            assert!(on_threads(1, of) == on_threads(3, of));
        }
    }
}
