//! Softmax over the last axis, and the cross-entropy of its logarithm, forward and backward.

use super::{lanes, rows};
use crate::SimdLevel;
use crate::buffer::by_blocks;
use crate::chain::Work;
use crate::simd::Simd;
use rayon::prelude::*;

/// The softmax of each row of `x`, `[rows, length]`: `exp(x - logsumexp(x))`.
///
/// # Panics
/// If `length` is 0 or `x` is no whole number of rows; or the processor lacks the level.
pub fn softmax(level: SimdLevel, x: &[f32], length: usize) -> Vec<f32> {
    check("softmax", x, length);
    level.run(Softmax { x, length })
}

/// The gradient of [`softmax`]'s argument, for its result `output` and the gradient `grad` of that:
/// `output * (grad - sum(grad * output))`.
///
/// # Panics
/// As [`softmax`], or if the lengths differ.
pub fn softmax_backward(level: SimdLevel, grad: &[f32], output: &[f32], length: usize) -> Vec<f32> {
    check("softmax", output, length);
    assert_eq!(grad.len(), output.len(), "softmax: the gradient is as large as the result");
    level.run(SoftmaxBackward { grad, output, length })
}

/// What a row's logits are compared with.
#[derive(Debug, Clone, Copy)]
pub enum Targets<'a> {
    /// The class of each row.
    Classes(&'a [usize]),
    /// The share of each class in each row, `[rows, classes]`; not necessarily with the sum 1.
    Shares(&'a [f32]),
}

/// What [`cross_entropy`] returns: the loss, and what [`cross_entropy_backward`] needs of it.
#[derive(Debug, Clone, PartialEq)]
pub struct CrossEntropy {
    /// The loss of each row.
    pub loss: Vec<f32>,
    /// `ln(sum(exp(logits)))` of each row.
    pub logsumexp: Vec<f32>,
}

/// The cross-entropy of each row of `logits`, `[rows, classes]`: `-sum(target * ln(softmax(logits)))`.
///
/// # Panics
/// If `classes` is 0, the lengths do not fit together, or a class is out of range; or the processor lacks the level.
pub fn cross_entropy(level: SimdLevel, logits: &[f32], classes: usize, targets: Targets<'_>) -> CrossEntropy {
    check_targets(logits, classes, targets);
    level.run(Forward { logits, classes, targets })
}

/// The gradients of [`cross_entropy`]'s logits and, if asked for, of its targets' shares, for the gradient of each row's loss.
///
/// # Panics
/// As [`cross_entropy`], or if `grad` or `logsumexp` has not one value a row.
pub fn cross_entropy_backward(
    level: SimdLevel,
    grad: &[f32],
    logits: &[f32],
    classes: usize,
    targets: Targets<'_>,
    logsumexp: &[f32],
) -> Vec<f32> {
    let rows = check_targets(logits, classes, targets);
    assert!(grad.len() == rows && logsumexp.len() == rows, "cross_entropy: a gradient and logsumexp a row");
    level.run(Backward { grad, logits, classes, targets, logsumexp })
}

/// The gradient of the shares of [`Targets::Shares`]: `grad * (logsumexp - logits)`.
///
/// # Panics
/// As [`cross_entropy_backward`].
pub fn cross_entropy_shares_backward(
    grad: &[f32],
    logits: &[f32],
    classes: usize,
    logsumexp: &[f32],
) -> Vec<f32> {
    let rows = check("cross_entropy", logits, classes);
    assert!(grad.len() == rows && logsumexp.len() == rows, "cross_entropy: a gradient and logsumexp a row");
    let row = |row: usize| {
        let logits = &logits[row * classes..(row + 1) * classes];
        logits.iter().map(move |x| grad[row] * (logsumexp[row] - x))
    };
    (0..rows).flat_map(row).collect()
}

fn check(operation: &str, x: &[f32], length: usize) -> usize {
    assert!(
        length > 0 && x.len().is_multiple_of(length),
        "{operation}: {} values are no rows of {length}",
        x.len()
    );
    x.len() / length
}

fn check_targets(logits: &[f32], classes: usize, targets: Targets<'_>) -> usize {
    let rows = check("cross_entropy", logits, classes);
    match targets {
        Targets::Classes(target) => {
            assert_eq!(target.len(), rows, "cross_entropy: a target class a row");
            for (row, class) in target.iter().enumerate() {
                assert!(*class < classes, "cross_entropy: target {row} is class {class} of {classes}");
            }
        }
        Targets::Shares(shares) => {
            assert_eq!(shares.len(), logits.len(), "cross_entropy: a share for each logit");
        }
    }
    rows
}

/// The largest value of a row, and the sum of `exp(x - largest)`, which goes to `weights`.
#[inline(always)]
fn weigh<S: Simd>(simd: S, x: &[f32], weights: &mut [f32]) -> (f32, f32) {
    let largest = lanes::largest(simd, x);
    let minus = simd.splat(-largest);
    lanes::map(
        simd,
        [x],
        weights,
        #[inline(always)]
        |[x]| simd.exp(simd.add(x, minus)),
    );
    let [sum] = lanes::sums(
        simd,
        [weights],
        [0.0],
        #[inline(always)]
        |weight| weight,
    );
    (largest, sum)
}

struct Softmax<'a> {
    x: &'a [f32],
    length: usize,
}

impl Work for Softmax<'_> {
    type Output = Vec<f32>;

    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let length = self.length;
        let block = rows::block(length) * length;
        by_blocks(self.x.len(), block, self.x.par_chunks(block), |x, output| {
            simd.vectorize(
                #[inline(always)]
                || {
                    for (x, output) in x.chunks_exact(length).zip(output.chunks_exact_mut(length)) {
                        let (_, sum) = weigh(simd, x, output);
                        let scale = simd.splat(1.0 / sum);
                        lanes::update(
                            simd,
                            [],
                            output,
                            #[inline(always)]
                            |[], weight| simd.mul(weight, scale),
                        );
                    }
                },
            );
        })
    }
}

struct SoftmaxBackward<'a> {
    grad: &'a [f32],
    output: &'a [f32],
    length: usize,
}

impl Work for SoftmaxBackward<'_> {
    type Output = Vec<f32>;

    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let length = self.length;
        let block = rows::block(length) * length;
        let both = self.grad.par_chunks(block).zip(self.output.par_chunks(block));
        by_blocks(self.output.len(), block, both, |(grad, output), input| {
            simd.vectorize(
                #[inline(always)]
                || {
                    let both = grad.chunks_exact(length).zip(output.chunks_exact(length));
                    for ((grad, output), input) in both.zip(input.chunks_exact_mut(length)) {
                        let [sum] = lanes::sums(
                            simd,
                            [grad, output],
                            [0.0; 2],
                            #[inline(always)]
                            |[g, y]| [simd.mul(g, y)],
                        );
                        let minus = simd.splat(-sum);
                        lanes::map(
                            simd,
                            [grad, output],
                            input,
                            #[inline(always)]
                            |[g, y]| simd.mul(y, simd.add(g, minus)),
                        );
                    }
                },
            );
        })
    }
}

struct Forward<'a> {
    logits: &'a [f32],
    classes: usize,
    targets: Targets<'a>,
}

impl Work for Forward<'_> {
    type Output = CrossEntropy;

    fn run<S: Simd>(self, simd: S) -> CrossEntropy {
        let classes = self.classes;
        let rows = self.logits.len() / classes;
        let (mut loss, mut logsumexp) = (vec![0.0; rows], vec![0.0; rows]);
        let block = rows::block(classes);
        let results = loss.par_chunks_mut(block).zip(logsumexp.par_chunks_mut(block));
        results.enumerate().for_each(|(index, (loss, logsumexp))| {
            let mut weights = vec![0.0; classes];
            simd.vectorize(
                #[inline(always)]
                || {
                    let rows = rows::rows_of(index, block, rows);
                    for (row, (loss, logsumexp)) in rows.zip(loss.iter_mut().zip(logsumexp)) {
                        let at = row * classes..(row + 1) * classes;
                        let x = &self.logits[at.clone()];
                        let (largest, sum) = weigh(simd, x, &mut weights);
                        *logsumexp = largest + sum.ln();
                        *loss = match self.targets {
                            // The largest logit is taken off first, so that large ones leave the small difference exact.
                            Targets::Classes(target) => sum.ln() + (largest - x[target[row]]),
                            Targets::Shares(shares) => {
                                let total = simd.splat(*logsumexp);
                                let minus = simd.splat(-1.0);
                                let [loss] = lanes::sums(
                                    simd,
                                    [x, &shares[at]],
                                    [0.0; 2],
                                    #[inline(always)]
                                    |[x, share]| [simd.mul(share, simd.mul_add(x, minus, total))],
                                );
                                loss
                            }
                        };
                    }
                },
            );
        });
        CrossEntropy { loss, logsumexp }
    }
}

struct Backward<'a> {
    grad: &'a [f32],
    logits: &'a [f32],
    classes: usize,
    targets: Targets<'a>,
    logsumexp: &'a [f32],
}

impl Work for Backward<'_> {
    type Output = Vec<f32>;

    fn run<S: Simd>(self, simd: S) -> Vec<f32> {
        let classes = self.classes;
        let rows = self.logits.len() / classes;
        let block = rows::block(classes);
        let blocks = (0..rows.div_ceil(block)).into_par_iter();
        by_blocks(self.logits.len(), block * classes, blocks, |index, input| {
            simd.vectorize(
                #[inline(always)]
                || {
                    let rows = rows::rows_of(index, block, rows);
                    for (row, input) in rows.zip(input.chunks_exact_mut(classes)) {
                        let at = row * classes..(row + 1) * classes;
                        let x = &self.logits[at.clone()];
                        let (grad, minus) = (simd.splat(self.grad[row]), simd.splat(-self.logsumexp[row]));
                        match self.targets {
                            Targets::Classes(target) => {
                                lanes::map(
                                    simd,
                                    [x],
                                    input,
                                    #[inline(always)]
                                    |[x]| simd.mul(grad, simd.exp(simd.add(x, minus))),
                                );
                                input[target[row]] -= self.grad[row];
                            }
                            Targets::Shares(shares) => {
                                let shares = &shares[at];
                                let [sum] = lanes::sums(
                                    simd,
                                    [shares],
                                    [0.0],
                                    #[inline(always)]
                                    |share| share,
                                );
                                let sum = simd.splat(sum);
                                lanes::map(
                                    simd,
                                    [x, shares],
                                    input,
                                    #[inline(always)]
                                    |[x, share]| {
                                        let minus_share = simd.mul(share, simd.splat(-1.0));
                                        simd.mul(
                                            grad,
                                            simd.mul_add(simd.exp(simd.add(x, minus)), sum, minus_share),
                                        )
                                    },
                                );
                            }
                        }
                    }
                },
            );
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grad::testing::{assert_close, at_every_level, on_threads, values};

    const SHAPES: [(usize, usize); 7] = [(1, 1), (3, 2), (2, 7), (5, 8), (4, 17), (3, 1000), (900, 33)];

    /// The softmax of a row and its logsumexp, in f64.
    fn reference(x: &[f32]) -> (Vec<f64>, f64) {
        let largest = x.iter().fold(f64::NEG_INFINITY, |most, &x| most.max(f64::from(x)));
        let sum: f64 = x.iter().map(|&x| (f64::from(x) - largest).exp()).sum();
        let logsumexp = largest + sum.ln();
        (x.iter().map(|&x| (f64::from(x) - logsumexp).exp()).collect(), logsumexp)
    }

    #[test]
    fn softmax_equals_the_definition_at_every_level_and_width() {
        at_every_level(|level| {
            for (rows, length) in SHAPES {
                let (x, grad) = (values(rows * length, 1), values(rows * length, 2));
                let output = softmax(level, &x, length);
                let expected: Vec<f64> = x.chunks(length).flat_map(|x| reference(x).0).collect();
                let what = format!("{level}, {rows} x {length}");
                assert_close(&output, &expected, 1e-6, &what);
                let back: Vec<f64> = (expected.chunks(length).zip(grad.chunks(length)))
                    .flat_map(|(y, g)| {
                        let sum: f64 = y.iter().zip(g).map(|(y, &g)| y * f64::from(g)).sum();
                        y.iter().zip(g).map(move |(y, &g)| y * (f64::from(g) - sum)).collect::<Vec<_>>()
                    })
                    .collect();
                assert_close(&softmax_backward(level, &grad, &output, length), &back, 2e-6, &what);
            }
        });
    }

    #[test]
    fn cross_entropy_equals_the_definition_at_every_level_and_width() {
        at_every_level(|level| {
            for (rows, classes) in SHAPES {
                let (logits, grad) = (values(rows * classes, 3), values(rows, 4));
                let hard: Vec<usize> = (0..rows).map(|row| row * 7 % classes).collect();
                let soft: Vec<f32> = values(rows * classes, 5).iter().map(|x| x.abs()).collect();
                let what = format!("{level}, {rows} x {classes}");
                for targets in [Targets::Classes(&hard), Targets::Shares(&soft)] {
                    let (mut loss, mut back, mut of_shares) = (Vec::new(), Vec::new(), Vec::new());
                    for (row, x) in logits.chunks(classes).enumerate() {
                        let (probability, logsumexp) = reference(x);
                        let share = |class: usize| match targets {
                            Targets::Classes(target) => f64::from(u8::from(target[row] == class)),
                            Targets::Shares(shares) => f64::from(shares[row * classes + class]),
                        };
                        let sum: f64 = (0..classes).map(share).sum();
                        let g = f64::from(grad[row]);
                        loss.push((0..classes).map(|c| share(c) * (logsumexp - f64::from(x[c]))).sum());
                        back.extend((0..classes).map(|c| g * (probability[c] * sum - share(c))));
                        of_shares.extend((0..classes).map(|c| g * (logsumexp - f64::from(x[c]))));
                    }
                    let forward = cross_entropy(level, &logits, classes, targets);
                    assert_close(&forward.loss, &loss, 2e-6, &what);
                    let logsumexp = &forward.logsumexp;
                    let actual = cross_entropy_backward(level, &grad, &logits, classes, targets, logsumexp);
                    assert_close(&actual, &back, 5e-6, &what);
                    let actual = cross_entropy_shares_backward(&grad, &logits, classes, logsumexp);
                    assert_close(&actual, &of_shares, 2e-6, &what);
                }
            }
        });
    }

    #[test]
    fn stays_finite_where_a_probability_rounds_to_zero() {
        at_every_level(|level| {
            let logits = [1000.0, -1000.0, 0.0];
            let forward = cross_entropy(level, &logits, 3, Targets::Classes(&[1]));
            assert_eq!(forward.loss, [2000.0]);
            let back =
                cross_entropy_backward(level, &[1.0], &logits, 3, Targets::Classes(&[1]), &forward.logsumexp);
            assert_close(&back, &[1.0, -1.0, 0.0], 1e-30, "gradient");
        });
    }

    #[test]
    fn gives_the_same_bytes_on_any_number_of_threads() {
        let (rows, classes) = (2000, 101);
        let (logits, grad) = (values(rows * classes, 6), values(rows, 7));
        let shares = values(rows * classes, 8);
        at_every_level(|level| {
            let run = || {
                let targets = Targets::Shares(&shares);
                let forward = cross_entropy(level, &logits, classes, targets);
                let back =
                    cross_entropy_backward(level, &grad, &logits, classes, targets, &forward.logsumexp);
                (softmax(level, &logits, classes), forward, back)
            };
            assert!(on_threads(1, run) == on_threads(3, run), "{level}");
        });
    }

    #[test]
    #[should_panic(expected = "target 1 is class 3 of 3")]
    fn refuses_a_class_that_does_not_exist() {
        cross_entropy(SimdLevel::Scalar, &[0.0; 6], 3, Targets::Classes(&[2, 3]));
    }
}
