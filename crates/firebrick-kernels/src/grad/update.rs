//! The optimizers' update rules, one pass over memory for all that a parameter needs.

use super::lanes;
use crate::SimdLevel;
use crate::chain::Work;
use crate::simd::Simd;
use rayon::prelude::*;

/// Values that one task updates.
const TASK: usize = 16 * 1024;

/// A step of Adam (Kingma and Ba 2015) or, with decoupled decay, AdamW (Loshchilov and Hutter 2019).
///
/// Everything that does not depend on an element is computed in f64 and rounded once. The bias corrections are why: of
/// `1 - 0.999^t`, f32 keeps four digits for small `t`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamStep {
    /// η.
    pub learning_rate: f64,
    /// β₁ of the mean of gradients.
    pub beta_1: f64,
    /// β₂ of the mean of squared gradients.
    pub beta_2: f64,
    /// ε, added to the root of the corrected second moment.
    pub epsilon: f64,
    /// λ: the step also does `θ ← θ - η λ θ`. 0 for Adam.
    pub weight_decay: f64,
    /// Which step this is, from 1.
    pub time: u64,
}

impl AdamStep {
    /// `1 - β^t` of both moments.
    pub fn corrections(&self) -> [f64; 2] {
        [self.beta_1, self.beta_2].map(|beta| 1.0 - beta.powf(self.time as f64))
    }
}

/// A parameter with its gradient and its moments, all of one length and in one order.
#[derive(Debug)]
pub struct AdamSlices<'a> {
    /// θ, which is updated.
    pub parameter: &'a mut [f32],
    /// Its gradient.
    pub gradient: &'a [f32],
    /// m, which is updated; zeros at first.
    pub moment_1: &'a mut [f32],
    /// v, which is updated; zeros at first.
    pub moment_2: &'a mut [f32],
}

/// `m ← β₁ m + (1 - β₁) g`, `v ← β₂ v + (1 - β₂) g²`,
/// `θ ← θ - η λ θ - η / (1 - β₁ᵗ) m / (√v / √(1 - β₂ᵗ) + ε)` of every parameter in the list.
///
/// # Panics
/// If the slices of a parameter differ in length, or the processor lacks the level.
pub fn adam(level: SimdLevel, parameters: Vec<AdamSlices<'_>>, step: &AdamStep) {
    level.run(Adam { parameters, step });
}

struct Adam<'a, 'b> {
    parameters: Vec<AdamSlices<'a>>,
    step: &'b AdamStep,
}

impl Work for Adam<'_, '_> {
    type Output = ();

    fn run<S: Simd>(self, simd: S) {
        let mut tasks = Vec::new();
        for slices in self.parameters {
            let AdamSlices { parameter, gradient, moment_1, moment_2 } = slices;
            let len = parameter.len();
            assert!(
                gradient.len() == len && moment_1.len() == len && moment_2.len() == len,
                "adam: a parameter's gradient and moments are as long as it is"
            );
            let values = parameter.chunks_mut(TASK).zip(gradient.chunks(TASK));
            let moments = moment_1.chunks_mut(TASK).zip(moment_2.chunks_mut(TASK));
            tasks.extend(values.zip(moments).map(|((parameter, gradient), (moment_1, moment_2))| {
                AdamSlices { parameter, gradient, moment_1, moment_2 }
            }));
        }
        let step = self.step;
        let [correction_1, correction_2] = step.corrections();
        let constant = |value: f64| simd.splat(value as f32);
        let each = |AdamSlices { parameter, gradient, moment_1, moment_2 }: AdamSlices<'_>| {
            simd.vectorize(
                #[inline(always)]
                || {
                    let (beta_1, beta_2) = (constant(step.beta_1), constant(step.beta_2));
                    let (rest_1, rest_2) = (constant(1.0 - step.beta_1), constant(1.0 - step.beta_2));
                    let kept = constant(1.0 - step.learning_rate * step.weight_decay);
                    let minus_rate = constant(-step.learning_rate / correction_1);
                    let root = constant(1.0 / correction_2.sqrt());
                    let epsilon = constant(step.epsilon);
                    lanes::update(
                        simd,
                        [gradient],
                        moment_1,
                        #[inline(always)]
                        |[g], m| simd.mul_add(beta_1, m, simd.mul(rest_1, g)),
                    );
                    lanes::update(
                        simd,
                        [gradient],
                        moment_2,
                        #[inline(always)]
                        |[g], v| simd.mul_add(beta_2, v, simd.mul(rest_2, simd.mul(g, g))),
                    );
                    lanes::update(
                        simd,
                        [&*moment_1, &*moment_2],
                        parameter,
                        #[inline(always)]
                        |[m, v], theta| {
                            let denominator = simd.mul_add(simd.sqrt(v), root, epsilon);
                            simd.mul_add(simd.div(m, denominator), minus_rate, simd.mul(theta, kept))
                        },
                    );
                },
            );
        };
        tasks.into_par_iter().for_each(each);
    }
}

/// A step of stochastic gradient descent with momentum, in PyTorch's form (Sutskever et al. 2013).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdStep {
    /// η.
    pub learning_rate: f64,
    /// μ.
    pub momentum: f64,
    /// Look ahead by one momentum step.
    pub nesterov: bool,
    /// λ of the L2 term `λ θ` that is added to the gradient.
    pub weight_decay: f64,
}

/// A parameter with its gradient and its velocity, all of one length and in one order.
#[derive(Debug)]
pub struct SgdSlices<'a> {
    /// θ, which is updated.
    pub parameter: &'a mut [f32],
    /// Its gradient.
    pub gradient: &'a [f32],
    /// v, which is updated; zeros at first.
    pub velocity: &'a mut [f32],
}

/// `g ← g + λ θ`, `v ← μ v + g`, `θ ← θ - η v`, with Nesterov `θ ← θ - η (g + μ v)`, of every parameter in the list.
///
/// # Panics
/// If the slices of a parameter differ in length, or the processor lacks the level.
pub fn sgd(level: SimdLevel, parameters: Vec<SgdSlices<'_>>, step: &SgdStep) {
    level.run(Sgd { parameters, step });
}

struct Sgd<'a, 'b> {
    parameters: Vec<SgdSlices<'a>>,
    step: &'b SgdStep,
}

impl Work for Sgd<'_, '_> {
    type Output = ();

    fn run<S: Simd>(self, simd: S) {
        let mut tasks = Vec::new();
        for SgdSlices { parameter, gradient, velocity } in self.parameters {
            let len = parameter.len();
            assert!(
                gradient.len() == len && velocity.len() == len,
                "sgd: a parameter's gradient and velocity are as long as it is"
            );
            let values = parameter.chunks_mut(TASK).zip(gradient.chunks(TASK));
            tasks.extend(
                values.zip(velocity.chunks_mut(TASK)).map(|((parameter, gradient), velocity)| SgdSlices {
                    parameter,
                    gradient,
                    velocity,
                }),
            );
        }
        let step = self.step;
        let constant = |value: f64| simd.splat(value as f32);
        let each = |SgdSlices { parameter, gradient, velocity }: SgdSlices<'_>| {
            simd.vectorize(
                #[inline(always)]
                || {
                    let (momentum, decay) = (constant(step.momentum), constant(step.weight_decay));
                    let minus_rate = constant(-step.learning_rate);
                    lanes::update(
                        simd,
                        [gradient, &*parameter],
                        velocity,
                        #[inline(always)]
                        |[g, theta], v| simd.mul_add(momentum, v, simd.mul_add(decay, theta, g)),
                    );
                    lanes::update(
                        simd,
                        [gradient, &*velocity],
                        parameter,
                        #[inline(always)]
                        |[g, v], theta| {
                            let direction = if step.nesterov {
                                simd.mul_add(momentum, v, simd.mul_add(decay, theta, g))
                            } else {
                                v
                            };
                            simd.mul_add(minus_rate, direction, theta)
                        },
                    );
                },
            );
        };
        tasks.into_par_iter().for_each(each);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grad::testing::{assert_close, at_every_level, on_threads, values};

    /// Lengths of a list of parameters, one of them cut into tasks.
    const LENGTHS: [usize; 6] = [1, 7, 8, 33, 100, 3 * TASK + 5];

    fn adam_steps(level: SimdLevel, decay: f64) -> Vec<Vec<f32>> {
        let mut parameters: Vec<Vec<f32>> = LENGTHS.iter().map(|&len| values(len, 1)).collect();
        let mut moments: Vec<[Vec<f32>; 2]> =
            LENGTHS.iter().map(|&len| [vec![0.0; len], vec![0.0; len]]).collect();
        for time in 1..=20 {
            let gradients: Vec<Vec<f32>> = LENGTHS.iter().map(|&len| values(len, 1 + time)).collect();
            let slices = parameters.iter_mut().zip(&gradients).zip(&mut moments);
            let slices = slices.map(|((parameter, gradient), [moment_1, moment_2])| AdamSlices {
                parameter,
                gradient,
                moment_1,
                moment_2,
            });
            let step = AdamStep {
                learning_rate: 0.01,
                beta_1: 0.9,
                beta_2: 0.999,
                epsilon: 1e-7,
                weight_decay: decay,
                time,
            };
            adam(level, slices.collect(), &step);
        }
        parameters
    }

    #[test]
    fn adam_follows_the_papers_rule_in_f64() {
        at_every_level(|level| {
            for decay in [0.0, 0.1] {
                for (len, actual) in LENGTHS.into_iter().zip(adam_steps(level, decay)) {
                    let mut theta: Vec<f64> = values(len, 1).into_iter().map(f64::from).collect();
                    let (mut m, mut v) = (vec![0.0; len], vec![0.0; len]);
                    for time in 1..=20 {
                        for (i, g) in values(len, 1 + time as u64).into_iter().map(f64::from).enumerate() {
                            m[i] = 0.9 * m[i] + 0.1 * g;
                            v[i] = 0.999 * v[i] + 0.001 * g * g;
                            let corrected =
                                [m[i] / (1.0 - 0.9f64.powi(time)), v[i] / (1.0 - 0.999f64.powi(time))];
                            theta[i] -=
                                0.01 * decay * theta[i] + 0.01 * corrected[0] / (corrected[1].sqrt() + 1e-7);
                        }
                    }
                    assert_close(&actual, &theta, 1e-6, &format!("{level}, {len}, decay {decay}"));
                }
            }
        });
    }

    #[test]
    fn sgd_follows_pytorchs_rule_in_f64() {
        at_every_level(|level| {
            for (momentum, nesterov, decay) in [(0.0, false, 0.0), (0.9, false, 0.01), (0.9, true, 0.1)] {
                for len in [1, 8, 45] {
                    let (mut actual, mut velocity) = (values(len, 1), vec![0.0; len]);
                    let mut theta: Vec<f64> = values(len, 1).into_iter().map(f64::from).collect();
                    let mut speed = vec![0.0; len];
                    for time in 1..=10 {
                        let gradient = values(len, 1 + time);
                        for (i, g) in gradient.iter().map(|&g| f64::from(g)).enumerate() {
                            let g = g + decay * theta[i];
                            speed[i] = momentum * speed[i] + g;
                            theta[i] -= 0.05 * if nesterov { g + momentum * speed[i] } else { speed[i] };
                        }
                        let slices = SgdSlices {
                            parameter: &mut actual,
                            gradient: &gradient,
                            velocity: &mut velocity,
                        };
                        let step = SgdStep { learning_rate: 0.05, momentum, nesterov, weight_decay: decay };
                        sgd(level, vec![slices], &step);
                    }
                    assert_close(&actual, &theta, 2e-6, &format!("{level}, {len}, momentum {momentum}"));
                }
            }
        });
    }

    #[test]
    fn gives_the_same_bytes_on_any_number_of_threads() {
        at_every_level(|level| {
            assert!(
                on_threads(1, || adam_steps(level, 0.1)) == on_threads(3, || adam_steps(level, 0.1)),
                "{level}"
            );
        });
    }

    #[test]
    #[should_panic(expected = "sgd: a parameter's gradient and velocity")]
    fn refuses_slices_of_different_lengths() {
        let slices = SgdSlices { parameter: &mut [0.0; 2], gradient: &[0.0; 3], velocity: &mut [0.0; 2] };
        let step = SgdStep { learning_rate: 0.1, momentum: 0.0, nesterov: false, weight_decay: 0.0 };
        sgd(SimdLevel::Scalar, vec![slices], &step);
    }
}
